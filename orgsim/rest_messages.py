"""A request to the REST data API and the reply to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from orgsim.errors import ApiError, bad_request
from orgsim.rules import Options

if TYPE_CHECKING:
    from orgsim.access import UserAccess
    from orgsim.call_log import Call
    from orgsim.oauth import Session


@dataclass
class ApiRequest:
    """A request that has a session. `parts` are the decoded path segments after the version; header names in lower case."""

    method: str
    parts: tuple[str, ...]
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | dict[str, Any] | list[Any]
    version: str
    session: Session
    access: UserAccess
    call: Call
    short_by: int = 0
    tags: frozenset[str] = frozenset()

    def json(self) -> Any:
        """Return the body; 400 JSON_PARSER_ERROR if it is not JSON."""
        if not isinstance(self.body, bytes):
            return self.body
        if "json" not in self.headers.get("content-type", ""):
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "Content type of the request is not supported")
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise bad_request(
                "JSON_PARSER_ERROR", f"{error.msg} at [line:{error.lineno}, column:{error.colno}]"
            ) from None

    def json_object(self) -> dict[str, Any]:
        parsed = self.json()
        if not isinstance(parsed, dict):
            raise bad_request(
                "JSON_PARSER_ERROR",
                "The HTTP entity body is required, but this request has no entity body."
                if not parsed
                else "Unexpected start of an array at [line:1, column:1]",
            )
        return parsed

    @property
    def options(self) -> Options:
        return Options.from_headers(self.headers)


@dataclass
class Reply:
    """`body` None sends no content."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
