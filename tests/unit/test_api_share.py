"""When a firm's Salesforce calls are used up: our own share stops every run, the org's total only scheduled ones."""

from __future__ import annotations

import pytest

from asapp.connections.api_budget import Allowance
from asapp.models import RunTrigger
from asapp.salesforce.errors import LimitReached

SHARE, ORG_ALLOWED = 10, 100
EVERY_TRIGGER = pytest.mark.parametrize("trigger", list(RunTrigger))


def allowance(ours: int = 0, org_used: int | None = 0, share: int | None = SHARE) -> Allowance:
    return Allowance(ours, share, org_used, ORG_ALLOWED)


def refusal(figures: Allowance, trigger: RunTrigger) -> str | None:
    """Return the code of the refusal of another call; None if the call may be made."""
    try:
        figures.check(trigger)
    except LimitReached as error:
        return error.code
    return None


@EVERY_TRIGGER
def test_the_last_call_of_our_share_may_be_made(trigger: RunTrigger) -> None:
    assert refusal(allowance(ours=SHARE - 1), trigger) is None


@EVERY_TRIGGER
def test_no_run_makes_a_call_beyond_our_share(trigger: RunTrigger) -> None:
    assert refusal(allowance(ours=SHARE), trigger) == "share_used_up"


@EVERY_TRIGGER
def test_where_the_orgs_total_is_unknown_calls_are_made(trigger: RunTrigger) -> None:
    assert refusal(allowance(ours=1000, share=None, org_used=None), trigger) is None


@pytest.mark.parametrize(("org_used", "code"), [(89, None), (90, "org_nearly_full"), (91, "org_nearly_full")])
def test_scheduled_runs_stop_where_the_org_has_used_nine_tenths(org_used: int, code: str | None) -> None:
    assert refusal(allowance(org_used=org_used), RunTrigger.SCHEDULED) == code


@pytest.mark.parametrize("trigger", [RunTrigger.MANUAL, RunTrigger.APPROVAL])
def test_a_run_that_the_advisor_asked_for_goes_on_where_the_org_is_nearly_full(trigger: RunTrigger) -> None:
    assert refusal(allowance(org_used=ORG_ALLOWED), trigger) is None


def test_figures_of_the_org_that_are_too_old_stop_no_scheduled_run() -> None:
    assert refusal(allowance(org_used=None), RunTrigger.SCHEDULED) is None
