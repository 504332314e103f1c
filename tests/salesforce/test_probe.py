"""Questions about a firm's app, with answers that the simulated org can't give."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import requests_mock

from asapp.salesforce import probe
from asapp.salesforce.oauth import App
from asapp.salesforce.probe import Finding

URL = "https://northgate.my.salesforce.com"
CALLBACK = "https://my.advisorstream.example/salesforce/salesforce_as/login/callback/"
APP = App(URL, CALLBACK, "the-key", "the-secret")
ERROR_PAGE = f"{URL}/setup/secur/RemoteAccessErrorPage.apexp"
LOGIN = {"status_code": 302, "headers": {"Location": f"{URL}/?ec=302&startURL=%2Fsetup%2Fsecur%2F%3Ferror%3Dno"}}
SSO = {"status_code": 302, "headers": {"Location": "https://login.northgate.example/saml?RelayState=x"}}
LOGIN_PAGE = {"status_code": 200, "text": "<html><title>Login | Salesforce</title></html>"}


def hosted(error: str, description: str) -> dict[str, Any]:
    """Return an error on a page of Salesforce's."""
    return {"status_code": 302, "headers": {"Location": f"{ERROR_PAGE}?error={error}&error_description={description}"}}


def plain(error: str, description: str) -> dict[str, Any]:
    """Return an error as the whole body, without a content type."""
    return {"status_code": 400, "text": f"error={error}&error_description={description}"}


def token_error(error: str, description: str, status: int = 400) -> dict[str, Any]:
    return {"status_code": status, "json": {"error": error, "error_description": description}}


MISMATCH = hosted("redirect_uri_mismatch", "redirect_uri%20must%20match%20configuration")
NO_CHALLENGE = plain("invalid_request", "missing%20required%20code%20challenge")
BAD_CODE = token_error("invalid_grant", "invalid authorization code")
BAD_SECRET = token_error("invalid_client", "invalid client credentials")


def look(
    authorize: dict[str, Any] = LOGIN,
    wrong_callback: dict[str, Any] = MISMATCH,
    without_pkce: dict[str, Any] = NO_CHALLENGE,
    token: dict[str, Any] = BAD_CODE,
    wrong_secret: dict[str, Any] = BAD_SECRET,
    openid: dict[str, Any] | None = None,
) -> dict[str, Finding]:
    def is_wrong(request: Any) -> bool:
        return "not-registered" in request.url

    with requests_mock.Mocker() as salesforce:
        known = {"json": {"token_endpoint": f"{URL}/services/oauth2/token"}}
        salesforce.get(f"{URL}/.well-known/openid-configuration", **(openid or known))
        salesforce.get(f"{URL}/services/oauth2/authorize", **without_pkce)
        salesforce.get(f"{URL}/services/oauth2/authorize?code_challenge_method=S256", **authorize)
        salesforce.get(f"{URL}/services/oauth2/authorize", additional_matcher=is_wrong, **wrong_callback)
        salesforce.post(f"{URL}/services/oauth2/token", **wrong_secret)
        salesforce.post(
            f"{URL}/services/oauth2/token",
            additional_matcher=lambda request: "client_secret=the-secret" in (request.text or ""),
            **token,
        )
        return {finding.code: finding for finding in probe.check_app(APP)}


def verdict(found: dict[str, Finding], *codes: str) -> list[bool | None]:
    return [found[code].is_good for code in codes]


@pytest.mark.parametrize("answer", [LOGIN, SSO, LOGIN_PAGE], ids=["log-in", "single sign-on", "log-in page"])
def test_a_log_in_that_begins_is_no_objection(answer: dict[str, Any]) -> None:
    found = look(authorize=answer)
    assert verdict(found, "host", "key", "secret", "callback", "pkce") == [True] * 5


@pytest.mark.parametrize("shape", [hosted, plain], ids=["a page of theirs", "a plain body"])
@pytest.mark.parametrize(
    ("error", "description", "code", "why"),
    [
        ("invalid_client_id", "client%20identifier%20invalid", "key", "bad_key"),
        ("redirect_uri_mismatch", "redirect_uri%20must%20match%20configuration", "callback", "redirect_mismatch"),
        ("invalid_client", "app%20must%20be%20installed%20into%20org", "key", "app_not_installed"),
        ("OAUTH_APP_BLOCKED", "this%20app%20is%20blocked%20by%20admin", "key", "app_blocked"),
        ("invalid_scope", "no%20valid%20scopes%20defined", "scopes", "scope_refused"),
    ],
)
def test_what_salesforce_has_against_it(shape: Any, error: str, description: str, code: str, why: str) -> None:
    found = look(authorize=shape(error, description))
    assert (found[code].is_good, found[code].why) == (False, why)
    assert description.replace("%20", " ") in found[code].detail
    assert found["pkce"].is_good is None


