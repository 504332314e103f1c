"""Twins: a contact whose address belongs to another record of the connected user's, Contact or Lead, that has opted out.

Being a twin is never stored. Stored is the address of each opted-out record, as a keyed hash (blocked_addresses), in the
transaction that reads it; contacts/status.py queries that table by index. So no address of a person who was not imported
is kept, and a contact is a twin from the moment it arrives. Every connection that the advisor ever had counts: the last
known state of a record holds, also after disconnecting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, delete, exists, or_, select

from asapp.core.bulk import in_chunks, upsert_many
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import BlockedAddress, BlockedBy, Connection, Contact, LedgerEntry, User
from asapp.models.contact import is_of_kind
from asapp.salesforce.records import RecordKind

BLOCKED: Table = BlockedAddress.__table__  # type: ignore[assignment]


def lock_advisor(user_id: int) -> None:
    """Lock the advisor's row until the caller's transaction ends: one transaction at a time changes the advisor's
    contacts.

    It is the first lock that such a transaction takes, so that none deadlock. SQLite has one writer anyway.
    """
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))


def block(connection_id: int, user_id: int, kind: BlockedBy, addresses: Mapping[str, bytes]) -> None:
    """Store the addresses of opted-out records, {Salesforce Id: address hash}. Joins the caller's transaction."""
    rows = [
        {
            "connection_id": connection_id,
            "salesforce_id": salesforce_id,
            "kind": kind,
            "user_id": user_id,
            "address_hash": hashed,
        }
        for salesforce_id, hashed in sorted(addresses.items())
    ]
    upsert_many(BLOCKED, rows, key=("connection_id", "salesforce_id"), changing=("address_hash",))


def unblock(connection_id: int, salesforce_ids: Collection[str]) -> None:
    """Delete the addresses of records that are no longer opted-out records of the user. Joins the caller's transaction."""
    for chunk in in_chunks(sorted(salesforce_ids)):
        change_rows(
            db.session,
            delete(BlockedAddress).where(
                BlockedAddress.connection_id == connection_id, BlockedAddress.salesforce_id.in_(chunk)
            ),
        )


def blocked_by(connection_id: int, salesforce_ids: Collection[str]) -> dict[str, bytes]:
    """Return {Salesforce Id: address hash} for those of these records that are stored as opted out."""
    rows = (
        row
        for chunk in in_chunks(sorted(salesforce_ids))
        for row in db.session.execute(
            select(BlockedAddress.salesforce_id, BlockedAddress.address_hash).where(
                BlockedAddress.connection_id == connection_id, BlockedAddress.salesforce_id.in_(chunk)
            )
        )
    )
    return {row.salesforce_id: row.address_hash for row in rows}


def opted_out_open_leads(connection_id: int) -> set[str]:
    """Return the Ids of the opted-out Leads that a connection's ledger has."""
    opted_out = select(LedgerEntry.salesforce_id).where(
        LedgerEntry.connection_id == connection_id,
        is_of_kind(RecordKind.LEAD, LedgerEntry.salesforce_id),
        LedgerEntry.address_hash.is_not(None),
    )
    return set(db.session.scalars(opted_out))


def blocked_leads(connection_id: int) -> dict[str, bytes]:
    """Return {Salesforce Id: address hash} for every opted-out Lead that is stored for a connection."""
    rows = db.session.execute(
        select(BlockedAddress.salesforce_id, BlockedAddress.address_hash).where(
            BlockedAddress.connection_id == connection_id, BlockedAddress.kind == BlockedBy.LEAD
        )
    )
    return {row.salesforce_id: row.address_hash for row in rows}


def unlike_ledger(connection_id: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Compare the stored contact addresses with the ledger; return ({Id: hash} too many, {Id: hash} too few).

    Too many are those whose ledger was removed with its connection's contacts.
    """
    is_same = (LedgerEntry.connection_id == BlockedAddress.connection_id) & (
        LedgerEntry.salesforce_id == BlockedAddress.salesforce_id
    )
    too_many = select(BlockedAddress.salesforce_id, BlockedAddress.address_hash).where(
        BlockedAddress.connection_id == connection_id,
        BlockedAddress.kind == BlockedBy.CONTACT,
        ~exists().where(is_same, LedgerEntry.address_hash == BlockedAddress.address_hash),
    )
    too_few = select(LedgerEntry.salesforce_id, LedgerEntry.address_hash).where(
        LedgerEntry.connection_id == connection_id,
        is_of_kind(RecordKind.CONTACT, LedgerEntry.salesforce_id),
        LedgerEntry.address_hash.is_not(None),
        ~exists().where(is_same, BlockedAddress.address_hash == LedgerEntry.address_hash),
    )
    found: list[dict[str, Any]] = [
        {row[0]: row[1] for row in db.session.execute(query)} for query in (too_many, too_few)
    ]
    return found[0], found[1]


def blocked_earlier(connection_id: int, user_id: int) -> dict[str, bytes]:
    """Return {Salesforce Id: address hash} as earlier connections stored it for records in this one's ledger."""
    mine = select(LedgerEntry.salesforce_id).where(LedgerEntry.connection_id == connection_id)
    rows = db.session.execute(
        select(BlockedAddress.salesforce_id, BlockedAddress.address_hash).where(
            BlockedAddress.connection_id.in_(_earlier(connection_id, user_id)), BlockedAddress.salesforce_id.in_(mine)
        )
    )
    return {row.salesforce_id: row.address_hash for row in rows}


def unblock_earlier(connection_id: int, user_id: int, salesforce_ids: Collection[str]) -> None:
    """Delete what earlier connections stored for these records. Joins the caller's transaction."""
    for chunk in in_chunks(sorted(salesforce_ids)):
        change_rows(
            db.session,
            delete(BlockedAddress).where(
                BlockedAddress.connection_id.in_(_earlier(connection_id, user_id)),
                BlockedAddress.salesforce_id.in_(chunk),
            ),
        )


def _earlier(connection_id: int, user_id: int) -> Select[int]:
    return select(Connection.id).where(Connection.user_id == user_id, Connection.id != connection_id)


def is_twin() -> ColumnElement[bool]:
    """Over Contact: has another record of the advisor's with its address opted out?"""
    return exists().where(
        BlockedAddress.user_id == Contact.user_id,
        BlockedAddress.address_hash == Contact.address_hash,
        or_(Contact.salesforce_id.is_(None), BlockedAddress.salesforce_id != Contact.salesforce_id),
    )


def find_twins(user_id: int, hashes: Collection[bytes]) -> set[int]:
    """Return the ids of this advisor's contacts with these address hashes that are twins."""
    return {
        contact_id
        for chunk in in_chunks(sorted(hashes))
        for contact_id in db.session.scalars(
            select(Contact.id).where(Contact.user_id == user_id, Contact.address_hash.in_(chunk), is_twin())
        )
    }
