"""Real Redis and PostgreSQL servers, each in a folder of its own, so that parallel ones don't interfere.

    with RedisServer() as server:
        server.url

They end with the process that started them (guard.py). A program that is not installed raises
MissingProgramError: such a test fails, it never skips.
"""

from __future__ import annotations

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
from typing import Self

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from devtools.guard import guard
from devtools.processes import Process, StartError
from devtools.programs import find_postgres_bin, find_redis_server, free_port

SHARED_MEMORY_S = 30.0  # until the child processes of a killed PostgreSQL have noticed
START_S = 30.0


class Server(Process):
    """A server with its data in a folder of its own; a `with` block deletes the folder at its end."""

    def __init__(self, name: str, log: Path | None = None) -> None:
        folder = guard().folder / f"{name}-{secrets.token_hex(3)}"
        folder.mkdir(mode=0o711)
        super().__init__(name, [], log or folder / "log", guard().environ(LC_ALL="C"), folder)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(Server):
    """redis-server on a private port, with a password. A restart keeps the port, and empties it unless `persistent`."""

    def __init__(self, log: Path | None = None, *, persistent: bool = False) -> None:
        super().__init__("redis", log)
        self.persistent = persistent
        self._password = secrets.token_hex(16)  # other users of this machine reach the port, too
        self._settings = self.folder / "redis.conf"
        self._settings.touch(mode=0o600)
        self._settings.write_text(f"requirepass {self._password}\n")
        self._choose_port()

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def start(self, patience_s: float = START_S) -> Self:
        for _ in range(2):  # another program may have taken the port since we chose it
            try:
                return super().start(patience_s)
            except StartError:
                if "already in use" not in self.log_tail():
                    raise
                self._choose_port()
        return super().start(patience_s)

    def _choose_port(self) -> None:
        self.port = free_port()
        self.command = [
            *(str(find_redis_server()), str(self._settings)),
            *("--port", str(self.port)),
            *("--bind", "127.0.0.1"),
            *("--dir", str(self.folder)),
            *("--save", ""),
            *("--appendonly", "yes" if self.persistent else "no"),
            *("--appendfsync", "always" if self.persistent else "no"),
        ]

    def is_ready(self) -> bool:
        once = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(self.url, retry=once, socket_connect_timeout=1, socket_timeout=1) as client:
            try:
                return bool(client.info("server")["process_id"] == self.pid)
            except redis.RedisError:
                return False


class PostgresServer(Server):
    """PostgreSQL on a private socket. Data survive stop, kill and restart, but not a crash of the machine."""

    stop_signal = signal.SIGINT  # "fast": closes the connections

    def __init__(self) -> None:
        super().__init__("postgres")
        self.data = self.folder / "data"
        if owner := _postgres_owner():
            self.options = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://asapp@/{database}?host={self.folder}"

    def create_database(self, template: str = "template1", name: str = "") -> str:
        """Create an empty database, or a copy of `template` while no connection uses that; return its name."""
        name = name or f"test_{secrets.token_hex(6)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return name

    def drop_database(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def start(self, patience_s: float = START_S) -> Self:
        if not self.data.exists():
            self._initialise()
        self.command = self._server_command()
        give_up_at = time.monotonic() + SHARED_MEMORY_S
        while True:
            try:
                return super().start(patience_s)
            except StartError:
                if "shared memory block" not in self.log_tail()[-2000:] or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.3)

    def is_ready(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            self._execute("SELECT 1")
            return True
        return False

    def _server_command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_postgres_bin() / "postgres"), "-D", str(self.data), *options]

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700)
        if owner := _postgres_owner():
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            os.chown(self.data, owner.pw_uid, owner.pw_gid)
        locale = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
        options = ["--auth=trust", "--no-sync", "--encoding=UTF8", f"--locale={locale}"]
        command = [str(_postgres_bin() / "initdb"), "-D", str(self.data), "-U", "asapp", *options]
        initdb = Process("initdb", command, self.log, self.environ, self.folder)
        initdb.options = self.options
        initdb.spawn()
        initdb.wait()
        if initdb.exit_code != 0:
            raise initdb.start_error()

    def _execute(self, statement: str, *names: str) -> None:
        query = sql.SQL(statement).format(*map(sql.Identifier, names))
        with psycopg.connect(
            host=str(self.folder), user="asapp", dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            connection.execute(query)


def _postgres_owner() -> pwd.struct_passwd | None:
    """Return the user that PostgreSQL runs as when we are root, which it refuses to run as; else None."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


@cache
def _postgres_bin() -> Path:
    """Return PostgreSQL's programs, copied to a place that its owner can read if necessary."""
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
