"""Addresses to which mail bounced in Salesforce.

Salesforce tells when and why, not which address it was: it is the one that the person had when the bounce first showed. While
the person has that address, the contact carries the mark; Salesforce ends it, and so does another address. Whether a marked
contact may be written to is the firm's setting, asked each time (contacts/status.py), so that changing it needs no sync.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import aliased

from asapp.models import Connection, Contact, Partner
from asapp.salesforce.records import Bounce


class Mark(NamedTuple):
    """What is stored of a bounce. address_hash: of the address that bounced."""

    at: datetime | None = None
    reason: str = ""
    address_hash: bytes | None = None


NO_MARK = Mark()


def mark_after(bounce: Bounce | None, before: Mark, address_hash: bytes | None) -> Mark:
    """Return what is to be stored once a row has told of a bounce; None: it can't be seen, and nothing changes.

    address_hash: of the address that the row shows.
    """
    if bounce is None:
        return before
    if bounce.at is None:
        return NO_MARK
    return Mark(bounce.at, bounce.reason, before.address_hash if bounce.at == before.at else address_hash)


def mark_of(contact: Contact) -> Mark:
    return Mark(contact.bounced_at, contact.bounce_reason, contact.bounced_hash)


def is_skipped_as_bounced() -> ColumnElement[bool]:
    """Has mail to the address that the contact has now bounced in Salesforce, and does the firm not want mail to go there?

    The firm is asked only for those who carry the mark.
    """
    through, firm = aliased(Connection), aliased(Partner)
    skips = (
        select(firm.id)
        .join(through, through.partner_id == firm.id)
        .where(through.id == func.coalesce(Contact.connection_id, Contact.followed_by_id), firm.skip_bounced)
        .correlate(Contact)
        .exists()
    )
    return and_(
        Contact.bounced_at.is_not(None), func.coalesce(Contact.bounced_hash == Contact.address_hash, False), skips
    )


def skip_bounced(connection_id: int) -> Any:
    """The firm's setting, as a value in a query about one connection's contacts."""
    return (
        select(Partner.skip_bounced)
        .join(Connection, Connection.partner_id == Partner.id)
        .where(Connection.id == connection_id)
        .scalar_subquery()
    )
