"""Lists that follow a list view or a campaign of Salesforce.

They are read-only here and hold people who are here by the other rules. What Salesforce answered about a list is stored
whole, by comparison, or not at all: an error never empties a list. A list view whose filter was changed in Salesforce
keeps its members until the advisor has accepted the new filter.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, Table, and_, delete, false, or_, select, update

from asapp.contacts.lists import name_key
from asapp.contacts.twins import lock_advisor
from asapp.core.bulk import in_chunks, insert_many, is_among, rows_with_each
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import Connection, Contact, ContactList, LedgerEntry, LedgerOutcome, ListKind, ListMember
from asapp.models.contact import CHOSEN_IN_SALESFORCE
from asapp.models.salesforce_list import SalesforceList
from asapp.salesforce.org_lists import CAMPAIGN, Filter, ListInOrg, ListReading, ListToRead, ListTrouble, Read
from asapp.salesforce.records import LEAD_PREFIX

Campaigns = Mapping[str, bytes | None]  # {Id: what was seen of its members, see SalesforceList}
MEMBERS: Table = ListMember.__table__  # type: ignore[assignment]
LISTS_MAX = 20
READ_EVERY = timedelta(minutes=15)
# When a campaign that seems unchanged is read all the same: it may have another name, or other users' people.
READ_ANYWAY = timedelta(days=1)
KEY_NAME_LENGTH = 60  # of the name in name_key; the rest is the Id
COPIES_MAX = 100


class NotHere(StrEnum):
    """Why a person who is on a list in Salesforce is not on it here."""

    OTHERS = "others"  # another user's
    OPTED_OUT = "opted_out"
    CONSENT_HIDDEN = "consent_hidden"  # counts as opted out, since the consent record can't be seen
    NO_EMAIL = "no_email"
    HIDDEN_HERE = "hidden_here"
    LEADS = "leads"  # Leads that are not here
    NOT_YET = "not_yet"  # comes with the next sync


class TooManyLists(Exception):
    """The advisor follows as many lists as possible."""


class Known(NamedTuple):
    """What is here of some people in Salesforce. members: ids of contacts; not_here: {why: how many}."""

    members: set[int]
    not_here: dict[str, int]


# ---- Which lists an advisor follows


def find_followed(user_id: int) -> list[SalesforceList]:
    """Return the advisor's lists from Salesforce, by name."""
    rows = db.session.scalars(
        select(SalesforceList)
        .join(ContactList)
        .where(ContactList.user_id == user_id, ContactList.kind.in_(CHOSEN_IN_SALESFORCE))
        .order_by(ContactList.name_key)
    )
    return list(rows)


def find_one(user_id: int, list_id: int) -> SalesforceList | None:
    return db.session.scalar(
        select(SalesforceList)
        .join(ContactList)
        .where(ContactList.user_id == user_id, SalesforceList.list_id == list_id)
        .execution_options(populate_existing=True)
    )


def follow(connection: Connection, chosen: ListInOrg, accepted: Filter | None) -> ContactList:
    """Make a list here that follows one in Salesforce, or return the one that does; the next sync fills it. Commits.

    accepted: a list view's filter, as the advisor saw it. Raises TooManyLists.
    """
    lock_advisor(connection.user_id)
    followed = find_followed(connection.user_id)
    known = [each for each in followed if (each.connection_id, each.salesforce_id) == (connection.id, chosen.id)]
    if known:
        db.session.commit()
        return known[0].contact_list
    if len(followed) >= LISTS_MAX:
        db.session.rollback()
        raise TooManyLists
    kind = ListKind.CAMPAIGN if chosen.is_campaign else ListKind.LIST_VIEW
    made = ContactList(user_id=connection.user_id, kind=kind, name=chosen.name, name_key=key_of(chosen.name, chosen.id))
    db.session.add(made)
    db.session.flush()
    scope, condition = (accepted.scope, accepted.condition) if accepted else ("", "")
    db.session.add(
        SalesforceList(
            list_id=made.id,
            connection_id=connection.id,
            salesforce_id=chosen.id,
            about=chosen.about,
            scope=scope,
            condition=condition,
        )
    )
    db.session.commit()
    return made


def unfollow(user_id: int, list_id: int) -> bool:
    """Delete a list from Salesforce; its people stay as contacts. Commits; returns whether there was one."""
    lock_advisor(user_id)
    is_it = (ContactList.id == list_id, ContactList.user_id == user_id, ContactList.kind.in_(CHOSEN_IN_SALESFORCE))
    found = change_rows(db.session, delete(ContactList).where(*is_it))
    db.session.commit()
    return found == 1


def keep_as_own(user_id: int, list_id: int) -> ContactList | None:
    """Make a list from Salesforce one of the advisor's own, with the members that it has. Commits."""
    lock_advisor(user_id)
    found = find_one(user_id, list_id)
    if found is None:
        db.session.commit()
        return None
    contact_list = found.contact_list
    contact_list.name = _free_name(user_id, contact_list.name)
    contact_list.name_key, contact_list.kind = name_key(contact_list.name), ListKind.OWN
    db.session.delete(found)
    db.session.commit()
    return contact_list


