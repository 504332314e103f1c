"""Log-in at Salesforce: OAuth 2.0 web-server flow with PKCE S256, through Authlib, over our own limited session.

Nothing is kept here. State and verifier are in the database (connections/connect.py), not in Authlib's session cookie,
which forgets concurrent log-ins, accepts replays and shows the verifier to the browser. Salesforce sends no `expires_in`,
so a token counts as valid until the first 401.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from authlib.integrations.requests_client import OAuth2Session

from asapp.salesforce.calls import Listener
from asapp.salesforce.errors import (
    TOKEN_TEXTS,
    Misconfigured,
    SalesforceError,
    TryLater,
    normal_description,
    sort_token_error,
)
from asapp.salesforce.hosts import is_salesforce_url, to_18
from asapp.salesforce.page_turns import AllTurnsTaken
from asapp.salesforce.session import LimitedSession

SCOPES = "api refresh_token id"
NEEDED_SCOPES = {"api": frozenset({"api", "full"}), "refresh": frozenset({"refresh_token", "offline_access"})}
TIMEOUT_S = (3.05, 10.0)  # shorter than for data: a person waits, and a refresh holds its lease
TOTAL_TIMEOUT_S = 15.0  # as in session.py, for a call of the log-in
VERIFIER_BYTES = 48
STATE_BYTES = 32
TOKEN = re.compile(r"[!-~]{1,16000}")  # what a header can carry
SCOPE = re.compile(r"[!-~]{1,100}")
SCOPES_LENGTH = 500  # of all together, as stored
NAME_LENGTH = 255

logging.getLogger("authlib").setLevel(logging.WARNING)  # its DEBUG lines print the code verifier

# What `error` of the callback means, as a code of messages/codes.py. The texts are Salesforce's and may change; only
# invalid_client, invalid_grant and invalid_request are told apart by them (errors.TOKEN_TEXTS has those that the token
# endpoint uses too).
CALLBACK_ERRORS: Mapping[str, str] = {
    "access_denied": "denied",
    "access-denied": "denied",  # as one example in the documentation has it
    "oauth_app_blocked": "app_blocked",
    "oauth_app_access_denied": "not_admin_approved",
    "invalid_app_access": "not_admin_approved",
    "oauth_ec_app_not_found": "app_not_installed",
    "oauth_approval_error_generic": "approval_error",
    "invalid_client_id": "bad_key",
    "invalid_client": "bad_secret",
    "invalid_client_credentials": "bad_secret",
    "redirect_uri_mismatch": "redirect_mismatch",
    "redirect_uri_missing": "our_bug",
    "invalid_scope": "scope_missing",
    "invalid_request": "our_bug",
    "unsupported_response_type": "our_bug",
    "immediate_unsuccessful": "our_bug",
    "inactive_user": "inactive_user",
    "inactive_org": "inactive_org",
    "rate_limit_exceeded": "token_endpoint_busy",
    "server_error": "token_endpoint_busy",
    "temporarily_unavailable": "token_endpoint_busy",
}
CALLBACK_DESCRIPTIONS: Mapping[str, str] = {
    "client identifier invalid": "bad_key",
    "inactive user": "inactive_user",
    "app denied": "not_admin_approved",
    **{text: row.code for text, row in TOKEN_TEXTS.items()},
}


@dataclass(frozen=True)
class App:
    """A firm's app in its Salesforce org, with the values that we log in with. on_call: is told about each call."""

    salesforce_url: str
    callback_url: str
    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)
    allow_loopback: bool = False
    on_call: Listener | None = field(default=None, repr=False, compare=False)

    def endpoint(self, name: str) -> str:
        return f"{self.salesforce_url}/services/oauth2/{name}"


@dataclass(frozen=True)
class Start:
    """A started log-in: where to send the browser, and what to check its return with."""

    authorize_url: str = field(repr=False)
    state: str = field(repr=False)
    code_verifier: str = field(repr=False)


