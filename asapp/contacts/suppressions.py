"""Suppressions: addresses that an advisor must not write to because the person unsubscribed or complained, or mail bounced.

They are kept by address, not by contact, so they hold for every contact with the address, whatever its source, now or imported
later, and survive syncs, disconnecting, deletes and erasure. Salesforce's opt-out is another fact; neither clears the other.

Events may come twice, late and out of order. So what holds is never changed step by step: it is derived again from all events
of the address, by the time each happened (`derive`). An opt-in on the advisor's own form ends what is older than it; the
advisor's "Try this address again" ends an older bounce; an undone unsubscribe never counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    type_coerce,
    union,
)
from sqlalchemy.orm import Session

from asapp.contacts.addresses import HashRange, address_hash, address_key
from asapp.core.bulk import in_chunks, insert_many, is_among, is_among_given, upsert_many
from asapp.core.clock import utcnow
from asapp.core.database import UTCDateTime, change_rows, is_postgresql
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.models import (
    Connection,
    ConsentEvent,
    ConsentKind,
    ConsentSource,
    Contact,
    Lead,
    Partner,
    Reason,
    Suppression,
    SuppressionEvent,
    SuppressionSource,
    SuppressionStep,
    SuppressionWords,
    User,
)
from asapp.models.suppression import IS_FOR_ADVISOR, IS_FOR_FIRM, IS_FROM_SENDER

ROWS: Table = Suppression.__table__  # type: ignore[assignment]
EVENTS: Table = SuppressionEvent.__table__  # type: ignore[assignment]
WORDS: Table = SuppressionWords.__table__  # type: ignore[assignment]
OWN = ROWS.alias("own")  # what an advisor's own form says, beside the whole firm's row
UNDO_WITHIN = timedelta(minutes=10)
RETRY_EVERY = timedelta(days=30)  # the advisor may have a bounced address tried again
# The reasons in the order in which they are told, each with the column that says since when.
REASONS = {
    Reason.UNSUBSCRIBED: "unsubscribed_at",
    Reason.COMPLAINED: "complained_at",
    Reason.BOUNCED: "bounced_at",
}


class Address(NamedTuple):
    """An address at a firm; user_id None means everybody at the firm."""

    partner_id: int
    user_id: int | None
    address_hash: bytes


class Happened(NamedTuple):
    """Something that happened to an address. sender_event_id: the sender's own id, which counts once for an advisor.

    words: the sender's own about it, clean and at most WORDS_MAX long; empty for none.
    """

    address: Address
    step: SuppressionStep
    source: SuppressionSource
    at: datetime
    sender_event_id: str | None = None
    undoes_id: int | None = None
    words: str = ""


class Held(NamedTuple):
    """What holds for an address, and since when; None where it does not. The columns of Suppression, by their names."""

    unsubscribed_at: datetime | None = None
    complained_at: datetime | None = None
    bounced_at: datetime | None = None
    opted_in_at: datetime | None = None
    tried_again_at: datetime | None = None


def derive(events: Iterable[Any], opted_in_at: datetime | None = None) -> Held:
    """Return what holds after these events of one address, in whatever order they come.

    events: rows with id, step, at, undoes_id. opted_in_at: the last opt-in that is known otherwise. At the same moment the
    suppression counts, not its end.
    """
    events = list(events)
    undone = {event.undoes_id for event in events if event.step == SuppressionStep.UNDONE}
    newest: dict[str, datetime] = {SuppressionStep.OPTED_IN: opted_in_at} if opted_in_at else {}
    for event in events:
        if event.id not in undone:
            newest[event.step] = max(event.at, newest.get(event.step, event.at))
    opted_in, tried_again = newest.get(SuppressionStep.OPTED_IN), newest.get(SuppressionStep.TRIED_AGAIN)
    return Held(
        _unless_ended(newest.get(SuppressionStep.UNSUBSCRIBED), opted_in),
        _unless_ended(newest.get(SuppressionStep.COMPLAINED), opted_in),
        _unless_ended(newest.get(SuppressionStep.BOUNCED), tried_again),
        opted_in,
        tried_again,
    )


def _unless_ended(begun: datetime | None, ended: datetime | None) -> datetime | None:
    return None if begun is None or (ended is not None and ended > begun) else begun


def store(happened: Collection[Happened]) -> list[Happened]:
    """Store what happened and derive what holds now, in the caller's transaction; return what of it was new.

    A sender's own id counts once for an advisor. A time in the future becomes now. Only writeback/unsubscribing.py may call this
    from outside, so that nothing is stored without what Salesforce has to be told.
    """
    now = utcnow()
    _lock({each.address for each in happened}, now)
    new = _without_known(happened)
    insert_many(
        EVENTS,
        [
            each.address._asdict()
            | {
                "step": each.step.value,
                "source": each.source.value,
                "at": min(each.at, now),
                "recorded_at": now,
                "sender_event_id": each.sender_event_id,
                "undoes_id": each.undoes_id,
            }
            for each in new
        ],
    )
    _store_words(new)
    _derive_again({each.address for each in new}, now)
    return new


def _store_words(happened: Iterable[Happened]) -> None:
    """Store the sender's words of these events beside the contacts that have the address now."""
    words: dict[int | None, dict[str | None, str]] = defaultdict(dict)
    for each in happened:
        if each.words:
            words[each.address.user_id][each.sender_event_id] = each.words
    for user_id, by_event in words.items():
        for chunk in in_chunks(by_event):
            found = db.session.execute(
                select(SuppressionEvent.id, SuppressionEvent.sender_event_id, Contact.id)
                .join(
                    Contact,
                    and_(
                        Contact.user_id == SuppressionEvent.user_id,
                        Contact.address_hash == SuppressionEvent.address_hash,
                    ),
                )
                .where(SuppressionEvent.user_id == user_id, SuppressionEvent.sender_event_id.in_(chunk))
            )
            insert_many(
                WORDS,
                [
                    {"event_id": event_id, "contact_id": contact_id, "words": by_event[sender_event_id]}
                    for event_id, sender_event_id, contact_id in found
                ],
            )


