"""Contacts stay in step with Salesforce, whatever happens there, here and to the runs in between.

Hypothesis drives an org and an advisor, kills runs between any two commits, and compares the tables with an oracle that
reads the org's own store. `pytest tests/properties --hypothesis-profile=long` goes on for much longer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orgsim import Running
from tests.properties.connection_life import ACTS, DEEDS, FAULT_KINDS, FAULTS, Act, Disturbance, Life, Trouble
from tests.properties.org_story import LATE_SECONDS, PAGE, VERBS, Edit

picks = st.integers(0, 11)
lateness = st.sampled_from([0, 0, 0, *range(len(LATE_SECONDS))])
edits = st.builds(Edit, st.sampled_from(VERBS), picks, picks, picks, lateness)
acts = st.builds(Act, st.sampled_from(ACTS), picks, picks)
deeds = edits | edits | acts | st.sampled_from(DEEDS)
disturbances = st.builds(Disturbance, st.integers(1, 10), deeds)
faults = st.builds(
    Trouble, st.sampled_from(FAULTS), st.sampled_from(FAULT_KINDS), st.sampled_from([1, 3, 6]), st.integers(0, 3)
)
NONE, NAMED, UNNAMED = "none", "survivors are named", "survivors are not named"  # whether an org has person accounts
jumps = st.sampled_from([1, 40, 5 * 60, 14 * 60, 6 * 3600, 3 * 86400, 16 * 86400])


class ContactsStayTrue(RuleBasedStateMachine):
    app: Flask

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(self.app)
        self.has_many = False

    @initialize(
        rows_a_page=st.sampled_from([1, 2, 3, 5, PAGE]),
        persons=st.sampled_from([NONE, NONE, NAMED, UNNAMED]),
        people=st.lists(edits.map(lambda edit: edit._replace(verb="add", late=0)), min_size=2, max_size=9),
        listed=st.lists(picks, max_size=4),
    )
    def begin(self, rows_a_page: int, persons: str, people: list[Edit], listed: list[int]) -> None:
        """Start with an advisor who synced an hour after the last change, and made a few lists."""
        self.life.rows_a_page = rows_a_page
        if persons != NONE:
            self.life.use_persons(survivors_are_named=persons == NAMED)
        for each in people:
            self.life.story.carry_out(each)
        self.life.story.advance(3600)
        self.life.run()
        for number in listed:
            self.life.act(Act("make_list", number))

    @rule(edits=st.lists(edits, min_size=1, max_size=4))
    def edit(self, edits: list[Edit]) -> None:
        for each in edits:
            self.life.story.carry_out(each)

    @rule(acts=st.lists(acts, min_size=1, max_size=3))
    def act(self, acts: list[Act]) -> None:
        for each in acts:
            self.life.act(each)

    @rule(seconds=jumps)
    def let_time_pass(self, seconds: int) -> None:
        self.life.story.advance(seconds)

    @precondition(lambda self: not self.has_many and self.life.rows_a_page == PAGE)
    @rule()
    def import_many(self) -> None:
        self.has_many = True
        self.life.story.add_many()

    @rule()
    def sync(self) -> None:
        self.life.run()

    @rule(commits=st.integers(0, 24))
    def sync_and_die_before_a_commit(self, commits: int) -> None:
        self.life.run(die_at_commit=commits)

    @rule(disturbances=st.lists(disturbances, min_size=1, max_size=4), commits=st.none() | st.integers(5, 40))
    def sync_while_things_happen(self, disturbances: list[Disturbance], commits: int | None) -> None:
        self.life.run(disturbances, die_at_commit=commits)

    @rule(faults=st.lists(faults, min_size=1, max_size=2), disturbances=st.lists(disturbances, max_size=2))
    def sync_through_faults(self, faults: list[Trouble], disturbances: list[Disturbance]) -> None:
        self.life.run(disturbances, faults)

    @rule(discard=st.booleans())
    def come_to_rest(self, discard: bool) -> None:
        self.life.settle(discard=discard)

    @invariant()
    def what_is_always_true(self) -> None:
        self.life.steps += 1
        self.life.check()

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # otherwise a rule has failed already
                self.life.rest()
        finally:
            self.life.close()


IS_LONG = settings.get_current_profile_name() == "long"


def stateful_settings() -> settings:
    return settings(
        max_examples=500 if IS_LONG else 14,
        stateful_step_count=50 if IS_LONG else 30,
        deadline=None,  # an example makes dozens of syncs over HTTP
        suppress_health_check=[HealthCheck.too_slow],  # the same
    )


@pytest.mark.slow
@pytest.mark.timeout(0 if IS_LONG else 300)
def test_contacts_stay_true(app: Flask, org: Running, record_property: Callable[[str, Any], None]) -> None:
    counted = {"examples": 0, "steps": 0}

    class Counted(ContactsStayTrue):
        def teardown(self) -> None:
            counted["examples"] += 1
            counted["steps"] += self.life.steps
            super().teardown()

    Counted.app = app
    run_state_machine_as_test(Counted, settings=stateful_settings())
    for name, number in counted.items():
        record_property(name, number)
