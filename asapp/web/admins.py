"""The list of AdvisorStream's admins, and resetting another admin's second step."""

from __future__ import annotations

from flask import Blueprint, abort, flash, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.accounts import second_factor, users
from asapp.models import User
from asapp.web.access import actor, admin_required
from asapp.web.current import person, post_later
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to

blueprint = Blueprint("admins", __name__, url_prefix="/admin/admins")


@blueprint.get("")
@admin_required
def index() -> ResponseReturnValue:
    return render_template("admins/index.html", admins=users.list_admins())


@blueprint.post("/<number>/reset-second-step", endpoint="reset_second_step")
@admin_required
@fresh_required
def reset_second_step(number: str) -> ResponseReturnValue:
    user = users.find_admin(number)
    if user is None or user.id == current_user.id:  # their own is changed under Security
        abort(404)
    reset_and_tell(user)
    return go_to(url_for("admins.index"))


def reset_and_tell(user: User) -> None:
    """Reset a person's second step, tell them by mail, and say so on the next page."""
    if not second_factor.reset(user, actor()):
        flash(f"{user.name} has no second step.", "plain")
        return
    post_later(second_factor.reset_letter(user, person().name))
    again = " and sets up a new one at the next log-in" if user.is_admin else ""
    flash(
        f"The second step of {user.name} is reset. {user.name} is logged out everywhere{again}. A mail says so.", "good"
    )
