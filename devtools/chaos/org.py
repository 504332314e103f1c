"""An org of the campaign, driven from outside by its control address (orgsim/__init__.py)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

PAGE = 100
# What may turn a record into one that is written to, or no longer is; "update_contact" does with another address.
MOVES = {"opt_in", "give", "delete", "undelete", "purge", "merge", "hide_contact", "show_contact"}
NEVER = datetime.max.replace(tzinfo=UTC)
PACE_S = 0.12  # of every answer, so that a run takes long enough to be hit


class Refused(Exception):
    """The org does not do that: the record is gone, or is what it should become."""


@dataclass
class Change:
    """A change to records of the org, from its being asked for to its answer."""

    verb: str
    ids: tuple[str, ...]
    began_at: datetime
    ended_at: datetime = NEVER


class ChaosOrg:
    def __init__(self, url: str, number: int) -> None:
        self.url = url
        self.number = number
        self.rotates = False
        self.users: set[str] = set()
        self._local = threading.local()
        self._arming = threading.Lock()
        self._pace: int | None = None
        self._changes: list[Change] = []

    def do(self, verb: str, /, **arguments: Any) -> Any:
        with self._remembering(verb, arguments):
            answer = self._session().post(f"{self.url}/practice/api/{verb}", json=arguments, timeout=60)
        body = answer.json()
        if answer.status_code != requests.codes.ok:
            raise Refused(str(body.get("error")))
        return body["result"]

    def get(self, what: str, **arguments: Any) -> Any:
        answer = self._session().get(f"{self.url}/practice/api/{what}", params=arguments, timeout=60)
        answer.raise_for_status()
        return answer.json()

    # ---- What the campaign itself has changed

    @contextmanager
    def _remembering(self, verb: str, arguments: dict[str, Any]) -> Iterator[None]:
        """Around a change: where no answer came it may have been carried out at any later time."""
        if verb not in MOVES and (verb != "update_contact" or "email" not in arguments):
            yield
            return
        single = (arguments.get(name) for name in ("record_id", "contact_id", "winner_id"))
        ids = (*(each for each in single if each), *arguments.get("loser_ids", ()))
        change = Change(verb, ids, datetime.now(UTC))
        self._changes.append(change)
        yield
        change.ended_at = datetime.now(UTC)

    def changed_between(self, began: datetime, ended: datetime) -> set[str]:
        """Return the Ids of the records that were, or may have been, changed between two moments."""
        changes = [each for each in list(self._changes) if each.began_at <= ended and each.ended_at >= began]
        return {record_id for change in changes for record_id in change.ids}

    def changed_since(self, since: datetime) -> set[str]:
        return self.changed_between(since, NEVER)

    @property
    def ever_hidden(self) -> set[str]:
        """Return the Ids of the records that a rule of sharing has hidden, now or earlier."""
        return {each for change in list(self._changes) if change.verb == "hide_contact" for each in change.ids}

    @property
    def opted_in(self) -> list[str]:
        """Return the Ids of the records whose Email Opt Out people at the firm have cleared, once for each time."""
        return [each for change in list(self._changes) if change.verb == "opt_in" for each in change.ids]

    def set_pace(self) -> None:
        self.do("change_settings", page_sizes=PAGE, api_limit=10_000_000)
        self._pace = self.do("add_trouble", answer="slow", kind="data", seconds=PACE_S)

    def arm(self, answer: str, **arguments: Any) -> int:
        """Add a fault before the one that sets the pace, since the first that fits takes a request; return its number."""
        with self._arming:
            number = int(self.do("add_trouble", answer=answer, **arguments))
            if self._pace is not None:
                pace = self.do("add_trouble", answer="slow", kind="data", seconds=PACE_S)
                self.do("remove_trouble", number=self._pace)
                self._pace = pace
            return number

    def disarm(self, number: int) -> None:
        self.do("remove_trouble", number=number)

    def hits(self, number: int) -> int:
        return sum(int(fault["hits"]) for fault in self.get("state")["faults"] if fault["number"] == number)

    def calm(self) -> None:
        with self._arming:
            self._pace = None
            self.do("clear_trouble")

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session
