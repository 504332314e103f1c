"""The lock order (docs/decisions/11-lock-order.md): writers of one advisor's rows wait for each other without a deadlock."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg.errors
import pytest
import requests_mock
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from asapp.accounts import advisors
from asapp.connections import connections
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.database import retry_when_beaten
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.leads import decisions
from asapp.models import Connection, Contact, Partner, RunStatus, RunTrigger, SyncRun, User
from asapp.partners import offboarding
from asapp.salesforce import errors
from asapp.salesforce.fields import STANDARD_OPT_OUT, all_fields
from asapp.salesforce.records import ContactRecord
from asapp.sync.endings import record_failure
from asapp.sync.execute import Execution, Reading
from asapp.sync.run_context import JobContext
from asapp.sync.runs import LeasedRun, claim_run, start_run
from tests.factories import make_advisor, make_partner, make_synced_connection, org_access
from tests.racing import ROUNDS, race

PEOPLE = 20
pytestmark = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)  # SQLite has one writer
End = Callable[[int, OrgAccess], Any]


class NobodyToAsk:
    """Stands in for the client: these writers have their answers already."""

    usage = (10, 1000)
    warning = ""
    lead_fields = all_fields("Lead", (STANDARD_OPT_OUT,))

    def close(self) -> None:
        pass


def workplace() -> JobContext:
    return JobContext(org_access(), lambda _: True, 60)


def people(connection: Connection, last_name: str) -> list[ContactRecord]:
    """A page of the connected user's contacts; every other one has opted out, so that twins are looked for."""
    owner, stamp = connection.salesforce_user_id, utcnow() - timedelta(days=1)
    return [
        ContactRecord(
            f"0035g0000{n:06d}AAA", "Ravi", last_name, f"c{n}@fjord.example", bool(n % 2), owner, stamp, False, None
        )
        for n in range(PEOPLE)
    ]


def begin_run(connection: Connection) -> Execution:
    """Return a run that is active and has stored its people once."""
    run = start_run(connection, RunTrigger.MANUAL, lambda _: True)
    assert run is not None
    claimed = claim_run(run.id)
    assert claimed is not None
    execution = Execution(claimed, workplace())
    execution.reader.client = NobodyToAsk()  # type: ignore[assignment]
    claimed.save(asked_at=utcnow(), opened_at=utcnow(), is_full=False, opt_out_field="HasOptedOutOfEmail")
    execution.reader.apply(people(connection, "Before"), [], in_order=True)
    return execution


def sync_on(execution: Execution, connection: Connection) -> Callable[[], str]:
    pages = [people(connection, name) for name in ("Once", "Twice")]

    def work() -> str:
        try:
            for page in pages:
                execution.reader.apply(page, [], in_order=True)
            execution.finish(Reading(owned=PEOPLE))
        except LeaseLost:
            return "stopped"
        return "finished"

    return work


def disconnect_and_remove(connection_id: int, how: OrgAccess) -> None:
    connections.disconnect(db.session.get_one(Connection, connection_id), False, how)


def disconnect_and_keep(connection_id: int, how: OrgAccess) -> None:
    connections.disconnect(db.session.get_one(Connection, connection_id), True, how)


def deactivate(connection_id: int, how: OrgAccess) -> None:
    advisors.deactivate(db.session.get_one(Connection, connection_id).user, how)


def move_and_remove(connection_id: int, how: OrgAccess) -> None:
    connection = db.session.get_one(Connection, connection_id)
    there = db.session.scalars(select(Partner).where(Partner.id != connection.partner_id).limit(1)).one()
    advisors.move(connection.user, there, False, how)


def disable_firm(connection_id: int, how: OrgAccess) -> None:
    offboarding.disable(db.session.get_one(Connection, connection_id).partner, True, how)


def delete_firm(connection_id: int, how: OrgAccess) -> None:
    offboarding.delete_partner(db.session.get_one(Connection, connection_id).partner, how)


@pytest.fixture(autouse=True)
def every_revocation_is_heard(app: Flask) -> Iterator[None]:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(re.compile("/services/oauth2/revoke$"))
        yield


