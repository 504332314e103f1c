"""Contacts that leave: nominated, written down as a proposal, and applied at the end of a run.

A contact is switched off only on an answer about that very contact: its row came back deleted or merged, or a look at its Id
in a whole answer shows another owner or no row. Sweeps only nominate. A proposal of more than a fifth of what was active
when the run began, and of more than ten, is held until the advisor approves or discards it; there is one proposal per
connection, and later runs renew it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, case, delete, func, insert, select, update
from sqlalchemy.orm import aliased

from asapp import audit
from asapp.audit import ITSELF, Actor
from asapp.clock import utcnow
from asapp.contacts.status import is_person_on
from asapp.contacts.twins import block, take_turns, unblock, unlike_ledger
from asapp.extensions import db
from asapp.models import (
    Action,
    BlockedBy,
    Connection,
    Contact,
    Departure,
    DepartureState,
    LedgerEntry,
    ListMember,
    Reason,
    RunChange,
    RunTrigger,
    SyncRun,
)
from asapp.salesforce.records import Sighting
from asapp.sync import store
from asapp.sync.classes import Known, RowClass
from asapp.sync.pages import ALSO, TWIN_BACK, Pull, TwinWatch, added, changed
from asapp.sync.runs import Ring, lock_run, start_run, write_under_lease

HELD_SHARE = 0.2
HELD_LEAST = 10
CHUNK = 2000
MEMBERSHIPS_MOVED = "memberships_moved"
LONGEST_CHAIN = 20  # of merges, one after the other


def judge_sighting(sighting: Sighting | None, owner_id: str) -> Reason | None:
    """Return why a contact has left by what a look at its Id showed; None: it is still the user's."""
    if sighting is None:
        return Reason.GONE
    if not sighting.is_readable:
        return None
    if sighting.is_deleted:
        return Reason.MERGED if sighting.master_record_id else Reason.DELETED
    return Reason.REASSIGNED if sighting.owner_id != owner_id else None


@dataclass(frozen=True)
class Stock:
    expected: int  # contacts that Salesforce has for the user, if we know of all departures
    departures: int  # written down, in whatever state


def take_stock(connection_id: int) -> Stock:
    mine = select(func.count()).select_from(LedgerEntry).where(LedgerEntry.connection_id == connection_id)
    leaving = mine.join(
        Departure,
        (Departure.connection_id == LedgerEntry.connection_id) & (Departure.salesforce_id == LedgerEntry.salesforce_id),
    )
    written_down = select(func.count()).select_from(Departure).where(Departure.connection_id == connection_id)
    expected = mine.scalar_subquery() - leaving.scalar_subquery()
    return Stock(*db.session.execute(select(expected, written_down.scalar_subquery())).one())


def ids_missed_by_sweep(pull: Pull, seen: Collection[str]) -> list[str]:
    """Return the Ids that a sweep has not shown and of which this run doesn't know yet that they have left.

    seen: those of its pages that are not marked in the ledger.
    """
    found = select(Departure.salesforce_id).where(
        Departure.connection_id == pull.connection_id, Departure.found_in_run_id == pull.run_id
    )
    not_marked = select(LedgerEntry.salesforce_id).where(
        LedgerEntry.connection_id == pull.connection_id,
        func.coalesce(LedgerEntry.swept_in_run_id, 0) != pull.run_id,
        LedgerEntry.salesforce_id.not_in(found),
    )
    return [salesforce_id for salesforce_id in db.session.scalars(not_marked) if salesforce_id not in seen]


def ids_back_in_sweep(pull: Pull, seen: Collection[str]) -> list[str]:
    """Return the written-down departures that a sweep has shown among the user's contacts. seen: as above."""
    rows = db.session.execute(
        select(Departure.salesforce_id, LedgerEntry.swept_in_run_id)
        .outerjoin(
            LedgerEntry,
            (LedgerEntry.connection_id == Departure.connection_id)
            & (LedgerEntry.salesforce_id == Departure.salesforce_id),
        )
        .where(Departure.connection_id == pull.connection_id)
    )
    return [row.salesforce_id for row in rows if row.salesforce_id in seen or row.swept_in_run_id == pull.run_id]


