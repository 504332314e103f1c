"""Addresses for the programs that watch the processes, and a page with the same for admins.

The three addresses for machines need no log-in and name no person. /metrics names partners by their slug: it demands
METRICS_TOKEN, and without that setting answers only to this machine.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar

from flask import Blueprint, Response, current_app, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from asapp.accounts import key_rotation
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import RedisTrouble
from asapp.core.vault import Vault
from asapp.core.version import RELEASE
from asapp.health import figures, metrics, readiness
from asapp.health.metrics import Snapshot
from asapp.health.readiness import NoAnswer
from asapp.sync.interval import find_intervals
from asapp.web.access import admin_required
from asapp.web.current import config, queues, vault
from asapp.web.incoming import is_asked_by_loopback

blueprint = Blueprint("health", __name__)

T = TypeVar("T")
SCRAPE_S = 5.0
OF_PROXIES = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")


@blueprint.get("/healthz")
def alive() -> Response:
    """The process answers. /readyz says whether everything it needs is there."""
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def ready() -> ResponseReturnValue:
    found = readiness.check_all(db.engine, queues().find_trouble, migrations_folder(), vault())
    is_ready = all(check.is_good for check in found.values())
    told = {name: {"ok": True} if check.is_good else {"ok": False, "why": check.why} for name, check in found.items()}
    return jsonify(ready=is_ready, checks=told), 200 if is_ready else 503


@blueprint.get("/metrics", endpoint="metrics")
def show_metrics() -> ResponseReturnValue:
    if not may_scrape(config().metrics_token):
        return refuse_scrape()
    jobs = queues().depths()
    try:
        interval, keys = config().sync_interval_minutes, vault()
        snapshot = in_time("figures", lambda session: take_snapshot(session, jobs, interval, keys))
    except (NoAnswer, SQLAlchemyError):
        snapshot = Snapshot(None, jobs)
    return Response(metrics.render(snapshot), content_type=metrics.CONTENT_TYPE)


@blueprint.get("/admin/health")
@admin_required
def index() -> ResponseReturnValue:
    now, jobs = utcnow(), queues().depths()
    return render_template(
        "health/page.html",
        figures=figures.read_activity(db.session(), now),
        ended=figures.count_ended(db.session(), now - figures.DAY),
        jobs=jobs,
        redis_refuses_us=jobs is None and queues().find_trouble() == RedisTrouble.REFUSED,
        release=RELEASE,
        takes_all_for_one=config().takes_all_for_one,
        without_key=key_rotation.count_without_key(db.session(), vault()),
    )


def may_scrape(token: str | None) -> bool:
    """May this request read the figures? token: what it has to carry; None: it has to come from and be addressed to this
    machine.

    A proxy on this machine passes on the host that it was asked for; without this rule everyone could read them through
    it.
    """
    if token is None:
        is_direct = is_asked_by_loopback() and not any(name in request.headers for name in OF_PROXIES)
        return is_direct and is_this_machine(request.remote_addr or "")
    return hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode())


def refuse_scrape() -> ResponseReturnValue:
    if config().metrics_token is None:
        words = "Figures are for this machine alone, as long as METRICS_TOKEN is not set.\n"
        return Response(words, 403, mimetype="text/plain")
    return Response("Bearer token needed.\n", 401, {"WWW-Authenticate": "Bearer"}, mimetype="text/plain")


def is_this_machine(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def take_snapshot(
    session: Session, jobs: dict[str, int] | None, default_interval_minutes: int, keys: Vault
) -> Snapshot:
    now = utcnow()
    since = now - figures.HOUR
    return Snapshot(
        figures.read_figures(session, now),
        jobs,
        figures.count_ended(session, since),
        figures.read_durations(session, since),
        figures.read_sender_figures(session, now),
        find_intervals(session, default_interval_minutes),
        key_rotation.count_without_key(session, keys),
    )


def in_time(name: str, read: Callable[[Session], T]) -> T:
    """Read from the database in a session of its own; raise NoAnswer if that takes too long."""
    engine: Engine = db.engine

    def ask() -> T:
        with Session(engine) as session:
            return read(session)

    return readiness.within(SCRAPE_S, name, ask)


def migrations_folder() -> str:
    return str(current_app.extensions["migrate"].directory)
