"""What people have said about an advisor's mails, and when: the campaign's own memory, which imports no rule of asapp.

A sender and a person know two moments of what they did: when they began to ask, and when they were answered. What the server
has made of it lies between the two. So each question here has the answer "surely" or "perhaps", and the judge complains of
what surely does not hold.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

# In the order in which a contact tells them.
STOPS = ("unsubscribed", "complained", "bounced")
NEVER = datetime.max.replace(tzinfo=UTC)

Key = tuple[int, str]  # (number of the advisor, address in small letters)


def now() -> datetime:
    return datetime.now(UTC)


def key_of(advisor: int, email: str) -> Key:
    return advisor, email.lower()


class Holds(Enum):
    SURELY = "surely"
    PERHAPS = "perhaps"
    NOT = "not"


@dataclass
class Stop:
    """A person wants no more mail, or a mail bounced. reason: one of STOPS.

    earliest, latest: the event's own time lies between them; for an event of a sender they are one. answered_at: when it was
    first answered with 2xx, which promises that it is stored. event_id: empty for a click on the link.
    """

    advisor: int
    email: str
    reason: str
    earliest: datetime
    latest: datetime
    event_id: str = ""
    answered_at: datetime | None = None
    answers: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return key_of(self.advisor, self.email)


@dataclass
class OptIn:
    """A person signs up on the advisor's form, once or, after answers that were lost, more often between these moments."""

    key: Key
    began_at: datetime
    ended_at: datetime = NEVER


class MailMemory:
    """Every stop and every opt-in of a campaign. Many threads write and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[Key, list[Stop]] = defaultdict(list)
        self._opt_ins: dict[Key, list[OptIn]] = defaultdict(list)

    # ---- What happens

    def add_stop(self, stop: Stop) -> Stop:
        """Remember a stop before it is told; it counts as soon as `answer()` says that it is stored."""
        with self._lock:
            self._stops[stop.key].append(stop)
        return stop

    def answer(self, stop: Stop, result: str, at: datetime) -> None:
        """result: accepted or duplicate."""
        with self._lock:
            stop.answers.append(result)
            stop.answered_at = min(at, stop.answered_at or at)

    @contextmanager
    def opting_in(self, advisor: int, email: str) -> Iterator[None]:
        """Around everything that one person does to sign up. Where the block fails it may have worked, at any time."""
        opt_in = OptIn(key_of(advisor, email), now())
        with self._lock:
            self._opt_ins[opt_in.key].append(opt_in)
        yield
        opt_in.ended_at = now()

    # ---- Questions

    def why_not(self, key: Key, since: datetime, until: datetime) -> Stop | None:
        """Return a stop that was answered before `since` and surely held all the time until `until`; None where there is none."""
        with self._lock:
            for stop in self._stops.get(key, ()):
                if stop.answered_at is not None and stop.answered_at < since and not self._may_be_ended(stop, until):
                    return stop
        return None

    def reasons(self, key: Key) -> set[str | None]:
        """Return the reasons that may be told when all is quiet; None is among them where perhaps no stop holds."""
        with self._lock:
            found: set[str | None] = set()
            for reason in STOPS:
                holds = self._holds(key, reason)
                if holds is not Holds.NOT:
                    found.add(reason)
                if holds is Holds.SURELY:
                    return found
            return found | {None}

    def has_any(self, key: Key) -> bool:
        """Was any stop ever told for this address?"""
        with self._lock:
            return key in self._stops

    def stops(self) -> list[Stop]:
        with self._lock:
            return [stop for stops in self._stops.values() for stop in stops]

    def stopped_addresses(self, advisor: int) -> list[str]:
        with self._lock:
            return [email for number, email in self._stops if number == advisor]

    @property
    def counts(self) -> Counter[str]:
        """Return how many stops were told, how many were told more than once, and how many people opted in after one."""
        stops = self.stops()
        with self._lock:
            again = sum(len(each) for key, each in self._opt_ins.items() if key in self._stops)
        repeated = sum(max(len(stop.answers) - 1, 0) for stop in stops)
        return Counter(stop.reason for stop in stops if stop.answers) + Counter(repeated=repeated, opted_in=again)

    def _holds(self, key: Key, reason: str) -> Holds:
        holds = Holds.NOT
        for stop in self._stops.get(key, ()):
            if stop.reason != reason:
                continue
            if not self._may_be_ended(stop, NEVER) and stop.answered_at is not None:
                return Holds.SURELY
            if not self._is_ended(stop):
                holds = Holds.PERHAPS
        return holds

    def _may_be_ended(self, stop: Stop, until: datetime) -> bool:
        """Could an opt-in that is later by its own time have come before `until`? A bounce is ended by none."""
        return stop.reason != "bounced" and any(
            opt_in.began_at < until and opt_in.ended_at > stop.earliest for opt_in in self._opt_ins.get(stop.key, ())
        )

    def _is_ended(self, stop: Stop) -> bool:
        return stop.reason != "bounced" and any(
            opt_in.began_at > stop.latest and opt_in.ended_at < NEVER for opt_in in self._opt_ins.get(stop.key, ())
        )
