"""Which of a user's contacts, or open Leads, have left without a row that says so.

Salesforce's count is compared with the ledger, and once a day every Id. What is missing is asked about by Id; only that answer
nominates a departure (sync/departures.py).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from asapp.messages.codes import Code
from asapp.models import RunPhase
from asapp.salesforce import errors
from asapp.salesforce.records import RecordKind
from asapp.sync import departures
from asapp.sync.departures import LedgerCounts
from asapp.sync.reader import ContactReader
from asapp.sync.sweep import Sweep, is_daily_check_due
from asapp.sync.watermark import OVERLAP

MAX_CONFIRMATIONS = 3
MAX_REREADS = 5  # each from its beginning, after expired locators


class Checked(NamedTuple):
    """owned: how many records of the kind the user has in Salesforce, as last counted."""

    owned: int
    was_swept: bool = False


class DepartureCheck:
    """is_full: this run has just read all records of the kind."""

    def __init__(self, reader: ContactReader, kind: RecordKind, *, is_full: bool) -> None:
        self.reader = reader
        self.run = reader.run
        self.kind = kind
        self.context = reader.context_of(kind)
        self.is_full = is_full

    @property
    def counts(self) -> LedgerCounts:
        return self.reader.ledger_counts(self.kind)

    def nominate(self, owned: int) -> Checked:
        """Nominate those that have left. owned: as Salesforce counted when the run asked for changes."""
        counts = self.counts
        if owned == counts.expected and not counts.departures and not self.wants_sweep(owned):
            return Checked(owned)
        self.run.save(phase=RunPhase.DEPARTURES)
        was_swept = False
        if owned != counts.expected and not self._has_begun_to_sweep:
            owned = self.reread_changes()
        if self.wants_sweep(owned):
            owned, was_swept = Sweep(self.reader, self.kind).check(), True
        self.confirm_earlier()
        return Checked(owned, was_swept)

    @property
    def _has_begun_to_sweep(self) -> bool:
        return self.kind == RecordKind.CONTACT and self.run.row.swept is not None

    def reread_changes(self) -> int:
        """Read what changed since the run began, because the counts may differ only through that; return the new count."""
        opened_at = self.run.row.opened_at
        if opened_at is None:
            raise ValueError("the window was never opened")
        for _ in range(MAX_REREADS):
            try:
                return self._reread(opened_at - OVERLAP)
            except errors.LocatorExpired:
                continue
        raise errors.TryLater(Code.LOCATOR_EXPIRED)

    def _reread(self, since: datetime) -> int:
        client, owner_id = self.reader.client_for_call(), self.reader.owner_id
        if self.kind == RecordKind.CONTACT:
            answer = client.open_contacts(owner_id, since)
            self.reader.apply_pages(answer.page, in_order=False, is_reread=True)
            return answer.owned
        found = client.reread_leads(owner_id, since)
        self.reader.apply_leads(found.changed, is_reread=True)
        return found.owned or 0

    def wants_sweep(self, owned: int) -> bool:
        connection = self.reader.connection
        if owned != self.counts.expected or connection.sweep_wanted or self._has_begun_to_sweep:
            return True
        return not self.is_full and is_daily_check_due(connection)

    def confirm_earlier(self) -> None:
        """Ask again about departures that an earlier run found and this one may apply.

        A contact that turns out to be still here can reopen a discarded proposal; its other contacts are then confirmed too.
        """
        for _ in range(MAX_CONFIRMATIONS):
            self.context.lock()
            departures.reopen_discarded(self.context.connection_id)
            ids = departures.find_to_confirm(self.context)
            if not ids:
                return
            self.reader.read_by_id(self.reader.nominate_departed(ids))
