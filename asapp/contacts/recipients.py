"""Who a sender may write to: one recipient for each address, worked out when it is asked for.

A list's recipients are its active contacts (contacts/status.py). People in a held proposal are left out until it is decided:
Salesforce may have said that they left. Several contacts with one address are one recipient, and the one that changed last
carries the name.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Engine, Integer, Select, and_, bindparam, exists, func, or_, select
from sqlalchemy import Connection as SQLConnection

from asapp.contacts.addresses import HashRange, address_hash, address_key
from asapp.contacts.lists import is_on
from asapp.contacts.queries import contacts_of
from asapp.contacts.status import contact_rows, is_active, is_held, is_held_of, reason_of
from asapp.contacts.suppressions import find_reasons
from asapp.contacts.unsubscribe_links import LinkMaker, link_key
from asapp.core.bulk import in_chunks, rows_with_each
from asapp.core.database import end_read, fetch_tuples, is_postgresql, iter_tuples
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.messages.senders import SenderReason
from asapp.models import Connection, Contact, ContactList, ListMember, Partner, User
from asapp.models.contact import is_known_in_salesforce

ROWS_AT_ONCE = 5000
READ_WITHIN_S = 600.0  # a million take ten seconds
ROWS_TO_SPARE = 50  # in a page, for contacts that share an address
ID_BYTES, ID_LENGTH = 16, 22
TO_WHOLE_GROUPS, ENCODED_ID_LENGTH = bytes(2), 24  # base64 takes three bytes at a time, so many Ids are encoded at once

Recipient = dict[str, Any]

COLUMNS = (
    Contact.id,
    Contact.salesforce_id,
    Contact.source,
    Contact.first_name,
    Contact.last_name,
    Contact.email,
    Contact.address_hash,
)


class ReadTooSlowly(Exception):
    """The answer was not read to its end in time, and is cut off."""


class Audience(NamedTuple):
    """A list that is written to, as plain values: its recipients can be read after the request's session has ended."""

    upto: Select[Any]  # the hash with which a piece of so many contacts ends; parameters `after`, `most`
    piece: Select[Any]  # who may be written to in such a piece; parameters `after`, `upto`
    everyone: Select[Any]  # who may be written to, in whatever order
    shared: Select[Any]  # the hashes that several of the advisor's contacts have
    sharing: Select[Any]  # who may be written to of those with these hashes; parameter `hashes`
    links: LinkMaker
    id_key: bytes
    as_of: datetime | None


class Recipients(NamedTuple):
    """A page of recipients. after: where the next page begins; None at the end."""

    found: list[Recipient]
    after: bytes | None


class MaySend(NamedTuple):
    """May this address be written to? reason: one of Reason or SenderReason; None where it may."""

    email: str
    reason: str | None


def find_list(public_id: str, partner_id: int | None) -> ContactList | None:
    """Return a list of an advisor who is here; partner_id: of this firm alone, None for any."""
    query = select(ContactList).join(User, ContactList.user_id == User.id).where(ContactList.public_id == public_id)
    return db.session.scalar(query.where(is_here(partner_id)))


def find_advisor(public_id: str, partner_id: int | None) -> User | None:
    """Return an advisor who is here; partner_id as in find_list()."""
    return db.session.scalar(select(User).where(User.public_id == public_id, is_here(partner_id)))


def is_here(partner_id: int | None) -> ColumnElement[bool]:
    """Over User: an advisor who sends mail, of this firm or of any."""
    is_advisor = and_(User.partner_id.is_not(None), User.deactivated_at.is_(None))
    return is_advisor if partner_id is None else and_(is_advisor, User.partner_id == partner_id)


def prepare(
    contact_list: ContactList, now: datetime, vault: Vault, public_url: str, asked_at: datetime | None = None
) -> Audience:
    """Return the list as an audience. The first one of a firm makes and commits the firm's keys.

    asked_at: when Salesforce was asked about each recipient, if it was; people from there who were put on the list later are
    left out.
    """
    user = db.session.get_one(User, contact_list.user_id)
    partner = db.session.get_one(Partner, user.partner_id)
    key = link_key(db.session(), partner, vault)
    as_of = _age_of_opt_outs(contact_list, now)
    links = LinkMaker(partner, user, key, public_url)
    piece = HashRange(bindparam("after"), bindparam("upto"))
    everyone = _active(contact_list, now, asked_at)
    return Audience(
        _end_of_piece(contact_list),
        _active(contact_list, now, asked_at, piece)
        .where(piece.holds(Contact.address_hash))
        .add_columns(Contact.changed_at),
        everyone if is_postgresql(db.session) else everyone.order_by(Contact.id),  # as SQLite stores them
        _shared(contact_list.user_id),
        everyone.where(Contact.address_hash.in_(bindparam("hashes", expanding=True))).add_columns(Contact.changed_at),
        links,
        key,
        as_of,
    )


