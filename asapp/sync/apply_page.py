"""Pages of Salesforce contacts, or open Leads, into the database: rows, ledger, counters and checkpoint in one transaction.

A transaction holds the pages that have come, and ends after the one with which COMMIT_EVERY_S have passed: progress moves, and
on SQLite, where one process writes at a time, others wait no longer than that (docs/decisions/21-pages-in-groups.md).

What is stored of a page's records is read at once, judged row by row in memory (sync/row_rules.py), and only what changed is
written, in bulk. Applying a page twice changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from asapp.contacts.addresses import address_hash
from asapp.contacts.suppressions import Firm, carry_over
from asapp.contacts.tombstones import NO_MARKS, Marks, delete_hidden, mark_erased, marks_of
from asapp.core.clock import utcnow
from asapp.models import ContactSource, LedgerOutcome, Reason
from asapp.models.run import Also, Skipped, SyncRun
from asapp.models.search import search_key
from asapp.salesforce.records import ContactRecord, RecordKind, Unreadable
from asapp.sync import store
from asapp.sync.row_rules import CREATED, SYNCED, Becomes, RowClass, RowVerdict, StoredContact, judge
from asapp.sync.run_context import ALSO, RunContext, add_counts, change_row
from asapp.sync.twin_changes import TwinChanges

COMMIT_EVERY_S = 1.0

COUNTED = (
    RowClass.DEACTIVATED,
    RowClass.REACTIVATED,
    RowClass.CREATED,
    RowClass.UPDATED,
    RowClass.ADOPTED,
    RowClass.UNCHANGED,
)
# Plain texts, cheap for every driver.
OUTCOMES = {outcome: outcome.value for outcome in LedgerOutcome}
SOURCES = {RecordKind.CONTACT: str(ContactSource.SALESFORCE), RecordKind.LEAD: str(ContactSource.SALESFORCE_LEAD)}


@dataclass
class PageWork:
    """What one page changes, gathered in memory. Lists hold rows for the tables, or Salesforce Ids."""

    counted_before: int = 0  # rows that this run has read and counted already
    classes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    also: Counter[str] = field(default_factory=Counter)
    inserts: list[dict[str, Any]] = field(default_factory=list)
    removed_inserts: list[dict[str, Any]] = field(default_factory=list)  # of people who were deleted or erased here
    hidden_again: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)  # known as erased by their address alone, until now
    updates: list[dict[str, Any]] = field(default_factory=list)
    adoptions: list[dict[str, Any]] = field(default_factory=list)
    opt_outs: list[dict[str, Any]] = field(default_factory=list)  # of rows that can't be read otherwise
    stamps: list[dict[str, Any]] = field(default_factory=list)
    ledger_inserts: list[dict[str, Any]] = field(default_factory=list)
    ledger_updates: list[dict[str, Any]] = field(default_factory=list)
    ledger_deletes: list[str] = field(default_factory=list)
    departures: list[dict[str, Any]] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)  # departures that turned out to be the user's after all
    changes: list[dict[str, Any]] = field(default_factory=list)
    hashes: set[bytes] = field(default_factory=set)  # addresses whose twins may have changed
    now: datetime = field(default_factory=utcnow)

    def add_hash(self, hashed: bytes | None) -> None:
        if hashed is not None:
            self.hashes.add(hashed)


@dataclass(frozen=True)
class StoredRows:
    """What is stored of a page's records, by Salesforce Id."""

    contacts: Mapping[str, StoredContact]
    ledger: Mapping[str, store.InLedger]
    departures: Mapping[str, int]  # the run that found it
    manual: dict[bytes, list[int]]  # address hash -> contacts made by hand
    tombstones: Marks  # of people who were deleted or erased here
    signed_up: Set[str] = frozenset()  # Leads that stand for people from the sign-up page: their contact is here


class PageRows(NamedTuple):
    """The rows of a page, parsed."""

    records: Sequence[ContactRecord]
    unreadable: Sequence[Unreadable] = ()


def apply_pages(context: RunContext, pages: Sequence[PageRows], *, in_order: bool, is_reread: bool) -> int:
    """Store pages and commit; return how many were stored before the time was up. Raises LeaseLost.

    in_order: they may move the checkpoint. is_reread: this run may have read the rows before.
    """
    began_at = time.monotonic()
    context.lock()
    figures = figures_of(context.run.row)
    stored = 0
    for page in pages:
        figures |= apply_page(context, page, figures, in_order=in_order, is_reread=is_reread)
        stored += 1
        if time.monotonic() - began_at >= COMMIT_EVERY_S:
            break
    context.run.save(**figures)
    return stored


