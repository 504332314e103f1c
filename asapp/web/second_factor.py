"""Account Settings, Security: the person's own second step: set up, renew the recovery codes, turn off.

Who needs one and has none proves first, by a link that is mailed, that the mailbox is theirs.
"""

from __future__ import annotations

import segno
from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from asapp.accounts import mailbox_proof, second_factor
from asapp.accounts.links import LinkIsGone
from asapp.accounts.second_factor import NewApp
from asapp.core.forms import InvalidFields
from asapp.web import login_session
from asapp.web.access import actor, must_have_second_factor, must_prove_mailbox
from asapp.web.current import config, person, queues, vault
from asapp.web.devices import name_of
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to
from asapp.web.page_extensions import limiter
from asapp.web.passwords import GONE, GUESSES_FROM_AN_ADDRESS, is_gone, keep_private

blueprint = Blueprint("second_factor", __name__, url_prefix="/settings/second-factor")


@blueprint.after_request
def keep_link_private(response: Response) -> Response:
    return keep_private(response)


@blueprint.get("")
@fresh_required
def show() -> ResponseReturnValue:
    if must_prove_mailbox(person()):
        return render_template("second_factor/mailbox.html")
    return show_app(second_factor.begin(person(), vault()))


@blueprint.post("", endpoint="set_up")
@fresh_required
def set_up() -> ResponseReturnValue:
    """Take the app that shows the right digits. The recovery codes are shown in this answer and never again."""
    user, sealed = person(), request.form.get("app", "")
    if must_prove_mailbox(user):
        return redirect(url_for("second_factor.show"), 303)
    try:
        codes = second_factor.set_up(user, sealed, request.form.get("code", ""), vault(), actor())
    except InvalidFields as refusal:
        app = second_factor.resume(user, sealed, vault()) or second_factor.begin(user, vault())
        return show_app(app, refusal.errors), 422
    if not codes:
        flash(
            "Your app is set up. At your next log-in, use it or a passkey. Your recovery codes go on working.", "good"
        )
        return go_to(url_for("settings.security"))
    return show_codes(codes, way="app")


@blueprint.post("/link", endpoint="ask_link")
def ask_link() -> ResponseReturnValue:
    """Mail the link that opens the set-up."""
    if not must_prove_mailbox(person()):
        return redirect(url_for("second_factor.show"), 303)
    mailbox_proof.send_link(person(), config().public_url, vault(), queues().enqueue_letters, actor())
    return render_template("second_factor/mailbox.html", is_sent=True)


@blueprint.get("/link/<token>", endpoint="open_link")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def open_link(token: str) -> ResponseReturnValue:
    if not must_prove_mailbox(person()):
        return redirect(url_for("second_factor.show"))
    if not mailbox_proof.is_open(person(), token):
        return render_template("second_factor/link_gone.html"), GONE
    return render_template("second_factor/link.html", token=token)


@blueprint.post("/link/<token>", endpoint="use_link")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def use_link(token: str) -> ResponseReturnValue:
    """Use the link up; from here on, this log-in may set up a second step."""
    try:
        mailbox_proof.use_link(person(), token, actor())
    except LinkIsGone:
        return render_template("second_factor/link_gone.html"), GONE
    login_session.record_mailbox_proof()
    return redirect(url_for("second_factor.show"), 303)


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


def show_app(app: NewApp, errors: dict[str, str] | None = None, trouble: str = "") -> str:
    """trouble: why the browser's answer for a first passkey was refused."""
    picture = segno.make(app.uri, error="m").svg_inline(border=1, omitsize=True, svgclass=None, lineclass=None)
    drawn = Markup(picture)  # noqa: S704 - a drawing of ours
    is_demanded = must_have_second_factor(person()) and not person().has_second_factor
    names = {"app": app, "picture": drawn, "errors": errors or {}, "is_demanded": is_demanded, "trouble": trouble}
    passkey_name = name_of(request.user_agent.string)
    return render_template("second_factor/app.html", passkey_name=passkey_name, **names)


def show_codes(codes: list[str], way: str = "") -> str:
    """way: what was set up with them, "app" or "passkey"; the page that follows says that it is on."""
    if way:
        flash("Your second step is on.", "good")
    return render_template("second_factor/codes.html", codes=codes, way=way)