def _lock(addresses: Collection[Address], now: datetime) -> None:
    """Make sure that each address has its row, and keep others from deriving it until the transaction ends.

    On SQLite no one else writes until then.
    """
    if is_postgresql(db.session):
        _write({address: {} for address in addresses}, now)


def _write(held: Mapping[Address, Mapping[str, datetime | None]], now: datetime) -> None:
    """Write columns of the addresses' rows, making rows where there are none; in one order, so that no two deadlock."""
    for is_for_firm in (False, True):
        rows = [
            address._asdict() | {"changed_at": now, **values}
            for address, values in sorted(held.items(), key=lambda item: (item[0].user_id or 0, item[0].address_hash))
            if (address.user_id is None) == is_for_firm
        ]
        if rows:
            changing = [name for name in rows[0] if name not in Address._fields]
            if is_for_firm:
                upsert_many(ROWS, rows, ("partner_id", "address_hash"), changing, index_where=IS_FOR_FIRM)
            else:
                changing.append("partner_id")
                upsert_many(ROWS, rows, ("user_id", "address_hash"), changing, index_where=IS_FOR_ADVISOR)


def _without_known(happened: Collection[Happened]) -> list[Happened]:
    """Leave out what an advisor's sender has told before, also earlier in this very call."""
    known = known_sender_ids(
        {(each.address.user_id, each.sender_event_id) for each in happened if each.sender_event_id is not None}
    )
    new = []
    for each in happened:
        key = (each.address.user_id, each.sender_event_id)
        if key not in known:
            new.append(each)
            if each.sender_event_id is not None:
                known.add(key)
    return new


def known_sender_ids(asked: Collection[tuple[int | None, str | None]]) -> set[tuple[int | None, str | None]]:
    """Return those of these (advisor id, sender's event id) that have been stored."""
    by_user: dict[int | None, list[str]] = defaultdict(list)
    for user_id, event_id in asked:
        by_user[user_id].append(event_id or "")
    return {
        (user_id, event_id)
        for user_id, event_ids in by_user.items()
        for chunk in in_chunks(event_ids)
        for event_id in db.session.scalars(
            select(SuppressionEvent.sender_event_id).where(
                SuppressionEvent.user_id == user_id, is_among(SuppressionEvent.sender_event_id, chunk)
            )
        )
    }


