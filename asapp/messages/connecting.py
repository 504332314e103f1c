"""What an advisor reads when a log-in ends without a connection, and when a connection needs its advisor.

One table each, by the codes of salesforce/errors.py, salesforce/oauth.py and connections/connect.py. Every row says what
happened, what is safe, what to do next and who can mend it; where that is somebody else, there is text to forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from asapp.messages.fixed_by import FixedBy

APP_NAME = "AdvisorStream Integration"
NOTHING_HAPPENED = "Everything. Nothing was connected, read or changed."
KEPT = "Your contacts and their lists are still here, as of the last sync."
STILL_CONNECTED = "Everything. The connection you have and your contacts are as they were."


@dataclass(frozen=True)
class Words:
    """One row of a table. Braces are filled in: {firm}, {host}, {callback}, {user}, {quote}, {when}."""

    headline: str
    happened: str
    do_next: str
    fixed_by: FixedBy
    forward: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Context:
    """What the words may name."""

    firm: str
    host: str
    callback_url: str
    user: str  # the advisor's address, or the Salesforce username where it is known
    when: datetime
    is_connected: bool = False
    detail: str = ""
    words: str = ""
    is_fetched: bool = True  # else the browser brought it: quoted to the advisor alone, never in a text to forward

    @property
    def quote(self) -> str:
        """What Salesforce said, to be quoted; empty if it said nothing."""
        if self.words:
            return f"“{self.words}”"
        return self.detail

    @property
    def quote_to_forward(self) -> str:
        if self.words and self.is_fetched:
            return f"{self.detail}, “{self.words}”" if self.detail else f"“{self.words}”"
        return self.detail


@dataclass(frozen=True)
class Explained:
    code: str
    headline: str
    happened: str
    safe: str
    do_next: str
    fixed_by: FixedBy
    forward: str
    subject: str


TRY_AGAIN = "Press Connect Account again in a few minutes."
ASK_ADMIN = "Forward the text below to your Salesforce admin, then press Connect Account again once they have answered."
ASK_US = "Forward the text below to Customer Success at AdvisorStream. Nothing is wrong on your side."
SIGNED = "\nSalesforce answered {quote} on {when} for {user}."

CONNECT_FAILURES: Mapping[str, Words] = {
    # the advisor
    "denied": Words(
        "You did not allow AdvisorStream on Salesforce's page.",
        "Salesforce asked whether AdvisorStream may read your contacts, and the answer was Deny.",
        "If that was not what you wanted, press Connect Account again and choose Allow.",
        FixedBy.ADVISOR,
    ),
    "state_expired": Words(
        "The log-in took longer than ten minutes.",
        "For your safety a log-in that was begun here can be finished within ten minutes only.",
        "Press Connect Account again.",
        FixedBy.ADVISOR,
    ),
    "lost_state": Words(
        "That answer from Salesforce belongs to no log-in of yours.",
        "An answer came back from Salesforce that fits no log-in begun in this account. It may be from an old tab, or "
        "from a log-in that somebody else began. We did not act on it.",
        "Press Connect Account and finish in the same browser.",
        FixedBy.ADVISOR,
    ),
    "no_code": Words(
        "Salesforce came back without an answer.",
        "Salesforce sent you back here, but without the code that proves your log-in.",
        "Press Connect Account again.",
        FixedBy.ADVISOR,
    ),
    "code_expired": Words(
        "The log-in was too old when it arrived.",
        "Salesforce no longer accepts the code of this log-in. That happens when a page is reloaded or lies open for long.",
        "Press Connect Account again and go straight on.",
        FixedBy.ADVISOR,
    ),
    "already_connected": Words(
        "That Salesforce user is connected to another AdvisorStream account.",
        "One Salesforce user can be connected to one AdvisorStream account. The user you logged in with already is. "
        "The new permission was given back to Salesforce.",
        "Log out of Salesforce, then press Connect Account and log in as yourself. Was it your own user? Write to "
        "Customer Success.",
        FixedBy.ADVISOR,
    ),
    "at_once": Words(
        "Two log-ins arrived at the same moment.",
        "Two tabs finished a log-in at once. The other one counts; the permission of this one was given back.",
        "See whom the panel names. Press Connect Account again if that isn't right.",
        FixedBy.ADVISOR,
    ),
    "setup_changed": Words(
        "Your firm's set-up changed while you were logging in.",
        "Somebody changed {firm}'s Salesforce settings between your click and Salesforce's answer, so we threw the answer "
        "away.",
        "Press Connect Account again.",
        FixedBy.ADVISOR,
    ),
    # the firm's Salesforce admin
    "app_blocked": Words(
        "Salesforce says that your admin has blocked this app.",
        "Your firm's Salesforce refused AdvisorStream: {quote}.",
        "Only your firm's Salesforce admin can unblock it. " + ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please unblock AdvisorStream for us: Setup › Connected Apps OAuth Usage › "
        + APP_NAME
        + " › Unblock."
        + SIGNED,
        "AdvisorStream is blocked in Salesforce",
    ),
    "app_not_installed": Words(
        "AdvisorStream's app is not installed in this Salesforce org.",
        "Salesforce does not know the app in the org you logged in to: {quote}. Either your admin has not installed it "
        "yet, or your browser was logged in to a different org.",
        "If you have more than one Salesforce, log out of it and try again. If not: " + ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please install the AdvisorStream app in our Salesforce ({host}): Setup › Connected Apps OAuth Usage › "
        + APP_NAME
        + " › Install. For an external client app: Setup › External Client App Manager, and check that it is enabled."
        + SIGNED,
        "Please install AdvisorStream in Salesforce",
    ),
    "not_admin_approved": Words(
        "Your Salesforce user has not been approved for this app.",
        "In your firm's Salesforce only approved users may use AdvisorStream, and yours isn't one yet: {quote}.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please let me use AdvisorStream: Setup › External Client App Manager (or Manage Connected Apps) › "
        + APP_NAME
        + " › Policies. “Permitted Users” says admin approved; please add my profile or a permission set of mine."
        + SIGNED,
        "Please approve me for AdvisorStream in Salesforce",
    ),
    "approval_error": Words(
        "Salesforce could not approve the app for you.",
        "Salesforce stopped with a general error: {quote}. Most often the app isn't installed in the org and your user "
        "may not approve apps that aren't, or your licence is for integrations only.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, I can't approve AdvisorStream in our Salesforce ({host}). Please check in Setup › Connected Apps OAuth "
        "Usage that " + APP_NAME + " is installed, and that its scopes are “Manage user data via APIs (api)”, “Perform "
        "requests at any time (refresh_token)” and “Access the identity URL service (id)”." + SIGNED,
        "Salesforce can't approve AdvisorStream",
    ),
    "scope_missing": Words(
        "The firm's app may not give what AdvisorStream needs.",
        "We asked for permissions that your firm's app does not have: {quote}.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please add these OAuth scopes to "
        + APP_NAME
        + ": “Manage user data via APIs (api)”, “Perform requests "
        "at any time (refresh_token, offline_access)” and “Access the identity URL service (id)”." + SIGNED,
        "OAuth scopes for AdvisorStream",
    ),
    "no_api_scope": Words(
        "The permission does not cover reading contacts.",
        "You allowed AdvisorStream, but your firm's app did not include access to the API. The permission was given back.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please add the OAuth scope “Manage user data via APIs (api)” to " + APP_NAME + " in our Salesforce.",
        "OAuth scope for AdvisorStream",
    ),
    "no_refresh_token": Words(
        "The permission would have ended with your log-in.",
        "You allowed AdvisorStream, but your firm's app gives no lasting permission, so no sync could run without you. "
        "The permission was given back.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please add the OAuth scope “Perform requests at any time (refresh_token, offline_access)” to "
        + APP_NAME
        + " in our Salesforce, and set its refresh token policy to “valid until revoked”.",
        "OAuth scope for AdvisorStream",
    ),
    "redirect_mismatch": Words(
        "Our return address is missing in the firm's app.",
        "Salesforce does not send anybody back to an address that isn't written in the app: {quote}.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please set the callback URL of " + APP_NAME + " in our Salesforce to exactly\n{callback}" + SIGNED,
        "Callback URL for AdvisorStream",
    ),
    "ip_restricted": Words(
        "Your firm's Salesforce refuses log-ins at this hour or from our address.",
        "Salesforce said {quote}. Login hours or trusted addresses of your profile stand in the way.",
        "Try again within your login hours. If it stays: " + ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please relax the IP restrictions for " + APP_NAME + ": Setup › External Client App Manager (or Manage "
        "Connected Apps) › " + APP_NAME + " › Policies › IP Relaxation › Relax IP restrictions." + SIGNED,
        "IP restrictions and AdvisorStream",
    ),
    "inactive_user": Words(
        "That Salesforce user is switched off.",
        "Salesforce says that the user is inactive or frozen.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce says that my user is inactive or frozen. Please check it in Setup › Users." + SIGNED,
        "My Salesforce user is inactive",
    ),
    "inactive_org": Words(
        "Your firm's Salesforce is locked or closed.",
        "Salesforce says that the whole org is locked, closed or suspended.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce says that our org ({host}) is locked, closed or suspended." + SIGNED,
        "Our Salesforce org is locked",
    ),
    "identity_refused": Words(
        "Salesforce would not tell us who you are.",
        "You allowed AdvisorStream, but Salesforce refused to name the user behind it. The permission was given back.",
        ASK_ADMIN,
        FixedBy.FIRM_ADMIN,
        "Hello, please add the OAuth scope “Access the identity URL service (id)” to "
        + APP_NAME
        + " in our Salesforce, "
        "and check that my profile has “API Enabled”. If Setup › Session Settings › “Lock sessions to the IP address from which "
        "they originated” is on, please switch it off, or set IP Relaxation of the app to “Relax IP restrictions”."
        + SIGNED,
        "OAuth scope for AdvisorStream",
    ),
    # AdvisorStream, or the firm's admin who entered the values
    "bad_key": Words(
        "Salesforce does not know the firm's consumer key.",
        "The consumer key that {firm} gave us is wrong, or the app is so new that Salesforce doesn't know it everywhere "
        "yet: {quote}.",
        "A new app needs up to ten minutes: try again then. Still there? Forward the text below to your Salesforce admin.",
        FixedBy.FIRM_ADMIN,
        "Hello, AdvisorStream can't use the consumer key of "
        + APP_NAME
        + ". Please send Customer Success the Consumer Key "
        "and Consumer Secret again through the set-up link (ask them for a new one)." + SIGNED,
        "Consumer key for AdvisorStream",
    ),
    "bad_secret": Words(
        "Salesforce refused the firm's consumer secret.",
        "The consumer secret that {firm} gave us is wrong or was replaced in Salesforce: {quote}.",
        "Forward the text below to your Salesforce admin.",
        FixedBy.FIRM_ADMIN,
        "Hello, AdvisorStream can't use the consumer secret of "
        + APP_NAME
        + ". Please send Customer Success the current "
        "Consumer Key and Consumer Secret through the set-up link (ask them for a new one)." + SIGNED,
        "Consumer secret for AdvisorStream",
    ),
    "foreign_host": Words(
        "Salesforce named a server that we don't know as Salesforce's.",
        "The answer pointed to an address outside of Salesforce's own. We sent nothing there and gave the permission back.",
        ASK_US,
        FixedBy.ADVISORSTREAM,
        "Hello, connecting {user} of {firm} on {when} ended with an instance URL that is not on the list of hosts "
        "(log-in at {host}).",
        "AdvisorStream: unknown Salesforce host",
    ),
    "redirected": Words(
        "Your firm's Salesforce has moved to another address.",
        "{host} sent us on to another address. We never follow with the firm's secret in hand.",
        "Forward the text below to your Salesforce admin.",
        FixedBy.FIRM_ADMIN,
        "Hello, {host} redirects. Please tell Customer Success at AdvisorStream our current My Domain (Setup › My Domain).",
        "Our Salesforce address has changed",
    ),
    "pkce": Words(
        "Salesforce refused our proof of the log-in.",
        "Salesforce said {quote}. The proof that the log-in was begun here did not arrive as it should.",
        "Press Connect Account again. If it comes back, forward the text below to Customer Success.",
        FixedBy.ADVISORSTREAM,
        "Hello, connecting {user} of {firm} ended with a PKCE error." + SIGNED,
        "AdvisorStream: PKCE error",
    ),
    "our_bug": Words(
        "Salesforce did not understand our question.",
        "Salesforce said {quote}. That is ours to mend.",
        ASK_US,
        FixedBy.ADVISORSTREAM,
        "Hello, connecting {user} of {firm} failed at {host}." + SIGNED,
        "AdvisorStream can't connect to Salesforce",
    ),
    "unreadable_answer": Words(
        "Salesforce's answer was incomplete.",
        "Salesforce accepted the log-in, but its answer lacked what tells us the org and the user ({quote}).",
        "Press Connect Account again. If it comes back, forward the text below to Customer Success.",
        FixedBy.ADVISORSTREAM,
        "Hello, connecting {user} of {firm} ended with an incomplete answer from {host} ({quote}) on {when}.",
        "AdvisorStream: incomplete answer from Salesforce",
    ),
    "key_missing": Words(
        "We can't read the firm's settings at the moment.",
        "The key and secret of {firm} are stored sealed, and AdvisorStream could not open them.",
        ASK_US,
        FixedBy.ADVISORSTREAM,
        "Hello, the Salesforce settings of {firm} can't be opened (encryption key). Seen by {user} on {when}.",
        "AdvisorStream: sealed settings can't be opened",
    ),
    # nobody: it passes
    "token_endpoint_busy": Words(
        "Salesforce is busy or under maintenance.",
        "Your log-in worked, but Salesforce could not finish it just then.",
        TRY_AGAIN,
        FixedBy.SALESFORCE,
    ),
    "no_connection": Words(
        "We could not reach Salesforce.",
        "{host} did not take our call.",
        TRY_AGAIN,
        FixedBy.NOBODY,
    ),
    "no_answer": Words(
        "Salesforce did not answer in time.",
        "Your log-in worked, but {host} did not answer our call. What it gave, if it gave anything, is not stored here.",
        TRY_AGAIN,
        FixedBy.SALESFORCE,
    ),
    "answer_too_large": Words(
        "Salesforce's answer was not what it should be.",
        "{host} answered with far more than a log-in needs, so we stopped reading.",
        TRY_AGAIN,
        FixedBy.SALESFORCE,
    ),
}
UNKNOWN_FAILURE = Words(
    "Salesforce refused the log-in.",
    "Salesforce said {quote}. We don't know this answer yet.",
    "Press Connect Account again. If it comes back, forward the text below to your Salesforce admin.",
    FixedBy.FIRM_ADMIN,
    "Hello, I can't connect AdvisorStream to our Salesforce ({host})." + SIGNED,
    "Salesforce refuses AdvisorStream",
)

RECONNECT_REASONS: Mapping[str, Words] = {
    "permission_withdrawn": Words(
        "Salesforce no longer accepts the permission that you gave.",
        "The permission was withdrawn in Salesforce. That happens when somebody revokes it, when your firm's policy asks "
        "for it, or after four more log-ins with the same app.",
        "Connect once more as the same Salesforce user. It takes about 30 seconds.",
        FixedBy.ADVISOR,
    ),
    "permission_expired": Words(
        "The permission that you gave has run out.",
        "Your firm's policy ends such permissions after some time.",
        "Connect once more as the same Salesforce user. It takes about 30 seconds.",
        FixedBy.ADVISOR,
    ),
    "inactive_user": Words(
        "Your Salesforce user is switched off.",
        "Salesforce says that your user is inactive or frozen. Connecting again works only when that is changed.",
        "Forward the text below to your Salesforce admin, then connect once more.",
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce says that my user {user} is inactive or frozen. Please check it in Setup › Users.",
        "My Salesforce user is inactive",
    ),
    "inactive_org": Words(
        "Your firm's Salesforce is locked or closed.",
        "Salesforce says that the whole org is locked, closed or suspended.",
        "Forward the text below to your Salesforce admin, then connect once more.",
        FixedBy.FIRM_ADMIN,
        "Hello, Salesforce says that our org ({host}) is locked, closed or suspended.",
        "Our Salesforce org is locked",
    ),
    "unknown_grant_error": Words(
        "Salesforce keeps refusing the permission that you gave.",
        "For over an hour Salesforce has refused to renew it, in words that we don't know.",
        "Connect once more as the same Salesforce user. It takes about 30 seconds.",
        FixedBy.ADVISOR,
    ),
}
UNKNOWN_REASON = RECONNECT_REASONS["permission_withdrawn"]


def explain_failure(code: str, context: Context) -> Explained:
    """Explain a log-in that ended without a connection."""
    safe = STILL_CONNECTED if context.is_connected else NOTHING_HAPPENED
    return _fill(code, CONNECT_FAILURES.get(code, UNKNOWN_FAILURE), context, safe)


def explain_reconnect(reason: str, context: Context) -> Explained:
    """Explain why a connection needs its advisor."""
    return _fill(reason, RECONNECT_REASONS.get(reason, UNKNOWN_REASON), context, KEPT)


def forward_when_stuck(context: Context) -> str:
    """Text for the admin when Salesforce shows an error on a page of its own."""
    return (
        "Hello, I can't connect AdvisorStream to our Salesforce. The page says: (paste the words here).\n"
        f"Please check in Setup › External Client App Manager › {APP_NAME} that the app is installed and that its "
        f"callback URL is exactly\n{context.callback_url}"
    )


def _fill(code: str, row: Words, context: Context, safe: str) -> Explained:
    values = {
        "firm": context.firm,
        "host": context.host,
        "callback": context.callback_url,
        "user": context.user,
        "quote": context.quote_to_forward or "no reason",
        "when": f"{context.when.day} {context.when:%B %Y at %H:%M} UTC",
    }
    forward = row.forward if context.quote_to_forward else row.forward.replace(SIGNED, "")
    happened = row.happened.format(**{**values, "quote": context.quote or "no reason"})
    return Explained(
        code=code,
        headline=row.headline.format(**values),
        happened=happened,
        safe=safe,
        do_next=row.do_next.format(**values),
        fixed_by=row.fixed_by,
        forward=forward.format(**values),
        subject=row.subject,
    )
