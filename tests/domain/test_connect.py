"""Connecting to the simulated org: how a log-in ends, and what is stored of it."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select, update

from asapp.connections import connect, connections, switching
from asapp.connections.connect import CallbackAnswer, LostState
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.messages.codes import Code
from asapp.messages.failures import FAILURES, Failure, Occasion
from asapp.models import (
    Connection,
    ConnectionStatus,
    Contact,
    LedgerEntry,
    OAuthState,
    PartnerCheck,
    PendingGrant,
    SyncRun,
    User,
)
from asapp.models.connection import DisconnectReason
from asapp.panel.load import load_panel
from asapp.partners import offboarding
from orgsim.answers import Answer
from orgsim.server import Running
from tests.connecting import CALLBACK, ConnectingDesk, visit
from tests.factories import make_advisor, make_connection, make_contact, make_partner, make_run
from tests.racing import race


@pytest.fixture
def desk(app: Flask, org: Running) -> ConnectingDesk:
    return ConnectingDesk(org)


def test_connecting_stores_who_was_connected_and_to_which_org(desk: ConnectingDesk) -> None:
    assert desk.connect() == "connected"
    connection = desk.connection()
    assert connection.identity == (desk.org.id, desk.amara)
    assert (connection.username, connection.display_name) == ("amara@northgate.example", "Amara Okafor")
    assert connection.instance_url == desk.url
    assert set(connection.scopes.split()) == {"api", "refresh_token", "id"}
    assert connection.is_connected
    assert connection.next_sync_at is None  # the first sync is the advisor's to start
    assert desk.tokens_of(connection)[1] in desk.approvals()


@pytest.mark.parametrize(
    ("why", "is_over"), [("request_limit", True), ("share_used_up", False), ("org_nearly_full", False)]
)
def test_connecting_ends_a_pause_that_salesforce_asked_for_and_no_other(
    desk: ConnectingDesk, why: str, is_over: bool
) -> None:
    """An API call was answered, so that calls are there again; our share, and room for scheduled checks, are not."""
    desk.partner.paused_until, desk.partner.paused_why = utcnow() + timedelta(hours=1), why
    db.session.commit()
    desk.connect()
    db.session.expire_all()
    assert (desk.partner.paused_until is None, desk.partner.paused_why is None) == (is_over, is_over)


def test_connecting_ends_no_pause_while_salesforce_still_refuses_calls(desk: ConnectingDesk) -> None:
    desk.partner.paused_until, desk.partner.paused_why = utcnow() + timedelta(hours=1), "request_limit"
    db.session.commit()
    desk.org.change_settings(api_limit=0)
    desk.connect()
    db.session.expire_all()
    assert desk.partner.paused_why == "request_limit"


def test_nothing_secret_lies_open_in_the_database(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    state = db.session.scalars(select(OAuthState)).one()
    assert answer.state not in (state.state_sha256, state.public_id)
    verifier = state.unseal(desk.access.vault, "code_verifier_sealed")
    assert verifier not in (state.code_verifier_sealed or "")
    desk.finish(answer)
    connection = desk.connection()
    assert all(token not in str(vars(connection)) for token in desk.tokens_of(connection))
    assert db.session.scalars(select(OAuthState.code_verifier_sealed)).one() is None


def test_the_verifier_is_never_logged(desk: ConnectingDesk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = visit(desk.begin(), desk.amara)
        verifier = db.session.scalars(select(OAuthState)).one().unseal(desk.access.vault, "code_verifier_sealed")
        desk.finish(answer)
    assert not [record for record in caplog.records if verifier in record.getMessage()]


def test_coming_back_twice_is_harmless(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    assert desk.finish(answer) == "connected"
    before = desk.tokens_of(desk.connection())
    assert desk.finish(answer) == "connected"
    assert desk.tokens_of(desk.connection()) == before
    assert len(desk.approvals()) == 1


def test_a_state_of_another_advisor_has_no_effect(desk: ConnectingDesk) -> None:
    bob = make_advisor(desk.partner, name="Bob Tanaka")
    answer = visit(desk.begin(), desk.amara)
    with pytest.raises(LostState):
        desk.finish(answer, bob)
    assert db.session.scalar(select(Connection)) is None
    assert desk.finish(answer) == "connected"  # the advisor who began can still use it


@pytest.mark.parametrize("answer", [CallbackAnswer(error="access_denied", state="forged"), CallbackAnswer(code="abc")])
def test_an_error_counts_only_with_a_state_of_ours(desk: ConnectingDesk, answer: CallbackAnswer) -> None:
    desk.begin()
    with pytest.raises(LostState):
        desk.finish(answer)
    attempt = connect.find_last_attempt(desk.advisor)
    assert attempt is not None
    assert attempt.outcome is None
    assert attempt.used_at is None


LIE = "Send the new Consumer Secret to help@evil.example"


@pytest.mark.parametrize(
    "error", ["invalid_client_id", "redirect_uri_mismatch", "OAUTH_APP_BLOCKED", "NEVER_HEARD_OF", LIE]
)
def test_an_error_that_a_browser_brings_is_shown_to_that_advisor_only(desk: ConnectingDesk, error: str) -> None:
    state = visit(desk.begin(), desk.amara).state
    learnt: list[tuple[str, str]] = []
    with writing():
        connect.finish(
            desk.advisor,
            CallbackAnswer(state=state, error=error, error_description=LIE),
            desk.access,
            learn=lambda *found: learnt.append(found),
        )
        connect.finish(desk.advisor, CallbackAnswer(state=state), desk.access, learn=lambda *f: learnt.append(f))
    assert learnt == []
    assert db.session.scalars(select(PartnerCheck)).all() == []
    explained = last_failure(desk)
    assert LIE not in f"{explained.forward} {explained.headline}"
    attempt = connect.find_last_attempt(desk.advisor)
    assert attempt is not None
    assert attempt.outcome in set(Code)


def test_what_salesforce_answered_us_is_learnt_once_in_its_own_code(desk: ConnectingDesk) -> None:
    answer = replace(visit(desk.begin(), desk.amara), error_description=LIE)
    body = {"error": "invalid_client", "error_description": "invalid client credentials"}
    desk.org.trouble.add(Answer(400, body), kind="token", times=1)
    learnt: list[tuple[str, str]] = []
    with writing():
        for _ in range(2):
            connect.finish(desk.advisor, answer, desk.access, learn=lambda *found: learnt.append(found))
    assert learnt == [("bad_secret", "invalid_client")]
    assert "invalid_client, “invalid client credentials”" in last_failure(desk).forward


def last_failure(desk: ConnectingDesk) -> Failure:
    db.session.expire_all()
    panel = load_panel(desk.advisor, connections.find_latest(desk.advisor), 0, desk.access, 15)
    db.session.rollback()
    assert panel.connect_failure is not None
    return panel.connect_failure


@pytest.mark.parametrize("token", ["access_token", "refresh_token"])
def test_a_token_that_no_header_can_carry_is_given_back(desk: ConnectingDesk, token: str) -> None:
    answer = visit(desk.begin(), desk.amara)
    tokens = desk.org.issue_tokens(desk.amara, "desk-key")
    desk.org.trouble.add(Answer(200, {**tokens, token: "00D!Ünïcode\n"}), kind="token", times=1)
    mark = desk.org.calls.mark()
    assert desk.finish(answer) == "unreadable_answer"
    assert [call for call in desk.org.calls.since(mark) if "revoke" in call.tags]


def test_names_and_scopes_are_stored_as_far_as_they_can_be(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    tokens = desk.org.issue_tokens(desk.amara, "desk-key")
    scopes = "api refresh_token id " + " ".join(f"x{number:090}" for number in range(60)) + " " + "y" * 5000 + " ü"
    desk.org.trouble.add(Answer(200, {**tokens, "scope": scopes}), kind="token", times=1)
    person = {
        "organization_id": desk.org.id,
        "user_id": desk.amara,
        "name": "Amara\x00 Okafor\n" + "x" * 5000,
        "preferred_username": "amara\x00@northgate.example",
    }
    desk.org.trouble.add(Answer(200, person), kind="userinfo", times=1)
    desk.org.trouble.add(Answer(200, {"records": [{"Name": "North\x00gate"}]}), kind="query", times=1)
    assert desk.finish(answer) == "connected"
    connection = desk.connection()
    assert {"api", "refresh_token", "id"} <= set(connection.scopes.split())
    assert connection.username == "amara@northgate.example"
    assert connection.display_name.startswith("Amara Okafor x")
    assert connection.org_name == "Northgate"


def test_what_breaks_on_our_side_is_noted_and_the_grant_given_back(
    desk: ConnectingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(connect, "store_grant", break_down)
    answer = visit(desk.begin(), desk.amara)
    with pytest.raises(ZeroDivisionError):
        desk.finish(answer)
    attempt = connect.find_last_attempt(desk.advisor)
    assert attempt is not None
    assert attempt.outcome == "our_bug"
    assert desk.approvals() == []


def test_a_log_in_must_be_finished_within_ten_minutes(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    db.session.execute(update(OAuthState).values(expires_at=utcnow() - timedelta(seconds=1)))
    db.session.commit()
    assert desk.finish(answer) == "state_expired"
    assert desk.approvals() == []


def test_an_answer_for_another_app_of_the_firm_is_thrown_away(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    desk.partner.app_version += 1
    db.session.commit()
    assert desk.finish(answer) == "setup_changed"
    assert desk.approvals() == []


def test_denied(desk: ConnectingDesk) -> None:
    assert desk.finish(visit(desk.begin(), desk.amara, button="cancel")) == "denied"
    attempt = connect.find_last_attempt(desk.advisor)
    assert attempt is not None
    assert attempt.outcome_words == "end-user denied authorization"


def test_a_code_is_good_once_also_at_salesforce(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    desk.finish(answer)
    again = visit(desk.begin(), desk.amara)
    assert desk.finish(replace(again, code=answer.code)) == "code_expired"


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"blocked": True}, "app_blocked"),
        ({"installed": False}, "app_not_installed"),
        ({"admin_approved_only": True}, "not_admin_approved"),
    ],
)
def test_what_the_firms_admin_has_set_against_it(desk: ConnectingDesk, change: dict[str, bool], outcome: str) -> None:
    desk.org.change_app("desk-key", **change)
    assert desk.connect() == outcome


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        ("server_unavailable_html", "token_endpoint_busy"),
        ("edge_420", "token_endpoint_busy"),
        (Answer(200, "<html>Welcome</html>", "text/html"), "token_endpoint_busy"),
        (Answer(200, '{"access_token": ', "application/json"), "token_endpoint_busy"),
        ("redirect", "redirected"),
        ("reset", "no_answer"),
        ("reset_after", "no_answer"),
        (Answer(400, {"error": "invalid_client_id", "error_description": "client identifier invalid"}), "bad_key"),
        (Answer(400, {"error": "invalid_client", "error_description": "invalid client credentials"}), "bad_secret"),
        (Answer(400, {"error": "redirect_uri_mismatch", "error_description": "redirect_uri must match configuration"}),
         "redirect_mismatch"),
        (Answer(400, {"error": "invalid_grant", "error_description": "invalid code verifier"}), "pkce"),
        (Answer(400, {"error": "invalid_request", "error_description": "bad"}), "our_bug"),
        (Answer(400, {"error": "invalid_grant", "error_description": "IP restricted or invalid login hours"}),
         "ip_restricted"),
        (Answer(400, {"error": "invalid_grant", "error_description": "ip restricted"}), "ip_restricted"),
        (Answer(400, {"error": "invalid_grant", "error_description": "inactive organization"}), "inactive_org"),
        (Answer(400, {"error": "inactive_user", "error_description": "x"}), "inactive_user"),
        (Answer(400, {"error": "inactive_org", "error_description": "x"}), "inactive_org"),
        (Answer(400, {"error": "rate_limit_exceeded", "error_description": "x"}), "token_endpoint_busy"),
        (Answer(200, {"access_token": "a", "instance_url": "https://evil.example", "id": "https://login.salesforce.com/id/x/y"}),
         "foreign_host"),
        (Answer(200, {"access_token": "a", "refresh_token": "r"}), "unreadable_answer"),
    ],
)  # fmt: skip
def test_every_answer_of_the_token_endpoint_ends_with_words(
    desk: ConnectingDesk, trouble: object, outcome: str
) -> None:
    answer = visit(desk.begin(), desk.amara)
    details = {"location": "https://elsewhere.my.salesforce.com/"} if trouble == "redirect" else {}
    desk.org.trouble.add(trouble, kind="token", times=1, **details)
    assert desk.finish(answer) == outcome
    assert (Occasion.CONNECT, outcome) in FAILURES
    assert db.session.scalar(select(Connection)) is None


def test_the_secret_is_not_carried_along_to_another_address(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    desk.org.trouble.add("redirect", kind="token", location=f"{desk.url}/elsewhere", status=307)
    mark = desk.org.calls.mark()
    desk.finish(answer)
    assert not [call for call in desk.org.calls.since(mark) if call.path == "/elsewhere"]


@pytest.mark.parametrize(
    ("scopes", "outcome"),
    [(["refresh_token", "id"], "approval_error"), (["api", "id"], "approval_error")],
)
def test_an_app_without_a_scope_we_need_stays_on_a_salesforce_page(
    desk: ConnectingDesk, scopes: list[str], outcome: str
) -> None:
    desk.org.change_app("desk-key", scopes=scopes)
    with pytest.raises(AssertionError, match="RemoteAccessErrorPage"):
        visit(desk.begin(), desk.amara)


@pytest.mark.parametrize(("granted", "outcome"), [("refresh_token id", "no_api_scope"), ("api id", "no_refresh_token")])
def test_a_grant_that_is_too_small_is_given_back(desk: ConnectingDesk, granted: str, outcome: str) -> None:
    tokens = desk.org.issue_tokens(desk.amara, "desk-key")
    body = {**tokens, "scope": granted}
    if outcome == "no_refresh_token":
        body.pop("refresh_token")
    answer = visit(desk.begin(), desk.amara)
    desk.org.trouble.add(Answer(200, body), kind="token", times=1)
    mark = desk.org.calls.mark()
    assert desk.finish(answer) == outcome
    assert [call for call in desk.org.calls.since(mark) if "revoke" in call.tags]


def test_a_user_that_salesforce_would_not_name_is_not_connected(desk: ConnectingDesk) -> None:
    answer = visit(desk.begin(), desk.amara)
    desk.org.trouble.add("bad_oauth_token", kind="userinfo", times=1)
    assert desk.finish(answer) == "identity_refused"
    assert desk.approvals() == []


def test_the_orgs_name_is_nice_to_have(desk: ConnectingDesk) -> None:
    desk.org.trouble.add("server_unavailable_html", kind="query", times=1)
    assert desk.connect() == "connected"
    assert desk.connection().org_name == ""


def test_the_same_user_continues_the_same_connection(desk: ConnectingDesk) -> None:
    desk.connect()
    first = desk.connection()
    first_id, old_refresh_token = first.id, desk.tokens_of(first)[1]
    first.watermark = first.first_synced_at = utcnow()
    connections.mark_needs_reconnect(db.session(), first_id, "permission_withdrawn", first.token_version)
    db.session.commit()
    assert desk.connect() == "connected"
    connection = desk.connection()
    assert connection.id == first_id
    assert connection.is_connected
    assert connection.watermark is not None
    assert connection.next_sync_at is not None  # the next sync is due at once
    assert old_refresh_token not in desk.approvals()
    assert len(desk.approvals()) == 1


def test_connecting_again_never_uses_up_the_five_approvals(desk: ConnectingDesk) -> None:
    other_app = desk.org.issue_tokens(desk.amara, "desk-key")["refresh_token"]
    for _ in range(7):
        desk.connect()
    assert other_app in desk.approvals()


def test_a_disconnected_user_who_comes_back_finds_the_contacts(desk: ConnectingDesk) -> None:
    desk.connect()
    connection = desk.connection()
    contact_id, connection_id = make_contact(connection).id, connection.id
    connections.disconnect(connection, keep_contacts=True, access=desk.access)
    assert desk.connect() == "connected"
    assert desk.connection().id == connection_id
    assert db.session.get(Contact, contact_id) is not None


def test_a_second_account_is_refused_without_a_name_and_its_grant_given_back(desk: ConnectingDesk) -> None:
    desk.connect()
    bob = make_advisor(desk.partner, name="Bob Tanaka")
    assert desk.connect(advisor=bob) == "already_connected"
    assert len(desk.approvals()) == 1
    words = FAILURES[Occasion.CONNECT, Code.ALREADY_CONNECTED]
    assert set(re.findall(r"{(\w+)}", words.happened + words.do_next)) == {"support"}


def test_no_one_is_asked_to_switch_to_a_user_that_another_account_has(desk: ConnectingDesk) -> None:
    desk.connect()
    bob = make_advisor(desk.partner, name="Bob Tanaka")
    assert desk.connect(desk.jonas, advisor=bob) == "connected"
    assert desk.connect(desk.amara, advisor=bob) == "already_connected"
    assert switching.find_pending(bob) is None
    assert desk.connection(bob).salesforce_user_id == desk.jonas
    assert len(desk.approvals()) == 2


def test_another_user_waits_for_a_decision(desk: ConnectingDesk) -> None:
    desk.connect()
    assert desk.connect(desk.jonas) == "waits_for_switch"
    assert desk.connection().salesforce_user_id == desk.amara
    waiting = switching.find_pending(desk.advisor)
    assert waiting is not None
    assert waiting.username == "jonas@northgate.example"
    assert waiting.expires_at <= utcnow() + timedelta(minutes=15)


def test_switch_disconnects_the_old_user_and_starts_from_the_beginning(desk: ConnectingDesk) -> None:
    desk.connect()
    old_id = desk.connection().id
    desk.connect(desk.jonas)
    waiting = switching.find_pending(desk.advisor)
    assert waiting is not None
    with writing():
        switching.switch(desk.advisor, waiting, desk.access)
    connection = desk.connection()
    assert connection.id != old_id
    assert connection.salesforce_user_id == desk.jonas
    assert connection.watermark is None
    assert db.session.get_one(Connection, old_id).is_disconnected
    assert desk.approvals() == [desk.tokens_of(connection)[1]]
    assert db.session.scalar(select(PendingGrant)) is None


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_switch_pressed_twice_at_once_is_one_switch(desk: ConnectingDesk, app: Flask) -> None:
    """Both requests have read the waiting grant. On SQLite the second begins after the first has ended."""
    desk.connect()
    desk.connect(desk.jonas)
    user_id, have_read = desk.advisor.id, threading.Barrier(2)

    def press() -> str | None:
        user = db.session.get_one(User, user_id)
        waiting = switching.find_pending(user)
        assert waiting is not None
        have_read.wait(20)
        connection = switching.switch(user, waiting, desk.access)
        return connection and connection.salesforce_user_id

    assert race(app, press, press) == [desk.jonas] * 2
    connection = desk.connection()
    assert connection.salesforce_user_id == desk.jonas
    assert desk.approvals() == [desk.tokens_of(connection)[1]]


def test_no_switch_is_made_to_an_expired_grant(desk: ConnectingDesk) -> None:
    """The page was loaded earlier; the tick may have given the grant back since."""
    desk.connect()
    desk.connect(desk.jonas)
    waiting = switching.find_pending(desk.advisor)
    assert waiting is not None
    waiting.expires_at = utcnow()
    db.session.commit()
    with writing():
        assert switching.switch(desk.advisor, waiting, desk.access) == desk.connection()
        assert switching.revoke_expired(desk.access) == 1
    assert desk.connection().salesforce_user_id == desk.amara
    assert desk.approvals() == [desk.tokens_of(desk.connection())[1]]


def test_switching_reports_that_salesforce_did_not_receive_the_revocation(
    desk: ConnectingDesk,
) -> None:
    desk.connect()
    old_id = desk.connection().id
    desk.connect(desk.jonas)
    desk.org.trouble.add("server_unavailable_html", path="/services/oauth2/revoke")
    waiting = switching.find_pending(desk.advisor)
    assert waiting is not None
    with writing():
        switching.switch(desk.advisor, waiting, desk.access)
    assert db.session.get_one(Connection, old_id).status_reason == DisconnectReason.REVOKE_FAILED


def test_keep_gives_the_new_grant_back(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.connect(desk.jonas)
    with writing():
        switching.keep_current(desk.advisor, desk.access)
    assert desk.connection().salesforce_user_id == desk.amara
    assert desk.approvals() == [desk.tokens_of(desk.connection())[1]]


def test_logging_in_as_the_connected_user_after_another_one_is_keep(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.connect(desk.jonas)
    assert desk.connect() == "connected"
    assert switching.find_pending(desk.advisor) is None
    with writing():
        assert switching.revoke_expired(desk.access) == 1
    assert len(desk.approvals()) == 1


def test_no_decision_within_fifteen_minutes_is_keep(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.connect(desk.jonas)
    later = utcnow() + timedelta(minutes=16)
    assert switching.find_pending(desk.advisor, later) is None
    with writing():
        assert switching.revoke_expired(desk.access, later) == 1
    assert len(desk.approvals()) == 1


def test_a_grant_that_salesforce_did_not_hear_of_is_given_back_later(desk: ConnectingDesk) -> None:
    desk.connect()
    desk.connect(desk.jonas)
    fault = desk.org.trouble.add("server_unavailable_html", path="/services/oauth2/revoke")
    with writing():
        switching.keep_current(desk.advisor, desk.access)
    assert len(desk.approvals()) == 2
    assert switching.find_pending(desk.advisor) is None
    fault.remove()
    mark, soon = desk.org.calls.mark(), utcnow()
    with writing():
        assert switching.revoke_expired(desk.access, soon) == 0, "not at every tick"
    assert list(desk.org.calls.since(mark)) == []
    with writing():
        assert switching.revoke_expired(desk.access, soon + timedelta(minutes=16)) == 1
    assert desk.approvals() == [desk.tokens_of(desk.connection())[1]]


def test_after_three_days_a_grant_is_given_up_and_that_is_logged(
    desk: ConnectingDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.connect()
    desk.connect(desk.jonas)
    desk.org.trouble.add("server_unavailable_html", path="/services/oauth2/revoke")
    with writing():
        switching.keep_current(desk.advisor, desk.access)
        assert switching.revoke_expired(desk.access, utcnow() + timedelta(days=2)) == 0
        assert "without being given back" not in caplog.text
        assert switching.revoke_expired(desk.access, utcnow() + timedelta(days=4)) == 1
    assert "without being given back" in caplog.text


def test_a_tick_does_not_wait_for_one_revocation_after_the_other(
    desk: ConnectingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Bob Stone", "Charlie Reyes", "Dana Holt"):
        advisor = make_advisor(desk.partner, name=name)
        first, second = (desk.org.add_user(name=f"{name} {n}", username=f"{n}{name[0]}@x.example") for n in (1, 2))
        desk.connect(first, advisor)
        desk.connect(second, advisor)
    later = utcnow() + timedelta(minutes=16)
    monkeypatch.setattr(switching, "GIVING_BACK_S", -1.0)
    with writing():
        assert switching.revoke_expired(desk.access, later) == 0
    monkeypatch.setattr(switching, "GIVING_BACK_S", 60.0)
    with writing():
        assert switching.revoke_expired(desk.access, later) == 3
    assert len(desk.approvals()) == 3


def test_a_newer_log_in_replaces_the_one_that_waits(desk: ConnectingDesk) -> None:
    third = desk.org.add_user(name="Rosa Fuentes", username="rosa@northgate.example")
    desk.connect()
    desk.connect(desk.jonas)
    desk.connect(third)
    waiting = switching.find_pending(desk.advisor)
    assert waiting is not None
    assert waiting.salesforce_user_id == third
    assert len(desk.approvals()) == 2


def test_disconnecting_gives_the_permission_back_and_keeps_contacts_inactive(desk: ConnectingDesk) -> None:
    desk.connect()
    connection = desk.connection()
    connection.next_sync_at = utcnow()
    contact = make_contact(connection)
    assert connections.disconnect(connection, keep_contacts=True, access=desk.access)
    assert desk.approvals() == []
    assert connection.is_disconnected
    assert connection.next_sync_at is None
    assert connection.access_token_sealed is None
    assert connection.refresh_token_sealed is None
    assert db.session.get(Contact, contact.id) is not None


def test_tokens_are_forgotten_even_if_salesforce_does_not_answer(desk: ConnectingDesk) -> None:
    desk.connect()
    connection = desk.connection()
    desk.org.trouble.add("server_unavailable_html", kind="revoke")
    assert not connections.disconnect(connection, keep_contacts=True, access=desk.access)
    assert connection.refresh_token_sealed is None
    assert connection.status_reason == DisconnectReason.REVOKE_FAILED


def test_removing_the_contacts_leaves_no_one_behind(desk: ConnectingDesk) -> None:
    desk.connect()
    connection = desk.connection()
    make_contact(connection)
    by_hand = make_contact(desk.advisor)
    db.session.add(LedgerEntry(connection_id=connection.id, salesforce_id="003000000000001AAA", outcome="synced"))
    connection.watermark = utcnow()
    db.session.commit()
    connections.disconnect(connection, keep_contacts=False, access=desk.access)
    assert db.session.scalars(select(Contact.id)).all() == [by_hand.id]
    assert db.session.scalars(select(LedgerEntry)).all() == []
    assert connection.watermark is None


def test_a_run_that_is_under_way_ends_with_the_connection(desk: ConnectingDesk) -> None:
    desk.connect()
    connection = desk.connection()
    run_id = make_run(connection, "running", lease="mine", lease_until=utcnow() + timedelta(minutes=1)).id
    connections.disconnect(connection, keep_contacts=False, access=desk.access)
    run = db.session.get_one(SyncRun, run_id)
    assert run.is_cancelled
    assert run.lease is None


def test_the_callback_is_the_one_that_firms_register(desk: ConnectingDesk) -> None:
    assert desk.begin().count(
        "redirect_uri=http%3A%2F%2F127.0.0.1%3A5000%2Fsalesforce%2Fsalesforce_as%2Flogin%2Fcallback%2F"
    )
    assert CALLBACK.endswith("/salesforce/salesforce_as/login/callback/")


def test_a_stopped_firms_permissions_are_revoked_side_by_side(desk: ConnectingDesk) -> None:
    """The org answers none of the calls until all six have come: one after the other, each would run out of time."""
    for name in ("Bob Stone", "Charlie Reyes", "Dana Holt"):
        advisor = make_advisor(desk.partner, name=name)
        first, second = (desk.org.add_user(name=f"{name} {n}", username=f"{n}{name[0]}@x.example") for n in (1, 2))
        desk.connect(first, advisor)
        desk.connect(second, advisor)  # waits for a decision
    desk.org.trouble.add("slow", path="/services/oauth2/revoke", seconds=20, gate=threading.Barrier(6))
    with writing():
        assert offboarding.stop(desk.partner, desk.access) == offboarding.GivenBack(3, 0)
    assert desk.approvals() == []


def test_only_accounts_that_are_connected_make_one_of_another_org_the_odd_one_out(app: Flask) -> None:
    partner = make_partner()
    mine, other = (make_connection(make_advisor(partner), org_id=f"00D5g00000{end}EAA") for end in ("AAAAA", "BBBBB"))
    assert connections.is_odd_one_out(mine)
    other.status = ConnectionStatus.DISCONNECTED
    db.session.commit()
    assert not connections.is_odd_one_out(mine)
    another_firms = make_connection(org_id="00D5g00000BBBBBEAA")
    assert not connections.is_odd_one_out(another_firms)
