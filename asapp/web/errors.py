"""Error answers: a page, for htmx a part at the top of the page, for the API a problem."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from flask import Flask, g, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import AnonymousUserMixin, current_user
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, InternalServerError, TooManyRequests

from asapp.accounts.attempts import TooMany
from asapp.accounts.passwords import Busy
from asapp.core.database import is_read_only
from asapp.core.extensions import db
from asapp.core.formats import counted
from asapp.core.vault import CannotOpen
from asapp.salesforce.page_turns import AllTurnsTaken
from asapp.web.access import PUBLIC_ENDPOINTS, ask_to_log_in
from asapp.web.api import problems
from asapp.web.htmx import wants_part
from asapp.web.page_extensions import until_limit_ends_s
from asapp.web.request_log import request_id

log = logging.getLogger(__name__)


SECRET_FIELDS = frozenset(
    {"password", "current", "new", "secret", "code", "recovery", "app", "held"}
)  # these are never sent back
CSRF_FIELD = "csrf_token"
READING = ("GET", "HEAD", "OPTIONS")
DATABASE_AWAY = (OperationalError, InternalError, PoolTimeout)


@dataclass(frozen=True)
class Trouble:
    """What happened, what is safe, what to do."""

    title: str
    words: str
    drawing: str = "signpost"
    number: str | None = None  # by which it is found in the log


TOO_OLD = Trouble(
    "This form can't be sent any more",
    "It was opened before you logged in or out, or your browser keeps no cookies for this address. Nothing was changed. "
    "Go back, load the page again and send it once more.",
    "hourglass",
)
TROUBLES = {
    404: Trouble(
        "We can't find that page",
        "The address may be mistyped, or what was here has been deleted. "
        "Your contacts, lists and leads are where you left them.",
    ),
    405: Trouble(
        "That can't be done from here",
        "The address exists, but it only takes what a form sends to it. Nothing was changed.",
    ),
    413: Trouble("That is too much at once", "What you sent is larger than we take. Nothing was changed.", "plug"),
    422: Trouble(
        "We can't use what was sent",
        "Something in it was missing or didn't fit together. Nothing was changed. Go back and check what you entered.",
    ),
}
# On the public sign-up page: its reader has no account here, and doesn't know us.
FOR_STRANGERS = {
    404: Trouble(
        "We can't find that page",
        "The address may be mistyped, or the page was taken away. Ask the person who gave it to you.",
    ),
}
NOT_STORED = Trouble(
    "We can't save anything at the moment",
    "Our database is busy, full or out of reach. Nothing was changed. Wait a minute, go back and send it once more.",
    "plug",
)
KEPT = Trouble(
    NOT_STORED.title,
    "Our database is busy, full or out of reach. Nothing was changed, and what you entered is kept on this page. "
    "Wait a minute, then press Try again.",
    "plug",
)
SALESFORCE_SLOW = Trouble(
    "Salesforce is answering slowly",
    "Others are waiting for it already, so it was not asked for you. What you saved before is safe. "
    "Try again in a minute: load this page again.",
    "hourglass",
)
KEY_MISSING = Trouble(
    "We can't read what we stored encrypted",
    "It is not something you did, and nothing was changed. AdvisorStream has to put a key back. "
    "Try again later; if it happens again, send us the number below.",
    "plug",
)
OTHERS = Trouble("We can't answer that", "The request was not one that we understand. Nothing was changed.")


def register(app: Flask) -> None:
    for kind, handler in ((CSRFError, refuse_form), (HTTPException, show), (TooMany, ask_to_wait), (Busy, ask_to_wait)):
        app.register_error_handler(kind, unless_database_is_away(handler))
    app.register_error_handler(CannotOpen, unless_database_is_away(show_key_missing))
    app.register_error_handler(AllTurnsTaken, unless_database_is_away(show_salesforce_slow))
    for kind in DATABASE_AWAY:
        app.register_error_handler(kind, show_database_away)


def unless_database_is_away(handler: Callable[[Any], ResponseReturnValue]) -> Callable[[Any], ResponseReturnValue]:
    """Wrap a handler whose page names the person: Flask doesn't handle errors of a handler, and the database may be down."""

    def answer(error: Any) -> ResponseReturnValue:
        try:
            return handler(error)
        except DATABASE_AWAY as away:
            return show_database_away(away)

    return answer


def refuse_form(_error: CSRFError) -> ResponseReturnValue:
    if not current_user.is_authenticated and request.endpoint not in PUBLIC_ENDPOINTS:
        return ask_to_log_in()  # the session has ended, and the form's token with it
    return _answer(400, TOO_OLD)


def ask_to_wait(error: TooMany | Busy) -> ResponseReturnValue:
    return show(TooManyRequests(retry_after=math.ceil(error.wait_s)))


