"""The subjects of alert mails. Their text is in templates/mail/alerts/."""

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
FIRM_HAS_MOVED = "{firm}: its Salesforce has moved"  # where that is why the app is refused
