"""The subjects of alert mails, whose text is in templates/mail/alerts/, and what the firm board says of open alerts."""

from __future__ import annotations

from collections.abc import Mapping

from asapp.models import AlertKind

SUBJECTS: Mapping[AlertKind, str] = {
    AlertKind.RECONNECT: "Your Salesforce account has to be connected again",
    AlertKind.OPT_OUTS_SOON: "Your Salesforce contacts are about to become inactive",
    AlertKind.OPT_OUTS_UNKNOWN: "Your Salesforce contacts are inactive",
    AlertKind.HELD: "{held} for your decision",
    AlertKind.FLOOD: "Very many people are signing up on your page",
    AlertKind.PAUSED: "{firm}: Salesforce syncs pause",
    AlertKind.APP_REFUSED: "{firm}: Salesforce refuses our app",
    AlertKind.RUNS_FAIL: "{firm}: syncs fail",
}
# The subject and the text of a mail that says that it is over; kinds that are not here end without a mail.
OVER: Mapping[AlertKind, tuple[str, str]] = {
    AlertKind.RECONNECT: (
        "Your Salesforce account is connected again",
        "Your lists follow Salesforce again. The next sync reads what was missed.",
    ),
    AlertKind.OPT_OUTS_SOON: (
        "Your Salesforce contacts stay active",
        "A sync succeeded in time, so we know who has opted out of email.",
    ),
    AlertKind.OPT_OUTS_UNKNOWN: (
        "Your Salesforce contacts are active again",
        "A sync succeeded, so we know again who has opted out of email. Those who have not can be emailed again.",
    ),
    AlertKind.HELD: (
        "Nothing waits for your decision any more",
        "The contacts that had left you in Salesforce are yours again there, or inactive here for a reason of their own.",
    ),
    AlertKind.PAUSED: ("{firm}: Salesforce syncs go on", "Salesforce calls are free again, and syncs run as before."),
    AlertKind.APP_REFUSED: (
        "{firm}: Salesforce accepts our app again",
        "The firm's checks are in order, and its advisors' syncs run as before.",
    ),
    AlertKind.RUNS_FAIL: ("{firm}: syncs succeed again", "Most of the firm's connections have synced well since."),
}
FIRM_HAS_MOVED = "{firm}: its Salesforce has moved"  # where that is why the app is refused
# How the firm board tells of open alerts: for one advisor, and for several.
ON_THE_BOARD: Mapping[AlertKind, tuple[str, str]] = {
    AlertKind.RECONNECT: ("1 advisor needs to reconnect", "{number:,} advisors need to reconnect"),
    AlertKind.OPT_OUTS_SOON: (
        "1 advisor's contacts are inactive within a day unless a sync is good",
        "{number:,} advisors' contacts are inactive within a day unless a sync is good",
    ),
    AlertKind.OPT_OUTS_UNKNOWN: (
        "Opt-outs are not known: 1 advisor's contacts are inactive",
        "Opt-outs are not known: {number:,} advisors' contacts are inactive",
    ),
    AlertKind.HELD: ("1 advisor has to decide on a held sync", "{number:,} advisors have to decide on held syncs"),
    AlertKind.FLOOD: (
        "1 advisor's sign-up page has reached its limit for the day",
        "{number:,} advisors' sign-up pages have reached their limit for the day",
    ),
    AlertKind.PAUSED: ("Syncs pause: the API allowance is used up",) * 2,
    AlertKind.APP_REFUSED: ("Salesforce refuses the Consumer Key or Secret, or has moved to another address",) * 2,
    AlertKind.RUNS_FAIL: ("Syncs fail for half of the firm or more",) * 2,
}
