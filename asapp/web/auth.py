"""Log in and log out."""

from __future__ import annotations

from hashlib import sha256

from flask import Blueprint, Response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user

from asapp.accounts import users
from asapp.extensions import limiter
from asapp.web.access import actor, safe_path
from asapp.web.navigation import home_of_current_user

blueprint = Blueprint("auth", __name__)

# Only tries that failed count: an office behind one address may log in as often as it likes.
TRIES_FROM_AN_ADDRESS = "20 per hour"
TRIES_FOR_AN_ACCOUNT = "10 per hour"
LOGGED_IN = 303


def account_tried() -> str:
    """The account as a key of the limiter, which need not know addresses."""
    return sha256(users.normal_email(request.form.get("email", "")).encode()).hexdigest()


def failed(response: Response) -> bool:
    return response.status_code != LOGGED_IN


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    if current_user.is_authenticated:
        return redirect(safe_path(request.args.get("next")) or home_of_current_user())
    return render_template("auth/login.html", email="", next=safe_path(request.args.get("next")))


@blueprint.post("/login", endpoint="try_login")
@limiter.limit(TRIES_FROM_AN_ADDRESS, deduct_when=failed)
@limiter.limit(TRIES_FOR_AN_ACCOUNT, key_func=account_tried, deduct_when=failed)
def try_login() -> ResponseReturnValue:
    email = request.form.get("email", "")
    next_path = safe_path(request.form.get("next"))
    user = users.log_in(email, request.form.get("password", ""), actor())
    if user is None:
        return render_template("auth/login.html", email=email, next=next_path, is_refused=True), 422
    session.clear()  # nothing that was there before the log-in may live on in it
    login_user(user)
    return redirect(next_path or home_of_current_user(), LOGGED_IN)


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    users.end_sessions(current_user)
    session.clear()
    return redirect(url_for("auth.login"), 303)
