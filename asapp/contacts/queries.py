"""Which contacts an advisor has: every page, count and export queries here.

Shells (Salesforce contacts that lost their address) are never shown. Contacts that the advisor deleted here are shown
only on request, so that they can be restored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Subquery, and_, case, false, func, literal, or_, select, true, union_all
from sqlalchemy.orm import aliased
from sqlalchemy.sql.elements import Label

from asapp.contacts.lists import SYSTEM_LIST_NAMES, is_on, is_on_system_list, lists_of_all
from asapp.contacts.status import (
    contact_rows,
    count_active,
    has_reason,
    held_ids,
    is_active,
    is_active_but_for_address,
    is_connection_good,
    is_firm_disabled,
    is_held,
    is_held_of,
    is_not_read,
    is_only_out_of_sight,
    is_shown,
    reason_of,
    reason_told,
    refused_ids,
    waits_for_review,
)
from asapp.core.bulk import is_among
from asapp.core.database import is_postgresql
from asapp.core.extensions import db
from asapp.core.paging import PAGE_SIZE, Page
from asapp.models import Connection, Contact, ContactList, ContactSource, ListKind, ListMember, Reason, SyncRun
from asapp.models.contact import IS_EXCEPTION, IS_NO_EXCEPTION, State, is_of_kind
from asapp.models.search import fold
from asapp.salesforce.records import RecordKind

SEARCH_MAX = 200
WORDS_MAX = 8
STATES = (*State, *Reason)


@dataclass(frozen=True)
class ContactQuery:
    """The filter, order and page that were asked for. state: one of STATES or "" for any but those deleted here."""

    search: str = ""
    state: str = ""
    source: str = ""
    contact_list: ContactList | None = None
    page: int = 1

    @property
    def is_narrowed(self) -> bool:
        """Is anything filtered out, compared with the whole list?"""
        return bool(self.search or self.source or (self.state and not self.is_deleted_here))

    @property
    def is_part_of_all(self) -> bool:
        """Does it leave out any of the advisor's contacts?"""
        return bool(self.search or self.source or self.state or self.contact_list)

    @property
    def is_deleted_here(self) -> bool:
        return self.state == Reason.HIDDEN_HERE


class Count(NamedTuple):
    people: int = 0
    active: int = 0


class ListCount(NamedTuple):
    contact_list: ContactList
    size: Count


class Overview(NamedTuple):
    """The counts beside the table. hidden: contacts deleted here."""

    everybody: Count
    hidden: int
    lists: list[ListCount]

    def size_of(self, contact_list: ContactList | None) -> Count:
        if contact_list is None:
            return self.everybody
        return next(each.size for each in self.lists if each.contact_list.id == contact_list.id)

    def total_of(self, wanted: ContactQuery) -> int | None:
        """Return how many contacts the query finds, where that is a size that is counted here."""
        if wanted.search or wanted.source or wanted.state not in ("", State.ACTIVE, State.INACTIVE, Reason.HIDDEN_HERE):
            return None
        if wanted.is_deleted_here:
            return self.hidden
        people, active = self.size_of(wanted.contact_list)
        if wanted.state == State.ACTIVE:
            return active
        return people - active if wanted.state == State.INACTIVE else people


class Sharing(NamedTuple):
    """Another contact of the advisor's has the same address. more: how many besides that one."""

    contact_id: int
    name: str
    more: int


class Membership(NamedTuple):
    """A list with members that a contact is on. added_at: None where that was not recorded."""

    list_id: int
    name: str
    kind: str
    added_at: datetime | None


