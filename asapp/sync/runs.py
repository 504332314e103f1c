"""The life of a sync run: queued, running, and one of its endings.

A run is a row, committed, before it is a job. The database allows one active run per connection. The worker that has claimed it
holds its lease, and everything that is written for a run is written `WHERE lease = mine`: a worker that lost the lease changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, String, case, cast, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from asapp.connections.stopped_runs import stop_runs
from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.core.leases import LEASE_OF_CALLS, NO_LEASE, LeaseLost, new_lease
from asapp.messages.codes import Code
from asapp.models import Connection, ConnectionStatus, Partner, RunStatus, RunTrigger, SyncRun, User
from asapp.models.run import ACTIVE, StopReason

MAX_TRIES = 3
MAX_RUNS_OF_AN_ORG = 4  # at once, so that a big partner doesn't keep small ones waiting

Enqueue = Callable[[Sequence[int]], bool]  # takes ids of runs; returns whether Redis took the jobs


class CancelRequested(Exception):
    """The advisor has cancelled the run."""


def start_run(connection: Connection, trigger: RunTrigger, enqueue: Enqueue) -> SyncRun | None:
    """Return the active run of this connection, inserted now if there is none. It is committed before its job is enqueued.

    None if nothing may be read for it: it is not connected, or its partner or its advisor is inactive.
    """
    if not connection.can_sync:
        return None
    run = find_active_run(connection.id)
    if run is None:
        run = SyncRun(connection_id=connection.id, trigger=trigger, skipped={}, also={})
        db.session.add(run)
        try:
            db.session.commit()
        except IntegrityError:  # another request was faster; the partial unique index says so
            db.session.rollback()
            run = find_active_run(connection.id)
            if run is None:
                return start_run(connection, trigger, enqueue)
            return run
    elif not requeue_if_stale(run):
        db.session.refresh(run)  # it may just have died for the last time
        return run if run.is_active else start_run(connection, trigger, enqueue)
    enqueue_run(run, enqueue)
    return run


def requeue_if_stale(run: SyncRun) -> bool:
    """Return whether the run needs enqueueing: it never was, or its worker died and it is queued again here. Commits."""
    if run.is_queued:
        return run.enqueued_at is None
    if run.lease_until is not None and run.lease_until < utcnow():
        return requeue_expired(run.id)
    return False


def enqueue_run(run: SyncRun, enqueue: Enqueue) -> None:
    """Enqueue the job of a committed run; if Redis is away the dispatch tick does it later."""
    run_id = run.id
    db.session.commit()
    enqueued_at = utcnow() if enqueue([run_id]) else None
    db.session.execute(update(SyncRun).where(SyncRun.id == run_id).values(enqueued_at=enqueued_at))
    db.session.commit()


def requeue_expired(run_id: int) -> bool:
    """Queue a run again whose lease has expired, or fail it after MAX_TRIES; return whether it was queued."""
    now = utcnow()
    is_stale = (SyncRun.id == run_id, SyncRun.status == RunStatus.RUNNING, SyncRun.lease_until < now)
    change_rows(
        db.session,
        update(SyncRun)
        .where(*is_stale, SyncRun.tries + 1 >= MAX_TRIES)
        .values(status=RunStatus.FAILED, error_code=Code.WORKER_DIED, **NO_LEASE, finished_at=now),
    )
    requeued = change_rows(
        db.session,
        update(SyncRun)
        .where(*is_stale)
        .values(status=RunStatus.QUEUED, **NO_LEASE, tries=SyncRun.tries + 1, enqueued_at=None),
    )
    db.session.commit()
    return requeued == 1


def claim_run(run_id: int) -> LeasedRun | None:
    """Claim a queued run, or return None: another worker has it, it is over, or its partner has enough running ones."""
    now = utcnow()
    is_waiting = (SyncRun.id == run_id, SyncRun.status == RunStatus.QUEUED)
    if has_enough_runs(run_id, now):  # which locks the partner: it can't be disabled before we have committed
        change_rows(db.session, update(SyncRun).where(*is_waiting).values(is_parked=True))
        db.session.commit()
        return None
    if why_not := find_obstacle(run_id):
        stop_runs(*is_waiting, code=why_not)
        db.session.commit()
        return None
    lease = new_lease()
    claimed = change_rows(
        db.session,
        update(SyncRun)
        .where(*is_waiting)
        .values(
            status=RunStatus.RUNNING,
            lease=lease,
            lease_until=now + LEASE_OF_CALLS,
            heartbeat_at=now,
            is_parked=False,
            started_at=func.coalesce(SyncRun.started_at, now),
        ),
    )
    run = LeasedRun.load(run_id, lease) if claimed else None
    db.session.commit()
    return run


class LeasedRun:
    """A run that this worker has claimed. Every write holds `WHERE lease = mine`, and raises LeaseLost if it isn't any more.

    `row` is the run with its connection and partner as they were when it was claimed, in no session: while we hold the lease no
    one else writes what a run reads of them, and no commit makes us read it again. What is written here is set on it as well.
    """

    def __init__(self, row: SyncRun, lease: str) -> None:
        self.row = row
        self.id = row.id
        self.lease = lease

    @classmethod
    def load(cls, run_id: int, lease: str) -> LeasedRun:
        """Read the run in the caller's transaction."""
        whole = joinedload(SyncRun.connection).joinedload(Connection.partner)
        with Session(db.session.connection()) as beside:
            return cls(beside.get_one(SyncRun, run_id, options=[whole]), lease)

    @property
    def is_mine(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions on SyncRun under which this worker may write."""
        return SyncRun.id == self.id, SyncRun.lease == self.lease, SyncRun.status == RunStatus.RUNNING

    def lock(self) -> None:
        """Lock the run's row, before the rows that the run writes (the lock order)."""
        held = db.session.scalar(select(SyncRun.id).where(*self.is_mine).with_for_update(key_share=True))
        if held is None:
            db.session.rollback()
            raise LeaseLost

    def write(self, **values: Any) -> None:
        """Set these values and renew the lease, in the caller's transaction."""
        now = utcnow()
        values = {"heartbeat_at": now, "lease_until": now + LEASE_OF_CALLS} | values
        if change_rows(db.session, update(SyncRun).where(*self.is_mine).values(**values)) != 1:
            db.session.rollback()
            raise LeaseLost
        for name, value in values.items():
            setattr(self.row, name, value)

    def save(self, **values: Any) -> None:
        """Set these values, renew the lease, and commit."""
        self.write(**values)
        db.session.commit()

    def end(self, status: RunStatus, **values: Any) -> None:
        """Write an ending in the caller's transaction."""
        self.write(status=status, finished_at=utcnow(), **NO_LEASE, **values)

    def hand_back(self) -> bool:
        """Queue the run again, at its checkpoint, for another worker; return False if it wasn't ours any more."""
        handed = change_rows(
            db.session,
            update(SyncRun).where(*self.is_mine).values(status=RunStatus.QUEUED, **NO_LEASE, enqueued_at=None),
        )
        db.session.commit()
        return handed == 1

    def expire(self) -> None:
        """End our lease now, as if this worker had died: the next claim counts a try."""
        expired = utcnow() - timedelta(seconds=1)
        change_rows(db.session, update(SyncRun).where(*self.is_mine).values(lease_until=expired))
        db.session.commit()


def has_enough_runs(run_id: int, now: datetime) -> bool:
    """Are MAX_RUNS_OF_AN_ORG other runs of its partner running? Locks the partner until the caller's transaction ends."""
    partner_id = db.session.scalar(
        select(Partner.id)
        .join(Connection)
        .join(SyncRun)
        .where(SyncRun.id == run_id)
        .with_for_update(of=Partner, key_share=True)
    )
    running = db.session.scalar(
        select(func.count())
        .select_from(SyncRun)
        .join(Connection)
        .where(Connection.partner_id == partner_id, SyncRun.status == RunStatus.RUNNING, SyncRun.lease_until > now)
    )
    return (running or 0) >= MAX_RUNS_OF_AN_ORG


def find_obstacle(run_id: int) -> StopReason | None:
    """Return why nothing may be read for this run now."""
    row = db.session.execute(
        select(Connection.status, User.deactivated_at, Partner.is_enabled)
        .select_from(SyncRun)
        .join(Connection)
        .join(User, User.id == Connection.user_id)
        .join(Partner, Partner.id == Connection.partner_id)
        .where(SyncRun.id == run_id)
    ).first()
    if row is None or row.status == ConnectionStatus.DISCONNECTED:
        return StopReason.DISCONNECTED
    if row.deactivated_at is not None:
        return StopReason.ADVISOR_INACTIVE
    return None if row.is_enabled else StopReason.FIRM_DISABLED


def enqueue_next_parked(partner_id: int, enqueue: Enqueue) -> None:
    """Enqueue the parked run of this partner that has waited longest."""
    run = db.session.scalar(
        select(SyncRun)
        .join(Connection)
        .where(Connection.partner_id == partner_id, SyncRun.status == RunStatus.QUEUED, SyncRun.is_parked)
        .order_by(SyncRun.queued_at, SyncRun.id)
        .limit(1)
        .with_for_update(of=SyncRun, skip_locked=True, key_share=True)  # two runs that end at once unpark two
    )
    if run is None:
        db.session.commit()
        return
    run.is_parked = False
    enqueue_run(run, enqueue)


def request_cancel(run: SyncRun) -> None:
    """Cancel a queued run now, and a running one at its next page."""
    now = utcnow()
    # In one statement, because the run may be handed back to the queue between two.
    is_queued = SyncRun.status == RunStatus.QUEUED
    change_rows(
        db.session,
        update(SyncRun)
        .where(SyncRun.id == run.id, SyncRun.status.in_(ACTIVE))
        .values(
            status=case((is_queued, RunStatus.CANCELLED.value), else_=SyncRun.status),
            finished_at=case((is_queued, now), else_=SyncRun.finished_at),
            cancel_requested_at=now,
        ),
    )
    db.session.commit()


def find_active_run(connection_id: int) -> SyncRun | None:
    return db.session.scalar(
        select(SyncRun).where(
            SyncRun.connection_id == connection_id, SyncRun.status.in_((RunStatus.QUEUED, RunStatus.RUNNING))
        )
    )


def find_shown_run(connection: Connection) -> SyncRun | None:
    """Return the run that the panel shows: the active one, or the latest."""
    return db.session.scalar(
        select(SyncRun).where(SyncRun.connection_id == connection.id).order_by(SyncRun.id.desc()).limit(1)
    )


def history(
    connection_ids: Sequence[int] | Select[int],
    before_id: int | None = None,
    limit: int = 20,
    *,
    only_changes: bool = False,
) -> list[SyncRun]:
    """Return runs of these connections, newest first, older than before_id. only_changes: those that changed a contact."""
    query = select(SyncRun).where(SyncRun.connection_id.in_(connection_ids))
    if only_changes:
        counts = (SyncRun.created, SyncRun.updated, SyncRun.adopted, SyncRun.reactivated, SyncRun.deactivated)
        query = query.where(or_(*(count > 0 for count in counts), cast(SyncRun.also, String) != "{}"))
    if before_id is not None:
        query = query.where(SyncRun.id < before_id)
    return list(db.session.scalars(query.order_by(SyncRun.id.desc()).limit(limit)))
