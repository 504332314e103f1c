"""The page Changes, its filter and its file, and "since your last visit" on Contacts."""

from __future__ import annotations

import csv
import re
from datetime import timedelta
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, Departure, RunChange, Visit
from tests.factories import PASSWORD, log_in, make_advisor, make_contact, make_run, make_synced_connection, save
from tests.signing_up import someone_signs_up


def page_text(response: TestResponse) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", unescape(response.text)).split())


@pytest.fixture
def connection(app: Flask, client: FlaskClient) -> Connection:
    connection = make_synced_connection()
    log_in(client, connection.user)
    return connection


def came(connection: Connection, days_ago: float, *names: str) -> None:
    run = make_run(connection, finished_at=utcnow() - timedelta(days=days_ago), created=len(names))
    for name in names:
        make_contact(connection, first_name=name, created_in_run_id=run.id)


def test_a_week_is_told_day_by_day_and_quiet_days_say_so(client: FlaskClient, connection: Connection) -> None:
    came(connection, 0, "Esi", "Noor")
    came(connection, 30, "Adaeze")
    text = page_text(client.get("/changes"))
    assert "Changes What came, left and changed among your contacts, day by day." in text
    assert "2 added" in text
    assert text.count("Nothing changed.") == 6
    assert "Adaeze" not in text
    page = client.get("/changes").text
    earlier = page.split('rel="next" href="')[1].split('"')[0]
    assert "Adaeze" in client.get(earlier).text


def test_a_filter_shows_every_entry_of_one_day_a_page_at_a_time(client: FlaskClient, connection: Connection) -> None:
    came(connection, 0, *(f"Esi{number}" for number in range(52)))
    page = client.get("/changes").text
    assert "Show all 52 added" in page
    day = page.split("kind=added&amp;day=")[1].split('"')[0]
    first = client.get(f"/changes?kind=added&day={day}").text
    after = first.split("&amp;after=")[1].split('"')[0]
    second = client.get(f"/changes?kind=added&day={day}&after={after}").text
    assert (first.count(">Esi"), second.count(">Esi")) == (50, 2)


def test_nothing_found_says_so_and_leads_on(client: FlaskClient, connection: Connection) -> None:
    came(connection, 0, "Esi")
    text = page_text(client.get("/changes?q=oduya&kind=left&since=today"))
    assert "No changes match Nothing about “oduya” happened in this time." in text


@pytest.mark.parametrize(
    "query", ["kind=x", "since=x", "day=2026-99-99", "before=0001-01-01", "after=x", "day=0001-01-01"]
)
def test_a_filter_that_makes_no_sense_is_left_out(client: FlaskClient, connection: Connection, query: str) -> None:
    came(connection, 0, "Esi")
    assert "Esi" in client.get(f"/changes?{query}").text


def test_the_file_has_the_same_rows_with_times_in_utc(client: FlaskClient, connection: Connection) -> None:
    run = make_run(connection, finished_at=utcnow(), updated=1)
    contact = make_contact(connection, first_name="=Henk", last_name="de Vries", email="henk@fjord.example")
    save(
        RunChange(
            run_id=run.id,
            contact_id=contact.id,
            kind="updated",
            old={"last_name": "Vries"},
            new={"last_name": "de Vries"},
        )
    )
    came(connection, 1, "Esi")
    lines = client.get("/changes/export.csv?since=today&kind=changed").text.splitlines()
    stamp = f"{run.finished_at:%Y-%m-%dT%H:%M:%SZ}"
    cells = [
        stamp,
        "Changed",
        contact.salesforce_id,
        "'=Henk de Vries",
        contact.email,
        "",
        "Last name",
        "Vries",
        "de Vries",
    ]
    assert list(csv.reader(lines[1:])) == [[*cells, str(run.id)]]


def test_contacts_say_what_happened_since_the_last_visit(client: FlaskClient, connection: Connection) -> None:
    assert "Since your last visit" not in client.get("/contacts").text
    save(Visit(user_id=connection.user_id, seen_at=utcnow() - timedelta(days=2)))
    client.post("/logout")
    client.post("/login", data={"email": connection.user.email, "password": PASSWORD})
    came(connection, 3, "Before")
    came(connection, 0, "Esi", "Noor")
    text = page_text(client.get("/contacts"))
    assert "Since your last visit" in text
    assert "2 added" in text
    page = client.get("/changes?since=visit").text
    assert "Esi" in page
    assert "Before" not in page


