"""A page of Salesforce contacts into the database: rows, ledger, counters and checkpoint in one transaction.

What is known of the page's records is read at once, judged row by row in memory (sync/row_rules.py), and only what changed is
written, in bulk. Applying a page twice changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from asapp.contacts.addresses import address_hash
from asapp.contacts.suppressions import Firm, carry_over
from asapp.contacts.tombstones import NO_MARKS, Marks, delete_hidden, mark_erased, marks_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import ContactSource, LedgerOutcome, Reason, SyncRun
from asapp.models.run import Also, Skipped
from asapp.models.search import search_key
from asapp.salesforce.records import ContactRecord, Unreadable
from asapp.sync import store
from asapp.sync.row_rules import Becomes, RowClass, RowVerdict, StoredContact, judge
from asapp.sync.run_context import ALSO, RunContext, add_counts, change_row, lock
from asapp.sync.runs import write_under_lease
from asapp.sync.twin_changes import TwinWatch

COUNTED = (
    RowClass.DEACTIVATED,
    RowClass.REACTIVATED,
    RowClass.CREATED,
    RowClass.UPDATED,
    RowClass.ADOPTED,
    RowClass.UNCHANGED,
)
SALESFORCE = str(ContactSource.SALESFORCE)  # a plain text, cheap for every driver


@dataclass
class PageWork:
    """What one page changes, gathered in memory. is_again: its rows are read beside the window, or once more."""

    is_reread: bool = False
    counted_before: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    also: Counter[str] = field(default_factory=Counter)
    inserts: list[dict[str, Any]] = field(default_factory=list)
    with_tombstones: list[dict[str, Any]] = field(
        default_factory=list
    )  # as inserts, of people who were deleted or erased here
    hidden_again: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)  # known as erased by their address alone, until now
    updates: list[dict[str, Any]] = field(default_factory=list)
    adoptions: list[dict[str, Any]] = field(default_factory=list)
    opt_outs: list[dict[str, Any]] = field(default_factory=list)  # of rows that can't be read otherwise
    stamps: list[dict[str, Any]] = field(default_factory=list)
    ledger_new: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    ledger_deletes: list[str] = field(default_factory=list)
    departures: list[dict[str, Any]] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    hashes: set[bytes] = field(default_factory=set)  # addresses whose twins may have changed
    now: datetime = field(default_factory=utcnow)

    def add_hash(self, hashed: bytes | None) -> None:
        if hashed is not None:
            self.hashes.add(hashed)


@dataclass(frozen=True)
class StoredRows:
    """What is stored of a page's records."""

    contacts: Mapping[str, StoredContact]
    ledger: Mapping[str, tuple[str, bytes | None]]
    departures: Mapping[str, int]  # Salesforce Id -> the run that found it
    manual: dict[bytes, list[int]]  # address hash -> contacts made by hand
    tombstones: Marks  # of people who were deleted or erased here


def apply_page(
    run: SyncRun,
    context: RunContext,
    records: Sequence[ContactRecord],
    unreadable: Sequence[Unreadable] = (),
    *,
    in_order: bool = True,
) -> None:
    """Store a page and commit; raise LeaseLost if the run isn't ours any more. in_order: it may move the checkpoint."""
    mine = [record for record in records if record.owner_id == context.owner_id]
    # A row that moved within the query while it was read may come twice in one page; the last is the newest.
    latest = {record.id: record for record in mine}
    hashes = {record.id: address_hash(record.email, context.address_key) for record in latest.values() if record.email}
    lock(context)
    if context.earlier_firms:
        here, emails = (
            Firm(context.partner_id, context.address_key),
            [record.email for record in latest.values() if record.email],
        )
        carry_over(context.user_id, here, context.earlier_firms, emails)
    stored = find_stored_rows(context, latest.values(), hashes)
    work = PageWork(is_reread=not in_order)
    work.skipped[Skipped.NOT_YOURS] += len(records) - len(mine)
    work.classes[RowClass.UNCHANGED] += len(mine) - len(latest)
    for record in latest.values():
        apply_record(record, hashes.get(record.id), context, stored, work)
    skip_unreadable([row for row in unreadable if row.id not in latest], len(unreadable), context, work)
    write_page(context, work)
    write_under_lease(run, context.lease, **new_figures(run, context, records, work, in_order))
    db.session.commit()


