"""The processes of a campaign: PostgreSQL, Redis, the orgs, web, workers and scheduler, and who starts them again.

Whoever dies of the last four is started again within half a second, as systemd would do it. Of the web process nothing is
left over (KillMode=mixed); a work-horse whose worker was killed lives on, which is the harder case.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import requests

from config import Config
from devtools.guard import ROOT
from tests.services import PostgresServer, RedisServer, free_port, guard

RESTART_S = 0.4
READY_S = 90.0
TRUSTED_PROXIES = 1  # every person comes from an address of its own
INTERVAL_MINUTES = 5  # the shortest that the settings allow


class Process:
    """A command that is started again when it dies."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._environ = environ
        self._log = log
        self.popen: subprocess.Popen[bytes] | None = None
        self.deaths: list[int] = []  # exit codes; negative: the signal

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.popen = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid if self.popen else 0

    @property
    def is_running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def children(self) -> list[int]:
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []


class House:
    def __init__(self, folder: Path, orgs: int, workers: int, rng: random.Random) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.postgres = PostgresServer()
        self.redis = RedisServer()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.org_urls = [f"http://127.0.0.1:{free_port()}" for _ in range(orgs)]
        self.key, self.secret = "chaos-consumer-key", "chaos-consumer-secret"
        self._secret_key = base64.urlsafe_b64encode(rng.randbytes(48)).decode()
        self._encryption_key = rng.randbytes(32)
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._port = port
        self._workers = workers
        self.web: Process
        self.workers: list[Process] = []
        self.scheduler: Process
        self.orgs: list[Process] = []

    @property
    def config(self) -> Config:
        return Config(
            secret_key=self._secret_key,
            encryption_keys=(self._encryption_key,),
            database_url=self.postgres.url(self.database),
            redis_url=self.redis.url,
            public_url=self.url,
            trusted_proxies=TRUSTED_PROXIES,
            salesforce_allow_loopback=True,
            sync_interval_minutes=INTERVAL_MINUTES,
        )

    def start_servers(self) -> None:
        self.postgres.start()
        self.redis.start()
        self.database = self.postgres.create_database()
        self._environ = guard().environ(
            SECRET_KEY=self._secret_key,
            ENCRYPTION_KEYS=base64.urlsafe_b64encode(self._encryption_key).decode(),
            DATABASE_URL=self.config.database_url,
            REDIS_URL=self.redis.url,
            PUBLIC_URL=self.url,
            TRUSTED_PROXIES=str(TRUSTED_PROXIES),
            SALESFORCE_ALLOW_LOOPBACK="1",
            SYNC_INTERVAL_MINUTES=str(INTERVAL_MINUTES),
            PYTHONUNBUFFERED="1",
        )
        for number, url in enumerate(self.org_urls):
            command = [sys.executable, "-m", "orgsim", "--seed", "empty", "--port", url.rpartition(":")[2]]
            command += [
                "--number",
                str(number),
                "--key",
                self.key,
                "--secret",
                self.secret,
                "--callback",
                self.config.callback_url,
            ]
            self.orgs.append(self._start(f"org{number}", command))
        for url in self.org_urls:
            wait_until(lambda url=url: answers(f"{url}/practice/api/state"), "an org")  # type: ignore[misc]

    def start_app(self) -> None:
        """Start web, workers and scheduler, and from now on start again whoever dies of them."""
        web = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{self._port}"]
        self.web = self._start("web", [*web, "--workers", "2", "--threads", "4", "--no-control-socket"])
        self.workers = [
            self._start(f"worker{number}", [sys.executable, "worker.py"]) for number in range(self._workers)
        ]
        self.scheduler = self._start("scheduler", [sys.executable, "-m", "flask", "--app", "wsgi", "scheduler"])
        wait_until(lambda: answers(f"{self.url}/healthz"), "the web process")
        self._keeper.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for process in [*self.workers, *([self.web, self.scheduler] if self.workers else []), *self.orgs]:
            if process.popen is not None:
                kill(process.pid, signal.SIGTERM)
        guard().sweep()
        self.postgres.kill()
        self.redis.kill()

    def _start(self, name: str, command: list[str]) -> Process:
        process = Process(name, command, self._environ, self.folder / f"{name}.log")
        process.start()
        return process

    def _keep(self) -> None:
        kept = [self.web, self.scheduler, *self.workers]
        while not self._stopping.wait(0.1):
            for process in kept:
                if not process.is_running and process.popen is not None:
                    process.deaths.append(process.popen.returncode)
                    if not self._stopping.wait(RESTART_S):
                        process.start()


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal; return whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(url, timeout=5).ok
        except requests.RequestException:
            return False


def wait_until(look: Callable[[], object], what: str, patience_s: float = READY_S) -> None:
    give_up_at = time.monotonic() + patience_s
    while not look():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(0.1)
