"""The outbox: which leads are due, which delivery works on them, and when a delivery is enqueued.

A delivery holds a lease on each lead of its round and writes `WHERE lease = mine`. One delivery a connection is
enqueued at a time: `connections.leads_rung_at` says since when. It is cleared when the job begins, so that a lead
stored after that enqueues the next delivery. What Redis loses is enqueued again by the dispatch tick.

`connections.leads_not_before` keeps the deliveries of a connection apart, so that many sign-ups are sent in batches.
Each delivery moves it on by a gap, counted from AHEAD ago at the earliest: where few people sign up, AT_ONCE deliveries
may follow each other at once; where many do, there is one delivery in each gap, for everyone who came since. The gap
grows as the leads' part of the firm's calls is used up (connections/api_budget.py). Both times are in the row, and the
tick enqueues what is due.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select, update
from sqlalchemy.orm import Session

from asapp.core.backoff import wait_after, with_jitter
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, change_rows_returning, reading
from asapp.core.extensions import db
from asapp.core.leases import LEASE_OF_CALLS, NO_LEASE, new_lease
from asapp.models import Connection, ConnectionStatus, Lead, LeadState, Partner, User
from asapp.models.lead import UNDELIVERED

ENQUEUED_LONG_AGO = timedelta(seconds=60)  # then the job counts as lost
AT_ONCE = 5  # deliveries of a connection without a gap
GAP = timedelta(minutes=1)  # between deliveries from then on
WIDER_GAPS = ((0.75, timedelta(minutes=30)), (0.5, timedelta(minutes=5)))  # from this part of the leads' calls on
AHEAD = GAP * (AT_ONCE - 1)
NO_CALLS_WAIT = timedelta(minutes=15)  # then we check whether there are calls for leads again; the check costs no call
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(hours=1)

Enqueue = Callable[[Sequence[int]], bool]  # takes ids of connections; returns whether Redis took them


# ---- Enqueueing


def enqueue_for(user_id: int, enqueue: Enqueue) -> None:
    """Enqueue a delivery of this advisor's leads if some are due, none is enqueued and the gap has passed. Commits."""
    with reading():
        connection_id = db.session.scalar(_ready(utcnow()).where(Connection.user_id == user_id).limit(1))
        db.session.commit()
    if connection_id is not None:
        enqueue_unless_enqueued([connection_id], enqueue)


def enqueue_due(enqueue: Enqueue, limit: int = 500) -> int:
    """Enqueue a delivery for every connection with due leads; return for how many. Commits."""
    ids = db.session.scalars(_ready(utcnow()).limit(limit)).all()
    db.session.commit()
    return enqueue_unless_enqueued(ids, enqueue)


def count_due(session: Session, now: datetime) -> tuple[int, datetime | None]:
    """Return how many leads are due and not being delivered, and since when the first of them waits."""
    is_held_back = Connection.leads_not_before > Lead.next_attempt_at
    since_when = case((is_held_back, Connection.leads_not_before), else_=Lead.next_attempt_at)
    due = (
        select(func.count(), func.min(since_when))
        .select_from(Lead)
        .join(Connection, and_(*_is_of_connection()))
        .join(Partner, Partner.id == Connection.partner_id)
        .where(*_is_due(now), *_can_deliver(now), _is_time(now))
    )
    count, since = session.execute(due).one()
    return count, since


def begin_delivery(connection_id: int) -> None:
    """Record that the enqueued delivery has begun: a new lead enqueues the next one. Commits."""
    change_rows(db.session, update(Connection).where(Connection.id == connection_id).values(leads_rung_at=None))
    db.session.commit()


def delay_next(connection_id: int, leads_used: float) -> None:
    """Move the next delivery on, after one that had leads to deliver. leads_used: Allowance.leads_used. Commits."""
    connection, now = _lock_connection(connection_id), utcnow()
    earliest = max(connection.leads_not_before or now - AHEAD, now - AHEAD)
    connection.leads_not_before = earliest + gap_of(leads_used)
    db.session.commit()


def wait_for_calls(connection_id: int) -> None:
    """Enqueue no delivery for a while, as the leads' part of the firm's calls is used up. Commits."""
    _lock_connection(connection_id).leads_not_before = utcnow() + NO_CALLS_WAIT
    db.session.commit()


def gap_of(leads_used: float) -> timedelta:
    """Return the gap between deliveries once this part of the leads' calls is used."""
    return next((gap for used, gap in WIDER_GAPS if leads_used >= used), GAP)


def _lock_connection(connection_id: int) -> Connection:
    return db.session.get_one(Connection, connection_id, with_for_update={"key_share": True}, populate_existing=True)


