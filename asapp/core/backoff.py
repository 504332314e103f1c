"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from datetime import timedelta

JITTER = 0.1
MOST_DOUBLINGS = 16


def wait_after(failures: int, first: timedelta, longest: timedelta) -> timedelta:
    """Return the wait after this many failures in a row: first, twice that, four times … up to longest."""
    doubled: timedelta = first * 2 ** min(max(failures - 1, 0), MOST_DOUBLINGS)
    return min(doubled, longest)


def with_jitter(wait: timedelta) -> timedelta:
    """Return the wait, made a little shorter or longer, so that things that failed together are not retried together."""
    return wait * random.uniform(1 - JITTER, 1 + JITTER)
