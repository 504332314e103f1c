"""Integrations: the tile that expands to the Salesforce panel, and its buttons.

One route serves the page and its part. While a run is active the part polls every two seconds; `seen` is the milestone
that the browser announced last, so that the live region changes only at milestones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flask import (
    Blueprint,
    abort,
    current_app,
    flash,
    make_response,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.audit import entries
from asapp.connections import connections
from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.messages.leads import explain_trouble
from asapp.messages.runs import explain_not_waiting, kept_as
from asapp.messages.states import AdvisorState
from asapp.models import Action, Connection, DepartureState, RunTrigger
from asapp.panel import balance, held, receipts
from asapp.panel import preview as ahead
from asapp.panel.load import find_progress, load_panel
from asapp.panel.panel import Panel
from asapp.salesforce.records import RecordKind
from asapp.sync import departures, held_decisions, runs
from asapp.web.access import actor, advisor_required
from asapp.web.current import config, count_held, org_access, own_connection, person, queues
from asapp.web.files import csv_file
from asapp.web.htmx import go_to, wants_part

blueprint = Blueprint("integrations", __name__, url_prefix="/settings/integrations")

OPEN = "salesforce"
LOST_STATE = "lost_state"  # key in the session: shown once, on the next page
PROGRESS_PATH = "/settings/integrations/salesforce"
RECENT_RUNS = 5
SHOWN_LEAVING = 3  # of each group
ALL_LEAVING = 5000


@blueprint.app_context_processor
def banners() -> dict[str, Callable[[], Any]]:
    return {
        "connection_to_renew": connection_to_renew,
        "count_waiting": count_waiting,
        "count_to_review": count_to_review,
    }


def count_waiting() -> int:
    """Return how many contacts wait for this advisor's decision, for the banner and the menu."""
    return count_held() if current_user.is_authenticated and current_user.has_integrations else 0


def count_to_review() -> int:
    """Return the number for the banner of every page but the panel's own, which shows it in full."""
    return 0 if request.blueprint in ("integrations", "connect") else count_waiting()


def connection_to_renew() -> Connection | None:
    """Return the connection for the banner of every page but the panel's own, which shows it in full."""
    if request.blueprint in ("integrations", "connect") or not current_user.has_integrations:
        return None
    found = own_connection()
    return found if found is not None and found.needs_reconnect else None


@blueprint.get("")
@advisor_required
def index() -> ResponseReturnValue:
    if not current_user.has_integrations:
        return go_to(url_for("settings.profile"))  # it says who can help
    panel = load_own_panel(lost_state=bool(session.pop(LOST_STATE, False)))
    is_open = request.args.get("open") == OPEN or panel.is_connected or panel.connect_failure is not None
    if wants_part():
        return render_template("integrations/_panel_answer.html", is_open=is_open, **shown(panel))
    return render_template("integrations/page.html", is_open=is_open, **shown(panel))


@blueprint.get("/salesforce")
@advisor_required
def salesforce() -> ResponseReturnValue:
    if not wants_part():
        return go_to(panel_url())
    progress = find_progress(person())
    if progress is not None and request.args.get("seen") == progress.milestone:
        # The Jinja environment directly: the pages' context costs more than this whole answer.
        return current_app.jinja_env.get_template("integrations/_progress.html").render(progress=progress)
    answer = make_response(render_template("integrations/_answer.html", **shown(load_own_panel())))
    answer.headers["HX-Retarget"] = "#salesforce"
    answer.headers["HX-Reswap"] = "outerHTML"
    return answer


@blueprint.app_template_global()
def progress_url(milestone: str) -> str:
    return f"{PROGRESS_PATH}?seen={milestone}"


@blueprint.post("/salesforce/sync")
@advisor_required
def sync() -> ResponseReturnValue:
    connection = connections.find_current(person())
    if connection is not None:
        runs.start_run(connection, RunTrigger.MANUAL, queues().enqueue_runs)
    return answer_with_panel()


@blueprint.post("/salesforce/cancel")
@advisor_required
def cancel() -> ResponseReturnValue:
    connection = connections.find_current(person())
    run = runs.find_active_run(connection.id) if connection is not None else None
    if run is not None:
        runs.request_cancel(run)
    return answer_with_panel()


@blueprint.post("/salesforce/approve")
@advisor_required
def approve() -> ResponseReturnValue:
    connection = connections.find_current(person())
    if connection is None:
        return answer_with_panel()
    try:
        departures.approve(connection, queues().enqueue_runs, actor(), request.form.get("proposal"))
    except departures.NotWaiting:
        return answer_with_panel(why_not_waiting(connection))
    return answer_with_panel()