class ContactLine(NamedTuple):
    """A contact with what a page shows about it."""

    contact: Contact
    reason: str | None
    instance_url: str | None  # of the org it came from
    checked_at: datetime | None  # the last good sync of its connection
    system_lists: list[str]
    memberships: list[Membership]  # by name
    sharing: Sharing | None
    waits_for_review: bool = False  # a sign-up that waits for the advisor's review
    is_only_out_of_sight: bool = False  # Salesforce no longer shows this contact alone
    is_not_read: bool = False  # an open Lead of a firm that doesn't bring them in
    is_firm_disabled: bool = False
    is_held: bool = False  # in a proposal that waits for the advisor's decision
    arrived_in: int | None = None  # the run that brought it, if that is still here; find_contact() alone asks

    @property
    def lists(self) -> list[str]:
        return self.system_lists + [each.name for each in self.memberships]

    @property
    def is_active(self) -> bool:
        return self.reason is None

    @property
    def waits_for_decision(self) -> bool:
        """Do mailings leave the contact out, although it is active, until the advisor has decided?"""
        return self.is_active and self.is_held

    @property
    def reason_told(self) -> str | None:
        return reason_told(
            self.reason,
            self.waits_for_review,
            self.is_only_out_of_sight,
            self.is_not_read,
            self.contact.is_converted,
            self.contact.consent_hidden,
            self.is_firm_disabled,
        )

    @property
    def is_bounced(self) -> bool:
        """Is it inactive because mail to its address bounced?"""
        return self.reason == Reason.BOUNCED

    @property
    def is_editable(self) -> bool:
        """Was it entered here by hand? All others are read-only."""
        return self.contact.source == ContactSource.MANUAL


def contacts_of(user_id: int) -> ColumnElement[bool]:
    """The contacts that this advisor has, active and inactive."""
    return and_(Contact.user_id == user_id, is_shown())


