"""Other processes and a failing database during a refresh of tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from asapp.connections.tokens import StoredTokens
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.vault import Vault
from orgsim.server import Running
from tests.connecting import KEY, ConnectingDesk
from tests.domain.test_leads_once import at_the_same_time


@pytest.fixture
def desk(app: Flask, org: Running) -> ConnectingDesk:
    made = ConnectingDesk(org)
    made.org.change_app(KEY, rotate=True)
    made.connect()
    db.session.rollback()
    return made


def refresh_calls(desk: ConnectingDesk, mark: int) -> int:
    return sum("token_refresh" in call.tags for call in desk.org.calls.since(mark))


class InterruptedVault(Vault):
    """Runs something else, once, when the next sealed text is opened."""

    work: Callable[[], None] | None = None

    def __init__(self, real: Vault) -> None:
        self.__dict__.update(real.__dict__)

    def open(self, sealed: str, place: str) -> str:
        work, self.work = self.work, None
        if work:
            work()
        return super().open(sealed, place)


def test_a_token_that_another_process_stored_a_moment_ago_is_not_refreshed_again(
    app: Flask, desk: ConnectingDesk
) -> None:
    """The row was read before the other process wrote, and is leased after."""
    connection_id = desk.connection().id
    db.session.rollback()
    vault = InterruptedVault(desk.access.vault)
    source = StoredTokens(connection_id, replace(desk.access, vault=vault))
    stale = source.access_token()
    mark = desk.org.calls.mark()
    vault.work = lambda: at_the_same_time(app, lambda: StoredTokens(connection_id, desk.access).refresh_now())

    fresh = source.refresh(stale)

    assert fresh == desk.tokens_of(desk.connection())[0] != stale
    assert refresh_calls(desk, mark) == 1


def test_tokens_that_come_after_the_advisor_connected_again_replace_nothing(app: Flask, desk: ConnectingDesk) -> None:
    connection_id = desk.connection().id
    db.session.rollback()
    slow = desk.org.trouble.add("slow_after", kind="token_refresh", seconds=3, times=1)
    refreshed: list[bool] = []

    def refresh() -> None:
        with app.app_context(), writing():
            refreshed.append(StoredTokens(connection_id, desk.access).refresh_now())

    thread = threading.Thread(target=refresh)
    thread.start()
    wait_for(lambda: slow.hits == 1)
    assert desk.connect() == "connected"
    stored = desk.tokens_of(desk.connection())
    thread.join(30)

    assert refreshed == [True]
    assert desk.tokens_of(desk.connection()) == stored
    assert desk.approvals() == [stored[1]]


def wait_for(is_true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


# ---- A database that fails


@pytest.fixture
def stumbles(app: Flask) -> Iterator[list[str]]:
    """While this list has entries, storing refreshed tokens fails and removes one of them."""
    left: list[str] = []

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if left and statement.startswith("UPDATE connections") and "refresh_token_sealed" in statement:
            left.pop()
            raise OperationalError(statement, {}, Exception("the database is restarting"))

    engine = db.engine
    event.listen(engine, "before_cursor_execute", execute)
    yield left
    event.remove(engine, "before_cursor_execute", execute)


def test_rotated_tokens_are_stored_though_the_database_stumbles(desk: ConnectingDesk, stumbles: list[str]) -> None:
    """The old refresh token is used up: the new one in memory is the only one left."""
    source = StoredTokens(desk.connection().id, desk.access)
    db.session.rollback()
    stumbles += ["once", "twice"]

    fresh = source.refresh(source.access_token())

    assert stumbles == []
    stored = desk.tokens_of(desk.connection())
    assert stored[0] == fresh
    assert desk.approvals() == [stored[1]]
