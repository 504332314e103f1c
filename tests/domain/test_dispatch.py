"""The dispatch tick: what is due gets rounds of checks, dead runs resume, and jobs that Redis lost are enqueued again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.core.queues import DUE_A_ROUND, ROUNDS_BESIDE, Queues
from asapp.messages.runs import STOPPED
from asapp.models import Connection, ConnectionStatus, Partner, RunStatus, RunTrigger, SyncRun
from asapp.sync import departures, runs
from asapp.sync.dispatch import Dispatched, dispatch
from devtools.servers import RedisServer
from tests.factories import make_advisor, make_connection, make_partner, make_run, make_synced_connection, save
from tests.racing import race

MINUTE = timedelta(minutes=1)


class FakeRedis:
    """Redis as the tick uses it: it may be away, and it may lose jobs."""

    def __init__(self) -> None:
        self.is_away = False
        self.enqueued: list[int] = []
        self.waiting: set[int] = set()
        self.due: list[int] = []  # as each tick that enqueued rounds counted them

    def enqueue_rounds(self, due: int) -> None:
        self.due.append(due)

    def enqueue(self, run_ids: Sequence[int]) -> bool:
        if self.is_away:
            return False
        self.enqueued += run_ids
        self.waiting |= set(run_ids)
        return True

    def forgotten(self, run_ids: Sequence[int]) -> list[int]:
        return [] if self.is_away else [run_id for run_id in run_ids if run_id not in self.waiting]


@pytest.fixture
def fake_redis() -> FakeRedis:
    return FakeRedis()


def tick(fake_redis: FakeRedis) -> Dispatched:
    db.session.rollback()
    with writing():
        done = dispatch(fake_redis.enqueue, fake_redis.forgotten, fake_redis.enqueue_rounds)
    db.session.expire_all()
    return done


def make_due(late: timedelta = MINUTE, partner: Partner | None = None, **columns: object) -> Connection:
    advisor = make_advisor(partner or make_partner())
    return make_connection(advisor, **({"next_sync_at": utcnow() - late} | columns))


def runs_of(connection: Connection) -> list[SyncRun]:
    return list(db.session.scalars(select(SyncRun).where(SyncRun.connection_id == connection.id).order_by(SyncRun.id)))


def move_into_the_past(run: SyncRun, **columns: timedelta) -> None:
    """Move these moments of a run into the past."""
    for name, how_long in columns.items():
        setattr(run, name, utcnow() - how_long)
    save(run)


# Due connections


def test_what_is_due_is_left_to_rounds_of_checks(app: Flask, fake_redis: FakeRedis) -> None:
    connections = [make_due(), make_due()]
    assert tick(fake_redis) == Dispatched(requeued=0, due=2, enqueued=0)
    assert fake_redis.due == [2]
    assert [runs_of(each) for each in connections] == [[], []]


def test_what_is_being_checked_is_not_counted_again(app: Flask, fake_redis: FakeRedis) -> None:
    make_due(lease="of a round", lease_until=utcnow() + MINUTE)
    make_due(lease="of a dead one", lease_until=utcnow() - MINUTE)
    assert tick(fake_redis).due == 1


def test_no_connection_is_due_too_early(app: Flask, fake_redis: FakeRedis) -> None:
    make_due(late=-MINUTE)
    make_due(next_sync_at=None)
    assert tick(fake_redis).due == 0


@pytest.mark.parametrize(
    "partner",
    [{"is_enabled": False}, {"paused_until": datetime.fromisoformat("2999-01-01T00:00:00+00:00")}],
    ids=["disabled", "paused"],
)
def test_a_firm_that_is_off_or_pauses_is_left_alone_and_stays_due(
    app: Flask, fake_redis: FakeRedis, partner: dict[str, object]
) -> None:
    connection = make_due(partner=make_partner(**partner))
    due_at = connection.next_sync_at
    assert tick(fake_redis).due == 0
    assert connection.next_sync_at == due_at


def test_a_pause_that_is_over_delays_no_one(app: Flask, fake_redis: FakeRedis) -> None:
    make_due(partner=make_partner(paused_until=utcnow() - MINUTE))
    assert tick(fake_redis).due == 1


@pytest.mark.parametrize("status", [ConnectionStatus.DISCONNECTED, ConnectionStatus.NEEDS_RECONNECT])
def test_a_connection_that_is_not_there_is_never_due(app: Flask, fake_redis: FakeRedis, status: str) -> None:
    make_due(status=status)
    assert tick(fake_redis).due == 0


def test_an_advisor_who_is_deactivated_is_never_due(app: Flask, fake_redis: FakeRedis) -> None:
    connection = make_due()
    connection.user.deactivated_at = utcnow()
    save(connection.user)
    assert tick(fake_redis).due == 0


def switch_off(connection: Connection, what: str) -> None:
    if what == "firm_disabled":
        connection.partner.is_enabled = False
    elif what == "advisor_inactive":
        connection.user.deactivated_at = utcnow()
    else:
        connection.status = ConnectionStatus.DISCONNECTED
    save(connection)


OFF = pytest.mark.parametrize("what", ["firm_disabled", "advisor_inactive", "disconnected"])


@OFF
def test_nothing_begins_for_what_is_inactive(app: Flask, fake_redis: FakeRedis, what: str) -> None:
    connection = make_due(late=-MINUTE)
    switch_off(connection, what)
    assert runs.start_run(connection, RunTrigger.MANUAL, fake_redis.enqueue) is None
    assert departures.approve(connection, fake_redis.enqueue) is None
    assert runs_of(connection) == []


@OFF
def test_a_run_that_waited_meanwhile_ends_and_says_why(app: Flask, fake_redis: FakeRedis, what: str) -> None:
    connection = make_due(late=-MINUTE)
    run = make_run(connection, RunStatus.QUEUED)
    switch_off(connection, what)
    assert runs.claim_run(run.id) is None
    db.session.refresh(run)
    assert (run.status, run.error_code) == (RunStatus.CANCELLED, what)
    assert run.finished_at is not None
    assert what in STOPPED


def test_more_than_a_batch_is_enqueued_in_one_tick(
    app: Flask, fake_redis: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asapp.sync.dispatch.AT_ONCE", 3)
    monkeypatch.setattr("asapp.sync.dispatch.BATCH", 2)
    waiting = [make_run(make_due(late=-MINUTE), RunStatus.QUEUED) for _ in range(7)]
    assert tick(fake_redis) == Dispatched(0, 0, 7)
    assert sorted(fake_redis.enqueued) == [run.id for run in waiting]


# Dead workers


def test_a_run_whose_worker_died_is_queued_again(app: Flask, fake_redis: FakeRedis) -> None:
    run = make_run(make_due(late=-MINUTE), RunStatus.RUNNING, lease="gone", lease_until=utcnow() - MINUTE)
    assert tick(fake_redis) == Dispatched(requeued=1, due=0, enqueued=1)
    assert (run.status, run.tries, run.lease, run.lease_until) == (RunStatus.QUEUED, 1, None, None)
    assert fake_redis.enqueued == [run.id]


def test_a_run_whose_worker_lives_is_left_to_it(app: Flask, fake_redis: FakeRedis) -> None:
    run = make_run(make_due(late=-MINUTE), RunStatus.RUNNING, lease="held", lease_until=utcnow() + MINUTE)
    assert tick(fake_redis) == Dispatched(0, 0, 0)
    assert (run.status, run.lease) == (RunStatus.RUNNING, "held")


def test_after_three_workers_died_with_it_a_run_fails(app: Flask, fake_redis: FakeRedis) -> None:
    connection = make_due(late=-MINUTE)
    run = make_run(connection, RunStatus.RUNNING, lease="gone", lease_until=utcnow() - MINUTE)
    for tries in (1, 2):
        assert tick(fake_redis).requeued == 1
        assert (run.status, run.tries) == (RunStatus.QUEUED, tries)
        claimed = runs.claim_run(run.id)
        assert claimed
        move_into_the_past(run, lease_until=MINUTE)
    assert tick(fake_redis) == Dispatched(0, 0, 0)
    assert (run.status, run.error_code, run.lease) == (RunStatus.FAILED, "worker_died", None)
    assert run.finished_at is not None
    assert runs.find_active_run(connection.id) is None


def test_a_cancel_that_meets_a_run_on_its_way_back_to_the_queue_counts(app: Flask) -> None:
    """A worker that stops hands the run back, and commits while the advisor's Cancel waits for the row."""
    run = make_run(make_due(late=-MINUTE), RunStatus.RUNNING, lease="held", lease_until=utcnow() + MINUTE)
    run_id = run.id
    db.session.commit()

    def cancel() -> None:
        with app.app_context(), writing():
            runs.request_cancel(db.session.get_one(SyncRun, run_id))
            db.session.remove()

    with writing(), Session(db.engine) as worker:
        worker.execute(
            update(SyncRun).where(SyncRun.id == run_id).values(status=RunStatus.QUEUED, lease=None, lease_until=None)
        )
        thread = threading.Thread(target=cancel)
        thread.start()
        thread.join(0.3)
        worker.commit()
    thread.join(20)
    db.session.refresh(run)
    assert run.status == RunStatus.CANCELLED


