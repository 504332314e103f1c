"""Advisors of a firm, for admins: invite, deactivate, let back in, move."""

from __future__ import annotations

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.accounts import advisors, email_links, links, provider_log_in
from asapp.accounts.form_fields import MoveForm, PersonForm
from asapp.connections import connections
from asapp.core import mail
from asapp.core.forms import InvalidFields, clean_line
from asapp.core.paging import page_of
from asapp.models import Partner, User
from asapp.partners import erasure, partners
from asapp.web.access import actor, admin_required
from asapp.web.admins import reset_and_tell
from asapp.web.current import config, org_access, person, post_later, queues, vault
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to
from asapp.web.incoming import asked_page
from asapp.web.partners import get_partner, show_link

blueprint = Blueprint("advisors", __name__, url_prefix="/admin/partners/<slug>/advisors")


@blueprint.get("")
@admin_required
def index(slug: str) -> ResponseReturnValue:
    return show(get_partner(slug), PersonForm())


@blueprint.post("", endpoint="invite")
@admin_required
def invite(slug: str) -> ResponseReturnValue:
    partner, form = get_partner(slug), PersonForm(request.form)
    try:
        user, token = advisors.invite(form.email.typed, form.name.typed, partner, actor())
    except InvalidFields as refusal:
        return show(get_partner(slug), form.show(refusal.errors)), 422
    return send_invitation(partner, user, token)


@blueprint.post("/<number>/invite", endpoint="invite_again")
@admin_required
def invite_again(slug: str, number: str) -> ResponseReturnValue:
    partner, user = get_partner(slug), get_advisor(slug, number)
    if not user.is_active or user.invited_at is None:
        abort(404)
    return send_invitation(partner, user, advisors.invite_again(user, actor()))


@blueprint.get("/<number>/deactivate")
@admin_required
def ask_deactivate(slug: str, number: str) -> ResponseReturnValue:
    partner, user = get_partner(slug), get_advisor(slug, number)
    if not user.is_active:
        abort(404)
    return render_template(
        "partners/deactivate.html",
        partner=partner,
        user=user,
        connection=connections.find_current(user),
        left=advisors.count_left_behind(user),
    )


@blueprint.post("/<number>/deactivate", endpoint="deactivate")
@admin_required
def deactivate(slug: str, number: str) -> ResponseReturnValue:
    user = get_advisor(slug, number)
    name = user.name
    advisors.deactivate(user, org_access(), actor())
    flash(
        f"{name} is deactivated, logged out everywhere and disconnected from Salesforce. Nothing was deleted.", "good"
    )
    return go_to(url_for("advisors.index", slug=slug))


@blueprint.post("/<number>/let-back-in", endpoint="let_back_in")
@admin_required
def let_back_in(slug: str, number: str) -> ResponseReturnValue:
    user = get_advisor(slug, number)
    advisors.let_back_in(user, actor())
    flash(f"{user.name} can log in again, and connects Salesforce again under Integrations.", "good")
    return go_to(url_for("advisors.index", slug=slug))


@blueprint.post("/<number>/reset-second-step", endpoint="reset_second_step")
@admin_required
@fresh_required
def reset_second_step(slug: str, number: str) -> ResponseReturnValue:
    reset_and_tell(get_advisor(slug, number))
    return go_to(url_for("advisors.index", slug=slug))


@blueprint.post("/<number>/password-link", endpoint="send_password_link")
@admin_required
def send_password_link(slug: str, number: str) -> ResponseReturnValue:
    """Mail the advisor a link for a new password. The admin doesn't see it: it is as good as the password."""
    user = get_active(slug, number)
    if not takes_password_link(user):
        abort(404)
    links.send_reset(user, person().name, config().public_url, vault(), queues().enqueue_letters, actor())
    flash(f"A link for a new password is on its way to {user.email}. It works once, for an hour.", "good")
    return go_to(url_for("advisors.index", slug=slug))


@blueprint.get("/<number>/edit")
@admin_required
def ask_edit(slug: str, number: str) -> ResponseReturnValue:
    user = get_active(slug, number)
    return show_edit(get_partner(slug), user, PersonForm.entered(name=user.name, email=user.email))


