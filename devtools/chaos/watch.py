"""What is going on at this moment, from the database, Redis and the process table: whether a fault can hit anything.

Every look opens a connection of its own, since the campaign takes the database and Redis away itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
import redis
from psycopg.rows import namedtuple_row
from redis.backoff import NoBackoff
from redis.retry import Retry

from devtools.chaos.house import ChaosHouse
from devtools.processes import Worker

ANSWER_S = 3.0
AWAY_S = 90.0
ENTERED_S = 15.0
FRESH_S = 45  # a run that was not written to for longer has lost its work-horse
BUSY_S = 4  # one that was written to as lately as that is going on
RUNNING = """
    SELECT r.id, r.connection_id, r.lease, r.tries, r.read, r.total, r.opened_at, c.salesforce_user_id, c.partner_id
    FROM sync_runs r JOIN connections c ON c.id = r.connection_id
    WHERE r.status = 'running' AND r.lease_until > now() AND r.heartbeat_at > now() - %s * interval '1 second'
"""
# What only the tick can start again: no process works on it, and no job waits for it.
FOR_THE_TICK = """
    SELECT id FROM sync_runs WHERE status = 'queued' AND enqueued_at IS NULL
    UNION ALL SELECT id FROM sync_runs WHERE status = 'running' AND heartbeat_at < now() - interval '35 seconds'
    UNION ALL SELECT id FROM connections WHERE status = 'connected' AND next_sync_at < now() + interval '5 seconds'
    UNION ALL SELECT id FROM leads WHERE state IN ('received', 'waiting', 'sending') AND next_attempt_at < now()
"""


class DatabaseAway(Exception):
    """The database does not answer."""


@dataclass(frozen=True)
class Working:
    """A work-horse with a job."""

    worker: Worker
    horse: psutil.Process
    kind: str  # run, leads, keep-alive or tick
    row: int  # the run's, or the connection's, id


class Watch:
    def __init__(self, house: ChaosHouse) -> None:
        self._house = house
        self._names: dict[int, str] = {}  # of workers, by process id: Redis forgets

    def rows(self, query: str, *values: Any) -> Sequence[Any]:
        """Return the rows; raise DatabaseAway."""
        url = self._house.config.database_url.replace("+psycopg", "")
        try:
            with (
                psycopg.connect(url, autocommit=True, connect_timeout=3, row_factory=namedtuple_row) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(query, values)
                return cursor.fetchall()
        except psycopg.OperationalError as error:
            raise DatabaseAway from error

    def patiently(self, query: str, *values: Any) -> Sequence[Any]:
        """As rows(), waiting for a database that is being started."""
        give_up_at = time.monotonic() + AWAY_S
        while True:
            try:
                return self.rows(query, *values)
            except DatabaseAway:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.2)

    def running(self, fresh_s: int = BUSY_S) -> Sequence[Any]:
        """Return the runs that a worker is executing, as their heartbeats say."""
        return self.rows(RUNNING, fresh_s)

    def active_ids(self) -> list[int]:
        return [row.id for row in self.rows("SELECT id FROM sync_runs WHERE status IN ('queued', 'running')")]

    def run(self, run_id: int) -> Any:
        return self.patiently("SELECT * FROM sync_runs WHERE id = %s", run_id)[0]

    def working(self, *kinds: str) -> list[Working]:
        """Return the work-horses that have a job of these kinds now; of a run only once it is claimed."""
        try:
            with self._redis() as client:
                self._learn_names(client)
                jobs = [self._job_of(client, worker) for worker in self._house.workers]
        except redis.RedisError:
            return []
        found = [working for working in jobs if working is not None]
        held = {row.id for row in self.running(FRESH_S)} if found else set()
        return [w for w in found if w.kind in kinds and (w.kind != "run" or w.row in held)]

    def knows_workers(self) -> bool:
        """Wait until the name of every worker is known. It enters itself in Redis once, and an emptied Redis forgets it."""
        give_up_at = time.monotonic() + ENTERED_S
        while not all(worker.pid in self._names for worker in self._house.workers):
            if time.monotonic() > give_up_at:
                return False
            with suppress(redis.RedisError), self._redis() as client:
                self._learn_names(client)
            time.sleep(0.1)
        return True

    def forget(self, pattern: str) -> None:
        """Delete what Redis holds under such keys."""
        with self._redis() as client:
            for key in list(client.scan_iter(pattern)):
                client.delete(key)

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(
            self._house.redis.url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_S,
            socket_connect_timeout=1,
            decode_responses=True,
        )

    def _learn_names(self, client: redis.Redis) -> None:
        for key in map(str, client.smembers("rq:workers")):
            if pid := client.hget(key, "pid"):
                self._names[int(pid)] = key

    def _job_of(self, client: redis.Redis, worker: Worker) -> Working | None:
        key = self._names.get(worker.pid)
        try:
            horses = worker.children()
        except psutil.NoSuchProcess:
            return None
        if key is None or len(horses) != 1:
            return None
        executions = client.smembers(f"{key}:executions")
        if len(executions) != 1:
            return None
        job_id = str(executions.pop()).partition(":")[0]
        if job_id == "tick":
            return Working(worker, horses[0], "tick", 0)
        kind, _, row = job_id.rpartition("-")[0].rpartition("-")
        return Working(worker, horses[0], kind, int(row)) if row.isdecimal() else None
