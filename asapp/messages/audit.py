"""The words of an audit entry's details. The entries themselves keep names and codes, as programs read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asapp.core.formats import counted
from asapp.messages.codes import Code

# What a name means on screen; other names are shown as they are, with spaces. {}: the value.
DETAILS: Mapping[str, str] = {
    "addresses": "addresses: {}",
    "after": "{}",
    "api_share_percent": "share of daily API calls (%): {}",
    "api_version": "API version: {}",
    "brings_in_open_leads": "bring in open Leads: {}",
    "confirms_sign_ups": "confirm sign-ups by email: {}",
    "consumer_key": "Consumer Key {}",
    "consumer_secret": "Consumer Secret {}",
    "contacts": "{}",
    "contacts_kept": "contacts kept here: {}",
    "disclosure": "disclosure on sign-up pages: {}",
    "devices": "devices: {}",
    "ends_with": "key that ends with {}",
    "file": "file: {}",
    "forgotten": "{} was forgotten",
    "from_partner": "from {}",
    "from_salesforce": "from Salesforce: {}",
    "is_company_automatic": "leave Company out where Salesforce allows it: {}",
    "keep_leads_with_advisor": "keep the lead with the advisor: {}",
    "lead": "lead {}",
    "lead_company": "Company of new leads: {}",
    "lead_source": "lead source: {}",
    "made_by_hand": "added by hand: {}",
    "more_opt_out_fields": "more opt-out fields: {}",
    "opt_out_field": "opt-out field: {}",
    "opt_outs_trusted_days": "trust opt-outs for (days): {}",
    "pending_secret": "new Consumer Secret, which waits until Salesforce accepts it: {}",
    "privacy_url": "privacy notice: {}",
    "provider": "identity provider: {}",
    "reason": "{}",
    "run": "receipt {}",
    "salesforce_url": "Salesforce URL: {}",
    "scopes": "may: {}",
    "second_step": "second step: {}",
    "sends_on_data_of_hours": "before a send, go on with data up to (hours): {}",
    "skip_bounced": "leave out addresses that bounced in Salesforce: {}",
    "slug": "address of the page: {}",
    "sync_interval_minutes": "sync every (minutes): {}",
    "to_partner": "to {}",
    "tokens_revoked": "permissions revoked: {}",
    "way": "by {}",
    "who": "{}",
    "writes_opt_outs_back": "tell Salesforce of unsubscribes: {}",
}
FIRMS = ("from_partner", "to_partner")  # details that are numbers of firms
# Why a connection broke.
BROKE: Mapping[str, str] = {
    Code.PERMISSION_WITHDRAWN: "the permission was withdrawn in Salesforce",
    Code.PERMISSION_EXPIRED: "the permission ran out, as the firm's policy says",
    Code.UNKNOWN_GRANT_ERROR: "Salesforce refused to renew the permission for over an hour",
    Code.INACTIVE_USER: "the Salesforce user is inactive",
    Code.INACTIVE_ORG: "the org is inactive",
}


def told(name: str, value: Any, firms: Mapping[int, str]) -> str:
    """Return one detail in words. firms: {id: name}."""
    if name in FIRMS:
        value = firms.get(value, f"firm {value}")
    elif name == "reason":
        value = BROKE.get(value, str(value).replace("_", " "))
    elif name == "contacts":
        value = counted(value, "contact") if isinstance(value, int) else f"numbers: {value}"
    return DETAILS.get(name, f"{name.replace('_', ' ')}: {{}}").format(_value(value))


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        return f"{_value(value[0])}, then {_value(value[1])}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value in (None, "") else str(value)
