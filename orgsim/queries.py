"""Running statements: counts, pages, cursors.

A cursor keeps the numbers of the records that the query found. A page is read when it is asked for and shows its records as they
are then; a record that was deleted (unless it is queryAll), purged or hidden since the query is left out, and the page is short.
totalSize stays the same.
"""

from __future__ import annotations

import re
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orgsim import ids
from orgsim.errors import invalid_locator
from orgsim.soql import Plan, compile_query, parse
from orgsim.soql.compiler import Column, read_sql

if TYPE_CHECKING:
    from orgsim.access import UserAccess
    from orgsim.org import Org

PageHook = Callable[[str, int], None]
MIN_PAGE, MAX_PAGE = 200, 2000
WIDE_PAGE = 1000  # once a field of 32,000 characters is selected
LOCATOR_SECONDS = 2 * 24 * 3600
LOCATORS_PER_USER = 10
_LOCATOR = re.compile(r"(0r8[A-Za-z0-9]{12}(?:[A-Za-z0-9]{3})?)-(\d+)")


@dataclass
class Cursor:
    """An open query. `version` is the API version that asked, as in the address ("59.0")."""

    locator: str
    user_id: str
    plan: Plan
    numbers: array[int]
    deleted_too: bool
    version: str
    batch: int
    opened_at: float
    pages: int = 0


@dataclass
class _Hook:
    run: PageHook
    left: int | None


@dataclass
class Cursors:
    """The open cursors of one org, and what happens between their pages."""

    org: Org
    _open: OrderedDict[str, Cursor] = field(default_factory=OrderedDict)
    _hooks: list[_Hook] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: int = 0

    def add_hook(self, run: PageHook, times: int | None) -> Callable[[], None]:
        hook = _Hook(run, times)
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook) if hook in self._hooks else None

    def run_hooks(self, locator: str, offset: int) -> None:
        """Run the hooks between two pages; outside all locks, since hooks change records."""
        for hook in list(self._hooks):
            if hook.left is None or hook.left > 0:
                hook.left = None if hook.left is None else hook.left - 1
                hook.run(locator, offset)

    def expire(self, user_id: str | None) -> None:
        with self._lock:
            for locator in [c.locator for c in self._open.values() if user_id in {None, c.user_id}]:
                del self._open[locator]

    def open(self, cursor: Cursor) -> None:
        """Keep a cursor; beyond ten of a user the one used longest ago is closed."""
        with self._lock:
            self._open[cursor.locator] = cursor
            mine = [c.locator for c in self._open.values() if c.user_id == cursor.user_id]
            for locator in mine[: max(0, len(mine) - LOCATORS_PER_USER)]:
                del self._open[locator]

    def new_locator(self) -> str:
        with self._lock:
            self._made += 1
            return ids.make("0r8", self.org.records.pod, 5_000_000_000 + self._made * 7919)

    def find(self, locator: str, user_id: str) -> Cursor:
        with self._lock:
            cursor = self._open.get(ids.to_18(locator) or "")
            if cursor is None or cursor.user_id != user_id:
                raise invalid_locator()
            if self.org.clock.timestamp() - cursor.opened_at > LOCATOR_SECONDS:
                del self._open[cursor.locator]
                raise invalid_locator()
            self._open.move_to_end(cursor.locator)
            return cursor


def run_query(
    org: Org,
    access: UserAccess,
    text: str,
    *,
    deleted_too: bool,
    version: str,
    batch: int = MAX_PAGE,
    short_by: int = 0,
) -> dict[str, Any]:
    """Return the answer of /query or /queryAll; ApiError when the statement is wrong.

    `short_by` rows are left out of the first page.
    """
    plan = compile_query(parse(text, org.clock.now()), access, deleted_too=deleted_too)
    if plan.is_count:
        return {"totalSize": org.store.count(plan.count, plan.values), "done": True, "records": []}
    with org.store.lock:
        numbers = org.store.numbers(plan.select_ids, plan.values)
        if not numbers:
            return {"totalSize": 0, "done": True, "records": []}
        cursor = Cursor("", access.user_id, plan, numbers, deleted_too, version, batch, org.clock.timestamp())
        return read_page(org, access, cursor, 0, short_by=short_by)


def next_page(
    org: Org, access: UserAccess, reference: str, *, batch: int | None = None, short_by: int = 0
) -> dict[str, Any]:
    """Return the page that `{locator}-{offset}` names. Pages may be read again as long as the cursor lives."""
    match = _LOCATOR.fullmatch(reference)
    if match is None:
        raise invalid_locator()
    cursor = org.cursors.find(match[1], access.user_id)
    offset = int(match[2])
    if offset >= len(cursor.numbers):
        raise invalid_locator()
    if batch:
        cursor.batch = batch
    org.cursors.run_hooks(cursor.locator, offset)
    return read_page(org, access, cursor, offset, short_by=short_by)


