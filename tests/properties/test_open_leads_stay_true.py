"""Open Leads stay in step with Salesforce: edited, merged, converted, given away, with the firm's setting turned off and on.

Hypothesis edits an org's Leads, kills runs between any two commits, and compares the tables with an oracle that reads the org's
own store. `pytest tests/properties --hypothesis-profile=long` goes on for much longer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from orgsim import Running
from tests.properties.open_leads_life import VERBS, LeadEdit, LeadLife
from tests.properties.org_story import PAGE

picks = st.integers(0, 11)
edits = st.builds(LeadEdit, st.sampled_from(VERBS), picks, picks)


class OpenLeadsStayTrue(RuleBasedStateMachine):
    app: Flask
    life: LeadLife

    @initialize(rows_a_page=st.sampled_from([1, 3, PAGE]), number=st.integers(3, 14))
    def begin(self, rows_a_page: int, number: int) -> None:
        self.life = LeadLife(self.app, rows_a_page)
        for pick in range(number):
            self.life.edit(LeadEdit("add", pick, pick))
        self.life.story.advance(3600)
        self.life.run()

    @rule(edits=st.lists(edits, min_size=1, max_size=5))
    def edit(self, edits: list[LeadEdit]) -> None:
        for each in edits:
            self.life.edit(each)

    @rule()
    def sync(self) -> None:
        self.life.run()

    @rule(commits=st.integers(0, 24))
    def sync_and_die_before_a_commit(self, commits: int) -> None:
        self.life.run(die_at_commit=commits)

    @rule(seconds=st.sampled_from([40, 14 * 60, 86400]))
    def let_time_pass(self, seconds: int) -> None:
        self.life.story.advance(seconds)

    @rule()
    def come_to_rest(self) -> None:
        self.life.settle_leads()

    @invariant()
    def what_is_always_true(self) -> None:
        if hasattr(self, "life"):
            self.life.steps += 1
            self.life.check()

    def teardown(self) -> None:
        if not hasattr(self, "life"):
            return
        try:
            if sys.exc_info()[0] is None:  # otherwise a rule has failed already
                self.life.settle_leads()
        finally:
            self.life.close()


IS_LONG = settings.get_current_profile_name() == "long"


@pytest.mark.slow
@pytest.mark.timeout(0 if IS_LONG else 300)
def test_open_leads_stay_true(app: Flask, org: Running, record_property: Callable[[str, Any], None]) -> None:
    counted = {"examples": 0, "steps": 0}

    class Counted(OpenLeadsStayTrue):
        def teardown(self) -> None:
            counted["examples"] += 1
            counted["steps"] += self.life.steps
            super().teardown()

    Counted.app = app
    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=300 if IS_LONG else 8,
            stateful_step_count=40 if IS_LONG else 14,
            deadline=None,  # an example makes dozens of syncs over HTTP
            suppress_health_check=[HealthCheck.too_slow],  # the same
        ),
    )
    for name, number in counted.items():
        record_property(name, number)
