"""Account Settings: what people may change about themselves. Integrations has its own page."""

from __future__ import annotations

from flask import Blueprint, flash, make_response, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user

from asapp.accounts import attempts, users
from asapp.core.forms import InvalidFields
from asapp.web.access import actor
from asapp.web.devices import remember_device
from asapp.web.htmx import go_to

blueprint = Blueprint("settings", __name__, url_prefix="/settings")


def key_of_person() -> str:
    return str(current_user.id)


@blueprint.get("")
def profile() -> ResponseReturnValue:
    return render_template("settings/profile.html", name=current_user.name, errors={})


@blueprint.post("", endpoint="save_profile")
def save_profile() -> ResponseReturnValue:
    name = request.form.get("name", "")
    try:
        users.rename(current_user, name)
    except InvalidFields as refusal:
        return render_template("settings/profile.html", name=name, errors=refusal.errors), 422
    flash("Saved.", "good")
    return go_to(url_for("settings.profile"))


@blueprint.get("/security")
def security() -> ResponseReturnValue:
    return render_template("settings/security.html", errors={})


@blueprint.post("/security", endpoint="change_password")
def change_password() -> ResponseReturnValue:
    try:
        current, new = request.form.get("current", ""), request.form.get("new", "")
        person = attempts.change_password(current_user, current, new, actor())
    except InvalidFields as refusal:
        return render_template("settings/security.html", errors=refusal.errors), 422
    session.clear()
    login_user(person)  # this session continues under the new nonce, all others have ended
    flash("Your password is changed. Other devices that were logged in as you are logged out.", "good")
    response = make_response(go_to(url_for("settings.security")))
    remember_device(response, person)
    return response
