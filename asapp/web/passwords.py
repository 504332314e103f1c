"""One-time links for setting a password, for invited people and those who forgot theirs. No one is logged in here."""

from __future__ import annotations

from flask import (
    Blueprint,
    Response,
    flash,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue

from asapp.accounts import links, provider_log_in
from asapp.accounts.links import LinkIsGone
from asapp.core.forms import InvalidFields
from asapp.web.access import actor
from asapp.web.auth import let_in
from asapp.web.current import config, queues, vault
from asapp.web.devices import origin_of
from asapp.web.page_extensions import limiter

blueprint = Blueprint("passwords", __name__, url_prefix="/password")

GUESSES_FROM_AN_ADDRESS = "20 per hour"
GONE = 410


def is_gone(response: Response) -> bool:
    return response.status_code == GONE


@blueprint.after_request
def keep_private(response: Response) -> Response:
    """Keep the page out of caches and referrers: its address is as good as the password."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.get("/forgot")
def forgot() -> ResponseReturnValue:
    return render_template("passwords/forgot.html", email=request.args.get("email", "")[:254])


@blueprint.post("/forgot", endpoint="send_reset")
def send_reset() -> ResponseReturnValue:
    """Give the same answer, equally fast, for every address: a job looks the person up and sends the mail."""
    email = request.form.get("email", "")
    links.request_reset(email, origin_of(email), vault(), queues().enqueue_letters)
    return render_template("passwords/forgot.html", email=email, is_sent=True)


@blueprint.get("/<token>")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def show(token: str) -> ResponseReturnValue:
    user = links.find_person(token)
    if user is None:
        return render_template("passwords/gone.html"), GONE
    if not provider_log_in.may_use_password(user, config()):
        return render_template("passwords/provider.html", user=user)
    return render_template("passwords/set.html", user=user, token=token, errors={})


@blueprint.post("/<token>", endpoint="set_password")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def set_password(token: str) -> ResponseReturnValue:
    invited = links.find_person(token)
    if invited is not None and not provider_log_in.may_use_password(invited, config()):
        return render_template("passwords/provider.html", user=invited), 403
    try:
        user = links.set_password(token, request.form.get("new", ""), actor())
    except InvalidFields as refusal:
        person = links.find_person(token)
        if person is not None:
            return render_template("passwords/set.html", user=person, token=token, errors=refusal.errors), 422
        return render_template("passwords/gone.html"), GONE
    except LinkIsGone:
        return render_template("passwords/gone.html"), GONE
    response = let_in(user, url_for("integrations.index", open="salesforce") if user.has_integrations else None)
    done = "Your password is set" if user.has_second_factor else "Your password is set, and you are logged in"
    flash(f"{done}.", "good")
    return response
