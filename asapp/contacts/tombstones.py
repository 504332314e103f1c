"""Tombstones: people that a sync must not bring back, deleted here by the advisor or erased on their own request.

While a contact has a row here, its tombstone is on that row. The rows of this table are for people without one: they
outlive Disconnect, removal and every reconnect. Everything here joins the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, exists, func, insert, literal, or_, select

from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import Contact, Tombstone, TombstoneKind


class Marks(NamedTuple):
    """The tombstones of an advisor's people, by Salesforce Id and by address hash."""

    hidden_ids: dict[str, datetime]  # and when they were deleted here
    erased_ids: frozenset[str]
    erased_hashes: frozenset[bytes]

    def is_erased(self, salesforce_id: str, hashed: bytes | None) -> bool:
        return salesforce_id in self.erased_ids or hashed in self.erased_hashes


NO_MARKS = Marks({}, frozenset(), frozenset())


def marks_of(user_id: int) -> Marks:
    rows = db.session.execute(
        select(Tombstone.kind, Tombstone.salesforce_id, Tombstone.address_hash, Tombstone.created_at).where(
            Tombstone.user_id == user_id
        )
    ).all()
    erased = [row for row in rows if row.kind == TombstoneKind.ERASED]
    return Marks(
        {row.salesforce_id: row.created_at for row in rows if row.kind == TombstoneKind.HIDDEN and row.salesforce_id},
        frozenset(row.salesforce_id for row in erased if row.salesforce_id),
        frozenset(row.address_hash for row in erased if row.address_hash),
    )


def mark_hidden_of(connection_id: int) -> None:
    """Add tombstones for the contacts that the advisor deleted here, before a connection's rows are removed."""
    chosen = select(
        Contact.user_id,
        literal(TombstoneKind.HIDDEN.value),
        Contact.salesforce_id,
        Contact.address_hash,
        Contact.hidden_at,
    ).where(Contact.connection_id == connection_id, Contact.hidden_at.is_not(None), Contact.erased_at.is_(None))
    columns = ["user_id", "kind", "salesforce_id", "address_hash", "created_at"]
    db.session.execute(insert(Tombstone).from_select(columns, chosen))


def mark_erased(user_id: int, salesforce_ids: Collection[str], hashes: Collection[bytes] = ()) -> None:
    """Add tombstones for the person's known Ids in Salesforce and the addresses."""
    now = utcnow()
    same = {"user_id": user_id, "kind": TombstoneKind.ERASED, "created_at": now}
    rows = [same | {"salesforce_id": each, "address_hash": None} for each in sorted(set(salesforce_ids))]
    rows += [same | {"salesforce_id": None, "address_hash": each} for each in sorted(set(hashes))]
    if rows:
        db.session.execute(insert(Tombstone), rows)


def delete_hidden(user_id: int, salesforce_ids: Collection[str]) -> None:
    """Delete the tombstones of contacts that are here again, as their own rows have them."""
    if salesforce_ids:
        _delete(user_id, TombstoneKind.HIDDEN, Tombstone.salesforce_id.in_(salesforce_ids))


def end_erasure(user_id: int, hashed: bytes) -> None:
    """Let an erased person sign up as a new person. What Salesforce had of the old one stays out."""
    _delete(user_id, TombstoneKind.ERASED, Tombstone.address_hash == hashed)


def end_erasure_of(user_id: int, salesforce_id: str) -> None:
    """As end_erasure(), for a record that Salesforce has of the new person."""
    _delete(user_id, TombstoneKind.ERASED, Tombstone.salesforce_id == salesforce_id)


def is_address_hidden(user_id: int, hashed: bytes) -> bool:
    """Has the advisor deleted a person with this address here, and not restored them?"""
    is_here = exists().where(
        Contact.user_id == user_id,
        Contact.address_hash == hashed,
        Contact.hidden_at.is_not(None),
        Contact.erased_at.is_(None),
    )
    is_marked = exists().where(
        Tombstone.user_id == user_id, Tombstone.kind == TombstoneKind.HIDDEN, Tombstone.address_hash == hashed
    )
    return bool(db.session.scalar(select(or_(is_here, is_marked))))


def find_erased_at(user_id: int, salesforce_id: str | None, hashed: bytes | None) -> datetime | None:
    """Return when a person with this Id, or without one with this address, was erased; None if no such person was."""
    is_it = Tombstone.salesforce_id == salesforce_id if salesforce_id else Tombstone.address_hash == hashed
    mine = (Tombstone.user_id == user_id, Tombstone.kind == TombstoneKind.ERASED)
    return db.session.scalar(select(func.max(Tombstone.created_at)).where(*mine, is_it))


def restore_address(user_id: int, hashes: Collection[bytes]) -> None:
    """Delete the tombstones of people that the advisor restored: what comes of them later is stored as usual."""
    if hashes:
        _delete(user_id, TombstoneKind.HIDDEN, Tombstone.address_hash.in_(hashes))


def _delete(user_id: int, kind: TombstoneKind, which: ColumnElement[bool]) -> None:
    change_rows(db.session, delete(Tombstone).where(Tombstone.user_id == user_id, Tombstone.kind == kind, which))
