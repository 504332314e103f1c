"""What can go wrong, and how the campaign makes sure that it hits something.

Each kind waits for a chance, a moment at which something is going on that it can hit, by a look at the database, the process
table, the requests on their way or Redis; then it strikes, and looks whether it did hit: the work-horse was at a run that is
unfinished still, the org has given the bad answer, a request was cut off. Else it is a miss and does not count.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import psutil

from devtools.chaos.house import ChaosHouse
from devtools.chaos.org import ChaosOrg
from devtools.chaos.people import Flights
from devtools.chaos.watch import FOR_THE_TICK, DatabaseAway, Watch, Working
from devtools.waiting import wait_for

T = TypeVar("T")
CHANCE_S = 25.0  # how long to wait for a moment at which it can hit
HIT_S = 15.0  # and for what was prepared to be met
POLL_S = 0.08
WORKER_ENDS_S = 60.0  # after SIGTERM: within 10 s, or the time-out of a call that hangs
WORKER_SHOULD_END_S = 10.0
PAGE = 200  # the smallest that an org makes
LATEST_RUN = """
    SELECT id FROM sync_runs
    WHERE connection_id = %s AND started_at IS NOT NULL AND (finished_at IS NULL OR finished_at > %s)
    ORDER BY id DESC LIMIT 1
"""
TOKENS = "SELECT token_version, status FROM connections WHERE id = %s"
LEADS_HELD = """
    SELECT l.id FROM leads l JOIN connections c ON c.user_id = l.user_id WHERE c.id = %s AND l.lease IS NOT NULL
"""
ALL_DUE = """
    UPDATE connections SET next_sync_at = now() WHERE status = 'connected' AND first_synced_at IS NOT NULL RETURNING id
