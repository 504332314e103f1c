"""A new address for an advisor: entered by an admin, and used once the person has confirmed it from that mailbox.

The link is signed and carries both addresses, so nothing is stored: once the address has changed, for whatever reason, every
link that named the one of before is of no use.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import select

from asapp.accounts import users
from asapp.accounts.form_fields import PersonForm
from asapp.accounts.users import ADDRESS_IS_TAKEN
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.core import mail
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.leads import sign_up_page
from asapp.models import Action, User

VALID_FOR = timedelta(days=7)
SUBJECT = "Confirm your new address for AdvisorStream"
CHANGED_SUBJECT = "Your address at AdvisorStream"


class NewAddress(NamedTuple):
    """A link that is valid: whose, and which address it is about."""

    user: User
    email: str


def change_person(user: User, name: str, email: str, by: Actor = ITSELF) -> str | None:
    """Set the name at once; return the new address, if it is another one. Raises InvalidFields (name, email). Commits."""
    entered = PersonForm.entered(name=name, email=email).checked()
    new = str(entered["email"])
    other = users.find_by_email(new)
    if other is not None and other.id != user.id:
        raise InvalidFields({"email": ADDRESS_IS_TAKEN})
    if entered["name"] != user.name:
        sign_up_page.change_name(user, entered["name"])
        entries.record(Action.NAME_CHANGED, by, user)
    db.session.commit()
    return new if new != user.email else None


def make_token(user: User, email: str, secret_key: str) -> str:
    return str(_serializer(secret_key).dumps([user.public_id, user.email, email]))


def ask_letter(user: User, email: str, url: str) -> mail.Letter:
    """Return the mail to the new address that asks to confirm it."""
    names: dict[str, Any] = {"name": user.name, "new": email, "url": url}
    return mail.write(email, SUBJECT, "email_confirm", user.time_zone, **names)


def find(token: str, secret_key: str) -> NewAddress | None:
    """Return what a link is about, while it is valid."""
    try:
        public_id, before, email = _serializer(secret_key).loads(token, max_age=int(VALID_FOR.total_seconds()))
    except (BadSignature, ValueError):
        return None
    user = db.session.scalar(select(User).where(User.public_id == public_id, User.email == before))
    return NewAddress(user, email) if user is not None and user.is_active else None


def confirm(link: NewAddress, by: Actor = ITSELF) -> list[mail.Letter]:
    """Let the person log in with the new address; return the mails that tell both mailboxes. Raises InvalidFields. Commits."""
    before = users.set_email(link.user, link.email, by.who_is(link.user))
    user = link.user
    names: dict[str, Any] = {"name": user.name, "new": user.email}
    return [mail.write(to, CHANGED_SUBJECT, "email_changed", **names) for to in (before, user.email)]


def _serializer(secret_key: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(secret_key, salt="new email address")
