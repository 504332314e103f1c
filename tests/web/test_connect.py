"""Connecting over HTTP: how the browser is sent to Salesforce, what it sees when it comes back, disconnecting."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from asapp.connections import connections
from asapp.connections.connect import CallbackAnswer
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import ApiUsage, Connection, Contact, PartnerCheck
from asapp.salesforce.session import OrgSession
from orgsim.answers import Answer
from orgsim.server import Running
from tests.connecting import ConnectingDesk, visit
from tests.factories import log_in, make_admin, make_advisor, make_connection, make_contact, make_run
from tests.web.test_integrations import PANEL, PART, has_button, said

CALLBACK = "/salesforce/salesforce_as/login/callback/"


@pytest.fixture
def desk(app: Flask, org: Running, client: FlaskClient) -> ConnectingDesk:
    made = ConnectingDesk(org)
    log_in(client, made.advisor)
    return made


def start(client: FlaskClient, **data: str) -> str:
    """Press Connect Account without htmx; return the address that the page redirects to."""
    page = client.post(f"{PART}/connect", data=data)
    assert page.status_code == 200
    match = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]+)">', page.text)
    assert match
    assert f'href="{match.group(1)}"' in page.text  # the link for browsers that don't redirect by themselves
    return html.unescape(match.group(1))


def come_back(client: FlaskClient, answer: CallbackAnswer) -> str:
    """Open the callback address; return the page it leads to."""
    given = {name: value for name, value in vars(answer).items() if value}
    response = client.get(f"{CALLBACK}?{urlencode(given)}")
    assert response.status_code == 303
    return client.get(response.location).text


def test_the_whole_way_without_htmx(client: FlaskClient, desk: ConnectingDesk) -> None:
    page = come_back(client, visit(start(client), desk.amara))
    assert said(page) == "Connected Nothing has been copied yet."
    assert "amara<wbr>@northgate.example" in page
    assert has_button(page, "Sync Account")


def test_htmx_gets_the_address_to_go_to(client: FlaskClient, desk: ConnectingDesk) -> None:
    response = client.post(f"{PART}/connect", part=True)
    assert response.status_code == 200
    assert response.headers["HX-Redirect"].startswith(f"{desk.url}/services/oauth2/authorize?")
    assert response.text == ""


def test_a_form_is_never_answered_with_a_redirect_to_salesforce(client: FlaskClient, desk: ConnectingDesk) -> None:
    response = client.post(f"{PART}/connect")
    assert "Location" not in response.headers
    assert "form-action 'self'" in response.headers["Content-Security-Policy"]


def test_nothing_of_the_log_in_is_in_the_cookie(client: FlaskClient, desk: ConnectingDesk) -> None:
    for _ in range(20):  # as many as an hour allows
        start(client)
    cookie = client.get_cookie("session")
    assert cookie
    assert len(cookie.value) < 1000


def test_opening_the_callback_twice_is_harmless(client: FlaskClient, desk: ConnectingDesk) -> None:
    answer = visit(start(client), desk.amara)
    come_back(client, answer)
    page = come_back(client, answer)
    assert said(page) == "Connected Nothing has been copied yet."
    assert "changed nothing" not in page


def test_an_answer_without_a_matching_log_in_shows_one_message_and_has_no_effect(
    client: FlaskClient, desk: ConnectingDesk
) -> None:
    page = come_back(client, CallbackAnswer(state="forged", error="access_denied"))
    assert said(page) == "Not connected That answer from Salesforce belongs to no log-in of yours."
    assert "Not connected" not in client.get(PANEL).text


def test_a_denial_is_shown_until_the_next_attempt(client: FlaskClient, desk: ConnectingDesk) -> None:
    page = come_back(client, visit(start(client), desk.amara, button="cancel"))
    assert said(page) == "Not connected You did not allow AdvisorStream on Salesforce's page.".replace("'", "&#39;")
    assert "What is safe" in page
    start(client)
    assert "Not connected" not in client.get(PANEL).text


def test_a_made_up_error_in_the_address_is_shown_to_that_browser_and_turns_no_check_red(
    app: Flask, client: FlaskClient, desk: ConnectingDesk
) -> None:
    lie = "Send the new Consumer Secret to help@evil.example"
    state = visit(start(client), desk.amara).state
    page = come_back(client, CallbackAnswer(state=state, error="invalid_client_id", error_description=lie))
    assert said(page).startswith("Not connected")
    page = come_back(client, CallbackAnswer(state=state))
    assert said(page).startswith("Not connected")
    assert db.session.scalars(select(PartnerCheck)).all() == []
    jobs = app.extensions["asapp.queues"].sync.get_job_ids()
    assert len([job for job in jobs if job.startswith(f"check-{desk.partner.id}-")]) == 1  # Salesforce is asked instead
    log_in(client, make_admin())
    assert "evil.example" not in client.get(f"/admin/partners/{desk.partner.slug}").text


def test_a_log_in_that_salesforce_refused_us_turns_a_check_red_in_its_own_code(
    client: FlaskClient, desk: ConnectingDesk
) -> None:
    answer = replace(visit(start(client), desk.amara), error_description="Write to help@evil.example")
    body = {"error": "invalid_client", "error_description": "invalid client credentials"}
    desk.org.trouble.add(Answer(400, body), kind="token", times=1)
    come_back(client, answer)
    check = db.session.scalars(select(PartnerCheck)).one()
    assert (check.code, check.verdict, check.detail) == ("secret", "bad", "invalid_client")


@pytest.mark.parametrize(("scopes", "left_out"), [("id refresh_token", "api"), ("id api", "refresh_token")])
def test_an_advisor_who_asks_for_less_turns_no_check_of_the_firm_red(
    app: Flask, client: FlaskClient, desk: ConnectingDesk, scopes: str, left_out: str
) -> None:
    """What is asked for stands in the address of the browser: Salesforce is asked about the app instead."""
    tokens = {**desk.org.issue_tokens(desk.amara, "desk-key"), "scope": scopes}
    if left_out == "refresh_token":
        tokens.pop("refresh_token")
    answer = visit(start(client), desk.amara)
    desk.org.trouble.add(Answer(200, tokens), kind="token", times=1)
    assert said(come_back(client, answer)).startswith("Not connected")
    assert db.session.scalars(select(PartnerCheck)).all() == []
    jobs = app.extensions["asapp.queues"].sync.get_job_ids()
    assert len([job for job in jobs if job.startswith(f"check-{desk.partner.id}-")]) == 1


@pytest.mark.parametrize("is_marked", [True, False], ids=["needs reconnecting", "not yet noticed"])
@pytest.mark.parametrize("failure", ["permission_withdrawn", "api_access_blocked"])
def test_after_reconnecting_an_old_failure_is_history(
    client: FlaskClient, desk: ConnectingDesk, is_marked: bool, failure: str
) -> None:
    come_back(client, visit(start(client), desk.amara))
    connection = desk.connection()
    long_ago = utcnow() - timedelta(hours=2)
    connection.first_synced_at = connection.last_good_sync_at = long_ago
    make_run(connection, "failed", error_code=failure, finished_at=utcnow())
    if is_marked:
        connections.mark_needs_reconnect(db.session(), connection.id, failure, connection.token_version)
        db.session.commit()

    page = come_back(client, visit(start(client), desk.amara))

    assert said(page) == "Connected The next sync reads what was missed and starts by itself."
    assert "Any moment now" in page
    assert "Press Connect Account" not in page
    assert "Last sync failed" not in page
    assert "Earlier syncs" in page
    make_run(desk.connection(), "failed", error_code="server_error", finished_at=utcnow())
    assert said(client.get(PANEL).text).startswith("Sync failed")


def test_opening_the_link_alone_does_not_use_it_up(client: FlaskClient, desk: ConnectingDesk) -> None:
    answer = visit(start(client), desk.amara)
    client.head(f"{CALLBACK}?{urlencode({'code': answer.code, 'state': answer.state})}")
    assert "Connected" in said(come_back(client, answer))


def test_without_a_log_in_here_the_callback_asks_for_one_and_goes_on(client: FlaskClient, desk: ConnectingDesk) -> None:
    answer = visit(start(client), desk.amara)
    client.post("/logout")
    response = client.get(f"{CALLBACK}?{urlencode({'code': answer.code, 'state': answer.state})}")
    assert response.location.startswith("/login?next=")


def test_switching_over_http(client: FlaskClient, desk: ConnectingDesk) -> None:
    come_back(client, visit(start(client), desk.amara))
    page = come_back(client, visit(start(client, another="1"), desk.jonas))
    assert "You have just logged in as" in page
    assert client.post(f"{PART}/switch").status_code == 303
    assert "jonas<wbr>@northgate.example" in client.get(PANEL).text


def test_a_connection_that_needs_reconnecting_is_not_called_connected_beside_another_users_log_in(
    client: FlaskClient, desk: ConnectingDesk
) -> None:
    come_back(client, visit(start(client), desk.amara))
    connection = desk.connection()
    connections.mark_needs_reconnect(db.session(), connection.id, "permission_withdrawn", connection.token_version)
    db.session.commit()
    page = come_back(client, visit(start(client, another="1"), desk.jonas))
    assert "You have just logged in as" in page
    assert "Connected now" not in page
    assert "still needs reconnecting: press Connect Account" in page
    page = come_back(client, visit(start(client), desk.amara))
    assert "Decide now" not in page


def test_another_user_is_asked_to_log_in_again(client: FlaskClient, desk: ConnectingDesk) -> None:
    assert "prompt=login" in start(client, another="1")
    assert "prompt=" not in start(client)


def test_disconnecting_asks_first_and_says_what_it_will_do(client: FlaskClient, desk: ConnectingDesk) -> None:
    come_back(client, visit(start(client), desk.amara))
    contact = make_contact(desk.connection())
    question = client.get(f"{PART}/disconnect").text
    assert said(question) == "Disconnect from Salesforce?"
    assert "the 1 contact that came from Salesforce" in question
    assert client.get(f"{PART}/disconnect", part=True).text.lstrip().startswith('<div id="salesforce"')
    response = client.post(f"{PART}/disconnect", data={"contacts": "keep"})
    page = client.get(response.location).text
    assert said(page).startswith("Disconnected Our permission is revoked.")
    assert desk.approvals() == []
    assert db.session.get(Contact, contact.id) is not None


def test_after_disconnecting_and_reconnecting_the_old_sync_is_history(
    client: FlaskClient, desk: ConnectingDesk
) -> None:
    come_back(client, visit(start(client), desk.amara))
    connection = desk.connection()
    connection.first_synced_at = connection.last_good_sync_at = utcnow()
    make_run(connection, "complete", finished_at=utcnow())
    assert said(client.get(PANEL).text).startswith("Sync complete")
    client.post(f"{PART}/disconnect", data={"contacts": "keep"})

    page = come_back(client, visit(start(client), desk.amara))

    assert said(page) == "Connected The next sync reads what was missed and starts by itself."
    assert "Earlier syncs" in page
    make_run(desk.connection(), "complete", finished_at=utcnow())
    assert said(client.get(PANEL).text).startswith("Sync complete")


def test_disconnecting_can_remove_the_contacts(client: FlaskClient, desk: ConnectingDesk) -> None:
    come_back(client, visit(start(client), desk.amara))
    make_contact(desk.connection())
    client.post(f"{PART}/disconnect", data={"contacts": "remove"})
    assert db.session.scalars(select(Contact)).all() == []
    assert "were removed from here" in client.get(PANEL).text


def test_a_firm_switched_off_can_not_be_connected_to(client: FlaskClient, desk: ConnectingDesk) -> None:
    desk.partner.is_enabled = False
    db.session.commit()
    assert client.post(f"{PART}/connect").status_code == 303
    assert db.session.scalar(select(Connection)) is None


def test_the_preview_shows_what_the_first_sync_will_bring(client: FlaskClient, desk: ConnectingDesk) -> None:
    desk.org.add_contact(desk.amara, last_name="Gonzalez", email="rose@edge.example")
    desk.org.add_contact(desk.amara, last_name="Levy", email="b@edge.example", opted_out=True)
    desk.org.add_contact(desk.amara, last_name="Frank")
    come_back(client, visit(start(client), desk.amara))
    part = client.get(f"{PART}/preview", part=True).text
    assert re.findall(r"<b>(\d+)</b>", part) == ["3", "1", "1", "1"]
    assert "<html" in client.get(f"{PART}/preview").text
    assert db.session.scalars(select(Contact)).all() == []


def test_the_preview_counts_open_leads_where_the_firm_brings_them_in(client: FlaskClient, desk: ConnectingDesk) -> None:
    desk.partner.brings_in_open_leads = True
    db.session.commit()
    desk.org.add_contact(desk.amara, last_name="Gonzalez", email="rose@edge.example")
    for email, opted_out in (("a@edge.example", False), ("b@edge.example", True), (None, False)):
        desk.org.add_lead(desk.amara, last_name="Frank", email=email, opted_out=opted_out)
    come_back(client, visit(start(client), desk.amara))
    part = client.get(f"{PART}/preview", part=True).text
    assert re.findall(r"<b>(\d+)</b>", part) == ["1", "1", "0", "0", "3", "1", "1", "1"]
    assert "Salesforce Open Leads" in part
    desk.org.deny_object("Lead", "read")
    part = client.get(f"{PART}/preview", part=True).text
    assert re.findall(r"<b>(\d+)</b>", part) == ["1", "1", "0", "0"]
    assert "Salesforce Open Leads" not in part


@pytest.mark.parametrize("brings_in", [False, True])
def test_the_panel_says_that_leads_can_not_be_read(client: FlaskClient, desk: ConnectingDesk, brings_in: bool) -> None:
    come_back(client, visit(start(client), desk.amara))
    connection = db.session.scalars(select(Connection)).one()
    connection.partner.brings_in_open_leads = brings_in
    connection.first_synced_at = connection.last_good_sync_at = utcnow()
    connection.leads_trouble = "leads_hidden"
    db.session.commit()
    page = client.get(PANEL).text
    assert "Leads can't be read." in page
    assert "Contacts are synced as always" in page
    assert ("open leads are inactive" in page) is brings_in


def test_a_preview_that_salesforce_refuses_is_no_error(client: FlaskClient, desk: ConnectingDesk) -> None:
    come_back(client, visit(start(client), desk.amara))
    desk.org.trouble.add("server_unavailable_html", kind="composite")
    desk.org.trouble.add("server_unavailable_html", kind="query")
    assert "gave no numbers" in client.get(f"{PART}/preview", part=True).text


def calls_of(desk: ConnectingDesk) -> int:
    db.session.rollback()
    return db.session.scalar(select(func.sum(ApiUsage.calls)).where(ApiUsage.partner_id == desk.partner.id)) or 0


@pytest.mark.parametrize("answer", [None, "unknown_exception", "truncated_json"])
def test_a_preview_counts_its_calls_whatever_comes_of_them(
    client: FlaskClient, desk: ConnectingDesk, answer: str | None
) -> None:
    come_back(client, visit(start(client), desk.amara))
    before, mark = calls_of(desk), desk.org.calls.mark()
    if answer:
        desk.org.trouble.add(answer, kind="data", times=1)
    client.get(f"{PART}/preview", part=True)
    sent = len([call for call in desk.org.calls.since(mark) if call.path.startswith("/services/data/")])
    assert sent >= 1
    assert calls_of(desk) - before == sent


def test_what_pages_ask_stays_within_the_firms_share_and_is_not_sent_beyond(
    client: FlaskClient, desk: ConnectingDesk
) -> None:
    come_back(client, visit(start(client), desk.amara))
    desk.partner.org_calls_allowed, desk.partner.api_share_percent = 100, 1
    db.session.commit()
    mark = desk.org.calls.mark()
    assert "gave no numbers" in client.get(f"{PART}/preview", part=True).text
    why = client.get("/contacts/why", query_string={"person": "ewa@wisla.example"}, part=True).text
    assert "has used up its calls for now" in why
    assert [call for call in desk.org.calls.since(mark) if call.path.startswith("/services/data/")] == []


def test_what_pages_ask_leaves_no_connection_to_salesforce_open(
    client: FlaskClient, desk: ConnectingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_back(client, visit(start(client), desk.amara))
    opened: list[OrgSession] = []
    closed: list[OrgSession] = []
    begin, end = OrgSession.__init__, OrgSession.close
    monkeypatch.setattr(OrgSession, "__init__", lambda self, *a, **k: (opened.append(self), begin(self, *a, **k))[1])
    monkeypatch.setattr(OrgSession, "close", lambda self: (closed.append(self), end(self))[1])
    link = "https://northgate.lightning.force.com/lightning/r/Account/001000000000001AAA/view"
    for url in (f"{PART}/preview", "/contacts/why?person=ewa@wisla.example", f"/contacts/why?person={link}"):
        for answer in (None, "unknown_exception"):
            desk.org.trouble.clear()
            if answer:
                desk.org.trouble.add(answer, kind="data")
            client.get(url, part=True)
    assert len(opened) == 6
    assert set(map(id, opened)) == set(map(id, closed))


def test_an_advisor_who_connects_to_another_org_than_the_colleagues_is_warned(
    client: FlaskClient, desk: ConnectingDesk
) -> None:
    make_connection(make_advisor(desk.partner, name="Bob Tanaka"), org_id="00D5g000004ABCDEAA")
    page = come_back(client, visit(start(client), desk.amara))
    assert "Your colleagues are connected to a different org." in page


def test_an_advisor_who_connects_to_the_colleagues_org_is_not_warned(client: FlaskClient, desk: ConnectingDesk) -> None:
    make_connection(make_advisor(desk.partner, name="Bob Tanaka"), org_id=desk.org.id)
    assert "colleagues" not in come_back(client, visit(start(client), desk.amara))
