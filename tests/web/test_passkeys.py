"""Passkeys on the pages: under Security, at the log-in, and where a fresh log-in is asked for."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.accounts import attempts, mailbox_proof, second_factor
from asapp.core.extensions import db
from asapp.models import Action, AuditEntry, Passkey, RecoveryCode, User
from asapp.web.login_session import CONFIRMED_AT, FRESH_FOR
from tests.conftest import PUBLIC_URL
from tests.factories import PASSWORD, app_code, log_in, make_admin, make_advisor, make_passkey, make_second_factor
from tests.mailing import send_waiting_mails
from tests.passkey_devices import PasskeyDevice

PASSKEYS = "/settings/passkeys"
SET_UP = "/settings/second-factor"
HOST = PUBLIC_URL.partition("://")[2].partition(":")[0]


@pytest.fixture
def alice(app: Flask) -> User:
    user = make_advisor()
    make_second_factor(user)
    return user


def add(client: FlaskClient, name: str = "Work laptop", **how: object) -> PasskeyDevice:
    """Add a passkey as the page does; the person is logged in."""
    device = PasskeyDevice(PUBLIC_URL, HOST, **how)  # type: ignore[arg-type]
    options = client.post(f"{PASSKEYS}/options").text
    answer = client.post(PASSKEYS, data={"name": name, "credential": device.make(options)})
    assert (answer.status_code, answer.location) == (303, "/settings/security")
    return device


def try_password(client: FlaskClient, user: User, **more: str) -> None:
    client.post("/logout")
    client.post("/login", data={"email": user.email, "password": PASSWORD, **more})


def grow_old(client: FlaskClient) -> None:
    with client.session_transaction() as session:
        session[CONFIRMED_AT] -= int(FRESH_FOR.total_seconds()) + 1


def test_a_passkey_is_added_used_at_the_log_in_renamed_and_removed(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    assert "Add a passkey" in client.get("/settings/security").text
    assert 'value="A browser"' in client.get(f"{PASSKEYS}/new").text
    device = add(client)
    try_password(client, alice, next="/leads")
    page = client.get("/login/code").text
    assert "Use a passkey" in page
    assert "Six digits" in page
    options = client.post("/login/passkey").text
    answer = client.post("/login/code", data={"credential": device.use(options)})
    assert (answer.status_code, answer.location) == (303, "/leads")
    page = client.get("/settings/security").text
    assert "Logged in with a passkey" in page
    edit = re.search(rf'href="({PASSKEYS}/[^"/]+)">Change', page)
    assert edit
    assert client.post(edit[1], data={"name": ""}).status_code == 422
    assert "Use 60 characters or fewer" in client.post(edit[1], data={"name": "x" * 61}).text
    client.post(edit[1], data={"name": "Old <laptop>"})
    assert "Old &lt;laptop&gt;" in client.get("/settings/security").text
    client.post(f"{edit[1]}/remove")
    assert db.session.scalars(select(Passkey)).all() == []
    assert client.get(edit[1]).status_code == 404
    try_password(client, alice)
    assert "Use a passkey" not in client.get("/login/code").text
    assert client.post("/login/passkey").status_code == 404


def test_a_passkey_alone_is_a_second_step(app: Flask, client: FlaskClient) -> None:
    bob = make_advisor(name="Bob Tanner")
    log_in(client, bob)
    assert "Add a passkey" not in client.get("/settings/security").text
    assert client.get(f"{PASSKEYS}/new").location == SET_UP
    assert "Use a passkey" in client.get(SET_UP).text
    refused = client.post(PASSKEYS, data={"name": "Laptop", "credential": "{}"})
    assert refused.status_code == 422
    assert "No passkey was added." in refused.text
    assert "A code from an app" in refused.text.replace("Or a code", "A code")
    device, codes = add_first(client)
    assert len(set(codes)) == 10
    page = client.get("/settings/security").text
    assert "Each log-in asks for a passkey. You have 10 recovery codes left." in page
    assert "Add an app" in page
    try_password(client, bob)
    page = client.get("/login/code").text
    assert "Now use your passkey." in page
    assert "Six digits" not in page
    assert client.post("/login/code", data={"code": "123456"}).status_code == 422
    options = client.post("/login/passkey").text
    assert client.post("/login/code", data={"credential": device.use(options)}).status_code == 303
    grow_old(client)
    page = client.get(f"/login/confirm?next={SET_UP}").text
    assert "Use your passkey" in page
    assert "Six digits" not in page
    try_password(client, bob)
    assert client.post("/login/code", data={"recovery": codes[0]}).status_code == 303
    assert [action for action in changes() if action not in (Action.LOGGED_IN, Action.LOGIN_REFUSED)] == [
        Action.SECOND_FACTOR_SET_UP,
        Action.PASSKEY_ADDED,
    ]
    send_waiting_mails()
    assert "it was turned on with a passkey" in app.extensions["mailman"].outbox[0].body


def test_an_app_beside_a_passkey_keeps_the_recovery_codes(app: Flask, client: FlaskClient) -> None:
    bob = make_advisor(name="Bob Tanner")
    log_in(client, bob)
    _, codes = add_first(client)
    assert "Your recovery codes go on working." in client.get(SET_UP).text
    new = second_factor.begin(bob, app.extensions["asapp.vault"])
    answer = client.post(SET_UP, data={"app": new.sealed, "code": app_code(secret=new.secret)})
    assert answer.location == "/settings/security"
    assert "Your recovery codes go on working." in client.get("/settings/security").text
    try_password(client, bob)
    page = client.get("/login/code").text
    assert "Six digits" in page
    assert "Use a passkey" in page
    assert client.post("/login/code", data={"recovery": codes[0]}).status_code == 303


def test_removing_the_only_passkey_turns_an_advisors_second_step_off(client: FlaskClient) -> None:
    bob = make_advisor(name="Bob Tanner")
    log_in(client, bob)
    add_first(client)
    (passkey,) = db.session.scalars(select(Passkey))
    path = f"{PASSKEYS}/{passkey.public_id}"
    assert "your second step is off then" in client.get(path).text
    client.post(f"{path}/remove")
    assert "your password alone logs you in" in client.get("/settings/security").text
    db.session.expire_all()
    assert not bob.has_second_factor
    assert db.session.scalars(select(RecoveryCode)).all() == []
    assert changes()[-1] == Action.SECOND_FACTOR_REMOVED


def test_an_admin_needs_the_mailbox_first_and_keeps_one_way(client: FlaskClient) -> None:
    ada = make_admin(has_second_factor=False)
    log_in(client, ada)
    assert client.post(f"{PASSKEYS}/options").status_code == 404
    assert client.post(PASSKEYS, data={"name": "Laptop", "credential": "{}"}).location == SET_UP
    client.post(f"{SET_UP}/link/{mailbox_proof.make_link(ada)}")
    add_first(client)
    assert client.get("/admin/partners").status_code == 200
    (passkey,) = db.session.scalars(select(Passkey))
    path = f"{PASSKEYS}/{passkey.public_id}"
    assert "is your only second step, and admins need one" in client.get(path).text
    assert client.post(f"{path}/remove").status_code == 422
    add(client, "Blue key", credential_id=b"another")
    assert client.post(f"{path}/remove").location == "/settings/security"
    assert [each.name for each in db.session.scalars(select(Passkey))] == ["Blue key"]
    assert second_factor.reset(ada)
    assert db.session.scalars(select(Passkey)).all() == []


def add_first(client: FlaskClient) -> tuple[PasskeyDevice, list[str]]:
    """Turn the second step on with a passkey, as the page does; return it and the recovery codes."""
    device = PasskeyDevice(PUBLIC_URL, HOST)
    options = client.post(f"{PASSKEYS}/options").text
    answer = client.post(PASSKEYS, data={"name": "Laptop", "credential": device.make(options)})
    assert "Your passkey is set up." in answer.text
    return device, re.findall(r"<li>([a-z2-9]{4}-[a-z2-9]{4})</li>", answer.text)


def changes() -> list[str]:
    db.session.rollback()
    return list(db.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


def test_a_refused_passkey_says_why_and_the_codes_stay(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    device = add(client)
    try_password(client, alice)
    options = client.post("/login/passkey").text
    thief = app.test_client()
    try_password(thief, alice)
    stolen = thief.post("/login/code", data={"credential": device.use(options)})
    assert stolen.status_code == 422
    assert "begun in another browser" in stolen.text
    answer = client.post("/login/code", data={"credential": device.use(options, origin="https://evil.test")})
    assert answer.status_code == 422
    assert "Your passkey was not accepted." in answer.text
    assert "Six digits" in answer.text
    assert client.get("/settings").status_code == 302
    db.session.rollback()
    last = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert last
    assert (last.action, last.details) == (Action.LOGIN_REFUSED, {"second_step": "wrong passkey answer"})


def test_a_refused_new_passkey_keeps_the_name(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    answer = client.post(PASSKEYS, data={"name": "Blue key", "credential": ""})
    assert answer.status_code == 422
    assert "No passkey was added." in answer.text
    assert 'value="Blue key"' in answer.text


def test_refused_passkeys_are_counted_as_wrong_codes_are(client: FlaskClient, alice: User) -> None:
    make_passkey(alice)
    try_password(client, alice)
    tries = [client.post("/login/code", data={"credential": "{}"}).status_code for _ in range(attempts.LOG_INS + 1)]
    assert tries == [422] * attempts.LOG_INS + [429]


def test_questions_have_a_limit(client: FlaskClient, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PASSKEYS", 2)
    make_passkey(alice)
    try_password(client, alice)
    assert [client.post("/login/passkey").status_code for _ in range(3)] == [200, 200, 429]


def test_before_a_passkey_changes_a_fresh_log_in_is_asked_for_and_a_passkey_gives_it(
    client: FlaskClient, alice: User
) -> None:
    log_in(client, alice)
    device = add(client)
    (passkey,) = db.session.scalars(select(Passkey))
    remove = f"{PASSKEYS}/{passkey.public_id}/remove"
    grow_old(client)
    held = re.search(r'name="held" value="([^"]+)"', client.post(remove).text)
    assert held
    form = {"next": remove, "held": held[1]}
    refused = client.post("/login/confirm", data={**form, "credential": "{}"})
    assert refused.status_code == 422
    assert "Nothing was changed" in refused.text
    assert held[1] in refused.text
    options = client.post("/login/passkey").text
    answer = client.post("/login/confirm", data={**form, "credential": device.use(options)})
    assert (answer.status_code, answer.location) == (307, remove)
    client.post(remove, data=form)
    assert db.session.scalars(select(Passkey)).all() == []


def test_another_persons_passkey_is_not_found(client: FlaskClient, alice: User) -> None:
    theirs = f"{PASSKEYS}/{make_passkey(make_advisor(name='Bob Tanner')).public_id}"
    log_in(client, alice)
    assert client.get(theirs).status_code == 404
    assert client.post(theirs, data={"name": "Mine"}).status_code == 404
    assert client.post(f"{theirs}/remove").status_code == 404


def test_an_admins_reset_removes_passkeys_too(client: FlaskClient, alice: User) -> None:
    make_passkey(alice)
    ada = make_admin()
    log_in(client, ada)
    assert alice.partner
    answer = client.post(f"/admin/partners/{alice.partner.slug}/advisors/{alice.id}/reset-second-step")
    assert answer.status_code == 303
    assert db.session.scalars(select(Passkey)).all() == []
