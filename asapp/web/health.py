"""For whatever watches over the processes."""

from __future__ import annotations

from flask import Blueprint, Response

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def alive() -> Response:
    """The process answers; whether all it needs is there, /readyz tells."""
    return Response("ok\n", mimetype="text/plain")
