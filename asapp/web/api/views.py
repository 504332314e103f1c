"""The calls. Each parses, asks the domain, and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import orjson
from flask import Request, Response, request, stream_with_context, url_for
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import BadRequest

from asapp.contacts import recipients, sender_events
from asapp.contacts.recipients import Audience
from asapp.contacts.sender_events import EventType, Taken, Told
from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.core.database import reading
from asapp.core.forms import clean_line
from asapp.messages.senders import SEND_REASONS
from asapp.models import ContactList, Scope, Send
from asapp.partners import audience as advisors_of_firms
from asapp.sends import sends
from asapp.web.api import caller, problems, schemas
from asapp.web.api.caller import calling_key, scope_required
from asapp.web.api.problems import Problem, Refusal
from asapp.web.current import config, queues, vault
from asapp.web.incoming import json_without_nul
from asapp.web.page_extensions import limiter
from asapp.writeback import unsubscribing

View = TypeVar("View", bound=Callable[..., Response])

JSON = "application/json"
NDJSON = "application/x-ndjson"
AS_OF = "X-Opt-Outs-As-Of"
OLDEST_YEAR = 2000
ID_MAX = 100
LINES_AT_ONCE = 500
ESCAPED_NUL = b"\\u0000"  # the only form that JSON has for it
ALWAYS = (
    Problem.NOT_AUTHENTICATED,
    Problem.MISSING_SCOPE,
    Problem.TOO_MANY_REQUESTS,
    Problem.BROKEN,
    Problem.UNAVAILABLE,
)
OF_BODIES = (Problem.BAD_REQUEST, Problem.TOO_LARGE, Problem.NOT_JSON, Problem.INVALID)
TEXT_HEADER = {"schema": {"type": "string"}}


class Parser(FlaskParser):
    """Reads bodies strictly: no NaN, no lone surrogate, only valid UTF-8. A parameter that there isn't is refused."""

    DEFAULT_UNKNOWN_BY_LOCATION = FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION | {"query": RAISE}

    def _raw_load_json(self, req: Request) -> Any:
        raw = req.get_data(cache=True)
        try:
            read = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest from error
        return json_without_nul(read) if ESCAPED_NUL in raw else read


class ApiBlueprint(Blueprint):  # type: ignore[misc]  # flask-smorest has no types
    ARGUMENTS_PARSER = Parser()


def demand_json() -> None:
    if request.method == "POST" and not request.is_json:
        raise Refusal(Problem.NOT_JSON)


blueprint = ApiBlueprint(
    caller.BLUEPRINT, __name__, url_prefix="/api/v1", description="What a mail engine asks and tells."
)
limiter.shared_limit(caller.rate, scope="api", key_func=caller.counted_as)(blueprint)
blueprint.before_request(caller.demand_key)
blueprint.before_request(demand_json)
blueprint.register_error_handler(Refusal, problems.answer)


class DocumentedAnswer(NamedTuple):
    """A successful answer. lines: the schema of a line, if the call can answer as NDJSON."""

    schema: type[Schema]
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}  # name -> description
    lines: type[Schema] | None = None


def call(
    method: str,
    path: str,
    scope: Scope,
    answers: DocumentedAnswer,
    *refused: Problem,
    query: type[Schema] | None = None,
    body: type[Schema] | None = None,
) -> Callable[[View], View]:
    """Make a view a call: its address, what it demands and takes, and its documentation.

    refused: problems beside those that every call has. The view gets query or body as its first argument.
    """

    def decorate(view: View) -> View:
        made: Any = view
        if query or body:
            made = blueprint.arguments(query or body, location="query" if query else "json")(made)
        made = _document(made, answers, {*refused, *ALWAYS, *(OF_BODIES if body else ())})
        made = scope_required(scope)(blueprint.doc(security=[{"key": [scope.value]}])(made))
        blueprint.add_url_rule(path, view.__name__, made, methods=[method])
        return view

    return decorate


