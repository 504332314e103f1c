"""How numbers, times and addresses are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from asapp.web.filters import ago, breakable, counted, distance, moment, number

NOW = datetime(2026, 11, 23, 14, 32, tzinfo=UTC)


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=44), "just now"),
        (timedelta(seconds=50), "1 minute ago"),
        (timedelta(minutes=3), "3 minutes ago"),
        (timedelta(minutes=59, seconds=50), "1 hour ago"),
        (timedelta(hours=5, minutes=50), "5 hours ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=13, hours=23), "13 days ago"),
        (timedelta(days=40), "14 October"),
        (timedelta(days=400), "19 October 2025"),
        (-timedelta(seconds=10), "in a moment"),
        (-timedelta(minutes=40), "in 40 minutes"),
        (-timedelta(hours=2), "in 2 hours"),
    ],
)
def test_distances(gap: timedelta, words: str) -> None:
    assert distance(NOW - gap, NOW) == words


def test_a_time_carries_the_moment_itself() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert ago(elsewhere, NOW + timedelta(minutes=3)) == (
        '<time datetime="2026-11-23T14:32:00Z" title="23 November 2026, 14:32 UTC">3 minutes ago</time>'
    )
    assert ">23 November 2026, 14:32</time>" in moment(NOW)


def test_no_time_is_nothing() -> None:
    assert ago(None) == moment(None) == ""


def test_numbers() -> None:
    assert number(2500) == "2,500"
    assert counted(1, "contact") == "1 contact"
    assert counted(2500, "contact") == "2,500 contacts"
    assert counted(0, "person", "people") == "0 people"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("b.levy@expressl&t.net", "b.levy<wbr>@expressl&amp;t.net"),
        ("<b>@x.example", "&lt;b&gt;<wbr>@x.example"),
        ("no address", "no address"),
        ("", ""),
    ],
)
def test_addresses_break_before_the_at(address: str, shown: str) -> None:
    assert breakable(address) == shown
