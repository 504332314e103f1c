"""The outbox: which leads are due, who works on them, and when a delivery is rung for.

Whoever delivers holds a lease on each lead of its round, and writes `WHERE lease = mine`. One delivery a connection is rung
for at a time: `connections.leads_rung_at` is set by whoever rings and taken away when the job begins, so that a lead stored
after that rings again. What Redis loses is rung for anew by the dispatch tick.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from asapp.clock import utcnow
from asapp.database import reading
from asapp.extensions import db
from asapp.models import Connection, ConnectionStatus, Lead, LeadState, Partner, User
from asapp.models.lead import UNDELIVERED

LEASE = timedelta(seconds=100)  # as a run's (sync/runs.py), renewed before each call
RUNG_LONG_AGO = timedelta(seconds=60)  # then the ring is taken for lost
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(hours=1)
# Keys of `why`, and of leads/words.py.
OUT_OF_SIGHT = "out_of_sight"
CHECKED = "checked"

RingLeads = Callable[[Sequence[int]], bool]


class LeaseLost(Exception):
    """Another worker has these leads now: whoever sees this stops and writes nothing more."""


# ---- Ringing


def ring_for(user_id: int, ring: RingLeads) -> None:
    """Ring for the delivery of this advisor's leads, unless one is on its way or nothing can be delivered. Commits."""
    with reading():
        connection_id = db.session.scalar(
            select(Connection.id).join(Partner).where(Connection.user_id == user_id, *_can_deliver(utcnow()))
        )
        db.session.commit()
    if connection_id is not None:
        _ring([connection_id], ring)


def ring_for_due(ring: RingLeads, limit: int = 500) -> int:
    """Ring for every connection with leads that are due; return for how many. Commits."""
    now = utcnow()
    due = exists().where(*_is_of_connection(), *_is_due(now))
    ids = db.session.scalars(select(Connection.id).join(Partner).where(due, *_can_deliver(now)).limit(limit)).all()
    db.session.commit()
    return _ring(ids, ring)


def count_due(session: Session, now: datetime) -> tuple[int, datetime | None]:
    """Return how many leads could be on their way to Salesforce now and are not, and since when the first of them."""
    due = (
        select(func.count(), func.min(Lead.next_attempt_at))
        .select_from(Lead)
        .join(Connection, and_(*_is_of_connection()))
        .join(Partner, Partner.id == Connection.partner_id)
        .where(*_is_due(now), *_can_deliver(now))
    )
    count, since = session.execute(due).one()
    return count, since


def begin_delivery(connection_id: int) -> None:
    """From here on a new lead rings again. Commits."""
    _execute(update(Connection).where(Connection.id == connection_id).values(leads_rung_at=None))
    db.session.commit()


def _ring(connection_ids: Sequence[int], ring: RingLeads) -> int:
    now = utcnow()
    quiet = or_(Connection.leads_rung_at.is_(None), Connection.leads_rung_at < now - RUNG_LONG_AGO)
    with reading():
        mine = list(db.session.scalars(select(Connection.id).where(Connection.id.in_(connection_ids), quiet)))
        db.session.commit()
    if not mine:
        return 0
    won = list(
        db.session.scalars(
            update(Connection)
            .where(Connection.id.in_(mine), quiet)
            .values(leads_rung_at=now)
            .returning(Connection.id)
            .execution_options(synchronize_session=False)
        )
    )
    db.session.commit()
    if won and not ring(won):
        _execute(update(Connection).where(Connection.id.in_(won)).values(leads_rung_at=None))
        db.session.commit()
        return 0
    return len(won)


def _can_deliver(now: datetime) -> tuple[Any, ...]:
    return (
        Connection.status == ConnectionStatus.CONNECTED,
        Connection.user.has(User.deactivated_at.is_(None)),
        Partner.is_enabled,
        Partner.consumer_key_sealed.is_not(None),
        Partner.consumer_secret_sealed.is_not(None),
        or_(Partner.paused_until.is_(None), Partner.paused_until <= now),
    )


