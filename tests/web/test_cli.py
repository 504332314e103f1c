"""The commands, as a person at a terminal sees them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests_mock
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from asapp import create_app
from asapp.accounts import key_rotation, passwords
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.vault import Vault, key_id
from asapp.models import (
    Action,
    ActorKind,
    AuditEntry,
    Connection,
    Contact,
    Partner,
    RunStatus,
    SetupLink,
    SyncRun,
    User,
)
from asapp.partners import setup_link
from asapp.partners.setup_link import Recipient
from config import Config
from tests.conftest import ENCRYPTION_KEY
from tests.factories import make_admin, make_advisor, make_connection, make_contact, make_partner, make_run

SECRET = "C0FFEE.0123456789"
PASSPHRASE = "four unrelated words here"
NEWER_KEY = bytes(range(7, 39))
ANOTHER_KEY = bytes(range(50, 82))


def run(app: Flask, *arguments: str, typed: str | None = None, **environ: str) -> Result:
    db.session.rollback()
    with app.app_context():
        result = app.test_cli_runner().invoke(args=list(arguments), env=environ, input=typed)
    db.session.expire_all()
    return result


def one_line(result: Result) -> str:
    assert result.exit_code != 0
    assert result.stdout == ""
    assert "Traceback" not in result.output
    line = result.stderr.strip()
    assert "\n" not in line
    return line


def add_partner(app: Flask, **changes: str) -> Result:
    options = {"url": "https://acme.lightning.force.com/x", "key": "3MVG9abc"} | changes
    flat = [part for name, value in options.items() for part in (f"--{name}", value)]
    return run(app, "partners", "create", "Acme Wealth", *flat, ASAPP_CONSUMER_SECRET=SECRET)


def add_user(app: Flask, email: str, *more: str, password: str = PASSPHRASE) -> Result:
    return run(app, "users", "create", email, "--name", "Amara Okafor", *more, ASAPP_PASSWORD=password)


def test_a_partner_by_command_prints_its_slug_and_nothing_else(app: Flask) -> None:
    result = add_partner(app)
    assert result.exit_code == 0
    assert result.stdout == "acme-wealth\n"
    assert "https://acme.my.salesforce.com" in result.stderr
    partner = db.session.scalars(select(Partner)).one()
    assert partner.unseal(app.extensions["asapp.vault"], "consumer_secret_sealed") == SECRET


def test_the_secret_is_asked_for_and_not_shown(app: Flask) -> None:
    options = ("--url", "https://acme.my.salesforce.com", "--key", "3MVG9abc")
    result = run(app, "partners", "create", "Acme", *options, typed=f"{SECRET}\n", ASAPP_CONSUMER_SECRET="")
    assert result.exit_code == 0
    assert result.stdout == "acme\n"
    assert SECRET not in result.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"url": "https://evil.example"}, "not a Salesforce address"), ({"key": ""}, "Enter the Consumer Key")],
)
def test_an_invalid_partner_is_refused(changes: dict[str, str], words: str, app: Flask) -> None:
    assert words in one_line(add_partner(app, **changes))
    assert db.session.scalars(select(Partner)).all() == []


def test_an_advisor_by_command_can_log_in(app: Flask, client: FlaskClient) -> None:
    add_partner(app)
    assert add_user(app, "Amara@Acme.example", "--role", "advisor", "--partner", "acme-wealth").exit_code == 0
    response = client.post("/login", data={"email": "amara@acme.example", "password": PASSPHRASE})
    assert response.location == "/contacts"


def test_an_admin_by_command(app: Flask) -> None:
    assert add_user(app, "ada@example.com", "--role", "admin").exit_code == 0
    assert db.session.scalars(select(User)).one().is_admin


def test_the_password_is_asked_for_twice(app: Flask) -> None:
    options = ("--name", "Ada", "--role", "admin")
    typed = f"{PASSPHRASE}\n{PASSPHRASE}\n"
    result = run(app, "users", "create", "ada@example.com", *options, typed=typed, ASAPP_PASSWORD="")
    assert result.exit_code == 0
    assert PASSPHRASE not in result.output
    assert passwords.is_right(PASSPHRASE, db.session.scalars(select(User)).one().password_hash)


def test_a_person_is_erased_by_command(app: Flask) -> None:
    alice = make_advisor(email="alice@acme.example")
    alice_id = alice.id
    make_contact(make_connection(alice))
    refused = run(app, "users", "erase", "Alice@Acme.example", typed="n\n")
    assert refused.exit_code != 0
    assert alice.is_active
    with requests_mock.Mocker() as salesforce:
        revoking = salesforce.post("https://northgate.my.salesforce.com/services/oauth2/revoke")
        result = run(app, "users", "erase", "Alice@Acme.example", "--yes")
    assert result.exit_code == 0, result.output
    assert revoking.call_count == 1
    erased = db.session.get_one(User, alice_id)
    assert (erased.name, erased.email) == ("Erased advisor", f"deleted-{alice_id}@deleted.invalid")
    assert not erased.is_active
    assert db.session.scalars(select(Contact)).all() == []
    entry = db.session.scalars(select(AuditEntry).where(AuditEntry.action == Action.ERASED)).one()
    assert (entry.actor_kind, entry.subject_id) == (ActorKind.COMMAND, alice_id)
    assert one_line(run(app, "users", "erase", "alice@acme.example", "--yes")) == "Error: No one has this address."


def test_a_salesforce_admin_is_erased_by_command(app: Flask) -> None:
    firms = [make_partner(), make_partner("Fjord")]
    for firm in firms:
        setup_link.make_link(firm, Recipient("Sam", "sam@firm.example"), make_admin())
    assert run(app, "users", "erase", "SAM@firm.example", "--yes").exit_code == 0
    links = db.session.scalars(select(SetupLink)).all()
    assert [(link.name, link.email, link.is_open(utcnow())) for link in links] == [("", "", False)] * 2


def test_the_only_admin_is_not_erased(app: Flask) -> None:
    ada = make_admin(email="ada@example.com")
    make_admin("Otto").deactivated_at = utcnow()  # one who can't log in is no other one
    db.session.commit()
    assert "the only admin" in one_line(run(app, "users", "erase", "ada@example.com", "--yes"))
    make_admin("Olga")
    assert run(app, "users", "erase", "ada@example.com", "--yes").exit_code == 0
    assert ada.name == "Erased admin"


@pytest.mark.parametrize(
    ("email", "more", "password", "words"),
    [
        ("x@x.example", ("--role", "advisor"), PASSPHRASE, "add --partner SLUG"),
        ("x@x.example", ("--role", "advisor", "--partner", "nobody"), PASSPHRASE, "There is no partner 'nobody'."),
        ("x@x.example", ("--role", "admin", "--partner", "acme-wealth"), PASSPHRASE, "leave --partner out"),
        ("x@x.example", ("--role", "admin"), "short", "Use at least 12 characters"),
        ("not an address", ("--role", "admin"), PASSPHRASE, "Enter one email address"),
    ],
)
def test_an_invalid_user_is_refused(email: str, more: tuple[str, ...], password: str, words: str, app: Flask) -> None:
    add_partner(app)
    assert words in one_line(add_user(app, email, *more, password=password))
    assert db.session.scalars(select(User)).all() == []


def test_an_address_that_is_taken(app: Flask) -> None:
    add_user(app, "ada@example.com", "--role", "admin")
    assert "Someone already has this address." in one_line(add_user(app, "ADA@example.com", "--role", "admin"))


def test_a_database_without_tables_is_one_line(config: Config) -> None:
    empty = create_app(Config(**{**vars(config), "database_url": "sqlite://"}))
    result = empty.test_cli_runner().invoke(args=["keys", "status"])
    assert result.exit_code == 1
    assert "Has `flask db upgrade` run?" in result.stderr


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://asapp:secret-word@127.0.0.1:1/asapp", "sqlite:////nowhere/at/all.db"]
)
def test_a_database_that_is_away_is_one_line_about_that(url: str, config: Config) -> None:
    away = create_app(Config(**{**vars(config), "database_url": url}))
    line = one_line(away.test_cli_runner().invoke(args=["users", "list"]))
    assert "The database can't do that: " in line
    assert "db upgrade" not in line
    assert "secret-word" not in line


class TestRotation:
    def app_with(self, config: Config, *keys_: bytes) -> Flask:
        return create_app(Config(**{**vars(config), "encryption_keys": keys_}))

    def sealed(self) -> list[str]:
        values: list[Any] = []
        for table, column in key_rotation.sealed_columns():
            values += db.session.scalars(select(table.c[column]).where(table.c[column].is_not(None)))
        return values

    def test_every_sealed_column_takes_part(self) -> None:
        names = {f"{table.name}.{column}" for table, column in key_rotation.sealed_columns()}
        assert names >= {
            "partners.consumer_key_sealed",
            "partners.consumer_secret_sealed",
            "partners.address_key_sealed",
            "connections.access_token_sealed",
            "connections.refresh_token_sealed",
            "oauth_states.code_verifier_sealed",
        }

    def test_from_an_old_key_to_a_new_one(self, app: Flask, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(key_rotation, "BATCH", 2)
        for _ in range(5):
            make_connection(access_token="the access token")
        before = self.sealed()
        assert len(before) == 20
        both = self.app_with(config, NEWER_KEY, ENCRYPTION_KEY)
        assert "20 to re-encrypt." in run(both, "keys", "rotate", "--dry-run").stdout
        assert self.sealed() == before
        assert "20 re-encrypted" in run(both, "keys", "rotate").stdout
        assert "0 re-encrypted" in run(both, "keys", "rotate").stdout
        vault = Vault([NEWER_KEY])
        assert all(vault.is_current(value) for value in self.sealed())
        for connection in db.session.scalars(select(Connection)):
            assert connection.unseal(vault, "access_token_sealed") == "the access token"
            assert connection.partner.unseal(vault, "consumer_secret_sealed") == "consumer-secret"

    def test_a_token_that_changes_meanwhile_is_left_alone(self, app: Flask, config: Config) -> None:
        connection = make_connection()
        vault = Vault([NEWER_KEY, ENCRYPTION_KEY])
        opened = vault.open

        class Interrupted(Vault):
            def open(self, sealed: str, place: str) -> str:
                plain = opened(sealed, place)
                if place.endswith("refresh_token_sealed"):
                    fresh = vault.seal("rotated by Salesforce", place)
                    db.session.execute(update(Connection).values(refresh_token_sealed=fresh))
                return plain

        result = key_rotation.rotate(Interrupted([NEWER_KEY, ENCRYPTION_KEY]))
        assert (result.renewed, result.overtaken) == (3, 1)
        db.session.refresh(connection)
        assert connection.unseal(vault, "refresh_token_sealed") == "rotated by Salesforce"

    def test_a_value_that_no_key_opens_is_reported_and_kept(self, app: Flask, config: Config) -> None:
        make_partner()
        before = self.sealed()
        stranger = self.app_with(config, ANOTHER_KEY)
        result = run(stranger, "keys", "rotate")
        assert result.exit_code == 1
        assert "partners.consumer_key_sealed 1, partners.consumer_secret_sealed 1" in result.stderr
        assert self.sealed() == before

    def test_status_names_keys_that_are_missing(self, app: Flask, config: Config) -> None:
        make_partner()
        assert f"1 under {key_id(ENCRYPTION_KEY)} (newest)" in run(app, "keys", "status").stdout
        both = self.app_with(config, NEWER_KEY, ENCRYPTION_KEY)
        assert f"under {key_id(ENCRYPTION_KEY)} (older)" in run(both, "keys", "status").stdout
        stranger = self.app_with(config, ANOTHER_KEY)
        assert f"under {key_id(ENCRYPTION_KEY)} (NOT HERE)" in run(stranger, "keys", "status").stdout


def test_a_job_by_hand_is_carried_out_here(app: Flask) -> None:
    connection = make_connection(make_advisor(make_partner()))
    run_id = make_run(connection, RunStatus.RUNNING, lease="gone", lease_until=utcnow() - timedelta(minutes=1)).id
    result = run(app, "job", "run_sync", str(run_id + 1))
    assert (result.exit_code, result.stdout) == (0, "")  # there is no such run, so that nothing is left to do
    run(app, "job", "tick")
    assert db.session.get_one(SyncRun, run_id).is_queued


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sync_run", "42"), "There is no job 'sync_run'."),
        (("_app",), "There is no job '_app'."),
        (("run_sync",), "This job is started as: job run_sync RUN_ID"),
    ],
)
def test_a_job_that_does_not_exist_is_one_line(arguments: tuple[str, ...], words: str, app: Flask) -> None:
    assert words in one_line(run(app, "job", *arguments))


def test_help_names_every_command(app: Flask) -> None:
    listed = run(app, "--help").stdout
    for name in ("users", "partners", "keys", "scheduler", "job", "db"):
        assert name in listed
