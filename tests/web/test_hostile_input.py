"""Hostile text from people and Salesforce: shown as text, never run, never trusted, never shown to others."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import String, select, update

from asapp.core.clock import utcnow
from asapp.core.csv_files import FORMULA_STARTS
from asapp.core.database import Base
from asapp.core.extensions import db
from asapp.leads import sign_up_page
from asapp.models import Contact, ContactList, Lead, Partner, User
from asapp.web.optin import Token, write_token
from devtools.servers import RedisServer
from tests.factories import PASSWORD, log_in
from tests.hostile import form_fields
from tests.mail_links import path_of_link
from tests.mailing import send_waiting_mails
from tests.route_access import For, Route, everything_of, iter_routes, open_route, text_of
from tests.senders import Sender, make_person
from tests.signing_up import make_page
from tests.two_firms import World, make_world, whole_database

MARKUP = "'\"><img src=x onerror=alert(1)>{{7*7}}"
RAW = ("<img src=x", "onerror=alert(1)>", "49")
FORMULA = '=HYPERLINK("http://evil.example","x")'
INVISIBLE = " \t\r\n\xa0\xad\u200b\u202e\u3164\ufeff"

# Made by us and checked by the database, sealed, or written once. Every other column may hold what a person typed or what
# Salesforce answered.
OURS = {
    "alert_mails": ("lease",),
    "alerts": ("kind",),
    "api_keys": ("public_id", "key_sha256", "scopes"),
    "attempts": ("key",),
    "audit_entries": ("action", "actor_kind", "subject_type"),
    "audit_identities": ("name", "email", "client_address"),
    "blocked_addresses": ("salesforce_id", "kind"),
    "connections": (
        "public_id",
        "org_id",
        "salesforce_user_id",
        "status",
        "access_token_sealed",
        "refresh_token_sealed",
        "token_lease",
        "opt_out_field_read",
        "last_failure",
        "lead_fields_read",
        "leads_trouble",
    ),
    "consent_events": ("key", "kind", "source"),
    "consent_texts": ("heading", "words"),
    "contacts": ("salesforce_id", "source", "search_key", "departed", "merged_into"),
    "departures": ("salesforce_id", "reason", "merged_into", "state"),
    "heartbeats": ("name",),
    "leads": ("public_id", "search_key", "state", "lease", "linked_kind", "linked_contact_id", "owner_id"),
    "ledger": ("salesforce_id", "outcome"),
    "lists": ("public_id", "kind", "name_key"),
    "salesforce_lists": ("salesforce_id", "about", "scope", "new_scope", "trouble"),
    "login_sessions": ("public_id", "key_sha256"),
    "oauth_states": ("public_id", "state_sha256", "salesforce_url", "redirect_uri", "code_verifier_sealed"),
    "opt_in_pages": ("slug", "frame_hosts"),
    "partner_checks": ("code", "verdict", "why"),
    "partners": (
        "public_id",
        "slug",
        "salesforce_url",
        "consumer_key_sealed",
        "consumer_secret_sealed",
        "pending_secret_sealed",
        "api_version",
        "address_key_sealed",
        "link_key_sealed",
    ),
    "password_links": ("kind", "token_sha256"),
    "passkey_challenges": ("purpose", "token_sha256", "challenge"),
    "passkeys": ("public_id", "credential_id", "public_key"),
    "pending_grants": ("public_id", "org_id", "salesforce_user_id", "access_token_sealed", "refresh_token_sealed"),
    "recovery_codes": ("code_hash",),
    "run_changes": ("kind", "reason"),
    "second_factors": ("public_id", "secret_sealed", "recovery_key_sealed"),
    "sends": ("state", "lease", "sender_send_id"),
    "setup_links": ("token_sha256",),
    "suppression_events": ("step", "source"),
    "sync_runs": ("trigger", "status", "phase", "lease", "checkpoint_id", "sure_id", "sweep_after_id"),
    "tombstones": ("kind", "salesforce_id"),
    "users": ("public_id", "email", "role", "password_hash", "session_nonce"),
    "waiting_mails": ("public_id", "kind", "content_sealed", "lease"),
}
TYPED = {
    *(
        "q",
        "state",
        "source",
        "page",
        "list",
        "person",
        "which",
        "next",
        "back",
        "open",
        "seen",
        "before",
        "all",
        "firm",
    ),
    *("confirm_name", "current", "new", "do", "to_list", "lead", "who", "what", "show", "from", "until"),
    *("error", "error_description", "code", "recovery", "app", "held", "credential"),
    *form_fields(),
}

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


@pytest.fixture
def world(app: Flask) -> Iterator[World]:
    with requests_mock.Mocker() as salesforce:
        salesforce.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=503)
        made = make_world()
        make_page(made.fred)
        yield made


def fill_with(text: str) -> None:
    """Put the text into every column that people or Salesforce can fill, as long as the column allows."""
    for user in db.session.scalars(select(User).where(User.role == "advisor")).all():
        sign_up_page.save_page(sign_up_page.ensure_page(user), text, f"Yes. {text}"[:500], "")
    for table in Base.metadata.sorted_tables:
        columns = [c for c in table.columns if isinstance(c.type, String) and c.name not in OURS.get(table.name, ())]
        if columns:
            db.session.execute(update(table).values({c.name: text[: c.type.length] for c in columns}))
    details = {"first_name": text, "last_name": text, "client_address": text}
    for lead in db.session.scalars(select(Lead)).all():
        lead.details = dict.fromkeys(lead.details, details)
    db.session.execute(update(Base.metadata.tables["run_changes"]).values(new={"last_name": text}, old={"email": text}))
    db.session.commit()


def everybody(world: World) -> dict[str, User | None]:
    return {"alice": world.alice.user, "charlie": world.charlie.user, "ada": world.ada, "nobody": None}


def come_as(client: FlaskClient, user: User | None) -> None:
    if user is not None:
        log_in(client, user)


# ---- Markup


@pytest.mark.parametrize("who", ["alice", "ada", "nobody"])
def test_markup_in_any_column_is_shown_as_text(who: str, app: Flask, client: FlaskClient, world: World) -> None:
    fill_with(MARKUP)
    shown = 0
    for route in iter_routes(app, world, world.alice):
        if route.method != "GET":
            continue
        come_as(client, everybody(world)[who])
        for how in ({}, {"part": True}):
            response = open_route(client, route, **how)  # the client itself fails for handlers inside a tag
            if response.mimetype in ("text/html", "image/svg+xml"):
                assert not any(raw in response.text for raw in RAW[:2]), f"{route} lets markup through"
                shown += "&lt;img" in response.text
            assert MARKUP not in str(response.headers), route
    assert shown > {"alice": 30, "ada": 8, "nobody": 3}[who]


@pytest.mark.parametrize("status", ["needs_reconnect", "disconnected"])
def test_markup_is_shown_as_text_in_other_states_too(
    status: str, app: Flask, client: FlaskClient, world: World
) -> None:
    fill_with(MARKUP)
    world.alice.connection.status = status
    world.alice.run.status = "failed"
    world.alice.contacts[0].departed = "reassigned"
    db.session.commit()
    for route in iter_routes(app, world, world.alice):
        if route.method == "GET" and route.access is For.ADVISORS:
            log_in(client, world.alice.user)
            response = open_route(client, route)
            if response.mimetype == "text/html":
                assert "<img" not in response.text, f"{route} lets markup through"


def test_markup_on_the_page_of_a_good_link_is_shown_as_text(client: FlaskClient, world: World) -> None:
    link = path_of_link(world.alice.user, world.alice.contacts[0].email)
    fill_with(MARKUP)
    pages = [client.get(link), client.post(link, data=dict.fromkeys(TYPED, MARKUP), forged=True), client.get(link)]
    for page in pages:
        assert page.status_code in (200, 303)
        assert not any(raw in page.text for raw in RAW[:2])
    assert "&lt;img" in pages[0].text


@pytest.mark.parametrize("who", ["alice", "ada", "nobody"])
def test_markup_that_is_sent_comes_back_as_text(who: str, app: Flask, client: FlaskClient, world: World) -> None:
    typed = dict.fromkeys(TYPED, MARKUP)
    for route in list(iter_routes(app, world, world.alice)):
        if route.method == "HEAD" or route.endpoint == "auth.logout":
            continue
        come_as(client, everybody(world)[who])
        response = open_route(client, route, typed)
        if response.mimetype == "text/html":
            assert not any(raw in response.text for raw in RAW[:2]), f"{route} lets markup through"
        assert MARKUP not in response.headers.get("Location", ""), route


def test_an_address_that_is_not_there_is_not_repeated(client: FlaskClient, world: World) -> None:
    for user in (None, world.alice.user, world.ada):
        come_as(client, user)
        assert "<img" not in client.get("/nothing/<img src=x onerror=alert(1)>").text
        assert "<img" not in client.get("/o/<img src=x>").text


# ---- Files


def test_no_cell_of_any_file_is_a_formula(app: Flask, client: FlaskClient, world: World) -> None:
    files = [route for route in iter_routes(app, world, world.alice) if is_file(client, world, route)]
    assert len(files) >= 6  # those of the board and the audit log among them
    for start in (
        "=",
        "+",
        "-",
        "@",
        "\t=",
        "\r=",
        " =",
        "＝",
        "\u200b=",
        "\ufeff@",
        "\xad\u202e+",
        "x;=",
        "x;\u3164=",
    ):
        fill_with(f"{start}{FORMULA[1:]}")
        filled = 0
        for route in files:
            response = open_file(client, world, route)
            assert response.mimetype == "text/csv"
            rows = list(csv.reader(io.StringIO(response.text, newline="")))
            bad = [cell for row in rows for cell in row if is_formula(cell)]
            bad += [part for row in rows for cell in row for part in cell.split(";") if is_formula(part)]
            assert not bad, f"{route}: {bad[:3]}"
            assert len({len(row) for row in rows}) == 1, f"{route} has rows of different lengths"
            assert all(line.startswith('"') for line in response.text.split("\r\n")[1:-1]), f"{route} leaves cells bare"
            filled += "HYPERLINK" in response.text
        assert filled >= 6


def is_file(client: FlaskClient, world: World, route: Route) -> bool:
    is_page = route.method != "GET" or route.access is For.EVERYBODY
    return not is_page and open_file(client, world, route).mimetype == "text/csv"


def open_file(client: FlaskClient, world: World, route: Route) -> Any:
    """Open an address as a person who may; the board's file holds one firm."""
    log_in(client, world.ada if route.access is For.ADMINS else world.alice.user)
    return open_route(client, route, {"firm": world.northgate.slug} if route.access is For.ADMINS else None)


