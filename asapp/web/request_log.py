"""A number for each request: on its answer, on every line that it logs, and on the error page."""

from __future__ import annotations

import logging
import secrets
import time
from types import TracebackType

from flask import Flask, Response, g, request, session

from asapp.core.logs import about
from asapp.health import request_figures

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
SLOW_S = 1.0
READING = ("GET", "HEAD", "OPTIONS")
KNOWN_BY_KEY = ("api", "api_docs")  # blueprints without sessions
WITHOUT_USER = ("static", "health.alive", "health.ready", "health.metrics")  # answered without reading the session

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def register(app: Flask) -> None:
    """Comes before all other hooks, so that they log under the request's number."""
    app.before_request(begin)
    app.after_request(log_request)
    app.teardown_request(end)
    app.log_exception = log_broken  # type: ignore[method-assign]  # Flask's own logs the path, maybe with a token


def request_id() -> str:
    if "request_id" not in g:
        g.request_id = f"{secrets.token_hex(2)}-{secrets.token_hex(2)}"
    number: str = g.request_id
    return number


def begin() -> None:
    g.began_at = time.perf_counter()
    ids = {"request_id": request_id()}
    if request.endpoint not in WITHOUT_USER and request.blueprint not in KNOWN_BY_KEY and "_user_id" in session:
        ids["user_id"] = str(session["_user_id"]).partition(".")[0]
    g.log_about = about(**ids)
    g.log_about.__enter__()


def log_request(response: Response) -> Response:
    """Log requests that changed something, failed or took long; others at level DEBUG."""
    response.headers[HEADER] = request_id()
    took_s = time.perf_counter() - g.get("began_at", time.perf_counter())
    request_figures.count(request.endpoint, request.method, response.status_code, took_s)
    is_told = request.method not in READING or response.status_code >= 500 or took_s > SLOW_S
    if request.endpoint not in WITHOUT_USER or is_told:
        extra = {
            "endpoint": request.endpoint,
            "method": request.method,
            "status": response.status_code,
            "ms": round(took_s * 1000, 1),
        }
        if g.get("api_key") is not None:
            extra["api_key_id"] = g.api_key.id
        log.log(logging.INFO if is_told else logging.DEBUG, "request", extra=extra)
    return response


def end(_error: BaseException | None) -> None:
    bound = g.pop("log_about", None)
    if bound is not None:
        bound.__exit__(None, None, None)


def log_broken(exc_info: ExcInfo) -> None:
    extra = {"endpoint": request.endpoint, "method": request.method}
    log.error("a request broke", exc_info=exc_info, extra=extra)
