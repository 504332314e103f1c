"""The firm board, for admins: all firms at a glance, and every advisor of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue

from asapp.alerts import alerts
from asapp.alerts.alerts import OpenAlerts
from asapp.audit import entries
from asapp.connections.api_budget import Allowance
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.formats import counted
from asapp.core.paging import page_of
from asapp.health import figures
from asapp.messages.alerts import ON_THE_BOARD
from asapp.models import Action, Partner
from asapp.partners import board, partners
from asapp.web.access import actor, admin_required
from asapp.web.current import config, queues
from asapp.web.files import csv_file
from asapp.web.incoming import asked_page

blueprint = Blueprint("board", __name__, url_prefix="/admin/board")

ATTENTION = "attention"
THINNEST = 0.6  # percent of a bar that can be seen


@dataclass(frozen=True)
class UsageBar:
    """Calls of the last 24 hours as a bar: widths in percent of the org's total."""

    ours: float
    org: float
    share: float
    words: str


@blueprint.get("")
@admin_required
def index() -> ResponseReturnValue:
    now = utcnow()
    if request.args.get("firm"):
        return show_firm(get_partner(request.args["firm"]))
    return render_template(
        "board/firms.html",
        page=page_of(board.list_firms(now), asked_page()),
        alerts=alerts.list_open(),
        figures=figures.read_activity(db.session(), now),
        jobs=queues().depths(),
        now=now,
    )


def show_firm(partner: Partner) -> str:
    now = utcnow()
    made = board.make_board(partner, now, config().sync_interval_minutes)
    is_narrowed = request.args.get("show") == ATTENTION
    return render_template(
        "board/firm.html",
        board=made,
        page=page_of(made.attention if is_narrowed else made.lines, asked_page()),
        is_narrowed=is_narrowed,
        firms=[row.partner for row in partners.list_partners()],
        now=now,
    )


@blueprint.get("/export.csv", endpoint="export")
@admin_required
def export_csv() -> ResponseReturnValue:
    partner = get_partner(request.args.get("firm", ""))
    made = board.make_board(partner, utcnow(), config().sync_interval_minutes)
    text = board.csv_of(made.attention if request.args.get("show") == ATTENTION else made.lines)
    name = f"board-{partner.slug}-{utcnow():%Y-%m-%d}.csv"
    entries.record_export(Action.EXPORTED, actor(), partner, file="firm board")
    return csv_file(text, name)


def get_partner(slug: str) -> Partner:
    return partners.find_partner(slug) or abort(404)


@blueprint.app_template_global()
def meter_of(allowance: Allowance | None) -> UsageBar | None:
    """Return the bar; None if the org has not reported its total yet."""
    if allowance is None or not allowance.org_allowed or allowance.share is None:
        return None
    total, used = allowance.org_allowed, allowance.org_used or 0
    words = f"{counted(allowance.ours, 'call')} used by AdvisorStream of its {allowance.share:,}"
    if allowance.org_used is not None:
        words += f"; the whole org has used {allowance.org_used:,} of {total:,}"
    return UsageBar(_width(allowance.ours, total), _width(used, total), _width(allowance.share, total), words)


def _width(calls: int, total: int) -> float:
    """Return the width in percent; what is not nothing can be seen."""
    return min(max(round(calls * 100 / total, 1), THINNEST), 100) if calls else 0


@blueprint.app_template_filter()
def in_words(open_alerts: OpenAlerts) -> str:
    one, several = ON_THE_BOARD[open_alerts.kind]
    return one if open_alerts.number == 1 else several.format(number=open_alerts.number)


@blueprint.app_template_filter()
def old(age: timedelta | None) -> str:
    """Return `3 minutes old`, `9 days old`; an unknown age is "not known"."""
    if age is None:
        return "Not known"
    minutes = int(age.total_seconds() // 60)
    if minutes < 60:
        return f"{counted(minutes, 'minute')} old" if minutes else "Fresh"
    return f"{counted(minutes // 60, 'hour')} old" if minutes < 48 * 60 else f"{counted(minutes // 1440, 'day')} old"
