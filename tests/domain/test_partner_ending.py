"""Disabling a firm, and deleting it with all its data."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import requests
import requests_mock
from flask import Flask, current_app
from flask.testing import FlaskClient
from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, event, func, select, text
from sqlalchemy.orm import Session

from asapp.accounts import users
from asapp.connections import switching
from asapp.core.clock import utcnow
from asapp.core.database import Base
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.core.stopping import StopRequested
from asapp.leads import consent
from asapp.leads import outbox as leads_outbox
from asapp.leads.delivery import LeadMeter
from asapp.models import (
    Connection,
    ConnectionStatus,
    ConsentEvent,
    ConsentKind,
    ConsentSource,
    Contact,
    Lead,
    OptOutWrite,
    Partner,
    PendingGrant,
    RunStatus,
    SecondFactor,
    Send,
    SendReason,
    SendState,
    SyncRun,
    User,
)
from asapp.models.run import ACTIVE
from asapp.partners import offboarding, partners
from asapp.salesforce.hosts import to_18
from asapp.salesforce.oauth import Grant, Identity
from asapp.sends import prepare, sends
from asapp.sync.runs import LeasedRun
from asapp.writeback import outbox as opt_outs_outbox
from asapp.writeback.delivery import OptOutMeter
from tests.factories import (
    ORG_ID,
    PASSWORD,
    log_in,
    make_admin,
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
    make_run,
    org_access,
    save,
)
from tests.mailing import send_waiting_mails
from tests.senders import Sender, make_key, make_list, make_person, make_system_list

PATH = "/admin/partners/northgate"
REVOKE = "https://northgate.my.salesforce.com/services/oauth2/revoke"


@pytest.fixture
def ada(app: Flask, client: FlaskClient) -> User:
    made = make_admin()
    log_in(client, made)
    return made


@pytest.fixture
def revoking(app: Flask) -> Any:
    with requests_mock.Mocker() as salesforce:
        yield salesforce.post(REVOKE)


@pytest.fixture
def outbox(app: Flask) -> list[Any]:
    mailman = app.extensions["mailman"]
    mailman.outbox = []
    found: list[Any] = mailman.outbox
    return found


def a_firm_at_work() -> tuple[Partner, User, Connection]:
    partner = make_partner(name="Northgate Wealth", slug="northgate")
    alice = make_advisor(partner, name="Alice Moreau", email="alice@northgate.example")
    make_advisor(partner, name="Bob Gone", deactivated_at=utcnow())
    connection = make_connection(alice)
    make_contact(connection, first_name="Zoë", last_name="Lindström", email="zoe@fjord.example")
    make_contact(alice, last_name="Byhand", email="byhand@fjord.example")
    make_run(connection)
    lead = Lead(
        user_id=alice.id,
        partner_id=partner.id,
        first_name="Rose",
        last_name="Gonzalez",
        email="rose@fjord.example",
        address_hash=b"x" * 32,
        details={"k": {"client_address": "203.0.113.7"}},
    )
    save(lead)
    consent.record(lead.id, ConsentKind.OPTED_IN, ConsentSource.FORM, utcnow())
    db.session.commit()
    return partner, alice, connection


def dump(but: Sequence[str] = ()) -> str:
    tables = [table for table in Base.metadata.sorted_tables if table.name not in but]
    return "\n".join(str(tuple(row)) for t in tables for row in db.session.execute(text(f"SELECT * FROM {t.name}")))


def test_disabling_keeps_permissions_and_informs_the_active_advisors(
    client: FlaskClient, ada: User, outbox: list[Any], revoking: Any
) -> None:
    partner, alice, connection = a_firm_at_work()
    client.post(f"{PATH}/disable", data={"tokens": "keep"})
    db.session.rollback()
    assert not partner.is_enabled
    assert connection.is_connected
    assert revoking.call_count == 0
    send_waiting_mails()
    assert [letter.to for letter in outbox] == [[alice.email]]
    assert "will go on by themselves" in outbox[0].body
    client.post(f"{PATH}/disable")
    assert send_waiting_mails() == 0


def test_disabling_gives_permissions_back_where_that_is_chosen(
    client: FlaskClient, ada: User, outbox: list[Any], revoking: Any
) -> None:
    partner, _alice, connection = a_firm_at_work()
    page = client.get(client.post(f"{PATH}/disable", data={"tokens": "revoke"}).location).text
    assert "1 advisor is disconnected." in page
    assert "An email to 1 advisor is on its way." in page
    db.session.rollback()
    assert connection.is_disconnected
    assert connection.refresh_token_sealed is None
    assert revoking.call_count == 1
    send_waiting_mails()
    assert "you will have to connect again" in outbox[0].body
    assert db.session.scalar(select(func.count()).select_from(Contact)) == 2
    client.post(f"{PATH}/enable")
    assert db.session.get_one(Partner, partner.id).is_ready


def test_stop_everything_ends_all_at_once_and_enable_undoes_it(
    client: FlaskClient, ada: User, outbox: list[Any], revoking: Any
) -> None:
    partner, _alice, connection = a_firm_at_work()
    run = make_run(connection, RunStatus.RUNNING, lease="held", lease_until=utcnow())
    asked = client.get(f"{PATH}/stop").text
    assert "1 advisor is disconnected." in asked
    page = client.get(client.post(f"{PATH}/stop").location).text
    assert "Everything is stopped for Northgate Wealth." in page
    assert "An email to 1 advisor is on its way." in page
    db.session.expire_all()
    assert not partner.is_enabled
    assert connection.is_disconnected
    assert connection.refresh_token_sealed is None
    assert run.status == RunStatus.CANCELLED
    assert revoking.call_count == 1
    assert db.session.scalars(select(PendingGrant)).all() == []
    page = client.get("/admin/audit").text
    assert "Stopped everything for a firm" in page
    client.post(f"{PATH}/enable")
    assert db.session.get_one(Partner, partner.id).is_ready


def test_while_a_firm_is_stopped_no_one_is_written_to_and_every_place_says_why(
    client: FlaskClient, ada: User, revoking: Any
) -> None:
    _partner, alice, connection = a_firm_at_work()
    connection.opt_outs_known_until = utcnow() + timedelta(days=1)
    browser = make_client_of(alice)
    zoe, theirs = make_person(alice, "zoe.byhand@fjord.example"), make_person(connection, "theirs@fjord.example")
    mine, all_of_salesforce = make_list(alice, "Mine", zoe), make_system_list(alice)
    send = sends.start_send(0, "ready", mine, 60)
    prepare.advance(send.id, lambda _ids: True)
    sender = Sender(client, make_key())
    paths = [f"/lists/{each.public_id}/recipients" for each in (mine, all_of_salesforce)] + ["/sends/ready/recipients"]
    asked = {"advisor_id": alice.public_id, "emails": [zoe.email, theirs.email, "no@fjord.example"]}

    def told() -> tuple[list[int], list[str | None], list[int], set[str]]:
        """Return how many recipients each list has, the reasons of may-send, counts of active ones, the file's reasons."""
        db.session.rollback()
        recipients = [len(sender.get(path).get_json()["recipients"]) for path in paths]
        reasons = [each["reason"] for each in sender.post("/may-send", asked).get_json()["results"]]
        active = [each["active"] for each in sender.get("/advisors").get_json()["advisors"]]
        rows = csv.DictReader(io.StringIO(browser.get("/contacts/export.csv").text))
        return recipients, reasons, active, {row["reason"] for row in rows}

    assert told() == ([1, 1, 1], [None, None, "not_a_contact"], [4], {""})
    before = client.get(f"{PATH}/stop").text
    assert "So do contacts added by hand and by sign-up, until the firm is enabled" in before
    client.post(f"{PATH}/stop")
    assert told() == ([0, 0, 0], ["disconnected", "disconnected", "not_a_contact"], [0], {"disconnected"})
    page = unescape(browser.get(f"/contacts/{zoe.id}").text)
    assert "AdvisorStream has switched Salesforce off for your firm" in page
    assert "Salesforce is switched off for your firm" in unescape(browser.get(f"/contacts/why?person={zoe.email}").text)
    client.post(f"{PATH}/enable")
    assert told() == ([1, 0, 1], [None, "disconnected", "not_a_contact"], [2], {"", "disconnected"})


