"""Twins: a contact whose address belongs to another of the connected user's records that has opted out.

The ledger remembers the addresses of opted-out records as keyed hashes, so a twin is found without storing the address of
anybody who was not imported. Every connection the advisor ever had counts: the last that was heard of a person is what
holds, also after disconnecting. Leads that were sent or linked count as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import or_, select, update

from asapp.contacts.lists import in_chunks
from asapp.extensions import db
from asapp.models import Connection, Contact, Lead, LeadState, LedgerEntry, Outcome, User

HASHES_A_STATEMENT = 1000


class TwinChanges(NamedTuple):
    """How many contacts became twins of an opted-out record, how many no longer are, and which they were."""

    switched_off: int = 0
    switched_on: int = 0
    off_ids: tuple[int, ...] = ()
    on_ids: tuple[int, ...] = ()


def take_turns(user_id: int) -> None:
    """Wait until nobody else is about to change who of this advisor's contacts is a twin, and keep others waiting.

    Until the caller's transaction ends. An opt-out that is being written and a contact that is being made by hand don't see
    each other on PostgreSQL: both would find no twin. Whoever changes several rows takes turns first, so that none wait for
    each other; SQLite has one writer anyway.
    """
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))


def refresh_twins(user_id: int, connection_id: int | None, hashes: Collection[bytes]) -> TwinChanges:
    """Decide again for this advisor's contacts whose address hash is among these. Joins the caller's transaction.

    hashes: of every address that a page brought, changed or took away, up to a few thousand. connection_id: the connection
    that is being synced, whose ledger is certain to count; None outside a sync.
    """
    take_turns(user_id)
    off_ids: list[int] = []
    on_ids: list[int] = []
    connection_ids = set(db.session.scalars(select(Connection.id).where(Connection.user_id == user_id)))
    if connection_id is not None:
        connection_ids.add(connection_id)
    for chunk in in_chunks(sorted(set(hashes)), HASHES_A_STATEMENT):
        for contact_id, is_twin in _flip(user_id, connection_ids, chunk):
            (off_ids if is_twin else on_ids).append(contact_id)
    return TwinChanges(len(off_ids), len(on_ids), tuple(off_ids), tuple(on_ids))


def opted_out_hashes(user_id: int, hashes: Collection[bytes]) -> set[bytes]:
    """Return those of these address hashes that belong to a record of this advisor's which has opted out."""
    mine = select(Connection.id).where(Connection.user_id == user_id)
    of_leads = select(Lead.address_hash).where(Lead.user_id == user_id, *_is_opted_out_lead())
    of_leads_here: set[bytes] = {
        hashed for hashed in db.session.scalars(of_leads) if hashed is not None and hashed in hashes
    }
    return of_leads_here | {
        hashed
        for chunk in in_chunks(sorted(set(hashes)), HASHES_A_STATEMENT)
        for hashed in db.session.scalars(
            select(LedgerEntry.address_hash).where(
                LedgerEntry.connection_id.in_(mine),
                LedgerEntry.address_hash.in_(chunk),
                LedgerEntry.outcome == Outcome.OPTED_OUT,
            )
        )
        if hashed
    }


def _is_opted_out_lead() -> tuple[Any, ...]:
    """A Lead that exists now and has opted out. One that was converted lives on as a contact, which the ledger has."""
    return (
        Lead.opted_out,
        ~Lead.is_deleted,
        Lead.state.in_((LeadState.SENT, LeadState.LINKED)),
        Lead.salesforce_id.is_not(None),
    )


def all_opted_out_hashes(user_id: int) -> set[bytes]:
    """Return the address hashes of every record of this advisor's that has opted out."""
    mine = select(Connection.id).where(Connection.user_id == user_id)
    rows = db.session.execute(
        select(LedgerEntry.address_hash).where(
            LedgerEntry.connection_id.in_(mine), LedgerEntry.address_hash.is_not(None)
        )
    )
    return {row[0] for row in rows if row[0]}


def _flip(user_id: int, connection_ids: Collection[int], hashes: Sequence[bytes]) -> Iterator[tuple[int, bool]]:
    """Turn over those whose mark is wrong, in one statement; give (contact id, the new mark)."""
    opted_out_elsewhere = (
        select(LedgerEntry.connection_id)
        .where(
            LedgerEntry.connection_id.in_(connection_ids),
            LedgerEntry.address_hash == Contact.address_hash,
            LedgerEntry.outcome == Outcome.OPTED_OUT,
            or_(Contact.salesforce_id.is_(None), LedgerEntry.salesforce_id != Contact.salesforce_id),
        )
        .exists()
    )
    opted_out_lead = (
        select(Lead.id)
        .where(
            Lead.user_id == user_id,
            Lead.address_hash == Contact.address_hash,
            Lead.contact_id != Contact.id,
            *_is_opted_out_lead(),
        )
        .exists()
    )
    flipped = db.session.execute(
        update(Contact)
        .where(
            Contact.user_id == user_id,
            Contact.address_hash.in_(hashes),
            Contact.twin_opted_out != or_(opted_out_elsewhere, opted_out_lead),
        )
        .values(twin_opted_out=~Contact.twin_opted_out)
        .returning(Contact.id, Contact.twin_opted_out)
        .execution_options(synchronize_session=False)
    )
    return ((row.id, row.twin_opted_out) for row in flipped)
