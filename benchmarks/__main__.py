"""`make bench`, or `make bench ARGS="full nochange --contacts 20000"`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import big_books, parts
from benchmarks.checks import arrival, drill, rounds
from benchmarks.house import BenchHouse
from benchmarks.lists import lists
from benchmarks.parts import Bench, Options, Target, say
from benchmarks.senders import senders
from benchmarks.stops import stop

PARTS = {
    part.__name__: part
    for part in (*parts.PARTS.values(), rounds, drill, arrival, lists, big_books.pages, senders, stop)
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure asapp against floors, side by side.")
    parser.add_argument(
        "parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"of {', '.join(PARTS)}; else all"
    )
    parser.add_argument("--contacts", default="20000,100000", help="sizes of the full syncs, with commas")
    parser.add_argument("--million", action="store_true", help="a full sync of 1,000,000 contacts as well (minutes)")
    parser.add_argument("--rounds", type=int, default=5, help="counted turns of each contender")
    parser.add_argument("--due", type=int, default=100_000, help="connections that two workers check")
    parser.add_argument("--advisors", type=int, default=24, help="syncs for two workers")
    parser.add_argument("--seconds", type=float, default=4.0, help="of polling in each turn")
    parser.add_argument("--connections", type=int, default=500, help="of the firm that is stopped")
    parser.add_argument("--databases", default="sqlite,postgresql")
    return parser.parse_args(given)


def describe_machine() -> str:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in ("SQLAlchemy", "rq", "gunicorn", "psycopg", "orjson"))
    return (
        f"{os.cpu_count()} cores ({cpu.partition(': ')[2]}), {memory:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {libraries}"
    )


def say_targets(targets: Sequence[Target]) -> None:
    say("\nTargets")
    width = max(len(target.what) for target in targets)
    for target in targets:
        sign = "≥" if target.is_least else "≤"
        bounds = f"must {sign} {target.form.format(target.must)}, hoped {sign} {target.form.format(target.hoped)}"
        say(f"  {target.what:<{width}}  {target.form.format(target.value):>8}  {bounds:<36} {judge(target)}")


def judge(target: Target) -> str:
    if target.meets(target.hoped):
        return "met, as hoped"
    if target.meets(target.must):
        return "met"
    off = target.must / target.value if target.is_least else target.value / target.must if target.must else 0
    return f"MISSED by {abs(off - 1):.0%}" if off else "MISSED"


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    sizes = tuple(sorted(int(size) for size in options.contacts.split(",")))
    began = time.monotonic()
    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, python -m benchmarks {' '.join(given or sys.argv[1:])}")
    say(f"{describe_machine()}; load {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    say("Figures are medians (least–most) of the counted turns.")
    house = BenchHouse(options.databases.split(","))
    chosen = Options(
        sizes, options.million, options.rounds, options.due, options.advisors, options.seconds, options.connections
    )
    bench = Bench(house, chosen)
    targets: list[Target] = []
    try:
        for name in options.parts or PARTS:
            targets += PARTS[name](bench)
    finally:
        bench.close()
        house.close()
        if targets:
            say_targets(targets)
    say(f"\n{time.monotonic() - began:.0f} s; load {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
