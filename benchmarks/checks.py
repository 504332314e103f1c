"""Rounds of quiet checks by real workers, against many orgs that answer at once after 200 ms."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.house import Database, Place
from benchmarks.parts import SLOW_S, Bench, Target, connect, say
from devtools.guard import guard
from devtools.processes import Process, Scheduler, Worker, end_all, environ_of
from devtools.waiting import wait_for

ORGS = 500
FEW = 5000  # connections for one worker
TICK_STARTS_S = 3.0  # for the process that ticks
GIVE_UP_S = 3600.0
ARRIVES_WITHIN_S = 120.0
OFF_THE_TICK_S = 3.5


def rounds(bench: Bench) -> list[Target]:
    found = []
    due, few = bench.options.due, min(FEW, bench.options.due)
    with canned_orgs(min(ORGS, due)) as ports:
        for place in bench.house.places:
            say(f"\nQuiet checks of connections over {len(ports)} orgs at {SLOW_S * 1000:.0f} ms a call, {place.kind}")
            alone = measure(bench, place, ports, few, 1)
            rate, cpu_ms = few / alone["s"], alone["cpu_s"] / few * 1000
            found += [
                Target(f"quiet checks a second of one worker, {place.kind}", rate, 120, 220, "{:.0f}", is_least=True),
                Target(f"CPU of a quiet check, all our processes, {place.kind}", cpu_ms, 6, 3.5, "{:.1f} ms"),
                Target(f"new rows of {few:,} quiet checks, {place.kind}", alone["runs"], 0, 0, "{:.0f}"),
            ]
            both = measure(bench, place, ports, due, 2)
            label = f"{due:,} due connections by two workers, {place.kind}"
            if due == 100_000:
                found.append(Target(label, both["s"] / 60, 10, 6, "{:.1f} min"))
            else:
                say(f"  {label}: at this rate 100,000 take {both['s'] / due * 100_000 / 60:.1f} min")
    return found


def measure(bench: Bench, place: Place, ports: list[int], due: int, number: int) -> dict[str, Any]:
    """Let so many workers check so many connections."""
    database = place.create()
    bench.house.call("ours", "prepare_checks", database, ports=ports, due=due)
    config = bench.house.config(database)
    bench.house.redis.flush()
    workers = [Worker(config, bench.house.log) for _ in range(number)]
    try:
        for worker in workers:
            worker.spawn()
        client = bench.house.redis.client()
        wait_for(lambda: client.scard("rq:workers") == number, "for the workers")
        before = sum(map(cpu_s, workers))
        made = bench.house.call("ours", "tick_until_fresh", database, give_up_s=GIVE_UP_S)
        made["cpu_s"] += sum(map(cpu_s, workers)) - before
    finally:
        end_all(workers)
    _tell(made, due, number)
    place.drop(database)
    return made


def cpu_s(worker: Worker) -> float:
    """Return the CPU time of a worker with all work-horses that it had."""
    return sum(psutil.Process(worker.pid).cpu_times()[:4])


def _tell(made: dict[str, Any], due: int, number: int) -> None:
    say(
        f"  {number} worker{'s' if number > 1 else ''}: {due:,} in {made['s']:.1f} s, {due / made['s']:.0f} a second, "
        f"CPU {made['cpu_s'] / due * 1000:.2f} ms each, {made['ticks']} ticks; "
        f"{made['runs']} runs, {made['usage']} rows of api_usage for {made['calls']:,} calls"
    )


def drill(bench: Bench) -> list[Target]:
    """Let 5,000 connections be due; kill one of two workers, empty Redis, and let one firm's org hang."""
    due, found = min(FEW, bench.options.due), []
    with canned_orgs(min(ORGS, due), hanging=1) as ports:
        for place in bench.house.places:
            database = place.create()
            bench.house.call("ours", "prepare_checks", database, ports=ports, due=due)
            made = suffer(bench, database, hung_firm=len(ports))
            say(f"\nFault drill, {place.kind}: {due:,} due connections of {len(ports)} firms, two workers")
            say("  one firm's org hangs; after 4 s a worker is killed and started again, after 8 s Redis is emptied")
            say(
                f"  all connections of the other firms fresh after {made['s']:.0f} s; {made['ticks']} ticks, {made['runs']} runs"
            )
            found.append(Target(f"drill: everybody else is fresh again, {place.kind}", made["s"], 120, 60, "{:.0f} s"))
            place.drop(database)
    return found


