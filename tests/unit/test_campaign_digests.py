"""Whether the people of followed campaigns have changed, by the first page of their members."""

from __future__ import annotations

from typing import Any

import pytest

from asapp.salesforce.records import campaign_digests

SEMINAR, DINNER = "701cS0000000001AAA", "701cS0000000002AAA"
FIRST_PAGE = 3


def answer(*members: tuple[str, str]) -> dict[str, Any]:
    """Return what Salesforce answers. members: (campaign, person), newest first."""
    rows = [{"CampaignId": campaign, "ContactId": person, "LeadId": None} for campaign, person in members]
    return {"done": len(rows) <= FIRST_PAGE, "totalSize": len(rows), "records": rows[:FIRST_PAGE]}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    was, now = campaign_digests(before, [SEMINAR, DINNER]), campaign_digests(after, [SEMINAR, DINNER])
    assert was
    assert now
    return {each for each in was if was[each] != now[each]}


def test_a_digest_changes_with_the_people_of_its_campaign_alone() -> None:
    before = answer((SEMINAR, "a"), (DINNER, "b"))
    assert changed(before, answer((SEMINAR, "a"), (DINNER, "b"))) == set()
    assert changed(before, answer((SEMINAR, "c"), (SEMINAR, "a"), (DINNER, "b"))) == {SEMINAR}
    assert changed(before, answer((SEMINAR, "a"))) == {DINNER}
    assert changed(answer(), answer((DINNER, "b"))) == {DINNER}


def test_two_campaigns_without_people_differ() -> None:
    found = campaign_digests(answer(), [SEMINAR, DINNER])
    assert found
    assert found[SEMINAR] != found[DINNER]


def test_someone_beyond_the_first_page_leaves_while_another_joins_elsewhere() -> None:
    before = answer((SEMINAR, "a"), (DINNER, "b"), (DINNER, "c"), (SEMINAR, "d"))
    after = answer((DINNER, "e"), (SEMINAR, "a"), (DINNER, "b"), (DINNER, "c"))
    assert changed(before, after) == {SEMINAR, DINNER}


@pytest.mark.parametrize("broken", [{}, {"done": True, "records": [{"CampaignId": "x"}]}, {"done": True, "records": 5}])
def test_an_answer_that_can_not_be_read_is_none(broken: dict[str, Any]) -> None:
    assert campaign_digests(broken, [SEMINAR]) is None
