"""What a row read from Salesforce changes. Pure: a record and what is stored of it go in, a verdict comes out.

Every row falls in exactly one class, the first that fits: deactivated, reactivated, created, updated, adopted, unchanged,
skipped (by reason). A record that came back deleted or merged is only nominated here; departures are applied, and counted, at
the end of the run (sync/settle.py).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from asapp.contacts.bounces import NO_MARK, Mark, mark_after
from asapp.contacts.status import NO_EMAIL
from asapp.models import LedgerOutcome, Reason
from asapp.models.run import Skipped
from asapp.salesforce.records import ContactRecord


class RowClass(StrEnum):
    DEACTIVATED = "deactivated"
    REACTIVATED = "reactivated"
    CREATED = "created"
    UPDATED = "updated"
    ADOPTED = "adopted"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    NOMINATED = "nominated"  # no class yet: the end of the run decides


CREATED, SYNCED = RowClass.CREATED, LedgerOutcome.SYNCED  # of nearly every row of a first sync, and cheaper to find


class StoredContact(NamedTuple):
    """What is stored here of a record."""

    contact_id: int
    first_name: str
    last_name: str
    email: str
    opted_out: bool
    departed: str | None
    bounced_at: datetime | None
    bounce_reason: str
    bounced_hash: bytes | None
    is_address_blocked: bool  # another record with the address opted out, or it is suppressed
    is_hidden: bool
    address_hash: bytes | None
    system_modstamp: datetime | None
    merged_into: str | None = None
    is_erased: bool = False  # on request: nothing of this person is stored again
    skip_bounced: bool = True  # the partner's setting
    account_id: str | None = None  # of a person account
    is_consent_hidden: bool = False  # opted_out only because its consent record could not be seen

    @property
    def is_without_email(self) -> bool:
        return self.departed == NO_EMAIL

    @property
    def is_active(self) -> bool:
        """May the person be written to? The connection has its own reasons against it (contacts/status.py)."""
        return not (self.departed or self.is_hidden or self.is_bounced or self.opted_out or self.is_address_blocked)

    @property
    def is_bounced(self) -> bool:
        """Is the contact skipped because mail to its address bounced?"""
        return self.skip_bounced and self.bounced_at is not None and self.bounced_hash == self.address_hash

    @property
    def bounce(self) -> Mark:
        return Mark._make(self[6:9])

    @property
    def as_it_is(self) -> Becomes:
        return Becomes(*self[1:9])


class RowVerdict(NamedTuple):
    row_class: RowClass
    reason: str | None = None  # why it is skipped, deactivated or nominated
    # For the ledger; None: the user doesn't own the record any more, or (nominated) that is not decided yet.
    outcome: LedgerOutcome | None = None
    becomes: Becomes | None = None  # the contact as it will be; None: nothing is written for it


class Becomes(NamedTuple):
    first_name: str
    last_name: str
    email: str
    opted_out: bool
    departed: str | None
    bounced_at: datetime | None = None
    bounce_reason: str = ""
    bounced_hash: bytes | None = None


WITHOUT_EMAIL = Becomes("", "", "", opted_out=False, departed=NO_EMAIL)


def judge(record: ContactRecord, known: StoredContact | None, hashed: bytes | None = None) -> RowVerdict:
    """Return what a record that the connected user owns changes. hashed: the hash of its address."""
    if record.is_deleted:
        return _judge_deleted(record, known)
    if known is not None and known.is_erased:
        return RowVerdict(RowClass.UNCHANGED, None, _outcome_of(record))
    if known is None or known.is_without_email:
        return _judge_newcomer(record, known, hashed)
    if not record.email:
        outcome = LedgerOutcome.OPTED_OUT if record.is_opted_out else LedgerOutcome.NO_EMAIL
        return RowVerdict(_deactivated_or_updated(known), NO_EMAIL, outcome, WITHOUT_EMAIL)
    mark = mark_after(record.bounce, known.bounce, hashed)
    becomes = Becomes(record.first_name, record.last_name, record.email, record.is_opted_out, None, *mark)
    outcome = LedgerOutcome.OPTED_OUT if record.is_opted_out else LedgerOutcome.SYNCED
    if hashed == known.address_hash and becomes == known[1:9]:  # as_it_is, for nearly every row
        return RowVerdict(RowClass.UNCHANGED, None, outcome, None)
    after = _after(known, becomes, hashed)
    if known.is_active and not after.is_active:
        reason = Reason.BOUNCED if after.is_bounced else _why_opted_out(record)
        return RowVerdict(RowClass.DEACTIVATED, reason, outcome, becomes)
    if after.is_active and not known.is_active:
        reason = Reason.BOUNCED if known.is_bounced else Reason.OPTED_OUT
        return RowVerdict(RowClass.REACTIVATED, known.departed or reason, outcome, becomes)
    if becomes != known.as_it_is:
        return RowVerdict(RowClass.UPDATED, None, outcome, becomes)
    return RowVerdict(RowClass.UNCHANGED, None, outcome, None)


def _after(known: StoredContact, becomes: Becomes, hashed: bytes | None) -> StoredContact:
    """Return the contact with the state that it will have."""
    return known._replace(
        opted_out=becomes.opted_out,
        departed=becomes.departed,
        bounced_at=becomes.bounced_at,
        bounced_hash=becomes.bounced_hash,
        address_hash=hashed,
    )


def _outcome_of(record: ContactRecord) -> LedgerOutcome:
    if record.is_opted_out:
        return LedgerOutcome.OPTED_OUT
    return LedgerOutcome.SYNCED if record.email else LedgerOutcome.NO_EMAIL


def _why_opted_out(record: ContactRecord) -> str:
    return Skipped.CONSENT_HIDDEN if record.is_consent_hidden else Reason.OPTED_OUT


def _judge_deleted(record: ContactRecord, known: StoredContact | None) -> RowVerdict:
    reason = Reason.MERGED if record.master_record_id else Reason.DELETED
    if known is None:
        return RowVerdict(RowClass.SKIPPED, reason)
    # A merge moves memberships of lists at the end of the run, whatever the contact was before.
    is_news = reason == Reason.MERGED and known.merged_into != record.master_record_id
    if known.departed is None or is_news:
        return RowVerdict(RowClass.NOMINATED, reason)
    if known.is_without_email:
        return RowVerdict(RowClass.SKIPPED, reason)
    # That a person was merged is told by the account; the contact may only be deleted.
    if known.departed in (reason, Reason.MERGED if known.account_id else reason):
        return RowVerdict(RowClass.UNCHANGED)
    return RowVerdict(RowClass.UPDATED, reason, None, known.as_it_is._replace(departed=reason))


def _judge_newcomer(record: ContactRecord, known: StoredContact | None, hashed: bytes | None) -> RowVerdict:
    """Judge a record that has no contact here, or only one without an email (`known`)."""
    if record.is_opted_out:
        return RowVerdict(RowClass.SKIPPED, _why_opted_out(record), LedgerOutcome.OPTED_OUT)
    if not record.email:
        return RowVerdict(RowClass.SKIPPED, NO_EMAIL, LedgerOutcome.NO_EMAIL)
    mark = mark_after(record.bounce, known.bounce if known else NO_MARK, hashed)
    becomes = Becomes(record.first_name, record.last_name, record.email, False, None, *mark)
    if known is None:
        return RowVerdict(CREATED, None, SYNCED, becomes)
    is_off = known.is_hidden or _after(known, becomes, hashed).is_bounced
    row_class = RowClass.UPDATED if is_off else RowClass.REACTIVATED
    return RowVerdict(row_class, NO_EMAIL, LedgerOutcome.SYNCED, becomes)


def _deactivated_or_updated(known: StoredContact) -> RowClass:
    return RowClass.DEACTIVATED if known.is_active else RowClass.UPDATED
