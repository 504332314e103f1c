"""What happened to an advisor's contacts, day by day.

Nothing of it is stored for its own sake. A sync leaves run_changes, and its id on the contacts that it created; an
unsubscribe leaves a suppression; a sign-up's Lead leaves consent events; a contact itself says when it was made or deleted
here. What a sync did counts when it ended. Only people who are shown are told about: not those who were erased, nor those
without an address. Runs are deleted after RUNS_KEPT_DAYS, and their changes with them.

Days are those of the reader's time zone (core/formats.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, and_, case, cast, func, literal, null, or_, select, union_all

from asapp.contacts.queries import matches
from asapp.contacts.status import is_shown, waits_for_review
from asapp.contacts.suppressions import of_advisor, of_firm
from asapp.core import formats
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.core.forms import whole_number
from asapp.messages.changes import ADOPTED_REASON, ChangeKind, details, what
from asapp.models import (
    Connection,
    ConsentEvent,
    ConsentKind,
    ConsentSource,
    Contact,
    ContactSource,
    Lead,
    Reason,
    RunChange,
    Suppression,
    SyncRun,
    User,
    Visit,
)
from asapp.models.contact import IS_EXCEPTION
from asapp.models.run import SWITCHED_ON, Also, Skipped
from asapp.panel.receipts import changed_fields, owner_in

DAYS_SHOWN = 7
OF_A_KIND = 5  # of each day, until all of that kind are asked for
A_PAGE = 50
ROWS_A_PIECE = 1000
COLUMNS = ("at", "what", "salesforce_id", "name", "email", "details", "field", "old", "new", "receipt")
KINDS = list(ChangeKind)

OPT_OUTS = (Reason.OPTED_OUT, Skipped.CONSENT_HIDDEN, Reason.TWIN_OPTED_OUT, Also.SUPPRESSED)

# Where an entry comes from; with the row's id it is the entry's key.
RUN, CREATED, MADE, HIDDEN, SUPPRESSED, CONSENT = range(6)


@dataclass(frozen=True)
class Wanted:
    """since: included; until: not. kind: one of ChangeKind, or "" for all. search: in name and address."""

    since: datetime
    until: datetime
    kind: str = ""
    search: str = ""


class Account(NamedTuple):
    """Whose changes: plain values, which outlive the request in a file that is sent piece by piece."""

    user_id: int
    partner_id: int | None

    @classmethod
    def of(cls, user: User) -> Account:
        return cls(user.id, user.partner_id)

    def has_run(self) -> ColumnElement[bool]:
        """Over SyncRun: is it of one of the account's connections with the present firm?"""
        theirs = (Connection.user_id == self.user_id, Connection.partner_id == self.partner_id)
        return SyncRun.connection_id.in_(select(Connection.id).where(*theirs))


class Key(NamedTuple):
    """The place of an entry in the order newest first."""

    at: datetime
    source: int
    row_id: int

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%dT%H:%M:%S.%fZ}~{self.source}~{self.row_id}"

    @classmethod
    def read(cls, text: str) -> Key | None:
        """Return the key that a link carries; None for anything else."""
        try:
            at, source, row_id = text.split("~")
            stamp = datetime.fromisoformat(at)
        except ValueError:
            return None
        place, number = whole_number(source, CONSENT), whole_number(row_id)
        return cls(stamp, place, number) if stamp.tzinfo and place is not None and number is not None else None


class Entry(NamedTuple):
    """One change. fields: (label, old, new) of each changed field. run_id: of the sync that saw it."""

    key: Key
    kind: str
    reason: str | None
    run_id: int | None
    contact_id: int
    name: str
    email: str
    salesforce_id: str | None
    fields: list[tuple[str, str, str]]
    owner: str = ""  # the new one's name, where a contact was given to another user

    @property
    def at(self) -> datetime:
        return self.key.at

    @property
    def what(self) -> str:
        return what(self.kind, self.reason)

    @property
    def details(self) -> str:
        words = details(self.kind, self.reason, self.owner)
        return words or ("" if self.fields else "Changed in Salesforce.")


class Day(NamedTuple):
    """entries: the first of each kind. tally: {kind: number} of all, in the order of ChangeKind."""

    date: date
    tally: Mapping[str, int]
    entries: Sequence[Entry]


class SinceVisit(NamedTuple):
    """What happened since a person's last visit. new_leads: sign-ups, also of people who were here before."""

    since: datetime
    tally: Mapping[str, int]
    new_leads: int

    @property
    def is_empty(self) -> bool:
        return not self.tally and not self.new_leads


