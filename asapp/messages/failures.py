"""The messages about a failure: what happened, what is safe, what to do next, who can fix it, and a text to forward.

One row for every occasion on which a code can come. Rows of one code stand together, and name the same person if they can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial

from asapp.core.formats import with_zone
from asapp.messages.codes import Code
from asapp.salesforce.fields import label_of

APP_NAME = "AdvisorStream Integration"
SUPPORT_ADDRESS = "as_support@broadridge.com"
SUPPORT = f"Customer Success at AdvisorStream ({SUPPORT_ADDRESS})"


class Occasion(StrEnum):
    """What was being done when it failed: the same code may ask for different steps."""

    CONNECT = "connect"
    RECONNECT = "reconnect"  # a connection needs its advisor
    SYNC = "sync"
    LEAD_WAITS = "lead_waits"
    LEAD_REFUSED = "lead_refused"
    LEADS_UNFOLLOWED = "leads_unfollowed"


class FixedBy(StrEnum):
    """Who can fix it. Stated in each row, so that no page has to infer it from a text."""

    NOBODY = "nobody"  # it passes by itself
    ADVISOR = "advisor"
    FIRM_ADMIN = "firm_admin"  # the firm's Salesforce admin
    ADVISORSTREAM = "advisorstream"
    SALESFORCE = "salesforce"


@dataclass(frozen=True)
class Failure:
    """In the table with the names of Facts.names() in braces; explain() fills them in."""

    fixed_by: FixedBy
    headline: str
    happened: str = ""
    forward: str = ""
    subject: str = "AdvisorStream and Salesforce"  # of a mail with the text to forward
    do_next: str = ""  # in the table only what differs from NEXT_STEPS
    safe: str = ""  # in the table only what differs from SAFE


@dataclass(frozen=True)
class Facts:
    """The facts that the messages may name."""

    firm: str = ""
    user: str = ""  # the Salesforce username where it is known, or the advisor's address
    host: str = ""
    callback_url: str = ""
    opt_out_field: str = ""
    first_name: str = ""  # of the person whose lead it is
    when: datetime | None = None
    detail: str = ""  # Salesforce's own code, or a field's name
    words: str = ""  # what Salesforce or the firm's admin wrote
    is_fetched: bool = True  # else the browser brought it: quoted to the advisor alone, never in a text to forward
    is_connected: bool = False

    def names(self) -> dict[str, str]:
        label, quote = label_of(self.opt_out_field), self._quote_to_forward()
        is_labelled = label != self.opt_out_field
        names = {
            "firm": self.firm,
            "user": self.user,
            "host": self.host,
            "callback": self.callback_url,
            "field": self.opt_out_field,
            "label": label,
            "called": f" ({label})" if is_labelled else "",
            "named": f"{label} ({self.opt_out_field})" if is_labelled else label,
            "name": self.first_name,
            "detail": self.detail,
            "words": self.words,
            "support": SUPPORT,
            "quote": quote or "no reason",
            "when": with_zone(self.when) if self.when else "",
        }
        return names | {"signed": SIGNED.format_map(names) if quote else ""}

    def quote_for_advisor(self) -> str:
        return f"“{self.words}”" if self.words else self.detail or "no reason"

    def _quote_to_forward(self) -> str:
        if self.words and self.is_fetched:
            return f"{self.detail}, “{self.words}”" if self.detail else f"“{self.words}”"
        return self.detail


def explain(occasion: Occasion, code: str | None, facts: Facts) -> Failure:
    """Return the messages for a code, filled in; for a code that can't come on this occasion, those of OTHERWISE."""
    row = _row_of(occasion, code)
    names = facts.names()
    safe = STILL_CONNECTED if occasion == Occasion.CONNECT and facts.is_connected else SAFE[occasion]
    return replace(
        row,
        headline=row.headline.format_map(names),
        happened=row.happened.format_map(names | {"quote": facts.quote_for_advisor()}),
        forward=row.forward.format_map(names),
        do_next=(row.do_next or NEXT_STEPS[occasion][row.fixed_by]).format_map(names),
        safe=(row.safe or safe).format_map(names),
    )


def fixed_by(occasion: Occasion, code: str | None) -> FixedBy:
    return _row_of(occasion, code).fixed_by


def _row_of(occasion: Occasion, code: str | None) -> Failure:
    return FAILURES.get((occasion, code or "")) or FAILURES[occasion, OTHERWISE[occasion]]


def forward_when_stuck(callback_url: str) -> str:
    """Return the text for the admin if Salesforce shows an error on a page of its own."""
    return (
        "Hello, I can't connect AdvisorStream to our Salesforce. The page says: (paste the words here).\n"
        f"Please check in Setup › External Client App Manager › {APP_NAME} that the app is installed and that its "
        f"callback URL is exactly\n{callback_url}"
    )


SIGNED = "\nSalesforce answered {quote} on {when} for {user}."
CONNECT, RECONNECT, SYNC, LEAD_WAITS, LEAD_REFUSED, LEADS_UNFOLLOWED = Occasion
STILL_CONNECTED = "Everything. The connection you have and your contacts are as they were."
SAFE: Mapping[Occasion, str] = {
    CONNECT: "Everything. Nothing was connected, read or changed.",
    RECONNECT: "Your contacts and their lists are still here, as of the last sync.",
    SYNC: "Your contacts and lists. What had been read before stays; nothing was lost.",
    LEAD_WAITS: "{name} is safe here.",
    LEAD_REFUSED: "{name} is safe here.",
    LEADS_UNFOLLOWED: "They go out all the same; people from your sign-up page are inactive until it is fixed.",
}
NEXT_STEPS: Mapping[Occasion, Mapping[FixedBy, str]] = {
    CONNECT: {
        FixedBy.ADVISOR: "Press Connect Account again.",
        FixedBy.FIRM_ADMIN: "Forward the text below to your Salesforce admin, then press Connect Account again once they have "
        "answered.",
        FixedBy.ADVISORSTREAM: "Forward the text below to {support}. Nothing is wrong on your side.",
        FixedBy.SALESFORCE: "Press Connect Account again in a few minutes.",
        FixedBy.NOBODY: "Press Connect Account again in a few minutes.",
    },
    RECONNECT: {
        FixedBy.ADVISOR: "Press Connect Account and log in as the same Salesforce user. It takes about 30 seconds.",
        FixedBy.FIRM_ADMIN: "Forward the text below to your Salesforce admin, then press Connect Account.",
    },
    SYNC: {
        FixedBy.ADVISOR: "Press Connect Account and log in as the same Salesforce user.",
        FixedBy.FIRM_ADMIN: "Only your firm's Salesforce admin can fix this. Forward the text below, then press Sync Account.",
        FixedBy.ADVISORSTREAM: "Press Sync Account once more. If it fails again, write to {support} with the receipt's number.",
        FixedBy.SALESFORCE: "Nothing. The next sync tries again by itself; you can also press Sync Account.",
        FixedBy.NOBODY: "Nothing. The next sync tries again by itself; you can also press Sync Account.",
    },
    LEAD_WAITS: {
        FixedBy.FIRM_ADMIN: "Your firm's Salesforce admin has to fix that. Then it goes out by itself.",
        FixedBy.ADVISORSTREAM: "AdvisorStream's team fixes that. Then it goes out by itself.",
        FixedBy.SALESFORCE: "It goes out by itself.",
        FixedBy.NOBODY: "It goes out by itself.",
    },
    LEAD_REFUSED: {FixedBy.FIRM_ADMIN: "Ask your Salesforce admin, then press Retry."},
    LEADS_UNFOLLOWED: {FixedBy.FIRM_ADMIN: "Forward the text to your Salesforce admin."},
}
OTHERWISE: Mapping[Occasion, Code] = {
    CONNECT: Code.UNKNOWN_LOGIN_ERROR,
    RECONNECT: Code.PERMISSION_WITHDRAWN,
    SYNC: Code.OUR_BUG,
    LEAD_WAITS: Code.ROLLED_BACK,
    LEAD_REFUSED: Code.UNKNOWN_REFUSAL,
    LEADS_UNFOLLOWED: Code.LEADS_HIDDEN,
}

