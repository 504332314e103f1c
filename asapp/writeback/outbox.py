"""The outbox of opt-outs: the records that Salesforce still has to be told about, and which delivery works on them.

A row is added in the transaction that stores the unsubscribe. It names a record of the connection's, never an address.
One row a record, for any number of reasons; a record is updated again only if Salesforce has changed it since.
A delivery holds a lease on each row of its round and writes `WHERE lease = mine`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    Table,
    and_,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session

from asapp.audit import entries
from asapp.audit.entries import Actor
from asapp.contacts.suppressions import Address, is_suppressed_as
from asapp.core.bulk import in_chunks, upsert_many
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, insert_ignore
from asapp.core.extensions import db
from asapp.core.leases import LEASE_OF_CALLS, NO_LEASE, new_lease
from asapp.models import (
    Action,
    Connection,
    ConnectionStatus,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    OptOutWrite,
    Partner,
    Reason,
    Suppression,
    Untold,
    User,
    WriteBackState,
    WrittenKind,
)
from asapp.salesforce.fields import STANDARD_OPT_OUT

ROWS: Table = OptOutWrite.__table__  # type: ignore[assignment]
KEY = ("connection_id", "salesforce_id")
TOLD_OF = (Reason.UNSUBSCRIBED, Reason.COMPLAINED)  # a bounce says nothing about what the person wants
RECENT = timedelta(days=30)
NO_WAIT = timedelta(0)
OPEN_LEAD = (LeadState.SENT, LeadState.LINKED)

# As text: SQLite takes the partial index only if it can see its condition.
IS_WAITING = text("opt_out_writes.state = 'waiting'")

Enqueue = Callable[[Sequence[int]], object]  # takes ids of connections


class Found(NamedTuple):
    """A record of a connection's that Salesforce has to be told about."""

    connection_id: int
    user_id: int
    salesforce_id: str
    kind: str


class ClaimedRound(NamedTuple):
    """The rows of a connection that one delivery has claimed."""

    connection_id: int
    lease: str

    @property
    def rows(self) -> tuple[Any, ...]:
        """Over OptOutWrite: is it one of them?"""
        return OptOutWrite.connection_id == self.connection_id, IS_WAITING, OptOutWrite.lease == self.lease


# ---- Adding records


def add_for(addresses: Collection[Address], wait: timedelta = NO_WAIT) -> set[int]:
    """Add the records with these addresses that may not say "opted out" yet; return the connections that own them.

    In the caller's transaction. Nothing happens at firms that don't want it. wait: before the first attempt.
    """
    found: set[Found] = set()
    for (partner_id, user_id), hashes in _by_owner(addresses).items():
        partner = db.session.get_one(Partner, partner_id)
        if partner.writes_opt_outs_back:
            for chunk in in_chunks(sorted(hashes)):
                for find in (_contacts_with, _open_leads_with, _leads_with, _without_record):
                    found |= {Found(*row) for row in db.session.execute(find(partner, user_id, chunk))}
    put_in(found, wait)
    return {each.connection_id for each in found}


def _by_owner(addresses: Iterable[Address]) -> Mapping[tuple[int, int | None], set[bytes]]:
    hashes: dict[tuple[int, int | None], set[bytes]] = defaultdict(set)
    for address in addresses:
        hashes[address.partner_id, address.user_id].add(address.address_hash)
    return hashes


def put_in(found: Collection[Found], wait: timedelta = NO_WAIT) -> None:
    """Add these records, in the caller's transaction. One that waits already stays as it is."""
    if not found:
        return
    now = utcnow()
    fresh = {
        "state": WriteBackState.WAITING.value,
        "why": None,
        "why_words": None,
        "attempts": 0,
        "next_attempt_at": now + wait,
        "created_at": now,
        "ended_at": None,
        **NO_LEASE,
    }
    rows = [each._asdict() | fresh for each in sorted(found)]  # in one order, so that no two deadlock
    upsert_many(ROWS, rows, KEY, [*fresh, "kind"], where=ROWS.c.state != WriteBackState.WAITING)


