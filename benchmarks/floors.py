"""The least that the work can cost: `python -m benchmarks.floors JOB '{"arguments": …}'` prints a line of JSON.

Plain urllib3, orjson, sqlite3 and psycopg into the tables and indexes that our migrations made; the rows are the ones that
asapp stores, but there is no lease, no checkpoint, no page that can be read twice, and a kill loses the work. Nothing is
imported from asapp. Floors take every shortcut that made them faster; where two ways were close, both run and the faster counts.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import quote_plus

FIELDS = (  # the fields that asapp asks for
    "Id, FirstName, LastName, Email, HasOptedOutOfEmail, EmailBouncedDate, EmailBouncedReason, IsEmailBounced, "
    "OwnerId, SystemModstamp, IsDeleted, MasterRecordId"
)
CONTACT_COLUMNS = (
    "user_id, connection_id, salesforce_id, source, is_lead, first_name, last_name, email, search_key, address_hash, "
    "opted_out, system_modstamp, created_in_run_id, created_at, changed_at"
)
LEDGER_COLUMNS = "connection_id, salesforce_id, outcome, address_hash"


def peak_rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM")


def iter_bodies(url: str, accounts: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the bodies of the first user's pages of contacts; the next address is cut out of the text, not parsed."""
    import urllib3

    pool = urllib3.connection_from_url(url, maxsize=1)
    headers = {"Authorization": f"Bearer {accounts[0]['access_token']}", "X-PrettyPrint": "0"}
    query = f"SELECT {FIELDS} FROM Contact WHERE OwnerId = '{accounts[0]['user_id']}' ORDER BY SystemModstamp, Id"
    path = f"/services/data/v66.0/query?q={quote_plus(query)}"
    while path:
        answer = pool.request("GET", path, headers=headers, retries=False)
        if answer.status != 200:
            raise RuntimeError(f"the org answers {answer.status}")
        yield answer.data
        _, found, rest = answer.data[:600].partition(b'"nextRecordsUrl":"')
        path = rest.split(b'"', 1)[0].decode() if found else ""


def iter_ahead(url: str, accounts: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the same, read ahead by a thread while the caller works."""
    coming: SimpleQueue[bytes | None] = SimpleQueue()

    def read() -> None:
        try:
            for body in iter_bodies(url, accounts):
                coming.put(body)
        finally:
            coming.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (body := coming.get()) is not None:
        yield body


class WithoutMarks(dict[int, int | None]):
    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.combining(chr(code)) else code
        return self[code]


WITHOUT_MARKS = WithoutMarks()


def fold(text: str) -> str:
    """Return the text as asapp folds names for its search."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFKC", decomposed.translate(WITHOUT_MARKS))


