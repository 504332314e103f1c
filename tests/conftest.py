"""Fixtures for everybody: the application on both databases, real Redis, the simulated org.

A test that asks for `app` runs twice, on SQLite and on PostgreSQL. A test that has an app but no `org` can't reach the
network: requests-mock answers for it, and an unplanned call fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
from tests.pages import CheckingClient

PUBLIC_URL = "http://127.0.0.1:5000"
ENCRYPTION_KEY = bytes(range(100, 132))
# The same examples every time, so that a red build is red again; `--hypothesis-profile=long` looks for new ones.
settings.register_profile("short", derandomize=True, database=None)
settings.register_profile("long", max_examples=2000, print_blob=True)
settings.load_profile("short")
NOWHERE_REDIS_URL = "redis://127.0.0.1:1/0"


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
    return name


def migrate_from_empty(database_url: str) -> None:
    app = create_app(make_config(database_url))
    with app.app_context():
        upgrade()
        db.session.remove()
        db.engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database with all tables."""
    with fresh_database(request, tmp_path) as url:
        yield url


@contextmanager
def fresh_database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """A database with all tables, of the kind that the fixture's parameter names."""
    if request.param == "sqlite":
        path = folder / "asapp.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database(request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def config(database_url: str, redis_server: RedisServer) -> Config:
    redis_server.flush()
    return make_config(database_url, redis_server.url)


@pytest.fixture
def app(config: Config, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """The application, with its context pushed so that factories and domain functions can be called."""
    made = create_app(config)
    made.test_client_class = CheckingClient
    with made.app_context():
        if "org" in request.fixturenames:
            yield made
        else:
            with requests_mock.Mocker():
                yield made
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
