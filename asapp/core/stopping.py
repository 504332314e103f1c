"""Whether this process was told to end. RQ doesn't tell its work-horse; our worker passes the signal on."""

from __future__ import annotations

import signal
from threading import Event
from types import FrameType

_stopping = Event()


class StopRequested(Exception):
    """This process was told to end: hand back the work in progress."""


def is_stopping() -> bool:
    return _stopping.is_set()


def stop_on_signals() -> None:
    """From now on SIGTERM and SIGUSR1 only set a flag; a run checks it between two pages."""
    stop_on(signal.SIGTERM, signal.SIGUSR1)


def stop_on(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, _set_flag)


def _set_flag(_number: int, _frame: FrameType | None) -> None:
    _stopping.set()
