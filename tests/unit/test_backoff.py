"""Waits between attempts: doubled from failure to failure, with a bound, and a little apart from each other."""

from __future__ import annotations

from datetime import timedelta

import pytest

from asapp.core.backoff import wait_after, with_jitter

FIRST, LONGEST = timedelta(seconds=15), timedelta(hours=1)


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(0, 15), (1, 15), (2, 30), (3, 60), (4, 120), (8, 1920), (9, 3600), (10_000, 3600)]
)
def test_the_wait_doubles_with_each_failure_up_to_the_longest(failures: int, wait_s: int) -> None:
    assert wait_after(failures, FIRST, LONGEST) == timedelta(seconds=wait_s)


def test_waits_differ_by_a_tenth_at_most() -> None:
    waits = {with_jitter(LONGEST) for _ in range(500)}
    assert 0.9 * LONGEST <= min(waits) < 0.95 * LONGEST
    assert 1.05 * LONGEST < max(waits) <= 1.1 * LONGEST
