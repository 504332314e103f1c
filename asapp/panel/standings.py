"""The states of many advisors at once, each as on the advisor's own panel. The number of queries is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import aliased

from asapp.connections.state import state_of
from asapp.core.bulk import is_among
from asapp.core.extensions import db
from asapp.messages.failures import FixedBy, Occasion, fixed_by
from asapp.messages.states import AdvisorState
from asapp.models import Connection, ConnectionStatus, Departure, RunStatus, SyncRun, User
from asapp.models.run import ACTIVE
from asapp.sync.departures import waiting_for_decision


class Standing(NamedTuple):
    """connection: the one that is not disconnected. latest: that one, or the one disconnected last. held: as state_of()."""

    state: AdvisorState
    connection: Connection | None
    latest: Connection | None
    held: int


def find_standings(users: Sequence[User], now: datetime) -> dict[int, Standing]:
    """Return {user id: standing} for advisors; connections with earlier firms don't count.

    users: with their partner loaded, if there may be many firms.
    """
    ids = [user.id for user in users]
    latest = _find_latest(ids)
    connection_ids = [connection.id for connection in latest.values()]
    is_theirs = is_among(Connection.id, connection_ids)
    held = _count_held(connection_ids)
    syncing = _find_syncing(connection_ids)
    waiting_for_admin = _find_waiting_for_admin(is_theirs)

    def standing_of(user: User) -> Standing:
        last = latest.get(user.id)
        connection = last if last is not None and not last.is_disconnected else None
        held_here = held.get(connection.id, 0) if connection else 0
        state = state_of(
            user.partner,
            last,
            now,
            is_syncing=connection is not None and connection.id in syncing,
            waits_for_admin=connection is not None and connection.id in waiting_for_admin,
            held=held_here,
        )
        return Standing(state, connection, last, held_here)

    return {user.id: standing_of(user) for user in users}


def _find_latest(user_ids: list[int]) -> dict[int, Connection]:
    """Return {user id: connection}: the current one, or the one disconnected last, at the present firm."""
    is_disconnected = Connection.status == ConnectionStatus.DISCONNECTED
    rows = db.session.scalars(
        select(Connection)
        .join(User, (Connection.user_id == User.id) & (Connection.partner_id == User.partner_id))
        .where(is_among(Connection.user_id, user_ids))
        .order_by(is_disconnected.desc(), Connection.status_changed_at, Connection.id)
    )
    return {row.user_id: row for row in rows}  # the last one of each stays


def _count_held(connection_ids: list[int]) -> dict[int, int]:
    waiting: Any = (
        waiting_for_decision()
        .add_columns(func.count())
        .where(is_among(Departure.connection_id, connection_ids))
        .group_by(Departure.connection_id)
    )
    return {row[0]: row[1] for row in db.session.execute(waiting)}


def _find_syncing(connection_ids: list[int]) -> set[int]:
    is_theirs = is_among(SyncRun.connection_id, connection_ids)
    return set(db.session.scalars(select(SyncRun.connection_id).where(SyncRun.status.in_(ACTIVE), is_theirs)))


def _find_waiting_for_admin(is_theirs: ColumnElement[bool]) -> set[int]:
    """Return the connections whose last sync since connecting failed in a way that the firm's admin has to fix."""
    of_connection = aliased(SyncRun)
    last_run = select(func.max(of_connection.id)).where(of_connection.connection_id == Connection.id).scalar_subquery()
    failed = db.session.execute(
        select(Connection.id, SyncRun.error_code)
        .join(SyncRun, SyncRun.id == last_run)
        .where(
            is_theirs,
            Connection.status == ConnectionStatus.CONNECTED,
            SyncRun.status == RunStatus.FAILED,
            SyncRun.finished_at > Connection.status_changed_at,
        )
    )
    return {row.id for row in failed if fixed_by(Occasion.SYNC, row.error_code) == FixedBy.FIRM_ADMIN}
