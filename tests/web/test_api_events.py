"""A sender's events: stored before the answer, once, and one bad event stops no other."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape
from sqlalchemy import event, func, select

from asapp.contacts.removal import remove_contacts
from asapp.contacts.sender_events import EventType, Taken, Told, record_events
from asapp.contacts.suppressions import Happened
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.leads.decisions import erase
from asapp.models import SuppressionEvent, SuppressionSource, SuppressionWords, User
from tests.factories import log_in, make_advisor, make_partner, make_synced_connection, org_access
from tests.mail_links import record
from tests.senders import Sender, make_key, make_list, make_person

GOOD = "someone@fjord.example"
AT = "2026-05-03T09:15:00Z"


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(make_partner(), "Alice Moreau")


@pytest.fixture
def sender(client: FlaskClient, alice: User) -> Sender:
    return Sender(client, make_key())


def an_event(alice: User, number: object = 1, **changes: Any) -> dict[str, Any]:
    usual = {"id": f"event-{number}", "type": "unsubscribed", "advisor_id": alice.public_id, "email": GOOD, "at": AT}
    return {name: value for name, value in (usual | changes).items() if value is not ...}


def tell(sender: Sender, *events: Any) -> list[dict[str, Any]]:
    response = sender.post("/events", {"events": list(events)})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.get_json()["results"]
    assert len(results) == len(events)
    return results


def stored() -> list[SuppressionEvent]:
    db.session.rollback()
    return list(db.session.scalars(select(SuppressionEvent).order_by(SuppressionEvent.id)))


@pytest.mark.parametrize("kind", [*EventType])
def test_an_event_is_stored_and_holds(kind: EventType, sender: Sender, alice: User) -> None:
    clients = make_list(alice, "Clients", make_person(alice, GOOD))
    told = an_event(alice, type=kind.value, email=f" {GOOD.upper()} ", detail={"smtp": "550"})
    assert tell(sender, told) == [{"id": "event-1", "result": "accepted", "error": None}]
    (row,) = stored()
    assert (row.step, row.source, row.sender_event_id) == (kind.value, SuppressionSource.SENDER, "event-1")
    assert row.at == datetime(2026, 5, 3, 9, 15, tzinfo=UTC)
    assert sender.get(f"/lists/{clients.public_id}/recipients").get_json()["recipients"] == []
    verdict = sender.post("/may-send", {"advisor_id": alice.public_id, "emails": [GOOD]}).get_json()["results"]
    assert verdict[0]["reason"] == kind.value


# (what the sender says, what the contact's page shows)
DETAILS = [
    ("550 5.1.1 No such user", "550 5.1.1 No such user"),
    ({"smtp": "550", "text": "<b>ü</b>"}, '{"smtp":"550","text":"<b>ü</b>"}'),
    (["a", 1], '["a",1]'),
    (" two\r\nlines\x00\t \u202eand more ", "two lines and more"),
    (f"550 <{GOOD.upper()}>: rejected", "550 <this address>: rejected"),
    ("x" * 5000, "x" * 500),
]


@pytest.mark.parametrize(("detail", "words"), DETAILS)
def test_the_senders_own_words_stand_on_the_contacts_page(
    detail: Any, words: str, client: FlaskClient, sender: Sender, alice: User
) -> None:
    contact = make_person(alice, GOOD)
    tell(sender, an_event(alice, type="bounced", detail=detail))
    log_in(client, alice)
    assert f"“{escape(words)}”" in client.get(f"/contacts/{contact.id}").text


def test_the_words_of_a_repeated_event_are_the_first_ones(sender: Sender, alice: User) -> None:
    make_person(alice, GOOD)
    tell(sender, an_event(alice, detail="first"), an_event(alice, detail="second"))
    tell(sender, an_event(alice, detail="third"))
    assert db.session.scalars(select(SuppressionWords.words)).all() == ["first"]


def test_each_contact_with_the_address_has_the_words_and_no_other(sender: Sender, alice: User) -> None:
    assert alice.partner
    bob = make_advisor(alice.partner, "Bob Tanner")
    both = {make_person(alice, GOOD).id, make_person(alice, GOOD).id}
    make_person(alice, "other@fjord.example")
    make_person(bob, GOOD)
    tell(sender, an_event(alice, detail="550 No such user"))
    assert set(db.session.scalars(select(SuppressionWords.contact_id))) == both


@pytest.mark.parametrize("detail", [..., None, "", " \x00\n "])
def test_a_detail_that_says_nothing_is_not_stored(detail: Any, sender: Sender, alice: User) -> None:
    make_person(alice, GOOD)
    tell(sender, an_event(alice, detail=detail))
    assert words_stored() == []


def test_an_event_about_no_contact_keeps_no_words(sender: Sender, alice: User) -> None:
    tell(sender, an_event(alice, detail="550 No such user"))
    assert len(stored()) == 1
    assert words_stored() == []


def test_a_detail_that_is_nested_too_deeply_stops_no_event(sender: Sender, alice: User) -> None:
    make_person(alice, GOOD)
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    assert tell(sender, an_event(alice, detail=deep))[0]["result"] == "accepted"
    assert words_stored() == []


def test_the_words_go_when_the_person_is_erased_and_the_event_stays(sender: Sender, alice: User) -> None:
    contact = make_person(make_synced_connection(alice), GOOD)
    tell(sender, an_event(alice, detail="Zoe hung up"))
    assert words_stored() == ["Zoe hung up"]
    erase(alice.id, contact)
    assert words_stored() == []
    assert len(stored()) == 1


def test_the_words_go_when_a_contact_is_deleted(sender: Sender, alice: User) -> None:
    contact = make_person(alice, GOOD)
    tell(sender, an_event(alice, detail="Zoe hung up"))
    remove_contacts(alice.id, [contact.id])
    assert words_stored() == []


def words_stored() -> list[str]:
    db.session.rollback()
    return list(db.session.scalars(select(SuppressionWords.words)))


def test_an_address_that_is_no_contact_is_remembered(sender: Sender, alice: User) -> None:
    tell(sender, an_event(alice))
    verdict = sender.post("/may-send", {"advisor_id": alice.public_id, "emails": [GOOD]}).get_json()["results"]
    assert verdict[0]["reason"] == "unsubscribed"


def test_a_repeated_event_is_a_duplicate(sender: Sender, alice: User) -> None:
    assert tell(sender, an_event(alice))[0]["result"] == "accepted"
    again = tell(sender, an_event(alice), an_event(alice, 2), an_event(alice, 2, email="other@fjord.example"))
    assert [each["result"] for each in again] == ["duplicate", "accepted", "duplicate"]
    assert len(stored()) == 2


def test_an_id_counts_for_each_advisor_alone(sender: Sender, alice: User) -> None:
    assert alice.partner
    bob = make_advisor(alice.partner, "Bob Tanner")
    assert [each["result"] for each in tell(sender, an_event(alice), an_event(bob))] == ["accepted", "accepted"]
    assert {row.user_id for row in stored()} == {alice.id, bob.id}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ...}, "id"),
        ({"id": 5}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 101}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"type": ...}, "type"),
        ({"type": "opened"}, "type"),
        ({"type": ["unsubscribed"]}, "type"),
        ({"type": "opted_in"}, "type"),
        ({"advisor_id": ...}, "advisor_id"),
        ({"advisor_id": "nobody"}, "advisor_id"),
        ({"advisor_id": {"$ne": ""}}, "advisor_id"),
        ({"email": ...}, "email"),
        ({"email": "not an address"}, "email"),
        ({"email": "a@b." + "c" * 300}, "email"),
        ({"email": None}, "email"),
        ({"at": ...}, "at"),
        ({"at": "yesterday"}, "at"),
        ({"at": "2026-05-03T09:15:00"}, "at"),
        ({"at": 1777799700}, "at"),
        ({"at": "1999-12-31T23:59:59Z"}, "at"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "at"),
    ],
)
def test_a_bad_event_says_why_and_stops_no_other(
    changes: dict[str, Any], field: str, sender: Sender, alice: User
) -> None:
    bad = an_event(alice, "bad") | changes
    bad = {name: value for name, value in bad.items() if value is not ...}
    results = tell(sender, an_event(alice, 1), bad, an_event(alice, 2))
    assert [each["result"] for each in results] == ["accepted", "invalid", "accepted"]
    assert results[1]["error"].startswith(f"{field}: ")
    given = bad.get("id")
    assert results[1]["id"] == (given if isinstance(given, str) else None)
    assert len(stored()) == 2


@pytest.mark.parametrize("bad", [None, 5, "text", [], True])
def test_what_is_no_event_at_all(bad: Any, sender: Sender, alice: User) -> None:
    results = tell(sender, bad, an_event(alice))
    assert [each["result"] for each in results] == ["invalid", "accepted"]
    assert results[0]["id"] is None


@pytest.mark.parametrize("at", ["2999-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"])
def test_the_future_is_taken_as_now(at: str, sender: Sender, alice: User) -> None:
    (result,) = tell(sender, an_event(alice, at=at))
    assert result["result"] == "accepted"
    (row,) = stored()
    assert utcnow() - row.at < timedelta(minutes=1)


def test_an_advisor_who_was_deactivated_still_hears_of_it(sender: Sender, alice: User) -> None:
    """The mail was sent earlier; the person must not be written to when the advisor comes back."""
    alice.deactivated_at = utcnow()
    db.session.commit()
    assert tell(sender, an_event(alice))[0]["result"] == "accepted"


def test_nul_is_no_way_in(sender: Sender, alice: User) -> None:
    results = tell(sender, an_event(alice, id="a\x00b", email="a\x00@b.example"), an_event(alice, 2, advisor_id="\x00"))
    assert [each["result"] for each in results] == ["accepted", "invalid"]


def test_a_thousand_events_are_few_statements(sender: Sender, alice: User) -> None:
    events = [an_event(alice, number, email=f"{number}@fjord.example") for number in range(1000)]
    commits, statements = [], []

    def count_commit(_connection: object) -> None:
        commits.append(True)

    def collect_statement(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(db.engine, "commit", count_commit)
    event.listen(db.engine, "after_cursor_execute", collect_statement)
    try:
        results = tell(sender, *events)
    finally:
        event.remove(db.engine, "commit", count_commit)
        event.remove(db.engine, "after_cursor_execute", collect_statement)
    assert {each["result"] for each in results} == {"accepted"}
    assert db.session.scalar(select(func.count()).select_from(SuppressionEvent)) == 1000
    assert len(commits) <= 5  # the key's use, the firm's key, and the events
    assert len(statements) < 60


def test_the_same_call_twice_at_once_stores_once(app: Flask, alice: User) -> None:
    """Also if the same id comes with different addresses, which have different locks."""
    vault, public_id = org_access().vault, alice.public_id

    def record_all(number: int) -> list[Taken]:
        told = [
            Told(f"event-{n}", EventType.UNSUBSCRIBED, public_id, f"{n}.{number % 2}@fjord.example", utcnow())
            for n in range(20)
        ]
        with app.app_context(), writing():
            try:
                return record_events(told, None, vault, record)
            finally:
                db.session.remove()

    db.session.rollback()
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(record_all, range(8)))
    assert all(len(outcome) == 20 for outcome in outcomes)
    accepted = [number for outcome in outcomes for number, taken in enumerate(outcome) if taken == Taken.ACCEPTED]
    assert sorted(accepted) == list(range(20))
    assert sorted(row.sender_event_id or "" for row in stored()) == sorted(f"event-{n}" for n in range(20))


def test_an_event_that_another_call_has_just_stored_is_a_duplicate(app: Flask, alice: User) -> None:
    """Both calls check whether the event is known, and one is faster to store it."""
    told = [Told("event-1", EventType.UNSUBSCRIBED, alice.public_id, "zoe@fjord.example", utcnow())]

    def record_as_second(happened: Collection[Happened]) -> Collection[Happened]:
        record(happened)
        return record(happened)

    assert record_events(told, None, org_access().vault, record_as_second) == [Taken.DUPLICATE]
    assert len(stored()) == 1


def test_many_events_are_one_transaction_and_as_many_statements_as_two(sender: Sender, alice: User) -> None:
    asked: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    def commit(_connection: Any) -> None:
        asked.append("COMMIT")

    def count(prefix: str, events: int) -> tuple[int, int]:
        asked.clear()
        event.listen(db.engine, "before_cursor_execute", hear)
        event.listen(db.engine, "commit", commit)
        results = tell(
            sender, *(an_event(alice, f"{prefix}{n}", email=f"{prefix}{n}@x.example") for n in range(events))
        )
        event.remove(db.engine, "before_cursor_execute", hear)
        event.remove(db.engine, "commit", commit)
        assert {each["result"] for each in results} == {"accepted"}
        return len(asked), asked.count("COMMIT")

    count("first", 1)  # the use of the key is written
    few = count("few", 2)
    assert few[1] == 1
    many = count("many", 300)
    assert many[0] <= few[0]  # fewer on PostgreSQL, which gets many rows by COPY
    assert many[1] == 1


def test_ids_of_events_may_hold_commas(sender: Sender, alice: User) -> None:
    tell(sender, an_event(alice, "a,b"))
    results = tell(sender, an_event(alice, "a,b"), an_event(alice, "a"), an_event(alice, "b,c"))
    assert [each["result"] for each in results] == ["duplicate", "accepted", "accepted"]
