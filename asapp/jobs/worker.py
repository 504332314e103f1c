"""Our RQ worker: a work-horse a job, and a SIGTERM that reaches it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from asapp.jobs.queues import SYNC_QUEUE, TICK_QUEUE
from asapp.jobs.stopping import stop_on_signals
from asapp.jobs.tasks import leave_parents_connections

WORKER_TTL_S = 90
MAINTENANCE_INTERVAL_S = 60


class SyncWorker(Worker):
    """Asks its work-horse to hand the run back before it ends itself."""

    def handle_warm_shutdown_request(self) -> None:
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGUSR1)

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        stop_on_signals()
        leave_parents_connections()


def make_worker(redis_url: str) -> SyncWorker:
    connection = Redis.from_url(redis_url)
    return SyncWorker(
        [Queue(name, connection=connection, serializer=JSONSerializer) for name in (TICK_QUEUE, SYNC_QUEUE)],
        connection=connection,
        serializer=JSONSerializer,
        worker_ttl=WORKER_TTL_S,
        maintenance_interval=MAINTENANCE_INTERVAL_S,
        log_job_description=False,
    )