"""
CHECKED = "SELECT id FROM connections WHERE lease_until > now()"
LEASES_END = "UPDATE connections SET lease_until = now() - interval '1 second' WHERE lease_until > now() RETURNING id"
SENDING = "SELECT id FROM leads WHERE state = 'sending' OR lease IS NOT NULL"
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Missed(Exception):
    """The fault has hit nothing; the text says why."""


@dataclass
class Hit:
    """The Ids of the runs and leads that a fault has hit. note: what the table shows of it."""

    runs: list[int] = field(default_factory=list)
    leads: list[int] = field(default_factory=list)
    note: str = ""


@dataclass
class ChaosWorld:
    house: ChaosHouse
    watch: Watch
    orgs: list[ChaosOrg]
    flights: Flights

    def org_of(self, salesforce_user: str) -> ChaosOrg:
        return next(org for org in self.orgs if salesforce_user in org.users)


Strike = Callable[[ChaosWorld, random.Random], Hit]


def chance(look: Callable[[], Sequence[T]], what: str, rng: random.Random, patience_s: float = CHANCE_S) -> T:
    """Wait until `look` finds something that can be hit, and return one of these; raise Missed."""
    give_up_at = time.monotonic() + patience_s
    while time.monotonic() < give_up_at:
        try:
            found = look()
        except DatabaseAway:
            found = []
        if found:
            return rng.choice(list(found))
        time.sleep(POLL_S)
    raise Missed(f"{what}, for {patience_s:.0f} s")


# ---- Processes


def kill(horse: psutil.Process) -> bool:
    """Send kill -9; return whether the process was still running."""
    try:
        horse.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def at_work(world: ChaosWorld, rng: random.Random, kind: str = "run") -> Working:
    return chance(lambda: world.watch.working(kind), f"no work-horse was at a job ({kind})", rng)


def still_running(world: ChaosWorld, working: Working, lease: str) -> Hit:
    """Return the run as hit if it was unfinished when its process had ended; raise Missed."""
    time.sleep(0.05)
    run = world.watch.run(working.row)
    if run.status != "running" or run.lease != lease:
        raise Missed(f"the run had just ended ({run.status})")
    return Hit(runs=[run.id])


def lease_of(world: ChaosWorld, working: Working) -> str:
    return str(world.watch.run(working.row).lease)


def kill_work_horse(world: ChaosWorld, rng: random.Random) -> Hit:
    return kill_horse_of_run(world, at_work(world, rng))


def kill_horse_of_run(world: ChaosWorld, working: Working) -> Hit:
    lease = lease_of(world, working)
    if not kill(working.horse):
        raise Missed("the work-horse had just ended")
    return still_running(world, working, lease)


def kill_horse_of_leads(world: ChaosWorld, working: Working) -> Hit:
    if not kill(working.horse):
        raise Missed("the work-horse had just ended")
    time.sleep(0.05)
    leads = [row.id for row in world.watch.patiently(LEADS_HELD, working.row)]
    if not leads:
        raise Missed("it held no lead at that moment")
    return Hit(leads=leads)


def kill_worker(world: ChaosWorld, rng: random.Random) -> Hit:
    """Its work-horse lives on, as RQ leaves it, and finishes alone or meets another copy of its job."""
    working = at_work(world, rng)
    lease = lease_of(world, working)
    if not working.worker.send(signal.SIGKILL):
        raise Missed("the worker had just ended")
    return still_running(world, working, lease)


def kill_both(world: ChaosWorld, rng: random.Random) -> Hit:
    """Kill worker and work-horse at once, as a power cut does."""
    working = at_work(world, rng)
    lease = lease_of(world, working)
    if not (working.worker.send(signal.SIGKILL) and kill(working.horse)):
        raise Missed("one of them had just ended")
    return still_running(world, working, lease)


def terminate_worker(world: ChaosWorld, rng: random.Random) -> Hit:
    """Send SIGTERM, as a deploy does: the run is handed back and the worker ends."""
    working = at_work(world, rng)
    lease, deaths = lease_of(world, working), len(working.worker.deaths)
    if not working.worker.send(signal.SIGTERM):
        raise Missed("the worker had just ended")
    hit = still_running_or_handed_back(world, working, lease)
    began = time.monotonic()
    wait_for(lambda: len(working.worker.deaths) > deaths, "for the end of a worker after SIGTERM", WORKER_ENDS_S, 0.05)
    took, code = time.monotonic() - began, working.worker.deaths[deaths]
    notes = [f"exit code {code}"] if code not in (0, -signal.SIGKILL) else []
    notes += [f"took {took:.0f} s to end"] if took > WORKER_SHOULD_END_S else []
    hit.note = ", ".join(notes)
    return hit


def still_running_or_handed_back(world: ChaosWorld, working: Working, lease: str) -> Hit:
    time.sleep(0.02)
    run = world.watch.run(working.row)
    if run.status == "queued" or (run.status == "running" and run.lease == lease):
        return Hit(runs=[run.id])
    raise Missed(f"the run had just ended ({run.status})")


def kill_work_horse_at_leads(world: ChaosWorld, rng: random.Random) -> Hit:
    def holding() -> list[Working]:
        return [working for working in world.watch.working("leads") if world.watch.rows(LEADS_HELD, working.row)]

    return kill_horse_of_leads(world, chance(holding, "no work-horse held a lead", rng))


def await_checks(world: ChaosWorld, rng: random.Random) -> tuple[Working, dict[ChaosOrg, int]]:
    """Let all connections be due at slow orgs, and wait for a round that has calls under way; disarm the orgs afterwards."""
    slow = {org: org.arm("slow", kind="data", times=3, seconds=3) for org in world.orgs}
    try:
        world.watch.patiently(ALL_DUE)
        look = lambda: world.watch.working("round") if world.watch.rows(CHECKED) else []  # noqa: E731
        return chance(look, "no round of checks was under way", rng), slow
    except (Missed, DatabaseAway):
        disarm(slow)
        raise


def disarm(numbers: dict[ChaosOrg, int]) -> None:
    for org, number in numbers.items():
        org.disarm(number)


def kill_in_round(world: ChaosWorld, rng: random.Random) -> Hit:
    """kill -9 of a work-horse that checks connections: they stay due, and their leases have to end first."""
    working, slow = await_checks(world, rng)
    try:
        if not kill(working.horse):
            raise Missed("the work-horse had just ended")
        time.sleep(0.05)
        left = world.watch.patiently(CHECKED)
    finally:
        disarm(slow)
    if not left:
        raise Missed("its checks had just ended")
    return Hit(note=f"{len(left)} connections were being checked")


def end_leases_of_checks(world: ChaosWorld, rng: random.Random) -> Hit:
    """The leases of a round end while it works, as if it had slept: another round asks for the same connections."""
    _working, slow = await_checks(world, rng)
    try:
        ended = world.watch.patiently(LEASES_END)
    finally:
        disarm(slow)
    if not ended:
        raise Missed("the checks had just ended")
    return Hit(note=f"{len(ended)} connections were being checked")


def kill_scheduler(world: ChaosWorld, rng: random.Random) -> Hit:
    def needed() -> Sequence[Any]:
        return world.watch.rows(FOR_THE_TICK) if world.house.scheduler.is_running else []

    chance(needed, "nothing was waiting for the tick", rng)
    waiting = world.watch.patiently(FOR_THE_TICK)
    if not waiting:
        raise Missed("the tick had just been there")
    if not world.house.scheduler.send(signal.SIGKILL):
        raise Missed("the scheduler had just ended")
    return Hit(note="runs, connections or leads were waiting for the tick")


def kill_web(world: ChaosWorld, rng: random.Random) -> Hit:
    chance(lambda: [1] * world.flights.in_the_air(), "no request was on its way", rng)
    before = world.flights.cut
    try:
        world.house.web.kill_with_children()
    except psutil.NoSuchProcess:
        raise Missed("the web process had just ended") from None
    time.sleep(0.3)
    cut = world.flights.cut - before
    if not cut:
        raise Missed("the request had just been answered")
    return Hit(note="requests cut off")


# ---- Redis


def active(world: ChaosWorld, rng: random.Random) -> list[int]:
    """Wait until runs are queued or worked on, and return them. Later faults find the work-horses all the same."""
    if not world.watch.knows_workers():
        raise Missed("a worker has not entered itself in Redis")
    chance(world.watch.active_ids, "no run was queued or worked on", rng)
    try:
        return world.watch.active_ids()
    except DatabaseAway:
        raise Missed("the database was away") from None


def hit_later(world: ChaosWorld, runs: Sequence[int]) -> Callable[[], Hit]:
    """Return a function that returns which of these runs had not ended by now; it raises Missed where all had."""
    struck_at = datetime.now(UTC)

    def look() -> Hit:
        left = unfinished(world, runs, struck_at)
        if not left:
            raise Missed("the runs had just ended")
        return Hit(runs=left)

    return look


def unfinished(world: ChaosWorld, runs: Sequence[int], at: datetime) -> list[int]:
    ended = [(run_id, world.watch.run(run_id).finished_at) for run_id in runs]
    return [run_id for run_id, ended_at in ended if ended_at is None or ended_at > at]


def kill_redis(world: ChaosWorld, rng: random.Random) -> Hit:
    runs = active(world, rng)
    world.house.redis.kill()
    hit = hit_later(world, runs)
    time.sleep(rng.choice((0, 0.5, 2, 5, 9)))
    world.house.redis.start()
    return hit()


def restart_redis(world: ChaosWorld, rng: random.Random) -> Hit:
    runs = active(world, rng)
    world.house.redis.stop()
    hit = hit_later(world, runs)
    time.sleep(rng.choice((0, 1)))
    world.house.redis.start()
    return hit()


def flush_redis(world: ChaosWorld, rng: random.Random) -> Hit:
    runs = active(world, rng)
    world.house.redis.flush()
    return hit_later(world, runs)()


def silence_redis(world: ChaosWorld, rng: random.Random) -> Hit:
    """Stop Redis for some seconds: it accepts connections and answers nothing."""
    runs = active(world, rng)
    world.house.redis.send(signal.SIGSTOP)
    hit = hit_later(world, runs)
    time.sleep(rng.uniform(2, 6))
    world.house.redis.send(signal.SIGCONT)
    return hit()


# ---- The database


def held_runs(world: ChaosWorld, rng: random.Random) -> list[int]:
    """Wait until a work-horse has a run; return all runs that work-horses have."""
    first = at_work(world, rng)
    try:
        return sorted({first.row, *(working.row for working in world.watch.working("run"))})
    except DatabaseAway:
        return [first.row]


def restart_database(world: ChaosWorld, rng: random.Random) -> Hit:
    """Shut the database down fast and start it: open transactions are rolled back, connections closed."""
    runs = held_runs(world, rng)
    world.house.postgres.stop()
    hit = hit_later(world, runs)
    time.sleep(rng.choice((0, 0.5, 2)))
    world.house.postgres.start()
    return hit()


def kill_database(world: ChaosWorld, rng: random.Random) -> Hit:
    runs = held_runs(world, rng)
    world.house.postgres.kill()
    hit = hit_later(world, runs)
    time.sleep(rng.choice((0, 1)))
    world.house.postgres.start()
    return hit()


def cut_connections(world: ChaosWorld, rng: random.Random) -> Hit:
    """Cut every connection to the database, as a failover does; it answers again at once."""
    runs = held_runs(world, rng)
    world.watch.patiently(CUT)
    return hit_later(world, runs)()


# ---- Salesforce


def running(world: ChaosWorld, rng: random.Random, *, rotates: bool | None = None, pages: bool = False) -> Any:
    """Wait for a run that is being worked on.

    rotates: only at orgs that rotate refresh tokens, or that don't. pages: only one that has further pages to read.
    """

    def look() -> list[Any]:
        rows = world.watch.running()
        rows = [row for row in rows if not pages or (row.total or 0) - row.read > PAGE]
        return [row for row in rows if rotates is None or world.org_of(row.salesforce_user_id).rotates == rotates]

    return chance(look, f"no run was {'in mid-page' if pages else 'being worked on'}", rng)


def latest_run(world: ChaosWorld, connection_id: int, since: datetime) -> list[int]:
    """Return the Id of the connection's latest run that has begun, in a list; none if it had ended by that moment."""
    return [row.id for row in world.watch.patiently(LATEST_RUN, connection_id, since)]


