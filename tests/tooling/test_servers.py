"""The servers and programs that other tests rely on work as documented."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from devtools import npm_files, programs
from devtools.guard import Guard, guard, guarded
from devtools.servers import PostgresServer, RedisServer
from devtools.waiting import wait_for


def test_redis_forgets_on_restart_and_keeps_its_address() -> None:
    with RedisServer() as server:
        server.client().set("a", 1)
        server.restart()
        assert server.client().get("a") is None
        server.client().set("a", 1)
        server.flush()
        assert server.client().dbsize() == 0
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=server.port).ping()


def test_persistent_redis_survives_a_kill() -> None:
    with RedisServer(persistent=True) as server:
        server.client().set("a", 1)
        server.kill()
        assert not server.is_running
        with pytest.raises(redis.ConnectionError):
            redis.Redis(port=server.port, retry=None).ping()
        server.start()
        assert server.client().get("a") == b"1"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def _connect(server: PostgresServer, name: str) -> psycopg.Connection:
    return psycopg.connect(server.url(name).replace("+psycopg", ""), autocommit=True)


@pytest.mark.postgres
def test_a_database_is_copied_from_its_template(postgres: PostgresServer) -> None:
    template = postgres.create_database()
    with _connect(postgres, template) as connection:
        connection.execute("CREATE TABLE t AS SELECT lower('É') AS letter")
    copy = postgres.create_database(template)
    with _connect(postgres, copy) as connection:
        assert connection.execute("SELECT letter FROM t").fetchone() == ("é",)
        postgres.drop_database(copy)  # also while a client is connected
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        _connect(postgres, copy)


@pytest.mark.slow
@pytest.mark.postgres
def test_postgres_keeps_its_data_over_a_restart_and_a_kill(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    for end in (postgres.stop, postgres.kill):
        end()
        with pytest.raises(psycopg.OperationalError):
            _connect(postgres, name)
        postgres.start()
        _connect(postgres, name).close()


@pytest.mark.slow
@pytest.mark.postgres
def test_what_was_committed_a_moment_before_a_kill_is_there_after_it(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    with _connect(postgres, name) as connection:
        connection.execute("CREATE TABLE moments (number int)")
        for number in range(50):
            connection.execute("INSERT INTO moments VALUES (%s)", [number])
        postgres.kill()
    postgres.start()
    with _connect(postgres, name) as connection:
        assert connection.execute("SELECT count(*) FROM moments").fetchone() == (50,)


def test_the_browser_and_the_scripts_from_npm_are_here() -> None:
    assert os.access(programs.find_chromium(), os.X_OK)
    assert "axe.run" in npm_files.AXE.read()
    assert npm_files.HTMX.read().startswith("var htmx=")
    assert all(file.is_here() for file in npm_files.FONT)


def test_a_changed_script_is_not_taken_for_ours(tmp_path: Path) -> None:
    place = tmp_path / "htmx.min.js"
    place.write_text("alert(1)")
    assert not npm_files.NpmFile("htmx.org", "2.0.11", "", place, npm_files.HTMX.sha384).is_here()


def test_a_port_in_use_is_not_free() -> None:
    with RedisServer() as server:
        assert not programs.is_free(server.port)


def test_a_guard_ends_children_in_groups_of_their_own() -> None:
    with Guard() as own:
        child = _start_stubborn_child(own.environ())
        assert len(guarded(own.mark, own.folder)) == 2
        assert own.sweep(grace_s=0.2) == 2
        child.communicate()
        folder = own.folder
    assert not folder.exists()


@pytest.mark.slow
def test_servers_and_children_end_with_a_test_run_that_was_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=guard().environ())
    assert owner.stdout
    mark, folder = owner.stdout.readline().split()
    assert len(guarded(mark, Path(folder))) >= 4  # PostgreSQL is several
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    wait_for(lambda: not guarded(mark, Path(folder)) and not Path(folder).exists(), "for the guard", 20, 0.1)


# A process that ignores SIGTERM, and its child in a group of its own.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgrp()
print("ready", flush=True)
time.sleep(300)
"""
OWNER = f"""
import subprocess, sys
from devtools.servers import PostgresServer, RedisServer
from devtools.guard import guard
RedisServer().start()
PostgresServer().start()
guard = guard()
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE, env=guard.environ())
child.stdout.readline(), child.stdout.readline()
print(guard.mark, guard.folder, flush=True)
child.wait()
"""


def _start_stubborn_child(environ: dict[str, str]) -> psutil.Popen:
    child = psutil.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, env=environ)
    child.stdout.readline()
    child.stdout.readline()
    return child
