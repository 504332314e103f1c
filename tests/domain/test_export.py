"""The export: the contract's columns, cells that no spreadsheet runs, memory that stays flat."""

from __future__ import annotations

import csv
import gc
import io
import tracemalloc

import pytest
from flask import Flask
from sqlalchemy import event, insert, update
from sqlalchemy.orm import Session

from asapp.contacts import lists, suppressions
from asapp.contacts.export import ROWS_A_PIECE, iter_csv
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Contact, ContactSource, SuppressionSource, SuppressionStep, User
from tests.factories import make_advisor, make_connection, make_contact, make_synced_connection
from tests.senders import hash_of, make_person

HEADER = "salesforce_id,first_name,last_name,email,source,status,reason,lists"


def text_of(user: User) -> str:
    return "".join(iter_csv(user.id, utcnow()))


def rows_of(user: User) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text_of(user))))


def test_the_header_is_the_contracts(app: Flask) -> None:
    assert text_of(make_advisor()) == f"{HEADER}\r\n"


def test_one_row_a_contact_in_any_state(app: Flask) -> None:
    connection = make_synced_connection()
    alice = connection.user
    make_contact(connection, last_name="active")
    make_contact(connection, last_name="opted_out", opted_out=True)
    make_contact(connection, last_name="twin_opted_out", is_twin=True)
    make_contact(connection, last_name="hidden_here", hidden_at=utcnow())
    for reason in ("deleted", "merged", "reassigned", "gone"):
        make_contact(connection, last_name=reason, departed=reason)
    make_contact(make_connection(alice, status="disconnected"), last_name="disconnected")
    make_contact(alice, last_name="active")
    rows = rows_of(alice)
    assert len(rows) == 10
    assert all((row["reason"] or "active") == row["last_name"] for row in rows)
    assert all(row["status"] == ("inactive" if row["reason"] else "active") for row in rows)


@pytest.mark.parametrize("step", [SuppressionStep.UNSUBSCRIBED, SuppressionStep.COMPLAINED, SuppressionStep.BOUNCED])
def test_what_people_told_us_is_a_reason_in_the_export(app: Flask, step: SuppressionStep) -> None:
    alice = make_advisor()
    assert alice.partner is not None
    make_person(alice, "ruth@river.example")
    where = suppressions.Address(alice.partner.id, alice.id, hash_of("ruth@river.example", alice.partner))
    suppressions.store([suppressions.Happened(where, step, SuppressionSource.SENDER, utcnow())])
    assert [(row["status"], row["reason"]) for row in rows_of(alice)] == [("inactive", step.value)]


def test_unknown_opt_outs_are_a_reason_in_the_export(app: Flask) -> None:
    connection = make_connection()
    make_contact(connection)
    assert [(row["status"], row["reason"]) for row in rows_of(connection.user)] == [("inactive", "opt_out_unknown")]


def test_ids_and_sources(app: Flask) -> None:
    connection = make_synced_connection()
    alice = connection.user
    contact = make_contact(connection)
    make_contact(alice)
    make_contact(alice, source=ContactSource.LEAD)
    make_contact(alice, source=ContactSource.LEAD, salesforce_id="00Q5g000001AbCdEAK")
    assert {(row["salesforce_id"], row["source"]) for row in rows_of(alice)} == {
        (contact.salesforce_id, "salesforce"),
        ("", "manual"),
        ("", "lead"),
        ("00Q5g000001AbCdEAK", "lead"),
    }


def test_contacts_without_an_email_and_other_advisors_contacts_are_left_out(app: Flask) -> None:
    connection = make_synced_connection()
    make_contact(connection, departed="no_email")
    make_contact(make_advisor(connection.user.partner, "Bob Ferreira"))
    assert rows_of(connection.user) == []


def test_lists_are_joined_the_syncs_first(app: Flask) -> None:
    connection = make_synced_connection()
    contact = make_contact(connection, last_name="A")
    make_contact(connection, last_name="B", departed="gone")
    for name in ("Year-end review", "Ärzte"):
        lists.add_members(lists.create_list(connection.user_id, name), [contact.id])
    assert [row["lists"] for row in rows_of(connection.user)] == ["Salesforce Contacts;Year-end review;Ärzte", ""]


def test_each_cell_that_people_fill_is_neutralised(app: Flask) -> None:
    alice = make_advisor()
    contact = make_contact(alice, first_name="=cmd|' /C calc'!A0", last_name="@x", email="+a@b.example")
    for name in ("Plain", "=Letter"):
        lists.add_members(lists.create_list(alice.id, name), [contact.id])
    (row,) = rows_of(alice)
    assert row["first_name"] == "'=cmd|' /C calc'!A0"
    assert (row["last_name"], row["email"]) == ("'@x", "'+a@b.example")
    assert set(row["lists"].split(";")) == {"Plain", "'=Letter"}


def test_commas_quotes_and_lines_survive(app: Flask) -> None:
    alice = make_advisor()
    make_contact(alice, first_name='Jo "Joe"', last_name="Smith, Jr.\nEsq.")
    (row,) = rows_of(alice)
    assert (row["first_name"], row["last_name"]) == ('Jo "Joe"', "Smith, Jr.\nEsq.")


def fill(user: User, count: int) -> int:
    rows = [
        {"user_id": user.id, "source": "manual", "last_name": f"L{i}", "email": f"{i}@b.example"} for i in range(count)
    ]
    db.session.execute(insert(Contact), rows)
    db.session.commit()
    return user.id


def peak_of(user_id: int) -> int:
    gc.collect()
    tracemalloc.start()
    for _ in iter_csv(user_id, utcnow()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_six_times_the_contacts_take_the_same_memory(app: Flask) -> None:
    few, many = fill(make_advisor(name="Few"), 2500), fill(make_advisor(name="Many"), 15_000)
    peak_of(few)  # warms the caches up
    assert peak_of(many) < 1.3 * peak_of(few)


def test_queries_grow_with_the_pieces_and_not_with_the_rows(app: Flask) -> None:
    user_id = fill(make_advisor(), 5000)
    statements: list[str] = []
    record = lambda *args: statements.append(args[2])  # noqa: E731
    event.listen(db.engine, "before_cursor_execute", record)
    pieces = list(iter_csv(user_id, utcnow()))
    event.remove(db.engine, "before_cursor_execute", record)
    assert len(pieces) == 1 + 5000 // ROWS_A_PIECE
    assert len([each for each in statements if each.startswith("SELECT")]) == 1 + 5000 // ROWS_A_PIECE


def test_contacts_that_a_sync_renames_meanwhile_are_in_the_file_once(app: Flask) -> None:
    user_id = fill(make_advisor(), 3 * ROWS_A_PIECE)
    pieces = iter_csv(user_id, utcnow())
    text = next(pieces) + next(pieces)
    with writing(), Session(db.engine) as sync:
        sync.execute(update(Contact).where(Contact.email == "0@b.example").values(search_key="zzz"))
        sync.execute(update(Contact).where(Contact.email == "2999@b.example").values(search_key="aaa"))
        sync.commit()
    emails = [row["email"] for row in csv.DictReader(io.StringIO(text + "".join(pieces)))]
    assert sorted(emails) == sorted(f"{i}@b.example" for i in range(3 * ROWS_A_PIECE))
