"""When the tick, the schedulers and the workers were last seen.

Kept in the database, so that an emptied Redis doesn't lose them. A process that ends in order deletes its own row; the
row of one that died shows when that was, until the tick deletes it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from asapp.core.clock import utcnow
from asapp.core.database import upsert, writing
from asapp.models import Heartbeat

log = logging.getLogger(__name__)

TICK = "tick"
SCHEDULER = "scheduler"
WORKER = "worker"
EVERY_S = 15.0
ALIVE = timedelta(seconds=120)  # an idle worker beats every 75 s
FORGOTTEN_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class SeenProcess:
    """kind: tick, scheduler or worker. where: host and process id."""

    kind: str
    where: str
    seen_at: datetime
    is_alive: bool


def beat(engine: Engine, name: str) -> None:
    """Record that `name` is alive, in a transaction of its own; the tick also deletes rows of processes that died long ago."""
    now = utcnow()
    with writing(), Session(engine) as session:
        session.execute(upsert(session, Heartbeat, ("name",), ("seen_at",)).values(name=name, seen_at=now))
        if name == TICK:
            session.execute(delete(Heartbeat).where(Heartbeat.seen_at < now - FORGOTTEN_AFTER))
        session.commit()


def stop(engine: Engine, name: str) -> None:
    with writing(), Session(engine) as session:
        session.execute(delete(Heartbeat).where(Heartbeat.name == name))
        session.commit()


def list_seen(session: Session, now: datetime) -> Sequence[SeenProcess]:
    """Return the processes seen, the latest first."""
    rows = session.execute(select(Heartbeat.name, Heartbeat.seen_at).order_by(Heartbeat.seen_at.desc()))
    return [SeenProcess(*_parts(name), seen_at, now - seen_at <= ALIVE) for name, seen_at in rows]


def is_seen_here(session: Session, kind: str, now: datetime) -> bool:
    """Was a process of this kind on this host, or in this container, seen within ALIVE?"""
    here = Heartbeat.name.startswith(f"{kind}:{_host()}:", autoescape=True)
    return session.scalar(select(Heartbeat.name).where(here, Heartbeat.seen_at >= now - ALIVE).limit(1)) is not None


def _host() -> str:
    return socket.gethostname()[:60]


def _parts(name: str) -> tuple[str, str]:
    kind, _, where = name.partition(":")
    return kind, where.replace(":", ", process ")


class Heart:
    """The heartbeat of a process that must go on if the database fails. It leaves no connection open: a worker forks."""

    def __init__(self, engine: Engine, kind: str) -> None:
        self._engine = engine
        self._name = f"{kind}:{_host()}:{os.getpid()}"
        self._beat_at = float("-inf")

    def beat(self) -> None:
        """Record a beat, unless there was one a moment ago."""
        if time.monotonic() - self._beat_at < EVERY_S:
            return
        self._beat_at = time.monotonic()
        self._do(beat)

    def stop(self) -> None:
        self._do(stop)

    def _do(self, deed: Callable[[Engine, str], None]) -> None:
        try:
            deed(self._engine, self._name)
        except SQLAlchemyError as error:
            log.warning("the heartbeat was not written: %s", type(error).__name__)
        finally:
            self._engine.dispose()
