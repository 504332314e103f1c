"""An advisor's own lists: add, rename, delete. Their members are changed on the contacts page."""

from __future__ import annotations

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from asapp.contacts import lists, queries
from asapp.contacts.form_fields import ListForm
from asapp.core.clock import utcnow
from asapp.core.forms import InvalidFields
from asapp.models import ContactList
from asapp.web.access import advisor_required
from asapp.web.htmx import go_to

blueprint = Blueprint("lists", __name__, url_prefix="/contacts/lists")

ID = "<int:list_id>"


@blueprint.get("/new")
@advisor_required
def new() -> ResponseReturnValue:
    return render_template("contacts/list_form.html", form=ListForm(), contact_list=None)


@blueprint.post("/new", endpoint="add")
@advisor_required
def add() -> ResponseReturnValue:
    form = ListForm(request.form)
    try:
        made = lists.create_list(current_user.id, form.name.typed)
    except InvalidFields as refusal:
        return render_template("contacts/list_form.html", form=form.show(refusal.errors), contact_list=None), 422
    flash(f"The list “{made.name}” was added. Tick contacts below and add them to it.", "good")
    return go_to(url_for("contacts.index", to=made.id))


@blueprint.get(f"/{ID}")
@advisor_required
def edit(list_id: int) -> ResponseReturnValue:
    contact_list = get_own_list(list_id)
    return _form(contact_list, ListForm(obj=contact_list))


@blueprint.post(f"/{ID}", endpoint="save")
@advisor_required
def save(list_id: int) -> ResponseReturnValue:
    contact_list, form = get_own_list(list_id), ListForm(request.form)
    try:
        lists.rename_list(contact_list, form.name.typed)
    except InvalidFields as refusal:
        return _form(contact_list, form.show(refusal.errors)), 422
    flash("The list is renamed.", "good")
    return go_to(url_for("contacts.index", list=list_id))


@blueprint.post(f"/{ID}/delete")
@advisor_required
def delete(list_id: int) -> ResponseReturnValue:
    contact_list = get_own_list(list_id)
    name = contact_list.name
    lists.delete_list(contact_list)
    flash(f"The list “{name}” is deleted. Its contacts are all still here.", "good")
    return go_to(url_for("contacts.index"))


def get_own_list(list_id: int) -> ContactList:
    """Return a list of the current advisor's own; another advisor's, or a system list, is 404."""
    return lists.find_own_list(current_user.id, list_id) or abort(404)


def _form(contact_list: ContactList, form: ListForm) -> str:
    size = queries.count_contacts(current_user.id, utcnow()).size_of(contact_list)
    return render_template("contacts/list_form.html", form=form, contact_list=contact_list, size=size)
