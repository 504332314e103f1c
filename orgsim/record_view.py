"""One record as GET and the retrieve of collections show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orgsim import ids
from orgsim.clock import to_salesforce
from orgsim.errors import bad_request

if TYPE_CHECKING:
    from orgsim.org import Org
    from orgsim.rest_messages import ApiRequest
    from orgsim.schema import Field, SObject


def read_record(
    org: Org, request: ApiRequest, sobject: SObject, record_id: str, wanted: list[str]
) -> dict[str, Any] | None:
    """Return a record as GET shows it, or None if it is deleted, invisible or was never there."""
    (shown,) = read_records(org, request, sobject, [record_id], wanted)
    return shown


def read_records(
    org: Org, request: ApiRequest, sobject: SObject, record_ids: list[str], wanted: list[str]
) -> list[dict[str, Any] | None]:
    """Return records as GET shows them, in the order of these Ids; None for each that isn't shown."""
    fields = _fields(request, sobject, wanted)
    stored = _find_stored(org, sobject, record_ids)
    url = f"/services/data/v{request.version}/sobjects/{sobject.name}/"
    shown: list[dict[str, Any] | None] = []
    for record_id in record_ids:
        record = stored.get(record_id)
        if record is None or record.get("IsDeleted") or not request.access.sees(sobject, record):
            shown.append(None)
            continue
        one: dict[str, Any] = {"attributes": {"type": sobject.name, "url": url + record["Id"]}}
        one |= {field.name: _shown_value(field, record[field.name]) for field in fields}
        if wanted and "Id" not in one:
            one["Id"] = record["Id"]
        shown.append(one)
    return shown


def _find_stored(org: Org, sobject: SObject, record_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Return {Id as it was given: record as stored}."""
    known = {record["Id"]: record for record in org.store.records_of(sobject, record_ids)}
    others = {given: full for given in record_ids if given not in known and (full := ids.to_18(given))}
    by_full = {record["Id"]: record for record in org.store.records_of(sobject, list(others.values()))}
    return known | {given: by_full[full] for given, full in others.items() if full in by_full}


def _fields(request: ApiRequest, sobject: SObject, wanted: list[str]) -> list[Field]:
    fields = []
    for name in wanted or [f.name for f in request.access.visible_fields(sobject)]:
        found = request.access.find_field(sobject, name.strip())
        if found is None:
            raise bad_request("INVALID_FIELD", f"No such column '{name.strip()}' on sobject of type {sobject.name}")
        fields.append(found)
    return fields


def _shown_value(field: Field, value: Any) -> Any:
    if field.kind == "boolean":
        return bool(value) if value is not None or not field.nillable else None
    return to_salesforce(value) if field.kind == "datetime" and value is not None else value
