"""The full check of Ids, called a sweep: every Id and opt-out of the user's contacts is compared with the ledger."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select

from asapp.core.extensions import db
from asapp.models import Contact, Departure, LedgerEntry
from asapp.sync.run_context import RunContext


def find_unswept(context: RunContext, seen: Collection[str]) -> list[str]:
    """Return the Ids that a sweep has not shown and of which this run doesn't know yet that they have left.

    They are in the ledger, or are here without being in it (leads/outcomes.py). seen: those of its pages that are not marked in
    the ledger.
    """
    found = select(Departure.salesforce_id).where(
        Departure.connection_id == context.connection_id, Departure.found_in_run_id == context.run_id
    )
    not_marked = select(LedgerEntry.salesforce_id).where(
        LedgerEntry.connection_id == context.connection_id,
        func.coalesce(LedgerEntry.swept_in_run_id, 0) != context.run_id,
        LedgerEntry.salesforce_id.not_in(found),
    )
    in_ledger = select(LedgerEntry.salesforce_id).where(
        LedgerEntry.connection_id == Contact.connection_id, LedgerEntry.salesforce_id == Contact.salesforce_id
    )
    not_in_ledger = select(Contact.salesforce_id).where(
        Contact.connection_id == context.connection_id,
        Contact.departed.is_(None),
        Contact.erased_at.is_(None),
        ~in_ledger.correlate(Contact).exists(),
        Contact.salesforce_id.not_in(found),
    )
    return [each for each in db.session.scalars(not_marked.union(not_in_ledger)) if each not in seen]


def find_returned(context: RunContext, seen: Collection[str]) -> list[str]:
    """Return the written-down departures that a sweep has shown among the user's contacts. seen: as above."""
    rows = db.session.execute(
        select(Departure.salesforce_id, LedgerEntry.swept_in_run_id)
        .outerjoin(
            LedgerEntry,
            (LedgerEntry.connection_id == Departure.connection_id)
            & (LedgerEntry.salesforce_id == Departure.salesforce_id),
        )
        .where(Departure.connection_id == context.connection_id)
    )
    return [row.salesforce_id for row in rows if row.salesforce_id in seen or row.swept_in_run_id == context.run_id]
