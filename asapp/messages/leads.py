"""What became of a lead, in words: short ones for the table, and what happened, what is safe and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from asapp.messages.fixed_by import FixedBy
from asapp.models import ConsentKind, ConsentSource, Lead, LeadState, LinkedKind, Review
from asapp.salesforce.fields import label_of


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
    DELETED = "deleted"
    FOR_REVIEW = "for_review"


LABELS: Mapping[str, str] = {
    Shown.RECEIVED: "Received",
    Shown.WAITING: "Waiting",
    Shown.SENT: "Sent",
    Shown.LINKED: "Linked",
    Shown.REFUSED: "Refused",
    Shown.PLEASE_CHECK: "Please check",
    Shown.FOR_REVIEW: "Waits for you",
    Shown.CONVERTED: "Converted",
    Shown.OPTED_OUT: "Opted out",
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
    Shown.CONVERTED: "good",
    Shown.OPTED_OUT: "",
    Shown.DELETED: "",
}


class Hold(StrEnum):
    """Why nothing of an advisor's goes out at the moment."""

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

_BY_ADVISORSTREAM = "AdvisorStream's team puts that right. Then it goes out by itself."
_BY_ADMIN = "Your firm's Salesforce admin has to put that right. Then it goes out by itself."
WAITS: Mapping[str, str] = {
    "no_answer": "Salesforce didn't answer when it was sent. We look for it there, so that it isn't made twice.",
    "checked": "You have looked, and it wasn't there. It is on its way.",
    "request_limit": "Your firm has used its Salesforce calls for now. It goes out by itself.",
    "share_used_up": "AdvisorStream's share of your firm's Salesforce calls is used up. It goes out by itself.",
    "leads_share_used_up": "Sign-ups at your firm have used the Salesforce calls that are set aside for them. It goes out by "
    "itself within a day.",
    "row_locked": "Salesforce was busy with other changes. It goes out by itself.",
    "record_locked": "An approval in Salesforce has locked a record for now. It goes out by itself.",
    "no_connection": "We couldn't reach Salesforce. It goes out by itself.",
    "maintenance": "Salesforce is being maintained. It goes out by itself.",
    "database_away": "Our own database was away for a moment. It goes out by itself.",
    # the firm's set-up, or ours: nothing that the advisor has to do
    "bad_key": f"Salesforce doesn't know your firm's Consumer Key. {_BY_ADVISORSTREAM}",
    "bad_secret": f"Salesforce doesn't take your firm's Consumer Secret any more. {_BY_ADVISORSTREAM}",
    "scope_missing": f"Your firm's app in Salesforce lacks a permission. {_BY_ADVISORSTREAM}",
    "redirect_mismatch": f"Your firm's app in Salesforce lacks our address. {_BY_ADVISORSTREAM}",
    "api_version_retired": f"We ask Salesforce in a way that it has retired. {_BY_ADVISORSTREAM}",
    "foreign_host": f"Your firm's Salesforce is at another address now. {_BY_ADVISORSTREAM}",
    "field_encrypted": f"Your firm's Salesforce keeps a field encrypted that we have to search by. {_BY_ADMIN}",
    "inactive_org": f"Your firm's Salesforce is locked or closed. {_BY_ADMIN}",
    "app_blocked": f"Your firm's Salesforce blocks AdvisorStream's app. {_BY_ADMIN}",
    "app_not_installed": f"AdvisorStream's app isn't installed in your firm's Salesforce. {_BY_ADMIN}",
    "key_missing": f"We can't open your Salesforce permission at the moment. {_BY_ADVISORSTREAM}",
    "our_bug": f"We asked Salesforce wrongly. {_BY_ADVISORSTREAM}",
    "not_admin_approved": f"Your Salesforce user isn't approved for AdvisorStream's app. {_BY_ADMIN}",
    "ip_restricted": f"Login hours or IP ranges of your Salesforce user shut us out. {_BY_ADMIN}",
    "api_disabled": f"Your Salesforce user may not use the API. {_BY_ADMIN}",
    "api_access_blocked": f"Your firm's Salesforce refuses AdvisorStream at its API. {_BY_ADMIN}",
    "query_too_large": f"Your firm's sharing rules make our question to Salesforce too large. {_BY_ADMIN}",
    "storage_full": f"Your firm's Salesforce is full. {_BY_ADMIN}",
    "org_limit": f"A limit of your firm's Salesforce is reached. {_BY_ADMIN}",
}
WAITS_OTHERWISE = "Something was in the way. It goes out by itself."

UNFOLLOWED: Mapping[str, str] = {
    "merged": "Merged with another lead in Salesforce. Inactive here until the next sync has looked at that one.",
    "double": "Merged in Salesforce with somebody else who signed up on your page. Inactive here.",
    "reassigned": "Somebody else's in Salesforce now, where we can't see whether this person opts out. Inactive here.",
    "gone": "Deleted for good in Salesforce, or hidden from you: it doesn't say which. Inactive here.",
}

