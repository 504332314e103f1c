"""The public sign-up page. It has no session and sets no cookie: a signed token in the form replaces CSRF protection.

The answer is the same for every address, so that it never reveals whether one is known. Against robots there are a field
that people don't see, two seconds before a form can be sent, and a limit per client address.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from http import HTTPStatus

from flask import Blueprint, Response, abort, current_app, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import NotFound

from asapp.core.database import reading, writing
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.leads import confirming, outbox, sign_up_page
from asapp.leads.form_fields import Typed, find_problems
from asapp.leads.sign_up import FirmChanged, FormSeen, FormUsedUp, sign_up
from asapp.models import ConsentText, OptInPage
from asapp.web import errors as error_pages
from asapp.web.confirmation import ask_to_confirm, read_link
from asapp.web.current import config, queues, vault
from asapp.web.headers import content_policy
from asapp.web.networks import client_address, client_network
from asapp.web.page_extensions import csrf, limiter

blueprint = Blueprint("optin", __name__, url_prefix="/o")
csrf.exempt(blueprint)

FROM_AN_ADDRESS = "30 per minute"
LEAST_AGE_S = 2.0
MOST_AGE_S = 24 * 3600.0
TRAP = "website"
FRAMES_REMEMBERED = 1000
TOO_FAST = "That was very quick. Check what you entered, then press Sign up once more."
TOO_MANY = "Many people have just signed up from where you are. Wait a minute, then press Sign up once more."
TOO_OLD = "This page has been open for a long time. Press Sign up once more."
USED_UP = "Several people have signed up with this form. What you entered is still here: press Sign up once more."
CLOSED = (
    "Sign-ups are closed at the moment. What you entered is still here: try again later, or come back to this page."
)


@dataclass(frozen=True)
class Token:
    """What the form carries: the page and text it showed, when, and its own key."""

    slug: str
    text_id: int
    key: str
    made_at: float

    @property
    def age_s(self) -> float:
        return time.time() - self.made_at


@blueprint.get("/<slug>")
def show(slug: str) -> ResponseReturnValue:
    page = get_page(slug)
    if page.is_paused:
        return framed(page, make_response(render_template("optin/closed.html", page=page)))
    return form(page, sign_up_page.current_text(page.user_id), Typed())


@blueprint.post("/<slug>", endpoint="sign_up")
@limiter.limit(FROM_AN_ADDRESS, key_func=client_network)
def receive(slug: str) -> ResponseReturnValue:
    with reading():  # a sign-up takes the write lock when it needs it, a robot never
        return take_form(get_page(slug))


@blueprint.errorhandler(HTTPStatus.TOO_MANY_REQUESTS)
def ask_to_wait(_error: Exception) -> ResponseReturnValue:
    """Refuse for now without losing the input; a site that shows the form in a frame shows this in it."""
    try:
        return form_to_wait_with()
    except NotFound as error:  # an exception raised in a handler would be a server error
        return error_pages.show(error)
    except error_pages.DATABASE_AWAY as error:
        return error_pages.show_database_away(error)


def form_to_wait_with() -> Response:
    with reading():
        page = get_page((request.view_args or {})["slug"])
        token, text = shown_before(page)
        text = text or sign_up_page.current_text(page.user_id)
        return form(page, text, typed_now(), token, again=TOO_MANY, status=HTTPStatus.TOO_MANY_REQUESTS)


def typed_now() -> Typed:
    return Typed(
        request.form.get("first_name", ""),
        request.form.get("last_name", ""),
        request.form.get("email", ""),
        request.form.get("consent") == "yes",
    )


def shown_before(page: OptInPage) -> tuple[Token | None, ConsentText | None]:
    """Return the token of the sent form and the text that it showed; None for those that aren't this page's."""
    token = read_token(request.form.get("csrf_token", ""), page.slug)
    text = sign_up_page.find_text(page.user_id, token.text_id) if token else None
    return (token, text) if text else (None, None)


def take_form(page: OptInPage) -> ResponseReturnValue:
    if request.form.get(TRAP):
        return thank(page)  # a robot: it learns nothing
    typed = typed_now()
    token, text = shown_before(page)
    if token is None or text is None or token.age_s > MOST_AGE_S or is_of_earlier_firm(page, token):
        return form(page, sign_up_page.current_text(page.user_id), typed, again=CLOSED if page.is_paused else TOO_OLD)
    if was_opened_while_paused(page, token):
        return form(page, text, typed, token, again=CLOSED)
    if token.age_s < LEAST_AGE_S:
        problems = find_problems(typed)  # what is missing is the better reason to ask again
        return form(page, text, typed, token, errors=problems, again="" if problems else TOO_FAST)
    ask, partner = ask_to_confirm(page), page.user.partner
    is_confirmed_later = partner is not None and partner.confirms_sign_ups
    user_id, answer = page.user_id, thank(page)  # the page isn't read again after it is stored
    try:
        sign_up(page, typed, FormSeen(text.id, token.key, client_address()), vault(), ask)
    except InvalidFields as refusal:
        return form(page, text, typed, token, errors=refusal.errors)
    except FirmChanged:
        return form(page, sign_up_page.current_text(user_id), typed, again=TOO_OLD)
    except FormUsedUp:
        return form(page, text, typed, again=USED_UP)  # the text that was ticked, with a fresh token
    with writing():
        outbox.enqueue_for(user_id, queues().enqueue_leads)
    if is_confirmed_later:
        queues().enqueue_letters()
    return answer


@blueprint.get("/<slug>/thanks")
def thanks(slug: str) -> ResponseReturnValue:
    page = get_page(slug)
    return framed(page, make_response(render_template("optin/thanks.html", page=page)))


@blueprint.get("/<slug>/confirm")
def ask(slug: str) -> ResponseReturnValue:
    """Ask the person who opened the link of a mail; nothing changes yet."""
    page, written = get_page(slug), request.args.get("link", "")
    if read_link(written, page.slug) is None:
        return confirmation(page, "gone", HTTPStatus.GONE)
    return confirmation(page, "ask", link=written)


@blueprint.post("/<slug>/confirm", endpoint="confirm")
@limiter.limit(FROM_AN_ADDRESS, key_func=client_network)
def take_confirmation(slug: str) -> ResponseReturnValue:
    with reading():
        page = get_page(slug)
        link, user_id = read_link(request.form.get("csrf_token", ""), page.slug), page.user_id
        db.session.rollback()
        is_done = link is not None and confirming.confirm(user_id, link.public_id, link.key)
    if not is_done:
        return confirmation(get_page(slug), "gone", HTTPStatus.GONE)
    with writing():
        outbox.enqueue_for(user_id, queues().enqueue_leads)
    return confirmation(get_page(slug), "done")


def confirmation(page: OptInPage, state: str, status: int = HTTPStatus.OK, link: str = "") -> Response:
    return framed(page, make_response(render_template("optin/confirm.html", page=page, state=state, link=link), status))


def is_of_earlier_firm(page: OptInPage, token: Token) -> bool:
    """Was the form opened when the advisor was with another firm? Then its text names that firm."""
    moved_at = page.user.moved_at
    return moved_at is not None and token.made_at < moved_at.timestamp()


def was_opened_while_paused(page: OptInPage, token: Token) -> bool:
    """Return whether the form was opened while the page was paused: then it said that sign-ups are closed."""
    return page.paused_at is not None and token.made_at >= page.paused_at.timestamp()


def get_page(slug: str) -> OptInPage:
    page = sign_up_page.find_page(slug) or abort(404)
    remember_frames(slug, page.frame_hosts)
    return page


def form(
    page: OptInPage,
    text: ConsentText,
    typed: Typed,
    token: Token | None = None,
    *,
    errors: dict[str, str] | None = None,
    again: str = "",
    status: int = HTTPStatus.UNPROCESSABLE_ENTITY,
) -> Response:
    """Return the page with the input; a token that is still valid is kept, so that a form counts once."""
    token = token or Token(page.slug, text.id, secrets.token_urlsafe(16), time.time())
    html = render_template(
        "optin/form.html",
        page=page,
        text=text,
        typed=typed,
        errors=errors or {},
        again=again,
        token=write_token(token),
        trap=TRAP,
    )
    return framed(page, make_response(html, status if errors or again else HTTPStatus.OK))


def thank(page: OptInPage) -> Response:
    return framed(page, make_response(redirect(url_for("optin.thanks", slug=page.slug), 303)))


def framed(page: OptInPage, response: Response) -> Response:
    """Allow the sites that the advisor named, and no others, to show the page in a frame."""
    response.headers["Content-Security-Policy"] = content_policy(config(), page.frame_hosts or "'none'")
    return response


@blueprint.after_request
def frame_errors_too(response: Response) -> Response:
    """Let errors be shown in the frame too, on the sites that may show the page, instead of an empty box."""
    if "Content-Security-Policy" not in response.headers:
        hosts = frames_of((request.view_args or {}).get("slug", ""))
        response.headers["Content-Security-Policy"] = content_policy(config(), hosts or "'none'")
    return response


def known_frames() -> dict[str, str]:
    """Return {slug: sites} for the pages that this process has shown: an error page can't always query the database."""
    found: dict[str, str] = current_app.extensions.setdefault("asapp.frames", {})
    return found


def remember_frames(slug: str, hosts: str) -> None:
    known = known_frames()
    if len(known) >= FRAMES_REMEMBERED:
        known.clear()
    known[slug] = hosts


def frames_of(slug: str) -> str:
    """Return the sites that may show a page, even if its advisor can't log in any more; none if they are unknown."""
    if slug not in known_frames() and slug.isprintable():
        try:
            with reading():
                db.session.rollback()
                return sign_up_page.find_frame_hosts(slug)
        except SQLAlchemyError:
            return ""
    return known_frames().get(slug, "")


def write_token(token: Token) -> str:
    return str(_serializer().dumps([token.slug, token.text_id, token.key, int(token.made_at * 1000)]))


def read_token(written: str, slug: str) -> Token | None:
    """Return the token of a form of this page; None for anything else."""
    try:
        of_slug, text_id, key, made_ms = _serializer().loads(written)
    except (BadSignature, ValueError):
        return None
    return Token(of_slug, text_id, key, made_ms / 1000) if of_slug == slug else None


def _serializer() -> URLSafeSerializer:
    return URLSafeSerializer(config().secret_key, salt="opt-in form")