def synced(connection: Connection, days_ago: float) -> None:
    connection.last_good_sync_at = utcnow() - timedelta(days=days_ago)
    db.session.commit()


def test_contacts_say_that_nothing_has_changed_since_the_last_visit(
    client: FlaskClient, connection: Connection
) -> None:
    save(Visit(user_id=connection.user_id, seen_at=utcnow() - timedelta(days=2)))
    client.post("/logout")
    client.post("/login", data={"email": connection.user.email, "password": PASSWORD})
    came(connection, 3, "Before")
    synced(connection, days_ago=3)
    assert "Nothing has changed since your last visit" not in page_text(
        client.get("/contacts")
    )  # no one has looked since
    synced(connection, days_ago=0)
    text = page_text(client.get("/contacts"))
    assert "Nothing has changed since your last visit" in text
    came(connection, 0, "Esi")
    text = page_text(client.get("/contacts"))
    assert "1 added" in text
    assert "Nothing has changed" not in text


def test_the_first_steps_tick_themselves_and_go_when_done(app: Flask, client: FlaskClient) -> None:
    advisor = make_advisor()
    log_in(client, advisor)
    page = client.get("/contacts")
    assert "0 of 4 done" in page_text(page)
    for step in ("Connect Salesforce", "Bring your contacts in"):
        assert f'<strong><a href="/settings/integrations?open=salesforce">{step}</a></strong>' in page.text
    for step in ("share", "signature"):
        assert f'form="first-steps" name="do" value="{step}"' in page.text
    make_synced_connection(advisor)
    text = page_text(client.get("/contacts"))
    assert "2 of 4 done" in text
    assert "Done: Bring your contacts in" in text
    someone_signs_up(advisor)
    assert "3 of 4 done" in page_text(client.get("/contacts"))
    page = client.get("/contacts").text
    assert 'form="first-steps" name="do" value="signature">Add it to your signature</button>' in page
    assert 'value="share"' not in page
    answer = client.post("/contacts/first-steps", data={"do": "signature"})
    assert answer.location.endswith("/leads?signature=1#signature")
    assert "Sign up for emails from Alice Moreau</a>" in client.get("/leads").text
    assert "Getting started" not in client.get("/contacts").text


def test_the_first_steps_can_be_hidden(client: FlaskClient, connection: Connection) -> None:
    assert "Getting started" in client.get("/contacts").text
    client.post("/contacts/first-steps", data={"do": "hide"})
    assert "Getting started" not in client.get("/contacts").text
    assert client.post("/contacts/first-steps", data={"do": "x"}).status_code == 404


def test_a_picture_shows_how_many_can_be_emailed_and_days_their_counts(
    client: FlaskClient, connection: Connection
) -> None:
    came(connection, 0, "Esi")
    assert "People you can email" not in page_text(client.get("/changes"))
    save(*(make_run(connection, finished_at=utcnow() - timedelta(days=ago), active_after=ago) for ago in (9, 2)))
    text = page_text(client.get("/changes"))
    assert "People you can email 30 days 90 days" in text
    assert "You can email: 1 now" in text
    assert "9 people you could email before, 2 after the last sync, at" in text
    assert "Show these figures as a table" in text
    page = client.get("/changes?span=90").text
    assert 'href="/changes?span=90" aria-current="true"' in page
    assert "9 at first, 1 at the least, 9 at the most, 1 now." in page
    assert "People you can email" not in client.get("/changes?kind=added").text
    assert "You can email" in client.get("/changes?span=x").text
    contact = make_contact(connection)
    held = {"salesforce_id": contact.salesforce_id, "reason": "gone", "state": "held", "found_in_run_id": 1}
    save(Departure(connection_id=connection.id, was_read=False, **held))
    waiting = "Active: 2 now. 1 of them waits for your decision , and mailings leave it out until then"
    assert waiting in page_text(client.get("/changes"))


def test_before_anything_has_happened_the_page_says_what_will_be_here(
    client: FlaskClient, connection: Connection
) -> None:
    page = page_text(client.get("/changes"))
    assert "Nothing has happened yet" in page
    assert "Nothing changed." not in page
    came(connection, 30, "Adaeze")
    assert "Nothing has happened yet" not in page_text(client.get("/changes"))
