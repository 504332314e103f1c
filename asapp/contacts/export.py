"""The CSV of an advisor's contacts, active and inactive: all of them, or those that a filter finds.

It is written piece by piece from one query that the database keeps open: memory use is constant, and a contact that a
sync renames in between appears once. The index by search key returns the rows in order, so nothing has to be sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

from sqlalchemy import Select

from asapp.contacts.queries import (
    ContactQuery,
    conditions_of,
    contacts_of,
    lists_by_contact,
    system_list_columns,
    system_lists_in,
)
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.models import Contact
from asapp.models.contact import State

COLUMNS = ("salesforce_id", "first_name", "last_name", "email", "source", "status", "reason", "lists")
ROWS_A_PIECE = 1000


def iter_csv(user_id: int, now: datetime, wanted: ContactQuery | None = None) -> Iterator[str]:
    """Yield the file in pieces; the read transaction stays open until the last one.

    wanted: None for every contact, also those deleted here.
    """
    yield csv_header(COLUMNS)
    with closing(
        db.session.execute(_rows(user_id, now, wanted), execution_options={"yield_per": ROWS_A_PIECE})
    ) as result:
        for rows in result.partitions():
            own = lists_by_contact([row.id for row in rows])
            yield csv_rows(_cells(row, own.get(row.id, [])) for row in rows)
    end_read(db.session)


def _rows(user_id: int, now: datetime, wanted: ContactQuery | None) -> Select[Any]:
    columns = (
        Contact.id,
        Contact.salesforce_id,
        Contact.first_name,
        Contact.last_name,
        Contact.email,
        Contact.source,
        reason_of(now, user_id).label("reason"),
        *system_list_columns(),
    )
    found = conditions_of(user_id, wanted, now) if wanted is not None else [contacts_of(user_id)]
    return contact_rows(*columns).where(*found).order_by(Contact.search_key, Contact.id)


def _cells(row: Any, own_lists: list[str]) -> list[str | None]:
    return [
        row.salesforce_id,
        row.first_name,
        row.last_name,
        row.email,
        row.source,
        State.INACTIVE if row.reason else State.ACTIVE,
        row.reason,
        ";".join(name.replace(";", ",") for name in system_lists_in(row) + own_lists),  # Salesforce's may hold one
    ]
