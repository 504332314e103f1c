"""Real processes that end at every step of a delivery, fifty times each: as many leads in the org as sign-ups, each once.

One worker, org and Redis serve all fifty. The work-horse is blocked at a step, by an org that doesn't answer or by the
database, and killed there with kill -9; the worker starts the next one, which finds out what became of the lead.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest
from flask import Flask
from sqlalchemy import Table, select, text, update

from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.leads import outbox
from asapp.models import Connection, Contact, Lead, LeadState
from config import Config
from devtools.processes import Worker
from devtools.servers import RedisServer
from devtools.waiting import wait_for
from orgsim import Running
from tests.signing_up import PostOffice, someone_signs_up

pytestmark = pytest.mark.slow

TIMES = {"sqlite": 50, "postgresql": 10}
HELD_S = 30.0  # at most; a gate ends it
A_MOMENT_S = 0.1
Moment = Callable[["Sorting"], AbstractContextManager[None]]
CREATE = {"method": "POST", "path": "/composite/sobjects"}


class Sorting(PostOffice):
    """An office whose leads are delivered by real workers."""

    def __init__(self, running: Running, queues: Queues) -> None:
        super().__init__(running)
        self.queues = queues
        self.org.change_settings(session_minutes=10**7)
        self.sent = 0
        self.ticks = 0

    def sign_up(self) -> None:
        """Sign a person up on a quiet page: the last delivery was long ago."""
        self.sent += 1
        db.session.rollback()
        with writing():
            db.session.execute(update(Connection).values(leads_not_before=None))
            someone_signs_up(self.advisor, f"person{self.sent}@example.com")
            db.session.commit()

    def enqueue(self) -> None:
        outbox.enqueue_for(self.advisor.id, self.queues.enqueue_leads)

    def tick(self) -> None:
        self.ticks += 1
        with writing():
            outbox.enqueue_due(self.queues.enqueue_leads)

    def let_pass(self, seconds: float) -> None:
        super().let_pass(seconds)
        db.session.execute(update(Connection).values(leads_rung_at=None, leads_not_before=None))
        db.session.commit()

    def is_quiet(self) -> bool:
        """Return whether no delivery is waiting or active."""
        return not self.queues.leads.count and not self.queues.leads.started_job_registry.count

    def newest(self) -> Lead:
        return self.lead(f"person{self.sent}@example.com")

    def wait_for_newest(self, passing_s: float = 0) -> None:
        """Wait until the lead has arrived; passing_s: while no worker has it, let time pass and a tick run."""

        def has_arrived() -> bool:
            lead = self.newest()
            if passing_s and lead.lease is None and lead.state != LeadState.SENT and self.is_quiet():
                self.let_pass(passing_s)
                self.tick()
            return lead.state == LeadState.SENT

        wait_for(has_arrived, "for the lead")

    def check(self) -> None:
        assert self.leads_there() == sorted(f"person{n}@example.com" for n in range(1, self.sent + 1))
        ids = {lead["Id"] for lead in self.org.leads()}
        assert set(db.session.scalars(select(Lead.salesforce_id))) == ids
        assert len(ids) == self.sent


@pytest.fixture
def office(app: Flask, org: Running) -> Sorting:
    return Sorting(org, app.extensions["asapp.queues"])


def times() -> int:
    return TIMES[db.engine.dialect.name]


# ---- Blocked at a step


@contextmanager
def held_by_org(office: Sorting, deed: str, **where: str) -> Iterator[Callable[[], None]]:
    """A person signs up, and the org doesn't answer the first such request; yields the event that lets it answer.

    The fault is set first: a delivery that is just ending may take the lead before its own job is enqueued.
    """
    gate = Event()
    fault = office.org.trouble.add(deed, seconds=HELD_S, times=1, gate=gate, **where)
    office.sign_up()
    office.enqueue()
    try:
        wait_for(lambda: fault.hits, "for the request")
        yield gate.set
    finally:
        gate.set()


@contextmanager
def before_the_look_up(office: Sorting) -> Iterator[None]:
    with held_by_org(office, "slow", soql="FROM Contact"):
        yield


@contextmanager
def after_the_look_up(office: Sorting) -> Iterator[None]:
    """The worker knows that the person is new, and waits for the lead's row to record that it is about to create."""
    with held_by_org(office, "slow_after", soql="IsConverted = false") as answer, locked(Lead, office.newest().id):
        answer()
        wait_until_blocked()
        yield


@contextmanager
def after_the_create(office: Sorting) -> Iterator[None]:
    with held_by_org(office, "slow_after", **CREATE):
        wait_for(lambda: len(office.org.leads()) == office.sent, "for the create")
        yield


@contextmanager
def between_store_and_commit(office: Sorting) -> Iterator[None]:
    """The lead's row has its Id in an open transaction, which the contact's locked row or a trigger keeps from committing."""
    with held_by_org(office, "slow_after", **CREATE) as answer:
        if db.engine.dialect.name == "sqlite":
            with endless_trigger():
                answer()
                wait_for(is_writing, "for the transaction")
                yield
            return
        with locked(Contact, office.newest().contact_id):
            answer()
            wait_until_blocked()
            yield


