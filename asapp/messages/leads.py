"""The messages about a lead's state, for the table. Why a lead was refused or waits is in messages/failures.py."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from asapp.messages.failures import Facts, Failure, Occasion, explain
from asapp.models import (
    Connection,
    ConsentEvent,
    ConsentKind,
    ConsentSource,
    Lead,
    LinkedKind,
    Review,
    ToCheck,
    Unfollowed,
)


class Shown(StrEnum):
    """The state of a lead as /leads shows it; leads/queries.py decides it."""

    RECEIVED = "received"
    WAITING = "waiting"
    SENT = "sent"
    LINKED = "linked"
    REFUSED = "refused"
    PLEASE_CHECK = "please_check"
    CONVERTED = "converted"
    OPTED_OUT = "opted_out"
    CONSENT_HIDDEN = "consent_hidden"
    DELETED = "deleted"
    FOR_REVIEW = "for_review"
    NOT_CONFIRMED = "not_confirmed"


LABELS: Mapping[str, str] = {
    Shown.RECEIVED: "Received",
    Shown.WAITING: "Waiting",
    Shown.SENT: "Sent",
    Shown.LINKED: "Linked",
    Shown.REFUSED: "Refused",
    Shown.PLEASE_CHECK: "Please check",
    Shown.FOR_REVIEW: "Waits for you",
    Shown.NOT_CONFIRMED: "Not confirmed",
    Shown.CONVERTED: "Converted",
    Shown.OPTED_OUT: "Opted out",
    Shown.CONSENT_HIDDEN: "Consent record not visible",
    Shown.DELETED: "Deleted",
}
TONES: Mapping[str, str] = {
    Shown.RECEIVED: "busy",
    Shown.WAITING: "warn",
    Shown.SENT: "good",
    Shown.LINKED: "good",
    Shown.REFUSED: "bad",
    Shown.PLEASE_CHECK: "warn",
    Shown.FOR_REVIEW: "warn",
    Shown.NOT_CONFIRMED: "",
    Shown.CONVERTED: "good",
    Shown.OPTED_OUT: "",
    Shown.CONSENT_HIDDEN: "",
    Shown.DELETED: "",
}
MEANINGS: Mapping[str, str] = {
    Shown.RECEIVED: "Stored a moment ago. It is on its way.",
    Shown.OPTED_OUT: "Opted out in Salesforce. Inactive here.",
    Shown.CONSENT_HIDDEN: "The consent record can't be seen in Salesforce, which counts as opted out. Inactive here.",
}

# Of a person who opted out there and has asked for email on the page since, or all the same.
ASKED_ALL_THE_SAME = (
    "Has opted out in Salesforce, and signing up here doesn't change that: nothing is sent. Ask this person; if they want your "
    "emails, untick Email Opt Out in Salesforce."
)


class Hold(StrEnum):
    """Why none of an advisor's leads are sent at the moment."""

    NOT_SET_UP = "not_set_up"
    NOT_CONNECTED = "not_connected"
    DISCONNECTED = "disconnected"
    NEEDS_RECONNECT = "needs_reconnect"
    PAUSED = "paused"
    NO_CALLS = "no_calls"


HOLDS: Mapping[str, str] = {
    Hold.NOT_SET_UP: "Your firm's Salesforce isn't set up yet. Leads are kept here and go out when you have connected.",
    Hold.NOT_CONNECTED: "Salesforce isn't connected yet. Leads are kept here and go out when you connect.",
    Hold.DISCONNECTED: "Salesforce is disconnected. Leads are kept here and go out when you connect again.",
    Hold.NEEDS_RECONNECT: "Your connection to Salesforce needs renewing. Leads are kept here and go out when you connect again.",
    Hold.PAUSED: "Your firm has used its Salesforce calls for now. Leads are kept here and go out by themselves.",
    Hold.NO_CALLS: "Sign-ups at your firm have used the Salesforce calls that are set aside for them. Leads are kept here and go "
    "out by themselves within a day. Syncs go on as always.",
}

UNFOLLOWED: Mapping[str, str] = {
    Unfollowed.MERGED: "Merged with another lead in Salesforce. Inactive here until the next sync has looked at that one.",
    Unfollowed.DOUBLE: "Merged in Salesforce with another person who signed up on your page. Inactive here.",
    Unfollowed.REASSIGNED: "Another user's in Salesforce now, where we can't see whether this person opts out. Inactive here.",
    Unfollowed.GONE: "Deleted for good in Salesforce, or hidden from you: it doesn't say which. Inactive here.",
}

