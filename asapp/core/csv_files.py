"""Every CSV file is written here: all cells quoted, and none that a spreadsheet would run.

A spreadsheet looks past white space and invisible characters for the sign that begins a formula. Where its separator is not
the comma (`;` in much of Europe, or what the person chose), the quotes don't hold a cell together either: `"a","x;=1+1"` is
`a,"x` and `=1+1"` there. So a formula sign gets its apostrophe after a separator as well.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# The signs themselves, and the forms of them that a spreadsheet or its user's keyboard settings take for the same.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫", "\u2212")
# White space, controls, and what is drawn as nothing: joiners, marks of direction, fillers, selectors, tags.
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
    """Return text so that no spreadsheet takes it, or a part of it, for a formula; what is none stays as it is."""
    return RUNNABLE.sub(r"\g<0>'", text)


def csv_header(columns: Sequence[str]) -> str:
    """Return the first line: names of ours, as they stand in the contract."""
    return f"{','.join(columns)}\r\n"


def csv_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerows(["" if cell is None else neutral(str(cell)) for cell in row] for row in rows)
    return buffer.getvalue()
