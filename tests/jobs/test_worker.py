"""SIGTERM reaches the run: it is handed back at its checkpoint, and the worker ends within 10 seconds."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from sqlalchemy import text

from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.health.heartbeats import WORKER, list_seen
from asapp.jobs.worker import make_worker
from asapp.models import RunStatus, RunTrigger
from asapp.sync import runs
from asapp.sync.runs import requeue_expired
from config import Config
from devtools.guard import ROOT
from devtools.processes import Worker, environ_of
from devtools.servers import RedisServer
from devtools.waiting import wait_for
from orgsim import Running
from tests.conftest import make_config
from tests.syncing import Office, contacts_here

pytestmark = pytest.mark.slow

CONTACTS = 2000
PAGE = 200
GONE_S = 10.0


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    office = Office(org)
    stamp = office.org.clock.now() - timedelta(days=3)
    office.org.add_contacts(
        [
            {
                "owner_id": office.user,
                "first_name": "Ravi",
                "last_name": f"Śliwa {number}",
                "email": f"c{number}@fjord.example",
                "stamp": stamp + timedelta(minutes=number // 7),
            }
            for number in range(CONTACTS)
        ]
    )
    office.org.change_settings(page_sizes=PAGE)
    return office


@pytest.fixture
def queues(app: Flask) -> Queues:
    found: Queues = app.extensions["asapp.queues"]
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


def lines_of(log: Path) -> Iterator[dict[str, object]]:
    return (json.loads(line) for line in log.read_text().splitlines())


def end(worker: Worker) -> float:
    """Ask it to end; return how many seconds it took."""
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    worker.wait(30)
    return time.monotonic() - began


def test_a_run_is_handed_back_and_goes_on_elsewhere(
    app: Flask, config: Config, office: Office, queues: Queues, log: Path
) -> None:
    office.org.trouble.add("slow", kind="query_more", seconds=0.5)
    run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
    with Worker(config, log) as worker:
        wait_for(lambda: office.reload(run).read >= 2 * PAGE, "for the second page")
        assert end(worker) < GONE_S
        assert worker.exit_code == 0
    left = office.reload(run)
    assert (left.status, left.lease, left.tries) == (RunStatus.QUEUED, None, 0)
    assert 2 * PAGE <= left.read < CONTACTS
    assert left.enqueued_at is not None
    read_before = left.read
    assert [job_id.rpartition("-")[0] for job_id in queues.sync.job_ids] == [f"run-{run.id}"]

    office.org.trouble.clear()
    with Worker(config, log):
        wait_for(lambda: not office.reload(run).is_active, "for the end of the run")
    done = office.reload(run)
    assert done.status == RunStatus.COMPLETE
    assert done.read == CONTACTS > read_before  # from the checkpoint on
    assert len(contacts_here(office.connection)) == CONTACTS


def test_while_salesforce_hangs_it_is_gone_within_the_calls_timeout(
    app: Flask, config: Config, office: Office, queues: Queues, log: Path
) -> None:
    """The call can't be interrupted, but it has a timeout of its own (27 s); here 6."""
    fault = office.org.trouble.add("slow", kind="query_more", seconds=6)
    run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
    with Worker(config, log) as worker:
        wait_for(lambda: fault.hits, "for a page that doesn't come")
        assert end(worker) < 6 + GONE_S
    assert office.reload(run).status == RunStatus.QUEUED


def test_an_idle_worker_is_gone_at_once(app: Flask, config: Config, log: Path) -> None:
    with Worker(config, log) as worker:
        wait_for(lambda: is_seen(), "for its heartbeat")
        assert end(worker) < 5
        assert worker.exit_code == 0
    assert not is_seen()  # it has ended cleanly


def test_a_worker_whose_redis_is_away_ends_too(app: Flask, config: Config, log: Path) -> None:
    with RedisServer() as own_redis, Worker(make_config(config.database_url, own_redis.url), log) as worker:
        wait_for(lambda: is_seen(), "for its heartbeat")
        own_redis.kill()
        time.sleep(1)
        assert end(worker) < GONE_S


def test_while_redis_is_away_each_line_of_its_log_is_json_without_the_password(
    app: Flask, config: Config, log: Path
) -> None:
    with RedisServer() as own_redis, Worker(make_config(config.database_url, own_redis.url), log):
        wait_for(lambda: is_seen(), "for its heartbeat")
        own_redis.kill()
        wait_for(lambda: log.read_text().count("\n") > 1, "for what it says")
        assert "ConnectionError" in " ".join(str(line["message"]) for line in lines_of(log))
        assert own_redis.url.split("@")[0].rpartition(":")[2] not in log.read_text()


def test_signals_from_its_first_moment_on_are_not_lost(
    app: Flask, config: Config, office: Office, queues: Queues, log: Path
) -> None:
    """Send SIGTERM as soon as there is a work-horse: its handlers may not be set yet."""
    office.org.trouble.add("slow", kind="composite", seconds=0.5)
    run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
    with Worker(config, log) as worker:
        wait_for(worker.children, "for the work-horse")
        assert end(worker) < GONE_S
    assert office.reload(run).status == RunStatus.QUEUED
    assert list(FailedJobRegistry(queue=queues.sync).get_job_ids()) == []


