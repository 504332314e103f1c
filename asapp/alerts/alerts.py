"""Alerts are opened and closed by each tick, as the rows say; once for each change of state.

A tick first checks, without a lock, whether there is anything to write. Two ticks at once do no harm: the database allows
one open alert for each kind and subject, and the tick that opens it also stores, in the same transaction, who has to be
told.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, delete, func, literal, or_, select, update
from sqlalchemy.orm import Session

from asapp.alerts.rules import RULES, AlertRule
from asapp.core.bulk import is_among
from asapp.core.clock import utcnow
from asapp.core.database import end_read, insert_ignore, reading, writing
from asapp.core.extensions import db
from asapp.messages.alerts import OVER
from asapp.models import (
    Action,
    Alert,
    AlertKind,
    AlertMail,
    AuditEntry,
    Connection,
    ConnectionStatus,
    Partner,
    Role,
    User,
)

log = logging.getLogger(__name__)

BATCH = 5000  # of a kind at once; the next tick goes on
KEPT = timedelta(days=90)
CALM = timedelta(minutes=15)  # then it is told that an alert is over, unless the next one has begun

ALERTS: Table = Alert.__table__  # type: ignore[assignment]
MAILS: Table = AlertMail.__table__  # type: ignore[assignment]


@dataclass(frozen=True)
class Changes:
    """new: {kind: ids of connections or partners}; over and old: ids of alerts."""

    new: Mapping[AlertRule, Sequence[int]]
    over: Sequence[int]
    old: Sequence[int]

    @property
    def are_none(self) -> bool:
        return not (any(self.new.values()) or self.over or self.old)


def update_alerts(now: datetime | None = None) -> Changes:
    """Open alerts for states that began, close those that are over, delete old ones. Commits."""
    now = now or utcnow()
    db.session.commit()
    changes = find_changes(now)
    if changes.are_none:
        return changes
    with writing():
        close(changes.over, now)
        for rule, ids in changes.new.items():
            if ids:
                begin(rule, ids, now)
        db.session.execute(delete(ALERTS).where(is_among(ALERTS.c.id, changes.old)))
        db.session.commit()
    log.info("alerts", extra={"new": sum(map(len, changes.new.values())), "over": len(changes.over)})
    return changes


def close_what_is_over(now: datetime | None = None) -> None:
    """Close alerts that are over, so that no one is told of them any more. Commits."""
    now = now or utcnow()
    db.session.commit()
    over = find_changes(now).over
    if over:
        with writing():
            close(over, now)
            db.session.commit()


def find_changes(now: datetime) -> Changes:
    """Compare the present states with the open alerts. No transaction is open before and after it.

    Here, not in the database: its planner has no statistics for a state that has just begun for thousands.
    """
    new: dict[AlertRule, list[int]] = {}
    over: list[int] = []
    with reading():
        opened = find_open()
        for rule in RULES:
            found, known = rule.find(now), opened[rule.kind]
            new[rule] = sorted(found - known.keys())[:BATCH]
            staying = rule.find_staying(now) if rule.find_staying and known else found
            over += [alert_id for subject, alert_id in known.items() if subject not in staying]
        old = db.session.scalars(select(Alert.id).where(Alert.closed_at < now - KEPT).limit(BATCH)).all()
        end_read(db.session)
    return Changes(new, over, old)


def find_open() -> dict[str, dict[int, int]]:
    """Return {kind: {id of the connection or partner: id of its open alert}}."""
    subject = func.coalesce(Alert.connection_id, Alert.partner_id)
    opened: dict[str, dict[int, int]] = {kind: {} for kind in AlertKind}
    for kind, subject_id, alert_id in db.session.execute(
        select(Alert.kind, subject, Alert.id).where(Alert.closed_at.is_(None))
    ):
        opened[kind][subject_id] = alert_id
    return opened


def close(alert_ids: Sequence[int], now: datetime) -> None:
    """Close these alerts, in the caller's transaction: their waiting mails go, and who was told is told that they are over."""
    if not alert_ids:
        return
    ended = select(ALERTS.c.id).where(is_among(ALERTS.c.id, alert_ids), ALERTS.c.kind.in_(OVER), ended_well())
    db.session.execute(
        update(MAILS)
        .where(MAILS.c.alert_id.in_(ended), MAILS.c.sent_at.is_not(None), ~MAILS.c.is_over)
        .values(due_at=now + CALM, attempts=0, is_over=True)
    )
    db.session.execute(
        update(ALERTS).where(is_among(ALERTS.c.id, alert_ids), ALERTS.c.closed_at.is_(None)).values(closed_at=now)
    )
    db.session.execute(
        update(MAILS)
        .where(is_among(MAILS.c.alert_id, alert_ids), MAILS.c.due_at.is_not(None), ~MAILS.c.is_over)
        .values(due_at=None)
    )


