"""Leaves no process behind, however the owner ends.

Everything that a Guard's owner starts has the guard's mark in its environment, and so does everything that
those processes start (RQ's work-horses too, which sit in process groups of their own). Servers that overwrite their
environment to show a title (Redis, PostgreSQL) are found because they work inside the guard's folder. A small watcher
process waits for the owner to go away, also by kill -9, then ends all of these and removes the folder.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from types import TracebackType

import psutil

VARIABLE = "ASAPP_GUARD"  # marks joined by ":": a guarded process may have a guard of its own
GRACE_S = 5.0
ROOT = Path(__file__).resolve().parent.parent


class Guard:
    """Owns a mark and a temporary folder; use it as a context manager or call close()."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        # Short and open to others: socket paths have a length limit, and under root PostgreSQL runs as
        # another user.
        base = "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix="asapp-", dir=base)).resolve()
        self.folder.chmod(0o711)
        self._watcher = subprocess.Popen(
            [sys.executable, "-m", "devtools.guard", self.mark, str(self.folder), str(os.getpid())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != VARIABLE},
        )

    def environ(self, **extra: str) -> dict[str, str]:
        """Return our environment plus the mark, for a process to be started."""
        marks = [mark for mark in os.environ.get(VARIABLE, "").split(":") if mark not in ("", self.mark)]
        return {**os.environ, VARIABLE: ":".join([*marks, self.mark]), **extra}

    def sweep(self, grace_s: float = GRACE_S) -> int:
        """End everything that is ours; return how many processes had to be killed."""
        return sweep(self.mark, self.folder, grace_s)

    def close(self) -> None:
        if self._watcher.stdin:
            self._watcher.stdin.close()  # the watcher notices, ends the processes that are left, and ends itself
        self._watcher.wait()

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@cache
def guard() -> Guard:
    """Return this process's own guard, which ends with it; start long-lived processes with its environ()."""
    made = Guard()
    atexit.register(made.close)
    return made


def guarded(mark: str, folder: Path) -> list[psutil.Process]:
    """Return the living processes that carry the mark or work inside the folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_ours = mark in process.environ().get(VARIABLE, "").split(":")
            is_ours = is_ours or Path(process.cwd()).is_relative_to(folder)
            if is_ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def sweep(mark: str, folder: Path, grace_s: float = GRACE_S) -> int:
    """Ask all guarded processes to end, kill those that don't; return how many were killed."""
    _signal(guarded(mark, folder), signal.SIGTERM)
    give_up_at = time.monotonic() + grace_s
    while (left := guarded(mark, folder)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    killed = 0
    while left:  # again, for processes that were forked in between
        killed += len(left)
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)
        left = guarded(mark, folder)
    return killed


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def watch(mark: str, folder: Path, owner: int) -> None:
    """Wait until the owner closes our standard input or is gone, then clean up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == owner and not select.select([sys.stdin], [], [], 1.0)[0]:
        pass
    sweep(mark, folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
