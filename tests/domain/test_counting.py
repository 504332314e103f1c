"""Books are counted and filtered by indexes, not row by row: the same has to come out as contact by contact."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Column, event, select
from sqlalchemy.sql import visitors

from asapp.contacts import lists, queries
from asapp.contacts.queries import STATES, ContactQuery, Count
from asapp.contacts.status import contact_rows, is_active, is_held, is_shown, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    Connection,
    ConnectionStatus,
    Contact,
    ContactSource,
    Departure,
    Lead,
    LeadState,
    ListMember,
    Reason,
    Suppression,
    User,
)
from asapp.models.contact import IS_EXCEPTION, State
from asapp.panel import changes
from asapp.panel.changes import Account, Wanted
from tests.factories import (
    make_advisor,
    make_contact,
    make_partner,
    make_run,
    make_synced_connection,
    make_twin,
    save,
)

BOOK = 120
NAMES = ("Ann Lee", "Lee Ann", "Zoe Lee", "Lindqvist Jonas")
NO_PEOPLE = select(db.literal(7))


def make_book(seed: int) -> tuple[User, list[Connection]]:
    """Return an advisor with contacts about which this and that is known, of connections in all states."""
    chance, now = random.Random(seed), utcnow()
    advisor = make_advisor(make_partner(skip_bounced=True))
    lists.ensure_system_lists(advisor.id, tuple(lists.SYSTEM_LIST_NAMES))
    later, past = now + timedelta(days=9), now - timedelta(days=1)
    connections = [
        make_synced_connection(advisor, open_leads_known_until=later, leads_known_until=later),
        make_synced_connection(advisor, status=ConnectionStatus.DISCONNECTED),
        make_synced_connection(advisor, status=ConnectionStatus.DISCONNECTED, opt_outs_known_until=past),
    ]
    if chance.random() < 0.3:
        connections[0].opt_outs_known_until = past
    if chance.random() < 0.5:
        connections[0].open_leads_known_until = chance.choice((past, None))
    for number in range(BOOK):
        make_one(advisor, chance.choice([connections[0], *connections]), number, chance, now)
    ids = db.session.scalars(select(Contact.id).where(Contact.user_id == advisor.id)).all()
    for name, size in (("Everybody", len(ids)), ("Half", len(ids) // 2), ("Few", 9), ("Empty", 0)):
        made = lists.create_list(advisor.id, name)
        save(*(ListMember(list_id=made.id, contact_id=each) for each in chance.sample(ids, size)))
    db.session.commit()
    return advisor, connections


def make_one(advisor: User, connection: Connection, number: int, chance: random.Random, now: datetime) -> None:
    first, last = chance.choice(NAMES).split()
    facts: dict[str, Any] = {"first_name": first, "last_name": last, "email": f"person.{number}@fjord.example"}
    facts["address_hash"] = hashlib.sha256(f"{chance.randrange(BOOK)}".encode()).digest()
    special: list[dict[str, Any]] = [
        {"opted_out": True},
        {"departed": chance.choice(["deleted", "merged", "reassigned", "gone", "no_email"])},
        {"hidden_at": now},
        {"hidden_at": now, "erased_at": now},
        {"left_firm_id": 12345},
        {"bounced_at": now, "bounced_hash": facts["address_hash"]},
        {"opt_out_known_until": chance.choice([now - timedelta(days=1), now + timedelta(days=1)])},
        {"is_lead": True},
    ]
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        facts |= chance.choice(special)
    source = chance.choice([*[ContactSource.SALESFORCE] * 4, *ContactSource])
    record, lead = f"003{number:012d}AAA", f"00Q{number:012d}AAA"
    if source == ContactSource.SALESFORCE:
        contact = make_contact(connection, salesforce_id=chance.choice([record, record, record, lead]), **facts)
    elif source == ContactSource.SALESFORCE_LEAD:
        contact = make_contact(connection, source=source, salesforce_id=chance.choice([lead, lead, record]), **facts)
    else:
        followed = {"followed_by_id": connection.id, "salesforce_id": chance.choice([lead, None])}
        contact = make_contact(advisor, source=source, **facts, **(followed if source == ContactSource.LEAD else {}))
    make_beside(contact, number, chance, now)


def make_beside(contact: Contact, number: int, chance: random.Random, now: datetime) -> None:
    """Add what other tables know about a contact."""
    what = chance.randrange(12)
    if what == 0:
        make_twin(contact)
    elif what == 1 and not has_suppression(contact):
        times = {chance.choice(["unsubscribed_at", "complained_at", "bounced_at"]): now}
        partner_id = contact_owner(contact).partner_id
        save(
            Suppression(partner_id=partner_id, user_id=contact.user_id, address_hash=contact.address_hash, **times)  # type: ignore[arg-type]
        )
    elif what == 2 and contact.connection_id:
        held = {"state": "held", "reason": "gone", "found_in_run_id": 1, "was_read": False}
        save(Departure(connection_id=contact.connection_id, salesforce_id=contact.salesforce_id, **held))
    elif what == 3 and contact.source == ContactSource.LEAD:
        owner = contact_owner(contact)
        facts = {"first_name": contact.first_name, "last_name": contact.last_name, "email": contact.email}
        save(
            Lead(
                user_id=owner.id,
                partner_id=owner.partner_id,
                contact_id=contact.id,
                state=LeadState.FOR_REVIEW,
                signed_up_at=now,
                address_hash=hashlib.sha256(f"lead {number}".encode()).digest(),
                **facts,
            )
        )


def contact_owner(contact: Contact) -> User:
    return db.session.get_one(User, contact.user_id)


def has_suppression(contact: Contact) -> bool:
    same = (Suppression.user_id == contact.user_id, Suppression.address_hash == contact.address_hash)
    return db.session.scalar(select(Suppression.id).where(*same)) is not None


def one_by_one(user_id: int, now: datetime) -> list[Any]:
    """Return all contacts that are shown, each with its reason: decided about without any index of ours."""
    rows = contact_rows(Contact, reason_of(now).label("reason"), is_active(now).label("active"))
    return list(
        db.session.execute(rows.add_columns(is_held().label("held")).where(Contact.user_id == user_id, is_shown()))
    )


def count(rows: list[Any]) -> Count:
    return Count(len(rows), sum(bool(row.active) for row in rows))


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_contacts_one_by_one(app: Flask, seed: int) -> None:
    advisor, connections = make_book(seed)
    now = utcnow()
    rows = one_by_one(advisor.id, now)
    here = [row for row in rows if row.Contact.hidden_at is None]
    assert 0 < count(here).active < count(here).people  # not all alike
    overview = queries.count_contacts(advisor.id, now)
    assert overview.everybody == count(here)
    assert overview.hidden == len(rows) - len(here)
    assert len(overview.lists) == len(lists.SYSTEM_LIST_NAMES) + 4
    for contact_list, size in overview.lists:
        on_list = set(db.session.scalars(select(Contact.id).where(lists.is_on(contact_list))))
        assert size == count([row for row in here if row.Contact.id in on_list]), contact_list.name
    assert queries.count_active_contacts(advisor.id, now) == count(here).active
    for connection in connections:
        came = [row for row in rows if row.Contact.connection_id == connection.id]
        assert queries.count_of_connection(connection, NO_PEOPLE, now) == (count(came), 7)


@pytest.mark.parametrize("seed", range(4))
def test_each_filter_finds_those_that_have_the_state(app: Flask, seed: int) -> None:
    advisor, _connections = make_book(seed)
    now = utcnow()
    rows = one_by_one(advisor.id, now)
    here = [row for row in rows if row.Contact.hidden_at is None]
    overview = queries.count_contacts(advisor.id, now)
    shared = Counter(row.Contact.address_hash for row in here if row.Contact.departed is None)
    wanted_of: dict[str, Any] = {reason: lambda row, reason=reason: row.reason == reason for reason in Reason} | {
        "": lambda row: True,
        State.ACTIVE: lambda row: row.active,
        State.INACTIVE: lambda row: not row.active,
        State.HELD: lambda row: row.active and row.held,
        State.SHARES_ADDRESS: lambda row: row.Contact.departed is None and shared[row.Contact.address_hash] > 1,
    }
    assert set(wanted_of) == {"", *STATES}
    for state, is_wanted in wanted_of.items():
        among = [row for row in rows if row.Contact.hidden_at] if state == Reason.HIDDEN_HERE else here
        for source in ("", *ContactSource):
            wanted = ContactQuery(state=state, source=source)
            expected = {
                row.Contact.id
                for row in among
                if (state == Reason.HIDDEN_HERE or is_wanted(row)) and source in ("", row.Contact.source)
            }
            assert set(queries.find_ids(advisor.id, wanted, now)) == expected, (state, source)
            for counted in (overview, None):
                page = queries.find_page(advisor.id, wanted, now, counted)
                assert page.total == len(expected), (state, source)
                assert len(page.lines) == min(len(expected), queries.PAGE_SIZE)


@pytest.mark.parametrize("seed", range(2))
def test_a_search_finds_the_same_on_its_pages_as_contact_by_contact(app: Flask, seed: int) -> None:
    advisor, _connections = make_book(seed)
    now = utcnow()
    here = [row.Contact for row in one_by_one(advisor.id, now) if row.Contact.hidden_at is None]
    for typed in ("lee", "ann lee", "person.1", "qqq", "lindqvist"):
        words = typed.split()
        found = [each for each in here if all(word in each.search_key for word in words)]
        is_exact = [f"{typed} ", f"{' '.join(reversed(words))} "]
        found.sort(key=lambda each: (not each.search_key.startswith(tuple(is_exact)), each.search_key, each.id))
        shown: list[int] = []
        for number in range(1, 4):
            page = queries.find_page(advisor.id, ContactQuery(search=typed, page=number), now)
            assert page.total == len(found)
            shown += [line.contact.id for line in page.lines if page.number == number]
        assert shown == [each.id for each in found]


def test_a_run_created_as_many_as_are_shown(app: Flask) -> None:
    connection = make_synced_connection()
    run = make_run(connection, created=4, finished_at=utcnow())
    for facts in ({}, {"opted_out": True}, {"departed": "no_email"}, {"erased_at": utcnow(), "hidden_at": utcnow()}):
        make_contact(connection, created_in_run_id=run.id, **facts)
    now = utcnow()
    tally = changes.tally(Account.of(connection.user), Wanted(now - timedelta(hours=1), now + timedelta(hours=1)))
    assert tally["added"] == 2


# ---- What would make them wrong, or slow


def columns_of(*conditions: Any) -> set[str]:
    """Return the names of the columns of contacts that these conditions read."""
    elements = (each for condition in conditions for each in visitors.iterate(condition))
    return {each.name for each in elements if isinstance(each, Column) and each.table is Contact.__table__}


def test_whatever_decides_about_a_contact_itself_makes_it_an_exception(app: Flask) -> None:
    """A fact that is asked here, but not there, would be overlooked by each count."""
    now = utcnow()
    on_lists = [lists.is_on_system_list(kind) for kind in lists.SYSTEM_LIST_NAMES]
    asked = columns_of(reason_of(now, 1), is_active(now, 1), is_shown(), *on_lists)
    by_index = {
        "id",
        "user_id",
        "address_hash",
        "bounced_hash",
        "followed_by_id",
    }  # or only of those that are exceptions
    assert asked - by_index == set(re.findall(r"[a-z_]{6,}", re.sub(r"'\w+'", "", IS_EXCEPTION.text)))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_page_reads_a_book_row_by_row(app: Flask) -> None:
    connection = make_synced_connection()
    advisor, now = connection.user, utcnow()
    lists.ensure_system_lists(advisor.id)
    lists.add_members(lists.create_list(advisor.id, "Letter"), [make_contact(connection).id])
    make_contact(connection, opted_out=True)
    make_contact(connection, address_hash=b"x" * 32)
    run = make_run(connection, created=2, finished_at=now)
    statements: list[tuple[str, Any]] = []

    def keep(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        statements.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", keep)
    try:
        overview = queries.count_contacts(advisor.id, now)
        queries.count_active_contacts(advisor.id, now)
        queries.count_of_connection(connection, NO_PEOPLE, now)
        for state in STATES:
            queries.find_page(advisor.id, ContactQuery(state=state), now, overview)
        queries.find_page(advisor.id, ContactQuery(search="qqq"), now, overview)
        account, wanted = Account.of(advisor), Wanted(now - timedelta(days=1), now + timedelta(days=1))
        changes.first_of_each(account, wanted)
        changes.tally(account, wanted)
        changes.find_last_day(account, now)
    finally:
        event.remove(db.engine, "before_cursor_execute", keep)
    asked = [each for each in statements if "contacts" in each[0]]
    assert len(asked) > 15
    assert run.id
    with db.engine.connect() as other:
        for statement, parameters in asked:
            steps = [each[-1] for each in other.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            whole = r"SCAN contacts|contacts(_\d+)? USING INDEX ix_contacts_(user|address) \(user_id=\?\)"
            if "for_review" in statement and "consent_events" not in statement:
                assert not [step for step in steps if re.search(r"leads USING .*\(user_id=\?\)", step)], statement
            assert not [step for step in steps if re.search(whole, step)], (statement, steps)