def ended_well() -> ColumnElement[bool]:
    """Is an alert over because all is well, and not by a disconnect, a disabled firm or the advisor's own decision?"""
    is_going_on = select(Connection.id).where(
        Connection.id == ALERTS.c.connection_id,
        Connection.status != ConnectionStatus.DISCONNECTED,
        Connection.partner_id.in_(select(Partner.id).where(Partner.is_enabled)),
    )
    is_enabled = select(Partner.id).where(Partner.id == ALERTS.c.partner_id, Partner.is_enabled)
    decided = select(AuditEntry.id).where(
        ALERTS.c.kind == AlertKind.HELD,
        AuditEntry.action.in_((Action.APPROVED, Action.DISCARDED)),
        AuditEntry.subject_type == Connection.__tablename__,
        AuditEntry.subject_id == ALERTS.c.connection_id,
        AuditEntry.at >= ALERTS.c.opened_at,
    )
    return or_(is_going_on.exists(), is_enabled.exists()) & ~decided.exists()


def forget_endings(rule: AlertRule, subject_ids: Sequence[int]) -> None:
    """Drop waiting mails that say that an alert of these is over, in the caller's transaction: the next trouble has begun."""
    subject = ALERTS.c.partner_id if rule.is_of_partner else ALERTS.c.connection_id
    theirs = select(ALERTS.c.id).where(is_among(subject, subject_ids))
    db.session.execute(
        update(MAILS)
        .where(MAILS.c.alert_id.in_(theirs), MAILS.c.is_over, MAILS.c.due_at.is_not(None))
        .values(due_at=None)
    )


def begin(rule: AlertRule, subject_ids: Sequence[int], now: datetime) -> None:
    """Open alerts and store who has to be told, in the caller's transaction."""
    forget_endings(rule, subject_ids)
    subject = ALERTS.c.partner_id if rule.is_of_partner else ALERTS.c.connection_id
    row_id = Partner.id if rule.is_of_partner else Connection.id
    chosen = select(literal(rule.kind.value), row_id, literal(now, ALERTS.c.opened_at.type)).where(
        is_among(row_id, subject_ids)
    )
    statement = insert_ignore(db.session, ALERTS).from_select([ALERTS.c.kind, subject, ALERTS.c.opened_at], chosen)
    begun = db.session.scalars(statement.returning(ALERTS.c.id)).all()
    people = admins() if rule.is_of_partner else the_advisor()
    due_at, attempts = literal(now, MAILS.c.due_at.type), literal(0)
    letters = people.add_columns(due_at, attempts).where(is_among(Alert.id, begun))
    columns = [MAILS.c.alert_id, MAILS.c.user_id, MAILS.c.due_at, MAILS.c.attempts]
    db.session.execute(insert_ignore(db.session, MAILS).from_select(columns, letters))


def the_advisor() -> Select[*tuple[Any, ...]]:
    return select(Alert.id, Connection.user_id).join(Connection, Connection.id == Alert.connection_id)


def admins() -> Select[*tuple[Any, ...]]:
    return select(Alert.id, User.id).join(User, (User.role == Role.ADMIN) & User.deactivated_at.is_(None))


def count_open(session: Session) -> dict[str, int]:
    """Return {kind: open alerts}, with every kind."""
    rows = session.execute(select(Alert.kind, func.count()).where(Alert.closed_at.is_(None)).group_by(Alert.kind))
    found = {str(kind): count for kind, count in rows}
    return {kind.value: found.get(kind, 0) for kind in AlertKind}


@dataclass(frozen=True)
class OpenAlerts:
    """The open alerts of one kind and firm, as one line."""

    kind: AlertKind
    partner: Partner
    number: int
    since: datetime


def list_open() -> list[OpenAlerts]:
    """Return the open alerts by firm and kind: those about a whole firm first, then the oldest first."""
    partner_id = func.coalesce(Alert.partner_id, Connection.partner_id)
    rows = db.session.execute(
        select(Alert.kind, Partner, func.count(), func.min(Alert.opened_at))
        .outerjoin(Connection, Connection.id == Alert.connection_id)
        .join(Partner, Partner.id == partner_id)
        .where(Alert.closed_at.is_(None))
        .group_by(Alert.kind, Partner.id)
        .order_by(func.max(Alert.partner_id).is_(None), func.min(Alert.opened_at), Partner.id, Alert.kind)
    )
    return [OpenAlerts(AlertKind(kind), partner, number, since) for kind, partner, number, since in rows]
