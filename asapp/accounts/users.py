"""People who log in: made by an admin, in and out, and what they may change about themselves.

A session carries the person's nonce. A new nonce ends every session of this person at once: log-out, a changed password
and a deactivated account all work that way.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from asapp.accounts import passwords
from asapp.accounts.form_fields import NameForm, PersonForm
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields, clean_address, whole_number
from asapp.leads import sign_up_page
from asapp.models import Action, Partner, Role, User


def create_user(
    email: str, name: str, password: str, role: Role, partner: Partner | None = None, by: Actor = ITSELF
) -> User:
    """Make a person; raise InvalidFields. An advisor needs a partner, an admin has none."""
    form = PersonForm.entered(name=name, email=email)
    errors = form.problems()
    name, email = form.name.data, form.email.data
    if (role == Role.ADVISOR) != (partner is not None):
        errors["partner"] = "An advisor belongs to a partner." if partner is None else "An admin belongs to no partner."
    errors |= _password_errors("password", password, (name, email, partner.name if partner else ""))
    if errors:
        raise InvalidFields(errors)
    user = User(
        email=email,
        name=name,
        role=role,
        partner=partner,
        password_hash=passwords.hash_password(password),
        session_nonce=_new_nonce(),
    )
    db.session.add(user)
    try:
        db.session.flush()
        if user.is_advisor:
            sign_up_page.add_page(user)
        entries.record(Action.PERSON_CREATED, by, user, role=user.role)
        db.session.commit()
    except IntegrityError as error:
        db.session.rollback()
        raise InvalidFields({"email": "Someone already has this address."}) from error
    return user


def log_in(email: str, password: str, by: Actor = ITSELF) -> User | None:
    """Return the person if address and password belong together and the account is active; else None, as slowly. Commits."""
    user = find_by_email(email)
    user_id, password_hash = (user.id, user.password_hash) if user else (None, None)
    db.session.rollback()  # hashing takes a while, and on SQLite everybody else would wait for our lock
    is_right = passwords.is_right(password, password_hash)
    user = db.session.get(User, user_id) if user_id is not None else None
    if user is None or not is_right or not user.is_active or user.password_hash != password_hash:
        # About whom, if anybody; what was typed is not kept: it may be a password in the wrong field.
        entries.record(Action.LOGIN_REFUSED, by, user)
        db.session.commit()
        return None
    entries.record(Action.LOGGED_IN, by.who_is(user), user)
    if passwords.is_outdated(user.password_hash):
        user.password_hash = passwords.hash_password(password)
    db.session.commit()
    return user


def find_by_session(session_id: str) -> User | None:
    """Return the person whose session says `<id>.<nonce>`, unless it has ended or the account is no longer active."""
    number, _, nonce = session_id.partition(".")
    user = db.session.get(User, whole_number(number) or 0)
    if user is None or not user.is_active or not hmac.compare_digest(user.session_nonce.encode(), nonce.encode()):
        return None
    return user


def end_sessions(user: User) -> None:
    user.session_nonce = _new_nonce()
    db.session.commit()


def rename(user: User, name: str) -> None:
    """Raises InvalidFields."""
    user.name = NameForm.entered(name=name).checked()["name"]
    db.session.commit()


def change_password(user: User, current: str, new: str, by: Actor = ITSELF) -> User:
    """Set the password, end all sessions of this person and return the person; raise InvalidFields (current, new)."""
    user_id, password_hash = user.id, user.password_hash
    about = words_about(user)
    db.session.rollback()  # as in log_in
    if not passwords.is_right(current, password_hash):
        raise InvalidFields({"current": "That is not your current password. Nothing was changed."})
    if current == new:
        raise InvalidFields({"new": "This is the password you have. Choose another."})
    if errors := _password_errors("new", new, about):
        raise InvalidFields(errors)
    new_hash = passwords.hash_password(new)
    user = db.session.get_one(User, user_id, populate_existing=True, with_for_update={"key_share": True})
    if user.password_hash != password_hash or not user.is_active:  # by a link, say, while we were hashing
        db.session.rollback()
        raise InvalidFields({"current": "Your password was changed a moment ago. This change was not made."})
    user.password_hash = new_hash
    user.session_nonce = _new_nonce()
    entries.record(Action.PASSWORD_CHANGED, by, user)
    db.session.commit()
    return user


def password_mark(user: User | None) -> str:
    """Return what changes with each new password of a person; for no person something that fits no password."""
    of = user.password_hash if user is not None else secrets.token_hex()
    return sha256(f"known device\n{of}".encode()).hexdigest()[:16]


def normal_email(email: str) -> str:
    return clean_address(email).lower()


def find_by_email(email: str) -> User | None:
    return db.session.scalar(select(User).where(User.email == normal_email(email)))


def words_about(user: User) -> tuple[str, ...]:
    """Return what a password of this person must not be made of."""
    return user.name, user.email, user.partner.name if user.partner else ""


def _password_errors(field: str, password: str, about: Sequence[str]) -> dict[str, str]:
    try:
        passwords.check_fit(password, about)
    except passwords.UnfitPassword as error:
        return {field: str(error)}
    return {}


def _new_nonce() -> str:
    return secrets.token_hex(16)
