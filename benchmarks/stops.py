"""Stopping everything for a firm, by the button, while its syncs and deliveries are at work: how soon what has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.house import BenchOrg, Database, Place
from benchmarks.parts import SLOW_S, Bench, Target, connect, say
from devtools.processes import Scheduler, Web, Worker, end_all
from devtools.programs import free_port
from devtools.visitor import Visitor
from devtools.waiting import wait_for

CONTACTS = 4  # of each
BUSY_CALLS = 40  # of syncs and deliveries, before the button is pressed
AWAY_S = 60.0  # from the button until Salesforce is back
QUIET_S = 15.0  # without a call of a sync or delivery, at the end
GIVE_UP_S = 400.0
WORDS = {
    "": f"Salesforce answers after {SLOW_S * 1000:.0f} ms",
    "reset": f"Salesforce breaks off each connection, for {AWAY_S:.0f} s",
    "hang": f"Salesforce accepts calls and never answers, for {AWAY_S:.0f} s",
}

NAMES = {"": "200 ms a call", "reset": "connections break off", "hang": "no answers"}


@dataclass
class Stopped:
    """Seconds from the button: until no contact was a recipient, no run active, the last call of a sync or delivery began,
    the page was there, and the last permission was revoked. left: permissions that the page left to the tick."""

    recipients_s: float = 0.0
    runs_s: float = 0.0
    calls_s: float = 0.0
    page_s: float = 0.0
    revoked_s: float = 0.0
    left: int = 0


def stop(bench: Bench) -> list[Target]:
    running, found, number = bench.org(0), [], bench.options.connections
    people = [running.ask("add_user", name=f"Advisor {n}", username=f"s{n}@x.example") for n in range(number)]
    for n, owner_id in enumerate(people):
        for m in range(CONTACTS):
            running.ask("add_contact", owner_id=owner_id, last_name="Gonzalez", email=f"g{m}.{n}@x.example")
    running.ask("advance_clock", seconds=3600)
    for place in bench.house.places:
        say(f"\nStop everything for a firm of {number} connections, {number * CONTACTS:,} contacts, {place.kind}")
        made = place.create()
        firm = bench.house.call("stop_rows", "make_firm", made, url=running.url, org_id=running.id, people=people)
        template = Database(made.url, firm)
        for trouble in WORDS:
            running.ask("revoke_approvals")
            with bench.copy(place, template) as database:
                stopped = press_stop(bench, running, database, trouble)
            found += tell(stopped, trouble, place)
        place.drop(template)
    return found


def tell(stopped: Stopped, trouble: str, place: Place) -> list[Target]:
    say(f"  {WORDS[trouble]}")
    say(
        f"    no contact is a recipient after {stopped.recipients_s:.1f} s, no sync is active after {stopped.runs_s:.1f} s, "
        f"the last call of a sync or delivery began after {stopped.calls_s:.1f} s"
    )
    say(
        f"    the page after {stopped.page_s:.1f} s, {stopped.left} permissions left to the tick; "
        f"the last is revoked after {stopped.revoked_s:.1f} s"
    )
    label = f"stop of a firm, {NAMES[trouble]}, {place.kind}"
    ended_s = max(stopped.recipients_s, stopped.runs_s, stopped.calls_s)
    from_when = AWAY_S if trouble else 0.0
    words = "revoked since Salesforce is back" if trouble else "revoked"
    return [
        Target(f"{label}: all ended here", ended_s, 60, 15, "{:.1f} s"),
        Target(
            f"{label}: {words}",
            stopped.revoked_s - from_when,
            180 if trouble else 60,
            90 if trouble else 40,
            "{:.1f} s",
        ),
    ]


def press_stop(bench: Bench, running: BenchOrg, database: Database, trouble: str) -> Stopped:
    """Let web, two workers and the scheduler work for the firm, press the button, and watch."""
    bench.house.redis.flush()
    facts = bench.house.call("stop_rows", "prepare", database, **database.facts)
    port = free_port()
    config = replace(bench.house.config(database), public_url=f"http://127.0.0.1:{port}")
    log = bench.house.log
    web = Web(config, log, port=port)
    processes = [web, Worker(config, log), Worker(config, log), Scheduler(config, log)]
    try:
        with faults(running, "slow", SLOW_S) as answers_slowly:
            for process in processes:
                process.spawn()
            web.wait_until_ready()
            mark = running.mark()
            wait_for(
                lambda: running.api_calls(mark) >= min(BUSY_CALLS, bench.options.connections),
                "for the syncs and deliveries",
            )
            visitor = Visitor()
            visitor.session.cookies.set("session", facts["cookie"], domain="127.0.0.1", path="/")
            page = visitor.open(f"{web.url}/admin/partners/{facts['slug']}/stop")
            if not trouble:
                return watch(Watch(running, database, web, facts["key"]), visitor, page)
            running.ask("remove_trouble", number=answers_slowly)
            with faults(running, trouble):
                time.sleep(1)
                return watch(Watch(running, database, web, facts["key"]), visitor, page)
    finally:
        end_all(processes)
        for process in processes:
            process.close()


@contextmanager
def faults(running: BenchOrg, answer: str, seconds: float | None = None) -> Iterator[int]:
    """Let each call of the org end like this, log-ins and revocations too; yield the fault's number."""
    number = running.ask("add_trouble", answer=answer, path="/services/", **({"seconds": seconds} if seconds else {}))
    try:
        yield number
    finally:
        running.ask("clear_trouble")