advisor_fixes = partial(Failure, FixedBy.ADVISOR)
admin_fixes = partial(Failure, FixedBy.FIRM_ADMIN)
we_fix = partial(Failure, FixedBy.ADVISORSTREAM)
salesforce_fixes = partial(Failure, FixedBy.SALESFORCE)
passes = partial(Failure, FixedBy.NOBODY)

FAILURES: Mapping[tuple[Occasion, str], Failure] = {
    (CONNECT, Code.DENIED): advisor_fixes(
        "You did not allow AdvisorStream on Salesforce's page.",
        "Salesforce asked whether AdvisorStream may read your contacts, and the answer was Deny.",
        do_next="If that was not what you wanted, press Connect Account again and choose Allow.",
    ),
    (CONNECT, Code.STATE_EXPIRED): advisor_fixes(
        "The log-in took longer than ten minutes.",
        "For your safety a log-in that was begun here can be finished within ten minutes only.",
    ),
    (CONNECT, Code.LOST_STATE): advisor_fixes(
        "That answer from Salesforce belongs to no log-in of yours.",
        "An answer came back from Salesforce that fits no log-in begun in this account. It may be from an old tab, or "
        "from a log-in that someone else started. We did not act on it.",
        do_next="Press Connect Account and finish in the same browser.",
    ),
    (CONNECT, Code.NO_CODE): advisor_fixes(
        "Salesforce came back without an answer.",
        "Salesforce sent you back here, but without the code that proves your log-in.",
    ),
    (CONNECT, Code.CODE_EXPIRED): advisor_fixes(
        "The log-in was too old when it arrived.",
        "Salesforce no longer accepts the code of this log-in. That happens when a page is reloaded or lies open for long.",
        do_next="Press Connect Account again and go straight on.",
    ),
    (SYNC, Code.CODE_EXPIRED): passes("Salesforce couldn't renew our permission.", "Its answer came too late."),
    (CONNECT, Code.ALREADY_CONNECTED): advisor_fixes(
        "That Salesforce user is connected to another AdvisorStream account.",
        "One Salesforce user can be connected to one AdvisorStream account. The user you logged in with already is. "
        "The new permission was revoked.",
        do_next="Log out of Salesforce, then press Connect Account and log in as yourself. Was it your own user? "
        "Write to {support}.",
    ),
    (CONNECT, Code.AT_ONCE): advisor_fixes(
        "Two log-ins arrived at the same moment.",
        "Two tabs finished a log-in at once. The other one counts; the permission of this one was revoked.",
        do_next="See which account the panel names. Press Connect Account again if that isn't right.",
    ),
    (CONNECT, Code.SETUP_CHANGED): advisor_fixes(
        "Your firm's set-up changed while you were logging in.",
        "Someone changed {firm}'s Salesforce settings between your click and Salesforce's answer, so we threw the answer away.",
    ),
    (CONNECT, Code.APP_BLOCKED): admin_fixes(
        "Salesforce says that your admin has blocked this app.",
        "Your firm's Salesforce refused AdvisorStream: {quote}.",
        "Hello, please unblock AdvisorStream for us: Setup › Connected Apps OAuth Usage › AdvisorStream Integration › "
        "Unblock. For an external client app: Setup › External Client App Manager › AdvisorStream Integration › Policies, and "
        "check who is permitted.{signed}",
        do_next="Only your firm's Salesforce admin can unblock it. Forward the text below to your Salesforce admin, "
        "then press Connect Account again once they have answered.",
        subject="AdvisorStream is blocked in Salesforce",
    ),
    (SYNC, Code.APP_BLOCKED): admin_fixes(
        "Your admin has blocked this app in Salesforce.",
        "Salesforce answered that AdvisorStream's app is blocked in your firm's org. Your account stays connected.",
        "Hello, please unblock AdvisorStream for us: Setup › Connected Apps OAuth Usage › AdvisorStream Integration › "
        "Unblock. For an external client app: Setup › External Client App Manager › AdvisorStream Integration › Policies, and "
        "check who is permitted.",
    ),
    (LEAD_WAITS, Code.APP_BLOCKED): admin_fixes("Your firm's Salesforce blocks AdvisorStream's app."),
    (CONNECT, Code.APP_NOT_INSTALLED): admin_fixes(
        "AdvisorStream's app is not installed in this Salesforce org.",
        "Salesforce does not know the app in the org you logged in to: {quote}. Either your admin has not installed "
        "it yet, or your browser was logged in to a different org.",
        "Hello, please install the AdvisorStream app in our Salesforce ({host}): Setup › Connected Apps OAuth Usage › "
        "AdvisorStream Integration › Install. For an external client app: Setup › External Client App Manager, and "
        "check that it is enabled.{signed}",
        do_next="If you have more than one Salesforce, log out of it and try again. If not: Forward the text below to "
        "your Salesforce admin, then press Connect Account again once they have answered.",
        subject="Please install AdvisorStream in Salesforce",
    ),
    (SYNC, Code.APP_NOT_INSTALLED): admin_fixes(
        "AdvisorStream's app is no longer installed in your firm's Salesforce.",
        "Salesforce doesn't know the app in this org any more. Your account stays connected.",
        "Hello, please install the AdvisorStream app again in our Salesforce: Setup › Connected Apps OAuth Usage › "
        "AdvisorStream Integration › Install. For an external client app: Setup › External Client App Manager, and "
        "check that it is enabled.",
    ),
    (LEAD_WAITS, Code.APP_NOT_INSTALLED): admin_fixes("AdvisorStream's app isn't installed in your firm's Salesforce."),
    (CONNECT, Code.NOT_ADMIN_APPROVED): admin_fixes(
        "Your Salesforce user has not been approved for this app.",
        "In your firm's Salesforce only approved users may use AdvisorStream, and yours isn't one yet: {quote}.",
        "Hello, please let me use AdvisorStream: Setup › External Client App Manager (or Manage Connected Apps) › "
        "AdvisorStream Integration › Policies. “Permitted Users” says admin approved; please add my profile or a "
        "permission set of mine.{signed}",
        subject="Please approve me for AdvisorStream in Salesforce",
    ),
    (SYNC, Code.NOT_ADMIN_APPROVED): admin_fixes(
        "Your admin has to approve you for this app.",
        "The app admits approved users only, and {user} isn't one yet.",
        "Hello, please approve {user} for AdvisorStream Integration: Setup › External Client App Manager (or Manage "
        "Connected Apps) › AdvisorStream Integration › Policies › add the profile or a permission set of {user}.",
    ),
    (LEAD_WAITS, Code.NOT_ADMIN_APPROVED): admin_fixes("Your Salesforce user isn't approved for AdvisorStream's app."),
    (CONNECT, Code.APPROVAL_ERROR): admin_fixes(
        "Salesforce could not approve the app for you.",
        "Salesforce stopped with a general error: {quote}. Most often the app isn't installed in the org and your "
        "user may not approve apps that aren't, or your licence is for integrations only.",
        "Hello, I can't approve AdvisorStream in our Salesforce ({host}). Please check in Setup › Connected Apps "
        "OAuth Usage that AdvisorStream Integration is installed, and that its scopes are “Manage user data via APIs "
        "(api)”, “Perform requests at any time (refresh_token)” and “Access the identity URL service (id)”.{signed}",
        subject="Salesforce can't approve AdvisorStream",
    ),
    (CONNECT, Code.SCOPE_MISSING): admin_fixes(
        "The firm's app may not give what AdvisorStream needs.",
        "We asked for permissions that your firm's app does not have: {quote}.",
        "Hello, please add these OAuth scopes to AdvisorStream Integration: “Manage user data via APIs (api)”, “Perform "
        "requests at any time (refresh_token, offline_access)” and “Access the identity URL service (id)”.{signed}",
        subject="OAuth scopes for AdvisorStream",
    ),
    (SYNC, Code.SCOPE_MISSING): admin_fixes(
        "The firm's app lacks a permission.",
        "A scope that we need isn't part of the app.",
        "Hello, please add the scopes api, refresh_token and id to the app AdvisorStream Integration.",
    ),
    (LEAD_WAITS, Code.SCOPE_MISSING): admin_fixes("Your firm's app in Salesforce lacks a permission."),
    (CONNECT, Code.NO_API_SCOPE): admin_fixes(
        "The permission does not cover reading contacts.",
        "You allowed AdvisorStream, but your firm's app did not include access to the API. The permission was revoked.",
        "Hello, please add the OAuth scope “Manage user data via APIs (api)” to AdvisorStream Integration in our Salesforce.",
        subject="OAuth scope for AdvisorStream",
    ),
    (CONNECT, Code.NO_REFRESH_TOKEN): admin_fixes(
        "The permission would have ended with your log-in.",
        "You allowed AdvisorStream, but your firm's app gives no lasting permission, so no sync could run without "
        "you. The permission was revoked.",
        "Hello, please add the OAuth scope “Perform requests at any time (refresh_token, offline_access)” to "
        "AdvisorStream Integration in our Salesforce, and set its refresh token policy to “valid until revoked”.",
        subject="OAuth scope for AdvisorStream",
    ),
    (CONNECT, Code.REDIRECT_MISMATCH): admin_fixes(
        "Our return address is missing in the firm's app.",
        "Salesforce sends no one back to an address that isn't entered in the app: {quote}.",
        "Hello, please set the callback URL of AdvisorStream Integration in our Salesforce to exactly\n{callback}{signed}",
        subject="Callback URL for AdvisorStream",
    ),
    (SYNC, Code.REDIRECT_MISMATCH): admin_fixes(
        "Our return address is missing in the firm's app.",
        "Salesforce answered “redirect_uri must match configuration”.",
        "Hello, please add AdvisorStream's callback URL to the app AdvisorStream Integration.",
    ),
    (LEAD_WAITS, Code.REDIRECT_MISMATCH): admin_fixes("Your firm's app in Salesforce lacks our address."),
    (CONNECT, Code.IP_RESTRICTED): admin_fixes(
        "Your firm's Salesforce refuses log-ins at this hour or from our address.",
        "Salesforce said {quote}. Login hours or trusted addresses of your profile prevent it.",
        "Hello, please relax the IP restrictions for AdvisorStream Integration: Setup › External Client App Manager (or Manage "
        "Connected Apps) › AdvisorStream Integration › Policies › IP Relaxation › Relax IP restrictions.{signed}",
        do_next="Try again within your login hours. If it stays: Forward the text below to your Salesforce admin, "
        "then press Connect Account again once they have answered.",
        subject="IP restrictions and AdvisorStream",
    ),
    (SYNC, Code.IP_RESTRICTED): admin_fixes(
        "Salesforce refuses our address or this hour.",
        "Login hours or IP ranges of {user} shut us out for now. Your account stays connected.",
        "Hello, Salesforce refuses AdvisorStream for {user}: IP restricted or invalid login hours. Please set IP "
        "Relaxation of the app AdvisorStream Integration to “Relax IP restrictions”: Setup › External Client App "
        "Manager (or Manage Connected Apps) › AdvisorStream Integration › Policies. If the app has a list of "
        "addresses for refresh tokens, please ask {support} for ours and add them.",
    ),
    (LEAD_WAITS, Code.IP_RESTRICTED): admin_fixes("Login hours or IP ranges of your Salesforce user shut us out."),
    (CONNECT, Code.INACTIVE_USER): admin_fixes(
        "That Salesforce user is switched off.",
        "Salesforce says that the user is inactive or frozen.",
        "Hello, Salesforce says that my user is inactive or frozen. Please check it in Setup › Users.{signed}",
        subject="My Salesforce user is inactive",
    ),
    (RECONNECT, Code.INACTIVE_USER): admin_fixes(
        "Your Salesforce user is switched off.",
        "Salesforce says that your user is inactive or frozen. Connecting again works only when that is changed.",
        "Hello, Salesforce says that my user {user} is inactive or frozen. Please check it in Setup › Users.",
        subject="My Salesforce user is inactive",
    ),
    (SYNC, Code.INACTIVE_USER): admin_fixes(
        "Your Salesforce user is inactive.",
        "{user} was deactivated or frozen in Salesforce.",
        "Hello, Salesforce says that {user} is inactive. Please activate or unfreeze this user: Setup › Users.",
    ),
    (CONNECT, Code.INACTIVE_ORG): admin_fixes(
        "Your firm's Salesforce is locked or closed.",
        "Salesforce says that the whole org is locked, closed or suspended.",
        "Hello, Salesforce says that our org ({host}) is locked, closed or suspended.{signed}",
        subject="Our Salesforce org is locked",
    ),
    (RECONNECT, Code.INACTIVE_ORG): admin_fixes(
        "Your firm's Salesforce is locked or closed.",
        "Salesforce says that the whole org is locked, closed or suspended.",
        "Hello, Salesforce says that our org ({host}) is locked, closed or suspended.",
        subject="Our Salesforce org is locked",
    ),
    (SYNC, Code.INACTIVE_ORG): admin_fixes(
        "Your firm's Salesforce is locked or closed.",
        "Salesforce says that the whole org is locked, closed or suspended. Your account stays connected.",
        "Hello, Salesforce says that our org is locked, closed or suspended, so AdvisorStream can't read anything as "
        "{user}. Please ask Salesforce, or your contact there, to open it again.",
    ),
    (LEAD_WAITS, Code.INACTIVE_ORG): admin_fixes("Your firm's Salesforce is locked or closed."),
    (CONNECT, Code.IDENTITY_REFUSED): admin_fixes(
        "Salesforce would not tell us who you are.",
        "You allowed AdvisorStream, but Salesforce refused to name the user behind it. The permission was revoked.",
        "Hello, please add the OAuth scope “Access the identity URL service (id)” to AdvisorStream Integration in our "
        "Salesforce, and check that my profile has “API Enabled”. If Setup › Session Settings › “Lock sessions to the "
        "IP address from which they originated” is on, please switch it off, or set IP Relaxation of the app to "
        "“Relax IP restrictions”.{signed}",
        subject="OAuth scope for AdvisorStream",
    ),
    (CONNECT, Code.BAD_KEY): admin_fixes(
        "Salesforce does not know the firm's consumer key.",
        "The consumer key that {firm} gave us is wrong, or the app is so new that Salesforce doesn't know it "
        "everywhere yet: {quote}.",
        "Hello, AdvisorStream can't use the consumer key of AdvisorStream Integration. Please send {support} "
        "the Consumer Key and Consumer Secret again through the set-up link (ask them for a new one).{signed}",
        do_next="A new app needs up to ten minutes: try again then. Still there? Forward the text below to your "
        "Salesforce admin.",
        subject="Consumer key for AdvisorStream",
    ),
    (SYNC, Code.BAD_KEY): admin_fixes(
        "The firm's app isn't accepted by Salesforce.",
        "Salesforce doesn't know the Consumer Key that is stored for {firm}. Your account stays connected.",
        "Hello, Salesforce doesn't know the consumer key of AdvisorStream Integration any more. Please send {support} "
        "the Consumer Key and Consumer Secret again through the set-up link (ask them for a new one).",
    ),
    (LEAD_WAITS, Code.BAD_KEY): admin_fixes("Salesforce doesn't know your firm's Consumer Key."),
    (CONNECT, Code.BAD_SECRET): admin_fixes(
        "Salesforce refused the firm's consumer secret.",
        "The consumer secret that {firm} gave us is wrong or was replaced in Salesforce: {quote}.",
        "Hello, AdvisorStream can't use the consumer secret of AdvisorStream Integration. Please send {support} the "
        "current Consumer Key and Consumer Secret through the set-up link (ask them for a new one).{signed}",
        do_next="Forward the text below to your Salesforce admin.",
        subject="Consumer secret for AdvisorStream",
    ),
    (SYNC, Code.BAD_SECRET): admin_fixes(
        "The firm's app isn't accepted by Salesforce.",
        "The Consumer Secret that is stored for {firm} is no longer right. Your account stays connected.",
        "Hello, Salesforce refuses the consumer secret of AdvisorStream Integration. Please send {support} "
        "the current Consumer Key and Consumer Secret through the set-up link (ask them for a new one).",
    ),
    (LEAD_WAITS, Code.BAD_SECRET): admin_fixes("Salesforce doesn't take your firm's Consumer Secret any more."),
    (CONNECT, Code.FOREIGN_HOST): we_fix(
        "Salesforce named a server that we don't know as Salesforce's.",
        "The answer pointed to an address outside of Salesforce's own. We sent nothing there and revoked the permission.",
        "Hello, connecting {user} of {firm} on {when} ended with an instance URL that is not on the list of hosts "
        "(log-in at {host}).",
        subject="AdvisorStream: unknown Salesforce host",
    ),
    (SYNC, Code.FOREIGN_HOST): we_fix(
        "Salesforce named an address that isn't Salesforce's.",
        "We don't send your permission anywhere else, so we stopped.",
    ),
    (LEAD_WAITS, Code.FOREIGN_HOST): we_fix("Your firm's Salesforce is at another address now."),
    (CONNECT, Code.REDIRECTED): admin_fixes(
        "Your firm's Salesforce has moved to another address.",
        "{host} sent us on to another address. We never send the firm's secret to another address.",
        "Hello, {host} redirects. Please tell {support} our current My Domain (Setup › My Domain).",
        do_next="Forward the text below to your Salesforce admin.",
        subject="Our Salesforce address has changed",
    ),
    (SYNC, Code.REDIRECTED): admin_fixes(
        "Your firm's Salesforce has moved to another address.",
        "The address that we know of {firm}'s Salesforce sends us on, or says that nothing is there any more. We go only "
        "where Salesforce itself says it is now, and it named no other address. AdvisorStream's team has been told.",
        "Hello, our Salesforce is no longer at the address that AdvisorStream knows. Please tell {support} "
        "our current My Domain (Setup › My Domain).",
    ),
    (LEAD_WAITS, Code.REDIRECTED): admin_fixes("Your firm's Salesforce has moved to another address."),
    (CONNECT, Code.PKCE): we_fix(
        "Salesforce refused our proof of the log-in.",
        "Salesforce said {quote}. The proof that the log-in was begun here did not arrive as it should.",
        "Hello, connecting {user} of {firm} ended with a PKCE error.{signed}",
        do_next="Press Connect Account again. If it comes back, forward the text below to {support}.",
        subject="AdvisorStream: PKCE error",
    ),
    (SYNC, Code.PKCE): we_fix("Something went wrong on our side.", "Salesforce refused our proof of the log-in."),
    (CONNECT, Code.OUR_BUG): we_fix(
        "Salesforce did not understand our request.",
        "Salesforce said {quote}. That is ours to fix.",
        "Hello, connecting {user} of {firm} failed at {host}.{signed}",
        subject="AdvisorStream can't connect to Salesforce",
    ),
    (SYNC, Code.OUR_BUG): we_fix(
        "Something went wrong on our side.",
        "The sync met something that we hadn't thought of. It is in our log, without any personal data.",
    ),
    (LEAD_WAITS, Code.OUR_BUG): we_fix("We sent Salesforce a wrong request."),
    (LEAD_REFUSED, Code.OUR_BUG): we_fix(
        "AdvisorStream sent it in a way that Salesforce doesn't understand.",
        "Salesforce refused it with “{detail}”, which is for AdvisorStream to fix.",
        do_next="Press Retry. If it is refused again, write to {support} and name the code.",
    ),
    (CONNECT, Code.UNREADABLE_ANSWER): we_fix(
        "Salesforce's answer was incomplete.",
        "Salesforce accepted the log-in, but its answer lacked what tells us the org and the user ({quote}).",
        "Hello, connecting {user} of {firm} ended with an incomplete answer from {host} ({quote}) on {when}.",
        do_next="Press Connect Account again. If it comes back, forward the text below to {support}.",
        subject="AdvisorStream: incomplete answer from Salesforce",
    ),
    (SYNC, Code.UNREADABLE_ANSWER): salesforce_fixes(
        "Salesforce's answer couldn't be read.", "It was cut off, or not what was asked for."
    ),
    (CONNECT, Code.KEY_MISSING): we_fix(
        "We can't read the firm's settings at the moment.",
        "The key and secret of {firm} are stored sealed, and AdvisorStream could not open them.",
        "Hello, the Salesforce settings of {firm} can't be opened (encryption key). Seen by {user} on {when}.",
        subject="AdvisorStream: sealed settings can't be opened",
    ),
    (SYNC, Code.KEY_MISSING): we_fix(
        "We can't open what we stored.",
        "An encryption key is missing on our side.",
        do_next="AdvisorStream's team has to fix this. Your account stays connected.",
    ),
    (LEAD_WAITS, Code.KEY_MISSING): we_fix("We can't open your Salesforce permission at the moment."),
    (CONNECT, Code.TOKEN_ENDPOINT_BUSY): salesforce_fixes(
        "Salesforce is busy or under maintenance.", "Your log-in worked, but Salesforce could not finish it just then."
    ),
    (SYNC, Code.TOKEN_ENDPOINT_BUSY): salesforce_fixes(
        "Salesforce couldn't renew our permission.", "Its log-in service is busy."
    ),
    (CONNECT, Code.NO_CONNECTION): passes("We could not reach Salesforce.", "{host} did not take our call."),
    (SYNC, Code.NO_CONNECTION): passes(
        "We couldn't reach Salesforce.", "The connection to {firm}'s Salesforce failed."
    ),
    (LEAD_WAITS, Code.NO_CONNECTION): passes("We couldn't reach Salesforce."),
    (CONNECT, Code.NO_ANSWER): salesforce_fixes(
        "Salesforce did not answer in time.",
        "Your log-in worked, but {host} did not answer our call. What it gave, if it gave anything, is not stored here.",
    ),
    (SYNC, Code.NO_ANSWER): salesforce_fixes(
        "Salesforce didn't answer in time.", "The connection broke, or no answer came."
    ),
    (LEAD_WAITS, Code.NO_ANSWER): salesforce_fixes(
        "Salesforce didn't answer when it was sent.", do_next="We look for it there, so that it isn't made twice."
    ),
    (CONNECT, Code.ANSWER_TOO_LARGE): salesforce_fixes(
        "Salesforce's answer was not what it should be.",
        "{host} answered with far more than a log-in needs, so we stopped reading.",
    ),
    (SYNC, Code.ANSWER_TOO_LARGE): salesforce_fixes("Salesforce's answer was too large.", "We stopped reading it."),
    (CONNECT, Code.UNKNOWN_LOGIN_ERROR): admin_fixes(
        "Salesforce refused the log-in.",
        "Salesforce said {quote}. We don't know this answer yet.",
        "Hello, I can't connect AdvisorStream to our Salesforce ({host}).{signed}",
        do_next="Press Connect Account again. If it comes back, forward the text below to your Salesforce admin.",
        subject="Salesforce refuses AdvisorStream",
    ),
    (RECONNECT, Code.PERMISSION_WITHDRAWN): advisor_fixes(
        "Salesforce no longer accepts the permission that you gave.",
        "The permission was withdrawn in Salesforce. That happens when someone revokes it, when your firm's policy "
        "asks for it, or after four more log-ins with the same app.",
    ),
    (SYNC, Code.PERMISSION_WITHDRAWN): advisor_fixes(
        "Salesforce no longer accepts your permission.",
        "It was withdrawn in Salesforce: by a person, by a policy, or after long disuse.",
    ),
    (RECONNECT, Code.PERMISSION_EXPIRED): advisor_fixes(
        "The permission that you gave has run out.", "Your firm's policy ends such permissions after some time."
    ),
    (SYNC, Code.PERMISSION_EXPIRED): advisor_fixes(
        "Your permission has reached its end.", "Your firm's policy limits how long it lasts."
    ),
    (RECONNECT, Code.UNKNOWN_GRANT_ERROR): advisor_fixes(
        "Salesforce keeps refusing the permission that you gave.",
        "For over an hour Salesforce has refused to renew it, in words that we don't know.",
    ),
    (SYNC, Code.UNKNOWN_GRANT_ERROR): passes(
        "Salesforce couldn't renew our permission.", "It gave a reason that we don't know."
    ),
    (SYNC, Code.OPT_OUT_HIDDEN): admin_fixes(
        "Your Salesforce user can't see who has opted out of email.",
        "The field “{field}”{called} is hidden from {user}. Without it we can't know who must not be emailed, so "
        "we stopped before reading anyone.",
        "Hello, AdvisorStream can't read the field {field}{called} of Contact as {user}. Please grant Read on it: Setup › "
        "Object Manager › Contact › Fields & Relationships › {label} › Set Field-Level Security, and tick Visible for the "
        "profile of {user} (or add the field to a permission set of theirs). Please show the same field of Lead, too.",
        do_next="Your firm's Salesforce admin can show the field in two minutes. Forward the text below, then press "
        "Sync Account.",
        safe="Nothing was added or changed. Until the field can be read again, your Salesforce contacts are inactive: "
        "no one is emailed by mistake.",
    ),
    (LEADS_UNFOLLOWED, Code.OPT_OUT_HIDDEN): admin_fixes(
        "Your Salesforce user can't see who has opted out of email.",
        forward="Hello, AdvisorStream can't read the field {named} of Contact. Please show it to my user: Setup › Object "
        "Manager › Contact › Fields & Relationships › {label} › Set Field-Level Security.",
    ),
    (SYNC, Code.FIELD_HIDDEN): admin_fixes(
        "Your Salesforce user can't see a field that we need.",
        "Salesforce hides the field “{detail}” of Contact from {user}.",
        "Hello, AdvisorStream can't read the field {detail} of Contact as {user}. Please make it visible: Setup › "
        "Object Manager › Contact › Fields & Relationships › {detail} › Set Field-Level Security.",
    ),
    (LEAD_REFUSED, Code.FIELD_HIDDEN): admin_fixes(
        "Your Salesforce user can't see the field “{detail}”.",
        "The field “{detail}” is hidden from your Salesforce user.",
        "Hello, please make the field {detail} of Lead visible and editable for my user: Setup › Object Manager › "
        "Lead › Fields & Relationships › {detail} › Set Field-Level Security.",
    ),
    (SYNC, Code.FIELD_ENCRYPTED): admin_fixes(
        "Your firm's Salesforce keeps a field encrypted.",
        "No query can filter by the field “{detail}”, which is encrypted at rest.",
        "Hello, AdvisorStream can't filter by the field {detail}, which is encrypted by the probabilistic scheme of "
        "Shield Platform Encryption. Please choose the deterministic scheme for it.",
    ),
    (LEAD_WAITS, Code.FIELD_ENCRYPTED): admin_fixes(
        "Your firm's Salesforce keeps a field encrypted that we have to search by."
    ),
    (SYNC, Code.OBJECT_HIDDEN): admin_fixes(
        "Your Salesforce user may not read contacts.",
        "{user} has no Read permission on {detail}.",
        "Hello, please give {user} the Read permission on {detail}: Setup › Profiles (or Permission Sets) › Object "
        "Settings › {detail} › Read.",
    ),
    (LEAD_REFUSED, Code.OBJECT_HIDDEN): admin_fixes(
        "Your Salesforce user may not see {detail} records.",
        "Your Salesforce user has no permission to read {detail} records, so we can't tell whether this person is there.",
        "Hello, please give my user the permissions Read and Create on Lead, and Read on Contact: Setup › Profiles "
        "(or Permission Sets) › Object Settings.",
    ),
    (SYNC, Code.INSUFFICIENT_ACCESS): admin_fixes(
        "Your Salesforce user isn't allowed to do this.",
        "Salesforce refused with “{detail}”.",
        "Hello, Salesforce refuses AdvisorStream's reading of contacts as {user} with {detail}. Please check the "
        "object and field permissions of this user for Contact and Lead.",
    ),
    (LEAD_REFUSED, Code.INSUFFICIENT_ACCESS): admin_fixes(
        "Your Salesforce user may not create leads.",
        "Your Salesforce user has no permission to create leads.",
        "Hello, please give my user the permissions Read and Create on Lead: Setup › Profiles (or Permission Sets) › "
        "Object Settings › Leads.",
    ),
    (SYNC, Code.FIELD_NOT_WRITABLE): admin_fixes(
        "A field can't be written.",
        "Salesforce doesn't let {user} fill in “{detail}”.",
        "Hello, please let {user} edit the field {detail}: Setup › Object Manager › Fields & Relationships › {detail} "
        "› Set Field-Level Security.",
    ),
    (LEAD_REFUSED, Code.FIELD_NOT_WRITABLE): admin_fixes(
        "Your Salesforce user may not fill in “{detail}”.",
        "Salesforce doesn't let your user fill in “{detail}”.",
        "Hello, please let my user edit the field {detail} of Lead: Setup › Object Manager › Lead › Fields & "
        "Relationships › {detail} › Set Field-Level Security.",
    ),
    (SYNC, Code.API_DISABLED): admin_fixes(
        "Your Salesforce user may not use the API.",
        "The permission “API Enabled” is missing, or your firm's Salesforce edition has no API.",
        "Hello, please give {user} the permission API Enabled: Setup › Profiles (or Permission Sets) › System "
        "Permissions › API Enabled.",
    ),
    (LEAD_WAITS, Code.API_DISABLED): admin_fixes("Your Salesforce user may not use the API."),
    (LEAD_REFUSED, Code.API_DISABLED): admin_fixes(
        "Your Salesforce user may not use the API.",
        "The permission “API Enabled” is missing.",
        "Hello, please give my user the permission API Enabled: Setup › Profiles (or Permission Sets) › System "
        "Permissions › API Enabled.",
    ),
    (SYNC, Code.API_ACCESS_BLOCKED): admin_fixes(
        "Salesforce doesn't accept AdvisorStream's permission for its API.",
        "Salesforce gives us a permission and refuses it at once: the app lacks the scope “api”, your firm controls "
        "API access, or sessions are locked to one IP address.",
        "Hello, Salesforce refuses AdvisorStream's session of {user} for the REST API. Please check three things. 1. "
        "The app AdvisorStream Integration has the scope “Manage user data via APIs (api)”, and API Access Control "
        "allows it. 2. Setup › Session Settings › “Lock sessions to the IP address from which they originated” is "
        "off. 3. Setup › External Client App Manager (or Manage Connected Apps) › AdvisorStream Integration › "
        "Policies › IP Relaxation is “Relax IP restrictions”.",
    ),
    (LEAD_WAITS, Code.API_ACCESS_BLOCKED): admin_fixes("Your firm's Salesforce refuses AdvisorStream at its API."),
    (SYNC, Code.API_VERSION_RETIRED): we_fix(
        "AdvisorStream asks in a way that Salesforce has retired.",
        "The version of the API that is set for {firm} is no longer served.",
        do_next="AdvisorStream's team has to raise it. Write to {support} and name this page.",
    ),
    (LEAD_WAITS, Code.API_VERSION_RETIRED): we_fix("We ask Salesforce in a way that it has retired."),
    (SYNC, Code.QUERY_TOO_LARGE): admin_fixes(
        "Salesforce finds our query too large.",
        "The sharing rules of your firm make the search for your contacts too expensive.",
        "Hello, Salesforce answers OPERATION_TOO_LARGE to {user}'s search for their own contacts. Please check the "
        "sharing of Contact for this user.",
    ),
    (LEAD_WAITS, Code.QUERY_TOO_LARGE): admin_fixes(
        "Your firm's sharing rules make our query to Salesforce too large."
    ),
    (SYNC, Code.STORAGE_FULL): admin_fixes(
        "Your firm's Salesforce is full.",
        "Salesforce takes no new records: its storage is used up.",
        "Hello, Salesforce reports STORAGE_LIMIT_EXCEEDED. Please make room in its data storage.",
    ),
    (LEAD_WAITS, Code.STORAGE_FULL): admin_fixes("Your firm's Salesforce is full."),
    (LEAD_REFUSED, Code.STORAGE_FULL): admin_fixes(
        "Your firm's Salesforce is full.",
        "Salesforce takes no new records: its storage is used up.",
        "Hello, Salesforce refuses leads from AdvisorStream with STORAGE_LIMIT_EXCEEDED. Please make room in its data storage.",
    ),
    (SYNC, Code.ORG_LIMIT): admin_fixes(
        "A limit of your firm's Salesforce is reached.",
        "Salesforce answered “{detail}”.",
        "Hello, Salesforce answers AdvisorStream with {detail}. Please check Setup › Company Information and System Overview.",
    ),
    (LEAD_WAITS, Code.ORG_LIMIT): admin_fixes("A limit of your firm's Salesforce is reached."),
    (SYNC, Code.DISCONNECTED): advisor_fixes(
        "You disconnected while the sync was going on.",
        "The permission was revoked, so the sync stopped.",
        do_next="Press Connect Account when you want to go on.",
    ),
    (SYNC, Code.REQUEST_LIMIT): passes(
        "Your firm has used up its Salesforce calls for today.",
        "Salesforce counts the calls of all users and apps of {firm} over 24 hours, and the limit is reached.",
        do_next="Nothing. Syncs go on by themselves when Salesforce has room again.",
    ),
    (LEAD_WAITS, Code.REQUEST_LIMIT): passes("Your firm has used its Salesforce calls for now."),
    (SYNC, Code.SHARE_USED_UP): passes(
        "AdvisorStream's share of your firm's Salesforce calls is used up.",
        "{firm} has set a part of its daily calls aside for AdvisorStream, and the last 24 hours have used it.",
        do_next="Nothing. Syncs go on by themselves when calls are free again.",
    ),
    (LEAD_WAITS, Code.SHARE_USED_UP): passes("AdvisorStream's share of your firm's Salesforce calls is used up."),
    (SYNC, Code.ORG_NEARLY_FULL): passes(
        "Your firm's Salesforce calls for today are nearly used up.",
        "All users and apps of {firm} together have used 90% of them, so scheduled syncs leave the rest to your colleagues.",
        do_next="Nothing. Syncs go on by themselves; Sync Account still works now.",
    ),
    (SYNC, Code.CONCURRENT_LIMIT): passes(
        "Salesforce is busy with your firm's other apps.", "Too many long calls at once."
    ),
    (SYNC, Code.ROW_LOCKED): passes("Salesforce was busy.", "Someone else was changing the same records."),
    (LEAD_WAITS, Code.ROW_LOCKED): passes("Salesforce was busy with other changes."),
    (SYNC, Code.QUERY_TIMEOUT): salesforce_fixes(
        "Salesforce took too long.", "It gave up searching for your contacts."
    ),
    (SYNC, Code.SERVER_ERROR): salesforce_fixes("Salesforce had an error of its own.", "It answered “{detail}”."),
    (SYNC, Code.SERVER_UNAVAILABLE): salesforce_fixes(
        "Salesforce is not available.", "It is being maintained, or overloaded."
    ),
    (SYNC, Code.MAINTENANCE): salesforce_fixes("Salesforce is being maintained.", "It takes no changes at the moment."),
    (LEAD_WAITS, Code.MAINTENANCE): salesforce_fixes("Salesforce is being maintained."),
    (SYNC, Code.EDGE_BUSY): salesforce_fixes("Salesforce was busy.", "Its servers asked us to come back later."),
    (SYNC, Code.SHORT_ANSWER): salesforce_fixes(
        "Salesforce's answer was cut short.", "Fewer records came than it had counted."
    ),
    (SYNC, Code.SESSION_ENDED_AGAIN): passes(
        "Salesforce ended our session.", "It did so again just after we had renewed it."
    ),
    (SYNC, Code.INSTANCE_MOVED): passes(
        "Your firm's Salesforce has moved.", "It has a new address; the next sync goes there."
    ),
    (SYNC, Code.LOCATOR_EXPIRED): salesforce_fixes(
        "Salesforce forgot our place in the list.", "It happened too often in one sync."
    ),
    (SYNC, Code.WORKER_DIED): we_fix(
        "The sync was interrupted three times.",
        "The part of our system that runs syncs stopped while it worked on this one.",
    ),
    (LEAD_WAITS, Code.CHECKED): passes("You have looked, and it wasn't there.", do_next="It is on its way."),
    (LEAD_WAITS, Code.LEADS_SHARE_USED_UP): passes(
        "Sign-ups at your firm have used the Salesforce calls that are set aside for them.",
        do_next="It goes out by itself within a day.",
    ),
    (LEAD_WAITS, Code.RECORD_LOCKED): passes("An approval in Salesforce has locked a record for now."),
    (LEAD_WAITS, Code.DATABASE_AWAY): passes("Our own database was away for a moment."),
    (LEAD_WAITS, Code.ROLLED_BACK): passes("Something was in the way."),
    (LEAD_REFUSED, Code.REQUIRED_FIELD): admin_fixes(
        "Your firm requires “{detail}” on every lead.",
        "Your firm requires “{detail}” on every lead, and the sign-up page doesn't ask for it.",
        "Hello, AdvisorStream creates leads with first name, last name, email, company and lead source. Salesforce refuses them "
        "because {detail} is required. Please give this field a default value, or require it on the page layout only.",
        do_next="Ask your Salesforce admin to give “{detail}” a default value, then press Retry.",
    ),
    (LEAD_REFUSED, Code.VALIDATION_RULE): admin_fixes(
        "A rule of your firm: “{words}”",
        "A validation rule of your firm refused it and says: “{words}”",
        "Hello, a validation rule on Lead refuses leads from AdvisorStream with: “{words}”. Please let leads with our "
        "lead source pass it.",
        do_next="Ask your Salesforce admin to let leads with the source “AdvisorStream” pass, then press Retry.",
    ),
    (LEAD_REFUSED, Code.DUPLICATE): advisor_fixes(
        "Salesforce already has someone like this.",
        "A duplicate rule of your firm found someone with the same address or a similar name, who may belong to a colleague.",
        "Hello, a duplicate rule on Lead refuses a lead from AdvisorStream. Please check whether the record that it "
        "matches is the same person.",
        do_next="Look in Salesforce who it is. If it is another person after all, ask your Salesforce admin, then press Retry.",
    ),
    (LEAD_REFUSED, Code.INVALID_EMAIL): advisor_fixes(
        "Salesforce doesn't take this email address.",
        "Salesforce doesn't take this address for a real one.",
        do_next="Check the address with the person.",
    ),
    (LEAD_REFUSED, Code.TOO_LONG): admin_fixes(
        "Something is longer than Salesforce takes.",
        "Your firm's Salesforce takes fewer characters than usual in a field ({detail}).",
        "Hello, Salesforce refuses a lead from AdvisorStream because a value is longer than it takes ({detail}). "
        "Please check the length of this field of Lead, and what your rules write into it.",
    ),
    (LEAD_REFUSED, Code.RESTRICTED_PICKLIST): admin_fixes(
        "Your firm doesn't have our lead source.",
        "Lead Source takes only the values that your firm has listed, and AdvisorStream's isn't one of them.",
        "Hello, please add the value that AdvisorStream uses to the picklist Lead Source of Lead.",
        do_next="Ask your Salesforce admin to add it, then press Retry.",
    ),
    (LEAD_REFUSED, Code.FIRMS_OWN_CODE): admin_fixes(
        "A program of your firm in Salesforce failed on it.",
        "A trigger or flow of your firm, which runs on new leads, ended with an error: “{words}”",
        "Hello, a trigger or flow on Lead fails for leads from AdvisorStream ({detail}): “{words}” Please check it "
        "with a lead that has first name, last name, email, company and lead source only.",
    ),
    (LEAD_REFUSED, Code.OWNER_UNUSABLE): admin_fixes(
        "Your firm's assignment rule names no one who can take it.",
        "The rule that gives leads to people names someone who is inactive.",
        "Hello, the assignment rule on Lead gives leads from AdvisorStream to an owner who is inactive or missing.",
    ),
    (LEAD_REFUSED, Code.FIELD_VALUE): admin_fixes(
        "Your firm's Salesforce doesn't take the value of “{detail}”.",
        "Salesforce, or a rule of your firm in it, doesn't take the value of the field “{detail}” and says: “{words}”",
        "Hello, Salesforce refuses a lead from AdvisorStream because of the field {detail}: “{words}” AdvisorStream "
        "fills in first name, last name, email, company and lead source only; please check what sets {detail} on new "
        "leads, or let leads with our lead source pass.",
    ),
    (LEAD_REFUSED, Code.LOOKUP_FILTER): admin_fixes(
        "A filter of your firm refuses the value of “{detail}”.",
        "The field “{detail}” has a lookup filter in your firm's Salesforce, which says: “{words}”",
        "Hello, the lookup filter of the field {detail} on Lead refuses leads from AdvisorStream with: “{words}”. "
        "Please make the filter optional, or let leads with our lead source pass it.",
    ),
    (LEAD_REFUSED, Code.CROSS_REFERENCE_HIDDEN): admin_fixes(
        "Your Salesforce user may not use a record that new leads refer to.",
        "Something on new leads points to a record that your Salesforce user may not see or change.",
        "Hello, Salesforce refuses leads from AdvisorStream as my user with "
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY. Please check what rules, flows or triggers on Lead refer to "
        "(record type, campaign, owner, account), and give my user access to it.",
    ),
    (LEAD_REFUSED, Code.PERSON_ACCOUNT): admin_fixes(
        "Your firm's Salesforce can't do this with a person account.",
        "A program of your firm in Salesforce tried to change a person account in a way that Salesforce doesn't allow.",
        "Hello, Salesforce refuses a lead from AdvisorStream with INVALID_PERSON_ACCOUNT_OPERATION. Please check the "
        "triggers and flows on Lead that touch person accounts.",
    ),
    (LEAD_REFUSED, Code.CONVERTED): advisor_fixes(
        "This lead was converted in Salesforce.",
        "Salesforce allows no change of a lead that has become a contact.",
        do_next="Look in Salesforce for the contact. The next sync finds it.",
    ),
    (LEAD_REFUSED, Code.DELETED): advisor_fixes(
        "This record was deleted in Salesforce.",
        "The record was deleted in Salesforce while we wrote to it.",
        do_next="Look in Salesforce. If it should be there, restore it from the Recycle Bin, then press Retry.",
    ),
    (LEAD_REFUSED, Code.NOT_VISIBLE): admin_fixes(
        "Salesforce shows you no such record.",
        "The record was deleted for good, or your Salesforce user can't see it: it doesn't say which.",
        "Hello, Salesforce answers NOT_FOUND to AdvisorStream as my user for a lead that should be there. Please "
        "check the sharing of Lead for my user.",
    ),
    (LEAD_REFUSED, Code.UNKNOWN_REFUSAL): admin_fixes(
        "Salesforce refused it and said “{words}”",
        "Salesforce refused it ({detail}) and said: “{words}”",
        "Hello, Salesforce refuses a lead from AdvisorStream with {detail}: “{words}” Please check what a new Lead needs.",
        do_next="Press Retry. If it is refused again, forward the text to your Salesforce admin.",
    ),
    (LEADS_UNFOLLOWED, Code.LEAD_OPT_OUT_HIDDEN): admin_fixes(
        "Your Salesforce user can't see which leads have opted out of email.",
        forward="Hello, AdvisorStream can't read the field {named} of Lead. If Lead has it, please show it to my user: Setup "
        "› Object Manager › Lead › Fields & Relationships › {label} › Set Field-Level Security. If Lead doesn't have "
        "it, please add a checkbox of that name.",
    ),
    (LEADS_UNFOLLOWED, Code.LEADS_HIDDEN): admin_fixes(
        "Your Salesforce user may not see leads.",
        forward="Hello, please give my user the permission Read on Lead: Setup › Profiles (or Permission Sets) › Object "
        "Settings › Leads › Read.",
    ),
}
