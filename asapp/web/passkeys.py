"""Account Settings, Security: the person's passkeys: add, rename, remove. Using one is in auth.py.

Adding needs a script (static/passkeys.js): it asks for the options, has the browser make a passkey, and sends the form.
"""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.accounts import passkeys
from asapp.accounts.form_fields import PasskeyForm
from asapp.accounts.passkeys import PasskeyRefused
from asapp.core.forms import InvalidFields
from asapp.messages.passkeys import WORDS
from asapp.models import Passkey
from asapp.web import login_session
from asapp.web.access import actor
from asapp.web.current import config, person, vault
from asapp.web.devices import name_of
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to

blueprint = Blueprint("passkeys", __name__, url_prefix="/settings/passkeys")


@blueprint.get("/new", endpoint="new")
@fresh_required
def new() -> ResponseReturnValue:
    if not person().has_second_factor:  # codes come first: a passkey that is lost or has no script needs them
        return redirect(url_for("second_factor.show"))
    return show_new(PasskeyForm.entered(name=name_of(request.user_agent.string)))


@blueprint.post("/options", endpoint="ask_for_new")
@fresh_required
def ask_for_new() -> ResponseReturnValue:
    """Return, as JSON, what the browser needs to make a passkey."""
    if not person().has_second_factor:
        abort(404)
    token, options = passkeys.ask_for_new(person(), passkeys.site_of(config()))
    login_session.store_passkey_question(token)
    return Response(options, mimetype="application/json")


@blueprint.post("", endpoint="add")
@fresh_required
def add() -> ResponseReturnValue:
    if not person().has_second_factor:
        abort(404)
    form = PasskeyForm(request.form)
    try:
        answer, site = login_session.passkey_answer(), passkeys.site_of(config())
        made = passkeys.add(person(), form.typed["name"], answer, site, vault(), actor())
    except InvalidFields as refusal:
        return show_new(form.show(refusal.errors)), 422
    except PasskeyRefused as refusal:
        return show_new(form, WORDS[refusal.why]), 422
    flash(f"The passkey “{made.name}” is added. From now on you can use it instead of a code.", "good")
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
    name = passkey.name
    passkeys.remove(person(), passkey, vault(), actor())
    flash(f"The passkey “{name}” is removed. It no longer logs you in.", "good")
    return go_to(url_for("settings.security"))


def get_own(passkey_id: str) -> Passkey:
    """Return the person's own passkey; 404 for any other."""
    return passkeys.find(person(), passkey_id) or abort(404)


def show_new(form: PasskeyForm, trouble: str = "") -> str:
    """trouble: why the browser's answer was refused."""
    return render_template("second_factor/new_passkey.html", form=form, trouble=trouble)


def show_edit(passkey: Passkey, form: PasskeyForm) -> str:
    return render_template("second_factor/passkey.html", passkey=passkey, form=form)