class Watch:
    """Looks again and again, from the press on."""

    def __init__(self, running: BenchOrg, database: Database, web: Web, key: str) -> None:
        self._running, self._reading, self._api_url = running, connect(database), f"{web.url}/api/v1"
        self._api = Visitor()
        self._api.session.headers["Authorization"] = f"Bearer {key}"
        self._is_away = running.state()["faults"][0]["answer"] != "slow"
        self._seen = running.mark()
        self._began = time.perf_counter()
        self.found = Stopped()

    def passed(self) -> float:
        return time.perf_counter() - self._began

    def press(self, visitor: Visitor, page: Any) -> None:
        visitor.press(page, "Stop everything for")
        self.found.page_s = self.passed()
        self.found.left = self._running.state()["approvals"]

    @property
    def is_over(self) -> bool:
        found = self.found
        moments = (found.page_s, found.recipients_s, found.runs_s, found.revoked_s)
        return all(moments) and self.passed() > found.calls_s + QUIET_S

    def look(self) -> None:
        found = self.found
        if self.passed() > GIVE_UP_S:
            raise RuntimeError(f"not everything has ended: {found}")
        if self._is_away and self.passed() > AWAY_S:
            self._running.ask("clear_trouble")
            self._running.ask("add_trouble", answer="slow", path="/services/", seconds=SLOW_S)
            self._is_away = False
        calls = self._running.look(f"calls?since={self._seen}")
        self._seen += len(calls)
        if any("data" in call["tags"] for call in calls):
            found.calls_s = self.passed()
        if not found.runs_s and not self.count("SELECT count(*) FROM sync_runs WHERE finished_at IS NULL"):
            found.runs_s = self.passed()
        if not found.recipients_s and not self._recipients():
            found.recipients_s = self.passed()
        if not found.revoked_s and not self._running.state()["approvals"]:
            found.revoked_s = self.passed()

    def _recipients(self) -> int:
        advisors = self._api.get_json(f"{self._api_url}/advisors?limit=1000")["advisors"]
        return sum(each["active"] for each in advisors)

    def count(self, query: str) -> int:
        found = self._reading.execute(query).fetchone()[0]
        self._reading.rollback()
        return int(found)

    def close(self) -> None:
        self._reading.close()


def watch(watching: Watch, visitor: Visitor, page: Any) -> Stopped:
    with ThreadPoolExecutor(1) as pool, closing(watching):
        pressing = pool.submit(watching.press, visitor, page)
        while not watching.is_over:
            if pressing.done():
                pressing.result()
            watching.look()
            time.sleep(0.2)
        if watching.count("SELECT count(*) FROM pending_grants"):
            raise RuntimeError("Salesforce has revoked all permissions, and we would revoke some again")
    return watching.found
