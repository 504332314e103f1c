"""What a check's finding means to the person who can mend it, with the path in Salesforce's Setup. Order is the page's."""

from __future__ import annotations

from typing import NamedTuple

from asapp.salesforce.fields import label_of

APP = "Setup › External Client App Manager › AdvisorStream Integration"
OAUTH = f"{APP} › Settings › OAuth Settings"
POLICIES = f"{APP} › Policies › Edit › OAuth Policies"
FIELD_SECURITY = "Setup › Object Manager › {object} › Fields & Relationships › {{label}} › Set Field-Level Security"
PROFILES = "Setup › Profiles › (the advisors' profile)"

TITLES = {
    "host": "Host is a Salesforce org",
    "key": "Consumer Key is known",
    "secret": "Consumer Secret is right",
    "pending_secret": "The new Consumer Secret is right",
    "callback": "Callback URL is registered",
    "pkce": "PKCE is accepted",
    "scopes": "Scopes are present",
    "api": "API is switched on",
    "opt_out": "Opt-out field is visible",
    "lead": "Leads can be created",
    "allowance": "Allowance is left",
}


class Words(NamedTuple):
    """says: what was found, with {detail} where Salesforce's own figures or names belong. path: where it is fixed.

    {label} in the path is the field in the detail, as Salesforce's pages call it.
    """

    says: str
    path: str = ""


ASK_AGAIN = "Salesforce did not answer in time. Nothing is known to be wrong; check again in a few minutes."
WITH_ADVISOR = "Can only be seen with an advisor's own permission. Checked when the first one connects."

