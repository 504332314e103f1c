"""How numbers, times and addresses are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from asapp.core.formats import read_in_zone_of
from asapp.web.filters import ago, breakable, moment

NOW = datetime(2026, 11, 23, 14, 32, tzinfo=UTC)


def test_a_time_carries_the_moment_itself() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert ago(elsewhere, NOW + timedelta(minutes=3)) == (
        '<time datetime="2026-11-23T14:32:00Z" title="23 November 2026, 14:32 UTC" class="near">3 minutes ago</time>'
    )
    assert ">23 November 2026, 14:32 UTC</time>" in moment(NOW), "for a reader whose zone is not known"


def test_a_time_that_begins_a_sentence() -> None:
    month_ago = NOW - timedelta(days=30)
    with read_in_zone_of("Europe/London"):
        assert ">24 October at 15:32</time>" in ago(month_ago, NOW, starts=True)
        assert ">on 24 October at 15:32</time>" in ago(month_ago, NOW)
        assert 'title="24 October 2026, 15:32 BST"' in ago(month_ago, NOW)
    assert ">Today at 14:32</time>" in ago(NOW, NOW + timedelta(hours=3), starts=True)


def test_no_time_is_nothing() -> None:
    assert ago(None) == moment(None) == ""


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("b.levy@expressl&t.net", "b.levy<wbr>@expressl&amp;t.net"),
        ("<b>@x.example", "&lt;b&gt;<wbr>@x.example"),
        ("from a@x.example to b@y.example", "from a<wbr>@x.example to b<wbr>@y.example"),
        ("no address", "no address"),
        ("", ""),
    ],
)
def test_addresses_break_before_the_at(address: str, shown: str) -> None:
    assert breakable(address) == shown
