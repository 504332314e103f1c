"""When a person was here last, for what has changed since then.

A visit ends when the person opens no page for half an hour. accounts/sessions.py records the use of pages.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import case, select, update

from asapp.core.database import change_rows, insert_ignore
from asapp.core.extensions import db
from asapp.models import Visit

ENDS_AFTER = timedelta(minutes=30)


def find_last(user_id: int) -> datetime | None:
    """Return when the visit before this one ended; None if this is the first."""
    return db.session.scalar(select(Visit.last_ended_at).where(Visit.user_id == user_id))


def record(user_id: int, now: datetime) -> None:
    """Record that the person is here, in the caller's transaction."""
    ended = case((Visit.seen_at < now - ENDS_AFTER, Visit.seen_at), else_=Visit.last_ended_at)
    known = update(Visit).where(Visit.user_id == user_id).values(last_ended_at=ended, seen_at=now)
    if not change_rows(db.session, known):
        db.session.execute(insert_ignore(db.session, Visit).values(user_id=user_id, seen_at=now))
