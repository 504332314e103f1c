"""While the database can't be written (locked by another program, or a full disk) no input of people is lost."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, select, text

from asapp import create_app
from asapp.core import database
from asapp.core.extensions import db
from asapp.health import readiness
from asapp.leads import sign_up_page
from asapp.models import Contact, Lead, User
from asapp.web.optin import Token, write_token
from config import Config
from tests.factories import log_in, make_advisor, make_contact
from tests.pages import CheckingClient
from tests.signing_up import make_page

SITE = "https://www.moreau.example"


@pytest.fixture
def client(app: Flask, config: Config, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of an app that waits only briefly for a lock."""
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.2)
    monkeypatch.setattr(readiness, "CHECK_S", 0.5)
    impatient = create_app(config)
    impatient.test_client_class = CheckingClient
    return impatient.test_client()


@pytest.fixture
def alice(app: Flask) -> User:
    advisor = make_advisor()
    page = make_page(advisor)
    sign_up_page.save_page(page, "Letters", "Yes, write to me.", SITE)
    return advisor


@contextmanager
def locked(config: Config, tables: str = "leads, contacts, users, alembic_version") -> Iterator[None]:
    """Let another program hold the write lock."""
    db.session.rollback()
    engine = create_engine(config.database_url)
    try:
        with engine.connect() as other:
            if engine.dialect.name == "sqlite":
                other.connection.driver_connection.isolation_level = None  # type: ignore[union-attr]
                other.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                other.execute(text(f"LOCK TABLE {tables} IN EXCLUSIVE MODE"))
            yield
            other.rollback()
    finally:
        engine.dispose()


def again(page: str) -> dict[str, str]:
    """Return the fields that the button on the page sends again."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return {html.unescape(name): html.unescape(value) for name, value in found}


def test_a_sign_up_is_kept_on_the_page_and_goes_in_with_one_press(
    client: FlaskClient, alice: User, config: Config
) -> None:
    page = make_page(alice)
    with client.application.test_request_context():
        token = write_token(Token(page.slug, sign_up_page.current_text(alice.id).id, "a form", time.time() - 5))
    typed = {
        "first_name": 'Zoë "Z"',
        "last_name": "Groß",
        "email": "z@fjord.example",
        "consent": "yes",
        "csrf_token": token,
    }
    path = f"/o/{page.slug}"
    with locked(config):
        answer = client.post(path, data=typed, forged=True, broken=True)
    assert answer.status_code == 503
    assert "Nothing was changed" in answer.text
    assert again(answer.text) == typed
    assert f"frame-ancestors {SITE}" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Retry-After"]
    assert client.post(path, data=again(answer.text), forged=True).status_code == 303
    assert db.session.scalars(select(Lead.email)).all() == ["z@fjord.example"]


def test_a_new_contact_is_kept_on_the_page_and_goes_in_with_one_press(
    client: FlaskClient, alice: User, config: Config
) -> None:
    log_in(client, alice)
    assert isinstance(client, CheckingClient)
    typed = {"first_name": "Zoë", "last_name": "Groß", "email": "z@fjord.example", "csrf_token": client.csrf_token()}
    with locked(config):
        answer = client.post("/contacts/new", data=typed, forged=True, broken=True)
    assert answer.status_code == 503
    assert again(answer.text) == typed
    assert client.post("/contacts/new", data=again(answer.text), forged=True).status_code == 303
    assert db.session.scalars(select(Contact.email)).all() == ["z@fjord.example"]


def test_a_password_is_never_sent_back(client: FlaskClient, alice: User, config: Config) -> None:
    assert isinstance(client, CheckingClient)
    typed = {"email": "z@fjord.example", "password": "S3cr3t-S3cr3t", "csrf_token": client.csrf_token()}
    with locked(config):
        answer = client.post("/login", data=typed, forged=True, broken=True)
    assert answer.status_code in (422, 503)  # a wrong log-in writes an entry of the audit log
    assert "S3cr3t" not in answer.text


def test_pages_can_be_read_meanwhile(client: FlaskClient, alice: User, config: Config) -> None:
    make_contact(alice, first_name="Ravi")
    log_in(client, alice)
    with locked(config):
        assert "Ravi" in client.get("/contacts").text


def test_it_is_not_ready(client: FlaskClient, alice: User, config: Config) -> None:
    with locked(config):
        answer = client.get("/readyz", broken=True)
    assert answer.status_code == 503
    assert answer.json
    assert answer.json["checks"]["database"] == {"ok": True}
    assert not answer.json["checks"]["writing"]["ok"]
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("how", ["gone", "too much"])
def test_what_goes_wrong_in_a_frame_is_shown_in_it(how: str, client: FlaskClient, alice: User) -> None:
    page = make_page(alice)
    path = f"/o/{page.slug}"
    if how == "gone":
        alice.deactivated_at = alice.created_at
        db.session.commit()
        answer = client.get(path)
    else:
        answer = client.post(path, data={"first_name": "x" * 1_100_000}, forged=True)
    assert answer.status_code in (404, 413)
    assert f"frame-ancestors {SITE}" in answer.headers["Content-Security-Policy"]
    assert "Go to the start page" not in answer.text
