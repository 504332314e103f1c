"""Changes of records in the store: stamps, the Recycle Bin, merging. dml.py decides who may do what.

Every change moves SystemModstamp and LastModifiedDate to the org's clock (whole seconds), even if no value differs.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from orgsim import ids
from orgsim.clock import OrgClock
from orgsim.schema import Schema, SObject
from orgsim.store import Store

BIN_SECONDS = 15 * 24 * 3600


class Records:
    """Writes to the store. Ids of records that do not exist raise KeyError; callers check first."""

    def __init__(self, store: Store, schema: Schema, clock: OrgClock, rng: random.Random) -> None:
        self.store = store
        self.schema = schema
        self.clock = clock
        self.pod = rng.choice("abcdefgh") + rng.choice(string.ascii_uppercase) + "00"
        self._next = {name: rng.randrange(10_000, 3_000_000) for name in schema.objects}
        self._oldest_in_bin: int | None = None
        self.before_change: Callable[[Iterable[str]], None] = lambda _ids: None

    def object_of(self, record_id: str) -> SObject:
        found = self.schema.of_id(record_id)
        if found is None:
            raise KeyError(record_id)
        return found

    def find(self, record_id: str) -> dict[str, Any] | None:
        sobject = self.schema.of_id(record_id)
        return self.store.record(sobject, record_id) if sobject else None

    def get(self, record_id: str) -> dict[str, Any]:
        record = self.find(record_id)
        if record is None:
            raise KeyError(record_id)
        return record

    def new_ids(self, sobject: SObject, count: int) -> list[str]:
        first = self._next.get(sobject.name, 10_000)
        self._next[sobject.name] = first + count
        return ids.make_many(sobject.prefix, self.pod, first, count)

    def insert(
        self,
        sobject: SObject,
        values: dict[str, Any],
        actor_id: str | None,
        stamp: int | None = None,
        record_id: str | None = None,
    ) -> str:
        """Store a new record; return its Id."""
        record_id = record_id or self.new_ids(sobject, 1)[0]
        self.store.insert(sobject, {"Id": record_id, **values, **self._stamps(sobject, actor_id, stamp, new=True)})
        return record_id

    def insert_many(self, sobject: SObject, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
        """Store many records at once; the rows hold all columns but Id, stamps included."""
        made = self.new_ids(sobject, len(rows))
        self.store.insert_many(sobject, ["Id", *columns], ((new, *row) for new, row in zip(made, rows, strict=True)))
        return made

    def _stamps(
        self, sobject: SObject, actor_id: str | None, stamp: int | None, *, new: bool = False
    ) -> dict[str, Any]:
        moment = self.clock.seconds() if stamp is None else stamp
        stamps: dict[str, Any] = {"SystemModstamp": moment, "LastModifiedDate": moment}
        if actor_id and sobject.find("LastModifiedById"):
            stamps["LastModifiedById"] = actor_id
        if new:
            stamps["CreatedDate"] = moment
            if actor_id and sobject.find("CreatedById"):
                stamps["CreatedById"] = actor_id
        return stamps

    def change(
        self, record_id: str, values: dict[str, Any], actor_id: str | None = None, stamp: int | None = None
    ) -> None:
        sobject = self.object_of(record_id)
        with self.store.lock:
            self.before_change([record_id])
            self.store.update(sobject, record_id, {**values, **self._stamps(sobject, actor_id, stamp)})

    def change_silently(self, record_id: str, values: dict[str, Any]) -> None:
        """Change a record without a stamp, as formula fields and sharing rules do."""
        with self.store.lock:
            self.before_change([record_id])
            self.store.update(self.object_of(record_id), record_id, values)

    def delete(
        self, record_id: str, actor_id: str | None = None, stamp: int | None = None, master_id: str | None = None
    ) -> None:
        """Put a record into the Recycle Bin; `master_id` is set for the loser of a merge."""
        moment = self.clock.seconds() if stamp is None else stamp
        self.change(record_id, {"IsDeleted": 1, "_deleted_at": moment, "MasterRecordId": master_id}, actor_id, moment)
        self.store.execute("INSERT OR IGNORE INTO deleted VALUES (?)", (record_id,))
        if self._oldest_in_bin is None or moment < self._oldest_in_bin:
            self._oldest_in_bin = moment

    def undelete(self, record_id: str, actor_id: str | None = None, stamp: int | None = None) -> None:
        self.change(record_id, {"IsDeleted": 0, "_deleted_at": None, "MasterRecordId": None}, actor_id, stamp)
        self.store.execute("DELETE FROM deleted WHERE id = ?", (record_id,))

    def purge(self, record_id: str) -> None:
        """Delete a record for good, whether it is in the Recycle Bin or not."""
        self.before_change([record_id])
        sobject = self.object_of(record_id)
        with self.store.transaction():
            self.store.execute("INSERT OR IGNORE INTO deleted VALUES (?)", (record_id,))
            self.store.execute(f'DELETE FROM "{sobject.rows_table}" WHERE "Id" = ?', (record_id,))

    def merge(
        self, winner_id: str, loser_ids: Sequence[str], actor_id: str | None = None, stamp: int | None = None
    ) -> None:
        self.before_change([winner_id, *loser_ids])
        with self.store.transaction():
            for loser_id in loser_ids:
                self.delete(loser_id, actor_id, stamp, master_id=winner_id)
            self.change(winner_id, {}, actor_id, stamp)

    def empty_old_bin(self) -> None:
        """Delete the records that have been in the Recycle Bin for 15 days."""
        limit = self.clock.seconds() - BIN_SECONDS
        if self._oldest_in_bin is None or self._oldest_in_bin > limit:
            return
        with self.store.transaction():
            oldest: list[int] = []
            for sobject in self.schema.objects.values():
                if not sobject.has_bin:
                    continue
                self.store.execute(f'DELETE FROM "{sobject.table}" WHERE _deleted_at <= ?', (limit,))
                remaining = self.store.value(f'SELECT min(_deleted_at) FROM "{sobject.table}"')
                oldest += [] if remaining is None else [remaining]
            self._oldest_in_bin = min(oldest, default=None)
