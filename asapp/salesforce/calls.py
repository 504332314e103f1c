"""What is told about a call to Salesforce: its kind, rows, outcome and time. Nothing that it sent or received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit


class CallKind(StrEnum):
    QUERY = "query"
    COMPOSITE = "composite"  # several questions in one call
    RETRIEVE = "retrieve"  # records by Id
    CREATE = "create"
    UPDATE = "update"
    LIST_VIEW = "list_view"
    DESCRIBE = "describe"
    LIMITS = "limits"
    TOKEN = "token"  # noqa: S105 - a log-in's code or a refresh token is exchanged
    REVOKE = "revoke"
    USERINFO = "userinfo"
    SETUP = "setup"  # checks of a firm's app, without a user
    PROBE = "probe"  # log-ins that such checks start in order to be refused
    OTHER = "other"


GOOD = "200"
BY_OAUTH = {
    "authorize": CallKind.PROBE,
    "token": CallKind.TOKEN,
    "revoke": CallKind.REVOKE,
    "userinfo": CallKind.USERINFO,
}
BY_METHOD = {"GET": CallKind.RETRIEVE, "POST": CallKind.CREATE, "PATCH": CallKind.UPDATE}
BY_RESOURCE = {"query": CallKind.QUERY, "queryAll": CallKind.QUERY, "limits": CallKind.LIMITS}


@dataclass(frozen=True, slots=True)
class MadeCall:
    """One call. outcome: the HTTP status, or a code of messages/codes.py if no usable answer came. took_ms: with the body."""

    at: datetime
    kind: CallKind
    rows: int
    outcome: str
    took_ms: int


Listener = Callable[[MadeCall], None]  # runs after each call; it must not raise


def kind_of(method: str, url: str) -> CallKind:
    """Return the kind by method and path alone."""
    parts = urlsplit(url).path.strip("/").split("/")
    if parts[:2] == ["services", "oauth2"]:
        return BY_OAUTH.get(parts[-1], CallKind.SETUP)
    if parts[:2] != ["services", "data"]:
        return CallKind.SETUP
    resource = parts[3:]
    if resource[:1] == ["composite"]:
        return _kind_of_collection(method, resource[1:])
    if resource[:1] == ["sobjects"]:
        return _kind_of_record(method, resource)
    return BY_RESOURCE.get(resource[0], CallKind.OTHER) if resource else CallKind.OTHER


def _kind_of_collection(method: str, resource: list[str]) -> CallKind:
    if resource[:1] != ["sobjects"]:
        return CallKind.COMPOSITE
    is_of_ids = len(resource) > 1
    return CallKind.RETRIEVE if is_of_ids else BY_METHOD.get(method, CallKind.OTHER)


def _kind_of_record(method: str, resource: list[str]) -> CallKind:
    if resource[-1] == "describe":
        return CallKind.DESCRIBE
    if "listviews" in resource:
        return CallKind.LIST_VIEW
    return BY_METHOD.get(method, CallKind.OTHER)


def rows_in(body: Any) -> int:
    """Return how many records an answer holds; of writes, how many were accepted."""
    if isinstance(body, list):
        return sum(1 for row in body if isinstance(row, dict) and row.get("success", True))
    if not isinstance(body, dict):
        return 0
    if isinstance(parts := body.get("compositeResponse"), list):
        return sum(rows_in(part["body"]) for part in parts if isinstance(part, dict) and _is_good(part))
    if isinstance(records := body.get("records"), list):
        return len(records)
    return 1 if "id" in body and body.get("success") is True else 0


def _is_good(part: dict[str, Any]) -> bool:
    return part.get("httpStatusCode") == 200 and "body" in part
