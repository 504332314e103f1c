"""The queues in Redis. A job says that a row in the database is waiting; Redis holds nothing that we would miss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from secrets import token_hex

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

log = logging.getLogger(__name__)

TICK_QUEUE = "tick"  # first: it takes milliseconds and recovers the rest
LEADS_QUEUE = "leads"  # before syncs: a person has just signed up, and it takes seconds
MAILS_QUEUE = "mails"  # few and short; behind syncs they would wait longest on the busiest days
CHECKS_QUEUE = "checks"  # at most one round of them; it looks at thousands of connections in the time of a few syncs
SYNC_QUEUE = "sync"
QUEUES = (
    TICK_QUEUE,
    LEADS_QUEUE,
    MAILS_QUEUE,
    CHECKS_QUEUE,
    SYNC_QUEUE,
)  # in the order in which workers take from them
RUN_JOB = "asapp.jobs.tasks.run_sync"
ROUND_JOB = "asapp.jobs.tasks.check_due"
DUE_A_ROUND = 256  # beyond this many due connections, another round may go on beside the first
ROUNDS_BESIDE = 8  # at most, behind the syncs that wait
LEADS_JOB = "asapp.jobs.tasks.deliver_leads"
OPT_OUTS_JOB = "asapp.jobs.tasks.deliver_opt_outs"
OPT_OUTS_EVERY_S = 60  # a mailing's unsubscribes go in batches
SEND_JOB = "asapp.jobs.tasks.prepare_send"
KEEP_ALIVE_JOB = "asapp.jobs.tasks.keep_alive"
KEEP_ALIVE_EVERY_S = 3600
CHECK_JOB = "asapp.jobs.tasks.check_partner"
CHECK_EVERY_S = 600
MAILS_JOB = "asapp.jobs.tasks.send_mails"
MAILS_EVERY_S = 50  # a round of them takes less
LETTERS_JOB = "asapp.jobs.tasks.send_letters"
LETTERS_EVERY_S = 50
NEWS_JOB = "asapp.jobs.tasks.write_news"
NEWS_EVERY_S = 50
RUN_JOB_TIMEOUT_S = 900
FAILURE_TTL_S = 3600
WEB_CONNECT_TIMEOUT_S = 0.05  # a page must not wait for a Redis that is down
WEB_ANSWER_TIMEOUT_S = 0.2


class RedisTrouble(StrEnum):
    """Why Redis can't be used, as /readyz tells operators."""

    AWAY = "does not answer"
    REFUSED = "refuses the password of REDIS_URL"


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
    def checks(self) -> Queue:
        return Queue(CHECKS_QUEUE, connection=self.redis, serializer=JSONSerializer)

    @cached_property
    def leads(self) -> Queue:
        return Queue(LEADS_QUEUE, connection=self.redis, serializer=JSONSerializer)

    @cached_property
    def mails(self) -> Queue:
        return Queue(MAILS_QUEUE, connection=self.redis, serializer=JSONSerializer)

    def enqueue_runs(self, run_ids: Sequence[int]) -> bool:
        """Enqueue a job for each run; return whether Redis took them. The rows wait either way."""
        return self._enqueue(self.sync, RUN_JOB, "run", run_ids)

    def enqueue_send_runs(self, run_ids: Sequence[int]) -> bool:
        """As enqueue_runs(), ahead of the syncs that were started by schedule: a sender waits for these."""
        return self._enqueue(self.leads, RUN_JOB, "run", run_ids)

    def enqueue_rounds(self, due: int) -> None:
        """Enqueue rounds of checks for so many due connections: one ahead of the syncs, more behind them, unless they wait."""
        try:
            is_next_waiting = bool(self.checks.count)
            beside = sum(job_id.startswith("round-") for job_id in self.sync.get_job_ids())
        except RedisError:
            return
        if not is_next_waiting:
            self._enqueue(self.checks, ROUND_JOB, "round", [0])
        wanted = min((due - 1) // DUE_A_ROUND, ROUNDS_BESIDE)
        if beside < wanted:
            self._enqueue(self.sync, ROUND_JOB, "round", [0] * (wanted - beside))

    def enqueue_leads(self, connection_ids: Sequence[int]) -> bool:
        """Enqueue a delivery of leads for each connection; return whether Redis took them. The leads wait either way."""
        return self._enqueue(self.leads, LEADS_JOB, "leads", connection_ids)

    def enqueue_opt_outs(self, connection_ids: Sequence[int]) -> None:
        """Enqueue a delivery of opt-outs for each connection, at most one a minute. The rows wait either way."""
        self._enqueue_rarely(OPT_OUTS_JOB, "opt-outs", connection_ids, OPT_OUTS_EVERY_S, self.leads)

    def enqueue_sends(self, send_ids: Sequence[int]) -> bool:
        """Enqueue the preparation of each send; return whether Redis took them. The rows wait either way."""
        return self._enqueue(self.leads, SEND_JOB, "send", send_ids)

    def enqueue_idle(self, connection_ids: Sequence[int]) -> None:
        """Enqueue a keep-alive for each connection, at most one an hour."""
        self._enqueue_rarely(KEEP_ALIVE_JOB, "keep-alive", connection_ids, KEEP_ALIVE_EVERY_S)

    def enqueue_checks(self, partner_ids: Sequence[int]) -> None:
        """Enqueue checks of each partner's set-up, at most every ten minutes."""
        self._enqueue_rarely(CHECK_JOB, "check", partner_ids, CHECK_EVERY_S)

    def enqueue_mails(self) -> None:
        """Enqueue a round of mails that are due, unless one was a moment ago. The rows wait either way."""
        self._enqueue_rarely(MAILS_JOB, "mails", [0], MAILS_EVERY_S, self.mails)

    def enqueue_letters(self) -> bool:
        """Enqueue a round of the mails that requests asked for; return whether Redis took it. The rows wait either way."""
        return self._enqueue(self.mails, LETTERS_JOB, "letters", [0])

    def enqueue_letters_rarely(self) -> None:
        """As enqueue_letters(), unless it was done a moment ago: for mails that were left over."""
        self._enqueue_rarely(LETTERS_JOB, "letters", [0], LETTERS_EVERY_S, self.mails)

    def enqueue_news(self) -> None:
        """Enqueue a round of digests and mails about leads, unless one was a moment ago. The rows wait either way."""
        self._enqueue_rarely(NEWS_JOB, "news", [0], NEWS_EVERY_S, self.mails)

    def _enqueue_rarely(
        self, job: str, name: str, row_ids: Sequence[int], every_s: int, queue: Queue | None = None
    ) -> None:
        try:
            due = [each for each in row_ids if self.redis.set(f"asapp:{name}:{each}", 1, nx=True, ex=every_s)]
        except RedisError:
            return
        if due:
            self._enqueue(queue or self.sync, job, name, due)

    def _enqueue(self, queue: Queue, job: str, name: str, row_ids: Sequence[int]) -> bool:
        """Enqueue one job for each row; no fixed job ids, as RQ loses a job enqueued under the id of one that is just ending."""
        jobs = [
            Queue.prepare_data(
                job,
                args=(row_id,),
                job_id=f"{name}-{row_id}-{token_hex(4)}",
                timeout=RUN_JOB_TIMEOUT_S,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_S,
            )
            for row_id in row_ids
        ]
        try:
            queue.enqueue_many(jobs)
        except RedisError as error:
            log.warning("Redis took no job: %s", type(error).__name__, extra={"jobs": len(jobs)})
            return False
        return True

    def find_lost_runs(self, run_ids: Sequence[int]) -> list[int]:
        """Return those of these queued runs that have no job in Redis; none if Redis doesn't answer."""
        try:
            job_ids = [*self.sync.get_job_ids(), *self.leads.get_job_ids()]
            waiting = {int(job_id.split("-")[1]) for job_id in job_ids if job_id.startswith("run-")}
        except RedisError:
            return []
        return [run_id for run_id in run_ids if run_id not in waiting]

    def is_there(self) -> bool:
        """Does Redis answer?"""
        return not self.find_trouble()

    def find_trouble(self) -> RedisTrouble | None:
        """Return why Redis can't be used; None if it answers."""
        try:
            self.redis.ping()
        except AuthenticationError:
            return RedisTrouble.REFUSED
        except RedisError:
            return RedisTrouble.AWAY
        return None

    def depths(self) -> dict[str, int] | None:
        """Return {queue: jobs waiting}, or None if Redis doesn't answer."""
        try:
            with self.redis.pipeline(transaction=False) as pipeline:
                for name in QUEUES:
                    pipeline.llen(f"{Queue.redis_queue_namespace_prefix}{name}")
                return dict(zip(QUEUES, pipeline.execute(), strict=True))
        except RedisError:
            return None