def find_since_last_visit(user: User, now: datetime) -> SinceVisit | None:
    """Return what happened since the visit before this one; None if this is the first."""
    of_user = and_(
        Lead.user_id == user.id, Lead.partner_id == user.partner_id, Lead.signed_up_at >= Visit.last_ended_at
    )
    new_leads = select(func.count()).select_from(Lead).where(of_user).correlate(Visit).scalar_subquery()
    visit = db.session.execute(
        select(Visit.last_ended_at, new_leads.label("new_leads")).where(
            Visit.user_id == user.id, Visit.last_ended_at.is_not(None)
        )
    ).first()
    if visit is None:
        return None
    counts = tally(Account.of(user), Wanted(visit.last_ended_at, now))
    return SinceVisit(visit.last_ended_at, counts, visit.new_leads)


def of_day(day: date, wanted: Wanted) -> Wanted:
    return replace(wanted, since=formats.start_of(day), until=formats.start_of(day + timedelta(days=1)))


def between(first: date, last: date) -> Wanted:
    """Return what to ask for all changes of these days."""
    return Wanted(formats.start_of(first), formats.start_of(last + timedelta(days=1)))


def find_days(account: Account, first: date, last: date, counts: Sequence[ChangeCount]) -> list[Day]:
    """Return each of these days, the newest first, also those on which nothing changed.

    counts: of find_counts(), for these days at least.
    """
    tallies = {day: tally for day, tally in tally_by_day(counts).items() if first <= day <= last}
    entries: dict[date, list[Entry]] = {}
    if tallies:
        for entry in first_of_each(account, between(min(tallies), max(tallies)), sorted(tallies)):
            entries.setdefault(formats.day_of(entry.at), []).append(entry)
    days = [last - timedelta(days=back) for back in range((last - first).days + 1)]
    return [Day(day, tallies.get(day, {}), entries.get(day, ())) for day in days]


def find_last_day(account: Account, before: datetime) -> date | None:
    """Return the newest day with a change before this time."""
    wanted = Wanted(datetime.min.replace(tzinfo=before.tzinfo), before)
    is_theirs = _is_theirs_anyway(account, wanted)
    # Run by run from the newest, and only those that counted some: to find the last of all entries, all would be read.
    changed = select(RunChange.id).join(Contact, Contact.id == RunChange.contact_id).where(*is_theirs)
    created = select(Contact.id).where(*is_theirs, Contact.created_in_run_id == SyncRun.id)
    has_changes = or_(
        changed.where(RunChange.run_id == SyncRun.id).correlate(SyncRun).exists(),
        and_(SyncRun.created > 0, created.correlate(SyncRun).exists()),
    )
    of_runs = select(SyncRun.finished_at.label("at")).where(_is_of(account, wanted), has_changes)
    last_run = select(of_runs.order_by(SyncRun.finished_at.desc()).limit(1).subquery())
    others = (
        query.order_by(query.selected_columns.at.desc()).limit(1).subquery() for query in _beside_runs(account, wanted)
    )
    at = db.session.scalar(
        select(func.max(union_all(last_run, *(select(each.c.at) for each in others)).subquery().c.at))
    )
    return formats.day_of(at) if at is not None else None


class ChangeCount(NamedTuple):
    """number: of the changes of this kind that happened at this time, to the microsecond."""

    at: datetime
    kind: str
    number: int


def find_counts(account: Account, wanted: Wanted) -> list[ChangeCount]:
    """Return the counts of all kinds. Those that a sync created are counted run by run: it may be a whole book."""
    rows = union_all(*_beside_created(account, wanted)).subquery()
    counted = select(rows.c.at, rows.c.kind, func.count().label("number")).group_by(rows.c.at, rows.c.kind)
    created = select(SyncRun.finished_at, literal(ChangeKind.ADDED.value), _number_created(account, wanted)).where(
        _has_created(account, wanted)
    )
    found = db.session.execute(union_all(counted, created))
    return [ChangeCount._make(row) for row in found if row.number]


def _number_created(account: Account, wanted: Wanted) -> ColumnElement[int]:
    """Return, over SyncRun, how many contacts that are shown a run created.

    An index counts all; those who are not shown are among the exceptions, which have an index too.
    """
    created = select(func.count()).select_from(Contact).where(Contact.created_in_run_id == SyncRun.id)
    if wanted.search:
        return created.where(*_is_theirs_anyway(account, wanted)).correlate(SyncRun).scalar_subquery()
    hidden = created.where(Contact.user_id == account.user_id, IS_EXCEPTION, ~is_shown())
    number: ColumnElement[int] = (
        created.correlate(SyncRun).scalar_subquery() - hidden.correlate(SyncRun).scalar_subquery()
    )
    return number


