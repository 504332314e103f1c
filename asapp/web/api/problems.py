"""Problems: the API's answers to calls that can't be carried out (RFC 9457, `application/problem+json`).

A program tells them apart by `type`, which never changes; /api/docs explains each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import orjson
from flask import Response, request
from werkzeug.exceptions import HTTPException

from asapp.web.page_extensions import until_limit_ends_s
from asapp.web.request_log import request_id

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
PREFIX = "/api/"
TYPES_AT = "/api/docs#"
RETRY_AFTER_S = 30


class Kind(NamedTuple):
    slug: str
    status: int
    title: str
    words: str  # what it means and what to do, for the page


class Problem(Enum):
    BAD_REQUEST = Kind(
        "bad-request", 400, "The request can't be read", "The body is not JSON, or was cut short. Send it again, whole."
    )
    NOT_AUTHENTICATED = Kind(
        "not-authenticated",
        401,
        "A valid key is needed",
        "There is no key in the header Authorization, or it is unknown, revoked or expired. Ask an AdvisorStream admin for one.",
    )
    MISSING_SCOPE = Kind(
        "missing-scope",
        403,
        "The key may not do this",
        "The key lacks the scope that the call needs. A new key is needed.",
    )
    NOT_FOUND = Kind(
        "not-found",
        404,
        "There is no such thing",
        "Nothing has this Id, or it is another firm's, or its advisor is not here any more.",
    )
    METHOD_NOT_ALLOWED = Kind(
        "method-not-allowed", 405, "The address doesn't take this method", "The header Allow says which it takes."
    )
    SEND_DIFFERS = Kind(
        "send-differs",
        409,
        "This id stands for another send",
        "A send with this id was asked for before, with another list or another age. Use a new id.",
    )
    SEND_NOT_READY = Kind(
        "send-not-ready",
        409,
        "The send is not ready",
        "Its recipients can be fetched when its state is `ready`. `stale` and `refused` never become ready.",
    )
    SEND_EXPIRED = Kind(
        "send-expired", 410, "The send has expired", "It was ready for 60 minutes. Prepare a new one, with a new id."
    )
    TOO_LARGE = Kind(
        "too-large", 413, "The request is too large", "A body has 1 MB at most. Send fewer addresses or events at once."
    )
    NOT_JSON = Kind("not-json", 415, "The body has to be JSON", "Send it as `Content-Type: application/json`.")
    INVALID = Kind(
        "invalid",
        422,
        "Something in the request will not do",
        "`errors` says where and why. Nothing was changed.",
    )
    TOO_MANY_REQUESTS = Kind(
        "too-many-requests", 429, "Too many requests", "Wait for as many seconds as the header Retry-After says."
    )
    BROKEN = Kind(
        "broken",
        500,
        "Something broke on our side",
        "Try again in a minute. If it happens again, tell AdvisorStream the number in `request_id`.",
    )
    UNAVAILABLE = Kind(
        "unavailable",
        503,
        "We can't answer at the moment",
        "The database is busy or away. Nothing was stored. Send the same again after Retry-After seconds.",
    )

    @property
    def status(self) -> int:
        kind: Kind = self.value
        return kind.status

    @property
    def type_uri(self) -> str:
        return f"{TYPES_AT}{self.value.slug}"


BY_STATUS = {
    problem.status: problem
    for problem in Problem
    if problem not in (Problem.SEND_DIFFERS, Problem.SEND_NOT_READY, Problem.SEND_EXPIRED)
}


class Refusal(Exception):
    """A call that can't be carried out. more: further members of the problem."""

    def __init__(
        self, problem: Problem, detail: str = "", headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(problem.value.slug)
        self.problem, self.detail, self.headers, self.more = problem, detail, headers or {}, more


def is_api() -> bool:
    """Does this request get problems as errors, instead of pages?"""
    return request.path.startswith(PREFIX)


def answer(refusal: Refusal) -> Response:
    kind = refusal.problem.value
    body = {"type": refusal.problem.type_uri, "title": kind.title, "status": kind.status}
    body |= {"detail": refusal.detail or kind.words, "request_id": request_id(), **refusal.more}
    response = Response(orjson.dumps(body), kind.status, content_type=CONTENT_TYPE)
    response.headers.extend(refusal.headers)
    if refusal.problem is Problem.UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def of_exception(error: HTTPException) -> Response:
    """Return the problem for an error of Flask or one of its extensions."""
    code = error.code or 500
    if code >= 500:
        log.error("An API request ended with %s", code)
    problem = BY_STATUS.get(code) or (Problem.BAD_REQUEST if code < 500 else Problem.BROKEN)
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    if problem is Problem.TOO_MANY_REQUESTS:
        headers.setdefault("Retry-After", str(math.ceil(until_limit_ends_s())))
    more: dict[str, Any] = {}
    if problem is Problem.INVALID:
        more["errors"] = list(_errors(getattr(error, "data", {}).get("messages", {})))
    return answer(Refusal(problem, headers=headers, **more))


def _errors(messages: Any) -> Iterator[dict[str, str]]:
    """Yield one entry for each error. messages: as marshmallow nests them, under the place they are about."""
    for place, inner in messages.items() if isinstance(messages, dict) else ():
        for path, words in _flat(inner):
            if place == "json":
                yield {"pointer": "#" + "".join(f"/{step}" for step in path if step != "_schema"), "detail": words}
            else:
                yield {"parameter": ".".join(path), "detail": words}


def _flat(messages: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(messages, dict):
        for step, inner in messages.items():
            yield from _flat(inner, (*path, str(step)))
    elif isinstance(messages, list):
        for words in messages:
            yield path, str(words)
