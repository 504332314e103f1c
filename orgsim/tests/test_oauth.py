"""The OAuth web server flow, as a browser and a client go through it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urljoin, urlsplit

import pytest
import requests

from orgsim import Answer, Org, Running
from orgsim.tests.conftest import CALLBACK, KEY, SECRET, Api

VERIFIER = "a-verifier-that-is-long-enough-to-be-one-1234567890"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


class Browser:
    """Follows redirects by hand, until they leave the org."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.page: requests.Response | None = None

    def authorize(self, **changes: Any) -> str:
        """Start the flow, and return the address at which the browser ends."""
        asked = {
            "response_type": "code",
            "client_id": KEY,
            "redirect_uri": CALLBACK,
            "state": "S/1 +",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **changes,
        }
        return self._go(
            "GET", f"{self.url}/services/oauth2/authorize", params={k: v for k, v in asked.items() if v is not None}
        )

    def _go(self, method: str, url: str, **more: Any) -> str:
        answer = self.session.request(method, url, allow_redirects=False, timeout=20, **more)
        while answer.is_redirect:
            target = urljoin(answer.url, answer.headers["Location"])
            if not target.startswith(self.url):
                return target
            answer = self.session.get(target, allow_redirects=False, timeout=20)
        self.page = answer
        return str(answer.url)

    def submit(self, **fields: str) -> str:
        """Submit the first form of the page with these fields."""
        assert self.page is not None
        action = re.search(r'<form[^>]*action="([^"]*)"', self.page.text)
        assert action is not None
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', self.page.text))
        values = {k: v.replace("&amp;", "&") for k, v in hidden.items()}
        return self._go("POST", urljoin(self.page.url, action[1].replace("&amp;", "&")), data={**values, **fields})

    def log_in(self) -> str:
        return self.submit(username="amara@northgate.example", pw="amaras-word")

    def connect(self, **changes: Any) -> dict[str, str]:
        """Authorize, log in, allow; return the parameters that arrive at the callback."""
        at = self.authorize(**changes)
        if "/login" in at:
            at = self.log_in()
        if at.startswith(self.url):
            at = self.submit(save="Allow")
        return arrived(at)


def arrived(address: str) -> dict[str, str]:
    assert address.startswith(CALLBACK), address
    return dict(parse_qsl(urlsplit(address).query))


@pytest.fixture
def browser(running: Running, amara: str) -> Iterator[Browser]:
    made = Browser(running.url)
    yield made
    made.session.close()


def token(running: Running, *, auth: tuple[str, str] | None = None, **form: str) -> requests.Response:
    fields = {} if auth else {"client_id": KEY, "client_secret": SECRET}
    return requests.post(f"{running.url}/services/oauth2/token", data={**fields, **form}, auth=auth, timeout=20)


def exchange(running: Running, code: str, **changes: str) -> requests.Response:
    return token(
        running,
        **{
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            **changes,
        },
    )