def bad_answer(answer: str, *, times: int = 1, kind: str = "data", **details: Any) -> Strike:
    """Let the org give this answer to a user whose run is active; it counts once the org has given it."""

    def strike(world: ChaosWorld, rng: random.Random) -> Hit:
        row = running(world, rng, pages=kind == "query_more")
        org, began = world.org_of(row.salesforce_user_id), datetime.now(UTC)
        number = org.arm(answer, kind=kind, user_id=row.salesforce_user_id, times=times, **details)
        try:
            await_hit(org, number)
            runs = latest_run(world, row.connection_id, began)
            if times > 1:
                time.sleep(4)
        finally:
            org.disarm(number)
        return Hit(runs=runs)

    return strike


def bad_create(answer: str, **details: Any) -> Strike:
    """Let some org answer the next create of leads like this."""

    def strike(world: ChaosWorld, rng: random.Random) -> Hit:
        org = rng.choice(world.orgs)
        number = org.arm(answer, kind="create", times=1, **details)
        try:
            await_hit(org, number, 2 * HIT_S)
        finally:
            org.disarm(number)
        return Hit(leads=[row.id for row in world.watch.patiently(SENDING)])

    return strike


def bad_opt_out(answer: str) -> Strike:
    """Let the orgs answer the next opt-out that they are told of like this."""

    def strike(world: ChaosWorld, _rng: random.Random) -> Hit:
        numbers = {org: org.arm(answer, kind="update", times=1) for org in world.orgs}
        try:
            wait_or_miss(lambda: any(org.hits(each) for org, each in numbers.items()), "no opt-out came", 2 * HIT_S)
        finally:
            for org, number in numbers.items():
                org.disarm(number)
        return Hit()

    return strike


