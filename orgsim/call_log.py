"""What was asked of the org: a log for tests and the front page, and the rolling 24-hour count of API calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from orgsim.clock import OrgClock, to_salesforce

DAY = 24 * 3600
_BUCKET = 60


@dataclass
class Call:
    """One request. `at` in seconds by the org's clock; `status` 0: no answer was sent; `soql`: all queries in it."""

    number: int
    at: int
    method: str
    path: str
    tags: tuple[str, ...] = ()
    soql: tuple[str, ...] = ()
    user_id: str | None = None
    status: int = 0
    counted: int = 0
    ms: float = 0.0
    cookies: tuple[str, ...] = ()
    fault: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "at": to_salesforce(self.at)}


class CallLog:
    """A list, oldest first, that forgets what is older than `keep` entries. Marks go on counting."""

    def __init__(self, keep: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=keep)
        self._next = 1

    def open(self, **known: Any) -> Call:
        with self._lock:
            call = Call(number=self._next, **known)
            self._next += 1
            self._calls.append(call)
            return call

    def mark(self) -> int:
        """Return a place in the log; `since` gives what came after it."""
        with self._lock:
            return self._next - 1

    def since(self, mark: int = 0) -> list[Call]:
        with self._lock:
            return [c for c in self._calls if c.number > mark]

    def latest(self, count: int) -> list[Call]:
        """The newest calls, newest first."""
        with self._lock:
            return [self._calls[-i] for i in range(1, min(count, len(self._calls)) + 1)]

    def counted(self, mark: int = 0) -> int:
        """How many calls since then counted against the allowance."""
        return sum(c.counted for c in self.since(mark))

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self.since())

    def __getitem__(self, index: int) -> Call:
        return self.since()[index]


class Allowance:
    """API calls of the last 24 hours, of all users and apps together, in minutes; others' calls can be added."""

    def __init__(self, clock: OrgClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: deque[list[int]] = deque()
        self._sum = 0
        self.others = 0

    def spend(self, calls: int = 1) -> None:
        minute = self._clock.seconds() // _BUCKET
        with self._lock:
            self._forget(minute)
            if self._buckets and self._buckets[-1][0] == minute:
                self._buckets[-1][1] += calls
            else:
                self._buckets.append([minute, calls])
            self._sum += calls

    def used(self) -> int:
        with self._lock:
            self._forget(self._clock.seconds() // _BUCKET)
            return self._sum + self.others

    def _forget(self, minute: int) -> None:
        while self._buckets and self._buckets[0][0] <= minute - DAY // _BUCKET:
            self._sum -= self._buckets.popleft()[1]
