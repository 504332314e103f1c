"""Contacts that an advisor entered by hand. They are never sent to Salesforce.

Salesforce contacts are read-only here: every change of a contact's fields goes through require_editable(), which raises
for them, whatever the request was.
"""

from __future__ import annotations

from asapp.contacts import suppressions
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.form_fields import Details, check_details
from asapp.contacts.queries import find_by_hash
from asapp.contacts.suppressions import Firm
from asapp.contacts.twins import lock_advisor
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.core.vault import Vault
from asapp.models import Contact, ContactSource, Partner, User
from asapp.models.search import search_key


class ReadOnly(Exception):
    """This contact's fields can only be changed in Salesforce."""


class AddressTaken(InvalidFields):
    """Another contact of the advisor's has this address; it may be kept all the same."""

    def __init__(self, holders: list[Contact]) -> None:
        more = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
        super().__init__({"email": f"{holders[0].name or 'Another contact'}{more} already has this address."})
        self.holder_id = holders[0].id


def add_contact(advisor: User, details: Details, vault: Vault, *, keep_same_address: bool = False) -> Contact:
    """Add a contact. Raise InvalidFields, or AddressTaken unless the advisor accepts a second contact with the address."""
    clean = check_details(details)
    hashed = _lock_and_hash(advisor, clean.email, vault)
    if not keep_same_address:
        _refuse_taken(advisor.id, hashed)
    contact = Contact(user_id=advisor.id, source=ContactSource.MANUAL)
    _write(contact, clean, hashed)
    db.session.add(contact)
    db.session.commit()
    return contact


def edit_contact(
    advisor: User, contact: Contact, details: Details, vault: Vault, *, keep_same_address: bool = False
) -> None:
    """Raise ReadOnly, InvalidFields, or AddressTaken if another contact has the new address."""
    require_editable(contact)
    clean = check_details(details)
    new_hash = _lock_and_hash(advisor, clean.email, vault)
    db.session.refresh(contact, with_for_update=True)  # a sync may just have adopted it
    require_editable(contact)
    if new_hash != contact.address_hash and not keep_same_address:
        _refuse_taken(advisor.id, new_hash)
    _write(contact, clean, new_hash)
    db.session.commit()


def require_editable(contact: Contact) -> None:
    """Raise ReadOnly unless the contact was entered here by hand."""
    if contact.source != ContactSource.MANUAL:
        raise ReadOnly


def _write(contact: Contact, details: Details, hashed: bytes) -> None:
    contact.first_name, contact.last_name, contact.email = details
    contact.search_key = search_key(*details)
    contact.address_hash = hashed
    contact.changed_at = utcnow()


def _refuse_taken(user_id: int, hashed: bytes) -> None:
    holders = find_by_hash(user_id, hashed)
    if holders:
        raise AddressTaken(holders)


def _lock_and_hash(advisor: User, email: str, vault: Vault) -> bytes:
    """Lock the advisor's contacts; return the address's hash by the key of the advisor's firm as of then."""
    while True:
        partner = db.session.get_one(Partner, advisor.partner_id)
        key = address_key(db.session(), partner, vault)  # commits if it creates the key
        hashed = address_hash(email, key)
        lock_advisor(advisor.id)
        db.session.refresh(advisor)
        if advisor.partner_id == partner.id:
            earlier = suppressions.earlier_firms(advisor, partner.id, vault)
            suppressions.carry_over(advisor.id, Firm(partner.id, key), earlier, [email])
            return hashed
        db.session.rollback()  # the advisor has just moved