def test_who_comes_back_from_the_dead_has_lost_its_lease(app: Flask, fake_redis: FakeRedis) -> None:
    run = make_run(make_due(late=-MINUTE), RunStatus.QUEUED)
    claimed = runs.claim_run(run.id)
    assert claimed
    move_into_the_past(run, lease_until=MINUTE)
    tick(fake_redis)
    with pytest.raises(LeaseLost):
        claimed.write(read=99)
    assert claimed.hand_back() is False
    db.session.expire_all()
    assert (run.status, run.read) == (RunStatus.QUEUED, 0)


# Jobs that Redis did not take, or lost


def test_while_redis_is_away_a_run_waits_and_is_enqueued_later(app: Flask, fake_redis: FakeRedis) -> None:
    run = make_run(make_due(late=-MINUTE), RunStatus.QUEUED)
    fake_redis.is_away = True
    assert tick(fake_redis) == Dispatched(0, 0, 0)
    assert (run.status, run.enqueued_at) == (RunStatus.QUEUED, None)
    fake_redis.is_away = False
    assert tick(fake_redis) == Dispatched(0, 0, 1)
    assert fake_redis.enqueued == [run.id]


def test_a_job_that_redis_lost_is_enqueued_again(app: Flask, fake_redis: FakeRedis) -> None:
    run = make_run(make_due(late=-MINUTE), RunStatus.QUEUED)
    tick(fake_redis)
    fake_redis.waiting.clear()
    assert tick(fake_redis).enqueued == 0  # a worker may be taking it at this moment
    move_into_the_past(run, enqueued_at=2 * MINUTE)
    assert tick(fake_redis).enqueued == 1
    assert fake_redis.enqueued == [run.id, run.id]


