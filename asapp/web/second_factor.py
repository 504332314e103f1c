"""Account Settings, Security: the person's own second step: set up, renew the recovery codes, turn off."""

from __future__ import annotations

import segno
from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from asapp.accounts import second_factor
from asapp.accounts.second_factor import NewApp
from asapp.core.forms import InvalidFields
from asapp.web.access import actor, must_have_second_factor
from asapp.web.current import person, vault
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to

blueprint = Blueprint("second_factor", __name__, url_prefix="/settings/second-factor")


@blueprint.get("")
@fresh_required
def show() -> ResponseReturnValue:
    return show_app(second_factor.begin(person(), vault()))


@blueprint.post("", endpoint="set_up")
@fresh_required
def set_up() -> ResponseReturnValue:
    """Take the app that shows the right digits. The recovery codes are shown in this answer and never again."""
    user, sealed = person(), request.form.get("app", "")
    try:
        codes = second_factor.set_up(user, sealed, request.form.get("code", ""), vault(), actor())
    except InvalidFields as refusal:
        app = second_factor.resume(user, sealed, vault()) or second_factor.begin(user, vault())
        return show_app(app, refusal.errors), 422
    return show_codes(codes, is_new=True)


@blueprint.post("/codes", endpoint="renew_codes")
@fresh_required
def renew_codes() -> ResponseReturnValue:
    if not person().has_second_factor:
        abort(404)
    return show_codes(second_factor.renew_codes(person(), vault(), actor()))


@blueprint.post("/off", endpoint="turn_off")
@fresh_required
def turn_off() -> ResponseReturnValue:
    if must_have_second_factor(person()):
        abort(403)
    second_factor.remove(person(), vault(), actor())
    flash("Your second step is off. Your password alone logs you in.", "good")
    return go_to(url_for("settings.security"))


def show_app(app: NewApp, errors: dict[str, str] | None = None) -> str:
    picture = segno.make(app.uri, error="m").svg_inline(border=1, omitsize=True, svgclass=None, lineclass=None)
    drawn = Markup(picture)  # noqa: S704 - a drawing of ours
    is_demanded = must_have_second_factor(person()) and not person().has_second_factor
    return render_template(
        "second_factor/app.html", app=app, picture=drawn, errors=errors or {}, is_demanded=is_demanded
    )


def show_codes(codes: list[str], is_new: bool = False) -> str:
    return render_template("second_factor/codes.html", codes=codes, is_new=is_new)
