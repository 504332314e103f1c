"""Without Redis pages answer as fast as ever, and jobs wait as rows in the database."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp import create_app, flask_settings
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import OptOutWrite, RunStatus, RunTrigger, SuppressionEvent, SyncRun
from asapp.salesforce.hosts import to_18
from asapp.sync import runs
from asapp.sync.dispatch import Dispatched, dispatch
from config import Config
from devtools.servers import RedisServer
from tests.conftest import make_config
from tests.factories import log_in, make_advisor, make_run, make_synced_connection
from tests.mail_links import path_of_link
from tests.pages import CheckingClient
from tests.senders import make_person

RUTH = "ruth@river.example"
QUICK_S = 1.0  # measured: 0.02 s to 0.2 s; the defaults of the libraries take 4 s or wait for ever


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a Redis that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture(params=["killed", "silent"])
def away(request: pytest.FixtureRequest, own_redis: RedisServer) -> Iterator[str]:
    """The address of a Redis that doesn't work."""
    if request.param == "silent":
        yield request.getfixturevalue("silent")
        return
    own_redis.kill()
    yield own_redis.url


@pytest.fixture
def client_without_redis(app: Flask, config: Config, away: str) -> FlaskClient:
    other = create_app(make_config(config.database_url, away))
    other.test_client_class = CheckingClient
    return other.test_client()


def seconds_of(deed: Callable[[], object]) -> float:
    began = time.perf_counter()
    deed()
    return time.perf_counter() - began


def test_a_click_on_sync_account_answers_and_the_run_waits(app: Flask, client_without_redis: FlaskClient) -> None:
    connection = make_synced_connection()
    log_in(client_without_redis, connection.user)
    took_s = seconds_of(lambda: client_without_redis.post("/settings/integrations/salesforce/sync"))
    assert took_s < QUICK_S
    run = db.session.query(SyncRun).one()
    assert (run.status, run.enqueued_at) == (RunStatus.QUEUED, None)


def test_clicking_again_enqueues_again_and_makes_no_second_run(app: Flask, client_without_redis: FlaskClient) -> None:
    connection = make_synced_connection()
    log_in(client_without_redis, connection.user)
    for _ in range(3):
        assert seconds_of(lambda: client_without_redis.post("/settings/integrations/salesforce/sync")) < QUICK_S
    assert db.session.query(SyncRun).count() == 1


def test_logging_in_answers_and_is_still_limited(app: Flask, client_without_redis: FlaskClient) -> None:
    email = make_advisor().email
    wrong = {"email": email, "password": "not this one"}
    answers = []
    for _ in range(40):
        took_s = seconds_of(lambda: answers.append(client_without_redis.post("/login", data=wrong).status_code))
        assert took_s < QUICK_S
        if answers[-1] == 429:
            break
    assert answers[0] == 422
    assert answers[-1] == 429


def test_the_run_goes_on_once_redis_is_back(app: Flask, own_redis: RedisServer) -> None:
    queues = Queues(own_redis.url)
    connection = make_synced_connection()
    own_redis.kill()
    assert not queues.is_there()
    run = runs.start_run(connection, RunTrigger.MANUAL, queues.enqueue_runs)
    assert run.enqueued_at is None
    own_redis.start()
    assert dispatch(queues.enqueue_runs, queues.find_lost_runs, queues.enqueue_rounds).enqueued == 1
    assert [job_id.rpartition("-")[0] for job_id in queues.sync.job_ids] == [f"run-{run.id}"]


def test_looking_at_queues_of_a_redis_that_is_away(away: str) -> None:
    queues = Queues(away)
    assert seconds_of(lambda: queues.depths()) < QUICK_S
    assert queues.depths() is None
    assert queues.is_there() is False
    assert queues.enqueue_runs([1, 2]) is False
    assert queues.find_lost_runs([1, 2]) == []


def test_a_tick_is_not_held_up(app: Flask, away: str) -> None:
    queues = Queues(away)
    for _ in range(3):
        make_synced_connection(next_sync_at=utcnow() - timedelta(minutes=1))
    make_run(make_synced_connection(), RunStatus.QUEUED)
    done: list[Dispatched] = []

    def tick() -> None:
        done.append(dispatch(queues.enqueue_runs, queues.find_lost_runs, queues.enqueue_rounds))

    assert seconds_of(tick) < QUICK_S
    assert done == [Dispatched(requeued=0, due=3, enqueued=0)]
    assert list(db.session.scalars(select(SyncRun.enqueued_at))) == [None]


def test_limits_are_kept_in_a_redis_behind_a_socket_file() -> None:
    settings = flask_settings(make_config("sqlite:///x.db", "unix:///run/redis.sock?db=1"), for_jobs=False)
    assert settings["RATELIMIT_STORAGE_URI"] == "redis+unix:///run/redis.sock?db=1"
    create_app(make_config("sqlite:///x.db", "unix:///run/redis.sock?db=1"))


def test_an_unsubscribe_is_stored_before_it_is_answered(app: Flask, client_without_redis: FlaskClient) -> None:
    connection = make_synced_connection()
    connection.partner.writes_opt_outs_back = True
    make_person(connection, RUTH, salesforce_id=to_18("003000000000001"))
    path = path_of_link(connection.user, RUTH)
    answer = client_without_redis.post(path, data={"List-Unsubscribe": "One-Click"}, forged=True)
    assert answer.status_code == 200
    db.session.rollback()
    told = db.session.scalars(select(OptOutWrite.salesforce_id)).all()
    assert told == [to_18("003000000000001")], "the tick enqueues it"
    assert client_without_redis.post(path, data={"scope": "firm"}, forged=True).status_code == 303
    assert "You're unsubscribed" in client_without_redis.get(path).text
    steps = db.session.scalars(select(SuppressionEvent.step).order_by(SuppressionEvent.id)).all()
    assert steps == ["unsubscribed", "unsubscribed"]
