"""A year of 100 advisors stays within the size that docs/operations.md states ("How big the database gets")."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask, current_app
from sqlalchemy import func, insert, select, text

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.health.retention import delete_expired
from asapp.models import ApiUsage, Connection, Contact, OrgCall, RunChange, RunStatus, RunTrigger, SyncRun
from asapp.salesforce.calls import CallKind
from tests.factories import make_advisor, make_contact, make_partner, make_synced_connection

pytestmark = pytest.mark.slow

ADVISORS, DAYS = 100, 365
RUNS_A_DAY, CHANGES_A_DAY, CALLS_A_DAY = 2, 5, 24
MOST_MB = 160
COUNTERS = ("read", "deactivated", "reactivated", "created", "updated", "adopted", "unchanged", "nominated", "tries")


def test_a_year_of_100_advisors_stays_within_the_stated_size(own_app: Flask) -> None:
    partner, now = make_partner(), utcnow()
    connections = [make_synced_connection(make_advisor(partner)) for _ in range(ADVISORS)]
    contact = make_contact(connections[0])
    days = [now - timedelta(days=back) for back in range(DAYS)]
    empty_mb = size_mb()
    fill_runs(connections[0], contact, [day - timedelta(hours=12 * n) for day in days for n in range(RUNS_A_DAY)])
    hours = [
        now - timedelta(hours=back) for back in range(95 * CALLS_A_DAY)
    ]  # the tick deleted the older ones in their time
    fill_calls(connections[0], hours)
    db.session.commit()
    while delete_expired(current_app.extensions["asapp.config"]):
        pass
    kept_days = 90 * CALLS_A_DAY
    assert count(SyncRun) == ADVISORS * DAYS * RUNS_A_DAY
    assert count(RunChange) == ADVISORS * DAYS * CHANGES_A_DAY
    assert ADVISORS * (kept_days - 1) <= count(OrgCall) <= ADVISORS * (kept_days + 1)
    assert kept_days - 1 <= count(ApiUsage) <= kept_days + 1
    assert size_mb() - empty_mb <= MOST_MB


def fill_runs(first: Connection, contact: Contact, ended: Sequence[datetime]) -> None:
    """Give each connection a run that ended at each of these times, with the changes of its part of the day."""
    counts = dict.fromkeys(COUNTERS, 0) | {"skipped": {}, "also": {}, "updated": CHANGES_A_DAY // RUNS_A_DAY}
    same = {"connection_id": first.id, "trigger": RunTrigger.SCHEDULED, "status": RunStatus.COMPLETE, "api_calls": 1}
    runs = [same | counts | {"queued_at": at, "started_at": at, "finished_at": at} for at in ended]
    db.session.execute(insert(SyncRun), runs)
    copy_to_others(SyncRun, "connection_id", select(Connection.id).where(Connection.id != first.id))
    change = {"kind": "updated", "old": {"last_name": "Lindstrom"}, "new": {"last_name": "Lindström"}}
    made = [{"run_id": None, "contact_id": contact.id, **change} for _ in range(CHANGES_A_DAY)]
    columns = ("run_id", "contact_id", "kind", "old", "new")
    with_changes = select(SyncRun.id).where(SyncRun.id % RUNS_A_DAY == 0)  # one of each day's
    one = db.session.scalars(with_changes.limit(1)).one()
    db.session.execute(insert(RunChange), [row | {"run_id": one} for row in made])
    rows = [getattr(RunChange, name) for name in columns[1:]]
    copies = select(SyncRun.id, *rows).join(RunChange, RunChange.run_id == one)
    copies = copies.where(SyncRun.id % RUNS_A_DAY == 0, SyncRun.id != one)
    db.session.execute(insert(RunChange).from_select(columns, copies))


def fill_calls(first: Connection, hours: Sequence[datetime]) -> None:
    """Give each advisor the counted checks of each of these hours, and the firm its calls."""
    call = {
        "partner_id": first.partner_id,
        "kind": CallKind.COMPOSITE,
        "calls": 4,
        "rows": 0,
        "outcome": "200",
        "took_ms": 900,
    }
    at = [each.replace(minute=0, second=0, microsecond=0) for each in hours]
    db.session.execute(insert(OrgCall), [call | {"user_id": first.user_id, "at": each, "hour": each} for each in at])
    copy_to_others(OrgCall, "user_id", select(Connection.user_id).where(Connection.id != first.id))
    usage = {"partner_id": first.partner_id, "calls": 4 * ADVISORS, "lead_calls": 0}
    db.session.execute(insert(ApiUsage), [usage | {"hour": each} for each in at])


def copy_to_others(model: type, owner: str, others: Any) -> None:
    """Copy all rows of a table to each of the other owners."""
    others = others.subquery()
    columns = [column for column in model.__table__.columns if column.key not in ("id", owner)]  # type: ignore[attr-defined]
    names = [owner, *(column.key for column in columns)]
    rows = select(others.c[0], *columns).select_from(model).join(others, others.c[0].is_not(None))
    db.session.execute(insert(model).from_select(names, rows))


def count(model: type) -> int:
    return db.session.scalar(select(func.count()).select_from(model)) or 0


def size_mb() -> float:
    db.session.commit()
    if db.engine.dialect.name == "postgresql":
        size = db.session.scalar(text("SELECT pg_database_size(current_database())"))
    else:
        size = db.session.scalar(text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"))
    return float(size or 0) / 2**20