def approve(connection: Connection, ring: Ring, by: Actor = ITSELF) -> SyncRun | None:
    """Let a run ask Salesforce again about the held contacts, and apply what still holds; None as in start_run."""
    if not connection.can_sync:
        return None
    moved = _move(connection.id, DepartureState.APPROVED, (DepartureState.HELD,))
    if moved:
        audit.record(Action.APPROVED, by, connection, contacts=moved)
    db.session.commit()
    return start_run(connection, RunTrigger.APPROVAL, ring)


def discard(connection: Connection, by: Actor = ITSELF) -> None:
    """Keep the held contacts until a later run finds a different set."""
    moved = _move(connection.id, DepartureState.DISCARDED, (DepartureState.HELD,))
    if moved:
        audit.record(Action.DISCARDED, by, connection, contacts=moved)
    db.session.commit()


def nominate_sightings(pull: Pull, ids: Sequence[str], sightings: Mapping[str, Sighting]) -> list[str]:
    """Write down who of these has left, in the caller's transaction; return those who are still the user's."""
    lock_run(pull.run_id, pull.lease)
    rows: list[dict[str, Any]] = []
    still_here: list[str] = []
    for salesforce_id in ids:
        sighting = sightings.get(salesforce_id)
        reason = judge_sighting(sighting, pull.owner_id)
        if reason is None:
            still_here.append(salesforce_id)
            continue
        rows.append(
            {
                "connection_id": pull.connection_id,
                "salesforce_id": salesforce_id,
                "reason": reason,
                "merged_into": sighting.master_record_id if sighting else None,
                "found_in_run_id": pull.run_id,
                "was_read": False,
            }
        )
    already_read = store.find_departures(pull.connection_id, [row["salesforce_id"] for row in rows])
    store.upsert_departures([row for row in rows if already_read.get(row["salesforce_id"]) != pull.run_id])
    return still_here


def renew_proposal(connection_id: int) -> None:
    """A set that differs from the one that was discarded is proposed anew, whole. Strangers to the advisor don't count."""
    has_new = db.session.scalar(
        select(Departure.salesforce_id)
        .join(
            Contact,
            (Contact.connection_id == Departure.connection_id) & (Contact.salesforce_id == Departure.salesforce_id),
        )
        .where(
            Departure.connection_id == connection_id,
            Departure.state == DepartureState.FOUND,
            Contact.departed.is_(None),
        )
        .limit(1)
    )
    if has_new is not None:
        _move(connection_id, DepartureState.FOUND, (DepartureState.DISCARDED,))


def to_confirm(pull: Pull) -> list[str]:
    """Return the Ids whose departure an earlier run found and this one may apply: to be asked about again."""
    waiting = (DepartureState.APPROVED, DepartureState.HELD, DepartureState.FOUND)
    return list(
        db.session.scalars(
            select(Departure.salesforce_id).where(
                Departure.connection_id == pull.connection_id,
                Departure.state.in_(waiting),
                Departure.found_in_run_id != pull.run_id,
            )
        )
    )


def settle(run: SyncRun, pull: Pull, stop_if_asked: Callable[[], None]) -> bool:
    """Apply what was approved, then the rest or hold it, page by page with commits. Return whether a proposal is held.

    stop_if_asked is called before each page, and may raise: what is left is applied when the run goes on.
    Applied is what this very run has found, or asked about again: an older answer may no longer be true.
    """
    take_turns(pull.user_id)
    lock_run(pull.run_id, pull.lease)
    renew_proposal(pull.connection_id)
    proposed = (DepartureState.FOUND, DepartureState.HELD)
    held = is_too_much(run, pull, count_switched_off(pull.connection_id, proposed))
    apply_all(run, pull, (DepartureState.APPROVED,), stop_if_asked)
    if held:
        lock_run(pull.run_id, pull.lease)
        _move(pull.connection_id, DepartureState.HELD, (DepartureState.FOUND,))
    else:
        apply_all(run, pull, proposed, stop_if_asked)
    class_what_stays(run, pull)
    return held


def is_too_much(run: SyncRun, pull: Pull, switched_off: int) -> bool:
    """Would a proposal switch off so many that the advisor has to decide?"""
    return switched_off > HELD_LEAST and switched_off > HELD_SHARE * count_active_at_start(run, pull)


def count_switched_off(connection_id: int, states: Sequence[DepartureState]) -> int:
    """Return how many contacts that are on these departures would switch off."""
    return (
        db.session.scalar(
            select(func.count())
            .select_from(Departure)
            .join(
                Contact,
                (Contact.connection_id == Departure.connection_id) & (Contact.salesforce_id == Departure.salesforce_id),
            )
            .where(Departure.connection_id == connection_id, Departure.state.in_(states), is_person_on())
        )
        or 0
    )


