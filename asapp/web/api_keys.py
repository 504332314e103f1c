"""API keys of senders, for admins: make one, shown once; list and revoke them."""

from __future__ import annotations

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.accounts import api_keys
from asapp.accounts.api_keys import ApiKeyForm
from asapp.core.clock import utcnow
from asapp.core.forms import InvalidFields
from asapp.core.paging import page_of
from asapp.messages.senders import SCOPES
from asapp.models import Partner
from asapp.partners import partners
from asapp.web.access import actor, admin_required
from asapp.web.fresh import fresh_required
from asapp.web.htmx import go_to
from asapp.web.incoming import asked_page

blueprint = Blueprint("api_keys", __name__, url_prefix="/admin/api-keys")

NO_FIRM = "There is no such firm any more. Choose another."


@blueprint.get("")
@admin_required
def index() -> ResponseReturnValue:
    return show(ApiKeyForm())


@blueprint.post("", endpoint="make")
@admin_required
@fresh_required
def make() -> ResponseReturnValue:
    form = ApiKeyForm(request.form)
    try:
        form.checked()
        partner = chosen_partner(form)
        key = api_keys.make_key(form.label.data, form.scopes, partner, form.expires_at, actor())
    except InvalidFields as refusal:
        return show(form.show(refusal.errors)), 422
    return render_template("api_keys/made.html", key=key, label=form.label.data, partner=partner)


@blueprint.post("/<key_id>/revoke", endpoint="revoke")
@admin_required
@fresh_required
def revoke(key_id: str) -> ResponseReturnValue:
    key = api_keys.find_key(key_id) or abort(404)
    label = key.label
    api_keys.revoke(key, actor())
    flash(f"The key “{label}” is revoked. A program that uses it is refused from now on.", "good")
    return go_to(url_for("api_keys.index"))


def chosen_partner(form: ApiKeyForm) -> Partner | None:
    """Return the chosen firm, None for every firm; raise InvalidFields."""
    if not form.partner.data:
        return None
    partner = partners.find_partner(form.partner.data)
    if partner is None:
        raise InvalidFields({"partner": NO_FIRM})
    return partner


def show(form: ApiKeyForm) -> str:
    firms = [row.partner for row in partners.list_partners()]
    names = {
        "page": page_of(api_keys.list_keys(), asked_page()),
        "firms": firms,
        "now": utcnow(),
        "scope_words": SCOPES,
    }
    return render_template("api_keys/index.html", form=form, **names)
