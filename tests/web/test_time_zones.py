"""Times are in the reader's own zone: taken from the browser at first, then theirs to choose."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.core.extensions import db
from asapp.models import ActorKind, AuditEntry, User
from asapp.partners.erasure import erase_account
from tests.factories import PASSWORD, log_in, make_admin, make_advisor, make_run, make_synced_connection, org_access

EVENING = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)  # 18:30 in Toronto, 00:30 of the next day in Berlin


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor()


def log_in_from(client: FlaskClient, user: User, time_zone: str) -> None:
    response = client.post("/login", data={"email": user.email, "password": PASSWORD, "time_zone": time_zone})
    assert response.status_code == 303


def test_the_first_log_in_takes_the_zone_of_the_browser(client: FlaskClient, alice: User) -> None:
    log_in_from(client, alice, "America/Toronto")
    assert alice.time_zone == "America/Toronto"
    assert "Times are in your time zone, Toronto" in client.get("/settings").text


def test_a_later_log_in_from_elsewhere_changes_nothing(client: FlaskClient, alice: User) -> None:
    log_in_from(client, alice, "America/Toronto")
    client.post("/logout")
    log_in_from(client, alice, "Asia/Tokyo")
    assert alice.time_zone == "America/Toronto"


@pytest.mark.parametrize("nonsense", ["", "Mars/Olympus", "../etc/passwd", "x" * 5000, "\x00"])
def test_a_log_in_with_a_zone_that_is_none_leaves_utc(client: FlaskClient, alice: User, nonsense: str) -> None:
    log_in_from(client, alice, nonsense)
    assert alice.time_zone is None
    page = client.get("/settings").text
    assert "Times are in UTC." in page
    assert "Choose your time zone" in page


def test_a_zone_is_chosen_on_the_profile(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    client.post("/settings", data={"name": alice.name, "time_zone": "Europe/Berlin"})
    assert alice.time_zone == "Europe/Berlin"
    assert "<option selected>Europe/Berlin</option>" in client.get("/settings").text
    client.post("/settings", data={"name": alice.name, "time_zone": ""})
    assert alice.time_zone is None


def test_a_zone_that_is_none_is_refused_and_nothing_is_saved(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    response = client.post("/settings", data={"name": "Another Name", "time_zone": "Mars/Olympus"})
    assert response.status_code == 422
    assert "Choose one of the list." in response.text
    assert (alice.name, alice.time_zone) == ("Alice Moreau", None)


def receipt_in(client: FlaskClient, alice: User, time_zone: str | None) -> str:
    alice.time_zone = time_zone
    run = make_run(make_synced_connection(alice), queued_at=EVENING, started_at=EVENING)
    db.session.commit()
    log_in(client, alice)
    return client.get(f"/settings/integrations/runs/{run.id}").text


@pytest.mark.parametrize(
    ("time_zone", "words", "title"),
    [
        ("Europe/Berlin", "2 July 2026, 00:30", "2 July 2026, 00:30 CEST"),
        ("America/Toronto", "1 July 2026, 18:30", "1 July 2026, 18:30 EDT"),
        (None, "1 July 2026, 22:30 UTC", "1 July 2026, 22:30 UTC"),
    ],
)
def test_pages_are_in_it(client: FlaskClient, alice: User, time_zone: str | None, words: str, title: str) -> None:
    page = receipt_in(client, alice, time_zone)
    assert f'<time datetime="2026-07-01T22:30:00Z" title="{title}">{words}</time>' in page


def test_a_page_for_the_next_reader_is_not_in_the_zone_of_the_last(
    app: Flask, client: FlaskClient, alice: User
) -> None:
    receipt_in(client, alice, "Europe/Berlin")
    page = receipt_in(app.test_client(), make_advisor(email="bob@advisors.example", partner=alice.partner), None)
    assert "1 July 2026, 22:30 UTC" in page


def test_the_days_of_the_audit_log_are_those_of_its_reader(client: FlaskClient, alice: User) -> None:
    ada = make_admin()
    db.session.add(AuditEntry(action="logged_in", actor_kind=ActorKind.PERSON, actor_id=alice.id, at=EVENING))
    db.session.commit()
    log_in(client, ada)
    for time_zone, day in ((None, "2026-07-01"), ("Europe/Berlin", "2026-07-02")):
        ada.time_zone = time_zone
        db.session.commit()
        for asked, is_found in (("2026-07-01", day == "2026-07-01"), ("2026-07-02", day == "2026-07-02")):
            page = client.get(f"/admin/audit?from={asked}&until={asked}").text
            assert (alice.name in page) == is_found, (time_zone, asked)


def test_erasing_a_person_takes_the_zone_along(app: Flask, alice: User) -> None:
    alice.time_zone = "Europe/Berlin"
    db.session.commit()
    erase_account(alice, org_access())
    db.session.refresh(alice)
    assert alice.time_zone is None
