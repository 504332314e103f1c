"""One record as GET and the retrieve of collections show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orgsim import ids
from orgsim.clock import to_salesforce
from orgsim.errors import bad_request

if TYPE_CHECKING:
    from orgsim.org import Org
    from orgsim.rest_messages import ApiRequest
    from orgsim.schema import SObject


def read_record(
    org: Org, request: ApiRequest, sobject: SObject, record_id: str, wanted: list[str]
) -> dict[str, Any] | None:
    """Return a record as GET shows it, or None if it is deleted, invisible or was never there."""
    full = ids.to_18(record_id)
    record = org.store.record(sobject, full) if full else None
    if record is None or record.get("IsDeleted") or not request.access.sees(sobject, record):
        return None
    fields = []
    for name in wanted or [f.name for f in request.access.visible_fields(sobject)]:
        found = request.access.find_field(sobject, name.strip())
        if found is None:
            raise bad_request("INVALID_FIELD", f"No such column '{name.strip()}' on sobject of type {sobject.name}")
        fields.append(found)
    url = f"/services/data/v{request.version}/sobjects/{sobject.name}/{full}"
    shown: dict[str, Any] = {"attributes": {"type": sobject.name, "url": url}}
    for one in fields:
        value = record[one.name]
        if one.kind == "boolean":
            value = bool(value) if value is not None or not one.nillable else None
        elif one.kind == "datetime" and value is not None:
            value = to_salesforce(value)
        shown[one.name] = value
    if wanted and "Id" not in shown:
        shown["Id"] = full
    return shown
