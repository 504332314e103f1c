"""Whether this process is asked to end. RQ tells its work-horse nothing; our worker passes the signal on."""

from __future__ import annotations

import signal
from threading import Event
from types import FrameType

_stopping = Event()


class StopRequested(Exception):
    """This process is asked to end: what is under way is handed back."""


def is_stopping() -> bool:
    return _stopping.is_set()


def stop_on_signals() -> None:
    """From now on SIGTERM and SIGUSR1 only raise the flag; the run looks at it between two pages."""
    stop_on(signal.SIGTERM, signal.SIGUSR1)


def stop_on(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, _set_flag)


def _set_flag(_number: int, _frame: FrameType | None) -> None:
    _stopping.set()
