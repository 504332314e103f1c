"""The CSV of all contacts of an advisor, in any state.

It is made piece by piece from one query that the database keeps open, so that memory stays flat and a contact that a sync
renames meanwhile is in the file once. The index by search key gives the rows in order, so nothing is sorted for it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from sqlalchemy import Select

from asapp.contacts.queries import contacts_of, lists_by_contact, system_list_columns, system_lists_in
from asapp.contacts.status import ACTIVE, INACTIVE, contact_rows, reason_of
from asapp.extensions import db
from asapp.models import Contact

COLUMNS = ("salesforce_id", "first_name", "last_name", "email", "source", "status", "reason", "lists")
ROWS_A_PIECE = 1000
# What makes a spreadsheet run a cell, also in full width; it looks past leading white space.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
FORMULA_CONTROLS = ("\t", "\r", "\n")


def iter_csv(user_id: int, now: datetime) -> Iterator[str]:
    """Yield the file in pieces. The read transaction stays open until the last one."""
    yield _written([COLUMNS])
    with closing(db.session.execute(_rows(user_id, now), execution_options={"yield_per": ROWS_A_PIECE})) as result:
        for rows in result.partitions():
            own = lists_by_contact([row.id for row in rows])
            yield _written(_cells(row, own.get(row.id, [])) for row in rows)
    db.session.rollback()


def neutral(text: str) -> str:
    """Return text so that no spreadsheet takes it for a formula; what is none stays as it is."""
    if text.startswith(FORMULA_CONTROLS) or text.lstrip().startswith(FORMULA_STARTS):
        return f"'{text}"
    return text


def _rows(user_id: int, now: datetime) -> Select[Any]:
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
    return contact_rows(*columns).where(contacts_of(user_id)).order_by(Contact.search_key, Contact.id)


def _cells(row: Any, own_lists: list[str]) -> list[str]:
    lists = ";".join(neutral(name) for name in system_lists_in(row) + own_lists)
    return [
        row.salesforce_id or "",
        neutral(row.first_name),
        neutral(row.last_name),
        neutral(row.email),
        row.source,
        INACTIVE if row.reason else ACTIVE,
        row.reason or "",
        lists,
    ]


def _written(rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
