"""People who log in: created by an admin, log-in and log-out, and what they may change about themselves.

A session carries the person's nonce. A new nonce ends every session of this person at once: a changed password and a
deactivated account work that way. sessions.py has the single ones.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload

from asapp.accounts import mail_choices, passwords
from asapp.accounts.form_fields import PersonForm, ProfileForm
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read
from asapp.core.extensions import db
from asapp.core.formats import is_zone_name
from asapp.core.forms import InvalidFields, clean_address, whole_number
from asapp.leads import sign_up_page
from asapp.models import Action, LoginSession, Partner, PasswordLink, Role, User
from asapp.models.user import EMPTIED

ADDRESS_IS_TAKEN = "Someone already has this address."


def create_user(
    email: str, name: str, password: str, role: Role, partner: Partner | None = None, by: Actor = ITSELF
) -> User:
    """Add a person; raise InvalidFields. An advisor needs a partner, an admin has none."""
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
        raise InvalidFields({"email": ADDRESS_IS_TAKEN}) from error
    return user


def log_in(email: str, password: str, by: Actor = ITSELF, *, only_allowed: bool = False) -> User | None:
    """Return the person if address and password belong together and the account is active; else None, as slowly. Commits.

    only_allowed: passwords are for admins named by command. Where a second step follows, the person is not in yet:
    second_factor.log_in.
    """
    user = find_by_email(email)
    user_id, password_hash = (user.id, user.password_hash) if user else (None, None)
    end_read(db.session)  # hashing takes a while, and on SQLite everybody else would wait for our lock
    is_right = passwords.is_right(password, password_hash)
    user = db.session.get(User, user_id) if user_id is not None else None
    if only_allowed and user is not None:
        is_right = is_right and user.is_admin and user.is_password_allowed
    if user is None or not is_right or not user.is_active or user.password_hash != password_hash:
        # About the account, if there is one; the typed address is not stored: it may be a password in the wrong field.
        entries.record(Action.LOGIN_REFUSED, by, user)
        db.session.commit()
        return None
    if not user.has_second_factor:
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


def save_profile(user: User, name: str, time_zone: str, digest: str = "", lead_mails: str = "") -> None:
    """Set what people may change about themselves; raise InvalidFields. Commits.

    time_zone: empty is UTC. digest, lead_mails: of an advisor; empty leaves them as they are.
    """
    entered = ProfileForm.entered(name=name, time_zone=time_zone, digest=digest, lead_mails=lead_mails).checked()
    sign_up_page.change_name(user, entered["name"])
    user.time_zone = entered["time_zone"] or None
    if user.is_advisor:
        choice = mail_choices.find(user.id)
        wanted = (entered["digest"] or choice.digest, entered["lead_mails"] or choice.lead_mails)
        mail_choices.save(user, *wanted, utcnow())
    db.session.commit()


def end_sessions_of(user: User) -> None:
    """End every session of this person, in the caller's transaction."""
    user.session_nonce = _new_nonce()
    change_rows(db.session, delete(LoginSession).where(LoginSession.user_id == user.id))


def end_links_of(user_id: int, *which: ColumnElement[bool]) -> None:
    """End the person's open links, in the caller's transaction."""
    change_rows(
        db.session,
        update(PasswordLink)
        .where(PasswordLink.user_id == user_id, PasswordLink.used_at.is_(None), *which)
        .values(used_at=utcnow()),
    )


def lock(user_id: int) -> User:
    """Return the person, read again, whose row no one else changes until the caller's transaction ends."""
    return db.session.get_one(User, user_id, populate_existing=True, with_for_update={"key_share": True})


def is_password(user: User, password: str) -> bool:
    """Is this the person's password? Ends the transaction. Raises passwords.Busy."""
    password_hash = user.password_hash
    end_read(db.session)  # as in log_in
    return passwords.is_right(password, password_hash)


def set_first_time_zone(user: User, time_zone: str) -> None:
    """Take the browser's time zone for a person who has none; anything that is no time zone is left out."""
    if user.time_zone is None and is_zone_name(time_zone):
        user.time_zone = time_zone
        db.session.commit()