REVIEWS: Mapping[str, str] = {
    Review.OVER_LIMIT: "Your page had reached its limit for the day. Stored here; it goes out when you press Send them.",
    Review.PAGE_PAUSED: "The form was open when you paused your page. Stored here; it goes out when you press Send them.",
}

CHECKS: Mapping[str, str] = {
    "out_of_sight": "Salesforce didn't answer, and your firm gives new leads to other people, where you may not see them. "
    "Look in Salesforce, or ask a colleague, whether this person is there.",
    "tried_elsewhere": "It was on its way to the Salesforce account that you had connected before, and no answer came. "
    "Look there whether this person arrived.",
}


@dataclass(frozen=True)
class Refusal:
    """Why Salesforce refused, in an advisor's words. forward: a text for the firm's Salesforce admin, where it helps.

    Braces are filled in: {detail}, a field's name or Salesforce's code; {words}, what Salesforce or the firm's admin wrote.
    """

    short: str
    happened: str
    next_step: str
    fixed_by: FixedBy
    forward: str = ""


ASK = "Ask your Salesforce admin, then press Retry."
REFUSALS: Mapping[str, Refusal] = {
    "required_field": Refusal(
        "Your firm requires “{detail}” on every lead.",
        "Your firm requires “{detail}” on every lead, and the sign-up page doesn't ask for it.",
        "Ask your Salesforce admin to give “{detail}” a default value, then press Retry.",
        FixedBy.FIRM_ADMIN,
        "Hello, AdvisorStream creates leads with first name, last name, email, company and lead source. Salesforce refuses "
        "them because {detail} is required. Please give this field a default value, or require it on the page layout only.",
    ),
    "validation_rule": Refusal(
        "A rule of your firm: “{words}”",
        "A validation rule of your firm refused it and says: “{words}”",
        "Ask your Salesforce admin to let leads with the source “AdvisorStream” pass, then press Retry.",
        FixedBy.FIRM_ADMIN,
        "Hello, a validation rule on Lead refuses leads from AdvisorStream with: “{words}”. Please let leads with our lead "
        "source pass it.",
    ),
    "duplicate": Refusal(
        "Salesforce has somebody like this already.",
        "A duplicate rule of your firm found somebody with the same address or a similar name, who may belong to a colleague.",
        "Look in Salesforce who it is. If it is somebody else after all, ask your Salesforce admin, then press Retry.",
        FixedBy.ADVISOR,
        "Hello, a duplicate rule on Lead refuses a lead from AdvisorStream. Please check whether the record that it matches "
        "is the same person.",
    ),
    "insufficient_access": Refusal(
        "Your Salesforce user may not create leads.",
        "Your Salesforce user has no permission to create leads.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, please give my user the permissions Read and Create on Lead: Setup › Profiles (or Permission Sets) › Object "
        "Settings › Leads.",
    ),
    "object_hidden": Refusal(
        "Your Salesforce user may not see {detail} records.",
        "Your Salesforce user has no permission to read {detail} records, so nobody can tell whether this person is there.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, please give my user the permissions Read and Create on Lead, and Read on Contact: Setup › Profiles (or "
        "Permission Sets) › Object Settings.",
    ),
    "field_hidden": Refusal(
        "Your Salesforce user can't see the field “{detail}”.",
        "The field “{detail}” is hidden from your Salesforce user.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, please make the field {detail} of Lead visible and editable for my user: Setup › Object Manager › Lead › "
        "Fields & Relationships › {detail} › Set Field-Level Security.",
    ),
    "field_not_writable": Refusal(
        "Your Salesforce user may not fill in “{detail}”.",
        "Salesforce doesn't let your user fill in “{detail}”.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, please let my user edit the field {detail} of Lead: Setup › Object Manager › Lead › Fields & Relationships › "
        "{detail} › Set Field-Level Security.",
    ),
    "invalid_email": Refusal(
        "Salesforce doesn't take this email address.",
        "Salesforce doesn't take this address for a real one.",
        "Check the address with the person.",
        FixedBy.ADVISOR,
    ),
    "too_long": Refusal(
        "Something is longer than Salesforce takes.",
        "Your firm's Salesforce takes fewer characters than usual in a field ({detail}).",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce refuses a lead from AdvisorStream because a value is longer than it takes ({detail}). Please check "
        "the length of this field of Lead, and what your rules write into it.",
    ),
    "restricted_picklist": Refusal(
        "Your firm doesn't have our lead source.",
        "Lead Source takes only the values that your firm has listed, and AdvisorStream's isn't one of them.",
        "Ask your Salesforce admin to add it, then press Retry.",
        FixedBy.FIRM_ADMIN,
        "Hello, please add the value that AdvisorStream uses to the picklist Lead Source of Lead.",
    ),
    "firms_own_code": Refusal(
        "A program of your firm in Salesforce broke on it.",
        "A trigger or flow of your firm, which runs on new leads, ended with an error: “{words}”",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, a trigger or flow on Lead fails for leads from AdvisorStream ({detail}): “{words}” Please "
        "check it with a lead that has first name, last name, email, company and lead source only.",
    ),
    "owner_unusable": Refusal(
        "Your firm's assignment rule names nobody who can take it.",
        "The rule that gives leads to people names somebody who is inactive.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, the assignment rule on Lead gives leads from AdvisorStream to an owner who is inactive or missing.",
    ),
    "storage_full": Refusal(
        "Your firm's Salesforce is full.",
        "Salesforce takes no new records: its storage is used up.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce refuses leads from AdvisorStream with STORAGE_LIMIT_EXCEEDED. Please make room in its data storage.",
    ),
    "api_disabled": Refusal(
        "Your Salesforce user may not use the API.",
        "The permission “API Enabled” is missing.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, please give my user the permission API Enabled: Setup › Profiles (or Permission Sets) › System Permissions › "
        "API Enabled.",
    ),
    "field_value": Refusal(
        "Your firm's Salesforce doesn't take what stands in “{detail}”.",
        "Salesforce, or a rule of your firm in it, doesn't take what stands in the field “{detail}” and says: “{words}”",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce refuses a lead from AdvisorStream because of the field {detail}: “{words}” AdvisorStream fills in "
        "first name, last name, email, company and lead source only; please check what sets {detail} on new leads, or let leads "
        "with our lead source pass.",
    ),
    "lookup_filter": Refusal(
        "A filter of your firm refuses what stands in “{detail}”.",
        "The field “{detail}” has a lookup filter in your firm's Salesforce, which says: “{words}”",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, the lookup filter of the field {detail} on Lead refuses leads from AdvisorStream with: “{words}”. Please make "
        "the filter optional, or let leads with our lead source pass it.",
    ),
    "cross_reference_hidden": Refusal(
        "Your Salesforce user may not use a record that new leads refer to.",
        "Something on new leads points to a record that your Salesforce user may not see or change.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce refuses leads from AdvisorStream as my user with INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY. "
        "Please check what rules, flows or triggers on Lead refer to (record type, campaign, owner, account), and give my user "
        "access to it.",
    ),
    "person_account": Refusal(
        "Your firm's Salesforce can't do this with a person account.",
        "A program of your firm in Salesforce tried to change a person account in a way that Salesforce doesn't allow.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce refuses a lead from AdvisorStream with INVALID_PERSON_ACCOUNT_OPERATION. Please check the triggers "
        "and flows on Lead that touch person accounts.",
    ),
    "converted": Refusal(
        "This lead was converted in Salesforce.",
        "Salesforce allows no change of a lead that has become a contact.",
        "Look in Salesforce for the contact. The next sync finds it.",
        FixedBy.ADVISOR,
    ),
    "deleted": Refusal(
        "This record was deleted in Salesforce.",
        "The record was deleted in Salesforce while we wrote to it.",
        "Look in Salesforce. If it should be there, restore it from the Recycle Bin, then press Retry.",
        FixedBy.ADVISOR,
    ),
    "not_visible": Refusal(
        "Salesforce shows you no such record.",
        "The record was deleted for good, or your Salesforce user can't see it: it doesn't say which.",
        ASK,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce answers NOT_FOUND to AdvisorStream as my user for a lead that should be there. Please check the "
        "sharing of Lead for my user.",
    ),
    # What was asked in a way that Salesforce doesn't understand, as it says itself.
    "our_bug": Refusal(
        "AdvisorStream sent it in a way that Salesforce doesn't understand.",
        "Salesforce refused it with “{detail}”, which is for AdvisorStream to fix.",
        "Press Retry. If it is refused again, write to Customer Success and name the code.",
        FixedBy.ADVISORSTREAM,
    ),
}
REFUSED_OTHERWISE = Refusal(
    "Salesforce refused it and said “{words}”",
    "Salesforce refused it ({detail}) and said: “{words}”",
    "Press Retry. If it is refused again, forward the text to your Salesforce admin.",
    FixedBy.FIRM_ADMIN,
    "Hello, Salesforce refuses a lead from AdvisorStream with {detail}: “{words}” Please check what a new Lead needs.",
)

