"""Marks of people that a sync must not bring back: deleted here by the advisor, or erased on their own request.

As long as a contact is here, the mark is on its row. These marks are for when no row is left, or none was there yet: they
outlive Disconnect, removal and every reconnect. Everything here joins the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, exists, insert, literal, or_, select

from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import Contact, Tombstone, TombstoneKind


class Marks(NamedTuple):
    """The marks of an advisor's people, by Salesforce Id and by address hash."""

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
    """Mark the contacts that the advisor deleted here, before the rows of a connection are removed."""
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
    """Mark every Id of the person in Salesforce that we know, and the addresses."""
    now = utcnow()
    same = {"user_id": user_id, "kind": TombstoneKind.ERASED, "created_at": now}
    rows = [same | {"salesforce_id": each, "address_hash": None} for each in sorted(set(salesforce_ids))]
    rows += [same | {"salesforce_id": None, "address_hash": each} for each in sorted(set(hashes))]
    if rows:
        db.session.execute(insert(Tombstone), rows)


def delete_hidden(user_id: int, salesforce_ids: Collection[str]) -> None:
    """These are here again, with the mark on their own rows."""
    if salesforce_ids:
        _delete(user_id, TombstoneKind.HIDDEN, Tombstone.salesforce_id.in_(salesforce_ids))


def end_erasure(user_id: int, hashed: bytes) -> None:
    """A person who signs up after having been erased is a new person. What Salesforce had of the old one stays out."""
    _delete(user_id, TombstoneKind.ERASED, Tombstone.address_hash == hashed)


def end_erasure_of(user_id: int, salesforce_id: str) -> None:
    """The same, for a record that Salesforce has of the new person."""
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


def restore_address(user_id: int, hashes: Collection[bytes]) -> None:
    """The advisor wants these people back: what comes of them later comes as it is."""
    if hashes:
        _delete(user_id, TombstoneKind.HIDDEN, Tombstone.address_hash.in_(hashes))


def _delete(user_id: int, kind: TombstoneKind, which: ColumnElement[bool]) -> None:
    change_rows(db.session, delete(Tombstone).where(Tombstone.user_id == user_id, Tombstone.kind == kind, which))
