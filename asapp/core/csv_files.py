"""Every CSV file is written here: all cells quoted, and none that a spreadsheet would run as a formula.

A spreadsheet skips white space and invisible characters before the sign that begins a formula. Where its separator is not
the comma (`;` in much of Europe, or the person's choice), quotes don't hold a cell together: `"a","x;=1+1"` becomes
`a,"x` and `=1+1"`. So a formula sign after a separator gets an apostrophe as well.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# The signs themselves, and the other forms of them that spreadsheets or keyboard settings accept.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫", "\u2212")
# White space, controls, and characters without a shape: joiners, direction marks, fillers, selectors, tags.
UNSEEN = (
    r" \x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
LINES_AND_TABS = r"\t\r\n"
_SIGN = f"[{re.escape(''.join(FORMULA_STARTS))}]"
RUNNABLE = re.compile(
    rf"\A(?=[{LINES_AND_TABS}]|[{UNSEEN}{LINES_AND_TABS}]*{_SIGN})"  # the cell
    rf'|[;|{LINES_AND_TABS}](?=[{UNSEEN}"]*{_SIGN})|[;|](?=[{LINES_AND_TABS}])'  # the rest of it, where it is split
)


def neutral(text: str) -> str:
    """Return text changed so that a spreadsheet takes no part of it for a formula; other text is unchanged."""
    return RUNNABLE.sub(r"\g<0>'", text)


def csv_header(columns: Sequence[str]) -> str:
    """Return the first line; the names are those of the contract."""
    return f"{','.join(columns)}\r\n"


def csv_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines of CSV; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerows(["" if cell is None else neutral(str(cell)) for cell in row] for row in rows)
    return buffer.getvalue()
