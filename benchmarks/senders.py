"""What a sender waits for: the calls of the API, the unsubscribe page, and a send that is prepared."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.house import Database, Place
from benchmarks.parts import BROWSERS, SLOW_S, Bench, Target, cpu_of, say
from benchmarks.rounds import Figures, ratio, ratios_by_turn, run_in_turns
from benchmarks.visitors import send
from devtools.processes import Web

AT_ONCE = 1000  # addresses and events in a call
CALLS = 12  # in a turn: a key may make 600 a minute
PEOPLE = 400  # who unsubscribe in a turn
MANY_TURNS = 12
SIDE_BY_SIDE = 4
FIRM_HOST = "127.0.0.1:5000"  # as PUBLIC_URL says
HIDDEN = ("tokens",)  # of the facts, not for the floor


class Served:
    """gunicorn with one process of 8 threads."""

    def __init__(self, web: Web, facts: Mapping[str, Any]) -> None:
        self.port, self.facts = web.port, facts
        self.process = psutil.Process(web.pid)

    def rss_mb(self) -> float:
        return max(child.memory_info().rss for child in self.process.children()) / 2**20

    def ask(self, method: str, path: str, body: Any = None) -> float:
        """Send one call with the key on a connection of its own; return how long the whole answer took."""
        question = call(method, path, str(self.facts["key"]), body)
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(question)
            head = connection.recv(1 << 18)
            while connection.recv(1 << 18):
                pass
        took = time.perf_counter() - began
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head[:600].decode())
        return took


def call(method: str, path: str, key: str, body: Any = None, *, stays_open: bool = False) -> bytes:
    payload = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: {FIRM_HOST}\r\nAuthorization: Bearer {key}\r\n"
    head += "Accept: application/x-ndjson, application/json;q=0.9\r\n"
    if not stays_open:
        head += "Connection: close\r\n"
    if payload:
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
    return head.encode() + b"\r\n" + payload


@dataclass
class Sides:
    """asapp and the floor over the same database."""

    kind: str
    ours: Served
    bare: Served
    turns: int
    targets: list[Target] = field(default_factory=list)


def senders(bench: Bench) -> list[Target]:
    contacts = max(bench.options.contacts)
    found = []
    for place in bench.house.places:
        people = PEOPLE * MANY_TURNS
        database = place.create()
        facts = bench.house.call("sender_rows", "prepare", database, contacts=contacts, links=people)
        with served_both(bench, database, facts) as (ours, bare):
            sides = Sides(place.kind, ours, bare, bench.options.rounds)
            measure_lines(sides, contacts)
            measure_may_send(sides, contacts)
            measure_events(sides)
            measure_unsubscribes(sides)
            found += sides.targets
        place.drop(database)
        found += measure_prepared_send(bench, place)
    return found


@contextmanager
def served_both(bench: Bench, database: Database, facts: Mapping[str, Any]) -> Iterator[tuple[Served, Served]]:
    config, log = bench.house.config(database), bench.house.log
    known = json.dumps({name: value for name, value in facts.items() if name not in HIDDEN})
    with ExitStack() as open_:
        ours = open_.enter_context(Web(config, log))
        bare = Web(config, log, application="benchmarks.bare_api:app")
        bare.environ = {**bare.environ, "BENCH_FACTS": known}
        open_.enter_context(bare)
        yield Served(ours, facts), Served(bare, facts)


def timed(served: Served, run: Callable[[], float]) -> dict[str, Any]:
    """run: returns seconds."""
    before = cpu_of(served.process)
    seconds = run()
    return {"s": seconds, "cpu_s": cpu_of(served.process) - before}


def say_side_by_side(figures: Mapping[str, Figures], unit: str = "ms", scale: float = 1000) -> None:
    ours = figures["asapp"]
    for name, each in figures.items():
        values = [value * scale for value in each.values("s")]
        line = f"  {name:<34} {median(values):.1f} ({min(values):.1f}–{max(values):.1f}) {unit}"
        line += f"  CPU of the web process {each.median('cpu_s') * scale:.1f} {unit}"
        if each is not ours:
            times = f"{ratio(ours, each, 's'):.2f}× its time (by turn {ratios_by_turn(ours, each, 's')})"
            line += f"  asapp takes {times}, {ratio(ours, each, 'cpu_s'):.2f}× its CPU"
        say(line)


def measure_lines(sides: Sides, contacts: int) -> None:
    say(f"\n{contacts:,} recipients as lines, gunicorn with one process of 8 threads, {sides.kind}")
    path = f"/api/v1/lists/{sides.ours.facts['list_id']}/recipients"
    sides.ours.ask("GET", "/api/v1/advisors")
    before, most = sides.ours.rss_mb(), 0.0

    def ours() -> dict[str, Any]:
        nonlocal most
        measured = timed(sides.ours, partial(sides.ours.ask, "GET", path))
        most = max(most, peak_rss_mb(sides.ours))
        return measured

    contenders = {
        "asapp": ours,
        "floor, the same bytes": lambda: timed(sides.bare, partial(sides.bare.ask, "GET", "/recipients")),
        "without Ids and links": lambda: timed(sides.bare, partial(sides.bare.ask, "GET", "/recipients?bare=1")),
    }
    figures = run_in_turns(contenders, sides.turns)
    say_side_by_side(figures, "s", 1)
    say(f"  RSS of the web process: {before:.0f} MB before, at most {most:.0f} MB")
    say(f"  lines of asapp and of the floor: {compare_lines(sides, path)}")
    label = f"{contacts:,} recipients as lines, {sides.kind}"
    of_floor = ratio(figures["asapp"], figures["floor, the same bytes"], "s")
    sides.targets.append(Target(f"{label}, of the floor", of_floor, 1.5, 1.3))
    sides.targets.append(Target(f"{label}: RSS that comes with them, MB", most - before, 20, 10, "{:.0f}"))


def peak_rss_mb(served: Served) -> float:
    """The most that the process that answers has held so far."""
    (child,) = served.process.children()
    with Path(f"/proc/{child.pid}/status").open() as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def compare_lines(sides: Sides, path: str) -> str:
    """Do both write the same lines, in whatever order?"""
    ours, bare = (sorted(read_lines(each, where)) for each, where in ((sides.ours, path), (sides.bare, "/recipients")))
    if ours != bare:
        raise RuntimeError("asapp and the floor wrote different lines")
    return f"the same, {len(ours):,}"


def read_lines(served: Served, path: str) -> list[bytes]:
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(call("GET", path, str(served.facts["key"])))
        with connection.makefile("rb") as answer:
            while answer.readline().strip():
                pass
            body = bytearray()
            while size := int(answer.readline(), 16):
                body += answer.read(size)
                answer.readline()
    return bytes(body).splitlines()


def measure_may_send(sides: Sides, contacts: int) -> None:
    say(f"\nmay-send of {AT_ONCE:,} addresses among {contacts:,} contacts, {sides.kind}")
    numbers = range(0, contacts, max(1, contacts // (AT_ONCE - 100)))
    emails = [f"person.{n}@fjord{n % 97}.example" for n in numbers][: AT_ONCE - 100]
    emails += [f"stranger.{n}@fjord.example" for n in range(50)]
    emails += [f"refusing.{n}@fjord.example" for n in range(AT_ONCE - len(emails))]
    body = {"advisor_id": sides.ours.facts["advisor_id"], "emails": emails}
    figures = ask_in_turn(sides, "/api/v1/may-send", "/may-send", lambda: body)
    label = f"may-send of {AT_ONCE:,} among {contacts:,}, {sides.kind}: ms"
    sides.targets.append(Target(label, figures["asapp"].median("s") * 1000, 40, 20, "{:.0f}"))


def measure_events(sides: Sides) -> None:
    say(f"\n{AT_ONCE:,} events in one call, {sides.kind}")
    figures = ask_in_turn(sides, "/api/v1/events", "/events", partial(new_events, sides.ours.facts))
    label = f"{AT_ONCE:,} events in one call, {sides.kind}: ms"
    sides.targets.append(Target(label, figures["asapp"].median("s") * 1000, 250, 120, "{:.0f}"))


def new_events(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Events about addresses that nothing was told of before."""
    mailing, at = secrets.token_hex(6), datetime.now(UTC).isoformat()
    about = {"type": "unsubscribed", "advisor_id": facts["advisor_id"], "at": at}
    return {"events": [{"id": f"{mailing}-{n}", "email": f"{n}@{mailing}.example", **about} for n in range(AT_ONCE)]}


