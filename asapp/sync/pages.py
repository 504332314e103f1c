"""A page of Salesforce contacts into the database: rows, ledger, counters and checkpoint in one transaction.

What is known of the page's records is read at once, judged row by row in memory (sync/classes.py), and only what changed is
written, in bulk. Applying a page twice changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from asapp.clock import utcnow
from asapp.contacts.addresses import address_hash
from asapp.contacts.twins import opted_out_hashes, refresh_twins, take_turns
from asapp.extensions import db
from asapp.models import ContactSource, Outcome, Reason, SyncRun
from asapp.models.search import search_key
from asapp.salesforce.records import ContactRecord
from asapp.sync import store
from asapp.sync.classes import Also, Becomes, Known, RowClass, Skipped, Verdict, judge
from asapp.sync.runs import write_under_lease

COUNTED = (
    RowClass.DEACTIVATED,
    RowClass.REACTIVATED,
    RowClass.CREATED,
    RowClass.UPDATED,
    RowClass.ADOPTED,
    RowClass.UNCHANGED,
)
SALESFORCE = str(ContactSource.SALESFORCE)  # a plain text, cheap for every driver
ALSO = "also"  # changed without having been read


@dataclass(frozen=True)
class Pull:
    """What stays the same for all pages of a run."""

    run_id: int
    lease: str
    connection_id: int
    user_id: int
    owner_id: str  # the connected Salesforce user
    address_key: bytes
    window_start: datetime | None  # None: everything is read
    asked_at: datetime  # rows stamped from here on stand out of order
    sure_until: datetime  # rows stamped from here on may
    # Address hashes that may have opted out: all that have, and perhaps some that no longer have. Most newcomers are
    # cleared by a look at it, without asking the database.
    maybe_opted_out: set[bytes]


@dataclass
class PageWork:
    """What one page changes, gathered in memory. is_again: its rows are read beside the window, or once more."""

    is_again: bool = False
    counted_before: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    also: Counter[str] = field(default_factory=Counter)
    inserts: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    adoptions: list[dict[str, Any]] = field(default_factory=list)
    stamps: list[dict[str, Any]] = field(default_factory=list)
    ledger_new: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    ledger_drops: list[str] = field(default_factory=list)
    departures: list[dict[str, Any]] = field(default_factory=list)
    came_back: list[str] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    hashes: set[bytes] = field(default_factory=set)  # addresses whose twins may have changed
    now: datetime = field(default_factory=utcnow)

    def note_hash(self, hashed: bytes | None) -> None:
        if hashed is not None:
            self.hashes.add(hashed)


@dataclass(frozen=True)
class Surroundings:
    """What is stored of a page's records."""

    contacts: Mapping[str, Known]
    ledger: Mapping[str, tuple[str, bytes | None]]
    departures: Mapping[str, int]  # Salesforce Id -> the run that found it
    manual: dict[bytes, list[int]]  # address hash -> contacts made by hand


def apply_page(run: SyncRun, pull: Pull, records: Sequence[ContactRecord], *, in_order: bool = True) -> None:
    """Store a page and commit; raise LeaseLost if the run isn't ours any more. in_order: it may move the checkpoint."""
    mine = [record for record in records if record.owner_id == pull.owner_id]
    # A row that moved within the query while it was read may come twice in one page; the last is the newest.
    latest = {record.id: record for record in mine}
    hashes = {record.id: address_hash(record.email, pull.address_key) for record in latest.values() if record.email}
    take_turns(pull.user_id)
    around = look_around(pull, latest.values(), hashes)
    work = PageWork(is_again=not in_order)
    work.skipped[Skipped.NOT_YOURS] += len(records) - len(mine)
    work.classes[RowClass.UNCHANGED] += len(mine) - len(latest)
    for record in latest.values():
        take(record, hashes.get(record.id), pull, around, work)
    write(pull, work)
    write_under_lease(run, pull.lease, **counters(run, pull, records, work, in_order))
    db.session.commit()


def look_around(pull: Pull, records: Iterable[ContactRecord], hashes: Mapping[str, bytes]) -> Surroundings:
    ids = [record.id for record in records]
    contacts = store.find_known(pull.connection_id, ids)
    newcomers = {hashed for salesforce_id, hashed in hashes.items() if salesforce_id not in contacts}
    return Surroundings(
        contacts=contacts,
        ledger=store.find_ledger(pull.connection_id, ids),
        departures=store.find_departures(pull.connection_id, ids),
        manual=store.find_manual(pull.user_id, newcomers),
    )


