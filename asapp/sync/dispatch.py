"""The dispatch tick: it requeues runs whose worker died, lets what is due be checked, and enqueues runs whose job was lost.

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

from asapp.core.bulk import is_among
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, insert_ignore
from asapp.core.extensions import db
from asapp.models import Connection, Partner, RunStatus, RunTrigger, SyncRun
from asapp.sync.runs import Enqueue, requeue_expired
from asapp.sync.schedule import is_due

log = logging.getLogger(__name__)

AT_ONCE = 2000  # runs found by a query
BATCH = 500  # jobs that Redis takes at once
BUDGET_S = 10.0  # for enqueueing runs; the next tick does the rest
DUE_AT_MOST = 4096  # connections; beyond that it makes no difference
LOST_AFTER = timedelta(seconds=60)  # then the job of a queued run is looked up in Redis

EnqueueRounds = Callable[[int], None]  # takes how many connections are due
FindLost = Callable[[Sequence[int]], list[int]]  # of these runs, those that no job in Redis waits for
CONNECTIONS: Table = Connection.__table__  # type: ignore[assignment]
RUNS: Table = SyncRun.__table__  # type: ignore[assignment]
IS_WAITING = (SyncRun.status == RunStatus.QUEUED) & ~SyncRun.is_parked


@dataclass(frozen=True)
class Dispatched:
    """What a tick did."""

    requeued: int
    due: int  # connections to be checked, at most DUE_AT_MOST
    enqueued: int


def dispatch(enqueue: Enqueue, find_lost: FindLost, enqueue_rounds: EnqueueRounds) -> Dispatched:
    """Requeue runs of dead workers, enqueue every run that has no job, and rounds of checks for what is due."""
    now = utcnow()
    requeued = requeue_expired_runs(now)
    unpark_stranded(now)
    enqueued = enqueue_waiting(enqueue) + enqueue_lost(now, enqueue, find_lost)
    due = count_due(now, DUE_AT_MOST)
    if due:
        enqueue_rounds(due)
    done = Dispatched(requeued, due, enqueued)
    if any((requeued, due, enqueued)):
        log.info("tick", extra={"requeued": requeued, "due": due, "enqueued": enqueued})
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


def enqueue_waiting(enqueue: Enqueue) -> int:
    """Enqueue each run that Redis never took; return how many it took now."""
    enqueued = 0
    give_up_at = time.monotonic() + BUDGET_S
    while time.monotonic() < give_up_at and (waiting := find_not_enqueued()):
        taken = enqueue_in_batches(waiting, enqueue)
        record_enqueued(taken)
        enqueued += len(taken)
        if len(taken) < len(waiting) or len(waiting) < AT_ONCE:
            break
    return enqueued


def count_due(now: datetime, most: int) -> int:
    """Return how many connections are due and are not being checked, at most this many."""
    due = select(Connection.id).join(Partner).where(is_due(now), Connection.has_no_worker(now)).limit(most)
    number = db.session.scalar(select(func.count()).select_from(due.subquery())) or 0
    end_read(db.session)
    return number


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
        .limit(AT_ONCE)
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