def tally_by_day(counts: Sequence[ChangeCount]) -> dict[date, dict[str, int]]:
    found: dict[date, Counter[str]] = {}
    for at, kind, number in counts:
        found.setdefault(formats.day_of(at), Counter())[kind] += number
    return {day: _in_order(tally) for day, tally in found.items()}


def tally(account: Account, wanted: Wanted) -> dict[str, int]:
    """Return {kind: number of changes}, in the order of ChangeKind; no kind without a change."""
    counts: Counter[str] = Counter()
    for _at, kind, number in find_counts(account, wanted):
        counts[kind] += number
    return _in_order(counts)


def find_entries(account: Account, wanted: Wanted, after: Key | None = None, limit: int = A_PAGE) -> list[Entry]:
    """Return changes, newest first, those after this key."""
    rows = _entries(account, wanted)
    query = select(rows).order_by(*_newest(rows.c)).limit(limit)
    found = (query if after is None else query.where(_is_after(rows.c, after))).subquery()
    return _entries_of(_with_details(found).order_by(*_newest(found.c)))


def iter_csv(account: Account, wanted: Wanted) -> Iterator[str]:
    """Yield the changes as CSV, piece by piece; no transaction is open between two pieces."""
    yield csv_header(COLUMNS)
    after: Key | None = None
    while entries := find_entries(account, wanted, after, ROWS_A_PIECE):
        after = entries[-1].key
        end_read(db.session)
        yield csv_rows(cells for entry in entries for cells in _cells(entry))


def _cells(entry: Entry) -> list[tuple[str | None, ...]]:
    """Return a line of the file for each changed field, or one line if none changed."""
    stamp = formats.iso(entry.at)
    about = (stamp, entry.what, entry.salesforce_id, entry.name, entry.email, entry.details)
    receipt = str(entry.run_id) if entry.run_id else ""
    return [(*about, *field, receipt) for field in entry.fields or [("", "", "")]]


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: counts[kind] for kind in KINDS if counts.get(kind)}


def first_of_each(account: Account, wanted: Wanted, days: Sequence[date] = ()) -> list[Entry]:
    """Return the first entries of each kind, or of each kind on each of these days, the oldest first."""
    rows = union_all(*_beside_created(account, wanted), _created_last(account, wanted)).subquery()
    group: list[ColumnElement[Any]] = [rows.c.kind]
    if days[1:]:
        ends = [(rows.c.at < formats.start_of(each), number) for number, each in enumerate(days[1:])]
        group.append(case(*ends, else_=len(ends)))
    place = func.row_number().over(partition_by=group, order_by=_newest(rows.c))
    placed = select(rows, place.label("place")).subquery()
    most = (
        OF_A_KIND * len(KINDS) * max(1, len(days))
    )  # PostgreSQL would read all contacts for a number that it can't tell
    first = select(placed).where(placed.c.place <= OF_A_KIND).limit(most).subquery()
    entries = _entries_of(_with_details(first))
    return sorted(entries, key=lambda each: (KINDS.index(ChangeKind(each.kind)), *(-part for part in _numbers(each))))


def _numbers(entry: Entry) -> tuple[float, int, int]:
    return entry.at.timestamp(), entry.key.source, entry.key.row_id


def _newest(rows: Any) -> tuple[Any, ...]:
    return rows.at.desc(), rows.source.desc(), rows.row_id.desc()


def _is_after(rows: Any, key: Key) -> ColumnElement[bool]:
    same_time = rows.at == key.at
    return or_(
        rows.at < key.at,
        and_(same_time, rows.source < key.source),
        and_(same_time, rows.source == key.source, rows.row_id < key.row_id),
    )


# ---- Where the entries come from. Columns: at, source, row_id, contact_id, kind, reason, run_id


def _entries(account: Account, wanted: Wanted) -> Any:
    """Return the wanted entries as a subquery."""
    rows = union_all(*_beside_created(account, wanted), _created(account, wanted)).subquery()
    if not wanted.kind:
        return rows
    return select(rows).where(rows.c.kind == wanted.kind).subquery()


def _beside_created(account: Account, wanted: Wanted) -> list[Select[Any]]:
    return [_of_runs(account, wanted), *_beside_runs(account, wanted)]


