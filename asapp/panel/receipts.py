"""What a run did, row by row, for its receipt. Contacts that it created carry its id; every other change is in run_changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select

from asapp.contacts.status import is_shown
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.models import Connection, Contact, RunChange, SyncRun, User
from asapp.models.run import NEW_OWNER, SWITCHED_ON
from asapp.sync.held_decisions import Decided, find_decisions

SHOWN = 50  # of each part, on the page; the CSV has all
READ_STATE_KINDS = ("deactivated", "reactivated")
STATE_KINDS = (*READ_STATE_KINDS, "also")
ALL_KINDS = (*STATE_KINDS, "updated", "adopted")
FIELD_NAMES = {"first_name": "First name", "last_name": "Last name", "email": "Email"}
COLUMNS = ("salesforce_id", "name", "email", "what", "reason", "field", "old", "new")
ROWS_A_PIECE = 1000
BY_NAME = (Contact.search_key, Contact.id)  # as the page Contacts


class ChangeLine(NamedTuple):
    """One contact that a run changed. is_on_now: did that change make it active?"""

    contact_id: int
    name: str
    email: str
    kind: str
    reason: str | None
    fields: list[tuple[str, str, str]]  # (label, old, new)
    owner: str = ""  # the new one's name, if the contact was given to another user and Salesforce shows it

    @property
    def is_on_now(self) -> bool:
        return self.kind == "reactivated" or (self.kind == "also" and self.reason in SWITCHED_ON)


class Receipt(NamedTuple):
    run: SyncRun
    connection: Connection
    reasons: dict[str, dict[str, int]]  # kind -> reason -> rows
    switched: list[ChangeLine]
    switched_total: int
    updated: list[ChangeLine]
    updated_total: int
    added: list[ChangeLine]
    added_total: int
    decisions: list[Decided]  # about what it held


def find_run(user: User, run_id: int) -> SyncRun | None:
    """Return the run if it is one of this person's with the present firm."""
    is_theirs = (Connection.user_id == user.id, Connection.partner_id == user.partner_id)
    return db.session.scalar(select(SyncRun).join(Connection).where(SyncRun.id == run_id, *is_theirs))


def make_receipt(run: SyncRun, limit: int = SHOWN) -> Receipt:
    reasons = find_reasons(run.id)
    switched_total = sum(sum(reasons.get(kind, {}).values()) for kind in STATE_KINDS)
    updated_total = sum(sum(reasons.get(kind, {}).values()) for kind in ("updated", "adopted"))
    return Receipt(
        run=run,
        connection=run.connection,
        reasons=reasons,
        switched=_changes(run.id, STATE_KINDS, limit),
        switched_total=switched_total,
        updated=_changes(run.id, ("updated", "adopted"), limit),
        updated_total=updated_total,
        added=_added(run, limit),
        added_total=run.created,
        decisions=find_decisions(run) if run.is_held else [],
    )


def iter_csv(run_id: int) -> Iterator[str]:
    """Yield the receipt as CSV, piece by piece; no transaction is open between two pieces."""
    yield csv_header(COLUMNS)
    last_id = 0
    while rows := _read_changes(run_id, RunChange.id > last_id, limit=ROWS_A_PIECE):
        last_id = rows[-1].change_id
        end_read(db.session)
        yield csv_rows(cells for row in rows for cells in _cells(row))
    last_id = 0
    while made := _read_added(run_id, Contact.id > last_id, order=(Contact.id,), limit=ROWS_A_PIECE):
        last_id = made[-1].id
        end_read(db.session)
        yield csv_rows((row.salesforce_id, _name(row), row.email, "added", "", "", "", "") for row in made)


def find_reasons(run_id: int, kinds: Sequence[str] = ALL_KINDS) -> dict[str, dict[str, int]]:
    """Return {kind: {reason: number of contacts}} of what a run changed."""
    rows = db.session.execute(
        select(RunChange.kind, RunChange.reason, func.count())
        .where(RunChange.run_id == run_id, RunChange.kind.in_(kinds))
        .group_by(RunChange.kind, RunChange.reason)
    )
    found: dict[str, Counter[str]] = {}
    for kind, reason, count in rows:
        found.setdefault(kind, Counter())[reason or ""] += count
    return {kind: dict(counts) for kind, counts in found.items()}


def _changes(run_id: int, kinds: Sequence[str], limit: int) -> list[ChangeLine]:
    return [_line(row) for row in _read_changes(run_id, RunChange.kind.in_(kinds), is_shown(), limit=limit)]


def _read_changes(run_id: int, *conditions: Any, limit: int) -> Sequence[Any]:
    return db.session.execute(
        select(
            RunChange.id.label("change_id"),
            RunChange.kind,
            RunChange.reason,
            RunChange.old,
            RunChange.new,
            Contact.id,
            Contact.salesforce_id,
            Contact.first_name,
            Contact.last_name,
            Contact.email,
        )
        .join(Contact, Contact.id == RunChange.contact_id)
        .where(RunChange.run_id == run_id, *conditions)
        .order_by(RunChange.id)
        .limit(limit)
    ).all()


def _added(run: SyncRun, limit: int) -> list[ChangeLine]:
    conditions = (Contact.user_id == run.connection.user_id, is_shown())  # the advisor's, by the index of the names
    return [
        ChangeLine(row.id, _name(row), row.email, "added", None, [])
        for row in _read_added(run.id, *conditions, order=BY_NAME, limit=limit)
    ]


def _read_added(run_id: int, *conditions: Any, order: Sequence[Any], limit: int) -> Sequence[Any]:
    return db.session.execute(
        select(Contact.id, Contact.salesforce_id, Contact.first_name, Contact.last_name, Contact.email)
        .where(Contact.created_in_run_id == run_id, *conditions)
        .order_by(*order)
        .limit(limit)
    ).all()


def _line(row: Any) -> ChangeLine:
    return ChangeLine(row.id, _name(row), row.email, row.kind, row.reason, changed_fields(row), owner_in(row))


def changed_fields(row: Any) -> list[tuple[str, str, str]]:
    """Return (label, old, new) of each field that a row of run_changes names."""
    old, new = row.old or {}, row.new or {}
    return [
        (label, str(old.get(name) or ""), str(new.get(name) or ""))
        for name, label in FIELD_NAMES.items()
        if name in old or name in new
    ]


def owner_in(row: Any) -> str:
    """Return the new owner's name that a row of run_changes has; empty if it has none."""
    return str((row.new or {}).get(NEW_OWNER) or "")


def _cells(row: Any) -> list[tuple[str | None, ...]]:
    """Return a line of the file for each changed field, or one line if none changed."""
    line = _line(row)
    about = (row.salesforce_id, line.name, line.email, line.kind, line.reason)
    return [(*about, *field) for field in line.fields or [("Owner" if line.owner else "", "", line.owner)]]


def _name(row: Any) -> str:
    return f"{row.first_name} {row.last_name}".strip()
