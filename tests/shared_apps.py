"""One application for all tests with the same settings: its routes, templates and statements are compiled once.

The extensions know one application at a time, the newest; a shared one is put back there when it is lent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask

from asapp import create_app
from asapp.core.extensions import db
from asapp.web.page_extensions import limiter
from config import Config
from tests.strict_templates import be_strict


@dataclass(frozen=True)
class Shared:
    app: Flask
    limiter: dict[str, Any]
    extensions: dict[str, Any]
    shape: dict[str, Any]


class SharedApps:
    def __init__(self) -> None:
        self._made: dict[Config, Shared] = {}

    @contextmanager
    def lent(self, config: Config) -> Iterator[Flask]:
        """Lend the application for these settings; fail if the borrower has changed it."""
        shared = self._made.get(config) or self._make(config)
        vars(limiter).update(shared.limiter)
        limiter._fallback_limiter.storage.reset()  # type: ignore[union-attr]
        shared.app.extensions.clear()  # removes what requests have put there
        shared.app.extensions.update(shared.extensions)
        shared.app.extensions["mailman"].outbox = []
        yield shared.app
        changed = {name for name, value in shape_of(shared.app).items() if value != shared.shape[name]}
        if changed:
            del self._made[config]
        assert not changed, f"the shared application has other {', '.join(sorted(changed))} now: use own_app"

    def _make(self, config: Config) -> Shared:
        app = create_app(config)
        be_strict(app)
        self._made[config] = Shared(app, dict(vars(limiter)), dict(app.extensions), shape_of(app))
        return self._made[config]


def shape_of(app: Flask) -> dict[str, Any]:
    """Return everything that a test can add to an application or replace in it."""
    with app.app_context():
        listeners = db.engine.dispatch
        return {
            "settings": dict(app.config),
            "views": dict(app.view_functions),
            "rules": len(list(app.url_map.iter_rules())),
            "hooks": [
                {name: list(hooks) for name, hooks in each.items()}
                for each in (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs)
            ],
            "template globals": dict(app.jinja_env.globals),
            "listeners": {name: list(getattr(listeners, name)) for name in dir(listeners) if not name.startswith("_")},
        }
