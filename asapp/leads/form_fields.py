"""Checks of what people type on the sign-up page, and of what advisors set for it, with the messages for bad input.

The limits are Salesforce's for a Lead: 40, 80 and 80 characters.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple
from urllib.parse import urlsplit

from wtforms import ValidationError

from asapp.core.forms import (
    Form,
    InvalidFields,
    Text,
    clean_address,
    clean_line,
    email_problem,
    name_problem,
    whole_number,
)

FIRST_NAME_MAX = 40
LAST_NAME_MAX = 80
EMAIL_MAX = 80
HEADING_MAX = 120
WORDS_MAX = 1000
FRAME_HOSTS_MAX = 10
HOST_NAME_MAX, LABEL_MAX = 253, 63  # of a host name in DNS
ORIGINS_MAX = 1000  # of the whole setting, as stored
DAILY_LIMIT_MAX = 10_000
LOOPBACK = ("localhost", "127.0.0.1")


class Typed(NamedTuple):
    """The fields of the sign-up page, as typed."""

    first_name: str = ""
    last_name: str = ""
    email: str = ""
    has_consented: bool = False


def clean_text(text: str) -> str:
    """Return the text in composed form (NFC), without control characters, with its lines trimmed."""
    composed = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    lines = (clean_line(line) for line in composed.split("\n"))
    return "\n".join(lines).strip()


class PageForm(Form):
    """An advisor's settings of the sign-up page: its words, the sites that may show it, and how many people it takes a
    day."""

    heading = Text("Heading", HEADING_MAX, "Enter a heading.")
    words = Text("What people agree to", WORDS_MAX, "Enter what people agree to.", clean=clean_text)
    frame_hosts = Text("Sites that may show the form", clean=str)
    daily_limit = Text("People a day", clean=str, column="daily_limit")

    def validate_frame_hosts(self, field: Text) -> None:
        field.data = origins_of(field.data)

    def validate_daily_limit(self, field: Text) -> None:
        field.data = whole_number(field.data.strip().replace(",", ""), DAILY_LIMIT_MAX, 1)
        if field.data is None:
            raise ValidationError(f"Enter a number from 1 to {DAILY_LIMIT_MAX:,}.")


def check_typed(typed: Typed) -> Typed:
    """Return the cleaned input; raise InvalidFields."""
    clean = _cleaned(typed)
    if errors := find_problems(clean):
        raise InvalidFields(errors)
    return clean


def find_problems(typed: Typed) -> dict[str, str]:
    """Return {field: what is wrong with it}."""
    clean = _cleaned(typed)
    errors = {
        "first_name": name_problem(clean.first_name, FIRST_NAME_MAX, "Enter your first name.") or "",
        "last_name": name_problem(clean.last_name, LAST_NAME_MAX, "Enter your last name.") or "",
        "email": _email_problem(clean.email),
        "consent": "" if clean.has_consented else "Tick the box if you want the emails. Without it nothing is sent.",
    }
    return {field: words for field, words in errors.items() if words}


def _cleaned(typed: Typed) -> Typed:
    return Typed(
        clean_line(typed.first_name), clean_line(typed.last_name), clean_address(typed.email), typed.has_consented
    )


def origins_of(typed: str) -> str:
    """Return the typed origins, separated by lines or spaces, in one line: `https://a.example https://b.example`."""
    origins = list(dict.fromkeys(_origin(part) for part in typed.replace(",", " ").split()))
    if len(origins) > FRAME_HOSTS_MAX:
        raise ValidationError(f"Name {FRAME_HOSTS_MAX} sites or fewer.")
    stored = " ".join(origins)
    if len(stored) > ORIGINS_MAX:
        raise ValidationError(
            f"These addresses are too long together: {len(stored):,} characters. Use {ORIGINS_MAX:,} or fewer."
        )
    return stored


def _origin(part: str) -> str:
    refusal = ValidationError(f"“{part[:80]}” is not a site's address. It looks like https://www.example.com.")
    try:
        url = urlsplit(part if "://" in part else f"https://{part}")
        host, port = url.hostname or "", url.port
    except ValueError:
        raise refusal from None
    allowed = url.scheme == "https" or (url.scheme == "http" and host in LOOPBACK)
    if not allowed or not host.isascii() or not all(label.replace("-", "").isalnum() for label in host.split(".")):
        raise refusal
    if url.username or (host not in LOOPBACK and "." not in host):
        raise refusal
    if len(host) > HOST_NAME_MAX or max(map(len, host.split("."))) > LABEL_MAX:
        raise refusal
    return f"{url.scheme}://{host}{f':{port}' if port else ''}"


def _email_problem(email: str) -> str:
    if len(email) > EMAIL_MAX:
        return f"Use an address of {EMAIL_MAX} characters or fewer; this has {len(email)}."
    if email.endswith("@"):
        return "Something should follow the @, as in name@example.com."
    return email_problem(email) or ""