def count_active_at_start(run: SyncRun, pull: Pull) -> int:
    """Return how many contacts were on when the run began: those that are now, without what the run has turned since.

    Who came with this run, new or adopted, doesn't count at all. Counted only when a proposal asks for it, so that a run in
    which nothing left doesn't look at everybody.
    """
    adopted = select(RunChange.contact_id).where(RunChange.run_id == run.id, RunChange.kind == RowClass.ADOPTED)
    was_here = (
        Contact.connection_id == pull.connection_id,
        func.coalesce(Contact.created_in_run_id, 0) != run.id,
        Contact.id.not_in(adopted),
    )
    on_now = (
        db.session.scalar(select(func.count()).select_from(Contact).where(*was_here, is_person_on(pull.user_id))) or 0
    )
    reason = case((RunChange.kind == ALSO, RunChange.reason))
    rows = db.session.execute(
        select(RunChange.kind, reason, func.count())
        .join(Contact, Contact.id == RunChange.contact_id)
        .where(RunChange.run_id == run.id, *was_here)
        .group_by(RunChange.kind, reason)
    )
    turned = {(row[0], row[1]): row[2] for row in rows}
    turned_on = turned.get((RowClass.REACTIVATED, None), 0) + turned.get((ALSO, TWIN_BACK), 0)
    turned_off = turned.get((RowClass.DEACTIVATED, None), 0) + turned.get((ALSO, Reason.TWIN_OPTED_OUT), 0)
    return int(on_now - turned_on + turned_off)


def class_what_stays(run: SyncRun, pull: Pull) -> None:
    """Class the rows that were read of departures not applied: held or kept by the advisor; the rest came back meanwhile."""
    by_state = dict(
        db.session.execute(
            select(Departure.state, func.count())
            .where(
                Departure.connection_id == pull.connection_id,
                Departure.found_in_run_id == pull.run_id,
                Departure.was_read,
            )
            .group_by(Departure.state)
        ).all()
    )
    staying = {state: min(count, run.nominated) for state, count in by_state.items()}
    write_under_lease(
        run,
        pull.lease,
        nominated=0,
        unchanged=run.unchanged + run.nominated - sum(staying.values()),
        skipped=added(run.skipped, staying),
    )
    db.session.commit()


def apply_all(run: SyncRun, pull: Pull, states: Sequence[DepartureState], stop_if_asked: Callable[[], None]) -> None:
    while True:
        stop_if_asked()
        batch = list(
            db.session.scalars(
                select(Departure)
                .where(
                    Departure.connection_id == pull.connection_id,
                    Departure.state.in_(states),
                    Departure.found_in_run_id == pull.run_id,
                )
                .order_by(Departure.salesforce_id)
                .limit(CHUNK)
            )
        )
        if not batch:
            db.session.commit()
            return
        apply_batch(run, pull, batch)


def apply_batch(run: SyncRun, pull: Pull, batch: Sequence[Departure]) -> None:
    """Apply some departures in one transaction, ledger, twins, memberships and counters with them."""
    take_turns(pull.user_id)
    lock_run(pull.run_id, pull.lease)
    ids = [departure.salesforce_id for departure in batch]
    known = store.find_known(pull.connection_id, ids)
    ledger = store.find_ledger(pull.connection_id, ids)
    classes: Counter[str] = Counter()
    also: Counter[str] = Counter()
    updates, changes = [], []
    for departure in batch:
        contact = known.get(departure.salesforce_id)
        was_read = departure.was_read and departure.found_in_run_id == pull.run_id
        kind = RowClass.UNCHANGED
        if contact is not None and is_news(contact, departure):
            updates.append(
                {
                    "b_id": contact.contact_id,
                    "departed": contact.departed if contact.is_shell else departure.reason,
                    "merged_into": departure.merged_into,
                    "changed_at": utcnow(),
                }
            )
        if contact is not None and is_news(contact, departure) and not contact.is_shell:
            kind = RowClass.DEACTIVATED if contact.is_on else RowClass.UPDATED
            changes.append(changed(pull, contact.contact_id, kind if was_read else ALSO, departure.reason, {}, {}))
            also[departure.reason] += 0 if was_read else 1
        classes[kind] += 1 if was_read else 0
    twins = TwinWatch(pull, {hashed for _, hashed in ledger.values() if hashed})
    store.update_contacts(updates)
    store.insert_changes(changes)
    store.delete_from_ledger(pull.connection_id, ids)
    store.drop_departures(pull.connection_id, ids)
    also[MEMBERSHIPS_MOVED] = hand_over_memberships(pull, [d for d in batch if d.reason == Reason.MERGED])
    also += twins.record_changes()
    write_under_lease(
        run,
        pull.lease,
        deactivated=run.deactivated + classes[RowClass.DEACTIVATED],
        updated=run.updated + classes[RowClass.UPDATED],
        unchanged=run.unchanged + classes[RowClass.UNCHANGED],
        nominated=run.nominated - sum(classes.values()),
        also=added(run.also, also),
    )
    db.session.commit()


