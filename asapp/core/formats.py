"""How numbers, plurals and times are written for people; files and programs get times as iso() writes them.

Times are in the reader's time zone: that of the logged-in person, or of a mail's recipient. Without one, they are in UTC
and say so.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale
from babel.dates import format_date, format_datetime, get_timezone_location
from babel.numbers import format_decimal

LOCALE = Locale("en", "GB")
REGIONS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
DAYS_WITH_A_NAME = 6  # "Friday at 14:32" is used this many days back and ahead

_zone: ContextVar[tzinfo] = ContextVar("zone", default=UTC)


def iso(when: datetime) -> str:
    """Return `2026-11-30T09:15:00Z`, as programs read it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(value: int) -> str:
    """Return `2,500` for 2500."""
    return format_decimal(value, locale=LOCALE)


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """Return `1 contact` for 1, contact; `2,500 contacts` for 2500, contact."""
    is_one = LOCALE.plural_form(value) == "one"
    return f"{number(value)} {noun if is_one else plural or noun + 's'}"


@lru_cache(maxsize=1)
def zone_names() -> dict[str, list[str]]:
    """Return the names of time zones by region, as the tz database has them; both in alphabetical order."""
    by_region: dict[str, list[str]] = {region: [] for region in REGIONS}
    for name in sorted(zoneinfo.available_timezones()):
        region = name.partition("/")[0]
        if region in by_region and name != region:
            by_region[region].append(name)
    return by_region


def is_zone_name(name: str) -> bool:
    return name in zone_names().get(name.partition("/")[0], ())


def read_in(zone_name: str | None) -> None:
    """From now on, write times in this zone, in this thread; None writes UTC."""
    _zone.set(zone_of(zone_name))


@contextmanager
def read_in_zone_of(zone_name: str | None) -> Iterator[None]:
    """Write times in this zone within the block; None writes UTC."""
    token = _zone.set(zone_of(zone_name))
    try:
        yield
    finally:
        _zone.reset(token)


def current_zone() -> tzinfo:
    return _zone.get()


def place_of(zone_name: str) -> str:
    """Return the place of a zone: `London`, also `Kolkata` for Asia/Calcutta; `UTC` for a zone that no longer exists."""
    zone = zone_of(zone_name)
    return "UTC" if zone is UTC else get_timezone_location(zone, locale=LOCALE, return_city=True)


def written_out(when: datetime) -> str:
    """Return `23 November 2026, 14:32`"""
    return format_datetime(when, "d MMMM y, HH:mm", tzinfo=_zone.get(), locale=LOCALE)


def with_zone(when: datetime) -> str:
    """Return `23 November 2026, 14:32 GMT`; `UTC+0545` where the tz database has no abbreviation for the zone."""
    return f"{written_out(when)} {_zone_label(when)}"


def day(when: datetime) -> str:
    """Return `23 November 2026`"""
    return format_date(when.astimezone(_zone.get()), "d MMMM y", locale=LOCALE)


def day_of(when: datetime) -> date:
    """Return the day of this moment in the reader's zone."""
    return when.astimezone(_zone.get()).date()


def start_of(day: date) -> datetime:
    """Return the moment, in UTC, at which this day begins in the reader's zone."""
    return datetime.combine(day, time.min, tzinfo=_zone.get()).astimezone(UTC)


def clock(when: datetime) -> str:
    """Return `14:32`"""
    return format_datetime(when, "HH:mm", tzinfo=_zone.get(), locale=LOCALE)


def date_words(that: date, today: date, with_name: bool = True) -> str:
    """Return `Monday 23 November`, or `23 November`; with the year unless it is this one."""
    pattern = ("EEEE " if with_name else "") + ("d MMMM" if that.year == today.year else "d MMMM y")
    return str(format_date(that, pattern, locale=LOCALE))


def day_name(that: date, today: date) -> str:
    """Return `Today`, `Yesterday`, `Saturday` within a week, and else the empty text."""
    back = (today - that).days
    if back in (0, 1):
        return ("Today", "Yesterday")[back]
    return str(format_date(that, "EEEE", locale=LOCALE)) if 1 < back <= DAYS_WITH_A_NAME else ""


def near(when: datetime, now: datetime) -> str:
    """Return when, past or future, in words that fit into a sentence.

    `3 minutes ago`, `in 12 minutes`, `today at 14:32`, `on Friday at 09:10`, `on 14 November at 20:31`
    """
    gap = now - when
    minutes = round(abs(gap).total_seconds() / 60)
    if abs(gap) < timedelta(seconds=45):
        return "just now" if gap >= timedelta(0) else "in a moment"
    if minutes < 60:
        words = counted(max(minutes, 1), "minute")
        return f"{words} ago" if gap > timedelta(0) else f"in {words}"
    return f"{_day_near(when, now)} at {format_datetime(when, 'HH:mm', tzinfo=_zone.get(), locale=LOCALE)}"


def zone_of(name: str | None) -> tzinfo:
    """Return UTC for None, and for a name that the tz database of this machine no longer has."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):  # unknown, or no name at all
        return UTC


def _day_near(when: datetime, now: datetime) -> str:
    zone = _zone.get()
    that, today = when.astimezone(zone).date(), now.astimezone(zone).date()
    days = (today - that).days
    named = {0: "today", 1: "yesterday", -1: "tomorrow"}
    if days in named:
        return named[days]
    if abs(days) <= DAYS_WITH_A_NAME:
        return f"on {format_date(that, 'EEEE', locale=LOCALE)}"
    pattern = "d MMMM" if that.year == today.year else "d MMMM y"
    return f"on {format_date(that, pattern, locale=LOCALE)}"


def _zone_label(when: datetime) -> str:
    name = when.astimezone(_zone.get()).strftime("%Z")
    return f"UTC{name}" if name[:1] in "+-" else name
