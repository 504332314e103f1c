"""Template filters: number, counted, ago, moment, at_clock, lasting, breakable. Times are in the reader's zone."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Flask
from flask_login import current_user
from markupsafe import Markup

from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.core.formats import counted, number
from asapp.messages.failures import SUPPORT_ADDRESS

NEAR = Markup(' class="near"')  # with the time written out beside it in print: asapp.css


def register(app: Flask) -> None:
    app.jinja_env.filters.update(number=number, counted=counted, ago=ago, moment=moment, at_clock=at_clock)
    app.jinja_env.filters.update(breakable=breakable, lasting=lasting)
    app.jinja_env.globals.update(
        support_address=SUPPORT_ADDRESS, place_of_zone=formats.place_of, now_with_zone=now_with_zone
    )


def now_with_zone() -> str:
    """Return the present moment with its zone, for what is printed."""
    return formats.with_zone(utcnow())


def ago(when: datetime | None, now: datetime | None = None, starts: bool = False) -> Markup:
    """Return when relative to now, past or future, with the exact time in its title; nothing for None.

    starts: whether it stands alone or begins a sentence: `Today at 14:32`, `14 November at 20:31`.
    """
    if when is None:
        return Markup("")
    words = formats.near(when, now or utcnow())
    if starts:
        words = words.removeprefix("on ")
        words = words[0].upper() + words[1:]
    return _time(when, words, is_near=True)


def lasting(how_long: timedelta) -> str:
    """Return `30 minutes`, `12 hours` or `7 days`: the largest unit that it is a whole number of, from two on."""
    minutes = round(how_long.total_seconds() / 60)
    for size, noun in ((24 * 60, "day"), (60, "hour")):
        if minutes % size == 0 and (minutes >= 2 * size or noun == "hour"):
            return counted(minutes // size, noun)
    return counted(minutes, "minute")


def moment(when: datetime | None) -> Markup:
    """Return `23 November 2026, 14:32` as a time element, with the zone for readers who have none; nothing for None."""
    if when is None:
        return Markup("")
    has_zone = current_user and current_user.is_authenticated and current_user.time_zone
    return _time(when, formats.written_out(when) if has_zone else formats.with_zone(when))


def at_clock(when: datetime) -> Markup:
    """Return `14:32` as a time element, for a time on a day that is named above."""
    return _time(when, formats.clock(when))


def breakable(address: str) -> Markup:
    """Return the address, or a text with some, with a possible break before each @, for short lines."""
    return Markup("<wbr>@").join(address.split("@"))


def _time(when: datetime, words: str, is_near: bool = False) -> Markup:
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        formats.iso(when), formats.with_zone(when), NEAR if is_near else "", words
    )
