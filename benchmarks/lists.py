"""Twenty lists of Salesforce, list views and campaigns, in a sync that has nothing else to do."""

from __future__ import annotations

from typing import Any

from benchmarks.house import BenchOrg, Place
from benchmarks.parts import Bench, Target, say, say_figures
from benchmarks.rounds import Figures, run_in_turns

VIEWS, CAMPAIGNS = 10, 10
PEOPLE = 2000  # on each
CONTACTS = 20_000  # at least, so that the views differ


def lists(bench: Bench) -> list[Target]:
    """Measure what a sync costs beside the waiting for the org: with lists to fill, and with lists as they were."""
    contacts = max(min(bench.options.contacts), CONTACTS)
    running = bench.org(contacts)
    chosen = make_lists(running)
    found = []
    for place in bench.house.places:
        say(f"\n{len(chosen)} lists of {PEOPLE:,} people each, read by a sync, {contacts:,} contacts, {place.kind}")
        found += lists_of(bench, place, running, contacts, chosen)
    return found


def make_lists(running: BenchOrg) -> list[tuple[str, str]]:
    """Make list views and campaigns in the org; return (Id, what it is about) of each."""
    people = [each["Id"] for each in running.look(f"contacts?owner_id={running.user_id}")]
    views = [running.ask("add_list_view", sobject="Contact", label=f"View {n}", where=some_of(n)) for n in range(VIEWS)]
    campaigns = [running.ask("add_campaign", owner_id=running.user_id, name=f"Campaign {n}") for n in range(CAMPAIGNS)]
    for number, campaign in enumerate(campaigns):
        start = number * PEOPLE % len(people)
        running.ask("add_members", campaign_id=campaign, people=(people[start:] + people)[:PEOPLE])
    return [*((each, "Contact") for each in views), *((each, "Campaign") for each in campaigns)]


def some_of(number: int) -> dict[str, Any]:
    """Return a condition that PEOPLE of the org's contacts meet, by the numbers in their addresses: two thousands of them."""
    thousand = number * 2 % 18 + 1
    of_thousands = [f"'person{each}___@many.example'" for each in (thousand, thousand + 1)]
    leaves = [{"field": "Email", "operator": "like", "values": [each]} for each in of_thousands]
    return {"conditions": leaves, "conjunction": "or"}


def lists_of(
    bench: Bench, place: Place, running: BenchOrg, contacts: int, chosen: list[tuple[str, str]]
) -> list[Target]:
    calls: list[int] = []

    def read(job: str) -> dict[str, Any]:
        with bench.copy(place, bench.synced(place, contacts)) as database:
            facts = bench.house.call("ours", job, database, **database.facts, chosen=chosen)
            mark = running.mark()
            measured = bench.house.call("ours", "sync", database, runs=facts["runs"])
            waited_s = sum(call["ms"] for call in running.look(f"calls?since={mark}") if "data" in call["tags"]) / 1000
            calls.append(running.api_calls(mark))
            on_lists = bench.house.call("ours", "count_members", database)["members"]
        if on_lists != facts["members"]:
            raise RuntimeError(f"{on_lists} people on the lists, not {facts['members']}")
        return {**measured, "waited_s": waited_s, "beside_s": measured["s"] - waited_s}

    contenders = {"filled": lambda: read("follow_lists"), "as they were": lambda: read("read_lists_again")}
    figures = run_in_turns(contenders, bench.options.rounds)
    say_figures(figures)
    for name, each in figures.items():
        say(f"  {name}: {each.spread('beside_s')} s beside {each.median('waited_s'):.2f} s of the org's")
    say(f"  API requests, as the org counted them: {max(calls)}")
    return [target(place, name, each) for name, each in figures.items()]


def target(place: Place, name: str, figures: Figures) -> Target:
    what = f"{VIEWS + CAMPAIGNS} lists of {PEOPLE:,}, {name}, {place.kind}: s beside the org's"
    return Target(what, figures.median("beside_s"), 3, 1.5, "{:.2f}")
