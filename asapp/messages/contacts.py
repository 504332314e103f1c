"""Why a contact is not written to: a short text for tables, and what it means and what to do for pages."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from asapp.models import ContactSource, Reason
from asapp.models.contact import State
from asapp.salesforce.errors import Again


class UnknownWhy(StrEnum):
    """A more exact reason than Reason: why a contact's opt-out is not known, or counts unseen, what a Lead became, or that it
    is the firm that is disabled.
    """

    FOR_REVIEW = "for_review"  # a sign-up that waits for the advisor
    OUT_OF_SIGHT = "out_of_sight"  # Salesforce no longer shows this contact alone
    LEADS_OFF = "leads_off"  # an open Lead, and the firm doesn't bring them in now
    CONVERTED = "converted"  # a Lead whose contact isn't here
    CONSENT_HIDDEN = "consent_hidden"  # counts as opted out, since the consent record can't be seen
    FIRM_DISABLED = "firm_disabled"


class Answer(StrEnum):
    HERE = "here"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    BOUNCED = "bounced"
    OPTED_OUT = "opted_out"
    TWIN_OPTED_OUT = "twin_opted_out"
    NO_EMAIL = "no_email"
    SOMEBODY_ELSES = "somebody_elses"
    MERGED = "merged"
    DELETED = "deleted"
    REMOVED_HERE = "removed_here"
    ERASED = "erased"
    HELD = "held"
    KEPT = "kept"
    NOT_VISIBLE = "not_visible"
    ON_ITS_WAY = "on_its_way"
    DISCONNECTED = "disconnected"
    OPT_OUT_UNKNOWN = "opt_out_unknown"
    FOR_REVIEW = "for_review"
    OUT_OF_SIGHT = "out_of_sight"
    LEADS_OFF = "leads_off"
    CONVERTED = "converted"
    CONSENT_HIDDEN = "consent_hidden"
    FIRM_DISABLED = "firm_disabled"
    NOT_CONNECTED = "not_connected"
    ENCRYPTED = "encrypted"
    NO_ANSWER = "no_answer"


class ReasonWords(NamedTuple):
    label: str  # in the filter
    short: str  # under the name of the state
    meaning: str
    remedy: str


REASONS: Mapping[str, ReasonWords] = {
    Reason.UNSUBSCRIBED: ReasonWords(
        "Unsubscribed",
        "Unsubscribed from your emails",
        "This person unsubscribed from your emails, so nothing is sent to this address.",
        "Only the person can change this, by signing up again on your page.",
    ),
    Reason.COMPLAINED: ReasonWords(
        "Marked as spam",
        "Marked an email of yours as spam",
        "This person marked one of your emails as spam, so nothing is sent to this address.",
        "Only the person can change this, by signing up again on your page.",
    ),
    Reason.BOUNCED: ReasonWords(
        "Bounced",
        "Email to this address bounced",
        "Email to this address came back for good, so nothing is sent to it.",
        "Put the person's right address into Salesforce. It follows with the next sync.",
    ),
    Reason.OPTED_OUT: ReasonWords(
        "Opted out",
        "Opted out of email in Salesforce",
        "The opt-out box is ticked on this record in Salesforce, so nothing is sent.",
        "Only if this person asks for email again: untick the box in Salesforce. It follows with the next sync.",
    ),
    Reason.TWIN_OPTED_OUT: ReasonWords(
        "Same address opted out",
        "Opted out under another record",
        "Another record of yours in Salesforce has the same address and has opted out. The stricter choice counts.",
        "Check which record is right, or merge the two in Salesforce.",
    ),
    Reason.DELETED: ReasonWords(
        "Deleted in Salesforce",
        "Deleted in Salesforce",
        "The record was deleted in Salesforce.",
        "If that was a mistake, restore it from Salesforce's Recycle Bin. It returns with the next sync.",
    ),
    Reason.MERGED: ReasonWords(
        "Merged in Salesforce",
        "Merged into another record in Salesforce",
        "The record was merged into another one in Salesforce.",
        "Nothing. The surviving record has taken over the lists.",
    ),
    Reason.REASSIGNED: ReasonWords(
        "Belongs to someone else",
        "Belongs to someone else in Salesforce now",
        "The record has another owner in Salesforce. You only ever get the contacts that you own.",
        "If this is your client, ask your Salesforce admin to make you the owner. It returns with the "
        "next sync, and is active unless the opt-out box is ticked on it.",
    ),
    Reason.GONE: ReasonWords(
        "No longer visible",
        "No longer visible in Salesforce",
        "The record was deleted for good, or your Salesforce user can't see it any more. Salesforce doesn't say which.",
        "If it should be there, ask your Salesforce admin.",
    ),
    Reason.HIDDEN_HERE: ReasonWords(
        "Deleted here",
        "Deleted here by you",
        "You deleted this contact here. Nothing was deleted in Salesforce, and syncs don't bring it back.",
        "Press Restore to bring it back.",
    ),
    Reason.DISCONNECTED: ReasonWords(
        "Disconnected",
        "Salesforce is disconnected",
        "Your Salesforce account was disconnected, so we can't tell who has opted out since.",
        "Connect it again under Integrations.",
    ),
    Reason.OPT_OUT_UNKNOWN: ReasonWords(
        "Opt-out not known",
        "We can't tell whether this person opted out",
        "There was no good sync for too long, or your Salesforce user can't see who has opted out of email.",
        "Open Integrations: the panel says what to do. The next good sync fixes it.",
    ),
    UnknownWhy.FOR_REVIEW: ReasonWords(
        "Opt-out not known",
        "Signed up, and waits: see Leads",
        "This person signed up, and waits: the link in our email has not been opened, or very many people signed up that "
        "day, or your page was paused. Nothing is sent until then.",
        "Leads says what it waits for. If it waits for you, press Send them there; if it looks made up, delete it here first.",
    ),
    UnknownWhy.OUT_OF_SIGHT: ReasonWords(
        "Opt-out not known",
        "Salesforce no longer shows this contact",
        "Salesforce no longer shows this contact, so we can't see whether this person has opted out.",
        "Decide under Integrations, or ask your Salesforce admin to give it back.",
    ),
    UnknownWhy.LEADS_OFF: ReasonWords(
        "Opt-out not known",
        "Open leads are not brought in now",
        "This is an open lead, and your firm doesn't bring in open leads now, so we can't see whether this person has opted out.",
        "Convert the lead to a contact in Salesforce, or ask AdvisorStream to bring in your firm's open leads. "
        "If that has just been done, the next sync makes this person active again.",
    ),
    UnknownWhy.CONVERTED: ReasonWords(
        "Converted in Salesforce",
        "Converted to a contact in Salesforce",
        "The lead was converted to a contact in Salesforce, and that contact isn't here: it has opted out, has no email address, "
        "or belongs to someone else.",
        "Look at the contact in Salesforce. Once it may come in, it takes over this person's lists.",
    ),
    UnknownWhy.CONSENT_HIDDEN: ReasonWords(
        "Consent record not visible",
        "Consent record not visible, which counts as opted out",
        "Your Salesforce user can't see this person's consent record, so we can't tell whether this person has opted out. "
        "That counts as opted out, so nothing is sent.",
        "Ask your Salesforce admin to let you see the consent record (in Salesforce: Individual). Unless this person has opted "
        "out there, this person is active within a day.",
    ),
    UnknownWhy.FIRM_DISABLED: ReasonWords(
        "Disconnected",
        "Salesforce is switched off for your firm",
        "AdvisorStream has switched Salesforce off for your firm. Until it is on again, nothing is sent to anyone.",
        "Ask your AdvisorStream contact. Nothing was lost.",
    ),
}

STATES: Mapping[str, str] = {
    State.ACTIVE: "Active",
    State.HELD: "Waiting for your decision",
    State.INACTIVE: "Inactive",
    State.SHARES_ADDRESS: "Shares an address",
    **{reason: REASONS[reason].label for reason in Reason},
}

SOURCES: Mapping[str, str] = {
    ContactSource.SALESFORCE: "Salesforce",
    ContactSource.SALESFORCE_LEAD: "Open lead in Salesforce",
    ContactSource.LEAD: "Sign-up page",
    ContactSource.MANUAL: "Added by hand",
}


class Where(StrEnum):
    """The page on which to act."""

    HERE = "here"
    INTEGRATIONS = "integrations"
    LEADS = "leads"


class VerdictWords(NamedTuple):
    """The headline has {who}, and {owner} if it names one."""

    pill: str
    tone: str  # good, warn or "" (plain)
    headline: str
    meaning: str
    remedy: str
    where: Where = Where.HERE

    @property
    def is_at_integrations(self) -> bool:
        return self.where == Where.INTEGRATIONS

    @property
    def is_at_leads(self) -> bool:
        return self.where == Where.LEADS


VERDICTS: Mapping[Answer, VerdictWords] = {
    Answer.HERE: VerdictWords("Here", "good", "{who} is here", "Synced and active.", "Open the contact."),
    Answer.OPTED_OUT: VerdictWords(
        "Opted out",
        "",
        "{who} has opted out of email",
        "The opt-out box is ticked in Salesforce.",
        "Only if the person asks for it: untick the box in Salesforce.",
    ),
    Answer.UNSUBSCRIBED: VerdictWords(
        "Unsubscribed",
        "",
        "{who} has unsubscribed from your emails",
        "This person unsubscribed here. What Salesforce says does not change that.",
        "Only the person can change this, by signing up again on your page.",
    ),
    Answer.COMPLAINED: VerdictWords(
        "Marked as spam",
        "",
        "{who} marked an email of yours as spam",
        "Nothing is sent to a person who reported your emails as spam.",
        "Only the person can change this, by signing up again on your page.",
    ),
    Answer.BOUNCED: VerdictWords(
        "Bounced",
        "",
        "Email to {who} bounced",
        "Email to this address came back for good, so nothing is sent to it.",
        "Put the person's right address into Salesforce. It follows with the next sync.",
    ),
    Answer.TWIN_OPTED_OUT: VerdictWords(
        "Same address opted out",
        "",
        "{who} has opted out under another record",
        "Another record of yours with this address has opted out.",
        "Check which record is right, or merge the two in Salesforce.",
    ),
    Answer.NO_EMAIL: VerdictWords(
        "No email",
        "",
        "{who} has no email address in Salesforce",
        "Without an address there is nothing to send to, so the contact isn't copied.",
        "Add one in Salesforce. The contact arrives with the next sync.",
    ),
    Answer.SOMEBODY_ELSES: VerdictWords(
        "Someone else's",
        "warn",
        "{who} belongs to {owner}",
        "The contact is in Salesforce, but another person owns it. You only ever get the contacts that you own.",
        "If this is your client, ask the owner or your Salesforce admin to make you the owner. "
        "The contact arrives with the next sync.",
    ),
    Answer.MERGED: VerdictWords(
        "Merged",
        "",
        "{who} was merged into another record",
        "Two records of one person became one there.",
        "Nothing. The surviving record has taken over the lists.",
    ),
    Answer.DELETED: VerdictWords(
        "Deleted",
        "",
        "{who} was deleted in Salesforce",
        "Only what exists there can come in here.",
        "Restore it from Salesforce's Recycle Bin.",
    ),
    Answer.REMOVED_HERE: VerdictWords(
        "Deleted here",
        "",
        "You deleted {who} here",
        "In Salesforce nothing was deleted, and syncs don't bring the contact back.",
        "Press Restore.",
    ),
    Answer.ERASED: VerdictWords(
        "Erased",
        "",
        "You erased {who} on request",
        "Name and address were erased here for good, and syncs bring nothing of this person back.",
        "Nothing. Only the person can come back, by signing up again on your page.",
    ),
    Answer.HELD: VerdictWords(
        "Held",
        "warn",
        "{who} waits for your decision",
        "A sync found that this contact has left, together with many others. The change waits for your decision.",
        "Decide under Integrations: switch it off, or keep it.",
        where=Where.INTEGRATIONS,
    ),
    Answer.KEPT: VerdictWords(
        "Kept",
        "good",
        "{who} is here by your decision",
        "{left}. You decided to keep this contact, so it is active here and on its lists.",
        "Settle who this contact belongs to. You can change your decision under Integrations.",
        where=Where.INTEGRATIONS,
    ),
    Answer.NOT_VISIBLE: VerdictWords(
        "Not visible",
        "",
        "Salesforce shows you no such contact",
        "Your Salesforce user can't see such a record: there is none, it was deleted for good, or it is hidden from you.",
        "Check the address, or ask your Salesforce admin.",
    ),
    Answer.ON_ITS_WAY: VerdictWords(
        "On its way",
        "good",
        "{who} is yours and not here yet",
        "This contact is yours and can be emailed. It was added or changed after the last sync.",
        "Press Sync Account under Integrations, or wait for the next sync.",
        where=Where.INTEGRATIONS,
    ),
    Answer.DISCONNECTED: VerdictWords(
        "Disconnected",
        "",
        "{who} is here, but Salesforce is disconnected",
        "Since then we can't tell who has opted out, so nothing is sent.",
        "Connect Salesforce again under Integrations.",
        where=Where.INTEGRATIONS,
    ),
    Answer.OPT_OUT_UNKNOWN: VerdictWords(
        "Opt-out not known",
        "warn",
        "We can't tell whether {who} opted out",
        "There was no good sync for too long, or your Salesforce user can't see who has opted out of email.",
        "Open Integrations: the panel says what to do.",
        where=Where.INTEGRATIONS,
    ),
    Answer.FOR_REVIEW: VerdictWords(
        "Waits for you",
        "warn",
        "{who} waits for you on Leads",
        REASONS[UnknownWhy.FOR_REVIEW].meaning,
        REASONS[UnknownWhy.FOR_REVIEW].remedy,
        where=Where.LEADS,
    ),
    Answer.OUT_OF_SIGHT: VerdictWords(
        "Not visible",
        "warn",
        "Salesforce no longer shows {who}",
        REASONS[UnknownWhy.OUT_OF_SIGHT].meaning,
        REASONS[UnknownWhy.OUT_OF_SIGHT].remedy,
        where=Where.INTEGRATIONS,
    ),
    Answer.LEADS_OFF: VerdictWords(
        "Open lead",
        "",
        "{who} is an open lead",
        "Your firm doesn't bring in open leads now, so nothing is sent to them.",
        "Convert the lead to a contact in Salesforce. The contact arrives with the next sync.",
    ),
    Answer.CONVERTED: VerdictWords(
        "Converted",
        "",
        "{who} was converted to a contact",
        "The lead became a contact in Salesforce.",
        "Nothing. The contact takes over the lists. If you don't find it here, paste its link from Salesforce above.",
    ),
    Answer.CONSENT_HIDDEN: VerdictWords(
        "Consent not visible",
        "warn",
        "{who} counts as opted out: the consent record can't be seen",
        REASONS[UnknownWhy.CONSENT_HIDDEN].meaning,
        REASONS[UnknownWhy.CONSENT_HIDDEN].remedy,
    ),
    Answer.FIRM_DISABLED: VerdictWords(
        "Disconnected",
        "",
        "{who} is here, but Salesforce is switched off for your firm",
        REASONS[UnknownWhy.FIRM_DISABLED].meaning,
        REASONS[UnknownWhy.FIRM_DISABLED].remedy,
    ),
    Answer.NOT_CONNECTED: VerdictWords(
        "Not connected",
        "",
        "{who} isn't here, and Salesforce isn't connected",
        "We know no one by that, and can't ask Salesforce.",
        "Connect Salesforce under Integrations, then ask again.",
        where=Where.INTEGRATIONS,
    ),
    Answer.ENCRYPTED: VerdictWords(
        "Not by address",
        "warn",
        "{who} isn't here, and Salesforce can't be asked by address",
        "Your firm's Salesforce keeps email addresses encrypted, so contacts can't be found there by address.",
        "Open the contact in Salesforce, copy the link of its page, and paste that here.",
    ),
    Answer.NO_ANSWER: VerdictWords(
        "No answer",
        "warn",
        "Salesforce gave no answer",
        "We know no one by that, and Salesforce couldn't be asked.",
        "Ask again in a few minutes.",
    ),
}
# Listed on the page beforehand; the others explain themselves when they come.
USUAL_ANSWERS = (
    Answer.HERE,
    Answer.UNSUBSCRIBED,
    Answer.BOUNCED,
    Answer.OPTED_OUT,
    Answer.TWIN_OPTED_OUT,
    Answer.NO_EMAIL,
    Answer.SOMEBODY_ELSES,
    Answer.MERGED,
    Answer.DELETED,
    Answer.REMOVED_HERE,
    Answer.ERASED,
    Answer.HELD,
    Answer.ON_ITS_WAY,
    Answer.NOT_VISIBLE,
)


def verdict_words(answer: Answer, who: str, owner_name: str = "", left: str = "") -> VerdictWords:
    """Return the text of a verdict with its names filled in.

    who: how to refer to the person asked about. left: how a contact that was kept has left in Salesforce.
    """
    words = VERDICTS[answer]
    headline = words.headline.format(who=who, owner=owner_name or "someone else")
    meaning = words.meaning.format(left=left) if answer == Answer.KEPT else words.meaning
    return words._replace(headline=headline[0].upper() + headline[1:], meaning=meaning)


class NoAnswerWords(NamedTuple):
    happened: str
    remedy: str
    where: Where = Where.HERE

    @property
    def is_at_integrations(self) -> bool:
        return self.where == Where.INTEGRATIONS


_UNREACHABLE = NoAnswerWords("Salesforce can't be reached right now.", "Ask again in a few minutes.")
# Why Salesforce gave no answer, by what is tried again after the error.
NO_ANSWERS: Mapping[Again, NoAnswerWords] = {
    Again.AFTER_CONNECTING: NoAnswerWords(
        "Your connection to Salesforce needs renewing.",
        "Connect again under Integrations, then ask again.",
        where=Where.INTEGRATIONS,
    ),
    Again.WHEN_FREE: NoAnswerWords(
        "Your firm's Salesforce has used up its calls for now.", "Ask again in an hour or two."
    ),
    Again.NEXT_RUN: NoAnswerWords(
        "Your Salesforce user isn't allowed to read what this needs.",
        "Sync Account under Integrations: the panel then holds the text for your Salesforce admin.",
        where=Where.INTEGRATIONS,
    ),
    Again.SOON: _UNREACHABLE,
    Again.AT_ONCE: _UNREACHABLE,
    Again.ON_RETRY: _UNREACHABLE,
}
