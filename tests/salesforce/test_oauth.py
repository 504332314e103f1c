"""Answers at log-in that no org gives on request."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import requests
import requests_mock

from asapp.salesforce import oauth
from asapp.salesforce.errors import Misconfigured, SalesforceError, TryLater

HOST = "https://acme.my.salesforce.com"
TOKEN = f"{HOST}/services/oauth2/token"
REVOKE = f"{HOST}/services/oauth2/revoke"
APP = oauth.App(HOST, "https://my.example.com/salesforce/salesforce_as/login/callback/", "KEY", "SECRET")
ANSWER = {
    "access_token": "00DdM00000vfgTu!AQEAQFs1",
    "refresh_token": "5Aep861",
    "signature": "x",
    "scope": "refresh_token api id",
    "instance_url": HOST,
    "id": "https://login.salesforce.com/id/00DdM00000vfgTuUAI/005dM00000awSFJQA2",
    "token_type": "Bearer",
    "issued_at": "1778066860123",
}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in ANSWER.items() if name not in names}


def test_authorize_url_carries_pkce_and_our_callback() -> None:
    start = oauth.begin(APP, login_hint="amara@northgate.example", ask_again=True)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(start.authorize_url).query).items()}
    assert asked["response_type"] == "code"
    assert asked["redirect_uri"] == APP.callback_url
    assert asked["scope"] == "api refresh_token id"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert asked["state"] == start.state
    assert (asked["prompt"], asked["login_hint"]) == ("login", "amara@northgate.example")
    assert "SECRET" not in start.authorize_url
    assert start.code_verifier not in start.authorize_url


def test_secrets_never_stand_in_a_repr() -> None:
    grant = oauth.read_grant(ANSWER, allow_loopback=False)
    assert "SECRET" not in repr(APP)
    assert ANSWER["access_token"] not in repr(grant)
    assert ANSWER["refresh_token"] not in repr(grant)


def test_code_is_exchanged_with_secret_and_verifier() -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(TOKEN, json=ANSWER)
        grant = oauth.exchange_code(APP, "aPrx82==", "verifier")
        asked = dict(parse_qsl(salesforce.request_history[0].text))
    assert asked == {
        "grant_type": "authorization_code",
        "code": "aPrx82==",
        "code_verifier": "verifier",
        "redirect_uri": APP.callback_url,
        "client_id": "KEY",
        "client_secret": "SECRET",
    }
    assert grant.identity == ("00DdM00000vfgTuUAI", "005dM00000awSFJQA2")
    assert grant.scopes == "api id refresh_token"


@pytest.mark.parametrize(
    "changes",
    [
        {"instance_url": "https://evil.example"},
        {"instance_url": "https://acme.my.salesforce.com.evil.example"},
        {"instance_url": "http://acme.my.salesforce.com"},
        {"instance_url": "https://acme.lightning.force.com"},
        {"id": "https://evil.example/id/00DdM00000vfgTuUAI/005dM00000awSFJQA2"},
    ],
)
def test_a_grant_that_points_elsewhere_is_refused_and_given_back(changes: dict[str, str]) -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(TOKEN, json=ANSWER | changes)
        salesforce.post(REVOKE)
        with pytest.raises(Misconfigured, match="foreign_host"):
            oauth.exchange_code(APP, "code", "verifier")
        assert {urlsplit(call.url).hostname for call in salesforce.request_history} == {"acme.my.salesforce.com"}
        assert salesforce.request_history[-1].url == REVOKE


@pytest.mark.parametrize("missing", ["instance_url", "id"])
def test_a_grant_without_user_or_host_is_refused(missing: str) -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(TOKEN, json=without(missing))
        salesforce.post(REVOKE)
        with pytest.raises(Misconfigured, match="unreadable_answer"):
            oauth.exchange_code(APP, "code", "verifier")


@pytest.mark.parametrize("location", ["https://evil.example/", "https://other.my.salesforce.com/services/oauth2/token"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int, location: str) -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(TOKEN, status_code=status, headers={"Location": location})
        with pytest.raises(TryLater, match="redirected"):
            oauth.refresh(APP, "5Aep861")
        assert salesforce.call_count == 1


def test_a_hanging_endpoint_has_an_end() -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(TOKEN, exc=requests.exceptions.ReadTimeout)
        with pytest.raises(TryLater) as caught:
            oauth.refresh(APP, "5Aep861")
    assert caught.value.is_ambiguous
    assert salesforce.last_request.timeout == oauth.TIMEOUT_S


def test_a_refresh_may_leave_everything_out_but_the_token() -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(TOKEN, json={"access_token": "new", "token_type": "Bearer"})
        grant = oauth.refresh(APP, "5Aep861")
    assert (grant.access_token, grant.refresh_token, grant.instance_url, grant.org_id) == ("new", "5Aep861", "", "")


def test_a_refresh_that_points_elsewhere_keeps_the_tokens_and_drops_the_host() -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(TOKEN, json=ANSWER | {"instance_url": "https://evil.example", "refresh_token": "rotated"})
        grant = oauth.refresh(APP, "5Aep861")
    assert (grant.refresh_token, grant.instance_url) == ("rotated", "")


@pytest.mark.parametrize(
    ("answer", "is_heard"),
    [
        ({"status_code": 200, "text": ""}, True),
        ({"status_code": 400, "text": "error=invalid_token&error_description=invalid%20token"}, True),
        ({"status_code": 400, "json": {"error": "invalid_token"}}, True),
        ({"status_code": 400, "json": {"error": "unsupported_token_type"}}, False),
        ({"status_code": 503, "text": "<html>"}, False),
        ({"exc": requests.exceptions.ConnectionError}, False),
    ],
)
def test_revoking(answer: dict[str, Any], is_heard: bool) -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.post(REVOKE, **answer)
        assert oauth.revoke(APP, "5Aep861") is is_heard
        assert "SECRET" not in (salesforce.last_request.text or "")


@pytest.mark.parametrize("identity_url", ["https://[", "http://x", "https://evil.example/id/a/b", "\x00"])
def test_a_refresh_survives_an_identity_url_that_is_none(identity_url: str) -> None:
    grant = oauth.read_grant({"access_token": "new", "id": identity_url}, allow_loopback=False, is_refresh=True)
    assert (grant.access_token, grant.org_id) == ("new", "")


@pytest.mark.parametrize("token", ["00D!Ünï", "00D! space", "00D!\n", "00D!\x00", "a" * 20_000])
def test_a_token_that_no_header_can_carry_is_no_answer(token: str) -> None:
    for is_refresh in (True, False):
        with pytest.raises(TryLater, match="unreadable_answer"):
            oauth.read_grant(ANSWER | {"access_token": token}, allow_loopback=False, is_refresh=is_refresh)


def test_userinfo_of_another_user_is_not_trusted() -> None:
    grant = oauth.read_grant(ANSWER, allow_loopback=False)
    with requests_mock.Mocker() as salesforce:
        salesforce.get(
            f"{HOST}/services/oauth2/userinfo",
            json={"user_id": "005dM00000awSFKQA2", "organization_id": "00DdM00000vfgTuUAI", "name": "X"},
        )
        with pytest.raises(Misconfigured, match="unreadable_answer"):
            oauth.who_is(grant, "66.0")


@pytest.mark.parametrize(
    ("error", "description", "code"),
    [
        ("access_denied", "end-user denied authorization", "denied"),
        ("access-denied", "", "denied"),
        ("OAUTH_APP_BLOCKED", "this app is blocked by admin", "app_blocked"),
        ("OAUTH_EC_APP_NOT_FOUND", "External client app is not installed in this org", "app_not_installed"),
        ("OAUTH_APPROVAL_ERROR_GENERIC", "An unexpected error has occurred during authentication.", "approval_error"),
        ("invalid_client", "app must be installed into org", "app_not_installed"),
        ("invalid_client_id", "client identifier invalid", "bad_key"),
        ("redirect_uri_mismatch", "redirect_uri must match configuration", "redirect_mismatch"),
        ("invalid_request", "missing required code challenge", "pkce"),
        ("invalid_scope", "", "scope_missing"),
        ("inactive_user", "", "inactive_user"),
        ("inactive_org", "", "inactive_org"),
        ("rate_limit_exceeded", "", "token_endpoint_busy"),
        ("server_error", "", "token_endpoint_busy"),
        ("invalid_grant", "IP restricted or invalid login hours", "ip_restricted"),
        ("invalid_grant", "ip restricted", "ip_restricted"),
        ("invalid_grant", "inactive organization", "inactive_org"),
        ("invalid_grant", "inactive user", "inactive_user"),
        ("invalid_grant", "Invalid user credentials", "unknown_login_error"),
        ("invalid_request", "invalid code verifier", "pkce"),
        ("NEVER_HEARD_OF", "whatever", "unknown_login_error"),
    ],
)
def test_errors_that_come_to_the_callback(error: str, description: str, code: str) -> None:
    assert oauth.code_of_callback_error(error, description) == code


def test_errors_may_be_logged() -> None:
    with requests_mock.Mocker() as salesforce:
        body = {"error": "invalid_grant", "error_description": "for amara@northgate.example"}
        salesforce.post(TOKEN, status_code=400, text=json.dumps(body))
        with pytest.raises(SalesforceError) as caught:
            oauth.refresh(APP, "5Aep861")
    assert "amara" not in str(caught.value)
