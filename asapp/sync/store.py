"""Bulk reading and writing for the sync: SQLAlchemy Core with lists of rows, never an object a row.

Everything joins the caller's transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, delete, func, insert, literal_column, or_, select, update

from asapp.contacts.bounces import is_skipped_as_bounced, skip_bounced
from asapp.contacts.suppressions import has_any, is_suppressed
from asapp.contacts.twins import block, is_twin, unblock
from asapp.core import bulk
from asapp.core.bulk import in_chunks, is_among
from asapp.core.extensions import db
from asapp.models import BlockedBy, Contact, ContactSource, Departure, DepartureState, Lead, LedgerEntry, RunChange
from asapp.models.lead import IN_SALESFORCE
from asapp.salesforce.records import RecordKind, kind_of
from asapp.sync.row_rules import StoredContact

CONTACTS: Table = Contact.__table__  # type: ignore[assignment]
LEDGER: Table = LedgerEntry.__table__  # type: ignore[assignment]
DEPARTURES: Table = Departure.__table__  # type: ignore[assignment]
CHANGES: Table = RunChange.__table__  # type: ignore[assignment]
NEW_FACTS = (
    *("reason", "merged_into", "found_in_run_id", "was_read", "opted_out", "consent_hidden", "owner_id", "owner_name"),
)
InLedger = tuple[str, bytes | None, bool]  # outcome, address hash, consent_hidden


def find_contacts(connection_id: int, user_id: int, ids: Collection[str]) -> dict[str, StoredContact]:
    """Return contacts by Salesforce Id."""
    c = CONTACTS.c
    query = select(
        c.salesforce_id,
        c.id,
        c.first_name,
        c.last_name,
        c.email,
        c.opted_out,
        c.departed,
        c.bounced_at,
        c.bounce_reason,
        c.bounced_hash,
        or_(is_twin(), is_suppressed(user_id)) if has_any(user_id) else is_twin(),
        c.hidden_at.is_not(None),
        c.address_hash,
        c.system_modstamp,
        c.merged_into,
        c.erased_at.is_not(None),
        c.account_id,
        c.consent_hidden,
    ).where(c.connection_id == connection_id)
    rows = db.session.execute(query.where(is_among(c.salesforce_id, ids))).all()
    skips = bool(rows) and bool(db.session.scalar(select(skip_bounced(connection_id))))  # the same for all of them
    return {row[0]: StoredContact._make((*row[1:-2], skips, *row[-2:])) for row in rows}


def find_ledger(connection_id: int, ids: Collection[str]) -> dict[str, InLedger]:
    """Return what the ledger says of these, by Salesforce Id."""
    c = LEDGER.c
    query = select(c.salesforce_id, c.outcome, c.address_hash, c.consent_hidden).where(c.connection_id == connection_id)
    rows = db.session.execute(query.where(is_among(c.salesforce_id, ids))).all()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def find_signed_up(connection_id: int, ids: Collection[str]) -> frozenset[str]:
    """Return which of these Leads stand for people from the sign-up page."""
    query = select(Lead.salesforce_id).where(
        Lead.connection_id == connection_id, is_among(Lead.salesforce_id, ids), Lead.state.in_(IN_SALESFORCE)
    )
    return frozenset(each for each in db.session.scalars(query) if each is not None)


def find_departures(connection_id: int, ids: Collection[str]) -> dict[str, int]:
    """Return {Salesforce Id: the run that found it} of recorded departures."""
    c = DEPARTURES.c
    query = select(c.salesforce_id, c.found_in_run_id).where(c.connection_id == connection_id)
    return {row[0]: row[1] for row in db.session.execute(query.where(is_among(c.salesforce_id, ids))).all()}


def has_older_contact(user_id: int, hashes: Collection[bytes], run_id: int) -> bool:
    """Does the advisor have a contact from before this run with one of these address hashes?"""
    c = CONTACTS.c
    is_older = func.coalesce(c.created_in_run_id, 0) != run_id
    return any(
        db.session.execute(
            select(c.id).where(c.user_id == user_id, c.address_hash.in_(chunk), is_older).limit(1)
        ).first()
        for chunk in in_chunks(hashes)
    )


def find_otherwise_active(run_id: int, contact_ids: Collection[int]) -> set[int]:
    """Return those of these contacts, from before the run, that are active apart from what concerns their address."""
    c = CONTACTS.c
    is_older = func.coalesce(c.created_in_run_id, 0) != run_id
    is_otherwise_active = c.departed.is_(None) & c.hidden_at.is_(None) & ~c.opted_out & ~is_skipped_as_bounced()
    return {
        contact_id
        for chunk in in_chunks(contact_ids)
        for contact_id in db.session.scalars(select(c.id).where(c.id.in_(chunk), is_older, is_otherwise_active))
    }


def find_manual(user_id: int, hashes: Collection[bytes]) -> dict[bytes, list[int]]:
    """Return {address hash: contacts made by hand, oldest first}."""
    c = CONTACTS.c
    is_manual = (c.user_id == user_id) & (c.source == literal_column(f"'{ContactSource.MANUAL}'"))
    if db.session.execute(select(c.id).where(is_manual).limit(1)).first() is None:
        return {}
    # Locked, so that none is deleted before it is adopted.
    query = select(c.address_hash, c.id).where(is_manual).order_by(c.id).with_for_update()
    found: dict[bytes, list[int]] = defaultdict(list)
    for chunk in in_chunks(hashes):
        for hashed, contact_id in db.session.execute(query.where(c.address_hash.in_(chunk))):
            found[hashed].append(contact_id)
    return dict(found)


def insert_contacts(rows: Sequence[dict[str, Any]], same: Mapping[str, Any]) -> None:
    """Insert new contacts; all rows have the same columns. same: the columns that have one value in all rows."""
    bulk.insert_many(CONTACTS, rows, same)


def update_contacts(rows: Sequence[dict[str, Any]]) -> None:
    """Each row: b_id and the columns to set, the same ones in all rows."""
    bulk.update_many(CONTACTS, rows)


def insert_ledger(connection_id: int, user_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """As upsert_ledger(), for records that are not in the ledger."""
    bulk.insert_many(LEDGER, rows, {"connection_id": connection_id})
    _block_opted_out(connection_id, user_id, rows)


def upsert_ledger(connection_id: int, user_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Each row: salesforce_id, outcome, address_hash, consent_hidden. Only here do the blocked addresses follow the ledger."""
    bulk.upsert_many(
        LEDGER,
        [{"connection_id": connection_id, **row} for row in rows],
        key=("connection_id", "salesforce_id"),
        changing=("outcome", "address_hash", "consent_hidden"),
    )
    _block_opted_out(connection_id, user_id, rows)
    unblock(connection_id, [row["salesforce_id"] for row in rows if row["address_hash"] is None])


