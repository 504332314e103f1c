"""Who may open which page.

Every page demands a log-in unless it is on the list below; a view demands a role by one decorator. Rows of other people
are not a matter of roles: a view looks among the current person's own rows and answers 404.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import Flask, abort, make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.audit import entries
from asapp.core import formats
from asapp.models import User
from asapp.web import login_session
from asapp.web.current import config
from asapp.web.page_extensions import login_manager

P = ParamSpec("P")
R = TypeVar("R")

PUBLIC_ENDPOINTS = frozenset(
    {"static", "auth.login", "auth.try_login", "health.alive", "health.ready", "health.metrics", "home.index"}
    | {"optin.show", "optin.sign_up", "optin.thanks", "optin.ask", "optin.confirm"}
    | {"unsubscribe.show", "unsubscribe.receive"}
    | {"partner_setup.guide", "partner_setup.keys", "partner_setup.enter"}
    | {"guides.advisor", "guides.salesforce_admin"}
    | {"api_docs.openapi", "api_docs.page"}
    | {"auth.code", "auth.try_code", "auth.ask_passkey", "provider.start", "provider.callback"}
    | {"email_links.show", "email_links.confirm"}
    | {"passwords.forgot", "passwords.send_reset", "passwords.show", "passwords.set_password"}
)
OPEN_WITHOUT_SECOND_FACTOR = frozenset(
    {
        "second_factor.show",
        "second_factor.set_up",
        "second_factor.ask_link",
        "second_factor.open_link",
        "second_factor.use_link",
        "passkeys.ask_for_new",
        "passkeys.add",
        "auth.confirm",
        "auth.try_confirm",
        "auth.logout",
        "provider.confirm",
    }
)
# Whole pages whose own part htmx asks for, with what is being searched.
SEARCHED_IN_PARTS = frozenset({"contacts.index", "contacts.why", "leads.index", "salesforce_lists.choose"})
WITHOUT_SESSIONS = frozenset({"api"})  # blueprints that demand a key instead of a log-in


def register(app: Flask) -> None:
    login_manager.session_protection = None  # the session's nonce ends it; client addresses change on the way to work
    login_manager.user_loader(load_user)
    app.before_request(start_in_utc)
    app.before_request(demand_login)


def start_in_utc() -> None:
    """Times are in UTC until the session's person is known: the thread has served others before."""
    formats.read_in(None)


def load_user(session_id: str) -> User | None:
    user = login_session.find_person(session_id)
    formats.read_in(user.time_zone if user else None)  # from here on, all times of this request
    return user


def demand_login() -> ResponseReturnValue | None:
    if request.endpoint is None or request.endpoint in PUBLIC_ENDPOINTS or request.blueprint in WITHOUT_SESSIONS:
        return None  # no endpoint: the answer is 404
    if not current_user.is_authenticated:
        return ask_to_log_in()
    login_session.record_use()
    is_open = request.endpoint in OPEN_WITHOUT_SECOND_FACTOR or not must_have_second_factor(current_user)
    return None if is_open or current_user.has_second_factor else lead_to_set_up()


def must_have_second_factor(user: User) -> bool:
    return user.is_admin and config().require_second_factor


def must_prove_mailbox(user: User) -> bool:
    """Does the set-up of a second step wait for a link that is mailed? A password alone, stolen perhaps, must not set one up."""
    return must_have_second_factor(user) and not user.has_second_factor and not login_session.has_mailbox_proof()


def lead_to_set_up() -> ResponseReturnValue:
    """Redirect an admin without a second step to its set-up."""
    page = url_for("second_factor.show")
    if request.headers.get("HX-Request") == "true":
        return make_response("", 401, {"HX-Redirect": page})
    return redirect(page, 302 if request.method in ("GET", "HEAD") else 303)


def ask_to_log_in() -> ResponseReturnValue:
    """Redirect to the log-in, which returns to the page asked for."""
    asked_for = safe_path(request.full_path.rstrip("?")) if request.method == "GET" else None
    if request.headers.get("HX-Request") == "true":
        shown = safe_path(path_of(request.headers.get("HX-Current-URL", "")))
        page = asked_for if request.endpoint in SEARCHED_IN_PARTS else shown
        return make_response("", 401, {"HX-Redirect": url_for("auth.login", next=page)})
    return redirect(url_for("auth.login", next=asked_for if asked_for != "/" else None))


def advisor_required(view: Callable[P, R]) -> Callable[P, R]:
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.is_advisor:
            abort(403)
        return view(*args, **kwargs)

    return guarded


def admin_required(view: Callable[P, R]) -> Callable[P, R]:
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.is_admin:
            abort(403)
        return view(*args, **kwargs)

    return guarded


def actor() -> entries.Actor:
    """Return who acts and from where, for the audit log."""
    if current_user.is_authenticated:
        return entries.person(current_user, request.remote_addr or "")
    return entries.stranger(request.remote_addr or "")


def safe_path(target: str | None) -> str | None:
    """Return target if it is a plain path on this host; browsers read `\\` as `/` and skip control characters."""
    if not target or not target.startswith("/") or target.startswith("//"):
        return None
    if "\\" in target or any(ord(c) < 0x21 or ord(c) == 0x7F for c in target):
        return None
    parts = urlsplit(target)
    return None if parts.scheme or parts.netloc else target


def path_of(url: str) -> str:
    """Return path and query of an address that the browser sent; "" if it isn't one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
