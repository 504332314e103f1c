"""Pages of rows that are all at hand."""

from __future__ import annotations

import pytest

from asapp.core.paging import page_of


@pytest.mark.parametrize(
    ("rows", "asked", "lines", "number", "has_next"),
    [
        (120, 1, range(50), 1, True),
        (120, 3, range(100, 120), 3, False),
        (120, 9, range(100, 120), 3, False),  # past the end
        (120, 0, range(50), 1, True),
        (100, 2, range(50, 100), 2, False),
        (0, 1, range(0), 1, False),
    ],
)
def test_a_page_is_the_one_asked_for_or_the_last(
    rows: int, asked: int, lines: range, number: int, has_next: bool
) -> None:
    page = page_of(range(rows), asked)
    assert (page.lines, page.total, page.number, page.has_next) == (list(lines), rows, number, has_next)
