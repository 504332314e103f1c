"""The messages about what happened to an address, for its advisor."""

from __future__ import annotations

from collections.abc import Mapping

from asapp.models import SuppressionSource, SuppressionStep

STEPS: Mapping[str, str] = {
    SuppressionStep.UNSUBSCRIBED: "Unsubscribed",
    SuppressionStep.COMPLAINED: "Marked an email as spam",
    SuppressionStep.BOUNCED: "Email to this address bounced for good",
    SuppressionStep.OPTED_IN: "Opted in again",
    SuppressionStep.TRIED_AGAIN: "You allowed this address to be tried again",
    SuppressionStep.UNDONE: "Undid the unsubscribe",
}
SOURCES: Mapping[str, str] = {
    SuppressionSource.PAGE: "on the unsubscribe page",
    SuppressionSource.ONE_CLICK: "with the button of their mail program",
    SuppressionSource.SENDER: "as the mail system reported",
    SuppressionSource.FORM: "on your sign-up page",
    SuppressionSource.ADVISOR: "here",
    SuppressionSource.EARLIER_FIRM: "when you were with another firm",
}
ENDS = frozenset({SuppressionStep.OPTED_IN, SuppressionStep.TRIED_AGAIN, SuppressionStep.UNDONE})