def skip_unreadable(unreadable: Sequence[Unreadable], number: int, context: RunContext, work: PageWork) -> None:
    """Count rows that can't be read. A new one is in the ledger, so that the numbers agree; an opt-out counts all the same."""
    work.skipped[Skipped.UNREADABLE] += number
    rows = {row.id: row for row in unreadable if row.id is not None}
    if not rows:
        return
    contacts, ledger = (
        store.find_contacts(context.connection_id, context.user_id, rows),
        store.find_ledger(context.connection_id, rows),
    )
    for salesforce_id, row in rows.items():
        known, outcome = (
            contacts.get(salesforce_id),
            LedgerOutcome.OPTED_OUT if row.is_opted_out else LedgerOutcome.NO_EMAIL,
        )
        if known is not None and not known.departed and row.is_opted_out and not known.opted_out:
            work.opt_outs.append({"b_id": known.contact_id, "opted_out": True, "changed_at": work.now})
            work.ledger.append(
                {"salesforce_id": salesforce_id, "outcome": str(outcome), "address_hash": known.address_hash}
            )
            work.add_hash(known.address_hash)
            work.also[Also.OPTED_OUT] += 1
            work.changes.append(change_row(context, known.contact_id, ALSO, Also.OPTED_OUT, {}, {}))
        elif known is None and salesforce_id not in ledger:
            kept = address_hash(row.email, context.address_key) if row.email and row.is_opted_out else None
            work.ledger_new.append({"salesforce_id": salesforce_id, "outcome": str(outcome), "address_hash": kept})
            work.add_hash(kept)


def find_stored_rows(context: RunContext, records: Iterable[ContactRecord], hashes: Mapping[str, bytes]) -> StoredRows:
    ids = [record.id for record in records]
    contacts = store.find_contacts(context.connection_id, context.user_id, ids)
    newcomers = {hashed for salesforce_id, hashed in hashes.items() if salesforce_id not in contacts}
    is_everyone_known = len(contacts) == len(ids)
    return StoredRows(
        contacts=contacts,
        ledger=store.find_ledger(context.connection_id, ids),
        departures=store.find_departures(context.connection_id, ids),
        manual=store.find_manual(context.user_id, newcomers),
        tombstones=NO_MARKS if is_everyone_known else marks_of(context.user_id),
    )


def apply_record(
    record: ContactRecord, hashed: bytes | None, context: RunContext, stored: StoredRows, work: PageWork
) -> None:
    """Judge one record and note what it changes. hashed: of its address."""
    known = stored.contacts.get(record.id)
    verdict = judge(record, known, hashed)
    if verdict.row_class == RowClass.NOMINATED:
        nominate(record, verdict, context, stored, work)
        return
    if record.id in stored.departures and not record.is_deleted:
        work.returned.append(record.id)
    is_news = update_ledger(record, verdict, hashed, stored, work)
    if work.is_reread and not is_news and was_counted(record, known, verdict, context):
        work.counted_before += 1
        return
    if known is None and verdict.becomes is not None and stored.tombstones.is_erased(record.id, hashed):
        verdict = create_erased(record, verdict, context, work)
        work.erased += [] if record.id in stored.tombstones.erased_ids else [record.id]
    elif known is None and verdict.becomes is not None and record.id in stored.tombstones.hidden_ids:
        verdict = create_hidden(record, verdict, verdict.becomes, hashed, context, stored, work)
    elif known is None and verdict.becomes is not None:
        verdict = create_or_adopt(record, verdict, verdict.becomes, hashed, context, stored, work)
    elif known is not None and verdict.becomes is not None:
        change(record, known, verdict, verdict.becomes, hashed, context, work)
    elif known is not None and not record.is_deleted and record.system_modstamp != known.system_modstamp:
        work.stamps.append({"b_id": known.contact_id, "system_modstamp": record.system_modstamp})
    if verdict.row_class == RowClass.SKIPPED:
        work.skipped[str(verdict.reason)] += 1
    else:
        work.classes[verdict.row_class] += 1


def was_counted(record: ContactRecord, known: StoredContact | None, verdict: RowVerdict, context: RunContext) -> bool:
    """Has the window brought this very row before, in this run? Then it is no further row read."""
    if verdict.becomes is not None or not is_in_window(record, context):
        return False
    if known is None:
        return record.system_modstamp < context.asked_at
    return record.is_deleted or record.system_modstamp == known.system_modstamp


def is_in_window(record: ContactRecord, context: RunContext) -> bool:
    return context.window_start is None or record.system_modstamp >= context.window_start