def apply_page(
    context: RunContext, page: PageRows, figures: Mapping[str, Any], *, in_order: bool, is_reread: bool
) -> dict[str, Any]:
    """Store a page in the caller's transaction, which has locked the run; return the run's new figures."""
    records, unreadable = page
    mine = [record for record in records if record.owner_id == context.owner_id]
    # A row that moved within the query while it was read may come twice in one page; the last is the newest.
    latest = {record.id: record for record in mine}
    hashes = {record.id: address_hash(record.email, context.address_key) for record in latest.values() if record.email}
    if context.earlier_firms:
        here = Firm(context.partner_id, context.address_key)
        carry_over(
            context.user_id, here, context.earlier_firms, [record.email for record in latest.values() if record.email]
        )
    work = PageWork()
    work.skipped[Skipped.NOT_YOURS] += len(records) - len(mine)
    work.classes[RowClass.UNCHANGED] += len(mine) - len(latest)
    stored = find_stored_rows(context, latest.values(), hashes)
    applier = PageApplier(context, stored, hashes, work, is_reread=is_reread)
    for record in latest.values():
        applier.apply(record)
    skip_unreadable(context, work, [row for row in unreadable if row.id not in latest], len(unreadable))
    write_page(context, work)
    return new_figures(context, figures, records, work, in_order)


def find_stored_rows(context: RunContext, records: Iterable[ContactRecord], hashes: Mapping[str, bytes]) -> StoredRows:
    ids = [record.id for record in records]
    contacts = store.find_contacts(context.connection_id, context.user_id, ids)
    new_hashes = {hashed for salesforce_id, hashed in hashes.items() if salesforce_id not in contacts}
    are_all_known = len(contacts) == len(ids)
    return StoredRows(
        contacts=contacts,
        ledger=store.find_ledger(context.connection_id, ids),
        departures=store.find_departures(context.connection_id, ids),
        manual=store.find_manual(context.user_id, new_hashes),
        tombstones=NO_MARKS if are_all_known else marks_of(context.user_id),
        signed_up=store.find_signed_up(context.connection_id, ids) if context.kind == RecordKind.LEAD else frozenset(),
    )


