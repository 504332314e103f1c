"""The dispatch tick: whatever died, was forgotten or is due goes on from here. Running it twice at once does no harm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from asapp.clock import utcnow
from asapp.extensions import db
from asapp.models import Connection, Partner, RunStatus, RunTrigger, SyncRun
from asapp.sync.due import is_due, next_sync_at
from asapp.sync.runs import Ring, take_back

log = logging.getLogger(__name__)

BATCH = 500
BUDGET_S = 10.0  # the next tick goes on
PATIENCE = timedelta(seconds=60)  # after which a queued run is looked for in Redis
PARKED_LONG = timedelta(minutes=10)

Forgotten = Callable[[Sequence[int]], list[int]]


@dataclass(frozen=True)
class Dispatched:
    """What a tick did."""

    taken_back: int
    started: int
    rung_again: int


def dispatch(ring: Ring, forgotten: Forgotten, default_interval_minutes: int) -> Dispatched:
    """Take up stale runs, start what is due, and enqueue what no job is waiting for."""
    now = utcnow()
    unpark_the_forgotten(now)
    taken_back = take_back_stale(now)
    started = start_due(now, default_interval_minutes)
    rung_again = ring_for_waiting(now, ring, forgotten)
    done = Dispatched(taken_back, started, rung_again)
    if any((taken_back, started, rung_again)):
        log.info("tick", extra={"taken_back": taken_back, "started": started, "rung": rung_again})
    return done


def take_back_stale(now: datetime) -> int:
    """Queue the runs of dead workers again."""
    stale = db.session.scalars(
        select(SyncRun.id).where(SyncRun.status == RunStatus.RUNNING, SyncRun.lease_until < now).limit(BATCH)
    ).all()
    db.session.commit()
    return sum(take_back(run_id) for run_id in stale)


def unpark_the_forgotten(now: datetime) -> None:
    """A parked run is rung for when another of its firm ends; if that one died instead, time does it."""
    db.session.execute(
        update(SyncRun)
        .where(SyncRun.status == RunStatus.QUEUED, SyncRun.is_parked, SyncRun.enqueued_at < now - PARKED_LONG)
        .values(is_parked=False, enqueued_at=None)
        .execution_options(synchronize_session=False)
    )
    db.session.commit()


def start_due(now: datetime, default_interval_minutes: int) -> int:
    """Make a run for every connection that is due, a batch a transaction."""
    started = 0
    give_up_at = time.monotonic() + BUDGET_S
    while time.monotonic() < give_up_at:
        batch = claim_due(now, default_interval_minutes)
        started += batch.started
        if batch.claimed < BATCH:
            break
    return started


@dataclass(frozen=True)
class Batch:
    claimed: int
    started: int


def claim_due(now: datetime, default_interval_minutes: int) -> Batch:
    """Move the due date of up to BATCH connections and make their runs, in one transaction."""
    due = db.session.execute(
        select(Connection.id, Partner.sync_interval_minutes)
        .join(Partner)
        .where(is_due(now))
        .order_by(Connection.next_sync_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True, key_share=True, of=Connection)
    ).all()
    if not due:
        db.session.rollback()
        return Batch(0, 0)
    ids = [row.id for row in due]
    busy = set(
        db.session.scalars(
            select(SyncRun.connection_id).where(
                SyncRun.connection_id.in_(ids), SyncRun.status.in_((RunStatus.QUEUED, RunStatus.RUNNING))
            )
        )
    )
    started = make_runs([new_run(connection_id, now) for connection_id in ids if connection_id not in busy])
    db.session.execute(
        update(Connection),
        [
            {"id": row.id, "next_sync_at": next_sync_at(now, row.sync_interval_minutes or default_interval_minutes)}
            for row in due
        ],
    )
    db.session.commit()
    return Batch(len(due), started)


def make_runs(rows: list[dict[str, Any]]) -> int:
    """Insert runs, but where a click was faster; return how many were made. Joins the caller's transaction."""
    if not rows:
        return 0
    dialect = postgresql if db.engine.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(SyncRun).on_conflict_do_nothing().returning(SyncRun.id)
    return len(db.session.execute(statement, rows).all())


def new_run(connection_id: int, now: datetime) -> dict[str, Any]:
    return {
        "connection_id": connection_id,
        "trigger": RunTrigger.SCHEDULED,
        "status": RunStatus.QUEUED,
        "queued_at": now,
        "skipped": {},
        "also": {},
    }


def ring_for_waiting(now: datetime, ring: Ring, forgotten: Forgotten) -> int:
    """Enqueue the runs that Redis never took, and those that it has forgotten."""
    queued = (SyncRun.status == RunStatus.QUEUED) & ~SyncRun.is_parked
    turn = func.row_number().over(partition_by=Connection.partner_id, order_by=SyncRun.id)
    never = (
        select(SyncRun.id)
        .join(Connection)
        .where(queued, SyncRun.enqueued_at.is_(None))
        .order_by(turn, SyncRun.id)  # one of each firm, then the next of each
        .limit(BATCH)
    )
    rung = 0
    give_up_at = time.monotonic() + BUDGET_S
    while time.monotonic() < give_up_at:
        ids = list(db.session.scalars(never))
        db.session.commit()
        if not ids or not ring_and_note(ids, ring):
            break
        rung += len(ids)
    quiet = db.session.scalars(
        select(SyncRun.id)
        .where(queued, SyncRun.enqueued_at < now - PATIENCE)
        .order_by(SyncRun.enqueued_at)
        .limit(BATCH)
    ).all()
    db.session.commit()
    lost = forgotten(quiet) if quiet else []
    if lost and ring_and_note(lost, ring):
        rung += len(lost)
    return rung


def ring_and_note(ids: Sequence[int], ring: Ring) -> bool:
    if not ring(ids):
        return False
    db.session.execute(
        update(SyncRun)
        .where(SyncRun.id.in_(ids))
        .values(enqueued_at=utcnow())
        .execution_options(synchronize_session=False)
    )
    db.session.commit()
    return True
