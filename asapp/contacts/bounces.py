"""Addresses to which mail bounced in Salesforce.

Salesforce says when and why mail bounced, but not for which address: it is the one that the person had when the bounce
first showed. While the person has that address, the contact is marked; the mark ends when Salesforce clears the bounce or
the address changes. Whether a marked contact may be written to is the firm's setting, read each time
(contacts/status.py), so that changing it needs no sync.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import aliased

from asapp.models import Connection, Contact, Partner
from asapp.salesforce.records import Bounce


class Mark(NamedTuple):
    """The stored fields of a bounce. address_hash: of the address that bounced."""

    at: datetime | None = None
    reason: str = ""
    address_hash: bytes | None = None


NO_MARK = Mark()


def mark_after(bounce: Bounce | None, before: Mark, address_hash: bytes | None) -> Mark:
    """Return the mark to store for what a row says; if bounces can't be seen (None), the mark stays as before.

    address_hash: of the row's address.
    """
    if bounce is None:
        return before
    if bounce.at is None:
        return NO_MARK
    return Mark(bounce.at, bounce.reason, before.address_hash if bounce.at == before.at else address_hash)


def mark_of(contact: Contact) -> Mark:
    return Mark(contact.bounced_at, contact.bounce_reason, contact.bounced_hash)


@cache  # aliases cost much to build
def is_skipped_as_bounced() -> ColumnElement[bool]:
    """Has mail to the contact's present address bounced in Salesforce, and does the firm's setting exclude such
    addresses?

    The setting is read only for marked contacts.
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
    """Return the firm's setting as an expression for a query on one connection's contacts."""
    return (
        select(Partner.skip_bounced)
        .join(Connection, Connection.partner_id == Partner.id)
        .where(Connection.id == connection_id)
        .scalar_subquery()
    )
