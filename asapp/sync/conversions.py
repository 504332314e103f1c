"""Open Leads that Salesforce converted: each is handed to the contact that it became, once, and its own row here is deleted.

A conversion is recorded as a departure of the Lead, merged into its contact. If that contact is here, no one becomes inactive, so
the safety brake has no part in it: lists and history go over in one transaction with the ledger. If it isn't here, the departure
is settled like any other, and the Lead is handed over when its contact comes. Doing it again finds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, case, or_, select, update
from sqlalchemy.orm import aliased

from asapp.contacts import tombstones
from asapp.contacts.handing_over import hand_over_history, hand_over_lists
from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.leads.outcomes import erase_contact
from asapp.models import Contact, ContactSource, Departure, Reason
from asapp.models.run import Also
from asapp.sync import store
from asapp.sync.row_rules import RowClass
from asapp.sync.run_context import RunContext, add_counts, change_row
from asapp.sync.twin_changes import TwinChanges

AT_ONCE = 100  # handed over in one transaction


def hand_over_converted(context: RunContext, stop_if_asked: Callable[[], None]) -> None:
    """Hand every converted Lead to its contact, where that is here; in chunks, each committed. Raises LeaseLost."""
    while True:
        stop_if_asked()
        context.lock()
        pairs = _find_pairs(context.connection_id)
        if not pairs:
            db.session.commit()
            return
        _hand_over(context, pairs)


def _find_pairs(connection_id: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return (lead, contact, was_read, found_in_run_id) of converted Leads whose contact is here."""
    lead, contact = aliased(Contact, name="lead"), aliased(Contact, name="contact")
    went_into = case((lead.departed == Reason.MERGED, lead.merged_into), else_=Departure.merged_into)
    return db.session.execute(
        select(lead, contact, Departure.was_read, Departure.found_in_run_id)
        .select_from(lead)
        .outerjoin(
            Departure,
            (Departure.connection_id == lead.connection_id) & (Departure.salesforce_id == lead.salesforce_id),
        )
        .join(contact, (contact.connection_id == lead.connection_id) & (contact.salesforce_id == went_into))
        .where(
            lead.connection_id == connection_id,
            lead.source == ContactSource.SALESFORCE_LEAD,
            or_(lead.departed == Reason.MERGED, Departure.merged_into.is_not(None)),
            contact.source == ContactSource.SALESFORCE,
            contact.departed.is_(None),
        )
        .order_by(lead.id)
        .limit(AT_ONCE)
    ).all()


def _hand_over(context: RunContext, pairs: Sequence[Row[*tuple[Any, ...]]]) -> None:
    """Hand these over, with ledger, twins and counters, and commit."""
    ids = [str(row[0].salesforce_id) for row in pairs]
    hashes = {hashed for _, hashed, _ in store.find_ledger(context.connection_id, ids).values() if hashed}
    twins = TwinChanges(context, hashes)
    also: Counter[str] = Counter()
    read_now = 0
    for lead, contact, was_read, found_in_run_id in pairs:
        also[Also.MEMBERSHIPS_MOVED] += hand_over_lists(lead, contact)
        also[Also.CONVERTED] += 1
        read_now += bool(was_read) and found_in_run_id == context.run_id
        _stand_in(context, lead, contact)
    store.insert_changes([change_row(context, row[1].id, RowClass.UPDATED, Also.CONVERTED) for row in pairs])
    store.delete_from_ledger(context.connection_id, ids)
    store.delete_departures(context.connection_id, ids)
    run = context.run.row
    context.run.save(
        updated=run.updated + read_now,
        nominated=run.nominated - read_now,
        also=add_counts(run.also, also + twins.record()),
    )


def _stand_in(context: RunContext, lead: Contact, contact: Contact) -> None:
    """Let the contact stand for the person, and delete the Lead's row."""
    hand_over_history(lead, contact)
    if lead.erased_at is not None and contact.erased_at is None:
        tombstones.mark_erased(context.user_id, [str(contact.salesforce_id)])
        erase_contact(contact)
    elif lead.hidden_at is not None and contact.hidden_at is None and contact.created_at > lead.hidden_at:
        contact.hidden_at, contact.changed_at = lead.hidden_at, utcnow()  # the advisor had deleted this person here
    for table in (Contact, Departure):  # of Leads that were merged into this one
        change_rows(
            db.session,
            update(table)
            .where(table.connection_id == context.connection_id, table.merged_into == lead.salesforce_id)
            .values(merged_into=contact.salesforce_id),
        )
    db.session.delete(lead)
    db.session.flush()
