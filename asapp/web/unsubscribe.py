"""The page behind the unsubscribe link in every mail, and the one-click POST of mail programs (RFC 8058).

It has no session, sets no cookie and needs no script. Opening it changes nothing, since link scanners open everything;
its button and the one-click POST do, and may be repeated. The signed token replaces CSRF protection.
"""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from asapp.contacts import suppressions
from asapp.contacts.suppressions import Address
from asapp.contacts.unsubscribe_links import BadLink, UnsubscribeLink, masked_address, read_link
from asapp.models import SuppressionSource
from asapp.web.current import vault
from asapp.web.networks import client_network
from asapp.web.page_extensions import csrf, limiter
from asapp.writeback import unsubscribing

blueprint = Blueprint("unsubscribe", __name__, url_prefix="/u")
csrf.exempt(blueprint)

# A mail provider sends the POST for all its users from a few addresses, so good links are limited one by one.
A_LINK = "30 per minute"
BAD_LINKS_FROM_AN_ADDRESS = "30 per minute"
ONE_CLICK_ANSWER = "You are unsubscribed.\nNo more emails will be sent to this address.\n"


def token_of_request() -> str:
    return str((request.view_args or {}).get("token", ""))


def is_bad_link(response: Response) -> bool:
    return response.status_code == HTTPStatus.NOT_FOUND


limit_bad_links = limiter.shared_limit(
    BAD_LINKS_FROM_AN_ADDRESS, scope="bad unsubscribe links", key_func=client_network, deduct_when=is_bad_link
)


@blueprint.get("/<token>")
@limit_bad_links
def show(token: str) -> ResponseReturnValue:
    link = read_link(token, vault())
    if link.is_of_the_past:
        return render_template("unsubscribe/ended.html")
    address = address_of(link)
    held = suppressions.held_for(address)
    common = {"link": link, "token": token, "masked": masked_address(link)}
    if held.has_stopped:
        can_undo = suppressions.can_undo(address)
        is_firm_open = not held.firm.unsubscribed_at and request.args.get("scope") == "firm"
        if not is_firm_open:
            return render_template("unsubscribe/done.html", held=held, can_undo=can_undo, **common)
    if "undone" in request.args:
        return render_template("unsubscribe/undone.html", **common)
    return render_template("unsubscribe/ask.html", scope=request.args.get("scope"), **common)


@blueprint.post("/<token>")
@limit_bad_links
@limiter.limit(A_LINK, key_func=token_of_request)
def receive(token: str) -> ResponseReturnValue:
    link = read_link(token, vault())
    if request.form.get("List-Unsubscribe") == "One-Click":
        return take_one_click(link)
    if link.is_of_the_past:
        return render_template("unsubscribe/ended.html")
    if request.form.get("do") == "undo":
        suppressions.undo_unsubscribe(address_of(link), vault())
        return redirect(url_for("unsubscribe.show", token=token, undone=""), HTTPStatus.SEE_OTHER)
    stop(link, SuppressionSource.PAGE, whole_firm=request.form.get("scope") == "firm")
    return redirect(url_for("unsubscribe.show", token=token), HTTPStatus.SEE_OTHER)


@blueprint.errorhandler(BadLink)
def say_that_the_link_is_bad(_error: BadLink) -> ResponseReturnValue:
    return render_template("unsubscribe/invalid.html"), HTTPStatus.NOT_FOUND


def take_one_click(link: UnsubscribeLink) -> Response:
    if not link.is_of_the_past:
        stop(link, SuppressionSource.ONE_CLICK, whole_firm=False)
    return make_response(ONE_CLICK_ANSWER, {"Content-Type": "text/plain; charset=utf-8"})


def stop(link: UnsubscribeLink, source: SuppressionSource, *, whole_firm: bool) -> None:
    unsubscribing.unsubscribe(address_of(link), source, whole_firm=whole_firm, vault=vault())


def address_of(link: UnsubscribeLink) -> Address:
    return Address(link.partner.id, link.user.id, link.address_hash)