def sort_rows(
    rows: Sequence[dict[str, Any]], key: bytes, ids: tuple[int, int, int]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return (contacts, ledger) as the tables take them; moments stay text."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    user_id, connection_id, run_id = ids
    contacts, ledger, digest = [], [], hmac.digest
    for row in rows:
        salesforce_id, email = row["Id"], row["Email"] or ""
        if row["HasOptedOutOfEmail"]:
            hashed = digest(key, email.lower().encode(), "sha256") if email else None
            ledger.append((connection_id, salesforce_id, "opted_out", hashed))
        elif not email:
            ledger.append((connection_id, salesforce_id, "no_email", None))
        else:
            first, last, stamp = row["FirstName"] or "", row["LastName"] or "", row["SystemModstamp"]
            when = f"{stamp[:10]} {stamp[11:19]}.000000"
            hashed = digest(key, email.lower().encode(), "sha256")
            ledger.append((connection_id, salesforce_id, "synced", None))
            folded = fold(f"{last} {first} {email}")[:400]
            who = (user_id, connection_id, salesforce_id, "salesforce", False, first, last, email, folded, hashed)
            contacts.append((*who, False, when, run_id, now, now))
    return contacts, ledger


class SQLiteWriter:
    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-64000"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute("BEGIN IMMEDIATE")

    def write(self, contacts: list[tuple[Any, ...]], ledger: list[tuple[Any, ...]]) -> None:
        places = ",".join("?" * len(CONTACT_COLUMNS.split(",")))
        self.connection.executemany(f"INSERT INTO contacts ({CONTACT_COLUMNS}) VALUES ({places})", contacts)
        self.connection.executemany(f"INSERT INTO ledger ({LEDGER_COLUMNS}) VALUES (?,?,?,?)", ledger)

    def close(self) -> None:
        self.connection.execute("COMMIT")
        self.connection.close()


class PostgresWriter:
    """COPY straight into the tables; with upsert, into a temporary table and then INSERT … ON CONFLICT from it."""

    def __init__(self, url: str, upsert: bool) -> None:
        import psycopg

        self.connection = psycopg.connect(url.replace("+psycopg", "", 1))
        self.upsert = upsert
        if upsert:
            for table in ("contacts", "ledger"):
                self.connection.execute(
                    f"CREATE TEMP TABLE new_{table} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP"
                )
                self.connection.execute(
                    f"ALTER TABLE new_{table} "
                    + ("DROP COLUMN id" if table == "contacts" else "DROP COLUMN IF EXISTS id")
                )

    def write(self, contacts: list[tuple[Any, ...]], ledger: list[tuple[Any, ...]]) -> None:
        self._copy("contacts", CONTACT_COLUMNS, contacts, "connection_id, salesforce_id")
        self._copy("ledger", LEDGER_COLUMNS, ledger, "connection_id, salesforce_id")

    def _copy(self, table: str, columns: str, rows: list[tuple[Any, ...]], key: str) -> None:
        target = f"new_{table}" if self.upsert else table
        text = "".join(["\t".join(map(_cell, row)) + "\n" for row in rows])
        with self.connection.cursor() as cursor:
            with cursor.copy(f"COPY {target} ({columns}) FROM STDIN") as copy:
                copy.write(text)
            if self.upsert:
                names = [name for name in columns.split(", ") if name not in key.split(", ")]
                setting = ", ".join(f"{name} = excluded.{name}" for name in names)
                cursor.execute(
                    f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {target} "
                    f"ON CONFLICT ({key}) DO UPDATE SET {setting}"
                )
                cursor.execute(f"TRUNCATE {target}")

    def close(self) -> None:
        self.connection.commit()
        self.connection.close()


def _cell(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    text = value if isinstance(value, str) else str(value)
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        text = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text


def full_sync(
    into: str, mode: str, url: str, accounts: Any, address_key: str, users: Any, connections: Any, runs: Any
) -> dict[str, Any]:
    """mode: fetch, write, both (one after the other), ahead (a thread reads), ahead_upsert."""
    import orjson

    ids, key = (users[0], connections[0], runs[0]), bytes.fromhex(address_key)
    bodies = list(iter_bodies(url, accounts)) if mode == "write" else []
    if into.startswith("postgresql"):
        import psycopg  # noqa: F401 - loaded before the clock starts, as in a worker
    cpu, began = time.process_time(), time.perf_counter()
    source = bodies if mode == "write" else iter_ahead(url, accounts) if "ahead" in mode else iter_bodies(url, accounts)
    writer = None if mode == "fetch" else open_writer(into, mode == "ahead_upsert")
    read = 0
    for body in source:
        rows = orjson.loads(body)["records"]
        read += len(rows)
        if writer is not None:
            writer.write(*sort_rows(rows, key, ids))
    if writer is not None:
        writer.close()
    spent = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    return spent | {"read": read, "rss_mb": peak_rss_mb()}


def open_writer(database: str, upsert: bool) -> SQLiteWriter | PostgresWriter:
    if database.startswith("sqlite"):
        return SQLiteWriter(database.removeprefix("sqlite:///"))
    return PostgresWriter(database, upsert)


def wait(times: int, seconds: float) -> dict[str, Any]:
    """Only wait."""
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(times):
        time.sleep(seconds)
    return {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "rss_mb": peak_rss_mb()}


def calls_by_id(url: str, accounts: Any, side_by_side: int, **_rest: Any) -> dict[str, Any]:
    """Make the calls of a prepared send and do nothing with the answers: one query, then all contacts by Id, 2,000 a call."""
    import urllib3

    pool = urllib3.connection_from_url(url, maxsize=side_by_side)
    headers = {"Authorization": f"Bearer {accounts[0]['access_token']}", "Content-Type": "application/json"}
    wanted = {"fields": ["Id", "OwnerId", "Email", "HasOptedOutOfEmail"]}
    ids = [row["Id"] for body in iter_bodies(url, accounts) for row in json.loads(body)["records"]]
    bodies = [json.dumps({"ids": ids[at : at + 2000], **wanted}) for at in range(0, len(ids), 2000)]

    def ask(body: str) -> None:
        path = "/services/data/v66.0/composite/sobjects/Contact"
        answer = pool.request("POST", path, body=body, headers=headers, retries=False)
        if answer.status != 200:
            raise RuntimeError(f"the org answers {answer.status}")

    cpu, began = time.process_time(), time.perf_counter()
    query = f"SELECT Id FROM Contact WHERE OwnerId = '{accounts[0]['user_id']}' LIMIT 1"
    pool.request("GET", f"/services/data/v66.0/query?q={quote_plus(query)}", headers=headers, retries=False)
    with ThreadPoolExecutor(side_by_side) as threads:
        list(threads.map(ask, bodies))
    return {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}


def one_call(url: str, accounts: Any, rounds: int, since: str) -> dict[str, Any]:
    """The one request of a sync in which nothing changed, made by urllib3 alone."""
    import orjson
    import urllib3

    pool = urllib3.connection_from_url(url, maxsize=1)
    token, user_id = accounts[0]["access_token"], accounts[0]["user_id"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "X-PrettyPrint": "0"}
    changed = f"SELECT {FIELDS} FROM Contact WHERE OwnerId = '{user_id}' AND SystemModstamp >= {since} "
    counted = f"SELECT COUNT() FROM Contact WHERE OwnerId = '{user_id}'"
    questions = {
        "contacts": f"queryAll/?q={quote_plus(changed + 'ORDER BY SystemModstamp, Id')}",
        "count": f"query/?q={quote_plus(counted)}",
    }
    body = orjson.dumps(
        {
            "allOrNone": False,
            "compositeRequest": [
                {"method": "GET", "url": f"/services/data/v66.0/{path}", "referenceId": name}
                for name, path in questions.items()
            ],
        }
    )
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        answer = pool.request("POST", "/services/data/v66.0/composite", body=body, headers=headers, retries=False)
        parts = orjson.loads(answer.data)["compositeResponse"]
        times.append({"s": time.perf_counter() - began})
        if [part["httpStatusCode"] for part in parts] != [200, 200]:
            raise RuntimeError(answer.data[:300])
    return {"calls": times[1:]}


def enqueue(jobs: int, batch: int, redis_url: str) -> dict[str, Any]:
    """RQ's enqueue_many and nothing else, with jobs like ours."""
    from redis import Redis
    from rq import Queue
    from rq.serializers import JSONSerializer

    queue = Queue("sync", connection=Redis.from_url(redis_url), serializer=JSONSerializer)
    began_with = peak_rss_mb()
    cpu, began = time.process_time(), time.perf_counter()
    for low in range(0, jobs, batch):
        queue.enqueue_many(
            [
                Queue.prepare_data(
                    "asapp.jobs.tasks.run_sync",
                    args=(number,),
                    job_id=f"run-{number}-abcdefgh",
                    timeout=900,
                    result_ttl=0,
                    failure_ttl=3600,
                )
                for number in range(low, min(low + batch, jobs))
            ]
        )
    spent = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "jobs": jobs}
    return spent | {"waiting": queue.count, "idle_mb": began_with, "rss_mb": peak_rss_mb()}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    job.__name__: job for job in (full_sync, wait, calls_by_id, one_call, enqueue)
}

if __name__ == "__main__":
    answer = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
