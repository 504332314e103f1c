"""The API matches its OpenAPI document, for every request, on both databases; and every documented status occurs.

Schemathesis makes requests that fit the document and requests that don't; each answer is checked against it.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import negative_data_rejection, unsupported_method
from sqlalchemy import select

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import ContactList, Scope, Send, SendState, User
from asapp.web.page_extensions import limiter
from tests.factories import make_advisor, make_partner, make_synced_connection
from tests.senders import make_key, make_list, make_person

EXAMPLES = 20
# These answers can't be requested here: test_api_access.py and test_api_database_away.py have them.
OF_OURS = {"500", "503"}


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(make_partner(), "Alice Moreau")


@pytest.fixture
def clients(alice: User) -> ContactList:
    connection = make_synced_connection(alice)
    people = [make_person(connection, f"{number}@fjord.example") for number in range(3)]
    return make_list(alice, "Clients", *people, make_person(alice, "0@fjord.example"))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Hypothesis parses sources of lambdas, which Python 3.11 fails at if the collector runs such code at that moment."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def document(app: Flask, monkeypatch: pytest.MonkeyPatch, no_collector: None) -> Any:
    monkeypatch.setattr(limiter, "enabled", False)
    load_all_checks()
    with app.app_context():
        return schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)


class Caller:
    """Sends cases with a key, checks the answers against the document, and records the statuses."""

    def __init__(self, app: Flask, key: str) -> None:
        self.app, self.key, self.met = app, key, defaultdict[str, set[str]](set)

    def call(self, case: Case, *excluded: Any) -> None:
        """Send what Schemathesis has made."""
        headers = {"Authorization": f"Bearer {self.key}"}
        db.session.rollback()
        with self.app.app_context():
            response = case.call(headers=headers)
        with self.app.app_context():  # some checks make another call, for example without the key
            case.validate_response(response, excluded_checks=[unsupported_method, *excluded], headers=headers)
        self.met[case.operation.label].add(str(response.status_code))

    def ask(self, operation: Any, *, paths: dict[str, str], key: str = "", query: Any = None, **how: Any) -> int:
        """Send what we have made."""
        headers = {"Authorization": f"Bearer {key or self.key}", **how.pop("headers", {})}
        path, method = operation.path.format_map(paths), operation.method.upper()
        response = self.app.test_client().open(
            path, method=method, headers=headers, query_string=query, forged=True, **how
        )
        operation.validate_response(response)
        self.met[operation.label].add(str(response.status_code))
        return int(response.status_code)


@pytest.fixture
def caller(app: Flask) -> Caller:
    return Caller(app, make_key())


def operations(document: Any) -> Iterator[Any]:
    for result in document.get_all_operations():
        yield result.ok()


def documented(operation: Any) -> set[str]:
    return set(operation.definition.raw["responses"])


def with_what_there_is(case: Case, alice: User, clients: ContactList) -> Case:
    """Return the same case with an existing advisor and list."""
    if isinstance(case.body, dict):
        named = {"advisor_id": alice.public_id, "list_id": clients.public_id}
        case.body |= {name: value for name, value in named.items() if name in case.body}
        for event in case.body.get("events", []):
            if isinstance(event, dict) and "advisor_id" in event:
                event["advisor_id"] = alice.public_id
    if case.path_parameters:
        case.path_parameters = {**case.path_parameters, "list_id": clients.public_id}
    return case


@pytest.mark.slow
def test_every_answer_is_documented_and_every_documented_status_is_met(
    document: Any, caller: Caller, alice: User, clients: ContactList
) -> None:
    found = list(operations(document))
    assert len(found) == 7
    for operation in found:
        for mode in GenerationMode:
            try_what_there_may_be(operation, mode, caller, alice, clients)
    meet_on_purpose({each.label: each for each in found}, caller, alice, clients)
    missing = {each.label: sorted(documented(each) - caller.met[each.label] - OF_OURS) for each in found}
    assert {label: statuses for label, statuses in missing.items() if statuses} == {}


def the_send_is_ready(sender_send_id: str, minutes: int = 60) -> None:
    send = db.session.scalars(select(Send).where(Send.sender_send_id == sender_send_id)).one()
    send.state, send.as_of, send.expires_at = SendState.READY, utcnow(), utcnow() + timedelta(minutes=minutes)
    db.session.commit()


def the_send_is_expired(sender_send_id: str) -> None:
    the_send_is_ready(sender_send_id, -1)


def try_what_there_may_be(
    operation: Any, mode: GenerationMode, caller: Caller, alice: User, clients: ContactList
) -> None:
    # A bad event is answered in its place, so that it stops no other: the call as a whole is accepted.
    excluded = [negative_data_rejection] if operation.path == "/api/v1/events" else []

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_about_alice=st.booleans())
    def send(case: Case, is_about_alice: bool) -> None:
        about = is_about_alice and mode is GenerationMode.POSITIVE
        caller.call(with_what_there_is(case, alice, clients) if about else case, *excluded)

    send()


def meet_on_purpose(found: dict[str, Any], caller: Caller, alice: User, clients: ContactList) -> None:
    """Make the requests whose answers random ones rarely get."""
    paths = {"list_id": clients.public_id, "send_id": "spring"}
    a_send = {"id": "spring", "list_id": clients.public_id, "max_age_minutes": 60}
    bodies: dict[str, dict[str, Any]] = {
        "POST /api/v1/sends": a_send,
        "POST /api/v1/may-send": {"advisor_id": alice.public_id, "emails": ["0@fjord.example"]},
        "POST /api/v1/events": {"events": [{}]},
    }

    def ask(label: str, **changes: Any) -> int:
        return caller.ask(found[label], **({"paths": paths, "json": bodies.get(label)} | changes))

    assert ask("POST /api/v1/sends") == 202
    assert ask("POST /api/v1/sends", json=a_send | {"max_age_minutes": 5}) == 409
    of_send, of_list = "GET /api/v1/sends/{send_id}/recipients", "GET /api/v1/lists/{list_id}/recipients"
    assert ask("GET /api/v1/sends/{send_id}") == 200
    assert ask(of_send) == 409
    the_send_is_ready("spring")
    lines = {"Accept": "application/x-ndjson"}
    assert [ask(of_send), ask(of_list), ask(of_send, headers=lines), ask(of_list, headers=lines)] == [200] * 4
    the_send_is_expired("spring")
    assert ask(of_send) == 410
    assert ask("GET /api/v1/advisors", query={"partner": "nobodys"}) == 404
    assert [ask("POST /api/v1/may-send"), ask("POST /api/v1/events"), ask("GET /api/v1/advisors")] == [200] * 3
    for label in (of_send, of_list, "GET /api/v1/sends/{send_id}"):
        assert ask(label, paths=dict.fromkeys(paths, "none")) == 404
    assert ask("POST /api/v1/sends", json=a_send | {"list_id": "none"}) == 404
    assert ask("POST /api/v1/may-send", json=bodies["POST /api/v1/may-send"] | {"advisor_id": "none"}) == 404
    for label in (of_send, of_list, "GET /api/v1/advisors"):
        assert ask(label, query={"limit": 0}) == 422
    for label in bodies:
        assert ask(label, json={}) == 422
        assert ask(label, json={"events": [{"detail": "x" * 1_000_001}]}) == 413
        assert ask(label, json=None, data=b"{}", content_type="text/plain") == 415
        assert ask(label, json=None, data=b"{", content_type="application/json") == 400
    weak, busy = {scope: make_key(scope) for scope in Scope}, make_key()
    limiter.enabled = True
    assert {ask("GET /api/v1/sends/{send_id}", key=busy) for _ in range(600)} == {200}
    for label in found:
        assert ask(label, key=weak[Scope.AUDIENCE_READ if label.endswith("/events") else Scope.EVENTS_WRITE]) == 403
        assert ask(label, key="asapp_wrong") == 401
        assert ask(label, key=busy) == 429
