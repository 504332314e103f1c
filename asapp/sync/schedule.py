"""When a connection is due: a column in the database, with jitter, backing off after failures."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, select

from asapp.models import Connection, ConnectionStatus, Partner, User

FIRST_BACKOFF = timedelta(minutes=2)
MAX_BACKOFF_INTERVALS = 4
JITTER = 0.1


def next_sync_at(now: datetime, interval_minutes: int, failures_in_a_row: int = 0) -> datetime:
    """Return when the next sync is due: after a failure soon, then later and later, at most four intervals away."""
    interval = timedelta(minutes=interval_minutes)
    wait = interval
    if failures_in_a_row:
        doubled = FIRST_BACKOFF * 2 ** min(failures_in_a_row - 1, 16)
        wait = min(doubled, interval * MAX_BACKOFF_INTERVALS)
    return now + wait * random.uniform(1 - JITTER, 1 + JITTER)


def is_due(now: datetime) -> ColumnElement[bool]:
    """Over Connection joined to Partner: is it time for a scheduled sync?"""
    return and_(
        Connection.status == ConnectionStatus.CONNECTED,
        Connection.next_sync_at <= now,
        Partner.is_enabled,
        select(User.id).where(User.id == Connection.user_id, User.deactivated_at.is_(None)).exists(),
        ~Partner.paused(now),
    )
