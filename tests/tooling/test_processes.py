"""Processes that demo, campaign, benchmarks and tests start: readiness, kill, restart, and their settings."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from config import Config, IdentityProvider
from devtools.processes import Keeper, Process, Site, StartError, environ_of, is_alive, settings_of
from devtools.programs import free_port
from devtools.waiting import status_of, wait_for
from tests.conftest import make_config

FAMILY = "import os, time; os.fork() == 0 and os.setpgrp(); time.sleep(300)"


def sleeper(tmp_path: Path, code: str = "import time; time.sleep(300)") -> Process:
    return Process("sleeper", [sys.executable, "-c", code], tmp_path / "log", environ_of())


def test_a_process_that_does_not_start_fails_with_its_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('one\\ntwo')"]
    site = Site("site", command, tmp_path / "log", environ_of(), free_port())
    with pytest.raises(StartError) as caught:
        site.start()
    assert str(caught.value) == f"site did not start. Its last words: two ({tmp_path / 'log'})"


def test_the_log_is_printed_when_the_block_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = sleeper(tmp_path, "print('here', flush=True); import time; time.sleep(300)")
    with pytest.raises(TimeoutError, match="waited 0 s in vain for nothing"):
        wait_in_vain(process)
    assert capsys.readouterr().out == "here\n"
    assert process.exit_code == -signal.SIGTERM


def wait_in_vain(process: Process) -> None:
    with process:
        wait_for(process.log_tail)
        wait_for(lambda: False, "for nothing", 0)


def test_children_in_groups_of_their_own_are_killed_with_it(tmp_path: Path) -> None:
    process = sleeper(tmp_path, FAMILY).start()
    (child,) = wait_for(process.children)
    process.kill_with_children()
    assert process.exit_code == -signal.SIGKILL
    assert not is_alive(child)


def test_what_is_kept_is_started_again(tmp_path: Path) -> None:
    said: list[int] = []
    process = sleeper(tmp_path).start()
    keeper = Keeper([process], 0.1, 0.1, lambda dead: said.append(dead.deaths[-1]))
    keeper.start()
    try:
        first = process.pid
        process.kill()
        wait_for(lambda: process.is_running and process.pid != first)
    finally:
        keeper.stop()
        process.kill()
    assert said == process.deaths == [-signal.SIGKILL]


def test_a_process_reads_the_settings_that_it_was_given() -> None:
    config = make_config(
        "sqlite:////here.db",
        trusted_proxies=2,
        htmx_url="/static/htmx.js",
        mail_url="smtp://127.0.0.1:25",
        sync_interval_minutes=7,
        metrics_token="0123456789abcdef",
        require_second_factor=False,
        runs_kept_days=300,
        traces_kept_days=40,
        admin_idle_minutes=5,
        advisor_idle_minutes=6,
        admin_session_hours=7,
        advisor_session_hours=8,
        identity_provider=IdentityProvider("https://id.example", "asapp", "a-secret-of-ours"),
        testing=False,
    )
    assert Config.from_environment(settings_of(config)) == config
    defaults = Config(*(getattr(config, name) for name in ("secret_key", "encryption_keys", "database_url")), "", "")
    unchanged = [name for name, value in vars(config).items() if value == vars(defaults)[name]]
    assert unchanged == ["secret_key", "encryption_keys", "database_url", "testing"]


def test_what_a_shell_holds_for_others_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    monkeypatch.setenv("MAIL_URL", "smtp://elsewhere.example")
    environ = environ_of(make_config("sqlite:////here.db"))
    assert "WEB_CONCURRENCY" not in environ
    assert environ["MAIL_URL"] == ""


def test_nothing_answers_where_nothing_listens() -> None:
    assert status_of("http://127.0.0.1:1/healthz") is None
