"""Everything that people in an org do to its contacts, at random, all the time.

An Editor keeps to the contacts of the connected users. Whatever the org refuses (a record that is held by a slow
transaction, or is gone) is not done; the org's own store is what counts in the end.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests

from devtools.chaos.org import ChaosOrg, Refused

FIRST_NAMES = ("Ravi", "Zoë", "Noor", "Tomasz", "Ẹniọlá", "Björn", "Anaïs", "")
LAST_NAMES = ("Śliwa", "O'Brien", "Lindström", "de la Cruz", "Nguyễn", "Smith-Jones", "Ødegård")
LATE_S = 25  # at most, between the stamp of a slow transaction and its being seen


class Editor:
    def __init__(self, org: ChaosOrg, users: list[str], rng: random.Random) -> None:
        self._org, self._users, self._rng = org, users, rng
        self._alive: list[str] = []
        self._binned: list[str] = []
        self.hidden: set[str] = set()
        self.ever_hidden: set[str] = set()
        self.done: Counter[str] = Counter()
        self.is_over = threading.Event()
        self._number = 0
        self._deeds: list[tuple[int, Callable[[], None]]] = [
            (30, self.rename),
            (12, self.change_address),
            (5, self.take_address_away),
            (4, self.share_address),
            (8, self.opt_out),
            (8, self.opt_in),
            (10, self.add),
            (1, self.bring_in_many),
            (6, self.give),
            (7, self.delete),
            (4, self.undelete),
            (2, self.purge),
            (3, self.merge),
            (2, self.hide),
            (2, self.show),
            (6, self.rename_slowly),
        ]

    def fill(self, user: str, number: int) -> None:
        """Give a user contacts: most can come, some have opted out, some have no address, some share one."""
        rows = [self._new(user) for _ in range(number)]
        for row in rows:
            dice = self._rng.random()
            if dice < 0.08:
                row["opted_out"] = True
            elif dice < 0.13:
                row["email"] = None
            elif dice < 0.18:
                row["email"] = self._rng.choice(rows)["email"]
        for start in range(0, number, 500):
            self._alive += self._org.do("add_contacts", rows=rows[start : start + 500])

    def live(self, pause_s: float) -> None:
        while not self.is_over.wait(self._rng.uniform(0.3, 1.7) * pause_s):
            weights = [weight for weight, _ in self._deeds]
            deed = self._rng.choices([deed for _, deed in self._deeds], weights)[0]
            try:
                deed()
                self.done[deed.__name__] += 1
            except (Refused, IndexError):
                self.done["refused"] += 1
            except requests.RequestException:
                self.done["no answer"] += 1

    def rename(self) -> None:
        self._update(last_name=self._last_name())

    def rename_slowly(self) -> None:
        """Begin a transaction that is stamped now and visible later."""
        seconds = self._rng.randrange(2, LATE_S)
        self._org.do(
            "begin_late",
            verb="update_contact",
            args=[self._one()],
            visible_in=seconds,
            last_name=self._last_name(),
        )

    def change_address(self) -> None:
        self._update(email=self._address())

    def take_address_away(self) -> None:
        self._update(email=None)

    def share_address(self) -> None:
        other = self._org.do("contact", record_id=self._one())
        if other and other["Email"]:
            self._update(email=str(other["Email"]).upper())

    def opt_out(self) -> None:
        self._org.do("opt_out", record_id=self._one())

    def opt_in(self) -> None:
        self._org.do("opt_in", record_id=self._one())

    def add(self) -> None:
        self._alive.append(self._org.do("add_contact", **self._new(self._rng.choice(self._users))))

    def bring_in_many(self) -> None:
        """Import many rows with one stamp."""
        user = self._rng.choice(self._users)
        self._alive += self._org.do("add_contacts", rows=[self._new(user) for _ in range(self._rng.randrange(60, 450))])

    def give(self) -> None:
        self._org.do("give", record_id=self._one(), owner_id=self._rng.choice(self._users))

    def delete(self) -> None:
        record_id = self._one()
        self._org.do("delete", record_id=record_id)
        self._alive.remove(record_id)
        self._binned.append(record_id)

    def undelete(self) -> None:
        record_id = self._rng.choice(self._binned)
        self._org.do("undelete", record_id=record_id)
        self._binned.remove(record_id)
        self._alive.append(record_id)

    def purge(self) -> None:
        record_id = self._rng.choice(self._binned)
        self._org.do("purge", record_id=record_id)
        self._binned.remove(record_id)

    def merge(self) -> None:
        winner = self._org.do("contact", record_id=self._one())
        mine = self._org.get("contacts", owner_id=winner["OwnerId"])
        loser = self._rng.choice([row["Id"] for row in mine if row["Id"] != winner["Id"]])
        self._org.do("merge", winner_id=winner["Id"], loser_ids=[loser])
        self._alive.remove(loser)

    def hide(self) -> None:
        """Let a rule of sharing hide a record from the user: no stamp moves."""
        record_id = self._one()
        self._org.do("hide_contact", record_id=record_id)
        self.hidden.add(record_id)
        self.ever_hidden.add(record_id)

    def show(self) -> None:
        record_id = self._rng.choice(sorted(self.hidden))
        self._org.do("show_contact", record_id=record_id)
        self.hidden.discard(record_id)

    def show_all(self) -> None:
        for record_id in sorted(self.hidden):
            with contextlib.suppress(Refused):
                self._org.do("show_contact", record_id=record_id)
        self.hidden.clear()

    def _update(self, **fields: Any) -> None:
        self._org.do("update_contact", contact_id=self._one(), **fields)

    def _one(self) -> str:
        return self._rng.choice(self._alive)

    def _new(self, user: str) -> dict[str, Any]:
        return {
            "owner_id": user,
            "first_name": self._rng.choice(FIRST_NAMES) or None,
            "last_name": self._last_name(),
            "email": self._address(),
        }

    def _last_name(self) -> str:
        self._number += 1
        return f"{self._rng.choice(LAST_NAMES)} {self._number}"

    def _address(self) -> str:
        self._number += 1
        return f"{self._rng.choice(('Ravi', 'zoe', 'N.oor'))}.{self._number}@Edge{self._org.number}.example"
