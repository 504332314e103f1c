"""Tells the admins by mail when nothing is dispatched any more.

All other alerts are opened by the dispatch tick and mailed by a worker. When the tick stands still, neither may be there, so
each web process looks once a minute, and the one that records it first sends the mails itself.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta

from flask import Flask
from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from asapp.core import mail
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, insert_ignore, reading, writing
from asapp.core.extensions import db
from asapp.core.mail import Fate, Letter
from asapp.core.queues import Queues
from asapp.health.heartbeats import SCHEDULER, TICK, WORKER, list_seen
from asapp.models import Heartbeat, Role, User
from config import Config

log = logging.getLogger(__name__)

EVERY_S = 60.0
STALLED_AFTER = timedelta(minutes=5)
AGAIN_AFTER = timedelta(hours=6)
TOLD = "told:stalled"


def warn_of_settings(app: Flask) -> None:
    """Log what the process can start with and should not."""
    if app.extensions["asapp.config"].takes_all_for_one:
        log.warning("TRUSTED_PROXIES is 0 behind a proxy: all people seem to have its address, and share their limits")


def start(app: Flask) -> None:
    """Watch from now on, in a thread that ends with the process."""
    threading.Thread(target=_watch, args=(app, utcnow()), name="watch", daemon=True).start()


def _watch(app: Flask, began_at: datetime) -> None:
    log.info("watching over the dispatch tick")
    while True:
        time.sleep(EVERY_S)
        with app.app_context():
            try:
                tell_of_stall(app, began_at, utcnow())
            except SQLAlchemyError as error:
                log.warning("the tick was not looked at: %s", type(error).__name__)


def tell_of_stall(app: Flask, began_at: datetime, now: datetime) -> int:
    """Mail the admins if the tick stands still and they don't know yet; return how many mails the server took. Commits.

    began_at: when this process started; before that the operator may have stopped everything on purpose.
    """
    with reading():
        seen = list_seen(db.session(), now)
        told_at = db.session.scalar(select(Heartbeat.seen_at).where(Heartbeat.name == TOLD))
        db.session.commit()
    ticked_at = max((process.seen_at for process in seen if process.kind == TICK), default=None)
    if now - max(ticked_at or began_at, began_at) < STALLED_AFTER:
        return 0
    is_known = told_at is not None and told_at > now - AGAIN_AFTER and (ticked_at is None or told_at > ticked_at)
    if is_known or not mark_told(told_at, now):
        return 0
    queues: Queues = app.extensions["asapp.queues"]
    missing = [kind for kind in (SCHEDULER, WORKER) if not any(p.kind == kind and p.is_alive for p in seen)]
    log.error("nothing is dispatched", extra={"missing": ", ".join(missing)})
    config: Config = app.extensions["asapp.config"]
    names = {"ticked_at": ticked_at, "missing": missing, "is_redis_there": queues.is_there()}
    taken = sum(mail.post(letter) is Fate.TAKEN for letter in _letters(f"{config.public_url}/admin/health", **names))
    if not taken:
        unmark_told(told_at)
    return taken


def _letters(url: str, **names: object) -> list[Letter]:
    with reading():
        admins = db.session.scalars(select(User).where(User.role == Role.ADMIN, User.deactivated_at.is_(None))).all()
        subject = "AdvisorStream: scheduled syncs stand still"
        letters = [
            mail.write(admin.email, subject, "stalled", zone=admin.time_zone, name=admin.name, url=url, **names)
            for admin in admins
        ]
        end_read(db.session)
    return letters


def mark_told(told_at: datetime | None, now: datetime) -> bool:
    """Record that they are told now; return whether no other process did. Commits."""
    row = {"name": TOLD, "seen_at": now}
    again = update(Heartbeat).where(Heartbeat.name == TOLD, Heartbeat.seen_at == told_at).values(seen_at=now)
    first = insert_ignore(db.session, Heartbeat, ("name",)).values(row)
    with writing():
        won = change_rows(db.session, first if told_at is None else again) == 1
        db.session.commit()
    return won


def unmark_told(told_at: datetime | None) -> None:
    """No mail server took a mail: the next look tries again. Commits."""
    before = update(Heartbeat).where(Heartbeat.name == TOLD).values(seen_at=told_at)
    with writing():
        db.session.execute(delete(Heartbeat).where(Heartbeat.name == TOLD) if told_at is None else before)
        db.session.commit()