def nominate(
    record: ContactRecord, verdict: RowVerdict, context: RunContext, stored: StoredRows, work: PageWork
) -> None:
    """Write a departure down; a row read twice in one run is counted once, at the end."""
    if stored.departures.get(record.id) == context.run_id:
        if work.is_reread and is_in_window(record, context):
            work.counted_before += 1
        else:
            work.classes[RowClass.UNCHANGED] += 1
        return
    work.classes[RowClass.NOMINATED] += 1
    work.departures.append(
        {
            "connection_id": context.connection_id,
            "salesforce_id": record.id,
            "reason": verdict.reason,
            "merged_into": record.master_record_id,
            "found_in_run_id": context.run_id,
            "was_read": True,
            "opted_out": record.is_opted_out,
        }
    )


def update_ledger(
    record: ContactRecord, verdict: RowVerdict, hashed: bytes | None, stored: StoredRows, work: PageWork
) -> bool:
    """Note what changes in the ledger; return whether anything does."""
    before = stored.ledger.get(record.id)
    if verdict.outcome is None:
        if before is not None:
            work.ledger_deletes.append(record.id)
            work.add_hash(before[1])
        return before is not None
    kept_hash = hashed if verdict.outcome == LedgerOutcome.OPTED_OUT else None
    if before is None:
        work.ledger_new.append(entry_of(record, verdict.outcome, kept_hash))
    elif before != (verdict.outcome, kept_hash):
        work.ledger.append(entry_of(record, verdict.outcome, kept_hash))
        work.add_hash(before[1])
    else:
        return False
    work.add_hash(kept_hash)
    return True


def entry_of(record: ContactRecord, outcome: str, kept_hash: bytes | None) -> dict[str, Any]:
    return {"salesforce_id": record.id, "outcome": str(outcome), "address_hash": kept_hash}


def create_or_adopt(
    record: ContactRecord,
    verdict: RowVerdict,
    becomes: Becomes,
    hashed: bytes | None,
    context: RunContext,
    stored: StoredRows,
    work: PageWork,
) -> RowVerdict:
    """A contact made by hand with this address becomes this record's; else a new contact is made."""
    values = contact_values(becomes, record, hashed, work.now) | identity(record, context)
    candidates = stored.manual.get(hashed) if hashed else None
    if candidates:
        contact_id = candidates.pop(0)
        work.add_hash(hashed)
        values["b_id"] = contact_id
        work.adoptions.append(values)
        work.changes.append(change_row(context, contact_id, RowClass.ADOPTED, None, {}, {}))
        return verdict._replace(row_class=RowClass.ADOPTED)
    work.inserts.append(new_row(values, context, work))
    return verdict


def create_hidden(
    record: ContactRecord,
    verdict: RowVerdict,
    becomes: Becomes,
    hashed: bytes | None,
    context: RunContext,
    stored: StoredRows,
    work: PageWork,
) -> RowVerdict:
    """The advisor deleted this contact here, and its row went with the connection's: it comes back deleted, to be restored."""
    values = contact_values(becomes, record, hashed, work.now) | identity(record, context)
    hidden_at = stored.tombstones.hidden_ids[record.id]
    work.with_tombstones.append(new_row(values, context, work) | {"hidden_at": hidden_at, "erased_at": None})
    work.hidden_again.append(record.id)
    return verdict._replace(row_class=RowClass.SKIPPED, reason=Skipped.HIDDEN_HERE)


def create_erased(record: ContactRecord, verdict: RowVerdict, context: RunContext, work: PageWork) -> RowVerdict:
    """This person was erased here on request: a blank row stands for the record, and nothing of it is stored."""
    blank = Becomes("", "", "", opted_out=False, departed=None)
    values = contact_values(blank, record, None, work.now) | identity(record, context)
    work.with_tombstones.append(new_row(values, context, work) | {"hidden_at": work.now, "erased_at": work.now})
    return verdict._replace(row_class=RowClass.SKIPPED, reason=Skipped.ERASED_HERE)


def identity(record: ContactRecord, context: RunContext) -> dict[str, Any]:
    return {"connection_id": context.connection_id, "salesforce_id": record.id, "source": SALESFORCE}


def new_row(values: dict[str, Any], context: RunContext, work: PageWork) -> dict[str, Any]:
    return values | {"user_id": context.user_id, "created_in_run_id": context.run_id, "created_at": work.now}


