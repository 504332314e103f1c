"""The first steps of a new advisor, on Contacts until they are done or hidden.

Connecting and the first sync are seen from the connection, and a shared page from the first sign-up. That the page was
shared otherwise, or put into a signature, is recorded when the advisor takes the link or the snippet from the list.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import select

from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Connection, FirstSteps, Lead, User


class FirstStep(StrEnum):
    CONNECT = "connect"
    SYNC = "sync"
    SHARE = "share"
    SIGNATURE = "signature"


class StepsDone(NamedTuple):
    """done: {step: whether it is}, in order. connection: the present one, or the last."""

    done: dict[FirstStep, bool]
    connection: Connection | None

    @property
    def number_done(self) -> int:
        return sum(self.done.values())

    @property
    def next(self) -> FirstStep:
        return next(step for step, is_done in self.done.items() if not is_done)


def find(user: User, connection: Connection | None) -> StepsDone | None:
    """Return the steps; None if all are done, the advisor has hidden them, or the firm isn't set up.

    connection: the present one, or the last.
    """
    has_lead = select(Lead.id).where(Lead.user_id == user.id).exists()
    row = db.session.execute(
        select(FirstSteps, has_lead.label("has_lead")).select_from(User).outerjoin(FirstSteps).where(User.id == user.id)
    ).one()
    stored = row.FirstSteps or FirstSteps()
    if stored.hidden_at is not None or not user.has_integrations:
        return None
    has_synced = connection is not None and connection.first_synced_at is not None
    done = {
        FirstStep.CONNECT: connection is not None,
        FirstStep.SYNC: has_synced,
        FirstStep.SHARE: stored.page_shared_at is not None or row.has_lead,
        FirstStep.SIGNATURE: stored.signature_made_at is not None,
    }
    return StepsDone(done, connection) if not all(done.values()) else None


def record(user: User, step: FirstStep, now: datetime) -> None:
    """Record that the advisor shares the page, or puts it into a signature. Commits."""
    with writing():
        row = _row_of(user)
        if step is FirstStep.SHARE:
            row.page_shared_at = now
        else:
            row.signature_made_at = now
        db.session.commit()


def hide(user: User, now: datetime) -> None:
    """Show the steps no more. Commits."""
    with writing():
        _row_of(user).hidden_at = now
        db.session.commit()


def _row_of(user: User) -> FirstSteps:
    row = db.session.get(FirstSteps, user.id) or FirstSteps(user_id=user.id)
    db.session.add(row)
    return row
