"""Log in, in one step or two, confirm who it is, and log out."""

from __future__ import annotations

from flask import Blueprint, abort, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from werkzeug import Response

from asapp.accounts import attempts, passkeys, provider_log_in, users
from asapp.accounts.passkeys import PasskeyRefused
from asapp.messages.passkeys import WORDS
from asapp.models import PasskeyPurpose, User
from asapp.web import fresh, login_session
from asapp.web.access import actor, safe_path
from asapp.web.current import config, identity_provider, person, vault
from asapp.web.devices import origin_of, remember_device
from asapp.web.navigation import home_of_current_user

blueprint = Blueprint("auth", __name__)


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    if current_user.is_authenticated:
        return redirect(safe_path(request.args.get("next")) or home_of_current_user())
    return show_login(next=safe_path(request.args.get("next")))


@blueprint.post("/login", endpoint="try_login")
def try_login() -> ResponseReturnValue:
    email = request.form.get("email", "")
    next_path = safe_path(request.form.get("next"))
    user = attempts.log_in(
        email, request.form.get("password", ""), origin_of(email), actor(), only_allowed=has_provider()
    )
    if user is None:
        return show_login(email=email, next=next_path, is_refused=True), 422
    users.set_first_time_zone(user, request.form.get("time_zone", ""))
    return let_in(user, next_path)


@blueprint.get("/login/code")
def code() -> ResponseReturnValue:
    half = login_session.find_half()
    return show_code(half) if half is not None else redirect(url_for("auth.login"))


@blueprint.post("/login/code", endpoint="try_code")
def try_code() -> ResponseReturnValue:
    """The second step: six digits, a recovery code, or what a passkey answered."""
    half = login_session.find_half()
    if half is None:
        return redirect(url_for("auth.login"), 303)
    user, next_path, id_token = half
    if "credential" in request.form:
        return try_passkey(half)
    by_recovery = "recovery" in request.form
    typed = request.form.get("recovery" if by_recovery else "code", "")
    if not attempts.second_step(user, typed, origin_of(user.email), vault(), actor()):
        return show_code(half, is_refused=True, by_recovery=by_recovery), 422
    return enter(user, next_path, id_token)


@blueprint.post("/login/passkey", endpoint="ask_passkey")
def ask_passkey() -> ResponseReturnValue:
    """Return, as JSON, what the browser needs to use a passkey: for the second step, or to confirm who it is."""
    if current_user.is_authenticated:
        return question_to(person(), PasskeyPurpose.CONFIRM)
    half = login_session.find_half()
    return question_to(half.user, PasskeyPurpose.LOG_IN) if half is not None else redirect(url_for("auth.login"), 303)


@blueprint.get("/login/confirm")
def confirm() -> ResponseReturnValue:
    """Ask for the password once more, then go on to the page that was asked for."""
    next_path = safe_path(request.args.get("next"))
    if login_session.is_fresh():
        return redirect(next_path or home_of_current_user())
    return fresh.show(next_path)


@blueprint.post("/login/confirm", endpoint="try_confirm")
def try_confirm() -> ResponseReturnValue:
    """Check it. A form that was held is sent on unchanged: 307 makes the browser post this one there, with the held one in it."""
    next_path, held = safe_path(request.form.get("next")), request.form.get(fresh.HELD, "")
    if "credential" in request.form:
        try:
            attempts.confirm_by_passkey(person(), login_session.passkey_answer(), passkeys.site_of(config()))
        except PasskeyRefused as refusal:
            return fresh.show(next_path, held, trouble=WORDS[refusal.why]), 422
        return go_on(next_path, held)
    may_use_password = provider_log_in.may_use_password(person(), config())
    password = request.form.get("password", "") if may_use_password else ""
    if not attempts.confirm(person(), password, request.form.get("code", ""), vault()):
        return fresh.show(next_path, held, is_refused=True), 422
    return go_on(next_path, held)


def go_on(next_path: str | None, held: str) -> ResponseReturnValue:
    """Continue where the person was asked who they are."""
    login_session.confirm()
    return redirect(next_path or home_of_current_user(), 307 if held and next_path else 303)


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """Log out here, and then at the identity provider, if that is how the person came."""
    id_token = login_session.id_token()
    login_session.end()
    flash("You are logged out.", "good")
    if id_token is not None and has_provider():
        url = identity_provider().log_out_url(id_token, f"{config().public_url}{url_for('auth.login')}")
        if url is not None:
            return render_template("auth/leaving.html", url=url, is_log_out=True)
    return redirect(url_for("auth.login"), 303)


def question_to(user: User, purpose: PasskeyPurpose) -> ResponseReturnValue:
    """Ask one of the person's passkeys; 404 if there is none."""
    if not passkeys.list_of(user):
        abort(404)
    token, options = attempts.ask_passkey(user, purpose, passkeys.site_of(config()), origin_of(user.email))
    login_session.store_passkey_question(token)
    return Response(options, mimetype="application/json")


def try_passkey(half: login_session.HalfLogin) -> ResponseReturnValue:
    user, next_path, id_token = half
    answer, site = login_session.passkey_answer(), passkeys.site_of(config())
    try:
        attempts.passkey_step(user, answer, site, origin_of(user.email), actor())
    except PasskeyRefused as refusal:
        return show_code(half, trouble=WORDS[refusal.why]), 422
    return enter(user, next_path, id_token)


def let_in(user: User, next_path: str | None = None, id_token: str | None = None) -> Response:
    """Answer a person whose password was right, or who came from the identity provider: in, or on to the second step."""
    if user.has_second_factor:
        login_session.begin_half(user, next_path, id_token)
        return make_response(redirect(url_for("auth.code"), 303))
    return enter(user, next_path, id_token)


def enter(user: User, next_path: str | None, id_token: str | None = None) -> Response:
    login_session.begin(user, id_token)
    response = make_response(redirect(next_path or home_of_current_user(), 303))
    remember_device(response, user)
    return response


def has_provider() -> bool:
    return config().identity_provider is not None


def show_login(*, email: str = "", next: str | None = None, is_refused: bool = False) -> str:  # noqa: A002
    names = {"email": email, "next": next, "is_refused": is_refused}
    return render_template("auth/login.html", has_provider=has_provider(), **names)


def show_code(
    half: login_session.HalfLogin, *, is_refused: bool = False, by_recovery: bool = False, trouble: str = ""
) -> str:
    """trouble: why a passkey was refused."""
    is_by_provider = half.id_token is not None
    has_passkeys = bool(passkeys.list_of(half.user))
    names = {"is_refused": is_refused, "by_recovery": by_recovery, "trouble": trouble, "has_passkeys": has_passkeys}
    return render_template("auth/code.html", is_by_provider=is_by_provider, has_app=half.user.has_app, **names)
