"""What people type: a refusal that knows its fields, one line of text, and an e-mail address.

This is for what is entered here. What Salesforce accepted is taken as it is and never comes through this door.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

EMAIL_MAX = 254
LOCAL_PART_MAX = 64

# One @, something on both sides, a dot in the domain, nothing that separates or quotes addresses.
ADDRESS = re.compile(
    r"""[^\s@<>()\[\]",;:\\]+@[^\s@<>()\[\]",;:\\._-][^\s@<>()\[\]",;:\\]*\.[^\s@<>()\[\]",;:\\.]{2,}"""
)


class InvalidFields(Exception):
    """Something typed will not do. errors: field -> what to say beside it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = dict(errors)


def clean_line(text: str) -> str:
    """Return text on one line: composed, without control characters, spaces single and none at the ends."""
    composed = unicodedata.normalize("NFC", text)
    printable = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in composed)
    return " ".join(printable.split())


def email_problem(email: str) -> str | None:
    """Return what is wrong with an address that was cleaned; None if mail could go there."""
    if not email:
        return "Enter an email address."
    if len(email) > EMAIL_MAX or len(email.partition("@")[0]) > LOCAL_PART_MAX:
        return "This is longer than an email address can be."
    if " " in email or email.count("@") != 1:
        return "Enter one email address, such as name@example.com."
    if not ADDRESS.fullmatch(email) or ".." in email or email.startswith(".") or ".@" in email:
        return "Check the address: it looks like name@example.com."
    return None