def _document(view: Any, answers: DocumentedAnswer, refused: set[Problem]) -> Any:
    headers = {name: {"description": words, **TEXT_HEADER} for name, words in answers.headers.items()}
    told = "As asked" if answers.status == HTTPStatus.OK else "It is being done"
    if answers.lines:
        view = blueprint.alt_response(
            answers.status, schema=answers.lines, content_type=NDJSON, description=told, headers=headers
        )(view)
    view = blueprint.response(answers.status, answers.schema, description=told, headers=headers or None)(view)
    for status in sorted({problem.status for problem in refused}):
        titles = sorted(problem.value.title for problem in refused if problem.status == status)
        view = blueprint.alt_response(
            status,
            schema=schemas.ProblemOut,
            content_type=problems.CONTENT_TYPE,
            description=". ".join(titles),
            headers=_headers_of(status),
        )(view)
    return view


def _headers_of(status: int) -> dict[str, Any] | None:
    names = {401: "WWW-Authenticate", 403: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
    return {names[status]: TEXT_HEADER} if status in names else None


# ---- Advisors


@call(
    "GET",
    "/advisors",
    Scope.AUDIENCE_READ,
    DocumentedAnswer(schemas.AdvisorsOut),
    Problem.NOT_FOUND,
    Problem.INVALID,
    query=schemas.AdvisorsQuery,
)
def advisors(query: dict[str, Any]) -> Response:
    """Advisors and their lists

    The advisors that the key reaches, with their lists and how many people on each may be written to.
    """
    partner_id = calling_key().partner_id
    slug = query.get("partner")
    if slug is not None:
        firm = advisors_of_firms.find_firm(slug, partner_id) or missing()
        partner_id = firm.id
    after = clean_line(read_cursor(query.get("cursor")).decode("ascii", "replace"))
    page = advisors_of_firms.find_page(partner_id, query.get("email"), query["limit"], after, utcnow())
    return answer(
        {
            "advisors": [
                {
                    "id": each.user.public_id,
                    "name": each.user.name,
                    "email": each.user.email,
                    "partner": each.partner.slug,
                    "state": each.state,
                    "opt_outs_as_of": stamp(each.opt_outs_as_of),
                    "active": each.active,
                    "lists": [
                        {
                            "id": one.contact_list.public_id,
                            "name": one.contact_list.name,
                            "kind": one.contact_list.kind,
                            "active": one.size.active,
                        }
                        for one in each.lists
                    ],
                }
                for each in page.found
            ],
            "next": cursor(page.after.encode() if page.after else None),
        }
    )


# ---- Recipients

RECIPIENTS = DocumentedAnswer(
    schemas.RecipientsOut, headers={AS_OF: "As `as_of`, for answers in lines."}, lines=schemas.RecipientOut
)


@call(
    "GET",
    "/lists/<list_id>/recipients",
    Scope.AUDIENCE_READ,
    RECIPIENTS,
    Problem.NOT_FOUND,
    Problem.INVALID,
    query=schemas.RecipientsQuery,
)
def recipients_of_list(query: dict[str, Any], list_id: str) -> Response:
    """Who may be written to on a list

    One recipient for each address, in pages; or all of them, one a line, with `Accept: application/x-ndjson`.
    """
    audience = recipients.prepare(get_list(list_id), utcnow(), vault(), config().public_url)
    return answer_recipients(audience, audience.as_of, query)


@call(
    "GET",
    "/sends/<send_id>/recipients",
    Scope.AUDIENCE_READ,
    RECIPIENTS,
    Problem.NOT_FOUND,
    Problem.SEND_NOT_READY,
    Problem.SEND_EXPIRED,
    Problem.INVALID,
    query=schemas.RecipientsQuery,
)
def recipients_of_send(query: dict[str, Any], send_id: str) -> Response:
    """Who is written to by a prepared send

    As of a list. They are worked out now: who has unsubscribed since the send was prepared is not among them, nor is
    who was put on the list since, if the contact is Salesforce's: it was not asked about them.
    """
    send = get_send(send_id)
    now = utcnow()
    if sends.is_expired(send, now):
        raise Refusal(Problem.SEND_EXPIRED)
    if not send.is_ready:
        state, reason = send.outcome(now)
        words = f" {SEND_REASONS[reason].means}" if reason else ""
        raise Refusal(Problem.SEND_NOT_READY, f"The send is {state}.{words}", state=state, reason=reason)
    as_of = send.as_of
    audience = recipients.prepare(sends.list_of(send), now, vault(), config().public_url, send.asked_at)
    return answer_recipients(audience, as_of, query)


def answer_recipients(audience: Audience, as_of: datetime | None, query: dict[str, Any]) -> Response:
    headers = {AS_OF: stamp(as_of) or ""}
    if request.accept_mimetypes.best_match([JSON, NDJSON]) == NDJSON:
        lines = stream_with_context(as_lines(audience))
        response = Response(lines, content_type=NDJSON, headers=headers)
    else:
        page = recipients.find_page(audience, query["limit"], read_cursor(query.get("cursor")))
        body = {"as_of": stamp(as_of), "recipients": page.found, "next": cursor(page.after)}
        response = answer(body, headers=headers)
    response.vary.add("Accept")
    return response


def as_lines(audience: Audience) -> Iterator[bytes]:
    """Yield many lines at a time: one short write for each would cost more than everything else."""
    found = recipients.iter_recipients(audience)
    while lines := b"".join(
        [orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in islice(found, LINES_AT_ONCE)]
    ):
        yield lines


# ---- Sends


@call(
    "POST",
    "/sends",
    Scope.AUDIENCE_READ,
    DocumentedAnswer(schemas.SendOut, HTTPStatus.ACCEPTED, {"Location": "Where the send's state can be asked for."}),
    Problem.NOT_FOUND,
    Problem.SEND_DIFFERS,
    body=schemas.SendIn,
)
def prepare_send(body: dict[str, Any]) -> Response:
    """Prepare a send

    asapp asks Salesforce now who has opted out. Ask for the state at `Location` until it is no longer `preparing`.
    """
    contact_list = get_list(body["list_id"])
    try:
        send = sends.start_send(calling_scope(), body["id"], contact_list, body["max_age_minutes"])
    except sends.SendDiffers:
        raise Refusal(Problem.SEND_DIFFERS) from None
    if send.is_preparing:
        queues().enqueue_sends([send.id])
    told = as_told(send)
    return answer(told, HTTPStatus.ACCEPTED, {"Location": url_for("api.show_send", send_id=told["id"])})


@call("GET", "/sends/<send_id>", Scope.AUDIENCE_READ, DocumentedAnswer(schemas.SendOut), Problem.NOT_FOUND)
def show_send(send_id: str) -> Response:
    """How far a send is"""
    return answer(as_told(get_send(send_id)))


def as_told(send: Send) -> dict[str, Any]:
    public_id = send.sender_send_id
    state, reason = send.outcome(utcnow())
    return {
        "id": public_id,
        "list_id": sends.list_of(send).public_id,
        "state": state,
        "reason": reason,
        "as_of": stamp(None if send.is_preparing else send.as_of),
        "expires_at": stamp(send.expires_at),
        "recipients_url": config().public_url + url_for("api.recipients_of_send", send_id=public_id),
    }


# ---- May these be written to?


@call(
    "POST",
    "/may-send",
    Scope.AUDIENCE_READ,
    DocumentedAnswer(schemas.MaySendOut),
    Problem.NOT_FOUND,
    body=schemas.MaySendIn,
)
def may_send(body: dict[str, Any]) -> Response:
    """May these addresses be written to?

    For the last look before mails go out.
    """
    with reading():
        advisor = recipients.find_advisor(body["advisor_id"], calling_key().partner_id) or missing()
        verdicts = recipients.may_send(advisor, body["emails"], utcnow(), vault())
    return answer(
        {
            "results": [
                {"email": each.email, "may_send": each.reason is None, "reason": each.reason} for each in verdicts
            ]
        }
    )


# ---- Events


@call("POST", "/events", Scope.EVENTS_WRITE, DocumentedAnswer(schemas.EventsOut), body=schemas.EventsIn)
def events(body: dict[str, Any]) -> Response:
    """Tell what became of mails

    Stored before it is answered. Events may come twice, late and out of order. A bad one does not stop the others.
    """
    read = [read_event(raw) for raw in body["events"]]
    told = [each for each in read if isinstance(each, Told)]
    record = partial(unsubscribing.record, enqueue=queues().enqueue_opt_outs)
    taken = iter(sender_events.record_events(told, calling_key().partner_id, vault(), record))
    results = [
        result_of(raw, next(taken) if isinstance(each, Told) else each)
        for raw, each in zip(body["events"], read, strict=True)
    ]
    return answer({"results": results})


def read_event(raw: Any) -> Told | str:
    """Return the event, or what is wrong with it."""
    if not isinstance(raw, dict):
        return "An event is an object."
    for name, most in (("id", ID_MAX), ("advisor_id", ID_MAX), ("email", schemas.EMAIL_MAX)):
        if problem := problem_of_text(name, raw.get(name), most):
            return problem
    if "@" not in raw["email"]:
        return "email: This is no address."
    if raw.get("type") not in tuple(EventType):
        return f"type: Must be one of {', '.join(EventType)}."
    at = moment(raw.get("at"))
    if at is None:
        return "at: Must be a time with a zone, such as 2026-11-30T09:15:00Z."
    return Told(
        raw["id"], EventType(raw["type"]), raw["advisor_id"], raw["email"], at, text_of_detail(raw.get("detail"))
    )


def text_of_detail(detail: Any) -> str:
    """Return a detail as text: what is none, as JSON; empty where it is nested too deeply to be written."""
    if detail is None or isinstance(detail, str):
        return detail or ""
    try:
        return orjson.dumps(detail).decode()
    except orjson.JSONEncodeError:
        return ""


def problem_of_text(name: str, value: Any, most: int) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return f"{name}: Missing, or not a text."
    if len(value) > most:
        return f"{name}: Longer than {most} characters."
    return None if value.isprintable() else f"{name}: Holds characters that can't be printed."


def moment(text: Any) -> datetime | None:
    """Return the time in UTC; None if it isn't one, has no zone, or is before any mail of ours."""
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    if at.tzinfo is None or at.year < OLDEST_YEAR:
        return None
    return min(at, utcnow()).astimezone(UTC)  # at the very end of the calendar some times have no UTC value


def result_of(raw: Any, became: Taken | str) -> dict[str, str | None]:
    given = raw.get("id") if isinstance(raw, dict) else None
    event_id = given if isinstance(given, str) else None
    if became == Taken.UNKNOWN_ADVISOR:
        became = "advisor_id: There is no such advisor."
    if isinstance(became, Taken):
        return {"id": event_id, "result": became.value, "error": None}
    return {"id": event_id, "result": "invalid", "error": became}


# ---- Shared


def answer(body: Mapping[str, Any], status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, content_type=JSON)


def missing() -> Any:
    raise Refusal(Problem.NOT_FOUND)


def get_list(public_id: str) -> ContactList:
    return recipients.find_list(public_id, calling_key().partner_id) or missing()


def get_send(send_id: str) -> Send:
    send = sends.find_send(calling_scope(), send_id) or missing()
    return send if recipients.find_list(sends.list_of(send).public_id, calling_key().partner_id) else missing()


def calling_scope() -> int:
    return sends.key_scope(calling_key().partner_id)


def stamp(when: datetime | None) -> str | None:
    """Return 2026-11-30T09:15:00Z, or None for None."""
    return None if when is None else formats.iso(when)


def cursor(after: bytes | None) -> str | None:
    return None if after is None else after.hex()


def read_cursor(text: str | None) -> bytes:
    """Return what cursor() was given; b"" for none. text: checked by its schema."""
    return bytes.fromhex(text or "")
