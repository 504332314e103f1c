"""The link by which a person confirms a sign-up, and the mail that brings it.

Anyone can type any address into the form. So the mail has nothing that was typed, and opening the link changes nothing:
mail programs open links to look at them. The button on the page does.
"""

from __future__ import annotations

from dataclasses import asdict
from secrets import token_hex
from typing import NamedTuple

from flask import url_for
from itsdangerous import BadData, URLSafeTimedSerializer

from asapp.accounts import mail_outbox
from asapp.core import mail
from asapp.leads.confirming import LINK_IS_GOOD_FOR, Ask
from asapp.models import OptInPage, WaitingKind
from asapp.web.current import config, vault

KEY_BYTES = 8


class ConfirmLink(NamedTuple):
    """What a link says: whose sign-up, and the key of this link alone."""

    public_id: str
    key: str


def ask_to_confirm(page: OptInPage) -> Ask:
    """Return what stores the mail to a person who signed up, in the caller's transaction."""
    advisor, slug = page.user.name, page.slug
    firm = page.user.partner.name if page.user.partner else ""

    def ask(public_id: str, address: str) -> None:
        link = _serializer().dumps([slug, public_id, token_hex(KEY_BYTES)])
        url = config().public_url + url_for("optin.ask", slug=slug, link=link)
        subject = f"Confirm that you want emails from {advisor}"
        letter = mail.write(address, subject, "confirm_sign_up", advisor=advisor, firm=firm, url=url)
        mail_outbox.add(WaitingKind.LETTER, asdict(letter), vault())

    return ask


def read_link(written: str, slug: str) -> ConfirmLink | None:
    """Return what a link of this page says; None for one that is too old, or is none."""
    most_age_s = int(LINK_IS_GOOD_FOR.total_seconds())
    try:
        of_slug, public_id, key = _serializer().loads(written, max_age=most_age_s)
    except (BadData, ValueError):
        return None
    return ConfirmLink(public_id, key) if of_slug == slug else None


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(config().secret_key, salt="sign-up confirmation")
