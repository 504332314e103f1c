"""The processes of the application and the simulated org, started as in production, for demo, chaos, benchmarks and tests.

All of them end with the process that started them, in whatever way that one ends (guard.py).
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from config import Config
from devtools.guard import ROOT, guard
from devtools.programs import free_port
from devtools.waiting import status_of, wait_for

READY_S = 60.0
STOP_S = 30.0
QUIET_S = 30.0  # a process that lived this long is restarted without a longer pause
# Variables that a developer's shell may have set and that our processes must not inherit, beside the settings
FOREIGN = (
    *("FLASK_APP", "FLASK_DEBUG", "FLASK_ENV", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PYTHONPATH"),
    "PYTHONDONTWRITEBYTECODE",  # each process would compile the whole application for itself
)
FLASK = ("-m", "flask", "--app", "wsgi")


class StartError(Exception):
    """A process did not start; the text is one line with the last lines of its log."""


class Process:
    """A program with a log and a process group of its own; as a context manager it prints the log if the block fails."""

    stop_signal = signal.SIGTERM

    def __init__(
        self, name: str, command: list[str], log: Path, environ: Mapping[str, str], folder: Path = ROOT
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.environ = environ
        self.folder = folder
        self.options: dict[str, Any] = {}  # of Popen
        self.started_at = 0.0
        self.deaths: list[int] = []  # exit codes that a Keeper has seen; negative: the signal
        self._popen: subprocess.Popen[bytes] | None = None

    def is_ready(self) -> bool:
        return self.is_running

    def start(self, patience_s: float = READY_S) -> Self:
        """Start it and wait until it is ready; raise StartError."""
        self.spawn()
        self.wait_until_ready(patience_s)
        return self

    def wait_until_ready(self, patience_s: float = READY_S) -> None:
        """Wait until it is ready; raise StartError."""
        give_up_at = time.monotonic() + patience_s
        while not (self.is_ready() and self.is_running):
            if not self.is_running or time.monotonic() > give_up_at:
                if self.is_running:
                    self.kill_with_children()
                raise self.start_error()
            time.sleep(0.02)

    def spawn(self) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.options,
            )
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        return self._popen.pid if self._popen else 0

    @property
    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return the exit code; None if it runs or was never started."""
        return self._popen.poll() if self._popen else None

    def children(self) -> list[psutil.Process]:
        """Return its child processes; raise psutil.NoSuchProcess if it is not running."""
        if not self.is_running:
            raise psutil.NoSuchProcess(self.pid)
        return psutil.Process(self.pid).children()

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; return whether the process was there to get it."""
        if self._popen is None or not self.is_running:
            return False
        self._popen.send_signal(number)
        return True

    def wait(self, patience_s: float | None = None) -> None:
        """Wait until it has ended; raise subprocess.TimeoutExpired."""
        if self._popen is not None:
            self._popen.wait(patience_s)

    def stop(self) -> None:
        """End it in good order; does nothing if it is not running. Raises subprocess.TimeoutExpired, after a kill -9."""
        self.send(self.stop_signal)
        try:
            self.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill_with_children()
            raise

    def kill(self) -> None:
        """kill -9, as in a crash."""
        self.send(signal.SIGKILL)
        self.wait()

    def kill_with_children(self) -> None:
        """kill -9 of it and its children at the same moment, as in a power cut; wait until all are gone."""
        children = self.children()
        for pid in [self.pid, *(child.pid for child in children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()
        wait_for(
            lambda: not any(is_alive(child) for child in children), f"for the end of {self.name}'s children", STOP_S
        )

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stdout.write(self.log_tail())
        self.close()

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-20_000:]

    def start_error(self) -> StartError:
        lines = self.log_tail().strip().splitlines() or ["nothing"]
        error = StartError(f"{self.name} did not start. Its last words: {lines[-1]} ({self.log})")
        error.add_note("\n".join(lines[-30:]))
        return error


def is_alive(process: psutil.Process) -> bool:
    """Return whether it runs: a process that has ended and was not waited for is not alive; it has no file and no lock."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_all(processes: Sequence[Process], patience_s: float = STOP_S, hurry: threading.Event | None = None) -> None:
    """Ask all of them to end at the same moment; return when they have ended, patience is over or `hurry` is set."""
    for process in processes:
        process.send(process.stop_signal)

    def is_over() -> bool:
        return not any(process.is_running for process in processes) or (hurry is not None and hurry.is_set())

    with contextlib.suppress(TimeoutError):
        wait_for(is_over, patience_s=patience_s)


