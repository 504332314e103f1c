"""One-time links for setting a password: an invitation is valid for a week, a link for a forgotten password for an hour.
mailbox_proof.py has a third kind, which sets no password.

Only the hash of a link's token is stored. A new invitation replaces the earlier one. Links for a forgotten password work
side by side, and beside an invitation: anyone can ask for one, and must not invalidate the link that the person has.
Setting a password by one ends all links of the person.

A request stores the typed address and nothing else, known or not; a job looks the person up and writes the mail.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select, update

from asapp.accounts import attempts, mail_outbox, passwords
from asapp.accounts.attempts import Origin
from asapp.accounts.users import end_links_of, end_sessions_of, find_by_email, normal_email, words_about
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core import mail
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read
from asapp.core.extensions import db
from asapp.core.forms import EMAIL_MAX, InvalidFields
from asapp.core.vault import CannotOpen, Vault
from asapp.models import Action, PasswordLink, PasswordLinkKind, User, WaitingKind, WaitingMail

TOKEN_BYTES = 36  # long enough for logs to recognise it as a token, should one ever come near them
RESET_SUBJECT = "Set a new AdvisorStream password"
FREE_RESETS = 5  # mails to a person in an hour, from all who ask; from then on
RESET_GAP = timedelta(minutes=5)  # passes between two, which keeps the mailbox usable
LIFETIMES = {
    PasswordLinkKind.INVITATION: timedelta(days=7),
    PasswordLinkKind.RESET: timedelta(hours=1),
    PasswordLinkKind.SECOND_STEP: timedelta(minutes=15),
}
FOR_PASSWORDS = (PasswordLinkKind.INVITATION, PasswordLinkKind.RESET)


class LinkIsGone(Exception):
    """It was used or replaced, it has expired, or there never was such a link."""


def sha256_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def make_link(user: User, kind: PasswordLinkKind) -> str:
    """Return the token of a new link. Commits."""
    if kind == PasswordLinkKind.INVITATION:
        end_links_of(user.id, PasswordLink.kind == kind)
    token = add_link(user.id, kind)
    db.session.commit()
    return token


def request_reset(email: str, origin: Origin, vault: Vault, enqueue: mail_outbox.Enqueue) -> None:
    """Store a request for a link; the same work for every address. Raises TooMany. Commits."""
    attempts.claim_reset(email, origin)
    content = {"email": normal_email(email)[:EMAIL_MAX]}
    mail_outbox.add(WaitingKind.RESET, content, vault, LIFETIMES[PasswordLinkKind.RESET])
    db.session.commit()
    enqueue()


def send_reset(
    user: User, admin_name: str, public_url: str, vault: Vault, enqueue: mail_outbox.Enqueue, by: Actor = ITSELF
) -> None:
    """Mail a person a link for a new password, as an admin wants it; the password of before works until then. Commits."""
    url = f"{public_url}/password/{add_link(user.id, PasswordLinkKind.RESET)}"
    letter = mail.write(user.email, RESET_SUBJECT, "password_link", name=user.name, admin=admin_name, url=url)
    mail_outbox.add(WaitingKind.LETTER, asdict(letter), vault, LIFETIMES[PasswordLinkKind.RESET])
    entries.record(Action.PASSWORD_LINK_SENT, by, user)
    db.session.commit()
    enqueue()


def answer_resets(vault: Vault, public_url: str) -> None:
    """Turn each request into a mail with a link, or delete it if no mail is due. Commits."""
    waiting = select(WaitingMail).where(WaitingMail.kind == WaitingKind.RESET).order_by(WaitingMail.id).limit(1)
    while True:
        now = utcnow()
        is_due = (WaitingMail.due_at <= now) & (WaitingMail.give_up_at > now)
        request = db.session.scalar(waiting.where(is_due).with_for_update(skip_locked=True))
        if request is None:
            db.session.rollback()
            return
        _answer_reset(request, vault, public_url)
        db.session.commit()


def _answer_reset(request: WaitingMail, vault: Vault, public_url: str) -> None:
    """In the caller's transaction. A mail sent after this request answers it as well."""
    try:
        user = find_by_email(mail_outbox.read(request, vault)["email"])
    except CannotOpen:
        user = None
    if user is None or not user.is_active:
        db.session.delete(request)
        return
    db.session.execute(
        select(User.id).where(User.id == user.id).with_for_update()
    )  # one job at a time writes to a person
    made = _resets_of_the_hour(user.id)
    if made and made[0] > request.created_at:
        db.session.delete(request)
    elif len(made) >= FREE_RESETS and made[0] > utcnow() - RESET_GAP:
        request.due_at = made[0] + RESET_GAP
    else:
        url = f"{public_url}/password/{add_link(user.id, PasswordLinkKind.RESET)}"
        letter = mail.write(user.email, RESET_SUBJECT, "password_reset", name=user.name, url=url)
        request.seal(vault, mail_outbox.CONTENT, json.dumps(asdict(letter)))
        request.kind, request.give_up_at = WaitingKind.LETTER, utcnow() + LIFETIMES[PasswordLinkKind.RESET]


