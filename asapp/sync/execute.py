"""One sync run, from claim to ending.

Contacts page after page, then departures, then open Leads if they come in, then the leads that are followed, then the balance.
Each page is one transaction with its counters and checkpoint. sync/endings.py writes every ending but the good ones, which
`finish` writes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from asapp.connections import app_refusals
from asapp.connections.api_budget import record_usage
from asapp.contacts import salesforce_lists
from asapp.contacts.lists import ensure_system_lists
from asapp.contacts.queries import count_active_contacts
from asapp.contacts.salesforce_lists import Campaigns
from asapp.core import logs
from asapp.core.bulk import in_chunks
from asapp.core.clock import utcnow
from asapp.core.database import retry_when_beaten
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.messages.codes import Code
from asapp.models import Connection, RunPhase, RunStatus
from asapp.salesforce import errors
from asapp.salesforce.fields import key_of
from asapp.salesforce.records import LeadsFound, Opening, RecordKind
from asapp.sync import departures, leads, list_members, open_leads, opening, recipient_check, settle
from asapp.sync.departure_check import Checked, DepartureCheck
from asapp.sync.endings import ending, enqueueing_next_parked
from asapp.sync.interval import find_interval
from asapp.sync.leads import LeadFollower, Leads
from asapp.sync.open_leads import OpenLeads
from asapp.sync.opening import known_by
from asapp.sync.reader import ContactReader
from asapp.sync.recipient_check import RecipientsToCheck, StoredRecipient
from asapp.sync.run_context import JobContext
from asapp.sync.runs import LeasedRun, claim_run
from asapp.sync.schedule import next_sync_at
from asapp.sync.sweep import is_daily_check_due
from asapp.sync.watermark import next_window, resume_point

log = logging.getLogger(__name__)

NO_CHECKPOINT = dict.fromkeys(
    ("checkpoint_stamp", "checkpoint_id", "sure_stamp", "sure_id", "leads_stamp", "leads_id", "sweep_after_id", "swept")
)
MAX_REOPENINGS = 20  # of one window, after expired locators


def execute_run(run_id: int, job: JobContext) -> None:
    """Carry out a queued run, or do nothing if it isn't queued any more. Our bugs are raised after the ending is written."""
    run = claim_run(run_id)
    if run is None:
        log.info("run is not waiting", extra={"run_id": run_id})
        return
    partner_id = run.row.connection.partner_id
    ids = {"run_id": run_id, "connection_id": run.row.connection_id, "partner_id": partner_id}
    with logs.about(**ids), enqueueing_next_parked(partner_id, job), ending(run, job):
        Execution(run, job).go()


@dataclass(frozen=True)
class Window:
    """What a run reads: its rows from this stamp on, or all of them. is_new: no query has opened it yet."""

    start: datetime | None
    is_new: bool

    @property
    def is_full(self) -> bool:
        return self.start is None

    @property
    def values(self) -> dict[str, Any]:
        """Return the columns of a run that begins with this window."""
        return NO_CHECKPOINT | {"window_start": self.start, "is_full": self.is_full}


@dataclass
class Reading:
    """What a run has found out so far, from phase to phase."""

    owned: int = 0  # contacts that the user has in Salesforce, as last counted
    was_swept: bool = False
    is_held: bool = False
    leads: Leads = None  # as the last opening of the window brought them
    leads_asked_at: datetime = field(default_factory=utcnow)
    campaigns: Campaigns = field(default_factory=dict)  # as that opening saw them
    reads_all_opted_out: bool = False  # of the user's Leads
    open_leads: Checked | None = None  # None: they don't come in, or could not be read
    leads_error: errors.SalesforceError | None = None
    recipients: RecipientsToCheck | None = None
    recipients_asked_at: datetime = field(default_factory=utcnow)


