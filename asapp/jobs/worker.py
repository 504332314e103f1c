"""Our RQ worker: one work-horse a job, SIGTERM passed on to it, and a heartbeat in the database."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from asapp.core.queues import QUEUES
from asapp.core.stopping import stop_on, stop_on_signals
from asapp.health.heartbeats import Heart
from asapp.jobs.task_job import TaskJob
from asapp.jobs.tasks import leave_parents_connections

log = logging.getLogger(__name__)

WORKER_TTL_S = 90
MAINTENANCE_INTERVAL_S = 60
STOP_SIGNAL = signal.SIGUSR1  # RQ uses SIGTERM for other things


class SyncWorker(Worker):
    """Tells its work-horse to hand the run back before it ends itself."""

    heart: Heart
    _is_beating = False
    _waiting_stop: int | None = None  # a signal that came while the heart beat

    def handle_warm_shutdown_request(self) -> None:
        log.info("asked to end, as soon as the job has stopped")
        self._pass_on()

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        stop_on(STOP_SIGNAL)  # inherited, so that the work-horse can be stopped from its first moment
        super().fork_work_horse(job, queue)
        if self._stop_requested:  # the signal came before there was a work-horse
            self._pass_on()

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        stop_on_signals()
        leave_parents_connections()

    def heartbeat(self, *arguments: Any, **keywords: Any) -> None:
        super().heartbeat(*arguments, **keywords)
        if not self.is_horse:
            self.beat()

    def beat(self) -> None:
        """Record that this worker is alive. A request to stop waits until that is done.

        RQ stops an idle worker by an exception from its signal handler. If that came while the database's pool returns a
        connection, the pool would log and swallow it, and the worker would not stop.
        """
        self._is_beating = True
        try:
            self.heart.beat()
        finally:
            self._is_beating = False
        if self._waiting_stop is not None:
            signum, self._waiting_stop = self._waiting_stop, None
            self.request_stop(signum, None)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        if self._is_beating:
            self._waiting_stop = signum
        else:
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def teardown(self) -> None:
        if not self.is_horse:
            self.heart.stop()
        super().teardown()  # type: ignore[no-untyped-call]

    def register_death(self) -> None:
        try:
            super().register_death()  # type: ignore[no-untyped-call]
        except RedisError as error:
            log.warning("Redis is away (%s), this worker's entry expires by itself", type(error).__name__)

    def _pass_on(self) -> None:
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, STOP_SIGNAL)


def make_worker(redis_url: str, heart: Heart) -> SyncWorker:
    connection = Redis.from_url(redis_url)
    worker = SyncWorker(
        [Queue(name, connection=connection, job_class=TaskJob, serializer=JSONSerializer) for name in QUEUES],
        connection=connection,
        job_class=TaskJob,
        serializer=JSONSerializer,
        worker_ttl=WORKER_TTL_S,
        maintenance_interval=MAINTENANCE_INTERVAL_S,
        log_job_description=False,
    )
    worker.heart = heart
    return worker