def refusal(answer: requests.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.json()["error"], answer.json()["error_description"]


# -- authorizing


def test_the_whole_flow_from_log_in_to_tokens(running: Running, browser: Browser, amara: str) -> None:
    back = browser.connect()
    assert back["state"] == "S/1 +"
    assert back["code"].endswith("==")
    assert "." in back["code"]
    answer = exchange(running, back["code"])
    assert answer.status_code == 200
    tokens = answer.json()
    assert set(tokens) == {
        "access_token",
        "refresh_token",
        "signature",
        "scope",
        "instance_url",
        "id",
        "token_type",
        "issued_at",
    }
    assert tokens["id"] == f"https://login.salesforce.com/id/{running.org.id}/{amara}"
    assert tokens["access_token"].startswith(running.org.id[:15] + "!")
    assert tokens["instance_url"] == running.url
    assert isinstance(tokens["issued_at"], str)
    assert set(tokens["scope"].split()) == {"api", "refresh_token", "id"}
    assert Api(running.url, tokens).query("SELECT COUNT() FROM Contact")["done"] is True


def test_the_page_offers_allow_and_deny(browser: Browser) -> None:
    browser.authorize()
    browser.log_in()
    assert browser.page is not None
    assert ">Allow</button>" in browser.page.text
    assert ">Deny</button>" in browser.page.text


def test_deny_redirects_with_an_error_and_the_state(browser: Browser) -> None:
    browser.authorize()
    browser.log_in()
    assert arrived(browser.submit(cancel="Deny")) == {
        "error": "access_denied",
        "error_description": "end-user denied authorization",
        "state": "S/1 +",
    }


def test_a_wrong_password_stays_on_the_page(browser: Browser) -> None:
    browser.authorize()
    assert "/login" in browser.submit(username="amara@northgate.example", pw="wrong")
    assert browser.page is not None
    assert "check your username and password" in browser.page.text


def test_a_user_who_has_approved_is_redirected_at_once_unless_prompted(running: Running, browser: Browser) -> None:
    exchange(running, browser.connect()["code"])
    assert "code" in arrived(browser.authorize())
    assert browser.authorize(prompt="consent").startswith(running.url)
    assert "/login" in browser.authorize(prompt="login")
    assert "code" in arrived(browser.log_in())


def test_a_click_on_a_person_logs_in(browser: Browser, jonas: str) -> None:
    browser.authorize()
    assert "/authorize" in browser.submit(**{"as": jonas})


def test_immediate_shows_no_page(browser: Browser) -> None:
    assert arrived(browser.authorize(immediate="true"))["error"] == "immediate_unsuccessful"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "nobody"}, "client identifier invalid"),
        ({"redirect_uri": CALLBACK + "x"}, "redirect_uri must match"),
        ({"redirect_uri": CALLBACK.rstrip("/")}, "redirect_uri must match"),
        ({"redirect_uri": None}, "redirect_uri must be"),
    ],
)
def test_some_failures_never_reach_the_app(
    running: Running, browser: Browser, changes: dict[str, Any], error: str
) -> None:
    at = browser.authorize(**changes)
    assert at.startswith(f"{running.url}/setup/secur/RemoteAccessErrorPage.apexp?")
    assert error in parse_qs(urlsplit(at).query)["error_description"][0]
    assert parse_qs(urlsplit(at).query)["state"] == ["S/1 +"]


def test_an_error_of_a_connected_app_that_is_not_installed_never_reaches_it(org: Org, browser: Browser) -> None:
    org.change_app(KEY, installed=False, external=False)
    assert "app+must+be+installed+into+org" in browser.authorize()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"blocked": True}, "OAUTH_APP_BLOCKED"),
        ({"installed": False}, "OAUTH_EC_APP_NOT_FOUND"),
        ({"admin_approved_only": True}, "invalid_app_access"),
    ],
)
def test_what_an_admin_can_forbid_reaches_the_app(
    org: Org, browser: Browser, changes: dict[str, Any], error: str
) -> None:
    org.change_app(KEY, **changes)
    at = browser.authorize()
    assert arrived(at if at.startswith(CALLBACK) else browser.log_in())["error"] == error


def test_the_state_may_be_missing_on_an_error(org: Org, browser: Browser) -> None:
    org.change_settings(state_on_error=False)
    org.trouble.add("oauth_app_blocked", kind="authorize")
    assert arrived(browser.authorize()) == {
        "error": "OAUTH_APP_BLOCKED",
        "error_description": "this app is blocked by admin",
    }


def test_any_error_can_be_shown_on_a_page_of_salesforce(org: Org, browser: Browser) -> None:
    org.trouble.add(
        Answer(400, {"error": "OAUTH_APPROVAL_ERROR_GENERIC", "error_description": "An unexpected error"}),
        kind="authorize",
        hosted=True,
    )
    assert "OAUTH_APPROVAL_ERROR_GENERIC" in browser.authorize()


def test_a_scope_that_the_app_lacks_fails_after_the_log_in(browser: Browser) -> None:
    assert "/login" in browser.authorize(scope="api web")
    assert "OAUTH_APPROVAL_ERROR_GENERIC" in browser.log_in()


def test_a_missing_challenge_is_answered_before_any_log_in_without_a_content_type(browser: Browser) -> None:
    browser.authorize(code_challenge=None, code_challenge_method=None)
    assert browser.page is not None
    assert browser.page.status_code == 400
    assert browser.page.text == "error=invalid_request&error_description=missing%20required%20code%20challenge"
    assert "Content-Type" not in browser.page.headers


# -- codes


def test_a_code_works_once(running: Running, browser: Browser) -> None:
    code = browser.connect()["code"]
    assert exchange(running, code).status_code == 200
    assert refusal(exchange(running, code)) == (400, "invalid_grant", "expired authorization code")


