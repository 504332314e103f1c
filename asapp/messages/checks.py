"""What the result of each check means to the person who can fix it, with the path in Salesforce's Setup."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from asapp.messages.codes import Code
from asapp.salesforce.fields import label_of
from asapp.salesforce.probe import WITHOUT_USER


class CheckName(StrEnum):
    """In the order of the page."""

    HOST = "host"
    KEY = "key"
    SECRET = "secret"
    PENDING_SECRET = "pending_secret"
    CALLBACK = "callback"
    PKCE = "pkce"
    SCOPES = "scopes"
    API = "api"
    OPT_OUT = "opt_out"
    OPT_OUT_2 = "opt_out_2"
    OPT_OUT_3 = "opt_out_3"
    OPT_OUT_WRITE = "opt_out_write"
    PERSONS = "persons"
    LEAD = "lead"
    ALLOWANCE = "allowance"


class CheckWhy(StrEnum):
    """The result of a check, if it is not a Code."""

    HOST_FIRST = "host_first"
    HOST_AWAY = "host_away"
    KEY_FIRST = "key_first"
    CALLBACK_FIRST = "callback_first"
    PKCE_FIRST = "pkce_first"
    SCOPES_FIRST = "scopes_first"
    NOBODY_CONNECTED = "nobody_connected"
    NOBODY_ASKED = "nobody_asked"
    RECONNECT_FIRST = "reconnect_first"
    API_FIRST = "api_first"
    API_AWAY = "api_away"
    CALLS_FIRST = "calls_first"
    ERROR_STATUS = "error_status"
    TOKEN_BUSY = "token_busy"
    NOTHING_THERE = "nothing_there"
    OTHER_ANSWER = "other_answer"
    ANSWERS = "answers"
    UNREACHABLE = "unreachable"
    MOVED = "moved"
    NOT_AN_ORG = "not_an_org"
    NOT_SALESFORCE = "not_salesforce"
    KNOWN = "known"
    UNREADABLE = "unreadable"
    ACCEPTED = "accepted"
    SAME_ANSWER = "same_answer"
    REGISTERED = "registered"
    NO_OBJECTION = "no_objection"
    REQUIRED = "required"
    REFUSED = "refused"
    PRESENT = "present"
    SCOPES_MISSING = "scopes_missing"
    SCOPE_REFUSED = "scope_refused"
    NOT_LISTED = "not_listed"
    VISIBLE = "visible"
    VISIBLE_BOTH = "visible_both"
    VISIBLE_ALONE = "visible_alone"
    RELATED_VISIBLE = "related_visible"
    RELATED_HIDDEN = "related_hidden"
    HIDDEN_ON_LEAD = "hidden_on_lead"
    CONTACT_HIDDEN = "contact_hidden"
    NO_CHECKBOX = "no_checkbox"
    WRITABLE = "writable"
    NOT_SEEN = "not_seen"
    NO_EDIT = "no_edit"
    LOCKED_ON_CONTACT = "locked_on_contact"
    LOCKED_ON_LEAD = "locked_on_lead"
    PERSONS_USED = "persons_used"
    PERSONS_NONE = "persons_none"
    CREATABLE = "creatable"
    LEAD_HIDDEN = "lead_hidden"
    NO_CREATE = "no_create"
    FIELDS_LOCKED = "fields_locked"
    FIELDS_REQUIRED = "fields_required"
    SOURCE_RESTRICTED = "source_restricted"
    LEFT = "left"
    USED_UP = "used_up"


HOST, KEY, SECRET, PENDING_SECRET, CALLBACK, PKCE, SCOPES, API, *_OPT_OUTS, OPT_OUT_WRITE, PERSONS, LEAD, ALLOWANCE = (
    CheckName
)
OPT_OUT, OPT_OUT_2, OPT_OUT_3 = _OPT_OUTS

APP = "Setup › External Client App Manager › AdvisorStream Integration"
OAUTH = f"{APP} › Settings › OAuth Settings"
POLICIES = f"{APP} › Policies › Edit › OAuth Policies"
FIELD_SECURITY = "Setup › Object Manager › {object} › Fields & Relationships › {{label}} › Set Field-Level Security"
PKCE_LABEL = "Require Proof Key for Code Exchange (PKCE) extension for Supported Authorization Flows"
PROFILES = "Setup › Profiles › (the advisors' profile)"

TITLES: Mapping[str, str] = {
    HOST: "Host is a Salesforce org",
    KEY: "Consumer Key is known",
    SECRET: "Consumer Secret is right",
    PENDING_SECRET: "The new Consumer Secret is right",
    CALLBACK: "Callback URL is registered",
    PKCE: "PKCE is accepted",
    SCOPES: "Scopes are present",
    API: "API is switched on",
    OPT_OUT: "Opt-out field is visible",
    OPT_OUT_2: "Second opt-out field is visible",
    OPT_OUT_3: "Third opt-out field is visible",
    OPT_OUT_WRITE: "Email Opt Out may be set",
    PERSONS: "Kind of accounts is known",
    LEAD: "Leads can be created",
    ALLOWANCE: "Allowance is left",
}


class CheckWords(NamedTuple):
    """says: what was found, with {detail} where Salesforce's own figures or names belong. path: where it is fixed.

    {label} in the path is the field in the detail, as Salesforce's pages call it.
    """

    says: str
    path: str = ""


ASK_AGAIN = "Nothing is known to be wrong; check again in a few minutes."
MY_DOMAIN = "Setup › My Domain › My Domain Details › Current My Domain URL"
WITH_ADVISOR = "Can only be seen with an advisor's own permission. Checked when the first one connects."

WORDS: dict[tuple[str | None, str], CheckWords] = {
    (None, Code.NO_ANSWER): CheckWords(f"Salesforce did not answer in time. {ASK_AGAIN}"),
    (None, CheckWhy.ERROR_STATUS): CheckWords(
        f"Salesforce answered with an error of its own (status {{detail}}). {ASK_AGAIN}"
    ),
    (None, CheckWhy.HOST_FIRST): CheckWords("Not asked, since the host has to be right first."),
    (None, CheckWhy.HOST_AWAY): CheckWords("Not asked, since the host did not answer."),
    (None, CheckWhy.KEY_FIRST): CheckWords("Not asked, since the Consumer Key has to be right first."),
    (None, CheckWhy.CALLBACK_FIRST): CheckWords("Not asked, since the callback URL has to be right first."),
    (None, CheckWhy.PKCE_FIRST): CheckWords("Not asked, since PKCE has to be accepted first."),
    (None, CheckWhy.SCOPES_FIRST): CheckWords("Not asked, since the scopes have to be granted first."),
    (None, CheckWhy.NOBODY_CONNECTED): CheckWords(WITH_ADVISOR),
    (None, CheckWhy.NOBODY_ASKED): CheckWords("Not asked yet."),
    (None, CheckWhy.RECONNECT_FIRST): CheckWords(
        "The advisor whose permission we would have used has to connect again. Checked when someone is connected."
    ),
    (None, CheckWhy.API_FIRST): CheckWords("Not asked, since the API has to answer first."),
    (None, CheckWhy.CALLS_FIRST): CheckWords("Not asked, since the org has no calls left."),
    (None, CheckWhy.API_AWAY): CheckWords("Not asked, since the API did not answer."),
    (None, CheckWhy.OTHER_ANSWER): CheckWords(
        "Salesforce answered in words we don't know: “{detail}”. Known when someone connects."
    ),
    # host
    (HOST, CheckWhy.ANSWERS): CheckWords("{detail} answers as an org."),
    (HOST, CheckWhy.UNREACHABLE): CheckWords(
        "Nothing answers at {detail}. Most often the address is mistyped.",
        MY_DOMAIN,
    ),
    (HOST, CheckWhy.MOVED): CheckWords(
        "{detail} redirects us: the org has another address now.",
        MY_DOMAIN,
    ),
    (HOST, CheckWhy.NOT_AN_ORG): CheckWords(
        "{detail} answers, but not as a Salesforce org does.",
        MY_DOMAIN,
    ),
    (HOST, CheckWhy.NOT_SALESFORCE): CheckWords("This is no address of Salesforce's.", MY_DOMAIN),
    # key
    (KEY, CheckWhy.KNOWN): CheckWords(""),
    (KEY, Code.BAD_KEY): CheckWords(
        "Salesforce says “{detail}”. Copy the key again. If the app is only minutes old, wait ten minutes first.",
        f"{OAUTH} › Consumer Key and Secret",
    ),
    (KEY, CheckWhy.UNREADABLE): CheckWords(
        "The key or secret stored here can't be opened. Enter both again on this page."
    ),
    (KEY, Code.APP_NOT_INSTALLED): CheckWords(
        "Salesforce says “{detail}”. The app is not in this org. An External Client App works in the org in which it was "
        "created: enter that org's My Domain here. A Connected App has to be installed.",
        "Setup › My Domain › My Domain Details › Current My Domain URL; for a Connected App: Setup › Connected Apps OAuth "
        "Usage › AdvisorStream Integration › Install",
    ),
    (KEY, Code.APP_BLOCKED): CheckWords(
        "Salesforce says “{detail}”. An External Client App is blocked if it admits approved users only and none is "
        "named; a Connected App by Block; both by API Access Control.",
        f"{POLICIES} › Permitted Users; Setup › API Access Control; for a Connected App: Setup › Connected Apps OAuth "
        "Usage › AdvisorStream Integration › Unblock",
    ),
    (KEY, Code.NOT_ADMIN_APPROVED): CheckWords(
        "Salesforce says “{detail}”. Let all users authorize themselves, or name the advisors' profile.",
        f"{POLICIES} › Permitted Users",
    ),
    # secret
    (SECRET, CheckWhy.ACCEPTED): CheckWords(""),
    (SECRET, Code.BAD_SECRET): CheckWords(
        "Salesforce answered “{detail}”. Copy the secret again, without a blank at its end. If the app is only minutes old, "
        "wait ten minutes first.",
        f"{OAUTH} › Consumer Key and Secret",
    ),
    (SECRET, CheckWhy.SAME_ANSWER): CheckWords(
        "Salesforce answers the same to a secret that is certainly wrong. Known when someone connects."
    ),
    # callback
    (CALLBACK, CheckWhy.REGISTERED): CheckWords(""),
    (CALLBACK, Code.REDIRECT_MISMATCH): CheckWords(
        "Salesforce says “{detail}”. The callback must be registered character for character, the slash at its end included.",
        f"{OAUTH} › Callback URL",
    ),
    (CALLBACK, CheckWhy.NO_OBJECTION): CheckWords(
        "Salesforce objects to no callback at all before someone logs in. Known when someone connects."
    ),
    # pkce
    (PKCE, CheckWhy.REQUIRED): CheckWords("And required, as it should be."),
    (PKCE, CheckWhy.ACCEPTED): CheckWords(f"It is not required. Ticking “{PKCE_LABEL}” is safer."),
    (PKCE, CheckWhy.REFUSED): CheckWords(
        "Salesforce says “{detail}”.",
        f"{OAUTH} › Security › {PKCE_LABEL}",
    ),
    # scopes
    (SCOPES, CheckWhy.PRESENT): CheckWords("{detail}"),
    (SCOPES, CheckWhy.SCOPES_MISSING): CheckWords("Not granted: {detail}.", f"{OAUTH} › OAuth Scopes"),
    (SCOPES, CheckWhy.SCOPE_REFUSED): CheckWords("Salesforce says “{detail}”.", f"{OAUTH} › OAuth Scopes"),
    (SCOPES, CheckWhy.NOT_LISTED): CheckWords("Salesforce did not say which scopes it granted."),
    # api
    (API, CheckWhy.ANSWERS): CheckWords("Answers with {detail}."),
    (API, CheckWhy.UNREACHABLE): CheckWords(f"Nothing answers at {{detail}}. {ASK_AGAIN}", MY_DOMAIN),
    (API, CheckWhy.MOVED): CheckWords("{detail} redirects us: the org has another address now.", MY_DOMAIN),
    (API, CheckWhy.NOTHING_THERE): CheckWords(
        "{detail} answers, but has no API there (status 404). The org may have moved to another address.", MY_DOMAIN
    ),
    (API, CheckWhy.TOKEN_BUSY): CheckWords(f"Salesforce didn't renew the advisor's permission just now. {ASK_AGAIN}"),
    (API, Code.API_DISABLED): CheckWords(
        "Salesforce says that the API is off, for the org or for this advisor.",
        f"{PROFILES} › System Permissions › API Enabled",
    ),
    (API, Code.API_ACCESS_BLOCKED): CheckWords(
        "Salesforce gives permission, but refuses the API with it: the app lacks the scope api, API Access Control is in the "
        "way, or sessions are locked to one IP address.",
        "Setup › API Access Control; Setup › Session Settings › Lock sessions to the IP address from which they originated; "
        f"{APP} › Policies › IP Relaxation",
    ),
    (API, Code.API_VERSION_RETIRED): CheckWords(
        "Salesforce no longer answers this API version. Choose a newer one on this page."
    ),
    (API, CheckWhy.REFUSED): CheckWords(
        "Salesforce refuses with {detail}.", f"{PROFILES} › System Permissions › API Enabled"
    ),
    # opt_out
    (OPT_OUT, CheckWhy.VISIBLE): CheckWords("{detail}, on Contact and Lead."),
    (OPT_OUT, CheckWhy.VISIBLE_BOTH): CheckWords(
        "{detail}, on Contact and Lead. Email Opt Out (HasOptedOutOfEmail) counts as well."
    ),
    (OPT_OUT, CheckWhy.VISIBLE_ALONE): CheckWords(
        "{detail}, on Contact and Lead. Email Opt Out (HasOptedOutOfEmail) can't be seen on both, so there {detail} alone counts."
    ),
    (OPT_OUT, CheckWhy.RELATED_VISIBLE): CheckWords(
        "{detail}, through Contact and Lead. Where the advisor can't see a person's record, the person counts as opted out. "
        "Its changes move no contact's stamp: they count within a day, and before each send."
    ),
    (OPT_OUT, CheckWhy.RELATED_HIDDEN): CheckWords(
        "The connected advisor can't see {detail} through Contact, so nothing is synced. The related object, its field "
        "and the field of Contact that refers to it all have to be readable.",
        "Setup › Object Manager › (the related object) › Fields & Relationships › (the field) › Set Field-Level Security",
    ),
    (OPT_OUT, Code.FIELD_HIDDEN): CheckWords(
        "The connected advisor can't see a field {detail} on Contact, so nothing is synced. Either there is none of that "
        "name, or it is hidden: Salesforce hides new fields by default.",
        FIELD_SECURITY.format(object="Contact"),
    ),
    (OPT_OUT, CheckWhy.HIDDEN_ON_LEAD): CheckWords(
        "{detail} is visible on Contact, but not on Lead, so no one who came as a lead can be emailed.",
        FIELD_SECURITY.format(object="Lead"),
    ),
    (OPT_OUT, CheckWhy.CONTACT_HIDDEN): CheckWords(
        "The connected advisor may not read contacts at all.", f"{PROFILES} › Object Settings › Contacts › Read"
    ),
    (OPT_OUT, CheckWhy.NO_CHECKBOX): CheckWords(
        "{detail} is no checkbox. Enter the field that is true for people who don't want mail.",
        "Setup › Object Manager › Contact › Fields & Relationships",
    ),
    # opt_out_write
    (OPT_OUT_WRITE, CheckWhy.WRITABLE): CheckWords("{detail}, on Contact and Lead, when someone unsubscribes."),
    (OPT_OUT_WRITE, CheckWhy.NOT_SEEN): CheckWords(
        "The connected advisor can't see {detail} on Contact, so Salesforce can't be told when someone unsubscribes.",
        FIELD_SECURITY.format(object="Contact"),
    ),
    (OPT_OUT_WRITE, CheckWhy.NO_EDIT): CheckWords(
        "The connected advisor may see {detail}, but not edit them, so Salesforce can't be told when someone unsubscribes.",
        f"{PROFILES} › Object Settings › (the object) › Edit",
    ),
    (OPT_OUT_WRITE, CheckWhy.LOCKED_ON_CONTACT): CheckWords(
        "The connected advisor can see {detail} on Contact, but not set it, so Salesforce can't be told when someone "
        "unsubscribes. Even so, nothing is sent to anyone who unsubscribed.",
        FIELD_SECURITY.format(object="Contact") + " › Visible, and not Read-Only",
    ),
    (OPT_OUT_WRITE, CheckWhy.LOCKED_ON_LEAD): CheckWords(
        "The connected advisor may set {detail} on Contact, but not on Lead, so Salesforce isn't told of leads who unsubscribe.",
        FIELD_SECURITY.format(object="Lead") + " › Visible, and not Read-Only",
    ),
    # persons
    (PERSONS, CheckWhy.PERSONS_USED): CheckWords(
        "This org uses person accounts. Links to a person lead to the account, and merges are followed through it."
    ),
    (PERSONS, CheckWhy.PERSONS_NONE): CheckWords("This org has no person accounts."),
    # lead
    (LEAD, CheckWhy.CREATABLE): CheckWords("Required are {detail}; we send all of them."),
    (LEAD, CheckWhy.LEAD_HIDDEN): CheckWords(
        "The connected advisor may not see leads.", f"{PROFILES} › Object Settings › Leads › Read and Create"
    ),
    (LEAD, CheckWhy.NO_CREATE): CheckWords(
        "The connected advisor may see leads, but not create them.", f"{PROFILES} › Object Settings › Leads › Create"
    ),
    (LEAD, CheckWhy.FIELDS_LOCKED): CheckWords(
        "The connected advisor may not fill in {detail}.",
        "Setup › Object Manager › Lead › Fields & Relationships › (the field) › Set Field-Level Security",
    ),
    (LEAD, CheckWhy.FIELDS_REQUIRED): CheckWords(
        "The org also requires {detail}, which we have no value for. Give them a default, or require them on the page "
        "layout only.",
        "Setup › Object Manager › Lead › Fields & Relationships",
    ),
    (LEAD, CheckWhy.SOURCE_RESTRICTED): CheckWords(
        "“{detail}” is not among the values of Lead Source, and the list is restricted. Add it, or choose another one here.",
        "Setup › Object Manager › Lead › Fields & Relationships › Lead Source › Values",
    ),
    # allowance
    (ALLOWANCE, CheckWhy.LEFT): CheckWords(
        "{detail} calls of the last 24 hours are used, by everything at the firm together."
    ),
    (ALLOWANCE, CheckWhy.USED_UP): CheckWords(
        "The org has used up its calls of the last 24 hours. Syncs wait and go on by themselves. If it happens daily, a "
        "longer interval needs fewer calls; more calls are between the firm and Salesforce.",
        "Setup › Company Information › API Requests, Last 24 Hours",
    ),
    (ALLOWANCE, CheckWhy.NOT_LISTED): CheckWords("Salesforce did not say how many calls are left."),
}
WORDS |= {(each, why): words for (check, why), words in WORDS.items() if check == OPT_OUT for each in _OPT_OUTS}
WORDS |= {(PENDING_SECRET, why): words for (check, why), words in WORDS.items() if check == SECRET}


# For the guide: each check with what is wrong most often.
USUAL = (
    (HOST, CheckWhy.UNREACHABLE),
    (KEY, Code.BAD_KEY),
    (SECRET, Code.BAD_SECRET),
    (CALLBACK, Code.REDIRECT_MISMATCH),
    (PKCE, CheckWhy.REFUSED),
    (SCOPES, CheckWhy.SCOPES_MISSING),
    (API, Code.API_DISABLED),
    (OPT_OUT, Code.FIELD_HIDDEN),
    (OPT_OUT_WRITE, CheckWhy.LOCKED_ON_CONTACT),
    (PERSONS, CheckWhy.PERSONS_NONE),
    (LEAD, CheckWhy.NO_CREATE),
    (ALLOWANCE, CheckWhy.USED_UP),
)


def usual_fixes() -> list[tuple[str, str, str]]:
    """Return (check, when it is made, where in Setup it is usually fixed), for the field Email Opt Out."""
    label = label_of("HasOptedOutOfEmail")
    return [
        (
            TITLES[check],
            "at once" if check in WITHOUT_USER else "first advisor",
            WORDS[check, why].path.format(label=label) or "nowhere: it says what kind of org yours is",
        )
        for check, why in USUAL
    ]


def words_of(check: str, why: str, detail: str) -> CheckWords:
    says, path = WORDS.get((check, why)) or WORDS.get((None, why)) or CheckWords("")
    return CheckWords(" ".join(says.format(detail=detail).split()), path.format(label=label_of(detail)))