def _contacts_with(partner: Partner, user_id: int | None, hashes: Collection[bytes]) -> Select[*tuple[Any, ...]]:
    return _synced_with(partner, user_id, hashes, ContactSource.SALESFORCE, WrittenKind.CONTACT)


def _open_leads_with(partner: Partner, user_id: int | None, hashes: Collection[bytes]) -> Select[*tuple[Any, ...]]:
    return _synced_with(partner, user_id, hashes, ContactSource.SALESFORCE_LEAD, WrittenKind.LEAD)


def _synced_with(
    partner: Partner, user_id: int | None, hashes: Collection[bytes], source: ContactSource, kind: WrittenKind
) -> Select[*tuple[Any, ...]]:
    return (
        _select_found(
            Contact,
            kind,
            Contact.salesforce_id,
            Contact.system_modstamp,
            Connection.id == Contact.connection_id,
        )
        .where(*_are_of(Contact.user_id, partner.id, user_id), Contact.address_hash.in_(hashes))
        .where(Contact.source == source, Contact.departed.is_(None), _may_be_unset(partner, Contact.opted_out))
    )


def _leads_with(partner: Partner, user_id: int | None, hashes: Collection[bytes]) -> Select[*tuple[Any, ...]]:
    return (
        _select_found(
            Lead, WrittenKind.LEAD, Lead.salesforce_id, Lead.system_modstamp, Connection.id == Lead.connection_id
        )
        .where(*_are_of(Lead.user_id, partner.id, user_id), Lead.address_hash.in_(hashes))
        .where(Lead.salesforce_id.is_not(None), Lead.state.in_(OPEN_LEAD), ~Lead.is_deleted)
        .where(_may_be_unset(partner, Lead.opted_out))
        .where(or_(Lead.owner_id.is_(None), Lead.owner_id == Connection.salesforce_user_id))
    )


def _without_record(partner: Partner, user_id: int | None, hashes: Collection[bytes]) -> Select[*tuple[Any, ...]]:
    """Select contacts that have no record which is told of: their address is looked for among the user's open leads."""
    through = func.coalesce(Contact.connection_id, Contact.followed_by_id)
    is_not_told_of = or_(
        Contact.salesforce_id.is_(None),
        through.is_(None),
        through != Connection.id,
        Contact.departed.is_not(None),
        ~_may_be_unset(partner, Contact.opted_out),
    )
    return (
        _select_found(
            Contact,
            WrittenKind.ADDRESS,
            cast(Contact.id, String),
            Contact.changed_at,
            Connection.user_id == Contact.user_id,
        )
        .where(*_are_of(Contact.user_id, partner.id, user_id), Contact.address_hash.in_(hashes))
        .where(is_not_told_of)
    )


def _may_be_unset(partner: Partner, opted_out: Any) -> ColumnElement[bool]:
    """Return the condition that the opt-out field which we write may still be false in Salesforce.

    Where "Email Opt Out" is the only field that counts, opted_out is its value. Else any other may have made it true.
    """
    return ~opted_out if partner.opt_out_fields == (STANDARD_OPT_OUT,) else true()


def _select_found(
    model: type[Contact | Lead], kind: WrittenKind, salesforce_id: Any, changed_at: Any, is_its_account: Any
) -> Select[*tuple[Any, ...]]:
    """Select Found of this model's rows, without those that wait already, or were told and have not changed since.

    is_its_account: is the Connection the row's?
    """
    row = and_(OptOutWrite.connection_id == Connection.id, OptOutWrite.salesforce_id == salesforce_id)
    is_settled = OptOutWrite.state.in_((WriteBackState.TOLD, WriteBackState.TRUE_ALREADY))
    is_due_again = and_(
        OptOutWrite.state != WriteBackState.WAITING, or_(~is_settled, OptOutWrite.ended_at < changed_at)
    )
    return (
        select(Connection.id, Connection.user_id, salesforce_id.label("record_id"), literal(kind.value).label("kind"))
        .select_from(model)
        .join(Connection, is_its_account)
        .outerjoin(OptOutWrite, row)
        .where(or_(OptOutWrite.id.is_(None), is_due_again))
    )