@dataclass(frozen=True)
class Grant:
    """A checked answer of the token endpoint. Empty texts: the answer left them out (a refresh may)."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    instance_url: str
    org_id: str
    user_id: str
    scopes: str

    @property
    def identity(self) -> tuple[str, str]:
        return self.org_id, self.user_id


@dataclass(frozen=True)
class Identity:
    """The user that a grant belongs to, in words that they recognise."""

    username: str = field(repr=False)
    display_name: str = field(repr=False)
    org_name: str


def begin(app: App, login_hint: str = "", ask_again: bool = False) -> Start:
    """Start a log-in. ask_again: Salesforce asks for a log-in even if the browser already has one."""
    extras = {
        key: value for key, value in (("login_hint", login_hint), ("prompt", "login" if ask_again else "")) if value
    }
    state, verifier = secrets.token_urlsafe(STATE_BYTES), secrets.token_urlsafe(VERIFIER_BYTES)
    with _Client(app) as client:
        url, _ = client.create_authorization_url(
            app.endpoint("authorize"), state=state, code_verifier=verifier, **extras
        )
    return Start(url, state, verifier)


def exchange_code(app: App, code: str, code_verifier: str) -> Grant:
    """Exchange the code for tokens; raises SalesforceError."""
    with _Client(app) as client:
        answer = client.fetch_token(
            app.endpoint("token"),
            grant_type="authorization_code",
            code=code,
            code_verifier=code_verifier,
            timeout=TIMEOUT_S,
        )
    try:
        return read_grant(answer, app.allow_loopback)
    except SalesforceError:
        revoke(app, str(answer.get("refresh_token") or answer["access_token"]))
        raise


def refresh(app: App, refresh_token: str) -> Grant:
    """Get a new access token; raises SalesforceError.

    With rotation the old refresh token is now dead; without it Authlib puts the old one into the answer.
    """
    with _Client(app) as client:
        client.scope = None  # keep what was granted, not what we would ask for today
        answer = client.refresh_token(app.endpoint("token"), refresh_token=refresh_token, timeout=TIMEOUT_S)
    return read_grant(answer, app.allow_loopback, is_refresh=True)


def revoke(app: App, token: str) -> bool:
    """Revoke a refresh token (with its access tokens) or an access token; return whether Salesforce did."""
    try:
        with _Client(app) as client:
            answer = client.revoke_token(  # type: ignore[no-untyped-call]
                app.endpoint("revoke"), token=token, timeout=TIMEOUT_S
            )
    except (SalesforceError, AllTurnsTaken):
        return False
    is_page = answer.text.lstrip().startswith("<")  # of an edge server or maintenance: the token was not looked at
    return (answer.status_code == 200 and not is_page) or (answer.status_code == 400 and "invalid_token" in answer.text)


def who_is(grant: Grant, api_version: str, allow_loopback: bool = False, on_call: Listener | None = None) -> Identity:
    """Return whose tokens these are; raises SalesforceError. The org's name is fetched too and may be empty."""
    with LimitedSession(grant.instance_url, allow_loopback, TOTAL_TIMEOUT_S, on_call=on_call) as session:
        session.headers["Authorization"] = f"Bearer {grant.access_token}"
        answer = session.get(f"{grant.instance_url}/services/oauth2/userinfo", timeout=TIMEOUT_S)
        person = _object_of(answer)
        if answer.status_code != 200 or not person:
            _raise_userinfo_error(answer)
        if _identity_of(person) != grant.identity:
            raise Misconfigured("unreadable_answer", "userinfo")
        org_name = _org_name(session, grant.instance_url, api_version)
    username = _name_of(person.get("preferred_username"))
    return Identity(username, _name_of(person.get("name")) or username, org_name)


def read_grant(answer: Mapping[str, Any], allow_loopback: bool, is_refresh: bool = False) -> Grant:
    """Check an answer of the token endpoint; raises Misconfigured where hosts aren't Salesforce's or something is missing,
    TryLater where a token is none that a header could carry.

    A refresh keeps the tokens even if the hosts are wrong: with rotation they are the only valid ones left. Its
    instance_url is then empty, as if it had been left out.
    """
    instance_url = str(answer.get("instance_url") or "").rstrip("/")
    identity_url = str(answer.get("id") or "")
    is_ours = is_salesforce_url(instance_url, allow_loopback) if instance_url else True
    if identity_url and not is_salesforce_url(identity_url, allow_loopback):
        is_ours = False
    if not is_ours and not is_refresh:
        raise Misconfigured("foreign_host")
    access_token, refresh_token = str(answer["access_token"]), str(answer.get("refresh_token") or "")
    if not TOKEN.fullmatch(access_token) or (refresh_token and not TOKEN.fullmatch(refresh_token)):
        raise TryLater("unreadable_answer", "token")
    org_id, user_id = _ids_in(identity_url)
    if not is_refresh and not (instance_url and org_id):
        raise Misconfigured("unreadable_answer", "id" if instance_url else "instance_url")
    return Grant(
        access_token=access_token,
        refresh_token=refresh_token,
        instance_url=_origin(instance_url) if is_ours and instance_url else "",
        org_id=org_id,
        user_id=user_id,
        scopes=_scopes_of(str(answer.get("scope") or "")),
    )


