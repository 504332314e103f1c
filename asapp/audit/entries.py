"""The audit log: one line where something is done, in the same transaction.

    audit.record(Action.PARTNER_CHANGED, by, partner, changed=["name"])

An act and its entry are stored together or not at all. Entries never change; who a person was can be erased.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from asapp.core.clock import utcnow
from asapp.core.database import change_rows, writing
from asapp.core.extensions import db
from asapp.models import Action, ActorKind, AuditEntry, AuditIdentity, Connection, Contact, Partner, User

ADDRESS_MAX = 60


@dataclass(frozen=True)
class Actor:
    """Who does something, and from which address; a page or command passes it to the domain."""

    kind: ActorKind
    user_id: int | None = None
    partner_id: int | None = None
    name: str = ""
    email: str = ""
    client_address: str = ""

    def who_is(self, user: User) -> Actor:
        """Return the same place, with the user who is now known."""
        kind = ActorKind.PERSON
        return replace(self, kind=kind, user_id=user.id, partner_id=user.partner_id, name=user.name, email=user.email)


ITSELF = Actor(ActorKind.ITSELF)
COMMAND = Actor(ActorKind.COMMAND)

Subject = User | Partner | Connection | Contact | None


def person(user: User, client_address: str) -> Actor:
    return Actor(ActorKind.NOBODY, client_address=client_address).who_is(user)


def stranger(client_address: str) -> Actor:
    return Actor(ActorKind.NOBODY, client_address=client_address)


def by_link(partner: Partner, name: str, email: str, client_address: str) -> Actor:
    return Actor(ActorKind.LINK, None, partner.id, name, email, client_address)


def record(action: Action, by: Actor, about: Subject = None, *, session: Session | None = None, **details: Any) -> None:
    """Add an entry in the caller's transaction. details: nothing personal, nothing secret. session: if not db.session."""
    session = session or db.session()
    session.flush()  # so that a new subject has its id
    session.add(
        AuditEntry(
            action=action,
            actor_kind=by.kind,
            actor_id=by.user_id,
            identity_id=_identity_id(by, session),
            partner_id=_partner_id(about, by),
            subject_type=about.__tablename__ if about is not None else None,
            subject_id=about.id if about is not None else None,
            details=details,
        )
    )


def record_export(action: Action, by: Actor, about: Subject = None, **details: Any) -> None:
    """Add an entry in its own transaction, for acts that only read: exports. Commits."""
    db.session.rollback()
    with writing():
        record(action, by, about, **details)
        db.session.commit()


def who_entered(partner: Partner) -> Actor:
    """Return who entered the waiting new secret, and from where: the check that puts it in use acts for them."""
    entries = db.session.scalars(
        select(AuditEntry)
        .where(
            AuditEntry.subject_type == Partner.__tablename__,
            AuditEntry.subject_id == partner.id,
            AuditEntry.action == Action.PARTNER_CHANGED,
        )
        .order_by(AuditEntry.id.desc())
        .limit(50)
    )
    entry = next((entry for entry in entries if "pending_secret" in entry.details), None)
    if entry is None:
        return ITSELF
    it = entry.identity
    who = (it.name, it.email, it.client_address) if it is not None else ("", "", "")
    return Actor(ActorKind(entry.actor_kind), entry.actor_id, None, *who)


def erase_identities(user_ids: Collection[int], partner_id: int | None = None) -> None:
    """Erase the identities of these people (and of this partner's link guests), in the caller's transaction."""
    ids = list(user_ids)
    theirs: list[ColumnElement[bool]] = [AuditIdentity.user_id.in_(ids), _only_tried_to_log_in_as(ids)]
    if partner_id is not None:
        theirs.append(AuditIdentity.partner_id == partner_id)
    _erase(or_(*theirs))


def erase_guest_identity(partner_id: int, email: str) -> None:
    """Erase the identity of a guest who came on a link of this partner."""
    _erase((AuditIdentity.partner_id == partner_id) & (func.lower(AuditIdentity.email) == email.lower()))


def _only_tried_to_log_in_as(user_ids: list[int]) -> ColumnElement[bool]:
    """Match failed log-ins under these people's address, whose client address is most likely theirs; not if others share it."""
    theirs, others = aliased(AuditEntry), aliased(AuditEntry)
    is_about = (theirs.subject_type == User.__tablename__) & theirs.subject_id.in_(user_ids)
    is_about_others = or_(others.subject_type.is_(None), others.subject_type != User.__tablename__)
    is_about_others |= others.subject_id.not_in(user_ids)
    return (
        AuditIdentity.user_id.is_(None)
        & (AuditIdentity.email == "")
        & select(theirs.id).where(theirs.identity_id == AuditIdentity.id, is_about).exists()
        & ~select(others.id).where(others.identity_id == AuditIdentity.id, is_about_others).exists()
    )


def _erase(which: ColumnElement[bool]) -> None:
    change_rows(
        db.session,
        update(AuditIdentity)
        .where(which, AuditIdentity.erased_at.is_(None))
        .values(name="", email="", client_address="", erased_at=utcnow()),
    )


def _identity_id(by: Actor, session: Session) -> int | None:
    if not (by.user_id or by.email or by.client_address):
        return None
    columns = {
        "user_id": by.user_id,
        "partner_id": by.partner_id if by.user_id is None else None,
        "name": by.name,
        "email": by.email,
        "client_address": by.client_address[:ADDRESS_MAX],
    }
    same = [
        getattr(AuditIdentity, name).is_(None) if value is None else getattr(AuditIdentity, name) == value
        for name, value in columns.items()
    ]
    known = session.scalar(
        select(AuditIdentity.id).where(*same, AuditIdentity.erased_at.is_(None)).order_by(AuditIdentity.id).limit(1)
    )
    if known is not None:
        return known
    identity = AuditIdentity(**columns)
    session.add(identity)
    session.flush()
    return identity.id


def _partner_id(about: Subject, by: Actor) -> int | None:
    """Return the firm concerned: the subject's, else the actor's."""
    if isinstance(about, Partner):
        return about.id
    if isinstance(about, (User, Connection)) and about.partner_id is not None:
        return about.partner_id
    return by.partner_id
