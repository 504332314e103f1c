"""Keys of senders: made, found, revoked.

A key is 256 random bits, so one round of SHA-256 protects it: it can't be guessed. It is found by its hash, which takes
the same time for a right key and a wrong one.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import joinedload
from wtforms import ValidationError

from asapp.audit import entries
from asapp.audit.entries import Actor
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, writing
from asapp.core.extensions import db
from asapp.core.forms import Form, InvalidFields, Text, Tick, clean_line, length_problem
from asapp.messages.senders import SCOPES
from asapp.models import Action, ApiKey, Partner, Scope

log = logging.getLogger(__name__)

PREFIX = "asapp_"
LABEL_MAX = 80
ENDS_WITH = 4
USE_IS_WRITTEN_EVERY = timedelta(minutes=1)
NO_LABEL = "Enter a label, such as the name of the program that will use the key."
IS_OVER = "This day is over. Choose a later one."
NO_SCOPE = "Choose what the key may do."


class ApiKeyForm(Form):
    """What an admin enters about a new key. The last day is by UTC."""

    label = Text("Label", LABEL_MAX, NO_LABEL)
    reads = Tick(SCOPES[Scope.AUDIENCE_READ])
    writes = Tick(SCOPES[Scope.EVENTS_WRITE])
    partner = Text("Firm", clean=str)
    last_day = Text("Last day")

    @property
    def scopes(self) -> list[Scope]:
        ticked = ((self.reads, Scope.AUDIENCE_READ), (self.writes, Scope.EVENTS_WRITE))
        return [scope for field, scope in ticked if field.data]

    @property
    def expires_at(self) -> datetime | None:
        """The end of the last day; None for a key without one. Of a form that was checked."""
        return end_of_day(self.last_day.data) if self.last_day.data else None

    def validate_reads(self, _field: Tick) -> None:
        if not self.scopes:
            raise ValidationError(NO_SCOPE)

    def validate_last_day(self, field: Text) -> None:
        if field.data:
            try:
                ends_at = end_of_day(field.data)
            except ValueError as problem:
                raise ValidationError(str(problem)) from None
            if ends_at <= utcnow():
                raise ValidationError(IS_OVER)


class FoundKey(NamedTuple):
    """A key that is valid now. partner_id None: for every firm."""

    id: int
    scopes: frozenset[Scope]
    partner_id: int | None
    last_used_at: datetime | None


def end_of_day(text: str) -> datetime:
    """Return the end of a day that is written 2026-11-30, by UTC; raise ValueError with a message for the page."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("Enter a day such as 2026-11-30, or leave it empty.") from None
    if not 2000 <= day.year <= 2999:
        raise ValueError("Enter a year from 2000 to 2999.")
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def make_key(
    label: str, scopes: Collection[Scope], partner: Partner | None, expires_at: datetime | None, by: Actor
) -> str:
    """Return a new key's text, which can never be shown again. Commits; raise InvalidFields.

    partner None: the key reaches every firm. expires_at None: it has no end.
    """
    label = clean_line(label)
    if problem := length_problem(label, LABEL_MAX, NO_LABEL):
        raise InvalidFields({"label": problem})
    if not scopes:
        raise InvalidFields({"reads": NO_SCOPE})
    if expires_at is not None and expires_at <= utcnow():
        raise InvalidFields({"last_day": IS_OVER})
    key = PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(
        label=label,
        key_sha256=_hash(key),
        ends_with=key[-ENDS_WITH:],
        scopes=" ".join(scope.value for scope in Scope if scope in scopes),
        partner_id=partner.id if partner else None,
        created_by_id=by.user_id,
        expires_at=expires_at,
    )
    db.session.add(row)
    entries.record(Action.API_KEY_MADE, by, partner, ends_with=row.ends_with, scopes=row.scopes)
    db.session.commit()
    return key


def find_by_key(key: str) -> FoundKey | None:
    """Return the key if it is ours and valid now. No transaction is open afterwards."""
    row = db.session.execute(
        select(ApiKey.id, ApiKey.scopes, ApiKey.partner_id, ApiKey.last_used_at).where(
            ApiKey.key_sha256 == _hash(key),
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > utcnow()),
        )
    ).first()
    end_read(db.session)
    if row is None:
        return None
    return FoundKey(row.id, frozenset(map(Scope, row.scopes.split())), row.partner_id, row.last_used_at)


def record_use(key: FoundKey) -> None:
    """Record that the key is used now, at most once a minute; a read-only database doesn't stop the call. Commits."""
    now = utcnow()
    if key.last_used_at is not None and key.last_used_at > now - USE_IS_WRITTEN_EVERY:
        return
    is_old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - USE_IS_WRITTEN_EVERY)
    try:
        with writing():
            change_rows(db.session, update(ApiKey).where(ApiKey.id == key.id, is_old).values(last_used_at=now))
            db.session.commit()
    except OperationalError as error:
        db.session.rollback()
        log.warning("could not write when a key was used: %s", type(error.orig).__name__)


def list_keys() -> list[ApiKey]:
    """Return all keys with their firms: those that can be used first, by label."""
    now = utcnow()
    keys = db.session.scalars(
        select(ApiKey).options(joinedload(ApiKey.partner)).order_by(func.lower(ApiKey.label), ApiKey.id)
    )
    return sorted(keys, key=lambda key: not key.is_valid(now))


def find_key(public_id: str) -> ApiKey | None:
    return db.session.scalar(select(ApiKey).where(ApiKey.public_id == public_id))


def revoke(key: ApiKey, by: Actor) -> None:
    """End a key at once and for good; a key that has been revoked stays as it was. Commits."""
    if key.revoked_at is None:
        key.revoked_at = utcnow()
        entries.record(Action.API_KEY_REVOKED, by, key.partner, ends_with=key.ends_with)
    db.session.commit()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
