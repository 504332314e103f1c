"""Views that need a proof of identity within the last 15 minutes: for secrets, keys and second steps.

A GET for a page returns to it afterwards. A posted form is held: sealed for this person in the page that asks, secrets
and all, and sent on from there to its address.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from flask import make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import ImmutableMultiDict

from asapp.accounts import passkeys, provider_log_in
from asapp.core.clock import utcnow
from asapp.core.vault import CannotOpen
from asapp.models import User
from asapp.models.columns import place_of
from asapp.web import login_session
from asapp.web.access import path_of, safe_path
from asapp.web.current import config, person, vault
from asapp.web.htmx import wants_part

P = ParamSpec("P")
View = Callable[P, ResponseReturnValue]

HELD = "held"
OURS = ("csrf_token", HELD)
SAFE_METHODS = ("GET", "HEAD")


def fresh_required(view: View[P]) -> View[P]:
    """Call the view only if the person has recently proved who they are."""
    return fresh_required_if(lambda: True)(view)


def fresh_required_if(is_needed: Callable[[], bool]) -> Callable[[View[P]], View[P]]:
    """As fresh_required, for requests for which is_needed() is true: a form may contain a secret or not."""

    def guard(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            take_held_form()
            if login_session.is_fresh() or not is_needed():
                return view(*args, **kwargs)
            return ask()

        return guarded

    return guard


def ask() -> ResponseReturnValue:
    """Ask who it is, and hold the posted form."""
    if wants_part():
        page = safe_path(path_of(request.headers.get("HX-Current-URL", "")))
        return make_response("", 401, {"HX-Redirect": url_for("auth.confirm", next=page)})
    if request.method in SAFE_METHODS:
        return redirect(url_for("auth.confirm", next=request.full_path.rstrip("?")))
    return show(request.path, held_form()), 403


def show(next_path: str | None, held: str = "", is_refused: bool = False, trouble: str = "") -> str:
    """trouble: why a passkey was refused."""
    user = person()
    names = {
        "may_use_password": provider_log_in.may_use_password(user, config()),
        "has_passkeys": bool(passkeys.list_of(user)),
        "trouble": trouble,
        "is_by_provider": config().identity_provider is not None and provider_log_in.is_linked(user),
    }
    return render_template("auth/confirm.html", next=next_path, held=held, is_refused=is_refused, **names)


def held_form() -> str:
    """Return the form that came in, sealed for this person and this address."""
    fields = [(name, value) for name, value in request.form.items(multi=True) if name not in OURS]
    until = (utcnow() + login_session.FRESH_FOR).timestamp()
    content = json.dumps({"path": request.path, "until": until, "fields": fields})
    return vault().seal(content, _place(person()))


def take_held_form() -> None:
    """If the request brings a form that was held for this address, let it take the request's place."""
    sealed = request.form.get(HELD)
    if not sealed:
        return
    try:
        content = json.loads(vault().open(sealed, _place(person())))
    except CannotOpen:
        return
    if content["path"] == request.path and content["until"] > utcnow().timestamp():
        request.form = ImmutableMultiDict([(name, value) for name, value in content["fields"]])


def _place(user: User) -> str:
    return place_of(User.__tablename__, user.public_id, "held form")