def _derive_again(addresses: Collection[Address], now: datetime) -> None:
    events, opt_ins = _events_of(addresses), _opt_ins_of(addresses)
    _write({address: derive(events[address], opt_ins.get(address))._asdict() for address in addresses}, now)


def _opt_ins_of(addresses: Collection[Address]) -> dict[Address, datetime]:
    """Return when the people at these addresses last opted in on the advisor's form, by the history of consent.

    An unsubscribe may be told of years later; an opt-in that came when nothing was suppressed is among no events.
    """
    by_advisor: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for address in addresses:
        if address.user_id is not None:
            by_advisor[address.partner_id, address.user_id].add(address.address_hash)
    query = _opt_ins_query(is_postgresql(db.session))
    return {
        Address(partner_id, user_id, row.address_hash): row.at
        for (partner_id, user_id), hashes in by_advisor.items()
        for chunk in in_chunks(sorted(hashes))
        for row in db.session.execute(query, {"partner_id": partner_id, "user_id": user_id, "hashes": chunk})
    }


@cache
def _opt_ins_query(on_postgresql: bool) -> Select[*tuple[Any, ...]]:
    """Parameters: partner_id, user_id, hashes."""
    return (
        select(Lead.address_hash, type_coerce(func.max(ConsentEvent.at), UTCDateTime()).label("at"))
        .join(ConsentEvent, ConsentEvent.lead_id == Lead.id)
        .where(
            Lead.user_id == bindparam("user_id"),
            Lead.partner_id == bindparam("partner_id"),
            is_among_given(Lead.address_hash, "hashes", on_postgresql=on_postgresql),
            ConsentEvent.kind == ConsentKind.OPTED_IN,
            ConsentEvent.source == ConsentSource.FORM,
        )
        .group_by(Lead.address_hash)
    )


def _events_of(addresses: Collection[Address]) -> dict[Address, list[Any]]:
    by_firm: dict[int, set[bytes]] = defaultdict(set)
    for address in addresses:
        by_firm[address.partner_id].add(address.address_hash)
    found: dict[Address, list[Any]] = defaultdict(list)
    query = _events_query(is_postgresql(db.session))
    for partner_id, hashes in by_firm.items():
        for chunk in in_chunks(sorted(hashes)):
            for event in db.session.execute(query, {"partner_id": partner_id, "hashes": chunk}):
                found[Address(event.partner_id, event.user_id, event.address_hash)].append(event)
    return found


@cache
def _events_query(on_postgresql: bool) -> Select[*tuple[Any, ...]]:
    """Parameters: partner_id, hashes."""
    is_asked = is_among_given(EVENTS.c.address_hash, "hashes", on_postgresql=on_postgresql)
    return select(EVENTS).where(EVENTS.c.partner_id == bindparam("partner_id"), is_asked)


# What a page or a sender does


def store_unsubscribe(
    address: Address, source: SuppressionSource, *, whole_firm: bool, vault: Vault
) -> Collection[Address]:
    """Store that a person wants no more mail, in the caller's transaction; return the addresses that are not written to now.

    For writeback/unsubscribing.py alone, as store(). The advisor may have moved since the mail was sent: then it is stored for
    the firm of then, and for the advisor at the firm of now.
    """
    has_moved = _has_moved(address)
    to_stop = [address._replace(user_id=None)] if whole_firm else []
    if has_moved or not whole_firm:
        to_stop.append(address)
    now = utcnow()
    store([Happened(each, SuppressionStep.UNSUBSCRIBED, source, now) for each in to_stop])
    return {*to_stop, *(_carry_over_here(address.user_id, vault) if has_moved else ())}


def undo_unsubscribe(address: Address, vault: Vault) -> bool:
    """Take back the person's own unsubscribes of the last minutes; return whether there were any. Commits.

    If the advisor has moved, what was carried over to another firm is taken back with them.
    """
    now = utcnow()
    both = [address, address._replace(user_id=None)]
    _lock(both, now)
    undone = [(each, event) for each, events in _events_of(both).items() for event in _mistakes(events, now)]
    if undone:
        undone += _copies_of(address, {event.at for _, event in undone}, vault)
        store(
            [
                Happened(each, SuppressionStep.UNDONE, SuppressionSource.PAGE, now, undoes_id=event.id)
                for each, event in undone
            ]
        )
    db.session.commit()
    return bool(undone)


