"""Somebody signs up on an advisor's page.

Lead, consent and contact are stored in one transaction before anything else happens. The address is the person: signing up
again, also under another name, adds to the first one's history and makes no second lead. A form that arrives twice counts
once: its key is part of the history.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from asapp.clock import utcnow
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.twins import refresh_twins
from asapp.extensions import db
from asapp.leads import consent
from asapp.leads.fields import Typed, check_typed
from asapp.models import ConsentKind, ConsentSource, Contact, ContactSource, Lead, LeadState, OptInPage, Partner
from asapp.models.columns import new_public_id
from asapp.models.search import search_key
from asapp.vault import Vault

DETAILS_KEPT = 100  # sign-ups of one person whose name and client address are kept


class Seen(NamedTuple):
    """What the person had before them, and where they were. key: of this very form."""

    consent_text_id: int
    key: str
    client_address: str


def sign_up(page: OptInPage, typed: Typed, seen: Seen, vault: Vault) -> int:
    """Store a sign-up and return the lead's id. Raise InvalidFields. Commits."""
    clean = check_typed(typed)
    user_id, partner_id = page.user_id, page.user.partner_id
    partner = db.session.get_one(Partner, partner_id)
    hashed = address_hash(clean.email, address_key(db.session(), partner, vault))
    lead_id = _insert_lead(user_id, partner.id, clean, hashed)
    if lead_id is not None:
        _begin(lead_id, clean, seen)
    else:
        lead_id = _add_to(user_id, hashed, clean, seen)
    db.session.commit()
    return lead_id


def _insert_lead(user_id: int, partner_id: int, clean: Typed, hashed: bytes) -> int | None:
    """Return the id of the new lead, or None if this person is known."""
    dialect = sqlite if db.engine.dialect.name == "sqlite" else postgresql
    now = utcnow()
    values: dict[str, Any] = {
        "public_id": new_public_id(),
        "user_id": user_id,
        "partner_id": partner_id,
        "first_name": clean.first_name,
        "last_name": clean.last_name,
        "email": clean.email,
        "search_key": search_key(clean.first_name, clean.last_name, clean.email),
        "address_hash": hashed,
        "details": {},
        "state": LeadState.RECEIVED,
        "next_attempt_at": now,
        "signed_up_at": now,
        "changed_at": now,
    }
    statement = dialect.insert(Lead).values(values).on_conflict_do_nothing(index_elements=["user_id", "address_hash"])
    lead_id: int | None = db.session.scalar(statement.returning(Lead.id))
    return lead_id


def _begin(lead_id: int, clean: Typed, seen: Seen) -> None:
    """Store what belongs to a new lead: consent and contact."""
    lead = db.session.get_one(Lead, lead_id)
    contact = Contact(
        user_id=lead.user_id,
        source=ContactSource.LEAD,
        first_name=clean.first_name,
        last_name=clean.last_name,
        email=clean.email,
        address_hash=lead.address_hash,
    )
    db.session.add(contact)
    db.session.flush()
    lead.contact_id = contact.id
    _note(lead, clean, seen)
    if lead.address_hash:
        refresh_twins(lead.user_id, None, [lead.address_hash])


def _add_to(user_id: int, hashed: bytes, clean: Typed, seen: Seen) -> int:
    """Add to the history of a person who is known; the name that came first stays."""
    lead = db.session.scalars(
        select(Lead).where(Lead.user_id == user_id, Lead.address_hash == hashed).with_for_update()
    ).one()
    if _note(lead, clean, seen):
        lead.asked_again_at = utcnow()
    return lead.id


def _note(lead: Lead, clean: Typed, seen: Seen) -> bool:
    now = utcnow()
    is_new = consent.record(
        lead.id, ConsentKind.OPTED_IN, ConsentSource.FORM, now, key=seen.key, consent_text_id=seen.consent_text_id
    )
    if is_new and len(lead.details) < DETAILS_KEPT:
        typed = {
            "first_name": clean.first_name,
            "last_name": clean.last_name,
            "client_address": seen.client_address,
        }
        lead.details = {**lead.details, seen.key: typed}
        lead.changed_at = now
    return is_new