def _are_of(column: Any, partner_id: int, user_id: int | None) -> tuple[ColumnElement[bool], ...]:
    """Are these people of the advisor's, or of any advisor's at the firm, by an account that is not disconnected?"""
    owners = column == user_id
    if user_id is None:
        owners = column.in_(select(User.id).where(User.partner_id == partner_id))
    return owners, Connection.partner_id == partner_id, Connection.status != ConnectionStatus.DISCONNECTED


def add_recent(partner: Partner, by: Actor) -> int:
    """Write down what was not told of the unsubscribes of the last 30 days, refused ones too; return of how many addresses.

    Commits.
    """
    since = utcnow() - RECENT
    query = select(Suppression.partner_id, Suppression.user_id, Suppression.address_hash).where(
        Suppression.partner_id == partner.id,
        or_(Suppression.unsubscribed_at >= since, Suppression.complained_at >= since),
    )
    addresses = [Address(*row) for row in db.session.execute(query)]
    add_for(addresses)
    entries.record(Action.OPT_OUTS_WRITTEN_BACK, by, partner, addresses=len(addresses))
    db.session.commit()
    return len(addresses)


def try_again(connection_id: int, salesforce_id: str) -> bool:
    """Let a record that was refused be told of once more, as a person asks for it; return whether it was. Commits."""
    statement = (
        update(OptOutWrite)
        .where(
            OptOutWrite.connection_id == connection_id,
            OptOutWrite.salesforce_id == salesforce_id,
            OptOutWrite.state == WriteBackState.REFUSED,
        )
        .values(state=WriteBackState.WAITING, attempts=0, next_attempt_at=utcnow(), ended_at=None)
    )
    count = change_rows(db.session, statement)
    db.session.commit()
    return bool(count)


# ---- Enqueueing


def enqueue_due(enqueue: Enqueue, limit: int = 500) -> int:
    """Enqueue a delivery for every connection with something to tell; return for how many. Ends the transaction."""
    now = utcnow()
    due = exists().where(OptOutWrite.connection_id == Connection.id, *_is_due(now))
    ids = list(db.session.scalars(select(Connection.id).join(Partner).where(due, *_can_deliver(now)).limit(limit)))
    db.session.commit()
    if ids:
        enqueue(ids)
    return len(ids)


def can_deliver(session: Session, connection_id: int) -> bool:
    """Is this account connected, its advisor active, and does its firm, ready and not paused, want Salesforce told?"""
    query = select(Connection.id).join(Partner).where(Connection.id == connection_id, *_can_deliver(utcnow()))
    return session.scalar(query) is not None


def _can_deliver(now: datetime) -> tuple[Any, ...]:
    return (
        Connection.status == ConnectionStatus.CONNECTED,
        Connection.user.has(User.deactivated_at.is_(None)),
        Partner.is_ready,
        ~Partner.paused(now),
        Partner.writes_opt_outs_back,
    )


def is_deliverable(now: datetime) -> tuple[Any, ...]:
    """Over OptOutWrite, Connection and Partner: is it due, and may it be told of now?"""
    return *_is_due(now), *_can_deliver(now)


def _is_due(now: datetime) -> tuple[Any, ...]:
    return IS_WAITING, OptOutWrite.next_attempt_at <= now, OptOutWrite.has_no_worker(now)


# ---- Claiming


