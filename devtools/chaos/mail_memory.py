"""What people have said about an advisor's mails, and when: the campaign's own memory, which imports no rule of asapp.

A sender and a person know two moments of what they did: when they began to ask, and when they were answered. What the server
has made of it lies between the two. So each question here has the answer "surely" or "perhaps", and the judge complains of
what surely does not hold.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

# In the order in which a contact tells them.
STOPS = ("unsubscribed", "complained", "bounced")
NEVER = datetime.max.replace(tzinfo=UTC)
ALWAYS = timedelta.max
UNDO_WITHIN = timedelta(minutes=10)

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
    is_for_firm: bool = False  # told to everybody at the firm, and remembered for each of its advisors
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
    reaches_back: timedelta = ALWAYS


@dataclass
class End:
    """Something else that ends stops: a person takes back a click, or an advisor has an address tried again that bounced."""

    ends: Callable[[Stop], bool]
    began_at: datetime
    ended_at: datetime = NEVER
    reaches_back: timedelta = ALWAYS


class MailMemory:
    """Every stop and everything that ends one in a campaign. Many threads write and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[Key, list[Stop]] = defaultdict(list)
        self._opt_ins: dict[Key, list[OptIn]] = defaultdict(list)
        self._ends: dict[Key, list[End]] = defaultdict(list)

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

    @contextmanager
    def undoing(self, advisor: int, email: str, colleagues: Iterable[int]) -> Iterator[None]:
        """Around a person's Undo of the clicks on this advisor's link, and of those that stopped the whole firm."""
        which = {key_of(each, email): is_click_for_firm for each in colleagues} | {key_of(advisor, email): is_click}
        with self._ending(which, UNDO_WITHIN):
            yield

    @contextmanager
    def trying_again(self, advisor: int, email: str) -> Iterator[None]:
        """Around an advisor's "Try this address again"."""
        with self._ending({key_of(advisor, email): is_bounce}):
            yield

    @contextmanager
    def _ending(self, which: Mapping[Key, Callable[[Stop], bool]], reaches_back: timedelta = ALWAYS) -> Iterator[None]:
        """Where the block fails it may have worked, at any time."""
        began = {key: End(ends, now(), reaches_back=reaches_back) for key, ends in which.items()}
        with self._lock:
            for key, end in began.items():
                self._ends[key].append(end)
        yield
        for end in began.values():
            end.ended_at = now()

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

    def stopped_addresses(self, advisor: int, *reasons: str) -> list[str]:
        """Return addresses that were stopped with this advisor: for one of these reasons, or for any."""
        with self._lock:
            return [
                email
                for (number, email), stops in self._stops.items()
                if number == advisor and any(not reasons or stop.reason in reasons for stop in stops)
            ]

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
        """Could something that ends it, and is later by its own time, have come before `until`?"""
        return any(end.began_at < until and end.ended_at > stop.earliest for end in self._ends_of(stop))

    def _is_ended(self, stop: Stop) -> bool:
        return any(
            end.began_at > stop.latest and end.ended_at < NEVER and end.ended_at - stop.earliest < end.reaches_back
            for end in self._ends_of(stop)
        )

    def _ends_of(self, stop: Stop) -> Iterator[OptIn | End]:
        """A bounce is ended by no opt-in."""
        if stop.reason != "bounced":
            yield from self._opt_ins.get(stop.key, ())
        yield from (end for end in self._ends.get(stop.key, ()) if end.ends(stop))


def is_bounce(stop: Stop) -> bool:
    return stop.reason == "bounced"


def is_click(stop: Stop) -> bool:
    """Did the person stop it with the link, which they can take back, and no sender by an event?"""
    return not stop.event_id


def is_click_for_firm(stop: Stop) -> bool:
    return is_click(stop) and stop.is_for_firm
