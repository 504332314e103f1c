"""The tick is registered exactly once, whatever happens to Redis and with any number of schedulers."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import TICK_QUEUE
from asapp.health.heartbeats import SCHEDULER, TICK, list_seen
from asapp.jobs.task_job import TaskJob
from asapp.jobs.tick_scheduler import TICK_ID, TICK_INTERVAL_S, TickScheduler
from config import Config
from devtools.processes import Process, Worker, environ_of
from devtools.servers import RedisServer
from devtools.waiting import wait_for
from tests.conftest import make_config

SCHEDULED = TickScheduler.scheduled_jobs_key
LOCK = TickScheduler.scheduler_lock_key
# The real command, with a pass every second instead of every five.
FAST = """
import sys
from asapp.jobs import tick_scheduler
tick_scheduler.PASS_INTERVAL_S, tick_scheduler.REDIS_AWAY_S = 1, 0.3
from flask.cli import main
sys.argv = ["flask", "--app", "wsgi", "scheduler"]
main()
"""


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    redis_server.flush()
    with redis_server.client() as client:
        yield client


@pytest.fixture
def scheduler(redis: Redis) -> TickScheduler:
    return TickScheduler(redis)


def pass_once(scheduler: TickScheduler) -> bool:
    """Do what a scheduler does every few seconds; return whether it had the lock."""
    if not scheduler.acquire_lock():
        return False
    scheduler.enqueue_jobs()
    scheduler.remove_lock()
    return True


def let_it_be_due(redis: Redis) -> None:
    redis.zadd(SCHEDULED, {TICK_ID: int(time.time()) - 1})


def waiting(redis: Redis) -> list[str]:
    return Queue(TICK_QUEUE, connection=redis, serializer=JSONSerializer).job_ids


def take(redis: Redis) -> None:
    """Take the tick from the queue as a worker does."""
    assert redis.lpop(f"rq:queue:{TICK_QUEUE}") == TICK_ID.encode()


# Passes


def test_the_first_pass_registers_the_tick_and_enqueues_it(redis: Redis, scheduler: TickScheduler) -> None:
    assert pass_once(scheduler)
    assert redis.zrange(SCHEDULED, 0, -1) == [TICK_ID.encode()]
    assert waiting(redis) == [TICK_ID]
    job = TaskJob.fetch(TICK_ID, connection=redis)
    assert (job.func_name, job.args, job.meta) == ("asapp.jobs.tasks.tick", [], {"interval": TICK_INTERVAL_S})


def test_a_restart_does_not_double_it(redis: Redis, scheduler: TickScheduler) -> None:
    pass_once(scheduler)
    take(redis)
    for _ in range(3):
        pass_once(TickScheduler(redis))
    assert redis.zcard(SCHEDULED) == 1
    assert waiting(redis) == []


def test_it_enqueues_the_tick_at_each_interval(redis: Redis, scheduler: TickScheduler) -> None:
    for _ in range(3):
        let_it_be_due(redis)
        pass_once(scheduler)
        take(redis)
        score = redis.zscore(SCHEDULED, TICK_ID)
        assert score
        assert TICK_INTERVAL_S - 3 <= score - time.time() <= TICK_INTERVAL_S


def test_without_a_worker_ticks_do_not_pile_up(redis: Redis, scheduler: TickScheduler) -> None:
    for _ in range(5):
        let_it_be_due(redis)
        pass_once(scheduler)
    assert waiting(redis) == [TICK_ID]
    assert redis.zscore(SCHEDULED, TICK_ID) > time.time()


def test_while_one_is_at_it_another_stands_by(redis: Redis, scheduler: TickScheduler) -> None:
    assert scheduler.acquire_lock()
    assert not pass_once(TickScheduler(redis))
    assert waiting(redis) == []
    scheduler.enqueue_jobs()
    scheduler.remove_lock()
    assert pass_once(TickScheduler(redis))
    assert waiting(redis) == [TICK_ID]


def test_two_schedulers_take_turns_and_enqueue_once_an_interval(redis: Redis, scheduler: TickScheduler) -> None:
    other = TickScheduler(redis)
    for _ in range(3):
        let_it_be_due(redis)
        pass_once(scheduler)
        pass_once(other)
        assert waiting(redis) == [TICK_ID]
        take(redis)


def test_a_slow_pass_does_not_take_away_the_next_ones_lock(redis: Redis, scheduler: TickScheduler) -> None:
    scheduler.acquire_lock()
    redis.delete(LOCK)  # it has expired in the meantime …
    other = TickScheduler(redis)
    assert other.acquire_lock()
    scheduler.remove_lock()
    assert redis.exists(LOCK)  # … and this is the other's


def test_a_dead_schedulers_lock_expires(redis: Redis, scheduler: TickScheduler) -> None:
    scheduler.acquire_lock()
    assert 0 < redis.ttl(LOCK) <= 15


def test_an_emptied_redis_gets_the_tick_with_the_next_pass(redis: Redis, scheduler: TickScheduler) -> None:
    pass_once(scheduler)
    redis.flushall()
    pass_once(scheduler)
    assert waiting(redis) == [TICK_ID]
    assert redis.zcard(SCHEDULED) == 1


@pytest.mark.parametrize("lost", ["the place in the schedule", "the job"])
def test_half_a_tick_is_made_whole(redis: Redis, scheduler: TickScheduler, lost: str) -> None:
    pass_once(scheduler)
    take(redis)
    if lost == "the job":
        redis.delete(Job.key_for(TICK_ID))
    else:
        redis.zrem(SCHEDULED, TICK_ID)
    pass_once(scheduler)
    assert redis.zcard(SCHEDULED) == 1
    assert Job.exists(TICK_ID, redis)
    assert waiting(redis) == [TICK_ID]


def test_a_tick_that_failed_is_enqueued_again(redis: Redis, scheduler: TickScheduler) -> None:
    pass_once(scheduler)
    take(redis)
    TaskJob.fetch(TICK_ID, connection=redis).set_status(JobStatus.FAILED)
    let_it_be_due(redis)
    pass_once(scheduler)
    assert waiting(redis) == [TICK_ID]


def test_a_lock_can_not_be_given_back_to_a_redis_that_is_away(own_redis: RedisServer) -> None:
    """During the exit after SIGTERM: an exception there would stop the process from ending."""
    scheduler = TickScheduler(own_redis.client())
    scheduler.acquire_lock()
    own_redis.kill()
    scheduler.remove_lock()
    scheduler.register_death()


# The process


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_config(app: Flask, config: Config, own_redis: RedisServer) -> Config:
    return make_config(config.database_url, own_redis.url)


def scheduler_process(config: Config, log: Path) -> Process:
    return Process("scheduler", [sys.executable, "-c", FAST], log, environ_of(config))


def is_scheduled(server: RedisServer) -> bool:
    with server.client() as client:
        return client.zscore(SCHEDULED, TICK_ID) is not None


@pytest.mark.slow
def test_a_scheduler_survives_all_that_happens_to_redis(
    own_config: Config, own_redis: RedisServer, tmp_path: Path
) -> None:
    with scheduler_process(own_config, tmp_path / "log") as process:
        wait_for(lambda: is_scheduled(own_redis), "for the first tick")
        own_redis.flush()
        wait_for(lambda: is_scheduled(own_redis), "for the tick after FLUSHALL", 10)
        own_redis.restart()
        wait_for(lambda: is_scheduled(own_redis), "for the tick after a short absence", 15)
        own_redis.kill()
        time.sleep(3)
        own_redis.start()
        wait_for(lambda: is_scheduled(own_redis), "for the tick after a long absence", 15)
        assert process.is_running
    with own_redis.client() as client:
        assert client.zcard(SCHEDULED) == 1


@pytest.mark.slow
@pytest.mark.parametrize("state", ["there", "away", "silent"])
def test_sigterm_ends_it_whatever_redis_does(
    own_config: Config, own_redis: RedisServer, tmp_path: Path, state: str
) -> None:
    with scheduler_process(own_config, tmp_path / "log") as process:
        wait_for(lambda: is_scheduled(own_redis))
        if state == "away":
            own_redis.kill()
            time.sleep(1.5)
        elif state == "silent":
            own_redis.send(signal.SIGSTOP)
            time.sleep(1.5)
        began = time.monotonic()
        process.send(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            own_redis.send(signal.SIGCONT)
    assert process.exit_code == 0
    assert time.monotonic() - began < (9 if state == "silent" else 4)


@pytest.mark.slow
def test_it_is_seen_alive_and_gone_when_it_ends(own_config: Config, tmp_path: Path) -> None:
    def kinds() -> list[str]:
        db.session.rollback()
        return [seen.kind for seen in list_seen(db.session(), utcnow())]

    with scheduler_process(own_config, tmp_path / "log") as process:
        wait_for(lambda: kinds() == [SCHEDULER], "for its heartbeat")
        process.send(signal.SIGTERM)
        process.wait(10)
    assert kinds() == []


@pytest.mark.slow
def test_scheduler_and_worker_together_tick(own_config: Config, tmp_path: Path) -> None:
    def kinds() -> set[str]:
        db.session.rollback()
        return {seen.kind for seen in list_seen(db.session(), utcnow())}

    with scheduler_process(own_config, tmp_path / "log"), Worker(own_config, tmp_path / "worker.log"):
        wait_for(lambda: kinds() == {SCHEDULER, "worker", TICK}, "for the heartbeat of the tick")