def can_undo(address: Address) -> bool:
    """Did the person unsubscribe so lately that it can be taken back on the page?"""
    now = utcnow()
    return any(_mistakes(events, now) for events in _events_of([address, address._replace(user_id=None)]).values())


def _mistakes(events: Iterable[Any], now: datetime) -> list[Any]:
    events = list(events)
    undone = {event.undoes_id for event in events}
    return [
        event
        for event in events
        if event.step == SuppressionStep.UNSUBSCRIBED
        and event.source in (SuppressionSource.PAGE, SuppressionSource.ONE_CLICK)
        and event.recorded_at > now - UNDO_WITHIN
        and event.id not in undone
    ]


def record_opt_in(user_id: int, partner_id: int, hashed: bytes, at: datetime) -> None:
    """Store that a person opted in on the advisor's form, which ends `unsubscribed` and `complained` with this advisor.

    In the caller's transaction. Where nothing is suppressed nothing is stored: the consent history has the opt-in anyway.
    """
    address = Address(partner_id, user_id, hashed)
    if _has_events(address):
        store([Happened(address, SuppressionStep.OPTED_IN, SuppressionSource.FORM, at)])


def _has_events(address: Address) -> bool:
    return bool(
        db.session.scalar(
            select(
                exists().where(
                    SuppressionEvent.partner_id == address.partner_id,
                    SuppressionEvent.address_hash == address.address_hash,
                    or_(SuppressionEvent.user_id == address.user_id, SuppressionEvent.user_id.is_(None)),
                )
            )
        )
    )


def try_again(address: Address) -> bool:
    """End `bounced` for an address, at most once in 30 days; return whether it was ended. Commits."""
    now = utcnow()
    _lock({address}, now)
    held = derive(_events_of({address})[address])
    can = may_try_again(held, now)
    if can:
        store([Happened(address, SuppressionStep.TRIED_AGAIN, SuppressionSource.ADVISOR, now)])
    db.session.commit()
    return can


def may_try_again(held: Held, now: datetime) -> bool:
    """Has mail to the address bounced, and has it not been tried again within 30 days?"""
    return held.bounced_at is not None and (held.tried_again_at is None or held.tried_again_at <= now - RETRY_EVERY)


# What holds


class HeldFor(NamedTuple):
    """What holds for an address: with the advisor alone, and with everybody at the firm as far as this advisor goes."""

    advisor: Held
    firm: Held

    @property
    def has_stopped(self) -> bool:
        """Has the person unsubscribed or complained?"""
        return any(held.unsubscribed_at or held.complained_at for held in self)

    @property
    def reason(self) -> Reason | None:
        """The first reason that holds."""
        return next((reason for reason, name in REASONS.items() if any(getattr(held, name) for held in self)), None)


def held_for(address: Address) -> HeldFor:
    rows = db.session.execute(
        select(ROWS).where(
            ROWS.c.partner_id == address.partner_id,
            ROWS.c.address_hash == address.address_hash,
            or_(ROWS.c.user_id == address.user_id, ROWS.c.user_id.is_(None)),
        )
    )
    return _held_for(address.user_id, rows)


def _held_for(user_id: int | None, rows: Iterable[Any]) -> HeldFor:
    """rows: of one address, the advisor's own and the whole firm's, where there are such."""
    held = {row.user_id: Held(*(getattr(row, name) for name in Held._fields)) for row in rows}
    own, firm = held.get(user_id, Held()), held.get(None, Held())
    return HeldFor(own, firm._replace(unsubscribed_at=_unless_ended(firm.unsubscribed_at, own.opted_in_at)))


def find_reasons(user_id: int, partner_id: int, hashes: Collection[bytes]) -> dict[bytes, Reason]:
    """Return {address hash: the reason that is told} for those of these that this advisor must not write to."""
    rows: dict[bytes, list[Any]] = defaultdict(list)
    for chunk in in_chunks(sorted(hashes)):
        for row in db.session.execute(
            select(ROWS).where(
                ROWS.c.partner_id == partner_id,
                is_among(ROWS.c.address_hash, chunk),
                or_(ROWS.c.user_id == user_id, ROWS.c.user_id.is_(None)),
            )
        ):
            rows[row.address_hash].append(row)
    held = {hashed: _held_for(user_id, of_address).reason for hashed, of_address in rows.items()}
    return {hashed: reason for hashed, reason in held.items() if reason is not None}


