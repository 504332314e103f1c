"""Refreshing tokens: one refresh at a time across processes, with and without rotation, and which answers disconnect."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import update

from asapp.connections import connections, tokens
from asapp.connections.tokens import StoredTokens, find_idle, refresh_idle
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Connection
from asapp.salesforce.errors import Misconfigured, ReconnectNeeded, TryLater
from config import Config
from devtools.processes import settings_of
from orgsim.answers import Answer
from orgsim.server import Running
from tests.connecting import KEY, ConnectingDesk

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def desk(app: Flask, org: Running) -> ConnectingDesk:
    made = ConnectingDesk(org)
    made.connect()
    db.session.rollback()
    return made


@pytest.fixture(params=[False, True], ids=["same", "rotating"])
def rotation(request: pytest.FixtureRequest, desk: ConnectingDesk) -> bool:
    desk.org.change_app(KEY, rotate=request.param)
    return bool(request.param)


def stored(desk: ConnectingDesk) -> StoredTokens:
    connection_id = desk.connection().id
    db.session.rollback()
    return StoredTokens(connection_id, desk.access)


def refresh_calls(desk: ConnectingDesk, mark: int = 0) -> int:
    return sum("token_refresh" in call.tags for call in desk.org.calls.since(mark))


def test_an_old_token_is_refreshed_and_stored_before_it_is_used(desk: ConnectingDesk, rotation: bool) -> None:
    source = stored(desk)
    old = desk.tokens_of(desk.connection())
    fresh = source.refresh(source.access_token())
    new = desk.tokens_of(desk.connection())
    assert fresh == new[0] != old[0]
    assert (new[1] != old[1]) is rotation
    assert new[1] in desk.approvals()
    assert source.access_token() == fresh


def test_refreshing_again_and_again_never_loses_the_refresh_token(desk: ConnectingDesk, rotation: bool) -> None:
    source = stored(desk)
    for _ in range(4):
        source.refresh(source.access_token())
    assert desk.connection().is_connected
    assert desk.tokens_of(desk.connection())[1] in desk.approvals()


def test_a_caller_with_an_old_token_gets_the_stored_one(desk: ConnectingDesk) -> None:
    early, late = stored(desk), stored(desk)
    fresh = early.refresh(early.access_token())
    mark = desk.org.calls.mark()
    assert late.refresh(late.access_token()) == fresh
    assert refresh_calls(desk, mark) == 0


def test_many_threads_make_one_refresh(desk: ConnectingDesk, rotation: bool, app: Flask) -> None:
    sources = [stored(desk) for _ in range(6)]
    mark, results = desk.org.calls.mark(), []
    desk.org.trouble.add("slow_after", kind="token_refresh", seconds=0.4)

    def work(source: StoredTokens) -> None:
        results.append(source.refresh(source.access_token()))

    threads = [threading.Thread(target=work, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(results)) == 1
    assert len(results) == 6
    assert refresh_calls(desk, mark) == 1


@pytest.mark.slow
def test_two_processes_at_once_never_lose_a_token(desk: ConnectingDesk, rotation: bool, config: Config) -> None:
    connection_id = desk.connection().id
    stale = desk.tokens_of(desk.connection())[0]
    db.session.rollback()
    desk.org.trouble.add("slow_after", kind="token_refresh", seconds=0.5)
    mark = desk.org.calls.mark()
    script = textwrap.dedent(
        f"""
        from asapp import create_app
        from asapp.connections.tokens import StoredTokens
        app = create_app()
        with app.app_context():
            source = StoredTokens({connection_id}, app.extensions["asapp.org_access"])
            input()
            for _ in range(3):
                token = source.refresh(source.access_token())
            print(token)
        """
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=settings_of(config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate("go\n", timeout=60)[0].strip() for process in parallel(processes)]
    assert all(process.returncode == 0 for process in processes)
    access_token, refresh_token = desk.tokens_of(desk.connection())
    assert desk.connection().is_connected
    assert access_token in outputs
    assert access_token != stale
    assert refresh_token in desk.approvals()
    assert 3 <= refresh_calls(desk, mark) <= 6


def parallel(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Start all of them at the same moment."""
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def test_a_lease_of_a_dead_process_runs_out(desk: ConnectingDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    source = stored(desk)
    take_lease(desk, timedelta(seconds=0.5))
    assert source.refresh(source.access_token()) == desk.tokens_of(desk.connection())[0]


def test_waiting_for_another_processs_refresh_has_an_end(desk: ConnectingDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "WAIT_S", 0.3)
    source = stored(desk)
    take_lease(desk, timedelta(minutes=1))
    with pytest.raises(TryLater):
        source.refresh(source.access_token())
    assert refresh_calls(desk) == 0


def take_lease(desk: ConnectingDesk, lasts: timedelta) -> None:
    connection = desk.connection()
    connection.token_lease, connection.token_lease_until = "somebody", utcnow() + lasts
    db.session.commit()


def test_the_org_may_have_moved(desk: ConnectingDesk) -> None:
    source = stored(desk)
    moved = desk.url.replace("127.0.0.1", "localhost")
    desk.org.change_settings(instance_url=moved)
    source.refresh(source.access_token())
    assert source.instance_url == moved
    assert desk.connection().instance_url == moved


def test_a_host_that_is_not_salesforces_is_never_stored_and_the_new_tokens_are(desk: ConnectingDesk) -> None:
    desk.org.change_app(KEY, rotate=True)
    source, before = stored(desk), desk.connection().instance_url
    desk.org.change_settings(instance_url="https://evil.example")
    db.session.rollback()
    source.refresh(source.access_token())
    assert source.instance_url == desk.connection().instance_url == before
    assert desk.tokens_of(desk.connection())[1] in desk.approvals()


@pytest.mark.parametrize(
    ("error", "description", "reason"),
    [
        ("invalid_grant", "expired access/refresh token", "permission_withdrawn"),
        ("invalid_grant", "token validity expired", "permission_expired"),
        ("invalid_grant", "inactive user", "inactive_user"),
        ("inactive_user", "whatever", "inactive_user"),
    ],
)
def test_what_needs_reconnecting(desk: ConnectingDesk, error: str, description: str, reason: str) -> None:
    desk.connection().next_sync_at = utcnow()
    db.session.commit()
    refuse(desk, error, description)
    source = stored(desk)
    with pytest.raises(ReconnectNeeded):
        source.refresh(source.access_token())
    connection = desk.connection()
    assert connection.needs_reconnect
    assert connection.status_reason == reason
    assert connection.next_sync_at is None
    with pytest.raises(ReconnectNeeded):
        stored(desk)


@pytest.mark.parametrize(
    ("error", "description", "raised"),
    [
        ("invalid_grant", "IP restricted or invalid login hours", Misconfigured),
        ("invalid_grant", "ip restricted", Misconfigured),
        ("invalid_grant", "inactive organization", Misconfigured),
        ("inactive_org", "whatever", Misconfigured),
        ("invalid_grant", "activation secret invalid", TryLater),
        ("invalid_grant", "login rate exceeded", TryLater),
        ("invalid_client", "invalid client credentials", Misconfigured),
        ("invalid_client_id", "client identifier invalid", Misconfigured),
        ("rate_limit_exceeded", "", TryLater),
        ("never_heard_of", "", TryLater),
    ],
)
def test_these_answers_disconnect_no_one(
    desk: ConnectingDesk, error: str, description: str, raised: type[Exception]
) -> None:
    refuse(desk, error, description)
    source = stored(desk)
    for _ in range(5):
        with pytest.raises(raised):
            source.refresh(source.access_token())
    assert desk.connection().is_connected
    assert desk.connection().token_lease is None


@pytest.mark.parametrize(
    "trouble", ["server_unavailable_html", "edge_420", "reset", "truncated_json", "redirect", "html"]
)
def test_an_answer_that_is_no_answer_disconnects_no_one(desk: ConnectingDesk, trouble: str) -> None:
    source = stored(desk)
    answer: object = Answer(200, "<html></html>", "text/html") if trouble == "html" else trouble
    desk.org.trouble.add(
        answer, kind="token_refresh", **({"location": "https://evil.example"} if trouble == "redirect" else {})
    )
    with pytest.raises(TryLater):
        source.refresh(source.access_token())
    assert desk.connection().is_connected


def test_an_unknown_error_text_ends_the_connection_after_three_attempts_far_apart(desk: ConnectingDesk) -> None:
    refuse(desk, "invalid_grant", "the moon is full")
    for _ in range(2):
        attempt(desk, TryLater)
        let_pass(desk, timedelta(minutes=31))
        assert desk.connection().is_connected
    attempt(desk, ReconnectNeeded)
    assert desk.connection().status_reason == "unknown_grant_error"


def test_a_runs_own_retries_count_as_one_attempt(desk: ConnectingDesk) -> None:
    refuse(desk, "invalid_grant", "the moon is full")
    for _ in range(2):  # two runs, an hour apart
        for _ in range(3):
            attempt(desk, TryLater)
        let_pass(desk, timedelta(minutes=61))
    connection = desk.connection()
    assert (connection.is_connected, connection.unknown_refusals) == (True, 2)


def test_three_attempts_in_less_than_an_hour_are_too_early(desk: ConnectingDesk) -> None:
    refuse(desk, "invalid_grant", "the moon is full")
    for _ in range(3):
        attempt(desk, TryLater)
        let_pass(desk, timedelta(minutes=21))
    assert (desk.connection().is_connected, desk.connection().unknown_refusals) == (True, 3)
    attempt(desk, ReconnectNeeded)


def test_attempts_counted_before_retries_were_distinguished_do_not_count(desk: ConnectingDesk) -> None:
    long_ago = utcnow() - timedelta(hours=3)
    db.session.execute(update(Connection).values(unknown_refusals=9, unknown_refusals_since=long_ago))
    db.session.commit()
    refuse(desk, "invalid_grant", "the moon is full")
    attempt(desk, TryLater)
    assert desk.connection().unknown_refusals == 1


def attempt(desk: ConnectingDesk, raised: type[Exception]) -> None:
    source = stored(desk)
    with pytest.raises(raised):
        source.refresh(source.access_token())


def let_pass(desk: ConnectingDesk, time: timedelta) -> None:
    connection = desk.connection()
    assert connection.unknown_refused_at is not None
    assert connection.unknown_refusals_since is not None
    connection.unknown_refused_at -= time
    connection.unknown_refusals_since -= time
    db.session.commit()


def test_a_good_answer_in_between_starts_the_count_again(desk: ConnectingDesk) -> None:
    fault = refuse(desk, "invalid_grant", "the moon is full")
    source = stored(desk)
    with pytest.raises(TryLater):
        source.refresh(source.access_token())
    fault.remove()
    source.refresh(source.access_token())
    connection = desk.connection()
    assert (connection.unknown_refusals, connection.unknown_refusals_since) == (0, None)


def test_a_refusal_of_replaced_tokens_does_not_end_the_new_connection(desk: ConnectingDesk) -> None:
    """The advisor reconnected while one process was being refused."""
    source = stored(desk)
    desk.org.revoke_approvals()
    lease = source._claim(source.access_token())
    assert lease is not None
    desk.connect()
    db.session.rollback()
    with pytest.raises(ReconnectNeeded):
        source._use(lease)
    assert desk.connection().is_connected


def test_good_tokens_undo_the_mark_that_another_process_made_meanwhile(desk: ConnectingDesk) -> None:
    """The other process used the same refresh token a moment later, and was refused because ours had rotated it."""
    desk.org.change_app(KEY, rotate=True)
    desk.connection().first_synced_at = utcnow()
    db.session.commit()
    source = stored(desk)
    lease = source._claim(source.access_token())
    assert lease is not None
    connection = desk.connection()
    assert connections.mark_needs_reconnect(
        db.session(), connection.id, "permission_withdrawn", connection.token_version
    )
    db.session.commit()
    source._use(lease)
    connection = desk.connection()
    assert (connection.is_connected, connection.status_reason) == (True, None)
    assert connection.next_sync_at is not None
    assert desk.tokens_of(connection)[1] in desk.approvals()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_disconnecting_gives_back_the_token_that_was_stored_last(desk: ConnectingDesk, app: Flask) -> None:
    """A worker stores a rotated token between the page's read and its disconnect. Not on SQLite: its writers can't overlap."""
    desk.org.change_app(KEY, rotate=True)
    connection = connections.find_current(desk.advisor)
    assert connection is not None
    version, connection_id = connection.token_version, connection.id

    def refresh() -> None:
        with app.app_context(), writing():
            StoredTokens(connection_id, desk.access).refresh_now()

    thread = threading.Thread(target=refresh)
    thread.start()
    thread.join(30)
    assert connections.disconnect(connection, True, desk.access)
    assert desk.approvals() == []
    db.session.refresh(connection)
    assert connection.token_version == version + 2


def test_tokens_that_come_after_disconnecting_are_given_back(desk: ConnectingDesk) -> None:
    desk.org.change_app(KEY, rotate=True)
    source = stored(desk)
    lease = source._claim(source.access_token())
    assert lease is not None
    connection = desk.connection()
    connections.end_connection(connection, keep_contacts=True)
    db.session.commit()
    with pytest.raises(ReconnectNeeded):
        source._use(lease)
    assert desk.approvals() == []


def test_idle_connections_are_kept_alive(desk: ConnectingDesk) -> None:
    connection_id = desk.connection().id
    assert not refresh_idle(connection_id, desk.access)
    db.session.execute(update(Connection).values(token_used_at=utcnow() - timedelta(days=21)))
    db.session.commit()
    assert find_idle() == [connection_id]
    db.session.rollback()
    assert refresh_idle(connection_id, desk.access)
    assert find_idle() == []


def refuse(desk: ConnectingDesk, error: str, description: str) -> object:
    body = {"error": error, "error_description": description}
    db.session.rollback()
    return desk.org.trouble.add(Answer(400, body), kind="token_refresh")
