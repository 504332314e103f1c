"""The pages for a firm's Salesforce admin who was sent a setup link: the steps, the form with its checks, the end.

The token in the address is enough to open them; they name the firm and the sender, and nothing else of ours.
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.accounts import advisors
from asapp.accounts.links import LinkIsGone
from asapp.core import mail
from asapp.core.clock import utcnow
from asapp.core.forms import InvalidFields
from asapp.core.mail import Letter
from asapp.messages.checks import PKCE_LABEL
from asapp.models import Partner, SetupLink
from asapp.partners import setup_link
from asapp.partners.checks import Checklist
from asapp.partners.form_fields import AppForm
from asapp.web.current import config, org_access, post_later
from asapp.web.page_extensions import limiter
from asapp.web.partners import becomes, has_mail

blueprint = Blueprint("partner_setup", __name__, url_prefix="/partner-setup")

GUESSES_FROM_AN_ADDRESS = "20 per hour"
TRIES_FROM_AN_ADDRESS = "60 per hour"  # each calls Salesforce several times
NOT_FOUND, GONE = 404, 410
SCOPES = (
    "Manage user data via APIs (api)",
    "Perform requests at any time (refresh_token, offline_access)",
    "Access the identity URL service (id, profile, email, address, phone)",
)


def is_closed(response: Response) -> bool:
    return response.status_code in (NOT_FOUND, GONE)


@blueprint.after_request
def keep_private(response: Response) -> Response:
    """Keep the page out of caches and referrers: its address is all that one needs."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.get("/<token>")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_closed)
def guide(token: str) -> ResponseReturnValue:
    link, partner, status = find_setup(token)
    if link is None or partner is None:
        return closed(token, status)
    names = {
        "link": link,
        "partner": partner,
        "sender": sender_of(link),
        "advisors": len(advisors.addresses_of(partner)),
    }
    return render_template("partner_setup/guide.html", token=token, **names, **app_settings())


@blueprint.get("/<token>/keys")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_closed)
def keys(token: str) -> ResponseReturnValue:
    link, partner, status = find_setup(token)
    if link is None or partner is None:
        return closed(token, status)
    return show_keys(token, partner, AppForm(data={"url": partner.salesforce_url}))


@blueprint.post("/<token>/keys", endpoint="enter")
@limiter.limit(TRIES_FROM_AN_ADDRESS)
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_closed)
def enter(token: str) -> ResponseReturnValue:
    link, partner, status = find_setup(token)
    if link is None or partner is None:
        return closed(token, status)
    form = AppForm(request.form)
    if "show" in request.form:
        return show_keys(token, partner, form)
    link_name = link.name
    try:
        attempt = setup_link.enter_app(link, partner, form, org_access(), request.remote_addr or "")
    except InvalidFields as refusal:
        return show_keys(token, partner, form.show(refusal.errors)), 422
    except LinkIsGone:
        return closed(token, GONE)
    if not attempt.is_saved:
        again = "Enter the secret again. Salesforce did not accept the last one."
        if not attempt.is_secret_wrong:
            again = "Enter the secret again, once the above is fixed. It was not kept."
        return show_keys(token, partner, form.show({"secret": again}), attempt.checklist), 422
    sender = sender_of(link)
    names = {"name": link_name, "sender": sender, "checklist": attempt.checklist, "has_mail": has_mail()}
    page = render_template("partner_setup/done.html", partner=partner, **names)
    post_later(*letters_about(link, partner, attempt.checklist))
    return page


def app_settings() -> dict[str, object]:
    """Return what the OAuth settings of the firm's app have to be, for partner_setup/_app.html."""
    return {"callback_url": config().callback_url, "scopes": SCOPES, "pkce_label": PKCE_LABEL}


def find_setup(token: str) -> tuple[SetupLink | None, Partner | None, int]:
    """Return link and partner if the link is open; else None and the status to answer with."""
    found = setup_link.find_link(token)
    if found is None:
        return None, None, NOT_FOUND
    link, partner = found
    return (link, partner, 200) if link.is_open(utcnow()) else (None, None, GONE)


def closed(token: str, status: int) -> ResponseReturnValue:
    """Say how the link ended, and nothing more."""
    found = setup_link.find_link(token)
    link = found[0] if found is not None else None
    return render_template("partner_setup/closed.html", link=link), status


def show_keys(token: str, partner: Partner, form: AppForm, checklist: Checklist | None = None) -> str:
    names = {"token": token, "partner": partner, "form": form, "checklist": checklist}
    return render_template("partner_setup/keys.html", becomes=becomes(form.url.typed), **names)


def sender_of(link: SetupLink) -> str:
    sender = setup_link.sender_of(link)
    return f"{sender.name} of AdvisorStream" if sender else "AdvisorStream"


def letters_about(link: SetupLink, partner: Partner, checklist: Checklist) -> Iterator[Letter]:
    """Yield the mails about a firm that is set up: to the sender of the link, and to the firm's Salesforce admin to keep."""
    sender = setup_link.sender_of(link)
    if sender is not None and sender.is_active:
        url = f"{config().public_url}{url_for('partners.show', slug=partner.slug)}"
        names = {"name": sender.name, "firm": partner.name, "admin": link.name, "url": url}
        yield mail.write(sender.email, f"{partner.name} is set up", "setup_done", **names)
    yield mail.write(
        link.email,
        f"{partner.name}: your Salesforce is set up for AdvisorStream",
        "setup_summary",
        name=link.name,
        firm=partner.name,
        sender=sender_of(link),
        good=checklist.count("good"),
        unknown=checklist.count("unknown"),
        url=f"{config().public_url}{url_for('guides.salesforce_admin')}",
    )
