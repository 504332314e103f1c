"""Workers whose work-horses end by kill -9 before a commit (mortal_worker.py is the process)."""

from __future__ import annotations

import sys
from pathlib import Path

from config import Config
from devtools.processes import Worker


class MortalWorker(Worker):
    """A worker whose work-horse is killed before a commit; left: a file with the number of commits until then."""

    def __init__(self, config: Config, log: Path, left: Path) -> None:
        super().__init__(config, log)
        self.command = [sys.executable, "-m", "tests.jobs.mortal_worker", str(left)]


def is_killed(left: Path) -> bool:
    return int(left.read_text() or 1) <= 0
