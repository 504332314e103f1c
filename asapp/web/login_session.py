"""The session of a browser: started by a log-in, possibly between password and second step, and confirmed recently or not."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from flask import g, request, session
from flask_login import login_user

from asapp.accounts import sessions, users
from asapp.accounts.passkeys import PasskeyAnswer
from asapp.core.clock import utcnow
from asapp.models import LoginSession, User
from asapp.web.current import config
from asapp.web.devices import name_of
from asapp.web.networks import client_address

KEY = "key"  # of the row of this log-in
CONFIRMED_AT = "confirmed_at"  # seconds, when this person last proved here who they are
HALF = "half_login"
PASSKEY = "passkey"  # the token of the last question to a passkey in this browser
PROVIDER = "by_provider"  # the ID token of a log-in with the identity provider, or "" if it is too long for a cookie
MAILBOX = "mailbox"  # this person opened the link for setting up a second step, in this log-in
ID_TOKEN_MAX = 2000
POLLED = frozenset({"integrations.salesforce", "integrations.index"})
AGAIN = "again"  # in the address of a page that loads itself again
FRESH_FOR = timedelta(minutes=15)
SECOND_STEP_WITHIN = timedelta(minutes=10)


class HalfLogin(NamedTuple):
    """A person whose password was right and who still has to pass the second step.

    id_token: of a log-in with the identity provider; None: it was a password.
    """

    user: User
    next_path: str | None
    id_token: str | None


def begin(user: User, id_token: str | None = None) -> None:
    """Log the person in. Nothing that was in the session before is kept. id_token: as in HalfLogin."""
    end()
    if id_token is not None:
        session[PROVIDER] = _fitting(id_token)
    session[KEY] = sessions.start(user, name_of(request.user_agent.string), client_address())
    login_user(user)
    confirm()


def end() -> None:
    """Log the person out, in this browser alone."""
    if key := session.get(KEY):
        sessions.end(key)
    session.clear()


def find_person(session_id: str) -> User | None:
    """Return who is logged in here, while the log-in goes on."""
    found = sessions.find(session_id, session.get(KEY, ""), config())
    if found is None:
        return None
    user, g.login_session = found
    return user


def current() -> LoginSession:
    """Return the log-in of this request's person, who is logged in."""
    login: LoginSession = g.login_session
    return login


def record_use() -> None:
    """Write down that a page is opened now. Pages that ask again by themselves don't keep a log-in alive."""
    if not asks_by_itself():
        sessions.record_use(current())


def asks_by_itself() -> bool:
    """Is this request one of a page that shows something under way, and not of a person's click?"""
    return request.endpoint in POLLED and ("seen" in request.args or AGAIN in request.args)


def begin_half(user: User, next_path: str | None, id_token: str | None = None) -> None:
    """Store whose password was right, or who logged in with the identity provider; this gives no access yet."""
    end()
    fitting = None if id_token is None else _fitting(id_token)
    session[HALF] = {"id": user.get_id(), "at": _now(), "next": next_path, "id_token": fitting}


def find_half() -> HalfLogin | None:
    """Return the person who is between password and second step here, for up to ten minutes."""
    half = session.get(HALF)
    if not half or half["at"] < _now() - SECOND_STEP_WITHIN.total_seconds():
        return None
    user = users.find_by_session(half["id"])
    return HalfLogin(user, half["next"], half.get("id_token")) if user is not None else None


def id_token() -> str | None:
    """Return the ID token of this log-in, "" if it was too long to keep; None: it was not with the identity provider."""
    token: str | None = session.get(PROVIDER)
    return token


def store_passkey_question(token: str) -> None:
    """Let this browser alone answer a question to a passkey; an earlier question is no longer open here."""
    session[PASSKEY] = token


def passkey_answer() -> PasskeyAnswer:
    """Return what the request brings as a passkey's answer; the question that it belongs to is used up."""
    return PasskeyAnswer(session.pop(PASSKEY, ""), request.form.get("credential", ""))


def record_mailbox_proof() -> None:
    """Record that the person of this log-in reads the mailbox that belongs to the account."""
    session[MAILBOX] = True


def has_mailbox_proof() -> bool:
    return bool(session.get(MAILBOX))


def _fitting(token: str) -> str:
    return token if len(token) <= ID_TOKEN_MAX else ""


def confirm() -> None:
    """Record that this person has just proved who they are."""
    session[CONFIRMED_AT] = _now()


def is_fresh() -> bool:
    """Did the person prove within the last 15 minutes who they are?"""
    age_s: int = _now() - session.get(CONFIRMED_AT, 0)
    return age_s < FRESH_FOR.total_seconds()


def _now() -> int:
    return int(utcnow().timestamp())
