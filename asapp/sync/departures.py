"""Contacts that leave: nominated, written down as a proposal, and applied at the end of a run.

A contact is switched off only on an answer about that very contact: its row came back deleted or merged, or a look at its Id
in a whole answer shows another owner or no row. Sweeps only nominate. A proposal of more than a fifth of what was active
when the run began (on a first run: of what is active as it ends), and of more than ten, is held; there is one proposal per
connection. Only an approval applies what is held, however the book grows: later runs renew the proposal, and what they find
beside it joins it. What the advisor keeps stays kept until a run finds a different set.

Who is held or kept is somebody else's in Salesforce, or out of sight. Each run looks at them by Id: an opt-out of theirs
counts at once, and out of sight it is unknown when opt-outs have been trusted for as long as the firm allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, update

from asapp.audit import entries as audit
from asapp.audit.entries import ITSELF, Actor
from asapp.contacts.status import is_person_on
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import (
    Action,
    Connection,
    Contact,
    Departure,
    DepartureState,
    LedgerEntry,
    Reason,
    RunTrigger,
    SyncRun,
)
from asapp.models.contact import IS_HELD
from asapp.salesforce.records import Sighting
from asapp.sync import store
from asapp.sync.run_context import RunContext
from asapp.sync.runs import Enqueue, lock_run, start_run

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
class LedgerCounts:
    expected: int  # contacts that Salesforce has for the user, if we know of all departures
    departures: int  # written down, in whatever state


def count_ledger(connection_id: int) -> LedgerCounts:
    mine = select(func.count()).select_from(LedgerEntry).where(LedgerEntry.connection_id == connection_id)
    leaving = mine.join(
        Departure,
        (Departure.connection_id == LedgerEntry.connection_id) & (Departure.salesforce_id == LedgerEntry.salesforce_id),
    )
    written_down = select(func.count()).select_from(Departure).where(Departure.connection_id == connection_id)
    expected = mine.scalar_subquery() - leaving.scalar_subquery()
    return LedgerCounts(*db.session.execute(select(expected, written_down.scalar_subquery())).one())


def approve(connection: Connection, enqueue: Enqueue, by: Actor = ITSELF) -> SyncRun | None:
    """Let a run ask Salesforce again about the held contacts, and apply what still holds; None as in start_run."""
    if not connection.can_sync:
        return None
    moved = move_departures(connection.id, DepartureState.APPROVED, (DepartureState.HELD,))
    if moved:
        audit.record(Action.APPROVED, by, connection, contacts=moved)
    db.session.commit()
    return start_run(connection, RunTrigger.APPROVAL, enqueue)


def discard(connection: Connection, by: Actor = ITSELF) -> None:
    """Keep the held contacts until a later run finds a different set."""
    moved = move_departures(connection.id, DepartureState.DISCARDED, (DepartureState.HELD,))
    if moved:
        audit.record(Action.DISCARDED, by, connection, contacts=moved)
    db.session.commit()


def nominate_departed(context: RunContext, ids: Sequence[str], sightings: Mapping[str, Sighting]) -> list[str]:
    """Write down who of these has left, in the caller's transaction; return those who are still the user's."""
    lock_run(context.run_id, context.lease)
    rows: list[dict[str, Any]] = []
    still_here: list[str] = []
    for salesforce_id in ids:
        sighting = sightings.get(salesforce_id)
        reason = judge_sighting(sighting, context.owner_id)
        if reason is None:
            still_here.append(salesforce_id)
            continue
        rows.append(
            {
                "connection_id": context.connection_id,
                "salesforce_id": salesforce_id,
                "reason": reason,
                "merged_into": sighting.master_record_id if sighting else None,
                "found_in_run_id": context.run_id,
                "was_read": False,
                "opted_out": sighting.is_opted_out if sighting else None,
            }
        )
    already_read = store.find_departures(context.connection_id, [row["salesforce_id"] for row in rows])
    store.upsert_departures([row for row in rows if already_read.get(row["salesforce_id"]) != context.run_id])
    return still_here


def reopen_discarded(connection_id: int) -> None:
    """A set that differs from the one that was discarded is proposed again, whole. Strangers to the advisor don't count."""
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
        move_departures(connection_id, DepartureState.FOUND, (DepartureState.DISCARDED,))


def find_to_confirm(context: RunContext) -> list[str]:
    """Return the Ids whose departure an earlier run found, in whatever state: to be looked at again."""
    return list(
        db.session.scalars(
            select(Departure.salesforce_id).where(
                Departure.connection_id == context.connection_id, Departure.found_in_run_id != context.run_id
            )
        )
    )


def waiting_for_decision() -> Select[int]:
    """Select (connection id) once for each contact that waits for an advisor's decision: an approval would switch it off.

    The one question behind the panel, the banner, the menu, the firm board and the alert.
    """
    return departures_with_contacts(Departure.connection_id).where(IS_HELD, is_person_on())


def count_held(connection_id: int) -> int:
    """Return how many contacts wait for the advisor's decision."""
    waiting = waiting_for_decision().where(Departure.connection_id == connection_id)
    return db.session.scalar(waiting.with_only_columns(func.count())) or 0


def count_deactivations(connection_id: int, state: DepartureState) -> int:
    """Return how many contacts that are on the departures in this state would switch off."""
    leaving = departures_with_contacts(func.count()).where(
        Departure.connection_id == connection_id, Departure.state == state, is_person_on()
    )
    return db.session.scalar(leaving) or 0


def departures_with_contacts(*columns: Any) -> Select[*tuple[Any, ...]]:
    """Select columns of departures and of the contacts that they are about."""
    is_about = (Contact.connection_id == Departure.connection_id) & (Contact.salesforce_id == Departure.salesforce_id)
    return select(*columns).select_from(Departure).join(Contact, is_about)


def concerns_contact_here() -> ColumnElement[bool]:
    """Is the departure about a contact that has not left? The others are records that never came here, or left before."""
    return (
        select(Contact.id)
        .where(
            Contact.connection_id == Departure.connection_id,
            Contact.salesforce_id == Departure.salesforce_id,
            Contact.departed.is_(None),
        )
        .exists()
    )


def move_departures(
    connection_id: int, to: DepartureState, states: Sequence[DepartureState], *conditions: ColumnElement[bool]
) -> int:
    mine = (Departure.connection_id == connection_id, Departure.state.in_(states), *conditions)
    return change_rows(db.session, update(Departure).where(*mine).values(state=to))
