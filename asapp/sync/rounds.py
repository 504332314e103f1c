"""Quiet checks: connections that are due are asked in rounds, many side by side, and written in bulk.

A round is one job. It claims due connections by a lease on each, asks Salesforce what an idle run would ask (sync/opening.py),
and judges each answer as it comes. Where there is nothing to do, the connection's times move on and no run is made. Anything else
becomes a run (sync/check_results.py). The round goes on with the next connections until none is due or its time slice is over.

The database is the truth here as well: a claimed connection stays due, so if the round dies, another takes it up as soon as the
lease has run out. A firm whose org doesn't answer holds up no other: few calls of one org are under way at once, each ends soon,
and after the first that failed the round leaves the firm's other connections alone.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload

from asapp.connections.api_budget import call_counter, give_back_calls, reserve_calls
from asapp.contacts.salesforce_lists import Campaigns, find_campaigns
from asapp.core import logs
from asapp.core.bulk import is_among
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, end_read, reading
from asapp.core.extensions import db
from asapp.core.leases import new_lease
from asapp.messages.codes import Code
from asapp.models import Connection, Partner, RunTrigger, SyncRun
from asapp.models.run import ACTIVE
from asapp.salesforce import errors
from asapp.salesforce.calls import MadeCall
from asapp.salesforce.client import Haste, OrgClient
from asapp.salesforce.records import LeadWindow, Opening
from asapp.salesforce.session import CALLS_OF_AN_ORG, SharedConnections
from asapp.sync import opening
from asapp.sync.check_results import CheckResults
from asapp.sync.run_context import JobContext
from asapp.sync.schedule import is_due
from asapp.sync.watermark import start_of

log = logging.getLogger(__name__)

SIDE_BY_SIDE = 64  # calls under way at once
A_CLAIM = 256  # connections
OF_A_FIRM = 32  # of a claim
CANDIDATES = (
    4096  # looked at for a claim, so that it takes several of a firm where it can: they share its open connections
)
CALL_S = 10.0  # for a call
RETRY_WITHIN_S = 3.0
TIME_SLICE_S = 10.0  # for claiming more; then other jobs have their turn
START_WITHIN_S = 15.0  # of the claim; what could not be asked by then is left to a later round
LEASE = timedelta(seconds=40)  # a call, started as late as allowed, and 15 s to write what came of it
WRITE_AT = 64  # results
WRITE_AFTER_S = 1.0


def check_due(job: JobContext) -> None:
    """Check connections that are due, until none is left, the time slice is over, or this process is asked to end."""
    with _sharing_connections() as shared, ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="check") as threads:
        Round(job, shared, threads).go()


@contextmanager
def _sharing_connections() -> Iterator[SharedConnections]:
    shared = SharedConnections()
    try:
        yield shared
    finally:
        shared.close()


class CountedCalls:
    """Runs before each call of a check: the first is counted already, and each further one is counted when it is made."""

    def __init__(self, partner_id: int) -> None:
        self.made = 0
        self._count = call_counter(db.engine, partner_id, RunTrigger.SCHEDULED)

    def __call__(self) -> None:
        self.made += 1
        if self.made > 1:
            self._count()


@dataclass
class Check:
    """A claimed connection, and what came of asking for it. connection: in no session, as it was claimed."""

    connection: Connection
    client: OrgClient
    calls: CountedCalls
    claimed_at: datetime
    start_by: float  # by time.monotonic()
    campaigns: Campaigns = field(default_factory=dict)  # that are due
    made: list[MadeCall] = field(default_factory=list)
    answer: Opening | None = None
    error: errors.SalesforceError | None = None

    @property
    def partner_id(self) -> int:
        return self.connection.partner_id


@dataclass
class Round:
    job: JobContext
    shared: SharedConnections
    threads: ThreadPoolExecutor
    lease: str = field(default_factory=new_lease)
    waiting: dict[int, deque[Check]] = field(default_factory=dict)  # by partner
    under_way: Counter[int] = field(default_factory=Counter)  # calls, by partner
    given_up: set[int] = field(default_factory=set)  # partners whose org does not answer: left alone from now on
    full: set[int] = field(default_factory=set)  # partners whose calls are used up: no more of them are claimed
    is_all_claimed: bool = False

    def __post_init__(self) -> None:
        self.results = CheckResults(self.lease, self.job)
        self.answered: SimpleQueue[Check] = SimpleQueue()
        self.ends_at = time.monotonic() + TIME_SLICE_S
        self.haste = Haste(self.shared, CALL_S, RETRY_WITHIN_S)

    def go(self) -> None:
        while True:
            if self._wants_more():
                self._claim()
            self._start_calls()
            if not self.under_way.total() and not self._wants_more():
                break
            self._take_answers()
            if self.results.are_many(WRITE_AT, WRITE_AFTER_S):
                self.results.write()
        self.results.write()
        self.results.tell()

    # Claiming

    def _wants_more(self) -> bool:
        if self.is_all_claimed or self.job.should_stop() or time.monotonic() > self.ends_at:
            return False
        return sum(map(len, self.waiting.values())) < SIDE_BY_SIDE

    def _claim(self) -> None:
        """Claim connections, and queue those that Salesforce is asked about."""
        now = utcnow()
        busy = [partner_id for partner_id, checks in self.waiting.items() if len(checks) >= OF_A_FIRM]
        with reading():
            ids = choose(now, {*busy, *self.full, *self.given_up})
        connections = claim(ids, self.lease, now)
        self.is_all_claimed = not ids
        with reading():
            ids = [each.id for each in connections]
            unsettled = opening.find_unsettled(ids) if ids else set()
            campaigns = find_campaigns(ids, now) if ids else {}
            end_read(db.session)
        asked = []
        for connection in connections:
            check = self._prepare(connection, now)
            if check is None:
                continue
            check.campaigns = campaigns.get(connection.id, {})
            is_well = not connection.failures_in_a_row  # else a run would perhaps wait for an org that doesn't answer
            if is_well and (connection.id in unsettled or opening.needs_run(connection, check.client)):
                self.results.need_run(connection)
            else:
                asked.append(check)
        self.reserve(asked, now)

    def _prepare(self, connection: Connection, now: datetime) -> Check | None:
        """Return what asks about it; None if it has no tokens that can be used."""
        calls, made = CountedCalls(connection.partner_id), list[MadeCall]()
        try:
            client = self.job.access.client(connection, calls, self.haste)
        except errors.SalesforceError as error:
            self.results.fail(connection, error)
            return None
        client.report_to(made.append)
        client.know_fields(connection.opt_out_field_read, connection.lead_fields_read)
        return Check(connection, client, calls, now, time.monotonic() + START_WITHIN_S, made=made)

    def reserve(self, checks: Sequence[Check], now: datetime) -> None:
        """Count the calls before they are made, and queue as many checks as the firm's allowance has room for."""
        if not checks:
            return
        reserved = reserve_calls(db.session(), Counter(check.partner_id for check in checks), now)
        db.session.commit()
        room = {partner_id: each.calls for partner_id, each in reserved.items()}
        for check in checks:
            obstacle = reserved[check.partner_id].obstacle
            if room[check.partner_id]:
                room[check.partner_id] -= 1
                self.waiting.setdefault(check.partner_id, deque()).append(check)
            elif obstacle is not None and check.partner_id not in self.full:
                self.full.add(check.partner_id)
                self.results.fail(check.connection, obstacle)  # which lets the firm pause
            else:
                self.results.release(check.connection)

    # Asking

    def _start_calls(self) -> None:
        """Start calls, a few of each firm's, and release what can't be started any more."""
        is_stopping = self.job.should_stop()
        for partner_id, checks in list(self.waiting.items()):
            while checks and (is_stopping or partner_id in self.given_up or checks[0].start_by < time.monotonic()):
                self.release(checks.popleft())
            while checks and self.under_way[partner_id] < CALLS_OF_AN_ORG and self.under_way.total() < SIDE_BY_SIDE:
                self._start(checks.popleft())
            if not checks:
                del self.waiting[partner_id]

    def _start(self, check: Check) -> None:
        self.under_way[check.partner_id] += 1
        with reading():
            of_leads = opening.leads_to_read(check.connection, check.client, is_full=False)
            end_read(db.session)
        since = start_of(check.connection.watermark)
        self.threads.submit(copy_context().run, self._ask, check, since, of_leads)

    def _ask(self, check: Check, since: datetime | None, of_leads: LeadWindow) -> None:
        """Ask Salesforce, in a thread of its own."""
        connection, campaigns = check.connection, list(check.campaigns)
        with logs.about(connection_id=connection.id, partner_id=connection.partner_id):
            try:
                user_id = connection.salesforce_user_id
                check.answer = check.client.open_contacts(user_id, since, leads=of_leads, campaigns=campaigns)
            except errors.SalesforceError as error:
                check.error = error
            except Exception:
                log.exception("a check failed")
                check.error = errors.OurBug(Code.OUR_BUG)
            finally:
                self.answered.put(check)

    def release(self, check: Check) -> None:
        """Leave it to a later round; its call is not made."""
        give_back_calls(db.session(), {check.partner_id: 1}, check.claimed_at)
        db.session.commit()
        self.results.release(check.connection)

    # Judging

    def _take_answers(self) -> None:
        """Wait a moment for an answer, and judge all that have come."""
        with suppress(Empty):
            self.judge(self.answered.get(timeout=0.1))
            while True:
                self.judge(self.answered.get_nowait())

    def judge(self, check: Check) -> None:
        self.under_way[check.partner_id] -= 1
        if not check.calls.made:  # no token could be used
            give_back_calls(db.session(), {check.partner_id: 1}, check.claimed_at)
            db.session.commit()
        try:
            is_quiet = check.answer is not None and self._is_quiet(check, check.answer)
        except errors.SalesforceError as error:
            check.error, check.answer, is_quiet = error, None, False
        self.results.add_calls(check.connection, check.made, is_quiet=is_quiet)
        if check.answer is None:
            self._judge_error(check, check.error or errors.OurBug(Code.OUR_BUG))
        elif is_quiet:
            self.results.be_quiet(check.connection, check.answer, check.client)
        else:
            self.results.need_run(check.connection)

    def _is_quiet(self, check: Check, answer: Opening) -> bool:
        """Is there nothing to do? After a failure a run tells that syncs work again."""
        is_well = not check.connection.failures_in_a_row
        return is_well and opening.is_quiet(check.connection, check.client, answer, check.campaigns)

    def _judge_error(self, check: Check, error: errors.SalesforceError) -> None:
        """A transient failure becomes a run, which has more patience; one at a time for a firm, since its org may hang."""
        is_first = check.partner_id not in self.given_up
        if isinstance(error, errors.TryLater | errors.LimitReached):
            self.given_up.add(check.partner_id)
        if isinstance(error, errors.TryLater) and is_first and not is_in_trouble(check.connection):
            self.results.need_run(check.connection)
        else:
            self.results.fail(check.connection, error)


