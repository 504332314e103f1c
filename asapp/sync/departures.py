"""Contacts that leave the user in Salesforce: found, recorded as a proposal, and decided on by the advisor where they are many.

A contact becomes inactive only on an answer about that very contact: its row came back deleted or merged, or a query by its Id
shows, in a whole answer, another owner or no row. Sweeps only nominate. There is one proposal per connection, and sync/settle.py
applies or holds it at the end of a run. Only an approval applies what is held, however many contacts there are by then: later
runs renew the proposal, and what they find is added to it. What the advisor discards stays discarded until a run finds a
different set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select, update

from asapp.audit import entries as audit
from asapp.audit.entries import ITSELF, Actor
from asapp.contacts.status import is_person_on
from asapp.core.clock import utcnow
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
from asapp.models.contact import IS_HELD, OWNER_NAME_MAX, is_of_kind
from asapp.salesforce.records import AccountSighting, RecordKind, Sighting
from asapp.sync import store
from asapp.sync.run_context import RunContext
from asapp.sync.runs import Enqueue, start_run

LONGEST_CHAIN = 20  # of merges, one after the other


def judge_sighting(sighting: Sighting | None, owner_id: str) -> Reason | None:
    """Return why a contact has left, by the answer to a query by its Id; None if it is still the user's."""
    if sighting is None:
        return Reason.GONE
    if not sighting.is_readable:
        return None
    if sighting.is_deleted:
        return Reason.MERGED if sighting.master_record_id else Reason.DELETED
    return Reason.REASSIGNED if sighting.owner_id != owner_id else None


@dataclass(frozen=True)
class LedgerCounts:
    """Of contacts, or of open Leads."""

    expected: int  # records that Salesforce has for the user, if all departures are known
    departures: int  # recorded, in any state


def count_ledger(connection_id: int, kind: RecordKind = RecordKind.CONTACT) -> LedgerCounts:
    mine = (
        select(func.count())
        .select_from(LedgerEntry)
        .where(LedgerEntry.connection_id == connection_id, is_of_kind(kind, LedgerEntry.salesforce_id))
    )
    leaving = mine.join(
        Departure,
        (Departure.connection_id == LedgerEntry.connection_id) & (Departure.salesforce_id == LedgerEntry.salesforce_id),
    )
    of_kind = (Departure.connection_id == connection_id, is_of_kind(kind, Departure.salesforce_id))
    recorded = select(func.count()).select_from(Departure).where(*of_kind)
    expected = mine.scalar_subquery() - leaving.scalar_subquery()
    return LedgerCounts(*db.session.execute(select(expected, recorded.scalar_subquery())).one())


class NotWaiting(Exception):
    """What the person decided about no longer waits for a decision: it was decided, or a later run found another set."""


def approve(
    connection: Connection, enqueue: Enqueue, by: Actor = ITSELF, proposal: str | None = None
) -> SyncRun | None:
    """Start a run that asks Salesforce again about the held contacts and applies what still holds; None as in start_run().

    proposal: the key of the one that the person saw. Raises NotWaiting, having changed nothing.
    """
    if not connection.can_sync:
        return None
    _decide(connection, Action.APPROVED, DepartureState.APPROVED, by, proposal)
    db.session.commit()
    return start_run(connection, RunTrigger.APPROVAL, enqueue)


def discard(connection: Connection, by: Actor = ITSELF, proposal: str | None = None) -> None:
    """Keep the held contacts until a later run finds a different set. proposal, errors: as in approve()."""
    _decide(connection, Action.DISCARDED, DepartureState.DISCARDED, by, proposal)
    db.session.commit()


def _decide(connection: Connection, action: Action, to: DepartureState, by: Actor, proposal: str | None) -> None:
    """Move what waits to this state. What was moved is compared with what was seen, so that no run comes between the two."""
    decided_at = utcnow()
    moved = move_departures(connection.id, to, (DepartureState.HELD,), at=decided_at)
    groups = _groups_of(connection.id, Departure.state == to, Departure.decided_at == decided_at)
    if not moved or (proposal is not None and proposal != key_of_proposal(groups)):
        db.session.rollback()
        raise NotWaiting
    audit.record(action, by, connection, contacts=sum(group.number for group in groups))