class AddressStory(NamedTuple):
    """What a contact's page tells of its address.

    tried_again_at: where a bounced address can't be tried again yet. words: the sender's own, by the event's id.
    """

    events: list[SuppressionEvent]
    may_try_again: bool = False
    tried_again_at: datetime | None = None
    words: Mapping[int, str] = MappingProxyType({})


def story_of(contact: Contact, partner_id: int) -> AddressStory:
    if contact.address_hash is None:
        return AddressStory([])
    address = Address(partner_id, contact.user_id, contact.address_hash)
    is_word = and_(SuppressionWords.event_id == SuppressionEvent.id, SuppressionWords.contact_id == contact.id)
    rows = db.session.execute(
        _history_of(address).outerjoin(SuppressionWords, is_word).add_columns(SuppressionWords.words)
    ).all()
    held = held_for(address).advisor
    can = may_try_again(held, utcnow())
    tried_again_at = held.tried_again_at if held.bounced_at and not can else None
    words = {event.id: words for event, words in rows if words is not None}
    return AddressStory([event for event, _ in rows], can, tried_again_at, words)


def words_of(contact: Contact) -> dict[int, str]:
    """Return the sender's words beside this contact, by the event's id."""
    query = select(SuppressionWords.event_id, SuppressionWords.words).where(SuppressionWords.contact_id == contact.id)
    return {row.event_id: row.words for row in db.session.execute(query)}


def delete_words(contact: Contact) -> None:
    """Delete the sender's words about a person who is erased, in the caller's transaction."""
    change_rows(db.session, delete(SuppressionWords).where(SuppressionWords.contact_id == contact.id))


def history_of(address: Address) -> list[SuppressionEvent]:
    """Return what happened to an address, newest first: with this advisor, and with everybody at the firm."""
    return list(db.session.scalars(_history_of(address)))


def _history_of(address: Address) -> Select[SuppressionEvent]:
    return (
        select(SuppressionEvent)
        .where(
            SuppressionEvent.partner_id == address.partner_id,
            SuppressionEvent.address_hash == address.address_hash,
            or_(SuppressionEvent.user_id == address.user_id, SuppressionEvent.user_id.is_(None)),
        )
        .order_by(SuppressionEvent.at.desc(), SuppressionEvent.id.desc())
    )


def is_suppressed_as(reason: Reason, user_id: int | None = None) -> ColumnElement[bool]:
    """Over Contact: does this kind of suppression hold for its address? reason: a key of REASONS.

    user_id: whose contacts the query is about, if they are all one advisor's; the suppressed addresses are read once then.
    """
    return _is_among_those(getattr(Suppression, REASONS[reason]).is_not(None), user_id)


def is_suppressed(user_id: int | None = None) -> ColumnElement[bool]:
    """Over Contact: does any suppression hold for its address? user_id: as in is_suppressed_as()."""
    return _is_among_those(_holds(), user_id)


def _is_among_those(holds: ColumnElement[bool], user_id: int | None) -> ColumnElement[bool]:
    """holds: over Suppression."""
    if user_id is not None:
        return and_(Contact.address_hash.is_not(None), Contact.address_hash.in_(union(*_hashes(holds, user_id))))
    same = Suppression.address_hash == Contact.address_hash
    partner_of = select(User.partner_id).where(User.id == Contact.user_id).correlate(Contact).scalar_subquery()
    of_advisor = exists().where(same, Suppression.user_id == Contact.user_id, holds)
    of_firm = exists().where(
        same,
        Suppression.user_id.is_(None),
        Suppression.partner_id == partner_of,
        holds,
        ~_is_ended_for(Contact.user_id),
    )
    return or_(of_advisor, of_firm)


def _holds() -> ColumnElement[bool]:
    return or_(*(getattr(Suppression, name).is_not(None) for name in REASONS.values()))


def suppressed_hashes(user_id: int, hashes: HashRange | None = None) -> list[Select[bytes]]:
    """Select the hashes of the addresses that this advisor must not write to: those of the advisor's own, and the firm's.

    hashes: which of them the query is about, if not all.
    """
    holds = _holds()
    return _hashes(holds if hashes is None else and_(holds, hashes.holds(Suppression.address_hash)), user_id)