def delete_from_ledger(connection_id: int, ids: Collection[str]) -> None:
    for chunk in in_chunks(ids):
        db.session.execute(
            delete(LEDGER).where(LEDGER.c.connection_id == connection_id, LEDGER.c.salesforce_id.in_(chunk))
        )
    unblock(connection_id, ids)


def _block_opted_out(connection_id: int, user_id: int, rows: Iterable[dict[str, Any]]) -> None:
    addresses: dict[RecordKind, dict[str, bytes]] = {kind: {} for kind in RecordKind}
    for row in rows:
        if row["address_hash"] is not None:
            addresses[kind_of(row["salesforce_id"])][row["salesforce_id"]] = row["address_hash"]
    block(connection_id, user_id, BlockedBy.CONTACT, addresses[RecordKind.CONTACT])
    block(connection_id, user_id, BlockedBy.LEAD, addresses[RecordKind.LEAD])


def record_swept(connection_id: int, run_id: int, ids: Collection[str]) -> None:
    """Record that a run's sweep has seen these Ids."""
    for chunk in in_chunks(ids):
        mine = (LEDGER.c.connection_id == connection_id) & is_among(LEDGER.c.salesforce_id, chunk)
        db.session.execute(update(LEDGER).where(mine).values(swept_in_run_id=run_id))


def upsert_departures(rows: Sequence[dict[str, Any]]) -> None:
    """Record departures; one that is held or discarded keeps its state and gets the new facts."""
    bulk.upsert_many(
        DEPARTURES,
        [{"state": DepartureState.FOUND, **row} for row in rows],
        key=("connection_id", "salesforce_id"),
        changing=NEW_FACTS,
    )


def withdraw_departures(connection_id: int, ids: Collection[str]) -> None:
    """Delete the departures of these, which are still the user's. If one was discarded, the rest of that set is open again."""
    mine = DEPARTURES.c.connection_id == connection_id
    is_discarded = DEPARTURES.c.state == DepartureState.DISCARDED
    for chunk in in_chunks(ids):
        if db.session.execute(
            select(DEPARTURES).where(mine, is_discarded, DEPARTURES.c.salesforce_id.in_(chunk))
        ).first():
            db.session.execute(update(DEPARTURES).where(mine, is_discarded).values(state=DepartureState.FOUND))
    delete_departures(connection_id, ids)


def delete_departures(connection_id: int, ids: Collection[str]) -> None:
    for chunk in in_chunks(ids):
        db.session.execute(
            delete(DEPARTURES).where(DEPARTURES.c.connection_id == connection_id, DEPARTURES.c.salesforce_id.in_(chunk))
        )
        db.session.execute(
            update(CONTACTS)
            .where(
                CONTACTS.c.connection_id == connection_id,
                is_among(CONTACTS.c.salesforce_id, chunk),
                CONTACTS.c.opt_out_known_until.is_not(None),
            )
            .values(opt_out_known_until=None)
        )


def insert_changes(rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        db.session.execute(insert(CHANGES), rows)
