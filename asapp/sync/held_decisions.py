"""What an advisor decided about a held sync, from the audit log: decisions leave no other lasting trace."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select

from asapp.core.extensions import db
from asapp.models import Action, AuditEntry, AuditIdentity, Connection, RunStatus, RunTrigger, SyncRun

ABOUT_HELD = (Action.APPROVED, Action.DISCARDED, Action.RECONSIDERED)
MOST = 20  # decisions about one held sync


class Decided(NamedTuple):
    """action: one of ABOUT_HELD. name: of the person; empty once erased. run_id: of the sync that an approval started."""

    at: datetime
    action: str
    number: int
    name: str
    run_id: int | None = None


def find_last_decision(connection: Connection) -> Decided | None:
    """Return the last decision about the newest held sync; None if that waits, or no longer has to be decided."""
    newest = select(SyncRun).where(SyncRun.connection_id == connection.id, SyncRun.status == RunStatus.HELD)
    run = db.session.scalar(newest.order_by(SyncRun.id.desc()).limit(1))
    decided = find_decisions(run) if run is not None else []
    return decided[-1] if decided else None


def find_decisions(run: SyncRun) -> list[Decided]:
    """Return what was decided about this held sync, the oldest first: until a later sync is held for another decision.

    A complete sync before the first decision left nothing to decide, and the decision is about a later one.
    """
    entries = _entries_after(run)
    if not entries:
        return []
    first_at = entries[0].at
    mine = SyncRun.connection_id == run.connection_id
    is_over = select(func.count()).where(
        mine,
        SyncRun.status == RunStatus.COMPLETE,
        SyncRun.finished_at >= run.finished_at,
        SyncRun.finished_at < first_at,
    )
    next_held = select(func.min(SyncRun.finished_at)).where(
        mine, SyncRun.status == RunStatus.HELD, SyncRun.finished_at >= first_at
    )
    was_over, until = db.session.execute(select(is_over.scalar_subquery(), next_held.scalar_subquery())).one()
    if was_over:
        return []
    return _with_runs(run, [each for each in entries if until is None or each.at < until])


def _entries_after(run: SyncRun) -> list[Decided]:
    connection = run.connection
    # By the person's identities, which have an index: a firm's log may be long.
    theirs = select(AuditIdentity.id).where(AuditIdentity.user_id == connection.user_id)
    rows = db.session.execute(
        select(AuditEntry.at, AuditEntry.action, AuditEntry.details, AuditIdentity.name)
        .join(AuditIdentity, AuditIdentity.id == AuditEntry.identity_id)
        .where(
            AuditEntry.identity_id.in_(theirs),
            AuditEntry.action.in_(ABOUT_HELD),
            AuditEntry.subject_type == Connection.__tablename__,
            AuditEntry.subject_id == connection.id,
            AuditEntry.at >= run.finished_at,
        )
        .order_by(AuditEntry.id)
        .limit(MOST)
    )
    return [Decided(row.at, row.action, row.details.get("contacts", 0), row.name) for row in rows]


def _with_runs(run: SyncRun, decided: list[Decided]) -> list[Decided]:
    """Return the decisions with the syncs that the approvals among them started."""
    if all(each.action != Action.APPROVED for each in decided):
        return decided
    query = select(SyncRun.id, SyncRun.queued_at).where(
        SyncRun.connection_id == run.connection_id, SyncRun.id > run.id, SyncRun.trigger == RunTrigger.APPROVAL
    )
    started = db.session.execute(query.order_by(SyncRun.id).limit(MOST)).all()
    return [
        each._replace(run_id=next((row.id for row in started if row.queued_at >= each.at), None))
        if each.action == Action.APPROVED
        else each
        for each in decided
    ]
