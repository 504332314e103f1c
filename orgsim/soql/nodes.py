"""The tree that the parser builds. `at` is the position in the text, for Salesforce's error messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True)
class Path:
    """A field, with the relationships that lead to it: ("Owner", "Name")."""

    names: tuple[str, ...]
    at: int

    @property
    def text(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True)
class Literal:
    """A value in a condition.

    kind: string, number, boolean, null, datetime (seconds since 1970), date, or literal (two seconds: from, before).
    `like` is a string as a pattern for SQLite's LIKE … ESCAPE '\\'.
    """

    kind: str
    value: str | int | float | bool | date | tuple[int, int] | None
    at: int
    text: str
    like: str = ""


@dataclass(frozen=True)
class Comparison:
    target: Path
    operator: str
    value: Literal


@dataclass(frozen=True)
class Membership:
    """IN and NOT IN."""

    target: Path
    negated: bool
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class Not:
    condition: Condition


@dataclass(frozen=True)
class Junction:
    """AND or OR of two and more."""

    word: str
    conditions: tuple[Condition, ...]


Condition = Comparison | Membership | Not | Junction


@dataclass(frozen=True)
class Ordering:
    target: Path
    descending: bool
    nulls_last: bool


@dataclass(frozen=True)
class Query:
    """A statement; scope is the word after USING SCOPE. `select` is empty for SELECT COUNT(), which answers totalSize alone."""

    select: tuple[Path, ...]
    source: str
    source_at: int
    alias: str | None = None
    scope: str | None = None
    where: Condition | None = None
    order_by: tuple[Ordering, ...] = ()
    limit: int | None = None
    text: str = field(default="", compare=False)

    @property
    def is_count(self) -> bool:
        return not self.select
