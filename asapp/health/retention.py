"""Rows that are deleted after a set time, so that no table grows for ever.

Runs with their receipts are kept for RUNS_KEPT_DAYS, short-lived rows for TRACES_KEPT_DAYS. The audit log, consent and
suppressions are kept for good. The tick deletes some rows of each kind at a time, so that transactions are short and
other writers wait for milliseconds. A backlog is worked off by later ticks, which come every 15 seconds.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, aliased

from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import Alert, ApiUsage, OAuthState, OrgCall, PasswordLink, RunChange, Send, SetupLink, SyncRun
from config import Config

AT_ONCE = 1000  # rows of one kind in one transaction
CHANGES_AT_ONCE = 5000

Columns = tuple[InstrumentedAttribute[Any], ...]


def delete_expired(config: Config) -> int:
    """Delete some of the rows that have been kept long enough; return how many. Commits."""
    now = utcnow()
    deleted = _delete_runs(now - timedelta(days=config.runs_kept_days))
    db.session.commit()
    for key, is_expired in _traces(now - timedelta(days=config.traces_kept_days)):
        deleted += _delete_some(key, is_expired)
        db.session.commit()
    return deleted


def _traces(before: datetime) -> list[tuple[Columns, ColumnElement[bool]]]:
    """Return the short-lived rows: their primary key, and which of them have been kept long enough.

    The last setup link of a firm and the last log-in of an advisor at Salesforce stay: pages show how they ended.
    """
    later_link, later_log_in = aliased(SetupLink), aliased(OAuthState)
    is_last_link = ~exists().where(later_link.partner_id == SetupLink.partner_id, later_link.id > SetupLink.id)
    is_last_log_in = ~exists().where(later_log_in.user_id == OAuthState.user_id, later_log_in.id > OAuthState.id)
    return [
        ((Alert.id,), Alert.closed_at < before),  # with its mails
        ((ApiUsage.partner_id, ApiUsage.hour), ApiUsage.hour < before),
        ((OrgCall.id,), OrgCall.at < before),
        ((PasswordLink.id,), PasswordLink.expires_at < before),
        ((SetupLink.id,), (SetupLink.expires_at < before) & ~is_last_link),
        ((OAuthState.id,), (OAuthState.expires_at < before) & ~is_last_log_in),
        ((Send.id,), Send.ended_at < before),
    ]


def _delete_runs(before: datetime) -> int:
    """Delete runs that ended before this time, but each connection's last. A receipt of many changes goes in several steps."""
    later = aliased(SyncRun)
    has_later = exists().where(later.connection_id == SyncRun.connection_id, later.id > SyncRun.id)
    expired = select(SyncRun.id).where(SyncRun.finished_at < before, has_later).order_by(SyncRun.finished_at)
    run_ids = db.session.scalars(expired.limit(AT_ONCE)).all()
    if not run_ids:
        return 0
    changes = select(RunChange.id).where(RunChange.run_id.in_(run_ids)).limit(CHANGES_AT_ONCE)
    deleted = change_rows(db.session, delete(RunChange).where(RunChange.id.in_(changes)))
    if deleted < CHANGES_AT_ONCE:
        deleted += change_rows(db.session, delete(SyncRun).where(SyncRun.id.in_(run_ids)))
    return deleted


def _delete_some(key: Columns, is_expired: ColumnElement[bool]) -> int:
    some = select(*key).where(is_expired).limit(AT_ONCE)
    is_among_them = key[0].in_(some) if len(key) == 1 else tuple_(*key).in_(some)
    return change_rows(db.session, delete(key[0].class_).where(is_among_them))
