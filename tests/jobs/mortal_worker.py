"""worker.py, whose work-horses end by kill -9 before a commit: `python -m tests.jobs.mortal_worker FILE`.

The file holds a number. Each commit of a work-horse counts it down, and before the commit that would make it 0 the work-horse
is killed. So a test that begins with 1, 2, 3 … ends a process at every point at which others can see what it has done.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sqlalchemy import Engine, event

import worker

LEFT = Path(sys.argv[1])
WORKER = os.getpid()


@event.listens_for(Engine, "commit")
def count_down(_connection: object) -> None:
    if os.getpid() == WORKER:
        return
    left = int(LEFT.read_text()) - 1
    LEFT.write_text(str(left))
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(worker.main([]))