class DepartureGroup(NamedTuple):
    """Departures that make a contact inactive, by where they went. sum_of_ids: of the contacts."""

    reason: str
    owner_id: str | None
    number: int
    sum_of_ids: int


def key_of_proposal(groups: Iterable[DepartureGroup]) -> str:
    """Return a key that changes with the contacts, where they went and who owns them: did a person see what waits now?"""
    return sha256(repr(sorted(str(tuple(group)) for group in groups)).encode()).hexdigest()[:32]


def _groups_of(connection_id: int, *conditions: Any) -> list[DepartureGroup]:
    group = (Departure.reason, Departure.owner_id)
    rows = db.session.execute(
        departures_with_contacts(*group, func.count(), func.sum(Contact.id))
        .where(Departure.connection_id == connection_id, *conditions, is_person_on())
        .group_by(*group)
    )
    return [DepartureGroup._make(row) for row in rows]


def reconsider(connection: Connection, by: Actor = ITSELF) -> None:
    """Let the advisor decide again about the contacts that were kept: they wait as they did before."""
    reopened = move_departures(connection.id, DepartureState.HELD, (DepartureState.DISCARDED,), concerns_contact_here())
    if reopened:
        audit.record(Action.RECONSIDERED, by, connection, contacts=reopened)
    db.session.commit()


def nominate_departed(context: RunContext, ids: Sequence[str], sightings: Mapping[str, Sighting]) -> list[str]:
    """Record which of these have left, in the caller's transaction; return those that are still the user's."""
    context.run.lock()
    rows: list[dict[str, Any]] = []
    still_here: list[str] = []
    for salesforce_id in ids:
        sighting = sightings.get(salesforce_id)
        reason = judge_sighting(sighting, context.owner_id)
        if reason is None:
            still_here.append(salesforce_id)
            continue
        has_new_owner = sighting is not None and reason == Reason.REASSIGNED
        rows.append(
            {
                "connection_id": context.connection_id,
                "salesforce_id": salesforce_id,
                "reason": reason,
                "merged_into": sighting.master_record_id if sighting else None,
                "found_in_run_id": context.run_id,
                "was_read": False,
                "opted_out": sighting.is_opted_out if sighting else None,
                "consent_hidden": sighting is not None and sighting.is_consent_hidden,
                "owner_id": sighting.owner_id if sighting and has_new_owner else None,
                "owner_name": sighting.owner_name[:OWNER_NAME_MAX] if sighting and has_new_owner else None,
            }
        )
    already_read = store.find_departures(context.connection_id, [row["salesforce_id"] for row in rows])
    store.upsert_departures([row for row in rows if already_read.get(row["salesforce_id"]) != context.run_id])
    return still_here


def find_deleted_persons(context: RunContext) -> dict[str, str]:
    """Return {Salesforce Id: account} of the person accounts that this run found to be deleted or gone.

    The contact of a person who was merged may only be deleted; what happened shows on the account.
    """
    rows = db.session.execute(
        departures_with_contacts(Departure.salesforce_id, Contact.account_id).where(
            Departure.connection_id == context.connection_id,
            Departure.found_in_run_id == context.run_id,
            Departure.reason.in_((Reason.DELETED, Reason.GONE)),
            Contact.account_id.is_not(None),
        )
    )
    return {row.salesforce_id: row.account_id for row in rows}


def follow_accounts(context: RunContext, persons: Mapping[str, str], accounts: Mapping[str, AccountSighting]) -> None:
    """Store what the accounts of departed persons show: that they were deleted, or merged into another; commit."""
    context.lock()
    for salesforce_id, account_id in persons.items():
        account = accounts.get(account_id)
        if account is None or not account.is_deleted:
            continue
        reason = Reason.MERGED if account.survivor_id else Reason.DELETED
        change_rows(
            db.session,
            update(Departure)
            .where(Departure.connection_id == context.connection_id, Departure.salesforce_id == salesforce_id)
            .values(reason=reason, merged_into=account.survivor_id),
        )
    context.run.save()


