"""Partners, for admins: list, add, change, check, enable and disable, delete, and the link for the firm's own admin.

Saved settings are checked at once, in the same request; a check that can't be made never prevents saving.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.accounts import advisors
from asapp.connections.api_budget import allowances
from asapp.core import mail
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.formats import counted
from asapp.core.forms import InvalidFields, clean_line
from asapp.core.paging import page_of
from asapp.models import Partner
from asapp.partners import checks, offboarding, partners, setup_link
from asapp.partners.checks import Checklist
from asapp.partners.form_fields import PartnerForm, RecipientForm, origin_of
from asapp.partners.offboarding import GivenBack
from asapp.partners.setup_link import Recipient
from asapp.salesforce.hosts import NotSalesforce, is_sandbox
from asapp.salesforce.probe import OPT_OUTS
from asapp.web.access import actor, admin_required
from asapp.web.current import config, org_access, person, post_later, vault
from asapp.web.fresh import fresh_required, fresh_required_if
from asapp.web.htmx import go_to
from asapp.web.incoming import asked_page
from asapp.writeback import outbox
from asapp.writeback.queries import count_for

blueprint = Blueprint("partners", __name__, url_prefix="/admin/partners")


def brings_app() -> bool:
    """Does the form bring a Consumer Secret, or another key or address than the stored one?"""
    if "show" in request.form:
        return False
    slug = (request.view_args or {}).get("slug")
    partner = partners.find_partner(slug) if slug else None
    if slug and partner is None:
        return False
    stored, sent = partners.form_of(partner, vault()), request.form
    others = [
        sent[name].strip() != field.typed for name, field in (("key", stored.key), ("url", stored.url)) if name in sent
    ]
    return bool(sent.get("secret", "").strip()) or any(others)


def revokes() -> bool:
    return request.form.get("tokens") == "revoke"


@blueprint.get("")
@admin_required
def index() -> ResponseReturnValue:
    search, state = request.args.get("q", "")[:200], request.args.get("state", "")
    page = page_of(partners.list_partners(search, state), asked_page())
    calls = allowances(db.session(), utcnow())
    return render_template("partners/index.html", page=page, calls=calls, search=search, state=state)


@blueprint.get("/new")
@admin_required
def new() -> ResponseReturnValue:
    return show_form(None, partners.form_of(None, vault()))


@blueprint.post("/new", endpoint="create")
@admin_required
@fresh_required_if(brings_app)
def create() -> ResponseReturnValue:
    form = partners.form_of(None, vault(), request.form)
    if "show" in request.form:
        return show_form(None, form)
    try:
        partner = partners.create_partner(form, org_access(), actor())
    except InvalidFields as refusal:
        return show_form(None, form.show(refusal.errors)), 422
    if not partner.is_set_up:
        flash("Saved. Now send the link on which the firm's Salesforce admin enters address, key and secret.", "good")
        return go_to(url_for("partners.show", slug=partner.slug))
    name, slug = partner.name, partner.slug
    ready = f"Saved. The advisors of {name} find Salesforce in their Account Settings, under Integrations."
    say_how_it_went(checks.run_checks(partner, org_access()), ready)
    return go_to(url_for("partners.show", slug=slug))


@blueprint.get("/preview")
@admin_required
def preview() -> ResponseReturnValue:
    return render_template("partners/_becomes.html", becomes=becomes(request.args.get("url", "")))


@blueprint.get("/<slug>")
@admin_required
def show(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    return show_form(partner, partners.form_of(partner, vault()))


@blueprint.post("/<slug>", endpoint="change")
@admin_required
@fresh_required_if(brings_app)
def change(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    form = partners.form_of(partner, vault(), request.form)
    if "show" in request.form:
        return show_form(partner, form)
    fields_before = partner.opt_out_fields
    try:
        partners.change_partner(partner, form, org_access(), actor())
    except InvalidFields as refusal:
        return show_form(get_partner(slug), form.show(refusal.errors)), 422
    slug, changed = partner.slug, OPT_OUTS if partner.opt_out_fields != fields_before else ()
    say_how_it_went(checks.run_checks(partner, org_access()), "Saved.", changed)
    return go_to(url_for("partners.show", slug=slug))


@blueprint.post("/<slug>/check", endpoint="check")
@admin_required
def check(slug: str) -> ResponseReturnValue:
    checks.run_checks(get_partner(slug), org_access())
    return go_to(url_for("partners.show", slug=slug, _anchor="checks"))


@blueprint.post("/<slug>/tell-earlier", endpoint="tell_earlier")
@admin_required
def tell_earlier(slug: str) -> ResponseReturnValue:
    """Tell Salesforce about the unsubscribes of the last 30 days, if the firm wants it told."""
    partner = get_partner(slug)
    if partner.writes_opt_outs_back:
        count = outbox.add_recent(partner, actor())
        flash(f"Salesforce will be told of {counted(count, 'address', 'addresses')}, in the next minutes.", "good")
    return go_to(url_for("partners.show", slug=slug, _anchor="opt-outs"))


@blueprint.post("/<slug>/keep-secret", endpoint="keep_secret")
@admin_required
@fresh_required
def keep_secret(slug: str) -> ResponseReturnValue:
    partners.discard_new_secret(get_partner(slug), actor())
    flash("The new secret is deleted. The previous one stays in use.", "good")
    return go_to(url_for("partners.show", slug=slug))


@blueprint.post("/<slug>/enable", endpoint="enable")
@admin_required
def enable(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    partners.enable(partner, actor())
    words = f"{partner.name} is enabled."
    if ended := sum(row.has_to_connect_again for row in advisors.list_advisors(partner)):
        words += (
            f" {counted(ended, 'advisor is', 'advisors are')} disconnected, and synced again only after connecting again: "
            "tell them, since no email goes out."
        )
    flash(words, "good")
    return go_to(url_for("partners.show", slug=slug))


@blueprint.post("/<slug>/disable", endpoint="disable")
@admin_required
@fresh_required_if(revokes)
def disable(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    name, was_enabled, revoke = partner.name, partner.is_enabled, revokes()
    given_back = offboarding.disable(partner, revoke, org_access(), actor())
    flash(f"{name} is disabled. Nothing was deleted.{words_of_revoking(given_back)}", "good")
    if was_enabled:
        tell_advisors(get_partner(slug), is_revoked=revoke)
    return go_to(url_for("partners.show", slug=slug))


@blueprint.get("/<slug>/stop")
@admin_required
def ask_stop(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    return render_template("partners/stop.html", partner=partner, consequences=offboarding.foresee_stop(partner))


@blueprint.post("/<slug>/stop", endpoint="stop")
@admin_required
@fresh_required
def stop(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    name, was_enabled = partner.name, partner.is_enabled
    given_back = offboarding.stop(partner, org_access(), actor())
    flash(f"Everything is stopped for {name}. Nothing was deleted.{words_of_stopping(given_back)}", "good")
    if was_enabled:
        tell_advisors(get_partner(slug), is_revoked=True)
    return go_to(url_for("partners.show", slug=slug))


@blueprint.get("/<slug>/delete")
@admin_required
def ask_delete(slug: str) -> ResponseReturnValue:
    return show_delete(get_partner(slug))


@blueprint.post("/<slug>/delete", endpoint="delete")
@admin_required
@fresh_required
def delete(slug: str) -> ResponseReturnValue:
    partner = get_partner(slug)
    name, typed = partner.name, request.form.get("confirm_name", "")
    if clean_line(typed) != clean_line(name):
        return show_delete(partner, typed, {"confirm_name": f"Type {name}, exactly as it stands above."}), 422
    given_back = offboarding.delete_partner(partner, org_access(), actor())
    flash(f"{name} is deleted, with all its data.{words_of_revoking(given_back)}", "good")
    return go_to(url_for("partners.index"))


@blueprint.post("/<slug>/setup-link", endpoint="send_link")
@admin_required
@fresh_required
def send_link(slug: str) -> ResponseReturnValue:
    partner, form = get_partner(slug), RecipientForm(request.form)
    recipient = Recipient(form.admin_name.typed, form.admin_email.typed)
    try:
        link, token = setup_link.make_link(partner, recipient, person(), actor())
    except InvalidFields as refusal:
        partner = get_partner(slug)
        return show_form(partner, partners.form_of(partner, vault()), form.show(refusal.errors)), 422
    url = f"{config().public_url}{url_for('partner_setup.guide', token=token)}"
    names: dict[str, Any] = {
        "name": link.name,
        "firm": partner.name,
        "admin": person().name,
        "url": url,
        "until": link.expires_at,
    }
    to, subject = link.email, f"Connecting {partner.name} to AdvisorStream"
    post_later(mail.write(to, subject, "setup_link", **names))
    return show_link(get_partner(slug), "setup", url, to)


@blueprint.post("/<slug>/setup-link/revoke", endpoint="revoke_link")
@admin_required
def revoke_link(slug: str) -> ResponseReturnValue:
    setup_link.revoke_link(get_partner(slug), actor())
    flash("The setup link no longer works.", "good")
    return go_to(url_for("partners.show", slug=slug))


def get_partner(slug: str) -> Partner:
    return partners.find_partner(slug) or abort(404)


def show_form(partner: Partner | None, form: PartnerForm, recipient: RecipientForm | None = None) -> str:
    return render_template(
        "partners/partner.html",
        partner=partner,
        form=form,
        becomes=becomes(form.url.typed),
        callback_url=config().callback_url,
        usual_interval=config().sync_interval_minutes,
        is_sandbox=partner is not None and is_sandbox(partner.salesforce_url),
        checklist=checks.checklist(partner) if partner else None,
        advisors=advisors.list_advisors(partner) if partner else (),
        link=setup_link.latest_link(partner) if partner else None,
        opt_outs=count_for(partner) if partner else None,
        recipient=recipient or RecipientForm(),
    )


def show_delete(partner: Partner, typed: str = "", errors: dict[str, str] | None = None) -> str:
    people = advisors.list_advisors(partner)
    return render_template("partners/delete.html", partner=partner, advisors=people, typed=typed, errors=errors or {})


def show_link(partner: Partner, kind: str, url: str, to: str) -> str:
    """Show a one-time link, on the only page that can: only its hash is stored. kind: setup or invitation."""
    names = {"kind": kind, "url": url, "to": to}
    return render_template("partners/link.html", partner=partner, has_mail=has_mail(), **names)


def has_mail() -> bool:
    """Are mails sent by a server, instead of printed?"""
    return config().mail_url is not None or config().testing


def becomes(pasted: str) -> dict[str, Any]:
    """Return what a Salesforce URL would be stored as: {url, is_sandbox}, {problem}, or nothing for nothing."""
    if not pasted.strip():
        return {}
    try:
        url = origin_of(pasted, org_access().allow_loopback)
    except NotSalesforce as problem:
        return {"problem": str(problem)}
    return {"url": url, "is_sandbox": is_sandbox(url)}


def say_how_it_went(checklist: Checklist, good: str, opt_out: Collection[str] = ()) -> None:
    """Say what is wrong in the first red check. opt_out: the checks of opt-out fields that were just changed."""
    unseen = [check for check in checklist.checks if check.code in opt_out and not check.is_good and not check.is_bad]
    if first := checklist.first_bad:
        to_fix = counted(checklist.count("bad"), "check needs", "checks need")
        flash(f"Saved, and {to_fix} fixing. First: {first.says}", "warn")
    elif unseen:
        flash(f"Saved, but Salesforce couldn't be asked yet whether it has the opt-out field. {unseen[0].says}", "warn")
    elif checklist.is_away:
        flash(f"Saved, but Salesforce couldn't be asked. {checklist.waiting[0].says}", "warn")
    else:
        flash(good, "good")


def words_of_revoking(given_back: GivenBack) -> str:
    if not given_back.connections:
        return ""
    words = f" {counted(given_back.connections, 'advisor is', 'advisors are')} disconnected."
    if given_back.unheard:
        words += (
            f" Salesforce did not hear of {given_back.unheard:,}: the keys are forgotten here, and the firm's Salesforce "
            "admin can end the access there, as the guide for Salesforce admins says."
        )
    return words


def words_of_stopping(given_back: GivenBack) -> str:
    words = f" {counted(given_back.connections, 'advisor is', 'advisors are')} disconnected."
    if given_back.unheard:
        words += (
            f" Salesforce has not confirmed {counted(given_back.unheard, 'revocation')} yet: we ask again by ourselves for "
            "three days, and use none of them."
        )
    return words if given_back.connections or given_back.unheard else ""


def tell_advisors(partner: Partner, *, is_revoked: bool) -> None:
    """Tell the advisors of a firm by mail that Salesforce is switched off for it."""
    subject, names = "Salesforce is switched off for your firm", {"firm": partner.name}
    addresses = advisors.addresses_of(partner)
    letters = [mail.write(to, subject, "firm_disabled", None, **names, revoked=is_revoked) for to in addresses]
    post_later(*letters)
    say_who_is_told(len(letters))


def say_who_is_told(letters: int) -> None:
    if letters and not has_mail():
        flash(
            f"No mail server is set up, so {counted(letters, 'advisor was', 'advisors were')} not told by email.",
            "warn",
        )
    elif letters:
        flash(f"An email to {counted(letters, 'advisor')} is on its way.", "good")