def match_blocked_addresses(run: SyncRun, pull: Pull) -> None:
    """Bring the blocked addresses of contacts in step with the ledger, which is whole now; commit.

    They outlive the ledger where contacts are removed on disconnecting; the next full read shows which still hold.
    """
    take_turns(pull.user_id)
    lock_run(pull.run_id, pull.lease)
    too_many, too_few = unlike_ledger(pull.connection_id)
    if not too_many and not too_few:
        db.session.commit()
        return
    twins = TwinWatch(pull, {*too_many.values(), *too_few.values()})
    unblock(pull.connection_id, too_many)
    block(pull.connection_id, pull.user_id, BlockedBy.CONTACT, too_few)
    write_under_lease(run, pull.lease, also=added(run.also, twins.record_changes()))
    db.session.commit()


def is_news(contact: Known, departure: Departure) -> bool:
    """Does it tell of this contact what we didn't know? Who has left already may still have been merged since."""
    if contact.departed is None:
        return True
    return departure.reason == Reason.MERGED and contact.merged_into != departure.merged_into


def hand_over_memberships(pull: Pull, merged: Sequence[Departure]) -> int:
    """Give the own lists of merged contacts to the survivors that are here; return how many memberships moved."""
    survivors = find_survivors(pull.connection_id, [departure.salesforce_id for departure in merged])
    moving = [
        (list_id, loser_id, survivors[loser_id])
        for chunk in store.chunks(survivors)
        for list_id, loser_id in db.session.execute(
            select(ListMember.list_id, ListMember.contact_id).where(ListMember.contact_id.in_(chunk))
        ).all()
    ]
    wanted = {(list_id, survivor_id) for list_id, _, survivor_id in moving}
    there = {
        (row.list_id, row.contact_id)
        for chunk in store.chunks({contact_id for _, contact_id in wanted})
        for row in db.session.execute(select(ListMember).where(ListMember.contact_id.in_(chunk))).scalars()
    }
    missing = [{"list_id": list_id, "contact_id": contact_id} for list_id, contact_id in wanted - there]
    if missing:
        db.session.execute(insert(ListMember), missing)
    for chunk in store.chunks({loser_id for _, loser_id, _ in moving}):
        db.session.execute(delete(ListMember).where(ListMember.contact_id.in_(chunk)))
    return len(moving)


def find_survivors(connection_id: int, salesforce_ids: Sequence[str]) -> dict[int, int]:
    """Return {contact: who survived its merge} where the survivor is here: the last one, if that one was merged too."""
    loser, survivor = aliased(Contact), aliased(Contact)
    query = (
        select(loser.id, survivor.id, survivor.departed, survivor.merged_into, survivor.salesforce_id)
        .join(survivor, (survivor.connection_id == loser.connection_id) & (survivor.salesforce_id == loser.merged_into))
        .where(loser.connection_id == connection_id)
    )
    found: dict[int, int] = {}
    losers: dict[int, set[int]] = {}  # contact at the end of a chain -> where it began
    ids = list(salesforce_ids)
    for _ in range(LONGEST_CHAIN):
        if not ids:
            break
        rows = db.session.execute(query.where(store.among(loser.salesforce_id, ids))).all()
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


def _move(connection_id: int, to: DepartureState, states: Sequence[DepartureState]) -> int:
    moved = db.session.execute(
        update(Departure)
        .where(Departure.connection_id == connection_id, Departure.state.in_(states))
        .values(state=to)
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", moved).rowcount
