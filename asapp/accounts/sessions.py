"""Log-ins that go on: where a person is logged in, since when, and when it ends.

The cookie of a browser carries the person's nonce and the key of a row here; both have to fit. A log-in ends by logging out
there (its row goes), by a new nonce (all of a person's), when no page was opened for so long, and after so many hours in
any case. Looking at a page that asks again by itself is no use of it.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from datetime import timedelta
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import joinedload

from asapp.accounts import visits
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, writing
from asapp.core.extensions import db
from asapp.core.forms import whole_number
from asapp.models import Action, LoginSession, User
from config import Config

log = logging.getLogger(__name__)

KEY_BYTES = 24
USE_IS_WRITTEN_EVERY = timedelta(minutes=1)
PURGED_AT_ONCE = 1000


class Ends(NamedTuple):
    """idle: without a page opened. at_most: after the log-in."""

    idle: timedelta
    at_most: timedelta


def ends_of(user: User, config: Config) -> Ends:
    """Return when this person's log-ins end: admins' sooner."""
    minutes = config.admin_idle_minutes if user.is_admin else config.advisor_idle_minutes
    hours = config.admin_session_hours if user.is_admin else config.advisor_session_hours
    return Ends(timedelta(minutes=minutes), timedelta(hours=hours))


def start(user: User, device: str, client_address: str) -> str:
    """Return the key of a new log-in. Commits."""
    key = secrets.token_urlsafe(KEY_BYTES)
    row = LoginSession(user_id=user.id, key_sha256=_hash(key), device=device[:60], client_address=client_address[:60])
    db.session.add(row)
    visits.record(user.id, utcnow())
    db.session.commit()
    return key


def find(session_id: str, key: str, config: Config) -> tuple[User, LoginSession] | None:
    """Return the person whose session says `<id>.<nonce>`, and the log-in with this key; None if it has ended."""
    number, _, nonce = session_id.partition(".")
    row = db.session.execute(
        select(User, LoginSession)
        .join(LoginSession, LoginSession.user_id == User.id)
        .where(User.id == (whole_number(number) or 0), LoginSession.key_sha256 == _hash(key))
        .options(joinedload(User.partner), joinedload(User.second_factor))  # each page needs one of them
    ).first()
    if row is None:
        return None
    user, login = row
    is_theirs = user.is_active and hmac.compare_digest(user.session_nonce.encode(), nonce.encode())
    return (user, login) if is_theirs and not is_over(user, login, config) else None


def is_over(user: User, login: LoginSession, config: Config) -> bool:
    ends, now = ends_of(user, config), utcnow()
    return login.last_used_at + ends.idle <= now or login.created_at + ends.at_most <= now


def record_use(login: LoginSession) -> None:
    """Write that a page is opened now, at most once a minute; a database that takes no writes stops no one. Commits."""
    login_id, user_id, now = login.id, login.user_id, utcnow()
    if login.last_used_at > now - USE_IS_WRITTEN_EVERY:
        return
    end_read(db.session)
    try:
        with writing():
            change_rows(db.session, update(LoginSession).where(LoginSession.id == login_id).values(last_used_at=now))
            visits.record(user_id, now)
            db.session.commit()
    except OperationalError as error:
        db.session.rollback()
        log.warning("could not write when a log-in was used: %s", type(error.orig).__name__)


def list_of(user: User, config: Config) -> list[LoginSession]:
    """Return where this person is logged in, the one used last first."""
    logins = db.session.scalars(
        select(LoginSession)
        .where(LoginSession.user_id == user.id)
        .order_by(LoginSession.last_used_at.desc(), LoginSession.id.desc())
    )
    return [login for login in logins if not is_over(user, login, config)]


def end(key: str) -> None:
    """End the log-in with this key. Commits."""
    change_rows(db.session, delete(LoginSession).where(LoginSession.key_sha256 == _hash(key)))
    db.session.commit()


def end_one(user: User, public_id: str, by: Actor = ITSELF) -> bool:
    """End one log-in of this person; return False if there is none of that id. Commits."""
    one = delete(LoginSession).where(LoginSession.user_id == user.id, LoginSession.public_id == public_id)
    ended = change_rows(db.session, one)
    if ended:
        entries.record(Action.SESSIONS_ENDED, by, user, devices=ended)
    db.session.commit()
    return ended == 1


def end_others(user: User, login: LoginSession, by: Actor = ITSELF) -> int:
    """End all log-ins of this person but one; return how many. Commits."""
    others = delete(LoginSession).where(LoginSession.user_id == user.id, LoginSession.id != login.id)
    ended = change_rows(db.session, others)
    if ended:
        entries.record(Action.SESSIONS_ENDED, by, user, devices=ended)
    db.session.commit()
    return ended


def purge(config: Config) -> None:
    """Delete log-ins that no person can use any more, some at a time. Commits."""
    now = utcnow()
    idle = now - timedelta(minutes=max(config.admin_idle_minutes, config.advisor_idle_minutes))
    oldest = now - timedelta(hours=max(config.admin_session_hours, config.advisor_session_hours))
    is_past = or_(LoginSession.last_used_at <= idle, LoginSession.created_at <= oldest)
    over = select(LoginSession.id).where(is_past).limit(PURGED_AT_ONCE)
    change_rows(db.session, delete(LoginSession).where(LoginSession.id.in_(over)))
    db.session.commit()


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()