def change(
    record: ContactRecord,
    known: StoredContact,
    verdict: RowVerdict,
    becomes: Becomes,
    hashed: bytes | None,
    context: RunContext,
    work: PageWork,
) -> None:
    if not becomes.email:
        hashed = None
    if hashed != known.address_hash:
        work.add_hash(known.address_hash)
        work.add_hash(hashed)
    values = contact_values(becomes, record, hashed, work.now)
    values["merged_into"] = record.master_record_id if becomes.departed == Reason.MERGED else None
    values["opt_out_known_until"] = None  # it has just been read
    work.updates.append({"b_id": known.contact_id, **values})
    old, new = difference(known, becomes)
    work.changes.append(change_row(context, known.contact_id, verdict.row_class, verdict.reason, old, new))


def contact_values(becomes: Becomes, record: ContactRecord, hashed: bytes | None, now: datetime) -> dict[str, Any]:
    return {
        "first_name": becomes.first_name,
        "last_name": becomes.last_name,
        "email": becomes.email,
        "search_key": search_key(becomes.first_name, becomes.last_name, becomes.email),
        "opted_out": becomes.opted_out,
        "departed": becomes.departed,
        "bounced_at": becomes.bounced_at,
        "bounce_reason": becomes.bounce_reason,
        "bounced_hash": becomes.bounced_hash,
        "address_hash": hashed,
        "system_modstamp": record.system_modstamp,
        "changed_at": now,
    }


def difference(known: StoredContact, becomes: Becomes) -> tuple[dict[str, str], dict[str, str]]:
    """Return the old and the new values of the fields that changed; a shell's are not kept."""
    if becomes.departed is not None or known.is_without_email:
        return {}, {}
    names = [name for name in ("first_name", "last_name", "email") if getattr(known, name) != getattr(becomes, name)]
    return {name: getattr(known, name) for name in names}, {name: getattr(becomes, name) for name in names}


def write_page(context: RunContext, work: PageWork) -> None:
    """Write what the page changes, in bulk, in the caller's transaction."""
    twins = TwinWatch(context, work.hashes, are_moving=bool(work.updates or work.adoptions))
    store.insert_ledger(context.connection_id, context.user_id, work.ledger_new)
    store.upsert_ledger(context.connection_id, context.user_id, work.ledger)
    store.delete_from_ledger(context.connection_id, work.ledger_deletes)
    work.inserts.sort(
        key=itemgetter("search_key")
    )  # one index after the other is kinder to the cache than two at random
    store.insert_contacts(work.inserts)
    store.insert_contacts(work.with_tombstones)
    delete_hidden(context.user_id, work.hidden_again)
    mark_erased(context.user_id, work.erased)
    store.update_contacts(work.updates)
    store.update_contacts(work.adoptions)
    store.update_contacts(work.opt_outs)
    store.update_contacts(work.stamps)
    store.upsert_departures(work.departures)
    store.withdraw_departures(context.connection_id, work.returned)
    work.also += twins.record_changes()
    store.insert_changes(work.changes)


def new_figures(
    run: SyncRun, context: RunContext, records: Sequence[ContactRecord], work: PageWork, in_order: bool
) -> dict[str, Any]:
    """Return the run's new figures after a page."""
    values: dict[str, Any] = {name: getattr(run, name) + work.classes[name] for name in COUNTED}
    values["nominated"] = run.nominated + work.classes[RowClass.NOMINATED]
    values["read"] = run.read + len(records) + work.skipped[Skipped.UNREADABLE] - work.counted_before
    values["total"] = max(run.total or 0, values["read"])
    values["skipped"] = add_counts(run.skipped, work.skipped)
    values["also"] = add_counts(run.also, work.also)
    if in_order:
        values |= checkpoint(records, context)
    return values


def checkpoint(records: Sequence[ContactRecord], context: RunContext) -> dict[str, Any]:
    """Return the last row in order; rows stamped from asked_at on were changed while we read, and never move it."""
    last, sure = last_before(context.asked_at, records), last_before(context.sure_until, records)
    moved = {"checkpoint_stamp": last.system_modstamp, "checkpoint_id": last.id} if last else {}
    return moved | ({"sure_stamp": sure.system_modstamp, "sure_id": sure.id} if sure else {})


def last_before(moment: datetime, records: Sequence[ContactRecord]) -> ContactRecord | None:
    return next((record for record in reversed(records) if record.system_modstamp < moment), None)
