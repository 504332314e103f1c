"""Real workers that are killed during write-backs: each record is opted out by one update, and none is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import Contact, OptOutWrite, WriteBackState
from asapp.writeback import outbox
from config import Config
from devtools.processes import Worker
from devtools.servers import RedisServer
from devtools.waiting import wait_for
from orgsim import Running
from tests.write_back_office import WriteBackOffice

pytestmark = pytest.mark.slow

PEOPLE = 5
HELD_S = 30.0  # at most; a gate ends it
UPDATE = {"method": "PATCH", "path": "/composite/sobjects"}


class Workshop(WriteBackOffice):
    """An office whose opt-outs are written back by real workers. Each person unsubscribes when the one before is done."""

    def __init__(self, running: Running, queues: Queues) -> None:
        super().__init__(running)
        self.queues = queues
        self.org.change_settings(session_minutes=10**7)
        self.ids = [self.add(email=f"p{n}@edge.example", last_name=f"P{n}") for n in range(PEOPLE)]
        self.sync()
        db.session.rollback()
        assert db.session.scalars(select(Contact.id)).all()

    def stop_mail_to(self, number: int) -> None:
        self.unsubscribe(f"p{number}@edge.example")
        self.tick()

    def tick(self) -> None:
        self.queues.redis.delete(f"asapp:opt-outs:{self.connection.id}")
        db.session.rollback()
        with writing():
            outbox.enqueue_due(self.queues.enqueue_opt_outs)

    def told(self) -> int:
        return sum(state == WriteBackState.TOLD for state, _ in self.writes().values())

    def wait_until_told(self, count: int) -> None:
        wait_for(lambda: self.told() == count, "for Salesforce to be told")

    def take_up_again(self) -> None:
        """Let the lease of a dead worker end, and run the tick."""
        self.make_all_due()
        self.tick()

    @contextmanager
    def held(self, deed: str, **where: str) -> Iterator[None]:
        """Block the org's answer to the next such request."""
        gate = Event()
        self.org.trouble.add(deed, seconds=HELD_S, times=1, gate=gate, **where)
        try:
            yield
        finally:
            gate.set()

    def check(self, count: int) -> None:
        """Each was opted out by one accepted update: more would have moved stamps and run triggers for nothing."""
        assert all(self.is_out(each) for each in self.ids[:count])
        assert sorted(each["Id"] for each in self.org.opted_out_by_api()) == sorted(self.ids[:count])
        assert self.told() == count
        assert not db.session.scalars(select(OptOutWrite.lease).where(OptOutWrite.lease.is_not(None))).all()


@pytest.fixture
def office(app: Flask, org: Running) -> Workshop:
    return Workshop(org, app.extensions["asapp.queues"])


def test_kill_9_between_the_update_and_storing_its_answer(office: Workshop, config: Config, tmp_path: Path) -> None:
    with Worker(config, tmp_path / "worker.log") as worker:
        for number in range(PEOPLE):
            mark = office.org.calls.mark()
            with office.held("slow_after", **UPDATE):
                office.stop_mail_to(number)
                wait_for(lambda number=number: office.is_out(office.ids[number]), "for the update")
                worker.kill_horse()
            assert office.told() == number
            office.take_up_again()
            office.wait_until_told(number + 1)
            assert office.updates(mark) == 1
    office.check(PEOPLE)


def test_kill_9_before_the_update(office: Workshop, config: Config, tmp_path: Path) -> None:
    with Worker(config, tmp_path / "worker.log") as worker:
        for number in range(PEOPLE):
            mark = office.org.calls.mark()
            with office.held("slow", soql="FROM Contact"):
                office.stop_mail_to(number)
                wait_for(lambda mark=mark: office.org.calls.counted(mark) or worker.children(), "for the delivery")
                worker.kill_horse()
            office.take_up_again()
            office.wait_until_told(number + 1)
    office.check(PEOPLE)


def test_a_worker_that_is_asked_to_end_hands_back_what_is_left(
    office: Workshop, config: Config, tmp_path: Path
) -> None:
    """SIGTERM during the lookup: nothing more is sent, the row is free at once, and the next worker takes it."""
    with Worker(config, tmp_path / "first.log") as worker, office.held("slow_after", soql="FROM Contact"):
        office.stop_mail_to(0)
        wait_for(worker.children, "for the delivery")
        wait_for(lambda: office.write(office.ids[0]).lease, "for the claim")
        worker.stop()
    assert not office.is_out(office.ids[0])
    assert office.write(office.ids[0]).lease is None
    office.tick()
    with Worker(config, tmp_path / "second.log"):
        office.wait_until_told(1)
    office.check(1)


def test_redis_that_forgets_the_job(
    office: Workshop, config: Config, redis_server: RedisServer, tmp_path: Path
) -> None:
    office.stop_mail_to(0)
    redis_server.flush()
    with Worker(config, tmp_path / "worker.log"):
        office.tick()
        office.wait_until_told(1)
    office.check(1)