def show_salesforce_slow(_error: AllTurnsTaken) -> ResponseReturnValue:
    return _answer(503, SALESFORCE_SLOW)


def show_key_missing(error: CannotOpen) -> ResponseReturnValue:
    """Answer where a secret does not open: ENCRYPTION_KEYS lack its key, or it was altered."""
    log.error("a secret can't be opened: ENCRYPTION_KEYS lack its key, or it was altered", exc_info=error)
    db.session.rollback()
    if problems.is_api():
        return problems.answer(problems.Refusal(problems.Problem.UNAVAILABLE))
    trouble = _broken(503) if is_for_strangers() else replace(KEY_MISSING, number=request_id())
    return _answer(503, trouble)


def show(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None:
        return error.response
    if problems.is_api():
        return problems.of_exception(error)
    code = error.code or 500
    return _answer(code, _trouble(code, error), error)


def show_database_away(error: SQLAlchemyError) -> ResponseReturnValue:
    """Answer if the database is locked, full, read-only or down. The input comes back as a form, unless it has a secret."""
    if isinstance(error, InternalError) and not is_read_only(error):
        raise error  # a bug of ours
    extra = {"endpoint": request.endpoint, "method": request.method}
    log.error("the database did not take or tell what was asked", exc_info=error, extra=extra)
    with suppress(SQLAlchemyError):
        db.session.rollback()
    if problems.is_api():
        return problems.answer(problems.Refusal(problems.Problem.UNAVAILABLE))
    if request.method in READING:
        return _answer(503, _broken(503))
    use_anonymous_user()
    again = form_again()
    return _answer(503, replace(KEPT if again else NOT_STORED, number=request_id()), again=again)


def form_again() -> list[tuple[str, str]] | None:
    """Return the fields of the sent form, with its token; None if it can't be sent again like that."""
    fields = list(request.form.items(multi=True))
    names = {name for name, _ in fields}
    return fields if CSRF_FIELD in names and not names & SECRET_FIELDS and not wants_part() else None


def _trouble(code: int, error: HTTPException) -> Trouble:
    if isinstance(error, InternalServerError) or code >= 500:
        return _broken(code)
    if code == 403:
        return _forbidden()
    if code == 429:
        return _too_many(error)
    troubles = TROUBLES | FOR_STRANGERS if is_for_strangers() else TROUBLES
    return troubles.get(code, OTHERS)


def is_for_strangers() -> bool:
    """Is this about the public sign-up page, or an address like its?"""
    return request.blueprint == "optin" or request.path.startswith("/o/")


def _forbidden() -> Trouble:
    role, other = ("an admin", "advisors") if current_user.is_admin else ("an advisor", "AdvisorStream admins")
    return Trouble(
        f"This page is for {other}",
        f"You are logged in as {current_user.name}, {role}. Nothing was changed. "
        "If you followed a link that someone sent you, tell them you can't open it.",
        "door",
    )


def _too_many(error: HTTPException) -> Trouble:
    wait_s = getattr(error, "retry_after", None) or until_limit_ends_s()
    return Trouble(
        "Too many tries in a short time",
        "For safety this page is closed for a while. Nothing was lost, and you don't need to do anything but wait. "
        f"You can try again in {counted(max(1, math.ceil(wait_s / 60)), 'minute')}.",
        "hourglass",
    )


def _broken(code: int) -> Trouble:
    use_anonymous_user()
    number = request_id()
    log.error("A request ended with %s; the person was given number %s", code, number)
    again = "Try again in a minute; if it happens again,"
    if is_for_strangers():
        words = f"It is not something you did. {again} tell the person whose page this is the number below."
    else:
        words = (
            "It is not something you did. What you saved before is safe, and a sync that was running goes on by itself. "
            f"{again} send us the number below."
        )
    return Trouble("Something broke on our side", words, "plug", number)


def use_anonymous_user() -> None:
    """Use no current_user: loading it would query the database, which may be what failed."""
    g._login_user = AnonymousUserMixin()  # noqa: SLF001 - where flask-login keeps it


def _answer(
    code: int, trouble: Trouble, error: HTTPException | None = None, again: list[tuple[str, str]] | None = None
) -> ResponseReturnValue:
    template = "errors/_trouble.html" if wants_part() else "errors/page.html"
    names = {"has_home": not is_for_strangers(), "again": again}  # a frame on another site leads nowhere else
    response = make_response(render_template(template, trouble=trouble, code=code, **names), code)
    if code == 503:
        response.headers["Retry-After"] = "60"
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        response.headers["Retry-After"] = str(math.ceil(until_limit_ends_s()))
    for name, value in error.get_headers() if error else ():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response
