"""When the next sync is due: after the interval, or after failures soon and then later and later; never all at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from asapp.core.backoff import JITTER
from asapp.sync.schedule import FIRST_BACKOFF, MAX_BACKOFF_INTERVALS, next_sync_at

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
SAMPLES = 300


def waits(interval_minutes: int, failures: int = 0) -> list[timedelta]:
    return [next_sync_at(NOW, interval_minutes, failures) - NOW for _ in range(SAMPLES)]


def assert_around(found: list[timedelta], middle: timedelta) -> None:
    assert middle * (1 - JITTER) <= min(found)
    assert max(found) <= middle * (1 + JITTER)


@pytest.mark.parametrize("minutes", [5, 15, 60, 24 * 60])
def test_after_a_good_sync_the_next_is_an_interval_away(minutes: int) -> None:
    assert_around(waits(minutes), timedelta(minutes=minutes))


def test_connections_that_synced_together_do_not_meet_again() -> None:
    found = waits(60)
    assert len(set(found)) > SAMPLES * 0.9
    assert min(found) < timedelta(minutes=57)
    assert max(found) > timedelta(minutes=63)


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 64), (7, 128), (8, 240), (9, 240), (400, 240)],
)
def test_failures_wait_longer_from_one_to_the_next_up_to_four_intervals(failures: int, minutes: int) -> None:
    assert_around(waits(60, failures), timedelta(minutes=minutes))


def test_a_first_failure_is_tried_again_sooner_than_the_next_sync_would_be() -> None:
    assert max(waits(60, failures=1)) < min(waits(60))


def test_short_intervals_keep_their_cap() -> None:
    assert_around(waits(1, failures=10), timedelta(minutes=MAX_BACKOFF_INTERVALS))
    assert_around(waits(1, failures=1), FIRST_BACKOFF)