def take(record: ContactRecord, hashed: bytes | None, pull: Pull, around: Surroundings, work: PageWork) -> None:
    """Judge one record and note what it changes. hashed: of its address."""
    known = around.contacts.get(record.id)
    verdict = judge(record, known)
    if verdict.row_class == RowClass.NOMINATED:
        nominate(record, verdict, pull, around, work)
        return
    if record.id in around.departures and not record.is_deleted:
        work.came_back.append(record.id)
    is_news = note_ledger(record, verdict, hashed, around, work)
    if work.is_again and not is_news and was_counted(record, known, verdict, pull):
        work.counted_before += 1
        return
    if known is None and verdict.becomes is not None:
        verdict = create_or_adopt(record, verdict, verdict.becomes, hashed, pull, around, work)
    elif known is not None and verdict.becomes is not None:
        change(record, known, verdict, verdict.becomes, hashed, pull, work)
    elif known is not None and not record.is_deleted and record.system_modstamp != known.system_modstamp:
        work.stamps.append({"b_id": known.contact_id, "system_modstamp": record.system_modstamp})
    if verdict.row_class == RowClass.SKIPPED:
        work.skipped[str(verdict.reason)] += 1
    else:
        work.classes[verdict.row_class] += 1


def was_counted(record: ContactRecord, known: Known | None, verdict: Verdict, pull: Pull) -> bool:
    """Has the window brought this very row before, in this run? Then it is no further row read."""
    if verdict.becomes is not None or not is_in_window(record, pull):
        return False
    if known is None:
        return record.system_modstamp < pull.asked_at
    return record.is_deleted or record.system_modstamp == known.system_modstamp


def is_in_window(record: ContactRecord, pull: Pull) -> bool:
    return pull.window_start is None or record.system_modstamp >= pull.window_start


def nominate(record: ContactRecord, verdict: Verdict, pull: Pull, around: Surroundings, work: PageWork) -> None:
    """Write a departure down; a row read twice in one run is counted once, at the end."""
    if around.departures.get(record.id) == pull.run_id:
        if work.is_again and is_in_window(record, pull):
            work.counted_before += 1
        else:
            work.classes[RowClass.UNCHANGED] += 1
        return
    work.classes[RowClass.NOMINATED] += 1
    work.departures.append(
        {
            "connection_id": pull.connection_id,
            "salesforce_id": record.id,
            "reason": verdict.reason,
            "merged_into": record.master_record_id,
            "found_in_run_id": pull.run_id,
            "was_read": True,
            "opted_out": record.is_opted_out,
        }
    )


def note_ledger(
    record: ContactRecord, verdict: Verdict, hashed: bytes | None, around: Surroundings, work: PageWork
) -> bool:
    """Note what changes in the ledger; return whether anything does."""
    before = around.ledger.get(record.id)
    if verdict.outcome is None:
        if before is not None:
            work.ledger_drops.append(record.id)
            work.note_hash(before[1])
        return before is not None
    kept_hash = hashed if verdict.outcome == Outcome.OPTED_OUT else None
    if before is None:
        work.ledger_new.append(entry_of(record, verdict.outcome, kept_hash))
    elif before != (verdict.outcome, kept_hash):
        work.ledger.append(entry_of(record, verdict.outcome, kept_hash))
        work.note_hash(before[1])
    else:
        return False
    work.note_hash(kept_hash)
    return True


def entry_of(record: ContactRecord, outcome: str, kept_hash: bytes | None) -> dict[str, Any]:
    return {"salesforce_id": record.id, "outcome": str(outcome), "address_hash": kept_hash}


def create_or_adopt(
    record: ContactRecord,
    verdict: Verdict,
    becomes: Becomes,
    hashed: bytes | None,
    pull: Pull,
    around: Surroundings,
    work: PageWork,
) -> Verdict:
    """A contact made by hand with this address becomes this record's; else a new contact is made."""
    values = contact_values(becomes, record, hashed, work.now)
    values["connection_id"] = pull.connection_id
    values["salesforce_id"] = record.id
    values["source"] = SALESFORCE
    candidates = around.manual.get(hashed) if hashed else None
    if candidates:
        contact_id = candidates.pop(0)
        work.note_hash(hashed)
        values["b_id"] = contact_id
        work.adoptions.append(values)
        work.changes.append(changed(pull, contact_id, RowClass.ADOPTED, None, {}, {}))
        return verdict._replace(row_class=RowClass.ADOPTED)
    values["user_id"] = pull.user_id
    values["created_in_run_id"] = pull.run_id
    values["created_at"] = work.now
    work.inserts.append(values)
    return verdict


def change(
    record: ContactRecord,
    known: Known,
    verdict: Verdict,
    becomes: Becomes,
    hashed: bytes | None,
    pull: Pull,
    work: PageWork,
) -> None:
    if not becomes.email:
        hashed = None
    if hashed != known.address_hash:
        work.note_hash(hashed)
    values = contact_values(becomes, record, hashed, work.now)
    if hashed is None:
        values["twin_opted_out"] = False
    else:
        values["twin_opted_out"] = known.twin_opted_out if hashed == known.address_hash else False
    values["merged_into"] = record.master_record_id if becomes.departed == Reason.MERGED else None
    values["opt_out_known_until"] = None  # it has just been read
    work.updates.append({"b_id": known.contact_id, **values})
    old, new = difference(known, becomes)
    work.changes.append(changed(pull, known.contact_id, verdict.row_class, verdict.reason, old, new))


