"""The bare address leads to the first page of whoever is there."""

from __future__ import annotations

from flask import Blueprint, redirect
from werkzeug import Response

from asapp.web.navigation import home_of_current_user

blueprint = Blueprint("home", __name__)


@blueprint.get("/")
def index() -> Response:
    return redirect(home_of_current_user())