def test_a_code_lives_a_quarter_of_an_hour(running: Running, browser: Browser) -> None:
    code = browser.connect()["code"]
    running.org.clock.advance(16 * 60)
    assert refusal(exchange(running, code)) == (400, "invalid_grant", "expired authorization code")


@pytest.mark.parametrize(
    ("changes", "error", "description"),
    [
        ({"code_verifier": "another"}, "invalid_grant", "invalid code verifier"),
        ({"code_verifier": ""}, "invalid_grant", "invalid code verifier"),
        ({"redirect_uri": "http://localhost/other"}, "redirect_uri_mismatch", "redirect_uri must match configuration"),
        ({"client_id": "nobody"}, "invalid_client_id", "client identifier invalid"),
        ({"client_secret": SECRET + " "}, "invalid_client", "invalid client credentials"),
        ({"code": "never-issued"}, "invalid_grant", "invalid authorization code"),
        ({"grant_type": "magic"}, "unsupported_grant_type", "grant type not supported"),
    ],
)
def test_a_wrong_exchange_is_refused(
    running: Running, browser: Browser, changes: dict[str, str], error: str, description: str
) -> None:
    code = browser.connect()["code"]
    assert refusal(exchange(running, **{"code": code, **changes})) == (400, error, description)


def test_a_hashed_challenge_without_its_method_never_fits(running: Running, browser: Browser) -> None:
    code = browser.connect(code_challenge_method=None)["code"]
    assert refusal(exchange(running, code))[2] == "invalid code verifier"


def test_the_app_may_show_its_secret_by_basic_authentication(running: Running, browser: Browser) -> None:
    code = browser.connect()["code"]
    answer = token(
        running,
        auth=(KEY, SECRET),
        grant_type="authorization_code",
        code=code,
        redirect_uri=CALLBACK,
        code_verifier=VERIFIER,
    )
    assert answer.json()["token_type"] == "Bearer"


def test_json_is_not_a_form(running: Running, amara: str) -> None:
    answer = requests.post(f"{running.url}/services/oauth2/token", json={"grant_type": "refresh_token"}, timeout=20)
    assert refusal(answer) == (400, "unsupported_grant_type", "grant type not supported")


# -- refreshing


def refresh(running: Running, refresh_token: str) -> requests.Response:
    return token(running, grant_type="refresh_token", refresh_token=refresh_token)


def test_refreshing_without_rotation_gives_no_refresh_token(running: Running, amara: str) -> None:
    first = running.org.issue_tokens(amara, KEY)
    second = refresh(running, first["refresh_token"]).json()
    assert "refresh_token" not in second
    assert "expires_in" not in second
    assert second["access_token"] != first["access_token"]
    assert refresh(running, first["refresh_token"]).status_code == 200


def test_an_old_token_under_rotation_kills_the_family(running: Running, amara: str) -> None:
    running.org.change_app(KEY, rotate=True)
    first = running.org.issue_tokens(amara, KEY)
    second = refresh(running, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert refusal(refresh(running, first["refresh_token"])) == (400, "invalid_grant", "expired access/refresh token")
    assert refusal(refresh(running, second["refresh_token"])) == (400, "invalid_grant", "expired access/refresh token")
    assert Api(running.url, second).get("/limits").status_code == 401


def test_the_sixth_approval_pushes_out_the_one_used_longest_ago(running: Running, amara: str) -> None:
    clock = running.org.clock
    given = []
    for _ in range(5):
        given.append(running.org.issue_tokens(amara, KEY)["refresh_token"])
        clock.advance(1)
    assert refresh(running, given[0]).status_code == 200
    clock.advance(1)
    running.org.issue_tokens(amara, KEY)
    alive = [refresh(running, one).status_code == 200 for one in given]
    assert alive == [True, False, True, True, True]


def test_the_instance_url_may_change_with_a_refresh(running: Running, amara: str) -> None:
    given = running.org.issue_tokens(amara, KEY)["refresh_token"]
    running.org.change_settings(instance_url="https://moved.my.salesforce.com")
    assert refresh(running, given).json()["instance_url"] == "https://moved.my.salesforce.com"


def test_without_the_scope_there_is_no_refresh_token(running: Running, amara: str) -> None:
    assert "refresh_token" not in running.org.issue_tokens(amara, KEY, ["api"])


@pytest.mark.parametrize(
    ("deed", "error", "description"),
    [
        (lambda org, user: org.change_user(user, active=False), "invalid_grant", "inactive user"),
        (
            lambda org, user: org.change_app(KEY, ip_restricted=True),
            "invalid_grant",
            "ip restricted or invalid login hours",
        ),
        (
            lambda org, user: org.change_app(KEY, admin_approved_only=True),
            "invalid_app_access",
            "user is not admin approved to access this app",
        ),
        (lambda org, user: org.revoke_approvals(user), "invalid_grant", "expired access/refresh token"),
    ],
)
def test_a_refresh_is_refused_for_each_reason(
    running: Running, amara: str, deed: Any, error: str, description: str
) -> None:
    given = running.org.issue_tokens(amara, KEY)["refresh_token"]
    deed(running.org, amara)
    assert refusal(refresh(running, given)) == (400, error, description)


def test_a_session_ends_after_two_hours_without_use_by_the_orgs_clock(running: Running, amara: str) -> None:
    api = Api(running.url, running.org.issue_tokens(amara, KEY))
    for _ in range(3):
        running.org.clock.advance(90 * 60)
        assert api.get("/limits").status_code == 200
    running.org.clock.advance(121 * 60)
    assert api.get("/limits").json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]


