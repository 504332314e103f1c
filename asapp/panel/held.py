"""The decision that waits, or was made: contacts that left in Salesforce, in groups by who owns them now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select

from asapp.contacts.queries import lists_by_contact
from asapp.contacts.status import is_person_on
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.extensions import db
from asapp.models import Contact, Departure, DepartureState
from asapp.sync.departures import DepartureGroup, departures_with_contacts, key_of_proposal

GROUPS_SHOWN = 6  # the others are one more
COLUMNS = ("salesforce_id", "name", "email", "reason", "owner")


class Leaving(NamedTuple):
    """A contact that has left, and that an approval makes inactive."""

    contact_id: int
    salesforce_id: str
    name: str
    email: str
    reason: str
    owner_name: str
    lists: list[str]


class Group(NamedTuple):
    """Contacts that left in the same way. reason: None for the small groups together. people: the first of them, by name."""

    reason: str | None
    owner_name: str
    number: int
    people: list[Leaving]


class Decision(NamedTuple):
    """groups: the largest first. decided_at: when the advisor kept them; None while they wait. key: of key_of_proposal()."""

    groups: list[Group]
    decided_at: datetime | None
    key: str

    @property
    def number(self) -> int:
        return sum(group.number for group in self.groups)


def find_decision(connection_id: int, state: DepartureState, shown: int) -> Decision:
    """Return the active contacts whose departure is in this state. shown: how many people to read of each group."""
    rows = _first_rows(connection_id, state, max(shown, 1))
    own_lists = lists_by_contact([row.id for row in rows]) if shown else {}
    groups = []
    for _, of_group in groupby(rows, lambda row: (row.reason, row.owner_id)):
        people = list(of_group)
        first = people[0]
        leaving = [_leaving_of(row, own_lists.get(row.id, [])) for row in people[:shown]]
        groups.append(Group(first.reason, first.group_owner or "", first.number, leaving))
    if len(groups) > GROUPS_SHOWN:
        rest = groups[GROUPS_SHOWN - 1 :]
        others = sorted((one for group in rest for one in group.people), key=lambda one: one.name.casefold())
        groups = [
            *groups[: GROUPS_SHOWN - 1],
            Group(None, "", sum(group.number for group in rest), others[:shown]),
        ]
    key = key_of_proposal(
        DepartureGroup(row.reason, row.owner_id, row.number, row.sum_of_ids) for row in rows if row.place == 1
    )
    return Decision(groups, max((row.group_decided_at for row in rows if row.group_decided_at), default=None), key)


def held_csv(connection_id: int) -> str:
    """Return every contact that waits for a decision, or was kept by one, as CSV."""
    return csv_header(COLUMNS) + csv_rows(
        (one.salesforce_id, one.name, one.email, one.reason, one.owner_name)
        for state in (DepartureState.HELD, DepartureState.DISCARDED)
        for one in (_leaving_of(row, []) for row in _first_rows(connection_id, state, None))
    )


def _first_rows(connection_id: int, state: DepartureState, shown: int | None) -> Sequence[Any]:
    """Return the first people of each group, by name, with what is told of their group; the largest group first.

    shown: how many of each group; None for all.
    """
    group = (Departure.reason, Departure.owner_id)
    by_name = (Contact.last_name, Contact.first_name, Contact.id)
    ranked = _leaving(
        connection_id,
        state,
        *(Contact.id, Contact.salesforce_id, Contact.first_name, Contact.last_name, Contact.email),
        *(*group, Departure.owner_name),
        func.row_number().over(partition_by=group, order_by=by_name).label("place"),
        func.count().over(partition_by=group).label("number"),
        func.sum(Contact.id).over(partition_by=group).label("sum_of_ids"),
        func.max(Departure.owner_name).over(partition_by=group).label("group_owner"),
        func.max(Departure.decided_at).over(partition_by=group).label("group_decided_at"),
    ).subquery()
    columns = ranked.c
    query = select(ranked).order_by(
        columns.number.desc(), columns.reason, columns.group_owner, columns.owner_id, columns.place
    )
    return db.session.execute(query if shown is None else query.where(columns.place <= shown)).all()


def _leaving_of(row: Any, own_lists: Sequence[str]) -> Leaving:
    name = f"{row.first_name} {row.last_name}".strip()
    lists = ["Salesforce Contacts", *own_lists]
    return Leaving(row.id, row.salesforce_id or "", name, row.email, row.reason, row.owner_name or "", lists)


def _leaving(connection_id: int, state: DepartureState, *columns: Any) -> Select[Any]:
    return departures_with_contacts(*columns).where(
        Departure.connection_id == connection_id, Departure.state == state, is_person_on()
    )
