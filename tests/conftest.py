"""Fixtures for all tests: the application on both databases, real Redis, the simulated org.

A test that asks for `app` runs twice, on SQLite and on PostgreSQL. A test that has an app but no `org` or `provider`
can't reach the network: requests-mock answers for it, and an unplanned call fails.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from hypothesis import settings

from asapp import create_app
from asapp.core.extensions import db
from config import Config
from devtools.servers import PostgresServer, RedisServer
from orgsim import Org, Running, start
from tests.databases import PostgresDatabases, SqliteDatabases, keep_autovacuum_away
from tests.pages import CheckingClient
from tests.shared_apps import SharedApps

PUBLIC_URL = "http://127.0.0.1:5000"
ENCRYPTION_KEY = bytes(range(100, 132))
# The same examples every time, so that a red build is red again; `--hypothesis-profile=long` looks for new ones.
settings.register_profile("short", derandomize=True, database=None)
settings.register_profile("long", max_examples=2000, print_blob=True)
settings.load_profile("short")
NOWHERE_REDIS_URL = "redis://127.0.0.1:1/0"
EMPTY = SimpleNamespace(params={})
MEMORY = Path("/dev/shm")  # files that live in memory, on Linux
MEMORY_BYTES = 2_000_000_000  # most containers have less than this


def pytest_configure() -> None:
    """Put temporary files in memory where there is enough: a SQLite database on a disk waits for every flush."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def make_config(database_url: str, redis_url: str = NOWHERE_REDIS_URL, **changes: object) -> Config:
    settings: dict[str, object] = {
        "secret_key": "only-for-tests-0123456789abcdefghijk",
        "encryption_keys": (ENCRYPTION_KEY,),
        "database_url": database_url,
        "redis_url": redis_url,
        "public_url": PUBLIC_URL,
        "salesforce_allow_loopback": True,
        "testing": True,
    }
    return Config(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database, made by the migrations."""
    path = tmp_path_factory.mktemp("template") / "empty.db"
    migrate_from_empty(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of an empty PostgreSQL database, made by the migrations."""
    name = postgres_server.create_database()
    migrate_from_empty(postgres_server.url(name))
    keep_autovacuum_away(postgres_server.url(name))
    return name


def migrate_from_empty(database_url: str) -> None:
    app = create_app(make_config(database_url))
    with app.app_context():
        upgrade()
        db.session.remove()
        db.engine.dispose()


@pytest.fixture(scope="session")
def sqlite_databases(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabases:
    return SqliteDatabases(sqlite_template, tmp_path_factory.mktemp("databases"))


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: PostgresServer, postgres_template: str) -> PostgresDatabases:
    return PostgresDatabases(postgres_server, postgres_template)


def pytest_collection_finish() -> None:
    """Exempt the tests and all modules from garbage collection, which would look through them again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A daily round drives no browser and runs each test on one database: the others count as slow."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("browser")
            item.add_marker("slow")
        if "postgres" in getattr(item, "callspec", EMPTY).params.values() and "database_url" in item.fixturenames:
            item.add_marker("postgres")
            item.add_marker("slow")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with all tables and no row."""
    with fresh_database(request) as url:
        yield url


@contextmanager
def fresh_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with all tables and no row, of the kind that the fixture's parameter names."""
    databases: SqliteDatabases | PostgresDatabases = request.getfixturevalue(f"{request.param}_databases")
    with databases.borrowed() as url:
        yield url


@pytest.fixture
def config(database_url: str, redis_server: RedisServer) -> Config:
    redis_server.flush()
    return make_config(database_url, redis_server.url)


@pytest.fixture(scope="session")
def shared_apps() -> SharedApps:
    return SharedApps()


@pytest.fixture
def app(config: Config, shared_apps: SharedApps, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """The application, with its context pushed so that factories and domain functions can be called.

    Other tests get the same one, so a test that adds an address to it or changes a setting asks for own_app.
    """
    with shared_apps.lent(config) as lent, opened(lent, request):
        yield lent


@pytest.fixture
def own_app(config: Config, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """Return an application for one test alone."""
    made = create_app(config)
    with opened(made, request):
        yield made


@contextmanager
def opened(app: Flask, request: pytest.FixtureRequest) -> Iterator[None]:
    app.test_client_class = CheckingClient
    with (
        app.app_context(),
        mock.patch("tenacity.nap.time"),
    ):  # calls are retried at once, not after 1 s and 3 s
        if {"org", "provider"} & set(request.fixturenames):
            yield
        else:
            with requests_mock.Mocker():
                yield
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def org() -> Iterator[Running]:
    """An empty simulated org, answering on a port of its own: `org.url`, `org.org`."""
    with start(Org(name="Northgate Wealth", seed=1)) as running:
        yield running
