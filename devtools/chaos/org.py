"""An org of the campaign, driven from outside by its control address (orgsim/__init__.py)."""

from __future__ import annotations

import threading
from typing import Any

import requests

PAGE = 100
PACE_S = 0.12  # of every answer, so that a run takes long enough to be hit


class Refused(Exception):
    """The org does not do that: the record is gone, or is what it should become."""


class ChaosOrg:
    def __init__(self, url: str, number: int) -> None:
        self.url = url
        self.number = number
        self.rotates = False
        self.users: set[str] = set()
        self._local = threading.local()
        self._arming = threading.Lock()
        self._pace: int | None = None

    def do(self, verb: str, /, **arguments: Any) -> Any:
        answer = self._session().post(f"{self.url}/practice/api/{verb}", json=arguments, timeout=60)
        body = answer.json()
        if answer.status_code != requests.codes.ok:
            raise Refused(str(body.get("error")))
        return body["result"]

    def get(self, what: str, **arguments: Any) -> Any:
        answer = self._session().get(f"{self.url}/practice/api/{what}", params=arguments, timeout=60)
        answer.raise_for_status()
        return answer.json()

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
