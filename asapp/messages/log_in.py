"""Why a person who came back from the identity provider was not let in, and what they can do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class LogInWhy(StrEnum):
    AWAY = "away"
    MISTRUSTED = "mistrusted"
    MISCONFIGURED = "misconfigured"
    CANCELLED = "cancelled"
    REFUSED_THERE = "refused_there"
    LOST = "lost"
    UNKNOWN = "unknown"
    NO_ADDRESS = "no_address"
    UNVERIFIED = "unverified"
    OTHER_SUBJECT = "other_subject"
    DEACTIVATED = "deactivated"
    ANOTHER_PERSON = "another_person"
    NOT_RECENT = "not_recent"


class LogInWords(NamedTuple):
    """title and words: what happened; "{email}" is the address that the provider told. steps: what the person can do."""

    title: str
    words: str
    steps: tuple[str, ...]


WRITE_TO_US = "If it happens again, write to us at the address below."
WORDS: Mapping[LogInWhy, LogInWords] = {
    LogInWhy.AWAY: LogInWords(
        "The AdvisorStream log-in doesn't answer.",
        "We could not reach it, or it took too long. Your account and your contacts are where you left them, and syncs go on.",
        ("Wait a minute, then try again.", WRITE_TO_US),
    ),
    LogInWhy.MISTRUSTED: LogInWords(
        "We could not trust that log-in.",
        "What came back was not signed, meant or dated as it has to be, so we did not use it. You were not logged in.",
        ("Try again from this page.", WRITE_TO_US),
    ),
    LogInWhy.MISCONFIGURED: LogInWords(
        "The AdvisorStream log-in doesn't accept us.",
        "It refused our own key. It is nothing that you did, and you can't fix it. You were not logged in.",
        ("Write to us at the address below; we are told of it in our log, too.",),
    ),
    LogInWhy.CANCELLED: LogInWords(
        "You were not logged in.",
        "The log-in at AdvisorStream was cancelled.",
        ("Try again if that was not what you wanted.",),
    ),
    LogInWhy.REFUSED_THERE: LogInWords(
        "AdvisorStream did not let you in.",
        "The refusal came from the AdvisorStream log-in itself, so we don't know the reason.",
        ("Try again, and read what it says there.", WRITE_TO_US),
    ),
    LogInWhy.LOST: LogInWords(
        "That log-in can't be finished.",
        "It was started in another browser or tab, was used before, or took more than ten minutes. You were not logged in.",
        ("Start again from this page.",),
    ),
    LogInWhy.UNKNOWN: LogInWords(
        "We don't know an account for {email}.",
        "You logged in at AdvisorStream with this address, but your invitation went to another one, or there is none yet. "
        "Nothing was changed.",
        (
            "Do you have a second address? Log in with that one.",
            "Otherwise ask your firm's AdvisorStream contact to invite {email}.",
        ),
    ),
    LogInWhy.NO_ADDRESS: LogInWords(
        "We can't find your invitation.",
        "The AdvisorStream log-in did not tell us your email address, and we know you by nothing else yet. "
        "Nothing was changed.",
        ("Allow the email address when it asks, or write to us at the address below.",),
    ),
    LogInWhy.UNVERIFIED: LogInWords(
        "Your address {email} is not confirmed yet.",
        "AdvisorStream has not checked that it is yours, and without that we open no account for it. Nothing was changed.",
        ("Look for the mail with which AdvisorStream confirms addresses, then log in again.",),
    ),
    LogInWhy.OTHER_SUBJECT: LogInWords(
        "{email} belongs to another log-in.",
        "The account with this address is linked with an AdvisorStream log-in, and the one that you used is not that one, "
        "although it has the same address. Nothing was changed.",
        (
            "Do you have two AdvisorStream log-ins? Use the one of before.",
            "Is your log-in there a new one? Write to us at the address below: once we know it's you, we link it.",
        ),
    ),
    LogInWhy.DEACTIVATED: LogInWords(
        "Your account is deactivated.",
        "You logged in at AdvisorStream, but an admin has deactivated your account here. Nothing was deleted.",
        ("Ask your firm's AdvisorStream contact to let you back in.",),
    ),
    LogInWhy.ANOTHER_PERSON: LogInWords(
        "That was another person's log-in.",
        "You are logged in here as one person and confirmed as another. Nothing was changed.",
        ("Confirm with the log-in that belongs to this account, or log out first.",),
    ),
    LogInWhy.NOT_RECENT: LogInWords(
        "That did not confirm that it's you.",
        "AdvisorStream did not ask you for your log-in again, so we can't count it. Nothing was changed.",
        ("Log out there and try again.", WRITE_TO_US),
    ),
}
