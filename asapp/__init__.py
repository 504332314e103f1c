"""asapp: connects an advisor's AdvisorStream account to the advisor's own Salesforce user."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from config import Config


def create_app(config: Config | None = None, *, with_pages: bool = True) -> Flask:
    """Return the wired application; config defaults to the environment's (ConfigError if that is bad).

    Without pages it has no commands either: what a worker needs, and nothing more in its memory.
    """
    from asapp.factory import build_app
    from config import Config as _Config

    return build_app(config or _Config.from_environment(), with_pages=with_pages)
