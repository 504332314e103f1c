"""Mails that pages have queued: sent as the worker's job does, into the test's mailbox."""

from __future__ import annotations

from flask import current_app

from asapp.accounts import links, mail_outbox
from asapp.core import mail
from asapp.core.database import writing
from tests.conftest import PUBLIC_URL


def send_waiting_mails() -> int:
    """Send the mails that wait; return how many were sent."""
    vault = current_app.extensions["asapp.vault"]
    with writing():
        links.answer_resets(vault, PUBLIC_URL)
        return mail_outbox.send_due(mail.post, vault)
