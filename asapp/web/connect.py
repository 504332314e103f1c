"""Connect, the callback, switch, disconnect.

Connect never answers a form with a redirect to Salesforce: browsers check form-action along the whole chain of redirects,
and we don't know a firm's log-in host. htmx gets HX-Redirect, a plain form gets a page that goes on by itself.
"""

from __future__ import annotations

from flask import Blueprint, make_response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from asapp.connections import connect, connections, switching
from asapp.connections.connect import CallbackAnswer, ConnectOutcome, LostState
from asapp.leads import outbox
from asapp.partners import checks
from asapp.salesforce import page_turns
from asapp.web.access import actor, advisor_required
from asapp.web.current import org_access, person, queues
from asapp.web.htmx import go_to, wants_part
from asapp.web.integrations import LOST_STATE, load_own_panel, panel_url, shown
from asapp.web.page_extensions import limiter
from asapp.web.settings import key_of_person

blueprint = Blueprint("connect", __name__)

PANEL = "/settings/integrations/salesforce"
STARTS = "20 per hour"  # of log-ins at Salesforce, by one person: each leaves a row for a day
LONGEST_VALUE = 4000  # of a callback parameter; codes are long


@blueprint.post(f"{PANEL}/connect")
@advisor_required
@limiter.limit(STARTS, key_func=key_of_person)
def start() -> ResponseReturnValue:
    user = person()
    partner = user.partner
    if partner is None or not partner.is_ready:
        return go_to(panel_url())
    connection = connections.find_current(user)
    another = request.form.get("another") == "1"
    hint = connection.username if connection is not None and not another else ""
    url = connect.begin(user, partner, org_access(), login_hint=hint, ask_again=another)
    if url is None:
        return go_to(panel_url())  # the panel says why
    if wants_part():
        return make_response("", 200, {"HX-Redirect": url})
    return render_template("connect/leaving.html", url=url, partner=partner)


@blueprint.get("/salesforce/salesforce_as/login/callback/")
@blueprint.get("/salesforce/salesforce_as/login/callback")  # as firms mistype it: no redirect may carry the code
@advisor_required
def callback() -> ResponseReturnValue:
    if request.method == "HEAD":
        return ""  # a HEAD request of a link checker must not use up the code
    page_turns.claim()  # before the state is used up: loading the page again then goes on
    wanted = ("state", "code", "error", "error_description")
    answer = CallbackAnswer(*(request.args.get(name, "")[:LONGEST_VALUE] for name in wanted))
    try:
        outcome = connect.finish(person(), answer, org_access(), actor(), learn)
    except LostState:
        session[LOST_STATE] = True
        outcome = ""
    if answer.error or outcome in checks.OF_THE_BROWSER:
        ask_about(outcome)
    if outcome == ConnectOutcome.CONNECTED:
        enqueue_leads()
    target = url_for("connect.decide") if outcome == ConnectOutcome.WAITS_FOR_SWITCH else panel_url()
    return redirect(target, 303)


def enqueue_leads() -> None:
    """Enqueue leads from before the connection: they are sent on connecting."""
    outbox.enqueue_for(person().id, queues().enqueue_leads)


def ask_about(outcome: str) -> None:
    """Enqueue a check if an error that the browser brought is about the set-up: it proves nothing, so Salesforce is asked."""
    partner_id = person().partner_id
    if outcome in checks.OUTCOMES and partner_id is not None:
        queues().enqueue_checks([partner_id])


def learn(outcome: str, detail: str) -> None:
    """Record what Salesforce's answer to a log-in says about the firm's set-up, good or bad."""
    user = person()
    connection = connections.find_current(user) if outcome == ConnectOutcome.CONNECTED else None
    if connection is not None:
        checks.check_connection(connection, org_access())
    elif user.partner_id is not None:
        checks.record_outcome(user.partner_id, outcome, detail)


@blueprint.get(f"{PANEL}/switch")
@advisor_required
def decide() -> ResponseReturnValue:
    panel = load_own_panel()
    if panel.pending is None or not panel.is_connected:
        return go_to(panel_url())
    return render_template("integrations/page.html", is_open=True, **shown(panel, "integrations/_switch.html"))


@blueprint.post(f"{PANEL}/switch", endpoint="switch")
@advisor_required
def switch() -> ResponseReturnValue:
    user = person()
    waiting = switching.find_pending(user)
    if waiting is not None:
        switching.switch(user, waiting, org_access(), actor())
        enqueue_leads()
    return go_to(panel_url())


@blueprint.post(f"{PANEL}/keep")
@advisor_required
def keep() -> ResponseReturnValue:
    switching.keep_current(person(), org_access())
    return go_to(panel_url())


@blueprint.get(f"{PANEL}/disconnect")
@advisor_required
def ask_disconnect() -> ResponseReturnValue:
    panel = load_own_panel()
    if not panel.is_connected:
        return go_to(panel_url())
    names = shown(panel, "integrations/_disconnect.html")
    page = "integrations/_answer.html" if wants_part() else "integrations/page.html"
    return render_template(page, is_open=True, **names)


@blueprint.post(f"{PANEL}/disconnect", endpoint="disconnect")
@advisor_required
def disconnect() -> ResponseReturnValue:
    connection = connections.find_current(person())
    if connection is not None:
        keep_contacts = request.form.get("contacts") != "remove"
        connections.disconnect(connection, keep_contacts, org_access(), actor())
    return go_to(panel_url())