def change_password(user: User, current: str, new: str, by: Actor = ITSELF) -> User:
    """Set the password, end all sessions of this person and return the person; raise InvalidFields (current, new)."""
    user_id, password_hash = user.id, user.password_hash
    about = words_about(user)
    end_read(db.session)  # as in log_in
    if not passwords.is_right(current, password_hash):
        raise InvalidFields({"current": "That is not your current password. Nothing was changed."})
    if current == new:
        raise InvalidFields({"new": "This is the password you have. Choose another."})
    if errors := _password_errors("new", new, about):
        raise InvalidFields(errors)
    new_hash = passwords.hash_password(new)
    user = lock(user_id)
    if user.password_hash != password_hash or not user.is_active:  # by a link, say, while we were hashing
        db.session.rollback()
        raise InvalidFields({"current": "Your password was changed a moment ago. This change was not made."})
    user.password_hash = new_hash
    end_sessions_of(user)
    entries.record(Action.PASSWORD_CHANGED, by, user)
    db.session.commit()
    return user


def set_email(user: User, email: str, by: Actor = ITSELF) -> str:
    """Let this person log in with another address from now on; return the one before. Raises InvalidFields (email). Commits."""
    new = PersonForm.entered(name=user.name, email=email).checked()["email"]
    user = lock(user.id)
    before = user.email
    if new == before:
        db.session.rollback()
        raise InvalidFields({"email": "This is the address that the person has."})
    user.email = new
    try:
        db.session.flush()
    except IntegrityError as error:
        db.session.rollback()
        raise InvalidFields({"email": ADDRESS_IS_TAKEN}) from error
    end_links_of(user.id)  # they lie in the mailbox of before
    entries.record(Action.EMAIL_CHANGED, by, user)
    db.session.commit()
    return before


def set_password(user: User, password: str, by: Actor = ITSELF) -> None:
    """Set another person's password and end all their sessions; raise InvalidFields (password). Commits."""
    user_id, about = user.id, words_about(user)
    end_read(db.session)  # as in log_in
    if errors := _password_errors("password", password, about):
        raise InvalidFields(errors)
    new_hash = passwords.hash_password(password)
    user = lock(user_id)
    user.password_hash, user.invited_at = new_hash, None
    end_links_of(user_id)
    end_sessions_of(user)
    entries.record(Action.PASSWORD_CHANGED, by, user, way="command")
    db.session.commit()


def list_people() -> list[User]:
    """Return all who have an account, admins first, then by firm and address."""
    return list(
        db.session.scalars(
            select(User)
            .options(joinedload(User.partner), joinedload(User.second_factor))
            .where(User.password_hash != EMPTIED)
            .order_by(User.role, User.partner_id, User.email)
        )
    )


def is_only_admin(user: User) -> bool:
    """Is this the last admin who can log in?"""
    others = (User.role == Role.ADMIN, User.deactivated_at.is_(None), User.id != user.id)
    return user.is_admin and user.is_active and not db.session.scalar(select(func.count()).where(*others))


def password_mark(user: User | None) -> str:
    """Return what changes with each new password of a person; for no person something that fits no password."""
    of = user.password_hash if user is not None else secrets.token_hex()
    return sha256(f"known device\n{of}".encode()).hexdigest()[:16]


def normal_email(email: str) -> str:
    return clean_address(email).lower()


def find_by_email(email: str) -> User | None:
    return db.session.scalar(select(User).where(User.email == normal_email(email)))


def list_admins() -> list[User]:
    """Return the admins by name, with their second steps, those who are deactivated last."""
    is_there = (User.role == Role.ADMIN, User.password_hash != EMPTIED)
    in_order = (User.deactivated_at.is_not(None), func.lower(User.name), User.id)
    return list(
        db.session.scalars(select(User).options(joinedload(User.second_factor)).where(*is_there).order_by(*in_order))
    )


def find_admin(number: str) -> User | None:
    user = db.session.get(User, whole_number(number) or 0)
    return user if user is not None and user.is_admin and not user.is_emptied else None


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
