"""The only recurring job: one dispatch tick with a fixed id, kept alive by rq-scheduler.

rq-scheduler alone loses the tick for good when Redis comes back empty, enqueues it again and again while there is no
worker, and deletes a second scheduler's lock. Each pass here first makes sure that the tick is registered, enqueues it
only if none is waiting, and holds a lock with an owner.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import LockError, RedisError
from redis.retry import Retry
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq_scheduler import Scheduler

from asapp.core.queues import TICK_QUEUE
from asapp.health.heartbeats import Heart
from asapp.jobs.task_job import TaskJob

log = logging.getLogger(__name__)

TICK_ID = "tick"
TICK_JOB = "asapp.jobs.tasks.tick"
TICK_INTERVAL_S = 15
TICK_TIMEOUT_S = 60
PASS_INTERVAL_S = 5
REDIS_AWAY_S = 3
REDIS_ANSWERS_S = 2  # ending the process may take three answers that don't come


class TickScheduler(Scheduler):  # type: ignore[misc]
    def __init__(self, connection: Redis, on_pass: Callable[[], None] = lambda: None) -> None:
        """on_pass runs at the beginning of each pass, also on a standby scheduler."""
        super().__init__(TICK_QUEUE, connection=connection, interval=PASS_INTERVAL_S, job_class=TaskJob)
        self._on_pass = on_pass
        self._lock = connection.lock(self.scheduler_lock_key, timeout=PASS_INTERVAL_S + 10, blocking=False)

    def heartbeat(self) -> None:
        super().heartbeat()
        self._on_pass()

    def acquire_lock(self) -> bool:
        self._lock_acquired = bool(self._lock.acquire())
        return self._lock_acquired

    def remove_lock(self) -> None:
        if self._lock_acquired:
            self._lock_acquired = False
            try:
                self._lock.release()
            except LockError:
                log.warning("the pass took longer than its lock")
            except RedisError:  # also while ending by SIGTERM, which must still end the process
                log.info("Redis is away; the lock expires by itself")

    def enqueue_jobs(self) -> Any:
        self.ensure_tick()
        return super().enqueue_jobs()

    def ensure_tick(self) -> None:
        """Register the tick if Redis has lost its schedule entry or the job itself."""
        score = self.connection.zscore(self.scheduled_jobs_key, TICK_ID)
        if score is not None and Job.exists(TICK_ID, self.connection):
            return
        self.schedule(
            datetime.now(UTC),
            TICK_JOB,
            id=TICK_ID,
            interval=TICK_INTERVAL_S,
            timeout=TICK_TIMEOUT_S,
            queue_name=TICK_QUEUE,
        )
        log.info("the tick is registered")

    def enqueue_job(self, job: Job) -> None:
        """Enqueue the tick; if one is waiting already (no worker is there), only schedule the next."""
        queue = self.get_queue_for_job(job)
        if queue.get_job_position(job.id) is None:
            super().enqueue_job(job)
        else:
            self.connection.zadd(self.scheduled_jobs_key, {job.id: int(time.time()) + TICK_INTERVAL_S})

    def get_queue_for_job(self, _job: Job) -> Queue:
        """Return the tick's queue; a queue class that a job in Redis names would be imported."""
        return Queue(TICK_QUEUE, connection=self.connection, job_class=TaskJob, serializer=JSONSerializer)

    def _install_signal_handlers(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _exit)

    def register_death(self) -> None:
        try:
            super().register_death()
        except RedisError:
            log.info("Redis is away; this scheduler's entry expires by itself")


def run_scheduler(redis_url: str, heart: Heart) -> None:
    """Run until SIGTERM or Ctrl-C; wait while Redis is down."""
    connection = Redis.from_url(
        redis_url,
        retry=Retry(NoBackoff(), 0),  # the next pass is the retry
        socket_connect_timeout=REDIS_ANSWERS_S,
        socket_timeout=REDIS_ANSWERS_S,
    )
    scheduler = TickScheduler(connection, heart.beat)
    try:
        pass_after_pass(scheduler)
    finally:
        heart.stop()


def pass_after_pass(scheduler: TickScheduler) -> None:
    while True:
        try:
            scheduler.name = uuid4().hex
            scheduler.run()
        except RedisError as error:
            log.warning("Redis is away (%s), trying again", type(error).__name__)
            time.sleep(REDIS_AWAY_S)


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit
