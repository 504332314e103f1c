"""Starts processes, starts again those that die, and ends them all."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from devtools.guard import Guard

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 12.0  # a worker ends within 10 s
LONGEST_PAUSE_S = 10.0
QUIET_S = 30.0  # who lived this long is started again at once


class StartError(Exception):
    """A process did not come up; the text is one line with its last words."""


@dataclass
class Child:
    name: str
    command: list[str]
    environ: dict[str, str]
    log: Path
    is_base: bool
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = field(default=0.5)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for us alone
            )
        self.started_at = time.monotonic()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"


class Supervisor:
    def __init__(self, guard: Guard, logs: Path, say: Callable[[str], None]) -> None:
        self._guard = guard
        self._logs = logs
        self._say = say
        self._children: list[Child] = []
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.hurry = threading.Event()

    def start(
        self,
        name: str,
        command: list[str],
        environ: dict[str, str],
        is_ready: Callable[[], bool] = lambda: True,
        *,
        is_base: bool = False,
    ) -> None:
        """Start a process and wait until it is ready; raise StartError. Others lean on a base: it ends last."""
        child = Child(name, command, environ, self._logs / f"{name}.log", is_base)
        self._children.append(child)
        child.start()
        give_up_at = time.monotonic() + READY_TIMEOUT_S
        while not (is_ready() and child.is_running):
            if not child.is_running or time.monotonic() > give_up_at:
                raise StartError(f"{name} did not start. Its last words: {child.last_words()} ({child.log})")
            time.sleep(0.1)

    def watch(self) -> None:
        """From now on start again whoever dies."""
        self._watcher.start()

    def stop(self) -> None:
        """End all of them; the bases after the others are gone."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for is_base in (False, True):
            self._end([child for child in self._children if child.is_base == is_base])
        if killed := self._guard.sweep(grace_s=0.5):
            self._say(f"{killed} that would not end were killed.")
        for child in self._children:
            if child.process:
                child.process.wait()

    def _end(self, group: list[Child]) -> None:
        for child in group:
            if child.process and child.is_running:
                child.process.terminate()
        give_up_at = time.monotonic() + STOP_TIMEOUT_S
        while any(child.is_running for child in group):
            if time.monotonic() > give_up_at or self.hurry.is_set():
                return  # the sweep gets them
            time.sleep(0.05)

    def _watch(self) -> None:
        while not self._stopping.wait(0.3):
            for child in self._children:
                if not child.is_running:
                    self._start_again(child)

    def _start_again(self, child: Child) -> None:
        if not child.process:
            return
        code = child.process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        lived_s = time.monotonic() - child.started_at
        child.pause_s = 0.5 if lived_s > QUIET_S else min(child.pause_s * 2, LONGEST_PAUSE_S)
        self._say(f"{child.name} (process {child.process.pid}) ended with {how}; starting it again.")
        if not self._stopping.wait(child.pause_s):
            child.start()
