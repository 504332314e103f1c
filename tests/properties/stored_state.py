"""The stored contacts of one advisor: plain tables, and the export for active contacts and their lists."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select

from asapp.contacts.export import iter_csv
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Contact, Departure, LedgerEntry, ListMember

SALESFORCE, MANUAL = "salesforce", "manual"


@dataclass(frozen=True)
class StoredContactRow:
    """A row of contacts, with its line of the export. status and lists are empty where the export leaves it out."""

    id: int
    salesforce_id: str | None
    source: str
    first_name: str
    last_name: str
    email: str
    departed: str | None
    merged_into: str | None
    is_hidden: bool
    is_shown: bool = False
    status: str = ""
    reason: str = ""
    lists: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return self.email.lower()

    @property
    def is_shell(self) -> bool:
        return self.departed == "no_email"

    @property
    def is_active(self) -> bool:
        return self.status == "active"

    @property
    def fields(self) -> tuple[str, str, str]:
        return self.first_name, self.last_name, self.email


@dataclass(frozen=True)
class StoredState:
    rows: dict[int, StoredContactRow]
    ledger: dict[str, tuple[str, bytes | None]]
    departures: dict[str, str]  # Salesforce Id -> state
    members: set[tuple[int, int]]  # (list, row)
    by_salesforce_id: dict[str, StoredContactRow] = field(default_factory=dict)

    @property
    def manual(self) -> list[StoredContactRow]:
        return sorted((row for row in self.rows.values() if row.source == MANUAL), key=lambda row: row.id)

    def shown(self) -> Iterable[StoredContactRow]:
        return (row for row in self.by_salesforce_id.values() if row.is_shown)


def read_state(connection_id: int, user_id: int, export: str | None = None) -> StoredState:
    """Return what is stored. export: the CSV, if it was fetched over HTTP."""
    db.session.rollback()
    text = "".join(iter_csv(user_id, utcnow())) if export is None else export
    lines = list(csv.DictReader(io.StringIO(text)))
    exported = {
        line["salesforce_id"] or line["last_name"]: line for line in lines
    }  # manual ones have names of their own
    assert len(exported) == len(lines), "somebody is in the export twice"
    c = Contact
    columns = (
        c.id, c.salesforce_id, c.source, c.first_name, c.last_name, c.email, c.departed, c.merged_into, c.hidden_at.is_not(None),
    )  # fmt: skip
    rows: dict[int, StoredContactRow] = {}
    for found in db.session.execute(select(*columns).where(c.user_id == user_id)):
        line = exported.pop(found[1] or found[4], None)
        rows[found[0]] = StoredContactRow(*found)
        if line is not None:
            assert (line["first_name"], line["last_name"], line["email"]) == tuple(found[3:6])
            lists = tuple(filter(None, line["lists"].split(";")))
            rows[found[0]] = StoredContactRow(*found, True, line["status"], line["reason"], lists)
    assert not exported, f"the export has {len(exported)} lines more than there are contacts"
    ledger = select(LedgerEntry.salesforce_id, LedgerEntry.outcome, LedgerEntry.address_hash).where(
        LedgerEntry.connection_id == connection_id
    )
    departures = select(Departure.salesforce_id, Departure.state).where(Departure.connection_id == connection_id)
    here = StoredState(
        rows=rows,
        ledger={row[0]: (row[1], row[2]) for row in db.session.execute(ledger)},
        departures={row[0]: row[1] for row in db.session.execute(departures)},
        members={tuple(row) for row in db.session.execute(select(ListMember.list_id, ListMember.contact_id))},
        by_salesforce_id={row.salesforce_id: row for row in rows.values() if row.salesforce_id},
    )
    db.session.rollback()
    return here