def test_an_unknown_error_text_is_no_verdict() -> None:
    found = look(authorize=hosted("OAUTH_SOMETHING_NEW", "we%20changed%20it"))
    assert verdict(found, "callback", "pkce") == [None, None]
    assert found["callback"].detail == "we changed it"
    assert look(authorize={"status_code": 403, "text": "<html>no</html>"})["callback"].is_good is None


def test_an_answer_to_the_question_that_must_be_refused_proves_nothing() -> None:
    assert look(wrong_callback=LOGIN)["callback"].is_good is None
    assert look(wrong_secret=BAD_CODE)["secret"].is_good is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (token_error("invalid_client_id", "client identifier invalid"), (False, None)),
        (token_error("invalid_client", "client identifier invalid"), (False, None)),
        (token_error("invalid_client_credentials", "invalid client credentials", 401), (True, False)),
        (token_error("invalid_grant", "expired authorization code"), (True, True)),
        (token_error("invalid_grant", "something new"), (True, True)),
        (token_error("invalid_app_access", "app denied"), (True, None)),
        (token_error("rate_limit_exceeded", "x"), (True, None)),
        ({"status_code": 503, "text": "<html>"}, (True, None)),
        ({"status_code": 302, "headers": {"Location": "https://elsewhere.example"}}, (True, None)),
        ({"exc": requests.exceptions.ReadTimeout}, (True, None)),
    ],
)
def test_the_token_endpoints_answer_decides_about_key_and_secret(
    answer: dict[str, Any], expected: tuple[bool | None, bool | None]
) -> None:
    found = look(token=answer)
    assert (found["key"].is_good, found["secret"].is_good) == expected


@pytest.mark.parametrize(
    ("answer", "expected", "why"),
    [
        ({"status_code": 404, "text": "no"}, False, "not_an_org"),
        ({"json": {"token_endpoint": "https://elsewhere.example/token"}}, False, "not_an_org"),
        ({"json": ["no"]}, False, "not_an_org"),
        ({"text": "<html>"}, False, "not_an_org"),
        ({"status_code": 301, "headers": {"Location": "https://new.my.salesforce.com/"}}, False, "moved"),
        ({"status_code": 503}, None, "error_status"),
        ({"status_code": 420}, None, "error_status"),
        ({"exc": requests.exceptions.ReadTimeout}, None, "no_answer"),
    ],
)
def test_what_is_an_org(answer: dict[str, Any], expected: bool | None, why: str) -> None:
    found = look(openid=answer)
    assert (found["host"].is_good, found["host"].why) == (expected, why)
    assert verdict(found, "key", "secret", "callback", "pkce") == [None] * 4


def test_no_secret_and_no_whole_answer_is_kept() -> None:
    found = look(authorize=hosted("x", "%0Astrange%00" + "x" * 500), token=token_error("y", "<b>" + "z" * 500))
    for finding in found.values():
        assert "the-secret" not in repr(finding)
        assert len(finding.detail) <= 120
        assert finding.detail.isprintable()


def test_nothing_but_the_firms_own_host_is_called() -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.register_uri(
            requests_mock.ANY, requests_mock.ANY, status_code=302, headers={"Location": "http://10.0.0.1/"}
        )
        found = {f.code: f for f in probe.check_app(App("https://evil.example", CALLBACK, "k", "s"))}
        assert found["host"].why == "not_salesforce"
        assert salesforce.call_count == 0
        probe.check_app(APP)
        assert {urlsplit(call.url).netloc for call in salesforce.request_history} == {"northgate.my.salesforce.com"}


def test_the_secret_travels_in_no_address() -> None:
    with requests_mock.Mocker() as salesforce:
        salesforce.get(f"{URL}/.well-known/openid-configuration", json={"token_endpoint": f"{URL}/x"})
        salesforce.get(f"{URL}/services/oauth2/authorize", **LOGIN)
        salesforce.post(f"{URL}/services/oauth2/token", **BAD_CODE)
        probe.check_app(APP)
        asked = [call for call in salesforce.request_history if call.method == "GET"]
        assert not any("the-secret" in call.url for call in salesforce.request_history)
        assert all("code_verifier" not in parse_qs(urlsplit(call.url).query) for call in asked)


@pytest.mark.parametrize(
    ("scopes", "has_refresh", "expected", "detail"),
    [
        ("api id refresh_token", True, True, "api, id, refresh_token"),
        ("full offline_access", True, True, "full, offline_access"),
        ("api id", False, False, "refresh_token"),
        ("id refresh_token", True, False, "api"),
        ("api refresh_token", True, False, "id"),
        ("web", False, False, "api, id, refresh_token"),
        ("", True, None, ""),
    ],
)
def test_scopes(scopes: str, has_refresh: bool, expected: bool | None, detail: str) -> None:
    found = probe.judge_scopes(scopes, has_refresh)
    assert (found.is_good, found.detail) == (expected, detail)