WORDS: dict[tuple[str, str], Words] = {
    ("*", "no_answer"): Words(ASK_AGAIN),
    ("*", "host_first"): Words("Not asked, since the host has to be right first."),
    ("*", "key_first"): Words("Not asked, since the Consumer Key has to be right first."),
    ("*", "callback_first"): Words("Not asked, since the callback URL has to be right first."),
    ("*", "pkce_first"): Words("Not asked, since PKCE has to be accepted first."),
    ("*", "scopes_first"): Words("Not asked, since the scopes have to be granted first."),
    ("*", "nobody_connected"): Words(WITH_ADVISOR),
    ("*", "nobody_asked"): Words("Not asked yet."),
    ("*", "reconnect_first"): Words(
        "The advisor whose permission we would have used has to connect again. Checked when somebody is connected."
    ),
    ("*", "api_first"): Words("Not asked, since the API has to answer first."),
    ("*", "other_answer"): Words(
        "Salesforce answered in words we don't know: “{detail}”. Known when someone connects."
    ),
    # host
    ("host", "answers"): Words("{detail} answers as an org."),
    ("host", "unreachable"): Words(
        "Nothing answers at {detail}. Most often the address is mistyped.",
        "Setup › My Domain › My Domain Details › Current My Domain URL",
    ),
    ("host", "moved"): Words(
        "{detail} sends us elsewhere: the org has another address by now.",
        "Setup › My Domain › My Domain Details › Current My Domain URL",
    ),
    ("host", "not_an_org"): Words(
        "{detail} answers, but not as a Salesforce org does.",
        "Setup › My Domain › My Domain Details › Current My Domain URL",
    ),
    ("host", "not_salesforce"): Words(
        "This is no address of Salesforce's.", "Setup › My Domain › My Domain Details › Current My Domain URL"
    ),
    # key
    ("key", "known"): Words(""),
    ("key", "bad_key"): Words(
        "Salesforce says “{detail}”. Copy the key again. If the app is only minutes old, wait ten minutes first.",
        f"{OAUTH} › Consumer Key and Secret",
    ),
    ("key", "unreadable"): Words("The key or secret stored here can't be opened. Enter both again on this page."),
    ("key", "app_not_installed"): Words(
        "Salesforce says “{detail}”. The app exists, but is not installed in this org: make it in the same org whose "
        "address stands here, or install it.",
        "Setup › Connected Apps OAuth Usage › AdvisorStream Integration › Install",
    ),
    ("key", "app_blocked"): Words(
        "Salesforce says “{detail}”.", "Setup › Connected Apps OAuth Usage › AdvisorStream Integration › Unblock"
    ),
    ("key", "not_admin_approved"): Words(
        "Salesforce says “{detail}”. Let all users authorize themselves, or name the advisors' profile.",
        f"{POLICIES} › Permitted Users",
    ),
    # secret
    ("secret", "accepted"): Words(""),
    ("secret", "bad_secret"): Words(
        "Salesforce answered “{detail}”. Copy the secret again, without a blank at its end. If the app is only minutes old, "
        "wait ten minutes first.",
        f"{OAUTH} › Consumer Key and Secret",
    ),
    ("secret", "same_answer"): Words(
        "Salesforce answers the same to a secret that is certainly wrong. Known when someone connects."
    ),
    # callback
    ("callback", "registered"): Words(""),
    ("callback", "redirect_mismatch"): Words(
        "Salesforce says “{detail}”. The callback must stand there character for character, the slash at its end included.",
        f"{OAUTH} › Callback URL",
    ),
    ("callback", "no_objection"): Words(
        "Salesforce objects to no callback at all before somebody logs in. Known when someone connects."
    ),
    # pkce
    ("pkce", "required"): Words("And required, as it should be."),
    ("pkce", "accepted"): Words("It is not required. Ticking “Require Proof Key for Code Exchange (PKCE)” is safer."),
    ("pkce", "refused"): Words(
        "Salesforce says “{detail}”.",
        f"{OAUTH} › Security › Require Proof Key for Code Exchange (PKCE) extension for Supported Authorization Flows",
    ),
    # scopes
    ("scopes", "present"): Words("{detail}"),
    ("scopes", "scopes_missing"): Words("Not granted: {detail}.", f"{OAUTH} › OAuth Scopes"),
    ("scopes", "scope_refused"): Words("Salesforce says “{detail}”.", f"{OAUTH} › OAuth Scopes"),
    ("scopes", "not_listed"): Words("Salesforce did not say which scopes it granted."),
    # api
    ("api", "answers"): Words("Answers with {detail}."),
    ("api", "api_disabled"): Words(
        "Salesforce says that the API is off, for the org or for this advisor.",
        f"{PROFILES} › System Permissions › API Enabled",
    ),
    ("api", "api_access_blocked"): Words(
        "Salesforce gives permission, but refuses the API with it: the app lacks the scope api, API Access Control is in the "
        "way, or sessions are locked to one IP address.",
        "Setup › API Access Control; Setup › Session Settings › Lock sessions to the IP address from which they originated; "
        f"{APP} › Policies › IP Relaxation",
    ),
    ("api", "api_version_retired"): Words(
        "Salesforce no longer answers this API version. Choose a newer one on this page."
    ),
    ("api", "refused"): Words("Salesforce refuses with {detail}.", f"{PROFILES} › System Permissions › API Enabled"),
    # opt_out
    ("opt_out", "visible"): Words("{detail}, on Contact and Lead."),
    ("opt_out", "visible_both"): Words(
        "{detail}, on Contact and Lead. Email Opt Out (HasOptedOutOfEmail) counts as well."
    ),
    ("opt_out", "visible_alone"): Words(
        "{detail}, on Contact and Lead. Email Opt Out (HasOptedOutOfEmail) can't be seen on both, so there {detail} alone counts."
    ),
    ("opt_out", "field_hidden"): Words(
        "The connected advisor can't see {detail} on Contact, so nothing is synced. Salesforce hides such fields by default.",
        FIELD_SECURITY.format(object="Contact"),
    ),
    ("opt_out", "hidden_on_lead"): Words(
        "{detail} is visible on Contact, but not on Lead, so nobody who came as a lead can be written to.",
        FIELD_SECURITY.format(object="Lead"),
    ),
    ("opt_out", "contact_hidden"): Words(
        "The connected advisor may not read contacts at all.", f"{PROFILES} › Object Settings › Contacts › Read"
    ),
    ("opt_out", "no_checkbox"): Words(
        "{detail} is no checkbox. Enter the field that is true for people who don't want mail.",
        "Setup › Object Manager › Contact › Fields & Relationships",
    ),
    # lead
    ("lead", "creatable"): Words("Required are {detail}; we send all of them."),
    ("lead", "lead_hidden"): Words(
        "The connected advisor may not see leads.", f"{PROFILES} › Object Settings › Leads › Read and Create"
    ),
    ("lead", "no_create"): Words(
        "The connected advisor may see leads, but not create them.", f"{PROFILES} › Object Settings › Leads › Create"
    ),
    ("lead", "fields_locked"): Words(
        "The connected advisor may not fill in {detail}.",
        "Setup › Object Manager › Lead › Fields & Relationships › (the field) › Set Field-Level Security",
    ),
    ("lead", "fields_required"): Words(
        "The org also requires {detail}, which we have no value for. Give them a default, or require them on the page "
        "layout only.",
        "Setup › Object Manager › Lead › Fields & Relationships",
    ),
    ("lead", "source_restricted"): Words(
        "“{detail}” is not among the values of Lead Source, and the list is restricted. Add it, or choose another one here.",
        "Setup › Object Manager › Lead › Fields & Relationships › Lead Source › Values",
    ),
    # allowance
    ("allowance", "left"): Words("{detail} calls of the last 24 hours are used, by everything at the firm together."),
    ("allowance", "used_up"): Words(
        "The org has used up its calls of the last 24 hours {detail}. Syncs wait and go on by themselves.",
        "Setup › Company Information › API Requests, Last 24 Hours",
    ),
    ("allowance", "not_listed"): Words("Salesforce did not say how many calls are left."),
}
WORDS |= {("pending_secret", why): words for (code, why), words in WORDS.items() if code == "secret"}


def words_of(code: str, why: str, detail: str) -> Words:
    says, path = WORDS.get((code, why)) or WORDS.get(("*", why)) or Words("")
    return Words(" ".join(says.format(detail=detail).split()), path.format(label=label_of(detail)))
