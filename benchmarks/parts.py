"""What is measured, part by part. Each part prints its figures and returns its targets."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from statistics import median
from typing import Any

import psutil
import psycopg

from benchmarks.house import BenchHouse, BenchOrg, Database, Place
from benchmarks.rounds import Figures, ratio, ratios_by_turn, run_in_turns
from devtools.processes import Web, Worker, end_all
from devtools.waiting import wait_for

PAGE = 2000  # rows; Salesforce's maximum
MANY = 20_000  # above this number, floors that only explain the figures are left out
SLOW_S = 0.2
POLLERS = 16
BURST = 1000  # sign-ups
BROWSERS = 16  # at most at the same time
A_SECOND = 25
ALONE = 200
SHOWN = (
    "salesforce_id",
    "first_name",
    "last_name",
    "email",
    "search_key",
    "address_hash",
    "opted_out",
    "system_modstamp",
)


@dataclass(frozen=True)
class Options:
    contacts: tuple[int, ...]
    million: bool
    rounds: int
    due: int
    advisors: int
    seconds: float
    connections: int


@dataclass(frozen=True)
class Target:
    """A measured value and its bound: at most (or, if is_least, at least) `must`, better `hoped`."""

    what: str
    value: float
    must: float
    hoped: float
    form: str = "{:.2f}×"
    is_least: bool = False

    def meets(self, bound: float) -> bool:
        return self.value >= bound if self.is_least else self.value <= bound


class Bench:
    def __init__(self, house: BenchHouse, options: Options) -> None:
        self.house = house
        self.options = options
        self._open = ExitStack()
        self._orgs: dict[int, BenchOrg] = {}
        self._fresh: dict[tuple[str, int], Database] = {}
        self._synced: dict[tuple[str, int], Database] = {}
        self.peaks: dict[tuple[str, int], float] = {}  # of a job process in a first full sync, MB

    def close(self) -> None:
        self._open.close()

    def org(self, contacts: int) -> BenchOrg:
        if contacts not in self._orgs:
            self._orgs[contacts] = self._open.enter_context(BenchOrg(contacts))
        return self._orgs[contacts]

    def fresh(self, place: Place, contacts: int) -> Database:
        """Return a database in which a first full sync of so many contacts waits."""
        key = place.kind, contacts
        if key not in self._fresh:
            self._fresh[key] = self.house.prepare(place, self.org(contacts))
        return self._fresh[key]

    def synced(self, place: Place, contacts: int) -> Database:
        """Return a database after that sync."""
        key = place.kind, contacts
        if key not in self._synced:
            made = place.create(self.fresh(place, contacts))
            self.house.call("ours", "sync", made, runs=made.facts["runs"])
            self._synced[key] = made
        return self._synced[key]

    @contextmanager
    def copy(self, place: Place, template: Database) -> Iterator[Database]:
        made = place.create(template)
        try:
            yield made
        finally:
            place.drop(made)

    def ours(self, place: Place, template: Database, before: str = "") -> dict[str, Any]:
        """Carry out a run in a copy; `before` names a job that prepares it."""
        with self.copy(place, template) as database:
            runs = (
                self.house.call("ours", before, database, **template.facts)["runs"]
                if before
                else template.facts["runs"]
            )
            return self.house.call("ours", "sync", database, runs=runs)

    def floor(self, place: Place, template: Database, mode: str) -> dict[str, Any]:
        with self.copy(place, template) as database:
            return self.house.call("floors", "full_sync", into=database.url, mode=mode, **template.facts)


def say(line: str = "") -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say_figures(figures: dict[str, Figures], rows: int = 0, base: Figures | None = None) -> None:
    for name, each in figures.items():
        parts = [f"  {name:<34} {each.spread('s')} s"]
        if rows:
            parts.append(f"{rows / each.median('s'):>9,.0f} rows/s")
        parts.append(f"CPU {each.median('cpu_s'):.2f} s")
        parts.append(f"peak RSS {each.median('rss_mb'):.0f} MB")
        if base is not None and each is not base:
            parts.append(f"{ratio(each, base, 's'):.2f}× of the floor (by turn {ratios_by_turn(each, base, 's')})")
        say("  ".join(parts))


def fastest(figures: dict[str, Figures], names: tuple[str, ...]) -> Figures:
    return min((figures[name] for name in names if name in figures), key=lambda each: each.median("s"))


# A first full sync, and one that reads everything again.


def floors_of(bench: Bench, place: Place, template: Database, contacts: int) -> dict[str, Callable[[], dict[str, Any]]]:
    modes = {"floor, a thread reads": "ahead"}
    if contacts <= MANY:  # above that, only the floor that was fastest on this database
        modes["floor, one after the other"] = "both"
        if place.kind == "PostgreSQL":
            modes["floor, by temporary tables"] = "ahead_upsert"
    return {name: partial(bench.floor, place, template, mode) for name, mode in modes.items()}


def full(bench: Bench) -> list[Target]:
    targets = []
    for contacts in bench.options.contacts:
        for place in bench.house.places:
            targets += full_of(bench, place, contacts, bench.options.rounds)
    if bench.options.million:
        for place in bench.house.places:
            million(bench, place)
    return targets + memory_targets(bench)


def million(bench: Bench, place: Place) -> None:
    """Measure a million contacts once, without a floor: the question is whether memory grows with the contacts."""
    contacts = 1_000_000
    say(f"\nFirst full sync of {contacts:,} contacts, {place.kind}")
    template = bench.fresh(place, contacts)
    figures = run_in_turns({"asapp": partial(bench.ours, place, template)}, 1, warm_up=0)
    say_figures(figures, contacts)
    bench.peaks[place.kind, contacts] = figures["asapp"].median("rss_mb")


def full_of(bench: Bench, place: Place, contacts: int, rounds: int) -> list[Target]:
    say(f"\nFirst full sync of {contacts:,} contacts, {place.kind}")
    template, running = bench.fresh(place, contacts), bench.org(contacts)
    asked: list[int] = []

    def ours() -> dict[str, Any]:
        mark = running.mark()
        answer = bench.ours(place, template)
        asked.append(running.api_calls(mark))
        return answer

    contenders = {"asapp": ours, **floors_of(bench, place, template, contacts)}
    if contacts <= MANY:
        contenders["only reading"] = partial(bench.floor, place, template, "fetch")
        contenders["only writing"] = partial(bench.floor, place, template, "write")
    figures = run_in_turns(contenders, rounds)
    base = fastest(figures, tuple(name for name in figures if name.startswith("floor")))
    say_figures(figures, contacts, base)
    say(f"  rows of asapp and of the floor: {compare(bench, place, contacts)}")
    bench.peaks[place.kind, contacts] = max(figures["asapp"].values("rss_mb"))
    least = ceil(contacts / PAGE)
    say(f"  API requests, as the org counted them: {max(asked)} (ceil(N/{PAGE}) = {least})")
    found = [
        Target(f"API requests of a full sync of {contacts:,}, {place.kind}", max(asked), least + 3, least + 1, "{:.0f}")
    ]
    if contacts == 100_000 or contacts == max(bench.options.contacts) < 100_000:
        what = f"first full sync of {contacts:,}, {place.kind}, of the pipelined floor"
        found.insert(0, Target(what, ratio(figures["asapp"], base, "s"), 1.4 if place.kind == "SQLite" else 1.35, 1.3))
    return found


def compare(bench: Bench, place: Place, contacts: int) -> str:
    """Say whether both stored the same rows."""
    ours = stored(bench.synced(place, contacts))
    template = bench.fresh(place, contacts)
    with bench.copy(place, template) as database:
        bench.house.call("floors", "full_sync", into=database.url, mode="ahead", **template.facts)
        theirs = stored(database)
    if ours != theirs:
        raise RuntimeError("asapp and the floor stored different rows")
    return f"the same, {len(ours[0]):,} contacts and {len(ours[1]):,} in the ledger"


def stored(database: Database) -> tuple[list[Any], list[Any]]:
    questions = (
        f"SELECT {', '.join(SHOWN)} FROM contacts ORDER BY salesforce_id",
        "SELECT salesforce_id, outcome, address_hash FROM ledger ORDER BY salesforce_id",
    )
    connection = connect(database)
    try:
        first, second = (connection.execute(question).fetchall() for question in questions)
    finally:
        connection.close()
    return first, second


def connect(database: Database) -> Any:
    if database.url.startswith("sqlite"):
        return sqlite3.connect(database.url.removeprefix("sqlite:///"))
    return psycopg.connect(database.url.replace("+psycopg", "", 1))


def memory_targets(bench: Bench) -> list[Target]:
    found = []
    for place in bench.house.places:
        peaks = {contacts: mb for (kind, contacts), mb in bench.peaks.items() if kind == place.kind}
        most, least = max(peaks), min(peaks)
        found.append(Target(f"peak RSS of the job process, MB, {place.kind}", max(peaks.values()), 150, 130, "{:.0f}"))
        if most != least:
            what = f"peak RSS, {most:,} against {least:,} contacts, {place.kind}"
            found.append(Target(what, peaks[most] / peaks[least], 1.1, 1.03))
    return found


def reread(bench: Bench) -> list[Target]:
    contacts = max(bench.options.contacts)
    found = []
    for place in bench.house.places:
        say(
            f"\nFull re-read of {contacts:,} unchanged contacts, {place.kind} (the floor reads and writes into empty tables)"
        )
        template, synced = bench.fresh(place, contacts), bench.synced(place, contacts)
        contenders = {
            "asapp": partial(bench.ours, place, synced, "read_everything_again"),
            **floors_of(bench, place, template, contacts),
        }
        figures = run_in_turns(contenders, bench.options.rounds)
        base = fastest(figures, tuple(name for name in figures if name.startswith("floor")))
        say_figures(figures, contacts, base)
        for one in figures["asapp"].rounds:
            if one["read"] != contacts or one["created"] or one["updated"]:
                raise RuntimeError(f"not a re-read of unchanged contacts: {one}")
        what = f"full re-read of {contacts:,} unchanged, {place.kind}, of the same floor"
        found.append(Target(what, ratio(figures["asapp"], base, "s"), 1.3, 1.0))
    return found


def slow(bench: Bench) -> list[Target]:
    contacts = min(bench.options.contacts)
    pages = ceil(contacts / PAGE)
    found = []
    for place in bench.house.places:
        say(f"\n{contacts:,} contacts at {SLOW_S * 1000:.0f} ms a page, {place.kind}")
        template = bench.fresh(place, contacts)
        contenders = {
            "asapp": partial(bench.ours, place, template),
            "pure waiting": partial(bench.house.call, "floors", "wait", times=pages, seconds=SLOW_S),
            "floor, a thread reads": partial(bench.floor, place, template, "ahead"),
        }
        with bench.org(contacts).slow(SLOW_S):
            figures = run_in_turns(contenders, bench.options.rounds)
        waiting = figures["pure waiting"]
        say_figures(figures, contacts, waiting)
        what = f"{contacts:,} contacts at 200 ms a page, {place.kind}, of pure waiting"
        found.append(Target(what, ratio(figures["asapp"], waiting, "s"), 1.15, 1.12))
    return found


# Syncs in which little or nothing changed.


def nochange(bench: Bench) -> list[Target]:
    found = []
    for contacts in bench.options.contacts:
        for place in bench.house.places:
            say(f"\nA sync in which nothing changed, {contacts:,} contacts, {place.kind}")
            running = bench.org(contacts)
            with bench.copy(place, bench.synced(place, contacts)) as database:
                before = writes_to_contacts(database)
                mark = running.mark()
                answer = bench.house.call("ours", "no_change", database, **database.facts, rounds=25)
                asked = running.api_calls(mark)
                written = writes_to_contacts(database) - before
            since = f"{running.state()['now'][:19]}Z"
            asked_by = {key: database.facts[key] for key in ("url", "accounts")}
            alone = bench.house.call("floors", "one_call", **asked_by, rounds=25, since=since)["calls"]
            runs = len(answer["calls"]) + len(answer["forked"])
            here, forked = _ms(answer["here"]), _ms(answer["forked"])
            say(f"  in a warm process        {_spread_ms(answer['here'])}")
            say(f"  forked from a warm one   {_spread_ms(answer['forked'])}")
            say(f"  its one call by urllib3  {_spread_ms(alone)}")
            say(f"  {asked} requests in {runs} syncs, {written} contact rows written")
            label = f"sync without a change, {contacts:,} contacts, {place.kind}"
            found += [
                Target(f"{label}: ms in a warm process", here, 30, 12, "{:.1f}"),
                Target(f"{label}: ms in a work-horse", forked, 30, 12, "{:.1f}"),
                Target(f"{label}: requests a sync", asked / runs, 1, 1, "{:.2f}"),
                Target(f"{label}: contact rows written", written, 0, 0, "{:.0f}"),
            ]
    return found


def _ms(rounds: list[dict[str, Any]]) -> float:
    return median(one["s"] for one in rounds) * 1000


def _spread_ms(rounds: list[dict[str, Any]]) -> str:
    values = [one["s"] * 1000 for one in rounds]
    cpu = f", CPU {median(one['cpu_s'] for one in rounds) * 1000:.1f} ms" if "cpu_s" in rounds[0] else ""
    return f"{median(values):.1f} ms ({min(values):.1f}–{max(values):.1f}), {len(values)} times{cpu}"


def writes_to_contacts(database: Database) -> int:
    """Return a count that grows by one with each contact row inserted, updated or deleted after the first call."""
    connection = connect(database)
    try:
        if database.url.startswith("sqlite"):
            connection.execute("CREATE TABLE IF NOT EXISTS bench_writes (n INTEGER)")
            for event in ("INSERT", "UPDATE", "DELETE"):
                trigger = f"CREATE TRIGGER IF NOT EXISTS bench_{event} AFTER {event} ON contacts"
                connection.execute(f"{trigger} BEGIN INSERT INTO bench_writes VALUES (1); END")
            written = connection.execute("SELECT count(*) FROM bench_writes").fetchone()[0]
        else:
            time.sleep(1.2)  # statistics of processes that have ended arrive a moment later
            written = connection.execute(
                "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'contacts'"
            ).fetchone()[0]
        connection.commit()
        return int(written)
    finally:
        connection.close()


def changed(bench: Bench) -> list[Target]:
    sizes = sorted({min(10_000, max(bench.options.contacts)), max(bench.options.contacts)})
    for place in bench.house.places:
        say(f"\n100 changed contacts, {place.kind}")
        offices = [ChangingOffice(bench, place, contacts) for contacts in sizes]
        figures = run_in_turns(
            {f"among {one.contacts:,}": one.change_and_sync for one in offices}, bench.options.rounds
        )
        say_figures(figures)
        for office in offices:
            say(f"  among {office.contacts:,}: {max(office.asked)} API request(s) a sync")
            place.drop(office.database)
        if len(offices) > 1:
            few, many = figures.values()
            say(f"  among {sizes[1]:,} against {sizes[0]:,}: {ratio(many, few, 's'):.2f}× the time")
    return []


class ChangingOffice:
    """A synced database whose org keeps changing: an hour and 100 changes a turn. A copy may have missed some turns."""

    def __init__(self, bench: Bench, place: Place, contacts: int) -> None:
        self._house, self._org, self.contacts = bench.house, bench.org(contacts), contacts
        self.database = place.create(bench.synced(place, contacts))
        connection = connect(self.database)
        ids = connection.execute("SELECT salesforce_id FROM contacts ORDER BY id LIMIT 1500").fetchall()
        connection.close()
        self._ids = [row[0] for row in ids]
        self._turns = 0
        self.asked: list[int] = []
        self._org.ask("advance_clock", seconds=3600)
        self._sync()
        self.asked.clear()

    def change_and_sync(self) -> dict[str, Any]:
        self._org.ask("advance_clock", seconds=3600)
        self._turns += 1
        words = f"Changed {self._org.state()['now']}"
        for salesforce_id in self._ids[100 * (self._turns % 10) :][:100]:
            self._org.ask("update_contact", contact_id=salesforce_id, last_name=words)
        answer = self._sync()
        if answer["updated"] != 100:
            raise RuntimeError(f"not 100 changed contacts: {answer}")
        return answer

    def _sync(self) -> dict[str, Any]:
        runs = self._house.call("ours", "add_run", self.database, **self.database.facts)["runs"]
        mark = self._org.mark()
        answer = self._house.call("ours", "sync", self.database, runs=runs)
        self.asked.append(self._org.api_calls(mark))
        return answer


# Pages, the tick, workers.


def progress(bench: Bench) -> list[Target]:
    found = []
    for place in bench.house.places:
        say(f"\nProgress fragment, {POLLERS} pollers, gunicorn with one process of 8 threads, {place.kind}")
        database = bench.house.prepare(place, bench.org(0), "prepare_pollers", pollers=POLLERS)
        with ExitStack() as open_:
            ours = open_.enter_context(served(bench, database, "wsgi:app"))
            bare = open_.enter_context(served(bench, database, "benchmarks.bare:app"))
            contenders = {
                "asapp": partial(polled, bench, ours, database, 'role="progressbar"'),
                "bare page": partial(polled, bench, bare, database, "Here you are"),
            }
            figures = run_in_turns(contenders, bench.options.rounds)
        place.drop(database)
        for name, each in figures.items():
            say(
                f"  {name:<12} {each.spread('a_second', ',.0f')} requests/s  CPU {each.spread('cpu_ms')} ms a request  "
                f"95 % within {each.median('p95_ms'):.1f} ms"
            )
        mine, least = figures["asapp"], figures["bare page"]
        rate, cpu = ratio(mine, least, "a_second"), ratio(mine, least, "cpu_ms")
        say(f"  {rate:.0%} of its requests/s (by turn {ratios_by_turn(mine, least, 'a_second')}), {cpu:.2f}× its CPU")
        label = f"progress fragment, {place.kind}, of the bare page"
        found.append(Target(f"{label}: requests/s", rate * 100, 60, 75, "{:.0f} %", is_least=True))
        found.append(Target(f"{label}: CPU a request", cpu, 1.6, 1.3))
    return found


@contextmanager
def served(
    bench: Bench, database: Database, application: str, processes: int = 1, trusted_proxies: int = 0
) -> Iterator[tuple[int, psutil.Process]]:
    config = bench.house.config(database, trusted_proxies)
    with Web(config, bench.house.log, workers=processes, application=application) as web:
        yield web.port, psutil.Process(web.pid)


def polled(bench: Bench, server: tuple[int, psutil.Process], database: Database, must_have: str) -> dict[str, Any]:
    port, process = server
    before = cpu_of(process)
    asked = [{"path": one["path"], "cookie": one["cookie"]} for one in database.facts["asked"]]
    answer = bench.house.call(
        "pollers", "poll", port=port, seconds=bench.options.seconds, asked=asked, must_have=must_have
    )
    return answer | {"cpu_ms": (cpu_of(process) - before) / answer["requests"] * 1000}


def cpu_of(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def signups(bench: Bench) -> list[Target]:
    """Measure a burst of sign-ups, each from its own address, against sign-ups one by one; then the delivery."""
    found = []
    running = bench.org(0)
    for place in bench.house.places:
        say(f"\n{BURST:,} sign-ups, gunicorn with two processes of 8 threads behind a proxy, {place.kind}")
        owner_id = running.ask("add_user", name="Amara Okafor", username=f"{place.kind}@x.example")
        accounts = [{"user_id": owner_id, **running.tokens(owner_id)}]
        database = bench.house.prepare(place, running, "prepare_form", accounts=accounts)
        with served(bench, database, "wsgi:app", 2, trusted_proxies=1) as (port, process):
            crowd = Crowd(bench, port, process, database)
            crowd.come(ALONE, 1)
            found += deliver_burst(bench, crowd, place)
            contenders = {
                "one after the other": partial(crowd.come, ALONE, 1),
                f"{A_SECOND} a second": partial(crowd.come, BURST, BROWSERS, A_SECOND),
                f"{BROWSERS} at a time, without a pause": partial(crowd.come, BURST, BROWSERS),
            }
            figures = run_in_turns(contenders, bench.options.rounds, warm_up=0)
            crowd.check_all_are_stored()
        place.drop(database)
        for each in figures.values():
            say(
                f"  {each.name:<32} {each.spread('p95_ms', '.1f')} ms for 95 %  {each.median('a_second'):,.0f} a second  "
                f"CPU {each.median('cpu_ms'):.1f} ms each"
            )
        alone, paced, flat_out = figures.values()
        by_turn, flat = ratios_by_turn(paced, alone, "p95_ms"), ratio(flat_out, alone, "p95_ms")
        say(f"  p95 at {A_SECOND} a second, of one after the other: by turn {by_turn}; without a pause {flat:.1f}×")
        label = f"{BURST:,} sign-ups, {A_SECOND} a second, {place.kind}: p95 of the form, of its p95 alone"
        found.append(Target(label, ratio(paced, alone, "p95_ms"), 3, 1.5))
    return found


def deliver_burst(bench: Bench, crowd: Crowd, place: Place) -> list[Target]:
    bench.house.call("ours", "deliver", crowd.database, **crowd.database.facts)
    crowd.come(BURST, BROWSERS)
    mark = bench.org(0).mark()
    delivered = bench.house.call("ours", "deliver", crowd.database, **crowd.database.facts)
    calls = bench.org(0).api_calls(mark)
    if delivered["states"] != {"sent": crowd.people}:
        raise RuntimeError(f"not delivered: {delivered['states']}")
    say(
        f"  {BURST:,} waiting leads delivered in {calls} calls and {delivered['s']:.1f} s, CPU {delivered['cpu_s']:.1f} s"
    )
    return [Target(f"calls to deliver {BURST:,} leads, {place.kind}", calls, 15, 15, "{:.0f}")]


class Crowd:
    """People at an advisor's sign-up page; each signs up once."""

    def __init__(self, bench: Bench, port: int, process: psutil.Process, database: Database) -> None:
        self.bench, self.port, self.process, self.database = bench, port, process, database
        self.people = 0

    def come(self, people: int, browsers: int, a_second: float = 0.0) -> dict[str, Any]:
        before = cpu_of(self.process)
        accounts = {"slug": self.database.facts["slug"], "first": self.people, "people": people}
        how = {"port": self.port, "browsers": browsers, "a_second": a_second}
        answer = self.bench.house.call("visitors", "sign_up", **accounts, **how)
        self.people += people
        return answer | {"cpu_ms": (cpu_of(self.process) - before) / people * 1000}

    def check_all_are_stored(self) -> None:
        kept = self.bench.house.call("ours", "deliver", self.database, **self.database.facts)
        if {kept[name] for name in ("leads", "contacts", "consents")} != {self.people}:
            raise RuntimeError(f"{self.people} signed up: {kept}")


