"""/composite: several requests in one call; later parts may refer to earlier ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orgsim.errors import ApiError, bad_request
from orgsim.store import RollBackError, roll_back

if TYPE_CHECKING:
    from orgsim.rest import ApiRequest, Reply, RestApi

MAX_PARTS = 25
MAX_QUERIES = 5
_REFERENCE = re.compile(r"@\{([A-Za-z0-9_]+)((?:\.[A-Za-z0-9_]+|\[\d+\])*)\}")
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+)\]")
_HALTED = "The transaction was rolled back since another operation in the same transaction failed."


def _reply(body: Any) -> Reply:
    from orgsim.rest import Reply

    return Reply(200, body)


def _parts(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    parts = body.get(key)
    if not isinstance(parts, list) or not parts or not all(isinstance(p, dict) for p in parts):
        raise bad_request("REQUIRED_FIELD_MISSING", f"{key} must be an array of at least 1 subrequest")
    if len(parts) > MAX_PARTS:
        raise bad_request("LIMIT_EXCEEDED", f"Limit of {MAX_PARTS} subrequests exceeded")
    return parts


def _check_parts(parts: list[dict[str, Any]]) -> None:
    missing = [name for name in ("method", "url", "referenceId") if any(not p.get(name) for p in parts)]
    if missing:
        raise bad_request("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
    names = [p["referenceId"] for p in parts]
    if len(set(names)) < len(names):
        raise bad_request("INVALID_INPUT", "The referenceId values of the subrequests must be unique")
    heavy = [p for p in parts if re.search(r"/(?:query|queryAll)(?:$|[/?])|/composite/sobjects", str(p["url"]))]
    if len(heavy) > MAX_QUERIES:
        raise bad_request(
            "LIMIT_EXCEEDED", f"Limit of {MAX_QUERIES} query and sObject Collections subrequests exceeded"
        )


def run_composite(api: RestApi, request: ApiRequest) -> Reply:
    """Run the parts in order. With allOrNone a failure rolls all parts back, and the others answer PROCESSING_HALTED."""
    body = request.json_object()
    parts = _parts(body, "compositeRequest")
    _check_parts(parts)
    if body.get("allOrNone") is not True:
        return _reply({"compositeResponse": _run_parts(api, request, parts, halt=False)})
    results: list[dict[str, Any]] = []
    try:
        with api.org.store.transaction():
            results = _run_parts(api, request, parts, halt=True)
            if any(r["httpStatusCode"] >= 400 for r in results):
                roll_back()
    except RollBackError:
        results = [r if r["httpStatusCode"] >= 400 else _halted(r["referenceId"], _HALTED) for r in results]
    return _reply({"compositeResponse": results})


def _halted(reference: str, message: str) -> dict[str, Any]:
    return {
        "body": [{"errorCode": "PROCESSING_HALTED", "message": message}],
        "httpHeaders": {},
        "httpStatusCode": 400,
        "referenceId": reference,
    }


def _run_parts(api: RestApi, request: ApiRequest, parts: list[dict[str, Any]], *, halt: bool) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    bodies: dict[str, Any] = {}
    failed = False
    for part in parts:
        reference = str(part["referenceId"])
        if failed and halt:
            results.append(_halted(reference, _HALTED))
            continue
        try:
            url, body = _expand(part["url"], bodies), _expand(part.get("body"), bodies)
        except ApiError as error:
            results.append(_halted(reference, error.message))
            failed = True
            continue
        reply = api.handle_part(request, str(part["method"]).upper(), url, body, part.get("httpHeaders") or {})
        failed = failed or reply.status >= 400
        if reply.status < 400:
            bodies[reference] = reply.body
        results.append(
            {"body": reply.body, "httpHeaders": reply.headers, "httpStatusCode": reply.status, "referenceId": reference}
        )
    return results


def _expand(value: Any, bodies: dict[str, Any]) -> Any:
    """Replace @{reference.field} in every string, wherever it stands. A string that is only a reference keeps the type."""
    if isinstance(value, dict):
        return {k: _expand(v, bodies) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, bodies) for v in value]
    if not isinstance(value, str) or "@{" not in value:
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return _look_up(whole, bodies)
    return _REFERENCE.sub(lambda m: str(_look_up(m, bodies)), value)


def _look_up(match: re.Match[str], bodies: dict[str, Any]) -> Any:
    if match[1] not in bodies:
        raise bad_request("PROCESSING_HALTED", f"Invalid reference specified. No value for {match[1]} found")
    found = bodies[match[1]]
    for name, index in _STEP.findall(match[2]):
        try:
            found = found[name] if name else found[int(index)]
        except (KeyError, IndexError, TypeError):
            path = match[2].lstrip(".")
            message = f"Invalid reference specified. No value for {path} found in {match[1]}"
            raise bad_request("PROCESSING_HALTED", message) from None
    return found