def test_a_job_that_waits_in_redis_is_not_enqueued_again(app: Flask, fake_redis: FakeRedis) -> None:
    run = make_run(make_due(late=-MINUTE), RunStatus.QUEUED)
    tick(fake_redis)
    move_into_the_past(run, enqueued_at=60 * MINUTE)
    assert tick(fake_redis).enqueued == 0


def test_real_redis_that_was_emptied(app: Flask, redis_server: RedisServer) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    waiting = [make_run(make_due(), RunStatus.QUEUED) for _ in range(3)]

    def tick() -> Dispatched:
        with writing():
            return dispatch(queues.enqueue_runs, queues.find_lost_runs, queues.enqueue_rounds)

    tick()
    assert (queues.sync.count, queues.checks.count) == (3, 1)
    for run in waiting:
        move_into_the_past(run, enqueued_at=2 * MINUTE)
    assert tick().enqueued == 0
    assert queues.checks.count == 1  # a second round would have nothing to do
    redis_server.flush()
    assert tick().enqueued == 3
    assert (queues.sync.count, queues.checks.count) == (3, 1)


def test_many_due_connections_get_rounds_behind_the_syncs_too(app: Flask, redis_server: RedisServer) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    for _ in range(2):
        queues.enqueue_rounds(3 * DUE_A_ROUND + 1)
        assert (queues.sync.count, queues.checks.count) == (3, 1)
    queues.enqueue_rounds(10**6)
    assert (queues.sync.count, queues.checks.count) == (ROUNDS_BESIDE, 1)


