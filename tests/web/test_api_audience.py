"""What a sender reads: advisors and their lists, recipients, and whether an address may be written to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, update

from asapp.connections.connections import find_latest
from asapp.contacts.recipients import ReadTooSlowly, Recipient, iter_recipients, prepare
from asapp.contacts.suppressions import Address, Happened
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.codes import Code
from asapp.models import (
    Connection,
    ConnectionStatus,
    Contact,
    ContactList,
    ContactSource,
    Departure,
    DepartureState,
    ListKind,
    RunStatus,
    SuppressionSource,
    SuppressionStep,
    User,
)
from asapp.panel import load
from asapp.salesforce.hosts import to_18
from tests.factories import make_advisor, make_partner, make_run, make_synced_connection, make_twin, org_access, save
from tests.mail_links import record
from tests.senders import Sender, hash_of, make_key, make_list, make_person, make_system_list, problem_of

GOOD = "someone@fjord.example"


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(make_partner(), "Alice Moreau")


@pytest.fixture
def connection(alice: User) -> Connection:
    return make_synced_connection(alice)


@pytest.fixture
def sender(client: FlaskClient, alice: User) -> Sender:
    return Sender(client, make_key())


def recipients(sender: Sender, contact_list: ContactList, query: str = "") -> list[dict[str, Any]]:
    response = sender.get(f"/lists/{contact_list.public_id}/recipients{query}")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.get_json()["recipients"]
    return found


def addresses(sender: Sender, contact_list: ContactList) -> set[str]:
    return {each["email"] for each in recipients(sender, contact_list)}


def verdict(sender: Sender, advisor: User, email: str) -> dict[str, Any]:
    response = sender.post("/may-send", {"advisor_id": advisor.public_id, "emails": [email]})
    assert response.status_code == 200, response.text
    (result,) = response.get_json()["results"]
    assert result["email"] == email
    assert result["may_send"] == (result["reason"] is None)
    return dict(result)


def hold(connection: Connection, salesforce_id: str | None) -> Departure:
    run = make_run(connection, RunStatus.HELD, finished_at=utcnow())
    departure = Departure(
        connection_id=connection.id,
        salesforce_id=salesforce_id,
        reason="gone",
        state=DepartureState.HELD,
        found_in_run_id=run.id,
        was_read=False,
    )
    save(departure)
    return departure


def suppress(advisor: User, email: str, step: SuppressionStep, *, whole_firm: bool = False) -> None:
    assert advisor.partner
    address = Address(advisor.partner.id, None if whole_firm else advisor.id, hash_of(email, advisor.partner))
    record([Happened(address, step, SuppressionSource.PAGE, utcnow())])


# ---- Recipients


def test_a_recipient_has_every_documented_field(sender: Sender, alice: User, connection: Connection) -> None:
    zoe = make_person(connection, GOOD, first_name='=HYPERLINK("x")', last_name="O'Neil\n<b>")
    clients = make_list(alice, "Clients", zoe)
    (told,) = recipients(sender, clients)
    assert set(told) == {
        *("contact_id", "salesforce_id", "source", "first_name", "last_name", "email", "also", "unsubscribe_url")
    }
    assert told["salesforce_id"] == zoe.salesforce_id
    assert told["source"] == "salesforce"
    assert (told["first_name"], told["last_name"]) == ('=HYPERLINK("x")', "O'Neil\n<b>")
    assert told["also"] == []
    assert len(told["contact_id"]) == 22
    assert str(zoe.id) != told["contact_id"]


def test_the_unsubscribe_link_works(sender: Sender, client: FlaskClient, alice: User) -> None:
    clients = make_list(alice, "Clients", make_person(alice, GOOD))
    (told,) = recipients(sender, clients)
    path = told["unsubscribe_url"].removeprefix("http://127.0.0.1:5000")
    assert path.startswith("/u/")
    response = client.post(path, data={"List-Unsubscribe": "One-Click"}, forged=True)
    assert response.status_code == 200
    assert recipients(sender, clients) == []
    assert verdict(sender, alice, GOOD)["reason"] == "unsubscribed"


def test_ids_stay_and_differ(sender: Sender, alice: User) -> None:
    clients = make_list(alice, "Clients", *(make_person(alice, f"{n}@fjord.example") for n in range(3)))
    first = {each["contact_id"] for each in recipients(sender, clients)}
    assert len(first) == 3
    assert {each["contact_id"] for each in recipients(sender, clients)} == first


@pytest.mark.parametrize(
    "columns",
    [
        {"opted_out": True},
        {"departed": "deleted"},
        {"departed": "gone"},
        {"hidden_at": utcnow()},
        {"erased_at": utcnow()},
        {"left_firm_id": 1},
        {"opt_out_known_until": utcnow() - timedelta(minutes=1)},
    ],
)
def test_who_is_inactive_is_no_recipient(
    columns: dict[str, Any], sender: Sender, alice: User, connection: Connection
) -> None:
    kept, left = make_person(connection, "kept@fjord.example"), make_person(connection, GOOD, **columns)
    assert addresses(sender, make_list(alice, "Clients", kept, left)) == {"kept@fjord.example"}
    assert verdict(sender, alice, GOOD)["may_send"] is False


def test_a_twin_of_an_opted_out_record_is_no_recipient(sender: Sender, alice: User, connection: Connection) -> None:
    zoe = make_person(connection, GOOD)
    make_twin(zoe)
    assert recipients(sender, make_list(alice, "Clients", zoe)) == []
    assert verdict(sender, alice, GOOD)["reason"] == "twin_opted_out"


@pytest.mark.parametrize("step", [SuppressionStep.UNSUBSCRIBED, SuppressionStep.COMPLAINED, SuppressionStep.BOUNCED])
def test_who_is_suppressed_is_no_recipient(
    step: SuppressionStep, sender: Sender, alice: User, connection: Connection
) -> None:
    clients = make_list(alice, "Clients", make_person(connection, GOOD))
    assert addresses(sender, clients) == {GOOD}
    suppress(alice, GOOD.upper(), step)
    assert recipients(sender, clients) == []
    assert verdict(sender, alice, GOOD)["reason"] == step.value


def test_a_whole_firm_is_suppressed_with_each_of_its_advisors(sender: Sender, alice: User) -> None:
    assert alice.partner
    bob = make_advisor(alice.partner, "Bob Tanner")
    of_bob = make_list(bob, "Clients", make_person(bob, GOOD))
    suppress(alice, GOOD, SuppressionStep.UNSUBSCRIBED, whole_firm=True)
    assert recipients(sender, of_bob) == []
    assert verdict(sender, bob, GOOD)["reason"] == "unsubscribed"
    assert verdict(sender, alice, GOOD)["reason"] == "unsubscribed"  # though she has no such contact


def test_a_connection_that_ended_has_no_recipients(sender: Sender, alice: User, connection: Connection) -> None:
    clients = make_list(alice, "Clients", make_person(connection, GOOD))
    connection.status = ConnectionStatus.DISCONNECTED
    db.session.commit()
    assert recipients(sender, clients) == []
    assert verdict(sender, alice, GOOD)["reason"] == "disconnected"


def test_who_is_held_is_left_out_until_it_is_decided(sender: Sender, alice: User, connection: Connection) -> None:
    kept, held = make_person(connection, "kept@fjord.example"), make_person(connection, GOOD)
    clients = make_list(alice, "Clients", kept, held)
    departure = hold(connection, held.salesforce_id)
    assert addresses(sender, clients) == {"kept@fjord.example"}
    assert verdict(sender, alice, GOOD)["reason"] == "held"
    departure.state = DepartureState.DISCARDED
    db.session.commit()
    assert addresses(sender, clients) == {"kept@fjord.example", GOOD}
    assert verdict(sender, alice, GOOD)["may_send"] is True


def test_who_is_held_and_inactive_has_the_reason_of_the_inactive(
    sender: Sender, alice: User, connection: Connection
) -> None:
    hold(connection, make_person(connection, GOOD, opted_out=True).salesforce_id)
    assert verdict(sender, alice, GOOD)["reason"] == "opted_out"


def test_contacts_with_one_address_are_one_recipient(sender: Sender, alice: User, connection: Connection) -> None:
    now = utcnow()
    older = make_person(connection, GOOD, first_name="Older", changed_at=now - timedelta(days=2))
    newest = make_person(connection, GOOD.title(), first_name="Newest", changed_at=now)
    middle = make_person(alice, GOOD, first_name="Middle", changed_at=now - timedelta(days=1))
    other = make_person(connection, "other@fjord.example")
    clients = make_list(alice, "Clients", older, newest, middle, other)
    told = {each["email"].lower(): each for each in recipients(sender, clients)}
    assert set(told) == {GOOD, "other@fjord.example"}
    assert told[GOOD]["first_name"] == "Newest"
    assert told[GOOD]["salesforce_id"] == newest.salesforce_id
    assert len(set(told[GOOD]["also"])) == 2
    assert told[GOOD]["contact_id"] not in told[GOOD]["also"]
    one_of_them = make_list(alice, "One", older)
    (alone,) = recipients(sender, one_of_them)
    assert alone["contact_id"] in told[GOOD]["also"]


def test_an_inactive_contact_with_the_address_removes_no_recipient_and_is_none(
    sender: Sender, alice: User, connection: Connection
) -> None:
    active = make_person(connection, GOOD)
    gone = make_person(connection, GOOD, departed="gone", changed_at=utcnow() + timedelta(minutes=1))
    (told,) = recipients(sender, make_list(alice, "Clients", active, gone))
    assert told["salesforce_id"] == active.salesforce_id
    assert told["also"] == []
    assert verdict(sender, alice, GOOD)["may_send"] is True


def test_the_lists_of_the_sync_have_recipients_too(sender: Sender, alice: User, connection: Connection) -> None:
    make_person(connection, GOOD)
    make_person(alice, "manual@fjord.example")
    assert addresses(sender, make_system_list(alice)) == {GOOD}
    assert recipients(sender, make_system_list(alice, ListKind.SALESFORCE_LEADS)) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
def test_each_recipient_is_on_one_page(limit: int, sender: Sender, alice: User, connection: Connection) -> None:
    people = [make_person(connection, f"{n // 2}@fjord.example") for n in range(12)]  # each address twice
    clients = make_list(alice, "Clients", *people)
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor:
        query = f"?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
        body = sender.get(f"/lists/{clients.public_id}/recipients{query}").get_json()
        assert len(body["recipients"]) <= limit
        found, cursor, pages = found + body["recipients"], body["next"], pages + 1
    assert [each["email"] for each in found] == list(dict.fromkeys(each["email"] for each in found))
    assert {each["email"] for each in found} == {f"{n}@fjord.example" for n in range(6)}
    assert all(len(each["also"]) == 1 for each in found)
    assert pages == -(-6 // limit)


def test_lines_hold_what_pages_hold(sender: Sender, alice: User, connection: Connection) -> None:
    clients = make_list(alice, "Clients", *(make_person(connection, f"{n}@fjord.example") for n in range(5)))
    response = sender.lines(f"/lists/{clients.public_id}/recipients")
    assert response.content_type == "application/x-ndjson"
    assert response.text.endswith("\n")
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert sorted(lines, key=itemgetter("email")) == sorted(recipients(sender, clients), key=itemgetter("email"))
    as_of = sender.get(f"/lists/{clients.public_id}/recipients").get_json()["as_of"]
    assert response.headers["X-Opt-Outs-As-Of"] == as_of
    assert "Accept" in response.headers["Vary"]


def test_an_empty_list_has_no_line(sender: Sender, alice: User) -> None:
    clients = make_list(alice)
    assert sender.lines(f"/lists/{clients.public_id}/recipients").text == ""
    assert sender.get(f"/lists/{clients.public_id}/recipients").get_json()["next"] is None


def test_more_people_than_are_read_at_once(sender: Sender, alice: User, connection: Connection) -> None:
    from asapp.contacts import recipients as module

    many = module.ROWS_AT_ONCE + 50
    assert alice.partner
    from asapp.contacts.addresses import address_hash, address_key
    from asapp.core.bulk import insert_many
    from asapp.models import Contact

    vault = org_access().vault
    key = address_key(db.session(), alice.partner, vault)
    rows = [
        {
            "user_id": alice.id,
            "source": "manual",
            "first_name": "N",
            "last_name": str(n),
            "email": f"{n}@many.example",
            "search_key": str(n),
            "address_hash": address_hash(f"{n}@many.example", key),
            "opted_out": False,
            "is_lead": False,
            "bounce_reason": "",
            "twin_opted_out": False,
            "created_at": utcnow(),
            "changed_at": utcnow(),
        }
        for n in range(many)
    ]
    insert_many(Contact.__table__, rows)  # type: ignore[arg-type]
    db.session.commit()
    clients = make_list(alice)
    db.session.execute(
        db.text("INSERT INTO list_members (list_id, contact_id) SELECT :l, id FROM contacts"), {"l": clients.id}
    )
    db.session.commit()
    lines = sender.lines(f"/lists/{clients.public_id}/recipients").text.splitlines()
    assert len({json.loads(line)["email"] for line in lines}) == many == len(lines)


def test_an_address_that_moves_to_another_contact_while_lines_are_read_is_told_once(
    alice: User, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asapp.contacts.recipients.ROWS_AT_ONCE", 2)
    people = [make_person(connection, f"{n}@fjord.example") for n in range(8)]
    days = {"Older": 2, "Newer": 1}
    shared = [
        make_person(
            connection, "shared@fjord.example", first_name=name, changed_at=utcnow() - timedelta(days=days[name])
        )
        for name in days
    ]
    found = audience_recipients(make_list(alice, "Clients", *people, *shared))
    told = [next(found)["email"]]
    moved = {"email": people[0].email, "address_hash": people[0].address_hash}
    left = {"email": "elsewhere@fjord.example", "address_hash": b"e" * 32}
    with db.engine.begin() as other:
        for person, values in ((people[0], left), (people[7], moved)):
            other.execute(update(Contact).where(Contact.id == person.id).values(values))
    rest = list(found)
    told += [each["email"] for each in rest]
    assert [(each["first_name"], len(each["also"])) for each in rest if each["also"]] == [("Newer", 1)]
    assert sorted(told) == [*(f"{n}@fjord.example" for n in range(8)), "shared@fjord.example"]


def test_lines_that_are_read_for_minutes_are_cut_off(
    alice: User, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asapp.contacts.recipients.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("asapp.contacts.recipients.READ_WITHIN_S", 1.0)
    found = audience_recipients(
        make_list(alice, "Clients", *(make_person(connection, f"{n}@fjord.example") for n in range(5)))
    )
    next(found)
    time.sleep(1.1)
    with pytest.raises(ReadTooSlowly):
        list(found)


def audience_recipients(contact_list: ContactList) -> Iterator[Recipient]:
    audience = prepare(contact_list, utcnow(), org_access().vault, "http://asapp.example")
    return iter_recipients(audience)


# ---- The age of the data


def as_of(sender: Sender, contact_list: ContactList) -> str | None:
    told: str | None = sender.get(f"/lists/{contact_list.public_id}/recipients").get_json()["as_of"]
    return told


def test_as_of_is_the_age_of_the_data_never_the_time_of_the_question(sender: Sender, alice: User) -> None:
    long_ago = utcnow().replace(microsecond=0) - timedelta(days=2)
    connection = make_synced_connection(alice, last_good_sync_at=long_ago)
    clients = make_list(alice, "Clients", make_person(connection, GOOD), make_person(alice, "manual@fjord.example"))
    assert as_of(sender, clients) == long_ago.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("columns", "expected_min"),
    [
        ({"watermark": 50}, 50),  # the run took a while: what changed since its first query is not here
        ({"watermark": -2}, 45),  # Salesforce's clock is ahead of ours
        ({"watermark": 50, "leads_watermark": 90}, 90),  # its leads could not be read
        ({"watermark": 50, "open_leads_watermark": 95}, 95),
        ({"watermark": 50, "leads_watermark": 90, "leads_trouble": Code.LEADS_HIDDEN}, 50),  # no lead is written to
    ],
)
def test_data_is_as_old_as_the_question_that_brought_it(
    sender: Sender, alice: User, columns: dict[str, Any], expected_min: int
) -> None:
    now = utcnow().replace(microsecond=0)
    moments = {
        name: now - timedelta(minutes=value) if isinstance(value, int) else value for name, value in columns.items()
    }
    connection = make_synced_connection(alice, last_good_sync_at=now - timedelta(minutes=45), **moments)
    clients = make_list(alice, "Clients", make_person(connection, GOOD))
    expected = (now - timedelta(minutes=expected_min)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert as_of(sender, clients) == expected
    (told,) = sender.get("/advisors").get_json()["advisors"]
    assert told["opt_outs_as_of"] == expected


def test_people_unknown_to_salesforce_are_as_of_now(sender: Sender, alice: User) -> None:
    make_synced_connection(alice, last_good_sync_at=utcnow() - timedelta(days=2))
    clients = make_list(alice, "Clients", make_person(alice, GOOD))
    told = as_of(sender, clients)
    assert told
    assert utcnow() - datetime.fromisoformat(told) < timedelta(minutes=1)


def test_people_from_leads_are_as_old_as_the_account_that_follows_them(sender: Sender, alice: User) -> None:
    long_ago = utcnow().replace(microsecond=0) - timedelta(days=2)
    connection = make_synced_connection(alice, last_good_sync_at=long_ago)
    followed = {
        "source": ContactSource.LEAD,
        "followed_by_id": connection.id,
        "salesforce_id": to_18("00Q5g0000000001"),
    }
    clients = make_list(alice, "Clients", make_person(alice, GOOD, **followed))
    assert as_of(sender, clients) == long_ago.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_of_two_accounts_with_people_on_the_list_the_present_one_says_how_old_the_data_is(
    sender: Sender, alice: User
) -> None:
    now = utcnow().replace(microsecond=0)
    former = make_synced_connection(
        alice, status=ConnectionStatus.DISCONNECTED, last_good_sync_at=now - timedelta(days=9)
    )
    present = make_synced_connection(
        alice, salesforce_user_id="0055g00000OtherAAA", last_good_sync_at=now - timedelta(days=2)
    )
    clients = make_list(alice, "Clients", make_person(former, "former@fjord.example"), make_person(present, GOOD))
    assert as_of(sender, clients) == (now - timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_before_the_first_good_sync_nothing_is_known(sender: Sender, alice: User) -> None:
    connection = make_synced_connection(alice, last_good_sync_at=None, opt_outs_known_until=None)
    clients = make_list(alice, "Clients", make_person(connection, GOOD))
    assert as_of(sender, clients) is None
    assert recipients(sender, clients) == []
    assert sender.lines(f"/lists/{clients.public_id}/recipients").headers["X-Opt-Outs-As-Of"] == ""


# ---- Advisors


def test_an_advisor_is_listed_with_lists(sender: Sender, alice: User, connection: Connection) -> None:
    assert alice.partner
    person = make_person(connection, GOOD)
    make_person(connection, "out@fjord.example", opted_out=True)
    clients, system = make_list(alice, "Clients", person), make_system_list(alice)
    (told,) = sender.get("/advisors").get_json()["advisors"]
    assert connection.last_good_sync_at
    assert told == {
        "id": alice.public_id,
        "name": "Alice Moreau",
        "email": alice.email,
        "partner": alice.partner.slug,
        "state": "connected",
        "opt_outs_as_of": connection.last_good_sync_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "active": 1,
        "lists": [
            {"id": system.public_id, "name": "salesforce_contacts", "kind": "salesforce_contacts", "active": 1},
            {"id": clients.public_id, "name": "Clients", "kind": "own", "active": 1},
        ],
    }


def test_an_advisor_who_has_just_been_made(sender: Sender, alice: User) -> None:
    (told,) = sender.get("/advisors").get_json()["advisors"]
    assert (told["state"], told["opt_outs_as_of"], told["active"], told["lists"]) == ("ready", None, 0, [])


def test_the_state_is_the_panels(sender: Sender, alice: User, connection: Connection) -> None:
    assert alice.partner

    def state() -> str:
        (told,) = sender.get("/advisors").get_json()["advisors"]
        user = db.session.get_one(User, alice.id)
        latest = find_latest(user)
        panel = load.load_panel(user, latest, load.count_held_of(latest), org_access(), 15)
        assert told["state"] == panel.state
        return str(told["state"])

    assert state() == "connected"
    hold(connection, make_person(connection, GOOD).salesforce_id)
    assert state() == "held"
    failed = make_run(connection, RunStatus.FAILED, finished_at=utcnow(), error_code="opt_out_hidden")
    assert state() in ("waiting_for_admin", "held")
    db.session.delete(failed)
    run = make_run(connection, RunStatus.RUNNING)
    assert state() == "syncing"
    run.status = RunStatus.COMPLETE
    run.finished_at = utcnow()
    alice.partner.paused_until = utcnow() + timedelta(hours=1)
    db.session.query(Departure).delete()
    db.session.commit()
    assert state() == "paused"
    connection.status = ConnectionStatus.NEEDS_RECONNECT
    db.session.commit()
    assert state() == "needs_reconnect"
    connection.status = ConnectionStatus.DISCONNECTED
    db.session.commit()
    assert state() == "disconnected"
    alice.partner.is_enabled = False
    db.session.commit()
    assert state() == "not_set_up"


def test_who_was_deactivated_sends_nothing(sender: Sender, alice: User) -> None:
    clients = make_list(alice, "Clients", make_person(alice, GOOD))
    alice.deactivated_at = utcnow()
    db.session.commit()
    assert sender.get("/advisors").get_json()["advisors"] == []
    assert problem_of(sender.get(f"/lists/{clients.public_id}/recipients")) == "not-found"
    body = {"advisor_id": alice.public_id, "emails": [GOOD]}
    assert problem_of(sender.post("/may-send", body)) == "not-found"


def test_advisors_are_found_by_firm_and_address(sender: Sender, alice: User) -> None:
    charlie = make_advisor(make_partner("Harbour Chou"), "Charlie Chou")
    assert alice.partner
    assert charlie.partner

    def names(query: str) -> list[str]:
        return sorted(each["name"] for each in sender.get(f"/advisors{query}").get_json()["advisors"])

    assert names("") == ["Alice Moreau", "Charlie Chou"]
    assert names(f"?partner={alice.partner.slug}") == ["Alice Moreau"]
    assert names(f"?email={charlie.email.upper()}") == ["Charlie Chou"]
    assert names(f"?email={charlie.email}&partner={alice.partner.slug}") == []
    assert names("?email=nobody@fjord.example") == []
    assert problem_of(sender.get("/advisors?partner=nobodys")) == "not-found"


@pytest.mark.parametrize("query", ["emial=alice@x.example", "=", "email=alice@x.example&page=2"])
def test_a_parameter_that_there_is_not_is_refused(sender: Sender, alice: User, query: str) -> None:
    refused = sender.get(f"/advisors?{query}")
    assert (refused.status_code, problem_of(refused)) == (422, "invalid")


def test_many_advisors_take_as_many_queries_as_few(sender: Sender, alice: User) -> None:
    assert alice.partner
    asked: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    def count() -> tuple[int, int]:
        asked.clear()
        event.listen(db.engine, "before_cursor_execute", hear)
        found = sender.get("/advisors").get_json()["advisors"]
        event.remove(db.engine, "before_cursor_execute", hear)
        assert all((each["active"], each["lists"][0]["active"]) == (2, 1) for each in found)
        return len(found), len(asked)

    def fill(advisor: User) -> None:
        zoe = make_person(make_synced_connection(advisor), GOOD)
        make_person(advisor, "manual@fjord.example")
        make_person(advisor, "hidden@fjord.example", hidden_at=utcnow())
        make_list(advisor, "Clients", zoe)

    fill(alice)
    fill(make_advisor(alice.partner, "Bob Tremblay"))
    assert count()[0] == 2
    few = count()
    for number in range(6):
        fill(make_advisor(alice.partner, f"Advisor {number}"))
    assert count() == (8, few[1])


def test_advisors_come_in_pages(sender: Sender, alice: User) -> None:
    assert alice.partner
    for number in range(6):
        make_advisor(alice.partner, f"Advisor {number}")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        body = sender.get("/advisors?limit=3" + (f"&cursor={cursor}" if cursor else "")).get_json()
        found += [each["name"] for each in body["advisors"]]
        cursor = body["next"]
    assert len(found) == len(set(found)) == 7
    assert sender.get("/advisors?limit=7").get_json()["next"] is None, "a page that is just full is the last one"


# ---- May these be written to?


def test_each_address_has_its_answer_in_its_place(sender: Sender, alice: User, connection: Connection) -> None:
    make_person(connection, GOOD)
    make_person(connection, "out@fjord.example", opted_out=True)
    asked = [GOOD.upper(), "out@fjord.example", "nobody@fjord.example", GOOD, " ", "@", "not an address"]
    response = sender.post("/may-send", {"advisor_id": alice.public_id, "emails": asked})
    results = response.get_json()["results"]
    assert [each["email"] for each in results] == asked
    assert [each["reason"] for each in results] == [
        *(None, "opted_out", "not_a_contact", None),
        *("not_a_contact", "not_a_contact", "not_a_contact"),
    ]


@pytest.mark.parametrize("is_newest_hidden", [True, False])
def test_of_several_contacts_with_an_address_one_that_is_active_is_enough(
    sender: Sender, connection: Connection, alice: User, is_newest_hidden: bool
) -> None:
    now = utcnow()
    older, newest = (make_person(connection, GOOD, changed_at=now - timedelta(days=days)) for days in (2, 1))
    hidden, active = (newest, older) if is_newest_hidden else (older, newest)
    hidden.hidden_at = now
    db.session.commit()
    assert verdict(sender, alice, GOOD)["may_send"] is True
    active.hidden_at = now
    db.session.commit()
    assert verdict(sender, alice, GOOD)["reason"] == "hidden_here"


def test_domains_in_both_forms_are_one(sender: Sender, alice: User) -> None:
    make_person(alice, "zoe@münchen.example")
    assert verdict(sender, alice, "zoe@xn--mnchen-3ya.example")["may_send"] is True


def test_another_advisors_contact_is_none_of_mine(sender: Sender, alice: User) -> None:
    assert alice.partner
    make_person(make_advisor(alice.partner, "Bob Tanner"), GOOD)
    assert verdict(sender, alice, GOOD)["reason"] == "not_a_contact"


def test_a_person_who_was_erased_is_no_contact(sender: Sender, alice: User) -> None:
    make_person(alice, GOOD, erased_at=utcnow())
    assert verdict(sender, alice, GOOD)["reason"] == "not_a_contact"


@pytest.mark.parametrize("id_of", ["nobody", "1", "0", "\x00", "' OR 1=1"])
def test_an_advisor_who_is_not_there(id_of: str, sender: Sender, alice: User) -> None:
    response = sender.post("/may-send", {"advisor_id": id_of, "emails": [GOOD]})
    assert problem_of(response) == "not-found"


@pytest.mark.parametrize("id_of", ["nothing", "1", "%00", "%27"])
def test_a_list_that_is_not_there(id_of: str, sender: Sender, alice: User) -> None:
    make_list(alice)
    assert problem_of(sender.get(f"/lists/{id_of}/recipients")) == "not-found"
