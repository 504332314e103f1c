"""What a failed sync says to the advisor: what happened, what is safe, what to do next, who can fix it, a text to forward.

One entry for every code that salesforce/errors.py and sync/execute.py can end a run with; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from asapp.messages.fixed_by import FixedBy
from asapp.salesforce.fields import label_of

SAFE = "Your contacts and lists. What had been read before stays; nothing was lost."
BY_ITSELF = "Nothing. The next sync tries again by itself; you can also press Sync Account."
ASK_ADMIN = "Only your firm's Salesforce admin can mend this. Forward the text below, then press Sync Account."
TELL_US = "Press Sync Account once more. If it fails again, write to us and name the receipt's number."


@dataclass(frozen=True)
class Words:
    headline: str
    happened: str
    safe: str
    next_step: str
    fixed_by: FixedBy
    forward: str = ""


@dataclass(frozen=True)
class About:
    """What the words may name."""

    firm: str
    username: str
    field: str = ""
    detail: str = ""


def explain_stop(code: str | None, firm: str) -> str:
    """Say why a run was cancelled. code: a key of STOPPED; None: the advisor pressed Cancel."""
    return STOPPED.get(code or "", "What had been read stays. The next sync reads the rest.").format(firm=firm)


def explain(code: str | None, about: About) -> Words:
    """Return the words for a run's error code."""
    words = FAILURES.get(code or "", FAILURES["our_bug"])
    label = label_of(about.field)
    fill = {"firm": about.firm, "username": about.username, "field": about.field, "detail": about.detail}
    fill |= {"label": label, "called": f" ({label})" if label != about.field else ""}
    return replace(
        words,
        headline=words.headline.format_map(fill),
        happened=words.happened.format_map(fill),
        safe=words.safe.format_map(fill),
        next_step=words.next_step.format_map(fill),
        forward=words.forward.format_map(fill),
    )


def fixed_by_of(code: str | None) -> FixedBy:
    """Return who can fix what a run failed with."""
    return FAILURES.get(code or "", FAILURES["our_bug"]).fixed_by


def _later(headline: str, happened: str, fixed_by: FixedBy = FixedBy.NOBODY) -> Words:
    return Words(headline, happened, SAFE, BY_ITSELF, fixed_by)


def _admin(headline: str, happened: str, forward: str, safe: str = SAFE) -> Words:
    return Words(headline, happened, safe, ASK_ADMIN, FixedBy.FIRM_ADMIN, forward)


STOPPED: Mapping[str, str] = {
    "disconnected": "Your account was disconnected while it was going on. What had been read stays.",
    "firm_disabled": "Salesforce was switched off for {firm} while it was going on. What had been read stays. The next sync, "
    "once it is on again, reads the rest.",
    "advisor_inactive": "Your account here was switched off while it was going on. What had been read stays.",
}

