"""What survives a power cut on SQLite: what is stored before a call or the use of its answer, and what people saw as done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.engine import Connection as EngineConnection
from sqlalchemy.exc import OperationalError

from asapp.connections.tokens import StoredTokens
from asapp.core import database
from asapp.core.database import HAS_TURN, durably, reading, writing
from asapp.core.extensions import db
from asapp.models import User
from config import Config
from orgsim.server import Running
from tests.connecting import ConnectingDesk
from tests.factories import log_in, make_advisor
from tests.signing_up import PostOffice, someone_signs_up

NORMAL, FULL = 1, 2
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL flushes each commit


@contextmanager
def commits(office: PostOffice | None = None) -> Iterator[list[tuple[int, int]]]:
    """Collect (flush mode, creates that Salesforce has received by then) of each transaction."""
    seen: list[tuple[int, int]] = []

    def on_commit(connection: EngineConnection) -> None:
        level = connection.connection.cursor().execute("PRAGMA synchronous").fetchone()[0]
        calls = office.org.calls.since(0) if office else []
        seen.append((level, sum(call.method == "POST" and "sobjects" in call.path for call in calls)))

    event.listen(db.engine, "commit", on_commit)
    yield seen
    event.remove(db.engine, "commit", on_commit)


def level_in_a_transaction() -> int:
    db.session.rollback()
    db.session.execute(select(User.id)).all()
    level = db.session.scalar(text("PRAGMA synchronous"))
    db.session.rollback()
    return int(level or 0)


def test_a_transaction_is_flushed_where_that_is_asked_for(app: Flask) -> None:
    with writing():
        assert level_in_a_transaction() == NORMAL
        with durably():
            assert level_in_a_transaction() == FULL
        assert level_in_a_transaction() == NORMAL
    with reading():
        assert level_in_a_transaction() == NORMAL


def test_a_new_token_is_flushed_before_it_is_used(app: Flask, org: Running) -> None:
    desk = ConnectingDesk(org)
    desk.connect()
    connection_id = desk.connection().id
    db.session.rollback()
    with commits() as seen:
        assert StoredTokens(connection_id, desk.access).refresh_now()
    assert seen[-2] == (FULL, 0)  # the last one is that of the log of calls


def test_the_mark_of_an_attempt_is_flushed_before_the_lead_is_sent(app: Flask, org: Running) -> None:
    office = PostOffice(org)
    someone_signs_up(office.advisor)
    with commits(office) as seen:
        office.deliver()
    assert office.org.leads() != []
    before = [level for level, creates in seen if creates == 0]
    assert before[-1] == FULL


def test_a_sign_up_that_was_confirmed_is_flushed(app: Flask, client: FlaskClient) -> None:
    log_in(client, make_advisor())
    with commits() as seen:
        client.post("/settings", data={"name": "Alice Moreau-Reyes"})
    assert FULL in [level for level, _ in seen]


def test_a_connection_goes_back_to_its_pool_and_serves_the_next_transaction(app: Flask) -> None:
    """A failing listener of the pool would close it each time, and only the log would say so."""
    used = []
    for _ in range(2):
        with writing(), db.engine.connect() as connection:
            connection.execute(select(User.id)).all()
            assert connection.info[HAS_TURN]
            used.append(connection.connection.dbapi_connection)
    assert used[0] is used[1]
    with reading(), db.engine.connect() as connection:
        connection.execute(select(User.id)).all()
        assert HAS_TURN not in connection.info  # the writer's ended with its transaction


def test_a_writer_waits_once_for_its_turn_and_the_lock_together(
    app: Flask, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program holds the lock, and a thread of ours waits for it with its turn."""
    monkeypatch.setattr(database, "LOCK_WAIT_S", 2.0)
    impatient = create_engine(config.database_url, **database.engine_options(config.database_url, for_jobs=False))
    database.prepare_engine(impatient, sqlite_cache_mb=1)
    took: list[float] = []

    def write() -> None:
        began = time.monotonic()
        with writing(), impatient.connect() as connection, suppress(OperationalError):
            connection.execute(select(User.id)).all()
        took.append(time.monotonic() - began)

    with writing(), db.engine.connect() as other:
        other.execute(select(User.id)).all()
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(took) < 3.5  # not twice
    with writing(), impatient.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 2000
    impatient.dispose()
