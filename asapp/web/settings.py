"""Account Settings: what people may change about themselves. Integrations has its own page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from flask import Blueprint, abort, flash, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.accounts import attempts, mail_choices, passkeys, provider_log_in, second_factor, sessions, users
from asapp.audit.log import recent_log_ins
from asapp.core.formats import zone_names
from asapp.core.forms import InvalidFields
from asapp.messages.mail_choices import DIGESTS, LEAD_MAILS
from asapp.web import login_session
from asapp.web.access import actor, must_have_second_factor
from asapp.web.current import config, person
from asapp.web.devices import remember_device
from asapp.web.htmx import go_to

blueprint = Blueprint("settings", __name__, url_prefix="/settings")


def key_of_person() -> str:
    return str(current_user.id)


@blueprint.get("")
def profile() -> ResponseReturnValue:
    return render_profile(stored_profile())


@blueprint.post("", endpoint="save_profile")
def save_profile() -> ResponseReturnValue:
    entered = {name: request.form.get(name, stored) for name, stored in stored_profile().items()}
    try:
        users.save_profile(person(), **entered)
    except InvalidFields as refusal:
        return render_profile(entered, refusal.errors), 422
    flash("Saved.", "good")
    return go_to(url_for("settings.profile"))


def stored_profile() -> dict[str, str]:
    choice = mail_choices.find(current_user.id)
    return {
        "name": current_user.name,
        "time_zone": current_user.time_zone or "",
        "digest": choice.digest,
        "lead_mails": choice.lead_mails,
    }


def render_profile(entered: Mapping[str, str], errors: Mapping[str, str] = MappingProxyType({})) -> str:
    return render_template(
        "settings/profile.html",
        **entered,
        zones=zone_names(),
        digests=DIGESTS,
        lead_mail_kinds=LEAD_MAILS,
        errors=errors,
    )


@blueprint.get("/security")
def security() -> ResponseReturnValue:
    return show_security({})


@blueprint.post("/security", endpoint="change_password")
def change_password() -> ResponseReturnValue:
    if not provider_log_in.may_use_password(person(), config()):
        abort(404)
    try:
        current, new = request.form.get("current", ""), request.form.get("new", "")
        user = attempts.change_password(current_user, current, new, actor())
    except InvalidFields as refusal:
        return show_security(refusal.errors), 422
    login_session.begin(user)  # this session continues under the new nonce, all others have ended
    flash("Your password is changed. Other devices that were logged in as you are logged out.", "good")
    response = make_response(go_to(url_for("settings.security")))
    remember_device(response, user)
    return response


@blueprint.post("/sessions/<session_id>/end", endpoint="end_session")
def end_session(session_id: str) -> ResponseReturnValue:
    """Log one device of the person out."""
    if not sessions.end_one(person(), session_id, actor()):
        abort(404)
    flash("That device is logged out.", "good")
    return go_to(url_for("settings.security"))


@blueprint.post("/sessions/end-others", endpoint="end_other_sessions")
def end_other_sessions() -> ResponseReturnValue:
    sessions.end_others(person(), login_session.current(), actor())
    flash("You are logged out everywhere else.", "good")
    return go_to(url_for("settings.security"))


def show_security(errors: dict[str, str]) -> str:
    user = person()
    return render_template(
        "settings/security.html",
        errors=errors,
        logins=sessions.list_of(user, config()),
        this_login=login_session.current(),
        ends=sessions.ends_of(user, config()),
        recent=recent_log_ins(user),
        passkeys=passkeys.list_of(user),
        codes_left=second_factor.count_codes_left(user),
        must_have_second_factor=must_have_second_factor(user),
        may_use_password=provider_log_in.may_use_password(user, config()),
    )