def accept_filter(user_id: int, list_id: int, digest: bytes) -> bool:
    """Let a list view follow its changed filter, if that still is the one that the advisor saw. Commits.

    Returns whether it was; the members follow with the next sync.
    """
    lock_advisor(user_id)
    found = find_one(user_id, list_id)
    offered = found.offered if found else None
    if found is None or offered is None or not hmac.compare_digest(offered.digest, digest):
        db.session.rollback()
        return False
    found.scope, found.condition = offered.scope, offered.condition
    _forget_change(found)
    found.asked_at = None
    db.session.commit()
    return True


def key_of(name: str, salesforce_id: str) -> str:
    """Return the name_key of a list from Salesforce: two of them may have one name, and so may an own list."""
    return f"{name_key(name)[:KEY_NAME_LENGTH]} {salesforce_id}"


def _free_name(user_id: int, name: str) -> str:
    taken = set(db.session.scalars(select(ContactList.name_key).where(ContactList.user_id == user_id)))
    names = [name, *(f"{name[:KEY_NAME_LENGTH]} ({number})" for number in range(2, COPIES_MAX))]
    return next(each for each in names if name_key(each) not in taken)


# ---- Reading them


def is_due(now: datetime) -> ColumnElement[bool]:
    """Over SalesforceList: is it time to read it by schedule?"""
    return or_(SalesforceList.asked_at.is_(None), SalesforceList.asked_at <= now - READ_EVERY)


def find_to_read(connection_id: int, due_by: datetime | None, seen: Campaigns) -> list[ListToRead]:
    """Return the lists of a connection, those read longest ago first.

    due_by: those alone that are due then, without the campaigns that look as they did. seen: campaigns as they look now.
    """
    query = select(SalesforceList).where(SalesforceList.connection_id == connection_id)
    if due_by is not None:
        as_before = [SalesforceList.seen == now for now in seen.values() if now is not None]
        query = query.where(is_due(due_by), ~and_(_shows_changes(due_by), or_(false(), *as_before)))
    rows = db.session.scalars(query.order_by(SalesforceList.asked_at.is_not(None), SalesforceList.asked_at))
    return [ListToRead(row.list_id, row.salesforce_id, row.about, row.accepted) for row in rows]


def find_waiting(connection_ids: Collection[int], now: datetime) -> set[int]:
    """Return those of these connections that have lists to read, whatever the answer about their campaigns."""
    waiting = select(SalesforceList.connection_id).where(
        is_among(SalesforceList.connection_id, connection_ids), is_due(now), ~_shows_changes(now)
    )
    return set(db.session.scalars(waiting.distinct()))


def find_campaigns(connection_ids: Collection[int], due_by: datetime | None) -> Mapping[int, Campaigns]:
    """Return {connection: its campaigns that can be read}, each with what was seen of it. due_by: see find_to_read."""
    which = [SalesforceList.about == CAMPAIGN, SalesforceList.trouble.is_(None)]
    rows = select(SalesforceList.connection_id, SalesforceList.salesforce_id, SalesforceList.seen).where(
        is_among(SalesforceList.connection_id, connection_ids), *which, *([] if due_by is None else [is_due(due_by)])
    )
    found: dict[int, dict[str, bytes | None]] = {}
    for connection_id, salesforce_id, seen in db.session.execute(rows):
        found.setdefault(connection_id, {})[salesforce_id] = seen
    return found


def _shows_changes(now: datetime) -> ColumnElement[bool]:
    """Over SalesforceList: does a sync's first call tell whether it has changed?"""
    known = and_(SalesforceList.trouble.is_(None), SalesforceList.read_at > now - READ_ANYWAY)
    return and_(SalesforceList.seen.is_not(None), known)


def read_again(connection_id: int) -> None:
    """Let the campaigns of a connection be read once they are due: people came or changed, and they may be in one."""
    mine = update(SalesforceList).where(SalesforceList.connection_id == connection_id)
    db.session.execute(mine.where(SalesforceList.seen.is_not(None)).values(seen=None))
    db.session.commit()


def store_reading(
    user_id: int,
    asked: ListToRead,
    read: Read,
    asked_at: datetime,
    lock: Callable[[], None] | None = None,
    seen: bytes | None = None,
) -> int:
    """Store what Salesforce answered about a list; return how many people came or left. Commits.

    seen: see SalesforceList; from before the list was read. lock: locks the advisor, if something else is locked with it.
    """
    (lock or (lambda: lock_advisor(user_id)))()
    found = find_one(user_id, asked.key)
    if found is None or found.accepted != asked.filter:
        db.session.commit()  # given up meanwhile, or another filter was accepted
        return 0
    found.asked_at, found.seen = asked_at, seen
    moved = 0
    if isinstance(read, ListTrouble):
        _freeze(found, read, asked_at)
    else:
        moved = _apply(found, read, asked_at)
    db.session.commit()
    return moved


