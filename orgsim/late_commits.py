"""Transactions that stamp their records when they write, and show them only when they commit, minutes later.

Records do not become visible in the order of their stamps. A transaction locks the records that it changes, and another change
has to wait for its commit, so in the simulated org the commit happens first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from orgsim.clock import OrgClock
from orgsim.store import RollBackError, Store, roll_back


@dataclass(frozen=True)
class Late:
    """A transaction under way. `id` is the record's Id, also if the record does not exist yet; `due` in seconds or None."""

    handle: int
    id: str
    due: float | None
    run: Callable[[], Any]
    holds: frozenset[str]


class LateWork:
    """The transactions of one org that have not committed yet."""

    def __init__(self, clock: OrgClock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._pending: dict[int, Late] = {}
        self._last = 0

    def begin(self, record_id: str, run: Callable[[], Any], holds: Iterable[str], visible_in: float | None) -> Late:
        """Try the change (a wrong one fails now), roll it back, and keep it for the commit."""
        self.release(holds)
        try:
            with self._store.transaction():
                run()
                roll_back()
        except RollBackError:
            pass
        self._last += 1
        due = None if visible_in is None else self._clock.timestamp() + visible_in
        late = Late(self._last, record_id, due, run, frozenset(holds))
        self._pending[late.handle] = late
        return late

    def commit(self, handle: int) -> None:
        """Commit. A second commit does nothing: a transaction that was due may have been committed before."""
        with self._store.lock:
            late = self._pending.pop(handle, None)
            if late is not None:
                self._store.on_rollback(lambda: self._pending.setdefault(handle, late))
                late.run()

    def settle(self) -> None:
        """Commit what is due by the org's clock, oldest first."""
        if self._pending:
            now = self._clock.timestamp()
            due = [
                (late.due, late.handle)
                for late in list(self._pending.values())
                if late.due is not None and late.due <= now
            ]
            for _, handle in sorted(due):
                self.commit(handle)

    def release(self, record_ids: Iterable[str]) -> None:
        """Commit the transactions that hold one of these records."""
        if self._pending:
            wanted = set(record_ids)
            for late in [late for late in list(self._pending.values()) if late.holds & wanted]:
                self.commit(late.handle)

    def __len__(self) -> int:
        return len(self._pending)