def reopen_discarded(connection_id: int) -> None:
    """If a run found departures beyond the discarded set, reopen the whole proposal, in the caller's transaction.

    Departures of records that were never imported don't count.
    """
    new = db.session.scalar(
        departures_with_contacts(Departure.salesforce_id)
        .where(
            Departure.connection_id == connection_id,
            Departure.state == DepartureState.FOUND,
            Contact.departed.is_(None),
        )
        .limit(1)
    )
    if new is not None:
        move_departures(connection_id, DepartureState.FOUND, (DepartureState.DISCARDED,))


def find_to_confirm(context: RunContext) -> list[str]:
    """Return the Ids whose departure an earlier run found, in any state: they are asked about again."""
    return list(
        db.session.scalars(
            select(Departure.salesforce_id).where(
                Departure.connection_id == context.connection_id,
                Departure.found_in_run_id != context.run_id,
                is_of_kind(context.kind, Departure.salesforce_id),
            )
        )
    )


def withdraw_leads(context: RunContext) -> None:
    """Delete the departures of open Leads, which the firm no longer brings in, in the caller's transaction.

    A full reading finds them again if the firm brings in open Leads once more.
    """
    context.lock()
    of_leads = is_of_kind(RecordKind.LEAD, Departure.salesforce_id)
    mine = select(Departure.salesforce_id).where(Departure.connection_id == context.connection_id, of_leads)
    store.delete_departures(context.connection_id, db.session.scalars(mine).all())


def waiting_for_decision() -> Select[int]:
    """Select the connection id, once for each contact that waits for its advisor's decision: an approval makes it inactive.

    The panel, the banner, the menu, the firm board and the alert all use this query.
    """
    return select(Departure.connection_id).where(IS_HELD, makes_inactive())


def count_held(connection_id: int) -> int:
    """Return how many contacts wait for the advisor's decision."""
    waiting = waiting_for_decision().where(Departure.connection_id == connection_id)
    return db.session.scalar(waiting.with_only_columns(func.count())) or 0


def held_of_connection() -> ColumnElement[int]:
    """What count_held() returns, as a column beside Connection."""
    waiting = waiting_for_decision().where(Departure.connection_id == Connection.id)
    return waiting.with_only_columns(func.count()).correlate(Connection).scalar_subquery()


def count_deactivations(connection_id: int, state: DepartureState) -> int:
    """Return how many active contacts the departures in this state would make inactive."""
    return db.session.scalar(deactivations(connection_id, state)) or 0


def deactivations(connection_id: int, state: DepartureState) -> Select[int]:
    """Select what count_deactivations() returns, for a part of another query."""
    return select(func.count(Departure.salesforce_id)).where(
        Departure.connection_id == connection_id, Departure.state == state, makes_inactive()
    )


def makes_inactive() -> ColumnElement[bool]:
    """Over Departure: would it make a contact inactive? Departures are few: with a join SQLite would begin with the contacts."""
    is_about = (Contact.connection_id == Departure.connection_id) & (Contact.salesforce_id == Departure.salesforce_id)
    return select(Contact.id).where(is_about, is_person_on()).correlate(Departure).exists()


def departures_with_contacts(*columns: Any) -> Select[*tuple[Any, ...]]:
    """Select columns of departures and of the contacts that they are about."""
    is_about = (Contact.connection_id == Departure.connection_id) & (Contact.salesforce_id == Departure.salesforce_id)
    return select(*columns).select_from(Departure).join(Contact, is_about)


def concerns_contact_here() -> ColumnElement[bool]:
    """Is the departure about a contact that is here? The others are of records that were never imported, or have left before."""
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
    connection_id: int,
    to: DepartureState,
    states: Sequence[DepartureState],
    *conditions: ColumnElement[bool],
    at: datetime | None = None,
) -> int:
    """Change the state of a connection's departures, in the caller's transaction; return how many.

    at: when the advisor decided, if that is why.
    """
    mine = (Departure.connection_id == connection_id, Departure.state.in_(states), *conditions)
    values: dict[str, Any] = {"state": to}
    if at is not None:
        values["decided_at"] = at
    return change_rows(db.session, update(Departure).where(*mine).values(values))