def await_hit(org: ChaosOrg, number: int, patience_s: float = HIT_S) -> None:
    wait_or_miss(lambda: org.hits(number), "no call of this kind came", patience_s)


def wait_or_miss(look: Callable[[], object], otherwise: str, patience_s: float) -> None:
    try:
        wait_for(look, patience_s=patience_s, pause_s=POLL_S)
    except TimeoutError:
        raise Missed(otherwise) from None


# ---- Tokens and time


def expire(*, rotates: bool) -> Strike:
    """The access token ends; it counts once it was refreshed."""

    def strike(world: ChaosWorld, rng: random.Random) -> Hit:
        row, began = running(world, rng, rotates=rotates), datetime.now(UTC)
        version = world.watch.patiently(TOKENS, row.connection_id)[0].token_version
        world.org_of(row.salesforce_user_id).do("expire_sessions", user_id=row.salesforce_user_id)
        await_tokens(world, row.connection_id, lambda now: now.token_version > version, "no process refreshed it")
        return Hit(runs=latest_run(world, row.connection_id, began))

    return strike


def expire_all(world: ChaosWorld, rng: random.Random) -> Hit:
    """All sessions of an org end at one moment."""
    row, began = running(world, rng), datetime.now(UTC)
    version = world.watch.patiently(TOKENS, row.connection_id)[0].token_version
    world.org_of(row.salesforce_user_id).do("expire_sessions")
    await_tokens(world, row.connection_id, lambda now: now.token_version > version, "no process refreshed it")
    return Hit(runs=latest_run(world, row.connection_id, began))


