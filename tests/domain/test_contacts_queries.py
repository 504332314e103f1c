"""Which contacts an advisor has, and how they are found."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from asapp.contacts import lists, queries, recipients, removal
from asapp.contacts.export import iter_csv
from asapp.contacts.queries import PAGE_SIZE, STATES, ContactQuery
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Contact, ContactSource, ListKind, Reason, User
from asapp.models.search import SEARCH_KEY_LENGTH, search_key
from tests.factories import make_advisor, make_connection, make_contact, make_synced_connection, org_access, save
from tests.senders import make_system_list

HASH = hashlib.sha256(b"shared").digest()


def found(user: User, **wanted: object) -> list[str]:
    page = queries.find_page(user.id, ContactQuery(**wanted), utcnow())  # type: ignore[arg-type]
    return [line.contact.last_name for line in page.lines]


def test_advisors_see_only_their_own_contacts(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(alice.partner, "Bob Ferreira")
    make_contact(alice, last_name="Hers")
    his = make_contact(make_synced_connection(bob), last_name="His")
    assert found(alice) == ["Hers"]
    assert queries.find_contact(alice.id, his.id, utcnow()) is None
    assert queries.find_some(alice.id, [his.id], utcnow()) == []


def test_contacts_without_an_email_are_not_shown(app: Flask) -> None:
    connection = make_synced_connection()
    shell = make_contact(connection, departed="no_email", last_name="", first_name="", email="")
    assert found(connection.user) == []
    assert queries.find_contact(connection.user_id, shell.id, utcnow()) is None


def test_those_deleted_here_are_shown_where_they_are_asked_for(app: Flask) -> None:
    connection = make_synced_connection()
    make_contact(connection, last_name="Deleted", hidden_at=utcnow())
    make_contact(connection, last_name="Both", hidden_at=utcnow(), departed="gone")
    make_contact(connection, last_name="Here")
    assert found(connection.user) == ["Here"]
    assert found(connection.user, state=Reason.HIDDEN_HERE) == ["Both", "Deleted"]


def test_erased_people_are_not_shown(app: Flask) -> None:
    """A blank row represents them, so that a sync stores nothing about them; it counts as deleted here as well."""
    connection = make_synced_connection()
    advisor = connection.user
    erased = make_contact(connection, last_name="", first_name="", email="", erased_at=utcnow(), hidden_at=utcnow())
    make_contact(connection, last_name="Here", email="here@fjord.example")
    assert found(advisor) == ["Here"]
    assert found(advisor, state=Reason.HIDDEN_HERE) == []
    overview = queries.count_contacts(advisor.id, utcnow())
    assert (overview.everybody, overview.hidden) == ((1, 1), 0)
    assert queries.find_contact(advisor.id, erased.id, utcnow()) is None
    file = "".join(iter_csv(advisor.id, utcnow()))
    assert "here@fjord.example" in file
    assert (erased.salesforce_id or "") not in file
    assert removal.restore_contacts(advisor.id, [erased.id]) == 0


@pytest.mark.parametrize("typed", ["SZABÓ", "szabo", "Márta szab", "marta.szabo@DUNA", "szabó márta", "abó"])
def test_search_knows_no_case_and_no_accents(app: Flask, typed: str) -> None:
    """SQLite's own comparison folds only ASCII."""
    alice = make_advisor()
    make_contact(alice, first_name="Márta", last_name="Szabó", email="marta.szabo@duna.example")
    make_contact(alice, first_name="Jonas", last_name="Lindqvist", email="jonas@sjö.example")
    assert found(alice, search=typed) == ["Szabó"]


@pytest.mark.parametrize(
    ("typed", "last_name"),
    [("GROSS", "Groß"), ("ørsted", "Ørsted"), ("ΠΑΠΑΔΌΠΟΥΛΟΣ", "Παπαδόπουλος"), ("иванов", "Иванов"), ("김", "김")],
)
def test_search_in_other_scripts(app: Flask, typed: str, last_name: str) -> None:
    alice = make_advisor()
    make_contact(alice, last_name=last_name)
    make_contact(alice, last_name="Nobody")
    assert found(alice, search=typed) == [last_name]


