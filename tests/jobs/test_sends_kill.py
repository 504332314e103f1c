"""Real workers that are killed while a send is prepared: it becomes ready or stale, and no one who opted out is a recipient."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from flask import Flask
from sqlalchemy import func, select, update

from asapp.contacts import recipients
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import ContactList, ListKind, RunStatus, Send, SendState, SyncRun
from asapp.sends import prepare, sends
from asapp.sync.dispatch import dispatch
from config import Config
from devtools.processes import Worker
from devtools.servers import RedisServer
from devtools.waiting import wait_for
from orgsim import Running
from orgsim.trouble import Fault
from tests.factories import org_access
from tests.jobs.mortal import MortalWorker, is_killed
from tests.syncing import Office

pytestmark = pytest.mark.slow

PEOPLE = 60
COMMITS_AT_LEAST = 10  # of a preparation
HELD_S = 30.0  # at most; a gate ends it


class MailRoom(Office):
    """An office whose sends are prepared by real workers."""

    def __init__(self, running: Running, queues: Queues) -> None:
        super().__init__(running)
        self.queues, self.advisor_id = queues, self.advisor.id
        self.ids = self.fill(PEOPLE)
        self.sync()
        self.org.change_without_stamp(self.ids[0], HasOptedOutOfEmail=True)

    def begin(self, send_id: str = "s-1") -> int:
        system = (ContactList.user_id == self.advisor_id, ContactList.kind == ListKind.SALESFORCE_CONTACTS)
        with writing():
            send = sends.start_send(0, send_id, db.session.scalars(select(ContactList).where(*system)).one(), 60)
            send_id = send.id
            db.session.rollback()  # so that the worker can write
            self.queues.enqueue_sends([send_id])
            return send_id

    def tick(self) -> None:
        db.session.rollback()
        with writing():
            dispatch(self.queues.enqueue_runs, self.queues.find_lost_runs, self.queues.enqueue_rounds)
            prepare.advance_all(self.queues.enqueue_send_runs)

    def send(self, send_id: int) -> Send:
        db.session.rollback()
        return db.session.get_one(Send, send_id, populate_existing=True)

    def wait_until_ready(self, send_id: int) -> None:
        wait_for(lambda: self.is_ready(send_id), "for the send to be ready")

    def is_ready(self, send_id: int) -> bool:
        return self.send(send_id).state == SendState.READY

    def is_ready_after_tick(self, send_id: int) -> bool:
        self.tick()
        return self.is_ready(send_id)

    def is_quiet(self, worker: Worker) -> bool:
        """Does no job run or wait?"""
        return not worker.children() and not any((self.queues.depths() or {}).values())

    def let_a_minute_pass(self) -> None:
        """End the leases of dead workers; jobs that have been waiting for a minute are looked up in Redis."""
        db.session.rollback()
        ago = utcnow() - timedelta(minutes=2)
        db.session.execute(update(SyncRun).where(SyncRun.status == RunStatus.RUNNING).values(lease_until=ago))
        queued = (SyncRun.status == RunStatus.QUEUED, SyncRun.enqueued_at.is_not(None))
        db.session.execute(update(SyncRun).where(*queued).values(enqueued_at=ago))
        db.session.commit()

    def let_five_minutes_pass(self, send_id: int) -> None:
        db.session.rollback()
        db.session.execute(update(Send).where(Send.id == send_id).values(deadline_at=utcnow()))
        db.session.commit()

    def run_of(self, send_id: int) -> SyncRun:
        return db.session.get_one(SyncRun, self.send(send_id).run_id, populate_existing=True)

    @contextmanager
    def held(self, deed: str, **where: str) -> Iterator[Fault]:
        """Block the org's answer to the next such request."""
        gate = Event()
        fault = self.org.trouble.add(deed, seconds=HELD_S, times=1, gate=gate, **where)
        try:
            yield fault
        finally:
            gate.set()

    def check(self, send_id: int, opted_out: int = 1) -> None:
        """The first of all people, so many, have opted out."""
        contact_list = db.session.get_one(ContactList, self.send(send_id).list_id)
        audience = recipients.prepare(contact_list, utcnow(), org_access().vault, "http://asapp.example")
        found = list(recipients.iter_recipients(audience))
        assert {each["salesforce_id"] for each in found} == set(self.ids[opted_out:])
        active = select(func.count()).select_from(SyncRun).where(SyncRun.status.in_(("queued", "running")))
        wait_for(lambda: (db.session.rollback(), db.session.scalar(active))[1] == 0, "for the runs to end")


