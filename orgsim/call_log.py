"""The log of requests that the org received, for tests and the front page."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from orgsim.clock import to_salesforce


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
    """The newest `keep` calls, oldest first. Numbers keep growing when old calls are dropped."""

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
        """Return the current end of the log, as `since` and `counted` take it."""
        with self._lock:
            return self._next - 1

    def since(self, mark: int = 0) -> list[Call]:
        with self._lock:
            return [c for c in self._calls if c.number > mark]

    def latest(self, count: int) -> list[Call]:
        """Return the newest calls, newest first."""
        with self._lock:
            return [self._calls[-i] for i in range(1, min(count, len(self._calls)) + 1)]

    def counted(self, mark: int = 0) -> int:
        """Return how many calls since then counted against the allowance."""
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