def enqueue_unless_enqueued(connection_ids: Sequence[int], enqueue: Enqueue) -> int:
    now = utcnow()
    is_free = or_(Connection.leads_rung_at.is_(None), Connection.leads_rung_at < now - ENQUEUED_LONG_AGO)
    with reading():
        mine = list(db.session.scalars(select(Connection.id).where(Connection.id.in_(connection_ids), is_free)))
        db.session.commit()
    if not mine:
        return 0
    claim = update(Connection).where(Connection.id.in_(mine), is_free).values(leads_rung_at=now)
    won = change_rows_returning(db.session, claim.returning(Connection.id))
    db.session.commit()
    if won and not enqueue(won):
        change_rows(db.session, update(Connection).where(Connection.id.in_(won)).values(leads_rung_at=None))
        db.session.commit()
        return 0
    return len(won)


def _ready(now: datetime) -> Select[int]:
    """Select connections with due leads whose gap has passed."""
    due = exists().where(*_is_of_connection(), *_is_due(now))
    return select(Connection.id).join(Partner).where(due, *_can_deliver(now), _is_time(now))


def _can_deliver(now: datetime) -> tuple[Any, ...]:
    return (
        Connection.status == ConnectionStatus.CONNECTED,
        Connection.user.has(User.deactivated_at.is_(None)),
        Partner.is_ready,
        ~Partner.paused(now),
    )


def _is_time(now: datetime) -> ColumnElement[bool]:
    """May the next delivery begin? One that has begun is not stopped by its own gap."""
    return or_(Connection.leads_not_before.is_(None), Connection.leads_not_before <= now)


def can_deliver(session: Session, connection_id: int) -> bool:
    """Is this connection's account connected, its advisor active, and its firm set up and not paused, now?"""
    query = select(Connection.id).join(Partner).where(Connection.id == connection_id, *_can_deliver(utcnow()))
    return session.scalar(query) is not None


def _is_of_connection() -> tuple[Any, ...]:
    """A lead goes to the Salesforce of the firm that it signed up with, even if its advisor has moved since."""
    return Lead.user_id == Connection.user_id, Lead.partner_id == Connection.partner_id


def _is_due(now: datetime) -> tuple[Any, ...]:
    return (
        Lead.state.in_(UNDELIVERED),
        Lead.next_attempt_at <= now,
        Lead.has_no_worker(now),
    )


# ---- Claiming


def claim(user_id: int, partner_id: int, limit: int) -> tuple[str, list[Lead]]:
    """Take up to limit due leads of this advisor and firm, oldest first, and commit.

    Return the lease and the leads, read in a new transaction.
    """
    now, lease = utcnow(), new_lease()
    chosen = (
        select(Lead.id)
        .where(Lead.user_id == user_id, Lead.partner_id == partner_id, *_is_due(now))
        .order_by(Lead.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(db.session.scalars(chosen))
    if ids:
        change_rows(
            db.session,
            update(Lead).where(Lead.id.in_(ids), *_is_due(now)).values(lease=lease, lease_until=now + LEASE_OF_CALLS),
        )
    db.session.commit()
    return lease, lock_round(lease) if ids else []


def renew(session: Session, lease: str) -> int:
    """Renew the lease of a round in the caller's transaction; return how many leads are still under it."""
    return change_rows(session, update(Lead).where(Lead.lease == lease).values(lease_until=utcnow() + LEASE_OF_CALLS))


def lock(lease: str, lead_ids: Collection[int]) -> list[Lead]:
    """Return those of these leads that are still under this lease, locked until the caller's transaction ends."""
    query = select(Lead).where(Lead.lease == lease, Lead.id.in_(lead_ids)).order_by(Lead.id).with_for_update()
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def lock_all(lead_ids: Collection[int]) -> list[Lead]:
    """Return these leads, under any lease or none, locked until the caller's transaction ends."""
    query = select(Lead).where(Lead.id.in_(lead_ids)).order_by(Lead.id).with_for_update()
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def lock_round(lease: str) -> list[Lead]:
    """Return the leads that are still under this lease, locked until the caller's transaction ends."""
    query = select(Lead).where(Lead.lease == lease).order_by(Lead.id).with_for_update()
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def release(lease: str) -> None:
    """Release every lead that is still under this lease. Commits."""
    db.session.rollback()
    change_rows(db.session, update(Lead).where(Lead.lease == lease).values(NO_LEASE))
    db.session.commit()


def wait_of(failures: int) -> timedelta:
    """Return how long to wait after this many failed rounds: 15 s, 30 s, 1 min … up to an hour."""
    return with_jitter(wait_after(failures, FIRST_WAIT, LONGEST_WAIT))


def put_off(lead: Lead, why: str, detail: str = "", wait: timedelta | None = None) -> None:
    """Let a lead wait, in the caller's transaction. One with an unanswered create stays `sending`."""
    lead.failures += 1
    lead.state = LeadState.SENDING if lead.unanswered_at else LeadState.WAITING
    lead.why, lead.why_detail, lead.why_words = why, detail[:255] or None, None
    lead.next_attempt_at = utcnow() + (wait or wait_of(lead.failures))
    lead.changed_at = utcnow()
    lead.end_lease()