def test_who_is_due_is_found_by_an_index(app: Flask) -> None:
    """A million connections that aren't due must cost nothing."""
    query = "SELECT id FROM connections WHERE status = 'connected' AND next_sync_at <= '2026-01-01'"
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("SET LOCAL enable_seqscan = off"))
    explain = "EXPLAIN QUERY PLAN" if db.engine.dialect.name == "sqlite" else "EXPLAIN"
    assert "ix_connections_due" in str(db.session.execute(text(f"{explain} {query}")).all())


def test_a_parked_run_goes_on_at_the_next_tick_when_no_other_run_of_its_firm_is_active(app: Flask) -> None:
    """The run that it waited for may have failed at its last try without enqueueing another."""
    connection = make_synced_connection()
    run = make_run(connection, RunStatus.QUEUED, is_parked=True, enqueued_at=utcnow())
    rung: list[int] = []
    dispatch(lambda ids: bool(rung.extend(ids)) or True, lambda ids: [], lambda due: None)
    assert rung == [run.id]


def test_a_parked_run_waits_while_another_of_its_firm_is_going_on(app: Flask) -> None:
    alice = make_advisor()
    bob = make_advisor(alice.partner, name="Bob Stone")
    make_run(make_synced_connection(bob), RunStatus.RUNNING, lease="x", lease_until=utcnow() + timedelta(minutes=1))
    make_run(make_synced_connection(alice), RunStatus.QUEUED, is_parked=True, enqueued_at=utcnow())
    rung: list[int] = []
    dispatch(lambda ids: bool(rung.extend(ids)) or True, lambda ids: [], lambda due: None)
    assert rung == []


def test_two_runs_that_end_at_once_let_two_others_of_their_firm_go_on(app: Flask, fake_redis: FakeRedis) -> None:
    partner = make_partner()
    waiting = [
        make_run(make_synced_connection(make_advisor(partner)), RunStatus.QUEUED, is_parked=True) for _ in range(2)
    ]
    ids, partner_id = [run.id for run in waiting], partner.id
    race(app, *[lambda: runs.enqueue_next_parked(partner_id, fake_redis.enqueue)] * 2)
    assert sorted(fake_redis.enqueued) == ids


def test_of_a_firms_parked_runs_the_one_that_has_waited_longest_goes_on_first(
    app: Flask, fake_redis: FakeRedis
) -> None:
    partner, now = make_partner(), utcnow()
    _later, first = (
        make_run(
            make_synced_connection(make_advisor(partner)), RunStatus.QUEUED, is_parked=True, queued_at=now - waited
        )
        for waited in (MINUTE, 2 * MINUTE)
    )
    runs.enqueue_next_parked(partner.id, fake_redis.enqueue)
    assert fake_redis.enqueued == [first.id]


def test_a_small_firms_run_is_enqueued_before_the_second_of_a_big_one(app: Flask, fake_redis: FakeRedis) -> None:
    big = make_partner()
    first, *others = (make_run(make_synced_connection(make_advisor(big)), RunStatus.QUEUED).id for _ in range(3))
    small = make_run(make_synced_connection(), RunStatus.QUEUED).id
    tick(fake_redis)
    assert fake_redis.enqueued == [first, small, *others]


def test_a_run_whose_job_waits_is_not_enqueued_by_a_second_press(app: Flask, fake_redis: FakeRedis) -> None:
    connection = make_synced_connection()
    pressed = [runs.start_run(connection, RunTrigger.MANUAL, fake_redis.enqueue) for _ in range(2)]
    assert pressed[0] is not None
    assert pressed[0] == pressed[1]
    assert fake_redis.enqueued == [pressed[0].id]
