"""Unknown opt-outs never count as "may be written to", and the page warns a day before."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from asapp.core.clock import utcnow
from tests.factories import log_in, make_advisor, make_contact, make_partner, make_run, make_synced_connection

PANEL = "/settings/integrations?open=salesforce"


@pytest.mark.parametrize(
    ("known_for", "words"),
    [
        (timedelta(hours=20), "A sync has to succeed by"),
        (timedelta(hours=-1), "Your Salesforce contacts are inactive."),
    ],
)
@pytest.mark.parametrize("status", ["connected", "needs_reconnect"])
def test_the_panel_warns_before_and_says_when_opt_outs_are_unknown(
    client: FlaskClient, known_for: timedelta, words: str, status: str
) -> None:
    alice = make_advisor()
    connection = make_synced_connection(alice, opt_outs_known_until=utcnow() + known_for, status=status)
    make_run(connection, finished_at=utcnow(), started_at=utcnow())
    log_in(client, alice)
    assert words in client.get(PANEL).text


def test_no_warning_is_shown_while_there_is_time(client: FlaskClient) -> None:
    alice = make_advisor()
    connection = make_synced_connection(alice, opt_outs_known_until=utcnow() + timedelta(days=3))
    make_run(connection, finished_at=utcnow(), started_at=utcnow())
    log_in(client, alice)
    assert "A sync has to succeed by" not in client.get(PANEL).text


@pytest.mark.parametrize(("hours_left", "is_said"), [(23, False), (11, True)])
def test_where_opt_outs_are_trusted_for_a_day_the_warning_comes_half_a_day_before(
    client: FlaskClient, hours_left: int, is_said: bool
) -> None:
    alice = make_advisor(make_partner(opt_outs_trusted_days=1))
    connection = make_synced_connection(alice, opt_outs_known_until=utcnow() + timedelta(hours=hours_left))
    make_run(connection, finished_at=utcnow(), started_at=utcnow())
    log_in(client, alice)
    assert ("A sync has to succeed by" in client.get(PANEL).text) is is_said


def test_after_seven_days_without_a_good_sync_no_contact_is_active(client: FlaskClient) -> None:
    alice = make_advisor()
    connection = make_synced_connection(alice, opt_outs_known_until=utcnow() - timedelta(seconds=1))
    make_contact(connection)
    log_in(client, alice)
    (row,) = csv.DictReader(io.StringIO(client.get("/contacts/export.csv").text))
    assert (row["status"], row["reason"]) == ("inactive", "opt_out_unknown")
