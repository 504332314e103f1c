"""A small mail engine, as an example for programmers who write a real one (docs/senders.md explains it).

It lists the advisors, prepares a send, fetches the recipients, writes to each of them with both unsubscribe headers, and tells
asapp what happened to the mails. It imports nothing from asapp; it knows only the API.
"""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from html import escape
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import requests

TIMEOUT_S = 30.0
PREPARED_WITHIN_S = 300.0  # a send has reached an end state by then
POLL_S = 0.5
# Python would encode a link that is longer than a line, and mail programs then don't recognise the header.
ONE_LINE_HEADERS = SMTP.clone(max_line_length=998)


class SenderError(Exception):
    """The API gave an unexpected answer."""


@dataclass(frozen=True)
class Told:
    """The results of one mailing."""

    list_name: str
    recipients: int
    unsubscribed: str


class Sender:
    """api: the address of asapp, without a slash at its end. key: begins with asapp_."""

    def __init__(self, api: str, key: str) -> None:
        self._api = f"{api}/api/v1"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def advisors(self) -> Iterator[dict[str, Any]]:
        """Yield each advisor that the key reaches, page by page."""
        cursor: str | None = None
        while True:
            page = self._call("GET", "/advisors", params={"cursor": cursor} if cursor else None)
            yield from page["advisors"]
            cursor = page["next"]
            if cursor is None:
                return

    def prepare(self, list_id: str, max_age_minutes: int = 60) -> dict[str, Any]:
        """Return a send that is ready. The id is ours: after a crash, the same id gives the same send."""
        wanted = {"id": str(uuid4()), "list_id": list_id, "max_age_minutes": max_age_minutes}
        send = self._call("POST", "/sends", json=wanted)
        give_up_at = time.monotonic() + PREPARED_WITHIN_S
        while send["state"] == "preparing" and time.monotonic() < give_up_at:
            time.sleep(POLL_S)
            send = self._call("GET", f"/sends/{send['id']}")
        if send["state"] != "ready":
            raise SenderError(f"the send is {send['state']}: {send['reason']}")
        return send

    def recipients(self, send: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the recipients, one for each address. People who unsubscribe in the meantime are left out."""
        path = f"{self._api}/sends/{send['id']}/recipients"
        headers = {"Accept": "application/x-ndjson"}
        with self._session.get(path, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
            if not answer.ok:
                raise SenderError(f"recipients: {answer.status_code}")
            yield from (json.loads(line) for line in answer.iter_lines() if line)

    def may_send(self, advisor_id: str, emails: list[str]) -> dict[str, str | None]:
        """Return {address: why it may not be written to, or None}; ask again right before a delayed mail."""
        answer = self._call("POST", "/may-send", json={"advisor_id": advisor_id, "emails": emails})
        return {each["email"]: each["reason"] for each in answer["results"]}

    def tell(self, kind: str, advisor_id: str, email: str) -> str:
        """Report one event to asapp; return `accepted` or `duplicate`. Real engines report up to 1,000 at once."""
        event = {"id": str(uuid4()), "type": kind, "advisor_id": advisor_id, "email": email, "at": now(), "detail": ""}
        result = self._call("POST", "/events", json={"events": [event]})["results"][0]
        if result["result"] == "invalid":
            raise SenderError(f"event: {result['error']}")
        return str(result["result"])

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = self._session.request(method, f"{self._api}{path}", timeout=TIMEOUT_S, **more)
        if not answer.ok:
            raise SenderError(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        found: dict[str, Any] = answer.json()
        return found


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_mail(recipient: dict[str, Any], sender_name: str, sender_address: str) -> EmailMessage:
    """Names come as they are stored; in HTML they are escaped here."""
    mail = EmailMessage(policy=ONE_LINE_HEADERS)
    mail["From"] = f"{sender_name} <{sender_address}>"
    mail["To"] = recipient["email"]
    mail["Subject"] = "News for you"
    mail["List-Unsubscribe"] = f"<{recipient['unsubscribe_url']}>"
    mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    link = recipient["unsubscribe_url"]
    mail.set_content(f"Dear {recipient['first_name']},\n\nhere is the news.\n\nUnsubscribe: {link}\n")
    name = escape(recipient["first_name"])
    html = f'<p>Dear {name},</p><p>here is the news.</p><p><a href="{escape(link)}">Unsubscribe</a></p>'
    mail.add_alternative(html, subtype="html")
    return mail


def send_mails(recipients: Iterable[dict[str, Any]], sender_name: str, smtp_url: str) -> int:
    """Send to all recipients over one connection; return how many mails the server accepted."""
    server = urlsplit(smtp_url)
    sent = 0
    with smtplib.SMTP(server.hostname or "", server.port or 25, timeout=TIMEOUT_S) as smtp:
        for recipient in recipients:
            smtp.send_message(write_mail(recipient, sender_name, "news@mailer.example"))
            sent += 1
    return sent


def click_unsubscribe(url: str) -> None:
    """Do what a mail program does when its user presses Unsubscribe (RFC 8058)."""
    answer = requests.post(url, data={"List-Unsubscribe": "One-Click"}, timeout=TIMEOUT_S)
    if answer.status_code != 200:
        raise SenderError(f"unsubscribe: {answer.status_code}")


def tell_story(sender: Sender, advisor_email: str, list_name: str, smtp_url: str, say: Callable[[str], None]) -> Told:
    """Send one mailing to one list of one advisor; one person unsubscribes and gets no further mail."""
    advisor = next(each for each in sender.advisors() if each["email"] == advisor_email)
    chosen = next(each for each in advisor["lists"] if each["name"] == list_name)
    say(
        f"The mail engine finds {advisor['name']}, {advisor['state']}, and “{list_name}” with {chosen['active']:,} active"
    )
    send = sender.prepare(chosen["id"])
    say(f"It prepares a send: ready, with opt-outs as of {send['as_of']}")
    recipients = list(sender.recipients(send))
    sent = send_mails(recipients, advisor["name"], smtp_url)
    say(f"It writes {sent:,} mails, one for each address, each with both unsubscribe headers")
    person = recipients[0]
    click_unsubscribe(person["unsubscribe_url"])
    reason = sender.may_send(advisor["id"], [person["email"]])[person["email"]]
    if reason is None:
        raise SenderError("a person unsubscribed and may still be written to")
    left = sum(1 for _ in sender.recipients(send))
    say(f"One person presses Unsubscribe: may-send says {reason}, and the same send has {left:,} recipients")
    if left != sent - 1:
        raise SenderError(f"{left} recipients are left of {sent}")
    return Told(list_name, sent, person["email"])