class PageApplier:
    """Classifies the records of a page one by one, and collects what they change in `work`.

    hashes: of the records' addresses, by Salesforce Id. is_reread: the rows are read outside the window's order, so that the
    window may have brought them already.
    """

    def __init__(
        self, context: RunContext, stored: StoredRows, hashes: Mapping[str, bytes], work: PageWork, *, is_reread: bool
    ) -> None:
        self.context = context
        self.stored = stored
        self.hashes = hashes
        self.work = work
        self.is_reread = is_reread
        self.may_be_known = bool(
            stored.ledger or stored.departures or stored.manual or stored.signed_up or stored.tombstones != NO_MARKS
        )

    def apply(self, record: ContactRecord) -> None:
        known, hashed = self.stored.contacts.get(record.id), self.hashes.get(record.id)
        verdict = judge(record, known, hashed)
        if verdict.row_class is CREATED and not self.may_be_known and verdict.becomes is not None:
            # Nearly every row of a first sync. What follows would do the same, by many more steps.
            self.work.ledger_inserts.append(ledger_row(record.id, SYNCED, None))
            self.work.inserts.append(new_values(verdict.becomes, record, hashed, self.work.now))
            self.work.classes[CREATED] += 1
            return
        if verdict.row_class == RowClass.NOMINATED:
            self._nominate(record, verdict)
            return
        if record.id in self.stored.departures and not record.is_deleted:
            self.work.returned.append(record.id)
        is_news = self._update_ledger(record, verdict)
        if self.is_reread and not is_news and self._was_counted(record, known, verdict):
            self.work.counted_before += 1
            return
        becomes = verdict.becomes
        if becomes is None:
            if known is not None and not record.is_deleted:
                self._follow_unchanged(record, known)
        elif known is None:
            verdict = self._create(record, verdict, becomes)
        else:
            self._change(record, known, verdict, becomes)
        if verdict.row_class == RowClass.SKIPPED:
            self.work.skipped[str(verdict.reason)] += 1
        else:
            self.work.classes[verdict.row_class] += 1

    def _follow_unchanged(self, record: ContactRecord, known: StoredContact) -> None:
        """Store what a record that changes nothing else says: its stamp, its person account, whether its consent is hidden."""
        account_id = None if known.is_erased else record.account_id
        is_consent_hidden = known.opted_out and record.is_consent_hidden
        now = (record.system_modstamp, account_id, is_consent_hidden)
        if now != (known.system_modstamp, known.account_id, known.is_consent_hidden):
            names = ("system_modstamp", "account_id", "consent_hidden")
            self.work.stamps.append({"b_id": known.contact_id, **dict(zip(names, now, strict=True))})

    def _nominate(self, record: ContactRecord, verdict: RowVerdict) -> None:
        """Record a departure; a row that is read twice in one run is counted once, at the end."""
        if self.stored.departures.get(record.id) == self.context.run_id:
            if self.is_reread and self._is_in_window(record):
                self.work.counted_before += 1
            else:
                self.work.classes[RowClass.UNCHANGED] += 1
            return
        self.work.classes[RowClass.NOMINATED] += 1
        self.work.departures.append(
            {
                "connection_id": self.context.connection_id,
                "salesforce_id": record.id,
                "reason": verdict.reason,
                "merged_into": record.master_record_id,
                "found_in_run_id": self.context.run_id,
                "was_read": True,
                "owner_id": None,
                "owner_name": None,
                "opted_out": record.is_opted_out,
                "consent_hidden": record.is_consent_hidden,
            }
        )

    def _update_ledger(self, record: ContactRecord, verdict: RowVerdict) -> bool:
        """Collect what changes in the ledger; return whether anything does."""
        work, before = self.work, self.stored.ledger.get(record.id)
        if verdict.outcome is None:
            if before is not None:
                work.ledger_deletes.append(record.id)
                work.add_hash(before[1])
            return before is not None
        is_out = verdict.outcome == LedgerOutcome.OPTED_OUT
        kept_hash = self.hashes.get(record.id) if is_out else None
        now = (verdict.outcome, kept_hash, is_out and record.is_consent_hidden)
        if before is None:
            work.ledger_inserts.append(ledger_row(record.id, *now))
        elif before != now:
            work.ledger_updates.append(ledger_row(record.id, *now))
            work.add_hash(before[1])
        else:
            return False
        work.add_hash(kept_hash)
        return True

    def _was_counted(self, record: ContactRecord, known: StoredContact | None, verdict: RowVerdict) -> bool:
        """Has the window brought this very row before, in this run? Then it is not counted as read again."""
        if verdict.becomes is not None or not self._is_in_window(record):
            return False
        if known is None:
            return record.system_modstamp < self.context.asked_at
        return record.is_deleted or record.system_modstamp == known.system_modstamp

    def _is_in_window(self, record: ContactRecord) -> bool:
        return self.context.window_start is None or record.system_modstamp >= self.context.window_start

    def _create(self, record: ContactRecord, verdict: RowVerdict, becomes: Becomes) -> RowVerdict:
        """Make a row for a record that has none, or adopt one; return the verdict as it turned out."""
        tombstones, hashed = self.stored.tombstones, self.hashes.get(record.id)
        if tombstones.is_erased(record.id, hashed):
            return self._create_erased(record, verdict)
        if record.id in self.stored.signed_up:
            return verdict._replace(row_class=RowClass.SKIPPED, reason=Skipped.SIGNED_UP)
        if record.id in tombstones.hidden_ids:
            return self._create_hidden(record, verdict, becomes)
        values = new_values(becomes, record, hashed, self.work.now)
        candidates = self.stored.manual.get(hashed) if hashed else None
        if not candidates:
            self.work.inserts.append(values)
            return verdict
        contact_id = candidates.pop(0)  # made by hand with this address: it becomes this record's
        self.work.add_hash(hashed)
        self.work.adoptions.append(values | identity(self.context) | {"b_id": contact_id})
        self.work.changes.append(change_row(self.context, contact_id, RowClass.ADOPTED))
        return verdict._replace(row_class=RowClass.ADOPTED)

    def _create_hidden(self, record: ContactRecord, verdict: RowVerdict, becomes: Becomes) -> RowVerdict:
        """The advisor deleted this contact before its row was removed with a connection: it comes back hidden, to be restored."""
        values = new_values(becomes, record, self.hashes.get(record.id), self.work.now)
        hidden_at = self.stored.tombstones.hidden_ids[record.id]
        self.work.removed_inserts.append(values | {"hidden_at": hidden_at, "erased_at": None})
        self.work.hidden_again.append(record.id)
        return verdict._replace(row_class=RowClass.SKIPPED, reason=Skipped.HIDDEN_HERE)

    def _create_erased(self, record: ContactRecord, verdict: RowVerdict) -> RowVerdict:
        """This person was erased here on request: a blank row stands for the record, and nothing of it is stored."""
        blank = Becomes("", "", "", opted_out=False, departed=None)
        removed = {"account_id": None, "hidden_at": self.work.now, "erased_at": self.work.now}
        self.work.removed_inserts.append(new_values(blank, record, None, self.work.now) | removed)
        if record.id not in self.stored.tombstones.erased_ids:
            self.work.erased.append(record.id)
        return verdict._replace(row_class=RowClass.SKIPPED, reason=Skipped.ERASED_HERE)

    def _change(self, record: ContactRecord, known: StoredContact, verdict: RowVerdict, becomes: Becomes) -> None:
        work, hashed = self.work, self.hashes.get(record.id) if becomes.email else None
        if hashed != known.address_hash:
            work.add_hash(known.address_hash)
            work.add_hash(hashed)
        values = changed_values(becomes, record, hashed, work.now)
        values["consent_hidden"] = becomes.opted_out and record.is_consent_hidden  # no newcomer is opted out
        values["merged_into"] = record.master_record_id if becomes.departed == Reason.MERGED else None
        values["opt_out_known_until"] = None  # it has just been read
        work.updates.append({"b_id": known.contact_id, **values})
        old, new = difference(known, becomes)
        work.changes.append(change_row(self.context, known.contact_id, verdict.row_class, verdict.reason, old, new))