def suffer(bench: Bench, database: Database, hung_firm: int) -> dict[str, Any]:
    """Carry the drill out; return what tick_until_fresh() tells of the firms whose org answers."""
    bench.house.redis.flush()
    workers = [Worker(bench.house.config(database), bench.house.log) for _ in range(2)]
    try:
        for worker in workers:
            worker.spawn()
        client = bench.house.redis.client()
        wait_for(lambda: client.scard("rq:workers") == len(workers), "for the workers")
        with ThreadPoolExecutor(1) as pool:
            made = pool.submit(
                bench.house.call, "ours", "tick_until_fresh", database, give_up_s=GIVE_UP_S, without_firm=hung_firm
            )
            time.sleep(TICK_STARTS_S + 4)
            workers[0].kill_with_children()
            time.sleep(2)
            workers[0].spawn()
            time.sleep(2)
            bench.house.redis.flush()
            return made.result()
    finally:
        for worker in workers:
            worker.close()


def arrival(bench: Bench) -> list[Target]:
    """Change a contact in the org: after how long does its page show that, with a worker and the scheduler, interval aside?"""
    contacts, found = min(bench.options.contacts), []
    for place in bench.house.places:
        say(
            f"\nOne changed contact among {contacts:,}, from the moment its connection is due to its page, {place.kind}"
        )
        with bench.copy(place, bench.synced(place, contacts)) as database:
            times = arrivals(bench, database, contacts)
        say(f"  {median(times):.1f} s ({min(times):.1f}–{max(times):.1f}), {len(times)} times")
        found.append(Target(f"one changed contact, from due to its page, {place.kind}", max(times), 20, 10, "{:.1f} s"))
    return found


def arrivals(bench: Bench, database: Database, contacts: int) -> list[float]:
    config, org, times = bench.house.config(database), bench.org(contacts), []
    with closing(connect(database)) as reading:
        query = "SELECT id, salesforce_id FROM contacts WHERE departed IS NULL AND NOT opted_out ORDER BY id LIMIT 1"
        contact_id, salesforce_id = reading.execute(query).fetchone()
    bench.house.redis.flush()
    processes = [Worker(config, bench.house.log), Scheduler(config, bench.house.log)]
    try:
        for process in processes:
            process.spawn()
        client = bench.house.redis.client()
        wait_for(lambda: client.scard("rq:workers"), "for the worker")
        for number in range(bench.options.rounds):
            words = f"Arrived-{number}-{org.state()['now'][-9:-1]}"
            org.ask("update_contact", contact_id=salesforce_id, last_name=words)
            page = {"contact_id": contact_id, "words": words, "give_up_s": ARRIVES_WITHIN_S}
            times.append(bench.house.call("ours", "wait_for_page", database, **page, **database.facts)["s"])
            time.sleep(number * OFF_THE_TICK_S)  # so that the next one meets the tick at another moment
    finally:
        end_all(processes)
    return times


@contextmanager
def canned_orgs(number: int, hanging: int = 0) -> Iterator[list[int]]:
    """Run so many orgs; yield their ports. hanging: so many, the last ones, never answer."""
    ports_file = Path(guard().folder) / "ports.json"
    ports_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.canned_org", str(number), str(SLOW_S), str(ports_file), str(hanging)]
    process = Process("canned orgs", command, guard().folder / "canned.log", environ_of())
    with process:
        wait_for(lambda: ports_file.exists() and ports_file.read_text(), "for the orgs")
        yield json.loads(ports_file.read_text())
