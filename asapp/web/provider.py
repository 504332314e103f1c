"""Logging in with the identity provider, and confirming there who one is.

No form is answered with a redirect to the provider: browsers check form-action along the whole chain, and we don't know
its hosts. What a log-in under way is checked with is in the browser's session, sealed, and counts once: no row is made
for strangers.
"""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.accounts import identity_provider as oidc
from asapp.accounts import provider_log_in, users
from asapp.accounts.identity_provider import NotLetIn, Started
from asapp.core.clock import utcnow
from asapp.core.vault import CannotOpen
from asapp.messages.log_in import WORDS, LogInWhy
from asapp.models.columns import place_of
from asapp.web import login_session
from asapp.web.access import actor, safe_path
from asapp.web.auth import let_in
from asapp.web.current import config, identity_provider, vault
from asapp.web.navigation import home_of_current_user
from asapp.web.page_extensions import limiter

blueprint = Blueprint("provider", __name__)

KEY = "provider_log_in"
STARTS = "120 per hour"  # from one network; an office shares one
WITHIN_S = 600
LONGEST_VALUE = 4000  # of a callback parameter; codes are long
NEXT_MAX = 500  # characters: it travels in the cookie
PLACE = place_of("session", "browser", KEY)
UNAVAILABLE, REFUSED = 503, 403


@blueprint.post("/login/provider")
@limiter.limit(STARTS)
def start() -> ResponseReturnValue:
    kept = {"next": _next_path(), "time_zone": request.form.get("time_zone", "")[:64]}
    return leave(kept, is_confirmation=False)


@blueprint.post("/login/confirm/provider")
@limiter.limit(STARTS)
def confirm() -> ResponseReturnValue:
    """Have the person log in at the provider once more. A form that was held is not kept across it."""
    is_held = bool(request.form.get("held"))
    return leave({"next": url_for("settings.security") if is_held else _next_path()}, is_confirmation=True)


@blueprint.get("/login/provider/callback")
def callback() -> ResponseReturnValue:
    if request.method == "HEAD":
        return ""  # a HEAD request of a link checker must not use up the code
    try:
        started, kept = take_started()
        identity = identity_provider().finish(started, checked_code())
        if started.is_confirmation:
            return finish_confirmation(identity, kept)
        user = provider_log_in.log_in(identity, actor())
    except NotLetIn as refusal:
        return show_refusal(refusal)
    users.set_first_time_zone(user, kept.get("time_zone", ""))
    return let_in(user, safe_path(kept["next"]), identity.id_token)


def leave(kept: dict[str, Any], *, is_confirmation: bool) -> ResponseReturnValue:
    try:
        url, started = identity_provider().begin(is_confirmation=is_confirmation)
    except NotLetIn as refusal:
        return show_refusal(refusal)
    session[KEY] = vault().seal(json.dumps({**kept, "started": started.as_dict()}), PLACE)
    return render_template("auth/leaving.html", url=url)


def take_started() -> tuple[Started, dict[str, Any]]:
    """Return what this browser's log-in has to be checked with, and what was kept for it; it counts once."""
    try:
        kept = json.loads(vault().open(session.pop(KEY, ""), PLACE))
    except CannotOpen:
        raise NotLetIn(LogInWhy.LOST) from None
    started = Started(**kept.pop("started"))
    if started.at < utcnow().timestamp() - WITHIN_S or request.args.get("state") != started.state:
        raise NotLetIn(LogInWhy.LOST)
    return started, kept


def checked_code() -> str:
    """Return the code that came; raise NotLetIn for an error, or for an answer of another issuer (RFC 9207)."""
    client = identity_provider()
    if request.args.get("iss", client.provider.issuer) != client.provider.issuer:
        raise NotLetIn(LogInWhy.MISTRUSTED)
    if error := request.args.get("error"):
        raise NotLetIn(oidc.why_of_callback_error(error))
    code = request.args.get("code", "")
    if not code or len(code) > LONGEST_VALUE:
        raise NotLetIn(LogInWhy.LOST)
    return code


def finish_confirmation(identity: oidc.ProviderLogIn, kept: dict[str, Any]) -> ResponseReturnValue:
    found = provider_log_in.find_person(identity)
    if not current_user.is_authenticated or found is None or found.id != current_user.id:
        raise NotLetIn(LogInWhy.ANOTHER_PERSON)
    login_session.confirm()
    return redirect(safe_path(kept["next"]) or home_of_current_user(), 303)


def show_refusal(refusal: NotLetIn) -> ResponseReturnValue:
    """Say why there was no log-in, and what the person can do."""
    status = UNAVAILABLE if refusal.why is LogInWhy.AWAY else REFUSED
    has_password_form = config().identity_provider is not None and not current_user.is_authenticated
    page = render_template(
        "auth/refused.html", words=WORDS[refusal.why], email=refusal.email, has_password_form=has_password_form
    )
    return page, status


def _next_path() -> str | None:
    path = safe_path(request.form.get("next"))
    return path if path and len(path) <= NEXT_MAX else None
