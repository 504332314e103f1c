"""Mails: plain text from templates/mail/, sent by Flask-Mailman.

Without MAIL_URL they are printed on stdout. Nothing of a mail is logged: it may hold a link that is as good as a
password. Jobs send mail, and the watch over them (health/watch.py); mails that pages ask for wait in mail_outbox.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from flask import current_app
from flask_mailman import EmailMessage
from flask_mailman.backends.smtp import EmailBackend

from asapp.core.extensions import db
from asapp.core.extensions import mail as mailman
from asapp.core.formats import read_in_zone_of
from asapp.core.forms import clean_line
from config import MAIL_SENDER, Config

log = logging.getLogger(__name__)

TIMEOUT_S = 8  # for each answer of the mail server; a mail takes about a dozen
LEASE = timedelta(minutes=5)  # on a mail that a worker sends: longer than a mail server can take


@dataclass(frozen=True)
class Letter:
    to: str
    subject: str
    text: str


class CheckedSMTP(smtplib.SMTP):
    """STARTTLS with a check of the certificate, which smtplib skips by default."""

    def starttls(self, *_files: Any, context: ssl.SSLContext | None = None, **_more: Any) -> tuple[int, bytes]:
        return super().starttls(context=context or ssl.create_default_context())


class CheckedBackend(EmailBackend):  # type: ignore[misc]
    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return smtplib.SMTP_SSL if self.use_ssl else CheckedSMTP


def flask_settings(config: Config) -> dict[str, object]:
    server = config.mail_server
    if server is None:
        return {"MAIL_BACKEND": "locmem" if config.testing else "console", "MAIL_DEFAULT_SENDER": MAIL_SENDER}
    return {
        "MAIL_BACKEND": CheckedBackend,
        "MAIL_SERVER": server.host,
        "MAIL_PORT": server.port,
        "MAIL_USERNAME": server.username,
        "MAIL_PASSWORD": server.password,
        "MAIL_USE_SSL": server.is_tls_from_start,
        "MAIL_USE_TLS": server.is_starttls,
        "MAIL_TIMEOUT": TIMEOUT_S,
        "MAIL_DEFAULT_SENDER": server.sender,
    }


def write(to: str, subject: str, template: str, zone: str | None = None, **names: Any) -> Letter:
    """Render templates/mail/<template>.txt with names. zone: the reader's time zone; None is UTC."""
    # The Jinja environment directly: the pages' context needs a request, and most mails are sent without one.
    with read_in_zone_of(zone):
        text = current_app.jinja_env.get_template(f"mail/{template}.txt").render(**names)
    return Letter(to, clean_line(subject), text)


class Fate(StrEnum):
    """What became of a mail. AWAY: the server can't be reached, so trying another mail is pointless."""

    TAKEN = "taken"
    REFUSED = "refused"
    AWAY = "away"


def post(letter: Letter) -> Fate:
    """Send one mail; return what became of it. The caller has committed: the transaction ends here."""
    message = EmailMessage(letter.subject, letter.text, None, [letter.to])
    db.session.rollback()  # on SQLite all others would wait for our lock until the mail server answers
    was_taken: bool | None = None
    try:
        with mailman.get_connection() as connection:
            was_taken = _was_taken(connection, message)
    except (OSError, ValueError) as error:
        log.warning("the mail server can't be used", extra={"kind": type(error).__name__, "was_taken": was_taken})
    if was_taken is None:
        return Fate.AWAY
    return Fate.TAKEN if was_taken else Fate.REFUSED  # also if only the QUIT failed: the server has the mail


def _was_taken(connection: Any, message: EmailMessage) -> bool:
    """Send it; return False if the address was refused, which is no fault of the server."""
    try:
        return bool(connection.send_messages([message]))
    except (OSError, ValueError) as error:  # smtplib's errors are OSErrors; ValueError: an invalid address
        log.warning("a mail was not sent", extra={"kind": type(error).__name__})
        return False