def ask_in_turn(sides: Sides, ours: str, bare: str, body: Callable[[], Any]) -> dict[str, Figures]:
    """Ask one call after the other; a turn is the median of some."""

    def ask(served: Served, path: str) -> dict[str, Any]:
        bodies = [body() for _ in range(CALLS)]
        return timed_each(served, path, bodies)

    contenders = {"asapp": partial(ask, sides.ours, ours), "floor": partial(ask, sides.bare, bare)}
    figures = run_in_turns(contenders, sides.turns)
    say_side_by_side(figures)
    return figures


def timed_each(served: Served, path: str, bodies: list[Any]) -> dict[str, Any]:
    before = cpu_of(served.process)
    times = [served.ask("POST", path, each) for each in bodies]
    return {"s": median(times), "cpu_s": (cpu_of(served.process) - before) / len(times)}


def measure_unsubscribes(sides: Sides) -> None:
    say(f"\nUnsubscribe POST of mail programs, {BROWSERS} at a time, each with a link of its own, {sides.kind}")
    tokens = iter(sides.ours.facts["tokens"])
    click = b"List-Unsubscribe=One-Click"
    thanks = b"GET /o/%s/thanks HTTP/1.1\r\nHost: %s\r\n\r\n" % (
        str(sides.ours.facts["slug"]).encode(),
        FIRM_HOST.encode(),
    )

    def post() -> bytes:
        head = f"POST /u/{next(tokens)} HTTP/1.1\r\nHost: {FIRM_HOST}\r\n"
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(click)}\r\n\r\n"
        return head.encode() + click

    contenders = {
        "asapp": lambda: crowd(sides.ours, [post() for _ in range(PEOPLE)]),
        "the bare thanks page": lambda: crowd(sides.ours, [thanks] * PEOPLE),
    }
    figures = run_in_turns(contenders, min(sides.turns, MANY_TURNS - 1))
    for name, each in figures.items():
        say(f"  {name:<22} {each.spread('a_second', ',.0f')} requests/s  CPU {each.spread('cpu_ms')} ms a request")
    ours, page = figures["asapp"], figures["the bare thanks page"]
    say(f"  {ratio(ours, page, 'a_second'):.0%} of its requests/s (by turn {ratios_by_turn(ours, page, 'a_second')})")
    label = f"unsubscribe POST, {sides.kind}, of the bare thanks page: requests/s"
    value = ratio(ours, page, "a_second") * 100
    sides.targets.append(Target(label, value, 70, 90, "{:.0f} %", is_least=True))


