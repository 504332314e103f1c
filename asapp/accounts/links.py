"""One-time links on which people set a password: an invitation for a week, a forgotten password for an hour.

Only the hash of a link's token is kept. A new link of a person replaces the earlier ones.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import select, update

from asapp import audit
from asapp.accounts import passwords
from asapp.accounts.users import normal_email, words_about
from asapp.audit import ITSELF, Actor
from asapp.clock import utcnow
from asapp.extensions import db
from asapp.fields import InvalidFields
from asapp.models import Action, PasswordLink, PasswordLinkKind, User

TOKEN_BYTES = 36  # long enough for logs to recognise it as a token, should one ever come near them
LIFETIMES = {PasswordLinkKind.INVITATION: timedelta(days=7), PasswordLinkKind.RESET: timedelta(hours=1)}


class LinkIsGone(Exception):
    """It was used or replaced, it has expired, or there never was such a link."""


def sha256_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def make_link(user: User, kind: PasswordLinkKind) -> str:
    """Return the token of a new link. Commits."""
    now = utcnow()
    _end_links(user.id)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    db.session.add(
        PasswordLink(user_id=user.id, kind=kind, token_sha256=sha256_of(token), expires_at=now + LIFETIMES[kind])
    )
    db.session.commit()
    return token


def ask_reset(email: str) -> tuple[User, str] | None:
    """Return whom to write to and the token, or None where nobody active has this address. Commits."""
    user = db.session.scalar(select(User).where(User.email == normal_email(email)))
    if user is None or not user.is_active:
        db.session.rollback()
        return None
    return user, make_link(user, PasswordLinkKind.RESET)


def find_person(token: str) -> User | None:
    """Return whose link this is, while it works."""
    user = db.session.scalar(
        select(User)
        .join(PasswordLink, PasswordLink.user_id == User.id)
        .where(
            PasswordLink.token_sha256 == sha256_of(token),
            PasswordLink.used_at.is_(None),
            PasswordLink.expires_at > utcnow(),
        )
    )
    return user if user is not None and user.is_active else None


def set_password(token: str, password: str, by: Actor = ITSELF) -> User:
    """Use the link up, set the password and end all sessions of this person. Raises InvalidFields (new), LinkIsGone."""
    user = find_person(token)
    if user is None:
        raise LinkIsGone
    user_id, about = user.id, words_about(user)
    db.session.rollback()  # hashing takes a while, and on SQLite everybody else would wait for our lock
    try:
        passwords.check_fit(password, about)
    except passwords.UnfitPassword as error:
        raise InvalidFields({"new": str(error)}) from error
    password_hash = passwords.hash_password(password)
    won = db.session.scalar(
        update(PasswordLink)
        .where(
            PasswordLink.token_sha256 == sha256_of(token),
            PasswordLink.used_at.is_(None),
            PasswordLink.expires_at > utcnow(),
        )
        .values(used_at=utcnow())
        .returning(PasswordLink.id)
    )
    user = db.session.get(User, user_id) if won is not None else None
    if user is None or not user.is_active:
        db.session.rollback()
        raise LinkIsGone
    user.password_hash = password_hash
    user.session_nonce = secrets.token_hex(16)
    user.invited_at = None
    audit.record(Action.PASSWORD_CHANGED, by.who_is(user), user, way="link")
    db.session.commit()
    return user


def _end_links(user_id: int) -> None:
    db.session.execute(
        update(PasswordLink)
        .where(PasswordLink.user_id == user_id, PasswordLink.used_at.is_(None))
        .values(used_at=utcnow())
    )
