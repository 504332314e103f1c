"""Real worker processes for tests, and ways to end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from config import Config
from tests.conftest import settings_of
from tests.services import guard

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
