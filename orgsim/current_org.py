"""The org that the current request is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app, request

if TYPE_CHECKING:
    from orgsim.org import Org


def current_org() -> Org:
    return cast("Org", current_app.extensions["org"])


def base_url() -> str:
    """The org's own address as the caller sees it, without a slash at its end."""
    return request.host_url.rstrip("/")
