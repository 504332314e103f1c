"""Pages that wait for Salesforce: few threads of a web process at once, and each for seconds only.

A web process has a handful of threads. Where an org is slow, the pages that wait for it would hold them all, and no page would be
answered any more. So a request takes a turn with its first call and keeps it until it ends; requests beyond AT_ONCE are refused,
and their page says so. Calls of jobs and commands, which no page waits for, are not limited here.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from threading import BoundedSemaphore

AT_ONCE = 4  # of the 8 threads of a web process
LONGEST_WAIT_S = 1.0  # for a turn
PAGE_S = 20.0  # from a request's first call: after it none is begun
CALL_S = 10.0  # for one call, from connecting to the last byte
LEAST_S = 3.0  # for a call that has to be made however late it is: revoking, giving a grant back

_turns = BoundedSemaphore(AT_ONCE)


class AllTurnsTaken(Exception):
    """As many pages as may wait for Salesforce are waiting. Nothing was sent."""


class PageTurn:
    """What one request of the web process has of Salesforce. ends_at: of its waiting, by time.monotonic(); None: no turn yet."""

    def __init__(self, page_s: float = PAGE_S) -> None:
        self._page_s = page_s
        self.ends_at: float | None = None

    def claim(self) -> None:
        if self.ends_at is None:
            if not _turns.acquire(timeout=LONGEST_WAIT_S):
                raise AllTurnsTaken
            self.ends_at = time.monotonic() + self._page_s

    def release(self) -> None:
        if self.ends_at is not None:
            self.ends_at = None
            _turns.release()


_present: ContextVar[PageTurn | None] = ContextVar("page_turn", default=None)


def begin(page_s: float = PAGE_S) -> None:
    """Limit the calls of this thread from now on: a page waits for them, for so many seconds."""
    _present.set(PageTurn(page_s))


def end() -> None:
    """Give the turn back, if one was taken."""
    if (turn := _present.get()) is not None:
        turn.release()
    _present.set(None)


def claim() -> None:
    """Take a turn, unless this request has one or no page waits. Raises AllTurnsTaken."""
    if (turn := _present.get()) is not None:
        turn.claim()


def is_time_up() -> bool:
    """Has the page waited for as long as it may?"""
    turn = _present.get()
    return turn is not None and turn.ends_at is not None and time.monotonic() >= turn.ends_at


def time_for_call(total_s: float) -> float:
    """Return how many seconds a call may take. total_s: where no page waits."""
    turn = _present.get()
    if turn is None or turn.ends_at is None:
        return total_s
    return min(total_s, CALL_S, max(turn.ends_at - time.monotonic(), LEAST_S))