@pytest.fixture
def room(app: Flask, org: Running) -> MailRoom:
    return MailRoom(org, app.extensions["asapp.queues"])


def test_kill_9_before_each_commit(room: MailRoom, config: Config, redis_server: RedisServer, tmp_path: Path) -> None:
    """From the first commit of the first job to the last: the send becomes ready, and knows the newest opt-out.

    Redis is emptied each other time: on SQLite at the points at which it isn't on PostgreSQL.
    """
    left, is_emptied = tmp_path / "left", db.engine.dialect.name == "sqlite"
    left.write_text("0")
    with MortalWorker(config, tmp_path / "worker.log", left) as worker:
        for number in range(1, PEOPLE):
            wait_for(lambda: room.is_quiet(worker), "for what the send before has left")
            left.write_text(str(number))
            room.org.change_without_stamp(room.ids[number], HasOptedOutOfEmail=True)
            send_id = room.begin(f"s-{number}")
            wait_for(lambda send_id=send_id: is_killed(left) or room.is_ready(send_id), "for a kill, or the end")
            if not is_killed(left):
                break
            wait_for(lambda: not worker.children(), "for the end of the work-horse")
            is_emptied = not is_emptied
            if is_emptied:
                redis_server.flush()
            room.let_a_minute_pass()
            wait_for(lambda send_id=send_id: room.is_ready_after_tick(send_id), "for the send to be ready", pause_s=0.2)
            room.check(send_id, number + 1)
    assert number > COMMITS_AT_LEAST
    room.check(send_id, number + 1)


def test_kill_9_of_worker_and_work_horse_before_the_sync_begins(room: MailRoom, config: Config, tmp_path: Path) -> None:
    with Worker(config, tmp_path / "first.log") as worker, room.held("slow", soql="FROM Contact"):
        send_id = room.begin()
        wait_for(lambda: room.send(send_id).run_id and room.run_of(send_id).status == RunStatus.RUNNING, "the run")
        worker.kill_with_children()
    room.let_lease_run_out(room.run_of(send_id))
    with Worker(config, tmp_path / "second.log"):
        room.tick()
        room.wait_until_ready(send_id)
    room.check(send_id)


def test_redis_that_forgets_every_job(
    room: MailRoom, config: Config, redis_server: RedisServer, tmp_path: Path
) -> None:
    send_id = room.begin()
    redis_server.flush()
    with Worker(config, tmp_path / "worker.log"):
        room.tick()
        room.wait_until_ready(send_id)
    room.check(send_id)


def test_the_same_send_asked_for_by_many_at_once(room: MailRoom, app: Flask, config: Config, tmp_path: Path) -> None:
    db.session.commit()

    def ask(_number: int) -> int:
        with app.app_context():
            return MailRoom.begin(room)

    with ThreadPoolExecutor(4) as senders:
        ids = set(senders.map(ask, range(8)))
    assert len(ids) == 1
    with Worker(config, tmp_path / "worker.log"):
        room.wait_until_ready(ids.pop())
    db.session.rollback()
    assert db.session.scalar(select(func.count()).select_from(Send)) == 1


def test_an_org_that_is_away_makes_the_send_stale(room: MailRoom, config: Config, tmp_path: Path) -> None:
    room.org.trouble.add("server_unavailable_html", kind="composite", times=10)
    with Worker(config, tmp_path / "worker.log"):
        send_id = room.begin()
        wait_for(lambda: room.send(send_id).state == SendState.STALE, "for the send to be stale")
    assert room.send(send_id).reason == "salesforce_away"


def test_an_org_that_hangs_makes_the_send_stale_when_its_time_is_up(
    room: MailRoom, config: Config, tmp_path: Path
) -> None:
    """The worker waits for an answer that never comes; the tick of another process ends the send."""
    fault = room.org.trouble.add("hang", kind="composite")
    with Worker(config, tmp_path / "worker.log"):
        send_id = room.begin()
        wait_for(lambda: fault.hits, "for the call that hangs")
        room.tick()
        assert room.send(send_id).is_preparing
        room.let_five_minutes_pass(send_id)
        room.tick()
        ended = room.send(send_id)
        assert (ended.state, ended.reason) == (SendState.STALE, "took_too_long")