def identity(context: RunContext) -> dict[str, Any]:
    """Return what is the same in all contacts that a run makes of records, or takes over for them."""
    return {"connection_id": context.connection_id, "source": SOURCES[context.kind]}


def new_values(becomes: Becomes, record: ContactRecord, hashed: bytes | None, now: datetime) -> dict[str, Any]:
    """Return the row of a new contact, without what is the same in all."""
    first_name, last_name, email, opted_out, departed, bounced_at, bounce_reason, bounced_hash = becomes
    return {
        "salesforce_id": record.id,
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "search_key": search_key(first_name, last_name, email),
        "opted_out": opted_out,
        "departed": departed,
        "bounced_at": bounced_at,
        "bounce_reason": bounce_reason,
        "bounced_hash": bounced_hash,
        "address_hash": hashed,
        "account_id": record.account_id,
        "system_modstamp": record.system_modstamp,
        "changed_at": now,
    }


def changed_values(becomes: Becomes, record: ContactRecord, hashed: bytes | None, now: datetime) -> dict[str, Any]:
    """Return the columns to set in a contact that is here."""
    values = new_values(becomes, record, hashed, now)
    del values["salesforce_id"]
    return values


def difference(known: StoredContact, becomes: Becomes) -> tuple[dict[str, str], dict[str, str]]:
    """Return the old and the new values of the fields that changed; those of a contact without an email are not kept."""
    if becomes.departed is not None or known.is_without_email:
        return {}, {}
    names = [name for name in ("first_name", "last_name", "email") if getattr(known, name) != getattr(becomes, name)]
    return {name: getattr(known, name) for name in names}, {name: getattr(becomes, name) for name in names}


def ledger_row(
    salesforce_id: str, outcome: LedgerOutcome, kept_hash: bytes | None, is_consent_hidden: bool = False
) -> dict[str, Any]:
    return {
        "salesforce_id": salesforce_id,
        "outcome": OUTCOMES[outcome],
        "address_hash": kept_hash,
        "consent_hidden": is_consent_hidden,
    }


