"""Until when a connection's opt-out data counts: the only place that decides it for page, mails and figures.

The warning comes a day before the end; with a single day of trust, half a day before, or it would always show.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, or_

from asapp.models import Connection, Partner
from asapp.models.connection import HAS_BELIEFS

WARNING = timedelta(days=1)
SHORT_WARNING = timedelta(hours=12)


def are_unknown(connection: Connection, now: datetime) -> bool:
    """Was there a good sync, and is it too long ago for its opt-outs to count?"""
    until = connection.opt_outs_known_until
    return _has_beliefs(connection) and (until is None or until <= now)


def become_unknown_soon(connection: Connection, partner: Partner, now: datetime) -> bool:
    until = connection.opt_outs_known_until
    warning = SHORT_WARNING if partner.opt_outs_trusted_days == 1 else WARNING
    return _has_beliefs(connection) and until is not None and now < until <= now + warning


def where_unknown(now: datetime) -> ColumnElement[bool]:
    """Return are_unknown() over Connection. A connection with a good sync always has the time, written by that sync."""
    return and_(HAS_BELIEFS, Connection.opt_outs_known_until <= now)


def where_unknown_soon(now: datetime) -> ColumnElement[bool]:
    """Return become_unknown_soon() over Connection joined to Partner."""
    until = Connection.opt_outs_known_until
    is_long = Partner.opt_outs_trusted_days > 1
    return and_(HAS_BELIEFS, until > now, until <= now + WARNING, or_(is_long, until <= now + SHORT_WARNING))


def _has_beliefs(connection: Connection) -> bool:
    return not connection.is_disconnected and connection.first_synced_at is not None


def count_days(days: int) -> str:
    """Return the number of days that opt-outs are trusted, in words."""
    return f"{days} day{'s' if days != 1 else ''}"