def test_stop_everything_ends_deliveries_and_sends_that_are_under_way(
    client: FlaskClient, ada: User, revoking: Any
) -> None:
    partner, alice, connection = a_firm_at_work()
    partner.writes_opt_outs_back = True
    make_person(connection, "theirs@fjord.example")
    save(
        OptOutWrite(
            user_id=alice.id, connection_id=connection.id, salesforce_id=to_18("003000000000001"), kind="Contact"
        )
    )
    send = sends.start_send(0, "preparing", make_system_list(alice), 60)
    prepare.advance(send.id, lambda _ids: True)
    leads = LeadMeter(db.engine, connection.id, partner.id, lambda: False)
    leads.begin_round(leads_outbox.claim(alice.id, partner.id, 10)[0])
    opt_outs = OptOutMeter(db.engine, connection.id, partner.id, lambda: False)
    opt_outs.round = opt_outs_outbox.claim(connection.id, 10)[0]
    db.session.commit()
    for before_call in (leads, opt_outs):
        before_call()
    assert db.session.get_one(Send, send.id, populate_existing=True).is_preparing
    client.post(f"{PATH}/stop")
    for before_call in (leads, opt_outs):
        with pytest.raises((StopRequested, LeaseLost)):
            before_call()
    assert [each.can_deliver(db.session(), connection.id) for each in (leads_outbox, opt_outs_outbox)] == [False, False]
    prepare.advance(send.id, lambda _ids: True)
    ended = db.session.get_one(Send, send.id, populate_existing=True)
    assert (ended.state, ended.reason) == (SendState.REFUSED, SendReason.NOT_SET_UP)
    assert db.session.scalars(select(OptOutWrite.state)).all() == ["waiting"], "it is told once the firm is enabled"