def skip_unreadable(context: RunContext, work: PageWork, unreadable: Sequence[Unreadable], number: int) -> None:
    """Count rows that can't be read: `number` of them, with those that also came readable.

    A new one enters the ledger, so that the balance is right. Opting out counts although the rest can't be read.
    """
    work.skipped[Skipped.UNREADABLE] += number
    rows = {row.id: row for row in unreadable if row.id is not None}
    if not rows:
        return
    contacts = store.find_contacts(context.connection_id, context.user_id, rows)
    ledger = store.find_ledger(context.connection_id, rows)
    for salesforce_id, row in rows.items():
        known = contacts.get(salesforce_id)
        outcome = LedgerOutcome.OPTED_OUT if row.is_opted_out else LedgerOutcome.NO_EMAIL
        if known is not None and not known.departed and row.is_opted_out and not known.opted_out:
            work.opt_outs.append({"b_id": known.contact_id, "opted_out": True, "changed_at": work.now})
            work.ledger_updates.append(ledger_row(salesforce_id, outcome, known.address_hash))
            work.add_hash(known.address_hash)
            work.also[Also.OPTED_OUT] += 1
            work.changes.append(change_row(context, known.contact_id, ALSO, Also.OPTED_OUT))
        elif known is None and salesforce_id not in ledger:
            kept_hash = address_hash(row.email, context.address_key) if row.email and row.is_opted_out else None
            work.ledger_inserts.append(ledger_row(salesforce_id, outcome, kept_hash))
            work.add_hash(kept_hash)


def write_page(context: RunContext, work: PageWork) -> None:
    """Write what the page changes, in bulk, in the caller's transaction."""
    twins = TwinChanges(context, work.hashes, are_moving=bool(work.updates or work.adoptions))
    store.insert_ledger(context.connection_id, context.user_id, work.ledger_inserts)
    store.upsert_ledger(context.connection_id, context.user_id, work.ledger_updates)
    store.delete_from_ledger(context.connection_id, work.ledger_deletes)
    # Filling one index in order is kinder to the database's cache than filling two at random.
    work.inserts.sort(key=itemgetter("search_key"))
    of_all = identity(context) | {
        "user_id": context.user_id,
        "created_in_run_id": context.run_id,
        "created_at": work.now,
    }
    store.insert_contacts(work.inserts, of_all)
    store.insert_contacts(work.removed_inserts, of_all)
    delete_hidden(context.user_id, work.hidden_again)
    mark_erased(context.user_id, work.erased)
    store.update_contacts(work.updates)
    store.update_contacts(work.adoptions)
    store.update_contacts(work.opt_outs)
    store.update_contacts(work.stamps)
    store.upsert_departures(work.departures)
    store.withdraw_departures(context.connection_id, work.returned)
    work.also += twins.record()
    store.insert_changes(work.changes)


def figures_of(run: SyncRun) -> dict[str, Any]:
    """Return the figures of a run that a page changes."""
    return {name: getattr(run, name) for name in (*COUNTED, "nominated", "read", "total", "skipped", "also")}


def new_figures(
    context: RunContext, before: Mapping[str, Any], records: Sequence[ContactRecord], work: PageWork, in_order: bool
) -> dict[str, Any]:
    """Return the run's figures after a page, with its checkpoint if the page came in order."""
    values: dict[str, Any] = {name: before[name] + work.classes[name] for name in COUNTED}
    values["nominated"] = before["nominated"] + work.classes[RowClass.NOMINATED]
    values["read"] = before["read"] + len(records) + work.skipped[Skipped.UNREADABLE] - work.counted_before
    values["total"] = max(before["total"] or 0, values["read"])
    values["skipped"] = add_counts(before["skipped"], work.skipped)
    values["also"] = add_counts(before["also"], work.also)
    if in_order:
        values |= checkpoint(context, records)
    return values


def checkpoint(context: RunContext, records: Sequence[ContactRecord]) -> dict[str, Any]:
    """Return the last row in order; rows stamped from asked_at on were changed while we read, and never move it."""
    sure = last_before(context.sure_until, records)
    if context.kind == RecordKind.LEAD:
        return {"leads_stamp": sure.system_modstamp, "leads_id": sure.id} if sure else {}
    last = last_before(context.asked_at, records)
    moved = {"checkpoint_stamp": last.system_modstamp, "checkpoint_id": last.id} if last else {}
    return moved | ({"sure_stamp": sure.system_modstamp, "sure_id": sure.id} if sure else {})


def last_before(moment: datetime, records: Sequence[ContactRecord]) -> ContactRecord | None:
    return next((record for record in reversed(records) if record.system_modstamp < moment), None)
