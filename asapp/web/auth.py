"""Log in and log out."""

from __future__ import annotations

from flask import Blueprint, make_response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user

from asapp.accounts import attempts, users
from asapp.web.access import actor, safe_path
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
    session.clear()  # nothing from before the log-in may stay in the session
    login_user(user)
    response = make_response(redirect(next_path or home_of_current_user(), 303))
    remember_device(response, user)
    return response


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    users.end_sessions(current_user)
    session.clear()
    return redirect(url_for("auth.login"), 303)
