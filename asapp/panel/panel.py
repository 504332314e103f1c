"""What the Salesforce panel shows for a state (connections/state.py): its text and one next step.

Pure functions of the rows that panel/load.py has read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from asapp.connections import opt_out_age
from asapp.core import formats
from asapp.core.formats import counted
from asapp.messages.codes import Code
from asapp.messages.failures import Failure, FixedBy
from asapp.messages.runs import explain_stop
from asapp.messages.states import PILLS, AdvisorState, Tone
from asapp.models import Connection, Partner, PendingGrant, RunPhase, RunStatus, SyncRun
from asapp.models.run import count_off
from asapp.sync.interval import SyncInterval

A_MOMENT = timedelta(seconds=5)  # between the two moments that a run stores at its end, at most
LONG_WAIT = timedelta(seconds=90)  # then a queued run is shown as waiting


PHASES = (
    (RunPhase.CHECKING, "Permissions checked", "Checking permissions"),
    (RunPhase.CONTACTS, "Contacts read", "Reading contacts"),
    (RunPhase.DEPARTURES, "Departures looked for", "Looking for departures"),
    (RunPhase.BALANCING, "Leads followed, books balanced", "Following leads, balancing the books"),
)

PHASE_ORDER = {phase: index for index, (phase, _, _) in enumerate(PHASES)}


@dataclass(frozen=True)
class Announcement:
    """The headline of the panel: bold words, then the rest. It is the live region, and tests read it."""

    tone: Tone
    headline: str
    rest: str = ""


@dataclass(frozen=True)
class PhaseStep:
    label: str
    is_done: bool
    is_current: bool


class ActiveRun(Protocol):
    """What is shown of an active run: a SyncRun, or a row with these of its columns."""

    @property
    def id(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def queued_at(self) -> datetime: ...
    @property
    def enqueued_at(self) -> datetime | None: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def cancel_requested_at(self) -> datetime | None: ...
    @property
    def total(self) -> int | None: ...
    @property
    def read(self) -> int: ...


@dataclass(frozen=True)
class Progress:
    run: ActiveRun
    now: datetime

    @property
    def is_queued(self) -> bool:
        return self.run.status == RunStatus.QUEUED

    @property
    def is_waiting(self) -> bool:
        """Is it queued, and either unknown to Redis or not taken by a worker for long?"""
        return self.is_queued and (self.run.enqueued_at is None or self.now - self.run.queued_at > LONG_WAIT)

    @property
    def milestone(self) -> str:
        """Return a key that changes when something should be announced, not with each number."""
        run = self.run
        notes = ("-waits" if self.is_waiting else "") + ("-stops" if run.cancel_requested_at else "")
        return f"run-{run.id}-{run.status}-{run.phase}{notes}"

    @property
    def phases(self) -> list[PhaseStep]:
        at = PHASE_ORDER[RunPhase(self.run.phase)]
        return [
            PhaseStep(done if index < at else doing, index < at, index == at)
            for index, (_, done, doing) in enumerate(PHASES)
        ]

    @property
    def percent(self) -> int:
        """Return the percentage of the rows that Salesforce counted; never 100 before the end."""
        run = self.run
        return min(99, run.read * 100 // run.total) if run.total else 0

    @property
    def seconds_left(self) -> int | None:
        run = self.run
        if run.started_at is None or not run.total or run.read < 1:
            return None
        elapsed = (self.now - run.started_at).total_seconds()
        if elapsed < 2 or run.read >= run.total:
            return None
        return max(1, round(elapsed * (run.total - run.read) / run.read))


@dataclass(frozen=True)
class Panel:
    """Everything that a template needs to draw the panel; it needs no further query."""

    state: AdvisorState
    partner: Partner | None
    connection: Connection | None  # the current one, or the one disconnected last
    run: SyncRun | None  # the active one, or the latest
    now: datetime
    held: int = 0  # contacts that an approval would make inactive
    kept: int = 0  # contacts that the advisor decided to keep
    contacts: int = 0
    active: int = 0
    connect_failure: Failure | None = None  # how the last log-in failed, until the next one
    run_failure: Failure | None = None
    reconnect_reason: Failure | None = None
    pending: PendingGrant | None = None
    is_log_in_open: bool = False  # a log-in was started here and has not come back
    interval: SyncInterval | None = None  # None: the advisor has no firm
    stuck_text: str = ""

    @property
    def minutes_to_decide(self) -> int:
        """Return for how long the pending log-in waits for a decision; 0 if there is none."""
        return math.ceil((self.pending.expires_at - self.now) / timedelta(minutes=1)) if self.pending else 0

    @property
    def is_share_used_up(self) -> bool:
        """Do syncs pause because of our own share of the calls, and not of what the whole org has used?"""
        return self.partner is not None and self.partner.paused_why == Code.SHARE_USED_UP

    @property
    def is_connected(self) -> bool:
        """Is there an account to sync and to disconnect?"""
        return self.connection is not None and not self.connection.is_disconnected

    @property
    def pill(self) -> tuple[Tone, str]:
        if self.state == AdvisorState.SYNCING and self.run is not None and self.run.is_queued:
            return Tone.BUSY, "Waiting"
        if self.state == AdvisorState.CONNECTED and self.run is not None and self.run.is_failed:
            return Tone.BAD, "Last sync failed"
        if self.state in (AdvisorState.READY, AdvisorState.DISCONNECTED) and self.connect_failure is not None:
            return Tone.PLAIN, "Not connected"
        return PILLS[self.state]

    @property
    def progress(self) -> Progress | None:
        """Return how far the active run is."""
        return Progress(self.run, self.now) if self.state == AdvisorState.SYNCING and self.run is not None else None

    @property
    def announcement(self) -> Announcement:
        return _say(self)

    @property
    def quiet_check_at(self) -> datetime | None:
        """Return when Salesforce was last asked and had nothing new, if that was after the last sync."""
        if self.run is None or not (self.run.is_complete or self.run.is_held) or self.connection is None:
            return None
        checked_at, synced_at = self.connection.last_good_sync_at, self.run.finished_at
        is_later = checked_at is not None and synced_at is not None and checked_at - synced_at > A_MOMENT
        return checked_at if is_later else None

    @property
    def earlier_good_at(self) -> datetime | None:
        """Return when the last good sync or check was, if that was before the last sync."""
        good_at = self.connection.last_good_sync_at if self.connection is not None else None
        if good_at is None or self.run is None:
            return good_at
        ended_at = self.run.finished_at if self.run.is_held else None
        was_good = self.run.is_complete or (ended_at is not None and ended_at - good_at <= A_MOMENT)
        return None if was_good else good_at

    @property
    def last_ending(self) -> Announcement | None:
        """Return how the last sync ended, if the headline is about something else."""
        if self.run is None:
            return None
        if self.run.is_held and self.state == AdvisorState.CONNECTED and self.kept:
            return Announcement(Tone.PLAIN, "Sync held")
        if self.state not in (AdvisorState.PAUSED, AdvisorState.NEEDS_RECONNECT):
            return None
        return _say_ending(self, self.run)

    @property
    def template(self) -> str:
        return f"integrations/_{self.state}.html"

    @property
    def milestone(self) -> str:
        """Return a key that changes when something should be announced: start, each phase, end. Not with each number."""
        if self.progress is not None:
            return self.progress.milestone
        return f"{self.state}-{self.run.id}" if self.run is not None else self.state

    @property
    def shows_run(self) -> bool:
        return self.is_connected and self.run is not None

    @property
    def tells_of_run(self) -> bool:
        """Does the headline tell how the last sync ended, with a link to its receipt?"""
        is_told_later = self.state in (AdvisorState.NEEDS_RECONNECT, AdvisorState.PAUSED)
        has_ended = self.run is not None and not self.run.is_active
        return self.is_connected and has_ended and not is_told_later and bool(self.announcement.rest)

    @property
    def warns_of_opt_outs(self) -> bool:
        """Are the contacts inactive because opt-outs are unknown, or will they be within a day?"""
        if self.connection is None or self.partner is None:
            return False
        return self.opt_outs_are_unknown or opt_out_age.become_unknown_soon(self.connection, self.partner, self.now)

    @property
    def opt_outs_are_unknown(self) -> bool:
        return self.connection is not None and opt_out_age.are_unknown(self.connection, self.now)

    @property
    def is_first_sync(self) -> bool:
        return self.connection is not None and self.connection.first_synced_at is None


def waits_for_admin(run: SyncRun | None, failure: Failure | None) -> bool:
    """Did the last run fail in a way that only the firm's Salesforce admin can fix?"""
    return run is not None and run.is_failed and failure is not None and failure.fixed_by == FixedBy.FIRM_ADMIN


