"""kill -9 of real processes in the middle of a run: it resumes from its checkpoint, and nothing is lost or done twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import delete

from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import (
    BlockedAddress,
    Connection,
    Contact,
    LedgerEntry,
    RunChange,
    RunStatus,
    RunTrigger,
    SyncRun,
)
from asapp.sync import runs
from asapp.sync.dispatch import dispatch
from config import Config
from devtools.processes import Worker
from devtools.waiting import wait_for
from orgsim import Running
from tests.jobs.mortal import MortalWorker, is_killed
from tests.syncing import Office, contacts_here

pytestmark = pytest.mark.slow

CONTACTS = 3000
PAGE = 200
COMMITS_AT_LEAST, MOST_COMMITS = 8, 60  # of a sync


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


def test_kill_9_before_each_commit_of_a_first_sync(app: Flask, config: Config, office: Office, tmp_path: Path) -> None:
    """A work-horse dies before its 1st, 2nd, 3rd … commit: what was committed counts, and nothing is lost or stored twice."""
    queues: Queues = app.extensions["asapp.queues"]
    office.org.trouble.clear()
    office.org.change_settings(page_sizes=1000)
    left = tmp_path / "left"
    left.write_text("0")
    expected = {(c["Id"], c["FirstName"], c["LastName"], c["Email"]) for c in office.org.contacts(office.user)}
    with MortalWorker(config, tmp_path / "worker.log", left) as worker:
        for number in range(1, MOST_COMMITS):
            left.write_text(str(number))
            run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
            wait_for(lambda run=run: is_killed(left) or not office.reload(run).is_active, "for a kill, or the end")
            if not is_killed(left):
                break
            wait_for(lambda: not worker.children(), "for the end of the work-horse")
            left.write_text("0")
            read = office.reload(run).read
            assert read == len(contacts_here(office.connection))
            office.let_lease_run_out(run)
            runs.requeue_expired(run.id)
            runs.enqueue_run(office.reload(run), queues.enqueue_runs)  # it may have been killed before it was claimed
            wait_for(lambda run=run: not office.reload(run).is_active, "for the end of the run")
            done = office.reload(run)
            assert (done.status, done.read, done.created) == (RunStatus.COMPLETE, CONTACTS, CONTACTS)
            stored = [(c.salesforce_id, c.first_name, c.last_name, c.email) for c in contacts_here(office.connection)]
            assert len(stored) == len(expected)
            assert set(stored) == expected
            wait_for(lambda: not worker.children(), "for what the run has left")
            forget_everything(office)
    assert number > COMMITS_AT_LEAST


def forget_everything(office: Office) -> None:
    """Let the next run be a first one again."""
    db.session.rollback()
    with writing():
        for table in (RunChange, Contact, LedgerEntry, BlockedAddress):
            db.session.execute(delete(table))
        connection = db.session.get_one(Connection, office.connection.id)
        connection.watermark = connection.opt_out_field_read = None
        db.session.commit()