def test_a_second_worker_takes_a_run_whose_first_came_back_from_the_dead(
    app: Flask, config: Config, office: Office, queues: Queues, log: Path
) -> None:
    """A work-horse that was suspended past its lease changes nothing any more."""
    office.org.trouble.add("slow", kind="query_more", seconds=1, times=3)
    run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
    with Worker(config, log) as asleep:
        wait_for(lambda: office.reload(run).read >= PAGE, "for the first page")
        time.sleep(0.3)  # now it waits for the next page, in no transaction
        (horse,) = asleep.children()
        horse.suspend()
        office.let_lease_run_out(run)
        assert requeue_expired(run.id)
        queues.enqueue_runs([run.id])
        with Worker(config, log.with_name("second.log")):
            wait_for(lambda: not office.reload(run).is_active, "for the end of the run")
            horse.resume()
            wait_for(lambda: not asleep.children(), "for the first to give up")
    done = office.reload(run)
    assert (done.status, done.tries) == (RunStatus.COMPLETE, 1)
    assert done.read == done.created == len(contacts_here(office.connection)) == CONTACTS
    assert "lease lost" in log.read_text()


def test_what_a_worker_logs_is_json_with_ids(
    app: Flask, config: Config, office: Office, queues: Queues, log: Path
) -> None:
    run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
    with Worker(config, log):
        wait_for(lambda: not office.reload(run).is_active)
        wait_for(lambda: "run complete" in log.read_text())
    (line,) = [line for line in lines_of(log) if line["message"] == "run complete"]
    ids = {"run_id": run.id, "connection_id": office.connection.id, "partner_id": office.connection.partner_id}
    assert line | ids | {"job": "run_sync"} == line


def test_a_bug_leaves_nothing_personal_in_the_log_or_in_redis(
    app: Flask, config: Config, office: Office, queues: Queues, log: Path, redis_server: RedisServer
) -> None:
    """RQ logs and stores the text of an exception that leaves a job; the text may quote rows."""
    refuse_by_name("Śliwa 7")
    run = runs.start_run(office.connection, RunTrigger.MANUAL, queues.enqueue_runs)
    with Worker(config, log):
        wait_for(lambda: not office.reload(run).is_active)
        failed = FailedJobRegistry(queue=queues.sync)
        (job_id,) = wait_for(lambda: failed.get_job_ids(), "for RQ to note it")
    assert (office.reload(run).status, run.error_code) == (RunStatus.FAILED, "our_bug")
    (line,) = [line for line in lines_of(log) if "error" in line]
    assert (line["message"], line["run_id"]) == ("the job failed", run.id)
    job = Job.fetch(job_id, connection=redis_server.client(), serializer=JSONSerializer)
    result = job.latest_result()
    assert result
    told = f"{log.read_text()} {result.exc_string} {job.to_dict()}"
    assert "JobFailed: " in told
    for personal in ("liwa", "u015a", "fjord.example"):
        assert personal not in told


def refuse_by_name(last_name: str) -> None:
    """Raise a database error whose message quotes the row."""
    deed = f"ALTER TABLE contacts ADD CONSTRAINT refused CHECK (last_name <> '{last_name}')"
    if db.engine.dialect.name == "sqlite":
        deed = f"""CREATE TRIGGER refused BEFORE INSERT ON contacts WHEN NEW.last_name = '{last_name}'
                   BEGIN SELECT RAISE(ABORT, 'no {last_name}'); END"""
    db.session.rollback()
    with writing():
        db.session.execute(text(deed))
        db.session.commit()


def is_seen() -> bool:
    db.session.rollback()
    return any(seen.kind == WORKER for seen in list_seen(db.session(), utcnow()))


def test_burst_stops_when_the_queues_are_empty(app: Flask, config: Config, log: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "worker.py", "--burst"],
        cwd=ROOT,
        env=environ_of(config),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, b"")


class SwallowingHeart:
    """A heart whose database swallows what a signal raises, as a pool does while it returns a connection."""

    def __init__(self) -> None:
        self.was_asked = False

    def beat(self) -> None:
        if not self.was_asked:
            self.was_asked = True
            with suppress(Exception):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)

    def stop(self) -> None:
        """Nothing is kept."""


def work_with_a_swallowing_heart(redis_url: str) -> None:
    make_worker(redis_url, SwallowingHeart()).work(logging_level="ERROR")  # type: ignore[arg-type]


def test_a_worker_that_is_asked_to_stop_while_its_heart_beats_stops(redis_server: RedisServer) -> None:
    redis_server.flush()
    process = multiprocessing.get_context("spawn").Process(
        target=work_with_a_swallowing_heart, args=(redis_server.url,)
    )
    process.start()
    process.join(30)
    is_over = process.exitcode is not None
    process.kill()
    assert is_over
