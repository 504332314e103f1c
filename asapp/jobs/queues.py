"""Redis as a doorbell: it rings that a row in the database is waiting, and holds nothing that we would miss."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from secrets import token_hex

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

log = logging.getLogger(__name__)

TICK_QUEUE = "tick"  # first: it takes milliseconds and heals the rest
LEADS_QUEUE = "leads"  # before syncs: somebody has just signed up, and it takes seconds
SYNC_QUEUE = "sync"
QUEUES = (TICK_QUEUE, LEADS_QUEUE, SYNC_QUEUE)  # in the order in which workers look
RUN_JOB = "asapp.jobs.tasks.run_sync"
LEADS_JOB = "asapp.jobs.tasks.deliver_leads"
RUN_JOB_TIMEOUT_S = 900
FAILURE_TTL_S = 3600
WEB_CONNECT_TIMEOUT_S = 0.05  # a page must not wait for a Redis that is away
WEB_ANSWER_TIMEOUT_S = 0.2


class Queues:
    """The queues as the web and the dispatch tick use them: short timeouts, no retries."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    @cached_property
    def redis(self) -> Redis:
        return Redis.from_url(
            self._redis_url,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=WEB_CONNECT_TIMEOUT_S,
            socket_timeout=WEB_ANSWER_TIMEOUT_S,
        )

    @cached_property
    def sync(self) -> Queue:
        return Queue(SYNC_QUEUE, connection=self.redis, serializer=JSONSerializer)

    @cached_property
    def leads(self) -> Queue:
        return Queue(LEADS_QUEUE, connection=self.redis, serializer=JSONSerializer)

    def ring_for_runs(self, run_ids: Sequence[int]) -> bool:
        """Enqueue a job for each run; return whether Redis took them. The rows wait either way."""
        return self._ring(self.sync, RUN_JOB, {run_id: job_id_of(run_id) for run_id in run_ids})

    def ring_for_leads(self, connection_ids: Sequence[int]) -> bool:
        """Enqueue a delivery of leads for each connection; return whether Redis took them. The leads wait either way.

        Each ring is a job of its own: RQ forgets a job that is enqueued under the id of one that is just ending.
        """
        return self._ring(self.leads, LEADS_JOB, {each: f"leads-{each}-{token_hex(4)}" for each in connection_ids})

    def _ring(self, queue: Queue, job: str, job_ids: Mapping[int, str]) -> bool:
        jobs = [
            Queue.prepare_data(
                job,
                args=(row_id,),
                job_id=job_id,
                timeout=RUN_JOB_TIMEOUT_S,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_S,
            )
            for row_id, job_id in job_ids.items()
        ]
        try:
            queue.enqueue_many(jobs)
        except RedisError as error:
            log.warning("Redis took no job: %s", type(error).__name__, extra={"jobs": len(jobs)})
            return False
        return True

    def forgotten_runs(self, run_ids: Sequence[int]) -> list[int]:
        """Return those of these queued runs that no job is waiting for; none where Redis doesn't answer."""
        keys = [Job.key_for(job_id_of(run_id)) for run_id in run_ids]
        try:
            with self.redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hget(key, "status")
                statuses = pipeline.execute()
        except RedisError:
            return []
        waiting = JobStatus.QUEUED.value.encode()
        return [run_id for run_id, status in zip(run_ids, statuses, strict=True) if status != waiting]

    def is_there(self) -> bool:
        """Does Redis answer?"""
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False

    def depths(self) -> dict[str, int] | None:
        """Return {queue: jobs that wait in it}, or None where Redis doesn't answer."""
        try:
            with self.redis.pipeline(transaction=False) as pipeline:
                for name in QUEUES:
                    pipeline.llen(f"{Queue.redis_queue_namespace_prefix}{name}")
                return dict(zip(QUEUES, pipeline.execute(), strict=True))
        except RedisError:
            return None


def job_id_of(run_id: int) -> str:
    return f"run-{run_id}"
