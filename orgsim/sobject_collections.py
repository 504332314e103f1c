"""/composite/sobjects: up to 200 records in one call. The status is 200 even if every row fails; rows carry statusCode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orgsim import ids
from orgsim.dml import SeveralMatchError
from orgsim.errors import ApiError, bad_request, not_found
from orgsim.record_view import read_records
from orgsim.rest_messages import Reply
from orgsim.store import RollBackError, roll_back
from orgsim.trouble import Request as Asked

if TYPE_CHECKING:
    from orgsim.rest import RestApi
    from orgsim.rest_messages import ApiRequest
    from orgsim.schema import SObject

MAX_ROWS = 200
MAX_CHUNKS = 10  # runs of records of one type
MAX_RETRIEVED = 2000
_ROLLED_BACK = {
    "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "fields": [],
    "message": "Record rolled back because not all records were valid and the request was using AllOrNone header",
}
Row = Callable[[Any], dict[str, Any]]


def _run(api: RestApi, rows: list[Any], one: Row, *, all_or_none: bool) -> Reply:
    results: list[dict[str, Any]] = []
    try:
        with api.org.store.transaction():
            results.extend(_attempt(api, one, row) for row in rows)
            if all_or_none and not all(r["success"] for r in results):
                roll_back()
    except RollBackError:
        results = [{"success": False, "errors": [_ROLLED_BACK]} if r["success"] else r for r in results]
    return Reply(200, results)


def _attempt(api: RestApi, one: Row, row: Any) -> dict[str, Any]:
    try:
        with api.org.store.transaction():
            _check_faults(api)
            return one(row)
    except ApiError as error:
        return {"success": False, "errors": [error.row()]}
    except SeveralMatchError as error:
        return {
            "success": False,
            "errors": [
                {
                    "statusCode": "DUPLICATE_VALUE",
                    "fields": [],
                    "message": f"Multiple records match: {', '.join(error.record_ids)}",
                }
            ],
        }


def _check_faults(api: RestApi) -> None:
    """Raise ApiError if a fault of kind "row" matches this row."""
    fault = api.org.trouble.pick(Asked("", "", ("row",)))
    answer = fault.replacement if fault else None
    if answer is not None and isinstance(answer.body, list):
        entry = answer.body[0]
        raise ApiError(answer.status, entry["errorCode"], entry["message"], fields=entry.get("fields"))


def _records(request: ApiRequest) -> tuple[list[Any], bool]:
    body = request.json_object()
    records = body.get("records")
    if not isinstance(records, list) or not records:
        raise bad_request("REQUIRED_FIELD_MISSING", "At least 1 record is required")
    if len(records) > MAX_ROWS:
        raise bad_request(
            "EXCEEDED_ID_LIMIT", f"record limit reached. cannot submit more than {MAX_ROWS} records into this call"
        )
    _check_chunks(records)
    return records, body.get("allOrNone") is True


def _check_chunks(records: list[Any]) -> None:
    """Refuse more than ten runs of records of one type: the records of a run are saved together. The code is a guess."""
    types = [str((row.get("attributes") or {}).get("type")).lower() if isinstance(row, dict) else "" for row in records]
    chunks = sum(1 for number, one in enumerate(types) if number == 0 or types[number - 1] != one)
    if chunks > MAX_CHUNKS:
        raise bad_request(
            "LIMIT_EXCEEDED",
            f"Cannot have more than {MAX_CHUNKS} chunks in a single operation. Please rearrange the data to reduce chunking.",
        )


def _object_of(request: ApiRequest, row: Any) -> SObject:
    attributes = row.get("attributes") if isinstance(row, dict) else None
    name = attributes.get("type") if isinstance(attributes, dict) else None
    if not name:
        raise bad_request("INVALID_INPUT", "Include an entity type with each record.", [])
    found = request.access.find_object(str(name))
    if found is None:
        raise bad_request("INVALID_TYPE", f"sObject type '{name}' is not supported.", [])
    return found


def create(api: RestApi, request: ApiRequest) -> Reply:
    records, all_or_none = _records(request)
    dml, options = api.dml(request), request.options

    def one(row: Any) -> dict[str, Any]:
        return {"id": dml.create(_object_of(request, row), row, options), "success": True, "errors": []}

    return _run(api, records, one, all_or_none=all_or_none)


def update(api: RestApi, request: ApiRequest) -> Reply:
    records, all_or_none = _records(request)
    dml, options = api.dml(request), request.options
    met: set[str] = set()

    def one(row: Any) -> dict[str, Any]:
        sobject = _object_of(request, row)
        record_id = str(row.get("Id") or row.get("id") or "")
        if not record_id:
            raise bad_request("MISSING_ARGUMENT", "Id not specified in an update call", [])
        full = ids.to_18(record_id) or record_id
        if full in met:
            raise bad_request("DUPLICATE_VALUE", f"duplicate id in list: {record_id}", [])
        met.add(full)
        dml.update(sobject, record_id, {k: v for k, v in row.items() if k.lower() != "id"}, options)
        return {"id": record_id, "success": True, "errors": []}

    return _run(api, records, one, all_or_none=all_or_none)


def delete(api: RestApi, request: ApiRequest) -> Reply:
    named = [one.strip() for one in request.params.get("ids", "").split(",") if one.strip()]
    if not named:
        raise bad_request("REQUIRED_FIELD_MISSING", "At least 1 record is required")
    if len(named) > MAX_ROWS:
        raise bad_request(
            "EXCEEDED_ID_LIMIT", f"record limit reached. cannot submit more than {MAX_ROWS} records into this call"
        )
    dml = api.dml(request)

    def one(row: Any) -> dict[str, Any]:
        sobject = api.org.schema.of_id(row)
        if sobject is None:
            raise bad_request("MALFORMED_ID", f"malformed id {row}", [])
        return {"id": dml.delete(sobject, row), "success": True, "errors": []}

    return _run(api, named, one, all_or_none=request.params.get("allOrNone", "").lower() == "true")


def upsert(api: RestApi, request: ApiRequest) -> Reply:
    sobject, key = api.find_object(request, request.parts[2]), request.parts[3]
    records, all_or_none = _records(request)
    dml, options = api.dml(request), request.options

    def one(row: Any) -> dict[str, Any]:
        value = row.get(key)
        payload = {k: v for k, v in row.items() if k != key}
        made, created = dml.upsert(sobject, key, str(value or ""), payload, options)
        return {"id": made, "success": True, "errors": [], "created": created}

    return _run(api, records, one, all_or_none=all_or_none)


def retrieve(api: RestApi, request: ApiRequest) -> Reply:
    """Return the records in the order of the Ids, null for each that is not found."""
    sobject = api.find_object(request, request.parts[2])
    asked = (
        request.json_object()
        if request.method == "POST"
        else {name: request.params.get(name, "").split(",") for name in ("ids", "fields")}
    )
    named, fields = [i for i in asked.get("ids", []) if i], [f for f in asked.get("fields", []) if f]
    if not named or not fields:
        raise bad_request("MISSING_ARGUMENT", "ids and fields are required")
    if len(named) > MAX_RETRIEVED:
        raise not_found()
    return Reply(200, read_records(api.org, request, sobject, named, fields))