def workers(bench: Bench) -> list[Target]:
    found = []
    running = bench.org(0)
    people = [
        running.ask("add_user", name=f"Advisor {n}", username=f"a{n}@x.example") for n in range(bench.options.advisors)
    ]
    for owner_id in people:
        running.ask("add_contact", owner_id=owner_id, last_name="Gonzalez", email="g@x.example")
    running.ask("advance_clock", seconds=3600)
    for place in bench.house.places:
        say(f"\n{bench.options.advisors} syncs without a change at {SLOW_S * 1000:.0f} ms a call, {place.kind}")
        accounts = [{"user_id": user_id, **running.tokens(user_id)} for user_id in people]
        database = bench.house.prepare(place, running, accounts=accounts)
        with at_work(bench, database, 2):
            bench.house.call("ours", "enqueue_and_wait", database, **database.facts)
        with running.slow(SLOW_S):
            contenders = {
                "one worker": partial(time_workers, bench, database, 1),
                "two workers": partial(time_workers, bench, database, 2),
            }
            figures = run_in_turns(contenders, bench.options.rounds)
        place.drop(database)
        for each in figures.values():
            say(f"  {each.name:<12} {each.spread('s')} s  {bench.options.advisors / each.median('s'):.1f} syncs/s")
        speed = figures["one worker"].median("s") / figures["two workers"].median("s")
        least = bench.options.advisors * SLOW_S / figures["one worker"].median("s")
        say(f"  {speed:.2f}× as fast; waiting alone is {least:.0%} of what one worker needs")
        found.append(Target(f"two workers against one, {place.kind}", speed, 1.8, 1.95, is_least=True))
    return found


def time_workers(bench: Bench, database: Database, number: int) -> dict[str, Any]:
    with at_work(bench, database, number):
        return bench.house.call("ours", "enqueue_and_wait", database, **database.facts)


@contextmanager
def at_work(bench: Bench, database: Database, number: int) -> Iterator[None]:
    """Run real workers, idle and waiting for jobs."""
    bench.house.redis.flush()
    workers = [Worker(bench.house.config(database), bench.house.log) for _ in range(number)]
    client = bench.house.redis.client()
    try:
        for worker in workers:
            worker.spawn()
        wait_for(lambda: client.scard("rq:workers") == number, "for the workers")
        yield
    finally:
        end_all(workers)
        for worker in workers:
            worker.stop()
        client.close()


PARTS: dict[str, Callable[[Bench], list[Target]]] = {
    part.__name__: part for part in (full, reread, slow, nochange, changed, progress, signups, workers)
}
