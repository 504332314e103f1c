"""Reading contacts, and open Leads, from Salesforce and storing them: what the phases of a run are made of.

No transaction is open while Salesforce is asked, so that nothing waits on a lock for as long as an answer takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil

from asapp.contacts.addresses import address_key
from asapp.contacts.suppressions import earlier_firms
from asapp.core.bulk import in_chunks
from asapp.core.clock import utcnow
from asapp.core.database import retry_when_beaten
from asapp.core.extensions import db
from asapp.core.stopping import StopRequested
from asapp.models import Partner, User
from asapp.salesforce.client import OrgClient
from asapp.salesforce.pages_ahead import PagesAhead
from asapp.salesforce.records import ContactPage, ContactRecord, LeadPage, RecordKind, Unreadable, kind_of
from asapp.sync import departures
from asapp.sync.apply_page import PageRows, apply_pages
from asapp.sync.departures import LedgerCounts, count_ledger
from asapp.sync.meter import RunMeter
from asapp.sync.run_context import JobContext, RunContext
from asapp.sync.runs import LeasedRun
from asapp.sync.watermark import start_of, sure_until

TIME_SLICE_S = 240.0  # then the run is handed back at its checkpoint, so that deploys and other partners don't wait


class ContactReader:
    client: OrgClient  # while the run is carried out

    def __init__(self, run: LeasedRun, job: JobContext) -> None:
        self.run = run
        self.job = job
        self.connection = run.row.connection
        self.owner_id = self.connection.salesforce_user_id
        self.meter = RunMeter(db.engine, run, self.connection.partner_id, job.should_stop)
        self._time_slice_ends_at = time.monotonic() + TIME_SLICE_S
        self.reads_all_leads = False  # open Leads are read in full, not only what changed
        self._ledger_counts: dict[RecordKind, LedgerCounts] = {}  # emptied when something is written

    @cached_property
    def context(self) -> RunContext:
        """What stays the same once the window is open; not valid before."""
        run, connection, vault = self.run.row, self.connection, self.job.access.vault
        key = address_key(db.session(), db.session.get_one(Partner, connection.partner_id), vault)
        return RunContext(
            run=self.run,
            connection_id=connection.id,
            user_id=connection.user_id,
            owner_id=self.owner_id,
            partner_id=connection.partner_id,
            address_key=key,
            earlier_firms=earlier_firms(db.session.get_one(User, connection.user_id), connection.partner_id, vault),
            window_start=run.window_start,
            asked_at=run.asked_at or utcnow(),
            sure_until=sure_until(run.opened_at or utcnow()),
        )

    def context_of(self, kind: RecordKind) -> RunContext:
        """Return the context for contacts, or for open Leads, which have a window of their own."""
        if kind == RecordKind.CONTACT:
            return self.context
        window_start = None if self.reads_all_leads else start_of(self.connection.open_leads_watermark)
        return replace(self.context, kind=kind, window_start=window_start)

    def ledger_counts(self, kind: RecordKind = RecordKind.CONTACT) -> LedgerCounts:
        if kind not in self._ledger_counts:
            self._ledger_counts[kind] = count_ledger(self.connection.id, kind)
        return self._ledger_counts[kind]

    def reset_counts(self) -> None:
        self._ledger_counts = {}

    def client_for_call(self) -> OrgClient:
        """Commit, and return the client."""
        db.session.commit()
        return self.client

    def stop_if_asked(self, *, may_end_time_slice: bool = True) -> None:
        """Raise StopRequested if this process is asked to end, or the time slice is over."""
        if self.job.should_stop():
            raise StopRequested
        if may_end_time_slice and time.monotonic() > self._time_slice_ends_at:
            raise StopRequested

    def apply_pages(self, page: ContactPage, *, in_order: bool = True, is_reread: bool = False) -> None:
        """Store a page and the ones that follow it; these are read while the ones before are stored. Raises LocatorExpired.

        in_order, is_reread: as in apply_page.apply_pages().
        """
        if page.next_path is None:
            self.stop_if_asked(may_end_time_slice=in_order)
            self.client_for_call()
            self.apply_group([page], in_order=in_order, is_reread=is_reread)
            return
        ahead = self.client.pages_after(page)
        try:
            with ahead:
                self._apply_while_reading(page, ahead, in_order=in_order, is_reread=is_reread)
        except Exception:
            db.session.rollback()
            self.meter.give_back(ahead.unspent)
            raise
        self.meter.give_back(ahead.unspent)

    def _apply_while_reading(self, page: ContactPage, ahead: PagesAhead, *, in_order: bool, is_reread: bool) -> None:
        waiting, read = [page], page.size
        while waiting:
            self.stop_if_asked(may_end_time_slice=in_order)  # only a reading in order can be resumed
            last = waiting[-1]
            left = max(1, ceil((page.total - read) / max(1, page.size))) if last.next_path is not None else 0
            self._pay_ahead(ahead, left)
            stored = self.apply_group(waiting, in_order=in_order, is_reread=is_reread)
            del waiting[:stored]
            if not waiting and last.next_path is not None:
                waiting = ahead.take()
                read += sum(each.size for each in waiting)

    def _pay_ahead(self, ahead: PagesAhead, left: int) -> None:
        """Count and allow the calls that may be made while rows are stored. left: pages that are not here yet, about.

        Raises LeaseLost or CancelRequested, also where no call is left to be counted.
        """
        calls = min(self.job.pages_ahead, left) - ahead.outstanding
        client = self.client_for_call()
        if calls > 0:
            client.pay_ahead(ahead, calls)
        else:
            self.meter.check()

    def apply_group(self, pages: Sequence[ContactPage], *, in_order: bool, is_reread: bool) -> int:
        """Store pages of one kind in one transaction; return how many of them are stored, after a second not all."""
        rows = [PageRows(page.records, page.unreadable) for page in pages]  # parsed before the transaction begins
        if not any(page.records or page.unreadable for page in rows):
            return len(pages)
        context = self.context_of(pages[0].kind)
        stored = retry_when_beaten(
            db.session(), lambda: apply_pages(context, rows, in_order=in_order, is_reread=is_reread)
        )
        self.reset_counts()
        return stored

    def apply_leads(self, page: LeadPage, *, is_reread: bool = False) -> None:
        """Store the user's own among changed Leads, page by page. Raises LocatorExpired."""
        while True:
            self.stop_if_asked()
            if (people := page.people) is not None:
                self.apply(people.records, people.unreadable, in_order=False, is_reread=is_reread, kind=people.kind)
            if page.next_path is None:
                return
            page = self.client_for_call().next_leads(page.next_path, self.owner_id)

    def apply(
        self,
        records: list[ContactRecord],
        unreadable: list[Unreadable],
        *,
        in_order: bool,
        is_reread: bool = False,
        kind: RecordKind = RecordKind.CONTACT,
    ) -> None:
        """Store some records and commit."""
        if records or unreadable:
            context = self.context_of(kind)
            rows = [PageRows(records, unreadable)]
            retry_when_beaten(db.session(), lambda: apply_pages(context, rows, in_order=in_order, is_reread=is_reread))
            self.reset_counts()

    def read_by_id(self, ids: Sequence[str]) -> None:
        """Read these records as if a page had brought them; the next run finds those that have left since."""
        for kind, chunk in by_kind(ids):
            self.stop_if_asked()
            page = self.client_for_call().contacts_by_id(chunk, kind)
            alive = [r for r in page.records if r.owner_id == self.owner_id and not r.is_deleted]
            self.apply(alive, page.unreadable, in_order=False, is_reread=True, kind=kind)

    def nominate_departed(self, ids: Sequence[str]) -> list[str]:
        """Ask about these Ids and nominate those that have left; return the ones that are still the user's."""
        still_here: list[str] = []
        for kind, chunk in by_kind(ids):
            self.stop_if_asked()
            sightings = self.client_for_call().fetch_sightings(chunk, kind)
            still_here += departures.nominate_departed(self.context, chunk, sightings)
            self.run.save()
            self.reset_counts()
        return still_here


def by_kind(ids: Sequence[str]) -> Iterator[tuple[RecordKind, list[str]]]:
    """Yield Ids of contacts and of Leads, in chunks of one kind."""
    for kind in RecordKind:
        for chunk in in_chunks([each for each in ids if kind_of(each) == kind]):
            yield kind, chunk
