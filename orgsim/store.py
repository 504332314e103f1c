"""The org's records in SQLite: one connection, one lock, tables made from the schema.

Columns have the API names. Stamps are whole seconds since 1970, booleans 0 and 1, dates ISO text. `seq` numbers the
records of a table; query cursors hold these numbers. Contact and Lead also have `_restricted` (hidden by a rule that
moves no stamp) and `_deleted_at`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NoReturn

from orgsim.schema import Field, Schema, SObject

_SQL_TYPES = {"boolean": "INTEGER NOT NULL DEFAULT 0", "datetime": "INTEGER", "int": "INTEGER", "double": "REAL"}
_COUNTS_KEPT = 256


def _fold(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class RollBackError(Exception):
    """Raised by a caller inside a transaction to roll it back, and caught by the same caller outside it."""


def roll_back() -> NoReturn:
    raise RollBackError


class Store:
    """All methods take the lock; `transaction` holds it for several of them and rolls back on an exception."""

    def __init__(self, schema: Schema, database: str = ":memory:") -> None:
        self.lock = threading.RLock()
        self._connection = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self._connection.create_function("sf_fold", 1, _fold, deterministic=True)
        self._undo: list[list[Callable[[], object]]] = []  # for each open transaction: what to do if it is rolled back
        self._counts: OrderedDict[tuple[Any, ...], int] = OrderedDict()
        for pragma in (
            "journal_mode = MEMORY",
            "synchronous = OFF",
            "temp_store = MEMORY",
            "cache_size = -64000",
            "case_sensitive_like = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        for sobject in schema.objects.values():
            self._create(sobject)
        for sobject in schema.objects.values():
            if sobject.joined:
                self._connection.execute(f'CREATE VIEW "{sobject.table}" AS {sobject.joined}')
        self._connection.execute(
            'CREATE VIEW "sf_Name" AS SELECT "Id", "Name", \'User\' AS "Type" FROM "sf_User" '
            'UNION ALL SELECT "Id", "Name", "Type" FROM "sf_Group"'
        )
        self._connection.execute("CREATE TABLE deleted (id TEXT PRIMARY KEY)")

    def _create(self, sobject: SObject) -> None:
        columns = [_column(f) for f in sobject.fields if f.name not in sobject.copies]
        if sobject.has_bin:
            columns += ["_restricted INTEGER NOT NULL DEFAULT 0", "_deleted_at INTEGER"]
        table = sobject.rows_table
        self._connection.execute(f'CREATE TABLE "{table}" (seq INTEGER PRIMARY KEY, {", ".join(columns)})')
        self._connection.execute(f'CREATE UNIQUE INDEX "{sobject.name}_id" ON "{table}" ("Id")')
        if sobject.has_bin:
            self._index(sobject)
        if sobject.find("CampaignId"):
            self._connection.execute(f'CREATE INDEX "{sobject.name}_campaign" ON "{table}" ("CampaignId")')
            self._connection.execute(f'CREATE INDEX "{sobject.name}_contact" ON "{table}" ("ContactId")')

    def _index(self, sobject: SObject) -> None:
        table, name = sobject.table, sobject.name
        seen = '"IsDeleted", _restricted' + (', "AccountId"' if name == "Contact" else "")
        opted = ', "HasOptedOutOfEmail"' if sobject.find("HasOptedOutOfEmail") else ""
        self._connection.execute(
            f'CREATE INDEX "{name}_owner" ON "{table}" ("OwnerId", "SystemModstamp", "Id", {seen}{opted})'
        )
        self._connection.execute(f'CREATE INDEX "{name}_stamp" ON "{table}" ("SystemModstamp", "Id")')
        self._connection.execute(f'CREATE INDEX "{name}_bin" ON "{table}" (_deleted_at) WHERE _deleted_at IS NOT NULL')
        if sobject.find("Email"):
            self._connection.execute(f'CREATE INDEX "{name}_email" ON "{table}" ("Email") WHERE "Email" IS NOT NULL')

    def add_table(self, sobject: SObject) -> None:
        with self.lock:
            self._create(sobject)

    def add_column(self, sobject: SObject, new: Field) -> None:
        with self.lock:
            self._connection.execute(f'ALTER TABLE "{sobject.table}" ADD COLUMN {_column(new)}')
            self._wrote()

    def _wrote(self) -> None:
        self._counts.clear()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run a block in a transaction; nests by savepoints."""
        with self.lock:
            name = f"level{len(self._undo)}"
            self._connection.execute(f"SAVEPOINT {name}")
            self._undo.append([])
            try:
                yield
            except BaseException:
                self._connection.execute(f"ROLLBACK TO {name}")
                for step in self._undo[-1]:
                    step()
                self._undo[-1].clear()
                raise
            finally:
                steps = self._undo.pop()
                if self._undo:
                    self._undo[-1].extend(steps)
                self._connection.execute(f"RELEASE {name}")
                self._wrote()

    def on_rollback(self, step: Callable[[], object]) -> None:
        """Run this step if the open transaction, or one around it, is rolled back."""
        if self._undo:
            self._undo[-1].append(step)

    # -- reading

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.lock:
            return self._connection.execute(sql, values).fetchall()

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        with self.lock:
            row = self._connection.execute(sql, values).fetchone()
        return row[0] if row else None

    def count(self, sql: str, values: Sequence[Any]) -> int:
        """Return a count, cached until the next write: an idle org answers at once."""
        key = (sql, *values)
        with self.lock:
            if key not in self._counts:
                self._counts[key] = int(self._connection.execute(sql, values).fetchone()[0])
                if len(self._counts) > _COUNTS_KEPT:
                    self._counts.popitem(last=False)
            return self._counts[key]

    def numbers(self, sql: str, values: Sequence[Any]) -> array[int]:
        """Return the first column of all rows, eight bytes each."""
        with self.lock:
            return array("q", map(itemgetter(0), self._connection.execute(sql, values)))

    def record(self, sobject: SObject, record_id: str) -> dict[str, Any] | None:
        """Return a record as stored, by column name, or None."""
        with self.lock:
            cursor = self._connection.execute(f'SELECT * FROM "{sobject.table}" WHERE "Id" = ?', (record_id,))
            row = cursor.fetchone()
            return dict(zip((c[0] for c in cursor.description), row, strict=True)) if row else None

    def records_of(self, sobject: SObject, record_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the records with these Ids, as stored."""
        yield from self.records(sobject, '"Id" IN (SELECT value FROM json_each(?))', (json.dumps(list(record_ids)),))

    def records(self, sobject: SObject, where: str = "1", values: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield records as stored; the condition is ours, never a caller's text."""
        with self.lock:
            cursor = self._connection.execute(f'SELECT * FROM "{sobject.table}" WHERE {where}', values)
            names = [c[0] for c in cursor.description]
            yield from [dict(zip(names, row, strict=True)) for row in cursor]

    # -- writing

    def insert(self, sobject: SObject, record: dict[str, Any]) -> None:
        self.insert_many(sobject, list(record), [tuple(record.values())])

    def insert_many(self, sobject: SObject, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        names = ", ".join(f'"{c}"' for c in columns)
        marks = ", ".join("?" * len(columns))
        with self.transaction():
            self._connection.executemany(f'INSERT INTO "{sobject.rows_table}" ({names}) VALUES ({marks})', rows)

    def update(self, sobject: SObject, record_id: str, changes: dict[str, Any]) -> None:
        names = ", ".join(f'"{c}" = ?' for c in changes)
        with self.transaction():
            self._connection.execute(
                f'UPDATE "{sobject.rows_table}" SET {names} WHERE "Id" = ?', (*changes.values(), record_id)
            )

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement that writes; return how many rows it touched."""
        with self.transaction():
            return self._connection.execute(sql, values).rowcount

    def close(self) -> None:
        with self.lock:
            self._connection.close()


def _column(one: Field) -> str:
    if one.sql is not None:
        return f'"{one.name}" GENERATED ALWAYS AS ({one.sql}) VIRTUAL'
    if one.kind == "boolean" and one.nillable:
        return f'"{one.name}" INTEGER'
    return f'"{one.name}" {_SQL_TYPES.get(one.kind, "TEXT")}'
