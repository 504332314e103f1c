"""For whatever watches over the processes, and a page that says the same to an admin.

The three addresses for machines need no log-in and name no person; /metrics names partners by their slug, so keep it inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Blueprint, Response, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from asapp.clock import utcnow
from asapp.extensions import db
from asapp.health import checks, figures, metrics
from asapp.health.checks import NoAnswer
from asapp.health.metrics import Snapshot
from asapp.web.access import admin_required
from asapp.web.current import queues

blueprint = Blueprint("health", __name__)

T = TypeVar("T")
SCRAPE_S = 5.0


@blueprint.get("/healthz")
def alive() -> Response:
    """The process answers; whether all it needs is there, /readyz tells."""
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def ready() -> ResponseReturnValue:
    found = checks.check_all(db.engine, queues().is_there, migrations_folder())
    is_ready = all(check.is_good for check in found.values())
    told = {name: {"ok": True} if check.is_good else {"ok": False, "why": check.why} for name, check in found.items()}
    return jsonify(ready=is_ready, checks=told), 200 if is_ready else 503


@blueprint.get("/metrics", endpoint="metrics")
def show_metrics() -> ResponseReturnValue:
    jobs = queues().depths()
    try:
        snapshot = in_time("figures", lambda session: take_snapshot(session, jobs))
    except (NoAnswer, SQLAlchemyError):
        snapshot = Snapshot(None, jobs)
    return Response(metrics.render(snapshot), content_type=metrics.CONTENT_TYPE)


@blueprint.get("/admin/health")
@admin_required
def index() -> ResponseReturnValue:
    now = utcnow()
    return render_template(
        "health/page.html",
        figures=figures.read_figures(db.session(), now),
        ended=figures.count_ended(db.session(), now - figures.DAY),
        jobs=queues().depths(),
    )


def take_snapshot(session: Session, jobs: dict[str, int] | None) -> Snapshot:
    now = utcnow()
    since = now - figures.HOUR
    return Snapshot(
        figures.read_figures(session, now),
        jobs,
        figures.count_ended(session, since),
        figures.read_durations(session, since),
    )


def in_time(name: str, read: Callable[[Session], T]) -> T:
    """Read from the database in a session of its own; raise NoAnswer if that takes too long."""
    engine: Engine = db.engine

    def ask() -> T:
        with Session(engine) as session:
            return read(session)

    return checks.within(SCRAPE_S, name, ask)


def migrations_folder() -> str:
    return str(current_app.extensions["migrate"].directory)