def test_all_is_stopped_here_before_salesforce_is_called_whatever_it_answers(app: Flask) -> None:
    partner, _, connection = a_firm_at_work()
    others = [make_connection(make_advisor(partner, name=f"Advisor {number}")) for number in range(11)]
    for each in others:
        make_run(each, RunStatus.QUEUED)
    seen = []

    def look(_request: Any, context: Any) -> str:
        with Session(engine) as other:
            of_firm = (Connection.partner_id == partner_id, Connection.status != ConnectionStatus.DISCONNECTED)
            connected = other.scalar(select(func.count()).select_from(Connection).where(*of_firm))
            seen.append(
                (connected, other.scalar(select(func.count()).select_from(SyncRun).where(SyncRun.status.in_(ACTIVE))))
            )
        context.status_code = 503
        return ""

    partner_id, engine = partner.id, db.engine
    with requests_mock.Mocker() as salesforce:
        salesforce.post(REVOKE, text=look)
        assert offboarding.stop(partner, org_access()) == offboarding.GivenBack(12, 12)
    assert seen == [(0, 0)] * 10, "the other two have to wait: Salesforce heard none of these"
    db.session.expire_all()
    assert connection.is_disconnected


def test_a_firm_is_disabled_and_its_syncs_are_cancelled_before_its_connections_end_one_by_one(app: Flask) -> None:
    partner, _, connection = a_firm_at_work()
    make_run(connection, RunStatus.RUNNING, lease="held", lease_until=utcnow())
    is_enabled = select(Partner.is_enabled).where(Partner.id == partner.id)
    active = select(func.count()).select_from(SyncRun).where(SyncRun.status.in_(ACTIVE))
    seen: list[tuple[Any, Any]] = []
    engine = db.engine

    def look(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE connections"):
            with Session(engine) as other:
                seen.append((other.scalar(is_enabled), other.scalar(active)))

    event.listen(engine, "before_cursor_execute", look)
    try:
        with requests_mock.Mocker() as salesforce:
            salesforce.post(REVOKE)
            offboarding.stop(partner, org_access())
    finally:
        event.remove(engine, "before_cursor_execute", look)
    assert seen[0] == (False, 0)


def test_a_stop_whose_process_died_after_disabling_the_firm_is_finished_by_the_tick(app: Flask) -> None:
    partner, _, connection = a_firm_at_work()
    access = org_access()

    class Killed(BaseException):
        pass

    def die(*_rest: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offboarding, "_end_connections", die)
        with pytest.raises(Killed):
            offboarding.stop(partner, access)
    db.session.rollback()
    assert (partner.is_enabled, connection.is_disconnected) == (False, False)
    assert offboarding.finish_stops(access) == 0, "it may still be at work"
    partner.stop_began_at = utcnow() - offboarding.STOP_TAKES - timedelta(seconds=1)
    db.session.commit()
    assert offboarding.finish_stops(access) == 1
    assert connection.is_disconnected
    assert db.session.scalars(select(PendingGrant.partner_id)).all() == [partner.id]
    assert offboarding.finish_stops(access) == 0


def test_a_firm_that_was_enabled_again_is_not_stopped_later(app: Flask) -> None:
    partner, _, connection = a_firm_at_work()
    partner.is_enabled, partner.stop_began_at = False, utcnow() - timedelta(hours=1)
    db.session.commit()
    partners.enable(partner)
    assert offboarding.finish_stops(org_access()) == 0
    assert not connection.is_disconnected


def make_client_of(person: User) -> FlaskClient:
    """Return a second browser, in which this person is logged in."""
    other: FlaskClient = current_app.test_client()
    log_in(other, person)
    return other


def test_stop_everything_stops_here_while_salesforce_is_away_and_revokes_later(client: FlaskClient, ada: User) -> None:
    _partner, _alice, connection = a_firm_at_work()
    refresh_token = connection.unseal(org_access().vault, "refresh_token_sealed")
    with requests_mock.Mocker() as salesforce:
        salesforce.post(REVOKE, status_code=503)
        page = client.get(client.post(f"{PATH}/stop").location).text
        assert "Salesforce has not confirmed 1 revocation yet" in page
        db.session.expire_all()
        assert connection.is_disconnected
        assert connection.refresh_token_sealed is None
        heard = salesforce.post(REVOKE)
        assert switching.revoke_expired(org_access(), utcnow() + switching.ASK_AGAIN_AFTER) == 1
        assert refresh_token in heard.last_request.text
    assert db.session.scalars(select(PendingGrant)).all() == []


def stop_a_firm_of(number: int) -> None:
    partner, _, _ = a_firm_at_work()
    for one in range(1, number):
        make_connection(make_advisor(partner, name=f"Advisor {one}"), refresh_token=f"refresh-{one}")
    with requests_mock.Mocker() as salesforce:
        salesforce.post(REVOKE, exc=requests.ConnectTimeout)
        assert offboarding.stop(partner, org_access()).unheard == number


def test_while_salesforce_is_away_a_tick_asks_ten_times_a_minute_for_all_of_a_firm(app: Flask) -> None:
    stop_a_firm_of(25)
    now = utcnow()
    with requests_mock.Mocker() as salesforce:
        away = salesforce.post(REVOKE, exc=requests.ConnectTimeout)
        for minutes in range(3):
            for seconds in (50, 65):
                switching.revoke_expired(org_access(), now + timedelta(minutes=minutes, seconds=seconds))
        assert away.call_count == 3 * 10


def test_permissions_that_are_refused_for_ever_do_not_keep_the_others_of_their_firm(app: Flask) -> None:
    stop_a_firm_of(21)
    now = utcnow()
    with requests_mock.Mocker() as salesforce:
        heard = salesforce.post(REVOKE)
        salesforce.post(REVOKE, status_code=500, additional_matcher=lambda call: "token=refresh-1" in call.text)
        for minutes in range(2, 30):
            switching.revoke_expired(org_access(), now + timedelta(minutes=minutes))
    assert heard.call_count == 10
    assert db.session.scalar(select(func.count()).select_from(PendingGrant)) == 11


def test_within_two_minutes_of_salesforce_being_back_all_is_revoked_also_what_it_had_refused(app: Flask) -> None:
    stop_a_firm_of(25)
    now = utcnow() + switching.SOON + timedelta(seconds=15)
    with requests_mock.Mocker() as salesforce:
        salesforce.post(REVOKE, status_code=503)
        assert switching.revoke_expired(org_access(), now) == 0
        heard = salesforce.post(REVOKE)
        assert switching.revoke_expired(org_access(), now + switching.SOON) == 25
    assert heard.call_count == 25
    assert db.session.scalars(select(PendingGrant)).all() == []


def test_after_an_hour_salesforce_is_asked_every_quarter_of_an_hour(app: Flask) -> None:
    stop_a_firm_of(1)
    now = utcnow()
    with requests_mock.Mocker() as salesforce:
        away = salesforce.post(REVOKE, status_code=503)
        for minutes in range(61, 91):
            switching.revoke_expired(org_access(), now + timedelta(minutes=minutes))
    assert away.call_count == 2


def test_stop_everything_revokes_the_connection_and_the_grant_that_waits_for_a_decision(app: Flask) -> None:
    partner, alice, connection = a_firm_at_work()
    access = org_access()
    connected = connection.unseal(access.vault, "refresh_token_sealed")
    grant = Grant("access", "waiting-refresh", partner.salesforce_url, ORG_ID, "0055g00000AbCdEAAV", "api")
    switching.put_pending(alice, partner.id, grant, Identity("jonas@northgate.example", "Jonas", ""), access)
    with requests_mock.Mocker() as salesforce:
        salesforce.post(REVOKE, status_code=503)
        assert offboarding.stop(partner, access).unheard == 2
        heard = salesforce.post(REVOKE)
        assert switching.revoke_expired(access, utcnow() + switching.ASK_AGAIN_AFTER) == 2
        revoked = " ".join(call.text for call in heard.request_history)
    assert connected in revoked
    assert "waiting-refresh" in revoked
    assert db.session.scalars(select(PendingGrant)).all() == []


def test_what_a_process_that_died_was_revoking_is_revoked_soon_after(app: Flask) -> None:
    partner, _, _ = a_firm_at_work()
    access = org_access()
    with requests_mock.Mocker() as salesforce:
        salesforce.post(REVOKE, exc=SystemExit)  # the process ends during the call
        with pytest.raises(SystemExit):
            offboarding.stop(partner, access)
        db.session.rollback()
        assert db.session.scalar(select(Connection.refresh_token_sealed)) is None
        salesforce.post(REVOKE)
        assert switching.revoke_expired(access, utcnow()) == 0, "another process may be at it"
        assert switching.revoke_expired(access, utcnow() + switching.CLAIM) == 1


def test_disabling_stops_the_runs_that_wait_or_are_under_way(app: Flask) -> None:
    partner, _, connection = a_firm_at_work()
    running = make_run(connection, RunStatus.RUNNING, lease="held", lease_until=utcnow())
    waiting = make_run(make_connection(make_advisor(partner, name="Bob Stone")), RunStatus.QUEUED)
    elsewhere = make_run(make_connection(make_advisor(name="Charlie Reyes")), RunStatus.QUEUED)
    offboarding.disable(partner, False, org_access())
    db.session.expire_all()
    assert [(run.status, run.error_code) for run in (running, waiting)] == [("cancelled", "firm_disabled")] * 2
    assert elsewhere.is_queued
    with pytest.raises(LeaseLost):
        LeasedRun(running, "held").write(read=1)


def test_deleting_gives_back_a_grant_that_waits_for_a_decision(app: Flask, revoking: Any) -> None:
    partner, alice, _ = a_firm_at_work()
    access = org_access()
    grant = Grant("access", "waiting-refresh", partner.salesforce_url, ORG_ID, "0055g00000AbCdEAAV", "api")
    switching.put_pending(alice, partner.id, grant, Identity("jonas@northgate.example", "Jonas", ""), access)
    offboarding.delete_partner(partner, access)
    assert any("waiting-refresh" in call.text for call in revoking.request_history)


def test_deleting_asks_for_the_name(client: FlaskClient, ada: User) -> None:
    a_firm_at_work()
    assert "Delete Northgate Wealth?" in client.get(f"{PATH}/delete").text
    for typed in ("", "northgate wealth", "Northgate"):
        refused = client.post(f"{PATH}/delete", data={"confirm_name": typed})
        assert refused.status_code == 422
        assert "exactly as it stands above" in refused.text
    assert client.get(PATH).status_code == 200


def test_a_deleted_firm_leaves_no_name_no_address_and_no_key(client: FlaskClient, ada: User, revoking: Any) -> None:
    partner, alice, _connection = a_firm_at_work()
    partner_id, alice_id, email = partner.id, alice.id, alice.email
    response = client.post(f"{PATH}/delete", data={"confirm_name": " Northgate  Wealth "})
    assert response.status_code == 303
    assert "Northgate Wealth is deleted" in client.get(response.location).text
    assert client.get(PATH).status_code == 404
    left = dump(but=("second_factors",))  # the admin's own, who stays
    for word in ("Northgate", "Alice", "Bob", email, "Zoë", "zoe@", "Byhand", "Rose", "rose@", "203.0.113.7", "v1."):
        assert word not in left, word
    assert db.session.scalars(select(SecondFactor.user_id)).all() == [ada.id]
    for table in (Connection, Contact, SyncRun):
        assert db.session.scalar(select(func.count()).select_from(table)) == 0
    kinds = db.session.scalars(select(ConsentEvent.kind).order_by(ConsentEvent.id)).all()
    assert kinds == [ConsentKind.OPTED_IN, ConsentKind.ERASED]
    assert not db.session.get_one(User, alice_id).is_active
    assert db.session.get_one(Partner, partner_id).deleted_at
    assert users.log_in(email, PASSWORD) is None
    assert revoking.call_count == 1


def test_a_connection_that_goes_is_not_looked_for_in_every_row() -> None:
    """Each reference to it has an index that begins with that column; otherwise a delete would scan all contacts."""
    for table in Base.metadata.sorted_tables:
        keys = (
            *table.indexes,
            *(c for c in table.constraints if isinstance(c, PrimaryKeyConstraint | UniqueConstraint)),
        )
        found_at_once = {next(iter(key.columns)).name for key in keys if len(key.columns)}
        refer = {key.parent.name for key in table.foreign_keys if key.column.table.name == "connections"}
        assert refer <= found_at_once, table.name


def test_another_firm_is_untouched(client: FlaskClient, ada: User, revoking: Any) -> None:
    a_firm_at_work()
    other = make_partner(name="Fjord", slug="fjord")
    charlie = make_advisor(other, name="Charlie")
    contact = make_contact(make_connection(charlie))
    client.post(f"{PATH}/delete", data={"confirm_name": "Northgate Wealth"})
    db.session.rollback()
    assert db.session.get(Contact, contact.id)
    assert users.log_in(charlie.email, PASSWORD)
    assert client.get("/admin/partners/fjord").status_code == 200


def test_a_name_can_be_used_again(client: FlaskClient, ada: User, revoking: Any) -> None:
    a_firm_at_work()
    client.post(f"{PATH}/delete", data={"confirm_name": "Northgate Wealth"})
    response = client.post("/admin/partners/new", data={"name": "Northgate", "slug": "northgate"})
    assert response.location == PATH


def test_a_firm_can_be_deleted_while_salesforce_is_away(client: FlaskClient, ada: User) -> None:
    a_firm_at_work()
    with requests_mock.Mocker() as salesforce:
        salesforce.post("https://northgate.my.salesforce.com/services/oauth2/revoke", status_code=503)
        response = client.post(f"{PATH}/delete", data={"confirm_name": "Northgate Wealth"})
    assert "Salesforce did not hear of 1" in client.get(response.location).text
