"""While the database takes no writes, a sender's queries are answered and its events are refused, never lost silently."""

from __future__ import annotations

import psycopg
import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from asapp import create_app
from asapp.core import database
from asapp.core.extensions import db
from asapp.models import ApiKey, SuppressionEvent, User
from config import Config
from tests.factories import make_advisor, make_partner
from tests.pages import CheckingClient
from tests.senders import Sender, make_key, make_list, make_person, problem_of
from tests.web.test_database_locked import locked

GOOD = "someone@fjord.example"


@pytest.fixture
def client(app: Flask, config: Config, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of an app that waits only briefly for a lock."""
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.2)
    impatient = create_app(config)
    impatient.test_client_class = CheckingClient
    return impatient.test_client()


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(make_partner(), "Alice Moreau")


def test_questions_are_answered_and_events_refused(client: FlaskClient, config: Config, alice: User) -> None:
    clients = make_list(alice, "Clients", make_person(alice, GOOD))
    list_id, advisor_id = clients.public_id, alice.public_id
    sender = Sender(client, make_key())
    told = {"id": "1", "type": "unsubscribed", "advisor_id": advisor_id, "email": GOOD, "at": "2026-05-03T09:15:00Z"}
    sender.get(f"/lists/{list_id}/recipients")  # makes the firm's keys
    with locked(config):
        response = sender.post("/events", {"events": [told]}, broken=True)
        assert response.status_code == 503
        assert problem_of(response) == "unavailable"
        assert int(response.headers["Retry-After"]) > 0
        assert len(sender.get(f"/lists/{list_id}/recipients").get_json()["recipients"]) == 1
        assert sender.post("/may-send", {"advisor_id": advisor_id, "emails": [GOOD]}).status_code == 200
        assert sender.get("/advisors").status_code == 200
    assert sender.post("/events", {"events": [told]}).get_json()["results"][0]["result"] == "accepted"
    db.session.rollback()
    assert db.session.scalar(select(func.count()).select_from(SuppressionEvent)) == 1


def test_a_key_that_was_never_used_asks_while_nothing_can_be_written(
    client: FlaskClient, config: Config, alice: User
) -> None:
    sender = Sender(client, make_key())
    with locked(config, "api_keys"):
        assert sender.get("/advisors").status_code == 200
    assert db.session.scalars(select(ApiKey.last_used_at)).one() is None
    assert sender.get("/advisors").status_code == 200
    assert db.session.scalars(select(ApiKey.last_used_at)).one() is not None


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_an_answer_is_given_though_the_database_is_cut_off_while_the_request_ends(
    app: Flask, config: Config, alice: User, database_url: str
) -> None:
    """All was read, and the transaction is still open; ending it fails, which changes nothing of the answer."""
    key, cut_off = make_key(), create_app(config)
    cut_off.test_client_class = CheckingClient

    @cut_off.after_request
    def cut(response: Response) -> Response:
        backend = db.session.scalar(text("SELECT pg_backend_pid()"))
        with psycopg.connect(database_url.replace("+psycopg", "", 1), autocommit=True) as another:
            another.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        return response

    sender = Sender(cut_off.test_client(), key)
    for _ in range(2):
        assert sender.get("/advisors").get_json()["advisors"][0]["email"] == alice.email