def is_formula(cell: str) -> bool:
    return cell.lstrip(INVISIBLE).startswith(FORMULA_STARTS) or cell.startswith(("\t", "\r", "\n"))


def test_file_names_take_nothing_from_people(app: Flask, client: FlaskClient, world: World) -> None:
    fill_with('x"; filename="evil.html')
    for route in iter_routes(app, world, world.alice):
        if route.method == "GET" and route.access in (For.ADVISORS, For.ADMINS):
            log_in(client, world.ada if route.access is For.ADMINS else world.alice.user)
            assert "evil" not in open_route(client, route).headers.get("Content-Disposition", ""), route


# ---- Data of others


@pytest.mark.parametrize(("who", "others"), [("alice", ("Bobs-", "Charlies-")), ("charlie", ("Alices-", "Bobs-"))])
def test_no_page_and_no_file_names_other_advisors_people(
    who: str, others: tuple[str, ...], app: Flask, client: FlaskClient, world: World
) -> None:
    whose, told = getattr(world, who), 0
    for route in iter_routes(app, world, whose):
        if route.method != "GET" or route.access is For.ADMINS:
            continue
        log_in(client, whose.user)
        text = text_of(open_route(client, route, {"person": others[0]} if route.endpoint == "contacts.why" else None))
        if route.endpoint != "contacts.why":
            assert not any(other in text for other in others), route
        told += f"{whose.user.name.split()[0]}s-" in text
    assert told > 10


