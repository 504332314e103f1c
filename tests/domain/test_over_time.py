"""How many people an advisor could email, over time: counted by syncs, drawn by day."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from flask import Flask

from asapp.contacts.queries import count_active_contacts
from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.models import Connection, Reason, RunChange
from asapp.panel import changes, over_time
from asapp.panel.changes import Account
from asapp.panel.over_time import DayCount, Picture
from orgsim import Running
from tests.factories import make_contact, make_run, make_synced_connection, save
from tests.syncing import Office


@pytest.fixture
def connection(app: Flask) -> Connection:
    return make_synced_connection()


def noon(days_ago: int) -> datetime:
    return formats.start_of(formats.day_of(utcnow()) - timedelta(days=days_ago)) + timedelta(hours=12)


def counted(connection: Connection, days_ago: int, active: int, added: int = 0, opted_out: int = 0) -> None:
    run = make_run(connection, finished_at=noon(days_ago), created=added, active_after=active)
    for _ in range(added):
        make_contact(connection, created_in_run_id=run.id)
    for _ in range(opted_out):
        gone = make_contact(connection, opted_out=True, created_in_run_id=make_run(connection, finished_at=noon(99)).id)
        save(RunChange(run_id=run.id, contact_id=gone.id, kind="deactivated", reason=Reason.OPTED_OUT))


def picture_of(connection: Connection, span: int, active_now: int) -> Picture | None:
    account, now = Account.of(connection.user), utcnow()
    first = over_time.first_day(span, now)
    changed = changes.find_counts(account, changes.between(first, formats.day_of(now)))
    counts = over_time.find_counts(account, formats.start_of(first))
    return over_time.make_picture(span, counts, changed, active_now, now)


def test_a_sync_counts_everyone_that_can_be_emailed_when_it_ends(app: Flask, org: Running) -> None:
    office = Office(org)
    office.fill(3)
    make_contact(office.advisor, email="hand@fjord.example")
    run = office.sync()
    assert run.active_after == 4 == count_active_contacts(office.advisor.id, utcnow())
    office.org.clock.advance(3600)
    office.org.opt_out(office.add(email="new@fjord.example"))
    assert office.sync().active_after == 4


def test_days_tell_the_count_before_and_after_their_syncs(connection: Connection) -> None:
    counted(connection, 40, 7)
    counted(connection, 3, 8)
    counted(connection, 3, 9)
    counted(connection, 1, 5)
    make_run(connection, finished_at=noon(1) + timedelta(hours=1))  # failed, or from before counts were kept
    since = noon(5)
    counts = over_time.by_day(over_time.find_counts(Account.of(connection.user), since))
    days = {(formats.day_of(utcnow()) - day).days: count for day, count in counts.items()}
    assert days == {
        40: DayCount(None, 7, noon(40)),
        3: DayCount(7, 9, noon(3)),
        1: DayCount(9, 5, noon(1)),
    }


def test_every_row_of_the_table_adds_up_and_begins_where_the_last_one_ended(connection: Connection) -> None:
    counted(connection, 20, 10)
    counted(connection, 12, 12, added=3, opted_out=1)
    counted(connection, 2, 15, added=2)
    picture = picture_of(connection, 30, 14)
    assert picture is not None
    assert [point.active for point in picture.points] == [10] * 8 + [12] * 10 + [15] * 2 + [14]
    assert (picture.opted_out, picture.left) == (1, 0)
    assert [
        (each.start, each.gained, each.opted_out, each.left, each.other, each.end) for each in picture.stretches
    ] == [
        (10, 0, 0, 0, 0, 10),
        (10, 3, 1, 0, 0, 12),
        (12, 2, 0, 0, 0, 14),
    ]
    assert [(each.last - each.first).days for each in picture.stretches] == [6, 6, 6]


def test_what_no_change_explains_is_called_other(connection: Connection) -> None:
    counted(connection, 8, 10)
    picture = picture_of(connection, 30, 4)
    assert picture is not None
    first, last = picture.stretches
    assert ((first.last - first.first).days, first.other, last.end, last.other) == (1, 0, 4, -6)


def test_there_is_no_picture_before_a_second_day_nor_of_days_without_a_count(connection: Connection) -> None:
    assert picture_of(connection, 30, 3) is None
    make_run(connection, finished_at=noon(9))
    make_run(connection, finished_at=utcnow(), active_after=3)
    assert picture_of(connection, 30, 3) is None


def test_a_longer_span_starts_with_the_last_count_before_it(connection: Connection) -> None:
    counted(connection, 50, 10)
    counted(connection, 1, 20)
    short, long = (picture_of(connection, span, 20) for span in over_time.SPANS)
    assert short is not None
    assert long is not None
    assert (len(short.points), len(long.points)) == (30, 51)
    assert (short.points[0].active, long.points[0].active) == (10, 10)
