"""The state of the panel: the first that is true, in one order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from asapp.connections.state import state_of
from asapp.core.clock import utcnow
from asapp.messages.states import AdvisorState
from asapp.models import Connection, Partner, RunPhase, SyncRun
from asapp.panel.panel import Panel, Progress, summary_of

NOW = utcnow()


def partner(**columns: object) -> Partner:
    given = {"consumer_key_sealed": "x", "consumer_secret_sealed": "x", "is_enabled": True, **columns}
    return Partner(**given)


def run(status: str, **columns: object) -> SyncRun:
    counts = dict.fromkeys(("read", "created", "updated", "adopted", "reactivated", "deactivated", "unchanged"), 0)
    given = {"id": 7, "status": status, "phase": RunPhase.CONTACTS, "skipped": {}, "also": {}, "queued_at": NOW}
    return SyncRun(**(counts | given | columns))


CONNECTED, NEEDS, GONE = (Connection(status=s) for s in ("connected", "needs_reconnect", "disconnected"))


@pytest.mark.parametrize(
    ("firm", "connection", "last_run", "held", "for_admin", "state"),
    [
        (None, None, None, 0, False, AdvisorState.NOT_SET_UP),
        (partner(is_enabled=False), NEEDS, run("running"), 5, True, AdvisorState.NOT_SET_UP),
        (partner(consumer_key_sealed=None), CONNECTED, None, 0, False, AdvisorState.NOT_SET_UP),
        (partner(), NEEDS, run("running"), 5, True, AdvisorState.NEEDS_RECONNECT),
        (partner(), CONNECTED, run("running"), 5, True, AdvisorState.SYNCING),
        (partner(), CONNECTED, run("queued"), 5, True, AdvisorState.SYNCING),
        (partner(), CONNECTED, run("failed"), 5, True, AdvisorState.WAITING_FOR_ADMIN),
        (partner(paused_until=NOW + timedelta(hours=1)), CONNECTED, run("held"), 5, False, AdvisorState.HELD),
        (partner(paused_until=NOW + timedelta(hours=1)), CONNECTED, run("failed"), 0, False, AdvisorState.PAUSED),
        (partner(paused_until=NOW - timedelta(hours=1)), CONNECTED, run("failed"), 0, False, AdvisorState.CONNECTED),
        (partner(), CONNECTED, None, 0, False, AdvisorState.CONNECTED),
        (partner(), GONE, run("running"), 5, True, AdvisorState.DISCONNECTED),
        (partner(), None, None, 0, False, AdvisorState.READY),
    ],
)
def test_the_first_state_that_is_true(
    firm: Partner | None,
    connection: Connection | None,
    last_run: SyncRun | None,
    held: int,
    for_admin: bool,
    state: AdvisorState,
) -> None:
    found = state_of(
        firm,
        connection,
        NOW,
        is_syncing=last_run is not None and last_run.is_active,
        waits_for_admin=for_admin and last_run is not None and last_run.is_failed,
        held=held,
    )
    assert found == state


@pytest.mark.parametrize(
    ("last_run", "headline"),
    [
        (run("complete"), "Sync complete"),
        (run("held"), "Sync held"),
        (run("failed"), "Sync failed"),
        (run("cancelled"), "Sync cancelled"),
        (None, "Connected"),
    ],
)
def test_how_the_last_sync_ended_is_the_headline(last_run: SyncRun | None, headline: str) -> None:
    assert Panel(AdvisorState.CONNECTED, partner(), CONNECTED, last_run, NOW).announcement.headline == headline


@pytest.mark.parametrize(
    ("ended", "words"), [("complete", "Sync complete"), ("failed", "Sync failed"), ("held", "Sync held")]
)
def test_a_pause_does_not_hide_how_the_last_sync_ended(ended: str, words: str) -> None:
    firm = partner(paused_until=NOW + timedelta(hours=1))
    panel = Panel(AdvisorState.PAUSED, firm, CONNECTED, run(ended), NOW)
    assert panel.last_ending is not None
    assert panel.last_ending.headline == words


@pytest.mark.parametrize(
    ("last_run", "is_told"), [("complete", False), ("held", False), ("failed", True), ("cancelled", True), (None, True)]
)
def test_the_last_good_sync_is_told_unless_it_is_the_last_sync(last_run: str | None, is_told: bool) -> None:
    connection = Connection(status="connected", last_good_sync_at=NOW)
    ended = run(last_run, finished_at=NOW + timedelta(seconds=1)) if last_run is not None else None
    panel = Panel(AdvisorState.CONNECTED, partner(), connection, ended, NOW)
    assert panel.earlier_good_at == (NOW if is_told else None)


def test_a_good_sync_before_a_held_one_that_was_not_good_is_told() -> None:
    connection = Connection(status="connected", last_good_sync_at=NOW - timedelta(hours=1))
    assert Panel(AdvisorState.CONNECTED, partner(), connection, run("held", finished_at=NOW), NOW).earlier_good_at


def test_a_milestone_is_no_number() -> None:
    def at(read: int, phase: RunPhase = RunPhase.CONTACTS, status: str = "running") -> str:
        state = AdvisorState.SYNCING if status == "running" else AdvisorState.CONNECTED
        return Panel(state, partner(), CONNECTED, run(status, read=read, phase=phase), NOW).milestone

    assert at(10) == at(20)
    assert at(10) != at(10, RunPhase.DEPARTURES)
    assert at(10) != at(10, status="complete")


def test_a_run_that_redis_does_not_know_of_is_shown_as_waiting() -> None:
    waits = Panel(AdvisorState.SYNCING, partner(), CONNECTED, run("queued", enqueued_at=None), NOW)
    goes = Panel(AdvisorState.SYNCING, partner(), CONNECTED, run("queued", enqueued_at=NOW), NOW)
    assert waits.announcement.headline == "Waiting to start"
    assert goes.announcement.headline == "Starting"


@pytest.mark.parametrize(("read", "total", "percent"), [(0, None, 0), (0, 0, 0), (1, 3, 33), (3, 3, 99), (9, 3, 99)])
def test_progress_never_reaches_the_end_before_the_end(read: int, total: int | None, percent: int) -> None:
    assert Progress(run("running", read=read, total=total), NOW).percent == percent


def test_what_a_sync_did_in_one_sentence() -> None:
    assert summary_of(run("complete")) == "Nothing had changed in Salesforce."
    busy = run("complete", created=1200, deactivated=2, also={"gone": 3, "memberships_moved": 9})
    assert summary_of(busy) == "1,200 added, 5 made inactive."
