"""Faults: each matches requests and says what happens to them.

A fault either replaces the answer (an Answer, or a name from answers.py), or changes how the connection or the answer behaves:
see BEHAVIOURS. The first fault that matches a request, in the order in which they were added, takes it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from orgsim.answers import ANSWERS, Answer
from orgsim.clock import OrgClock

BEHAVIOURS = frozenset(
    {
        "slow",
        "slow_after",
        "hang",
        "reset",
        "reset_after",
        "late_work",
        "truncated",
        "truncated_json",
        "wrong_content_type",
        "redirect",
        "huge",
        "foreign_next",
        "short_page",
        "no_limit_info",
    }
)
ON_PARTS = frozenset({"foreign_next", "short_page"})  # behaviours that a part of a composite can have


@dataclass
class Request:
    """The properties of a request that faults match."""

    method: str
    path: str
    tags: Collection[str]
    soql: Sequence[str] = ()
    user_id: str | None = None


@dataclass
class Fault:
    """See the package's docstring for the arguments. `hits` counts the requests that it took."""

    number: int
    answer: str | Answer
    kind: str | None = None
    method: str | None = None
    path: str | None = None
    soql: str | None = None
    user_id: str | None = None
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    until: float | None = None
    label: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    hits: int = 0
    _seen: int = 0
    _dice: random.Random = field(default_factory=random.Random)
    _owner: Trouble | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.answer if isinstance(self.answer, str) else f"answer_{self.answer.status}"

    @property
    def behaviour(self) -> str | None:
        return self.answer if isinstance(self.answer, str) and self.answer in BEHAVIOURS else None

    @property
    def replacement(self) -> Answer | None:
        if isinstance(self.answer, Answer):
            return self.answer
        return ANSWERS.get(self.answer)

    def matches(self, request: Request) -> bool:
        if self.behaviour and self.behaviour not in ON_PARTS and "subrequest" in request.tags:
            return False
        wanted = (
            (self.kind is None or self.kind in request.tags),
            (self.method in {None, request.method}),
            (self.path is None or self.path in request.path),
            (self.soql is None or any(self.soql.lower() in q.lower() for q in request.soql)),
            (self.user_id in {None, request.user_id}),
        )
        return all(wanted)

    def remove(self) -> None:
        if self._owner:
            self._owner.remove(self.number)

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "answer": self.name,
            "kind": self.kind,
            "method": self.method,
            "path": self.path,
            "soql": self.soql,
            "user_id": self.user_id,
            "times": self.times,
            "hits": self.hits,
            "label": self.label,
        }


class Trouble:
    """The faults of one org."""

    def __init__(self, clock: OrgClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._last = 0

    def add(  # noqa: PLR0913
        self,
        answer: str | Answer,
        *,
        kind: str | None = None,
        method: str | None = None,
        path: str | None = None,
        soql: str | None = None,
        user_id: str | None = None,
        times: int | None = None,
        after: int = 0,
        probability: float = 1.0,
        seed: int = 0,
        for_seconds: float | None = None,
        label: str | None = None,
        **details: Any,
    ) -> Fault:
        if isinstance(answer, str) and answer not in ANSWERS and answer not in BEHAVIOURS:
            raise ValueError(f"no answer and no behaviour is called {answer}")
        with self._lock:
            self._last += 1
            until = None if for_seconds is None else self._clock.timestamp() + for_seconds
            fault = Fault(
                self._last,
                answer,
                kind,
                method.upper() if method else None,
                path,
                soql,
                user_id,
                times,
                after,
                probability,
                until,
                label,
                details,
                _dice=random.Random(seed),
                _owner=self,
            )
            self._faults.append(fault)
            return fault

    def pick(self, request: Request) -> Fault | None:
        """Return the fault that takes this request, and count the hit."""
        if not self._faults:
            return None
        with self._lock:
            now = self._clock.timestamp()
            self._faults = [f for f in self._faults if f.until is None or f.until > now]
            return next((f for f in self._faults if f.matches(request) and self._takes(f)), None)

    @staticmethod
    def _takes(fault: Fault) -> bool:
        fault._seen += 1  # noqa: SLF001 (bookkeeping of the same module)
        if fault._seen <= fault.after or (fault.times is not None and fault.hits >= fault.times):  # noqa: SLF001
            return False
        if fault.probability < 1 and fault._dice.random() >= fault.probability:  # noqa: SLF001
            return False
        fault.hits += 1
        return True

    def remove(self, number: int) -> None:
        with self._lock:
            self._faults = [f for f in self._faults if f.number != number]

    def labelled(self, label: str) -> Fault | None:
        """Return the fault under a switch, if it is still on."""
        now = self._clock.timestamp()
        return next(
            (
                f
                for f in self.faults
                if f.label == label and (f.until is None or f.until > now) and (f.times is None or f.hits < f.times)
            ),
            None,
        )

    def clear(self) -> None:
        with self._lock:
            self._faults = []

    @property
    def faults(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)
