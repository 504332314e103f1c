"""One sync run, from claim to ending.

Contacts page after page, then who left, then the balance. Each page is one transaction with its counters and checkpoint, and
no transaction is open while Salesforce is asked. `ending` owns every way a run can end.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from functools import cached_property

from sqlalchemy import update

from asapp.connections import app_refusals
from asapp.contacts.addresses import address_key
from asapp.contacts.lists import ensure_system_lists
from asapp.contacts.suppressions import Firm, earlier_firms
from asapp.contacts.twins import lock_advisor
from asapp.core import logs
from asapp.core.bulk import in_chunks
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, retry_when_beaten
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.core.stopping import StopRequested
from asapp.messages.codes import Code
from asapp.models import Connection, Partner, RunPhase, RunStatus, SyncRun, User
from asapp.salesforce import errors
from asapp.salesforce.client import OrgClient
from asapp.salesforce.fields import is_more
from asapp.salesforce.records import ContactPage, ContactRecord, Opening, Unreadable
from asapp.sync import departures, recipients, settle, store, sweep
from asapp.sync import leads as following
from asapp.sync.apply_page import apply_page
from asapp.sync.endings import ending, enqueueing_next_parked
from asapp.sync.meter import RunMeter
from asapp.sync.recipients import RecipientsToCheck
from asapp.sync.run_context import JobContext, RunContext
from asapp.sync.runs import (
    claim_run,
    end_run,
    lock_run,
    write_under_lease,
)
from asapp.sync.schedule import next_sync_at
from asapp.sync.watermark import OVERLAP, next_window, resume_point, sure_until

log = logging.getLogger(__name__)

TIME_SLICE_S = 240.0  # then the run is handed back at its checkpoint, so that deploys and other firms don't wait
SWEEP_EVERY = timedelta(days=1)
MAX_CONFIRMATIONS = 3
MAX_REOPENINGS = 20  # of one window, after expired locators
MAX_READINGS_AGAIN = 5  # each from its beginning, after expired locators
CHECKPOINT_EVERY_S = 30.0  # how often a long sweep marks how far it has come
CHECKPOINT_EVERY_IDS = 50_000


def execute_run(run_id: int, job: JobContext) -> None:
    """Run a queued run, or do nothing if somebody else has it. Errors of ours are raised after the ending is written."""
    run = claim_run(run_id)
    if run is None or run.lease is None:
        log.info("run is not waiting", extra={"run_id": run_id})
        return
    partner_id = run.connection.partner_id
    ids = {"run_id": run_id, "connection_id": run.connection_id, "partner_id": partner_id}
    with (
        logs.about(**ids),
        enqueueing_next_parked(partner_id, job),
        ending(run.id, run.lease, run.connection_id, job),
    ):
        Execution(run, run.lease, job).go()


class Execution:
    client: OrgClient  # while the run is carried out

    def __init__(self, run: SyncRun, lease: str, job: JobContext) -> None:
        connection, partner = run.connection, run.connection.partner
        self.run, self.partner_id = run, partner.id
        self.lease = lease
        self.connection = connection
        self.owner_id = connection.salesforce_user_id
        self.opt_out_field = partner.opt_out_field
        self.time_slice_ends_at = time.monotonic() + TIME_SLICE_S
        self.job = job
        self.meter = RunMeter(db.engine, run.id, lease, partner.id, job.should_stop)
        self.interval_minutes = partner.sync_interval_minutes or job.default_interval_minutes
        self.paused_until = partner.paused_until  # as it was when this worker took the run
        self.trusted = timedelta(days=partner.opt_outs_trusted_days)
        self.leads: following.Leads = None  # as the last opening of the window brought them
        self.leads_asked_at = self.recipients_asked_at = utcnow()
        self.reads_all_opted_out = False  # of the user's Leads
        self._noted: dict[str, object] = {}  # of the run, to be written
        self._ledger_counts: departures.LedgerCounts | None = None  # None: something has moved it since it was taken

    def go(self) -> None:
        """Carry the run out from where it is; raises for whatever `ending` ends it."""
        with self.job.access.open(self.connection, self.meter) as self.client:
            self.run_phases()

    def run_phases(self) -> None:
        self.fix_window()
        owned = self.read_contacts()
        owned, swept = self.nominate_departures(owned)
        to_check = self.check_recipients()
        held = self.settle()
        wants_sweep = swept or bool(self.run.is_full)
        if wants_sweep:
            settle.match_blocked_addresses(self.run, self.context())
        follow = following.FollowContext(
            self.run,
            self.context(),
            self.client_for_call,
            self.save,
            self.lock,
            self.leads_asked_at,
            wants_sweep,
            self.reads_all_opted_out,
            to_check.lead_ids if to_check else (),
        )
        if following.has_much_to_follow(self.leads, follow):
            self.save(phase=RunPhase.BALANCING)
        leads_trouble = following.follow(self.connection, self.leads, follow)
        self.finish(owned, swept, held, leads_trouble, to_check)

    def client_for_call(self) -> OrgClient:
        """Return the client, with no transaction open: nothing may wait on a lock while Salesforce is asked."""
        db.session.commit()
        return self.client

    def fix_window(self) -> None:
        """Fix the window once; a resumed run keeps it."""
        run, connection = self.run, self.connection
        self.client.know_fields(run.opt_out_field or connection.opt_out_field_read, connection.lead_fields_read)
        if run.is_full is None or (run.opt_out_field or "").split(",")[0] != self.opt_out_field:
            if self.is_check_due():
                self.client_for_call().find_visible_fields()
            window = next_window(connection, self.client.contact_fields.key)
            if window is None:
                ensure_system_lists(connection.user_id)
            self.record_known(
                window_start=window,
                is_full=window is None,
                opt_out_field=self.client.contact_fields.key,
                asked_at=None,
                opened_at=None,
                checkpoint_stamp=None,
                checkpoint_id=None,
                sure_stamp=None,
                sure_id=None,
                sweep_after_id=None,
                swept=None,
            )

    def read_contacts(self) -> int:
        """Read the window's rows from the checkpoint on; return how many contacts the user has in Salesforce."""
        for _ in range(MAX_REOPENINGS):
            opening = self.open_window()
            try:
                self.apply_pages(opening.page)
            except errors.LocatorExpired:
                continue
            return opening.owned
        raise errors.TryLater(Code.LOCATOR_EXPIRED)

    def open_window(self) -> Opening:
        run = self.run
        after, before = resume_point(run)
        window_start, is_full = run.window_start, bool(run.is_full)
        has_more_fields = is_more(self.client.lead_fields.key, self.connection.lead_fields_read)
        leads = following.window_of(self.connection, is_full or has_more_fields, self.is_check_due())
        self.reads_all_opted_out = leads.opted_out_since is None
        self.leads_asked_at = utcnow()
        opening = self.client_for_call().open_contacts(self.owner_id, window_start, after, not is_full, leads, before)
        self.leads = opening.leads
        first = run.opened_at is None
        self.save(
            phase=RunPhase.CONTACTS,
            total=run.read + opening.page.total,
            opt_out_field=self.client.contact_fields.key,  # one may have turned out to be hidden
            **({"asked_at": opening.asked_at, "opened_at": opening.answered_at} if first else {}),
        )
        return opening

    def apply_pages(self, page: ContactPage, *, in_order: bool = True) -> None:
        """Store a page and those behind it; each is read while the one before is stored."""
        while True:
            self.stop_if_asked(may_end_time_slice=in_order)  # only a reading in order goes on where it was
            coming = self.client_for_call().next_page_ahead(page.next_path) if page.next_path else None
            self.apply(page.records, page.unreadable, in_order)
            if coming is None:
                return
            page = coming.result()

    def apply(self, records: list[ContactRecord], unreadable: list[Unreadable], in_order: bool) -> None:
        if records or unreadable:
            context = self.context()
            retry_when_beaten(
                db.session(), lambda: apply_page(self.run, context, records, unreadable, in_order=in_order)
            )
            self._ledger_counts = None

    @property
    def ledger_counts(self) -> departures.LedgerCounts:
        if self._ledger_counts is None:
            self._ledger_counts = departures.count_ledger(self.connection.id)
        return self._ledger_counts

    def nominate_departures(self, owned: int) -> tuple[int, bool]:
        """Nominate who left without a row; return (contacts in Salesforce as last counted, was there a sweep)."""
        if owned == self.ledger_counts.expected and not self.ledger_counts.departures and not self.wants_sweep(owned):
            return owned, False
        self.save(phase=RunPhase.DEPARTURES)
        if owned != self.ledger_counts.expected and self.run.swept is None:
            owned = self.read_changes_again()
        swept = False
        if self.wants_sweep(owned):
            owned, swept = self.sweep(), True
        self.confirm_earlier()
        return owned, swept

    def read_changes_again(self) -> int:
        """Read what changed since this run began; the counts may differ only because Salesforce moved on."""
        opened_at = self.run.opened_at
        if opened_at is None:
            raise ValueError("the window was never opened")
        for _ in range(MAX_READINGS_AGAIN):
            opening = self.client_for_call().open_contacts(self.owner_id, opened_at - OVERLAP, None, with_deleted=True)
            try:
                self.apply_pages(opening.page, in_order=False)
            except errors.LocatorExpired:
                continue
            return opening.owned
        raise errors.TryLater(Code.LOCATOR_EXPIRED)

    def wants_sweep(self, owned: int) -> bool:
        connection = self.connection
        if owned != self.ledger_counts.expected or connection.sweep_wanted or self.run.swept is not None:
            return True
        if self.run.is_full:
            return False  # it has just read everybody
        return self.is_check_due()

    def is_check_due(self) -> bool:
        """Is it time for the daily look at what no stamp tells: who is visible, and which fields are?"""
        swept_at = self.connection.swept_at
        return swept_at is None or utcnow() - swept_at > SWEEP_EVERY

    def sweep(self) -> int:
        """Compare every Id and opt-out with the ledger; return how many contacts there are.

        Nobody is nominated before the last page has come. A long sweep marks how far it is, and another slice goes on there.
        """
        seen: set[str] = set()  # since the last mark
        to_read: list[str] = []
        saved_at = time.monotonic()
        self.save(swept=self.run.swept or 0)
        after_id = self.run.sweep_after_id
        for rows in self.client_for_call().iter_sweep(self.owner_id, after_id):
            seen.update(salesforce_id for salesforce_id, _ in rows)
            to_read += self.find_differing(rows)
            self.stop_if_asked()
            if rows and (len(seen) >= CHECKPOINT_EVERY_IDS or time.monotonic() - saved_at > CHECKPOINT_EVERY_S):
                self.save_sweep_checkpoint(rows[-1][0], seen, to_read)
                seen, to_read, saved_at = set(), [], time.monotonic()
        to_read += self.nominate_departed(sweep.find_unswept(self.context(), seen))
        to_read += sweep.find_returned(self.context(), seen)
        self.read_by_id(to_read)
        return (self.run.swept or 0) + len(seen)

    def find_differing(self, rows: list[tuple[str, bool]]) -> list[str]:
        """Return the Ids of a sweep's page that the ledger doesn't know, or knows with another opt-out."""
        ledger = store.find_ledger(self.connection.id, [salesforce_id for salesforce_id, _ in rows])
        db.session.commit()
        return [
            salesforce_id
            for salesforce_id, opted_out in rows
            if salesforce_id not in ledger or (ledger[salesforce_id][0] == "opted_out") != opted_out
        ]

    def save_sweep_checkpoint(self, last_id: str, seen: set[str], to_read: list[str]) -> None:
        """Read what differs, and write down that everything up to this Id has been seen."""
        self.read_by_id(to_read)
        lock_run(self.run.id, self.lease)
        store.record_swept(self.connection.id, self.run.id, seen)
        self.save(sweep_after_id=last_id, swept=(self.run.swept or 0) + len(seen))

    def confirm_earlier(self) -> None:
        """Ask again about departures that an earlier run found and this one may apply.

        Who turns out to be here again may open a proposal that had been discarded, which is then asked about as well.
        """
        for _ in range(MAX_CONFIRMATIONS):
            self.lock()
            departures.reopen_discarded(self.connection.id)
            ids = departures.find_to_confirm(self.context())
            if not ids:
                return
            self.read_by_id(self.nominate_departed(ids))

    def nominate_departed(self, ids: list[str]) -> list[str]:
        """Nominate those of these Ids that have left; return those who are still the user's."""
        still_here: list[str] = []
        for chunk in in_chunks(ids):
            self.stop_if_asked()
            sightings = self.client_for_call().fetch_sightings(chunk)
            still_here += departures.nominate_departed(self.context(), chunk, sightings)
            self.save()
            self._ledger_counts = None
        return still_here

    def read_by_id(self, ids: list[str]) -> None:
        """Read these records as if a page had brought them; those that left meanwhile are left to the next run."""
        for chunk in in_chunks(ids):
            self.stop_if_asked()
            page = self.client_for_call().contacts_by_id(chunk)
            alive = [r for r in page.records if r.owner_id == self.owner_id and not r.is_deleted]
            self.apply(alive, page.unreadable, in_order=False)

    def check_recipients(self) -> RecipientsToCheck | None:
        """Ask about each recipient of the sends that wait for this run, and take over what differs; return what was checked."""
        asked_at = utcnow()
        to_check = recipients.find_to_check(self.run.id, self.connection, asked_at)
        if to_check is None:
            return None
        self.recipients_asked_at = asked_at
        stored = recipients.find_stored(self.connection.id, to_check.contact_ids)
        client = self.client_for_call()
        found = recipients.retrieve(client, self.job.access, self.connection, self.meter, list(stored))
        left = [each for each, now in found.items() if now is None or now.owner_id != self.owner_id]
        changed = [
            each
            for each, now in found.items()
            if now is not None and now.owner_id == self.owner_id and (now.email, now.is_opted_out) != stored[each]
        ]
        self.read_by_id([*changed, *self.nominate_departed(left)])
        return to_check

    def settle(self) -> bool:
        """Apply the departures, or hold them; return whether they are held."""
        if not self.ledger_counts.departures and not self.run.nominated:
            return False
        held = settle.settle(self.run, self.context(), self.stop_if_asked)
        self._ledger_counts = None
        return held

    def finish(
        self,
        owned: int,
        swept: bool,
        held: bool,
        leads_trouble: errors.SalesforceError | None,
        checked: RecipientsToCheck | None = None,
    ) -> None:
        """Write the ending, and what the next run starts from, in one transaction."""
        expected = self.ledger_counts.expected
        retry_when_beaten(db.session(), lambda: self._finish(owned, expected, swept, held, leads_trouble, checked))
        log.info("run held" if held else "run complete")

    def _finish(
        self,
        owned: int,
        expected: int,
        swept: bool,
        held: bool,
        leads_trouble: errors.SalesforceError | None,
        checked: RecipientsToCheck | None,
    ) -> None:
        now = utcnow()
        run = self.run
        self.record_usage(now)
        connection = db.session.get(
            Connection, self.connection.id, populate_existing=True, with_for_update={"key_share": True}
        )
        if connection is None:  # deleted with its firm
            db.session.rollback()
            raise LeaseLost
        connection.watermark = run.opened_at
        connection.opt_out_field_read = run.opt_out_field
        connection.first_synced_at = connection.first_synced_at or now
        connection.last_good_sync_at = now
        connection.opt_outs_known_until = now + self.trusted
        if leads_trouble is None:
            connection.lead_fields_read = self.client.lead_fields.key
        following.record_known(connection, leads_trouble, run.opened_at, now + self.trusted)
        connection.salesforce_count = owned
        app_refusals.record_answers_again(db.session(), connection)
        connection.failures_in_a_row, connection.last_failure = 0, None
        connection.next_sync_at = next_sync_at(now, self.interval_minutes)
        connection.sweep_wanted = owned != expected
        if swept or run.is_full:
            connection.swept_at = now
        if checked is not None and leads_trouble is None:
            recipients.record_checked(checked, run.id, self.recipients_asked_at)
        db.session.flush()  # the connection before the run, which is the lock order
        end_run(run, self.lease, RunStatus.HELD if held else RunStatus.COMPLETE, phase=RunPhase.BALANCING)

    def record_usage(self, now: datetime) -> None:
        """Write down the firm's figures, and end the pause that this run has shown to be over; not one that began meanwhile."""
        firm = update(Partner).where(Partner.id == self.partner_id)
        if self.paused_until is not None:
            is_the_same = Partner.paused_until == self.paused_until
            change_rows(db.session, firm.where(is_the_same).values(paused_until=None, paused_why=None))
        if self.client.usage:
            used, allowed = self.client.usage
            change_rows(db.session, firm.values(org_calls_used=used, org_calls_allowed=allowed, org_calls_seen_at=now))

    def stop_if_asked(self, *, may_end_time_slice: bool = True) -> None:
        if self.job.should_stop():
            raise StopRequested
        if may_end_time_slice and time.monotonic() > self.time_slice_ends_at:
            raise StopRequested

    def record_known(self, **values: object) -> None:
        """Set these of the run now; the next write() brings them to its row."""
        for name, value in values.items():
            setattr(self.run, name, value)
        self._noted |= values

    def lock(self) -> None:
        """Take the advisor's row and the run's before leads or contacts are written."""
        lock_advisor(self.connection.user_id)
        lock_run(self.run.id, self.lease)

    def save(self, **values: object) -> None:
        """Write to the run and its row, and commit."""
        write_under_lease(self.run, self.lease, **self._noted | values)
        self._noted = {}
        db.session.commit()

    @cached_property
    def address_key(self) -> bytes:
        return address_key(db.session(), db.session.get_one(Partner, self.partner_id), self.job.access.vault)

    @cached_property
    def earlier_firms(self) -> list[Firm]:
        user = db.session.get_one(User, self.connection.user_id)
        return earlier_firms(user, self.partner_id, self.job.access.vault)

    def context(self) -> RunContext:
        return RunContext(
            run_id=self.run.id,
            lease=self.lease,
            connection_id=self.connection.id,
            user_id=self.connection.user_id,
            owner_id=self.owner_id,
            address_key=self.address_key,
            partner_id=self.partner_id,
            earlier_firms=self.earlier_firms,
            window_start=self.run.window_start,
            asked_at=self.run.asked_at or utcnow(),
            sure_until=sure_until(self.run.opened_at or utcnow()),
        )