class Keeper:
    """Restarts processes that die, as systemd does, after a pause that doubles while a process dies young."""

    def __init__(
        self,
        kept: Sequence[Process],
        first_pause_s: float = 0.5,
        longest_pause_s: float = 10.0,
        on_death: Callable[[Process], None] = lambda _process: None,
    ) -> None:
        self._kept = kept
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._on_death = on_death
        self._pauses_s: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while not self._is_over.wait(0.1):
            for process in self._kept:
                if process.exit_code is not None:
                    self._start_again(process, process.exit_code)

    def _start_again(self, process: Process, exit_code: int) -> None:
        process.deaths.append(exit_code)
        is_young = time.monotonic() - process.started_at <= QUIET_S
        pause_s = self._pauses_s.get(process.name, self._first_pause_s)
        pause_s = min(pause_s * 2, self._longest_pause_s) if is_young else self._first_pause_s
        self._pauses_s[process.name] = pause_s
        self._on_death(process)
        if not self._is_over.wait(pause_s):
            process.spawn()


class Site(Process):
    """A process that serves HTTP at `url`."""

    ready_path = "/"

    def __init__(self, name: str, command: list[str], log: Path, environ: Mapping[str, str], port: int) -> None:
        super().__init__(name, command, log, environ)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        return status_of(f"{self.url}{self.ready_path}") == 200


class Web(Site):
    """gunicorn as in the Procfile, with its own settings from gunicorn.conf.py."""

    ready_path = "/healthz"

    def __init__(
        self,
        config: Config,
        log: Path,
        *,
        port: int | None = None,
        workers: int = 1,
        threads: int = 8,
        application: str = "wsgi:app",
    ) -> None:
        port = port or free_port()
        command = [sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
        command += ["--workers", str(workers), "--threads", str(threads)]
        super().__init__("web", command, log, environ_of(config), port)


class Worker(Process):
    """worker.py; as a context manager it ends by kill -9, with its work-horse."""

    def __init__(self, config: Config, log: Path, name: str = "worker") -> None:
        super().__init__(name, [sys.executable, "worker.py"], log, environ_of(config))

    def kill_horse(self) -> None:
        """kill -9 of the process that carries the job."""
        (horse,) = wait_for(self.children, "for a work-horse")
        horse.kill()
        horse.wait(STOP_S)

    def close(self) -> None:
        if self.is_running:
            self.kill_with_children()


class Scheduler(Process):
    def __init__(self, config: Config, log: Path) -> None:
        super().__init__("scheduler", [sys.executable, *FLASK, "scheduler"], log, environ_of(config))


class SimulatedOrg(Site):
    """`python -m orgsim`, with an app that may connect by this key and secret; options as it takes them."""

    ready_path = "/practice/api/state"

    def __init__(
        self, log: Path, key: str, secret: str, *options: str, port: int | None = None, name: str = "org"
    ) -> None:
        port = port or free_port()
        command = [sys.executable, "-m", "orgsim", "--port", str(port), "--key", key, "--secret", secret, *options]
        super().__init__(name, command, log, environ_of(), port)


def settings_of(config: Config) -> dict[str, str]:
    """Return the config as environment variables."""
    provider = config.identity_provider
    return {
        "SECRET_KEY": config.secret_key,
        "ENCRYPTION_KEYS": ",".join(base64.urlsafe_b64encode(key).decode() for key in config.encryption_keys),
        "DATABASE_URL": config.database_url,
        "REDIS_URL": config.redis_url,
        "PUBLIC_URL": config.public_url,
        "TRUSTED_PROXIES": str(config.trusted_proxies),
        "HTMX_URL": config.htmx_url,
        "MAIL_URL": config.mail_url or "",
        "SALESFORCE_ALLOW_LOOPBACK": "1" if config.salesforce_allow_loopback else "0",
        "SYNC_INTERVAL_MINUTES": str(config.sync_interval_minutes),
        "METRICS_TOKEN": config.metrics_token or "",
        "RUNS_KEPT_DAYS": str(config.runs_kept_days),
        "TRACES_KEPT_DAYS": str(config.traces_kept_days),
        "ADMIN_IDLE_MINUTES": str(config.admin_idle_minutes),
        "ADVISOR_IDLE_MINUTES": str(config.advisor_idle_minutes),
        "ADMIN_SESSION_HOURS": str(config.admin_session_hours),
        "ADVISOR_SESSION_HOURS": str(config.advisor_session_hours),
        "REQUIRE_SECOND_FACTOR": "1" if config.require_second_factor else "0",
        "OIDC_ISSUER": provider.issuer if provider else "",
        "OIDC_CLIENT_ID": provider.client_id if provider else "",
        "OIDC_CLIENT_SECRET": provider.client_secret if provider else "",
    }


def environ_of(config: Config | None = None, **extra: str) -> dict[str, str]:
    """Return the environment for a process: the guard's mark, these settings, and no variable that is meant for others."""
    settings = settings_of(config) if config else {}
    foreign = {*FOREIGN, "WITHOUT_KEYS", *(f"{name}_FILE" for name in settings)}
    inherited = {name: value for name, value in guard().environ().items() if name not in foreign}
    return {**inherited, "PYTHONUNBUFFERED": "1", **settings, **extra}