def _freeze(found: SalesforceList, trouble: ListTrouble, now: datetime) -> None:
    """Record that a list can't be read: its members stay. One answer that failed to come changes no known cause."""
    if found.trouble is None or trouble != ListTrouble.NO_ANSWER:
        found.trouble, found.trouble_since = trouble, found.trouble_since or now


def _apply(found: SalesforceList, read: ListReading, now: datetime) -> int:
    found.trouble = found.trouble_since = None
    if read.name and read.name != found.contact_list.name:
        found.contact_list.name = read.name
        found.contact_list.name_key = key_of(read.name, found.salesforce_id)
    if read.ids is None:
        if read.filter is not None and read.filter != found.offered:
            found.new_scope, found.new_condition, found.changed_at = read.filter.scope, read.filter.condition, now
        return 0
    _forget_change(found)
    found.read_at = now
    known = find_known(found.connection_id, read.ids)
    found.not_here = {**({NotHere.OTHERS.value: read.others} if read.others else {}), **known.not_here}
    return _set_members(found.list_id, known.members, now)


def _forget_change(found: SalesforceList) -> None:
    found.new_scope = found.new_condition = found.changed_at = None


def _set_members(list_id: int, wanted: set[int], now: datetime) -> int:
    """Make these the members of a list; return how many are new or gone."""
    present = set(db.session.scalars(select(ListMember.contact_id).where(ListMember.list_id == list_id)))
    new = [{"list_id": list_id, "contact_id": each, "added_at": now} for each in sorted(wanted - present)]
    insert_many(MEMBERS, new)
    for chunk in in_chunks(sorted(present - wanted)):
        gone = is_among(ListMember.contact_id, chunk)
        db.session.execute(delete(ListMember).where(ListMember.list_id == list_id, gone))
    return len(wanted ^ present)


def find_known(connection_id: int, ids: Sequence[str]) -> Known:
    """Return which contacts here these people of the user's in Salesforce are, and why the others are not here.

    ids: of Contacts and Leads. A contact that was deleted here is a member too, so that it is on the list again once restored.
    """
    leads = [each for each in ids if each.startswith(LEAD_PREFIX)]
    rows = _rows_of(ids, Contact.connection_id == connection_id)
    rows += _rows_of(leads, Contact.followed_by_id == connection_id)  # sent from here
    missing = set(ids) - {row.salesforce_id for row in rows}
    why = _why_missing(connection_id, missing)
    why[NotHere.HIDDEN_HERE] += sum(row.hidden_at is not None for row in rows)
    return Known({row.id for row in rows}, {reason.value: why[reason] for reason in NotHere if why[reason]})


def _rows_of(ids: Collection[str], which: ColumnElement[bool]) -> list[Row[*tuple[Any, ...]]]:
    """Return (id, salesforce_id, hidden_at) of the contacts with these Ids. which: those of a connection, by its index."""
    is_shell = Contact.departed == "no_email"
    here: Select[Any] = select(Contact.id, Contact.salesforce_id, Contact.hidden_at).where(  # type: ignore[assignment]
        which, Contact.erased_at.is_(None), or_(Contact.departed.is_(None), ~is_shell)
    )
    found: list[Row[*tuple[Any, ...]]] = []
    for chunk in in_chunks(ids):
        rows = rows_with_each(here, Contact.salesforce_id, chunk).c
        found += db.session.execute(select(rows.id, rows.salesforce_id, rows.hidden_at)).all()
    return found


def _why_missing(connection_id: int, ids: Collection[str]) -> Counter[str]:
    columns = (LedgerEntry.salesforce_id, LedgerEntry.outcome, LedgerEntry.consent_hidden)
    known = select(*columns).where(LedgerEntry.connection_id == connection_id)
    outcomes = {
        row.salesforce_id: NotHere.CONSENT_HIDDEN if row.consent_hidden else row.outcome
        for chunk in in_chunks(ids)
        for row in db.session.execute(known.where(is_among(LedgerEntry.salesforce_id, chunk)))
    }
    return Counter(_why(each, outcomes.get(each)) for each in ids)


def _why(salesforce_id: str, outcome: str | None) -> NotHere:
    match outcome:
        case LedgerOutcome.OPTED_OUT:
            return NotHere.OPTED_OUT
        case NotHere.CONSENT_HIDDEN:
            return NotHere.CONSENT_HIDDEN
        case LedgerOutcome.NO_EMAIL:
            return NotHere.NO_EMAIL
        case LedgerOutcome.SYNCED:
            return NotHere.HIDDEN_HERE  # by a tombstone
        case _:
            return NotHere.LEADS if salesforce_id.startswith(LEAD_PREFIX) else NotHere.NOT_YET