def _hashes(holds: ColumnElement[bool], user_id: int) -> list[Select[bytes]]:
    partner_id = select(User.partner_id).where(User.id == user_id).scalar_subquery()
    own = select(Suppression.address_hash).where(Suppression.user_id == user_id, holds)
    firm = select(Suppression.address_hash).where(
        Suppression.user_id.is_(None), Suppression.partner_id == partner_id, holds, ~_is_ended_for(user_id)
    )
    return [own, firm]


def of_advisor(user_id: int) -> ColumnElement[bool]:
    """Over Suppression: does it concern this advisor alone?"""
    return Suppression.user_id == user_id


def of_firm(user_id: int, partner_id: int | None) -> ColumnElement[bool]:
    """Over Suppression: does it concern everybody at this firm, and has it not ended for this advisor?"""
    is_firms = and_(Suppression.user_id.is_(None), Suppression.partner_id == partner_id)
    return and_(is_firms, ~_is_ended_for(user_id))


def count_held(session: Session) -> dict[str, int]:
    """Return {reason: how many addresses a suppression of this kind holds for}, of advisors and of whole firms."""
    counts = (func.count(getattr(Suppression, column)) for column in REASONS.values())
    return dict(zip((reason.value for reason in REASONS), session.execute(select(*counts)).one(), strict=True))


def count_told(session: Session, since: datetime) -> dict[str, int]:
    """Return {reason: how many events of this kind senders have told since then}."""
    rows = session.execute(
        select(SuppressionEvent.step, func.count())
        .where(IS_FROM_SENDER, SuppressionEvent.recorded_at > since)
        .group_by(SuppressionEvent.step)
    )
    return dict.fromkeys((reason.value for reason in REASONS), 0) | {row[0]: row[1] for row in rows}


def count_addresses(partner_id: int) -> int:
    """Return how many addresses advisors of this firm must not write to."""
    query = select(func.count(Suppression.address_hash.distinct()))
    query = query.where(Suppression.partner_id == partner_id, _holds())
    return db.session.scalar(query) or 0


def find_suppressed(user_id: int, hashes: Collection[bytes]) -> set[int]:
    """Return the ids of this advisor's contacts with these address hashes that a suppression holds for."""
    return {
        contact_id
        for chunk in in_chunks(sorted(hashes))
        for contact_id in db.session.scalars(
            select(Contact.id).where(
                Contact.user_id == user_id, Contact.address_hash.in_(chunk), is_suppressed(user_id)
            )
        )
    }


def has_any(user_id: int) -> bool:
    """Is anything suppressed with this advisor, or at the advisor's firm?"""
    partner_id = select(User.partner_id).where(User.id == user_id).scalar_subquery()
    for_firm = and_(Suppression.user_id.is_(None), Suppression.partner_id == partner_id)
    return any(
        db.session.scalar(select(Suppression.id).where(which).limit(1)) is not None
        for which in (Suppression.user_id == user_id, for_firm)
    )


def has_any_at(partner_id: int) -> bool:
    """Is there a suppression of this firm's, of any advisor of then?"""
    return db.session.scalar(select(Suppression.id).where(Suppression.partner_id == partner_id).limit(1)) is not None


def _is_ended_for(user_id: Any) -> ColumnElement[bool]:
    """Has the person opted in with this advisor after choosing the whole firm? Over a firm's Suppression."""
    later = select(OWN.c.id).where(
        OWN.c.user_id == user_id,
        OWN.c.address_hash == Suppression.address_hash,
        OWN.c.opted_in_at > Suppression.unsubscribed_at,
    )
    return later.correlate(Suppression, Contact).exists()


# An advisor who moved to another firm


class Firm(NamedTuple):
    """A firm with the key of its hashes."""

    partner_id: int
    key: bytes


def earlier_firms(user: User, partner_id: int, vault: Vault, *, left: Partner | None = None) -> list[Firm]:
    """Return the firms from which an advisor may bring along what people said. left: a firm that is just being left.

    A firm that was deleted keeps its key as long as it has suppressions.
    """
    known = union(
        select(Connection.partner_id).where(Connection.user_id == user.id),
        select(Lead.partner_id).where(Lead.user_id == user.id),
        select(SuppressionEvent.partner_id).where(SuppressionEvent.user_id == user.id),
    )
    partners = db.session.scalars(
        select(Partner).where(
            or_(Partner.id.in_(known), Partner.id == (left.id if left else None)),
            Partner.id != partner_id,
            Partner.address_key_sealed.is_not(None),
        )
    )
    return [Firm(each.id, address_key(db.session(), each, vault)) for each in partners]


