"""Partners, for admins: list, create, change, enable and disable."""

from __future__ import annotations

from flask import Blueprint, abort, current_app, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.contacts.fields import InvalidFields
from asapp.models import Partner
from asapp.partners import partners
from asapp.partners.partners import PartnerDetails
from asapp.salesforce.hosts import is_sandbox
from asapp.vault import Vault
from asapp.web.access import admin_required
from asapp.web.htmx import go_to
from config import Config

blueprint = Blueprint("partners", __name__, url_prefix="/admin/partners")


def vault() -> Vault:
    found: Vault = current_app.extensions["asapp.vault"]
    return found


def config() -> Config:
    found: Config = current_app.extensions["asapp.config"]
    return found


@blueprint.get("")
@admin_required
def index() -> ResponseReturnValue:
    return render_template("partners/index.html", rows=partners.list_partners())


@blueprint.get("/new")
@admin_required
def new() -> ResponseReturnValue:
    return show_form(None, PartnerDetails("", "", "", ""))


@blueprint.post("/new", endpoint="create")
@admin_required
def create() -> ResponseReturnValue:
    entered = read_form()
    try:
        partner = partners.create_partner(entered, vault(), config().salesforce_allow_loopback)
    except InvalidFields as refusal:
        return show_form(None, entered, refusal.errors), 422
    flash(
        f"Saved. The advisors of {partner.name} find Salesforce in their Account Settings, under Integrations.", "good"
    )
    return go_to(url_for("partners.show", slug=partner.slug))


@blueprint.get("/<slug>")
@admin_required
def show(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    key = partners.read_key(partner, vault()) or ""
    return show_form(partner, PartnerDetails(partner.name, partner.salesforce_url, key, ""))


@blueprint.post("/<slug>", endpoint="change")
@admin_required
def change(slug: str) -> ResponseReturnValue:
    partner, entered = get_partner(slug), read_form()
    try:
        partners.change_partner(partner, entered, vault(), config().salesforce_allow_loopback)
    except InvalidFields as refusal:
        return show_form(partner, entered, refusal.errors), 422
    flash("Saved.", "good")
    return go_to(url_for("partners.show", slug=slug))


@blueprint.post("/<slug>/enable", endpoint="enable")
@admin_required
def enable(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    partners.set_enabled(partner, True)
    flash(f"{partner.name} is enabled.", "good")
    return go_to(url_for("partners.show", slug=slug))


@blueprint.post("/<slug>/disable", endpoint="disable")
@admin_required
def disable(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    partners.set_enabled(partner, False)
    flash(f"{partner.name} is disabled. Nothing of it was deleted.", "good")
    return go_to(url_for("partners.show", slug=slug))


def get_partner(slug: str) -> Partner:
    return partners.find_partner(slug) or abort(404)


def read_form() -> PartnerDetails:
    return PartnerDetails(*(request.form.get(name, "") for name in PartnerDetails._fields))


def show_form(partner: Partner | None, entered: PartnerDetails, errors: dict[str, str] | None = None) -> str:
    """The page with what was entered, the secret aside: it is never sent back."""
    return render_template(
        "partners/partner.html",
        partner=partner,
        entered=entered._replace(secret=""),
        errors=errors or {},
        callback_url=config().callback_url,
        is_sandbox=partner is not None and is_sandbox(partner.salesforce_url),
    )
