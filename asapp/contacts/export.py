"""The CSV of all contacts of an advisor, in any state.

It is made piece by piece: each piece is one short read of its own, so that memory stays flat and a slow download holds no
connection to the database and no transaction. Ids never change, so a contact is in the file once.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

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
    """Yield the file in pieces. Each read ends its transaction before its piece is given out."""
    db.session.rollback()
    yield _written([COLUMNS])
    last_id = 0
    while rows := _read(user_id, now, last_id):
        last_id = rows[-1].id
        own = lists_by_contact([row.id for row in rows])
        db.session.rollback()
        yield _written(_cells(row, own.get(row.id, [])) for row in rows)


def neutral(text: str) -> str:
    """Return text so that no spreadsheet takes it for a formula; what is none stays as it is."""
    if text.startswith(FORMULA_CONTROLS) or text.lstrip().startswith(FORMULA_STARTS):
        return f"'{text}"
    return text


def _read(user_id: int, now: datetime, after_id: int) -> Sequence[Any]:
    columns = (
        Contact.id,
        Contact.salesforce_id,
        Contact.first_name,
        Contact.last_name,
        Contact.email,
        Contact.source,
        reason_of(now).label("reason"),
        *system_list_columns(),
    )
    return db.session.execute(
        contact_rows(*columns)
        .where(contacts_of(user_id), Contact.id > after_id)
        .order_by(Contact.id)
        .limit(ROWS_A_PIECE)
    ).all()


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
