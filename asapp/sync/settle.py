"""How a run ends its departures: what was approved is applied, and the rest is applied or held for the advisor.

A proposal that would make more than a fifth of the contacts inactive that were active when the run began (on a first run: of
those active as it ends), and more than ten, is held. Contacts whose departure is held or discarded stay here, although Salesforce
shows another owner or doesn't show them. Each run asks about them by Id: an opt-out counts at once, and for a contact that isn't
visible it becomes unknown when it has been trusted for as long as the partner allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import and_, case, delete, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from asapp.contacts.status import is_person_on
from asapp.contacts.twins import block, blocked_earlier, unblock, unblock_earlier, unlike_ledger
from asapp.core.bulk import in_chunks, is_among
from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import (
    BlockedBy,
    Contact,
    Departure,
    DepartureState,
    LedgerOutcome,
    ListMember,
    Reason,
    RunChange,
)
from asapp.models.run import NEW_OWNER, Also
from asapp.sync import store
from asapp.sync.departures import (
    LONGEST_CHAIN,
    concerns_contact_here,
    count_deactivations,
    count_held,
    departures_with_contacts,
    move_departures,
    reopen_discarded,
)
from asapp.sync.row_rules import RowClass, StoredContact
from asapp.sync.run_context import ALSO, RunContext, add_counts, change_row
from asapp.sync.twin_changes import TwinChanges

HELD_SHARE = 0.2
HELD_LEAST = 10
CHUNK = 2000  # departures, or opt-outs, in a transaction
STAYING = (DepartureState.HELD, DepartureState.DISCARDED)  # held for the advisor's decision, or discarded by it
# (kind, reason where the row was not read) of a run's changes, as count_active_at_start() groups them
REACTIVATIONS = ((RowClass.REACTIVATED, None), (ALSO, Also.TWIN_BACK), (ALSO, Also.UNSUPPRESSED), (ALSO, Also.OPTED_IN))
DEACTIVATIONS = (
    (RowClass.DEACTIVATED, None),
    (ALSO, Also.TWIN_OPTED_OUT),
    (ALSO, Also.SUPPRESSED),
    (ALSO, Also.OPTED_OUT),
)


def settle(context: RunContext, stop_if_asked: Callable[[], None]) -> bool:
    """Apply the departures that are approved or few enough, and hold the rest. Return whether a proposal is held.

    Departures are applied in chunks, each committed. stop_if_asked is called before each and may raise: the run applies the
    rest when it is resumed. Only what this run has found or asked about again is applied, because an older answer may no longer
    be true.
    """
    context.lock()
    connection_id = context.connection_id
    reopen_discarded(connection_id)
    if count_held(connection_id) or is_too_much(context, count_deactivations(connection_id, DepartureState.FOUND)):
        move_departures(connection_id, DepartureState.HELD, (DepartureState.FOUND,), concerns_contact_here())
    follow_opt_outs(context, stop_if_asked)
    is_held = count_held(connection_id) > 0
    # If none of them is active any more there is nothing to decide, and applying them makes no one inactive.
    without_effect = () if is_held else (DepartureState.HELD,)
    apply_departures(context, (DepartureState.APPROVED, DepartureState.FOUND, *without_effect), stop_if_asked)
    limit_unseen_opt_outs(context)
    classify_unapplied(context)
    return is_held


def is_too_much(context: RunContext, deactivations: int) -> bool:
    """Would a proposal make so many contacts inactive that the advisor has to decide?"""
    return deactivations > HELD_LEAST and deactivations > HELD_SHARE * count_base(context)


def follow_opt_outs(context: RunContext, stop_if_asked: Callable[[], None]) -> None:
    """Store the opt-outs that Salesforce shows for contacts whose departure is held or discarded, in chunks."""
    differing = (
        departures_with_contacts(Contact.salesforce_id, Departure.opted_out, Departure.consent_hidden)
        .where(
            Departure.connection_id == context.connection_id,
            Departure.state.in_(STAYING),
            Contact.departed.is_(None),
            # Of one that isn't visible opted_out is NULL, and changes nothing.
            or_(
                Contact.opted_out != Departure.opted_out,
                and_(Departure.opted_out.is_(True), Contact.consent_hidden != Departure.consent_hidden),
            ),
        )
        .order_by(Contact.salesforce_id)
        .limit(CHUNK)
    )
    while rows := db.session.execute(differing).all():
        stop_if_asked()
        apply_opt_outs(
            context, {row.salesforce_id: (row.opted_out, row.opted_out and row.consent_hidden) for row in rows}
        )


def apply_opt_outs(context: RunContext, opted_out: Mapping[str, tuple[bool, bool]]) -> None:
    """Store the opt-outs of some contacts, with ledger, twins and counters, in one transaction.

    opted_out: {Salesforce Id: (is it opted out, only because its consent record can't be seen)}.
    """
    context.lock()
    updates, entries, changes = [], [], []
    also: Counter[str] = Counter()
    hashes: set[bytes] = set()
    for salesforce_id, contact in store.find_contacts(context.connection_id, context.user_id, opted_out.keys()).items():
        is_out, is_consent_hidden = opted_out[salesforce_id]
        after = contact._replace(opted_out=is_out)
        values = {"opted_out": is_out, "consent_hidden": is_consent_hidden, "changed_at": utcnow()}
        updates.append({"b_id": contact.contact_id, **values})
        entries.append(
            {
                "salesforce_id": salesforce_id,
                "outcome": str(LedgerOutcome.OPTED_OUT if is_out else LedgerOutcome.SYNCED),
                "address_hash": contact.address_hash if is_out else None,
                "consent_hidden": is_consent_hidden,
            }
        )
        hashes |= {contact.address_hash} if contact.address_hash else set()
        if contact.is_active != after.is_active:
            reason = Also.OPTED_OUT if is_out else Also.OPTED_IN
            changes.append(change_row(context, contact.contact_id, ALSO, reason))
            also[reason] += 1
    twins = TwinChanges(context, hashes)
    store.update_contacts(updates)
    store.upsert_ledger(context.connection_id, context.user_id, entries)
    store.insert_changes(changes)
    context.run.save(also=add_counts(context.run.row.also, also + twins.record()))


def limit_unseen_opt_outs(context: RunContext) -> None:
    """Set how long the opt-outs of contacts that stay here may be trusted although Salesforce no longer shows them.

    The time counts from the last good sync, the last that could have shown an opt-out. A contact that is visible again follows
    the connection's own limit.
    """
    context.lock()
    connection = context.run.row.connection
    last_known_at = connection.last_good_sync_at or utcnow()
    until = last_known_at + timedelta(days=connection.partner.opt_outs_trusted_days)
    staying = select(Departure.salesforce_id).where(
        Departure.connection_id == context.connection_id, Departure.state.in_(STAYING)
    )
    for which, before, moment in (
        (Departure.opted_out.is_(None), Contact.opt_out_known_until.is_(None), until),
        (Departure.opted_out.is_not(None), Contact.opt_out_known_until.is_not(None), None),
    ):
        change_rows(
            db.session,
            update(Contact)
            .where(
                Contact.connection_id == context.connection_id,
                Contact.salesforce_id.in_(staying.where(which)),
                before,
            )
            .values(opt_out_known_until=moment),
        )


def count_base(context: RunContext) -> int:
    """Return how many contacts a proposal is compared with: those active when the run began; on a first run, those active now."""
    if context.run.row.connection.first_synced_at is not None:
        return count_active_at_start(context)
    active_now = (
        select(func.count()).select_from(Contact).where(Contact.connection_id == context.connection_id, is_person_on())
    )
    return db.session.scalar(active_now) or 0


def count_active_at_start(context: RunContext) -> int:
    """Return how many contacts were active when the run began: those active now, corrected by what the run has changed.

    Contacts that this run created or adopted don't count. A run without a proposal doesn't need the number and saves the query
    over all contacts.
    """
    adopted = select(RunChange.contact_id).where(RunChange.run_id == context.run_id, RunChange.kind == RowClass.ADOPTED)
    was_here = (
        Contact.connection_id == context.connection_id,
        func.coalesce(Contact.created_in_run_id, 0) != context.run_id,
        Contact.id.not_in(adopted),
    )
    active_now = (
        db.session.scalar(select(func.count()).select_from(Contact).where(*was_here, is_person_on(context.user_id)))
        or 0
    )
    reason = case((RunChange.kind == ALSO, RunChange.reason))
    rows = db.session.execute(
        select(RunChange.kind, reason, func.count())
        .join(Contact, Contact.id == RunChange.contact_id)
        .where(RunChange.run_id == context.run_id, *was_here)
        .group_by(RunChange.kind, reason)
    )
    changed = {(row[0], row[1]): row[2] for row in rows}
    reactivated = sum(changed.get(key, 0) for key in REACTIVATIONS)
    deactivated = sum(changed.get(key, 0) for key in DEACTIVATIONS)
    return int(active_now - reactivated + deactivated)


def classify_unapplied(context: RunContext) -> None:
    """Classify rows whose departure was held, or discarded by the advisor; the rest reappeared and count as unchanged."""
    by_state = dict(
        db.session.execute(
            select(Departure.state, func.count())
            .where(
                Departure.connection_id == context.connection_id,
                Departure.found_in_run_id == context.run_id,
                Departure.was_read,
            )
            .group_by(Departure.state)
        ).all()
    )
    run = context.run.row
    staying = {state: min(count, run.nominated) for state, count in by_state.items()}
    context.run.save(
        nominated=0,
        unchanged=run.unchanged + run.nominated - sum(staying.values()),
        skipped=add_counts(run.skipped, staying),
    )


def apply_departures(context: RunContext, states: Sequence[DepartureState], stop_if_asked: Callable[[], None]) -> None:
    while True:
        stop_if_asked()
        batch = list(
            db.session.scalars(
                select(Departure)
                .where(
                    Departure.connection_id == context.connection_id,
                    Departure.state.in_(states),
                    Departure.found_in_run_id == context.run_id,
                )
                .order_by(Departure.salesforce_id)
                .limit(CHUNK)
            )
        )
        if not batch:
            db.session.commit()
            return
        apply_batch(context, batch)


def apply_batch(context: RunContext, batch: Sequence[Departure]) -> None:
    """Apply some departures with ledger, twins, memberships and counters, in one transaction."""
    context.lock()
    ids = [departure.salesforce_id for departure in batch]
    known = store.find_contacts(context.connection_id, context.user_id, ids)
    ledger = store.find_ledger(context.connection_id, ids)
    classes: Counter[str] = Counter()
    also: Counter[str] = Counter()
    updates, changes = [], []
    for departure in batch:
        contact = known.get(departure.salesforce_id)
        was_read = departure.was_read and departure.found_in_run_id == context.run_id
        kind = RowClass.UNCHANGED
        if contact is not None and is_news(contact, departure):
            updates.append(
                {
                    "b_id": contact.contact_id,
                    "departed": contact.departed if contact.is_without_email else departure.reason,
                    "merged_into": departure.merged_into,
                    "changed_at": utcnow(),
                }
            )
            if not contact.is_without_email:
                kind = RowClass.DEACTIVATED if contact.is_active else RowClass.UPDATED
                told = ALSO if contact.is_active and not was_read else kind
                owner = {NEW_OWNER: departure.owner_name} if departure.owner_name else None
                changes.append(change_row(context, contact.contact_id, told, departure.reason, new=owner))
                if not was_read:
                    also[departure.reason if contact.is_active else Also.LEFT_INACTIVE] += 1
        classes[kind] += 1 if was_read else 0
    twins = TwinChanges(context, {hashed for _, hashed, _ in ledger.values() if hashed})
    store.update_contacts(updates)
    store.insert_changes(changes)
    store.delete_from_ledger(context.connection_id, ids)
    store.delete_departures(context.connection_id, ids)
    also[Also.MEMBERSHIPS_MOVED] = move_memberships(context, [d for d in batch if d.reason == Reason.MERGED])
    also += twins.record()
    run = context.run.row
    context.run.save(
        deactivated=run.deactivated + classes[RowClass.DEACTIVATED],
        updated=run.updated + classes[RowClass.UPDATED],
        unchanged=run.unchanged + classes[RowClass.UNCHANGED],
        nominated=run.nominated - sum(classes.values()),
        also=add_counts(run.also, also),
    )


def match_blocked_addresses(context: RunContext) -> None:
    """Make the blocked addresses of contacts agree with the ledger, which is complete now; commit.

    Blocked addresses outlive the ledger when contacts are removed on disconnecting, and the next full read shows which of them
    still hold. This ledger overrules earlier connections about the records that it has.
    """
    context.lock()
    too_many, too_few = unlike_ledger(context.connection_id)
    earlier = blocked_earlier(context.connection_id, context.user_id)
    if not too_many and not too_few and not earlier:
        db.session.commit()
        return
    twins = TwinChanges(context, {*too_many.values(), *too_few.values(), *earlier.values()})
    unblock_earlier(context.connection_id, context.user_id, earlier)
    unblock(context.connection_id, too_many)
    block(context.connection_id, context.user_id, BlockedBy.CONTACT, too_few)
    context.run.save(also=add_counts(context.run.row.also, twins.record()))


def is_news(contact: StoredContact, departure: Departure) -> bool:
    """Does the departure change the contact? One that has left already may still have been merged since."""
    if contact.departed is None:
        return True
    return departure.reason == Reason.MERGED and contact.merged_into != departure.merged_into


def move_memberships(context: RunContext, merged: Sequence[Departure]) -> int:
    """Put the survivors of merges, if they are here, on the merged contacts' own lists; return how many memberships moved."""
    survivors = find_survivors(context.connection_id, [departure.salesforce_id for departure in merged])
    moving = [
        (list_id, loser_id, survivors[loser_id])
        for chunk in in_chunks(survivors)
        for list_id, loser_id in db.session.execute(
            select(ListMember.list_id, ListMember.contact_id).where(ListMember.contact_id.in_(chunk))
        ).all()
    ]
    wanted = {(list_id, survivor_id) for list_id, _, survivor_id in moving}
    present = {
        (row.list_id, row.contact_id)
        for chunk in in_chunks({contact_id for _, contact_id in wanted})
        for row in db.session.execute(select(ListMember).where(ListMember.contact_id.in_(chunk))).scalars()
    }
    missing = [{"list_id": list_id, "contact_id": contact_id} for list_id, contact_id in wanted - present]
    if missing:
        db.session.execute(insert(ListMember), missing)
    for chunk in in_chunks({loser_id for _, loser_id, _ in moving}):
        db.session.execute(delete(ListMember).where(ListMember.contact_id.in_(chunk)))
    return len(moving)


def find_survivors(connection_id: int, salesforce_ids: Sequence[str]) -> dict[int, int]:
    """Return {contact: survivor of its merge} for survivors that are here; a survivor that was merged too leads to the next."""
    loser, survivor = aliased(Contact), aliased(Contact)
    query = (
        select(loser.id, survivor.id, survivor.departed, survivor.merged_into, survivor.salesforce_id)
        .join(survivor, (survivor.connection_id == loser.connection_id) & (survivor.salesforce_id == loser.merged_into))
        .where(loser.connection_id == connection_id)
    )
    found: dict[int, int] = {}
    losers: dict[int, set[int]] = {}  # contact at the end of a chain of merges -> the contacts at its beginning
    ids = list(salesforce_ids)
    for _ in range(LONGEST_CHAIN):
        if not ids:
            break
        rows = db.session.execute(query.where(is_among(loser.salesforce_id, ids))).all()
        ids = []
        further: dict[int, set[int]] = {}
        for loser_id, survivor_id, departed, merged_into, salesforce_id in rows:
            first = losers.get(loser_id, {loser_id})
            if departed is None:
                found.update(dict.fromkeys(first, survivor_id))
            elif merged_into is not None:
                further.setdefault(survivor_id, set()).update(first)
                ids.append(str(salesforce_id))
        losers = further
    return found
