"""When a connection's next sync is due: with jitter, and later from failure to failure."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, select

from asapp.core.backoff import wait_after, with_jitter
from asapp.models import Connection, ConnectionStatus, Partner, User

FIRST_BACKOFF = timedelta(minutes=2)
MAX_BACKOFF_INTERVALS = 4


def next_sync_at(now: datetime, interval_minutes: int, failures_in_a_row: int = 0) -> datetime:
    """Return when the next sync is due: soon after a failure, then later each time, at most four intervals away."""
    wait = interval = timedelta(minutes=interval_minutes)
    if failures_in_a_row:
        wait = wait_after(failures_in_a_row, FIRST_BACKOFF, interval * MAX_BACKOFF_INTERVALS)
    return now + with_jitter(wait)


def is_due(now: datetime) -> ColumnElement[bool]:
    """Over Connection joined to Partner: is it time for a scheduled sync?"""
    return and_(
        Connection.status == ConnectionStatus.CONNECTED,
        Connection.next_sync_at <= now,
        Partner.is_enabled,
        select(User.id).where(User.id == Connection.user_id, User.deactivated_at.is_(None)).exists(),
        ~Partner.paused(now),
    )