def revoke(world: ChaosWorld, rng: random.Random) -> Hit:
    """The permission is taken back; the advisor sees it and connects again."""
    row, began = running(world, rng), datetime.now(UTC)
    version = world.watch.patiently(TOKENS, row.connection_id)[0].token_version
    world.org_of(row.salesforce_user_id).do("revoke_approvals", user_id=row.salesforce_user_id)

    def is_noticed(now: Any) -> bool:  # only connecting again makes new tokens from here on
        return bool(now.status == "needs_reconnect" or now.token_version > version)

    await_tokens(world, row.connection_id, is_noticed, "no process noticed it")
    return Hit(runs=latest_run(world, row.connection_id, began))


def bad_refresh(answer: str, times: int = 1, **details: Any) -> Strike:
    """The token has ended, and the token endpoint has trouble too."""

    def strike(world: ChaosWorld, rng: random.Random) -> Hit:
        row, began = running(world, rng), datetime.now(UTC)
        org = world.org_of(row.salesforce_user_id)
        number = org.arm(answer, kind="token_refresh", times=times, **details)
        try:
            org.do("expire_sessions", user_id=row.salesforce_user_id)
            await_hit(org, number)
        finally:
            org.disarm(number)
        return Hit(runs=latest_run(world, row.connection_id, began))

    return strike


def kill_in_refresh(world: ChaosWorld, rng: random.Random) -> Hit:
    """kill -9 of a work-horse, at a run or at leads, that waits for the answer to its refresh token."""
    row, began = running(world, rng), datetime.now(UTC)
    org = world.org_of(row.salesforce_user_id)
    number = org.arm("slow_after", kind="token_refresh", times=1, seconds=6)
    try:
        org.do("expire_sessions", user_id=row.salesforce_user_id)
        await_hit(org, number)
        runs = latest_run(world, row.connection_id, began)
        for working in world.watch.working("run", "leads"):
            if working.kind == "run" and working.row in runs:
                return kill_horse_of_run(world, working)
            if working.kind == "leads" and working.row == row.connection_id:
                return kill_horse_of_leads(world, working)
        raise Missed("another process refreshed it")
    except DatabaseAway:
        raise Missed("the database was away") from None
    finally:
        org.disarm(number)


def await_tokens(world: ChaosWorld, connection_id: int, is_so: Callable[[Any], bool], otherwise: str) -> None:
    wait_or_miss(lambda: is_so(world.watch.patiently(TOKENS, connection_id)[0]), otherwise, 2 * HIT_S)


def jump(least_s: int, most_s: int) -> Strike:
    """The org's clock jumps while a run is in the middle of its pages."""

    def strike(world: ChaosWorld, rng: random.Random) -> Hit:
        def look() -> list[Any]:
            return [row for row in world.watch.running() if row.opened_at is not None]

        row = chance(look, "no run was in mid-page", rng)
        org = world.org_of(row.salesforce_user_id)
        hit = [each.id for each in world.watch.running() if each.salesforce_user_id in org.users]
        if row.id not in hit:
            raise Missed("the run had just ended")
        org.do("advance_clock", seconds=rng.randrange(least_s, most_s))
        return Hit(runs=hit)

    return strike