def _beside_runs(account: Account, wanted: Wanted) -> list[Select[Any]]:
    found = (_made(wanted), _hidden(wanted), *_suppressed(account, wanted), _of_leads(account, wanted))
    return [query.where(*_is_theirs(account, wanted)) for query in found]


def _is_theirs(account: Account, wanted: Wanted) -> tuple[ColumnElement[bool], ...]:
    return (Contact.user_id == account.user_id, is_shown(), *matches(wanted.search))


def _is_theirs_anyway(account: Account, wanted: Wanted) -> tuple[ColumnElement[bool], ...]:
    """The same of contacts that are found by a run. As a sum, or SQLite would begin with all of the advisor's contacts."""
    return (literal(0) + Contact.user_id == account.user_id, is_shown(), *matches(wanted.search))


def _columns(at: Any, source: int, row_id: Any, kind: Any, reason: Any, run_id: Any = None) -> tuple[Any, ...]:
    no_run = cast(null(), Integer)  # PostgreSQL wants the same type in all parts
    return (
        at.label("at"),
        literal(source).label("source"),
        row_id.label("row_id"),
        Contact.id.label("contact_id"),
        (kind if not isinstance(kind, str) else literal(str(kind))).label("kind"),
        (reason if not isinstance(reason, str) else literal(str(reason))).label("reason"),
        (run_id if run_id is not None else no_run).label("run_id"),
    )


def _within(column: Any, wanted: Wanted) -> ColumnElement[bool]:
    return and_(column >= wanted.since, column < wanted.until)


def _of_runs(account: Account, wanted: Wanted) -> Select[Any]:
    reason = case((RunChange.kind == "adopted", literal(ADOPTED_REASON)), else_=RunChange.reason)
    kind = case(
        (RunChange.kind.in_(("updated", "adopted")), literal(ChangeKind.CHANGED.value)),
        (or_(RunChange.kind == "reactivated", RunChange.reason.in_(SWITCHED_ON)), literal(ChangeKind.BACK.value)),
        (RunChange.reason.in_(OPT_OUTS), literal(ChangeKind.OPTED_OUT.value)),
        (RunChange.reason == Reason.BOUNCED, literal(ChangeKind.BOUNCED.value)),
        else_=literal(ChangeKind.LEFT.value),
    )
    columns = _columns(SyncRun.finished_at, RUN, RunChange.id, kind, reason, RunChange.run_id)
    changed = select(*columns).join_from(SyncRun, RunChange, RunChange.run_id == SyncRun.id)
    by_id = changed.join(Contact, Contact.id == RunChange.contact_id)
    return by_id.where(_is_of(account, wanted), *_is_theirs_anyway(account, wanted))


def _created(account: Account, wanted: Wanted) -> Select[Any]:
    columns = _columns(SyncRun.finished_at, CREATED, Contact.id, ChangeKind.ADDED, ContactSource.SALESFORCE, SyncRun.id)
    made = select(*columns).join_from(SyncRun, Contact, Contact.created_in_run_id == SyncRun.id)
    return made.where(_is_of(account, wanted), *_is_theirs_anyway(account, wanted))


def _created_last(account: Account, wanted: Wanted) -> Select[Any]:
    """Select of what each run created the last OF_A_KIND, which are its newest entries."""
    is_theirs = _is_theirs_anyway(account, wanted)
    theirs = and_(Contact.created_in_run_id == SyncRun.id, *is_theirs)
    last = select(Contact.id).where(theirs).order_by(Contact.id.desc()).limit(1).offset(OF_A_KIND - 1)
    runs = (
        select(SyncRun.id, SyncRun.finished_at, last.correlate(SyncRun).scalar_subquery().label("last"))
        .where(_has_created(account, wanted))
        .cte()
        .prefix_with("MATERIALIZED")
    )
    columns = _columns(runs.c.finished_at, CREATED, Contact.id, ChangeKind.ADDED, ContactSource.SALESFORCE, runs.c.id)
    is_last = and_(Contact.created_in_run_id == runs.c.id, Contact.id >= func.coalesce(runs.c.last, 0))
    return select(*columns).join_from(runs, Contact, is_last).where(*is_theirs)


def _has_created(account: Account, wanted: Wanted) -> ColumnElement[bool]:
    return and_(_is_of(account, wanted), SyncRun.created > 0)


def _is_of(account: Account, wanted: Wanted) -> ColumnElement[bool]:
    """Did this run of the person's end within the time?"""
    return and_(account.has_run(), _within(SyncRun.finished_at, wanted))


