"""The bare address redirects to the current person's first page."""

from __future__ import annotations

from flask import Blueprint, redirect
from werkzeug import Response

from asapp.web.navigation import home_of_current_user

blueprint = Blueprint("home", __name__)


@blueprint.get("/")
def index() -> Response:
    return redirect(home_of_current_user())