def carry_over(user_id: int, here: Firm, earlier: Collection[Firm], emails: Collection[str]) -> Collection[Address]:
    """Give an advisor the suppressions of these addresses from the firms before; return the addresses that this concerns.

    In the caller's transaction.

    Each firm's hashes have a key of its own, so an address can be recognised only when it comes along. What a person told a
    whole firm counts for the advisor alone once the advisor has left it.
    """
    happened = [
        Happened(address, SuppressionStep(reason.value), SuppressionSource.EARLIER_FIRM, at)
        for firm in earlier
        for address, row in _find_earlier(user_id, here, firm, emails)
        for reason, column in REASONS.items()
        if (at := getattr(row, column)) is not None
    ]
    known = {
        (address, event.step, event.at)
        for address, events in _events_of({each.address for each in happened}).items()
        for event in events
    }
    new = [each for each in happened if (each.address, each.step, each.at) not in known]
    if new:
        store(new)
    return {each.address for each in new}


def _find_earlier(
    user_id: int, here: Firm, earlier: Firm, emails: Collection[str]
) -> Iterable[tuple[Address, Suppression]]:
    """Yield the addresses, as the firm of now hashes them, with what held for them at the earlier one."""
    by_hash = {address_hash(email, earlier.key): email for email in emails}
    for row in _rows_for(user_id, earlier.partner_id, by_hash):
        yield Address(here.partner_id, user_id, address_hash(by_hash[row.address_hash], here.key)), row


def _has_moved(address: Address) -> bool:
    """Is the advisor with another firm now?"""
    return db.session.get_one(User, address.user_id).partner_id != address.partner_id


def _copies_of(address: Address, moments: Collection[datetime], vault: Vault) -> list[tuple[Address, Any]]:
    """Return what was carried over of an address's unsubscribes of these moments, each with its address at another firm.

    Each firm has a key of its own, so an address is recognised by the contacts that are here, hidden ones too. If the only one
    was deleted for good or erased, the copy stays: a person who comes back under that address is emailed only after opting in.
    """
    user = db.session.get_one(User, address.user_id)
    others = earlier_firms(user, address.partner_id, vault)
    if not others:
        return []
    key = address_key(db.session(), db.session.get_one(Partner, address.partner_id), vault)
    emails = db.session.scalars(select(Contact.email).where(Contact.user_id == user.id, Contact.email != ""))
    same = [email for email in emails if address_hash(email, key) == address.address_hash]
    there = {Address(firm.partner_id, user.id, address_hash(email, firm.key)) for firm in others for email in same}
    return [
        (each, event)
        for each, events in _events_of(there).items()
        for event in events
        if each in there
        and event.source == SuppressionSource.EARLIER_FIRM
        and event.step == SuppressionStep.UNSUBSCRIBED
        and event.at in moments
    ]


def _carry_over_here(user_id: int | None, vault: Vault) -> Collection[Address]:
    """As carry_over(), for all contacts that are here now."""
    user = db.session.get_one(User, user_id)
    if user.partner is None or user.partner.address_key_sealed is None:
        return ()  # no contact has come there yet
    here = Firm(user.partner.id, address_key(db.session(), user.partner, vault))
    emails = db.session.scalars(select(Contact.email).where(Contact.user_id == user.id, Contact.email != "")).all()
    return carry_over(user.id, here, earlier_firms(user, here.partner_id, vault), emails)


def _rows_for(user_id: int, partner_id: int, hashes: Collection[bytes]) -> Iterable[Suppression]:
    for chunk in in_chunks(sorted(hashes)):
        yield from db.session.scalars(
            select(Suppression).where(
                Suppression.partner_id == partner_id,
                Suppression.address_hash.in_(chunk),
                or_(Suppression.user_id == user_id, and_(Suppression.user_id.is_(None), ~_is_ended_for(user_id))),
            )
        )
