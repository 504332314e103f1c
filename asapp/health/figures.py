"""What the system is doing, read from the database on request, so that all processes report the same.

Every query is bounded: by an index, by the last hour or day, or by the number of partners; read_sender_figures() says which
are not. No figure names a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from asapp.accounts import mail_outbox
from asapp.alerts.alerts import count_open
from asapp.alerts.mail_delivery import count_waiting
from asapp.connections import opt_out_age
from asapp.connections.api_budget import Allowance, allowances
from asapp.contacts import suppressions
from asapp.health.heartbeats import SCHEDULER, TICK, WORKER, SeenProcess, list_seen
from asapp.leads.outbox import count_due
from asapp.models import Connection, ConnectionStatus, Partner, RunStatus, SyncRun
from asapp.models.run import ACTIVE
from asapp.sends import sends
from asapp.sync.schedule import is_due
from asapp.writeback import queries

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MOST_DURATIONS = 5000  # of the newest runs
TOKEN_NEAR_EXPIRY = timedelta(days=25)  # unused; Salesforce may end it after 30, the tick uses it after 20
OUTCOMES = tuple(status.value for status in RunStatus if status not in ACTIVE)


@dataclass(frozen=True)
class Backlog:
    """count: how many wait; and since when the first of them does."""

    count: int
    since: datetime | None

    def age(self, now: datetime) -> timedelta:
        return max(now - self.since, timedelta(0)) if self.since else timedelta(0)


NOTHING = Backlog(0, None)


@dataclass(frozen=True)
class Activity:
    """What goes on and what waits, for admins' pages."""

    now: datetime
    queued: Backlog  # runs
    running: int
    due: Backlog  # connections that no tick has handled yet
    leads: Backlog  # due leads that are not being delivered
    connections: Mapping[str, int]  # status -> how many
    statuses: Sequence[SeenProcess]

    def last_seen(self, kind: str) -> datetime | None:
        return max((process.seen_at for process in self.statuses if process.kind == kind), default=None)

    def alive(self, kind: str) -> int:
        return sum(process.kind == kind and process.is_alive for process in self.statuses)

    @property
    def ticked_at(self) -> datetime | None:
        return self.last_seen(TICK)

    @property
    def tick_is_alive(self) -> bool:
        return self.alive(TICK) > 0

    @property
    def absent(self) -> list[str]:
        """Return the kinds of process that were never seen, or have all ended in order."""
        return [kind for kind in (SCHEDULER, WORKER) if self.last_seen(kind) is None]

    @property
    def processes(self) -> list[SeenProcess]:
        return [process for process in self.statuses if process.kind in (SCHEDULER, WORKER)]


@dataclass(frozen=True)
class Figures(Activity):
    """All figures, for a scrape."""

    opt_outs: Backlog  # due records that are not being written
    tokens_near_expiry: int
    opt_outs_unknown_soon: int  # connections that turn inactive within a day without a good sync
    alerts: Mapping[str, int]  # kind -> how many are open
    mails_waiting: int  # alert mails that the mail server has not taken yet
    page_mails_waiting: int  # asked for by pages: invitations, links, notices
    partners: Mapping[str, Allowance]  # slug -> calls
    paused: frozenset[str]  # slugs


def read_activity(session: Session, now: datetime) -> Activity:
    active = (
        select(SyncRun.status, func.count(), func.min(SyncRun.queued_at))
        .where(SyncRun.status.in_(ACTIVE))
        .group_by(SyncRun.status)
    )
    runs = {str(status): Backlog(count, since) for status, count, since in session.execute(active)}
    due = select(func.count(), func.min(Connection.next_sync_at)).join(Partner).where(is_due(now))
    by_status = session.execute(select(Connection.status, func.count()).group_by(Connection.status))
    counts = {str(status): count for status, count in by_status}
    return Activity(
        now=now,
        queued=runs.get(RunStatus.QUEUED, NOTHING),
        running=runs.get(RunStatus.RUNNING, NOTHING).count,
        due=Backlog(*session.execute(due).one()),
        leads=Backlog(*count_due(session, now)),
        connections={status.value: counts.get(status, 0) for status in ConnectionStatus},
        statuses=list_seen(session, now),
    )


def read_figures(session: Session, now: datetime) -> Figures:
    connected = Connection.status == ConnectionStatus.CONNECTED
    near_expiry = select(func.count()).where(connected, Connection.token_used_at <= now - TOKEN_NEAR_EXPIRY)
    unknown_soon = select(func.count()).select_from(Connection).join(Partner).where(opt_out_age.where_unknown_soon(now))
    return Figures(
        **vars(read_activity(session, now)),
        opt_outs=Backlog(*queries.count_due(session, now)),
        tokens_near_expiry=session.scalar(near_expiry) or 0,
        opt_outs_unknown_soon=session.scalar(unknown_soon) or 0,
        alerts=count_open(session),
        mails_waiting=count_waiting(session),
        page_mails_waiting=mail_outbox.count_refused(session),
        partners=allowances(session, now),
        paused=frozenset(session.scalars(select(Partner.slug).where(Partner.is_enabled, Partner.paused(now)))),
    )


@dataclass(frozen=True)
class SenderFigures:
    """What senders ask and tell. Each: {kind or state: how many}."""

    suppressions: Mapping[str, int]  # addresses that a suppression holds for
    events: Mapping[str, int]  # that senders told within the last hour
    write_backs: Mapping[str, int]  # records that Salesforce is, was or can't be told of
    sends: Mapping[str, int]  # asked for within the last 24 hours


def read_sender_figures(session: Session, now: datetime) -> SenderFigures:
    """Two of them count whole tables of short rows: for a scrape, not for a page."""
    return SenderFigures(
        suppressions.count_held(session),
        suppressions.count_told(session, now - HOUR),
        queries.count_by_state(session),
        sends.count_by_state(session, now - DAY),
    )


def count_ended(session: Session, since: datetime) -> dict[str, int]:
    """Return {outcome: runs that ended so since then}, with every outcome."""
    rows = session.execute(
        select(SyncRun.status, func.count()).where(SyncRun.finished_at > since).group_by(SyncRun.status)
    )
    found = {str(status): count for status, count in rows}
    return {outcome: found.get(outcome, 0) for outcome in OUTCOMES}


def read_durations(session: Session, since: datetime) -> list[float]:
    """Return the durations, in seconds, of the newest runs that ended since then."""
    rows = session.execute(
        select(SyncRun.started_at, SyncRun.finished_at)
        .where(SyncRun.finished_at > since, SyncRun.started_at.is_not(None))
        .order_by(SyncRun.finished_at.desc())
        .limit(MOST_DURATIONS)
    )
    return [(row.finished_at - row.started_at).total_seconds() for row in rows if row.finished_at and row.started_at]