# What was found, and a text for the firm's Salesforce admin; {field} is the firm's opt-out field, {label} its name there.
TROUBLES: Mapping[str, tuple[str, str]] = {
    "lead_opt_out_hidden": (
        "Your Salesforce user can't see which leads have opted out of email.",
        (
            "Hello, AdvisorStream can't read the field {label} ({field}) of Lead. If Lead has it, please show it to my user: "
            "Setup › Object Manager › Lead › Fields & Relationships › {label} › Set Field-Level Security. If Lead doesn't have "
            "it, please add a checkbox of that name."
        ),
    ),
    "opt_out_hidden": (
        "Your Salesforce user can't see who has opted out of email.",
        (
            "Hello, AdvisorStream can't read the field {label} ({field}) of Contact. Please show it to my user: Setup › Object "
            "Manager › Contact › Fields & Relationships › {label} › Set Field-Level Security."
        ),
    ),
    "leads_hidden": (
        "Your Salesforce user may not see leads.",
        (
            "Hello, please give my user the permission Read on Lead: Setup › Profiles (or Permission Sets) › Object Settings › "
            "Leads › Read."
        ),
    ),
}
EMAIL_ENCRYPTED = (
    "Your firm's Salesforce keeps email addresses encrypted. Leads go out all the same. One thing is lost: we can't ask "
    "Salesforce by address whether somebody is there already. We compare with the contacts of your last sync and with your "
    "newest open leads instead."
)
TROUBLE_OTHERWISE = ("Salesforce doesn't let us see what becomes of your leads.", "")


