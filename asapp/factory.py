"""Wiring: extensions, blueprints, error handlers, headers and commands of the application."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Request, request
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.orm import configure_mappers
from werkzeug.middleware.proxy_fix import ProxyFix

from asapp import cli, logs, mail, models
from asapp.database import engine_options, expect_writes, prepare_engine
from asapp.extensions import csrf, db, limiter, login_manager, migrate
from asapp.extensions import mail as mail_extension
from asapp.jobs.queues import Queues
from asapp.vault import Vault
from asapp.web import access, errors, filters, headers, htmx, navigation, request_log
from asapp.web.blueprints import BLUEPRINTS
from config import Config

ROOT = Path(__file__).resolve().parent.parent
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_REQUEST_BYTES = 1_000_000


def build_app(config: Config) -> Flask:
    logs.configure()
    app = Flask("asapp", template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.config.update(flask_settings(config))
    app.extensions["asapp.config"] = config
    app.extensions["asapp.vault"] = Vault(config.encryption_keys)
    app.extensions["asapp.queues"] = Queues(config.redis_url)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    request_log.register(app)
    bind_extensions(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.before_request(take_write_lock_early)
    app.teardown_request(forget_write_lock)
    for part in (access, errors, filters, navigation, htmx, headers, cli):
        part.register(app)
    return app


def flask_settings(config: Config) -> dict[str, object]:
    return {
        "SECRET_KEY": config.secret_key,
        "TESTING": config.testing,
        "SQLALCHEMY_DATABASE_URI": config.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine_options(config.database_url),
        "SESSION_COOKIE_NAME": "__Host-session" if config.is_https else "session",
        "SESSION_COOKIE_SECURE": config.is_https,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "WTF_CSRF_TIME_LIMIT": None,  # as long as the session
        "WTF_CSRF_SSL_STRICT": False,  # SameSite and the token do it; strict Referrer checks lock out careful browsers
        "MAX_CONTENT_LENGTH": MAX_REQUEST_BYTES,
        "RATELIMIT_STORAGE_URI": config.redis_url.replace("unix://", "redis+unix://", 1),
        "RATELIMIT_STORAGE_OPTIONS": {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": 0.05,
            "socket_timeout": 0.1,  # a request may have to wait twice before it counts in memory
        },
        "RATELIMIT_STRATEGY": "fixed-window",
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,
        "RATELIMIT_SWALLOW_ERRORS": True,
        **mail.flask_settings(config),
    }


def bind_extensions(app: Flask) -> None:
    db.init_app(app)
    with app.app_context():
        prepare_engine(db.engine)
    configure_mappers()
    migrate.init_app(app, db, directory=str(ROOT / "migrations"), render_as_batch=True)
    login_manager.init_app(app)
    csrf.init_app(app)
    limiter.init_app(app)
    mail_extension.init_app(app)


def take_write_lock_early() -> None:
    """On SQLite a transaction that reads first can't write later; the OAuth callback is a GET that writes."""
    expect_writes(writes(request))


def forget_write_lock(_error: BaseException | None) -> None:
    expect_writes(False)


def writes(incoming: Request) -> bool:
    return incoming.method not in SAFE_METHODS or incoming.endpoint == "connect.callback"


__all__ = ["build_app", "models"]
