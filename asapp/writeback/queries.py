"""What pages and figures show of the outbox of opt-outs; reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from asapp.core.extensions import db
from asapp.messages.write_back import Telling, UntoldWords, words_of
from asapp.models import Connection, Contact, OptOutWrite, Partner, Untold, WriteBackState
from asapp.writeback.outbox import TOLD_OF, is_deliverable

OF_SET_UP = (Untold.FIELD_LOCKED, Untold.FIELD_HIDDEN, Untold.NO_EDIT)
TELLINGS = {
    WriteBackState.TOLD: Telling.TOLD,
    WriteBackState.TRUE_ALREADY: Telling.TRUE_ALREADY,
    WriteBackState.REFUSED: Telling.REFUSED,
    WriteBackState.GONE: Telling.NOTHING_TO_TELL,
}


@dataclass(frozen=True)
class ShownWriteBack:
    """What a contact's page shows. at: when Salesforce was told. why: the reason, if the state has one."""

    telling: Telling
    at: datetime | None = None
    why: UntoldWords | None = None

    @property
    def is_told(self) -> bool:
        return self.telling == Telling.TOLD

    @property
    def can_try_again(self) -> bool:
        return self.telling == Telling.REFUSED


@dataclass(frozen=True)
class Counts:
    """The state of a firm's outbox: records by state, and waiting or refused ones by reason."""

    told: int
    waiting: int
    refused: int
    reasons: Sequence[tuple[str, int]]  # short words, how many; most first


def find_shown(contact: Contact, reason: str | None) -> ShownWriteBack | None:
    """Return whether Salesforce was told of this contact; None if there is nothing to tell. reason: why it is inactive."""
    connection_id = contact.connection_id or contact.followed_by_id
    if connection_id is None or contact.salesforce_id is None:
        return None
    is_about = and_(OptOutWrite.connection_id == Connection.id, OptOutWrite.salesforce_id == contact.salesforce_id)
    found = db.session.execute(
        select(OptOutWrite, Partner.writes_opt_outs_back)
        .select_from(Connection)
        .join(Partner)
        .outerjoin(OptOutWrite, is_about)
        .where(Connection.id == connection_id)
    ).one()
    row: OptOutWrite | None = found.OptOutWrite
    if row is not None and row.state == WriteBackState.WAITING:
        return ShownWriteBack(Telling.WAITS if row.why else Telling.SOON, why=words_of(row.why, row.why_words))
    if row is not None:
        return ShownWriteBack(TELLINGS[WriteBackState(row.state)], row.ended_at, words_of(row.why, row.why_words))
    if reason not in TOLD_OF or contact.opted_out:
        return None
    return ShownWriteBack(Telling.EARLIER if found.writes_opt_outs_back else Telling.NOT_WANTED)


def count_for(partner: Partner) -> Counts:
    rows = db.session.execute(
        select(OptOutWrite.state, OptOutWrite.why, func.count())
        .join(Connection, Connection.id == OptOutWrite.connection_id)
        .where(Connection.partner_id == partner.id)
        .group_by(OptOutWrite.state, OptOutWrite.why)
    ).all()
    by_state = dict.fromkeys((state.value for state in WriteBackState), 0)
    reasons: dict[str, int] = {}
    for state, why, count in rows:
        by_state[state] += count
        words = words_of(why, None)
        if words and state in (WriteBackState.WAITING, WriteBackState.REFUSED):
            reasons[words.short] = reasons.get(words.short, 0) + count
    return Counts(
        told=by_state[WriteBackState.TOLD] + by_state[WriteBackState.TRUE_ALREADY],
        waiting=by_state[WriteBackState.WAITING],
        refused=by_state[WriteBackState.REFUSED],
        reasons=sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
    )


def find_firm_to_check(connection_id: int) -> int | None:
    """Return the firm of a connection whose user may not set the opt-out: its set-up check shows that to the firm's admin."""
    return db.session.scalar(
        select(Connection.partner_id)
        .join(OptOutWrite, OptOutWrite.connection_id == Connection.id)
        .where(
            Connection.id == connection_id,
            OptOutWrite.state.in_((WriteBackState.WAITING, WriteBackState.REFUSED)),
            OptOutWrite.why.in_(OF_SET_UP),
        )
        .limit(1)
    )


def count_by_state(session: Session) -> dict[str, int]:
    """Return {state: how many records of all firms}, with every state there is."""
    rows = session.execute(select(OptOutWrite.state, func.count()).group_by(OptOutWrite.state))
    return dict.fromkeys((state.value for state in WriteBackState), 0) | {row[0]: row[1] for row in rows}


def refused_of(partner_id: int) -> Select[int, int]:
    """Select a firm's advisors (`user_id`), each with the `number` of records that can't be told of until a person acts."""
    return (
        select(OptOutWrite.user_id, func.count().label("number"))
        .join(Connection, Connection.id == OptOutWrite.connection_id)
        .where(Connection.partner_id == partner_id, OptOutWrite.state == WriteBackState.REFUSED)
        .group_by(OptOutWrite.user_id)
    )


def count_refused_by_firm() -> dict[int, int]:
    """Return {partner's id: how many records of all its advisors can't be told of until a person acts}."""
    rows = db.session.execute(
        select(Connection.partner_id, func.count())
        .join(OptOutWrite, OptOutWrite.connection_id == Connection.id)
        .where(OptOutWrite.state == WriteBackState.REFUSED)
        .group_by(Connection.partner_id)
    )
    return {row[0]: row[1] for row in rows}


def count_due(session: Session, now: datetime) -> tuple[int, datetime | None]:
    """Return how many records are due and not being written, and since when the first of them is due."""
    query = (
        select(func.count(), func.min(OptOutWrite.next_attempt_at))
        .select_from(OptOutWrite)
        .join(Connection, Connection.id == OptOutWrite.connection_id)
        .join(Partner, Partner.id == Connection.partner_id)
        .where(*is_deliverable(now))
    )
    count, since = session.execute(query).one()
    return count, since
