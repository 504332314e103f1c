"""The second step of a log-in: set up, asked for, used up, renewed, reset; and admins who have none yet."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import timedelta

import pyotp
import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from asapp import create_app
from asapp.accounts import attempts, key_rotation, links, mailbox_proof, second_factor
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Action, AuditEntry, PasswordLink, PasswordLinkKind, RecoveryCode, SecondFactor, User
from asapp.web.login_session import CONFIRMED_AT, FRESH_FOR, HALF, SECOND_STEP_WITHIN
from tests.conftest import PUBLIC_URL, make_config
from tests.factories import (
    APP_SECRET,
    PASSWORD,
    app_code,
    log_in,
    make_admin,
    make_advisor,
    make_second_factor,
)
from tests.mailing import send_waiting_mails
from tests.pages import CheckingClient
from tests.racing import race

SET_UP = "/settings/second-factor"


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor()


@pytest.fixture
def ada(app: Flask) -> User:
    return make_admin()


def try_password(client: FlaskClient, user: User, **more: str) -> TestResponse:
    return client.post("/login", data={"email": user.email, "password": PASSWORD, **more})


def try_code(client: FlaskClient, code: str, field: str = "code", **how: object) -> TestResponse:
    return client.post("/login/code", data={field: code}, **how)  # type: ignore[arg-type]


def is_in(client: FlaskClient) -> bool:
    return client.get("/settings").status_code == 200


def set_up(client: FlaskClient) -> tuple[str, list[str]]:
    """Set an app up as the page says; return its secret and the recovery codes."""
    page = client.get(SET_UP).text
    secret = re.search(r'<span class="secret-text">([A-Z2-7 ]+)</span>', page)
    sealed = re.search(r'name="app" value="([^"]+)"', page)
    assert secret
    assert sealed
    plain = secret[1].replace(" ", "")
    answer = client.post(SET_UP, data={"app": sealed[1], "code": app_code(secret=plain)})
    assert answer.status_code == 200, answer.text
    return plain, codes_on(answer.text)


def codes_on(page: str) -> list[str]:
    return re.findall(r"<li>([a-z2-9]{4}-[a-z2-9]{4})</li>", page)


def actions() -> list[tuple[str, dict[str, object]]]:
    db.session.rollback()
    return [(entry.action, entry.details) for entry in db.session.scalars(select(AuditEntry).order_by(AuditEntry.id))]


def forget_last_code(user: User) -> None:
    """As if the last code had been used a while ago."""
    db.session.execute(update(SecondFactor).where(SecondFactor.user_id == user.id).values(last_step=0))
    db.session.commit()


# ---- Set up


def test_an_app_is_set_up_tried_and_asked_for_at_the_next_log_in(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    secret, codes = set_up(client)
    assert len(set(codes)) == 10
    assert alice.has_second_factor
    assert "Your second step is on." in client.get("/settings/security").text
    client.post("/logout")
    answer = try_password(client, alice, next="/leads")
    assert answer.location == "/login/code"
    assert not is_in(client)
    assert "Your password is right." in client.get("/login/code").text
    forget_last_code(alice)
    answer = try_code(client, app_code(secret=secret))
    assert (answer.status_code, answer.location) == (303, "/leads")
    assert is_in(client)
    assert [action for action, _ in actions()] == [Action.SECOND_FACTOR_SET_UP, Action.LOGGED_IN]
    assert actions()[-1][1] == {"second_step": "app"}


def test_the_page_shows_the_key_as_a_picture_too(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    page = client.get(SET_UP).text
    assert '<div class="qr" role="img"' in page
    assert "<path" in page.partition('class="qr"')[2]


def test_looking_at_the_page_stores_nothing(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    client.get(SET_UP)
    assert not alice.has_second_factor


@pytest.mark.parametrize("code", ["", "000000", "abcdef", "12345", "１２３４５６", "0" * 5000])
def test_a_code_that_the_app_doesnt_show_sets_nothing_up_and_the_key_stays(
    code: str, client: FlaskClient, alice: User
) -> None:
    log_in(client, alice)
    page = client.get(SET_UP).text
    sealed = re.search(r'name="app" value="([^"]+)"', page)
    assert sealed
    answer = client.post(SET_UP, data={"app": sealed[1], "code": code})
    assert answer.status_code == 422
    assert "These are not the six digits" in answer.text
    assert sealed[1] in answer.text
    assert not alice.has_second_factor


def test_the_key_of_another_person_or_of_long_ago_is_not_taken(
    app: Flask, client: FlaskClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = app.extensions["asapp.vault"]
    monkeypatch.setattr(second_factor, "SET_UP_WITHIN", -second_factor.SET_UP_WITHIN)
    old = second_factor.begin(alice, vault)
    monkeypatch.undo()
    theirs = second_factor.begin(make_advisor(), vault)
    log_in(client, alice)
    for each in (old, theirs):
        answer = client.post(SET_UP, data={"app": each.sealed, "code": app_code(secret=each.secret)})
        assert answer.status_code == 422
        assert "open for too long" in answer.text
        assert each.sealed not in answer.text
    assert not alice.has_second_factor


def test_the_digits_that_set_an_app_up_dont_log_in(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    secret, _ = set_up(client)
    client.post("/logout")
    try_password(client, alice)
    assert try_code(client, app_code(secret=secret)).status_code == 422


def test_a_new_app_takes_the_place_of_the_one_before_with_its_codes(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    first, first_codes = set_up(client)
    second, second_codes = set_up(client)
    assert first != second
    client.post("/logout")
    try_password(client, alice)
    forget_last_code(alice)
    assert try_code(client, app_code(secret=first)).status_code == 422
    assert try_code(client, first_codes[0], "recovery").status_code == 422
    assert try_code(client, second_codes[0], "recovery").status_code == 303


def test_the_secret_is_sealed_and_goes_with_a_rotation_of_the_keys(
    app: Flask, client: FlaskClient, alice: User
) -> None:
    log_in(client, alice)
    secret, codes = set_up(client)
    vault = app.extensions["asapp.vault"]
    factor = db.session.scalars(select(SecondFactor)).one()
    assert secret not in factor.secret_sealed
    assert factor.unseal(vault, "secret_sealed") == secret
    stored = " ".join(db.session.scalars(select(RecoveryCode.code_hash)))
    assert not any(code.replace("-", "") in stored for code in codes)
    columns = {f"{table.name}.{column}" for table, column in key_rotation.sealed_columns()}
    assert {"second_factors.secret_sealed", "second_factors.recovery_key_sealed"} <= columns


# ---- Log in with it


def test_no_page_opens_between_the_two_steps(client: FlaskClient, ada: User) -> None:
    try_password(client, ada)
    for path in ("/settings", "/admin/partners", SET_UP, "/settings/security"):
        assert client.get(path).location.startswith("/login?next=")
    assert client.post("/settings", data={"name": "Eve"}).location == "/login"


def test_a_code_counts_once(app: Flask, client: FlaskClient, ada: User) -> None:
    code = app_code()
    try_password(client, ada)
    assert try_code(client, code).status_code == 303
    thief = app.test_client()
    try_password(thief, ada)
    answer = try_code(thief, code)
    assert answer.status_code == 422
    assert "it was used before" in answer.text
    assert not is_in(thief)


def test_with_keys_of_another_database_the_second_step_says_so_in_words(
    client: FlaskClient, ada: User, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_other_keys = create_app(make_config(database_url, encryption_keys=(bytes(range(7, 39)),)))
    with_other_keys.test_client_class = CheckingClient
    other = with_other_keys.test_client()
    try_password(other, ada)
    answer = try_code(other, app_code(), broken=True)
    assert answer.status_code == 503
    assert "We can&#39;t read what we stored encrypted" in answer.text
    assert "a secret can't be opened: ENCRYPTION_KEYS lack its key" in caplog.text
    try_password(client, ada)
    assert try_code(client, app_code()).status_code == 303  # with the right keys nothing is lost


def test_an_older_code_does_not_count_once_a_newer_one_did(client: FlaskClient, ada: User) -> None:
    older, newer = app_code(minutes_ago=0.5), app_code()
    try_password(client, ada)
    assert try_code(client, newer).status_code == 303
    client.post("/logout")
    try_password(client, ada)
    assert try_code(client, older).status_code == 422


@pytest.mark.parametrize(("minutes_ago", "status"), [(0.5, 303), (-0.5, 303), (2, 422), (-2, 422)])
def test_clocks_may_differ_by_half_a_minute(minutes_ago: float, status: int, client: FlaskClient, ada: User) -> None:
    try_password(client, ada)
    assert try_code(client, app_code(minutes_ago)).status_code == status


def test_a_code_may_be_typed_with_a_blank(client: FlaskClient, ada: User) -> None:
    try_password(client, ada)
    code = app_code()
    assert try_code(client, f" {code[:3]} {code[3:]} ").status_code == 303


def test_a_code_that_is_sent_twice_at_once_counts_once(app: Flask, ada: User) -> None:
    vault, user_id, code = app.extensions["asapp.vault"], ada.id, app_code()

    def use() -> bool:
        is_good = second_factor.accept(user_id, code, vault) is not None
        db.session.commit()
        return is_good

    assert sorted(race(app, use, use)) == [False, True]


def test_a_recovery_code_works_once_however_it_is_typed(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    _, codes = set_up(client)
    client.post("/logout")
    try_password(client, alice)
    assert try_code(client, f" {codes[3].upper().replace('-', ' ')} ", "recovery").status_code == 303
    assert "9 recovery codes left" in client.get("/settings/security").text
    assert actions()[-1] == (Action.LOGGED_IN, {"second_step": "recovery code"})
    assert send_waiting_mails() == 2, "about the set-up, and about the code"
    letter = client.application.extensions["mailman"].outbox[-1]
    assert (letter.to, letter.subject) == ([alice.email], "A recovery code was used at AdvisorStream")
    assert "you have 9 left" in letter.body
    assert codes[3] not in letter.body
    client.post("/logout")
    try_password(client, alice)
    answer = try_code(client, codes[3], "recovery")
    assert answer.status_code == 422
    assert "not one of your recovery codes" in answer.text
    assert actions()[-1] == (Action.LOGIN_REFUSED, {"second_step": "wrong code"})


def test_a_recovery_code_of_another_person_opens_nothing(client: FlaskClient, alice: User, ada: User) -> None:
    log_in(client, alice)
    _, codes = set_up(client)
    client.post("/logout")
    try_password(client, ada)
    assert try_code(client, codes[0], "recovery").status_code == 422


def test_ten_wrong_codes_and_one_waits_however_right_the_password_is(client: FlaskClient, ada: User) -> None:
    try_password(client, ada)
    assert [try_code(client, "000000").status_code for _ in range(11)] == [422] * 10 + [429]
    try_password(client, ada)
    assert try_code(client, app_code()).status_code == 429


def test_from_many_networks_a_thief_with_the_password_has_thirty_tries(
    app: Flask, client: FlaskClient, ada: User
) -> None:
    try_password(client, ada)
    try_code(client, app_code())  # this device is known from here on
    thief = app.test_client()
    try_password(thief, ada)
    answers = [
        try_code(thief, "000000", environ_overrides={"REMOTE_ADDR": f"198.51.100.{n}"}).status_code for n in range(31)
    ]
    assert answers == [422] * attempts.SECOND_STEPS + [429]
    client.post("/logout")
    try_password(client, ada)
    forget_last_code(ada)
    assert try_code(client, app_code()).status_code == 303


def test_the_second_step_is_to_follow_soon(client: FlaskClient, ada: User) -> None:
    try_password(client, ada)
    with client.session_transaction() as session:
        half = session[HALF]
        session[HALF] = half | {"at": half["at"] - int(SECOND_STEP_WITHIN.total_seconds()) - 1}
    assert client.get("/login/code").location == "/login"
    assert try_code(client, app_code()).location == "/login"
    assert not is_in(client)


def test_a_half_log_in_ends_when_the_person_is_deactivated(client: FlaskClient, ada: User) -> None:
    try_password(client, ada)
    ada.deactivated_at = utcnow()
    db.session.commit()
    assert try_code(client, app_code()).location == "/login"


def test_the_page_of_the_second_step_is_for_a_half_log_in_alone(client: FlaskClient) -> None:
    assert client.get("/login/code").location == "/login"
    assert try_code(client, "123456").location == "/login"


def test_a_link_for_a_forgotten_password_does_not_pass_the_second_step_by(client: FlaskClient, alice: User) -> None:
    make_second_factor(alice)
    token = links.make_link(alice, PasswordLinkKind.RESET)
    answer = client.post(f"/password/{token}", data={"new": "four unrelated words here"})
    assert answer.location == "/login/code"
    assert not is_in(client)
    assert try_code(client, app_code()).status_code == 303
    assert is_in(client)


# ---- Renew, turn off


def test_new_recovery_codes_end_the_old_ones(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    _, old = set_up(client)
    new = codes_on(client.post(f"{SET_UP}/codes").text)
    assert len(set(new) - set(old)) == 10
    client.post("/logout")
    try_password(client, alice)
    assert try_code(client, old[0], "recovery").status_code == 422
    assert try_code(client, new[0], "recovery").status_code == 303
    assert Action.RECOVERY_CODES_RENEWED in [action for action, _ in actions()]
    assert told_of_changes(client) == ["was set up", "recovery codes were made"]


def told_of_changes(client: FlaskClient) -> list[str]:
    """Return what the mails about changes say, in their order."""
    send_waiting_mails()
    letters = client.application.extensions["mailman"].outbox
    changes = ("was set up", "recovery codes were made", "was turned off")
    told = [letter for letter in letters if letter.subject == "Your second step at AdvisorStream was changed"]
    return [change for letter in told for change in changes if change in letter.body]


def test_there_are_no_codes_without_an_app(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    assert client.post(f"{SET_UP}/codes").status_code == 404


def test_an_advisor_turns_it_off_and_on(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    assert "Turn it on" in client.get("/settings/security").text
    set_up(client)
    assert "Turn it off" in client.get("/settings/security").text
    client.post(f"{SET_UP}/off")
    assert not alice.has_second_factor
    assert db.session.scalars(select(RecoveryCode)).all() == []
    assert actions()[-1][0] == Action.SECOND_FACTOR_REMOVED
    assert told_of_changes(client) == ["was set up", "was turned off"]
    client.post("/logout")
    assert try_password(client, alice).location == "/contacts"


def test_an_admin_cant_turn_it_off(client: FlaskClient, ada: User) -> None:
    log_in(client, ada)
    assert "Turn it off" not in client.get("/settings/security").text
    assert client.post(f"{SET_UP}/off").status_code == 403
    assert ada.has_second_factor


@pytest.mark.parametrize("path", [SET_UP, f"{SET_UP}/codes", f"{SET_UP}/off"])
def test_whoever_logged_in_a_while_ago_is_asked_who_they_are(path: str, client: FlaskClient, alice: User) -> None:
    make_second_factor(alice)
    log_in(client, alice)
    grow_old(client)
    assert client.get(SET_UP).location == f"/login/confirm?next={SET_UP}"
    answer = client.post(path)
    assert answer.status_code == 403
    assert "Confirm it&#39;s you" in answer.text or "Confirm it's you" in answer.text
    assert [action for action, _ in actions()] == []
    assert client.post("/login/confirm", data={"next": SET_UP, "password": "wrong"}).status_code == 422
    assert client.get(SET_UP).status_code == 302
    answer = client.post("/login/confirm", data={"next": SET_UP, "code": app_code()})
    assert (answer.status_code, answer.location) == (303, SET_UP)
    assert client.get(SET_UP).status_code == 200


def grow_old(client: FlaskClient) -> None:
    """As if the log-in were long ago."""
    with client.session_transaction() as session:
        session[CONFIRMED_AT] -= int(FRESH_FOR.total_seconds()) + 1


# ---- Admins who have none yet


def test_an_admin_without_one_is_led_through_its_set_up(client: FlaskClient, app: Flask) -> None:
    ada = make_admin(has_second_factor=False)
    assert try_password(client, ada).location == "/admin/partners"
    assert client.get("/admin/partners").location == SET_UP
    assert "It takes two minutes, once." in client.get(SET_UP).text
    prove_mailbox(client)
    secret, _ = set_up(client)
    assert client.get("/admin/partners").status_code == 200
    client.post("/logout")
    forget_last_code(ada)
    assert try_password(client, ada).location == "/login/code"
    assert try_code(client, app_code(secret=secret)).location == "/admin/partners"


def prove_mailbox(client: FlaskClient) -> str:
    """Ask for the link, open the one that is mailed, and go on from there; return its path."""
    asked = client.post(f"{SET_UP}/link")
    assert "A link is on its way" in asked.text
    path = mailed_link(client)
    assert "Go on" in client.get(path).text
    assert client.post(path).location == SET_UP
    return path


def mailed_link(client: FlaskClient) -> str:
    """Return the path of the last link that was mailed."""
    send_waiting_mails()
    letter = client.application.extensions["mailman"].outbox[-1]
    found = re.search(rf"{PUBLIC_URL}({SET_UP}/link/\S+)", letter.body)
    assert found, letter.body
    return found[1]


def test_a_stolen_password_alone_sets_no_second_step_up(app: Flask, client: FlaskClient) -> None:
    ada, vault = make_admin(has_second_factor=False), app.extensions["asapp.vault"]
    try_password(client, ada)
    page = client.get(SET_UP).text
    assert 'class="qr"' not in page
    assert "Send me the link" in page
    new = second_factor.begin(ada, vault)  # even if a thief had a key that fits
    answer = client.post(SET_UP, data={"app": new.sealed, "code": app_code(secret=new.secret)})
    assert (answer.status_code, answer.location) == (303, SET_UP)
    db.session.expire_all()
    assert not ada.has_second_factor
    assert client.get("/admin/partners").location == SET_UP


def test_the_link_works_once_for_that_person_and_that_log_in(app: Flask, client: FlaskClient) -> None:
    ada, eve = make_admin(has_second_factor=False), make_admin("Eve Sand", has_second_factor=False)
    try_password(client, ada)
    client.post(f"{SET_UP}/link")
    path = mailed_link(client)
    assert app.extensions["mailman"].outbox[-1].to == [ada.email]
    hers = app.test_client()
    assert hers.get(path).location == f"/login?next={path}"
    try_password(hers, eve)
    assert hers.get(path).status_code == hers.post(path).status_code == 410
    assert "made for another person than Eve Sand" in hers.post(path).text
    assert client.get(path).status_code == 200
    assert client.get(SET_UP).text.count("Send me the link"), "looking at the link is not enough"
    assert client.post(path).location == SET_UP
    assert 'class="qr"' in client.get(SET_UP).text
    thief = app.test_client()
    try_password(thief, ada)
    assert thief.get(path).status_code == thief.post(path).status_code == 410
    assert 'class="qr"' not in thief.get(SET_UP).text
    assert [action for action, _ in actions() if action != Action.LOGGED_IN] == [
        Action.SECOND_FACTOR_LINK_MADE,
        Action.SECOND_FACTOR_LINK_USED,
    ]
    client.post("/logout")
    try_password(client, ada)
    assert "Send me the link" in client.get(SET_UP).text, "the proof goes with the log-in"


def test_the_link_ends_after_a_quarter_of_an_hour(client: FlaskClient) -> None:
    ada = make_admin(has_second_factor=False)
    try_password(client, ada)
    client.post(f"{SET_UP}/link")
    path = mailed_link(client)
    link = db.session.scalars(select(PasswordLink)).one()
    assert link.expires_at - link.created_at <= timedelta(minutes=15)
    db.session.execute(update(PasswordLink).values(expires_at=utcnow()))
    db.session.commit()
    assert client.post(path).status_code == 410
    assert "Send me the link" in client.get(SET_UP).text


def test_the_link_sets_no_password_and_a_link_for_a_password_opens_no_set_up(client: FlaskClient) -> None:
    ada = make_admin(has_second_factor=False)
    reset = links.make_link(ada, PasswordLinkKind.RESET)
    token = mailbox_proof.make_link(ada)
    assert client.get(f"/password/{token}").status_code == 410
    assert client.post(f"/password/{token}", data={"new": "four unrelated words here"}).status_code == 410
    try_password(client, ada)
    assert client.post(f"{SET_UP}/link/{reset}").status_code == 410
    assert client.post(f"{SET_UP}/link/{token}").status_code == 303


def test_links_are_mailed_ten_times_an_hour_and_twenty_wrong_ones_are_enough(client: FlaskClient) -> None:
    try_password(client, make_admin(has_second_factor=False))
    asked = [client.post(f"{SET_UP}/link").status_code for _ in range(attempts.SET_UP_LINKS + 1)]
    assert asked == [200] * attempts.SET_UP_LINKS + [429]
    assert [client.post(f"{SET_UP}/link/wrong").status_code for _ in range(21)] == [410] * 20 + [429]


def test_after_a_reset_the_mailbox_is_asked_for_again(app: Flask, client: FlaskClient) -> None:
    ada = make_admin(has_second_factor=False)
    try_password(client, ada)
    prove_mailbox(client)
    set_up(client)
    second_factor.reset(ada)
    assert client.get("/admin/partners").location.startswith("/login?next=")
    try_password(client, ada)
    assert "Send me the link" in client.get(SET_UP).text
    prove_mailbox(client)
    set_up(client)
    assert client.get("/admin/partners").status_code == 200


def test_without_mail_an_operator_prints_the_link(app: Flask, client: FlaskClient, alice: User, ada: User) -> None:
    made = run(app, "users", "create", "eve@example.com", "--name", "Eve", "--role", "admin", ASAPP_PASSWORD=PASSWORD)
    first = made.stdout.strip()
    again = run(app, "users", "set-up-link", "EVE@example.com").stdout.strip()
    for url in (first, again):
        assert re.fullmatch(rf"{PUBLIC_URL}{SET_UP}/link/\S{{40,}}", url)
    path = first.removeprefix(PUBLIC_URL)
    assert client.get(path).location == f"/login?next={path}"
    answer = client.post("/login", data={"email": "eve@example.com", "password": PASSWORD, "next": path})
    assert answer.location == path
    client.post(path)
    set_up(client)
    assert client.get("/admin/partners").status_code == 200
    assert "users reset-second-step" in run(app, "users", "set-up-link", ada.email).stderr
    assert "Only admins" in run(app, "users", "set-up-link", alice.email).stderr


def test_an_admin_without_one_reaches_nothing_but_its_set_up(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_admin(has_second_factor=False))
    for path in ("/settings", "/settings/security", "/admin/audit", "/admin/api-keys", "/healthz-no", "/admin/admins"):
        answer = client.get(path)
        assert answer.location == SET_UP or answer.status_code == 404, path
    assert client.post("/settings", data={"name": "Eve"}).location == SET_UP
    part = client.get("/admin/partners", part=True)
    assert (part.status_code, part.headers["HX-Redirect"]) == (401, SET_UP)
    assert client.post("/logout").location == "/login"


def test_the_demo_lets_admins_in_with_a_password_alone(database_url: str) -> None:
    from asapp import create_app
    from tests.pages import CheckingClient

    made = create_app(make_config(database_url, require_second_factor=False))
    made.test_client_class = CheckingClient
    with made.app_context():
        ada, eve = make_admin(has_second_factor=False), make_admin()
        client = made.test_client()
        assert try_password(client, ada).location == "/admin/partners"
        assert client.get("/admin/partners").status_code == 200
        client.post("/logout")
        assert try_password(client, eve).location == "/login/code"
        db.session.remove()
        db.engine.dispose()


# ---- Reset by another


def test_an_admin_resets_the_step_of_an_advisor_who_is_told(
    app: Flask, client: FlaskClient, alice: User, ada: User
) -> None:
    make_second_factor(alice)
    hers = app.test_client()
    log_in(hers, alice)
    log_in(client, ada)
    assert alice.partner
    index = f"/admin/partners/{alice.partner.slug}/advisors"
    path = f"{index}/{alice.id}/reset-second-step"
    assert path in client.get(index).text
    client.post(path)
    check_reset(app, alice, hers)
    assert path not in client.get(index).text


def test_an_admin_resets_the_step_of_another_admin_and_not_the_own(app: Flask, client: FlaskClient, ada: User) -> None:
    eve = make_admin("Eve Sand")
    hers = app.test_client()
    log_in(hers, eve)
    log_in(client, ada)
    page = client.get("/admin/admins").text
    assert f"/admin/admins/{eve.id}/reset-second-step" in page
    assert f"/admin/admins/{ada.id}/reset-second-step" not in page
    assert client.post(f"/admin/admins/{ada.id}/reset-second-step").status_code == 404
    client.post(f"/admin/admins/{eve.id}/reset-second-step")
    check_reset(app, eve, hers)
    assert ada.has_second_factor


def check_reset(app: Flask, user: User, theirs: FlaskClient) -> None:
    assert not user.has_second_factor
    assert theirs.get("/settings").location.startswith("/login")
    entry = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry
    assert (entry.action, entry.subject_id) == (Action.SECOND_FACTOR_RESET, user.id)
    send_waiting_mails()
    (letter,) = app.extensions["mailman"].outbox
    assert letter.to == [user.email]
    assert "has reset the second step" in letter.body


@pytest.mark.parametrize("find_path", [lambda user: f"/admin/admins/{user.id}/reset-second-step"])
def test_a_reset_asks_first_who_it_is(find_path: Callable[[User], str], client: FlaskClient, ada: User) -> None:
    eve = make_admin("Eve Sand")
    log_in(client, ada)
    grow_old(client)
    assert client.post(find_path(eve)).status_code == 403
    assert eve.has_second_factor


def run(app: Flask, *arguments: str, **environ: str) -> Result:
    db.session.rollback()
    with app.app_context():
        result = app.test_cli_runner().invoke(args=list(arguments), env=environ)
    db.session.expire_all()
    return result


def test_the_step_is_reset_by_command(app: Flask, ada: User) -> None:
    assert run(app, "users", "reset-second-step", ada.email.upper()).exit_code == 0
    assert not ada.has_second_factor
    send_waiting_mails()
    (letter,) = app.extensions["mailman"].outbox
    assert letter.to == [ada.email]
    again = run(app, "users", "reset-second-step", ada.email)
    assert "has no second step" in again.stderr
    assert "No one has this address" in run(app, "users", "reset-second-step", "x@example.com").stderr


# ---- Nothing is told


def test_neither_secret_nor_codes_are_logged(
    client: FlaskClient, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log_in(client, alice)
    secret, codes = set_up(client)
    client.post("/logout")
    try_password(client, alice)
    try_code(client, codes[0], "recovery")
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert not any(each in logged for each in (secret, *codes, *(code.replace("-", "") for code in codes)))


def test_the_picture_says_who_and_whose(app: Flask, alice: User) -> None:
    new = second_factor.begin(alice, app.extensions["asapp.vault"])
    said = pyotp.parse_uri(new.uri)
    assert (said.issuer, said.name, said.secret) == ("AdvisorStream", alice.email, new.secret)
    assert new.secret != APP_SECRET
