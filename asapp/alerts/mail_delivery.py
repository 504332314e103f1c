"""The alert mails: who is due, which process sends, and what happens if the mail server refuses one.

The sending process takes a lease on all alerts that one person is due to be told, commits, sends one mail with no
transaction open, and records it as sent. A process that dies in between sends it again once the lease has run out: an
alert that no one gets is worse than one that comes twice, and the gap is one commit. Nothing is sent about an alert that
is over, nor to a person who was deactivated or moved.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from asapp.alerts import alerts, mail_text
from asapp.core.backoff import wait_after
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, change_rows_returning, end_read, reading, writing
from asapp.core.extensions import db
from asapp.core.leases import NO_LEASE, new_lease
from asapp.core.mail import LEASE, Fate, Letter
from asapp.models import Alert, AlertKind, AlertMail, Connection, ConnectionStatus, Role, User

log = logging.getLogger(__name__)

QUIET = timedelta(hours=6)  # a recurring state is reported no more often than this
REMINDER = timedelta(hours=24)  # after the first mail, once
REMINDING = (AlertKind.HELD,)  # kinds that wait for the person's decision
GAP = timedelta(minutes=15)  # between two mails to one person; what comes in between waits, and goes in one mail
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=6)
ROUND_S = 45.0  # then other jobs have their turn; the next tick enqueues another

Post = Callable[[Letter], Fate]


@dataclass(frozen=True)
class MailRound:
    """What one person is told now: rows of alert_mails under one lease."""

    lease: str
    user_id: int
    attempts: int


def are_due() -> bool:
    """Is any mail due? Ends the transaction."""
    end_read(db.session)
    with reading():
        found = db.session.scalar(due(utcnow()).limit(1)) is not None
        end_read(db.session)
    return found


def send_due(post: Post, public_url: str) -> int:
    """Send what is due, person by person; return how many mails the server took. Commits."""
    alerts.close_what_is_over()
    give_up_at, sent = time.monotonic() + ROUND_S, 0
    while time.monotonic() < give_up_at and (mine := claim(utcnow())) is not None:
        fate = send(mine, post, public_url)
        sent += fate is Fate.TAKEN
        if fate is Fate.AWAY:
            put_off_all(mine.attempts)
            break
    return sent


def send(mine: MailRound, post: Post, public_url: str) -> Fate:
    with reading():
        letter = mail_text.write(mine.lease, mine.user_id, public_url)
        db.session.commit()
    fate = post(letter) if letter is not None else Fate.REFUSED
    with writing():
        record_sent(mine.lease) if fate is Fate.TAKEN else put_off(mine)
        db.session.commit()
    return fate


def claim(now: datetime) -> MailRound | None:
    """Claim all that is due for the person who has waited longest, or return None. Commits."""
    while (user_id := next_person(now)) is not None:
        lease = new_lease()
        mine = due(now).with_only_columns(AlertMail.id).where(AlertMail.user_id == user_id)
        with writing():
            won = change_rows_returning(
                db.session,
                update(AlertMail)
                .where(AlertMail.id.in_(mine), AlertMail.due_at <= now, AlertMail.has_no_worker(now))
                .values(lease=lease, lease_until=now + LEASE, attempts=AlertMail.attempts + 1)
                .returning(AlertMail.attempts),
            )
            db.session.commit()
        if won:
            return MailRound(lease, user_id, max(won))
    return None


def next_person(now: datetime) -> int | None:
    with reading():
        user_id: int | None = db.session.scalar(due(now).order_by(AlertMail.due_at, AlertMail.user_id).limit(1))
        db.session.commit()
    return user_id


def due(now: datetime) -> Select[Any]:
    """Select the due (person, alert) rows. Read in order of ix_alert_mails_waiting, hence no joins."""
    return select(AlertMail.user_id).where(
        AlertMail.due_at <= now, concerns_them(), or_(AlertMail.is_over, ~was_told_lately(now)), ~has_mail_lately(now)
    )


def concerns_them() -> ColumnElement[bool]:
    """Is the alert open, or does the mail say that it is over; and does it still concern this person?"""
    return (
        select(Alert.id)
        .join(User, User.id == AlertMail.user_id)
        .outerjoin(Connection, Connection.id == Alert.connection_id)
        .where(
            Alert.id == AlertMail.alert_id,
            or_(Alert.closed_at.is_(None), AlertMail.is_over),
            User.deactivated_at.is_(None),
            or_(is_their_own(), and_(Alert.partner_id.is_not(None), User.role == Role.ADMIN)),
        )
        .correlate(AlertMail)
        .exists()
    )


def is_their_own() -> ColumnElement[bool]:
    return and_(
        Connection.user_id == User.id,
        Connection.partner_id == User.partner_id,
        Connection.status != ConnectionStatus.DISCONNECTED,
    )


def was_told_lately(now: datetime) -> ColumnElement[bool]:
    """Was the person told lately about the same kind and subject, by an alert that has closed since?"""
    this, earlier, their = aliased(Alert), aliased(Alert), aliased(AlertMail)
    is_same = or_(earlier.connection_id == this.connection_id, earlier.partner_id == this.partner_id)
    return (
        select(their.id)
        .join(earlier, earlier.id == their.alert_id)
        .join(this, and_(this.id == AlertMail.alert_id, this.kind == earlier.kind, is_same))
        .where(their.user_id == AlertMail.user_id, their.sent_at > now - QUIET)
        .correlate(AlertMail)
        .exists()
    )


def has_mail_lately(now: datetime) -> ColumnElement[bool]:
    """Did the person get any alert mail lately, or is one being sent now?"""
    other = aliased(AlertMail)
    return (
        select(other.id)
        .where(other.user_id == AlertMail.user_id, or_(other.sent_at > now - GAP, other.lease_until > now))
        .exists()
    )


def record_sent(lease: str) -> None:
    """Record as sent, in the caller's transaction; also alerts that closed just now, as the person was told."""
    now = utcnow()
    sent: dict[str, Any] = {"sent_at": now, **NO_LEASE}
    reminding = select(Alert.id).where(Alert.kind.in_(REMINDING), Alert.closed_at.is_(None))
    first = (AlertMail.lease == lease) & ~AlertMail.is_reminder & AlertMail.alert_id.in_(reminding)
    _write(first, **sent, due_at=now + REMINDER, attempts=0, is_reminder=True)
    _write(AlertMail.lease == lease, **sent, due_at=None)


def put_off(mine: MailRound) -> None:
    """Retry at growing intervals while the alert is open. In the caller's transaction."""
    at = utcnow() + wait_of(mine.attempts)
    _write((AlertMail.lease == mine.lease) & AlertMail.due_at.is_not(None), due_at=at)
    _write(AlertMail.lease == mine.lease, **NO_LEASE)


def put_off_all(attempts: int) -> None:
    """Put all mails off, as the mail server can't be reached. Commits."""
    now = utcnow()
    with writing():
        _write((AlertMail.due_at <= now) & AlertMail.has_no_worker(now), due_at=now + wait_of(attempts))
        db.session.commit()


def wait_of(attempts: int) -> timedelta:
    return wait_after(attempts, FIRST_WAIT, LONGEST_WAIT)


def count_waiting(session: Session) -> int:
    """Return how many mails the server was offered and has not taken."""
    waiting = select(func.count()).where(AlertMail.due_at.is_not(None), AlertMail.attempts > 0)
    return session.scalar(waiting) or 0


def _write(which: ColumnElement[bool], **values: Any) -> int:
    return change_rows(db.session, update(AlertMail).where(which).values(**values))