@contextmanager
def locked(model: type[Lead | Contact], row_id: int | None) -> Iterator[None]:
    """Lock this row against other writers; on SQLite, the whole database."""
    table: Table = model.__table__  # type: ignore[assignment]
    with writing(), db.engine.connect() as connection:
        connection.execute(select(table.c.id).where(table.c.id == row_id).with_for_update())
        yield
        connection.rollback()


def wait_until_blocked() -> None:
    if db.engine.dialect.name == "sqlite":
        time.sleep(A_MOMENT_S)  # SQLite doesn't show who waits; no writer gets past the lock
        return
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def is_blocked() -> bool:
        with db.engine.connect() as connection:
            return bool(connection.scalar(waiting))

    wait_for(is_blocked, "for the lock")


@contextmanager
def endless_trigger() -> Iterator[None]:
    """Storing a lead's Id takes hours, inside its transaction."""
    with database_file() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS numbers AS SELECT id AS n FROM leads")
        connection.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in range(1000)])
        connection.execute(
            "CREATE TRIGGER endless AFTER UPDATE OF salesforce_id ON leads WHEN NEW.salesforce_id IS NOT NULL BEGIN "
            "SELECT count(*) FROM numbers a, numbers b, numbers c, numbers d WHERE a.n + b.n + c.n + d.n < 0; END"
        )
    try:
        yield
    finally:
        with database_file() as connection:
            connection.execute("DROP TRIGGER endless")


def is_writing() -> bool:
    """Return whether a writing transaction has been open for a while."""
    until = time.monotonic() + A_MOMENT_S
    with database_file(patience_s=0) as connection:
        while time.monotonic() < until:
            with suppress(sqlite3.OperationalError):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                return False
            time.sleep(0.01)
    return True


@contextmanager
def database_file(patience_s: float = 15) -> Iterator[sqlite3.Connection]:
    path = db.engine.url.database
    assert path
    with closing(sqlite3.connect(path, timeout=patience_s, isolation_level=None)) as connection:
        yield connection


# ---- Fifty times each

MOMENTS = (before_the_look_up, after_the_look_up, after_the_create, between_store_and_commit)


@pytest.mark.parametrize("held_at", MOMENTS, ids=lambda moment: moment.__name__.replace("_", " "))
def test_kill_9_of_the_work_horse(office: Sorting, config: Config, tmp_path: Path, held_at: Moment) -> None:
    with Worker(config, tmp_path / "worker.log") as worker:
        for _ in range(times()):
            with held_at(office):
                worker.kill_horse()
            assert office.newest().state != LeadState.SENT
            office.let_pass(60)
            office.tick()
            office.wait_for_newest()
    office.check()


def test_kill_9_of_the_worker_and_its_work_horse(office: Sorting, config: Config, tmp_path: Path) -> None:
    with Worker(config, tmp_path / "first.log") as worker, after_the_create(office):
        worker.kill_with_children()
    office.let_pass(60)
    office.tick()
    with Worker(config, tmp_path / "second.log"):
        office.wait_for_newest()
    office.check()


def test_two_workers_at_once(office: Sorting, config: Config, tmp_path: Path) -> None:
    """Both start with the same lead at the same moment."""
    connection_id = office.connection.id
    office.org.trouble.add("slow", kind="query", seconds=0.02)
    with Worker(config, tmp_path / "first.log"), Worker(config, tmp_path / "second.log"):
        wait_for(lambda: office.queues.redis.scard("rq:workers") == 2, "for the workers")
        for _ in range(times()):
            office.sign_up()
            office.queues.enqueue_leads([connection_id, connection_id])
            office.wait_for_newest()
            wait_for(office.is_quiet, "for both")
    office.check()


def test_redis_that_is_flushed_before_a_worker_takes_the_job(
    office: Sorting, config: Config, redis_server: RedisServer, tmp_path: Path
) -> None:
    with Worker(config, tmp_path / "worker.log") as worker:
        process = psutil.Process(worker.pid)
        for _ in range(times()):
            wait_for(lambda: not worker.children(), "for the delivery before this one")
            office.sign_up()
            process.suspend()
            office.enqueue()
            redis_server.flush()
            process.resume()
            office.wait_for_newest(passing_s=60)
    assert office.ticks >= times()
    office.check()


def test_redis_that_is_flushed_while_a_worker_is_at_it(
    office: Sorting, config: Config, redis_server: RedisServer, tmp_path: Path
) -> None:
    with Worker(config, tmp_path / "worker.log") as worker:
        for _ in range(times()):
            wait_for(lambda: not worker.children(), "for the delivery before this one")
            with after_the_create(office):
                redis_server.flush()
            office.wait_for_newest()
    office.check()


def test_a_create_that_salesforce_finishes_minutes_later(office: Sorting, config: Config, tmp_path: Path) -> None:
    dice = random.Random(11)
    with Worker(config, tmp_path / "worker.log"):
        for _ in range(times()):
            office.org.trouble.add("late_work", times=1, seconds=dice.randint(310, 599), **CREATE)
            office.sign_up()
            office.enqueue()
            office.wait_for_newest(passing_s=300)
    assert set(db.session.scalars(select(Lead.attempts))) == {1}  # found by a search, never sent again
    office.check()
