"""The decision that waits, or was made: contacts that left in Salesforce, in groups by who owns them now."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select

from asapp.contacts.queries import lists_by_contact
from asapp.contacts.status import is_person_on
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.extensions import db
from asapp.models import Contact, Departure, DepartureState
from asapp.sync.departures import departures_with_contacts

GROUPS_SHOWN = 6  # the others are one more
COLUMNS = ("salesforce_id", "name", "email", "reason", "owner")

Key = tuple[str, str | None]  # reason, Id of the new owner


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
    """groups: the largest first. decided_at: when the advisor kept them; None while they wait."""

    groups: list[Group]
    decided_at: datetime | None

    @property
    def number(self) -> int:
        return sum(group.number for group in self.groups)


def find_decision(connection_id: int, state: DepartureState, shown: int) -> Decision:
    """Return the active contacts whose departure is in this state. shown: how many people to read of each group."""
    number, owner_name, decided_at = func.count(), func.max(Departure.owner_name), func.max(Departure.decided_at)
    counted = _leaving(connection_id, state, Departure.reason, Departure.owner_id, number, owner_name, decided_at)
    rows = db.session.execute(
        counted.group_by(Departure.reason, Departure.owner_id).order_by(number.desc(), Departure.reason, owner_name)
    ).all()
    people = _first_people(connection_id, state, shown)
    groups = [Group(row[0], row[3] or "", row[2], people[row[0], row[1]]) for row in rows]
    if len(groups) > GROUPS_SHOWN:
        rest = groups[GROUPS_SHOWN - 1 :]
        others = sorted((one for group in rest for one in group.people), key=lambda one: one.name.casefold())
        groups = [
            *groups[: GROUPS_SHOWN - 1],
            Group(None, "", sum(group.number for group in rest), others[:shown]),
        ]
    return Decision(groups, max((row[4] for row in rows if row[4]), default=None))


def held_csv(connection_id: int) -> str:
    """Return every contact that waits for a decision, or was kept by one, as CSV."""
    return csv_header(COLUMNS) + csv_rows(
        (one.salesforce_id, one.name, one.email, one.reason, one.owner_name)
        for state in (DepartureState.HELD, DepartureState.DISCARDED)
        for people in _first_people(connection_id, state, None, with_lists=False).values()
        for one in people
    )


def _first_people(
    connection_id: int, state: DepartureState, shown: int | None, with_lists: bool = True
) -> dict[Key, list[Leaving]]:
    """Return the first people of each group, by name; shown: None for all."""
    by_name = (Contact.last_name, Contact.first_name, Contact.id)
    place = func.row_number().over(partition_by=(Departure.reason, Departure.owner_id), order_by=by_name)
    ranked = _leaving(
        connection_id,
        state,
        *(Contact.id, Contact.salesforce_id, Contact.first_name, Contact.last_name, Contact.email),
        *(Departure.reason, Departure.owner_id, Departure.owner_name, place.label("place")),
    ).subquery()
    query = select(ranked).order_by(ranked.c.reason, ranked.c.owner_id, ranked.c.place)
    if shown is not None:
        query = query.where(ranked.c.place <= shown)
    rows = db.session.execute(query).all()
    own_lists = lists_by_contact([row.id for row in rows]) if with_lists else {}
    found: dict[Key, list[Leaving]] = defaultdict(list)
    for row in rows:
        name = f"{row.first_name} {row.last_name}".strip()
        lists = ["Salesforce Contacts", *own_lists.get(row.id, [])]
        found[row.reason, row.owner_id].append(
            Leaving(row.id, row.salesforce_id or "", name, row.email, row.reason, row.owner_name or "", lists)
        )
    return found


def _leaving(connection_id: int, state: DepartureState, *columns: Any) -> Select[Any]:
    return departures_with_contacts(*columns).where(
        Departure.connection_id == connection_id, Departure.state == state, is_person_on()
    )