def _say(panel: Panel) -> Announcement:
    state, run = panel.state, panel.run
    if state == AdvisorState.NEEDS_RECONNECT and panel.reconnect_reason is not None:
        return Announcement(Tone.WARN, "Needs reconnecting", panel.reconnect_reason.headline)
    if state == AdvisorState.SYNCING and run is not None:
        return _say_progress(Progress(run, panel.now))
    if state == AdvisorState.HELD:
        total = f" of your {panel.active:,} contacts" if panel.active else ""
        return Announcement(
            Tone.WARN,
            "Sync held",
            f"It would make {panel.held:,}{total} inactive: they have left you in Salesforce. You decide what happens here.",
        )
    if state == AdvisorState.PAUSED and panel.partner is not None and panel.partner.paused_until is not None:
        whose = (
            "AdvisorStream has used its share of your firm's" if panel.is_share_used_up else "Your firm has used its"
        )
        until = formats.clock(panel.partner.paused_until)
        return Announcement(Tone.WARN, f"Paused until about {until}", f"{whose} Salesforce calls for now.")
    if state in (AdvisorState.WAITING_FOR_ADMIN, AdvisorState.CONNECTED):
        return _say_ending(panel, run) if run is not None else _say_connected(panel)
    return _say_unconnected(panel)


