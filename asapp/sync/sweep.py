"""The full check of Ids, called a sweep: every Id and opt-out of the user's contacts, or open Leads, is compared with the ledger.

It runs when the counts differ, and once a day, because visibility and formula fields change without a new stamp. It only
nominates, and only when its last page has come. A long sweep saves checkpoints, and another time slice resumes after the last.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import func, select

from asapp.core.clock import utcnow
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.models import Connection, Contact, Departure, LedgerEntry, LedgerOutcome
from asapp.models.contact import is_of_kind
from asapp.salesforce.records import RecordKind, SweptRow
from asapp.sync import store
from asapp.sync.reader import ContactReader
from asapp.sync.run_context import RunContext

SWEEP_EVERY = timedelta(days=1)
CHECKPOINT_EVERY_S = 30.0
CHECKPOINT_EVERY_IDS = 50_000


def is_daily_check_due(connection: Connection) -> bool:
    """Is it time to check what no stamp tells: which contacts are visible, and which fields?"""
    swept_at = connection.swept_at
    return swept_at is None or utcnow() - swept_at > SWEEP_EVERY


class Sweep:
    """Of contacts, or of open Leads. Only the first has checkpoints: open Leads are few enough to start over."""

    def __init__(self, reader: ContactReader, kind: RecordKind = RecordKind.CONTACT) -> None:
        self.reader = reader
        self.run = reader.run
        self.kind = kind
        self.context = reader.context_of(kind)
        self.is_resumable = kind == RecordKind.CONTACT
        self._start_over()

    def _start_over(self) -> None:
        """Begin what the next checkpoint will hold."""
        self.seen: set[str] = set()
        self.to_read: list[str] = []
        self.began_at = time.monotonic()

    def check(self) -> int:
        """Nominate what is missing and read what differs; return how many records the user has in Salesforce."""
        reader, after_id = self.reader, None
        if self.is_resumable:
            self.run.save(swept=self.run.row.swept or 0)
            after_id = self.run.row.sweep_after_id
        for rows in reader.client_for_call().iter_sweep(reader.owner_id, after_id, self.kind):
            self.seen.update(row.id for row in rows)
            self.to_read += self._find_differing(rows)
            reader.stop_if_asked()
            if rows and self._is_checkpoint_due():
                self.save_checkpoint(rows[-1].id)
        self.to_read += reader.nominate_departed(find_missing(self.context, self.seen))
        self.to_read += find_returned(self.context, self.seen)
        reader.read_by_id(self.to_read)
        before = self.run.row.swept or 0 if self.is_resumable else 0
        return before + len(self.seen)

    def _find_differing(self, rows: Sequence[SweptRow]) -> list[str]:
        """Return the Ids that the ledger doesn't know, or knows with another opt-out, or that are opted out otherwise."""
        ledger = store.find_ledger(self.reader.connection.id, [row.id for row in rows])
        end_read(db.session)
        return [
            row.id
            for row in rows
            if row.id not in ledger
            or (ledger[row.id][0] == LedgerOutcome.OPTED_OUT) != row.is_opted_out
            or ledger[row.id][2] != row.is_consent_hidden
        ]

    def _is_checkpoint_due(self) -> bool:
        if not self.is_resumable:
            return False
        return len(self.seen) >= CHECKPOINT_EVERY_IDS or time.monotonic() - self.began_at > CHECKPOINT_EVERY_S

    def save_checkpoint(self, last_id: str) -> None:
        """Read what differs, then record that every Id up to this one was seen."""
        self.reader.read_by_id(self.to_read)
        self.run.lock()
        store.record_swept(self.reader.connection.id, self.run.id, self.seen)
        self.run.save(sweep_after_id=last_id, swept=(self.run.row.swept or 0) + len(self.seen))
        self._start_over()


def find_missing(context: RunContext, seen: Collection[str]) -> list[str]:
    """Return Ids that the sweep did not see and that this run has not already recorded as departures.

    They are in the ledger, or are contacts here without being in it (leads/outcomes.py). seen: the Ids since the last
    checkpoint; the ones before it are marked in the ledger.
    """
    found = select(Departure.salesforce_id).where(
        Departure.connection_id == context.connection_id, Departure.found_in_run_id == context.run_id
    )
    not_marked = select(LedgerEntry.salesforce_id).where(
        LedgerEntry.connection_id == context.connection_id,
        is_of_kind(context.kind, LedgerEntry.salesforce_id),
        func.coalesce(LedgerEntry.swept_in_run_id, 0) != context.run_id,
        LedgerEntry.salesforce_id.not_in(found),
    )
    in_ledger = select(LedgerEntry.salesforce_id).where(
        LedgerEntry.connection_id == Contact.connection_id, LedgerEntry.salesforce_id == Contact.salesforce_id
    )
    not_in_ledger = select(Contact.salesforce_id).where(
        Contact.connection_id == context.connection_id,
        is_of_kind(context.kind, Contact.salesforce_id),
        Contact.departed.is_(None),
        Contact.erased_at.is_(None),
        ~in_ledger.correlate(Contact).exists(),
        Contact.salesforce_id.not_in(found),
    )
    return [each for each in db.session.scalars(not_marked.union(not_in_ledger)) if each not in seen]


def find_returned(context: RunContext, seen: Collection[str]) -> list[str]:
    """Return the Ids of recorded departures that the sweep saw among the user's contacts. seen: as in find_missing()."""
    rows = db.session.execute(
        select(Departure.salesforce_id, LedgerEntry.swept_in_run_id)
        .outerjoin(
            LedgerEntry,
            (LedgerEntry.connection_id == Departure.connection_id)
            & (LedgerEntry.salesforce_id == Departure.salesforce_id),
        )
        .where(Departure.connection_id == context.connection_id, is_of_kind(context.kind, Departure.salesforce_id))
    )
    return [row.salesforce_id for row in rows if row.salesforce_id in seen or row.swept_in_run_id == context.run_id]