def trouble_of(code: str | None, opt_out_field: str) -> tuple[str, str] | None:
    """Return what is wrong with following leads and a text to forward, or None. opt_out_field: the firm's."""
    if code is None:
        return None
    happened, forward = TROUBLES.get(code, TROUBLE_OTHERWISE)
    return happened, as_named(forward, opt_out_field)


def as_named(text: str, opt_out_field: str) -> str:
    label = label_of(opt_out_field)
    named = text.format(field=opt_out_field, label=label) if text else ""
    return named.replace(f"{label} ({label})", label)


class EventWords(NamedTuple):
    title: str
    meaning: str


EVENTS: Mapping[tuple[str, str], EventWords] = {
    (ConsentKind.OPTED_IN, ConsentSource.FORM): EventWords("Opted in", "Signed up on your page"),
    (ConsentKind.OPTED_OUT, ConsentSource.SALESFORCE): EventWords("Opted out", "Opted out of email in Salesforce"),
    (ConsentKind.BACK_IN, ConsentSource.SALESFORCE): EventWords("Back in", "The opt-out was taken away in Salesforce"),
    (ConsentKind.DELETED, ConsentSource.SALESFORCE): EventWords("Deleted", "Deleted in Salesforce"),
    (ConsentKind.RESTORED, ConsentSource.SALESFORCE): EventWords("Restored", "Restored in Salesforce"),
    (ConsentKind.ERASED, ConsentSource.ADVISOR): EventWords("Erased", "Erased here on request"),
}


def meaning_of(lead: Lead, shown: str, hold: str | None) -> str:
    """Return what the state means, in one sentence for the table."""
    if shown == Shown.RECEIVED:
        return "Stored a moment ago. It is on its way."
    if shown == Shown.WAITING:
        return HOLDS[hold] if hold else WAITS.get(lead.why or "", WAITS_OTHERWISE)
    if shown == Shown.REFUSED:
        return refusal_of(lead).short
    if shown == Shown.FOR_REVIEW:
        return REVIEWS[lead.why or Review.OVER_LIMIT]
    if shown == Shown.PLEASE_CHECK:
        return CHECKS.get(lead.why or "", CHECKS["out_of_sight"])
    if shown == Shown.OPTED_OUT:
        return "Opted out in Salesforce. Inactive here."
    if shown == Shown.DELETED:
        return UNFOLLOWED.get(lead.why or "", "Deleted in Salesforce. Inactive here.")
    if not lead.is_followed:
        return UNFOLLOWED[lead.why or ""]
    if shown == Shown.CONVERTED:
        return "Became a contact in Salesforce."
    if shown == Shown.LINKED:
        kind = "contact" if lead.linked_kind == LinkedKind.CONTACT else "lead"
        return f"Was already your {kind} in Salesforce, so no lead was made."
    return _owner_words(lead)


def refusal_of(lead: Lead) -> Refusal:
    """Return the words for a refused lead, filled in."""
    refusal = REFUSALS.get(lead.why or "", REFUSED_OTHERWISE)
    fill = {"detail": lead.why_detail or "an error", "words": lead.why_words or "no reason given"}
    return replace(
        refusal,
        short=refusal.short.format_map(fill),
        happened=refusal.happened.format_map(fill),
        next_step=refusal.next_step.format_map(fill),
        forward=refusal.forward.format_map(fill),
    )


def is_refused(lead: Lead) -> bool:
    return lead.state == LeadState.REFUSED


def _owner_words(lead: Lead) -> str:
    if (lead.owner_id or "").startswith("00G"):
        return "A lead in Salesforce. Your firm's rules have put it in a queue."
    return "A lead in Salesforce."