# In the order of the table. How often a kind comes in a round of its lane stands before it.
PROCESSES: dict[str, tuple[int, Strike]] = {
    "worker: kill -9": (2, kill_worker),
    "work-horse: kill -9": (2, kill_work_horse),
    "worker and work-horse: kill -9": (2, kill_both),
    "work-horse at leads: kill -9": (1, kill_work_horse_at_leads),
    "work-horse in a round: kill -9": (2, kill_in_round),
    "leases of checks end early": (1, end_leases_of_checks),
    "worker: SIGTERM": (2, terminate_worker),
    "scheduler: kill -9": (2, kill_scheduler),
    "web: kill -9": (2, kill_web),
    "Redis: kill -9": (1, kill_redis),
    "Redis: restarted": (1, restart_redis),
    "Redis: flushed": (1, flush_redis),
    "Redis: silent": (1, silence_redis),
    "database: fast restart": (1, restart_database),
    "database: kill -9": (1, kill_database),
    "database: connections cut": (1, cut_connections),
}
SALESFORCE: dict[str, tuple[int, Strike]] = {
    "503 and a page": (2, bad_answer("server_unavailable_html", times=2)),
    "503 for a while": (1, bad_answer("server_unavailable", times=20)),
    "500 UNKNOWN_EXCEPTION": (1, bad_answer("unknown_exception")),
    "502": (1, bad_answer("bad_gateway", times=2)),
    "504": (1, bad_answer("gateway_timeout")),
    "420 of the edge": (1, bad_answer("edge_420", times=2)),
    "406, empty": (1, bad_answer("not_acceptable")),
    "429": (1, bad_answer("too_many_requests")),
    "200 and a page": (1, bad_answer("html")),
    "200, empty": (1, bad_answer("empty")),
    "200, wrong content type": (1, bad_answer("wrong_content_type")),
    "hangs 9 s": (1, bad_answer("slow", seconds=9)),
    "hangs beyond the time-out": (1, bad_answer("slow", seconds=40)),
    "reset before the work": (1, bad_answer("reset")),
    "reset after the work": (1, bad_answer("reset_after", times=2)),
    "cut off": (1, bad_answer("truncated")),
    "truncated JSON": (1, bad_answer("truncated_json", times=2)),
    "redirect elsewhere": (1, bad_answer("redirect", location="https://elsewhere.example/")),
    "short page": (1, bad_answer("short_page", kind="query")),
    "next page elsewhere": (1, bad_answer("foreign_next", kind="query")),
    "locator expired": (2, bad_answer("invalid_locator", kind="query_more")),
    "query timeout": (1, bad_answer("query_timeout", kind="query_more")),
    "concurrent limit": (1, bad_answer("concurrent_limit")),
    "request limit": (1, bad_answer("request_limit")),
    "lead: answer lost": (2, bad_create("reset_after")),
    "lead: never arrived": (1, bad_create("reset")),
    "lead: done 30 s later": (1, bad_create("late_work", seconds=30)),
    "lead: 503": (1, bad_create("server_unavailable_html")),
    "opt-out: answer lost": (2, bad_opt_out("reset_after")),
    "opt-out: never arrived": (1, bad_opt_out("reset")),
}
TOKENS_AND_TIME: dict[str, tuple[int, Strike]] = {
    "token expired": (2, expire(rotates=False)),
    "token expired, rotation on": (3, expire(rotates=True)),
    "all tokens of an org expired": (1, expire_all),
    "token endpoint: 503": (1, bad_refresh("server_unavailable_html", times=2)),
    "token endpoint: answer lost": (1, bad_refresh("reset_after")),
    "kill -9 while refreshing": (1, kill_in_refresh),
    "permission revoked": (2, revoke),
    "clock forward": (2, jump(30, 600)),
    "clock back": (2, jump(-200, -30)),
}
LANES = {"processes": PROCESSES, "Salesforce": SALESFORCE, "tokens and time": TOKENS_AND_TIME}
