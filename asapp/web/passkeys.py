"""Account Settings, Security: the person's passkeys: add, rename, remove. Using one is in auth.py.

Adding needs a script (static/passkeys.js): it asks for the options, has the browser make a passkey, and sends the form.
The first one of a person without a second step is added on the page of web/second_factor.py.
"""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.accounts import passkeys, second_factor
from asapp.accounts.form_fields import PasskeyForm
from asapp.accounts.passkeys import OnlyWayIn, PasskeyRefused
from asapp.core.forms import InvalidFields
from asapp.messages.passkeys import WORDS
from asapp.models import Passkey
from asapp.web import login_session
from asapp.web.access import actor, must_have_second_factor, must_prove_mailbox
from asapp.web.current import config, person, vault
from asapp.web.devices import name_of
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to
from asapp.web.second_factor import show_app, show_codes

blueprint = Blueprint("passkeys", __name__, url_prefix="/settings/passkeys")


@blueprint.get("/new", endpoint="new")
@fresh_required
def new() -> ResponseReturnValue:
    if not person().has_second_factor:
        return redirect(url_for("second_factor.show"))
    return show_new(PasskeyForm.entered(name=name_of(request.user_agent.string)))


@blueprint.post("/options", endpoint="ask_for_new")
@fresh_required
def ask_for_new() -> ResponseReturnValue:
    """Return, as JSON, what the browser needs to make a passkey."""
    if must_prove_mailbox(person()):
        abort(404)
    token, options = passkeys.ask_for_new(person(), passkeys.site_of(config()))
    login_session.store_passkey_question(token)
    return Response(options, mimetype="application/json")


@blueprint.post("", endpoint="add")
@fresh_required
def add() -> ResponseReturnValue:
    """Add it. The recovery codes that come with a first one are shown in this answer and never again."""
    if must_prove_mailbox(person()):
        return redirect(url_for("second_factor.show"), 303)
    form, is_first = PasskeyForm(request.form), not person().has_second_factor
    try:
        answer, site = login_session.passkey_answer(), passkeys.site_of(config())
        passkey, codes = passkeys.add(person(), form.typed["name"], answer, site, vault(), actor())
    except InvalidFields as refusal:
        return show_new(form.show(refusal.errors)), 422
    except PasskeyRefused as refusal:
        trouble = WORDS[refusal.why]
        app = second_factor.begin(person(), vault()) if is_first else None
        return show_app(app, trouble=trouble) if app else show_new(form, trouble), 422
    if codes:
        return show_codes(codes, way="passkey")
    flash(f"The passkey “{passkey.name}” is added. From now on you can use it at your log-in.", "good")
    return go_to(url_for("settings.security"))


@blueprint.get("/<passkey_id>", endpoint="edit")
@fresh_required
def edit(passkey_id: str) -> ResponseReturnValue:
    passkey = get_own(passkey_id)
    return show_edit(passkey, PasskeyForm.entered(name=passkey.name))


@blueprint.post("/<passkey_id>", endpoint="rename")
@fresh_required
def rename(passkey_id: str) -> ResponseReturnValue:
    passkey, form = get_own(passkey_id), PasskeyForm(request.form)
    try:
        passkeys.rename(person(), passkey, form.typed["name"], actor())
    except InvalidFields as refusal:
        return show_edit(passkey, form.show(refusal.errors)), 422
    flash("Saved.", "good")
    return go_to(url_for("settings.security"))


@blueprint.post("/<passkey_id>/remove", endpoint="remove")
@fresh_required
def remove(passkey_id: str) -> ResponseReturnValue:
    passkey = get_own(passkey_id)
    name, was_only_way = passkey.name, passkeys.is_only_way(person())
    try:
        passkeys.remove(person(), passkey, vault(), actor(), may_turn_off=not must_have_second_factor(person()))
    except OnlyWayIn:
        return show_edit(passkey, PasskeyForm.entered(name=name)), 422
    off = " Your second step is off: your password alone logs you in." if was_only_way else ""
    flash(f"The passkey “{name}” is removed. It no longer logs you in.{off}", "good")
    return go_to(url_for("settings.security"))


def get_own(passkey_id: str) -> Passkey:
    """Return the person's own passkey; 404 for any other."""
    return passkeys.find(person(), passkey_id) or abort(404)


def show_new(form: PasskeyForm, trouble: str = "") -> str:
    """trouble: why the browser's answer was refused."""
    return render_template("second_factor/new_passkey.html", form=form, trouble=trouble)


def show_edit(passkey: Passkey, form: PasskeyForm) -> str:
    return render_template(
        "second_factor/passkey.html",
        passkey=passkey,
        form=form,
        is_only_way=passkeys.is_only_way(person()),
        must_have_second_factor=must_have_second_factor(person()),
    )
