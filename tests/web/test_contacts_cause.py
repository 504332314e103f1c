"""If all contacts from Salesforce are inactive for one cause, the page shows it at the top, with the next step."""

from __future__ import annotations

from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.core.clock import utcnow
from asapp.models import User
from tests.factories import (
    LONG_AGO,
    log_in,
    make_advisor,
    make_connection,
    make_contact,
    make_partner,
    make_synced_connection,
)

LEAD_ID = "00Q5g00000KqT1xAAF"


@pytest.fixture
def alice(app: Flask, client: FlaskClient) -> User:
    made = make_advisor()
    log_in(client, made)
    return made


@pytest.mark.parametrize(
    ("columns", "says", "has_sync"),
    [
        ({"status": "disconnected"}, "Salesforce was disconnected", False),
        ({"opt_outs_known_until": LONG_AGO, "last_failure": "opt_out_hidden"}, "can't see who has opted out", True),
        ({"opt_outs_known_until": LONG_AGO}, "There was no good sync for too long", True),
        ({"opt_outs_known_until": LONG_AGO, "status": "needs_reconnect"}, "connect Salesforce again", False),
    ],
)
def test_the_cause_that_makes_all_inactive_is_at_the_top_with_its_next_step(
    client: FlaskClient, alice: User, columns: dict[str, Any], says: str, has_sync: bool
) -> None:
    connection = make_synced_connection(alice, **columns)
    for _ in range(3):
        make_contact(connection)
    make_contact(connection, hidden_at=utcnow())
    make_contact(alice)
    page = unescape(client.get("/contacts").text)
    assert "Your 3 Salesforce contacts are inactive for now" in page
    assert says in page
    assert "Open Integrations</a>" in page
    assert ("Sync Account" in page) is has_sync
    assert "inactive for now" not in client.get("/contacts?state=hidden_here").text


def test_the_page_warns_a_day_before_all_contacts_become_inactive(client: FlaskClient, alice: User) -> None:
    connection = make_synced_connection(alice, opt_outs_known_until=utcnow() + timedelta(hours=20))
    make_contact(connection)
    page = client.get("/contacts").text
    assert "Your 1 Salesforce contact becomes inactive unless a sync succeeds by" in page


def test_the_contacts_of_the_user_before_wait_for_a_sync_of_the_new_one(client: FlaskClient, alice: User) -> None:
    make_contact(make_synced_connection(alice, status="disconnected"))
    make_connection(alice)
    page = client.get("/contacts").text
    assert "It came from the Salesforce user you were connected to before." in page
    assert "Sync Account" in page


def test_sign_ups_whose_opt_outs_are_hidden_are_spoken_of_by_themselves(client: FlaskClient, alice: User) -> None:
    connection = make_synced_connection(alice, leads_known_until=LONG_AGO)
    make_contact(connection)
    make_contact(alice, source="lead", is_lead=True, followed_by_id=connection.id, salesforce_id=LEAD_ID)
    page = unescape(client.get("/contacts").text)
    assert "Your 1 contact from the sign-up page that Salesforce has as a lead is inactive for now" in page


def test_where_the_firm_is_disabled_contacts_made_here_are_counted_too(client: FlaskClient, app: Flask) -> None:
    alice = make_advisor(make_partner(is_enabled=False))
    log_in(client, alice)
    assert "inactive for now" not in client.get("/contacts").text
    make_contact(alice)
    make_contact(make_synced_connection(alice))
    make_contact(alice, opted_out=True)
    page = unescape(client.get("/contacts").text)
    assert "Your 2 contacts are inactive for now" in page
    assert "people added by hand or from the sign-up page included" in page
    assert page.count(IS_OFF) == 3  # at the top, and beside each of them


def test_where_the_firm_is_inactive_the_page_names_the_person_to_ask(client: FlaskClient, app: Flask) -> None:
    alice = make_advisor(make_partner(is_enabled=False))
    make_contact(make_synced_connection(alice, opt_outs_known_until=LONG_AGO))
    log_in(client, alice)
    page = client.get("/contacts").text
    assert "Salesforce is switched off for your firm" in page
    assert "Open Integrations" not in page


RECONNECT, IS_OFF = "connect Salesforce again", "Salesforce is switched off for your firm"
SOON = utcnow() + timedelta(hours=20)


@pytest.mark.parametrize("kind", ["soon", "another user", "leads"])
@pytest.mark.parametrize(("in_the_way", "step"), [("firm", IS_OFF), ("connection", RECONNECT)])
def test_what_has_to_be_fixed_first_is_the_next_step(
    client: FlaskClient, app: Flask, kind: str, in_the_way: str, step: str
) -> None:
    alice = make_advisor(make_partner(secret="" if in_the_way == "firm" else "consumer-secret"))
    log_in(client, alice)
    status = {"status": "needs_reconnect"} if in_the_way == "connection" else {}
    if kind == "another user":
        make_contact(make_synced_connection(alice, status="disconnected"))
        make_connection(alice, **status)
    elif kind == "soon":
        make_contact(make_synced_connection(alice, opt_outs_known_until=SOON, **status))
    else:
        connection = make_synced_connection(alice, leads_known_until=LONG_AGO, **status)
        make_contact(alice, source="lead", is_lead=True, followed_by_id=connection.id, salesforce_id=LEAD_ID)
    page = unescape(client.get("/contacts").text)
    assert step in page
    assert "ress Sync Account" not in page
    assert "/sync" not in page


@pytest.mark.parametrize(
    ("trouble", "says", "step"),
    [
        ("opt_out_hidden", "can't see which leads have opted out", 'the text on <a href="/leads">Leads</a>'),
        (None, "There was no good sync for too long", "press Sync Account. If it fails"),
    ],
)
def test_sign_ups_that_are_unknown_have_the_step_that_helps(
    client: FlaskClient, alice: User, trouble: str | None, says: str, step: str
) -> None:
    connection = make_synced_connection(alice, leads_known_until=LONG_AGO, leads_trouble=trouble)
    make_contact(alice, source="lead", is_lead=True, followed_by_id=connection.id, salesforce_id=LEAD_ID)
    page = unescape(client.get("/contacts").text)
    assert says in page
    assert step in page
    assert "text under Integrations" not in page


@pytest.mark.parametrize(("until", "is_active"), [(LONG_AGO, False), (SOON, True)])
def test_an_advisor_who_has_to_reconnect_does_not_read_that_inactive_contacts_are_active(
    client: FlaskClient, alice: User, until: datetime, is_active: bool
) -> None:
    make_contact(make_synced_connection(alice, status="needs_reconnect", opt_outs_known_until=until))
    page = client.get("/settings/integrations?open=salesforce").text
    assert ("is still active here" in page) is is_active


@pytest.mark.parametrize("column", [{"opted_out": True}, {"departed": "reassigned"}, {}])
def test_what_stands_beside_each_contact_is_no_cause_for_all(
    client: FlaskClient, alice: User, column: dict[str, Any]
) -> None:
    make_contact(make_synced_connection(alice), **column)
    assert "inactive for now" not in client.get("/contacts").text
