"""One page of many rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
PAGE_SIZE = 50


class Page(NamedTuple, Generic[T]):
    lines: list[T]
    total: int
    number: int  # from 1

    @property
    def first(self) -> int:
        return (self.number - 1) * PAGE_SIZE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.lines) - 1

    @property
    def has_next(self) -> bool:
        return self.last < self.total


def page_of(rows: Sequence[T], number: int) -> Page[T]:
    """Return one page of rows that are all at hand; a number past the end gives the last page."""
    number = max(1, min(number, -(-len(rows) // PAGE_SIZE)))
    return Page(list(rows[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]), len(rows), number)
