"""Passwords: argon2id, at least 12 characters, no rules about their make-up, none that is on everybody's list."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST = 12
LONGEST = 128
FEWEST_DIFFERENT = 5

# The parameters are the library's, which follow RFC 9106; a hash made with other ones is renewed at the next log-in.
_hasher = PasswordHasher()

# What lists of leaked passwords hold at this length, in lower case.
COMMON = frozenset(Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").split())


class UnfitPassword(ValueError):
    """The text says why, to the person who chose it."""


def check_fit(password: str, *about: str) -> None:
    """Raise UnfitPassword if the password is too easy to guess. about: the person's name and address."""
    plain = _normal(password)
    if len(plain) < SHORTEST:
        raise UnfitPassword(f"Use at least {SHORTEST} characters; this has {len(plain)}.")
    if len(plain) > LONGEST:
        raise UnfitPassword(f"Use at most {LONGEST} characters; this has {len(plain)}.")
    lowered = plain.lower()
    if lowered.strip(" !.?#*_-") in COMMON or lowered in COMMON:
        raise UnfitPassword("Many people use this password, so it is among the first to be tried. Choose another.")
    if len(set(lowered)) < FEWEST_DIFFERENT:
        raise UnfitPassword(f"Use at least {FEWEST_DIFFERENT} different characters.")
    if any(word and lowered.strip("0123456789 !.?#*_-") == word.lower() for word in about):
        raise UnfitPassword("This is your own name or address. Choose something that others can't know.")


def hash_password(password: str) -> str:
    return _hasher.hash(_normal(password))


def is_right(password: str, password_hash: str | None) -> bool:
    """Is this the password? Without a hash (nobody has that address) it takes as long and says no."""
    try:
        _hasher.verify(password_hash or _hash_of_nobody(), _normal(password[: LONGEST * 4]))
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    return _hasher.check_needs_rehash(password_hash)


def _normal(password: str) -> str:
    """The same characters, whatever keyboard composed them."""
    return unicodedata.normalize("NFKC", password)


@cache
def _hash_of_nobody() -> str:
    return _hasher.hash("nobody has this password")
