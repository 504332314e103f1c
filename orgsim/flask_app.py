"""The org's pages and OAuth endpoints as one small Flask app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from orgsim import control_api, front_page, oauth_views

if TYPE_CHECKING:
    from orgsim.org import Org


def make_web_app(org: Org, advisorstream_url: str | None) -> Flask:
    app = Flask("orgsim", static_url_path="/practice/static")
    app.extensions["org"] = org
    app.config["ADVISORSTREAM_URL"] = advisorstream_url
    app.config["SECRET_KEY"] = None  # nothing is kept in Flask's session
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    for blueprint in (oauth_views.bp, control_api.bp, front_page.bp):
        app.register_blueprint(blueprint)
    return app
