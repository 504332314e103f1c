"""Log in, in one step or two, confirm who it is, and log out."""

from __future__ import annotations

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from werkzeug import Response

from asapp.accounts import attempts, users
from asapp.models import User
from asapp.web import fresh, login_session
from asapp.web.access import actor, safe_path
from asapp.web.current import person, vault
from asapp.web.devices import origin_of, remember_device
from asapp.web.navigation import home_of_current_user

blueprint = Blueprint("auth", __name__)


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    if current_user.is_authenticated:
        return redirect(safe_path(request.args.get("next")) or home_of_current_user())
    return render_template("auth/login.html", email="", next=safe_path(request.args.get("next")))


@blueprint.post("/login", endpoint="try_login")
def try_login() -> ResponseReturnValue:
    email = request.form.get("email", "")
    next_path = safe_path(request.form.get("next"))
    user = attempts.log_in(email, request.form.get("password", ""), origin_of(email), actor())
    if user is None:
        return render_template("auth/login.html", email=email, next=next_path, is_refused=True), 422
    users.set_first_time_zone(user, request.form.get("time_zone", ""))
    return let_in(user, next_path)


@blueprint.get("/login/code")
def code() -> ResponseReturnValue:
    if login_session.find_half() is None:
        return redirect(url_for("auth.login"))
    return render_template("auth/code.html")


@blueprint.post("/login/code", endpoint="try_code")
def try_code() -> ResponseReturnValue:
    """The second step: six digits, or a recovery code."""
    half = login_session.find_half()
    if half is None:
        return redirect(url_for("auth.login"), 303)
    user, next_path = half
    by_recovery = "recovery" in request.form
    typed = request.form.get("recovery" if by_recovery else "code", "")
    if not attempts.second_step(user, typed, origin_of(user.email), vault(), actor()):
        return render_template("auth/code.html", is_refused=True, by_recovery=by_recovery), 422
    return enter(user, next_path)


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
    if not attempts.confirm(person(), request.form.get("password", ""), request.form.get("code", ""), vault()):
        return fresh.show(next_path, held, is_refused=True), 422
    login_session.confirm()
    return redirect(next_path or home_of_current_user(), 307 if held and next_path else 303)


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    login_session.end()
    return redirect(url_for("auth.login"), 303)


def let_in(user: User, next_path: str | None = None) -> Response:
    """Answer a person whose password was right: in, or on to the second step."""
    if user.has_second_factor:
        login_session.begin_half(user, next_path)
        return make_response(redirect(url_for("auth.code"), 303))
    return enter(user, next_path)


def enter(user: User, next_path: str | None) -> Response:
    login_session.begin(user)
    response = make_response(redirect(next_path or home_of_current_user(), 303))
    remember_device(response, user)
    return response
