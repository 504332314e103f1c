"""The page on which a person confirms a new address; no one is logged in here."""

from __future__ import annotations

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue

from asapp.accounts import email_links
from asapp.core.forms import InvalidFields
from asapp.web.access import actor
from asapp.web.current import config, post_later
from asapp.web.page_extensions import limiter
from asapp.web.passwords import GUESSES_FROM_AN_ADDRESS, is_gone, keep_private

blueprint = Blueprint("email_links", __name__, url_prefix="/email")

GONE = 410


@blueprint.after_request
def keep_link_private(response: Response) -> Response:
    return keep_private(response)


@blueprint.get("/<token>")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def show(token: str) -> ResponseReturnValue:
    link = email_links.find(token, config().secret_key)
    if link is None:
        return render_template("email_links/gone.html"), GONE
    return render_template("email_links/confirm.html", link=link, token=token)


@blueprint.post("/<token>", endpoint="confirm")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def confirm(token: str) -> ResponseReturnValue:
    link = email_links.find(token, config().secret_key)
    if link is None:
        return render_template("email_links/gone.html"), GONE
    try:
        letters = email_links.confirm(link, actor())
    except InvalidFields:  # another account took the address in between
        return render_template("email_links/gone.html"), GONE
    post_later(*letters)
    return render_template("email_links/done.html", email=link.email)
