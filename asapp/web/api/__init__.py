"""The API for senders under /api/v1, its OpenAPI document, and the page that explains it.

Sessions, cookies and CSRF play no part here: a request is what its key says. What is refused is a problem by RFC 9457.
"""

from __future__ import annotations

from flask import Flask

from asapp.web.api import caller, document, views
from asapp.web.page_extensions import csrf


def register(app: Flask) -> None:
    """Add the calls and what describes them. Comes after caller.register()."""
    csrf.exempt(views.blueprint)
    document.describe(app, views.blueprint)
    app.register_blueprint(document.blueprint)


def register_caller(app: Flask) -> None:
    """Comes before the limiter, which counts by key."""
    app.before_request(caller.find_caller)