def find_page(user_id: int, wanted: ContactQuery, now: datetime, overview: Overview | None = None) -> Page[ContactLine]:
    """Return one page by last name; a number past the end gives the last page. Exact finds of a search are first.

    overview: counted a moment ago, if it was.
    """
    total = overview.total_of(wanted) if overview is not None else None
    if total is None:
        total = _count_found(user_id, wanted, now)
    if not total:
        return Page([], 0, 1)
    number = max(1, min(wanted.page, -(-total // PAGE_SIZE)))
    chosen = _chosen(user_id, wanted, now, (number - 1) * PAGE_SIZE)
    lines = _line_rows(now).join(chosen, chosen.c.id == Contact.id)
    rows = db.session.execute(lines.order_by(chosen.c.rank, Contact.search_key, Contact.id)).all()
    return Page(_lines(user_id, rows), total, number)


def _count_found(user_id: int, wanted: ContactQuery, now: datetime) -> int:
    if wanted != ContactQuery(search=wanted.search, page=wanted.page):
        found = contact_rows(func.count()).where(*conditions_of(user_id, wanted, now))
        return db.session.scalar(found) or 0
    # The index of names has all that a search asks, but not who is shown: those who are not are among the exceptions.
    named = select(func.count()).select_from(Contact).where(Contact.user_id == user_id, *matches(wanted.search))
    hidden = named.where(IS_EXCEPTION, or_(~is_shown(), Contact.hidden_at.is_not(None)))
    return db.session.scalar(select(named.scalar_subquery() - hidden.scalar_subquery())) or 0


def _chosen(user_id: int, wanted: ContactQuery, now: datetime, skipped: int) -> Subquery:
    """Select the ids of a page, with a rank: 0 for exact finds of a search. What the page shows is read of these alone."""
    found = contact_rows(Contact.id, Contact.search_key).where(*conditions_of(user_id, wanted, now))
    is_exact = _is_exact(wanted.search)
    if is_exact is None:
        ranks = [found.add_columns(literal(1).label("rank"))]
    else:  # each in the order of the index, so that the other finds are read no further than the page
        ranks = [found.add_columns(literal(0).label("rank")).where(is_exact)]
        ranks.append(found.add_columns(literal(1).label("rank")).where(~is_exact))
    first = [each.order_by(Contact.search_key, Contact.id).limit(skipped + PAGE_SIZE).subquery() for each in ranks]
    both = union_all(*(select(each) for each in first)).subquery()
    in_order = select(both.c.id, both.c.rank).order_by(both.c.rank, both.c.search_key, both.c.id)
    return in_order.limit(PAGE_SIZE).offset(skipped).subquery()


def find_ids(user_id: int, wanted: ContactQuery, now: datetime) -> list[int]:
    """Return the ids of all contacts that the filter finds, on every page."""
    return list(db.session.scalars(contact_rows(Contact.id).where(*conditions_of(user_id, wanted, now))))


def find_contact(user_id: int, contact_id: int, now: datetime) -> ContactLine | None:
    run = select(SyncRun.id).where(SyncRun.id == Contact.created_in_run_id).scalar_subquery()
    query = _line_rows(now).add_columns(run.label("arrived_in")).where(contacts_of(user_id), Contact.id == contact_id)
    rows = db.session.execute(query).all()
    return _lines(user_id, rows)[0]._replace(arrived_in=rows[0].arrived_in) if rows else None


def find_some(user_id: int, contact_ids: Collection[int], now: datetime) -> list[ContactLine]:
    """Return those of these contacts that are the advisor's. contact_ids: as many as a page has checkboxes."""
    rows = db.session.execute(
        _line_rows(now)
        .where(contacts_of(user_id), Contact.id.in_(contact_ids))
        .order_by(Contact.search_key, Contact.id)
    ).all()
    return _lines(user_id, rows)


def find_sample(user_id: int, contact_ids: Collection[int], limit: int, now: datetime) -> tuple[list[ContactLine], int]:
    """Return the first of these contacts by last name, and how many of them pages show."""
    shown = (contacts_of(user_id), Contact.hidden_at.is_(None), is_among(Contact.id, contact_ids))
    rows = db.session.execute(_line_rows(now).where(*shown).order_by(Contact.search_key, Contact.id).limit(limit)).all()
    count = db.session.scalar(contact_rows(func.count()).where(*shown)) or 0
    return _lines(user_id, rows), count


def find_by_hash(user_id: int, address_hash: bytes) -> list[Contact]:
    """Return the advisor's contacts with this address that are neither departed nor deleted here."""
    return list(
        db.session.scalars(
            select(Contact)
            .where(contacts_of(user_id), Contact.address_hash == address_hash, _is_in_use())
            .order_by(Contact.search_key, Contact.id)
            .limit(PAGE_SIZE)
        )
    )


def count_active_contacts(user_id: int, now: datetime) -> int:
    """Return how many contacts the advisor can email now."""
    return _totals([user_id], (), now)[user_id][""].active


def count_of_connection(connection: Connection, beside: Select[int], now: datetime) -> tuple[Count, int]:
    """Return how many contacts came from this connection, those deleted here too; and the number that `beside` selects."""
    user_id = connection.user_id
    groups: dict[str, ColumnElement[bool]] = {"": true(), "beside": false()}
    counted = _counts_by_connection(groups, user_id, now, connection.id)
    read_along = select(literal(user_id), literal(0), literal(0), beside.scalar_subquery(), literal(0))
    counts = _add_up(groups, [*counted, read_along])[user_id]
    return counts[""], counts["beside"].people


def count_waiting(user_id: int, contact_list: ContactList | None, now: datetime) -> int:
    """Return how many active contacts, of all or of a list, wait for the advisor's decision."""
    waiting = conditions_of(user_id, ContactQuery(state=State.HELD, contact_list=contact_list), now)
    return db.session.scalar(contact_rows(func.count()).where(*waiting)) or 0


def count_contacts(user_id: int, now: datetime) -> Overview:
    """Count all contacts, those deleted here, and each list: three queries, for any number of lists."""
    return count_contacts_of([user_id], now)[user_id]


def count_contacts_of(user_ids: Collection[int], now: datetime) -> dict[int, Overview]:
    """Return {user id: counts} for advisors: three queries, however many advisors and lists there are."""
    everything = lists_of_all(user_ids)
    all_totals, own = (
        _totals(user_ids, {ListKind(each.kind) for each in everything if not each.has_members}, now),
        _member_counts(user_ids, [each.id for each in everything if each.has_members], now),
    )
    lists: dict[int, list[ListCount]] = defaultdict(list)
    for each in everything:
        counts = own.get(each.id) if each.has_members else all_totals[each.user_id].get(each.kind)
        lists[each.user_id].append(ListCount(each, counts or Count()))
    found = {}
    for user_id in user_ids:
        totals = all_totals[user_id]
        hidden = totals.get("hidden", Count()).people
        found[user_id] = Overview(totals.get("", Count()), hidden, lists[user_id])
    return found


def lists_by_contact(contact_ids: Collection[int]) -> dict[int, list[str]]:
    """Return {contact id: names of the lists with members that it is on, in order}."""
    found = memberships_by_contact(contact_ids)
    return {contact_id: [each.name for each in memberships] for contact_id, memberships in found.items()}


def memberships_by_contact(contact_ids: Collection[int]) -> dict[int, list[Membership]]:
    """Return {contact id: the lists with members that it is on, in order}; contacts on none are missing."""
    found: dict[int, list[Membership]] = defaultdict(list)
    if contact_ids:
        rows = db.session.execute(
            select(ListMember.contact_id, ContactList.id, ContactList.name, ContactList.kind, ListMember.added_at)
            .join(ContactList, ContactList.id == ListMember.list_id)
            .where(ListMember.contact_id.in_(contact_ids))
            .order_by(ContactList.name_key)
        )
        for row in rows:
            found[row.contact_id].append(Membership(row.id, row.name, row.kind, row.added_at))
    return found


def system_list_columns() -> list[ColumnElement[bool]]:
    """Return one column for each system list, named after its kind: is the contact on it?"""
    return [is_on_system_list(kind).label(kind.value) for kind in SYSTEM_LIST_NAMES]


def system_lists_in(row: Any) -> list[str]:
    """Return the names of the system lists that a row with those columns is on."""
    return [name for kind, name in SYSTEM_LIST_NAMES.items() if getattr(row, kind.value)]


def conditions_of(user_id: int, wanted: ContactQuery, now: datetime) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter; those deleted here are left out unless it asks for them."""
    is_hidden = Contact.hidden_at.is_not(None)
    conditions = [contacts_of(user_id), is_hidden if wanted.is_deleted_here else ~is_hidden]
    if candidates := _candidates(wanted, user_id, now):
        conditions.append(Contact.id.in_(union_all(*candidates) if candidates[1:] else candidates[0]))
    if wanted.state == State.ACTIVE:
        conditions.append(is_active(now, user_id))
    elif wanted.state == State.HELD:
        conditions += [is_active(now, user_id), is_held_of(user_id)]
    elif wanted.state == State.INACTIVE:
        conditions.append(~is_active(now, user_id))
    elif wanted.state == State.SHARES_ADDRESS:
        conditions.append(_shares_address(user_id))
    elif wanted.state and not wanted.is_deleted_here:
        conditions.append(has_reason(wanted.state, now, user_id))
    if wanted.source:
        conditions.append(Contact.source == wanted.source)
    if wanted.contact_list:
        conditions.append(is_on(wanted.contact_list))
    return conditions + matches(wanted.search)


def _candidates(wanted: ContactQuery, user_id: int, now: datetime) -> list[Select[int]]:
    """Select contacts by indexes, among them all that have the state or source that is asked for; nothing if that may be most."""
    exceptions = select(Contact.id).where(Contact.user_id == user_id, IS_EXCEPTION)
    refused = refused_ids(user_id, is_postgresql=is_postgresql(db.session))
    match wanted.state:
        case Reason.UNSUBSCRIBED | Reason.COMPLAINED | Reason.TWIN_OPTED_OUT:
            return [refused]
        case Reason.BOUNCED:
            return [refused, exceptions.where(Contact.bounced_at.is_not(None))]
        case Reason.OPTED_OUT:
            return [exceptions.where(Contact.opted_out.is_(True))]
        case Reason.HIDDEN_HERE:
            return [exceptions.where(Contact.hidden_at.is_not(None))]
        case State.INACTIVE | Reason.DISCONNECTED | Reason.OPT_OUT_UNKNOWN:
            inactive = contact_rows(Contact.id).where(
                Contact.user_id == user_id, IS_EXCEPTION, ~is_active_but_for_address(now, user_id)
            )
            return [refused, inactive, *_of_bad_connections(user_id, now)]
        case State.HELD:
            return [held_ids(user_id)]
        case State.SHARES_ADDRESS if not is_postgresql(db.session):
            shared = Contact.address_hash.in_(_not_unique(user_id))
            return [select(Contact.id).where(Contact.user_id == user_id, shared)]
        case "" | State.ACTIVE | State.SHARES_ADDRESS:
            is_made_here = wanted.source in (ContactSource.LEAD, ContactSource.MANUAL)
            return [exceptions] if is_made_here else []
        case departed:
            return [exceptions.where(Contact.departed == departed)]


def _of_bad_connections(user_id: int, now: datetime) -> list[Select[int]]:
    """Select the records of connections that are not good."""
    through = select(Contact.id).join(Connection, Connection.id == Contact.connection_id)
    of_user = through.where(Connection.user_id == user_id)
    return [
        of_user.where(~is_connection_good(plain.source, now, user_id), is_of_kind(plain.kind, Contact.salesforce_id))
        for plain in PLAIN
    ]


def _is_exact(search: str) -> ColumnElement[bool] | None:
    """Was the whole address or name typed, the last name first or last? None if nothing is searched for."""
    words = fold(search[:SEARCH_MAX]).split()[:WORDS_MAX]
    if not words:
        return None
    typed = " ".join(words)
    names = (" ".join(words[at:] + words[:at]) for at in range(len(words)))
    is_name = [Contact.search_key.startswith(f"{name} ", autoescape=True) for name in names]
    return or_(Contact.search_key.endswith(f" {typed}", autoescape=True), *is_name)


def matches(search: str) -> list[ColumnElement[bool]]:
    """Return the conditions that a contact's name and address have each word of the search."""
    words = fold(search[:SEARCH_MAX]).split()[:WORDS_MAX]
    return [Contact.search_key.contains(word, autoescape=True) for word in words]


def _line_rows(now: datetime) -> Select[Any]:
    return contact_rows(
        Contact,
        reason_of(now).label("reason"),
        Connection.instance_url,
        Connection.last_good_sync_at,
        waits_for_review().label("waits_for_review"),
        is_only_out_of_sight(now).label("is_only_out_of_sight"),
        is_not_read().label("is_not_read"),
        is_firm_disabled().label("is_firm_disabled"),
        is_held().label("is_held"),
        *system_list_columns(),
    )


def _lines(user_id: int, rows: Sequence[Any]) -> list[ContactLine]:
    memberships = memberships_by_contact([row.Contact.id for row in rows])
    sharing = _sharing(user_id, [row.Contact for row in rows])
    return [
        ContactLine(
            row.Contact,
            row.reason,
            row.instance_url,
            row.last_good_sync_at,
            system_lists_in(row),
            memberships.get(row.Contact.id, []),
            sharing.get(row.Contact.id),
            bool(row.waits_for_review),
            bool(row.is_only_out_of_sight),
            bool(row.is_not_read),
            bool(row.is_firm_disabled),
            bool(row.is_held),
        )
        for row in rows
    ]


def _sharing(user_id: int, contacts: Sequence[Contact]) -> dict[int, Sharing]:
    """Return {contact id: another contact with its address}, for contacts that share one."""
    in_use = [each for each in contacts if each.address_hash and each.departed is None and not each.is_hidden]
    if not in_use:
        return {}
    shared = (
        select(Contact.address_hash, func.count().label("number"), func.min(Contact.id).label("lowest"))
        .add_columns(func.max(Contact.id).label("highest"))
        .where(contacts_of(user_id), Contact.address_hash.in_({each.address_hash for each in in_use}), _is_in_use())
        .group_by(Contact.address_hash)
        .having(func.count() > 1)
        .subquery()
    )
    ends: dict[bytes | None, list[Sharing]] = defaultdict(list)  # the first and the last with an address
    for row in db.session.execute(
        select(shared.c.address_hash, shared.c.number, Contact.id, Contact.first_name, Contact.last_name)
        .join(Contact, Contact.id.in_((shared.c.lowest, shared.c.highest)))
        .order_by(Contact.id)
    ):
        ends[row.address_hash].append(Sharing(row.id, f"{row.first_name} {row.last_name}".strip(), row.number - 2))
    others = {each.id: [end for end in ends[each.address_hash] if end.contact_id != each.id] for each in in_use}
    return {contact_id: found[0] for contact_id, found in others.items() if found}


def _shares_address(user_id: int) -> ColumnElement[bool]:
    """Is there another contact of the advisor's with the same address? Those who left or were deleted here don't count."""
    other = aliased(Contact)
    is_in_use = (other.departed.is_(None), other.hidden_at.is_(None), other.erased_at.is_(None))
    whose = (other.user_id == user_id, other.address_hash.is_not(None), other.left_firm_id.is_(None))
    shared = select(other.address_hash).where(*whose, *is_in_use)
    if not is_postgresql(db.session):
        shared = shared.where(other.address_hash.in_(_not_unique(user_id)))
    shared = shared.group_by(other.address_hash).having(func.count() > 1)
    # By coalesce, PostgreSQL reads the shared ones once, into a hash table, however few rows it expects.
    return and_(func.coalesce(Contact.address_hash.in_(shared), false()), _is_in_use())


def _not_unique(user_id: int) -> Select[bytes | None]:
    """Select the addresses that several rows have, shown or not: from the index alone."""
    row = aliased(Contact)
    hashes = select(row.address_hash).where(row.user_id == user_id, row.address_hash.is_not(None))
    return hashes.group_by(row.address_hash).having(func.count() > 1)


def _is_in_use() -> ColumnElement[bool]:
    return and_(Contact.departed.is_(None), Contact.hidden_at.is_(None))


def _totals(user_ids: Collection[int], kinds: Collection[ListKind], now: datetime) -> dict[int, dict[str, Count]]:
    """Return for each advisor the counts of all (""), of "hidden" and of these system lists, from one query.

    Of several advisors, those without contacts have none.
    """
    one, is_hidden = _only(user_ids), Contact.hidden_at.is_not(None)
    groups = {"": ~is_hidden, "hidden": is_hidden} | {kind.value: is_on_system_list(kind) for kind in kinds}
    if one is None:
        return _add_up(groups, [_group_counts(groups, is_active(now), None, _are_of(user_ids))])
    return _add_up(groups, _counts_by_connection(groups, one, now))


def _add_up(groups: Iterable[str], parts: Sequence[Select[Any]]) -> dict[int, dict[str, Count]]:
    """Return {user id: {group: count}}. A row of a part has the user's id, then people and active of each group."""
    found: dict[int, dict[str, Count]] = defaultdict(dict)
    for user_id, *sums in db.session.execute(union_all(*parts)):
        numbers = [int(each or 0) for each in sums]  # PostgreSQL adds counts up as decimals
        counts = found[user_id]
        for name, people, active in zip(groups, numbers[::2], numbers[1::2], strict=True):
            before = counts.get(name, Count())
            counts[name] = Count(before.people + people, before.active + active)
    return found


class Plain(NamedTuple):
    """A kind of records that a connection brings. kind: of their Ids. system_list: that they are on."""

    kind: RecordKind
    source: ContactSource
    system_list: ListKind

    def is_in(self, group: str) -> bool:
        """Are such records in this group of _totals(), if nothing else is known about them?"""
        return group in ("", self.system_list)


PLAIN = (
    Plain(RecordKind.CONTACT, ContactSource.SALESFORCE, ListKind.SALESFORCE_CONTACTS),
    Plain(RecordKind.LEAD, ContactSource.SALESFORCE_LEAD, ListKind.OPEN_LEADS),
)


def _counts_by_connection(
    groups: Mapping[str, ColumnElement[bool]], user_id: int, now: datetime, connection_id: int | None = None
) -> list[Select[Any]]:
    """Select the counts of an advisor's contacts, of all or of one connection, for _add_up(), without reading all of them.

    All records of a connection are counted by its index as if they were plain: in use, and active if the connection is good. The
    exceptions, found by an index of their own, are taken off again and decided about one by one. Last, those are taken off the
    active ones whose address is refused; they are found by an index too.
    """
    theirs = and_(
        Contact.user_id == user_id, true() if connection_id is None else Contact.connection_id == connection_id
    )
    is_refused = Contact.id.in_(refused_ids(user_id, is_postgresql=is_postgresql(db.session)))
    active = is_active_but_for_address(now, user_id)
    return [
        *(_plain_counts(groups, plain, user_id, now, connection_id) for plain in PLAIN),
        _exception_counts(groups, active, user_id, now, theirs),
        _group_counts(groups, active, user_id, theirs, is_shown(), is_refused, takes_off_active=True),
    ]


def _plain_counts(
    groups: Iterable[str], plain: Plain, user_id: int, now: datetime, connection_id: int | None
) -> Select[Any]:
    number = (
        select(func.count())
        .select_from(Contact)
        .where(Contact.connection_id == Connection.id, is_of_kind(plain.kind, Contact.salesforce_id))
        .correlate(Connection)
        .scalar_subquery()
    )
    good = _flag(is_connection_good(plain.source, now, user_id), "good")
    is_wanted = Connection.user_id == user_id if connection_id is None else Connection.id == connection_id
    each = select(number.label("number"), good).where(is_wanted).offset(0).subquery()
    counts: list[ColumnElement[int]] = []
    for group in groups:
        both = (func.sum(each.c.number), func.sum(each.c.number * each.c.good))
        counts += both if plain.is_in(group) else (literal(0), literal(0))
    return select(literal(user_id).label("user_id")).add_columns(*counts)


def _exception_counts(
    groups: Mapping[str, ColumnElement[bool]],
    active: ColumnElement[bool],
    user_id: int,
    now: datetime,
    theirs: ColumnElement[bool],
) -> Select[Any]:
    """Select the counts of exceptions, less those of _plain_counts()."""
    columns = [_flag(and_(is_shown(), is_in), f"in_{name}") for name, is_in in groups.items()]
    for plain in PLAIN:
        was_counted = and_(Contact.connection_id.is_not(None), is_of_kind(plain.kind, Contact.salesforce_id))
        was_active = and_(was_counted, is_connection_good(plain.source, now, user_id))
        columns += [_flag(was_counted, f"was_counted_{plain.kind}"), _flag(was_active, f"was_active_{plain.kind}")]
    each = contact_rows(_flag(active, "active"), *columns).where(theirs, IS_EXCEPTION).offset(0).subquery()
    counts: list[ColumnElement[int]] = []
    for group in groups:
        people: ColumnElement[int] = each.c[f"in_{group}"]
        actives = people * each.c.active
        for plain in (plain for plain in PLAIN if plain.is_in(group)):
            people = people - each.c[f"was_counted_{plain.kind}"]
            actives = actives - each.c[f"was_active_{plain.kind}"]
        counts += [func.sum(people), func.sum(actives)]
    return select(literal(user_id).label("user_id")).add_columns(*counts)


def _group_counts(
    groups: Mapping[str, ColumnElement[bool]],
    active: ColumnElement[bool],
    user_id: int | None,
    *which: Any,
    takes_off_active: bool = False,
) -> Select[Any]:
    """Select how many of these contacts are in each group, and how many of them are active; for each advisor, or for one.

    takes_off_active: no people, and the active ones as a negative number.
    """
    columns = [_flag(is_in, f"in_{name}") for name, is_in in groups.items()]
    each = (
        contact_rows(Contact.user_id, _flag(active, "active"), *columns)
        .where(*which)
        .offset(0)  # keeps the subquery one of its own, so that each contact is decided about once
        .subquery()
    )
    counts: list[ColumnElement[int]] = []
    for column in columns:
        is_in = each.c[column.name]
        actives = func.sum(is_in * each.c.active)
        counts += [literal(0), -actives] if takes_off_active else [func.sum(is_in), actives]
    whose = literal(user_id) if user_id is not None else each.c.user_id
    query: Select[Any] = select(whose.label("user_id"), *counts)
    return query if user_id is not None else query.group_by(each.c.user_id)  # SQLite would sort all rows of one advisor


def _flag(condition: ColumnElement[bool], name: str) -> Label[int]:
    """Return a condition as a column, 1 or 0: within CASE, SQLite stops at the first part of it that decides."""
    return case((condition, 1), else_=0).label(name)


def _only(user_ids: Collection[int]) -> int | None:
    """Return the advisor that a query is about, if it is about one; the rules of contacts/status.py cost less then."""
    return next(iter(user_ids)) if len(user_ids) == 1 else None


def _are_of(user_ids: Collection[int]) -> ColumnElement[bool]:
    one = _only(user_ids)
    return contacts_of(one) if one is not None else and_(is_among(Contact.user_id, user_ids), is_shown())


def _member_counts(user_ids: Collection[int], list_ids: Collection[int], now: datetime) -> dict[int, Count]:
    """Return {list id: how many are on it} for these lists of advisors; empty ones are missing."""
    if not list_ids:
        return {}
    user_id = _only(user_ids)
    if user_id is not None:
        return _add_up_members(_members_by_connection(user_id, list_ids, now))
    rows = contact_rows(ListMember.list_id, func.count(), count_active(now))
    is_here = (ListMember.list_id.in_(list_ids), _are_of(user_ids), Contact.hidden_at.is_(None))
    members = rows.join(ListMember, ListMember.contact_id == Contact.id).where(*is_here)
    return _add_up_members([members.group_by(ListMember.list_id)])


def _add_up_members(parts: Sequence[Select[Any]]) -> dict[int, Count]:
    found: dict[int, Count] = {}
    for list_id, people, active in db.session.execute(union_all(*parts)):
        before = found.get(list_id, Count())
        found[list_id] = Count(before.people + people, before.active + active)
    return found


def _members_by_connection(user_id: int, list_ids: Collection[int], now: datetime) -> list[Select[Any]]:
    """Select how many people are on these lists of an advisor's, and how many of them are active.

    As in _counts_by_connection(): all members are counted as active, and those are taken off that are not.
    """
    is_here = and_(is_shown(), Contact.hidden_at.is_(None))
    here = _flag(is_here, "people")
    active = _flag(and_(is_here, is_active_but_for_address(now, user_id)), "active")
    exceptions = contact_rows(Contact.id, (here - 1).label("people"), (active - 1).label("active"))
    bad = (each.where(IS_NO_EXCEPTION) for each in _of_bad_connections(user_id, now))
    of_bad = (each.add_columns(literal(0).label("people"), literal(-1).label("active")) for each in bad)
    refused = contact_rows(Contact.id, literal(0).label("people"), (-active).label("active"))
    is_refused = Contact.id.in_(refused_ids(user_id, is_postgresql=is_postgresql(db.session)))
    is_theirs = Contact.user_id == user_id
    corrections = [exceptions.where(is_theirs, IS_EXCEPTION), *of_bad, refused.where(is_theirs, is_refused)]
    size = select(ListMember.list_id, func.count(), func.count()).where(ListMember.list_id.in_(list_ids))
    parts: list[Any] = [size.group_by(ListMember.list_id)]
    for correction in corrections:
        each = correction.offset(0).subquery()
        # A sum, or SQLite would begin with the members of the lists.
        is_on = (literal(0) + ListMember.list_id).in_(list_ids)
        members = select(ListMember.list_id, func.sum(each.c.people), func.sum(each.c.active)).where(is_on)
        members = members.join_from(each, ListMember, ListMember.contact_id == each.c.id)
        parts.append(members.group_by(ListMember.list_id))
    return parts
