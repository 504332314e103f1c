"""The line and the bars of a picture over time, as numbers."""

from __future__ import annotations

import pytest

from asapp.web.plot import HEIGHT, LANE, WIDTH, draw, scale_of


@pytest.mark.parametrize(
    ("least", "most", "foot", "step"),
    [(2526, 2539, 2520, 10), (0, 0, 0, 1), (5, 5, 5, 1), (0, 100_000, 0, 50_000), (7, 10, 6, 2), (99, 201, 0, 200)],
)
def test_a_scale_begins_at_a_round_figure_and_holds_every_value(least: int, most: int, foot: int, step: int) -> None:
    assert scale_of(least, most) == (foot, step)
    assert foot <= least <= most <= foot + 2 * step


def test_a_line_goes_from_edge_to_edge_and_up_is_more() -> None:
    plot = draw([20, 30, 40], [(0, 0), (0, 0), (0, 0)])
    assert plot.scale == (40, 30, 20)
    assert plot.line == f"0.0 {HEIGHT:.1f} {WIDTH / 2:.1f} {HEIGHT / 2:.1f} {WIDTH:.1f} 0.0"
    assert plot.bars == []


def test_losses_hang_from_the_line_and_never_leave_the_picture() -> None:
    plot = draw([9, 9, 9], [(500, 100), (0, 0), (0, 300)])
    assert [bar.fill for bar in plot.bars] == ["fill-b", "fill-c", "fill-c"]
    opted_out, left, later = plot.bars
    assert (opted_out.y, left.y, later.y) == (0, opted_out.height, 0)
    assert left.y + left.height == LANE
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in plot.bars)
    assert draw([1, 1], [(1, 0), (0, 0)]).bars[0].height == LANE / 10  # one person is no full bar
