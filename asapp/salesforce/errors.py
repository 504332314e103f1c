"""What went wrong at Salesforce, sorted by what to do next. This table is the one place that decides it.

Data calls answer an array of {"message", "errorCode", "fields"}; log-in and token calls an object {"error",
"error_description"}; the edge and maintenance answer HTML, or nothing. Messages may hold names and addresses: an error of
ours carries the code alone, and the message only where a person entered or configured it (validation rules).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class SalesforceError(Exception):
    """Base of what an outside call to Salesforce can end with.

    code: a key that the words for people are looked up by. detail: Salesforce's own error code or a field's name, never
    personal data. str() of it is safe to log.
    """

    def __init__(self, code: str, detail: str = "", words: str = "") -> None:
        super().__init__(f"{code} ({detail})" if detail else code)
        self.code = code
        self.detail = detail
        self.words = words  # what an admin of the firm wrote, to be shown to the advisor and never logged


class TryLater(SalesforceError):
    """Nobody's fault and nothing to mend: the same call may work later. is_ambiguous: it may have been carried out."""

    def __init__(self, code: str, detail: str = "", words: str = "", is_ambiguous: bool = False) -> None:
        super().__init__(code, detail, words)
        self.is_ambiguous = is_ambiguous


class LimitReached(SalesforceError):
    """The org's allowance is used up: the whole firm pauses."""


class ReconnectNeeded(SalesforceError):
    """Only the advisor can mend it, by connecting again."""


class SessionExpired(SalesforceError):
    """The access token is old: refresh once and go on."""


class Rejected(SalesforceError):
    """Salesforce refuses this record alone."""


class Misconfigured(SalesforceError):
    """The firm's Salesforce admin, or AdvisorStream's, has to change something."""


class LocatorExpired(SalesforceError):
    """The rest of a query is no longer kept: ask again from the checkpoint."""


class FieldHidden(Misconfigured):
    """The connected user can't see a field, or it doesn't exist; the two can't be told apart. detail: the field."""


class ObjectHidden(Misconfigured):
    """The connected user may not read an object. detail: the object."""


class OurBug(SalesforceError):
    """We asked wrongly. It is not caught anywhere but at the edge, and logged."""
