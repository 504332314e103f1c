"""Links on which people set a password, for those who are invited and those who forgot theirs. Nobody is logged in here."""

from __future__ import annotations

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import login_user

from asapp import mail
from asapp.accounts import links
from asapp.accounts.links import LinkIsGone
from asapp.database import writing
from asapp.extensions import db, limiter
from asapp.fields import InvalidFields
from asapp.web.access import actor
from asapp.web.auth import account_tried
from asapp.web.current import config
from asapp.web.navigation import home_of_current_user

blueprint = Blueprint("passwords", __name__, url_prefix="/password")

MAILS_TO_AN_ADDRESS = "20 per hour"
MAILS_FOR_AN_ACCOUNT = "5 per hour"
GUESSES_FROM_AN_ADDRESS = "20 per hour"
GONE = 410


def is_gone(response: Response) -> bool:
    return response.status_code == GONE


@blueprint.after_request
def tell_nobody(response: Response) -> Response:
    """The address of the page is as good as the password."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.get("/forgot")
def forgot() -> ResponseReturnValue:
    return render_template("passwords/forgot.html", email=request.args.get("email", "")[:254])


@blueprint.post("/forgot", endpoint="send_reset")
@limiter.limit(MAILS_TO_AN_ADDRESS)
@limiter.limit(MAILS_FOR_AN_ACCOUNT, key_func=account_tried)
def send_reset() -> ResponseReturnValue:
    """The answer is the same, and as fast, whether or not anybody has the address: the mail goes out after it."""
    email = request.form.get("email", "")
    app, public_url = current_app._get_current_object(), config().public_url  # type: ignore[attr-defined]  # noqa: SLF001

    def after_the_answer() -> None:
        with app.app_context(), writing():
            asked = links.ask_reset(email)
            if asked is None:
                return
            user, token = asked
            url = f"{public_url}{blueprint.url_prefix}/{token}"
            mail.send(user.email, "Set a new AdvisorStream password", "password_reset", name=user.name, url=url)

    response = make_response(render_template("passwords/forgot.html", email=email, is_sent=True))
    db.session.rollback()  # what the request has read; the closing answer must not wait for its lock
    response.call_on_close(after_the_answer)
    return response


@blueprint.get("/<token>")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def show(token: str) -> ResponseReturnValue:
    user = links.find_person(token)
    if user is None:
        return render_template("passwords/gone.html"), GONE
    return render_template("passwords/set.html", user=user, token=token, errors={})


@blueprint.post("/<token>", endpoint="set_password")
@limiter.limit(GUESSES_FROM_AN_ADDRESS, deduct_when=is_gone)
def set_password(token: str) -> ResponseReturnValue:
    try:
        user = links.set_password(token, request.form.get("new", ""), actor())
    except InvalidFields as refusal:
        person = links.find_person(token)
        if person is not None:
            return render_template("passwords/set.html", user=person, token=token, errors=refusal.errors), 422
        return render_template("passwords/gone.html"), GONE
    except LinkIsGone:
        return render_template("passwords/gone.html"), GONE
    session.clear()  # nothing that was there before the log-in may live on in it
    login_user(user)
    flash("Your password is set, and you are logged in.", "good")
    target = url_for("integrations.index", open="salesforce") if user.has_integrations else home_of_current_user()
    return redirect(target, 303)
