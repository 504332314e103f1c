"""The choices of mails in Profile."""

from __future__ import annotations

from collections.abc import Mapping

from asapp.models import Digest, LeadMails

DIGESTS: Mapping[str, str] = {Digest.DAILY: "Every weekday", Digest.WEEKLY: "On Mondays", Digest.OFF: "Never"}
LEAD_MAILS: Mapping[str, str] = {
    LeadMails.ALL: "For every new lead, and when Salesforce refuses one",
    LeadMails.REFUSED: "Only when Salesforce refuses one",
    LeadMails.OFF: "Never",
}
