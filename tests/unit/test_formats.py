"""How numbers, plurals and times are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from threading import Thread

import pytest

from asapp.core.formats import (
    counted,
    day,
    is_zone_name,
    near,
    number,
    place_of,
    read_in_zone_of,
    with_zone,
    written_out,
    zone_names,
)

NOW = datetime(2026, 11, 23, 14, 32, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=44), "just now"),
        (timedelta(seconds=50), "1 minute ago"),
        (timedelta(minutes=3), "3 minutes ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(minutes=59, seconds=50), "today at 13:32"),
        (timedelta(hours=14, minutes=32), "today at 00:00"),
        (timedelta(hours=14, minutes=33), "yesterday at 23:59"),
        (timedelta(days=2), "on Saturday at 14:32"),
        (timedelta(days=6), "on Tuesday at 14:32"),
        (timedelta(days=7), "on 16 November at 14:32"),
        (timedelta(days=400), "on 19 October 2025 at 14:32"),
        (-timedelta(seconds=10), "in a moment"),
        (-timedelta(minutes=40), "in 40 minutes"),
        (-timedelta(hours=2), "today at 16:32"),
        (-timedelta(days=1), "tomorrow at 14:32"),
        (-timedelta(days=3), "on Thursday at 14:32"),
        (-timedelta(days=7), "on 30 November at 14:32"),
    ],
)
def test_times_near_now(gap: timedelta, words: str) -> None:
    assert near(NOW - gap, NOW) == words


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        (None, "23 November 2026, 14:32 UTC"),
        ("Europe/London", "23 November 2026, 14:32 GMT"),
        ("America/Toronto", "23 November 2026, 09:32 EST"),
        ("Asia/Kathmandu", "23 November 2026, 20:17 UTC+0545"),
        ("Pacific/Auckland", "24 November 2026, 03:32 NZDT"),
    ],
)
def test_times_are_written_in_the_readers_zone(zone: str | None, words: str) -> None:
    with read_in_zone_of(zone):
        assert with_zone(NOW) == words
    assert written_out(NOW) == "23 November 2026, 14:32", "and in UTC again afterwards"


def test_summer_time_is_the_times_own_and_not_todays() -> None:
    with read_in_zone_of("Europe/London"):
        assert with_zone(datetime(2026, 7, 1, 12, 0, tzinfo=UTC)) == "1 July 2026, 13:00 BST"


def test_a_day_begins_at_the_readers_midnight() -> None:
    late = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
    with read_in_zone_of("America/Toronto"):
        assert near(late, NOW) == "yesterday at 22:00"
        assert day(late) == "22 November 2026"


def test_the_zone_a_time_comes_in_changes_nothing() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert with_zone(elsewhere) == with_zone(NOW)
    assert near(elsewhere, NOW + timedelta(hours=2)) == "today at 14:32"


def test_a_zone_belongs_to_one_thread() -> None:
    found: list[str] = []
    with read_in_zone_of("America/Toronto"):
        thread = Thread(target=lambda: found.append(with_zone(NOW)))
        thread.start()
        thread.join()
    assert found == ["23 November 2026, 14:32 UTC"]


def test_zones() -> None:
    assert "Europe/London" in zone_names()["Europe"]
    assert all(is_zone_name(name) for names in zone_names().values() for name in names)
    assert place_of("Europe/London") == "London"
    assert place_of("America/Argentina/Buenos_Aires") == "Buenos Aires"


def test_every_zone_that_can_be_chosen_has_a_place_and_writes_times() -> None:
    for names in zone_names().values():
        for name in names:
            with read_in_zone_of(name):
                assert place_of(name)
                assert with_zone(NOW).startswith(("22 ", "23 ", "24 "))


@pytest.mark.parametrize(
    "name", ["", "UTC", "Europe", "Europe/", "../etc/passwd", "Europe/../London", "Etc/GMT+1", "London"]
)
def test_what_is_no_zone(name: str) -> None:
    assert not is_zone_name(name)


def test_numbers() -> None:
    assert number(2500) == "2,500"
    assert number(-2500) == "-2,500"
    assert counted(1, "contact") == "1 contact"
    assert counted(2500, "contact") == "2,500 contacts"
    assert counted(0, "person", "people") == "0 people"


@pytest.mark.parametrize("name", ["Atlantis/Capital", "=1+1//x", "/etc/passwd", "a/../b"])
def test_a_zone_that_there_is_no_longer_is_utc(name: str) -> None:
    with read_in_zone_of(name):
        assert with_zone(NOW) == "23 November 2026, 14:32 UTC"
    assert place_of(name) == "UTC"