@pytest.mark.parametrize("typed", ["Ann Lee", "lee ann", "Ann@Lee.example", "ánn  LEE"])
def test_a_search_shows_whose_whole_name_or_address_it_is_first(app: Flask, typed: str) -> None:
    alice = make_advisor()
    make_contact(alice, first_name="Zoe", last_name="Ann-Lee", email="zoe.ann@lee.example")
    make_contact(alice, first_name="Ann", last_name="Lee", email="ann@lee.example")
    make_contact(alice, first_name="Ann", last_name="Ashlee", email="first.ann@lee.example")
    assert found(alice, search=typed) == ["Lee", "Ann-Lee", "Ashlee"]
    assert found(alice) == ["Ann-Lee", "Ashlee", "Lee"]


@pytest.mark.parametrize("typed", ["%", "_", "/", "a%b", "'; drop table contacts; --", "\\"])
def test_what_means_something_to_a_database_means_nothing_in_a_search(app: Flask, typed: str) -> None:
    alice = make_advisor()
    make_contact(alice, last_name="Plain")
    assert found(alice, search=typed) == []


def test_the_key_follows_names_and_address_and_fits_its_column() -> None:
    assert search_key("Márta", "Szabó", "M@Duna.example") == "szabo marta m@duna.example"
    assert search_key("\u0301Ari", "Straße\u0301", "ünal@sjö.example") == "strasse ari unal@sjo.example"
    assert len(search_key("ﷺ" * 40, "ﷺ" * 80, "a@b.example")) == SEARCH_KEY_LENGTH


def test_a_row_gets_its_key_however_it_is_inserted(app: Flask) -> None:
    from sqlalchemy import insert

    alice = make_advisor()
    row = {"user_id": alice.id, "source": "manual", "first_name": "Åse", "last_name": "Berg", "email": "A@B.example"}
    db.session.execute(insert(Contact), [row])
    db.session.commit()
    assert found(alice, search="ase berg") == ["Berg"]


def test_state_filter(app: Flask) -> None:
    connection = make_synced_connection()
    make_contact(connection, last_name="Active")
    make_contact(connection, last_name="Out", opted_out=True)
    make_contact(connection, last_name="Twin", is_twin=True)
    for reason in ("deleted", "merged", "reassigned", "gone"):
        make_contact(connection, last_name=reason, departed=reason)
    alice = connection.user
    assert found(alice, state="active") == ["Active"]
    assert found(alice, state="inactive") == ["deleted", "gone", "merged", "Out", "reassigned", "Twin"]
    assert found(alice, state=Reason.OPTED_OUT) == ["Out"]
    assert found(alice, state=Reason.TWIN_OPTED_OUT) == ["Twin"]
    assert found(alice, state=Reason.GONE) == ["gone"]
    assert set(Reason) < set(STATES)


def test_reasons_of_the_connection_are_filters_too(app: Flask) -> None:
    alice = make_advisor()
    make_contact(make_connection(alice, status="disconnected"), last_name="Disconnected")
    make_contact(make_connection(alice), last_name="Unknown")
    assert found(alice, state=Reason.DISCONNECTED) == ["Disconnected"]
    assert found(alice, state=Reason.OPT_OUT_UNKNOWN) == ["Unknown"]


def test_source_and_list_filters(app: Flask) -> None:
    connection = make_synced_connection()
    alice = connection.user
    make_contact(connection, last_name="Salesforce")
    by_hand = make_contact(alice, last_name="Hand")
    letter = lists.create_list(alice.id, "Letter")
    lists.add_members(letter, [by_hand.id])
    assert found(alice, source=ContactSource.SALESFORCE) == ["Salesforce"]
    assert found(alice, contact_list=letter) == ["Hand"]
    assert found(alice, contact_list=letter, source=ContactSource.SALESFORCE) == []


