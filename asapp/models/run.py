"""Sync runs: one execution for one connection, from queued to its ending."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import JSON, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.core.leases import Leased
from asapp.models.columns import one_of

if TYPE_CHECKING:
    from asapp.models.connection import Connection


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    HELD = "held"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunTrigger(StrEnum):
    MANUAL = "manual"
    SCHEDULED = "scheduled"
    APPROVAL = "approval"
    SEND = "send"  # a sender wants to write to a list


class RunPhase(StrEnum):
    """In the order in which a run goes through them."""

    CHECKING = "checking"
    CONTACTS = "contacts"
    DEPARTURES = "departures"
    BALANCING = "balancing"


class StopReason(StrEnum):
    """Why a run was cancelled, in error_code; empty if its advisor pressed Cancel."""

    DISCONNECTED = "disconnected"
    FIRM_DISABLED = "firm_disabled"
    ADVISOR_INACTIVE = "advisor_inactive"


class Skipped(StrEnum):
    """Why a row that was read is left out: the keys of SyncRun.skipped."""

    OPTED_OUT = "opted_out"
    CONSENT_HIDDEN = "consent_hidden"  # counts as opted out, since the consent record can't be seen
    NO_EMAIL = "no_email"
    DELETED = "deleted"
    MERGED = "merged"
    HELD = "held"
    DISCARDED = "discarded"
    NOT_YOURS = "not_yours"  # its owner is another user
    HIDDEN_HERE = "hidden_here"  # deleted here before the connection's rows were removed
    ERASED_HERE = "erased_here"  # on the person's request
    SIGNED_UP = "signed_up"  # a Lead that stands for someone from the sign-up page
    UNREADABLE = "unreadable"  # it has a value that Salesforce can't hold


class Also(StrEnum):
    """What a run changed without reading the row: the keys of SyncRun.also, and reasons of such changes."""

    DELETED = "deleted"
    MERGED = "merged"
    REASSIGNED = "reassigned"
    GONE = "gone"
    TWIN_OPTED_OUT = "twin_opted_out"
    TWIN_BACK = "twin_back"
    SUPPRESSED = "suppressed"  # an address that unsubscribed, complained or bounced
    UNSUPPRESSED = "unsuppressed"
    OPTED_OUT = "opted_out"  # of a held or kept contact, or on a row that can't be fully read
    OPTED_IN = "opted_in"
    MEMBERSHIPS_MOVED = "memberships_moved"
    CONVERTED = "converted"  # an open Lead, handed to the contact that it became
    LEFT_INACTIVE = "left_inactive"  # a contact that was inactive already when it left


SWITCHED_OFF = frozenset(
    {Also.DELETED, Also.MERGED, Also.REASSIGNED, Also.GONE, Also.TWIN_OPTED_OUT, Also.SUPPRESSED, Also.OPTED_OUT}
)
SWITCHED_ON = frozenset({Also.TWIN_BACK, Also.UNSUPPRESSED, Also.OPTED_IN})


NEW_OWNER = "owner"  # in RunChange.new of a contact that was given to another user, whose name it is


ACTIVE = (RunStatus.QUEUED, RunStatus.RUNNING)
IS_ACTIVE = text("status IN ('queued', 'running')")


class SyncRun(Leased, Base):
    __tablename__ = "sync_runs"
    __table_args__ = (
        one_of("status", RunStatus),
        one_of("phase", RunPhase),
        one_of("trigger", RunTrigger),
        Index(
            "uq_sync_runs_active",
            "connection_id",
            unique=True,
            sqlite_where=IS_ACTIVE,
            postgresql_where=IS_ACTIVE,
        ),
        Index("ix_sync_runs_history", "connection_id", "id"),
        Index("ix_sync_runs_connection_finished", "connection_id", "finished_at"),  # for the page Changes
        Index("ix_sync_runs_finished", "finished_at", "status"),  # for the figures of the last day
        # For the dispatch tick: few rows at any time.
        Index("ix_sync_runs_unfinished", "status", "lease_until", sqlite_where=IS_ACTIVE, postgresql_where=IS_ACTIVE),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"))
    trigger: Mapped[str] = mapped_column(String(12))
    status: Mapped[str] = mapped_column(String(12), default=RunStatus.QUEUED)
    phase: Mapped[str] = mapped_column(String(12), default=RunPhase.CHECKING)
    is_full: Mapped[bool | None] = mapped_column()  # decided when it first runs

    # Only the worker that holds the lease may write for this run.
    heartbeat_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    tries: Mapped[int] = mapped_column(default=0)  # workers that died with it
    queued_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    enqueued_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when Redis last took its job; empty: never
    is_parked: Mapped[bool] = mapped_column(default=False)  # waits until another run of its firm ends
    started_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    # What it reads, by Salesforce's clock: from window_start on (empty: everything). Its first query was started at
    # asked_at and answered at opened_at, the next watermark. (checkpoint_stamp, checkpoint_id) is the last stored row in
    # order, (sure_stamp, sure_id) the last one before which no late commit can appear (sync/watermark.py).
    window_start: Mapped[datetime | None] = mapped_column(UTCDateTime)
    asked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    opened_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    checkpoint_stamp: Mapped[datetime | None] = mapped_column(UTCDateTime)
    checkpoint_id: Mapped[str | None] = mapped_column(String(18))
    sure_stamp: Mapped[datetime | None] = mapped_column(UTCDateTime)
    sure_id: Mapped[str | None] = mapped_column(String(18))
    # As the sure position, of the open Leads.
    leads_stamp: Mapped[datetime | None] = mapped_column(UTCDateTime)
    leads_id: Mapped[str | None] = mapped_column(String(18))
    opt_out_field: Mapped[str | None] = mapped_column(String(255))  # as opt_out_field_read of the connection
    # How far a full check has come: the Id it goes on from, and how many Ids have come. Empty: none has begun.
    sweep_after_id: Mapped[str | None] = mapped_column(String(18))
    swept: Mapped[int | None] = mapped_column()

    # Its counts. Each row read is in exactly one class; see sync/row_rules.py.
    total: Mapped[int | None] = mapped_column()  # rows to read, as Salesforce counted them
    read: Mapped[int] = mapped_column(default=0)
    deactivated: Mapped[int] = mapped_column(default=0)
    reactivated: Mapped[int] = mapped_column(default=0)
    created: Mapped[int] = mapped_column(default=0)
    updated: Mapped[int] = mapped_column(default=0)
    adopted: Mapped[int] = mapped_column(default=0)
    unchanged: Mapped[int] = mapped_column(default=0)
    nominated: Mapped[int] = mapped_column(default=0)  # rows whose class is decided at the end of the run
    skipped: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)  # reason -> rows
    also: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)  # reason -> contacts changed without reading them
    api_calls: Mapped[int] = mapped_column(default=0)
    held: Mapped[int | None] = mapped_column()  # contacts that waited for the advisor's decision when it ended
    active_after: Mapped[int | None] = mapped_column()  # of all the advisor's contacts, how many could be emailed then

    error_code: Mapped[str | None] = mapped_column(
        String(60)
    )  # a Code of messages/codes.py; if it was cancelled, a StopReason
    error_detail: Mapped[str | None] = mapped_column(
        Text
    )  # Salesforce's errorCode, a field's name; never personal data

    connection: Mapped[Connection] = relationship()

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def is_queued(self) -> bool:
        return self.status == RunStatus.QUEUED

    @property
    def is_complete(self) -> bool:
        return self.status == RunStatus.COMPLETE

    @property
    def is_held(self) -> bool:
        return self.status == RunStatus.HELD

    @property
    def is_failed(self) -> bool:
        return self.status == RunStatus.FAILED

    @property
    def is_cancelled(self) -> bool:
        return self.status == RunStatus.CANCELLED

    @property
    def skipped_total(self) -> int:
        return sum(self.skipped.values())

    @property
    def is_balanced(self) -> bool:
        """Is every row that was read in exactly one class?"""
        classes = (self.deactivated, self.reactivated, self.created, self.updated, self.adopted, self.unchanged)
        return self.read == sum(classes) + self.nominated + self.skipped_total


def count_off(run: SyncRun) -> int:
    """Return how many contacts a run deactivated, by a row that it read or without."""
    return run.deactivated + sum(count for reason, count in run.also.items() if reason in SWITCHED_OFF)


class RunChange(Base):
    """What a run changed about one contact, for the receipt. Contacts that it created carry the run's id themselves."""

    __tablename__ = "run_changes"
    __table_args__ = (Index("ix_run_changes_run", "run_id", "kind", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("sync_runs.id", ondelete="CASCADE"))
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(12))  # deactivated, reactivated, updated, adopted, also
    reason: Mapped[str | None] = mapped_column(String(20))
    old: Mapped[dict[str, str | None] | None] = mapped_column(JSON)  # column -> value before, changed columns only
    new: Mapped[dict[str, str | None] | None] = mapped_column(JSON)  # also NEW_OWNER
