"""Whether Salesforce was told that a person unsubscribed, and why not: for the contact's page, and for admins as a list."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from asapp.models import Untold


class Telling(StrEnum):
    """What a contact's page shows about one record. `waits`, `refused` and `nothing_to_tell` come with an Untold."""

    SOON = "soon"  # once the person can no longer undo it
    WAITS = "waits"
    TOLD = "told"  # with the moment
    TRUE_ALREADY = "true_already"
    REFUSED = "refused"
    NOTHING_TO_TELL = "nothing_to_tell"
    NOT_WANTED = "not_wanted"  # the firm's setting is off
    EARLIER = "earlier"  # the person stopped before the firm wanted it


class UntoldWords(NamedTuple):
    """short: for the admins' list. says: for the advisor, with {words}, the firm's own. remedy: empty where there is none."""

    short: str
    says: str
    remedy: str = ""


TELLINGS: Mapping[str, str] = {
    Telling.SOON: "Salesforce will be told within minutes, once this person can no longer undo it.",
    Telling.WAITS: "Salesforce isn't told yet that this person unsubscribed.",
    Telling.TOLD: "Salesforce was told on",
    Telling.TRUE_ALREADY: "The opt-out box was ticked in Salesforce already.",
    Telling.REFUSED: "Salesforce could not be told that this person unsubscribed.",
    Telling.NOTHING_TO_TELL: "There is nothing to tell Salesforce.",
    Telling.NOT_WANTED: "Salesforce isn't told: your firm has not asked for it.",
    Telling.EARLIER: "Salesforce wasn't told: your firm asked for it only later.",
}
ASK_ADMIN = "Ask your firm's Salesforce admin."

UNTOLD: Mapping[str, UntoldWords] = {
    Untold.NO_ANSWER: UntoldWords("No answer", "Salesforce didn't answer. It is tried again by itself."),
    Untold.NO_CALLS: UntoldWords(
        "No calls left", "Your firm has used its Salesforce calls for now. It is tried again by itself."
    ),
    Untold.RECONNECT: UntoldWords(
        "Needs reconnecting",
        "Your connection to Salesforce needs renewing.",
        "Connect again under Integrations; then it goes on by itself.",
    ),
    Untold.BUSY: UntoldWords("Record in use", "Someone or something else was changing the record at that moment."),
    Untold.IN_APPROVAL: UntoldWords(
        "In an approval process",
        "The record is in an approval process, which locks it. It is tried again every day.",
    ),
    Untold.FIRMS_CODE: UntoldWords(
        "Stopped by the firm's own code", "Your firm's own automation in Salesforce stopped it: “{words}”", ASK_ADMIN
    ),
    Untold.FIELD_LOCKED: UntoldWords(
        "Email Opt Out can't be set",
        "Your Salesforce user may see the opt-out box, but not tick it. It is tried again by itself.",
        "Ask your firm's Salesforce admin to let advisors edit Email Opt Out on contacts and leads.",
    ),
    Untold.FIELD_HIDDEN: UntoldWords(
        "Email Opt Out is hidden",
        "Your Salesforce user can't see the opt-out box. It is tried again by itself.",
        "Ask your firm's Salesforce admin to let advisors see and edit Email Opt Out on contacts and leads.",
    ),
    Untold.NO_EDIT: UntoldWords(
        "Record may not be edited",
        "Your Salesforce user may not edit this record.",
        "Ask your firm's Salesforce admin for the right to edit it, then try again.",
    ),
    Untold.FIRMS_RULE: UntoldWords(
        "Stopped by a rule of the firm",
        "A rule of your firm in Salesforce stopped it: “{words}”",
        "Put the record right in Salesforce, then try again.",
    ),
    Untold.DUPLICATE_RULE: UntoldWords(
        "Stopped by a duplicate rule",
        "A duplicate rule of your firm stopped it: the record looks like another one.",
        "Merge the two in Salesforce, or tick Email Opt Out there yourself.",
    ),
    Untold.SET_UP: UntoldWords(
        "Something in Salesforce's set-up",
        "Your firm's Salesforce doesn't let us do that for now. It is tried again by itself.",
        ASK_ADMIN,
    ),
    Untold.PERSON: UntoldWords(
        "Person account can't be changed",
        "This person account can't be changed through the API.",
        "Tick Email Opt Out there yourself, or ask your firm's Salesforce admin.",
    ),
    Untold.UNKNOWN_REFUSAL: UntoldWords(
        "Refused in words we don't know", "Salesforce answered in words we don't know: “{words}”", ASK_ADMIN
    ),
    Untold.DELETED: UntoldWords("Deleted", "The record is deleted in Salesforce."),
    Untold.MERGED: UntoldWords(
        "Merged", "The record was merged into another one in Salesforce, and that one is told of instead."
    ),
    Untold.CONVERTED: UntoldWords(
        "Converted", "The lead was converted in Salesforce, and its contact is told of instead."
    ),
    Untold.REASSIGNED: UntoldWords("Another owner", "The record belongs to someone else in Salesforce."),
    Untold.NOT_VISIBLE: UntoldWords(
        "No longer visible", "The record is deleted for good in Salesforce, or hidden from you: it doesn't say which."
    ),
    Untold.OUR_BUG: UntoldWords("A fault of ours", "Something went wrong on our side. It is tried again by itself."),
}


def words_of(why: str | None, words: str | None) -> UntoldWords | None:
    """Return why Salesforce isn't told, with the firm's own words filled in."""
    found = UNTOLD.get(why or "")
    if found is None:
        return None
    says = found.says.format(words=words) if words else found.says.replace(": “{words}”", ".")
    return found._replace(says=says)
