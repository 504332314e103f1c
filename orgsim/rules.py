"""The firm's own rules: validation, duplicates, assignment. They live in Settings as dicts, so that they travel as JSON.

validation_rules: {"sobject": "Lead", "field": "Phone", "when": "blank" | "contains" | "always", "value": "...", "message": "...",
"on": "Phone" | None}. `on` None puts `fields: []`, as rules without a field do.

duplicate_rules: {"sobject": "Lead", "against": "Contact", "action": "Alert" | "Block", "message": "Use one of these records?",
"every_update": True | False}; matching is by e-mail. A rule looks at new records and new addresses, and with every_update at
each change of a record. Alert can be overridden by `Sforce-Duplicate-Rule-Header: allowSave=true`, Block never; without the
header an Alert stops an API save, too.

refusals: {"sobject": "Lead", "code": "CANNOT_EXECUTE_FLOW_TRIGGER", "message": "...", "fields": ["Country"]}: the error
that a flow, a trigger or a lock of the firm ends a save with.

required_fields: {"Lead": ["Region__c"]}, checked at every save: older records that lack the field can't be changed either.
lead_queue: the queue that assignment rules give new and changed leads to, unless the caller sends `Sforce-Auto-Assign: FALSE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orgsim.errors import bad_request

if TYPE_CHECKING:
    from orgsim.access import UserAccess
    from orgsim.org import Org
    from orgsim.schema import SObject

_USE_ONE = "Use one of these records?"


@dataclass(frozen=True)
class Options:
    """What the request's headers say about rules."""

    auto_assign: bool = True
    allow_save: bool = False
    as_current_user: bool = False

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Options:
        duplicate = {
            part.split("=")[0].strip().lower(): part.split("=")[-1].strip().lower()
            for part in headers.get("sforce-duplicate-rule-header", "").replace(",", ";").split(";")
            if "=" in part
        }
        return cls(
            auto_assign=headers.get("sforce-auto-assign", "TRUE").strip().upper() != "FALSE",
            allow_save=duplicate.get("allowsave") == "true",
            as_current_user=duplicate.get("runascurrentuser") == "true",
        )


def check_required(org: Org, sobject: SObject, values: Mapping[str, Any]) -> None:
    missing = [name for name in org.settings.required_fields.get(sobject.name, []) if values.get(name) is None]
    if missing:
        raise bad_request("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)


def check_validation(org: Org, sobject: SObject, values: Mapping[str, Any]) -> None:
    for rule in org.settings.validation_rules:
        if rule["sobject"] == sobject.name and _fires(rule, values):
            raise bad_request(
                "FIELD_CUSTOM_VALIDATION_EXCEPTION", rule["message"], [rule["on"]] if rule.get("on") else []
            )


def check_refusals(org: Org, sobject: SObject) -> None:
    for refusal in org.settings.refusals:
        if refusal["sobject"] == sobject.name:
            raise bad_request(refusal["code"], refusal["message"], refusal.get("fields", []))


def _fires(rule: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    value = values.get(rule.get("field", ""))
    match rule.get("when", "always"):
        case "blank":
            return value is None
        case "contains":
            return str(rule["value"]).lower() in str(value or "").lower()
        case _:
            return True


def check_duplicates(
    org: Org,
    access: UserAccess,
    sobject: SObject,
    values: Mapping[str, Any],
    options: Options,
    own_id: str | None = None,
    has_new_address: bool = True,
) -> None:
    email = values.get("Email")
    if not email:
        return
    for rule in org.settings.duplicate_rules:
        if rule["sobject"] != sobject.name or not (has_new_address or rule.get("every_update")):
            continue
        may_save = rule.get("action", "Alert") == "Alert"
        matched = _matches(org, access, rule.get("against", sobject.name), email, options, own_id)
        if matched and not (may_save and options.allow_save):
            raise _detected(sobject, rule, matched, allow_save=may_save)


def _matches(org: Org, access: UserAccess, against: str, email: str, options: Options, own_id: str | None) -> list[str]:
    address = org.schema[against].find("Email")
    if address is not None and address.encrypted:
        return []  # matching rules don't work on what is encrypted by the probabilistic scheme
    found = org.store.records(org.schema[against], '"Email" = ? AND "IsDeleted" = 0', [email])
    others = [r for r in found if r["Id"] != own_id and not r.get("IsConverted")]
    if options.as_current_user:
        others = [r for r in others if access.sees(org.schema[against], r)]
    return [r["Id"] for r in others]


def _detected(sobject: SObject, rule: Mapping[str, Any], matched: list[str], *, allow_save: bool) -> Exception:
    against = rule.get("against", sobject.name)
    message = rule.get("message", _USE_ONE)
    error = bad_request("DUPLICATES_DETECTED", message)
    error.extra["duplicateResult"] = {
        "allowSave": allow_save,
        "duplicateRule": f"Standard_{sobject.name}_Duplicate_Rule",
        "duplicateRuleEntityType": sobject.name,
        "errorMessage": message,
        "matchResults": [
            {
                "entityType": against,
                "errors": [],
                "matchEngine": "FuzzyMatchEngine",
                "matchRecords": [
                    {
                        "additionalInformation": [],
                        "fieldDiffs": [],
                        "matchConfidence": 100.0,
                        "record": {
                            "attributes": {"type": against, "url": f"/services/data/v66.0/sobjects/{against}/{one}"},
                            "Id": one,
                        },
                    }
                    for one in matched
                ],
                "rule": f"Standard_{against}_Match_Rule_v1_1",
                "size": len(matched),
                "success": True,
            }
        ],
    }
    return error


def assigned_owner(org: Org, sobject: SObject, owner_id: str, options: Options) -> str:
    """Return a record's owner after a save: assignment rules run for leads unless the caller switches them off."""
    queue = org.settings.lead_queue
    return queue if sobject.name == "Lead" and queue and options.auto_assign else owner_id