def _made(wanted: Wanted) -> Select[Any]:
    """Select sign-ups that don't wait, and contacts made by hand; a record in Salesforce may have adopted those since."""
    source = case((Contact.source == ContactSource.LEAD, Contact.source), else_=literal(ContactSource.MANUAL.value))
    made = select(*_columns(Contact.created_at, MADE, Contact.id, ChangeKind.ADDED, source)).where(~waits_for_review())
    return made.where(Contact.created_in_run_id.is_(None), _within(Contact.created_at, wanted))


def _hidden(wanted: Wanted) -> Select[Any]:
    hidden = select(*_columns(Contact.hidden_at, HIDDEN, Contact.id, ChangeKind.LEFT, Reason.HIDDEN_HERE))
    return hidden.where(_within(Contact.hidden_at, wanted))


def _suppressed(account: Account, wanted: Wanted) -> list[Select[Any]]:
    """Select the suppressions that hold: of the advisor's own, and of the whole firm's."""
    times = (Suppression.unsubscribed_at, Suppression.complained_at, Suppression.bounced_at)
    at = func.coalesce(*times)
    reasons = (Reason.UNSUBSCRIBED, Reason.COMPLAINED, Reason.BOUNCED)
    reason = case(*((time.is_not(None), literal(why.value)) for time, why in zip(times, reasons, strict=True)))
    is_bounce = and_(Suppression.unsubscribed_at.is_(None), Suppression.complained_at.is_(None))
    kind = case((is_bounce, literal(ChangeKind.BOUNCED.value)), else_=literal(ChangeKind.OPTED_OUT.value))
    told = select(Suppression.address_hash, at.label("at"), kind.label("kind"), reason.label("reason"))
    whose = (of_advisor(account.user_id), of_firm(account.user_id, account.partner_id))
    return [_of_addresses(told.where(_within(at, wanted), which)) for which in whose]


def _of_addresses(told: Select[Any]) -> Select[Any]:
    # Found first: SQLite would begin with all of the advisor's contacts, since both have an index by advisor.
    found = told.cte().prefix_with("MATERIALIZED")
    columns = _columns(found.c.at, SUPPRESSED, Contact.id, found.c.kind, found.c.reason)
    return select(*columns).join_from(found, Contact, Contact.address_hash == found.c.address_hash)


def _of_leads(account: Account, wanted: Wanted) -> Select[Any]:
    """Select what syncs saw of sign-ups whose Lead is no contact yet: a contact's changes are in run_changes."""
    kinds = {
        ConsentKind.OPTED_OUT: (ChangeKind.OPTED_OUT, Reason.OPTED_OUT),
        ConsentKind.BACK_IN: (ChangeKind.BACK, Reason.OPTED_OUT),
        ConsentKind.DELETED: (ChangeKind.LEFT, Reason.DELETED),
        ConsentKind.RESTORED: (ChangeKind.BACK, Reason.DELETED),
    }
    kind = case(*((ConsentEvent.kind == each, literal(change.value)) for each, (change, _why) in kinds.items()))
    reason = case(*((ConsentEvent.kind == each, literal(why.value)) for each, (_change, why) in kinds.items()))
    at = ConsentEvent.recorded_at
    followed = select(*_columns(at, CONSENT, ConsentEvent.id, kind, reason, ConsentEvent.run_id))
    return (
        followed.join_from(Contact, Lead, Lead.contact_id == Contact.id)
        .join(ConsentEvent, ConsentEvent.lead_id == Lead.id)
        .where(
            Contact.source == ContactSource.LEAD,
            Lead.user_id == account.user_id,
            ConsentEvent.source == ConsentSource.SALESFORCE,
            ConsentEvent.kind.in_(kinds),
            _within(at, wanted),
        )
    )


def _with_details(entries: Any) -> Select[Any]:
    """Select entries with the names of their contacts and the changed fields."""
    name = func.trim(Contact.first_name + " " + Contact.last_name).label("name")
    is_of_run = and_(entries.c.source == RUN, RunChange.id == entries.c.row_id)
    people = select(entries, name, Contact.email, Contact.salesforce_id, RunChange.old, RunChange.new)
    return people.join_from(entries, Contact, Contact.id == entries.c.contact_id).outerjoin(RunChange, is_of_run)


def _entries_of(query: Select[Any]) -> list[Entry]:
    return [
        Entry(
            Key(row.at, row.source, row.row_id),
            row.kind,
            row.reason,
            row.run_id,
            row.contact_id,
            row.name,
            row.email,
            row.salesforce_id,
            changed_fields(row) if row.source == RUN else [],
            owner_in(row) if row.source == RUN else "",
        )
        for row in db.session.execute(query)
    ]
