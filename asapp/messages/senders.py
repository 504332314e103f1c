"""What senders are told: each reason, and who acts (/api/docs, openapi.json, docs/senders.md); and what a key may do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from asapp.models import Reason, Scope
from asapp.models.send import SendReason


class SenderReason(StrEnum):
    """Why an address may not be written to, beside Reason: only senders are told these."""

    HELD = "held"  # waits in a proposal for the advisor's decision
    NOT_A_CONTACT = "not_a_contact"


class ReasonForSenders(NamedTuple):
    """means: for programmers of a sender. acts: who has to do what, or what passes by itself."""

    means: str
    acts: str

    @property
    def text(self) -> str:
        return f"{self.means} Who acts: {self.acts[0].lower()}{self.acts[1:]}"


SCOPES: Mapping[Scope, str] = {
    Scope.AUDIENCE_READ: "Read who may be written to, and prepare sends",
    Scope.EVENTS_WRITE: "Report unsubscribes, complaints and bounces",
}
_AGAIN = "No one. Prepare another send a few minutes later."
_SIGNS_UP = "The person alone, by signing up again on the advisor's page."

# Each of them is about the list as a whole. A send that has ended stays as it is: another one is prepared, with a new id.
SEND_REASONS: Mapping[str, ReasonForSenders] = {
    SendReason.NOT_SET_UP: ReasonForSenders(
        "The firm is disabled, or its Salesforce is not set up yet.", "An AdvisorStream admin."
    ),
    SendReason.ADVISOR_INACTIVE: ReasonForSenders("The advisor was deactivated.", "An AdvisorStream admin."),
    SendReason.DISCONNECTED: ReasonForSenders(
        "The list has people from Salesforce, and the advisor's account is disconnected.",
        "The advisor, with Connect Account under Integrations.",
    ),
    SendReason.NEEDS_RECONNECT: ReasonForSenders(
        "Salesforce no longer accepts the advisor's connection.",
        "The advisor, by connecting again under Integrations. A mail has told them.",
    ),
    SendReason.API_ALLOWANCE: ReasonForSenders(
        "The firm's share of Salesforce calls is used up, or Salesforce takes no more calls of the firm's today.",
        "No one. It passes within hours. If it comes often, an AdvisorStream admin looks at the firm's share.",
    ),
    SendReason.WAITING_FOR_ADMIN: ReasonForSenders(
        "Something in the firm's Salesforce keeps us from reading, such as a hidden opt-out field.",
        "The firm's Salesforce admin. The advisor finds the text to forward under Integrations.",
    ),
    SendReason.SALESFORCE_AWAY: ReasonForSenders("Salesforce gave no answer, or none that could be read.", _AGAIN),
    SendReason.CANCELLED: ReasonForSenders("The advisor cancelled the sync that the send waited for.", _AGAIN),
    SendReason.TOOK_TOO_LONG: ReasonForSenders(
        "Salesforce was not asked about everyone on the list within five minutes.", _AGAIN
    ),
}

# Each of them is about one address. It may not be written to, whatever the reason.
MAY_SEND_REASONS: Mapping[str, ReasonForSenders] = {
    Reason.UNSUBSCRIBED: ReasonForSenders(
        "The person unsubscribed from this advisor's mails, or from those of the whole firm.", _SIGNS_UP
    ),
    Reason.COMPLAINED: ReasonForSenders("The person marked a mail of this advisor's as spam.", _SIGNS_UP),
    Reason.BOUNCED: ReasonForSenders(
        "Mail to this address came back for good: you reported it, or Salesforce says so.",
        "The advisor, by correcting the address, or by allowing it to be tried again.",
    ),
    Reason.OPTED_OUT: ReasonForSenders(
        "The person has opted out in Salesforce, or may have: the consent record there can't be seen.",
        "The advisor, in Salesforce, and only if the person asks for it.",
    ),
    Reason.TWIN_OPTED_OUT: ReasonForSenders(
        "Another record of the advisor's in Salesforce has this address and has opted out.",
        "The advisor, by correcting the wrong record in Salesforce, or by merging the two.",
    ),
    Reason.DELETED: ReasonForSenders(
        "The record was deleted in Salesforce.", "The advisor, by restoring it there, if that was a mistake."
    ),
    Reason.MERGED: ReasonForSenders(
        "The record was merged into another one in Salesforce.", "No one. The other record has taken its place."
    ),
    Reason.REASSIGNED: ReasonForSenders(
        "The record belongs to another user in Salesforce.",
        "The firm's Salesforce admin, if this is the advisor's client.",
    ),
    Reason.GONE: ReasonForSenders(
        "The record was deleted for good in Salesforce, or is hidden from the advisor's user: Salesforce doesn't say which.",
        "The firm's Salesforce admin, if it should be there.",
    ),
    Reason.HIDDEN_HERE: ReasonForSenders("The advisor deleted the contact here.", "The advisor, with Restore."),
    Reason.DISCONNECTED: ReasonForSenders(
        "The advisor's Salesforce account is disconnected, so we can't tell who has opted out since; or the firm is disabled or "
        "stopped, and no one is emailed for it.",
        "The advisor, with Connect Account under Integrations; an AdvisorStream admin, where the firm is disabled.",
    ),
    Reason.OPT_OUT_UNKNOWN: ReasonForSenders(
        "We can't tell whether the person has opted out: no good sync for too long, a field that can't be seen, or a sign-up "
        "that waits.",
        "The advisor. The contact's page says what it waits for.",
    ),
    SenderReason.HELD: ReasonForSenders(
        "Salesforce may have said that the contact left, together with many others, and the advisor has not decided yet.",
        "The advisor, by deciding under Integrations.",
    ),
    SenderReason.NOT_A_CONTACT: ReasonForSenders("No contact of the advisor's has this address.", "No one."),
}
