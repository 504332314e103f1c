"""The dispatch tick: whatever died, was forgotten or is due goes on from here. Running it twice at once does no harm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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

CLAIMS = 2000  # connections a transaction, and runs put in turn by a query
BATCH = 500  # jobs that Redis takes at once
BUDGET_S = 10.0  # the next tick goes on
PATIENCE = timedelta(seconds=60)  # after which a queued run is looked for in Redis

FindLost = Callable[[Sequence[int]], list[int]]
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
    """Take up stale runs, start what is due, and enqueue what no job is waiting for."""
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
    """Queue the runs of dead workers again."""
    stale = db.session.scalars(
        select(SyncRun.id).where(SyncRun.status == RunStatus.RUNNING, SyncRun.lease_until < now).limit(BATCH)
    ).all()
    db.session.commit()
    return sum(requeue_expired(run_id) for run_id in stale)


def unpark_stranded(now: datetime) -> None:
    """A parked run is rung for when another of its firm ends; where none is going on any more, here."""
    its_own, others, other = aliased(Connection), aliased(Connection), aliased(SyncRun)
    is_firm_at_work = (
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
        .where(SyncRun.status == RunStatus.QUEUED, SyncRun.is_parked, ~is_firm_at_work)
        .values(is_parked=False, enqueued_at=None),
    )
    db.session.commit()


def start_and_enqueue(now: datetime, enqueue: Enqueue, default_interval_minutes: int) -> tuple[int, int]:
    """Make a run for every connection that is due, and ring for each run that Redis never took; return how many of each.

    Redis takes some while the next are claimed. Where it takes none, the runs wait for the next tick.
    """
    started = enqueued = 0
    asked: Sequence[int] = ()
    is_redis_there = True
    give_up_at = time.monotonic() + BUDGET_S
    with ThreadPoolExecutor(1) as bell:
        ringing = bell.submit(enqueue_in_batches, asked, enqueue)
        while time.monotonic() < give_up_at:
            batch = claim_due(now, default_interval_minutes)
            started += batch.started
            taken = ringing.result()
            record_enqueued(taken)
            enqueued += len(taken)
            is_redis_there = is_redis_there and len(taken) == len(asked)
            asked = find_not_enqueued() if is_redis_there else ()
            if not asked and batch.claimed < CLAIMS:
                return started, enqueued
            ringing = bell.submit(enqueue_in_batches, asked, enqueue)
        taken = ringing.result()
        record_enqueued(taken)
        return started, enqueued + len(taken)


@dataclass(frozen=True)
class Batch:
    claimed: int
    started: int


def claim_due(now: datetime, default_interval_minutes: int) -> Batch:
    """Move the due date of up to CLAIMS connections and make their runs, in one transaction."""
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
    started = make_runs([row.id for row in due], now)
    update_many(
        CONNECTIONS,
        [
            {"b_id": row.id, "next_sync_at": next_sync_at(now, row.sync_interval_minutes or default_interval_minutes)}
            for row in due
        ],
    )
    db.session.commit()
    return Batch(len(due), started)


def make_runs(connection_ids: Sequence[int], now: datetime) -> int:
    """Insert a run for each that has no active one; return how many were made. Joins the caller's transaction."""
    columns = (RUNS.c.connection_id, RUNS.c.trigger, RUNS.c.status, RUNS.c.queued_at)
    chosen = select(
        CONNECTIONS.c.id,
        literal(RunTrigger.SCHEDULED, RUNS.c.trigger.type),
        literal(RunStatus.QUEUED, RUNS.c.status.type),
        literal(now, RUNS.c.queued_at.type),
    ).where(is_among(CONNECTIONS.c.id, connection_ids))
    return change_rows(db.session, insert_ignore(db.session, RUNS).from_select(columns, chosen))


def find_not_enqueued() -> Sequence[int]:
    """Return runs that Redis never took: one of each firm, then the next of each."""
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
    """Ring for these, batch after batch; return those that Redis took."""
    for start in range(0, len(ids), BATCH):
        if not enqueue(ids[start : start + BATCH]):
            return ids[:start]
    return ids


def enqueue_lost(now: datetime, enqueue: Enqueue, find_lost: FindLost) -> int:
    """Ring again for runs whose job Redis has lost; return how many."""
    quiet = db.session.scalars(
        select(SyncRun.id)
        .where(IS_WAITING, SyncRun.enqueued_at < now - PATIENCE)
        .order_by(SyncRun.enqueued_at)
        .limit(BATCH)
    ).all()
    db.session.commit()
    lost = find_lost(quiet) if quiet else []
    if not lost or not enqueue(lost):
        return 0
    record_enqueued(lost)
    return len(lost)


def record_enqueued(ids: Sequence[int]) -> None:
    if ids:
        db.session.execute(update(RUNS).where(is_among(RUNS.c.id, ids)).values(enqueued_at=utcnow()))
        db.session.commit()
