"""What counts for a firm's allowance: our calls of the last 24 hours, and the org's figures while they are fresh."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask

from asapp.connections.api_budget import allowance_of, allowances, record_usage
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import ApiUsage
from tests.factories import make_partner, save

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("began", "counts"),
    [
        (timedelta(0), True),
        (DAY - MINUTE, True),
        (DAY + HOUR - MINUTE, True),  # the last minute of this hour is less than 24 hours ago
        (DAY + HOUR, False),
    ],
)
def test_an_hour_counts_until_all_of_it_is_a_day_old(app: Flask, began: timedelta, counts: bool) -> None:
    partner, now = make_partner(), utcnow()
    save(ApiUsage(partner_id=partner.id, hour=now - began, calls=7, lead_calls=2))
    expected = (7, 2) if counts else (0, 0)
    of_one, of_all = allowance_of(db.session(), partner.id, now), allowances(db.session(), now)[partner.slug]
    assert (of_one.ours, of_one.lead_calls) == (of_all.ours, of_all.lead_calls) == expected


@pytest.mark.parametrize(
    ("age", "used"), [(timedelta(0), 950), (6 * HOUR - MINUTE, 950), (6 * HOUR, None), (DAY, None)]
)
def test_the_orgs_own_figure_counts_while_it_is_fresh(app: Flask, age: timedelta, used: int | None) -> None:
    now = utcnow()
    seen = {"org_calls_used": 950, "org_calls_allowed": 1000, "org_calls_seen_at": now - age}
    partner = make_partner(**seen)
    allowance = allowance_of(db.session(), partner.id, now)
    assert (allowance.org_used, allowance.org_allowed) == (used, 1000)
    assert allowance.is_org_full is (used is not None)


@pytest.mark.parametrize("has_begun_again", [False, True])
def test_an_answer_ends_the_pause_of_its_question_and_none_that_began_since(app: Flask, has_begun_again: bool) -> None:
    now = utcnow()
    asked_in, later = now - HOUR, now + HOUR
    partner = make_partner(paused_until=later if has_begun_again else asked_in)
    record_usage(db.session(), partner.id, None, asked_in, now)
    db.session.commit()
    assert partner.paused_until == (later if has_begun_again else None)
