"""How many people an advisor could email, over time, and who was lost on the way.

Each sync that ends well counts them (SyncRun.active_after); what happens between two syncs shows in the next count. The
losses are those of the page Changes. Days are those of the reader's time zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import select, union_all

from asapp.core import formats
from asapp.core.extensions import db
from asapp.messages.changes import GAINS, ChangeKind
from asapp.models import SyncRun
from asapp.panel import changes
from asapp.panel.changes import Account, ChangeCount

SPANS = (30, 90)  # days
A_WEEK = 7


class ActiveCount(NamedTuple):
    at: datetime
    active: int


class DayCount(NamedTuple):
    """before: by the last sync of an earlier day; None if there was none. after: by the day's last sync, at this time."""

    before: int | None
    after: int
    at: datetime


class Point(NamedTuple):
    """One day of the picture. active: at its end, or now. opted_out: with those who unsubscribed, complained or bounced."""

    date: date
    active: int
    gained: int
    opted_out: int
    left: int


class Stretch(NamedTuple):
    """Some days of the table beside the picture."""

    first: date
    last: date
    start: int
    gained: int
    opted_out: int
    left: int
    end: int

    @property
    def other(self) -> int:
        """Return what the changes don't explain, so that the row adds up: some were inactive when they came or left."""
        return self.end - (self.start + self.gained - self.opted_out - self.left)


class Picture(NamedTuple):
    """points: one for each day, the oldest first, today last."""

    points: Sequence[Point]
    stretches: Sequence[Stretch]

    @property
    def opted_out(self) -> int:
        return sum(point.opted_out for point in self.points)

    @property
    def left(self) -> int:
        return sum(point.left for point in self.points)


def find_counts(account: Account, since: datetime) -> list[ActiveCount]:
    """Return the counts since then, the oldest first, after the last one before."""
    counted = (account.has_run(), SyncRun.active_after.is_not(None))
    rows = select(SyncRun.finished_at, SyncRun.active_after).where(*counted)
    before = rows.where(SyncRun.finished_at < since).order_by(SyncRun.finished_at.desc()).limit(1)
    after = rows.where(SyncRun.finished_at >= since)
    both = db.session.execute(union_all(select(before.subquery()), after))
    return sorted(ActiveCount._make(row) for row in both)


def by_day(counts: Sequence[ActiveCount]) -> dict[date, DayCount]:
    """Return the count before and after each day on which a sync counted. counts: the oldest first."""
    days: dict[date, DayCount] = {}
    last: int | None = None
    for count in counts:
        day = formats.day_of(count.at)
        days[day] = DayCount(days[day].before if day in days else last, count.active, count.at)
        last = count.active
    return days


def first_day(span: int, now: datetime) -> date:
    """Return the oldest day of a picture of so many days."""
    return formats.day_of(now) - timedelta(days=span - 1)


def make_picture(
    span: int, counts: Sequence[ActiveCount], changed: Sequence[ChangeCount], active_now: int, now: datetime
) -> Picture | None:
    """Return the last days, as many as the span, with today as it is now; None before syncs counted on two days.

    counts, changed: of both find_counts(), since the oldest day.
    """
    today, since = formats.day_of(now), formats.start_of(first_day(span, now))
    if not counts or formats.day_of(counts[0].at) == today:
        return None
    since = max(since, counts[0].at + timedelta(microseconds=1))  # what the first count counts is no change after it
    first, counted = formats.day_of(since), by_day(counts)
    tallies = changes.tally_by_day([change for change in changed if change.at >= since])
    start, points = counts[0].active, []
    active = start
    for day in (first + timedelta(days=number) for number in range((today - first).days + 1)):
        active = active_now if day == today else counted[day].after if day in counted else active
        points.append(_point(day, active, tallies.get(day, {})))
    return Picture(points, _stretches(points, start))


def _point(day: date, active: int, tally: Mapping[str, int]) -> Point:
    return Point(
        day,
        active,
        gained=sum(tally.get(kind, 0) for kind in GAINS),
        opted_out=tally.get(ChangeKind.OPTED_OUT, 0) + tally.get(ChangeKind.BOUNCED, 0),
        left=tally.get(ChangeKind.LEFT, 0),
    )


def _stretches(points: Sequence[Point], start: int) -> list[Stretch]:
    """Return the weeks that end today, the oldest first and maybe shorter; start: how many could be emailed before all."""
    stretches: list[Stretch] = []
    for place in range(len(points) % A_WEEK or A_WEEK, len(points) + 1, A_WEEK):
        days = points[max(0, place - A_WEEK) : place]
        gained, opted_out, left = (
            sum(each) for each in zip(*((day.gained, day.opted_out, day.left) for day in days), strict=True)
        )
        stretches.append(Stretch(days[0].date, days[-1].date, start, gained, opted_out, left, days[-1].active))
        start = days[-1].active
    return stretches
