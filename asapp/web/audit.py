"""The audit log, for admins: read, filter and export it; the export is an entry of its own."""

from __future__ import annotations

from datetime import date
from urllib.parse import urlencode

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.audit import entries, log
from asapp.audit.log import GROUPS, SEARCH_MAX, AuditQuery
from asapp.core.clock import utcnow
from asapp.core.forms import whole_number
from asapp.models import Action
from asapp.partners import erasure, partners
from asapp.partners.erasure import Guest
from asapp.web.access import actor, admin_required
from asapp.web.files import csv_file
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to

blueprint = Blueprint("audit", __name__, url_prefix="/admin/audit")

IDENTITY = "<int:identity_id>"


@blueprint.get("")
@admin_required
def index() -> ResponseReturnValue:
    wanted = wanted_by_query()
    page = log.find_page(wanted)
    kept = as_query(wanted)
    return render_template(
        "audit/index.html",
        page=page,
        wanted=wanted,
        is_narrowed=bool(kept or wanted.before_id),
        groups={key: label for key, (label, _actions) in GROUPS.items()},
        firms=[row.partner for row in partners.list_partners()],
        export_url=link("audit.export", kept),
        older_url=link("audit.index", {**kept, "before": str(page.older_id)}) if page.older_id else None,
        newest_url=link("audit.index", kept) if wanted.before_id else None,
    )


@blueprint.get("/export.csv", endpoint="export")
@admin_required
@fresh_required
def export_csv() -> ResponseReturnValue:
    wanted = wanted_by_query()
    entries.record_export(Action.EXPORTED, actor(), None, file="audit log")
    return csv_file(log.iter_csv(wanted), f"audit-{utcnow():%Y-%m-%d}.csv")


@blueprint.get(f"/{IDENTITY}/erase")
@admin_required
def ask_erase(identity_id: int) -> ResponseReturnValue:
    return render_template("audit/erase.html", guest=get_guest(identity_id), identity_id=identity_id)


@blueprint.post(f"/{IDENTITY}/erase", endpoint="erase")
@admin_required
@fresh_required
def erase(identity_id: int) -> ResponseReturnValue:
    erasure.erase_guest(get_guest(identity_id), actor())
    flash("Erased. What was done and when is kept, without the person's name.", "good")
    return go_to(url_for("audit.index"))


def get_guest(identity_id: int) -> Guest:
    """Return a guest who came on a setup link. Accounts are erased on the firm's page of advisors, or by command."""
    return erasure.find_guest(identity_id) or abort(404)


def wanted_by_query() -> AuditQuery:
    args = request.args
    return AuditQuery(
        who=" ".join(args.get("q", "").split())[:SEARCH_MAX],
        what=args.get("what", "") if args.get("what", "") in GROUPS else "",
        firm=args.get("firm", "")[:60],
        since=day(args.get("from", "")),
        until=day(args.get("until", "")),
        before_id=whole_number(args.get("before")),
    )


def as_query(wanted: AuditQuery) -> dict[str, str]:
    """Return the filter as the query of an address."""
    named = {
        "q": wanted.who,
        "what": wanted.what,
        "firm": wanted.firm,
        "from": wanted.since.isoformat() if wanted.since else "",
        "until": wanted.until.isoformat() if wanted.until else "",
    }
    return {name: value for name, value in named.items() if value}


def link(endpoint: str, query: dict[str, str]) -> str:
    return f"{url_for(endpoint)}?{urlencode(query)}" if query else url_for(endpoint)


def day(text: str) -> date | None:
    """Return the day that a date field sends; None for anything else, and for days far from now."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 2000 <= found.year <= 2999 else None