@blueprint.post("/<number>/edit", endpoint="edit")
@admin_required
@fresh_required
def edit(slug: str, number: str) -> ResponseReturnValue:
    """Change the name at once, and the address once the person has confirmed the new one."""
    partner, user, form = get_partner(slug), get_active(slug, number), PersonForm(request.form)
    try:
        new = email_links.change_person(user, form.name.typed, form.email.typed, actor())
    except InvalidFields as refusal:
        return show_edit(partner, user, form.show(refusal.errors)), 422
    words = "Saved."
    if new is not None:
        token = email_links.make_token(user, new, config().secret_key)
        url = f"{config().public_url}{url_for('email_links.show', token=token)}"
        post_later(email_links.ask_letter(user, new, url))
        words += f" An email to {new} asks to confirm it. Until then {user.email} logs in."
    flash(words, "good")
    return go_to(url_for("advisors.index", slug=slug))


@blueprint.get("/<number>/erase")
@admin_required
def ask_erase(slug: str, number: str) -> ResponseReturnValue:
    return show_erase(get_partner(slug), get_deactivated(slug, number))


@blueprint.post("/<number>/erase", endpoint="erase")
@admin_required
@fresh_required
def erase(slug: str, number: str) -> ResponseReturnValue:
    partner, user = get_partner(slug), get_deactivated(slug, number)
    typed = request.form.get("confirm_name", "")
    if clean_line(typed) != clean_line(user.name):
        return show_erase(partner, user, typed, {"confirm_name": f"Type {user.name}, exactly as it stands above."}), 422
    erasure.erase_account(user, org_access(), actor())
    flash("Erased. What was done and when is kept, without the person's name.", "good")
    return go_to(url_for("advisors.index", slug=slug))


@blueprint.get("/<number>/move")
@admin_required
def ask_move(slug: str, number: str) -> ResponseReturnValue:
    return show_move(get_partner(slug), get_advisor(slug, number), MoveForm())


@blueprint.post("/<number>/move", endpoint="move")
@admin_required
@fresh_required
def move(slug: str, number: str) -> ResponseReturnValue:
    partner, user, form = get_partner(slug), get_advisor(slug, number), MoveForm(request.form)
    to = partners.find_partner(form.partner.data)
    try:
        advisors.move(user, to, form.keeps_contacts, org_access(), actor())
    except InvalidFields as refusal:
        return show_move(partner, user, form.show(refusal.errors)), 422
    firm = to or partner
    flash(f"{user.name} is an advisor of {firm.name} now, and connects to that firm's Salesforce.", "good")
    return go_to(url_for("advisors.index", slug=firm.slug))


def get_advisor(slug: str, number: str) -> User:
    return advisors.find_advisor(get_partner(slug), number) or abort(404)


def get_active(slug: str, number: str) -> User:
    user = get_advisor(slug, number)
    return user if user.is_active else abort(404)


def takes_password_link(user: User) -> bool:
    """Does this person log in with a password that was set before? Who was invited gets another invitation instead."""
    return user.invited_at is None and provider_log_in.may_use_password(user, config())


def show_edit(partner: Partner, user: User, form: PersonForm) -> str:
    names = {"partner": partner, "user": user, "form": form, "takes_password_link": takes_password_link(user)}
    return render_template("partners/edit_advisor.html", **names)


def get_deactivated(slug: str, number: str) -> User:
    """Return an advisor who can't log in any more: only they can be erased."""
    user = get_advisor(slug, number)
    return abort(404) if user.is_active else user


def show_erase(partner: Partner, user: User, typed: str = "", errors: dict[str, str] | None = None) -> str:
    left = advisors.count_left_behind(user)
    return render_template(
        "partners/erase.html", partner=partner, user=user, left=left, typed=typed, errors=errors or {}
    )


def show(partner: Partner, form: PersonForm) -> str:
    page = page_of(advisors.list_advisors(partner), asked_page())
    return render_template("partners/advisors.html", partner=partner, page=page, form=form)


def show_move(partner: Partner, user: User, form: MoveForm) -> str:
    others = [row.partner for row in partners.list_partners() if row.partner.id != partner.id]
    names = {"user": user, "others": others, "left": advisors.count_left_behind(user)}
    return render_template("partners/move.html", partner=partner, form=form, **names)


def send_invitation(partner: Partner, user: User, token: str) -> str:
    slug, to = partner.slug, user.email
    url = f"{config().public_url}{url_for('passwords.show', token=token)}"
    post_later(mail.write(to, "Your AdvisorStream account", "invitation", name=user.name, firm=partner.name, url=url))
    return show_link(get_partner(slug), "invitation", url, to)
