"""No page asks the database more than twelve times or is larger than 100 KB, however many rows there are.

The pages are those of tests/route_access.py: a new one is among them by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, event, inspect, select

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import (
    Alert,
    AlertKind,
    ApiKey,
    AuditEntry,
    ConsentEvent,
    Departure,
    DepartureState,
    ListMember,
    LoginSession,
    OrgCall,
    Passkey,
    RunChange,
    RunStatus,
    SalesforceList,
    Suppression,
    SuppressionEvent,
    SuppressionSource,
    SuppressionStep,
    Visit,
)
from tests.factories import log_in, make_contact, make_run, numbers, save
from tests.route_access import For, iter_routes
from tests.two_firms import World, make_world

M = TypeVar("M")
MOST_QUERIES = 12
MOST_BYTES = 100_000
MANY = 120  # rows of each kind
NOT_OF_A_PAGE = (
    "BEGIN",
    "INSERT INTO api_usage",
    "INSERT INTO org_calls",
)  # each call to Salesforce is counted and logged
WITH = {  # the addresses of a page beside the plain one
    "board.index": ("?firm={slug}", "?firm={slug}&show=attention&page=2"),
    "changes.index": ("?span=90", "?kind=added&since=30"),
    "contacts.index": (
        "?state=inactive&q=a",
        "?list={list}",
        "?list={seminar}&q=longfellow",
        "?state=hidden_here",
        "?page=2",
    ),
    "contacts.confirm_delete": ("?id={contact}",),
    "contacts.why": ("?person=alice%40lead.example", "?person=Alice"),
    "integrations.index": ("?open=salesforce",),
    "leads.index": ("?q=alice", "?page=2"),
    "leads.person": ("?lead={lead}",),
    "leads.confirm_erase_person": ("?lead={lead}",),
}


class Cost(NamedTuple):
    queries: int
    size: int


@pytest.fixture
def world(app: Flask) -> Iterator[World]:
    with requests_mock.Mocker() as salesforce:
        refusal = [{"errorCode": "API_CURRENTLY_DISABLED", "message": "API is disabled for this User"}]
        salesforce.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=403, json=refusal)
        made = make_world()
        fill(made)
        yield made


def test_no_page_asks_more_than_twelve_times_or_is_larger_than_100_kb(
    app: Flask, client: FlaskClient, world: World
) -> None:
    found = costs(app, client, world, (For.ADVISORS, For.LOGGED_IN, For.ADMINS, For.EVERYBODY))
    assert len(found) > 70
    assert too_dear(found) == {}  # a decision waits
    make_run(world.alice.connection, RunStatus.FAILED)
    assert too_dear(costs(app, client, world, (For.ADVISORS,))) == {}
    for departure in db.session.scalars(select(Departure).where(Departure.state == DepartureState.HELD)):
        departure.state = DepartureState.DISCARDED
    db.session.commit()
    assert too_dear(costs(app, client, world, (For.ADVISORS,))) == {}


def too_dear(found: dict[str, Cost]) -> dict[str, Cost]:
    return {path: cost for path, cost in found.items() if cost.queries > MOST_QUERIES or cost.size > MOST_BYTES}


def costs(app: Flask, client: FlaskClient, world: World, whose: tuple[For, ...]) -> dict[str, Cost]:
    """Return {address: cost} of the pages for these people, as Ada, Alice or a stranger opens them."""
    found = {}
    for access in whose:
        if access is For.EVERYBODY:
            client.delete_cookie("session")
        else:
            log_in(client, world.ada if access is For.ADMINS else world.alice.user)
            client.get("/settings")  # writes when the log-in was used
        for path in addresses(app, world, access):
            with statements_seen() as asked:
                answer = client.get(path)
            if answer.mimetype == "text/html" and answer.status_code == 200:
                found[path] = Cost(len(asked), len(answer.data))
    return found


def addresses(app: Flask, world: World, access: For) -> list[str]:
    alice = world.alice
    names = {"slug": world.northgate.slug, "list": alice.contact_list.id, "contact": alice.contacts[0].id}
    names |= {"seminar": alice.seminar.id, "lead": alice.leads[0].public_id}
    routes = [each for each in iter_routes(app, world, alice) if each.access is access and each.method == "GET"]
    more = [route.path + each.format(**names) for route in routes for each in WITH.get(route.endpoint, ())]
    return [route.path for route in routes] + more


@contextmanager
def statements_seen() -> Iterator[list[str]]:
    asked: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith(NOT_OF_A_PAGE):
            asked.append(statement)

    event.listen(db.engine, "before_cursor_execute", hear)
    try:
        yield asked
    finally:
        event.remove(db.engine, "before_cursor_execute", hear)


# ---- Many rows of everything


def fill(world: World) -> None:
    """Give Alice and her firm many rows of all that pages list, most of them copies of those that are there."""
    alice, now = world.alice, utcnow()
    contact = make_contact(
        alice.connection, created_in_run_id=alice.run.id, last_name="Longfellow-Winterbottom", address_hash=b"#" * 32
    )
    alice.contacts.append(contact)
    copy(world.northgate)
    for advisor in copy(alice.user):
        for connection in copy(alice.connection, 1, user_id=advisor.id, failures_in_a_row=3):
            save(Alert(kind=AlertKind.RECONNECT, connection_id=connection.id, opened_at=now))
    held, change = first(Departure), first(RunChange)
    for each in copy(contact):
        copy(held, 1, salesforce_id=each.salesforce_id)
        copy(change, 1, contact_id=each.id)
    copy(change, contact_id=contact.id)
    copy(alice.run)
    for original in (alice.contact_list, alice.seminar):
        for made in copy(original, 20):
            save(ListMember(list_id=made.id, contact_id=contact.id, added_at=now))
            if original is alice.seminar:
                copy(first(SalesforceList), 1, list_id=made.id)
    copy(alice.leads[0])
    for model in (AuditEntry, ApiKey, ConsentEvent):
        copy(first(model))
    told = {"partner_id": world.northgate.id, "user_id": alice.user.id, "address_hash": contact.address_hash}
    copy(SuppressionEvent(step=SuppressionStep.UNSUBSCRIBED, source=SuppressionSource.PAGE, at=now, **told))
    save(Suppression(unsubscribed_at=now, changed_at=now, **told))
    for mine in (LoginSession, Passkey):
        copy(first(mine, mine.user_id == alice.user.id), 19)
    call = OrgCall(at=now, partner_id=world.northgate.id, kind="quiet_check", outcome="200", calls=1, rows=0, took_ms=1)
    copy(call)
    visit = db.session.get(Visit, alice.user.id) or Visit(user_id=alice.user.id, seen_at=now)
    visit.last_ended_at = now - timedelta(days=3)
    save(visit)
    db.session.commit()


def first(model: type[M], *which: Any) -> M:
    return db.session.scalars(select(model).where(*which).limit(1)).one()


def copy(row: M, number: int = MANY, **values: Any) -> list[M]:
    """Add copies of a row with these values; what has to be unique differs by itself."""
    table = inspect(type(row)).local_table
    keys = {column.key for each in (*table.constraints, *table.indexes) if is_key(each) for column in each.columns}
    unique = {name for name in keys if not table.c[name].foreign_keys and name not in ("id", "kind")}
    original = {column.key: getattr(row, column.key) for column in table.columns if column.key != "id"}
    copies = [
        type(row)(**original | {name: another(original[name]) for name in unique} | values) for _ in range(number)
    ]
    db.session.add_all(copies)
    db.session.flush()
    return copies


def is_key(thing: Any) -> bool:
    return isinstance(thing, UniqueConstraint | PrimaryKeyConstraint) or bool(getattr(thing, "unique", False))


def another(value: Any) -> Any:
    """Return a value of the same kind that no other row has; None is None."""
    number = next(numbers)
    if isinstance(value, bytes):
        return number.to_bytes(4, "big") + value[4:]
    if isinstance(value, str):
        return f"{value[:-6]}{number:06d}"
    return number if isinstance(value, int) else value