def contact_values(becomes: Becomes, record: ContactRecord, hashed: bytes | None, now: datetime) -> dict[str, Any]:
    return {
        "first_name": becomes.first_name,
        "last_name": becomes.last_name,
        "email": becomes.email,
        "search_key": search_key(becomes.first_name, becomes.last_name, becomes.email),
        "opted_out": becomes.opted_out,
        "departed": becomes.departed,
        "address_hash": hashed,
        "system_modstamp": record.system_modstamp,
        "changed_at": now,
    }


def difference(known: Known, becomes: Becomes) -> tuple[dict[str, str], dict[str, str]]:
    """Return the old and the new values of the fields that changed; a shell's are not kept."""
    if becomes.departed is not None or known.is_shell:
        return {}, {}
    names = [name for name in ("first_name", "last_name", "email") if getattr(known, name) != getattr(becomes, name)]
    return {name: getattr(known, name) for name in names}, {name: getattr(becomes, name) for name in names}


def changed(
    pull: Pull, contact_id: int, kind: str, reason: str | None, old: dict[str, str], new: dict[str, str]
) -> dict[str, Any]:
    return {
        "run_id": pull.run_id,
        "contact_id": contact_id,
        "kind": kind,
        "reason": reason,
        "old": old or None,
        "new": new or None,
    }


def write(pull: Pull, work: PageWork) -> None:
    """Write what the page changes, in bulk, in the caller's transaction."""
    pull.maybe_opted_out.update(work.hashes)
    store.insert_ledger(pull.connection_id, work.ledger_new)
    store.upsert_ledger(pull.connection_id, work.ledger)
    store.drop_ledger(pull.connection_id, work.ledger_drops)
    mark_new_twins(pull, work.inserts)
    work.inserts.sort(
        key=itemgetter("search_key")
    )  # one index after the other is kinder to the cache than two at random
    store.insert_contacts(work.inserts)
    store.update_contacts(work.updates)
    store.update_contacts(work.adoptions)
    store.update_contacts(work.stamps)
    store.upsert_departures(work.departures)
    store.take_back_departures(pull.connection_id, work.came_back)
    also, changes = flip_twins(pull, work.hashes)
    work.also += also
    store.insert_changes(work.changes + changes)


def mark_new_twins(pull: Pull, inserts: Sequence[dict[str, Any]]) -> None:
    """A new contact whose address has opted out on another record begins as a twin."""
    candidates = pull.maybe_opted_out.intersection(row["address_hash"] for row in inserts)
    taken = opted_out_hashes(pull.user_id, candidates)
    for row in inserts:
        row["twin_opted_out"] = row["address_hash"] in taken


def flip_twins(pull: Pull, hashes: set[bytes]) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Decide again who is a twin among these addresses; return what that switched of contacts from before this run."""
    if not hashes:
        return Counter(), []
    flips = refresh_twins(pull.user_id, pull.connection_id, hashes)
    switched = store.find_switched_by_twins(pull.run_id, (*flips.off_ids, *flips.on_ids))
    off = [contact_id for contact_id in flips.off_ids if contact_id in switched]
    on = [contact_id for contact_id in flips.on_ids if contact_id in switched]
    changes = [changed(pull, contact_id, ALSO, Reason.TWIN_OPTED_OUT, {}, {}) for contact_id in off]
    changes += [changed(pull, contact_id, ALSO, Also.TWIN_BACK, {}, {}) for contact_id in on]
    return Counter({Reason.TWIN_OPTED_OUT: len(off), Also.TWIN_BACK: len(on)}), changes


def counters(
    run: SyncRun, pull: Pull, records: Sequence[ContactRecord], work: PageWork, in_order: bool
) -> dict[str, Any]:
    """Return the run's new figures after a page."""
    values: dict[str, Any] = {name: getattr(run, name) + work.classes[name] for name in COUNTED}
    values["nominated"] = run.nominated + work.classes[RowClass.NOMINATED]
    values["read"] = run.read + len(records) - work.counted_before
    values["total"] = max(run.total or 0, values["read"])
    values["skipped"] = added(run.skipped, work.skipped)
    values["also"] = added(run.also, work.also)
    if in_order:
        values |= checkpoint(records, pull)
    return values


def checkpoint(records: Sequence[ContactRecord], pull: Pull) -> dict[str, Any]:
    """Return the last row in order; rows stamped from asked_at on were changed while we read, and never move it."""
    last, sure = last_before(pull.asked_at, records), last_before(pull.sure_until, records)
    moved = {"checkpoint_stamp": last.system_modstamp, "checkpoint_id": last.id} if last else {}
    return moved | ({"sure_stamp": sure.system_modstamp, "sure_id": sure.id} if sure else {})


def last_before(moment: datetime, records: Sequence[ContactRecord]) -> ContactRecord | None:
    return next((record for record in reversed(records) if record.system_modstamp < moment), None)


def added(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {key: count for key, count in (Counter(before) + Counter(more)).items() if count}