def test_pages_are_whole_and_in_order_of_last_name(app: Flask) -> None:
    alice = make_advisor()
    names = [f"{letter}{number:02d}" for letter in ("a", "B", "ç", "D") for number in range(30)]
    save(*(Contact(user_id=alice.id, source="manual", last_name=name, email="x@y.example") for name in reversed(names)))
    pages = [queries.find_page(alice.id, ContactQuery(page=number), utcnow()) for number in (1, 2, 3)]
    assert [line.contact.last_name for page in pages for line in page.lines] == names
    assert [(page.first, page.last, page.total, page.has_next) for page in pages] == [
        (1, PAGE_SIZE, 120, True),
        (PAGE_SIZE + 1, 2 * PAGE_SIZE, 120, True),
        (2 * PAGE_SIZE + 1, 120, 120, False),
    ]


@pytest.mark.parametrize(("asked", "given"), [(0, 1), (-3, 1), (99, 1)])
def test_a_page_that_is_not_there_gives_the_nearest(app: Flask, asked: int, given: int) -> None:
    alice = make_advisor()
    make_contact(alice)
    assert queries.find_page(alice.id, ContactQuery(page=asked), utcnow()).number == given


def test_two_with_one_address_are_both_kept_and_flagged(app: Flask) -> None:
    """Rule contacts 5."""
    connection = make_synced_connection()
    karim = make_contact(connection, first_name="Karim", last_name="Benali", address_hash=HASH)
    aicha = make_contact(connection, first_name="Aïcha", last_name="Benali", address_hash=HASH)
    make_contact(connection, address_hash=HASH, departed="deleted")
    make_contact(connection, address_hash=HASH, hidden_at=utcnow())
    make_contact(connection)
    lines = queries.find_page(connection.user_id, ContactQuery(), utcnow()).lines
    flags = {line.contact.id: line.sharing for line in lines if line.sharing}
    assert flags == {karim.id: (aicha.id, "Aïcha Benali", 0), aicha.id: (karim.id, "Karim Benali", 0)}


def test_a_page_costs_the_same_number_of_queries_however_many_are_on_it(app: Flask) -> None:
    connection = make_synced_connection()
    letter = lists.create_list(connection.user_id, "Letter")

    def queries_of_a_page() -> int:
        statements: list[str] = []
        count = lambda *args: statements.append(args[2])  # noqa: E731
        event.listen(db.engine, "before_cursor_execute", count)
        queries.find_page(connection.user_id, ContactQuery(), utcnow())
        queries.count_contacts(connection.user_id, utcnow())
        event.remove(db.engine, "before_cursor_execute", count)
        db.session.rollback()
        return len([statement for statement in statements if statement.startswith("SELECT")])

    lists.add_members(letter, [make_contact(connection, address_hash=HASH).id for _ in range(2)])
    few = queries_of_a_page()
    lists.add_members(letter, [make_contact(connection, address_hash=HASH).id for _ in range(30)])
    for number in range(5):
        lists.create_list(connection.user_id, f"List {number}")
    assert queries_of_a_page() == few


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_no_plan_compares_each_contact_with_each_address(app: Flask) -> None:
    """As long as it has no statistics PostgreSQL plans for a handful of rows, and there may be 100,000 of both."""
    connection = make_synced_connection(make_advisor())
    for _ in range(2):
        make_contact(connection, address_hash=HASH)
    statements: list[tuple[str, Any]] = []

    def keep(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        statements.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", keep)
    try:
        queries.count_active_contacts(connection.user_id, utcnow())
        queries.count_contacts(connection.user_id, utcnow())
        for state in STATES:
            queries.find_page(connection.user_id, ContactQuery(state=state), utcnow())
        for each in (lists.create_list(connection.user_id, "Letter"), make_system_list(connection.user)):
            audience = recipients.prepare(each, utcnow(), org_access().vault, "http://asapp.example")
            assert len(list(recipients.iter_recipients(audience))) == int(each.kind == ListKind.SALESFORCE_CONTACTS)
    finally:
        event.remove(db.engine, "before_cursor_execute", keep)
    asked = [each for each in statements if each[0].startswith("SELECT")]
    assert len(asked) > 20
    cursor = db.session.connection().connection.cursor()
    for statement, parameters in asked:
        cursor.execute(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
        assert not re.search(r"Join Filter:.*address_hash", plan), plan
