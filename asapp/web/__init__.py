"""Pages: the blueprints in the order of the navigation, error handlers, headers, and their extensions."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask, Request, request
from werkzeug.middleware.proxy_fix import ProxyFix

from asapp.core.database import expect_writes
from asapp.core.extensions import db
from asapp.salesforce import page_turns
from asapp.web import (
    access,
    admins,
    advisors,
    api,
    api_keys,
    audit,
    auth,
    board,
    changes,
    connect,
    contacts,
    email_links,
    errors,
    filters,
    guides,
    headers,
    health,
    home,
    htmx,
    incoming,
    integrations,
    leads,
    lists,
    navigation,
    optin,
    org_calls,
    partner_setup,
    partners,
    passkeys,
    passwords,
    provider,
    request_log,
    runs,
    salesforce_lists,
    second_factor,
    settings,
    unsubscribe,
)
from asapp.web.page_extensions import csrf, limiter, login_manager, migrate
from config import Config

MIGRATIONS = Path(__file__).resolve().parent.parent.parent / "migrations"
BLUEPRINTS: tuple[Blueprint, ...] = (
    home.blueprint,
    guides.blueprint,
    auth.blueprint,
    provider.blueprint,
    passwords.blueprint,
    email_links.blueprint,
    contacts.blueprint,
    lists.blueprint,
    salesforce_lists.blueprint,
    changes.blueprint,
    leads.blueprint,
    optin.blueprint,
    org_calls.blueprint,
    unsubscribe.blueprint,
    settings.blueprint,
    second_factor.blueprint,
    passkeys.blueprint,
    integrations.blueprint,
    connect.blueprint,
    runs.blueprint,
    partners.blueprint,
    advisors.blueprint,
    admins.blueprint,
    partner_setup.blueprint,
    board.blueprint,
    api_keys.blueprint,
    audit.blueprint,
    health.blueprint,
)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def add_pages(app: Flask, config: Config) -> None:
    incoming.add_host_check(app, config)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    request_log.register(app)
    incoming.register(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS), render_as_batch=True)
    login_manager.init_app(app)
    csrf.init_app(app)
    api.register_caller(app)
    limiter.init_app(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    api.register(app)
    app.before_request(begin_page_turn)
    app.teardown_request(end_page_turn)
    app.before_request(take_write_lock_early)
    app.teardown_request(unset_write_lock)
    for part in (access, errors, filters, navigation, htmx, headers):
        part.register(app)


def take_write_lock_early() -> None:
    """Take SQLite's write lock at BEGIN: a transaction that read can't write later. Callbacks of log-ins are GETs that write."""
    expect_writes(writes(request))


def begin_page_turn() -> None:
    page_turns.begin()


def end_page_turn(_error: BaseException | None) -> None:
    page_turns.end()


def unset_write_lock(_error: BaseException | None) -> None:
    expect_writes(False)


def writes(incoming: Request) -> bool:
    return incoming.method not in SAFE_METHODS or incoming.endpoint in ("connect.callback", "provider.callback")
