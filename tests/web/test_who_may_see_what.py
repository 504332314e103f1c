"""Access to every route, tested as every kind of user.

A new route fails here by its name until it is in ACCESS (tests/route_access.py), where its author decides who it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from asapp.core.extensions import db
from asapp.health.readiness import PROBE
from asapp.models import User
from asapp.web.access import OPEN_WITHOUT_SECOND_FACTOR, PUBLIC_ENDPOINTS
from tests.factories import log_in, make_admin
from tests.route_access import ACCESS, NEEDS_FRESH, For, everything_of, iter_routes, open_route
from tests.signing_up import make_page
from tests.two_firms import Belongings, World, make_world, rows_of, what_changed, whole_database

# Access is decided before any query: one database is enough for a test this long.
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


@pytest.fixture
def world(app: Flask) -> Iterator[World]:
    with requests_mock.Mocker() as salesforce:
        salesforce.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=503)
        made = make_world()
        make_page(made.fred)
        yield made


def is_sent_to_login(response: Any) -> bool:
    return response.status_code == 302 and response.location.partition("?")[0] == "/login"


def report(problems: list[str]) -> None:
    assert not problems, "\n".join(problems)


# ---- Every route has a rule


def test_every_route_has_an_access_rule(app: Flask) -> None:
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    report([f"{name} is not in ACCESS: who may open it?" for name in sorted(endpoints - set(ACCESS))])
    report([f"{name} is in ACCESS and nowhere else" for name in sorted(set(ACCESS) - endpoints)])


def test_what_is_public_here_is_public_there(app: Flask) -> None:
    assert {name for name, access in ACCESS.items() if access is For.EVERYBODY} == PUBLIC_ENDPOINTS


def test_methods_that_no_form_sends_are_refused(app: Flask, client: FlaskClient, world: World) -> None:
    log_in(client, world.alice.user)
    before, problems = whole_database(), []
    for route in iter_routes(app, world, world.alice):
        for method in ("PUT", "PATCH", "DELETE", "TRACE"):
            status = client.open(route.path, method=method).status_code
            if status != 405:
                problems.append(f"{method} {route.path}: {status}")
    report(problems)
    assert what_changed(before, whole_database()) == []


# ---- Without a log-in, and with one that has ended


@pytest.mark.parametrize("who", ["anonymous", "deactivated", "logged out"])
def test_without_a_session_one_comes_to_the_login_and_nothing_happens(
    who: str, app: Flask, client: FlaskClient, world: World
) -> None:
    if who == "deactivated":
        log_in(client, world.dora)
    elif who == "logged out":
        log_in(client, world.alice.user)
        kept = client.get_cookie("session")
        client.post("/logout")
        assert kept
        client.set_cookie("session", kept.value)
    before, problems = whole_database(), []
    for route in iter_routes(app, world, world.alice):
        if route.access is For.EVERYBODY:
            leads_to_login = route.endpoint in ("home.index", "auth.code")
            if route.is_safe and is_sent_to_login(open_route(client, route)) != leads_to_login:
                problems.append(f"{route} is on the public list")
            continue
        if route.access is For.SENDERS:
            if open_route(client, route, everything_of(world.alice)).status_code != 401:
                problems.append(f"{route} opens without a key")
            continue
        if not is_sent_to_login(open_route(client, route, everything_of(world.alice))):
            problems.append(f"{route} opens")
        part = open_route(client, route, everything_of(world.alice), part=True)
        if part.status_code != 401 or not part.headers.get("HX-Redirect", "").startswith("/login"):
            problems.append(f"{route} opens for htmx")
        if part.text.strip():
            problems.append(f"{route} says something")
    report(problems)
    assert what_changed(before, whole_database()) == []


def test_who_is_deactivated_is_out_with_the_next_click(client: FlaskClient, world: World, app: Flask) -> None:
    bob, ada = app.test_client(), app.test_client()
    log_in(bob, world.bob.user)
    log_in(ada, world.ada)
    assert bob.get("/contacts").status_code == 200
    ada.post(f"/admin/partners/{world.northgate.slug}/advisors/{world.bob.user.id}/deactivate")
    assert is_sent_to_login(bob.get("/contacts"))
    assert bob.get(f"/o/{world.bob.page.slug}").status_code == 404


# ---- Advisors


@pytest.mark.parametrize(("who", "whose"), [("bob", "alice"), ("charlie", "alice"), ("alice", "charlie")])
def test_what_is_another_advisors_is_not_there(
    who: str, whose: str, app: Flask, client: FlaskClient, world: World
) -> None:
    log_in(client, getattr(world, who).user)
    owner: Belongings = getattr(world, whose)
    before, problems = whole_database(), []
    tried = 0
    for route in iter_routes(app, world, owner):
        is_named = route.access is For.ADVISORS and any(
            part.isdigit() for part in route.path.replace(".", "/").split("/")
        )
        if not is_named:
            continue
        tried += 1
        for how in ({}, {"part": True}):
            response = open_route(client, route, everything_of(owner), **how)
            if response.status_code != 404:
                problems.append(f"{route}: {response.status_code}")
    report(problems)
    assert tried > 50
    assert what_changed(before, whole_database()) == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/contacts/delete", "id"),
        ("/contacts/restore", "id"),
        ("/contacts/selection", "to_list"),
        ("/leads/retry", "lead"),
        ("/leads/check", "lead"),
    ],
)
def test_what_is_another_advisors_is_not_there_for_a_form(
    path: str, named: str, client: FlaskClient, world: World
) -> None:
    log_in(client, world.bob.user)
    for owner in (world.alice, world.charlie):
        before = whole_database()
        response = client.post(path, data=everything_of(owner))
        assert response.status_code == 404, named
        assert what_changed(before, whole_database()) == []


def test_own_lists_take_no_contacts_of_others(client: FlaskClient, world: World) -> None:
    log_in(client, world.bob.user)
    before = rows_of(world.alice.user)
    data = {"do": "add", "to_list": str(world.bob.contact_list.id), "id": everything_of(world.alice)["id"]}
    client.post("/contacts/selection", data=data)
    own = world.bob.contacts[0].id
    client.post(f"/contacts/{own}/lists", data={"list": str(world.alice.contact_list.id)})
    for owner in (world.alice, world.charlie):
        assert client.get(f"/contacts?list={owner.contact_list.id}").status_code == 404
    assert rows_of(world.alice.user) == before


@pytest.mark.parametrize("who", ["alice", "fred"])
def test_whatever_an_advisor_sends_the_others_keep_what_they_have(
    who: str, app: Flask, client: FlaskClient, world: World
) -> None:
    """Post every form, with ids of others in every field that might be trusted, from an advisor's own session."""
    advisor = world.fred if who == "fred" else world.alice.user
    before = {other.user.name: rows_of(other.user) for other in (world.bob, world.charlie)}
    problems = []
    for route in list(iter_routes(app, world, world.alice)):  # before one of them deletes something
        if route.is_safe or route.access not in (For.ADVISORS, For.LOGGED_IN):
            continue
        for owner in (world.bob, world.charlie):
            log_in(client, advisor)
            open_route(client, route, everything_of(owner))
            after = rows_of(owner.user)
            if after != before[owner.user.name]:
                problems.append(f"{route}: {what_changed(before[owner.user.name], after)} of {owner.user.name}")
    report(problems)


