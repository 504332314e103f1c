"""Somebody signs up on an advisor's page.

Lead, consent and contact are stored in one transaction before anything else happens. The address is the person: signing up
again, also under another name, adds to the first one's history and makes no second lead. A form that arrives twice counts
once: its key is part of the history.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite

from asapp.clock import utcnow
from asapp.contacts import tombstones
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.twins import take_turns
from asapp.database import writing
from asapp.extensions import db
from asapp.leads import consent, elsewhere
from asapp.leads.fields import Typed, check_typed
from asapp.models import ConsentKind, ConsentSource, Contact, ContactSource, Lead, LeadState, OptInPage, User
from asapp.models.columns import new_public_id
from asapp.models.search import search_key
from asapp.vault import Vault

TRIES = 5  # one is enough, unless somebody erases the person at this very moment
DETAILS_KEPT = 100  # sign-ups of one person whose name and client address are kept


class Seen(NamedTuple):
    """What the person had before them, and where they were. key: of this very form."""

    consent_text_id: int
    key: str
    client_address: str


class FirmChanged(Exception):
    """The advisor has just been moved: what the person agreed to names a firm that isn't the advisor's any more."""


def sign_up(page: OptInPage, typed: Typed, seen: Seen, vault: Vault) -> int:
    """Store a sign-up and return the lead's id. Raise InvalidFields or FirmChanged. Commits.

    What can be known before is looked up before: on SQLite everybody who signs up at this moment waits for the writing alone.
    Where the person was erased by then, or stored by another form, it is looked up again.
    """
    clean = check_typed(typed)
    user_id, partner = page.user_id, page.user.partner
    if partner is None:
        raise LookupError("an advisor without a firm has no page")
    partner_id = partner.id
    hashed = address_hash(clean.email, address_key(db.session(), partner, vault))
    for _ in range(TRIES):
        is_known = _find(user_id, hashed) is not None
        db.session.commit()
        with writing():
            lead_id = _store(user_id, partner_id, clean, hashed, seen, is_known)
            db.session.commit()
        if lead_id is not None:
            return lead_id
    raise RuntimeError("the person's lead was erased or stored each time")


def _store(user_id: int, partner_id: int, clean: Typed, hashed: bytes, seen: Seen, is_known: bool) -> int | None:
    """Return the id of the lead, or None if it isn't known, or isn't unknown, any more. Raise FirmChanged."""
    take_turns(user_id)  # a move of the advisor is done by now, or waits until this is stored
    if db.session.scalar(select(User.partner_id).where(User.id == user_id)) != partner_id:
        db.session.rollback()
        raise FirmChanged
    lead_id = _add_to(user_id, hashed, clean, seen) if is_known else _insert(user_id, partner_id, clean, hashed, seen)
    if lead_id is None:
        db.session.rollback()
    return lead_id


def _find(user_id: int, hashed: bytes) -> int | None:
    return db.session.scalar(select(Lead.id).where(Lead.user_id == user_id, Lead.address_hash == hashed))


def _insert(user_id: int, partner_id: int, clean: Typed, hashed: bytes, seen: Seen) -> int | None:
    """Return the id of the new lead, whose contact and consent are stored with it; None if this person is known by now."""
    dialect = sqlite if db.engine.dialect.name == "sqlite" else postgresql
    now = utcnow()
    who: dict[str, Any] = {
        "user_id": user_id,
        "first_name": clean.first_name,
        "last_name": clean.last_name,
        "email": clean.email,
        "search_key": search_key(clean.first_name, clean.last_name, clean.email),
        "address_hash": hashed,
    }
    hidden_at = now if tombstones.is_address_hidden(user_id, hashed) else None  # deleted here: stays so until Restore
    of_contact = insert(Contact).values(who | {"source": ContactSource.LEAD, "hidden_at": hidden_at})
    of_lead = {
        "public_id": new_public_id(),
        "partner_id": partner_id,
        "contact_id": db.session.scalar(of_contact.returning(Contact.id)),
        "details": {seen.key: _details(clean, seen)},
        "state": LeadState.RECEIVED,
        "next_attempt_at": now,
        "signed_up_at": now,
        "asked_again_at": hidden_at,  # so that the advisor is told
        "changed_at": now,
    }
    statement = dialect.insert(Lead).values(who | of_lead)
    statement = statement.on_conflict_do_nothing(index_elements=["user_id", "address_hash"])
    lead_id: int | None = db.session.scalar(statement.returning(Lead.id))
    if lead_id is not None:
        _record(lead_id, seen, now)
        tombstones.end_erasure(user_id, hashed)
    return lead_id


def _add_to(user_id: int, hashed: bytes, clean: Typed, seen: Seen) -> int | None:
    """Add to the history of a person who is known, and return the lead's id; None if the person was erased meanwhile.

    The name that came first stays.
    """
    lead = db.session.scalars(
        select(Lead).where(Lead.user_id == user_id, Lead.address_hash == hashed).with_for_update()
    ).one_or_none()
    if lead is None:
        return None
    now = utcnow()
    if _record(lead.id, seen, now):
        lead.asked_again_at = lead.changed_at = now
        if len(lead.details) < DETAILS_KEPT:
            lead.details = {**lead.details, seen.key: _details(clean, seen)}
        elsewhere.send_again(user_id, lead.partner_id, [lead.id])
    return lead.id


def _record(lead_id: int, seen: Seen, now: datetime) -> bool:
    """Add to the history; return False if this very form is there already."""
    return consent.record(
        lead_id, ConsentKind.OPTED_IN, ConsentSource.FORM, now, key=seen.key, consent_text_id=seen.consent_text_id
    )


def _details(clean: Typed, seen: Seen) -> dict[str, str]:
    return {"first_name": clean.first_name, "last_name": clean.last_name, "client_address": seen.client_address}