def can_deliver(session: Session, connection_id: int) -> bool:
    """Is this connection's account connected, its advisor active, and its firm ready and not paused, at this moment?"""
    query = select(Connection.id).join(Partner).where(Connection.id == connection_id, *_can_deliver(utcnow()))
    return session.scalar(query) is not None


def _is_of_connection() -> tuple[Any, ...]:
    """A lead goes to the Salesforce of the firm that it signed up with, wherever its advisor has moved since."""
    return Lead.user_id == Connection.user_id, Lead.partner_id == Connection.partner_id


def _is_due(now: datetime) -> tuple[Any, ...]:
    return (
        Lead.state.in_(UNDELIVERED),
        Lead.next_attempt_at <= now,
        or_(Lead.lease.is_(None), Lead.lease_until < now),
    )


# ---- Claiming


def claim(user_id: int, partner_id: int, limit: int) -> tuple[str, list[Lead]]:
    """Take up to limit due leads of this advisor and firm, oldest first, and commit.

    Return the lease and the leads, read in a new transaction.
    """
    now, lease = utcnow(), secrets.token_hex(16)
    chosen = (
        select(Lead.id)
        .where(Lead.user_id == user_id, Lead.partner_id == partner_id, *_is_due(now))
        .order_by(Lead.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(db.session.scalars(chosen))
    if ids:
        _execute(update(Lead).where(Lead.id.in_(ids), *_is_due(now)).values(lease=lease, lease_until=now + LEASE))
    db.session.commit()
    return lease, lock_round(lease) if ids else []


def renew(session: Session, lease: str) -> int:
    """Renew the lease of a round in the caller's transaction; return how many leads it still holds."""
    statement = update(Lead).where(Lead.lease == lease).values(lease_until=utcnow() + LEASE)
    result = session.execute(statement.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], result).rowcount


def lock(lease: str, lead_ids: Collection[int]) -> list[Lead]:
    """Return those of these leads that are still ours, locked until the caller's transaction ends."""
    query = select(Lead).where(Lead.lease == lease, Lead.id.in_(lead_ids)).order_by(Lead.id).with_for_update()
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def lock_all(lead_ids: Collection[int]) -> list[Lead]:
    """Return these leads, whoever holds them, locked until the caller's transaction ends."""
    query = select(Lead).where(Lead.id.in_(lead_ids)).order_by(Lead.id).with_for_update()
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def lock_round(lease: str) -> list[Lead]:
    """Return whatever a round still holds, locked until the caller's transaction ends."""
    query = select(Lead).where(Lead.lease == lease).order_by(Lead.id).with_for_update()
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def release(lease: str) -> None:
    """Let go of whatever the round still holds. Commits."""
    db.session.rollback()
    _execute(update(Lead).where(Lead.lease == lease).values(lease=None, lease_until=None))
    db.session.commit()


def wait_of(failures: int) -> timedelta:
    """Return how long to wait after so many rounds that came to nothing: 15 s, 30 s, 1 min … up to an hour."""
    doubled: timedelta = FIRST_WAIT * 2 ** min(max(failures - 1, 0), 16)
    return min(doubled, LONGEST_WAIT) * random.uniform(0.9, 1.1)


def put_off(lead: Lead, why: str, detail: str = "", wait: timedelta | None = None) -> None:
    """Let a lead wait, in the caller's transaction. One whose create is unanswered stays `sending`."""
    lead.failures += 1
    lead.state = LeadState.SENDING if lead.unanswered_at else LeadState.WAITING
    lead.why, lead.why_detail, lead.why_words = why, detail[:255] or None, None
    lead.next_attempt_at = utcnow() + (wait or wait_of(lead.failures))
    lead.changed_at = utcnow()
    lead.lease = lead.lease_until = None


def _execute(statement: Any) -> int:
    result = db.session.execute(statement.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], result).rowcount
