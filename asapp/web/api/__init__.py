"""The API for senders under /api/v1, its OpenAPI document, and the page that explains it.

No sessions, cookies or CSRF here: the key decides what a request may do. A refusal is a problem as in RFC 9457.
"""

from __future__ import annotations

from flask import Flask

from asapp.web.api import caller, document, views
from asapp.web.page_extensions import csrf


def register(app: Flask) -> None:
    """Add the calls and their documentation. Comes after caller.register()."""
    csrf.exempt(views.blueprint)
    document.describe(app, views.blueprint)
    app.register_blueprint(document.blueprint)


def register_caller(app: Flask) -> None:
    """Comes before the limiter, which counts by key."""
    app.before_request(caller.find_caller)