def choose(now: datetime, without: Collection[int]) -> list[int]:
    """Return the ids of connections to check next: those of the firms that wait longest, several of each.

    without: partners that are left out.
    """
    rows = db.session.execute(
        select(Connection.id, Connection.partner_id)
        .join(Partner)
        .where(is_due(now), Connection.has_no_worker(now), Connection.partner_id.not_in(without))
        .order_by(Connection.next_sync_at)
        .limit(CANDIDATES)
    ).all()
    end_read(db.session)
    by_partner: dict[int, list[int]] = {}
    for connection_id, partner_id in rows:
        by_partner.setdefault(partner_id, []).append(connection_id)
    chosen: list[int] = []
    for ids in by_partner.values():
        chosen += ids[: min(OF_A_FIRM, A_CLAIM - len(chosen))]
    return chosen


def claim(ids: Collection[int], lease: str, now: datetime) -> list[Connection]:
    """Take the lease of those that are still due and free; return them with their partners, in no session. Commits."""
    if not ids:
        return []
    free = db.session.scalars(
        select(Connection.id)
        .join(Partner)
        .where(is_among(Connection.id, ids), is_due(now), Connection.has_no_worker(now))
        .order_by(Connection.id)
        .with_for_update(skip_locked=True, key_share=True, of=Connection)
    ).all()
    mine = update(Connection).where(is_among(Connection.id, free))
    change_rows(db.session, mine.values(lease=lease, lease_until=now + LEASE))
    with Session(db.session.connection()) as beside:
        query = select(Connection).options(joinedload(Connection.partner)).where(is_among(Connection.id, free))
        claimed = list(beside.scalars(query))
    db.session.commit()
    return claimed


def is_in_trouble(connection: Connection) -> bool:
    """Do syncs of the firm fail at another connection, or is a scheduled one under way, which will show?"""
    of_firm = (Connection.partner_id == connection.partner_id, Connection.id != connection.id)
    failing = select(Connection.id).where(*of_firm, Connection.failures_in_a_row > 0)
    running = (
        select(Connection.id)
        .join(SyncRun, SyncRun.connection_id == Connection.id)
        .where(*of_firm, SyncRun.status.in_(ACTIVE), SyncRun.trigger == RunTrigger.SCHEDULED)
    )
    with reading():
        found = db.session.scalar(select(failing.exists() | running.exists()))
        end_read(db.session)
    return bool(found)