class Execution:
    def __init__(self, run: LeasedRun, job: JobContext) -> None:
        self.connection = run.row.connection
        partner = self.connection.partner
        self.run = run
        self.job = job
        self.reader = ContactReader(run, job)
        self.opt_out_key = key_of(partner.opt_out_fields)
        self.paused_until = partner.paused_until  # as it was when this worker claimed the run
        self.trusted = timedelta(days=partner.opt_outs_trusted_days)

    def go(self) -> None:
        """Carry the run out from where it is. Raises what `ending` handles."""
        with self.job.access.open(self.connection, self.reader.meter) as self.reader.client:
            reading = Reading()
            self.read_contacts(reading, self.choose_window())
            self.nominate_departures(reading)
            self.check_recipients(reading)
            self.bring_in_leads(reading)
            self.follow_person_accounts()
            self.settle_departures(reading)
            self.follow_leads(reading)
            list_members.read(self.reader, reading.campaigns)
            self.finish(reading)

    # The phases

    def choose_window(self) -> Window:
        """Return what the run reads; a resumed run keeps it unless the partner's opt-out fields have changed."""
        run, client = self.run.row, self.reader.client
        client.know_fields(run.opt_out_field or self.connection.opt_out_field_read, self.connection.lead_fields_read)
        if run.is_full is not None and (run.opt_out_field or "").split(",")[0] == self.opt_out_key:
            return Window(run.window_start, is_new=False)
        if is_daily_check_due(self.connection):
            self.reader.client_for_call().find_visible_fields()
        window = Window(next_window(self.connection, client.contact_fields.key), is_new=True)
        if window.is_full:
            ensure_system_lists(self.connection.user_id)
        return window

    def read_contacts(self, reading: Reading, window: Window) -> None:
        """Read the window's rows from the checkpoint on."""
        for _ in range(MAX_REOPENINGS):
            answer = self.open_window(reading, window)
            window = replace(window, is_new=False)
            try:
                self.reader.apply_pages(answer.page)
            except errors.LocatorExpired:
                continue
            reading.owned = answer.owned
            return
        raise errors.TryLater(Code.LOCATOR_EXPIRED)

    def open_window(self, reading: Reading, window: Window) -> Opening:
        """Query the window's rows, and store with the answer what the run reads."""
        run, client = self.run.row, self.reader.client
        after, before = (None, None) if window.is_new else resume_point(run)
        of_leads = opening.leads_to_read(self.connection, client, is_full=window.is_full)
        reading.reads_all_opted_out = of_leads.opted_out_since is None
        reading.leads_asked_at = utcnow()
        campaigns = salesforce_lists.find_campaigns([self.connection.id], None).get(self.connection.id, {})
        answer = self.reader.client_for_call().open_contacts(
            self.reader.owner_id, window.start, after, of_leads, before, list(campaigns)
        )
        reading.leads, reading.campaigns = answer.leads, answer.campaigns or {}
        is_first = window.is_new or run.opened_at is None
        self.run.save(
            **(window.values if window.is_new else {}),
            phase=RunPhase.CONTACTS,
            total=run.read + answer.page.total,
            opt_out_field=client.contact_fields.key,  # one may have turned out to be hidden
            **({"asked_at": answer.asked_at, "opened_at": answer.answered_at} if is_first else {}),
        )
        return answer

    def nominate_departures(self, reading: Reading) -> None:
        """Nominate the contacts that have left without a row."""
        check = DepartureCheck(self.reader, RecordKind.CONTACT, is_full=bool(self.run.row.is_full))
        reading.owned, reading.was_swept = check.nominate(reading.owned)

    def bring_in_leads(self, reading: Reading) -> None:
        """Bring in the user's open Leads, if the firm wants them. What prevents it never prevents the contacts."""
        if not self.connection.partner.brings_in_open_leads:
            if self.reader.ledger_counts(RecordKind.LEAD).departures:
                departures.withdraw_leads(self.reader.context)
                self.reader.reset_counts()
            return
        if not isinstance(reading.leads, LeadsFound):
            return  # following the leads says why
        is_whole = open_leads.reads_all(self.connection, self.reader.client, is_full=bool(self.run.row.is_full))
        try:
            reading.open_leads = OpenLeads(self.reader, reading.leads, is_whole=is_whole).bring_in()
            if reading.recipients:
                self.check_by_id(reading.recipients.open_leads, RecordKind.LEAD)
        except leads.UNREADABLE as error:
            db.session.rollback()
            reading.open_leads, reading.leads_error = None, error

    def check_recipients(self, reading: Reading) -> None:
        """Ask about each recipient of the sends that wait for this run, and store what differs."""
        asked_at = utcnow()
        to_check = recipient_check.find_to_check(self.run.id, self.connection)
        if to_check is None:
            return
        reading.recipients, reading.recipients_asked_at = to_check, asked_at
        self.check_by_id(to_check.contacts, RecordKind.CONTACT)

    def check_by_id(self, stored: Mapping[str, StoredRecipient], kind: RecordKind) -> None:
        """Ask about these contacts or Leads, read those that differ, and nominate those that have left."""
        client = self.reader.client_for_call()
        found = recipient_check.retrieve(
            client, self.job.access, self.connection, self.reader.meter, list(stored), kind
        )
        departed: list[str] = []
        changed: list[str] = []
        for salesforce_id, now in found.items():
            if now is None or now.owner_id != self.reader.owner_id:
                departed.append(salesforce_id)
            elif (now.email, now.is_opted_out) != stored[salesforce_id]:
                changed.append(salesforce_id)
        self.reader.read_by_id([*changed, *self.reader.nominate_departed(departed)])

    def follow_person_accounts(self) -> None:
        """Ask what became of the accounts of persons who were deleted: a merge shows there."""
        if not self.reader.client.contact_fields.persons:
            return
        persons = departures.find_deleted_persons(self.reader.context)
        for chunk in in_chunks(persons):
            self.reader.stop_if_asked()
            asked = {salesforce_id: persons[salesforce_id] for salesforce_id in chunk}
            try:
                accounts = self.reader.client_for_call().find_accounts(list(asked.values()))
            except errors.Misconfigured:  # the user may not read accounts: then they count as deleted
                return
            departures.follow_accounts(self.reader.context, asked, accounts)

    def settle_departures(self, reading: Reading) -> None:
        """Apply the departures, or hold them."""
        if any(self.reader.ledger_counts(kind).departures for kind in RecordKind) or self.run.row.nominated:
            reading.is_held = settle.settle(self.reader.context, self.reader.stop_if_asked)
            self.reader.reset_counts()

    def follow_leads(self, reading: Reading) -> None:
        """Store what became of the leads; a whole reading also brings the blocked addresses in line."""
        is_whole = reading.was_swept or bool(self.run.row.is_full)
        if is_whole:
            settle.match_blocked_addresses(self.reader.context)
        follower = LeadFollower(
            self.reader,
            asked_at=reading.leads_asked_at,
            is_whole=is_whole,
            reads_all_opted_out=reading.reads_all_opted_out,
            to_check=reading.recipients.lead_ids if reading.recipients else (),
        )
        if follower.has_much_to_do(reading.leads):
            self.run.save(phase=RunPhase.BALANCING)
        reading.leads_error = reading.leads_error or follower.follow(reading.leads)

    def finish(self, reading: Reading) -> None:
        """Write the ending, and what the next run starts from, in one transaction."""
        expected = {kind: self.reader.ledger_counts(kind).expected for kind in RecordKind}
        retry_when_beaten(db.session(), lambda: self._finish(reading, expected))
        log.info("run held" if reading.is_held else "run complete")

    def _finish(self, reading: Reading, expected: Mapping[RecordKind, int]) -> None:
        now = utcnow()
        run = self.run.row
        record_usage(db.session(), self.connection.partner_id, self.reader.client.usage, self.paused_until, now)
        app_refusals.log_warning(db.session(), self.connection.partner_id, self.reader.client.warning, now)
        connection = db.session.get(
            Connection, self.connection.id, populate_existing=True, with_for_update={"key_share": True}
        )
        if connection is None:  # deleted with its partner
            db.session.rollback()
            raise LeaseLost
        if run.opened_at is None:
            raise ValueError("the window was never opened")
        for name, value in known_by(run.opened_at, reading.leads_error, now, self.trusted).items():
            setattr(connection, name, value)
        connection.opt_out_field_read = run.opt_out_field
        connection.first_synced_at = connection.first_synced_at or now
        if reading.leads_error is None:
            connection.lead_fields_read = self.reader.client.lead_fields.key
        open_leads.record_known(connection, reading.leads_error, reading.open_leads)
        connection.salesforce_count = reading.owned
        app_refusals.record_answers_again(db.session(), connection)
        connection.failures_in_a_row, connection.last_failure = 0, None
        interval = find_interval(db.session(), connection.partner_id, self.job.default_interval_minutes)
        connection.next_sync_at = next_sync_at(now, interval.minutes)
        connection.end_lease()  # a check that began before knows less
        counted = {RecordKind.CONTACT: reading.owned} | (
            {RecordKind.LEAD: reading.open_leads.owned} if reading.open_leads else {}
        )
        connection.sweep_wanted = any(count != expected[kind] for kind, count in counted.items())
        if reading.was_swept or run.is_full:
            connection.swept_at = now
        if reading.recipients is not None and reading.leads_error is None:
            asked_at = reading.recipients_asked_at
            if not recipient_check.has_newcomers(reading.recipients, asked_at):  # else another run asks about them
                recipient_check.record_checked(reading.recipients, run.id, asked_at)
        db.session.flush()  # the connection before the run, which is the lock order
        figures = {"active_after": count_active_contacts(connection.user_id, now)}
        if reading.is_held:
            figures["held"] = departures.count_held(connection.id)
        self.run.end(RunStatus.HELD if reading.is_held else RunStatus.COMPLETE, phase=RunPhase.BALANCING, **figures)