@blueprint.post("/salesforce/discard")
@advisor_required
def discard() -> ResponseReturnValue:
    connection = connections.find_current(person())
    if connection is None:
        return answer_with_panel()
    try:
        departures.discard(connection, actor(), request.form.get("proposal"))
    except departures.NotWaiting:
        return answer_with_panel(why_not_waiting(connection))
    return answer_with_panel()


def why_not_waiting(connection: Connection) -> str:
    """Return why a decision was refused: it was made before, or the page was an old one."""
    last, waiting = held_decisions.find_last_decision(connection), departures.count_held(connection.id)
    if last is None:
        return explain_not_waiting(None, 0, "", waiting)
    return explain_not_waiting(last.action, last.number, formats.near(last.at, utcnow()), waiting)


@blueprint.post("/salesforce/reconsider")
@advisor_required
def reconsider() -> ResponseReturnValue:
    connection = connections.find_current(person())
    if connection is not None:
        departures.reconsider(connection, actor())
    return answer_with_panel()


@blueprint.get("/salesforce/held.csv")
@advisor_required
def held_csv() -> ResponseReturnValue:
    connection = connections.find_current(person())
    if connection is None:
        abort(404)
    entries.record_export(Action.EXPORTED, actor(), connection, file="held")
    return csv_file(held.held_csv(connection.id), "held-contacts.csv")


@blueprint.get("/salesforce/preview")
@advisor_required
def preview() -> ResponseReturnValue:
    """Return what the first sync will bring, as a part of its own: it waits for an answer from Salesforce."""
    connection = connections.find_current(person())
    if connection is None or not connection.can_sync or connection.first_synced_at is not None:
        return go_to(panel_url())
    numbers = ahead.fetch_preview(connection, org_access())
    if wants_part():
        return render_template("integrations/_preview.html", preview=numbers)
    panel = load_own_panel()
    return render_template("integrations/page.html", is_open=True, **{**shown(panel), "preview": numbers})


@blueprint.app_template_global()
def group_parts(groups: Sequence[held.Group], you: str = "you") -> list[str]:
    """Return what became of each group of contacts that left: `571 belong to Jonas Lindqvist now`. you: as in kept_as()."""
    return [kept_as(group.reason, group.owner_name, group.number, you) for group in groups]


def answer_with_panel(refusal: str = "") -> ResponseReturnValue:
    """Return the panel as it is now. refusal: why the button changed nothing."""
    if not wants_part():
        if refusal:
            flash(refusal, "warn")
        return go_to(panel_url())
    return render_template("integrations/_answer.html", refusal=refusal, **shown(load_own_panel()))


def shown(panel: Panel, part: str | None = None) -> dict[str, Any]:
    """Return the names that the panel's templates need. part: another one than the state's own."""
    names: dict[str, Any] = {"panel": panel, "part": part or panel.template}
    connection = panel.connection
    if connection is None or panel.state == AdvisorState.SYNCING:
        return names
    if panel.is_connected:
        names["balance"] = balance.balance(connection)
        if connection.partner.brings_in_open_leads:
            names["lead_balance"] = balance.balance(connection, RecordKind.LEAD)
        names["leads_trouble"] = explain_trouble(connection)
    told = panel.run.id if panel.run is not None and panel.tells_of_run else None
    if panel.run is not None and (panel.run.deactivated or panel.run.reactivated):
        names["reasons"] = receipts.find_reasons(panel.run.id, receipts.READ_STATE_KINDS)
    names["recent"] = runs.history(connections.ids_of(person()), before_id=told, limit=RECENT_RUNS)
    if panel.is_connected and panel.run is None:
        names["is_odd_one_out"] = connections.is_odd_one_out(connection)
    limit = ALL_LEAVING if request.args.get("all") == "1" else SHOWN_LEAVING
    if panel.state == AdvisorState.HELD:
        names["decision"] = held.find_decision(connection.id, DepartureState.HELD, limit)
    if panel.kept and panel.is_connected:
        names["kept"] = held.find_decision(connection.id, DepartureState.DISCARDED, 0)
    return names


def load_own_panel(lost_state: bool = False) -> Panel:
    return load_panel(
        person(), own_connection(), count_waiting(), org_access(), config().sync_interval_minutes, lost_state
    )


def panel_url() -> str:
    return url_for("integrations.index", open=OPEN)