def read_page(org: Org, access: UserAccess, cursor: Cursor, offset: int, *, short_by: int = 0) -> dict[str, Any]:
    size = max(1, min(_page_size(org, cursor), cursor.batch) - short_by)
    cursor.pages += 1
    end = min(offset + size, len(cursor.numbers))
    done = end >= len(cursor.numbers)
    answer: dict[str, Any] = {"totalSize": len(cursor.numbers), "done": done}
    if not done:
        if not cursor.locator:
            cursor.locator = org.cursors.new_locator()
            org.cursors.open(cursor)
        answer["nextRecordsUrl"] = f"/services/data/v{cursor.version}/query/{cursor.locator}-{end}"
    answer["records"] = _read(org, access, cursor, cursor.numbers[offset:end])
    return answer


def _page_size(org: Org, cursor: Cursor) -> int:
    sizes = org.settings.page_sizes
    size = sizes if isinstance(sizes, int) else sizes[cursor.pages % len(sizes)]
    if cursor.plan.is_wide:
        size = min(size, WIDE_PAGE)
    return max(MIN_PAGE, min(size, MAX_PAGE))


def batch_size(header: str | None) -> int:
    """Read `Sforce-Query-Options: batchSize=N`; out of range counts as the nearest bound."""
    match = re.search(r"batchSize\s*=\s*(\d+)", header or "", re.IGNORECASE)
    return max(MIN_PAGE, min(int(match[1]), MAX_PAGE)) if match else MAX_PAGE


def _read(org: Org, access: UserAccess, cursor: Cursor, numbers: Sequence[int]) -> list[dict[str, Any]]:
    plan = cursor.plan
    nested = [c for c in plan.columns if len(c.names) > 1]
    selected = ", ".join(['t."Id"', *(read_sql(c) for c in plan.columns), *_relation_ids(nested)])
    visible, values = access.row_filter(plan.sobject, "t")
    conditions = [visible or "1"]
    if not cursor.deleted_too and plan.sobject.find("IsDeleted"):
        conditions.append('t."IsDeleted" = 0')
    wanted = ",".join(map(str, numbers))
    rows = " ".join(
        [
            "SELECT",
            selected,
            ", t.seq FROM",
            plan.from_rows,
            "WHERE t.seq IN (",
            wanted,
            ") AND",
            " AND ".join(conditions),
        ]
    )
    found = org.store.rows(rows, [*plan.from_values, *values])
    order = {number: place for place, number in enumerate(numbers)}
    found.sort(key=lambda row: order[row[-1]])
    return _render(plan, found, cursor.version, nested)


def _typed(rows: list[tuple[Any, ...]], columns: Sequence[Column], first: int = 0) -> list[tuple[Any, ...]]:
    """Turn 0 and 1 of boolean columns into false and true."""
    booleans = {first + i for i, c in enumerate(columns) if c.kind == "boolean"}
    if not booleans or not rows:
        return rows
    by_column = [
        [None if v is None else v == 1 for v in column] if i in booleans else column
        for i, column in enumerate(zip(*rows, strict=True))
    ]
    return list(zip(*by_column, strict=True))


def _relation_ids(nested: Sequence[Column]) -> list[str]:
    """Return one more column for each relationship: the related Id, for its `attributes`; null if there is none."""
    return [f'{alias}."Id"' for alias in dict.fromkeys(c.sql.split(".")[0] for c in nested)]


def _render(plan: Plan, rows: list[tuple[Any, ...]], version: str, nested: Sequence[Column]) -> list[dict[str, Any]]:
    root = f"/services/data/v{version}/sobjects"
    base, kind = f"{root}/{plan.sobject.name}/", plan.sobject.name
    rows = _typed(rows, plan.columns, first=1)
    if not nested:
        names = [c.names[0] for c in plan.columns]
        return [
            {"attributes": {"type": kind, "url": base + row[0]}, **dict(zip(names, row[1:], strict=False))}
            for row in rows
        ]
    aliases = list(dict.fromkeys(c.sql.split(".")[0] for c in nested))
    first_id = 1 + len(plan.columns)
    id_place = {alias: first_id + i for i, alias in enumerate(aliases)}
    return [_nest(plan, row, base, root, id_place) for row in rows]


def _nest(plan: Plan, row: tuple[Any, ...], base: str, root: str, id_place: dict[str, int]) -> dict[str, Any]:
    """Put Owner.Name under Owner, with attributes of its own; null if the relationship is empty."""
    record: dict[str, Any] = {"attributes": {"type": plan.sobject.name, "url": base + row[0]}}
    for column, value in zip(plan.columns, row[1:], strict=False):
        if len(column.names) == 1:
            record[column.names[0]] = value
            continue
        related_id = row[id_place[column.sql.split(".")[0]]]
        _put(record, column, value, related_id, root)
    return record


def _put(record: dict[str, Any], column: Column, value: Any, related_id: str | None, root: str) -> None:
    target = record
    for depth, name in enumerate(column.names[:-1]):
        last = depth == len(column.names) - 2
        if target.get(name) is None:
            if last and related_id is None:
                target[name] = None
                return
            owner = column.owners[depth]
            where = "User" if owner == "Name" and (related_id or "").startswith("005") else owner
            where = "Group" if where == "Name" else where
            url = f"{root}/{where}/{related_id}" if last else f"{root}/{where}"
            target[name] = {"attributes": {"type": owner, "url": url}}
        target = target[name]
    target[column.names[-1]] = value
