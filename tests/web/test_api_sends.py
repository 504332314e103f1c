"""Preparing a send by the API: stored at once, its state polled, its recipients available only while it is valid."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from asapp import create_app
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import ContactList, Send, SendReason, SendState, User
from asapp.sends import sends
from tests.conftest import make_config, opened
from tests.factories import make_advisor, make_partner
from tests.racing import crash_of, race
from tests.senders import Sender, make_key, make_list, make_person, problem_of

GOOD = "someone@fjord.example"


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(make_partner(), "Alice Moreau")


@pytest.fixture
def clients(alice: User) -> ContactList:
    return make_list(alice, "Clients", make_person(alice, GOOD))


@pytest.fixture
def sender(client: FlaskClient, alice: User) -> Sender:
    return Sender(client, make_key())


@pytest.fixture
def client_without_redis(database_url: str, request: pytest.FixtureRequest) -> Iterator[FlaskClient]:
    app = create_app(make_config(database_url))
    with opened(app, request):
        yield app.test_client()


def body_of(clients: ContactList, **changes: Any) -> dict[str, Any]:
    return {"id": "spring-2026.1", "list_id": clients.public_id, "max_age_minutes": 60} | changes


def the_send(**columns: Any) -> Send:
    """Change the only send as its job would; return it."""
    send = db.session.scalars(select(Send)).one()
    for name, value in columns.items():
        setattr(send, name, value)
    db.session.commit()
    return send


def ready(minutes: float = 60) -> Send:
    now = utcnow().replace(microsecond=0)
    times = {"as_of": now - timedelta(minutes=1), "expires_at": now + timedelta(minutes=minutes), "ended_at": now}
    return the_send(state=SendState.READY, **times)


def test_a_send_is_a_row_before_it_is_answered(sender: Sender, clients: ContactList) -> None:
    response = sender.post("/sends", body_of(clients))
    assert response.status_code == 202
    assert response.headers["Location"] == "/api/v1/sends/spring-2026.1"
    assert response.get_json() == {
        "id": "spring-2026.1",
        "list_id": clients.public_id,
        "state": "preparing",
        "reason": None,
        "as_of": None,
        "expires_at": None,
        "recipients_url": "http://127.0.0.1:5000/api/v1/sends/spring-2026.1/recipients",
    }
    send = the_send()
    assert send.deadline_at - send.created_at == timedelta(minutes=5)
    assert sender.get("/sends/spring-2026.1").get_json() == response.get_json()


def test_its_job_is_enqueued(app: Flask, sender: Sender, clients: ContactList) -> None:
    sender.post("/sends", body_of(clients))
    queues = app.extensions["asapp.queues"]
    waiting = {job for queue in (queues.leads, queues.sync, queues.mails) for job in queue.get_job_ids()}
    assert any(job.startswith(f"send-{the_send().id}-") for job in waiting)


def test_the_same_id_again_is_the_same_send(sender: Sender, clients: ContactList) -> None:
    first = sender.post("/sends", body_of(clients)).get_json()
    again = sender.post("/sends", body_of(clients))
    assert again.status_code == 202
    assert again.get_json() == first
    ready()
    assert sender.post("/sends", body_of(clients)).get_json()["state"] == "ready"
    assert db.session.scalar(select(func.count()).select_from(Send)) == 1


def test_the_same_call_twice_at_once_makes_one_send(app: Flask, clients: ContactList) -> None:
    list_id = clients.id

    def ask() -> int:
        return sends.start_send(0, "spring", db.session.get_one(ContactList, list_id), 60).id

    found = race(app, *[ask] * 4)
    assert crash_of(found) == []
    assert len(set(found)) == 1


def test_the_same_id_with_other_values_is_refused(sender: Sender, clients: ContactList, alice: User) -> None:
    sender.post("/sends", body_of(clients))
    for other in (body_of(make_list(alice, "Others")), body_of(clients, max_age_minutes=61)):
        response = sender.post("/sends", other)
        assert response.status_code == 409
        assert problem_of(response) == "send-differs"


def test_an_id_is_the_keys_firms_own(client: FlaskClient, sender: Sender, clients: ContactList, alice: User) -> None:
    assert alice.partner
    of_firm = Sender(client, make_key(partner=alice.partner))
    sender.post("/sends", body_of(clients))
    assert problem_of(of_firm.get("/sends/spring-2026.1")) == "not-found"
    assert of_firm.post("/sends", body_of(clients, max_age_minutes=5)).status_code == 202
    assert db.session.scalar(select(func.count()).select_from(Send)) == 2


@pytest.mark.parametrize("state", [SendState.PREPARING, SendState.STALE, SendState.REFUSED])
def test_recipients_of_a_send_that_is_not_ready(state: SendState, sender: Sender, clients: ContactList) -> None:
    sender.post("/sends", body_of(clients))
    the_send(state=state, reason=None if state == SendState.PREPARING else SendReason.NEEDS_RECONNECT)
    response = sender.get("/sends/spring-2026.1/recipients")
    assert response.status_code == 409
    assert problem_of(response) == "send-not-ready"
    body = response.get_json()
    assert (body["state"], body["reason"]) == (state, the_send().reason)
    means = "" if state == SendState.PREPARING else " Salesforce no longer accepts the advisor's connection."
    assert body["detail"] == f"The send is {state}.{means}"
    assert problem_of(sender.lines("/sends/spring-2026.1/recipients")) == "send-not-ready"


def test_recipients_of_a_send_that_took_too_long(sender: Sender, clients: ContactList) -> None:
    """Its own address says that it is stale from the deadline on, before any process has written that down."""
    sender.post("/sends", body_of(clients))
    the_send(deadline_at=utcnow())
    told = sender.get("/sends/spring-2026.1").get_json()
    body = sender.get("/sends/spring-2026.1/recipients").get_json()
    assert (told["state"], told["reason"]) == (body["state"], body["reason"]) == ("stale", "took_too_long")


def test_recipients_of_a_send_that_is_ready(sender: Sender, clients: ContactList, alice: User) -> None:
    sender.post("/sends", body_of(clients))
    send = ready()
    assert send.as_of
    body = sender.get("/sends/spring-2026.1/recipients").get_json()
    assert [each["email"] for each in body["recipients"]] == [GOOD]
    assert body["as_of"] == send.as_of.strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = sender.lines("/sends/spring-2026.1/recipients")
    assert lines.headers["X-Opt-Outs-As-Of"] == body["as_of"]
    assert len(lines.text.splitlines()) == 1


def test_who_unsubscribed_since_it_was_prepared_is_not_among_them(
    sender: Sender, clients: ContactList, alice: User
) -> None:
    sender.post("/sends", body_of(clients))
    ready()
    told = {"id": "1", "type": "unsubscribed", "advisor_id": alice.public_id, "email": GOOD, "at": utcnow().isoformat()}
    assert sender.post("/events", {"events": [told]}).get_json()["results"][0]["result"] == "accepted"
    assert sender.get("/sends/spring-2026.1/recipients").get_json()["recipients"] == []
    assert sender.lines("/sends/spring-2026.1/recipients").text == ""


def test_recipients_of_a_send_that_has_expired(sender: Sender, clients: ContactList) -> None:
    sender.post("/sends", body_of(clients))
    ready(minutes=-1)
    response = sender.get("/sends/spring-2026.1/recipients")
    assert response.status_code == 410
    assert problem_of(response) == "send-expired"
    assert sender.get("/sends/spring-2026.1").get_json()["state"] == "ready"


def test_a_send_goes_with_its_list_and_its_advisor(sender: Sender, clients: ContactList, alice: User) -> None:
    sender.post("/sends", body_of(clients))
    ready()
    alice.deactivated_at = utcnow()
    db.session.commit()
    assert problem_of(sender.get("/sends/spring-2026.1")) == "not-found"
    assert problem_of(sender.get("/sends/spring-2026.1/recipients")) == "not-found"
    alice.deactivated_at = None
    db.session.delete(clients)
    db.session.commit()
    assert problem_of(sender.get("/sends/spring-2026.1")) == "not-found"


def test_a_send_that_does_not_exist_is_not_found(sender: Sender) -> None:
    assert problem_of(sender.get("/sends/none")) == "not-found"
    assert problem_of(sender.get("/sends/none/recipients")) == "not-found"


def test_with_redis_away_the_send_waits_and_the_api_answers(client_without_redis: FlaskClient) -> None:
    alice = make_advisor(make_partner(), "Alice Moreau")
    clients = make_list(alice, "Clients", make_person(alice, GOOD))
    sender = Sender(client_without_redis, make_key())
    assert sender.post("/sends", body_of(clients)).status_code == 202
    assert the_send().is_preparing
    assert sender.get("/advisors").status_code == 200
    assert sender.get(f"/lists/{clients.public_id}/recipients").get_json()["recipients"]
    told = {"id": "1", "type": "bounced", "advisor_id": alice.public_id, "email": GOOD, "at": utcnow().isoformat()}
    assert sender.post("/events", {"events": [told]}).get_json()["results"][0]["result"] == "accepted"
