"""What all contenders share: databases made by our migrations, Redis, and the simulated org as a process of its own."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from config import Config
from devtools.guard import ROOT, guard
from devtools.processes import SimulatedOrg, environ_of
from devtools.servers import PostgresServer, RedisServer

KEY, SECRET = "bench-key", "bench-secret"
SEEDED_S = 900.0  # for a million contacts


class ContenderFailed(Exception):
    """A contender failed; the text is the end of its output."""


@dataclass(frozen=True)
class Database:
    """A database for one round; facts: the ids and keys that its preparation printed."""

    url: str
    facts: dict[str, Any]


class BenchOrg(SimulatedOrg):
    """The simulated org, with `contacts` contacts of its first user."""

    def __init__(self, contacts: int) -> None:
        options = ["--seed", "empty", "--contacts", str(contacts)]
        super().__init__(guard().folder / f"org-{contacts}.log", KEY, SECRET, *options)

    def start(self, patience_s: float = SEEDED_S) -> Self:
        super().start(patience_s)
        self.ask("change_settings", session_minutes=1_000_000, api_limit=100_000_000)
        state = self.state()
        self.id: str = state["id"]
        self.user_id: str = state["users"][0]["id"] if state["users"] else ""
        return self

    def ask(self, verb: str, **arguments: Any) -> Any:
        body = json.dumps(arguments).encode()
        with urllib.request.urlopen(f"{self.url}/practice/api/{verb}", body, timeout=600) as answer:
            return json.load(answer)["result"]

    def look(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/practice/api/{path}", timeout=600) as answer:
            return json.load(answer)

    def state(self) -> Any:
        return self.look("state")

    def mark(self) -> int:
        return int(self.state()["calls"])

    def api_calls(self, mark: int) -> int:
        """Return how many requests the org has answered since this mark, as it counts them."""
        return sum("data" in call["tags"] for call in self.look(f"calls?since={mark}"))

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        fault = self.ask("add_trouble", answer="slow", kind="data", seconds=seconds)
        try:
            yield
        finally:
            self.ask("remove_trouble", number=fault)

    def tokens(self, user_id: str) -> Any:
        return self.ask("issue_tokens", user_id=user_id, key=KEY)


class SQLitePlace:
    kind = "SQLite"

    def __init__(self) -> None:
        self._folder = guard().folder / "sqlite"
        self._folder.mkdir(exist_ok=True)
        self._made = 0

    def create(self, template: Database | None = None) -> Database:
        self._made += 1
        path = self._folder / f"{self._made}.db"
        if template is not None:
            with closing(sqlite3.connect(template.url.removeprefix("sqlite:///"))) as source:  # its log included
                source.execute("VACUUM INTO ?", (str(path),))
        return Database(f"sqlite:///{path}", template.facts if template else {})

    def drop(self, database: Database) -> None:
        path = database.url.removeprefix("sqlite:///")
        for name in (path, f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)


class PostgresPlace:
    kind = "PostgreSQL"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def create(self, template: Database | None = None) -> Database:
        name = self._server.create_database(_name_of(template) if template else "template1")
        return Database(self._server.url(name), template.facts if template else {})

    def drop(self, database: Database) -> None:
        self._server.drop_database(_name_of(database))


Place = SQLitePlace | PostgresPlace


def _name_of(database: Database) -> str:
    found = re.search(r"/(\w+)\?", database.url)
    if found is None:
        raise ValueError("not a PostgreSQL address")
    return found.group(1)


class BenchHouse:
    """Everything that is started at most once."""

    def __init__(self, places: list[str]) -> None:
        self.redis = RedisServer()
        self.redis.start()
        self.places: list[Place] = []
        if "sqlite" in places:
            self.places.append(SQLitePlace())
        self._postgres: PostgresServer | None = None
        if "postgresql" in places:
            self._postgres = PostgresServer()
            self._postgres.start()
            self.places.append(PostgresPlace(self._postgres))
        self.log = guard().folder / "contenders.log"

    def close(self) -> None:
        self.redis.stop()
        if self._postgres is not None:
            self._postgres.stop()

    def config(self, database: Database | None = None, trusted_proxies: int = 0) -> Config:
        return Config(
            secret_key="only-for-benchmarks-0123456789abcdefg",
            encryption_keys=(bytes(range(100, 132)),),
            database_url=database.url if database else "sqlite:////nowhere.db",
            redis_url=self.redis.url,
            public_url="http://127.0.0.1:5000",
            trusted_proxies=trusted_proxies,
            salesforce_allow_loopback=True,
        )

    def call(self, module: str, job: str, database: Database | None = None, **arguments: Any) -> dict[str, Any]:
        """Run one job of a contender in a fresh process; return the JSON that it printed last."""
        command = [sys.executable, "-m", f"benchmarks.{module}", job, json.dumps(arguments)]
        environ = environ_of(self.config(database))
        with self.log.open("ab") as log:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                check=False,
            )
        if done.returncode != 0:
            raise ContenderFailed(f"{module} {job}: {self.log.read_text()[-3000:]}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def prepare(self, place: Place, running: BenchOrg, job: str = "prepare", **arguments: Any) -> Database:
        """Return a migrated database with a firm, an advisor connected to the org's first user, and a run that waits."""
        database = place.create()
        accounts = [{"user_id": running.user_id, **running.tokens(running.user_id)}] if running.user_id else []
        accounts = arguments.pop("accounts", accounts)
        facts = self.call("ours", job, database, url=running.url, org_id=running.id, accounts=accounts, **arguments)
        return Database(database.url, facts)