def missing_scope(grant: Grant) -> str | None:
    """Return the code for a scope that we need and the grant lacks, or None."""
    granted = set(grant.scopes.split())
    if granted and not granted & NEEDED_SCOPES["api"]:
        return "no_api_scope"
    return None if grant.refresh_token else "no_refresh_token"


def code_of_callback_error(error: str, description: str) -> str:
    """Return the message key for an `error` that came to the callback."""
    described = normal_description(description)
    by_text = next((code for text, code in CALLBACK_DESCRIPTIONS.items() if text in described), None)
    return by_text or CALLBACK_ERRORS.get(error.lower(), "unknown_login_error")


class _Client(OAuth2Session, LimitedSession):  # type: ignore[misc]
    """Authlib's protocol within our limits: one host, no redirects, timeouts, bounded answers."""

    def __init__(self, app: App) -> None:
        OAuth2Session.__init__(
            self,
            app.consumer_key,
            app.consumer_secret,
            scope=SCOPES,
            redirect_uri=app.callback_url,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - a method's name
            revocation_endpoint_auth_method="none",
        )
        LimitedSession.__init__(self, app.salesforce_url, app.allow_loopback, TOTAL_TIMEOUT_S, on_call=app.on_call)
        self.register_compliance_hook("access_token_response", _refuse_what_is_no_token)
        self.register_compliance_hook("refresh_token_response", _refuse_what_is_no_token)


def _refuse_what_is_no_token(answer: requests.Response) -> requests.Response:
    body = _object_of(answer)
    if answer.status_code == 200 and body.get("access_token") and "error" not in body:
        return answer
    if 300 <= answer.status_code < 400:
        raise TryLater("redirected", f"status {answer.status_code}")  # never followed: it would send the secret along
    error = sort_token_error(answer.status_code, body or None)
    error.words = str(body.get("error_description") or "")
    raise error


def _object_of(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _raise_userinfo_error(answer: requests.Response) -> NoReturn:
    if answer.status_code in (401, 403):  # 403 with the plain text Bad_OAuth_Token
        raise Misconfigured("identity_refused", f"status {answer.status_code}")
    raise TryLater("token_endpoint_busy", f"userinfo {answer.status_code}")


def _org_name(session: LimitedSession, instance_url: str, api_version: str) -> str:
    """Return the org's name, or "". Many profiles may not read it, and it is not retried."""
    try:
        answer = session.get(
            f"{instance_url}/services/data/v{api_version}/query",
            params={"q": "SELECT Name FROM Organization"},
            timeout=TIMEOUT_S,
        )
        records = _object_of(answer).get("records") or [{}]
        return _name_of(records[0].get("Name"))
    except (SalesforceError, AttributeError, LookupError, TypeError):
        return ""


def _scopes_of(text: str) -> str:
    """Return the scopes in order, as many as can be stored; the longest names are left out first."""
    scopes = sorted({scope for scope in text.split() if SCOPE.fullmatch(scope)}, key=lambda scope: (len(scope), scope))
    while len(" ".join(scopes)) > SCOPES_LENGTH:
        scopes.pop()
    return " ".join(sorted(scopes))


def _name_of(value: Any) -> str:
    """Return a name as one line that can be stored; empty if the answer has none."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable())[:NAME_LENGTH]


def _identity_of(person: Mapping[str, Any]) -> tuple[str, str]:
    try:
        return to_18(str(person.get("organization_id"))), to_18(str(person.get("user_id")))
    except ValueError:
        return "", ""


def _ids_in(identity_url: str) -> tuple[str, str]:
    """Return org and user id from https://login.salesforce.com/id/00D.../005...; empty if they aren't there."""
    try:
        parts = urlsplit(identity_url).path.strip("/").split("/")
        if len(parts) == 3 and parts[0] == "id":
            return to_18(parts[1]), to_18(parts[2])
    except ValueError:
        pass
    return "", ""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"