REVIEWS: Mapping[str, str] = {
    Review.OVER_LIMIT: "Your page had reached its limit for the day. Stored here; it goes out when you press Send them.",
    Review.NOT_CONFIRMED: "Has not opened the link in our email yet. It goes to Salesforce when this person confirms.",
    Review.PAGE_PAUSED: "The form was open when you paused your page. Stored here; it goes out when you press Send them.",
}

CHECKS: Mapping[str, str] = {
    ToCheck.OUT_OF_SIGHT: "Salesforce didn't answer, and your firm gives new leads to other people, where you may not see them. "
    "Look in Salesforce, or ask a colleague, whether this person is there.",
    ToCheck.TRIED_ELSEWHERE: "It was on its way to the Salesforce account that you had connected before, and no answer came. "
    "Look there whether this person arrived.",
}


EMAIL_ENCRYPTED = (
    "Your firm's Salesforce keeps email addresses encrypted. Leads go out all the same. One thing is lost: we can't ask "
    "Salesforce by address whether a person is there already. We compare with the contacts of your last sync and with your "
    "newest open leads instead."
)


class EventWords(NamedTuple):
    title: str
    meaning: str


EVENTS: Mapping[tuple[str, str], EventWords] = {
    (ConsentKind.OPTED_IN, ConsentSource.FORM): EventWords("Opted in", "Signed up on your page"),
    (ConsentKind.OPTED_OUT, ConsentSource.SALESFORCE): EventWords("Opted out", "Opted out of email in Salesforce"),
    (ConsentKind.BACK_IN, ConsentSource.SALESFORCE): EventWords("Back in", "The opt-out was removed in Salesforce"),
    (ConsentKind.DELETED, ConsentSource.SALESFORCE): EventWords("Deleted", "Deleted in Salesforce"),
    (ConsentKind.RESTORED, ConsentSource.SALESFORCE): EventWords("Restored", "Restored in Salesforce"),
    (ConsentKind.ERASED, ConsentSource.ADVISOR): EventWords("Erased", "Erased here on request"),
}


CONFIRMED = EventWords("Confirmed", "Opened the link in our email")


def words_of(event: ConsentEvent) -> EventWords:
    return CONFIRMED if event.is_confirmation else EVENTS[event.kind, event.source]


def meaning_of(lead: Lead, shown: str, hold: str | None) -> str:
    """Return what the state means, in one sentence for the table."""
    if shown == Shown.OPTED_OUT and lead.asked_again_at is not None:
        return ASKED_ALL_THE_SAME
    if shown in MEANINGS:
        return MEANINGS[shown]
    if shown == Shown.WAITING:
        return HOLDS[hold] if hold else _why_it_waits(lead)
    if shown == Shown.REFUSED:
        return refusal_of(lead).headline
    if shown in (Shown.FOR_REVIEW, Shown.NOT_CONFIRMED):
        return REVIEWS[lead.why or Review.OVER_LIMIT]
    if shown == Shown.PLEASE_CHECK:
        return CHECKS.get(lead.why or "", CHECKS[ToCheck.OUT_OF_SIGHT])
    if shown == Shown.DELETED:
        return UNFOLLOWED.get(lead.why or "", "Deleted in Salesforce. Inactive here.")
    if not lead.is_followed:
        return UNFOLLOWED[lead.why or ""]
    if shown == Shown.CONVERTED:
        return "Became a contact in Salesforce."
    if shown == Shown.LINKED:
        kind = "contact" if lead.linked_kind == LinkedKind.CONTACT else "lead"
        return f"Was already your {kind} in Salesforce, so no lead was made."
    if lead.is_in_queue:
        return "A lead in Salesforce. Your firm's rules have put it in a queue."
    return "A lead in Salesforce."


def refusal_of(lead: Lead) -> Failure:
    """Return the words for a refused lead."""
    detail, words = lead.why_detail or "an error", lead.why_words or "no reason given"
    return explain(Occasion.LEAD_REFUSED, lead.why, Facts(first_name=lead.first_name, detail=detail, words=words))


def _why_it_waits(lead: Lead) -> str:
    wait = explain(Occasion.LEAD_WAITS, lead.why, Facts(first_name=lead.first_name))
    return f"{wait.headline} {wait.do_next}"


def explain_trouble(connection: Connection) -> Failure | None:
    """Return why Leads can't be read through a connection; None if they can."""
    if connection.leads_trouble is None:
        return None
    facts = Facts(opt_out_field=", ".join(connection.partner.opt_out_fields))
    return explain(Occasion.LEADS_UNFOLLOWED, connection.leads_trouble, facts)
