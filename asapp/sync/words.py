"""What an advisor reads when a sync has failed: what happened, what is safe, what to do next, and who can mend it.

By the codes of salesforce/errors.py and of the run itself. Braces are filled in from a Context; {detail} is Salesforce's own
error code or the name of a field.
"""

from __future__ import annotations

from collections.abc import Mapping

from asapp.connections.words import APP_NAME, RECONNECT_REASONS, Context, Explained, Mender, Words, fill

KEPT = "Your contacts and lists. What had been read is kept, and nobody was switched off because of this."
NOTHING_READ = "All of it. Nothing was added, changed or switched off."
SWITCHED_OFF = (
    "Your contacts and lists are kept. Those from Salesforce are inactive until this is mended: nobody is written to "
    "whose opt-out we can't see."
)
BY_ITSELF = "Nothing: the next sync tries again by itself. You can also press Sync Account."
THEN_SYNC = "Forward the text below to your Salesforce admin. The next sync picks the change up by itself."
TO_US = "Forward the text below to Customer Success at AdvisorStream. Nothing is wrong on your side."
SIGNED = "\nSalesforce answered {detail} on {when} for {user}."

RUN_FAILURES: Mapping[str, Words] = {
    # the firm's Salesforce admin
    "opt_out_hidden": Words(
        "Your Salesforce user can't see who has opted out of email.",
        "The opt-out field is hidden from {user}, or does not exist. Without it we can't know who must not be written to, "
        "so we stopped before reading anybody.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, AdvisorStream needs to read one more field for me. Please go to\n"
        "Setup › Object Manager › Contact › Fields & Relationships › Email Opt Out › Set Field-Level Security\n"
        "and tick Visible for the profile of {user}. The same for the object Lead.\n"
        "The field's API name is {opt_out_field}. Thank you!",
        "Email Opt Out and AdvisorStream",
    ),
    "opt_out_not_a_checkbox": Words(
        "The firm's opt-out field is not a checkbox.",
        "AdvisorStream is set to read {opt_out_field} as the opt-out, and in Salesforce that is not a checkbox.",
        TO_US,
        Mender.US,
        "Hello, the opt-out field {opt_out_field} of {firm} is not a checkbox. Which field shall it be?",
        "Opt-out field for AdvisorStream",
    ),
    "field_hidden": Words(
        "Your Salesforce user can't see a field we need.",
        "The field {detail} is hidden from {user}.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, AdvisorStream needs to read the field {detail} for me. Please go to\n"
        "Setup › Object Manager › Contact › Fields & Relationships › {detail} › Set Field-Level Security\n"
        "and tick Visible for the profile of {user}.",
        "A field that AdvisorStream needs",
    ),
    "object_hidden": Words(
        "Your Salesforce user may not read contacts.",
        "Salesforce does not show the object {detail} to {user}.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, AdvisorStream needs Read on the object {detail} for me: Setup › Profiles (or Permission Sets) › Object "
        "Settings › {detail} › Read, for {user}.",
        "Read access for AdvisorStream",
    ),
    "insufficient_access": Words(
        "Salesforce refused to let us read.",
        "Your Salesforce user lacks a right that reading contacts needs.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, AdvisorStream may not read contacts for {user}. Please check Read on Contact and “API Enabled” in the "
        "profile." + SIGNED,
        "Rights for AdvisorStream",
    ),
    "api_disabled": Words(
        "Salesforce's API is switched off for you.",
        "Either your Salesforce edition has no API, or your profile lacks “API Enabled”.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, AdvisorStream needs the API: Setup › Profiles › (profile of {user}) › Administrative Permissions › API "
        "Enabled." + SIGNED,
        "API access for AdvisorStream",
    ),
    "api_access_blocked": Words(
        "Your firm's Salesforce does not let AdvisorStream use the API.",
        "Your permission is valid, but the org blocks this app from the API.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, please check for "
        + APP_NAME
        + ": Setup › Connected Apps OAuth Usage (not blocked), the scope “Manage user "
        "data via APIs (api)”, and API Access Control." + SIGNED,
        "API access for AdvisorStream",
    ),
    "not_admin_approved": Words(
        "Your Salesforce user is no longer approved for this app.",
        "In your firm's Salesforce only approved users may use AdvisorStream, and yours isn't one now.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, please add my profile or a permission set of mine ({user}) to the policies of "
        + APP_NAME
        + "."
        + SIGNED,
        "Please approve me for AdvisorStream",
    ),
    "ip_restricted": Words(
        "Your firm's Salesforce refuses us at this hour or from our address.",
        "Login hours or trusted addresses of your profile stand in the way.",
        "The next sync tries again by itself. If it stays, forward the text below to your Salesforce admin.",
        Mender.FIRMS_ADMIN,
        "Hello, please relax the IP restrictions for "
        + APP_NAME
        + ": Policies › IP Relaxation › Relax IP restrictions."
        + SIGNED,
        "IP restrictions and AdvisorStream",
    ),
    "bad_key": Words(
        "Salesforce no longer knows the firm's consumer key.",
        "The app was removed in Salesforce, or its consumer key changed.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, Salesforce no longer knows the consumer key of "
        + APP_NAME
        + ". Please send Customer Success the current "
        "Consumer Key and Consumer Secret through the set-up link." + SIGNED,
        "Consumer key for AdvisorStream",
    ),
    "bad_secret": Words(
        "Salesforce refused the firm's consumer secret.",
        "The consumer secret was replaced in Salesforce. Your own permission is as it was.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, Salesforce refuses the consumer secret of " + APP_NAME + ". Please send Customer Success the current "
        "Consumer Key and Consumer Secret through the set-up link." + SIGNED,
        "Consumer secret for AdvisorStream",
    ),
    "query_too_large": Words(
        "Salesforce says that reading your contacts is too much at once.",
        "Sharing rules of your org make the query too expensive for your user.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, reading my own contacts fails for AdvisorStream with {detail}. An index on Contact.OwnerId or simpler "
        "sharing would help. It happened on {when} for {user}.",
        "AdvisorStream: query too large",
    ),
    "storage_full": Words(
        "Your firm's Salesforce is full.",
        "Salesforce says that the org's storage is used up.",
        THEN_SYNC,
        Mender.FIRMS_ADMIN,
        "Hello, our Salesforce says that its storage is used up." + SIGNED,
        "Salesforce storage",
    ),
    # a limit of the org
    "request_limit": Words(
        "Your firm has used up its Salesforce calls for today.",
        "All apps of your firm share one daily number of Salesforce calls, and it is used up.",
        "Nothing: syncing starts again by itself as older calls drop out of the 24 hours.",
        Mender.TIME,
    ),
    "share_used_up": Words(
        "AdvisorStream's share of your firm's Salesforce calls is used up.",
        "Your firm has set a part of its daily Salesforce calls aside for AdvisorStream, and that part is used up.",
        "Nothing: syncing starts again by itself as older calls drop out of the 24 hours.",
        Mender.TIME,
    ),
    # ours
    "worker_died": Words(
        "The sync was interrupted three times.",
        "The part of our system that runs syncs stopped in the middle of it, three times.",
        "Press Sync Account: it goes on where it stopped. If it happens again, write to Customer Success.",
        Mender.US,
    ),
    "our_bug": Words(
        "Something went wrong on our side.",
        "The sync stopped because of a mistake in AdvisorStream. It has been reported.",
        BY_ITSELF,
        Mender.US,
    ),
    "key_unreadable": Words(
        "We can't read what is stored for you at the moment.",
        "Your permission is stored sealed, and AdvisorStream could not open it.",
        TO_US,
        Mender.US,
        "Hello, a sealed value of {firm} can't be opened (encryption key). Seen by {user} on {when}.",
        "AdvisorStream: sealed values can't be opened",
    ),
    "foreign_host": Words(
        "Salesforce named a server that we don't know as Salesforce's.",
        "The answer pointed to an address outside of Salesforce's own. We sent nothing there.",
        TO_US,
        Mender.US,
        "Hello, a sync of {user} ({firm}) on {when} was pointed to a host that is not on the list.",
        "AdvisorStream: unknown Salesforce host",
    ),
    "api_version_retired": Words(
        "Salesforce no longer speaks the version we asked for.",
        "The API version set for {firm} has been retired.",
        TO_US,
        Mender.US,
        "Hello, the API version set for {firm} has been retired by Salesforce. Seen by {user} on {when}.",
        "AdvisorStream: API version retired",
    ),
    # nobody: it passes
    "redirected": Words(
        "Salesforce sent us to another address.",
        "Your firm's Salesforce may be moving to another address. We never follow with your permission in hand.",
        "Nothing at first: the next sync tries again. If it stays, tell your Salesforce admin.",
        Mender.TIME,
    ),
    "no_connection": Words("We could not reach Salesforce.", "{host} did not take our call.", BY_ITSELF, Mender.TIME),
    "no_answer": Words(
        "Salesforce did not answer in time.", "{host} took our call, but did not answer.", BY_ITSELF, Mender.TIME
    ),
    "maintenance": Words(
        "Salesforce is under maintenance.", "Your firm's Salesforce is being maintained.", BY_ITSELF, Mender.TIME
    ),
    "concurrent_limit": Words(
        "Too many slow requests are running in your firm's Salesforce.",
        "Salesforce takes only a few long requests at a time, and other apps of your firm have them all.",
        BY_ITSELF,
        Mender.TIME,
    ),
    "refresh_busy": Words(
        "Renewing the log-in took too long.", "Another part of our system was renewing it.", BY_ITSELF, Mender.TIME
    ),
}
BUSY = Words(
    "Salesforce is busy or under maintenance.",
    "Salesforce answered, but not with what we asked for ({detail}).",
    BY_ITSELF,
    Mender.TIME,
)


def explain(code: str, detail: str, context: Context, *, opt_out_field: str, was_synced: bool) -> Explained:
    """Explain a run that failed. was_synced: there are contacts of this connection here."""
    row = RUN_FAILURES.get(code) or RECONNECT_REASONS.get(code) or BUSY
    safe = KEPT
    if code == "opt_out_hidden":
        safe = SWITCHED_OFF if was_synced else NOTHING_READ
    return fill(code, row, context, safe, detail=detail or "no reason", opt_out_field=opt_out_field)
