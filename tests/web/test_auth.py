"""Logging in and out, sessions, and which pages require a log-in."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from asapp.accounts import attempts, passwords
from asapp.accounts.attempts import Origin, TooMany
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import AttemptCount, User
from asapp.web.access import PUBLIC_ENDPOINTS, safe_path
from asapp.web.devices import origin_of
from asapp.web.networks import client_network
from tests.factories import PASSWORD, app_code, log_in, make_admin, make_advisor, make_partner, save

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
    client.post("/login", data={"email": make_admin().email, "password": PASSWORD})
    assert client.post("/login/code", data={"code": app_code()}).location == "/admin/partners"


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
    assert "The email or password is wrong." in next(iter(answers))


def test_what_was_typed_stays_the_password_aside(client: FlaskClient) -> None:
    page = client.post("/login", data={"email": "Nobody@example.com", "password": "hush hush hush"}).text
    assert "Nobody@example.com" in page
    assert "hush" not in page


@pytest.fixture
def full_cost(app: Flask) -> Iterator[None]:
    """Hash passwords as in production."""
    passwords.set_cost(is_testing=False)
    yield
    passwords.set_cost(is_testing=True)


@pytest.mark.slow
def test_an_unknown_address_takes_as_long(full_cost: None) -> None:
    known = passwords.hash_password(PASSWORD)
    passwords.is_right("warm up", None)

    def seconds(password_hash: str | None) -> float:
        """Of the processor: whatever else the machine does takes none of them."""
        started = time.process_time()
        assert not passwords.is_right("wrong", password_hash)
        return time.process_time() - started

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


def test_logging_out_ends_the_session_for_every_copy_of_its_cookie(
    app: Flask, client: FlaskClient, alice: User
) -> None:
    try_login(client, alice.email)
    cookie = client.get_cookie("session")
    assert cookie
    thief = app.test_client()
    thief.set_cookie("session", cookie.value)
    assert is_in(thief)
    assert client.post("/logout").location == "/login"
    assert "You are logged out." in client.get("/login").text
    assert "You are logged out." not in client.get("/login").text
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
def test_a_made_up_session_is_no_log_in(session_id: str, client: FlaskClient, alice: User) -> None:
    with client.session_transaction() as session:
        session["_user_id"] = session_id
    assert not is_in(client)


def test_an_expired_session_sends_htmx_to_the_login_page(client: FlaskClient) -> None:
    response = client.get("/settings", part=True, headers={"HX-Current-URL": "http://127.0.0.1:5000/settings?x=1"})
    assert response.status_code == 401
    assert response.headers["HX-Redirect"] == "/login?next=/settings?x%3D1"
    assert response.text == ""


@pytest.mark.parametrize("page", ["/contacts", "/contacts/why", "/leads"])
def test_a_search_goes_on_after_the_log_in(page: str, client: FlaskClient) -> None:
    """While one types, the browser still shows the address of the search before."""
    shown = {"HX-Current-URL": f"http://127.0.0.1:5000{page}?q=before"}
    answer = client.get(f"{page}?q=typed%20now&page=2", part=True, headers=shown)
    assert answer.headers["HX-Redirect"] == f"/login?next={page}?q%3Dtyped%2520now%26page%3D2"


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
            asked += 1
            if rule.endpoint.startswith("api."):
                assert response.status_code == 401, rule  # a key: see test_api_access.py
                continue
            assert response.status_code == 302, (method, rule)
            assert response.location.startswith("/login"), rule
    assert asked > 5


def test_every_form_demands_a_token(app: Flask, client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    for rule in app.url_map.iter_rules():
        # the sign-up form has a signed token of its own, since a person who signs up may take no cookies
        if "POST" in (rule.methods or set()) and rule.endpoint != "optin.sign_up":
            path = rule.build(dict.fromkeys(rule.arguments, "1"), append_unknown=False)
            assert path
            # links in mails are signed tokens themselves, and a program comes with its key
            is_link = rule.endpoint in ("unsubscribe.receive", "optin.confirm")
            refusal = 404 if is_link else 401 if rule.endpoint.startswith("api.") else 400
            assert client.post(path[1], forged=True).status_code == refusal, rule


class TestLimits:
    """203.0.113.1 is the owner's network, 198.51.100.… are strangers'."""

    HOME = "203.0.113.1"

    def guess(self, client: FlaskClient, email: str, times: int = 1, network: str = HOME) -> list[int]:
        return [self.answer(client, email, "wrong", network).status_code for _ in range(times)]

    def answer(self, client: FlaskClient, email: str, password: str = PASSWORD, network: str = HOME) -> TestResponse:
        sent = {"email": email, "password": password}
        return client.post("/login", data=sent, environ_overrides={"REMOTE_ADDR": network})

    def test_an_account_rests_after_ten_tries_from_a_network(self, client: FlaskClient, alice: User) -> None:
        assert self.guess(client, alice.email, 11) == [422] * 10 + [429]
        response = self.answer(client, alice.email.upper())
        assert response.status_code == 429
        assert "You can try again in 60 minutes" in response.text
        assert 3500 < int(response.headers["Retry-After"]) <= 3600
        assert self.answer(client, make_advisor().email).status_code == 303

    def test_a_stranger_cannot_lock_the_owner_out(self, app: Flask, client: FlaskClient, alice: User) -> None:
        stranger = app.test_client()
        for number in range(4):
            self.guess(stranger, alice.email, 4, f"198.51.100.{number}")
        assert self.answer(client, alice.email).status_code == 303

    def test_a_device_that_was_logged_in_is_let_through_where_its_network_is_not(
        self, app: Flask, client: FlaskClient, alice: User
    ) -> None:
        self.answer(client, alice.email)
        client.post("/logout")
        stranger = app.test_client()
        assert self.guess(stranger, alice.email, 11)[-1] == 429
        for number in range(10):
            self.guess(stranger, f"nobody{number}@example.com")
        assert self.answer(stranger, alice.email).status_code == 429
        assert self.guess(client, alice.email) == [422]
        assert self.answer(client, alice.email).status_code == 303

    def test_a_device_that_was_logged_in_has_ten_tries_as_well(self, client: FlaskClient, alice: User) -> None:
        self.answer(client, alice.email)
        client.post("/logout")
        assert self.guess(client, alice.email, 11) == [422] * 10 + [429]

    def test_the_cookie_of_a_device_fits_its_own_account_and_cant_be_made_up(
        self, client: FlaskClient, alice: User
    ) -> None:
        self.answer(client, alice.email)
        client.post("/logout")
        cookie = client.get_cookie("device")
        assert cookie
        assert cookie.http_only
        assert cookie.same_site == "Lax"
        assert alice.email not in cookie.value
        bob = make_advisor()
        assert self.guess(client, bob.email, 11)[-1] == 429
        client.set_cookie("device", f"x{cookie.value}")
        assert self.guess(client, alice.email, 11)[-1] == 429

    def test_a_device_is_known_as_long_as_the_password_is_the_same(
        self, app: Flask, client: FlaskClient, alice: User
    ) -> None:
        thief = app.test_client()
        assert self.answer(thief, alice.email).status_code == 303
        self.answer(client, alice.email)
        client.post("/settings/security", data={"current": PASSWORD, "new": "a new and better secret"})

        for each, is_known in ((thief, False), (client, True)):
            with app.test_request_context("/login", environ_overrides=self.cookies_of(each)):
                assert (origin_of(alice.email).device is not None) is is_known

    def test_five_accounts_may_share_a_device(self, client: FlaskClient) -> None:
        people = [make_advisor() for _ in range(6)]
        for person in people:
            self.answer(client, person.email)
            client.post("/logout")
        with client.application.test_request_context("/login", environ_overrides=self.cookies_of(client)):
            known = [origin_of(person.email).device for person in people]
        assert known[0] is None
        assert None not in known[1:]

    def cookies_of(self, client: FlaskClient) -> dict[str, str]:
        cookie = client.get_cookie("device")
        assert cookie
        return {"HTTP_COOKIE": f"device={cookie.value}"}

    def test_an_account_under_attack_has_fewer_tries_from_each_network_and_never_none(
        self, app: Flask, client: FlaskClient, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attempts, "ATTACKED_FROM", 8)
        stranger = app.test_client()
        self.guess(stranger, alice.email, 8, "198.51.100.1")
        assert self.guess(stranger, alice.email, 4, "198.51.100.2") == [422] * 3 + [429]
        assert self.answer(client, alice.email).status_code == 303

    def test_a_network_rests_after_twenty_tries(self, client: FlaskClient, alice: User) -> None:
        codes = [self.guess(client, f"nobody{n}@example.com")[0] for n in range(21)]
        assert codes == [422] * 20 + [429]
        assert self.guess(client, alice.email, network="203.0.113.9") == [422]

    def test_one_ipv6_site_has_thirty_tries_of_an_account_however_many_networks_it_has(
        self, client: FlaskClient, alice: User
    ) -> None:
        codes = [code for n in range(4) for code in self.guess(client, alice.email, 9, f"2001:db8:7:{n}::1")]
        assert codes == [422] * 30 + [429] * 6
        assert self.guess(client, alice.email, network="2001:db8:8::1") == [422]
        assert self.guess(client, "nobody@example.com", network="2001:db8:7:ff::1") == [422]

    def test_an_ipv6_line_is_one_network_and_ipv4_written_so_is_not(self, client: FlaskClient) -> None:
        def network(address: str) -> str:
            with client.application.test_request_context("/", environ_overrides={"REMOTE_ADDR": address}):
                return client_network()

        assert network("2001:db8::1") == network("2001:db8::ffff:1") == "2001:db8::/64"
        assert network("::ffff:203.0.113.1") == network("203.0.113.1") == "203.0.113.1"

    def test_an_address_that_a_client_makes_up_counts_for_nothing(self, client: FlaskClient) -> None:
        for n in range(21):
            sent = {"email": f"nobody{n}@example.com", "password": "wrong"}
            code = client.post("/login", data=sent, headers={"X-Forwarded-For": f"203.0.113.{n}"}).status_code
        assert code == 429

    def test_good_log_ins_do_not_count(self, client: FlaskClient, alice: User) -> None:
        client.delete_cookie("device")
        for _ in range(12):
            assert self.answer(client, alice.email).status_code == 303
            client.delete_cookie("device")

    def test_guesses_sent_at_once_are_counted_before_the_password_is_looked_at(
        self, app: Flask, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked_at, email = [], alice.email
        monkeypatch.setattr(passwords, "is_right", lambda *_: looked_at.append(1))
        start = threading.Barrier(16)

        def guess() -> None:
            with app.app_context(), writing():
                start.wait(10)
                with suppress(TooMany):
                    attempts.log_in(email, "wrong", Origin(self.HOME))
                db.session.remove()

        db.session.rollback()
        threads = [threading.Thread(target=guess) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(looked_at) == 10

    def test_where_too_many_are_hashed_already_nothing_is_counted(
        self, client: FlaskClient, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as full:
            full.setattr(passwords, "_here", threading.BoundedSemaphore(1))
            with passwords._turn():
                answers = [self.answer(client, alice.email) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {429}
        assert answers[0].headers["Retry-After"] == "10"
        assert self.answer(client, alice.email).status_code == 303

    def test_limits_hold_while_redis_is_away_and_when_it_is_back(
        self, client: FlaskClient, redis_server: object
    ) -> None:
        assert self.guess(client, "nobody@example.com", 5)[-1] == 422
        redis_server.kill()  # type: ignore[attr-defined]
        try:
            assert self.guess(client, "nobody@example.com", 6)[-2:] == [422, 429]
        finally:
            redis_server.start()  # type: ignore[attr-defined]
        assert self.guess(client, "nobody@example.com") == [429]

    def test_after_an_hour_there_are_tries_again_and_what_is_over_goes(self, client: FlaskClient, alice: User) -> None:
        self.guess(client, alice.email, 10)
        self.guess(client, "nobody@example.com")
        db.session.execute(update(AttemptCount).values(ends_at=utcnow() - timedelta(seconds=1)))
        db.session.commit()
        assert self.answer(client, alice.email, "wrong").status_code == 422
        attempts.purge()
        assert {row.count for row in db.session.scalars(select(AttemptCount))} == {1}


def test_the_database_holds_no_password(client: FlaskClient, alice: User) -> None:
    try_login(client, alice.email)
    assert alice.password_hash.startswith("$argon2id$")
    assert db.session.get_one(User, alice.id).password_hash != PASSWORD
    assert make_partner()
