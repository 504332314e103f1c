"""The key by which contacts are searched and sorted.

SQLite folds case for ASCII only, and databases sort differently: so names and address are folded here, once, when a row
is written. "SZABÓ", "szabó" and "szabo" are the same word, and "Ø" stays a letter of its own.
"""

from __future__ import annotations

import unicodedata

SEARCH_KEY_LENGTH = 400


class _WithoutMarks(dict[int, int | None]):
    """A table for str.translate() that removes combining marks; each character is computed once."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.combining(chr(code)) else code
        return self[code]


_WITHOUT_MARKS = _WithoutMarks()


def fold(text: str) -> str:
    """Return text without case and accents, so that different spellings of a name are equal."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFKC", decomposed.translate(_WITHOUT_MARKS))


def search_key(first_name: str, last_name: str, email: str) -> str:
    """Return the folded "last first email".

    Each part is folded for itself, since a part in ASCII costs next to nothing; nothing joins a letter across a space.
    """
    return f"{fold(last_name)} {fold(first_name)} {fold(email)}"[:SEARCH_KEY_LENGTH]
