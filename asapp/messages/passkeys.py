"""Why a passkey was not accepted, in words."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class PasskeyWhy(StrEnum):
    """The values stand in the audit log."""

    LATE = "passkey too late"
    UNKNOWN = "unknown passkey"
    INVALID = "wrong passkey answer"
    COPIED = "passkey used out of order"
    TAKEN = "passkey known already"


WORDS: Mapping[PasskeyWhy, str] = {
    PasskeyWhy.LATE: "That took longer than five minutes, or it was begun in another browser. Try again.",
    PasskeyWhy.UNKNOWN: "That passkey isn't one of yours here. It may have been removed: use another one, or a code.",
    PasskeyWhy.INVALID: "Your browser's answer doesn't fit this page."
    " Open AdvisorStream by its usual address and try again, or use a code.",
    PasskeyWhy.COPIED: "That passkey counts its uses, and an earlier use came again: there may be a copy of it."
    " Use a code, remove this passkey under Security, and add it again.",
    PasskeyWhy.TAKEN: "That passkey was added before.",
}
