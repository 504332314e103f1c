"""Only the worker with the lease writes to a run. Only queued runs are claimed, and a firm has a few active ones at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.models import Connection, Partner, RunStatus, SyncRun
from asapp.sync import runs
from asapp.sync.dispatch import dispatch, unpark_stranded
from tests.factories import make_advisor, make_connection, make_partner, make_run, make_synced_connection

MINUTE = timedelta(minutes=1)

Write = Callable[[runs.LeasedRun], Any]


@pytest.fixture
def connection(app: Flask) -> Connection:
    return make_synced_connection()


def stored(run_id: int) -> dict[str, Any]:
    """Return the run's row, column by column."""
    db.session.rollback()
    table = SyncRun.__table__
    return dict(db.session.execute(select(table).where(table.c.id == run_id)).one()._mapping)


def claim(run_id: int) -> runs.LeasedRun:
    claimed = runs.claim_run(run_id)
    assert claimed is not None
    return claimed


def lose_to_another_worker(run: runs.LeasedRun) -> None:
    """Let the lease of a claimed run end, and a second worker claim the run."""
    db.session.execute(update(SyncRun).where(SyncRun.id == run.id).values(lease_until=utcnow() - MINUTE))
    db.session.commit()
    assert runs.requeue_expired(run.id)
    assert claim(run.id).lease != run.lease


@pytest.fixture
def lost(connection: Connection) -> runs.LeasedRun:
    """Return a run as its first worker knows it, while a second worker goes on with it."""
    run = claim(make_run(connection, RunStatus.QUEUED).id)
    lose_to_another_worker(run)
    return run


# A worker that lost its run to another


WRITES = pytest.mark.parametrize(
    "write",
    [
        lambda run: run.lock(),
        lambda run: run.write(read=99),
        lambda run: run.end(RunStatus.COMPLETE),
    ],
    ids=["locks it", "writes to it", "ends it"],
)


@WRITES
def test_a_worker_that_lost_its_run_to_another_writes_nothing_to_it(lost: runs.LeasedRun, write: Write) -> None:
    before = stored(lost.id)
    with pytest.raises(LeaseLost):
        write(lost)
    db.session.commit()
    assert stored(lost.id) == before


@WRITES
def test_what_it_wrote_before_it_saw_that_is_not_kept(
    connection: Connection, lost: runs.LeasedRun, write: Write
) -> None:
    connection.salesforce_count = 99
    db.session.flush()
    with pytest.raises(LeaseLost):
        write(lost)
    db.session.commit()
    assert db.session.scalar(select(Connection.salesforce_count)) is None


def test_a_worker_hands_back_no_run_that_another_holds(lost: runs.LeasedRun) -> None:
    before = stored(lost.id)
    assert lost.hand_back() is False
    assert stored(lost.id) == before


def test_a_worker_ends_no_lease_of_another(lost: runs.LeasedRun) -> None:
    before = stored(lost.id)
    lost.expire()
    assert stored(lost.id) == before


@pytest.mark.parametrize("tries", [0, runs.MAX_TRIES - 1])
def test_a_run_whose_worker_has_just_renewed_its_lease_is_not_taken_back(connection: Connection, tries: int) -> None:
    run = make_run(connection, RunStatus.RUNNING, lease="held", lease_until=utcnow() + MINUTE, tries=tries)
    before = stored(run.id)
    assert runs.requeue_expired(run.id) is False
    assert stored(run.id) == before


# Claims


@pytest.mark.parametrize("is_enabled", [True, False], ids=["", "of a firm that is disabled"])
@pytest.mark.parametrize("status", [status for status in RunStatus if status != RunStatus.QUEUED])
def test_only_a_queued_run_is_claimed(app: Flask, status: RunStatus, is_enabled: bool) -> None:
    """A job may run twice, or after the run was cancelled."""
    connection = make_connection(make_advisor(make_partner(is_enabled=is_enabled)))
    holder = {"lease": "held", "lease_until": utcnow() + MINUTE} if status == RunStatus.RUNNING else {}
    run = make_run(connection, status, **holder)
    before = stored(run.id)
    assert runs.claim_run(run.id) is None
    assert stored(run.id) == before


def start_others(partner: Partner, number: int, left: timedelta = MINUTE) -> None:
    """Start so many runs of the firm, with leases that last this long."""
    for n in range(number):
        connection = make_connection(make_advisor(partner))
        make_run(connection, RunStatus.RUNNING, lease=f"lease {n}", lease_until=utcnow() + left)


def test_a_run_begins_while_fewer_of_its_firm_than_the_limit_go_on(connection: Connection) -> None:
    start_others(connection.partner, runs.MAX_RUNS_OF_AN_ORG - 1)
    assert claim(make_run(connection, RunStatus.QUEUED).id).row.status == RunStatus.RUNNING


def test_a_run_is_parked_while_as_many_of_its_firm_as_the_limit_go_on(connection: Connection) -> None:
    start_others(connection.partner, runs.MAX_RUNS_OF_AN_ORG)
    run = make_run(connection, RunStatus.QUEUED)
    assert runs.claim_run(run.id) is None
    after = stored(run.id)
    assert (after["status"], after["is_parked"]) == (RunStatus.QUEUED, True)


def test_runs_of_another_firm_park_none_of_this_one(connection: Connection) -> None:
    start_others(make_partner("Fjord Advisory"), runs.MAX_RUNS_OF_AN_ORG)
    assert claim(make_run(connection, RunStatus.QUEUED).id).row.status == RunStatus.RUNNING


def test_runs_whose_workers_died_park_no_other(connection: Connection) -> None:
    start_others(connection.partner, runs.MAX_RUNS_OF_AN_ORG, left=-MINUTE)
    assert claim(make_run(connection, RunStatus.QUEUED).id).row.status == RunStatus.RUNNING


# Parked runs at the dispatch tick


def enqueued_by_a_tick() -> list[int]:
    """Return the runs that a tick enqueues while Redis has lost every job."""
    enqueued: list[int] = []

    def enqueue(run_ids: Sequence[int]) -> bool:
        enqueued.extend(run_ids)
        return True

    dispatch(enqueue, list, lambda due: None)
    return enqueued


@pytest.mark.parametrize("since", [None, timedelta(hours=1)], ids=["never enqueued", "lost by Redis"])
def test_a_parked_run_is_not_enqueued_while_another_of_its_firm_goes_on(
    connection: Connection, since: timedelta | None
) -> None:
    start_others(connection.partner, 1)
    enqueued_at = utcnow() - since if since else None
    make_run(connection, RunStatus.QUEUED, is_parked=True, enqueued_at=enqueued_at)
    assert enqueued_by_a_tick() == []


def test_a_parked_run_is_enqueued_though_a_run_of_another_firm_goes_on(connection: Connection) -> None:
    start_others(make_partner("Fjord Advisory"), 1)
    run = make_run(connection, RunStatus.QUEUED, is_parked=True)
    assert enqueued_by_a_tick() == [run.id]


def test_a_run_whose_worker_died_keeps_no_other_of_its_firm_parked(connection: Connection) -> None:
    start_others(connection.partner, 1, left=-MINUTE)
    run = make_run(connection, RunStatus.QUEUED, is_parked=True, enqueued_at=utcnow())
    unpark_stranded(utcnow())
    after = stored(run.id)
    assert (after["is_parked"], after["enqueued_at"]) == (False, None)
