"""The words of the page Changes and of the mails about changes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from asapp.messages.contacts import REASONS
from asapp.messages.runs import BACK_REASONS, why_off
from asapp.models import ContactSource, Reason
from asapp.models.run import Also, Skipped


class ChangeKind(StrEnum):
    """What happened to a contact, in the order in which a day tells it."""

    OPTED_OUT = "opted_out"  # in Salesforce, or on our side: unsubscribed, complained
    BOUNCED = "bounced"
    LEFT = "left"
    ADDED = "added"
    BACK = "back"
    CHANGED = "changed"


LOSSES = (ChangeKind.OPTED_OUT, ChangeKind.BOUNCED, ChangeKind.LEFT)
GAINS = (ChangeKind.ADDED, ChangeKind.BACK)
TALLIED: Mapping[str, str] = {
    ChangeKind.OPTED_OUT: "opted out or unsubscribed",
    ChangeKind.BOUNCED: "bounced",
    ChangeKind.LEFT: "left",
    ChangeKind.ADDED: "added",
    ChangeKind.BACK: "active again",
    ChangeKind.CHANGED: "changed",
}
FILTERS: Mapping[str, str] = {kind: words[0].upper() + words[1:] for kind, words in TALLIED.items()}

# What is said about one change, by its reason; the first word stands in the column "What".
UNSUBSCRIBED: Mapping[str, str] = {
    Reason.UNSUBSCRIBED: "Unsubscribed",
    Reason.COMPLAINED: "Complained",
    Also.SUPPRESSED: "Unsubscribed",
}
DETAILS: Mapping[str, str] = {
    Reason.OPTED_OUT: "Opted out of email in Salesforce.",
    Skipped.CONSENT_HIDDEN: "The consent record can't be seen in Salesforce, which counts as opted out.",
    Reason.TWIN_OPTED_OUT: "Another record of yours with this address opted out.",
    Reason.UNSUBSCRIBED: "By the link in an email.",
    Reason.COMPLAINED: "Reported an email as spam.",
    Reason.BOUNCED: "Email to this address bounced.",
    Also.SUPPRESSED: "The new address had unsubscribed, complained or bounced.",
    Reason.DELETED: "Deleted in Salesforce. It returns if it is restored there.",
    Reason.MERGED: "Merged into another record in Salesforce.",
    Reason.REASSIGNED: "Belongs to someone else in Salesforce now.",
    Reason.GONE: "Deleted for good in Salesforce, or no longer visible to you.",
    Reason.HIDDEN_HERE: "You deleted this contact here.",
    Skipped.NO_EMAIL: "Lost the email address in Salesforce.",
}
ADDED_BY: Mapping[str, str] = {
    ContactSource.SALESFORCE: "Came from Salesforce.",
    ContactSource.LEAD: "Signed up on your page.",
    ContactSource.MANUAL: "You added this contact by hand.",
}
ADOPTED = "You had added this contact by hand; it follows Salesforce now."


def what(kind: str, reason: str | None) -> str:
    """Return the word for a change: `Added`, `Left`, `Unsubscribed`."""
    if kind == ChangeKind.OPTED_OUT:
        return UNSUBSCRIBED.get(reason or "", "Opted out")
    return FILTERS[kind]


def details(kind: str, reason: str | None, owner: str = "") -> str:
    """Return one sentence about a change; empty if there is nothing to add, as for changed fields.

    owner: the name of the one who owns the contact now, if it was given to another user.
    """
    if kind == ChangeKind.ADDED:
        return ADDED_BY.get(reason or "", "")
    if kind == ChangeKind.BACK:
        words = BACK_REASONS.get(reason or "", "")
        return f"{words}." if words else ""
    if kind == ChangeKind.CHANGED:
        return ADOPTED if reason == ADOPTED_REASON else _changed(reason)
    if reason == Reason.REASSIGNED and owner:
        return f"{why_off(reason, owner)}."
    return DETAILS.get(reason or "", "")


ADOPTED_REASON = "adopted"


def _changed(reason: str | None) -> str:
    return f"{REASONS[reason].short}." if reason and reason in REASONS else ""


LEFT_IN_A_MAIL: Mapping[str, str] = {
    Reason.DELETED: "deleted in Salesforce",
    Reason.MERGED: "merged into another record",
    Reason.REASSIGNED: "who belongs to {owner} now",
    Reason.GONE: "no longer visible in Salesforce",
    Reason.HIDDEN_HERE: "deleted here by you",
}


def in_a_mail(name: str, kind: str, reason: str | None, owner: str = "") -> str:
    """Return a person's name, and where to if the person left. owner: as in details()."""
    why = LEFT_IN_A_MAIL.get(reason or "", "").format(owner=owner or "someone else") if kind == ChangeKind.LEFT else ""
    return f"{name} ({why})" if why else name
