"""What becomes of one row read from Salesforce. Pure: a record and what we know of it go in, a verdict comes out.

Every row falls in exactly one class, the first that fits: deactivated, reactivated, created, updated, adopted, unchanged,
skipped (by reason). A record that came back deleted or merged is only nominated here; departures are applied at the end of
the run (sync/departures.py), and counted then.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from asapp.contacts.status import NO_EMAIL
from asapp.models import Outcome, Reason
from asapp.salesforce.records import ContactRecord


class RowClass(StrEnum):
    DEACTIVATED = "deactivated"
    REACTIVATED = "reactivated"
    CREATED = "created"
    UPDATED = "updated"
    ADOPTED = "adopted"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    NOMINATED = "nominated"  # none yet: the end of the run decides


class Skipped(StrEnum):
    """Why a row that was read is left out: the keys of SyncRun.skipped. web/run_figures.py has the words."""

    OPTED_OUT = "opted_out"
    NO_EMAIL = "no_email"
    DELETED = "deleted"
    MERGED = "merged"
    HELD = "held"
    DISCARDED = "discarded"
    NOT_YOURS = "not_yours"  # it came although its owner is another user


class Also(StrEnum):
    """What a run changed without reading the row: the keys of SyncRun.also, and reasons of changes of that kind."""

    DELETED = "deleted"
    MERGED = "merged"
    REASSIGNED = "reassigned"
    GONE = "gone"
    TWIN_OPTED_OUT = "twin_opted_out"
    TWIN_BACK = "twin_back"
    OPTED_OUT = "opted_out"  # of those who are held or kept: they are looked at by Id
    OPTED_IN = "opted_in"
    MEMBERSHIPS_MOVED = "memberships_moved"


SWITCHED_OFF = frozenset(
    {Also.DELETED, Also.MERGED, Also.REASSIGNED, Also.GONE, Also.TWIN_OPTED_OUT, Also.OPTED_OUT},
)
SWITCHED_ON = frozenset({Also.TWIN_BACK, Also.OPTED_IN})


class Known(NamedTuple):
    """What is stored here of a record."""

    contact_id: int
    first_name: str
    last_name: str
    email: str
    opted_out: bool
    twin_opted_out: bool
    departed: str | None
    is_hidden: bool
    address_hash: bytes | None
    system_modstamp: datetime | None
    merged_into: str | None = None
    is_erased: bool = False  # on request: nothing of this person is stored again

    @property
    def is_shell(self) -> bool:
        return self.departed == NO_EMAIL

    @property
    def is_on(self) -> bool:
        """May be written to, as far as this person goes (the connection has its own reasons, see contacts/status.py)."""
        return not (self.departed or self.is_hidden or self.opted_out or self.twin_opted_out)


class Verdict(NamedTuple):
    row_class: RowClass
    reason: str | None = None  # of being skipped, deactivated or nominated
    outcome: Outcome | None = (
        None  # for the ledger; None: the user owns no such record any more (nominated: not yet decided)
    )
    becomes: Becomes | None = None  # what the contact is to be; None: nothing is written for it


class Becomes(NamedTuple):
    first_name: str
    last_name: str
    email: str
    opted_out: bool
    departed: str | None


SHELL = Becomes("", "", "", opted_out=False, departed=NO_EMAIL)


def judge(record: ContactRecord, known: Known | None) -> Verdict:
    """Return what becomes of a record that the connected user owns."""
    if record.is_deleted:
        return _judge_deleted(record, known)
    if known is not None and known.is_erased:
        return Verdict(RowClass.UNCHANGED, None, _outcome_of(record))
    if known is None or known.is_shell:
        return _judge_newcomer(record, known)
    if not record.email:
        outcome = Outcome.OPTED_OUT if record.is_opted_out else Outcome.NO_EMAIL
        return Verdict(_off_or_updated(known), NO_EMAIL, outcome, SHELL)
    becomes = Becomes(record.first_name, record.last_name, record.email, record.is_opted_out, departed=None)
    outcome = Outcome.OPTED_OUT if record.is_opted_out else Outcome.SYNCED
    after = known._replace(opted_out=record.is_opted_out, departed=None)
    if known.is_on and not after.is_on:
        return Verdict(RowClass.DEACTIVATED, Reason.OPTED_OUT, outcome, becomes)
    if after.is_on and not known.is_on:
        return Verdict(RowClass.REACTIVATED, known.departed or Reason.OPTED_OUT, outcome, becomes)
    if becomes != Becomes(known.first_name, known.last_name, known.email, known.opted_out, known.departed):
        return Verdict(RowClass.UPDATED, None, outcome, becomes)
    return Verdict(RowClass.UNCHANGED, None, outcome, None)


def _outcome_of(record: ContactRecord) -> Outcome:
    if record.is_opted_out:
        return Outcome.OPTED_OUT
    return Outcome.SYNCED if record.email else Outcome.NO_EMAIL


def _judge_deleted(record: ContactRecord, known: Known | None) -> Verdict:
    reason = Reason.MERGED if record.master_record_id else Reason.DELETED
    if known is None:
        return Verdict(RowClass.SKIPPED, reason)
    # A merge hands lists on, whatever the contact was before: the end of the run sees to that.
    is_news = reason == Reason.MERGED and known.merged_into != record.master_record_id
    if known.departed is None or is_news:
        return Verdict(RowClass.NOMINATED, reason)
    if known.is_shell:
        return Verdict(RowClass.SKIPPED, reason)
    if known.departed == reason:
        return Verdict(RowClass.UNCHANGED)
    becomes = Becomes(known.first_name, known.last_name, known.email, known.opted_out, reason)
    return Verdict(RowClass.UPDATED, reason, None, becomes)


def _judge_newcomer(record: ContactRecord, known: Known | None) -> Verdict:
    """known: None, or a shell that waits for an address."""
    if record.is_opted_out:
        return Verdict(RowClass.SKIPPED, Reason.OPTED_OUT, Outcome.OPTED_OUT)
    if not record.email:
        return Verdict(RowClass.SKIPPED, NO_EMAIL, Outcome.NO_EMAIL)
    becomes = Becomes(record.first_name, record.last_name, record.email, opted_out=False, departed=None)
    if known is None:
        return Verdict(RowClass.CREATED, None, Outcome.SYNCED, becomes)
    row_class = RowClass.UPDATED if known.is_hidden else RowClass.REACTIVATED
    return Verdict(row_class, NO_EMAIL, Outcome.SYNCED, becomes)


def _off_or_updated(known: Known) -> RowClass:
    return RowClass.DEACTIVATED if known.is_on else RowClass.UPDATED
