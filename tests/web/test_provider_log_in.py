"""Logging in with an identity provider: one from a package, and one that lies, is slow or away."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oidc_provider_mock
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from joserfc.jwk import OctKey
from sqlalchemy import select
from werkzeug import Response
from werkzeug.test import TestResponse

from asapp.accounts import advisors, identity_provider, provider_log_in
from asapp.accounts.identity_provider import AT_ONCE, NotLetIn, ProviderClient
from asapp.core.extensions import db
from asapp.messages.log_in import WORDS, LogInWhy
from asapp.models import Action, AuditEntry, ProviderIdentity, User
from asapp.web.login_session import ID_TOKEN_MAX
from asapp.web.provider import KEY, WITHIN_S
from config import Config, IdentityProvider
from devtools.servers import RedisServer
from devtools.waiting import wait_for
from tests.conftest import PUBLIC_URL, make_config
from tests.factories import PASSWORD, app_code, log_in, make_admin, make_advisor, make_partner
from tests.identity_providers import CLIENT_ID, CLIENT_SECRET, LyingProvider, Slowness, new_key, running_provider

CALLBACK = "/login/provider/callback"


@pytest.fixture(scope="module")
def lying_provider() -> Iterator[LyingProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(lying_provider: LyingProvider) -> LyingProvider:
    lying_provider.become_honest()
    return lying_provider


@pytest.fixture
def config(database_url: str, redis_server: RedisServer, provider: LyingProvider) -> Config:
    redis_server.flush()
    known_as = IdentityProvider(provider.issuer, CLIENT_ID, CLIENT_SECRET)
    return make_config(database_url, redis_server.url, identity_provider=known_as)


@pytest.fixture
def app(app: Flask, config: Config) -> Flask:
    use_provider(app, config.identity_provider)
    return app


@pytest.fixture
def alice(app: Flask) -> User:
    return make_advisor()


def use_provider(app: Flask, known_as: IdentityProvider | None) -> None:
    """As in a process that has just started."""
    assert known_as
    client = ProviderClient(known_as, f"{PUBLIC_URL}{CALLBACK}", 5.0)
    app.extensions["asapp.identity_provider"] = client


def start(client: FlaskClient, path: str = "/login/provider", **form: str) -> str:
    """Press the button; return the address at the provider that the browser goes on to."""
    page = client.post(path, data=form)
    assert page.status_code == 200, page.text
    found = re.search(r'id="go-on" href="([^"]+)"', page.text)
    assert found
    url = html.unescape(found[1])
    assert f"url={found[1]}" in page.text  # by itself
    return url


def come_back(client: FlaskClient, provider: LyingProvider, url: str, **told: Any) -> TestResponse:
    return client.get(CALLBACK, query_string=provider.log_in(url, **told))


def go_through(client: FlaskClient, provider: LyingProvider, **told: Any) -> TestResponse:
    return come_back(client, provider, start(client), **told)


def of(user: User, subject: str = "subject-1") -> dict[str, Any]:
    return {"sub": subject, "email": user.email, "email_verified": True}


def is_in(client: FlaskClient) -> bool:
    return client.get("/settings").status_code == 200


def assert_refused(answer: TestResponse, why: LogInWhy, email: str = "") -> None:
    title = WORDS[why].title.format(email=email)
    assert title in html.unescape(answer.text).replace("<wbr>", ""), answer.text
    assert answer.status_code == (503 if why is LogInWhy.AWAY else 403)


def log_of(user: User | None = None) -> list[tuple[str, dict[str, Any]]]:
    db.session.rollback()
    entries = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id))
    return [(entry.action, entry.details) for entry in entries if user is None or entry.subject_id == user.id]


# ---- A provider from a package


def test_an_advisor_logs_in_at_a_real_provider_and_out_again(
    app: Flask, client: FlaskClient, alice: User, config: Config
) -> None:
    with oidc_provider_mock.run_server_in_thread(require_nonce=True) as server:
        issuer = f"http://localhost:{server.server_port}"
        use_provider(app, IdentityProvider(issuer, "any", "any"))
        requests.put(f"{issuer}/users/al-1", json=of(alice, "al-1"), timeout=5)
        url = start(client, next="/leads")
        back = requests.post(url, data={"sub": "al-1"}, allow_redirects=False, timeout=5).headers["Location"]
        assert back.startswith(f"{PUBLIC_URL}{CALLBACK}?")
        answer = client.get(back.removeprefix(PUBLIC_URL))
        assert (answer.status_code, answer.location) == (303, "/leads"), answer.text
        assert is_in(client)
        page = client.post("/logout")
        assert "Now you are logged out at AdvisorStream too." in page.text
        found = re.search(r'id="go-on" href="([^"]+)"', page.text)
        assert found
        assert html.unescape(found[1]).startswith(f"{issuer}/oauth2/end_session?client_id=any&")
        assert requests.get(html.unescape(found[1]), timeout=5).status_code == 200
    assert not is_in(client)
    assert [action for action, _ in log_of(alice)] == [Action.PROVIDER_LINKED, Action.LOGGED_IN]


# ---- Whose account it is


def test_an_invitation_is_found_by_the_verified_address_and_then_the_subject_is_the_person(
    client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    partner = make_partner()
    bob, _ = advisors.invite("bob@example.com", "Bob", partner)
    assert go_through(client, provider, **of(bob) | {"email": "Bob@Example.com"}).status_code == 303
    assert db.session.get_one(User, bob.id).invited_at is None
    client.post("/logout")
    # another address, even another person's: the subject decides
    assert go_through(client, provider, **of(alice)).status_code == 303
    assert 'value="Bob"' in client.get("/settings").text


def test_another_subject_with_the_same_address_gets_nothing(
    app: Flask, client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    assert go_through(client, provider, **of(alice)).status_code == 303
    mallory = app.test_client()
    assert_refused(go_through(mallory, provider, **of(alice, "mallory")), LogInWhy.OTHER_SUBJECT, alice.email)
    assert not is_in(mallory)
    assert is_in(client)
    assert log_of(alice)[-1] == (Action.LOGIN_REFUSED, {"provider": "other_subject"})
    # until an operator, who has made sure that it is the same person, unlinks the account
    assert provider_log_in.unlink(alice)
    assert not is_in(client)
    assert go_through(mallory, provider, **of(alice, "mallory")).status_code == 303


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"email_verified": False}, LogInWhy.UNVERIFIED),
        ({"email_verified": None}, LogInWhy.UNVERIFIED),
        ({"email_verified": "true"}, LogInWhy.UNVERIFIED),
        ({"email": "stranger@example.com"}, LogInWhy.UNKNOWN),
        ({"email": None}, LogInWhy.NO_ADDRESS),
        ({"email": 17}, LogInWhy.NO_ADDRESS),
    ],
)
def test_who_is_not_invited_with_a_verified_address_is_told_so(
    told: dict[str, Any], why: LogInWhy, client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    claims = of(alice) | told
    assert_refused(go_through(client, provider, **claims), why, str(claims["email"] or ""))
    assert not is_in(client)
    assert db.session.scalars(select(ProviderIdentity)).all() == []


def test_an_address_that_only_userinfo_tells_counts_if_it_is_about_the_same_subject(
    client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    provider.userinfo = of(alice, "someone-else")
    assert_refused(go_through(client, provider, sub="subject-1"), LogInWhy.NO_ADDRESS)
    provider.userinfo = of(alice)
    assert go_through(client, provider, sub="subject-1").status_code == 303


def test_a_deactivated_person_is_told_so_linked_or_not(
    client: FlaskClient, provider: LyingProvider, alice: User, app: Flask
) -> None:
    access = app.extensions["asapp.org_access"]
    advisors.deactivate(alice, access)
    assert_refused(go_through(client, provider, **of(alice)), LogInWhy.DEACTIVATED)
    advisors.let_back_in(db.session.get_one(User, alice.id))
    assert go_through(client, provider, **of(alice)).status_code == 303
    advisors.deactivate(db.session.get_one(User, alice.id), access)
    assert_refused(go_through(client, provider, **of(alice)), LogInWhy.DEACTIVATED)


def test_a_second_step_follows_where_the_person_has_one(client: FlaskClient, provider: LyingProvider) -> None:
    ada = make_admin()
    answer = go_through(client, provider, **of(ada))
    assert answer.location == "/login/code"
    assert not is_in(client)
    assert "AdvisorStream knows you. Now enter" in client.get("/login/code").text
    client.post("/login/code", data={"code": app_code()})
    assert is_in(client)
    assert "id_token_hint=" in client.post("/logout").text


def test_an_admin_without_a_second_step_is_led_to_its_set_up(client: FlaskClient, provider: LyingProvider) -> None:
    ada = make_admin(has_second_factor=False)
    go_through(client, provider, **of(ada))
    assert client.get("/admin/partners").location == "/settings/second-factor"


# ---- A provider that lies


LIES: list[dict[str, Any]] = [
    {"iss": "https://elsewhere.example"},
    {"iss": None},
    {"aud": "another-client"},
    {"aud": ["another-client"]},
    {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
    {"aud": None},
    {"nonce": "of-another-log-in"},
    {"nonce": None},
    {"exp": 1_700_000_000},
    {"exp": None},
    {"iat": 4_000_000_000},
    {"sub": None},
    {"sub": ""},
    {"sub": 17},
    {"sub": "x" * 256},
]


@pytest.mark.parametrize("lie", LIES, ids=[str(lie)[:40] for lie in LIES])
def test_a_token_that_is_not_ours_and_of_now_opens_nothing(
    lie: dict[str, Any], client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    assert_refused(go_through(client, provider, **of(alice) | lie), LogInWhy.MISTRUSTED)
    assert not is_in(client)
    assert log_of() == []


def test_a_token_that_another_key_or_no_key_signed_opens_nothing(
    client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    for key in (new_key(), new_key(provider.key.kid)):
        provider.signs_with = key
        assert_refused(go_through(client, provider, **of(alice)), LogInWhy.MISTRUSTED)
    provider.algorithm, provider.signs_with = "HS256", OctKey.import_key(CLIENT_SECRET * 2, {"kid": provider.key.kid})
    assert_refused(go_through(client, provider, **of(alice)), LogInWhy.MISTRUSTED)
    provider.algorithm = "none"
    assert_refused(go_through(client, provider, **of(alice)), LogInWhy.MISTRUSTED)
    assert not is_in(client)


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://elsewhere.example"},
        {"token_endpoint": "http://elsewhere.example/token"},
        {"jwks_uri": None},
        {"end_session_endpoint": "javascript:alert(1)"},
    ],
)
def test_a_description_of_another_issuer_or_with_unsafe_addresses_is_not_used(
    description: dict[str, Any], client: FlaskClient, provider: LyingProvider
) -> None:
    provider.description = description
    assert_refused(client.post("/login/provider", broken=True), LogInWhy.MISTRUSTED)


def test_an_answer_that_names_another_issuer_is_not_used(
    client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    came = provider.log_in(start(client), **of(alice))
    assert_refused(client.get(CALLBACK, query_string=came | {"iss": "https://other.example"}), LogInWhy.MISTRUSTED)


def test_new_keys_are_read_when_a_token_needs_them(client: FlaskClient, provider: LyingProvider, alice: User) -> None:
    assert go_through(client, provider, **of(alice)).status_code == 303
    client.post("/logout")
    provider.key = new_key()
    provider.asked.clear()
    assert go_through(client, provider, **of(alice)).status_code == 303
    assert provider.asked == ["/token", "/keys"]  # the description is known already


# ---- A provider that is away, slow or refuses


def test_four_at_once_wait_for_a_provider_that_hangs_and_the_fifth_is_told(
    provider: LyingProvider, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_provider, "LONGEST_WAIT_S", 0.05)
    known_as, slow = config.identity_provider, Slowness()
    assert known_as
    ours = ProviderClient(known_as, f"{PUBLIC_URL}{CALLBACK}")
    provider.answers = {"/.well-known/openid-configuration": slow}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        waiting = [threads.submit(ours.begin) for _ in range(AT_ONCE)]
        wait_for(lambda: len(provider.asked) == AT_ONCE, "for the calls")
        with pytest.raises(NotLetIn) as fifth:
            ours.begin()
        assert fifth.value.why is LogInWhy.AWAY
        assert len(provider.asked) == AT_ONCE == 4, "it was not asked"
        slow.end()
        assert all(isinstance(each.exception(), NotLetIn) for each in waiting)
    provider.answers = {}
    assert ours.begin()[0].startswith(provider.issuer)


def test_a_provider_that_is_away_or_slow_is_given_up_soon_and_used_when_it_is_back(
    app: Flask, client: FlaskClient, provider: LyingProvider, alice: User, config: Config
) -> None:
    use_provider(app, IdentityProvider("http://127.0.0.1:9", CLIENT_ID, CLIENT_SECRET))
    assert_refused(client.post("/login/provider", broken=True), LogInWhy.AWAY)
    use_provider(app, config.identity_provider)
    ours: ProviderClient = app.extensions["asapp.identity_provider"]
    patience_s, ours.total_timeout_s = ours.total_timeout_s, 0.2
    for path in ("/.well-known/openid-configuration", "/keys"):
        slow = Slowness()
        provider.answers = {path: slow}
        assert_refused(client.post("/login/provider", broken=True), LogInWhy.AWAY)
        slow.end()
    provider.answers, ours.total_timeout_s = {}, patience_s
    came = provider.log_in(start(client), **of(alice))
    slow = Slowness()
    provider.answers, ours.total_timeout_s = {"/token": slow}, 0.2
    assert_refused(client.get(CALLBACK, query_string=came, broken=True), LogInWhy.AWAY)
    slow.end()
    ours.total_timeout_s = patience_s
    provider.answers = {"/token": lambda: Response("<html>maintenance</html>", 502)}
    assert_refused(client.get(CALLBACK, query_string=provider.log_in(start(client)), broken=True), LogInWhy.AWAY)
    provider.answers = {}
    assert go_through(client, provider, **of(alice)).status_code == 303


@pytest.mark.parametrize(
    ("error", "why"),
    [
        ("access_denied", LogInWhy.CANCELLED),
        ("login_required", LogInWhy.REFUSED_THERE),
        ("unauthorized_client", LogInWhy.MISCONFIGURED),
    ],
)
def test_a_refusal_there_is_told_here(error: str, why: LogInWhy, client: FlaskClient, provider: LyingProvider) -> None:
    state = provider.log_in(start(client))["state"]
    assert_refused(client.get(CALLBACK, query_string={"error": error, "state": state}), why)


def test_a_wrong_secret_of_ours_is_said_to_be_ours(
    app: Flask, client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    use_provider(app, IdentityProvider(provider.issuer, CLIENT_ID, "not the secret"))
    assert_refused(go_through(client, provider, **of(alice)), LogInWhy.MISCONFIGURED)


# ---- A log-in counts once, in the browser that started it


def test_a_log_in_counts_once_and_only_where_it_was_started(
    app: Flask, client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    came = provider.log_in(start(client), **of(alice))
    stranger = app.test_client()
    assert_refused(stranger.get(CALLBACK, query_string=came), LogInWhy.LOST)
    start(stranger)
    assert_refused(stranger.get(CALLBACK, query_string=came), LogInWhy.LOST)  # another's state
    assert client.head(CALLBACK, query_string=came).status_code == 200
    assert client.get(CALLBACK, query_string=came).status_code == 303
    client.post("/logout")
    assert_refused(client.get(CALLBACK, query_string=came), LogInWhy.LOST)
    assert not is_in(client)


def test_a_code_of_another_log_in_is_refused_there(client: FlaskClient, provider: LyingProvider, alice: User) -> None:
    stolen = provider.log_in(start(client), **of(alice))
    own = provider.log_in(start(client))
    assert_refused(client.get(CALLBACK, query_string=own | {"code": stolen["code"]}), LogInWhy.LOST)  # PKCE


def test_a_log_in_that_took_too_long_is_lost(
    app: Flask, client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    came = provider.log_in(start(client), **of(alice))
    vault = app.extensions["asapp.vault"]
    place = f"session:browser:{KEY}"
    with client.session_transaction() as session:
        kept = vault.open(session[KEY], place)
        at = re.search(r'"at": (\d+)', kept)
        assert at
        session[KEY] = vault.seal(kept.replace(at[1], str(int(at[1]) - WITHIN_S - 1)), place)
    assert_refused(client.get(CALLBACK, query_string=came), LogInWhy.LOST)


def test_what_the_browser_keeps_tells_it_nothing(client: FlaskClient, provider: LyingProvider) -> None:
    start(client)
    with client.session_transaction() as session:
        assert session[KEY].startswith("v1.")


def test_a_token_too_long_for_a_cookie_is_not_kept(client: FlaskClient, provider: LyingProvider, alice: User) -> None:
    go_through(client, provider, **of(alice), groups=["a group"] * ID_TOKEN_MAX)
    assert is_in(client)
    page = client.post("/logout").text
    assert "id_token_hint" not in page
    assert "client_id=asapp" in page


def test_a_log_out_ends_here_even_if_the_provider_has_no_page_for_it_or_is_away(
    app: Flask, client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    go_through(client, provider, **of(alice))
    use_provider(app, IdentityProvider("http://127.0.0.1:9", CLIENT_ID, CLIENT_SECRET))
    assert client.post("/logout").location == "/login"
    assert not is_in(client)


# ---- Passwords beside the provider


def test_passwords_are_for_admins_named_by_command(app: Flask, client: FlaskClient, alice: User) -> None:
    ada = make_admin()
    for user in (alice, ada):
        answer = client.post("/login", data={"email": user.email, "password": PASSWORD})
        assert answer.status_code == 422
        assert "advisors use the button below" in answer.text
    commands = app.test_cli_runner()
    assert "Only admins" in commands.invoke(args=["users", "allow-password", alice.email]).output
    assert commands.invoke(args=["users", "allow-password", ada.email]).exit_code == 0
    assert client.post("/login", data={"email": ada.email, "password": PASSWORD}).location == "/login/code"
    assert client.post("/login/code", data={"code": app_code()}).status_code == 303
    assert is_in(client)
    assert client.post("/logout").location == "/login"  # nothing to log out of at the provider
    assert commands.invoke(args=["users", "allow-password", "--withdraw", ada.email]).exit_code == 0
    assert client.post("/login", data={"email": ada.email, "password": PASSWORD}).status_code == 422
    assert [action for action, _ in log_of(ada) if action.startswith("password")] == [
        Action.PASSWORD_ALLOWED,
        Action.PASSWORD_WITHDRAWN,
    ]


def test_a_link_for_a_password_leads_to_the_provider(client: FlaskClient, provider: LyingProvider) -> None:
    _bob, token = advisors.invite("bob@example.com", "Bob", make_partner())
    page = client.get(f"/password/{token}").text
    assert "Welcome, Bob" in page
    assert 'action="/login/provider"' in page
    assert client.post(f"/password/{token}", data={"new": "a long enough passphrase"}).status_code == 403
    assert not is_in(client)


def test_who_has_no_password_is_not_asked_for_one(client: FlaskClient, alice: User) -> None:
    log_in(client, alice)
    page = client.get("/settings/security").text
    assert "You log in with your AdvisorStream account" in page
    assert "Current password" not in page
    assert client.post("/settings/security", data={"current": PASSWORD, "new": "x" * 20}).status_code == 404


def test_unlink_says_where_there_is_nothing_to_unlink(app: Flask, alice: User) -> None:
    assert "has not logged in" in app.test_cli_runner().invoke(args=["users", "unlink", alice.email]).output


# ---- Confirming who one is


def test_a_person_without_a_password_confirms_at_the_provider(
    client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    go_through(client, provider, **of(alice))
    log_in(client, alice, minutes_ago=20)
    page = client.get(client.get("/settings/second-factor").location)
    assert "Confirm with AdvisorStream" in page.text
    assert 'type="password"' not in page.text
    url = start(client, "/login/confirm/provider", next="/settings/second-factor")
    assert "prompt=login" in url
    assert "max_age=0" in url
    assert come_back(client, provider, url).location == "/settings/second-factor"
    assert client.get("/settings/second-factor").status_code == 200
    assert client.post("/login/confirm", data={"password": PASSWORD}).status_code == 422


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"sub": "someone-else"}, LogInWhy.ANOTHER_PERSON),
        ({"auth_time": 1_700_000_000}, LogInWhy.NOT_RECENT),
        ({"auth_time": None}, LogInWhy.MISTRUSTED),
    ],
)
def test_another_person_or_an_old_log_in_confirms_nothing(
    told: dict[str, Any], why: LogInWhy, client: FlaskClient, provider: LyingProvider, alice: User
) -> None:
    go_through(client, provider, **of(alice))
    log_in(client, alice, minutes_ago=20)
    url = start(client, "/login/confirm/provider", next="/settings/second-factor")
    assert_refused(come_back(client, provider, url, **told), why)
    assert client.get("/settings/second-factor").status_code == 302
