"""The admins get a mail when nothing is dispatched any more, from web itself: no worker may be there to send it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from flask_mailman import EmailMessage

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.health.heartbeats import SCHEDULER, TICK
from asapp.health.watch import AGAIN_AFTER, STALLED_AFTER, tell_of_stall
from asapp.models import Heartbeat
from tests.factories import make_admin, make_advisor, save

MINUTE = timedelta(minutes=1)
NOW = utcnow()
LONG_AGO = NOW - timedelta(days=1)


@pytest.fixture
def outbox(app: Flask) -> list[EmailMessage]:
    app.extensions["mailman"].outbox = []
    found: list[EmailMessage] = app.extensions["mailman"].outbox
    return found


def tick_at(ago: timedelta) -> None:
    db.session.merge(Heartbeat(name=TICK, seen_at=NOW - ago))
    db.session.commit()


def test_every_admin_is_told_once_what_is_missing(app: Flask, outbox: list[EmailMessage]) -> None:
    make_admin(email="ada@example.com")
    make_admin(email="bo@example.com")
    make_admin(email="gone@example.com", deactivated_at=NOW)
    make_advisor()
    tick_at(6 * MINUTE)
    save(Heartbeat(name=f"{SCHEDULER}:a:1", seen_at=NOW))
    assert tell_of_stall(app, LONG_AGO, NOW) == 2
    assert sorted(mail.to[0] for mail in outbox) == ["ada@example.com", "bo@example.com"]
    assert "No worker is running." in outbox[0].body
    assert "No scheduler" not in outbox[0].body
    assert "/admin/health" in outbox[0].body
    assert tell_of_stall(app, LONG_AGO, NOW + MINUTE) == 0  # also in another process


def test_they_are_told_again_after_hours_and_of_the_next_time(app: Flask, outbox: list[EmailMessage]) -> None:
    make_admin()
    tick_at(6 * MINUTE)
    assert tell_of_stall(app, LONG_AGO, NOW) == 1
    assert tell_of_stall(app, LONG_AGO, NOW + AGAIN_AFTER + MINUTE) == 1
    tick_at(-AGAIN_AFTER - 2 * MINUTE)
    assert tell_of_stall(app, LONG_AGO, NOW + AGAIN_AFTER + 8 * MINUTE) == 1


def test_no_one_is_told_at_once_or_while_all_is_well(app: Flask, outbox: list[EmailMessage]) -> None:
    make_admin()
    assert tell_of_stall(app, NOW - STALLED_AFTER + MINUTE, NOW) == 0  # nothing ever ran, but web has just started
    tick_at(timedelta(days=1))
    assert tell_of_stall(app, NOW - MINUTE, NOW) == 0  # all was stopped on purpose
    tick_at(MINUTE)
    assert tell_of_stall(app, LONG_AGO, NOW) == 0
    assert outbox == []


def test_where_nothing_was_ever_dispatched_they_are_told_once(app: Flask, outbox: list[EmailMessage]) -> None:
    make_admin()
    assert tell_of_stall(app, LONG_AGO, NOW) == 1
    assert "nothing was ever dispatched here" in outbox[0].body
    assert tell_of_stall(app, LONG_AGO, NOW + MINUTE) == 0


def test_a_mail_server_that_is_away_is_asked_again(own_app: Flask) -> None:
    make_admin()
    tick_at(6 * MINUTE)
    own_app.extensions["mailman"].backend = "smtp"
    own_app.extensions["mailman"].server, own_app.extensions["mailman"].port = "127.0.0.1", 1
    assert tell_of_stall(own_app, LONG_AGO, NOW) == 0
    own_app.extensions["mailman"].backend = "locmem"
    assert tell_of_stall(own_app, LONG_AGO, NOW + MINUTE) == 1
