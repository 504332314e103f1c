"""The audit log: what is recorded, that entries stay, how people are erased, and how admins read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from asapp.accounts import key_rotation, links
from asapp.audit import entries as audit
from asapp.audit.entries import COMMAND, person
from asapp.connections.connections import mark_needs_reconnect
from asapp.core.csv_files import FORMULA_STARTS
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import (
    Action,
    ActorKind,
    AuditEntry,
    AuditIdentity,
    Connection,
    ConsentEvent,
    Contact,
    Lead,
    PasswordLinkKind,
)
from asapp.models.columns import AppendOnly
from tests.factories import PASSWORD, log_in, make_admin, make_advisor
from tests.two_firms import World, make_world, rows_of, whole_database

HERE = "127.0.0.1"


@pytest.fixture
def world(app: Flask) -> Iterator[World]:
    with requests_mock.Mocker() as salesforce:
        salesforce.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=503)
        yield make_world()


def newest() -> AuditEntry:
    return db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc()).limit(1)).one()


def actions() -> list[str]:
    return list(db.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


Act = tuple[str, Callable[[World], str], Callable[[World], dict[str, Any]], Action]


def form(**fields: Any) -> Callable[[World], dict[str, Any]]:
    return lambda world: fields


def firm(end: str) -> Callable[[World], str]:
    return lambda world: f"/admin/partners/{world.northgate.slug}{end}"


def bobs(end: str) -> Callable[[World], str]:
    return lambda world: f"/admin/partners/{world.northgate.slug}/advisors/{world.bob.user.id}/{end}"


def at(path: str) -> Callable[[World], str]:
    return lambda world: path


def tell_earlier(world: World) -> str:
    world.northgate.writes_opt_outs_back = True
    db.session.commit()
    return firm("/tell-earlier")(world)


PANEL = "/settings/integrations/salesforce"
NEW_FIRM = {"name": "Calloway", "url": "https://calloway.my.salesforce.com", "key": "key", "secret": "secret"}
ACTS: list[Act] = [
    ("alice", at("/contacts/delete"), lambda w: {"id": [c.id for c in w.alice.contacts]}, Action.CONTACTS_DELETED),
    ("alice", at("/contacts/restore"), lambda w: {"id": w.alice.contacts[1].id}, Action.CONTACTS_RESTORED),
    ("alice", at(f"{PANEL}/disconnect"), form(contacts="keep"), Action.DISCONNECTED),
    ("alice", at(f"{PANEL}/approve"), form(), Action.APPROVED),
    ("alice", at(f"{PANEL}/discard"), form(), Action.DISCARDED),
    ("alice", lambda w: f"/leads/erase/{w.alice.contacts[-1].id}", form(), Action.ERASED),
    ("alice", at("/settings/security"), form(current=PASSWORD, new="quite another battery"), Action.PASSWORD_CHANGED),
    ("ada", at("/admin/partners/new"), form(**NEW_FIRM), Action.PARTNER_CREATED),
    ("ada", firm(""), form(**NEW_FIRM), Action.PARTNER_CHANGED),
    ("ada", firm("/disable"), form(), Action.PARTNER_DISABLED),
    ("ada", firm("/enable"), form(), Action.PARTNER_ENABLED),
    ("ada", firm("/keep-secret"), form(), Action.PARTNER_CHANGED),
    ("ada", tell_earlier, form(), Action.OPT_OUTS_WRITTEN_BACK),
    ("ada", firm("/delete"), form(confirm_name="Northgate Wealth"), Action.PARTNER_DELETED),
    ("ada", firm("/setup-link"), form(admin_name="Sam", admin_email="sam@x.example"), Action.SETUP_LINK_SENT),
    ("ada", firm("/setup-link/revoke"), form(), Action.SETUP_LINK_REVOKED),
    ("ada", firm("/advisors"), form(name="New", email="new@x.example"), Action.PERSON_CREATED),
    ("ada", firm("/advisors"), form(name="New", email="new@x.example"), Action.INVITED),
    ("ada", bobs("password-link"), form(), Action.PASSWORD_LINK_SENT),
    ("ada", bobs("deactivate"), form(), Action.DEACTIVATED),
    ("ada", bobs("deactivate"), form(), Action.DISCONNECTED),
    ("ada", bobs("let-back-in"), form(), Action.LET_BACK_IN),
    ("ada", lambda w: f"/admin/audit/{w.guest_id}/erase", form(), Action.ERASED),
    ("ada", bobs("move"), lambda w: {"partner": w.charlie.user.partner.slug}, Action.MOVED),  # type: ignore[union-attr]
]


@pytest.mark.parametrize(("who", "path", "data", "action"), ACTS, ids=[f"{act[3]}-{act[0]}" for act in ACTS])
def test_every_act_is_in_the_log(
    who: str, path: Callable[[World], str], data: Callable[[World], dict[str, Any]], action: Action,
    client: FlaskClient, world: World,
) -> None:  # fmt: skip
    user = world.ada if who == "ada" else world.alice.user
    log_in(client, user)
    before = len(actions())
    assert client.post(path(world), data=data(world)).status_code in (200, 303)
    written = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id).offset(before)).all()
    found = [entry for entry in written if entry.action == action]
    assert len(found) == 1, [entry.action for entry in written]
    assert (found[0].actor_kind, found[0].actor_id) == (ActorKind.PERSON, user.id)
    identity = found[0].identity
    assert identity
    assert identity.client_address in (HERE, "")  # blank if this act has erased it


@pytest.mark.parametrize(
    "path",
    [
        lambda w: "/contacts/export.csv",
        lambda w: "/leads/export.csv",
        lambda w: f"{PANEL}/held.csv",
        lambda w: f"/settings/integrations/runs/{w.alice.run.id}.csv",
        lambda w: f"/leads/consent/{w.alice.contacts[-1].id}.csv",
    ],
)
def test_every_file_that_is_taken_along_is_in_the_log(
    path: Callable[[World], str], client: FlaskClient, world: World
) -> None:
    log_in(client, world.alice.user)
    before = len(actions())
    assert client.get(path(world)).mimetype == "text/csv"
    assert actions()[before:] == [Action.EXPORTED]
    assert newest().partner_id == world.northgate.id


def test_the_log_itself_is_exported_with_an_entry(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    rows = list(csv.reader(io.StringIO(client.get("/admin/audit/export.csv").text)))
    assert newest().action == Action.EXPORTED
    assert rows[1][5] == Action.EXPORTED
    assert rows[1][1] == world.ada.name


def test_who_logs_in_and_who_can_not(client: FlaskClient, world: World) -> None:
    email = world.alice.user.email
    client.post("/login", data={"email": email, "password": "wrong"})
    assert newest().action == Action.LOGIN_REFUSED
    assert (newest().actor_id, newest().subject_id) == (None, world.alice.user.id)
    client.post("/login", data={"email": "my password by mistake", "password": "x"})
    assert (newest().action, newest().subject_id, newest().details) == (Action.LOGIN_REFUSED, None, {})
    identity = newest().identity
    assert identity
    assert (identity.email, identity.name, identity.client_address) == ("", "", HERE)
    client.post("/login", data={"email": email, "password": PASSWORD})
    assert (newest().action, newest().actor_id) == (Action.LOGGED_IN, world.alice.user.id)


def test_a_password_set_on_a_link(client: FlaskClient, world: World) -> None:
    token = links.make_link(world.bob.user, PasswordLinkKind.RESET)
    client.post(f"/password/{token}", data={"new": "quite another battery"})
    assert (newest().action, newest().actor_id) == (Action.PASSWORD_CHANGED, world.bob.user.id)


def test_keys_rotated_by_a_command(app: Flask, world: World) -> None:
    key_rotation.rotate(app.extensions["asapp.vault"], COMMAND)
    assert (newest().action, newest().actor_kind, newest().identity_id) == (
        Action.KEYS_ROTATED,
        ActorKind.COMMAND,
        None,
    )


def test_what_fails_is_not_in_the_log(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    before = actions()
    client.post(f"/admin/partners/{world.northgate.slug}", data=NEW_FIRM | {"url": "nonsense"})
    client.post(f"/admin/partners/{world.northgate.slug}", data=NEW_FIRM | {"slug": world.charlie.user.partner.slug})  # type: ignore[union-attr]
    client.post(f"/admin/partners/{world.northgate.slug}/delete", data={"confirm_name": "wrong"})
    assert actions() == before


def test_a_change_says_what_it_was_before_and_no_secret(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    old = world.northgate.name
    client.post(f"/admin/partners/{world.northgate.slug}", data=NEW_FIRM | {"sync_interval": "120"})
    details = next(
        entry.details
        for entry in db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc()))
        if entry.action == Action.PARTNER_CHANGED
    )
    assert details["name"] == [old, "Calloway"]
    assert details["sync_interval_minutes"] == [None, 120]
    assert details["consumer_secret"] == "changed"
    assert "'secret'" not in str(details)


@pytest.mark.slow
def test_entries_hold_no_name_and_no_address(app: Flask, client: FlaskClient, world: World) -> None:
    """Personal data is only in the identity row beside the entry."""
    for who, path, data, _action in ACTS:
        if "delete" not in path(world):
            log_in(client, world.ada if who == "ada" else world.alice.user)
            client.post(path(world), data=data(world))
    told = " ".join(str(tuple(row)) for row in db.session.execute(select(AuditEntry.__table__)))
    for personal in (world.alice.user.email, world.ada.email, "Alice Moreau", world.ada.name, HERE, "sam@", "-synced"):
        assert personal not in told


# ---- Entries stay


def test_the_application_changes_no_entry(app: Flask, world: World) -> None:
    entry = newest()
    entry.action = Action.LOGGED_IN
    with pytest.raises(AppendOnly):
        db.session.commit()
    db.session.rollback()
    db.session.delete(newest())
    with pytest.raises(AppendOnly):
        db.session.commit()
    db.session.rollback()


@pytest.mark.parametrize("statement", [update(AuditEntry).values(action="x"), delete(AuditEntry)])
def test_the_database_changes_no_entry(statement: Any, app: Flask, world: World) -> None:
    before = actions()
    with pytest.raises(DBAPIError), writing():
        db.session.execute(statement)
    db.session.rollback()
    assert actions() == before


def test_a_deleted_firm_keeps_its_entries_without_any_name(client: FlaskClient, world: World) -> None:
    log_in(client, world.alice.user)
    client.get("/contacts/export.csv")
    export, alice_id, bob_id = newest().id, world.alice.user.id, world.bob.user.id
    partner_id = world.northgate.id
    log_in(client, world.ada)
    client.post(f"/admin/partners/{world.northgate.slug}/delete", data={"confirm_name": world.northgate.name})
    entry = db.session.get_one(AuditEntry, export)
    assert (entry.actor_id, entry.partner_id) == (alice_id, partner_id)
    identities = db.session.scalars(select(AuditIdentity)).all()
    for identity in identities:
        if identity.user_id in (alice_id, bob_id) or identity.partner_id == partner_id:
            assert (identity.name, identity.email, identity.client_address) == ("", "", "")
            assert identity.erased_at
    assert any(identity.user_id == world.ada.id and identity.name for identity in identities)
    assert "Alice" not in client.get("/admin/audit").text


def test_forgetting_one_leaves_the_others(app: Flask, world: World) -> None:
    for user in (world.alice.user, world.bob.user):
        audit.record_export(Action.EXPORTED, person(user, HERE), None, file="contacts")
    audit.erase_identities([world.alice.user.id])
    db.session.commit()
    named = {identity.user_id: identity.name for identity in db.session.scalars(select(AuditIdentity))}
    assert (named[world.alice.user.id], named[world.bob.user.id]) == ("", world.bob.user.name)
    audit.record_export(Action.EXPORTED, person(world.alice.user, HERE), None, file="contacts")
    assert newest().identity
    assert newest().identity.name == world.alice.user.name  # type: ignore[union-attr]


def test_entries_of_one_person_share_the_row_beside_them(app: Flask, world: World) -> None:
    for _ in range(3):
        audit.record_export(Action.EXPORTED, person(world.alice.user, HERE), None, file="contacts")
    audit.record_export(Action.EXPORTED, person(world.alice.user, "203.0.113.9"), None, file="contacts")
    mine = select(AuditIdentity).where(AuditIdentity.user_id == world.alice.user.id)
    assert len(db.session.scalars(mine).all()) == 2


# ---- Erasing one person


def in_database(text_: str) -> list[str]:
    """Return the tables that contain a text."""
    return [name for name, rows in whole_database().items() if any(text_ in row for row in rows)]


def test_an_advisor_is_erased_and_the_entries_stay(client: FlaskClient, world: World) -> None:
    """The erased person is in no table any more, and all other rows are unchanged."""
    bob, alice = world.bob.user, world.alice.user
    bob_id, name, email, username = bob.id, bob.name, bob.email, world.bob.connection.username
    theirs = [contact.id for contact in world.bob.contacts]
    client.post("/login", data={"email": email, "password": "wrong"}, environ_base={"REMOTE_ADDR": "198.51.100.4"})
    log_in(client, bob)
    client.get("/contacts/export.csv", environ_base={"REMOTE_ADDR": "198.51.100.3"})
    exported = newest().id
    before = rows_of(alice)
    log_in(client, world.ada)
    path = f"/admin/partners/{world.northgate.slug}/advisors/{bob_id}"
    assert client.get(f"{path}/erase").status_code == 404
    assert client.post(f"{path}/erase", data={"confirm_name": name}).status_code == 404
    client.post(f"{path}/deactivate")
    assert f'href="{path}/erase"' in client.get(f"/admin/partners/{world.northgate.slug}/advisors").text
    assert "2 leads have not reached Salesforce" in client.get(f"{path}/erase").text
    refused = client.post(f"{path}/erase", data={"confirm_name": "Bob"})
    assert refused.status_code == 422
    assert in_database(email)
    entries = actions()
    assert client.post(f"{path}/erase", data={"confirm_name": f" {name} "}).status_code == 303
    assert actions() == [*entries, Action.ERASED]
    assert (newest().subject_type, newest().subject_id, newest().actor_id) == ("users", bob_id, world.ada.id)
    entry = db.session.get_one(AuditEntry, exported)
    assert (entry.action, entry.actor_id) == (Action.EXPORTED, bob_id)
    for personal in (name, email, username, "198.51.100.3", "198.51.100.4", "Bobs-"):
        assert in_database(personal) == [], personal
    assert [db.session.get(Contact, contact_id) for contact_id in theirs] == [None] * len(theirs)
    kinds = set(db.session.scalars(select(ConsentEvent.kind).join(Lead).where(Lead.user_id == bob_id)))
    assert kinds == {"opted_in", "erased"}
    assert rows_of(alice) == before
    shown = client.get("/admin/audit").text
    assert "Erased advisor" in shown
    assert name not in shown
    assert "Erased advisor" not in client.get(f"/admin/partners/{world.northgate.slug}/advisors").text
    assert "Erased advisor" not in client.get(f"/admin/board?firm={world.northgate.slug}").text
    for act in ("let-back-in", "erase", "move", "invite"):
        assert client.post(f"{path}/{act}").status_code == 404


def test_an_address_that_stands_for_others_too_stays(client: FlaskClient, world: World) -> None:
    """Two people of an office with one address mistype their passwords; one of them is erased."""
    office = {"environ_base": {"REMOTE_ADDR": "198.51.100.9"}}
    for belongings in (world.bob, world.alice):
        client.post("/login", data={"email": belongings.user.email, "password": "wrong"}, **office)
    audit.erase_identities([world.bob.user.id])
    db.session.commit()
    assert in_database("198.51.100.9") == ["audit_identities"]
    audit.erase_identities([world.bob.user.id, world.alice.user.id])
    db.session.commit()
    assert in_database("198.51.100.9") == []


def test_a_firms_salesforce_admin_is_erased(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    page = client.get("/admin/audit").text
    assert f'href="/admin/audit/{world.guest_id}/erase"' in page
    asked = client.get(f"/admin/audit/{world.guest_id}/erase").text
    assert "Erase Sam?" in asked
    assert "sam<wbr>@firm.example" in asked
    token = world.setup_tokens[world.northgate.id]
    entries = actions()
    client.post(f"/admin/audit/{world.guest_id}/erase")
    assert actions() == [*entries, Action.ERASED]
    assert (newest().subject_type, newest().subject_id) == ("partners", world.northgate.id)
    assert in_database("192.0.2.33") == []
    assert in_database("sam@firm.example") == ["setup_links"]  # the same person's link at the other firm
    assert client.get(f"/partner-setup/{token}").status_code == 410
    assert "a person who was erased" in client.get(f"/admin/partners/{world.northgate.slug}").text
    assert client.get(f"/admin/audit/{world.guest_id}/erase").status_code == 404
    assert "Sam" not in client.get("/admin/audit").text


def test_a_person_with_an_account_is_not_erased_as_a_guest(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    client.get("/admin/audit/export.csv")
    assert newest().identity_id
    assert client.post(f"/admin/audit/{newest().identity_id}/erase").status_code == 404


# ---- What asapp does by itself, and what it does for a person


def break_by_itself(connection: Connection, reason: str) -> bool:
    """Break a connection as a refused refresh does, in a session of its own."""
    connection_id, version = connection.id, connection.token_version
    db.session.rollback()
    with Session(db.engine) as session, writing(), session.begin():
        return mark_needs_reconnect(session, connection_id, reason, version)


def test_a_connection_that_breaks_is_an_act_of_its_own(app: Flask, world: World) -> None:
    connection = world.alice.connection
    assert break_by_itself(connection, "permission_withdrawn")
    assert not break_by_itself(connection, "permission_withdrawn")
    broke = [entry for entry in db.session.scalars(select(AuditEntry)) if entry.action == Action.BROKE]
    assert len(broke) == 1
    assert (broke[0].actor_kind, broke[0].actor_id, broke[0].identity_id) == (ActorKind.ITSELF, None, None)
    assert (broke[0].subject_type, broke[0].subject_id) == ("connections", connection.id)
    assert (broke[0].partner_id, broke[0].details) == (world.northgate.id, {"reason": "permission_withdrawn"})


def test_a_connection_that_breaks_is_in_the_audit_log(client: FlaskClient, world: World) -> None:
    break_by_itself(world.alice.connection, "permission_withdrawn")
    log_in(client, world.ada)
    page = client.get("/admin/audit?what=connected").text
    assert "Connection broke" in page
    assert "by itself" in page
    assert "the permission was withdrawn in Salesforce" in page
    assert f"{world.alice.user.name} ({world.alice.connection.username})" in page.replace("<wbr>", "")


def test_a_move_names_both_firms_and_a_decision_how_many_it_was_about(client: FlaskClient, world: World) -> None:
    harbour = world.charlie.user.partner
    assert harbour is not None
    firms = {"from_partner": world.northgate.id, "to_partner": harbour.id}
    audit.record(Action.MOVED, COMMAND, world.alice.user, **firms)
    audit.record(Action.DISCARDED, COMMAND, world.alice.connection, contacts=598)
    db.session.commit()
    log_in(client, world.ada)
    page = client.get("/admin/audit").text
    assert f"from {world.northgate.name}; to {harbour.name}" in unescape(page)
    assert "598 contacts" in page


def test_an_entry_about_a_delete_names_the_contact_by_its_number(client: FlaskClient, world: World) -> None:
    log_in(client, world.alice.user)
    ids = sorted(contact.id for contact in world.alice.contacts[:2])
    client.post("/contacts/delete", data={"id": ids})
    assert newest().details["contacts"] == str(ids[0])  # the other contact was hidden already
    client.post("/contacts/restore", data={"id": ids})
    assert newest().details["contacts"] == ", ".join(map(str, ids))


def test_another_app_with_another_secret_is_a_secret_replaced(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    client.post(f"/admin/partners/{world.northgate.slug}", data=NEW_FIRM)
    assert actions()[-2:] == [Action.PARTNER_CHANGED, Action.SECRET_REPLACED]


def test_saving_a_firm_without_a_change_leaves_no_entry(client: FlaskClient, world: World) -> None:
    log_in(client, world.ada)
    path = f"/admin/partners/{world.northgate.slug}"
    client.post(path, data=NEW_FIRM)
    before = actions()
    client.post(path, data=NEW_FIRM)
    assert actions() == before


def test_the_first_secret_of_a_firm_is_entered_and_not_replaced(client: FlaskClient, world: World) -> None:
    partner = world.northgate
    audit.record(Action.SECRET_REPLACED, COMMAND, partner, consumer_secret="entered")
    audit.record(
        Action.PARTNER_CHANGED, COMMAND, partner, pending_secret="entered", privacy_url=["", "https://a.example"]
    )
    db.session.commit()
    log_in(client, world.ada)
    page = unescape(client.get("/admin/audit").text)
    assert "<strong>Entered the secret</strong>" in page
    assert (
        "new Consumer Secret, which waits until Salesforce accepts it: entered; privacy notice: nothing, then" in page
    )


# ---- Reading it


def test_no_cell_of_the_file_is_a_formula(ada: Any, client: FlaskClient) -> None:
    """A spreadsheet runs cells that begin with one of these, also after a space."""
    for start in FORMULA_STARTS:
        alice = make_advisor(name=f"{start}HYPERLINK(0)")
        firm = alice.partner
        assert firm
        firm.name = f"{start}cmd"
        audit.record_export(Action.PARTNER_CHANGED, person(alice, f"{start}1"), firm, name=["x", f"{start}cmd"])
        guest = audit.by_link(firm, f"{start}Sam", f"{start}sam@x.example", HERE)
        audit.record_export(Action.SECRET_REPLACED, guest, firm)
    rows = list(csv.reader(io.StringIO(client.get("/admin/audit/export.csv").text, newline="")))
    assert len(rows) >= 2 * len(FORMULA_STARTS)
    assert {len(row) for row in rows} == {11}
    assert any("HYPERLINK" in cell for row in rows for cell in row)
    bad = [cell for row in rows for cell in row if cell.lstrip().startswith(FORMULA_STARTS)]
    assert bad == []


@pytest.fixture
def ada(client: FlaskClient) -> Any:
    made = make_admin()
    log_in(client, made)
    return made


def fill() -> tuple[Any, Any]:
    alice, charlie = make_advisor(name="Alice Moreau"), make_advisor(name="Charlie Chou")
    audit.record_export(Action.EXPORTED, person(alice, "192.0.2.1"), None, file="contacts")
    audit.record_export(Action.DISCONNECTED, person(charlie, "203.0.113.61"), charlie.partner, contacts_kept=True)
    return alice, charlie


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("q=moreau", "192.0.2.1", "203.0.113.61"),
        ("q=203.0.113.61", "203.0.113.61", "192.0.2.1"),
        ("what=exported", "192.0.2.1", "203.0.113.61"),
        ("what=connected", "203.0.113.61", "192.0.2.1"),
        ("from=2020-01-01&until=2999-12-31", "192.0.2.1", "nothing"),
        ("from=nonsense&until=0001-01-01&before=x&what=x", "192.0.2.1", "nothing"),
        ("until=2020-01-01", "No entry matches that", "192.0.2.1"),
        ("q=%00%25", "No entry matches that", "192.0.2.1"),
    ],
)
def test_the_filter(query: str, shown: str, hidden: str, ada: Any, client: FlaskClient) -> None:
    fill()
    page = client.get(f"/admin/audit?{query}").text
    assert shown in page
    assert hidden not in page
    file = client.get(f"/admin/audit/export.csv?{query}").text
    if shown[0].isdigit():
        assert shown in file
    assert hidden not in file


def test_by_firm(ada: Any, client: FlaskClient) -> None:
    alice, _charlie = fill()
    page = client.get(f"/admin/audit?firm={alice.partner.slug}").text
    assert "192.0.2.1" in page
    assert "203.0.113.61" not in page


def test_pages(ada: Any, client: FlaskClient) -> None:
    alice = make_advisor()
    for number in range(60):
        audit.record_export(Action.EXPORTED, person(alice, f"192.0.2.{number}"), None, file="contacts")
    first = client.get("/admin/audit?what=exported").text
    assert "50 of 60 entries" in first
    assert "192.0.2.59" in first
    assert "192.0.2.9<" not in first
    older = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "what=exported" in older
    second = client.get(older).text
    assert "10 of 60 entries" in second
    assert "192.0.2.9<" in second


def test_links_of_the_page_are_made_of_the_filter_alone(ada: Any, client: FlaskClient) -> None:
    page = client.get("/admin/audit?_external=1&_scheme=javascript&_anchor=x&q=a").text
    assert "javascript" not in page


def test_a_page_costs_as_many_queries_whatever_its_length(ada: Any, client: FlaskClient, app: Flask) -> None:
    from sqlalchemy import event

    def count() -> int:
        asked = []

        def collect_statement(*args: Any) -> None:
            asked.append(args[2])

        event.listen(db.engine, "before_cursor_execute", collect_statement)
        client.get("/admin/audit")
        event.remove(db.engine, "before_cursor_execute", collect_statement)
        return len(asked)

    fill()
    few = count()
    for _ in range(10):
        fill()
    assert count() == few or few == 0


def test_nothing_yet(app: Flask, ada: Any, client: FlaskClient) -> None:
    assert "Nothing has been done yet" in client.get("/admin/audit").text


def test_the_schema_refuses_an_unknown_kind(app: Flask) -> None:
    with pytest.raises(DBAPIError), writing():
        db.session.execute(
            text("INSERT INTO audit_entries (at, action, actor_kind, details) VALUES (:now, 'x', 'ghost', '{}')"),
            {"now": "2026-01-01 00:00:00"},
        )
    db.session.rollback()