@pytest.fixture
def nobody_is_beaten(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail if a transaction is retried: a retry would hide a wrong lock order."""
    with caplog.at_level(logging.WARNING, "asapp.core.database"):
        yield
    assert [record.message for record in caplog.records if record.name == "asapp.core.database"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", [disconnect_and_remove, disconnect_and_keep, deactivate, move_and_remove, disable_firm, delete_firm]
)
def test_a_connection_may_end_while_a_sync_writes(app: Flask, nobody_is_beaten: None, end: End) -> None:
    make_partner("Elsewhere", "https://elsewhere.my.salesforce.com")
    how, fates = org_access(), set()
    for _ in range(ROUNDS):
        connection = make_synced_connection(make_advisor(make_partner()))
        connection_id, execution = connection.id, begin_run(connection)
        results = race(app, sync_on(execution, connection), lambda: end(connection_id, how))  # noqa: B023
        assert results[1] is None, results
        assert results[0] in ("finished", "stopped"), results
        fates.add(results[0])
        left = db.session.get(Connection, connection_id)
        assert left is None or left.is_disconnected
        active = (
            select(func.count()).select_from(SyncRun).where(SyncRun.status.in_((RunStatus.QUEUED, RunStatus.RUNNING)))
        )
        assert db.session.scalar(active) == 0
        if end in (disconnect_and_remove, move_and_remove, delete_firm):
            assert db.session.scalar(select(func.count()).where(Contact.connection_id == connection_id)) == 0


@pytest.mark.slow
def test_a_person_may_be_erased_while_a_sync_writes_them(app: Flask, nobody_is_beaten: None) -> None:
    for _ in range(ROUNDS):
        connection = make_synced_connection(make_advisor(make_partner()))
        user_id, execution = connection.user_id, begin_run(connection)
        erased_id = db.session.scalars(
            select(Contact.id).where(Contact.user_id == user_id).order_by(Contact.id)
        ).first()
        results = race(
            app,
            sync_on(execution, connection),
            lambda: decisions.erase(user_id, db.session.get_one(Contact, erased_id)),  # noqa: B023
        )
        assert results == ["finished", None], results
        erased = db.session.get_one(Contact, erased_id)
        assert (erased.first_name, erased.email, erased.address_hash) == ("", "", None)


@pytest.mark.slow
def test_a_connection_may_end_while_a_failure_is_written(app: Flask, nobody_is_beaten: None) -> None:
    how, place = org_access(), workplace()
    for _ in range(ROUNDS):
        connection = make_synced_connection(make_advisor(make_partner()))
        connection_id, execution = connection.id, begin_run(connection)
        full = errors.LimitReached("share_used_up")

        def fail(run: LeasedRun = execution.run) -> None:
            record_failure(run, full, place)  # noqa: B023

        results = race(app, fail, lambda: disconnect_and_remove(connection_id, how))  # noqa: B023
        assert results == [None, None]
        assert db.session.get_one(SyncRun, execution.run.id).status in (RunStatus.FAILED, RunStatus.CANCELLED)


def test_a_failure_of_a_run_whose_firm_was_deleted_is_not_stored(app: Flask) -> None:
    connection = make_synced_connection()
    connection_id, execution = connection.id, begin_run(connection)
    delete_firm(connection_id, org_access())
    for error in (errors.LimitReached("share_used_up"), errors.TryLater("no_answer")):
        record_failure(execution.run, error, workplace())
    with pytest.raises(LeaseLost):
        execution.finish(Reading(owned=PEOPLE))
    assert db.session.scalars(select(SyncRun)).all() == []


@pytest.mark.slow
def test_two_admins_may_end_what_belongs_to_one_advisor(app: Flask, nobody_is_beaten: None) -> None:
    """Deactivated, disconnected by themselves and the firm disabled, all at once."""
    how = org_access()
    for _ in range(ROUNDS):
        connection = make_synced_connection(make_advisor(make_partner()))
        connection_id, user_id = connection.id, connection.user_id
        ends: tuple[End, ...] = (deactivate, disconnect_and_remove, disable_firm)
        results = race(app, *(lambda end=end: end(connection_id, how) for end in ends))  # type: ignore[misc]  # noqa: B023
        assert results == [None] * 3
        assert db.session.get_one(Connection, connection_id).is_disconnected
        assert not db.session.get_one(User, user_id).is_active


def beaten(state: type[psycopg.Error]) -> OperationalError:
    return OperationalError("UPDATE", None, state())


@pytest.mark.parametrize("state", [psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure])
def test_who_is_ended_for_anothers_sake_tries_again(app: Flask, state: type[psycopg.Error]) -> None:
    faults = [beaten(state), beaten(state)]

    def work() -> str:
        if faults:
            raise faults.pop()
        return "done"

    assert retry_when_beaten(db.session(), work) == "done"


def test_but_not_for_ever(app: Flask) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise beaten(psycopg.errors.DeadlockDetected)

    with pytest.raises(OperationalError):
        retry_when_beaten(db.session(), work)
    assert len(tries) == 4


@pytest.mark.parametrize("state", [psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled])
def test_and_nothing_else_is_done_twice(app: Flask, state: type[psycopg.Error]) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise beaten(state)

    with pytest.raises(OperationalError):
        retry_when_beaten(db.session(), work)
    assert len(tries) == 1