def crowd(served: Served, requests: list[bytes]) -> dict[str, Any]:
    before, began = cpu_of(served.process), time.perf_counter()
    send(served.port, requests, BROWSERS, 0.0, b"200")
    took = time.perf_counter() - began
    spent = cpu_of(served.process) - before
    return {"a_second": len(requests) / took, "cpu_ms": spent / len(requests) * 1000}


def measure_prepared_send(bench: Bench, place: Place) -> list[Target]:
    contacts = min(bench.options.contacts)
    # The simulated org takes time of its own for 2,000 records, so the waiting is measured as well: by a bare client.
    say(f"\nA send to {contacts:,} contacts is prepared, {SLOW_S * 1000:.0f} ms a call, {place.kind}")
    running, template = bench.org(contacts), bench.synced(place, contacts)
    calls: list[int] = []

    def ours() -> dict[str, Any]:
        mark = running.mark()
        with bench.copy(place, template) as database:
            measured = bench.house.call("sender_rows", "prepare_send", database, **template.facts)
        calls.append(running.api_calls(mark))
        return measured

    accounts = [{"user_id": running.user_id, **running.tokens(running.user_id)}]
    bare = partial(
        bench.house.call, "floors", "calls_by_id", url=running.url, accounts=accounts, side_by_side=SIDE_BY_SIDE
    )
    with running.slow(SLOW_S):
        ours()
        looks = max(calls) - 1  # beside the one call of a sync without a change
        waits = 1 + ceil(looks / SIDE_BY_SIDE)
        waiting = partial(bench.house.call, "floors", "wait", times=waits, seconds=SLOW_S)
        contenders = {"asapp": ours, "the same calls, bare": bare, "pure waiting": waiting}
        figures = run_in_turns(contenders, bench.options.rounds, warm_up=0)
    say_side_by_side(figures, "s", 1)
    say(f"  {max(calls)} calls, {looks} of them by Id, {SIDE_BY_SIDE} side by side: {waits} waits")
    of_calls = ratio(figures["asapp"], figures["the same calls, bare"], "s")
    return [
        Target(f"a send to {contacts:,} is prepared, {place.kind}, of waiting for its answers", of_calls, 1.3, 1.15)
    ]
