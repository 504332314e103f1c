"""The drawing of a line with losses below it, as SVG attributes: the picture on the page Changes (changes/_over_time.html)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

WIDTH, HEIGHT, LANE = 600, 100, 30  # of the viewBoxes
NICE = (1, 2, 5)


class Bar(NamedTuple):
    """One part of a day's bar in the lane."""

    fill: str  # a class of asapp.css
    x: float
    y: float
    width: float
    height: float


class Plot(NamedTuple):
    """line: the points of the path. scale: the figures at its top, middle and foot."""

    line: str
    scale: tuple[int, int, int]
    bars: list[Bar]


def draw(values: Sequence[int], losses: Sequence[tuple[int, int]]) -> Plot:
    """Draw values, two or more, from left to right; losses: the lower bars' parts (opted out, left), as many."""
    low, step = scale_of(min(values), max(values))
    gap = WIDTH / (len(values) - 1)
    places = (
        f"{number * gap:.1f} {HEIGHT - (value - low) * HEIGHT / (2 * step):.1f}" for number, value in enumerate(values)
    )
    return Plot(" ".join(places), (low + 2 * step, low + step, low), list(_bars(losses, gap)))


def scale_of(least: int, most: int) -> tuple[int, int]:
    """Return (foot, step) so that least and most are within two steps from the foot; both are round numbers."""
    power = 1
    while True:
        for nice in NICE:
            step = nice * power
            low = least // step * step
            if low + 2 * step >= most:
                return low, step
        power *= 10


def _bars(losses: Sequence[tuple[int, int]], gap: float) -> Iterator[Bar]:
    highest = max((sum(parts) for parts in losses), default=0)
    a_person = min(LANE / 10, LANE / highest) if highest else 0.0
    width = min(12.0, gap * 0.6)
    for number, parts in enumerate(losses):
        y = 0.0
        for fill, part in zip(("fill-b", "fill-c"), parts, strict=True):
            if part:
                x = min(max(0.0, number * gap - width / 2), WIDTH - width)
                yield Bar(fill, round(x, 1), round(y, 1), round(width, 1), round(part * a_person, 1))
                y += part * a_person
