"""Deleting contacts here.

A contact made by hand is deleted. One that came from Salesforce gets a tombstone, so that the next sync does not bring it
back; nothing is deleted in Salesforce or sent there, and the contact can be restored with its lists.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, or_, select, update

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.contacts import tombstones
from asapp.contacts.queries import contacts_of
from asapp.core.bulk import in_chunks
from asapp.core.clock import utcnow
from asapp.core.database import change_rows_returning
from asapp.core.extensions import db
from asapp.models import Action, Contact, ContactSource, Restoration

NAMED_MAX = 1000


class Removed(NamedTuple):
    """deleted: how many were entered by hand, and are deleted for good. hidden: those that got a tombstone."""

    deleted: int
    hidden: Sequence[int]

    @property
    def total(self) -> int:
        return self.deleted + len(self.hidden)


def remove_contacts(user_id: int, contact_ids: Collection[int], by: Actor = ITSELF) -> Removed:
    """Delete these contacts here; ids that are not this advisor's are ignored."""
    deleted: list[int] = []
    hidden: list[int] = []
    for ids in in_chunks(sorted(contact_ids)):
        chosen = (contacts_of(user_id), Contact.id.in_(ids))
        deleted += _execute(delete(Contact).where(*chosen, Contact.source == ContactSource.MANUAL))
        hidden += _execute(
            update(Contact)
            .where(*chosen, Contact.source != ContactSource.MANUAL, Contact.hidden_at.is_(None))
            .values(hidden_at=utcnow(), changed_at=utcnow())
        )
    removed = Removed(len(deleted), hidden)
    if removed.total:
        entries.record(
            Action.CONTACTS_DELETED,
            by,
            None,
            made_by_hand=removed.deleted,
            from_salesforce=len(hidden),
            contacts=_named(deleted + hidden),
        )
    db.session.commit()
    return removed


def restore_contacts(user_id: int, contact_ids: Collection[int], by: Actor = ITSELF) -> int:
    """Remove the tombstones of these contacts; return how many had one."""
    restored: list[int] = []
    for ids in in_chunks(sorted(contact_ids)):
        same_person = Contact.address_hash.in_(_restore_addresses(user_id, ids))
        chosen = (contacts_of(user_id), or_(Contact.id.in_(ids), same_person), Contact.hidden_at.is_not(None))
        restored += _remove_tombstones(*chosen)
    if restored:
        entries.record(Action.CONTACTS_RESTORED, by, None, contacts=_named(restored))
    db.session.commit()
    return len(restored)


def _remove_tombstones(*chosen: Any) -> Sequence[int]:
    """Remove these contacts' tombstones, and store when they were set and removed, for the contacts' stories."""
    now = utcnow()
    found = select(Contact.id, Contact.hidden_at).where(*chosen).order_by(Contact.id).with_for_update()
    deleted_at = {row.id: row.hidden_at for row in db.session.execute(found)}
    for ids in in_chunks(list(deleted_at)):
        _execute(update(Contact).where(Contact.id.in_(ids)).values(hidden_at=None, changed_at=now))
        rows = [{"contact_id": each, "deleted_at": deleted_at[each], "restored_at": now} for each in ids]
        db.session.execute(insert(Restoration), rows)
    return list(deleted_at)


def _restore_addresses(user_id: int, contact_ids: Sequence[int]) -> list[bytes]:
    """Return the address hashes of those who signed up: the contact that their lead will be tied to is restored as well."""
    chosen = (contacts_of(user_id), Contact.id.in_(contact_ids), Contact.hidden_at.is_not(None))
    rows = db.session.execute(
        select(Contact.address_hash, Contact.source).where(*chosen, Contact.address_hash.is_not(None))
    ).all()
    tombstones.restore_address(user_id, [row.address_hash for row in rows])
    return [row.address_hash for row in rows if row.source == ContactSource.LEAD]


def _execute(statement: Any) -> Sequence[int]:
    """Return the ids of the rows that the statement changed."""
    return change_rows_returning(db.session, statement.returning(Contact.id))


def _named(contact_ids: Sequence[int]) -> str:
    """Return the contacts' numbers for the audit log; the first ones if there are many."""
    first, more = sorted(contact_ids)[:NAMED_MAX], len(contact_ids) - NAMED_MAX
    return ", ".join(map(str, first)) + (f" and {more:,} more" if more > 0 else "")