def _end_of_piece(contact_list: ContactList) -> Select[Any]:
    """Select the last of the next hashes, by their index alone where the list is one that the sync fills."""
    who = [Contact.user_id == contact_list.user_id, Contact.address_hash > bindparam("after")]
    if contact_list.has_members:  # on the others is nearly everybody
        who.append(is_on(contact_list))
    most = bindparam("most", type_=Integer)
    piece = select(Contact.address_hash).where(*who).order_by(Contact.address_hash).limit(most).subquery()
    return select(piece.c.address_hash).order_by(piece.c.address_hash.desc()).limit(1)


def _active(
    contact_list: ContactList, now: datetime, asked_at: datetime | None, hashes: HashRange | None = None
) -> Select[Any]:
    """Select those on the list who may be written to. hashes: as in is_active()."""
    user_id = contact_list.user_id
    who = [contacts_of(user_id), is_on(contact_list), is_active(now, user_id, hashes), ~is_held_of(user_id)]
    if asked_at is not None and contact_list.has_members:
        who.append(_was_asked_about(contact_list, asked_at))
    return contact_rows(*COLUMNS).where(*who)


def _shared(user_id: int) -> Select[Any]:
    """Select the hashes of addresses that several contacts have, by their index alone."""
    of_advisor = select(Contact.address_hash).where(Contact.user_id == user_id, Contact.address_hash.is_not(None))
    return of_advisor.group_by(Contact.address_hash).having(func.count() > 1)


def _was_asked_about(contact_list: ContactList, asked_at: datetime) -> ColumnElement[bool]:
    """Was the contact on the list by then, or is it none of Salesforce's?"""
    by_then = or_(ListMember.added_at.is_(None), ListMember.added_at <= asked_at)
    members = select(ListMember.contact_id).where(ListMember.list_id == contact_list.id, by_then)
    return or_(~is_known_in_salesforce(), Contact.id.in_(members))


def find_page(audience: Audience, limit: int, after: bytes) -> Recipients:
    """Return the next recipients in order of their addresses' hashes.

    after: what the page before has ended with; b"" for the first.
    """
    page: list[Recipient] = []
    hashes: list[bytes] = []
    for rows in _iter_pieces(audience, after, limit + ROWS_TO_SPARE):
        page += _recipients_of(rows, audience)
        hashes += dict.fromkeys([row[-1] for row in rows])
        if len(page) > limit:
            break
    return Recipients(page[:limit], hashes[limit - 1] if len(page) > limit else None)


def iter_recipients(audience: Audience) -> Iterator[Recipient]:
    """Yield all recipients, as they were at one moment: an address that moves to another contact meanwhile is not told twice.

    So a transaction is open until the last is taken. Raises ReadTooSlowly where that takes longer than READ_WITHIN_S.
    """
    engine = db.engine
    end_read(db.session)
    give_up_at = time.monotonic() + READ_WITHIN_S
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        for rows in _iter_groups(connection, audience):
            if time.monotonic() > give_up_at:
                raise ReadTooSlowly
            yield from _recipients_of(rows, audience)


def _iter_groups(connection: SQLConnection, audience: Audience) -> Iterator[Sequence[Any]]:
    """Yield all rows of a list, many at a time: those that share no address, then those that do, beside each other."""
    shared = set(connection.scalars(audience.shared))
    parts = iter_tuples(connection, audience.everyone, ROWS_AT_ONCE)
    for rows in _iter_ahead(parts) if connection.dialect.name == "postgresql" else parts:
        yield [row for row in rows if row[-1] not in shared] if shared else rows
    for hashes in in_chunks(sorted(shared)):
        yield _newest_first(fetch_tuples(connection, audience.sharing, {"hashes": hashes}))


