"""Log in and out, what a session is worth, and who is asked to log in."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.accounts import passwords
from asapp.clock import utcnow
from asapp.extensions import db, limiter
from asapp.models import User
from asapp.web.access import PUBLIC_ENDPOINTS, safe_path
from tests.factories import PASSWORD, log_in, make_admin, make_advisor, make_partner, save

ELSEWHERE = [
    "//evil.example",
    "https://evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/%09/evil.example\n",
    "javascript:alert(1)",
    "evil.example/settings",
    " /settings",
    "///evil.example",
    "/\r\nSet-Cookie: x=1",
]


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor()


def try_login(client: FlaskClient, email: str, password: str = PASSWORD, **fields: str) -> str:
    response = client.post("/login", data={"email": email, "password": password, **fields})
    return response.location if response.status_code == 303 else str(response.status_code)


def is_in(client: FlaskClient) -> bool:
    return client.get("/settings").status_code == 200


def test_logging_in_through_the_page_needs_its_form_and_nothing_else(client: FlaskClient, alice: User) -> None:
    page = client.get("/login").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token
    response = client.post(
        "/login", forged=True, data={"email": alice.email, "password": PASSWORD, "csrf_token": token[1]}
    )
    assert response.status_code == 303
    assert is_in(client)


def test_the_address_may_be_typed_in_capitals_and_with_blanks(client: FlaskClient, alice: User) -> None:
    assert try_login(client, f"  {alice.email.upper()} ") != "422"


def test_advisors_go_to_their_contacts_and_admins_to_partners(client: FlaskClient, alice: User) -> None:
    assert try_login(client, alice.email) == "/contacts"
    client.post("/logout")
    assert try_login(client, make_admin().email) == "/admin/partners"


@pytest.mark.parametrize("path", ["/", "/settings", "/settings?next=1", "/admin/partners"])
def test_the_bare_address_and_pages_ask_for_the_login(path: str, client: FlaskClient) -> None:
    response = client.get(path)
    assert response.status_code == 302
    assert response.location.startswith("/login")


def test_after_the_login_one_goes_on_to_the_page_that_was_wanted(client: FlaskClient, alice: User) -> None:
    page = client.get(client.get("/settings/security?from=mail").location).text
    assert "Log in to see that page." in page
    assert 'name="next" value="/settings/security?from=mail"' in page
    assert try_login(client, alice.email, next="/settings/security?from=mail") == "/settings/security?from=mail"


@pytest.mark.parametrize("target", ELSEWHERE)
def test_next_never_leads_elsewhere(target: str, client: FlaskClient, alice: User) -> None:
    assert target not in client.get("/login", query_string={"next": target}).text
    assert try_login(client, alice.email, next=target) == "/contacts"
    assert client.get("/login", query_string={"next": target}).location == "/contacts"


@pytest.mark.parametrize("path", ["/settings", "/contacts?q=a%2F%2Fb&page=2", "/o/caf%C3%A9"])
def test_next_is_any_path_of_ours(path: str) -> None:
    assert safe_path(path) == path


def test_a_wrong_password_and_an_unknown_address_answer_alike(client: FlaskClient, alice: User) -> None:
    answers = {}
    for email in (alice.email, "nobody@example.com"):
        response = client.post("/login", data={"email": email, "password": "wrong"})
        assert response.status_code == 422
        text = re.sub(r'name="csrf_token" value="[^"]+"', "", response.text)
        answers[text.replace(email, "EMAIL")] = True
    assert len(answers) == 1
    assert "That email and password don't belong together." in next(iter(answers))


def test_what_was_typed_stays_the_password_aside(client: FlaskClient) -> None:
    page = client.post("/login", data={"email": "Nobody@example.com", "password": "hush hush hush"}).text
    assert "Nobody@example.com" in page
    assert "hush" not in page


def test_an_unknown_address_takes_as_long(app: Flask) -> None:
    known = passwords.hash_password(PASSWORD)
    passwords.is_right("warm up", None)

    def seconds(password_hash: str | None) -> float:
        started = time.perf_counter()
        assert not passwords.is_right("wrong", password_hash)
        return time.perf_counter() - started

    slow = min(seconds(known) for _ in range(3))
    nobody = min(seconds(None) for _ in range(3))
    assert 0.5 < nobody / slow < 2


def test_a_hash_made_with_older_parameters_is_renewed(client: FlaskClient, alice: User) -> None:
    old_hash = alice.password_hash
    try_login(client, alice.email)
    assert alice.password_hash != old_hash
    new_hash = alice.password_hash
    client.post("/logout")
    assert try_login(client, alice.email) == "/contacts"
    assert alice.password_hash == new_hash


def test_nothing_of_the_session_before_survives_the_login(client: FlaskClient, alice: User) -> None:
    with client.session_transaction() as session:
        session["planted"] = "by somebody else"
        session["csrf_token"] = "known to somebody else"
    try_login(client, alice.email)
    with client.session_transaction() as session:
        assert "planted" not in session
        assert session.get("csrf_token") != "known to somebody else"


def test_logging_out_ends_the_session_for_whoever_kept_its_cookie(app: Flask, client: FlaskClient, alice: User) -> None:
    try_login(client, alice.email)
    cookie = client.get_cookie("session")
    assert cookie
    thief = app.test_client()
    thief.set_cookie("session", cookie.value)
    assert is_in(thief)
    assert client.post("/logout").location == "/login"
    assert not is_in(client)
    thief.set_cookie("session", cookie.value)
    assert not is_in(thief)


def test_logging_out_by_a_link_does_nothing(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    assert client.get("/logout").status_code == 405
    assert is_in(client)


def test_a_deactivated_person_is_out_at_once_and_stays_out(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    assert is_in(client)
    alice.deactivated_at = utcnow()
    save(alice)
    assert not is_in(client)
    assert try_login(client, alice.email) == "422"


@pytest.mark.parametrize("session_id", ["", "1", "x.y", "1.", "99999999999999999999.a", "-1.a", "1.ä", "²."])
def test_a_made_up_session_is_nobody(session_id: str, client: FlaskClient, alice: User) -> None:
    with client.session_transaction() as session:
        session["_user_id"] = session_id
    assert not is_in(client)


def test_an_expired_session_sends_htmx_to_the_login_page(client: FlaskClient) -> None:
    response = client.get("/settings", part=True, headers={"HX-Current-URL": "http://127.0.0.1:5000/settings?x=1"})
    assert response.status_code == 401
    assert response.headers["HX-Redirect"] == "/login?next=/settings?x%3D1"
    assert response.text == ""


def test_the_page_that_htmx_names_is_only_a_hint(client: FlaskClient) -> None:
    response = client.get("/settings", part=True, headers={"HX-Current-URL": "http://x//evil.example/"})
    assert response.headers["HX-Redirect"] == "/login"


def test_a_form_sent_after_the_session_ended_leads_to_the_login(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    client.get("/settings")
    client.delete_cookie("session")
    response = client.post("/settings", forged=True, data={"csrf_token": "old", "name": "Eve"})
    assert response.location == "/login"
    assert alice.name != "Eve"


def test_every_route_that_is_not_on_the_public_list_demands_a_login(app: Flask, client: FlaskClient) -> None:
    asked = 0
    for rule in app.url_map.iter_rules():
        if rule.endpoint in PUBLIC_ENDPOINTS:
            continue
        path = rule.build(dict.fromkeys(rule.arguments, "1"), append_unknown=False)
        assert path, rule
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            response = client.open(path[1], method=method)
            assert response.status_code == 302, (method, rule)
            assert response.location.startswith("/login"), rule
            asked += 1
    assert asked > 5


def test_every_form_demands_a_token(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    for rule in app.url_map.iter_rules():
        # the sign-up form has a signed token of its own, since whoever signs up may take no cookies
        if "POST" in (rule.methods or set()) and rule.endpoint != "optin.sign_up":
            path = rule.build(dict.fromkeys(rule.arguments, "1"), append_unknown=False)
            assert path
            assert client.post(path[1], forged=True).status_code == 400, rule


class TestLimits:
    @pytest.fixture(autouse=True)
    def fresh(self, app: Flask) -> Iterator[None]:
        limiter.reset()
        yield
        limiter.reset()

    def fail(self, client: FlaskClient, email: str, times: int, **environ: str) -> list[int]:
        return [
            client.post("/login", data={"email": email, "password": "wrong"}, environ_overrides=environ).status_code
            for _ in range(times)
        ]

    def test_an_account_rests_after_ten_tries_from_anywhere(self, client: FlaskClient, alice: User) -> None:
        for number in range(10):
            assert self.fail(client, alice.email, 1, REMOTE_ADDR=f"203.0.113.{number}") == [422]
        response = client.post("/login", data={"email": alice.email.upper(), "password": PASSWORD})
        assert response.status_code == 429
        assert "You can try again in" in response.text
        assert int(response.headers["Retry-After"]) > 0
        assert try_login(client, make_advisor().email) == "/contacts"

    def test_an_address_rests_after_twenty_tries(self, client: FlaskClient, alice: User) -> None:
        codes = [self.fail(client, f"nobody{n}@example.com", 1)[0] for n in range(21)]
        assert codes == [422] * 20 + [429]
        assert self.fail(client, alice.email, 1, REMOTE_ADDR="203.0.113.9") == [422]

    def test_an_address_that_a_client_makes_up_counts_for_nothing(self, client: FlaskClient) -> None:
        for n in range(20):
            self.fail(client, f"nobody{n}@example.com", 1, HTTP_X_FORWARDED_FOR=f"203.0.113.{n}")
        assert self.fail(client, "x@example.com", 1, HTTP_X_FORWARDED_FOR="203.0.113.99") == [429]

    def test_good_log_ins_do_not_count(self, client: FlaskClient, alice: User) -> None:
        for _ in range(12):
            assert try_login(client, alice.email) == "/contacts"

    def test_limits_hold_while_redis_is_away(self, client: FlaskClient, redis_server: object) -> None:
        redis_server.kill()  # type: ignore[attr-defined]
        try:
            assert self.fail(client, "nobody@example.com", 11)[-1] == 429
        finally:
            redis_server.start()  # type: ignore[attr-defined]


def test_the_database_holds_no_password(client: FlaskClient, alice: User) -> None:
    try_login(client, alice.email)
    assert alice.password_hash.startswith("$argon2id$")
    assert db.session.get_one(User, alice.id).password_hash != PASSWORD
    assert make_partner()
