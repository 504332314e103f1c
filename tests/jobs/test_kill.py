"""kill -9 of real processes in the middle of a run: it resumes from its checkpoint, and nothing is lost or done twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import RunStatus, RunTrigger, SyncRun
from asapp.sync import runs
from asapp.sync.dispatch import dispatch
from config import Config
from devtools.processes import Worker
from devtools.waiting import wait_for
from orgsim import Running
from tests.syncing import Office, contacts_here

pytestmark = pytest.mark.slow

CONTACTS = 3000
PAGE = 200


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    office = Office(org)
    office.fill(CONTACTS)
    office.org.change_settings(page_sizes=PAGE)
    office.org.trouble.add("slow", kind="query_more", seconds=0.05)
    return office


@pytest.mark.parametrize("deed", [Worker.kill_horse, Worker.kill_with_children], ids=["work-horse", "worker"])
@pytest.mark.parametrize("by", ["tick", "click"])
def test_kill_9_in_mid_run(app: Flask, config: Config, office: Office, tmp_path: Path, deed: object, by: str) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
    with Worker(config, tmp_path / "first.log") as worker:
        wait_for(lambda: office.reload(run).read >= 3 * PAGE, "for the third page")
        deed(worker)  # type: ignore[operator]
    left_at = office.reload(run)
    read_before = left_at.read
    assert left_at.status == RunStatus.RUNNING
    assert PAGE <= read_before < CONTACTS

    office.let_lease_run_out(run)
    with Worker(config, tmp_path / "second.log"):
        if by == "tick":
            assert dispatch(queues.enqueue_runs, queues.find_lost_runs, queues.enqueue_rounds).requeued == 1
        else:
            joined = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
            assert joined.id == run.id
        wait_for(lambda: not office.reload(run).is_active, "for the end of the run")

    done = office.reload(run)
    assert (done.status, done.tries) == (RunStatus.COMPLETE, 1)
    assert done.read == done.created == CONTACTS  # it resumed at the checkpoint: no row was read twice
    expected = {(c["Id"], c["FirstName"], c["LastName"], c["Email"]) for c in office.org.contacts(office.user)}
    assert {(c.salesforce_id, c.first_name, c.last_name, c.email) for c in contacts_here(office.connection)} == expected
    assert db.session.query(SyncRun).count() == 1
