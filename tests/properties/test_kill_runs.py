"""Twenty runs whose work-horse is killed with kill -9, with edits in between; then a quiet run, and the oracle."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import psutil
import pytest
from flask import Flask
from sqlalchemy import select

from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import RunTrigger, SyncRun
from asapp.sync import departures, runs
from config import Config
from devtools.processes import Worker
from devtools.waiting import wait_for
from orgsim import Running
from tests.factories import log_in
from tests.properties import stored_state
from tests.properties.contact_oracle import ContactOracle
from tests.properties.org_story import PAGE, Edit, Story
from tests.syncing import Office

KILLS = 20
CONTACTS = 3 * PAGE + 20
EDITS_BETWEEN = 4
SEED = 20260506


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    office = Office(org)
    office.org.clock.freeze()
    office.org.change_settings(page_sizes=PAGE, session_minutes=10**7)
    office.org.trouble.add("slow", kind="data", seconds=0.02)
    office.fill(CONTACTS)
    return office


@pytest.mark.slow
def test_runs_killed_by_kill_9_leave_what_the_oracle_expects(
    app: Flask, config: Config, office: Office, tmp_path: Path
) -> None:
    rng = Random(SEED)
    story = Story(office.org, office.user, office.colleague)
    queues: Queues = app.extensions["asapp.queues"]
    kills = 0
    with Worker(config, tmp_path / "worker.log") as worker:
        while kills < KILLS:
            for _ in range(EDITS_BETWEEN):
                story.carry_out(Edit.at_random(rng))
            story.advance(rng.choice([1, 60, 1200]))
            run = go_on(office, queues)
            kills += kill_within(worker, office, run, calls=rng.randint(1, 5), then_s=rng.random() * 0.06)
        end(office, queues)
        story.advance(11 * 60)
        expect_sweep(office)
        before = stored_state.read_state(office.connection.id, office.advisor.id)
        run = end(office, queues, go_on(office, queues))
        if run.is_held:
            run = end(office, queues, approve(office, queues))
    assert run.is_complete
    db.session.rollback()  # what was read before the worker's last write is out of date, and SQLite lets no one write upon that
    client = app.test_client()
    log_in(client, office.advisor)
    after = stored_state.read_state(office.connection.id, office.advisor.id, client.get("/contacts/export.csv").text)
    differences = ContactOracle(story, before, after).differences()
    assert not differences, "\n".join(differences)
    everyone = db.session.scalars(select(SyncRun)).all()
    assert all(each.is_balanced and not each.is_active for each in everyone)


def go_on(office: Office, queues: Queues) -> SyncRun:
    """Start a run, or let another worker resume the killed one."""
    db.session.rollback()
    with writing():
        active = runs.find_active_run(office.connection.id)
        if active is not None and not active.is_queued:
            office.let_lease_run_out(active)
        return runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)


def expect_sweep(office: Office) -> None:
    db.session.rollback()
    with writing():
        office.connection.swept_at = utcnow() - timedelta(days=2)
        db.session.commit()


def approve(office: Office, queues: Queues) -> SyncRun:
    db.session.rollback()
    with writing():
        return departures.approve(office.connection, queues.enqueue_runs)


def kill_within(worker: Worker, office: Office, run: SyncRun, calls: int, then_s: float) -> int:
    """Kill the work-horse a moment after its n-th call; return 1, or 0 if the run was faster."""
    until = office.org.calls.counted() + calls
    wait_for(lambda: office.org.calls.counted() >= until or not office.reload(run).is_active, "for a call")
    time.sleep(then_s)
    if not office.reload(run).is_active:
        return 0
    horses = worker.children()
    for horse in horses:
        with suppress(psutil.NoSuchProcess):
            horse.kill()
            horse.wait(10)
    return len(horses)


def end(office: Office, queues: Queues, run: SyncRun | None = None) -> SyncRun:
    """Let the active run, or a new one, go on, and wait until it has ended."""
    active = run or go_on(office, queues)  # which may be a new one: the last may have ended before it was killed
    wait_for(lambda: not office.reload(active).is_active, "for the end of the run")
    return office.reload(active)
