"""How often a firm's connections are checked, so that its share of calls lasts for a day."""

from __future__ import annotations

import pytest

from asapp.sync.interval import CALLS_BESIDE, MINUTES_A_DAY, PART_FOR_CHECKS, stretch


@pytest.mark.parametrize(
    ("setting", "connections", "share", "minutes"),
    [
        (15, 10, 10_000, 15),  # plenty
        (15, 75, 10_000, 15),  # exactly enough: 96 checks and 4 calls beside, of 75 %
        (15, 76, 10_000, 16),
        (15, 150, 10_000, 32),
        (60, 150, 10_000, 60),  # the firm wants it less often anyway
        (15, 5000, 10_000, MINUTES_A_DAY),
        (15, 10, 0, MINUTES_A_DAY),
        (15, 10_000, None, 15),  # the org has not reported its total
        (15, 0, 10, 15),
        (1, 1, 10_000, 5),
        (10_080, 5000, 10_000, 10_080),
    ],
)
def test_the_interval_is_the_setting_or_what_the_share_lasts_for(
    setting: int, connections: int, share: int | None, minutes: int
) -> None:
    interval = stretch(setting, connections, share)
    assert interval.minutes == minutes
    assert interval.is_stretched == (minutes > setting)


@pytest.mark.parametrize("connections", [80, 333, 1000])
def test_a_stretched_interval_uses_the_share_up_and_no_more(connections: int) -> None:
    share = 20_000
    minutes = stretch(15, connections, share).minutes

    def calls(minutes: float) -> float:
        return connections * (MINUTES_A_DAY / minutes + CALLS_BESIDE)

    assert calls(minutes) <= share * PART_FOR_CHECKS < calls(minutes - 1) or minutes == 15
