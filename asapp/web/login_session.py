"""The session of a browser: started by a log-in, possibly between password and second step, and confirmed recently or not."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from flask import session
from flask_login import login_user

from asapp.accounts import users
from asapp.core.clock import utcnow
from asapp.models import User

CONFIRMED_AT = "confirmed_at"  # seconds, when this person last proved here who they are
HALF = "half_login"
FRESH_FOR = timedelta(minutes=15)
SECOND_STEP_WITHIN = timedelta(minutes=10)


class HalfLogin(NamedTuple):
    """A person whose password was right and who still has to pass the second step."""

    user: User
    next_path: str | None


def begin(user: User) -> None:
    """Log the person in. Nothing that was in the session before is kept."""
    session.clear()
    login_user(user)
    confirm()


def begin_half(user: User, next_path: str | None) -> None:
    """Store whose password was right; this gives no access yet."""
    session.clear()
    session[HALF] = {"id": user.get_id(), "at": _now(), "next": next_path}


def find_half() -> HalfLogin | None:
    """Return the person who is between password and second step here, for up to ten minutes."""
    half = session.get(HALF)
    if not half or half["at"] < _now() - SECOND_STEP_WITHIN.total_seconds():
        return None
    user = users.find_by_session(half["id"])
    return HalfLogin(user, half["next"]) if user is not None else None


def confirm() -> None:
    """Record that this person has just proved who they are."""
    session[CONFIRMED_AT] = _now()


def is_fresh() -> bool:
    """Did the person prove within the last 15 minutes who they are?"""
    age_s: int = _now() - session.get(CONFIRMED_AT, 0)
    return age_s < FRESH_FOR.total_seconds()


def _now() -> int:
    return int(utcnow().timestamp())