def _iter_ahead(parts: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Yield the parts, while another thread lets the server work on the next one.

    SQLite works in this process: two of its threads would only hinder each other.
    """
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(next, parts, None)
        while (rows := ahead.result()) is not None:
            ahead = reader.submit(next, parts, None)
            yield rows


def _iter_pieces(audience: Audience, after: bytes, most: int) -> Iterator[Sequence[Any]]:
    """Yield the rows of so many contacts, those who may be written to; all who share an address are in one piece."""
    engine = db.engine
    end_read(db.session)
    while piece := _read_piece(engine, audience, after, most):
        after, rows = piece
        yield rows


def _read_piece(engine: Engine, audience: Audience, after: bytes, most: int) -> tuple[bytes, Sequence[Any]] | None:
    """Return the hash that ends a piece, and its rows; None at the end.

    It is asked first where the piece ends: with a LIMIT on the whole question PostgreSQL guesses how many contacts pass a dozen
    conditions, and took minutes.
    """
    with engine.connect() as connection:
        upto = connection.scalar(audience.upto, {"after": after, "most": most})
        if upto is None:
            return None
        return upto, _newest_first(fetch_tuples(connection, audience.piece, {"after": after, "upto": upto}))


def _newest_first(rows: list[Any]) -> list[Any]:
    """Sort rows by address, of those who share one the newest first; return them without the moment of their change."""
    rows.sort(key=itemgetter(-1, 0), reverse=True)
    rows.sort(key=itemgetter(-2))
    return [row[:-1] for row in rows]


def _recipients_of(rows: Sequence[Any], audience: Audience) -> Iterator[Recipient]:
    """Yield one recipient for each address. rows: those who share one beside each other, the newest first."""
    ids = public_ids_of([row[0] for row in rows], audience.id_key)
    urls = audience.links.urls([row[-1] for row in rows])
    recipient: Recipient = {}
    before = b""
    for row, contact_id, url in zip(rows, ids, urls, strict=True):
        _, salesforce_id, source, first_name, last_name, email, hashed = row
        if hashed == before:
            recipient["also"] += (contact_id,)
            continue
        if recipient:
            yield recipient
        before = hashed
        recipient = {
            "contact_id": contact_id,
            "salesforce_id": salesforce_id,
            "source": source,
            "first_name": first_name,
            "last_name": last_name,
            "email": email,
            "also": (),  # a list for each of thousands would keep the collector busy
            "unsubscribe_url": url,
        }
    if recipient:
        yield recipient


def public_ids_of(contact_ids: Iterable[int], key: bytes) -> list[str]:
    """Return the Ids under which senders know contacts: 22 characters each that tell nothing about our rows."""
    keyed = blake2b(key=key, person=b"contact", digest_size=ID_BYTES)
    parts: list[bytes] = []
    for contact_id in contact_ids:
        digest = keyed.copy()
        digest.update(b"%d" % contact_id)
        parts += (digest.digest(), TO_WHOLE_GROUPS)
    encoded = urlsafe_b64encode(b"".join(parts)).decode()
    return [encoded[at : at + ID_LENGTH] for at in range(0, len(encoded), ENCODED_ID_LENGTH)]


def _age_of_opt_outs(contact_list: ContactList, now: datetime) -> datetime | None:
    """Return when Salesforce was last asked about the list's people; now, where none of them is known there.

    None where it has never been asked with success: then none of these people is active.
    """
    connections = db.session.scalars(
        select(Connection).where(Connection.user_id == contact_list.user_id).order_by(Connection.id.desc())
    )
    for connection in connections:
        of_it = or_(Contact.connection_id == connection.id, Contact.followed_by_id == connection.id)
        is_any = exists().where(contacts_of(contact_list.user_id), is_on(contact_list), of_it)
        if db.session.scalar(select(is_any)):
            return connection.opt_outs_as_of
    return now


# ---- May these addresses be written to?


def may_send(user: User, emails: Sequence[str], now: datetime, vault: Vault) -> list[MaySend]:
    """Say of each address whether this advisor may write to it, in the order in which they came.

    Of several contacts with the address one that is active is enough; else the one that changed last gives the reason.
    """
    partner = db.session.get_one(Partner, user.partner_id)
    key = address_key(db.session(), partner, vault)
    hashes = [address_hash(email, key) for email in emails]
    reasons = _reasons_of_contacts(user.id, set(hashes), now)
    unknown = set(hashes) - set(reasons)
    suppressed = find_reasons(user.id, partner.id, unknown)
    reasons |= {hashed: suppressed.get(hashed, SenderReason.NOT_A_CONTACT) for hashed in unknown}
    return [MaySend(email, reasons[hashed]) for email, hashed in zip(emails, hashes, strict=True)]


def _reasons_of_contacts(user_id: int, hashes: Collection[bytes], now: datetime) -> dict[bytes, str | None]:
    reasons: dict[bytes, str | None] = {}
    for chunk in in_chunks(sorted(hashes)):
        for hashed, reason, is_waiting in _rows_of_addresses(user_id, chunk, now):
            told = SenderReason.HELD if reason is None and is_waiting else reason
            reasons[hashed] = None if told is None else reasons.get(hashed, told)
    return reasons


def _rows_of_addresses(user_id: int, hashes: list[bytes], now: datetime) -> list[tuple[bytes, str | None, bool]]:
    """Return (hash, reason, is held) of the contacts with these addresses, of one address the newest first."""
    columns = (Contact.address_hash, reason_of(now).label("reason"), is_held().label("is_held"))
    of_advisor = contact_rows(*columns, Contact.changed_at, Contact.id).where(contacts_of(user_id))
    found = rows_with_each(of_advisor, Contact.address_hash, hashes).c
    newest_first = (found.address_hash, found.changed_at.desc(), found.id.desc())
    query = select(found.address_hash, found.reason, found.is_held).order_by(*newest_first)
    return fetch_tuples(db.session.connection(), query, {})
