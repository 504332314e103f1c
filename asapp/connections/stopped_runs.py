"""Runs that are cancelled because their firm is deactivated or their connection disconnected."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, update

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.leases import NO_LEASE
from asapp.models import Connection, RunStatus, SyncRun
from asapp.models.run import ACTIVE, StopReason


def stop_runs_of_firm(partner_id: int) -> None:
    """Cancel the firm's active runs, in the caller's transaction. Their workers write nothing more."""
    of_firm = select(Connection.id).where(Connection.partner_id == partner_id)
    stop_runs(SyncRun.connection_id.in_(of_firm), SyncRun.status.in_(ACTIVE), code=StopReason.FIRM_DISABLED)


def stop_run_of(connection_id: int, code: StopReason) -> None:
    """Cancel the active run of a connection, in the caller's transaction; code: why."""
    stop_runs(SyncRun.connection_id == connection_id, SyncRun.status.in_(ACTIVE), code=code)


def stop_runs(*which: ColumnElement[bool], code: StopReason) -> None:
    """Cancel the active runs that meet these conditions, in the caller's transaction."""
    db.session.execute(
        update(SyncRun)
        .where(*which)
        .values(status=RunStatus.CANCELLED, finished_at=utcnow(), **NO_LEASE, error_code=code)
        .execution_options(synchronize_session="fetch")
    )
