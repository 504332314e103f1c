"""People keep the state that they asked for, in Salesforce and on the sign-up page, in whatever order things happen.

Hypothesis makes up stories of one advisor: sign-ups, deliveries whose answers are lost, syncs, edits in the org between any two
calls, people deleted and erased here, Disconnect with and without removal; and scenes, a few steps about one person that would
rarely follow each other by chance. After each step an oracle checks the invariants, and more of them once nothing changes
any more. `pytest tests/properties -k people --hypothesis-profile=long` runs 1,000 stories.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from asapp.core.extensions import db
from asapp.models import SyncRun
from orgsim import Running
from tests.properties.people_life import (
    AFTER_A_DAY,
    HERE,
    IN_THE_ORG,
    IN_TROUBLE,
    NEWCOMER,
    NEWCOMERS,
    ORDINARY,
    TO_OUR_LEAD,
    Deed,
    DeedAtCall,
    Deliver,
    PeopleLife,
    Quiet,
    Step,
    Sync,
)
from tests.properties.people_oracle import Oracle

IS_LONG = settings.get_current_profile_name() == "long"
STORIES = 1000 if IS_LONG else 8

picks = st.integers(0, 11)
deeds = st.builds(Deed, st.sampled_from(IN_THE_ORG) | st.sampled_from(HERE), picks, picks)
meanwhile = st.lists(st.builds(DeedAtCall, st.integers(1, 6), deeds), max_size=3).map(tuple)
syncs = st.builds(Sync, st.sampled_from([ORDINARY, ORDINARY, AFTER_A_DAY, IN_TROUBLE]), meanwhile, picks)
deliveries = st.builds(Deliver, st.booleans(), meanwhile)
steps = deeds | deeds | deeds | syncs | deliveries
people = st.builds(
    Deed, st.sampled_from(["add", "add", "add_opted_out", "add_lead", "sign_up", "sign_up"]), picks, picks
)


def lose_an_answer(end: str, number: int, who: int) -> list[Step]:
    """Let the Lead that was made be changed before we search for it."""
    begin: list[Step] = [Deed("add_by_hand", number, who)] if number % 2 else []
    return [*begin, Deed("sign_up", number, who), Deliver(True), Deed(end, number, who), Deliver()]


def link_to_one_who_opted_out(number: int, who: int) -> list[Step]:
    """The person has a Lead, and another contact of the advisor's has the address."""
    there = Deed("add_opted_out_lead", number, who)
    return [Deed("add_by_hand", number, who), there, Deed("sign_up", number, who), Deliver()]


def sign_up_after_erasure(is_a_contact: bool, is_removed: bool, is_here: bool, number: int, who: int) -> list[Step]:
    """Erase a contact in Salesforce or a Lead, whose row came with a sync or went with the connection; then sign up again."""
    add = Deed("add" if is_a_contact else "sign_up", two=who)
    begin: list[Step] = [add, Sync()] if is_a_contact and is_here else [add, Deed("sign_up", number, who), Deliver()]
    end: list[Step] = [Deed("disconnect_and_remove"), Deed("reconnect")] if is_removed else []
    return [*begin, Deed("erase_at", number, who), *end, Deed("sign_up", number, who), Deliver()]


who = st.integers(NEWCOMER, NEWCOMER + len(NEWCOMERS) - 1)
scenes = (
    st.builds(lose_an_answer, st.sampled_from(TO_OUR_LEAD), picks, who)
    | st.builds(link_to_one_who_opted_out, picks, who)
    | st.builds(sign_up_after_erasure, st.sampled_from([True, True, False]), st.booleans(), st.booleans(), picks, who)
)
few = st.lists(steps, max_size=7)
parts = st.builds(lambda before, scene, after: [*before, *scene, *after], few, scenes, few)


class PeopleStory(NamedTuple):
    """The contacts before the advisor's first sync, and the steps until each time of rest."""

    begins_with: list[Deed]
    first: list[Step]
    second: list[Step]

    def steps(self) -> list[Step]:
        return [*self.begins_with, Deliver(), Sync(), *self.first, Quiet(), *self.second, Quiet()]


stories = st.builds(PeopleStory, st.lists(people, min_size=3, max_size=7), parts, parts)


def tell(app: Flask, story: PeopleStory) -> int:
    """Run a story; return how many steps it had."""
    life = PeopleLife(app)
    try:
        for step in story.steps():
            here = life.take(step)
            oracle = Oracle(life.user, life.records(), here, life.memory)
            wrong = list(oracle.at_rest() if isinstance(step, Quiet) else oracle.after_each_step())
            assert not wrong, "\n".join([f"after {step}:", *wrong, *map(str, here.sign_ups)])
            check_runs(life)
    finally:
        life.close()
    return len(story.steps())


def check_runs(life: PeopleLife) -> None:
    for run in db.session.scalars(select(SyncRun).where(SyncRun.connection_id == life.connection_id)):
        classes = (
            run.deactivated,
            run.reactivated,
            run.created,
            run.updated,
            run.adopted,
            run.unchanged,
            run.nominated,
        )
        assert run.read == sum(classes) + sum(run.skipped.values()), f"a run read {run.read} rows and counted others"
        if run.id not in life.excused:
            assert run.status in ("complete", "held"), f"a run is {run.status}: {run.error_code} {run.error_detail}"
    db.session.rollback()


@pytest.mark.slow
@pytest.mark.timeout(0 if IS_LONG else 300)
def test_people_stay_true(app: Flask, org: Running, record_property: Callable[[str, Any], None]) -> None:
    counted = {"stories": 0, "steps": 0}

    @settings(max_examples=STORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(story=stories)
    def live_through(story: PeopleStory) -> None:
        counted["stories"] += 1
        counted["steps"] += tell(app, story)

    live_through()
    for name, number in counted.items():
        record_property(name, number)
