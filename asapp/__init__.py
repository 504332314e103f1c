"""asapp: connects an advisor's AdvisorStream account to the advisor's own Salesforce user.

create_app() wires it: settings, database and mail for every process; pages and commands for those that have them.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from flask import Flask
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import configure_mappers

import asapp.models  # noqa: F401 - every table has to be known before the mappers are configured
from asapp.connections.org_access import OrgAccess
from asapp.core import logs, mail
from asapp.core.database import engine_options, prepare_engine
from asapp.core.extensions import db
from asapp.core.extensions import mail as mail_extension
from asapp.core.formats import counted, number, with_zone
from asapp.core.queues import Queues
from asapp.core.vault import Vault
from config import Config

ROOT = Path(__file__).resolve().parent.parent
MAX_REQUEST_BYTES = 1_000_000
SQLITE_CACHE_MB_OF_PAGES = 2  # of each thread
SQLITE_CACHE_MB_OF_JOBS = 8  # a sync's page touches most of the pages of two indexes


def create_app(config: Config | None = None, *, with_pages: bool = True) -> Flask:
    """Return the wired application; config defaults to the environment's (ConfigError if that is bad).

    Without pages it has no commands either: it is what a worker needs, and uses less memory.
    """
    logs.configure()
    config = config or Config.from_environment()
    app = Flask("asapp", template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.config.update(flask_settings(config, for_jobs=not with_pages))
    app.extensions["asapp.config"] = config
    app.extensions["asapp.vault"] = vault = Vault(config.encryption_keys)
    app.extensions["asapp.org_access"] = OrgAccess(vault, config.callback_url, config.salesforce_allow_loopback)
    app.extensions["asapp.queues"] = Queues(config.redis_url)
    bind_extensions(app, SQLITE_CACHE_MB_OF_PAGES if with_pages else SQLITE_CACHE_MB_OF_JOBS)
    if with_pages:
        from asapp import cli, web
        from asapp.accounts import passwords
        from asapp.accounts.identity_provider import ProviderClient

        passwords.set_cost(config.testing)
        of_people = config.identity_provider
        client = ProviderClient(of_people, config.log_in_callback_url) if of_people else None
        app.extensions["asapp.identity_provider"] = client
        web.add_pages(app, config)
        cli.register(app)
    return app


def flask_settings(config: Config, *, for_jobs: bool) -> dict[str, object]:
    return {
        "SECRET_KEY": config.secret_key,
        "TESTING": config.testing,
        "SQLALCHEMY_DATABASE_URI": config.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine_options(config.database_url, for_jobs=for_jobs),
        "SESSION_COOKIE_NAME": "__Host-session" if config.is_https else "session",
        "SESSION_COOKIE_SECURE": config.is_https,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "WTF_CSRF_TIME_LIMIT": None,  # as long as the session
        "WTF_CSRF_SSL_STRICT": False,  # SameSite and the token suffice; Referrer checks lock out careful browsers
        "MAX_CONTENT_LENGTH": MAX_REQUEST_BYTES,
        "RATELIMIT_STORAGE_URI": config.redis_url.replace("unix://", "redis+unix://", 1),
        "RATELIMIT_STORAGE_OPTIONS": {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": 0.05,
            "socket_timeout": 0.1,  # a request may have to wait twice before it falls back to memory
        },
        "RATELIMIT_STRATEGY": "fixed-window",
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,
        "RATELIMIT_SWALLOW_ERRORS": True,
        **mail.flask_settings(config),
    }


def end_transaction(_error: BaseException | None) -> None:
    """Roll back what is open. Where the database was cut off since, it has done so, and the answer to the request stands."""
    if db.session.registry.has():
        with suppress(OperationalError):
            db.session.rollback()


def bind_extensions(app: Flask, sqlite_cache_mb: int) -> None:
    db.init_app(app)
    app.teardown_appcontext(end_transaction)  # called before the one of init_app(), which closes the session
    with app.app_context():
        prepare_engine(db.engine, sqlite_cache_mb)
    configure_mappers()
    mail_extension.init_app(app)
    app.jinja_env.filters.update(exact=with_zone, number=number, counted=counted)  # for mails, which workers write too
