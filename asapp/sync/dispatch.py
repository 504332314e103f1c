"""The dispatch tick: it requeues runs whose worker died, starts syncs that are due, and enqueues runs whose job was lost.

Two ticks at once do no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Table, func, literal, select, update
from sqlalchemy.orm import aliased

from asapp.core.bulk import is_among, update_many
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, insert_ignore
from asapp.core.extensions import db
from asapp.models import Connection, Partner, RunStatus, RunTrigger, SyncRun
from asapp.sync.runs import Enqueue, requeue_expired
from asapp.sync.schedule import is_due, next_sync_at

log = logging.getLogger(__name__)

CLAIMS = 2000  # connections claimed in a transaction, and runs found by a query
BATCH = 500  # jobs that Redis takes at once
BUDGET_S = 10.0  # for starting runs; the next tick does the rest
LOST_AFTER = timedelta(seconds=60)  # then the job of a queued run is looked up in Redis

FindLost = Callable[[Sequence[int]], list[int]]  # of these runs, those that no job in Redis waits for
CONNECTIONS: Table = Connection.__table__  # type: ignore[assignment]
RUNS: Table = SyncRun.__table__  # type: ignore[assignment]
IS_WAITING = (SyncRun.status == RunStatus.QUEUED) & ~SyncRun.is_parked


@dataclass(frozen=True)
class Dispatched:
    """What a tick did."""

    requeued: int
    started: int
    enqueued: int


def dispatch(enqueue: Enqueue, find_lost: FindLost, default_interval_minutes: int) -> Dispatched:
    """Requeue runs of dead workers, start what is due, and enqueue every run that has no job."""
    now = utcnow()
    requeued = requeue_expired_runs(now)
    unpark_stranded(now)
    started, enqueued = start_and_enqueue(now, enqueue, default_interval_minutes)
    enqueued += enqueue_lost(now, enqueue, find_lost)
    done = Dispatched(requeued, started, enqueued)
    if any((requeued, started, enqueued)):
        log.info("tick", extra={"requeued": requeued, "started": started, "enqueued": enqueued})
    return done


def requeue_expired_runs(now: datetime) -> int:
    """Queue the runs of dead workers again; return how many."""
    expired = db.session.scalars(
        select(SyncRun.id).where(SyncRun.status == RunStatus.RUNNING, SyncRun.lease_until < now).limit(BATCH)
    ).all()
    db.session.commit()
    return sum(requeue_expired(run_id) for run_id in expired)


def unpark_stranded(now: datetime) -> None:
    """Unpark the runs of partners that have no running one: the end of a running one normally does it."""
    its_own, others, other = aliased(Connection), aliased(Connection), aliased(SyncRun)
    is_another_running = (
        select(other.id)
        .join(others, others.id == other.connection_id)
        .join(its_own, its_own.partner_id == others.partner_id)
        .where(
            its_own.id == SyncRun.connection_id,
            other.status == RunStatus.RUNNING,
            other.lease_until > now,
        )
        .correlate(SyncRun)
        .exists()
    )
    change_rows(
        db.session,
        update(SyncRun)
        .where(SyncRun.status == RunStatus.QUEUED, SyncRun.is_parked, ~is_another_running)
        .values(is_parked=False, enqueued_at=None),
    )
    db.session.commit()


def start_and_enqueue(now: datetime, enqueue: Enqueue, default_interval_minutes: int) -> tuple[int, int]:
    """Start a run for every connection that is due, and enqueue each run that has no job yet; return how many of each.

    A Redis that takes no jobs, or doesn't answer, is asked once: the runs are started all the same, and their jobs wait for the
    next tick.
    """
    started = enqueued = 0
    is_redis_there = True
    give_up_at = time.monotonic() + BUDGET_S
    while time.monotonic() < give_up_at:
        batch = claim_due(now, default_interval_minutes)
        started += batch.started
        waiting = find_not_enqueued() if is_redis_there else ()
        taken = enqueue_in_batches(waiting, enqueue)
        record_enqueued(taken)
        enqueued += len(taken)
        is_redis_there = is_redis_there and len(taken) == len(waiting)
        if not waiting and batch.claimed < CLAIMS:
            break
    return started, enqueued


@dataclass(frozen=True)
class Batch:
    claimed: int
    started: int


def claim_due(now: datetime, default_interval_minutes: int) -> Batch:
    """Insert runs for up to CLAIMS connections that are due, and move their due date, in one transaction."""
    due = db.session.execute(
        select(Connection.id, Partner.sync_interval_minutes)
        .join(Partner)
        .where(is_due(now))
        .order_by(Connection.next_sync_at)
        .limit(CLAIMS)
        .with_for_update(skip_locked=True, key_share=True, of=Connection)
    ).all()
    if not due:
        db.session.rollback()
        return Batch(0, 0)
    started = insert_runs([row.id for row in due], now)
    update_many(
        CONNECTIONS,
        [
            {"b_id": row.id, "next_sync_at": next_sync_at(now, row.sync_interval_minutes or default_interval_minutes)}
            for row in due
        ],
    )
    db.session.commit()
    return Batch(len(due), started)


def insert_runs(connection_ids: Sequence[int], now: datetime) -> int:
    """Insert a run for each that has no active one, in the caller's transaction; return how many."""
    columns = (RUNS.c.connection_id, RUNS.c.trigger, RUNS.c.status, RUNS.c.queued_at)
    values = select(
        CONNECTIONS.c.id,
        literal(RunTrigger.SCHEDULED, RUNS.c.trigger.type),
        literal(RunStatus.QUEUED, RUNS.c.status.type),
        literal(now, RUNS.c.queued_at.type),
    ).where(is_among(CONNECTIONS.c.id, connection_ids))
    return change_rows(db.session, insert_ignore(db.session, RUNS).from_select(columns, values))


def find_not_enqueued() -> Sequence[int]:
    """Return ids of runs that Redis never took: one of each partner, then the next of each."""
    turn = func.row_number().over(partition_by=Connection.partner_id, order_by=SyncRun.id)
    waiting = (
        select(SyncRun.id)
        .join(Connection)
        .where(IS_WAITING, SyncRun.enqueued_at.is_(None))
        .order_by(turn, SyncRun.id)
        .limit(CLAIMS)
    )
    ids = db.session.scalars(waiting).all()
    end_read(db.session)
    return ids


def enqueue_in_batches(ids: Sequence[int], enqueue: Enqueue) -> Sequence[int]:
    """Enqueue these, batch after batch; return those that Redis took."""
    for start in range(0, len(ids), BATCH):
        if not enqueue(ids[start : start + BATCH]):
            return ids[:start]
    return ids


def enqueue_lost(now: datetime, enqueue: Enqueue, find_lost: FindLost) -> int:
    """Enqueue the runs again whose job Redis has lost; return how many."""
    waiting = db.session.scalars(
        select(SyncRun.id)
        .where(IS_WAITING, SyncRun.enqueued_at < now - LOST_AFTER)
        .order_by(SyncRun.enqueued_at)
        .limit(BATCH)
    ).all()
    db.session.commit()
    lost = find_lost(waiting) if waiting else []
    if not lost or not enqueue(lost):
        return 0
    record_enqueued(lost)
    return len(lost)


def record_enqueued(ids: Sequence[int]) -> None:
    if ids:
        db.session.execute(update(RUNS).where(is_among(RUNS.c.id, ids)).values(enqueued_at=utcnow()))
        db.session.commit()
