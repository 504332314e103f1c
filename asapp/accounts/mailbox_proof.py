"""Proof that a person reads the mailbox of the account, before a second step that is demanded may be set up.

The password alone is not enough there: it may be a thief's, who would set up an app of their own and be in. The link is
mailed to the address of the account, works once, for 15 minutes, and only for that person, who has to be logged in where
it is opened. A command prints one where no mail can be sent.
"""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import ColumnElement, select

from asapp.accounts import attempts, links, mail_outbox
from asapp.accounts.links import LIFETIMES, LinkIsGone
from asapp.accounts.users import end_links_of
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core import mail
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.models import Action, PasswordLink, PasswordLinkKind, User, WaitingKind

KIND = PasswordLinkKind.SECOND_STEP
SUBJECT = "Set up your second step at AdvisorStream"


def make_link(user: User, by: Actor = ITSELF) -> str:
    """Return the token of a new link. Commits."""
    token = _make_link(user, by)
    db.session.commit()
    return token


def send_link(user: User, public_url: str, vault: Vault, enqueue: mail_outbox.Enqueue, by: Actor = ITSELF) -> None:
    """Mail a new link to the person. Raises TooMany. Commits."""
    attempts.claim_set_up_link(user)
    url = url_of(_make_link(user, by), public_url)
    letter = mail.write(user.email, SUBJECT, "second_factor_link", user.time_zone, name=user.name, at=utcnow(), url=url)
    mail_outbox.add(WaitingKind.LETTER, asdict(letter), vault, LIFETIMES[KIND])
    db.session.commit()
    enqueue()


def url_of(token: str, public_url: str) -> str:
    return f"{public_url}/settings/second-factor/link/{token}"


def is_open(user: User, token: str) -> bool:
    """Is this a valid link of this person?"""
    return db.session.scalar(select(PasswordLink.id).where(*_is_theirs(user, token))) is not None


def use_link(user: User, token: str, by: Actor = ITSELF) -> None:
    """Use the link up, and end the person's others of this kind. Raises LinkIsGone. Commits."""
    if not links.use_up(*_is_theirs(user, token)):
        db.session.rollback()
        raise LinkIsGone
    end_links_of(user.id, PasswordLink.kind == KIND)
    entries.record(Action.SECOND_FACTOR_LINK_USED, by, user)
    db.session.commit()


def _make_link(user: User, by: Actor) -> str:
    entries.record(Action.SECOND_FACTOR_LINK_MADE, by, user)
    return links.add_link(user.id, KIND)


def _is_theirs(user: User, token: str) -> tuple[ColumnElement[bool], ...]:
    return PasswordLink.user_id == user.id, *links.is_open(token, KIND)
