"""What a request works with: the current user, and the objects that create_app() keeps on the application."""

from __future__ import annotations

from typing import cast

from flask import abort, current_app, g
from flask_login import current_user

from asapp.accounts import mail_outbox
from asapp.accounts.identity_provider import ProviderClient
from asapp.connections.org_access import OrgAccess
from asapp.core.mail import Letter
from asapp.core.queues import Queues
from asapp.core.vault import Vault
from asapp.models import Connection, User
from asapp.panel.load import LatestConnection, find_latest_with_held
from config import Config


def person() -> User:
    return cast(User, current_user._get_current_object())  # noqa: SLF001 - the row itself, not its proxy


def own_connection() -> Connection | None:
    """Return the person's connection, or the one disconnected last; one query a request. Whatever changes it reads its own."""
    return _latest().connection


def count_held() -> int:
    """Return how many contacts wait for this advisor's decision; from the same query."""
    return _latest().held


def _latest() -> LatestConnection:
    if "latest_connection" not in g:
        g.latest_connection = find_latest_with_held(person())
    return cast(LatestConnection, g.latest_connection)


def current_connection() -> Connection | None:
    """Return the person's connection, unless it is disconnected."""
    found = own_connection()
    return None if found is None or found.is_disconnected else found


def config() -> Config:
    return cast(Config, current_app.extensions["asapp.config"])


def identity_provider() -> ProviderClient:
    """Return the client of the identity provider; 404 where there is none."""
    client = cast(ProviderClient | None, current_app.extensions["asapp.identity_provider"])
    return client or abort(404)


def vault() -> Vault:
    return cast(Vault, current_app.extensions["asapp.vault"])


def queues() -> Queues:
    return cast(Queues, current_app.extensions["asapp.queues"])


def post_later(*letters: Letter) -> None:
    """Let a job send these mails, so that no answer waits for the mail server."""
    mail_outbox.post_later(letters, vault(), queues().enqueue_letters)


def org_access() -> OrgAccess:
    return cast(OrgAccess, current_app.extensions["asapp.org_access"])
