"""What a round writes: quiet connections move on in bulk, and for everything else there is a run.

Everything is written `WHERE lease = mine`: a connection that was disconnected, connected again or synced since it was claimed has
lost the lease, and is left as it is.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import Table, select, update

from asapp.connections import app_refusals, call_log
from asapp.connections.api_budget import record_usage
from asapp.core.bulk import is_among, update_many
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, insert_ignore, retry_when_beaten
from asapp.core.extensions import db
from asapp.core.leases import LEASE_OF_CALLS, NO_LEASE, new_lease
from asapp.models import Connection, ConnectionStatus, Partner, RunStatus, RunTrigger, SyncRun
from asapp.salesforce import errors
from asapp.salesforce.calls import MadeCall
from asapp.salesforce.client import OrgClient
from asapp.salesforce.records import LeadsFound, Opening
from asapp.sync import open_leads
from asapp.sync.dispatch import enqueue_waiting, insert_runs
from asapp.sync.endings import ending
from asapp.sync.interval import SyncInterval, find_interval
from asapp.sync.opening import known_by
from asapp.sync.run_context import JobContext
from asapp.sync.runs import LeasedRun
from asapp.sync.schedule import next_sync_at

log = logging.getLogger(__name__)

CONNECTIONS: Table = Connection.__table__  # type: ignore[assignment]
FIGURES_EVERY = timedelta(minutes=1)  # an org's figures are not written more often


@dataclass
class CheckResults:
    """Results that are not written yet, and how many have been."""

    lease: str
    job: JobContext
    quiet: list[tuple[Connection, Opening]] = field(default_factory=list)
    for_runs: list[Connection] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    failed: list[tuple[Connection, errors.SalesforceError]] = field(default_factory=list)
    calls: list[tuple[Connection, Sequence[MadeCall], bool]] = field(default_factory=list)  # was the check quiet?
    partners: dict[int, tuple[Partner, OrgClient]] = field(default_factory=dict)
    intervals: dict[int, SyncInterval] = field(default_factory=dict)
    written: Counter[str] = field(default_factory=Counter)
    oldest_at: float | None = None  # by time.monotonic()

    def be_quiet(self, connection: Connection, answer: Opening, client: OrgClient) -> None:
        self._add("quiet")
        self.quiet.append((connection, answer))
        self.partners[connection.partner_id] = connection.partner, client

    def need_run(self, connection: Connection) -> None:
        self._add("runs")
        self.for_runs.append(connection)

    def release(self, connection: Connection) -> None:
        self._add("released")
        self.released.append(connection.id)

    def fail(self, connection: Connection, error: errors.SalesforceError) -> None:
        self._add("failed")
        self.failed.append((connection, error))

    def add_calls(self, connection: Connection, calls: Sequence[MadeCall], is_quiet: bool) -> None:
        self.calls.append((connection, calls, is_quiet))

    def _add(self, kind: str) -> None:
        self.written[kind] += 1
        self.oldest_at = self.oldest_at or time.monotonic()

    def are_many(self, number: int, after_s: float) -> bool:
        """Are there so many results, or is the oldest that old?"""
        waiting = len(self.quiet) + len(self.for_runs) + len(self.released) + len(self.failed)
        return waiting >= number or (self.oldest_at is not None and time.monotonic() - self.oldest_at > after_s)

    def tell(self) -> None:
        """Log how many there were of each kind."""
        if self.written:
            log.info("round", extra=dict(self.written))

    def write(self) -> None:
        """Write everything, commit, and enqueue the runs that were made."""
        if self.oldest_at is None:
            return
        retry_when_beaten(db.session(), self._write)
        if self.for_runs:
            enqueue_waiting(self.job.enqueue)
        for connection, error in self.failed:
            record_failed(connection.id, self.lease, error, self.job)
        for results in (self.quiet, self.for_runs, self.released, self.failed, self.calls, self.partners):
            results.clear()
        self.oldest_at = None

    def _write(self) -> None:
        """In the caller's transaction, in the order of locks: partners, connections, runs."""
        now = utcnow()
        for partner_id, (partner, client) in sorted(self.partners.items(), key=itemgetter(0)):
            is_news = partner.org_calls_seen_at is None or now - partner.org_calls_seen_at > FIGURES_EVERY
            record_usage(db.session(), partner_id, client.usage if is_news else None, partner.paused_until, now)
            app_refusals.log_warning(db.session(), partner_id, client.warning, now)
        mine = self._lock()
        due_next = self._due_next(now)
        self._move_on([(each, answer) for each, answer in self.quiet if each.id in mine], due_next, now)
        need_run = [each for each in self.for_runs if each.id in mine]
        update_many(
            CONNECTIONS,
            [{"b_id": each.id, "next_sync_at": due_next[each.partner_id], **NO_LEASE} for each in need_run],
        )
        released = [each for each in self.released if each in mine]
        if released:
            change_rows(db.session, update(Connection).where(is_among(Connection.id, released)).values(**NO_LEASE))
        if need_run:
            insert_runs([each.id for each in need_run], now)
        call_log.put_round(self.calls)

    def _lock(self) -> set[int]:
        """Lock the connections that still have our lease; return their ids."""
        ids = [each.id for each, _ in self.quiet] + [each.id for each in self.for_runs] + self.released
        return lock_leased(ids, self.lease)

    def _due_next(self, now: datetime) -> dict[int, datetime]:
        """Return when each firm's connections are due again: together, so that the next round finds them side by side."""
        partner_ids = {each.partner_id for each in [*(each for each, _ in self.quiet), *self.for_runs]}
        return {partner_id: next_sync_at(now, self._interval(partner_id).minutes) for partner_id in partner_ids}

    def _interval(self, partner_id: int) -> SyncInterval:
        """Return a firm's interval, counted once a round."""
        if partner_id not in self.intervals:
            found = find_interval(db.session(), partner_id, self.job.default_interval_minutes)
            self.intervals[partner_id] = found
        return self.intervals[partner_id]

    @staticmethod
    def _move_on(quiet: Sequence[tuple[Connection, Opening]], due_next: dict[int, datetime], now: datetime) -> None:
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        with_leads = open_leads.find_read([connection.id for connection, answer in quiet if counts_leads(answer)])
        for connection, answer in quiet:
            leads_error = None if isinstance(answer.leads, LeadsFound) else answer.leads
            trusted = timedelta(days=connection.partner.opt_outs_trusted_days)
            row = {
                "b_id": connection.id,
                "next_sync_at": due_next[connection.partner_id],
                **known_by(answer.answered_at, leads_error, now, trusted),
                **NO_LEASE,
            }
            if connection.id in with_leads:
                row |= open_leads.known_by(row["watermark"], row["opt_outs_known_until"])
            by_columns.setdefault(tuple(row), []).append(row)
        for rows in by_columns.values():
            update_many(CONNECTIONS, rows)