def test_admins_pages_name_no_contact_of_an_advisor(app: Flask, client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    for route in iter_routes(app, world, world.alice):
        if route.method == "GET" and route.access is For.ADMINS:
            text = text_of(open_route(client, route))
            assert not any(f"{name}s-" in text for name in ("Alice", "Bob", "Charlie")), route


# ---- Secrets


def canaries(app: Flask, world: World) -> dict[str, str]:
    """Put a different text into each secret; return {which: text}."""
    vault = app.extensions["asapp.vault"]
    found = {}
    for number, (row, column) in enumerate(
        [
            *((belongings.connection, name) for belongings in (world.alice, world.charlie) for name in TOKENS),
            (world.northgate, "consumer_secret_sealed"),
            (world.northgate, "pending_secret_sealed"),
            (world.northgate, "address_key_sealed"),
            (world.northgate, "link_key_sealed"),
            (world.ada.second_factor, "secret_sealed"),
            (world.ada.second_factor, "recovery_key_sealed"),
        ]
    ):
        text = f"Canary{number}" + "S3cr3t" * 6
        row.seal(vault, column, text)  # type: ignore[attr-defined]
        found[f"{row}.{column}"] = text
    world.northgate.pending_secret_at = world.northgate.created_at
    db.session.commit()
    return found | {
        "the setup link": world.setup_tokens[world.northgate.id],
        "the reset link": world.alice.password_token,
        "the API key": world.api_key,
    }


def every_visit(app: Flask, world: World) -> list[tuple[User, Route, dict[str, Any]]]:
    """Yield every user with every route; first the users who only read."""
    visits = [
        (user, route, everything_of(whose))
        for user, whose in (
            (world.alice.user, world.alice),
            (world.charlie.user, world.charlie),
            (world.ada, world.alice),
        )
        for route in iter_routes(app, world, whose)
    ]
    return sorted(visits, key=lambda visit: not visit[1].is_safe)


TOKENS = ("access_token_sealed", "refresh_token_sealed")


def test_no_secret_leaves(
    app: Flask, client: FlaskClient, world: World, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """No secret is in a page, a header, a cookie, a log line, a mail, a job, or the database file."""
    caplog.set_level(logging.DEBUG)
    mailman = app.extensions["mailman"]
    mailman.outbox = []
    secrets = canaries(app, world)
    answers = typed_secrets(client, world, secrets)
    for user, route, sent in every_visit(app, world):
        if route.endpoint in ("auth.logout", "partners.delete", "connect.disconnect"):
            continue
        log_in(client, user)
        response = open_route(client, route, sent)
        if not route.endpoint.startswith(
            ("partner_setup.", "passwords.", "email_links.", "second_factor.open_link", "second_factor.use_link")
        ):  # whose own address is the secret
            answers.append(f"{route} {response.headers} {text_of(response)}")
    at_rest = dump() + str(everything_in(redis_server))
    send_waiting_mails()
    assert mailman.outbox
    told = {
        "an answer": "\n".join(answers),
        "a mail": "\n".join(f"{letter.subject} {letter.body} {letter.to}" for letter in mailman.outbox),
        "an audit row": "\n".join(whole_database()["audit_entries"] + whole_database()["audit_identities"]),
        "the log": "\n".join(
            f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name != "urllib3"
        ),
        "Redis": "\n".join(str(value) for value in everything_in(redis_server)),
        "the database": at_rest + dump(),
    }
    for which, secret in secrets.items():
        for where, text in told.items():
            assert secret not in text, f"{which} is in {where}"


def test_what_senders_and_readers_of_mails_send_is_in_no_log_and_no_figure(
    app: Flask, client: FlaskClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    alice, sender, vault = world.alice.user, Sender(client, world.api_key), app.extensions["asapp.vault"]
    ruth, words = "Ruth.Canary@river.example", "CanaryWords of a complaint"
    link = path_of_link(alice, ruth)
    make_person(alice, ruth, first_name="RuthCanary")
    key = world.northgate.unseal(vault, "link_key_sealed")
    told = {"id": "e-1", "type": "complained", "advisor_id": alice.public_id, "email": ruth, "at": utcnow().isoformat()}
    lists = sender.get("/advisors").get_json()["advisors"][0]["lists"]
    for each in lists:
        sender.get(f"/lists/{each['id']}/recipients")
        sender.lines(f"/lists/{each['id']}/recipients")
    assert sender.post("/may-send", {"advisor_id": alice.public_id, "emails": [ruth]}).get_json()["results"][0][
        "may_send"
    ]
    for event in (told | {"detail": words}, told | {"email": f"{ruth} broken"}, told | {"at": ruth}):
        sender.post("/events", {"events": [event]})
    pages = [client.get(link).text, client.post(link, data={}, forged=True).text, client.get(link).text]
    assert client.post(link, data={"List-Unsubscribe": "One-Click"}, forged=True).status_code == 200
    figures = client.get("http://127.0.0.1:8000/metrics").text
    log = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name != "urllib3")
    assert "api.events" in log, "the calls were logged"
    for secret in (ruth, ruth.lower(), "Canary", link, link.rpartition("/")[2], world.api_key, key):
        assert secret not in log, secret
        assert secret not in figures, secret
    for page in pages:
        assert not any(text in page for text in (ruth, ruth.lower(), "Canary", key, world.api_key))


def typed_secrets(client: FlaskClient, world: World, secrets: dict[str, str]) -> list[str]:
    """Enter right and wrong secrets into every form that takes one; return the answers, and add the wrong ones to the secrets."""
    firm, details = f"/admin/partners/{world.northgate.slug}", {"name": "Northgate", "key": "another-key"}
    url = "https://northgate.my.salesforce.com"
    typed: list[tuple[User | None, str, dict[str, str], str]] = [
        (world.ada, firm, {**details, "url": url}, "secret"),
        (world.ada, firm, {**details, "url": "nonsense"}, "secret"),
        (world.ada, "/admin/partners/new", {**details, "url": url, "name": "Fresh"}, "secret"),
        (world.ada, "/admin/partners/new", {**details, "url": url, "name": ""}, "secret"),
        (None, f"/partner-setup/{world.setup_tokens[world.northgate.id]}/keys", {**details, "url": url}, "secret"),
        (None, f"/partner-setup/{world.setup_tokens[world.northgate.id]}/keys", {**details, "url": "x"}, "secret"),
        (None, f"/password/{world.bob.password_token}", {}, "new"),
        (None, "/login", {"email": world.bob.user.email}, "password"),
        (None, "/login", {"password": "x" * 12}, "email"),
        (world.charlie.user, "/settings/security", {"current": PASSWORD}, "new"),
        (world.charlie.user, "/login/confirm", {"next": "/settings"}, "password"),
        (world.ada, "/login/confirm", {"next": "/settings"}, "code"),
        (world.charlie.user, "/settings/security", {"new": "short"}, "current"),
    ]
    answers = []
    for number, (user, path, data, name) in enumerate(typed):
        secret = f"Typed{number}" + "S3cr3t" * 6
        secrets[f"{name}, typed at {path.rpartition('/')[0]} ({number})"] = secret
        with client.session_transaction() as session:
            session.clear()
        come_as(client, user)
        response = client.post(path, data={**data, name: secret})
        if name != "email":  # which is shown again: it may be a password, but it may be an address with a mistake
            own_address = path.split("/")[2] if path.startswith(("/partner-setup/", "/password/")) else path
            answers.append(f"{response.headers} {response.text}".replace(own_address, ""))
    return answers


def everything_in(redis_server: RedisServer) -> Iterator[Any]:
    from redis import Redis

    with Redis.from_url(redis_server.url) as redis:
        for key in redis.keys("*"):
            yield key, redis.dump(key)


def dump() -> str:
    """Return the whole database as text, blobs as their bytes."""
    db.session.rollback()
    with db.engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        return "\n".join(raw.iterdump())


# ---- Requests that no page of ours sends


def test_a_profile_takes_the_name_alone(client: FlaskClient, world: World) -> None:
    alice = world.alice.user
    before = {c.name: getattr(alice, c.name) for c in User.__table__.columns}
    log_in(client, alice)
    client.post("/settings", data={"name": "Alice", **extras(world)})
    after = {c.name: getattr(alice, c.name) for c in User.__table__.columns}
    assert {name for name in before if before[name] != after[name]} == {"name", "earlier_names"}
    assert [name for _, name in after["earlier_names"]] == [before["name"]]


def extras(world: World) -> dict[str, str]:
    """Return fields of the tables that no form has."""
    return {
        "id": "999",
        "user_id": str(world.charlie.user.id),
        "partner_id": str(world.charlie.user.partner_id),
        "connection_id": str(world.charlie.connection.id),
        "role": "admin",
        "is_admin": "1",
        "email_verified": "1",
        "session_nonce": "x",
        "password_hash": "x",
        "deactivated_at": "2026-01-01",
        "source": "salesforce",
        "status": "active",
        "state": "sent",
        "salesforce_id": "0035g0000000001AAA",
        "departed": "deleted",
        "hidden_at": "2026-01-01",
        "is_lead": "1",
        "opted_out": "0",
        "kind": "salesforce_contacts",
        "app_version": "9",
        "is_enabled": "0",
        "consumer_secret_sealed": "x",
        "public_id": "x",
        "deleted_at": "2026-01-01",
    }


def test_a_contact_made_by_hand_is_made_by_hand(client: FlaskClient, world: World) -> None:
    log_in(client, world.alice.user)
    details = {"first_name": "Mallory", "last_name": "Doe", "email": "mallory@doe.example"}
    assert client.post("/contacts/new", data=extras(world) | details).status_code == 303
    contact = db.session.scalars(select(Contact).where(Contact.first_name == "Mallory")).one()
    assert (contact.user_id, contact.source, contact.id == 999) == (world.alice.user.id, "manual", False)
    assert [contact.connection_id, contact.salesforce_id, contact.departed, contact.hidden_at] == [None] * 4
    assert not contact.is_lead
    assert client.post(f"/contacts/{contact.id}/edit", data=extras(world) | details).status_code == 303
    db.session.refresh(contact)
    assert (contact.user_id, contact.source, contact.salesforce_id) == (world.alice.user.id, "manual", None)


def test_no_request_changes_a_contact_of_salesforce(app: Flask, client: FlaskClient, world: World) -> None:
    contact = world.alice.contacts[0]
    before = {name: getattr(contact, name) for name in ("first_name", "last_name", "email", "salesforce_id", "source")}
    log_in(client, world.alice.user)
    sent = extras(world) | {"first_name": "Mallory", "last_name": "Doe", "email": "m@doe.example"}
    assert client.post(f"/contacts/{contact.id}/edit", data=sent).status_code == 404
    client.post(f"/contacts/{contact.id}/lists", data=sent)
    assert {name: getattr(contact, name) for name in before} == before


def test_a_new_list_is_ones_own(client: FlaskClient, world: World) -> None:
    log_in(client, world.alice.user)
    client.post("/contacts/lists/new", data=extras(world) | {"name": "Quarterly"})
    made = db.session.scalars(select(ContactList).where(ContactList.name == "Quarterly")).one()
    assert (made.user_id, made.kind) == (world.alice.user.id, "own")


def test_a_sign_up_is_for_the_advisor_of_the_page_and_waits(client: FlaskClient, world: World) -> None:
    page = world.alice.page
    token = Token(page.slug, sign_up_page.current_text(page.user_id).id, "a form", time.time() - 5)
    typed = {"first_name": "New", "last_name": "Person", "email": "new@person.example", "consent": "yes"}
    with client.application.test_request_context():
        typed["csrf_token"] = write_token(token)
    assert client.post(f"/o/{page.slug}", data=extras(world) | typed, forged=True).status_code == 303
    lead = db.session.scalars(select(Lead).where(Lead.email == "new@person.example")).one()
    assert (lead.user_id, lead.partner_id) == (world.alice.user.id, world.northgate.id)
    assert (lead.state, lead.salesforce_id) == ("received", None)


def test_an_invited_advisor_is_an_advisor_of_that_firm(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    path = f"/admin/partners/{world.northgate.slug}/advisors"
    client.post(path, data=extras(world) | {"name": "Mallory", "email": "mallory@doe.example"})
    made = db.session.scalars(select(User).where(User.email == "mallory@doe.example")).one()
    assert (made.role, made.partner_id, made.deactivated_at) == ("advisor", world.northgate.id, None)


def test_a_setup_link_sets_key_and_secret_and_nothing_else(client: FlaskClient, world: World) -> None:
    before = {c.name: getattr(world.northgate, c.name) for c in Partner.__table__.columns}
    token = world.setup_tokens[world.northgate.id]
    entered = {"url": "https://other.my.salesforce.com", "key": "key", "secret": "secret", "name": "Mallory Ltd"}
    assert client.post(f"/partner-setup/{token}/keys", data=extras(world) | entered).status_code == 422
    assert {c.name: getattr(world.northgate, c.name) for c in Partner.__table__.columns} == before


# ---- Addresses


INSIDE = (
    *("http://127.0.0.1:6379", "http://localhost:22", "http://[::1]:5000", "http://0.0.0.0", "http://2130706433"),
    *("http://169.254.169.254/latest/meta-data", "http://[fd00:ec2::254]/", "http://[::ffff:169.254.169.254]"),
    *("https://10.0.0.1", "https://192.168.1.1", "https://0x7f.1", "https://017700000001", "https://127.1"),
    *("https://metadata.google.internal", "https://internal.firm.example", "https://localhost.my.salesforce.com.evil"),
    *(
        "https://x.my.salesforce.com@evil.example",
        "https://evil.example#.my.salesforce.com",
        "https://x.my.salesforce.com:22",
    ),
    *(
        "https://evil.example/.my.salesforce.com",
        "https://evil.example?.my.salesforce.com",
        "https://evilmy.salesforce.com.x",
    ),
    *("https://x.my.salesforce.com\\@evil.example", "https://x.my.salesforce.com%2eevil.example", "file:///etc/passwd"),
    *(
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "https://x.my.salesforce.com\r\nHost: evil.example",
        "https://x\n.evil.example",
    ),
    *(
        "//evil.example",
        "https://",
        "https://.my.salesforce.com",
        "https://x.my.salesforce.com.",
        "https://ｅvil.example",
    ),
    *("https://xn--mysalesforce.com", "https://x.my.salesforce.com․evil.example", "javascript:alert(1)"),
)


@pytest.mark.parametrize("public_url", ["https://my.advisorstream.example"])
def test_no_address_of_a_firm_leads_inside(public_url: str, world: World) -> None:
    """Each pasted address is refused, or leads to a host of Salesforce's over https on its usual port."""
    from asapp.partners.form_fields import origin_of
    from asapp.salesforce.hosts import NotSalesforce, is_salesforce_url

    for pasted in INSIDE:
        try:
            url = origin_of(pasted, allow_loopback=False)
        except NotSalesforce:
            continue
        assert url == "https://x.my.salesforce.com", pasted
        assert is_salesforce_url(url, False)


def test_making_an_admin_takes_the_command_line(app: Flask, client: FlaskClient, world: World) -> None:
    before = db.session.scalars(select(User.id).where(User.role == "admin")).all()
    more = extras(world)
    for user, route, sent in every_visit(app, world):
        if not route.is_safe and route.endpoint not in ("auth.logout", "partners.delete"):
            log_in(client, user)
            open_route(client, route, sent | more)
    assert db.session.scalars(select(User.id).where(User.role == "admin")).all() == before
