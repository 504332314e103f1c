"""Writing the log of calls to firms' Salesforce (models/org_call.py).

An open org collects its calls and writes many at once, between two calls and when it is closed. Calls of the log-in are
written one by one. Rounds of quiet checks give theirs to put_round(): a quiet one is counted for its advisor and hour.

The log never stops what it tells about: if it can't be written, that is in the program's log, and the call counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Table, bindparam, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from asapp.core.bulk import insert_many
from asapp.core.database import upsert, writing
from asapp.core.extensions import db
from asapp.models import Connection, OrgCall
from asapp.models.org_call import IS_COUNTED
from asapp.salesforce.calls import GOOD, Listener, MadeCall

log = logging.getLogger(__name__)

CALLS: Table = OrgCall.__table__  # type: ignore[assignment]
AT_ONCE = 50  # calls
WRITE_AFTER_S = 30.0
CHECK = "check"  # the kind of quiet checks, counted by the hour


@dataclass(frozen=True)
class Caller:
    """Whose call it is. user_id: the advisor; None if it is the firm alone."""

    partner_id: int
    user_id: int | None = None

    @classmethod
    def of(cls, connection: Connection) -> Caller:
        return cls(connection.partner_id, connection.user_id)

    def row(self, call: MadeCall) -> dict[str, Any]:
        return {
            "at": call.at,
            "partner_id": self.partner_id,
            "user_id": self.user_id,
            "kind": call.kind.value,
            "calls": 1,
            "rows": call.rows,
            "outcome": call.outcome,
            "took_ms": call.took_ms,
        }


class CallLog:
    """The calls of an open org that are not written yet. It may be told in another thread."""

    def __init__(self, engine: Engine, caller: Caller) -> None:
        self._engine = engine
        self._caller = caller
        self._calls: list[MadeCall] = []
        self._written_at = time.monotonic()

    def __call__(self, call: MadeCall) -> None:
        self._calls.append(call)

    def writing_before(self, before_call: Callable[[], None]) -> Callable[[], None]:
        """Return before_call with the log's writing, if it is time: no transaction is open then."""

        def run() -> None:
            before_call()
            if len(self._calls) >= AT_ONCE or (self._calls and time.monotonic() - self._written_at > WRITE_AFTER_S):
                self.write()

        return run

    def write(self) -> None:
        """Write what has been collected, in a transaction of its own."""
        self._written_at = time.monotonic()
        calls, self._calls = self._calls, []
        write_calls(self._engine, self._caller, calls)


@contextmanager
def logging_calls(caller: Caller) -> Iterator[CallLog]:
    """Yield a log that is written at the end of the block, when the caller's transaction is over: committed, or rolled back."""
    calls = CallLog(db.engine, caller)
    try:
        yield calls
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise
    finally:
        calls.write()


def writing_at_once(caller: Caller, engine: Engine | None = None) -> Listener:
    """Return a listener for single calls, which are made while no transaction is open."""
    to = engine or db.engine
    return lambda call: write_calls(to, caller, [call])


def write_calls(engine: Engine, caller: Caller, calls: Sequence[MadeCall]) -> None:
    """Write these calls in a transaction of their own. Commits."""
    if not calls:
        return
    try:
        with writing(), Session(engine) as session:
            session.execute(insert(CALLS), [caller.row(call) for call in calls])
            session.commit()
    except SQLAlchemyError:
        log.warning("%s calls are missing in the log of calls", len(calls))


def put_round(checked: Iterable[tuple[Connection, Sequence[MadeCall], bool]]) -> None:
    """Write the calls of a round in the caller's transaction; each with whether the check was quiet.

    What a quiet check asked with success is added to its advisor's count of the hour.
    """
    rows: list[dict[str, Any]] = []
    counts: dict[tuple[int, int, datetime], list[int]] = {}
    for connection, calls, is_quiet in checked:
        caller = Caller.of(connection)
        for call in calls:
            if not is_quiet or call.outcome != GOOD:
                rows.append(caller.row(call))
                continue
            hour = call.at.replace(minute=0, second=0, microsecond=0)
            count = counts.setdefault((caller.partner_id, connection.user_id, hour), [0, 0, 0])
            for place, more in enumerate((1, call.rows, call.took_ms)):
                count[place] += more
    insert_many(CALLS, rows)
    if counts:
        db.session.execute(_counting(), [_counted(*key, *count) for key, count in sorted(counts.items())])


def _counting() -> Any:
    """Return the INSERT of one hour's count, which adds to the count that is there."""
    added = {name: CALLS.c[name] + bindparam(f"more_{name}") for name in ("calls", "rows", "took_ms")}
    return upsert(db.session, CALLS, ("partner_id", "user_id", "hour"), added, index_where=IS_COUNTED)


def _counted(partner_id: int, user_id: int, hour: datetime, calls: int, rows: int, took_ms: int) -> dict[str, Any]:
    return {
        "at": hour,
        "partner_id": partner_id,
        "user_id": user_id,
        "hour": hour,
        "kind": CHECK,
        "calls": calls,
        "rows": rows,
        "outcome": GOOD,
        "took_ms": took_ms,
        "more_calls": calls,
        "more_rows": rows,
        "more_took_ms": took_ms,
    }
