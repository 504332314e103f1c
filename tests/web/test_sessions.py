"""Where a person is logged in: listed, ended one by one, and when a log-in ends by itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select

from asapp.accounts import sessions
from asapp.core.clock import utcnow
from asapp.core.database import reading
from asapp.core.extensions import db
from asapp.models import Action, AuditEntry, LoginSession, User
from asapp.web.devices import name_of
from asapp.web.filters import lasting
from tests.factories import PASSWORD, app_code, log_in, make_admin, make_advisor, make_connection

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari/604.1"
POLL = "/settings/integrations/salesforce?seen=1"
RELOAD = "/settings/integrations?open=salesforce&again=1"


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor()


def log_in_with(app: Flask, user: User, user_agent: str = FIREFOX, address: str = "203.0.113.24") -> FlaskClient:
    """Return a browser of its own, in which this person has logged in through the page."""
    client = app.test_client()
    client.environ_base |= {"HTTP_USER_AGENT": user_agent, "REMOTE_ADDR": address}
    client.post("/login", data={"email": user.email, "password": PASSWORD})
    if user.has_second_factor:
        client.post("/login/code", data={"code": app_code()})
    assert is_in(client)
    return client


def is_in(client: FlaskClient) -> bool:
    return client.get("/settings").status_code == 200


def rows() -> int:
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(LoginSession)) or 0


def move_back(column: str, by: timedelta) -> None:
    """As if that had been so much earlier."""
    db.session.rollback()
    for login in db.session.scalars(select(LoginSession)).all():
        setattr(login, column, getattr(login, column) - by)
    db.session.commit()


def last_used() -> list[timedelta]:
    """Return how long ago each log-in was used."""
    db.session.rollback()
    return [utcnow() - at for at in db.session.scalars(select(LoginSession.last_used_at))]


# ---- Listed, and ended


def test_each_device_is_listed_with_where_and_when(app: Flask, alice: User) -> None:
    here = log_in_with(app, alice)
    log_in_with(app, alice, PHONE, "198.51.100.7")
    page = here.get("/settings/security").text
    table = page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert table.count("<tr>") == 2
    for words in ("Firefox on Linux", "Safari on iPhone", "203.0.113.24", "198.51.100.7", "This device", "Just now"):
        assert words in table
    assert "After 12 hours without a click, and at the latest 7 days after your log-in" in page


def test_one_device_is_logged_out_from_another(app: Flask, alice: User) -> None:
    here, phone = log_in_with(app, alice), log_in_with(app, alice, PHONE)
    with reading():
        theirs = db.session.scalars(select(LoginSession.public_id).where(LoginSession.device.contains("iPhone"))).one()
    assert here.post(f"/settings/sessions/{theirs}/end").location == "/settings/security"
    assert not is_in(phone)
    assert is_in(here)
    assert here.post(f"/settings/sessions/{theirs}/end").status_code == 404


def test_nobody_logs_another_person_out(app: Flask, alice: User) -> None:
    hers, his = log_in_with(app, alice), log_in_with(app, make_advisor(name="Bob Tanner"))
    with reading():
        of_alice = db.session.scalars(select(LoginSession.public_id).where(LoginSession.user_id == alice.id)).one()
    assert his.post(f"/settings/sessions/{of_alice}/end").status_code == 404
    his.post("/settings/sessions/end-others")
    assert is_in(hers)


def test_log_out_everywhere_else_leaves_this_device(app: Flask, alice: User) -> None:
    here, phone, bob = log_in_with(app, alice), log_in_with(app, alice, PHONE), log_in_with(app, make_advisor())
    here.post("/settings/sessions/end-others")
    assert [is_in(each) for each in (here, phone, bob)] == [True, False, True]
    entry = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry
    assert (entry.action, entry.subject_id, entry.details) == (Action.SESSIONS_ENDED, alice.id, {"devices": 1})


def test_logging_out_is_of_this_device_alone_and_its_cookie_is_worth_nothing_then(app: Flask, alice: User) -> None:
    here, phone = log_in_with(app, alice), log_in_with(app, alice, PHONE)
    kept = here.get_cookie("session")
    assert kept
    here.post("/logout")
    here.set_cookie("session", kept.value)
    assert not is_in(here)
    assert is_in(phone)
    assert rows() == 1


def test_a_new_password_logs_out_everywhere_else(app: Flask, alice: User) -> None:
    here, phone = log_in_with(app, alice), log_in_with(app, alice, PHONE)
    here.post("/settings/security", data={"current": PASSWORD, "new": "a new and better secret"})
    assert is_in(here)
    assert not is_in(phone)
    assert rows() == 1


def test_logging_in_again_in_the_same_browser_ends_the_log_in_before(app: Flask, alice: User) -> None:
    client = log_in_with(app, alice)
    client.post("/login", data={"email": alice.email, "password": PASSWORD})
    assert is_in(client)
    assert rows() == 1


def test_a_cookie_with_a_made_up_key_opens_nothing(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in_with(app, alice)
    for key in ("", "x"):
        with client.session_transaction() as session:
            session.update({"_user_id": alice.get_id(), "key": key})
        assert not is_in(client)


def test_the_key_of_another_person_opens_nothing(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in(client, make_advisor())
    with client.session_transaction() as session:
        session["_user_id"] = alice.get_id()
    assert not is_in(client)


# ---- Ends by itself


@pytest.mark.parametrize(("is_admin", "idle"), [(True, timedelta(minutes=30)), (False, timedelta(hours=12))])
def test_an_idle_log_in_ends(is_admin: bool, idle: timedelta, app: Flask) -> None:
    client = log_in_with(app, make_admin() if is_admin else make_advisor())
    move_back("last_used_at", idle - timedelta(minutes=1))
    assert is_in(client)
    move_back("last_used_at", idle)
    assert not is_in(client)


@pytest.mark.parametrize(("is_admin", "at_most"), [(True, timedelta(hours=12)), (False, timedelta(days=7))])
def test_a_log_in_ends_however_often_it_is_used(is_admin: bool, at_most: timedelta, app: Flask) -> None:
    client = log_in_with(app, make_admin() if is_admin else make_advisor())
    move_back("created_at", at_most - timedelta(minutes=1))
    assert is_in(client)
    move_back("created_at", timedelta(minutes=1))
    assert not is_in(client)


def test_each_page_keeps_it_alive_written_once_a_minute(app: Flask, alice: User) -> None:
    client = log_in_with(app, alice)
    move_back("last_used_at", timedelta(seconds=50))
    assert is_in(client)
    assert last_used()[0] > timedelta(seconds=45)
    move_back("last_used_at", timedelta(minutes=5))
    assert is_in(client)
    assert last_used()[0] < timedelta(seconds=30)


@pytest.mark.parametrize(("path", "part"), [(POLL, True), (RELOAD, False)])
def test_a_page_that_asks_by_itself_keeps_nothing_alive(path: str, part: bool, app: Flask, alice: User) -> None:
    make_connection(alice)
    client = log_in_with(app, alice)
    move_back("last_used_at", timedelta(hours=2))
    assert client.get(path, part=part).status_code == 200
    assert last_used()[0] > timedelta(hours=2)
    move_back("last_used_at", timedelta(hours=10))
    answer = client.get(path, part=part)
    assert answer.status_code == (401 if part else 302)
    assert (answer.headers.get("HX-Redirect") or answer.location).startswith("/login")


def test_a_form_that_is_sent_after_the_end_changes_nothing(app: Flask, alice: User) -> None:
    client = log_in_with(app, alice)
    move_back("last_used_at", timedelta(hours=12))
    assert client.post("/settings", data={"name": "Eve"}).location == "/login"
    assert alice.name != "Eve"


def test_log_ins_that_ended_are_deleted_and_others_are_not(app: Flask, alice: User) -> None:
    ends_of = app.extensions["asapp.config"]
    log_in_with(app, alice)
    move_back("last_used_at", timedelta(hours=12))
    here = log_in_with(app, alice, PHONE)
    sessions.purge(ends_of)
    assert rows() == 1
    assert is_in(here)
    move_back("created_at", timedelta(days=7))
    sessions.purge(ends_of)
    assert rows() == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_takes_no_writes_stops_nobody_from_reading(own_app: Flask) -> None:
    """Another process holds SQLite's lock: when it was used is not written then."""
    event.listen(db.engine, "connect", lambda connection, _record: connection.execute("PRAGMA busy_timeout=100"))
    client = log_in_with(own_app, make_advisor())
    move_back("last_used_at", timedelta(minutes=5))
    db.session.rollback()
    db.engine.dispose()
    with closing(sqlite3.connect(str(db.engine.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert is_in(client)
    (ago,) = last_used()
    assert ago >= timedelta(minutes=5)


# ---- Recent log-ins, and what devices are called


def test_recent_log_ins_tell_what_was_tried(app: Flask, client: FlaskClient) -> None:
    ada = make_admin()
    client.post("/login", data={"email": ada.email, "password": "wrong"})
    client.post("/login", data={"email": ada.email, "password": PASSWORD})
    client.post("/login/code", data={"code": "000000"})
    page = log_in_with(app, ada).get("/settings/security").text
    recent = page.partition('id="recent"')[2]
    found = [recent.find(words) for words in ("Logged in<", "Right password, wrong code", "Wrong password")]
    assert -1 not in found
    assert found == sorted(found)
    assert "203.0.113.24" in recent


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (PHONE, "Safari on iPhone"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
            "Chrome on Mac",
        ),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.0", "A browser"),
        ("", "A browser"),
        ("<script>alert(1)</script> Linux", "A browser on Linux"),
    ],
)
def test_what_a_device_is_called(user_agent: str, name: str) -> None:
    assert name_of(user_agent) == name


@pytest.mark.parametrize(
    ("how_long", "words"),
    [
        (timedelta(minutes=30), "30 minutes"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(hours=12), "12 hours"),
        (timedelta(hours=24), "24 hours"),
        (timedelta(days=7), "7 days"),
    ],
)
def test_how_long_something_lasts(how_long: timedelta, words: str) -> None:
    assert lasting(how_long) == words


def test_log_ins_at_salesforce_are_begun_twenty_times_an_hour(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    start = "/settings/integrations/salesforce/connect"
    codes = [client.post(start).status_code for _ in range(21)]
    assert codes == [200] * 20 + [429]
    bob = app.test_client()
    log_in(bob, make_advisor())
    assert bob.post(start).status_code == 200
