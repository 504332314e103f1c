"""Template filters for numbers, times and addresses: number, counted, ago, moment, breakable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flask import Flask
from markupsafe import Markup, escape

from asapp.core.clock import utcnow

SUPPORT_ADDRESS = "as_support@broadridge.com"
DAYS_THAT_ARE_COUNTED = 14


def register(app: Flask) -> None:
    app.jinja_env.filters.update(number=number, counted=counted, ago=ago, moment=moment, breakable=breakable)
    app.jinja_env.globals["support_address"] = SUPPORT_ADDRESS


def number(value: int) -> str:
    """Return `2,500` for 2500."""
    return f"{value:,}"


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """Return `1 contact` for 1, contact; `2,500 contacts` for 2500, contact."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def ago(when: datetime | None, now: datetime | None = None) -> Markup:
    """Return when relative to now, past or future, with the exact time in its title; nothing for None."""
    if when is None:
        return Markup("")
    return _time(when, distance(when, now or utcnow()))


def moment(when: datetime | None) -> Markup:
    """Return `23 November 2026, 14:32` as a time element; nothing for None."""
    return Markup("") if when is None else _time(when, written_out(when))


def breakable(address: str) -> Markup:
    """Return the address with a possible break before the @, for short lines."""
    name, at, host = address.rpartition("@")
    return Markup("{}<wbr>{}{}").format(name, at, host) if name else escape(address)


def distance(when: datetime, now: datetime) -> str:
    """Return `3 minutes ago`, `in 2 hours`, or the date if that says more."""
    gap = now - when
    if abs(gap) < timedelta(seconds=45):
        return "just now" if gap >= timedelta(0) else "in a moment"
    minutes = round(abs(gap).total_seconds() / 60)
    if minutes < 60:
        words = counted(max(minutes, 1), "minute")
    elif minutes < 24 * 60:
        words = counted(minutes // 60, "hour")
    elif minutes < DAYS_THAT_ARE_COUNTED * 24 * 60:
        words = counted(minutes // (24 * 60), "day")
    else:
        same_year = when.year == now.year
        return f"{when.day} {when:%B}" if same_year else f"{when.day} {when:%B %Y}"
    return f"{words} ago" if gap > timedelta(0) else f"in {words}"


def written_out(when: datetime) -> str:
    at = when.astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M}"


def _time(when: datetime, words: str) -> Markup:
    stamp = when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(stamp, written_out(when), words)
