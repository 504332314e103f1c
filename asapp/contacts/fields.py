"""What people may type about a contact or a list, and what we say when it won't do.

This is for what is entered here. What Salesforce accepted is taken as it is and never comes through this door.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

FIRST_NAME_MAX = 40
LAST_NAME_MAX = 80
EMAIL_MAX = 254
LOCAL_PART_MAX = 64
LIST_NAME_MAX = 60

# One @, something on both sides, a dot in the domain, nothing that separates or quotes addresses.
ADDRESS = re.compile(
    r"""[^\s@<>()\[\]",;:\\]+@[^\s@<>()\[\]",;:\\._-][^\s@<>()\[\]",;:\\]*\.[^\s@<>()\[\]",;:\\.]{2,}"""
)


class InvalidFields(Exception):
    """Something typed will not do. errors: field -> what to say beside it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = dict(errors)


class Details(NamedTuple):
    """The fields of a contact that was entered by hand."""

    first_name: str
    last_name: str
    email: str


def clean_line(text: str) -> str:
    """Return text on one line: composed, without control characters, spaces single and none at the ends."""
    composed = unicodedata.normalize("NFC", text)
    printable = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in composed)
    return " ".join(printable.split())


def check_details(details: Details) -> Details:
    """Return the details cleaned; raise InvalidFields."""
    clean = Details(*(clean_line(value) for value in details))
    errors: dict[str, str] = {}
    if not clean.first_name and not clean.last_name:
        errors["last_name"] = "Enter a name."
    if len(clean.first_name) > FIRST_NAME_MAX:
        errors["first_name"] = f"Use {FIRST_NAME_MAX} characters or fewer; this has {len(clean.first_name)}."
    if len(clean.last_name) > LAST_NAME_MAX:
        errors["last_name"] = f"Use {LAST_NAME_MAX} characters or fewer; this has {len(clean.last_name)}."
    if problem := email_problem(clean.email):
        errors["email"] = problem
    if errors:
        raise InvalidFields(errors)
    return clean


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


def check_list_name(name: str) -> str:
    """Return the name cleaned; raise InvalidFields."""
    clean = clean_line(name)
    if not clean:
        raise InvalidFields({"name": "Enter a name for the list."})
    if len(clean) > LIST_NAME_MAX:
        raise InvalidFields({"name": f"Use {LIST_NAME_MAX} characters or fewer; this has {len(clean)}."})
    if ";" in clean:
        raise InvalidFields({"name": "Leave out the semicolon: the export puts it between two lists."})
    return clean