FAILURES: Mapping[str, Words] = {
    "opt_out_hidden": Words(
        "Your Salesforce user can't see who has opted out of email.",
        "The field “{field}”{called} is hidden from {username}. Without it we can't know who must not be written to, "
        "so we stopped before reading anybody.",
        "Nothing was added or changed. Until the field can be read again, your Salesforce contacts are inactive: nobody is "
        "written to by mistake.",
        "Your firm's Salesforce admin can show the field in two minutes. Forward the text below, then press Sync Account.",
        FixedBy.FIRM_ADMIN,
        "Hello, AdvisorStream can't read the field {field}{called} of Contact as {username}. Please grant Read on it: Setup › "
        "Object Manager › Contact › Fields & Relationships › {label} › Set Field-Level Security, and tick Visible for the "
        "profile of {username} (or add the field to a permission set of theirs). Please show the same field of Lead, too.",
    ),
    "field_hidden": _admin(
        "Your Salesforce user can't see a field that we need.",
        "Salesforce hides the field “{detail}” of Contact from {username}.",
        "Hello, AdvisorStream can't read the field {detail} of Contact as {username}. Please make it visible: Setup › Object "
        "Manager › Contact › Fields & Relationships › {detail} › Set Field-Level Security.",
    ),
    "field_encrypted": _admin(
        "Your firm's Salesforce keeps a field encrypted.",
        "No question can be narrowed by the field “{detail}”, which is encrypted at rest.",
        "Hello, AdvisorStream can't filter by the field {detail}, which is encrypted by the probabilistic scheme of Shield "
        "Platform Encryption. Please choose the deterministic scheme for it.",
    ),
    "object_hidden": _admin(
        "Your Salesforce user may not read contacts.",
        "{username} has no Read permission on {detail}.",
        "Hello, please give {username} the Read permission on {detail}: Setup › Profiles (or Permission Sets) › Object "
        "Settings › {detail} › Read.",
    ),
    "insufficient_access": _admin(
        "Your Salesforce user isn't allowed to do this.",
        "Salesforce refused with “{detail}”.",
        "Hello, Salesforce refuses AdvisorStream's reading of contacts as {username} with {detail}. Please check the object "
        "and field permissions of this user for Contact and Lead.",
    ),
    "field_not_writable": _admin(
        "A field can't be written.",
        "Salesforce doesn't let {username} fill in “{detail}”.",
        "Hello, please let {username} edit the field {detail}: Setup › Object Manager › Fields & Relationships › {detail} › "
        "Set Field-Level Security.",
    ),
    "api_disabled": _admin(
        "Your Salesforce user may not use the API.",
        "The permission “API Enabled” is missing, or your firm's Salesforce edition has no API.",
        "Hello, please give {username} the permission API Enabled: Setup › Profiles (or Permission Sets) › System "
        "Permissions › API Enabled.",
    ),
    "api_access_blocked": _admin(
        "Salesforce doesn't accept AdvisorStream's permission for its API.",
        "Salesforce gives us a permission and refuses it at once: the app lacks the scope “api”, your firm controls API access, "
        "or sessions are locked to one IP address.",
        "Hello, Salesforce refuses AdvisorStream's session of {username} for the REST API. Please check three things. 1. The app "
        "AdvisorStream Integration has the scope “Manage user data via APIs (api)”, and API Access Control allows it. "
        "2. Setup › Session Settings › “Lock sessions to the IP address from which they originated” is off. 3. Setup › External "
        "Client App Manager (or Manage Connected Apps) › AdvisorStream Integration › Policies › IP Relaxation is “Relax IP "
        "restrictions”.",
    ),
    "api_version_retired": Words(
        "AdvisorStream asks in a way that Salesforce has retired.",
        "The version of the API that is set for {firm} is no longer served.",
        SAFE,
        "AdvisorStream's team has to raise it. Write to us and name this page.",
        FixedBy.ADVISORSTREAM,
    ),
    "query_too_large": _admin(
        "Salesforce finds the question too large.",
        "The sharing rules of your firm make the search for your contacts too expensive.",
        "Hello, Salesforce answers OPERATION_TOO_LARGE to {username}'s search for their own contacts. Please check the "
        "sharing of Contact for this user.",
    ),
    "storage_full": _admin(
        "Your firm's Salesforce is full.",
        "Salesforce takes no new records: its storage is used up.",
        "Hello, Salesforce reports STORAGE_LIMIT_EXCEEDED. Please make room in its data storage.",
    ),
    "org_limit": _admin(
        "A limit of your firm's Salesforce is reached.",
        "Salesforce answered “{detail}”.",
        "Hello, Salesforce answers AdvisorStream with {detail}. Please check Setup › Company Information and System Overview.",
    ),
    "ip_restricted": _admin(
        "Salesforce refuses our address or this hour.",
        "Login hours or IP ranges of {username} shut us out for now. Your account stays connected.",
        "Hello, Salesforce refuses AdvisorStream for {username}: IP restricted or invalid login hours. Please set IP Relaxation "
        "of the app AdvisorStream Integration to “Relax IP restrictions”: Setup › External Client App Manager (or Manage "
        "Connected Apps) › AdvisorStream Integration › Policies. If the app has a list of addresses for refresh tokens, please "
        "ask Customer Success at AdvisorStream for ours and add them.",
    ),
    "bad_key": Words(
        "The firm's app isn't accepted by Salesforce.",
        "Salesforce doesn't know the Consumer Key that is stored for {firm}.",
        SAFE,
        "AdvisorStream's team has been set to mend it with your firm. Your account stays connected.",
        FixedBy.ADVISORSTREAM,
    ),
    "bad_secret": Words(
        "The firm's app isn't accepted by Salesforce.",
        "The Consumer Secret that is stored for {firm} is no longer right.",
        SAFE,
        "It has to be entered anew by AdvisorStream's team or your firm's admin. Your account stays connected.",
        FixedBy.ADVISORSTREAM,
    ),
    "redirect_mismatch": _admin(
        "Our return address is missing in the firm's app.",
        "Salesforce answered “redirect_uri must match configuration”.",
        "Hello, please add AdvisorStream's callback URL to the app AdvisorStream Integration.",
    ),
    "not_admin_approved": _admin(
        "Your admin has to approve you for this app.",
        "The app admits approved users only, and {username} isn't one yet.",
        "Hello, please approve {username} for AdvisorStream Integration: Setup › External Client App Manager (or Manage "
        "Connected Apps) › AdvisorStream Integration › Policies › add the profile or a permission set of {username}.",
    ),
    "scope_missing": _admin(
        "The firm's app lacks a permission.",
        "A scope that we need isn't part of the app.",
        "Hello, please add the scopes api, refresh_token and id to the app AdvisorStream Integration.",
    ),
    "key_missing": Words(
        "We can't open what we stored.",
        "An encryption key is missing on our side.",
        SAFE,
        "AdvisorStream's team has to mend this. Your account stays connected.",
        FixedBy.ADVISORSTREAM,
    ),
    "foreign_host": Words(
        "Salesforce named an address that isn't Salesforce's.",
        "We don't send your permission anywhere else, so we stopped.",
        SAFE,
        TELL_US,
        FixedBy.ADVISORSTREAM,
    ),
    "disconnected": Words(
        "You disconnected while the sync was going on.",
        "The permission was given back, so the sync stopped.",
        SAFE,
        "Press Connect Account when you want to go on.",
        FixedBy.ADVISOR,
    ),
    "permission_withdrawn": Words(
        "Salesforce no longer accepts your permission.",
        "It was withdrawn in Salesforce: by somebody, by a policy, or after long disuse.",
        SAFE,
        "Press Connect Account and log in as the same Salesforce user.",
        FixedBy.ADVISOR,
    ),
    "permission_expired": Words(
        "Your permission has reached its end.",
        "Your firm's policy limits how long it lasts.",
        SAFE,
        "Press Connect Account and log in as the same Salesforce user.",
        FixedBy.ADVISOR,
    ),
    "inactive_user": _admin(
        "Your Salesforce user is inactive.",
        "{username} was deactivated or frozen in Salesforce.",
        "Hello, Salesforce says that {username} is inactive. Please activate or unfreeze this user: Setup › Users.",
    ),
    "inactive_org": _admin(
        "Your firm's Salesforce is locked or closed.",
        "Salesforce says that the whole org is locked, closed or suspended. Your account stays connected.",
        "Hello, Salesforce says that our org is locked, closed or suspended, so AdvisorStream can't read anything as "
        "{username}. Please ask Salesforce, or your contact there, to open it again.",
    ),
    "app_blocked": _admin(
        "Your admin has blocked this app in Salesforce.",
        "Salesforce answered that AdvisorStream's app is blocked in your firm's org. Your account stays connected.",
        "Hello, please unblock AdvisorStream for us: Setup › Connected Apps OAuth Usage › AdvisorStream Integration › Unblock.",
    ),
    "app_not_installed": _admin(
        "AdvisorStream's app is no longer installed in your firm's Salesforce.",
        "Salesforce doesn't know the app in this org any more. Your account stays connected.",
        "Hello, please install the AdvisorStream app again in our Salesforce: Setup › Connected Apps OAuth Usage › "
        "AdvisorStream Integration › Install. For an external client app: Setup › External Client App Manager, and check that "
        "it is enabled.",
    ),
    "redirected": _admin(
        "Your firm's Salesforce has moved to another address.",
        "The address that we know of {firm}'s Salesforce sent us on to another one. We never follow with your permission in "
        "hand. AdvisorStream's team has been told.",
        "Hello, the address of our Salesforce that AdvisorStream knows redirects. Please tell Customer Success at AdvisorStream "
        "our current My Domain (Setup › My Domain).",
    ),
    "request_limit": Words(
        "Your firm has used up its Salesforce calls for today.",
        "Salesforce counts the calls of all users and apps of {firm} over 24 hours, and the limit is reached.",
        SAFE,
        "Nothing. Syncs go on by themselves when Salesforce has room again.",
        FixedBy.NOBODY,
    ),
    "share_used_up": Words(
        "AdvisorStream's share of your firm's Salesforce calls is used up.",
        "{firm} has set a part of its daily calls aside for AdvisorStream, and the last 24 hours have used it.",
        SAFE,
        "Nothing. Syncs go on by themselves when calls are free again.",
        FixedBy.NOBODY,
    ),
    "org_nearly_full": Words(
        "Your firm's Salesforce calls for today are nearly used up.",
        "All users and apps of {firm} together have used 90 % of them, so scheduled syncs leave the rest to your colleagues.",
        SAFE,
        "Nothing. Syncs go on by themselves; Sync Account still works now.",
        FixedBy.NOBODY,
    ),
    "concurrent_limit": _later("Salesforce is busy with your firm's other apps.", "Too many long calls at once."),
    "row_locked": _later("Salesforce was busy.", "Somebody else was changing the same records."),
    "query_timeout": _later("Salesforce took too long.", "It gave up searching for your contacts.", FixedBy.SALESFORCE),
    "server_error": _later("Salesforce had an error of its own.", "It answered “{detail}”.", FixedBy.SALESFORCE),
    "server_unavailable": _later(
        "Salesforce is not available.", "It is being maintained, or overloaded.", FixedBy.SALESFORCE
    ),
    "maintenance": _later("Salesforce is being maintained.", "It takes no changes at the moment.", FixedBy.SALESFORCE),
    "edge_busy": _later("Salesforce was busy.", "Its front door asked us to come back later.", FixedBy.SALESFORCE),
    "no_connection": _later("We couldn't reach Salesforce.", "The connection to {firm}'s Salesforce failed."),
    "no_answer": _later(
        "Salesforce didn't answer in time.", "The connection broke, or no answer came.", FixedBy.SALESFORCE
    ),
    "answer_too_large": _later("Salesforce's answer was too large.", "We stopped reading it.", FixedBy.SALESFORCE),
    "unreadable_answer": _later(
        "Salesforce's answer couldn't be read.", "It was cut off, or not what was asked for.", FixedBy.SALESFORCE
    ),
    "short_answer": _later(
        "Salesforce's answer was cut short.", "Fewer records came than it had counted.", FixedBy.SALESFORCE
    ),
    "session_ended_again": _later("Salesforce ended our session.", "It did so again just after we had renewed it."),
    "instance_moved": _later("Your firm's Salesforce has moved.", "It has a new address; the next sync goes there."),
    "locator_expired": _later(
        "Salesforce forgot our place in the list.", "It happened too often in one sync.", FixedBy.SALESFORCE
    ),
    "token_endpoint_busy": _later(
        "Salesforce couldn't renew our permission.", "Its log-in service is busy.", FixedBy.SALESFORCE
    ),
    "unknown_grant_error": _later("Salesforce couldn't renew our permission.", "It gave a reason that we don't know."),
    "code_expired": _later("Salesforce couldn't renew our permission.", "Its answer came too late."),
    "worker_died": Words(
        "The sync was interrupted three times.",
        "The part of our system that runs syncs stopped while it worked on this one.",
        SAFE,
        TELL_US,
        FixedBy.ADVISORSTREAM,
    ),
    "our_bug": Words(
        "Something went wrong on our side.",
        "The sync met something that we hadn't thought of. It is in our log, without any personal data.",
        SAFE,
        TELL_US,
        FixedBy.ADVISORSTREAM,
    ),
    "pkce": Words(
        "Something went wrong on our side.",
        "Salesforce refused our proof of the log-in.",
        SAFE,
        TELL_US,
        FixedBy.ADVISORSTREAM,
    ),
}
