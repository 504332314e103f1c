"""Real worker processes for tests, and ways to end them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

from config import Config
from tests.conftest import settings_of
from tests.services import free_port, guard

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0


class WorkerProcess:
    """`python worker.py` on a test's own database and Redis."""

    def __init__(self, config: Config, log: Path) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "worker.py")],
            cwd=ROOT,
            env=guard().environ(**settings_of(config)),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def horses(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def kill_horse(self) -> None:
        """kill -9 of the process that carries the job."""
        (horse,) = wait_for(self.horses)
        horse.kill()
        horse.wait(PATIENCE_S)

    def kill_both(self) -> None:
        """kill -9 of the worker and, as on a machine that is switched off, of its work-horse at the same moment."""
        horses = self.horses()
        for pid in [self.process.pid, *(horse.pid for horse in horses)]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        if self.process.poll() is None:
            horses = self.horses()
            self.process.kill()
            self.process.wait(PATIENCE_S)
            for horse in horses:
                if horse.is_running():
                    horse.kill()
        self._log.close()


class WebProcess:
    """gunicorn as in the Procfile, on a port of its own; asked without the library that is held back in tests."""

    def __init__(self, config: Config, log: Path, **environ: str) -> None:
        self.port = free_port()
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{self.port}", "--no-control-socket"],
            cwd=ROOT,
            env=guard().environ(**settings_of(config), **environ),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def get(self, path: str, **headers: str) -> Answer:
        """Raises OSError and HTTPException, for an answer that is cut off as well."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def send(self, raw: bytes) -> bytes:
        """Send bytes as they are; return the first line and all others of what comes back until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def is_there(self) -> bool:
        try:
            return self.get("/healthz").status == 200
        except OSError:
            return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        self._log.close()


class Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes


@contextmanager
def web_process(config: Config, log: Path, **environ: str) -> Iterator[WebProcess]:
    web = WebProcess(config, log, **environ)
    try:
        wait_for(web.is_there, "for the web process")
        yield web
    except BaseException:
        sys.stdout.write(log.read_text())  # pytest shows it with the failure
        raise
    finally:
        web.close()


@contextmanager
def worker_process(config: Config, log: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(config, log)
    try:
        yield worker
    except BaseException:
        sys.stdout.write(log.read_text())  # pytest shows it with the failure
        raise
    finally:
        worker.close()


def wait_for(look: Callable[[], T], what: str = "", patience_s: float = PATIENCE_S) -> T:
    """Return the first true answer."""
    give_up_at = time.monotonic() + patience_s
    while not (found := look()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"waited {patience_s} s in vain {what}")
        time.sleep(0.02)
    return found
