"""Rounds of checks by real workers: killed, stopped, with Redis emptied, and with a click and a disconnect in the middle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import update

from asapp.connections.connections import disconnect
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import Connection, RunTrigger, SyncRun
from asapp.sync import runs
from asapp.sync.dispatch import dispatch
from config import Config
from devtools.processes import Worker
from devtools.servers import RedisServer
from devtools.waiting import wait_for
from orgsim import Running
from tests.checking import add_colleagues, counted_calls, data_calls, synced_office
from tests.factories import org_access
from tests.syncing import Office

pytestmark = pytest.mark.slow

ADVISORS = 10
CALL_S = 0.6  # of this org
ENDS_S = 10.0


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    office = synced_office(Office(org))
    add_colleagues(office, ADVISORS - 1)
    office.org.trouble.add("slow", kind="data", seconds=CALL_S)
    return office


def tick(app: Flask) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    db.session.rollback()
    with writing():
        dispatch(queues.enqueue_runs, queues.find_lost_runs, queues.enqueue_rounds)


def all_of(office: Office) -> Sequence[Connection]:
    db.session.rollback()
    return db.session.query(Connection).populate_existing().order_by(Connection.id).all()


def are_under_way(office: Office) -> bool:
    return any(each.lease for each in all_of(office)) and office.org.calls.latest(1)[0].status == 0


def are_fresh(office: Office) -> bool:
    return all(each.next_sync_at is None or each.next_sync_at > utcnow() for each in all_of(office))


@pytest.mark.parametrize("deed", [Worker.kill_horse, Worker.kill_with_children], ids=["work-horse", "worker"])
def test_kill_9_in_a_round(
    app: Flask, config: Config, redis_server: RedisServer, office: Office, tmp_path: Path, deed: object
) -> None:
    with Worker(config, tmp_path / "first.log") as worker:
        tick(app)
        wait_for(lambda: are_under_way(office), "for calls")
        deed(worker)  # type: ignore[operator]
    assert not are_fresh(office)
    left = {each.lease_until for each in all_of(office) if each.lease}
    assert max(left) - utcnow() < timedelta(seconds=45)
    redis_server.flush()
    db.session.execute(update(Connection).values(lease_until=utcnow() - timedelta(seconds=1)))
    db.session.commit()
    with Worker(config, tmp_path / "second.log"):
        tick(app)
        wait_for(lambda: are_fresh(office), "for the next round")
    assert all(
        each.lease is None and each.last_good_sync_at == each.opt_outs_known_until - timedelta(days=7)
        for each in all_of(office)
    )
    assert db.session.query(SyncRun).count() == 1  # the first sync


def test_sigterm_lets_the_calls_under_way_end_and_leaves_the_rest_due(
    app: Flask, config: Config, office: Office, tmp_path: Path
) -> None:
    mark, counted = office.org.calls.mark(), counted_calls()
    with Worker(config, tmp_path / "worker.log") as worker:
        tick(app)
        wait_for(lambda: are_under_way(office), "for calls")
        began = time.monotonic()
        worker.stop()
        assert time.monotonic() - began < ENDS_S
    asked = data_calls(office, mark)
    assert 0 < asked < ADVISORS
    assert counted_calls() - counted == asked
    assert sum(each.next_sync_at > utcnow() for each in all_of(office)) == asked
    assert all(each.lease is None for each in all_of(office))


def test_redis_emptied_a_click_and_a_disconnect_in_the_middle_of_a_round(
    app: Flask, config: Config, redis_server: RedisServer, office: Office, tmp_path: Path
) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    with Worker(config, tmp_path / "one.log"), Worker(config, tmp_path / "two.log"):
        tick(app)
        wait_for(lambda: are_under_way(office), "for calls")
        redis_server.flush()
        clicked, left, *_ = all_of(office)
        run = runs.start_run(clicked, RunTrigger.MANUAL, queues.enqueue_runs)
        assert run is not None
        run_id = run.id
        disconnect(left, True, org_access())
        wait_for(lambda: are_fresh(office), "for the round")
        wait_for(
            lambda: (
                not db.session.get_one(SyncRun, run_id, populate_existing=True).is_active and not db.session.rollback()
            ),
            "for the run",
        )
    clicked, left, *others = all_of(office)
    assert db.session.get_one(SyncRun, run_id).is_complete
    assert db.session.query(SyncRun).count() == 2
    assert (left.is_disconnected, left.next_sync_at, left.lease) == (True, None, None)
    assert all(each.watermark > clicked.first_synced_at for each in others)
