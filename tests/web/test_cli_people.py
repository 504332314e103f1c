"""Commands about people: listed, another address or password, deactivated and let back in."""

from __future__ import annotations

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.accounts import links, passwords
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Action, ActorKind, AuditEntry, PasswordLinkKind, User
from tests.factories import PASSWORD, log_in, make_admin, make_advisor, make_partner, make_second_factor
from tests.mailing import send_waiting_mails

NEW_PASSWORD = "four unrelated words here"


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor(email="alice@northgate.example")


def run(app: Flask, *arguments: str, **environ: str) -> Result:
    db.session.rollback()
    with app.app_context():
        result = app.test_cli_runner().invoke(args=["users", *arguments], env=environ)
    db.session.expire_all()
    return result


def last_action() -> tuple[str, str, int | None]:
    db.session.rollback()
    entry = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry
    return entry.action, entry.actor_kind, entry.subject_id


def is_in(client: FlaskClient) -> bool:
    return client.get("/settings").status_code == 200


def test_people_are_listed_with_what_an_operator_asks_for(app: Flask) -> None:
    northgate = make_partner(slug="northgate")
    make_admin(email="ada@example.com")
    make_advisor(northgate, "Alice Moreau", email="alice@example.com")
    make_second_factor(make_advisor(northgate, "Bob Tanner", email="bob@example.com", deactivated_at=utcnow()))
    make_advisor(northgate, "Cleo Marsh", email="cleo@example.com", invited_at=utcnow())
    assert run(app, "list").stdout.splitlines() == [
        "ada@example.com\tAda Lindgren\tadmin\t-\tactive\tsecond step",
        "alice@example.com\tAlice Moreau\tadvisor\tnorthgate\tactive\tno second step",
        "bob@example.com\tBob Tanner\tadvisor\tnorthgate\tdeactivated\tsecond step",
        "cleo@example.com\tCleo Marsh\tadvisor\tnorthgate\tinvited\tno second step",
    ]


def test_a_person_logs_in_with_another_address_and_both_are_told(app: Flask, client: FlaskClient, alice: User) -> None:
    assert run(app, "set-email", alice.email, "Alice.Moreau@Northgate.example").exit_code == 0
    assert alice.email == "alice.moreau@northgate.example"
    assert last_action() == (Action.EMAIL_CHANGED, ActorKind.COMMAND, alice.id)
    send_waiting_mails()
    told = sorted(letter.to[0] for letter in app.extensions["mailman"].outbox)
    assert told == ["alice.moreau@northgate.example", "alice@northgate.example"]
    answer = client.post("/login", data={"email": "alice.moreau@northgate.example", "password": PASSWORD})
    assert answer.location == "/contacts"


@pytest.mark.parametrize("command", [("set-email", "new@northgate.example"), ("set-password",)])
def test_links_that_were_sent_before_end(
    command: tuple[str, ...], app: Flask, client: FlaskClient, alice: User
) -> None:
    token = links.make_link(alice, PasswordLinkKind.RESET)
    name, *more = command
    run(app, name, alice.email, *more, ASAPP_PASSWORD=NEW_PASSWORD)
    assert client.get(f"/password/{token}").status_code == 410


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("bob@northgate.example", "Someone already has this address."),
        ("nonsense", "email: "),
        ("ALICE@northgate.example", "the address that the person has"),
    ],
)
def test_an_address_that_will_not_do(new: str, words: str, app: Flask, alice: User) -> None:
    make_advisor(alice.partner, "Bob Tanner", email="bob@northgate.example")
    refused = run(app, "set-email", alice.email, new)
    assert refused.exit_code == 1
    assert words in refused.stderr
    assert alice.email == "alice@northgate.example"


def test_a_password_is_set_and_ends_all_log_ins(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    result = run(app, "set-password", alice.email, ASAPP_PASSWORD=NEW_PASSWORD)
    assert result.exit_code == 0
    assert NEW_PASSWORD not in result.output
    assert passwords.is_right(NEW_PASSWORD, alice.password_hash)
    assert not is_in(client)
    assert last_action() == (Action.PASSWORD_CHANGED, ActorKind.COMMAND, alice.id)


def test_a_password_that_is_easy_to_guess_is_refused(app: Flask, alice: User) -> None:
    refused = run(app, "set-password", alice.email, ASAPP_PASSWORD="short")
    assert "Use at least 12 characters" in refused.stderr
    assert passwords.is_right(PASSWORD, alice.password_hash)


def test_a_person_is_deactivated_and_let_back_in(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    assert run(app, "deactivate", alice.email).exit_code == 0
    assert not is_in(client)
    assert "deactivated already" in run(app, "deactivate", alice.email).stderr
    assert run(app, "let-back-in", alice.email).exit_code == 0
    assert client.post("/login", data={"email": alice.email, "password": PASSWORD}).location == "/contacts"
    assert "not deactivated" in run(app, "let-back-in", alice.email).stderr


def test_the_only_admin_stays(app: Flask) -> None:
    ada = make_admin()
    assert "the only admin" in run(app, "deactivate", ada.email).stderr
    assert ada.is_active
    make_admin("Eve Sand")
    assert run(app, "deactivate", ada.email).exit_code == 0
    assert not ada.is_active


@pytest.mark.parametrize(
    "command", [("set-email", "x@y.example"), ("set-password",), ("deactivate",), ("let-back-in",)]
)
def test_nobody_has_this_address(command: tuple[str, ...], app: Flask) -> None:
    name, *more = command
    refused = run(app, name, "nobody@example.com", *more, ASAPP_PASSWORD=NEW_PASSWORD)
    assert (refused.exit_code, refused.stderr) == (1, "Error: No one has this address.\n")