@pytest.mark.parametrize("who", ["alice", "charlie", "fred"])
def test_admin_pages_are_forbidden_to_advisors(who: str, app: Flask, client: FlaskClient, world: World) -> None:
    advisor = world.fred if who == "fred" else getattr(world, who).user
    log_in(client, advisor)
    before, problems = whole_database(), []
    for route in iter_routes(app, world, world.alice):
        if route.access is not For.ADMINS:
            continue
        for how in ({}, {"part": True}):
            response = open_route(client, route, everything_of(world.alice), **how)
            if response.status_code != 403:
                problems.append(f"{route}: {response.status_code}")
            elif world.alice.user.email in response.text:
                problems.append(f"{route} tells")
    report(problems)
    assert what_changed(before, whole_database()) == []


def test_who_is_no_admin_any_more_is_refused_with_the_next_click(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    assert client.get("/admin/partners").status_code == 200
    world.ada.role, world.ada.partner_id = "advisor", world.northgate.id
    db.session.commit()
    assert client.get("/admin/partners").status_code == 403


# ---- Admins


def test_advisors_pages_are_forbidden_to_admins(app: Flask, client: FlaskClient, world: World) -> None:
    """An admin sees how a firm is doing, but no contacts."""
    log_in(client, world.ada)
    before, problems = whole_database(), []
    for route in iter_routes(app, world, world.alice):
        if route.access is For.ADVISORS:
            response = open_route(client, route, everything_of(world.alice))
            if response.status_code != 403:
                problems.append(f"{route}: {response.status_code}")
    report(problems)
    assert what_changed(before, whole_database()) == []


def test_an_advisor_is_found_under_the_own_firm_only(app: Flask, client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    before, problems = whole_database(), []
    slug = world.northgate.slug
    for route in iter_routes(app, world, world.charlie):
        assert world.charlie.user.partner
        if not route.endpoint.startswith("advisors.") or str(world.charlie.user.id) not in route.path.split("/"):
            continue
        route.path = route.path.replace(world.charlie.user.partner.slug, slug)
        if open_route(client, route).status_code != 404:
            problems.append(str(route))
    report(problems)
    assert what_changed(before, whole_database()) == []


# ---- Senders


@pytest.mark.parametrize("who", ["anonymous", "alice", "ada"])
def test_without_a_key_no_session_opens_the_api(who: str, app: Flask, client: FlaskClient, world: World) -> None:
    if who != "anonymous":
        log_in(client, people(world)[who][0])
    before, problems = whole_database(), []
    for route in iter_routes(app, world, world.alice):
        if route.access is For.SENDERS:
            for key in ({}, {"Authorization": "Bearer asapp_" + "A" * 43}, {"Authorization": f"Basic {world.api_key}"}):
                response = open_route(client, route, everything_of(world.alice), headers=key)
                if response.status_code != 401 or response.mimetype != "application/problem+json":
                    problems.append(f"{route}: {response.status_code}")
    report(problems)
    assert what_changed(before, whole_database()) == []


def test_a_key_of_one_firm_opens_nothing_of_another(app: Flask, client: FlaskClient, world: World) -> None:
    """Make each call, with every id that Charlie has at the other firm."""
    key = {"Authorization": f"Bearer {world.api_key}"}
    bodies = {
        "api.prepare_send": {"id": "theirs", "list_id": world.charlie.contact_list.public_id, "max_age_minutes": 60},
        "api.may_send": {"advisor_id": world.charlie.user.public_id, "emails": [world.charlie.contacts[0].email]},
        "api.events": {"events": [about(world.charlie)]},
    }
    client.get("/api/v1/advisors", headers=key)  # writes when the key was used
    before, problems, tried = rows_of(world.charlie.user), [], 0
    for route in iter_routes(app, world, world.charlie):
        if route.access is not For.SENDERS:
            continue
        tried += 1
        if route.is_safe:
            response = client.open(route.path, method=route.method, headers=key)
        else:
            response = client.open(
                route.path, method=route.method, headers=key, json=bodies[route.endpoint], forged=True
            )
        told = any(word in response.text for word in ("Charlie", world.charlie.contacts[0].email))
        expected = {"api.advisors": 200, "api.events": 200}.get(route.endpoint, 404)
        if response.status_code != expected or (told and route.endpoint != "api.may_send"):
            problems.append(f"{route}: {response.status_code} {response.text[:80]}")
    report(problems)
    assert tried == 11  # seven calls, four of them with HEAD too
    assert what_changed(before, rows_of(world.charlie.user)) == []


def about(whose: Belongings) -> dict[str, str]:
    names = {"id": "1", "type": "unsubscribed", "advisor_id": whose.user.public_id}
    return names | {"email": whose.contacts[0].email, "at": "2026-05-03T09:15:00Z"}


# ---- Reading changes nothing, and forms need their token


def people(world: World) -> dict[str, tuple[User, Belongings]]:
    return {
        "alice": (world.alice.user, world.alice),
        "fred": (world.fred, world.alice),
        "ada": (world.ada, world.alice),
    }


@pytest.mark.parametrize("who", ["alice", "fred", "ada"])
def test_looking_changes_nothing(who: str, app: Flask, client: FlaskClient, world: World) -> None:
    user, whose = people(world)[who]
    before, problems = whole_database(), []
    with writes_seen() as written:
        for route in iter_routes(app, world, whose):
            if not route.is_safe:
                continue
            log_in(client, user)
            open_route(client, route, everything_of(whose) | {"state": "forged", "code": "forged"})
            if route.endpoint == "health.ready":  # only a write shows whether the database can be written
                written[:] = [statement for statement in written if statement != PROBE]
            if route.endpoint == "salesforce_lists.choose":  # a question to Salesforce counts against the share
                written[:] = [
                    statement for statement in written if "api_usage" not in statement and "org_calls" not in statement
                ]
            if not route.path.endswith(".csv"):  # an export is recorded in the audit log
                problems += [f"{route}: {statement}" for statement in written]
            written.clear()
    report(problems)
    assert set(what_changed(before, whole_database())) <= {
        "api_usage",
        "org_calls",
        "audit_entries",
        "audit_identities",
    }


@contextmanager
def writes_seen() -> Iterator[list[str]]:
    """Collect the statements that change a row."""
    written: list[str] = []

    def collect_statement(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().split(None, 1)[0].upper() in ("INSERT", "UPDATE", "DELETE") and cursor.rowcount:
            written.append(" ".join(statement.split())[:100])

    event.listen(db.engine, "after_cursor_execute", collect_statement)
    try:
        yield written
    finally:
        event.remove(db.engine, "after_cursor_execute", collect_statement)


@pytest.mark.parametrize("who", ["anonymous", "alice", "ada"])
def test_a_form_without_its_token_is_refused(who: str, app: Flask, client: FlaskClient, world: World) -> None:
    before, problems = whole_database(), []
    tried = 0
    for route in iter_routes(app, world, world.alice):
        if route.is_safe:
            continue
        if who != "anonymous":
            log_in(client, people(world)[who][0])
        tried += 1
        response = open_route(client, route, everything_of(world.alice), forged=True)
        if route.endpoint == "optin.sign_up":
            is_refused = response.status_code == 422  # its own token, not the session's: see test_optin.py
        elif route.endpoint == "unsubscribe.receive":
            is_refused = response.status_code == 404  # the address is the token: see test_unsubscribe.py
        elif route.endpoint == "optin.confirm":
            is_refused = response.status_code == 410  # the link in a mail is the token: see test_optin.py
        elif route.access is For.SENDERS:
            is_refused = response.status_code == 401  # no session opens it, so no session needs protection
        elif who == "anonymous" and route.access is not For.EVERYBODY:
            is_refused = is_sent_to_login(response)
        else:
            is_refused = response.status_code == 400
        if not is_refused:
            problems.append(f"{route}: {response.status_code}")
    report(problems)
    assert tried > 40
    assert what_changed(before, whole_database()) == []


def test_the_token_of_another_session_does_not_fit(app: Flask, client: FlaskClient, world: World) -> None:
    stranger = app.test_client()
    log_in(stranger, world.charlie.user)
    token = stranger.csrf_token()  # type: ignore[attr-defined]
    log_in(client, world.alice.user)
    before = whole_database()
    response = client.post("/settings", data={"name": "Mallory", "csrf_token": token}, forged=True)
    assert response.status_code == 400
    assert what_changed(before, whole_database()) == []


# ---- Headers of every answer


@pytest.mark.parametrize("who", ["anonymous", "alice", "ada"])
def test_every_answer_has_its_policy_and_is_not_cached(who: str, app: Flask, client: FlaskClient, world: World) -> None:
    problems = []
    for route in list(iter_routes(app, world, world.alice)):
        if who != "anonymous":
            log_in(client, people(world)[who][0])
        headers = open_route(client, route, forged=not route.is_safe).headers
        policy = headers.get("Content-Security-Policy", "")
        is_strict = policy.startswith("default-src 'none'; script-src 'self'") and "unsafe" not in policy
        if not is_strict or "frame-ancestors 'none'" not in policy or "base-uri 'none'" not in policy:
            problems.append(f"{route}: {policy or 'no policy'}")
        if headers.get("X-Content-Type-Options") != "nosniff":
            problems.append(f"{route} may be sniffed")
        if route.endpoint != "static" and headers.get("Cache-Control") != "no-store":
            problems.append(f"{route} may be kept: {headers.get('Cache-Control')}")
        problems += [f"{route} sets {cookie}" for cookie in headers.getlist("Set-Cookie") if not is_tight(cookie)]
    report(problems)


def is_tight(cookie: str) -> bool:
    return all(flag in cookie for flag in ("HttpOnly", "SameSite=Lax", "Path=/")) and "Domain=" not in cookie


def test_no_answer_leads_elsewhere(app: Flask, client: FlaskClient, world: World) -> None:
    """A redirect stays on this host, whatever page the request names."""
    elsewhere = ("https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "https:evil.example")
    for target in elsewhere:
        named = dict.fromkeys(("next", "back", "url", "return", "redirect", "state", "slug"), target)
        for route in list(iter_routes(app, world, world.alice)):
            if not route.is_safe and route.endpoint not in ("auth.try_login", "contacts.restore", "contacts.selection"):
                continue
            log_in(client, world.ada if route.access is For.ADMINS else world.alice.user)
            headers = open_route(client, route, named | {"do": "none"}).headers
            for name in ("Location", "HX-Redirect"):
                value = headers.get(name, "")
                assert not value or (value.startswith("/") and value[1:2] not in ("/", "\\")), f"{route}: {value}"


# ---- A second step that is missing, a log-in that is not fresh


def test_an_admin_without_a_second_step_reaches_its_set_up_alone(app: Flask, client: FlaskClient, world: World) -> None:
    log_in(client, make_admin("Eve", has_second_factor=False))
    before, problems = whole_database(), []
    for route in iter_routes(app, world, world.alice):
        if route.access in (For.EVERYBODY, For.SENDERS) or route.endpoint in OPEN_WITHOUT_SECOND_FACTOR:
            continue
        response = open_route(client, route, everything_of(world.alice))
        if response.location != "/settings/second-factor":
            problems.append(f"{route}: {response.status_code} {response.location}")
    report(problems)
    assert what_changed(before, whole_database()) == []


def test_what_needs_a_fresh_log_in_is_asked_for_one_and_nothing_else_is(
    app: Flask, client: FlaskClient, world: World
) -> None:
    """Ada, and Alice with her own, logged in 16 minutes ago."""
    asked_at, problems = set(), []
    before = whole_database()
    for route in iter_routes(app, world, world.alice):
        if route.access is For.EVERYBODY or route.endpoint.startswith(("auth.", "provider.")):
            continue
        if route.endpoint not in NEEDS_FRESH and not route.is_safe:
            continue  # they would be done
        log_in(client, world.alice.user if route.access is For.ADVISORS else world.ada, minutes_ago=16)
        chosen = {"secret": "A-new-secret-0123456789", "tokens": "revoke"}
        response = open_route(client, route, everything_of(world.alice) | chosen)
        if b"Confirm it's you" in response.data or (response.location or "").startswith("/login/confirm"):
            asked_at.add(route.endpoint)
        elif route.endpoint in NEEDS_FRESH:
            problems.append(f"{route} goes on: {response.status_code}")
    report(problems)
    assert asked_at == NEEDS_FRESH
    changed = set(what_changed(before, whole_database()))
    assert changed <= {
        "api_usage",
        "audit_entries",
        "audit_identities",
        "login_sessions",
        "org_calls",
    }  # exports, and live questions