def claim(connection_id: int, limit: int) -> tuple[ClaimedRound, list[OptOutWrite]]:
    """Take up to limit due rows of this connection, oldest first, and commit; return the round and its rows.

    What the person has taken back since (undone, opted in again) is deleted instead: nothing was told of it yet.
    """
    now, claimed = utcnow(), ClaimedRound(connection_id, new_lease())
    chosen = (
        select(OptOutWrite.id)
        .where(OptOutWrite.connection_id == connection_id, *_is_due(now))
        .order_by(OptOutWrite.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(db.session.scalars(chosen))
    if ids:
        taken = update(OptOutWrite).where(OptOutWrite.id.in_(ids), *_is_due(now))
        change_rows(db.session, taken.values(lease=claimed.lease, lease_until=now + LEASE_OF_CALLS))
        taken_back = _taken_back(ids)
        change_rows(db.session, delete(OptOutWrite).where(*claimed.rows, OptOutWrite.id.in_(taken_back)))
    db.session.commit()
    return claimed, lock_round(claimed) if ids else []


def _taken_back(row_ids: Collection[int]) -> Collection[int]:
    """Return those of these rows whose person is here and hasn't stopped the advisor's mail, or not under the address of now."""
    has_stopped = or_(*(is_suppressed_as(reason) for reason in TOLD_OF))
    is_taken_back = (OptOutWrite.id.in_(row_ids), Contact.address_hash.is_not(None), ~has_stopped)
    contacts = select(OptOutWrite.id).join(
        Contact,
        and_(Contact.connection_id == OptOutWrite.connection_id, Contact.salesforce_id == OptOutWrite.salesforce_id),
    )
    leads = (
        select(OptOutWrite.id)
        .join(
            Lead, and_(Lead.connection_id == OptOutWrite.connection_id, Lead.salesforce_id == OptOutWrite.salesforce_id)
        )
        .join(Contact, Contact.id == Lead.contact_id)
    )
    return {
        *(row_id for query in (contacts, leads) for row_id in db.session.scalars(query.where(*is_taken_back))),
        *_addresses_taken_back(row_ids, ~has_stopped),
    }


def _addresses_taken_back(row_ids: Collection[int], is_taken_back: ColumnElement[bool]) -> Collection[int]:
    query = select(OptOutWrite.salesforce_id, OptOutWrite.id).where(
        OptOutWrite.id.in_(row_ids), OptOutWrite.kind == WrittenKind.ADDRESS
    )
    row_of = {int(row.salesforce_id): row.id for row in db.session.execute(query)}
    contacts = select(Contact.id).where(Contact.id.in_(row_of), Contact.address_hash.is_not(None), is_taken_back)
    return [row_of[contact_id] for contact_id in db.session.scalars(contacts)] if row_of else []


def renew(session: Session, claimed: ClaimedRound) -> int:
    """Renew the lease of a round in the caller's transaction; return how many rows it still holds."""
    return change_rows(session, update(OptOutWrite).where(*claimed.rows).values(lease_until=utcnow() + LEASE_OF_CALLS))


def lock(claimed: ClaimedRound, row_ids: Collection[int]) -> list[OptOutWrite]:
    """Return those of these rows that are still ours, locked until the caller's transaction ends."""
    return _locked(*claimed.rows, OptOutWrite.id.in_(row_ids))


def lock_round(claimed: ClaimedRound) -> list[OptOutWrite]:
    """Return whatever a round still holds, locked until the caller's transaction ends."""
    return _locked(*claimed.rows)


def _locked(*conditions: Any) -> list[OptOutWrite]:
    query = select(OptOutWrite).where(*conditions).order_by(OptOutWrite.id).with_for_update()
    return list(db.session.scalars(query.execution_options(populate_existing=True)))


def release(claimed: ClaimedRound) -> None:
    """Let go of whatever the round still holds. Commits."""
    db.session.rollback()
    change_rows(db.session, update(OptOutWrite).where(*claimed.rows).values(NO_LEASE))
    db.session.commit()


# ---- What becomes of a row, in the caller's transaction


def end(row: OptOutWrite, state: WriteBackState, why: Untold | None = None, words: str = "") -> None:
    row.state, row.why, row.why_words, row.ended_at = state, why, words[:500] or None, utcnow()
    row.end_lease()


def put_off(row: OptOutWrite, why: Untold, wait: timedelta, words: str = "") -> None:
    row.why, row.why_words, row.next_attempt_at = why, words[:500] or None, utcnow() + wait
    row.end_lease()


def follow(row: OptOutWrite, kind: WrittenKind, salesforce_id: str, why: Untold) -> None:
    """Let another record stand for this one: what it was merged into, or became."""
    now = utcnow()
    db.session.execute(
        insert_ignore(db.session, ROWS, KEY).values(
            connection_id=row.connection_id,
            user_id=row.user_id,
            salesforce_id=salesforce_id,
            kind=kind.value,
            state=WriteBackState.WAITING.value,
            attempts=0,
            next_attempt_at=now,
            created_at=now,
        )
    )
    end(row, WriteBackState.GONE, why)
