"""The log of calls to firms' Salesforce, for admins: read, filter and export it; the export is in the audit log."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.audit import entries
from asapp.connections import call_report
from asapp.connections.call_report import CallQuery
from asapp.core.clock import utcnow
from asapp.core.forms import whole_number
from asapp.messages.calls import CALL_OUTCOMES
from asapp.models import Action
from asapp.partners import partners
from asapp.web.access import actor, admin_required
from asapp.web.audit import day
from asapp.web.current import config
from asapp.web.files import csv_file
from asapp.web.fresh import fresh_required

blueprint = Blueprint("org_calls", __name__, url_prefix="/admin/calls")


@blueprint.get("")
@admin_required
def index() -> ResponseReturnValue:
    wanted = wanted_by_query()
    page = call_report.find_page(wanted)
    kept = as_query(wanted)
    return render_template(
        "org_calls/index.html",
        page=page,
        wanted=wanted,
        is_narrowed=bool(kept or wanted.before_id),
        outcomes=CALL_OUTCOMES,
        firms=[row.partner for row in partners.list_partners()],
        advisors=call_report.find_advisors(wanted.firm),
        kept_days=config().traces_kept_days,
        export_url=link("org_calls.export", kept),
        older_url=link("org_calls.index", {**kept, "before": str(page.older_id)}) if page.older_id else None,
        newest_url=link("org_calls.index", kept) if wanted.before_id else None,
    )


@blueprint.get("/export.csv", endpoint="export")
@admin_required
@fresh_required
def export_csv() -> ResponseReturnValue:
    wanted = wanted_by_query()
    entries.record_export(Action.EXPORTED, actor(), None, file="log of calls")
    return csv_file(call_report.iter_csv(wanted), f"calls-{utcnow():%Y-%m-%d}.csv")


def wanted_by_query() -> CallQuery:
    args = request.args
    return CallQuery(
        firm=args.get("firm", "")[:60],
        advisor_id=whole_number(args.get("advisor")),
        day=day(args.get("day", "")),
        outcome=args.get("outcome", "") if args.get("outcome", "") in CALL_OUTCOMES else "",
        before_id=whole_number(args.get("before")),
    )


def as_query(wanted: CallQuery) -> dict[str, str]:
    """Return the filter as the query of an address."""
    named = {
        "firm": wanted.firm,
        "advisor": str(wanted.advisor_id or ""),
        "day": wanted.day.isoformat() if wanted.day else "",
        "outcome": wanted.outcome,
    }
    return {name: value for name, value in named.items() if value}


def link(endpoint: str, query: dict[str, str]) -> str:
    return f"{url_for(endpoint)}?{urlencode(query)}" if query else url_for(endpoint)
