"""Leases: which worker works on a row, and until when.

A worker claims a row with its own key and a time, commits, and from then on writes `WHERE lease = that key`. When the
time is up, the worker counts as dead and another may claim the row; if the first one wakes up, it writes nothing more.
How long a lease is, and what happens to the row of a dead worker, is up to each kind of work.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, String, or_
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column

from asapp.core.database import UTCDateTime

# Of work that calls Salesforce, renewed before each call: longer than a call that is refused, the wait for a refresh, and a
# refresh of our own together (docs/decisions/06-leases.md has the sum).
LEASE_OF_CALLS = timedelta(seconds=100)
NO_LEASE = {"lease": None, "lease_until": None}  # values of an UPDATE that releases rows


class LeaseLost(Exception):
    """Another worker has this work now, or it has ended: stop at once and write nothing more."""


class Leased:
    """Two columns of a row that one worker at a time works on."""

    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @classmethod
    def has_no_worker(cls, now: datetime) -> ColumnElement[bool]:
        """Was the row never claimed, or released, or is the lease over?"""
        return is_free(cls.lease, cls.lease_until, now)

    def end_lease(self) -> None:
        self.lease = self.lease_until = None


def new_lease() -> str:
    return secrets.token_hex(16)


def is_free(
    lease: InstrumentedAttribute[str | None], until: InstrumentedAttribute[datetime | None], now: datetime
) -> ColumnElement[bool]:
    return or_(lease.is_(None), until <= now)
