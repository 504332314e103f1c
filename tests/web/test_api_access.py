"""Access to the API: keys, their scopes, firms, expiry and limits. Only keys open it, and every refusal is a problem document."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape
from sqlalchemy import event, select, update

from asapp.accounts import api_keys
from asapp.audit.entries import COMMAND
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.senders import MAY_SEND_REASONS, SEND_REASONS, ReasonForSenders
from asapp.models import ApiKey, Partner, Scope, User
from asapp.partners import offboarding
from asapp.web.api.problems import Problem
from tests.factories import log_in, make_admin, make_advisor, make_partner, org_access
from tests.senders import Sender, make_key, make_list, problem_of


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(make_partner(), "Alice Moreau")


def test_a_key_opens_the_api(client: FlaskClient, alice: User) -> None:
    response = Sender(client, make_key()).get("/advisors")
    assert response.status_code == 200
    assert [each["email"] for each in response.get_json()["advisors"]] == [alice.email]
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    assert not [name for name in dict(response.headers) if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer asapp_wrong",
        "Bearer asapp_ÿ",
        "Basic YXNhcHA6YXNhcHA=",
        "asapp_without_a_scheme",
        "Bearer " + "a" * 5000,
    ],
)
def test_without_a_key_that_is_ours_there_is_401(header: str | None, client: FlaskClient, alice: User) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = client.get("/api/v1/advisors", headers=headers)
    assert response.status_code == 401
    assert problem_of(response) == "not-authenticated"
    assert response.headers["WWW-Authenticate"].startswith('Bearer realm="asapp"')
    assert ("invalid_token" in response.headers["WWW-Authenticate"]) == (header is not None)


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Bearers"])
def test_a_good_key_under_another_scheme_opens_nothing(scheme: str, client: FlaskClient, alice: User) -> None:
    response = client.get("/api/v1/advisors", headers={"Authorization": f"{scheme} {make_key()}"})
    assert response.status_code == 401


def test_the_scheme_is_read_without_case(client: FlaskClient, alice: User) -> None:
    assert client.get("/api/v1/advisors", headers={"Authorization": f"bearer {make_key()}"}).status_code == 200


def test_an_expired_key_is_none(client: FlaskClient, alice: User) -> None:
    key = make_key(expires_at=utcnow() + timedelta(minutes=5))
    assert Sender(client, key).get("/advisors").status_code == 200
    db.session.execute(update(ApiKey).values(expires_at=utcnow() - timedelta(seconds=1)))
    db.session.commit()
    assert problem_of(Sender(client, key).get("/advisors")) == "not-authenticated"


def test_a_revoked_key_is_none_from_the_next_call_on(client: FlaskClient, alice: User) -> None:
    key = make_key()
    sender = Sender(client, key)
    assert sender.get("/advisors").status_code == 200
    api_keys.revoke(db.session.scalars(select(ApiKey)).one(), COMMAND)
    assert problem_of(sender.get("/advisors")) == "not-authenticated"


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        (Scope.EVENTS_WRITE, "GET", "/advisors"),
        (Scope.EVENTS_WRITE, "GET", "/lists/x/recipients"),
        (Scope.EVENTS_WRITE, "POST", "/sends"),
        (Scope.EVENTS_WRITE, "GET", "/sends/x"),
        (Scope.EVENTS_WRITE, "GET", "/sends/x/recipients"),
        (Scope.EVENTS_WRITE, "POST", "/may-send"),
        (Scope.AUDIENCE_READ, "POST", "/events"),
    ],
)
def test_a_key_without_the_scope_is_refused_before_anything_is_looked_at(
    scope: Scope, method: str, path: str, client: FlaskClient, alice: User
) -> None:
    sender = Sender(client, make_key(scope))
    response = sender.get(path) if method == "GET" else sender.post(path, {"nothing": "that fits"})
    assert response.status_code == 403
    assert problem_of(response) == "missing-scope"
    assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("role", ["advisor", "admin"])
def test_a_session_gives_no_right(role: str, client: FlaskClient, alice: User) -> None:
    log_in(client, alice if role == "advisor" else make_admin())
    assert problem_of(client.get("/api/v1/advisors")) == "not-authenticated"
    assert problem_of(client.post("/api/v1/events", json={"events": []})) == "not-authenticated"


def test_a_key_gives_no_right_outside_the_api(client: FlaskClient, alice: User) -> None:
    headers = {"Authorization": f"Bearer {make_key()}"}
    assert client.get("/contacts", headers=headers).location.startswith("/login")
    assert client.get("/admin/api-keys", headers=headers).location.startswith("/login")


def test_a_key_of_one_firm_sees_no_other(client: FlaskClient, alice: User) -> None:
    charlie = make_advisor(make_partner("Harbour Chou"), "Charlie Chou")
    assert alice.partner
    assert charlie.partner
    of_charlie = make_list(charlie)
    slug, list_id, advisor_id = charlie.partner.slug, of_charlie.public_id, charlie.public_id
    sender = Sender(client, make_key(partner=alice.partner))
    assert [each["id"] for each in sender.get("/advisors").get_json()["advisors"]] == [alice.public_id]
    assert problem_of(sender.get(f"/advisors?partner={slug}")) == "not-found"
    assert problem_of(sender.get(f"/lists/{list_id}/recipients")) == "not-found"
    assert problem_of(sender.post("/sends", {"id": "s", "list_id": list_id, "max_age_minutes": 5})) == "not-found"
    assert problem_of(sender.post("/may-send", {"advisor_id": advisor_id, "emails": ["a@b.example"]})) == "not-found"
    event_of_charlie = {
        "id": "1",
        "type": "unsubscribed",
        "advisor_id": advisor_id,
        "email": "a@b.example",
        "at": "2026-01-01T00:00:00Z",
    }
    (result,) = sender.post("/events", {"events": [event_of_charlie]}).get_json()["results"]
    assert result["result"] == "invalid"
    assert "advisor_id" in result["error"]


def test_when_a_key_was_used_is_written_once_a_minute(client: FlaskClient, alice: User) -> None:
    sender = Sender(client, make_key())
    assert db.session.scalars(select(ApiKey.last_used_at)).one() is None
    written: list[str] = []

    def collect_statement(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "UPDATE api_keys" in statement:
            written.append(statement)

    event.listen(db.engine, "after_cursor_execute", collect_statement)
    try:
        for _ in range(3):
            assert sender.get("/advisors").status_code == 200
        assert len(written) == 1
        used_at = db.session.scalars(select(ApiKey.last_used_at)).one()
        assert used_at
        assert utcnow() - used_at < timedelta(seconds=30)
        db.session.execute(update(ApiKey).values(last_used_at=used_at - timedelta(minutes=2)))
        db.session.commit()
        written.clear()
        sender.get("/advisors")
        assert len(written) == 1
    finally:
        event.remove(db.engine, "after_cursor_execute", collect_statement)


def test_a_key_is_kept_as_its_hash_alone(app: Flask, alice: User) -> None:
    key = make_key()
    assert key.startswith("asapp_")
    assert len(key) > 40
    row = db.session.scalars(select(ApiKey)).one()
    stored = " ".join(str(getattr(row, column.name)) for column in ApiKey.__table__.columns)
    assert key not in stored
    assert key.removeprefix("asapp_") not in stored
    assert key.endswith(row.ends_with)


def test_a_key_goes_with_its_firm(client: FlaskClient, alice: User) -> None:
    assert alice.partner
    key = make_key(partner=alice.partner)
    offboarding.delete_partner(db.session.get_one(Partner, alice.partner.id), org_access())
    assert problem_of(Sender(client, key).get("/advisors")) == "not-authenticated"


# ---- Limits


@pytest.mark.slow
def test_a_key_that_asks_too_often_waits_and_others_do_not(client: FlaskClient, alice: User) -> None:
    busy, calm = Sender(client, make_key()), Sender(client, make_key())
    answers = [busy.get("/sends/none").status_code for _ in range(600)]
    while answers[-1] == 404 and len(answers) < 1200:  # a new minute may have begun, with a new count
        answers.append(busy.get("/sends/none").status_code)
    assert (len(answers) >= 600, set(answers[:600])) == (True, {404})
    refused = busy.get("/advisors")  # the limit is for the key, whatever it calls
    assert refused.status_code == 429
    assert problem_of(refused) == "too-many-requests"
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert calm.get("/advisors").status_code == 200


def test_wrong_keys_are_limited_by_network_and_hurt_no_good_key(client: FlaskClient, alice: User) -> None:
    wrong, good = Sender(client, "asapp_wrong"), Sender(client, make_key())
    assert {wrong.get("/advisors").status_code for _ in range(60)} == {401}
    refused = wrong.get("/advisors")
    assert problem_of(refused) == "too-many-requests"
    assert "Retry-After" in refused.headers
    assert good.get("/advisors").status_code == 200


# ---- Problems, whatever went wrong


def test_what_is_not_there_is_a_problem(client: FlaskClient) -> None:
    for path in ("/api/", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/advisors", "/api/v1/lists"):
        response = client.get(path)
        assert response.status_code == 404, path
        assert problem_of(response) == "not-found"


def test_a_method_that_an_address_does_not_take(client: FlaskClient, alice: User) -> None:
    response = client.put("/api/v1/events", json={})
    assert problem_of(response) == "method-not-allowed"
    assert "POST" in response.headers["Allow"]
    assert problem_of(client.post("/api/v1/advisors", json={}, forged=True)) == "method-not-allowed"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_is_not_json(kind: str, client: FlaskClient, alice: User) -> None:
    response = Sender(client, make_key()).post("/events", data=b'{"events": []}', headers={"Content-Type": kind})
    assert response.status_code == 415
    assert problem_of(response) == "not-json"


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"events": [}', b"\xff", b'"\\ud800"', b'{"a": NaN}', b"[" * 5000, b"\x00"]
)
def test_json_that_cannot_be_read(body: bytes, client: FlaskClient, alice: User) -> None:
    for path in ("/events", "/may-send", "/sends"):
        response = Sender(client, make_key()).post(path, data=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert problem_of(response) == "bad-request"


def test_a_body_that_is_too_large(client: FlaskClient, alice: User) -> None:
    body = {"events": [{"detail": "x" * 1_000_001}]}
    response = Sender(client, make_key()).post("/events", body)
    assert response.status_code == 413
    assert problem_of(response) == "too-large"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/events", {}, "#/events"),
        ("/events", {"events": {}}, "#/events"),
        ("/events", {"events": []}, "#/events"),
        ("/events", {"events": [{}] * 1001}, "#/events"),
        ("/events", {"events": [{}], "more": 1}, "#/more"),
        ("/events", [], "#"),
        ("/may-send", {"emails": ["a@b.example"]}, "#/advisor_id"),
        ("/may-send", {"advisor_id": 5, "emails": ["a@b.example"]}, "#/advisor_id"),
        ("/may-send", {"advisor_id": "x", "emails": []}, "#/emails"),
        ("/may-send", {"advisor_id": "x", "emails": ["a"] * 1001}, "#/emails"),
        ("/may-send", {"advisor_id": "x", "emails": ["ok@b.example", 7]}, "#/emails/1"),
        ("/sends", {"id": "a b", "list_id": "x", "max_age_minutes": 5}, "#/id"),
        ("/sends", {"id": "ab\n", "list_id": "x", "max_age_minutes": 5}, "#/id"),
        ("/sends", {"id": "../../x", "list_id": "x", "max_age_minutes": 5}, "#/id"),
        ("/sends", {"id": "a", "list_id": "x", "max_age_minutes": "5"}, "#/max_age_minutes"),
        ("/sends", {"id": "a", "list_id": "x", "max_age_minutes": -1}, "#/max_age_minutes"),
        ("/sends", {"id": "a", "list_id": "x", "max_age_minutes": 10**9}, "#/max_age_minutes"),
    ],
)
def test_an_invalid_body_is_refused_with_the_place(
    path: str, body: object, pointer: str, client: FlaskClient, alice: User
) -> None:
    response = Sender(client, make_key()).post(path, body)
    assert response.status_code == 422
    assert problem_of(response) == "invalid"
    errors = response.get_json()["errors"]
    assert pointer in [error["pointer"] for error in errors]
    assert all(error["detail"] for error in errors)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%C3%BC", "cursor"),
        ("cursor=a", "cursor"),
        ("cursor=" + "a" * 201, "cursor"),
    ],
)
def test_an_invalid_query_is_refused_with_the_parameter(
    query: str, parameter: str, client: FlaskClient, alice: User
) -> None:
    list_id = make_list(alice).public_id
    for path in ("/advisors", f"/lists/{list_id}/recipients"):
        response = Sender(client, make_key()).get(f"{path}?{query}")
        assert response.status_code == 422, path
        assert problem_of(response) == "invalid"
        assert {error["parameter"] for error in response.get_json()["errors"]} == {parameter}


def test_what_breaks_is_a_problem_with_its_number(own_app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """A missing table is a bug of ours."""
    client, key = own_app.test_client(), make_key()
    make_advisor(make_partner(), "Alice Moreau")
    own_app.config["PROPAGATE_EXCEPTIONS"] = False
    own_app.config["TESTING"] = False

    def broken(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("secret detail")

    own_app.view_functions["api.advisors"] = broken
    response = client.get("/api/v1/advisors", headers={"Authorization": f"Bearer {key}"}, broken=True)
    assert response.status_code == 500
    assert problem_of(response) == "broken"
    assert "secret detail" not in response.text
    assert response.get_json()["request_id"] == response.headers["X-Request-ID"]


# ---- Its documentation


def test_the_document_is_openapi_3_1_and_needs_no_key(client: FlaskClient) -> None:
    document = client.get("/api/v1/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/api/v1/advisors",
        "/api/v1/events",
        "/api/v1/lists/{list_id}/recipients",
        "/api/v1/may-send",
        "/api/v1/sends",
        "/api/v1/sends/{send_id}",
        "/api/v1/sends/{send_id}/recipients",
    }
    for path in document["paths"].values():
        for method in ("get", "post"):
            if method in path:
                assert path[method]["security"]
                assert path[method]["summary"]


def test_what_may_be_null_has_null_among_its_values(client: FlaskClient) -> None:
    schemas = client.get("/api/v1/openapi.json").get_json()["components"]["schemas"]
    members = [member for schema in schemas.values() for member in schema["properties"].values() if "enum" in member]
    assert members
    for member in members:
        assert (None in member["enum"]) == ("null" in member["type"])


@pytest.mark.parametrize(("schema", "reasons"), [("SendOut", SEND_REASONS), ("MaySendResult", MAY_SEND_REASONS)])
def test_the_document_and_the_page_say_what_each_reason_means(
    client: FlaskClient, schema: str, reasons: dict[str, ReasonForSenders]
) -> None:
    described = client.get("/api/v1/openapi.json").get_json()["components"]["schemas"][schema]["properties"]["reason"]
    *told, null = described["oneOf"]
    assert {each["const"]: each["description"] for each in told} == {code: reasons[code].text for code in reasons}
    assert (null, described["enum"]) == ({"type": "null"}, [*reasons, None])
    page = client.get("/api/docs").text
    for code, each in reasons.items():
        assert f"<li><code>{code}</code>: {escape(each.text)}</li>" in page


def test_the_page_documents_each_call_and_each_problem(client: FlaskClient) -> None:
    page = client.get("/api/docs")
    assert page.status_code == 200
    for path in client.get("/api/v1/openapi.json").get_json()["paths"]:
        assert path in page.text
    for problem in Problem:
        assert f'id="{problem.value.slug}"' in page.text
    assert "Set-Cookie" not in page.headers