def counts_leads(answer: Opening) -> bool:
    """Did the answer count open Leads, because the firm brings them in?"""
    return isinstance(answer.leads, LeadsFound) and answer.leads.owned is not None


def lock_leased(ids: Collection[int], lease: str) -> set[int]:
    """Lock those of these connections that are connected and have this lease, by id; return their ids."""
    if not ids:
        return set()
    mine = (is_among(Connection.id, ids), Connection.lease == lease, Connection.status == ConnectionStatus.CONNECTED)
    rows = select(Connection.id).where(*mine).order_by(Connection.id).with_for_update(key_share=True)
    return set(db.session.scalars(rows))


def record_failed(connection_id: int, lease: str, error: errors.SalesforceError, job: JobContext) -> None:
    """Record a check that failed as a run that has failed, with all that follows from its error. Commits."""
    run = retry_when_beaten(db.session(), lambda: _begin_failed_run(connection_id, lease))
    if run is None:
        return
    with suppress(errors.OurBug), ending(run, job):  # a bug was logged where it came
        raise error


def _begin_failed_run(connection_id: int, lease: str) -> LeasedRun | None:
    """Insert a run that is ours, and release the connection; None if it has another run or isn't ours any more."""
    mine = (Connection.id == connection_id, Connection.lease == lease)
    if not change_rows(db.session, update(Connection).where(*mine).values(**NO_LEASE)):
        return None
    now, key = utcnow(), new_lease()
    moments = dict.fromkeys(("queued_at", "enqueued_at", "started_at", "heartbeat_at"), now)
    columns = {
        "trigger": RunTrigger.SCHEDULED,
        "status": RunStatus.RUNNING,
        "lease": key,
        "lease_until": now + LEASE_OF_CALLS,
    }
    made = change_rows(
        db.session,
        insert_ignore(db.session, SyncRun).values(connection_id=connection_id, api_calls=1, **columns, **moments),
    )
    if not made:
        return None
    run_id = db.session.scalars(select(SyncRun.id).where(SyncRun.lease == key)).one()
    return LeasedRun.load(run_id, key)