def _resets_of_the_hour(user_id: int) -> list[datetime]:
    """Return when links were made that still stand for mails of the last hour, the newest first."""
    made = select(PasswordLink.created_at).where(
        PasswordLink.user_id == user_id,
        PasswordLink.kind == PasswordLinkKind.RESET,
        PasswordLink.created_at > utcnow() - LIFETIMES[PasswordLinkKind.RESET],
    )
    return list(db.session.scalars(made.order_by(PasswordLink.created_at.desc())))


def find_person(token: str) -> User | None:
    """Return the person of a link for setting a password, while it is valid."""
    user = db.session.scalar(
        select(User).join(PasswordLink, PasswordLink.user_id == User.id).where(*is_open(token, *FOR_PASSWORDS))
    )
    return user if user is not None and user.is_active else None


def set_password(token: str, password: str, by: Actor = ITSELF) -> User:
    """Use up the link, set the password and end all sessions of this person. Raises InvalidFields (new), LinkIsGone."""
    user = find_person(token)
    if user is None:
        raise LinkIsGone
    user_id, about = user.id, words_about(user)
    end_read(db.session)  # hashing takes a while, and on SQLite everybody else would wait for our lock
    try:
        passwords.check_fit(password, about)
    except passwords.UnfitPassword as error:
        raise InvalidFields({"new": str(error)}) from error
    password_hash = passwords.hash_password(password)
    won = use_up(*is_open(token, *FOR_PASSWORDS))
    user = db.session.get(User, user_id) if won else None
    if user is None or not user.is_active:
        db.session.rollback()
        raise LinkIsGone
    user.password_hash = password_hash
    end_sessions_of(user)
    user.invited_at = None
    entries.record(Action.PASSWORD_CHANGED, by.who_is(user), user, way="link")
    end_links_of(user.id)
    db.session.commit()
    return user


def is_open(token: str, *kinds: PasswordLinkKind) -> tuple[ColumnElement[bool], ...]:
    """Return what holds for the link with this token, if it is one of these kinds and valid."""
    is_it = (PasswordLink.token_sha256 == sha256_of(token), PasswordLink.kind.in_(kinds))
    return *is_it, PasswordLink.used_at.is_(None), PasswordLink.expires_at > utcnow()


def use_up(*which: ColumnElement[bool]) -> bool:
    """Use up a link in the caller's transaction; return False if another request did, or there is none."""
    return change_rows(db.session, update(PasswordLink).where(*which).values(used_at=utcnow())) == 1


def add_link(user_id: int, kind: PasswordLinkKind) -> str:
    """Return the token of a new link, in the caller's transaction."""
    token, ends_at = secrets.token_urlsafe(TOKEN_BYTES), utcnow() + LIFETIMES[kind]
    db.session.add(PasswordLink(user_id=user_id, kind=kind, token_sha256=sha256_of(token), expires_at=ends_at))
    return token
