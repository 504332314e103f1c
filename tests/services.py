"""Real services for tests: Redis, PostgreSQL, Chromium, and the two scripts that come from npm.

Every server runs in a folder of its own, so test runs side by side don't meet, and ends with the test process
however that ends (devtools/guard.py). As session fixtures:

    @pytest.fixture(scope="session")
    def redis_server() -> Iterator[RedisServer]:
        with RedisServer() as server:
            yield server

What is not on the machine raises MissingProgramError: such a test fails, it never skips.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from devtools import npm_files
from devtools.guard import Guard
from devtools.programs import (
    MissingProgramError,
    find_chromium,
    find_postgres_bin,
    find_redis_server,
    free_port,
)

SHARED_MEMORY_S = 30.0  # until the children of a PostgreSQL that was killed have noticed it
START_TIMEOUT_S = 30.0


@cache
def guard() -> Guard:
    """Return this test process's guard; start long-lived processes with its environ()."""
    made = Guard()
    atexit.register(made.close)
    return made


class Server:
    """One child process with a folder of its own; subclasses say what to start and when it is ready."""

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.folder = guard().folder / f"{self.name}-{secrets.token_hex(3)}"
        self.folder.mkdir(mode=0o711)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = self._popen(self.command(), log)
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order; nothing to do when it is not running."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _popen(self, command: list[str], log: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=guard().environ(LC_ALL="C"),
            **options,
        )

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class RedisServer(Server):
    """redis-server on a private port, the same after a restart, which empties it unless `persistent`."""

    name = "redis"

    def __init__(self, *, persistent: bool = False) -> None:
        super().__init__()
        self.port = free_port()
        self.persistent = persistent

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def start(self) -> None:
        for attempt in range(3):  # somebody else may have taken the port since we looked
            try:
                return super().start()
            except RuntimeError:
                if attempt == 2 or "already in use" not in (self.folder / "log").read_text():
                    raise
                self.port = free_port()
        return None

    def command(self) -> list[str]:
        return [
            str(find_redis_server()),
            *("--port", str(self.port)),
            *("--bind", "127.0.0.1"),
            *("--dir", str(self.folder)),
            *("--save", ""),
            *("--appendonly", "yes" if self.persistent else "no"),
            *("--appendfsync", "always" if self.persistent else "no"),
        ]

    def is_ready(self) -> bool:
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=self.port, retry=once, socket_connect_timeout=1, socket_timeout=1) as client:
            try:
                return bool(client.info("server")["process_id"] == (self.process and self.process.pid))
            except redis.RedisError:
                return False


class PostgresServer(Server):
    """PostgreSQL on a private socket. Data survive stop, kill and restart, though not the machine's end."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends the connections

    def __init__(self) -> None:
        super().__init__()
        self.data = self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://asapp@/{database}?host={self.folder}"

    def create_database(self, template: str = "template1") -> str:
        """Make an empty database, or a copy of `template` while nobody uses that; return its name."""
        name = f"test_{secrets.token_hex(6)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return name

    def drop_database(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def start(self) -> None:
        if not self.data.exists():
            self._initialise()
        give_up_at = time.monotonic() + SHARED_MEMORY_S
        while True:
            try:
                return super().start()
            except RuntimeError as error:
                if "shared memory block" not in str(error) or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.3)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self.data), *options]

    def is_ready(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            self._execute("SELECT 1")
            return True
        return False

    @property
    def _bin(self) -> Path:
        return _postgres_bin()

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700)
        if owner := _postgres_owner():
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            os.chown(self.data, owner.pw_uid, owner.pw_gid)
        locale = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
        options = ["--auth=trust", "--no-sync", "--encoding=UTF8", f"--locale={locale}"]
        command = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "asapp", *options]
        with (self.folder / "log").open("ab") as log:
            process = self._popen(command, log)
            if process.wait() != 0:
                raise RuntimeError(f"initdb failed:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _popen(self, command: list[str], log: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
        if owner := _postgres_owner():
            options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        return super()._popen(command, log, **options)

    def _execute(self, statement: str, *names: str) -> None:
        query = sql.SQL(statement).format(*map(sql.Identifier, names))
        with psycopg.connect(
            host=str(self.folder), user="asapp", dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            connection.execute(query)


def chromium_path() -> str:
    """Return the browser for Playwright's `executable_path`."""
    return str(find_chromium())


def axe_source() -> str:
    return npm_files.AXE.read()


def htmx_source() -> str:
    return npm_files.HTMX.read()


def _postgres_owner() -> pwd.struct_passwd | None:
    """Return whom PostgreSQL runs as when we are root, which it refuses to be."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


@cache
def _postgres_bin() -> Path:
    """Return PostgreSQL's programs, copied to where its owner may read them if need be."""
    found = find_postgres_bin()
    owner = _postgres_owner()
    if owner is None or _can_run(found / "postgres", owner):
        return found
    copy = guard().folder / "pginstall"
    shutil.copytree(found.parent, copy)
    return copy / found.name


def _can_run(program: Path, owner: pwd.struct_passwd) -> bool:
    try:
        answer = subprocess.run(
            [program, "--version"],
            user=owner.pw_uid,
            group=owner.pw_gid,
            capture_output=True,
            cwd="/",
            check=False,
        )
    except PermissionError:
        return False
    return answer.returncode == 0


__all__ = [
    "MissingProgramError",
    "PostgresServer",
    "RedisServer",
    "axe_source",
    "chromium_path",
    "free_port",
    "guard",
    "htmx_source",
]
