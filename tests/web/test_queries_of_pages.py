"""No page of an advisor's asks the database more than twelve times, with a row of everything in it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from asapp.core.extensions import db
from asapp.models import Departure, DepartureState, RunStatus
from tests.factories import log_in, make_advisor, make_run, save
from tests.two_firms import Belongings, fill_advisor

MOST = 12
PAGES = (
    "/contacts",
    "/contacts?state=inactive&q=a",
    "/changes",
    "/changes?span=90",
    "/changes?kind=added&since=30",
    "/leads",
    "/leads?q=alice",
    "/settings/integrations?open=salesforce",
    "/settings/integrations/salesforce/disconnect",
    "/settings/integrations/runs",
)


@pytest.fixture
def alice(app: Flask, client: FlaskClient) -> Belongings:
    made = fill_advisor(make_advisor())
    log_in(client, made.user)
    return made


def queries_of(client: FlaskClient, path: str) -> int:
    asked: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    client.get(path)  # what is written once, like the time of a log-in's use, is no cost of the page
    event.listen(db.engine, "before_cursor_execute", hear)
    answer = client.get(path)
    event.remove(db.engine, "before_cursor_execute", hear)
    assert answer.status_code == 200, path
    return len([each for each in asked if not each.startswith("BEGIN")])


def too_many(client: FlaskClient) -> dict[str, int]:
    return {path: number for path in PAGES if (number := queries_of(client, path)) > MOST}


def test_pages_ask_no_more_than_twelve_times(alice: Belongings, client: FlaskClient) -> None:
    assert too_many(client) == {}  # a decision waits
    make_run(alice.connection, RunStatus.FAILED)
    assert too_many(client) == {}
    departure = db.session.query(Departure).one()
    departure.state = DepartureState.DISCARDED
    save(departure)
    assert too_many(client) == {}