# -- revoking, looking


def revoke(running: Running, value: str) -> requests.Response:
    return requests.post(f"{running.url}/services/oauth2/revoke", data={"token": value}, timeout=20)


def test_revoking_a_refresh_token_ends_its_sessions(running: Running, amara: str) -> None:
    given = running.org.issue_tokens(amara, KEY)
    answer = revoke(running, given["refresh_token"])
    assert (answer.status_code, answer.content) == (200, b"")
    assert Api(running.url, given).get("/limits").status_code == 401
    again = revoke(running, given["refresh_token"])
    assert again.status_code == 400
    assert parse_qs(again.text)["error"] == ["invalid_token"]


def test_revoking_an_access_token_keeps_the_approval(running: Running, amara: str) -> None:
    given = running.org.issue_tokens(amara, KEY)
    assert revoke(running, given["access_token"]).status_code == 200
    assert Api(running.url, given).get("/limits").status_code == 401
    assert refresh(running, given["refresh_token"]).status_code == 200


def test_userinfo_describes_the_user(running: Running, amara: str) -> None:
    api = Api(running.url, running.org.issue_tokens(amara, KEY))
    info = api.get("/services/oauth2/userinfo").json()
    assert (info["user_id"], info["organization_id"]) == (amara, running.org.id)
    assert info["preferred_username"] == "amara@northgate.example"
    assert "Sforce-Limit-Info" not in api.get("/services/oauth2/userinfo").headers


def test_userinfo_answers_a_dead_token_with_403_and_one_word(running: Running, amara: str) -> None:
    answer = requests.get(
        f"{running.url}/services/oauth2/userinfo", headers={"Authorization": "Bearer dead"}, timeout=20
    )
    assert (answer.status_code, answer.text) == (403, "Bad_OAuth_Token")
    assert "json" not in answer.headers["Content-Type"]


def test_discovery_needs_no_session(running: Running) -> None:
    found = requests.get(f"{running.url}/.well-known/openid-configuration", timeout=20).json()
    assert found["token_endpoint"] == f"{running.url}/services/oauth2/token"


# -- scopes and the data API


def test_a_token_without_api_gets_a_401_that_no_refresh_cures(running: Running, amara: str) -> None:
    api = Api(running.url, running.org.issue_tokens(amara, KEY, ["id", "refresh_token"]))
    answer = api.get("/limits")
    assert answer.status_code == 401
    assert answer.json() == [
        {"message": "This session is not valid for use with the REST API", "errorCode": "INVALID_SESSION_ID"}
    ]


def test_a_write_with_a_dead_token_and_no_json_type_is_answered_in_xml(running: Running, amara: str) -> None:
    answer = requests.post(
        f"{running.url}/services/data/v66.0/sobjects/Lead",
        data="x",
        timeout=20,
        headers={"Authorization": "Bearer dead", "Content-Type": "text/plain"},
    )
    assert answer.status_code == 401
    assert answer.text.startswith("<response>")
    assert answer.headers["Sfdc-OAuth-Error"] == "1703"