def _say_connected(panel: Panel) -> Announcement:
    if panel.is_first_sync:
        return Announcement(Tone.GOOD, "Connected", "Nothing has been copied yet.")
    return Announcement(Tone.GOOD, "Connected", "The next sync reads what was missed and starts by itself.")


def _say_progress(progress: Progress) -> Announcement:
    if progress.run.cancel_requested_at is not None:
        return Announcement(Tone.BUSY, "Stopping", "The sync ends with the page it is at. What has been read stays.")
    if progress.is_waiting:
        return Announcement(
            Tone.BUSY, "Waiting to start", "Your sync is saved and starts by itself, usually within a minute."
        )
    if progress.is_queued:
        return Announcement(Tone.BUSY, "Starting", "Your sync is next.")
    doing = next(step.label for step in progress.phases if step.is_current)
    return Announcement(Tone.BUSY, "Syncing", f"{doing}.")


def _say_ending(panel: Panel, run: SyncRun) -> Announcement:
    if run.is_complete:
        return Announcement(Tone.GOOD, "Sync complete", summary_of(run))
    if run.is_held:
        # with an open proposal the state would be HELD
        if not panel.kept:
            return Announcement(Tone.PLAIN, "Sync held", "Nothing is left to decide.")
        return Announcement(Tone.GOOD, f"You kept {counted(panel.kept, 'contact')}", "Syncs go on as always.")
    if run.is_failed:
        reason = panel.run_failure.headline if panel.run_failure else "It could not be finished."
        return Announcement(Tone.BAD, "Sync failed", reason)
    if run.is_cancelled:
        firm = panel.partner.name if panel.partner is not None else "your firm"
        return Announcement(Tone.PLAIN, "Sync cancelled", explain_stop(run.error_code, firm))
    return Announcement(Tone.BUSY, "Syncing")


def _say_unconnected(panel: Panel) -> Announcement:
    if panel.connect_failure is not None:
        return Announcement(Tone.WARN, "Not connected", panel.connect_failure.headline)
    if panel.state != AdvisorState.DISCONNECTED or panel.connection is None:
        return Announcement(Tone.PLAIN, "")
    is_revoked = panel.connection.is_revoked_at_salesforce
    revoked = "Our permission is revoked" if is_revoked else "We could not reach Salesforce to revoke our permission"
    if panel.connection.are_contacts_removed:
        return Announcement(Tone.PLAIN, "Disconnected", f"{revoked}. Your Salesforce contacts were removed from here.")
    people = ""
    if panel.contacts:
        kept = "contact is" if panel.contacts == 1 else "contacts are"
        number = f"{panel.contacts:,} " if panel.contacts > 1 else ""
        before = ", with those that were inactive before" if panel.contacts > 1 else ""
        people = f"Your {number}Salesforce {kept} kept here, inactive{before}."
    return Announcement(Tone.PLAIN, "Disconnected", f"{revoked}. {people}".strip())


def summary_of(run: SyncRun) -> str:
    """Return what a run did, without the parts that are zero, such as "12 added, 21 updated"."""
    parts = (
        (run.created, "added"),
        (run.adopted, "adopted"),
        (run.updated, "updated"),
        (run.reactivated, "active again"),
        (count_off(run), "made inactive"),
    )
    said = [f"{count:,} {word}" for count, word in parts if count]
    if said:
        return f"{', '.join(said)}."
    if run.unchanged:
        return f"{counted(run.unchanged, 'contact')} looked at again; nothing had changed."
    return "Nothing had changed in Salesforce."
