"""The OpenID Connect provider that people log in with: code flow with PKCE, by Authlib.

Discovery and keys are read when they are first needed and kept for an hour; a token under a key that we don't have makes us
read the keys again. Nothing about a log-in under way is stored here: the browser's session has it, sealed (web/provider.py).
Each call ends after seconds, since a person waits and a thread with them.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlsplit

import requests
from authlib.common.urls import add_params_to_uri
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import get_well_known_url
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from asapp.core.clock import utcnow
from asapp.messages.log_in import LogInWhy
from asapp.salesforce.errors import SalesforceError
from asapp.salesforce.session import BoundedSession, LimitedAdapter
from config import IdentityProvider, is_loopback

log = logging.getLogger(__name__)

SCOPES = "openid email"
KEPT_S = 3600.0  # discovery and keys
TIMEOUT_S = (3.05, 6.0)  # to connect; between two bytes
TOTAL_TIMEOUT_S = 8.0
AT_ONCE = 4  # of the 8 threads of a web process may speak to the provider; the others go on answering
LONGEST_WAIT_S = 2.0
LEEWAY_S = 60  # by which clocks may differ
SUBJECT_MAX = 255  # by the standard
# With a public key: a shared secret, or none, would let others sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
MORE_ENDPOINTS = ("userinfo_endpoint", "end_session_endpoint")
CALLBACK_ERRORS = {
    "access_denied": LogInWhy.CANCELLED,
    "temporarily_unavailable": LogInWhy.AWAY,
    "server_error": LogInWhy.AWAY,
    "unauthorized_client": LogInWhy.MISCONFIGURED,
    "invalid_client": LogInWhy.MISCONFIGURED,
    "invalid_request": LogInWhy.MISCONFIGURED,
    "invalid_scope": LogInWhy.MISCONFIGURED,
}


class NotLetIn(Exception):
    """This log-in does not count. email: the address that the provider told, where the words need it."""

    def __init__(self, why: LogInWhy, email: str = "") -> None:
        super().__init__(why)
        self.why, self.email = why, email


@dataclass(frozen=True)
class Started:
    """What a log-in that was started has to be checked with when it comes back."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    at: float  # seconds
    is_confirmation: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ProviderLogIn:
    """Who the provider says it is. email is empty if it isn't told."""

    issuer: str
    subject: str = field(repr=False)
    email: str = field(repr=False)
    is_email_verified: bool
    id_token: str = field(repr=False)


@dataclass
class _Known:
    metadata: dict[str, Any]
    keys: Any
    until: float


class ProviderClient:
    """One for each process; raises NotLetIn for every failure."""

    def __init__(self, provider: IdentityProvider, callback_url: str, total_timeout_s: float = TOTAL_TIMEOUT_S) -> None:
        self.provider = provider
        self.total_timeout_s = total_timeout_s  # of each call
        self._callback_url = callback_url
        self._known: _Known | None = None
        self._turns = BoundedSemaphore(AT_ONCE)

    def begin(self, *, is_confirmation: bool = False) -> tuple[str, Started]:
        """Return where to send the browser, and what to keep until it comes back."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        started = Started(state, nonce, verifier, utcnow().timestamp(), is_confirmation)
        again = {"prompt": "login", "max_age": "0"} if is_confirmation else {}
        with self._turn():
            metadata = self._discover().metadata
        with self._session(metadata) as session:
            url, _ = session.create_authorization_url(
                metadata["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce, **again
            )
        return str(url), started

    def finish(self, started: Started, code: str) -> ProviderLogIn:
        """Exchange the code, and check all that came for it. Makes up to five calls."""
        with self._turn(), self._session(metadata := self._discover().metadata) as session:
            answer = self._fetch_token(session, metadata, started, code)
            claims = self._checked(str(answer.get("id_token") or ""), answer, started)
            told = claims if claims.get("email") else {**claims, **self._userinfo(session, metadata, claims)}
        return ProviderLogIn(
            issuer=self.provider.issuer,
            subject=claims["sub"],
            email=told["email"] if isinstance(told.get("email"), str) else "",
            is_email_verified=told.get("email_verified") is True,
            id_token=str(answer["id_token"]),
        )

    def log_out_url(self, id_token: str, back_to: str) -> str | None:
        """Return where a browser logs out at the provider and comes back; None if there is no such page, or it can't be asked."""
        try:
            with self._turn():
                endpoint = self._discover().metadata.get("end_session_endpoint")
        except NotLetIn:
            return None
        if not endpoint:
            return None
        names = {"client_id": self.provider.client_id, "post_logout_redirect_uri": back_to, "id_token_hint": id_token}
        return str(add_params_to_uri(endpoint, [(name, value) for name, value in names.items() if value]))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let few threads at once wait for the provider: where it is slow, the others would all be held up too."""
        if not self._turns.acquire(timeout=LONGEST_WAIT_S):
            raise NotLetIn(LogInWhy.AWAY)
        try:
            yield
        finally:
            self._turns.release()

    def _session(self, metadata: Mapping[str, Any]) -> _Session:
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        is_basic = "client_secret_basic" in methods
        method = "client_secret_basic" if is_basic else "client_secret_post"
        session = _Session(self.provider, self._callback_url, method)
        session.total_timeout_s = self.total_timeout_s
        return session

    def _fetch_token(
        self, session: _Session, metadata: Mapping[str, Any], started: Started, code: str
    ) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = session.fetch_token(
                metadata["token_endpoint"],
                grant_type="authorization_code",
                code=code,
                code_verifier=started.verifier,
                timeout=TIMEOUT_S,
            )
        except SalesforceError as error:  # of the session: no answer in time
            raise _away("token", error) from None
        return answer

    def _checked(self, id_token: str, answer: Mapping[str, Any], started: Started) -> dict[str, Any]:
        """Return the claims of an ID token that is the provider's, ours, of this log-in and of now."""
        try:
            token = self._decoded(id_token)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {"iss": {"essential": True, "value": self.provider.issuer}},
                {
                    "nonce": started.nonce,
                    "client_id": self.provider.client_id,
                    "access_token": answer["access_token"],
                    "max_age": started.is_confirmation,
                },
            )
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("an ID token was refused: %s", type(error).__name__)
            raise NotLetIn(LogInWhy.MISTRUSTED) from None
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        subject = claims["sub"]
        is_ours = self.provider.client_id in audience
        if not is_ours or not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_MAX:
            log.warning("an ID token was refused: %s", "subject" if is_ours else "audience")
            raise NotLetIn(LogInWhy.MISTRUSTED)
        if started.is_confirmation and claims["auth_time"] < started.at - LEEWAY_S:
            raise NotLetIn(LogInWhy.NOT_RECENT)
        return dict(claims)

    def _decoded(self, id_token: str) -> Any:
        """Decode with the known keys, or, if it was made with another, with those of now."""
        known = self._discover()
        registry = JWSRegistry(algorithms=self._algorithms(known.metadata), strict_check_header=False)
        try:
            return jwt.decode(id_token, KeySet.import_key_set(known.keys), registry=registry)
        except (InvalidKeyIdError, JoseError, ValueError):
            keys = self._fetch(known.metadata["jwks_uri"])
            if keys == known.keys:
                raise
            known.keys = keys
            return jwt.decode(id_token, KeySet.import_key_set(known.keys), registry=registry)

    def _algorithms(self, metadata: Mapping[str, Any]) -> list[str]:
        told = metadata.get("id_token_signing_alg_values_supported")
        offered = told if isinstance(told, list) else ["RS256"]
        return [name for name in ALGORITHMS if name in offered]

    def _userinfo(self, session: _Session, metadata: Mapping[str, Any], claims: Mapping[str, Any]) -> dict[str, Any]:
        """Return the address that the provider tells beside the ID token; only what it says of the same subject counts."""
        endpoint = metadata.get("userinfo_endpoint")
        if not endpoint:
            return {}
        try:
            told = _object_of(session.get(endpoint, timeout=TIMEOUT_S))
        except SalesforceError as error:
            raise _away("userinfo", error) from None
        if told.get("sub") != claims["sub"]:
            return {}
        return {name: told.get(name) for name in ("email", "email_verified")}

    def _discover(self) -> _Known:
        known = self._known
        if known is None or known.until < time.monotonic():
            metadata = self._fetch(get_well_known_url(self.provider.issuer, external=True))
            self._check(metadata)
            self._known = known = _Known(metadata, self._fetch(metadata["jwks_uri"]), time.monotonic() + KEPT_S)
        return known

    def _check(self, metadata: Mapping[str, Any]) -> None:
        """Raise NotLetIn if this is another issuer's description, or it leads to addresses that are not safe."""
        urls = [metadata.get(name) for name in ENDPOINTS]
        urls += [metadata[name] for name in MORE_ENDPOINTS if metadata.get(name)]
        if metadata.get("issuer") != self.provider.issuer or not all(self._is_safe(url) for url in urls):
            log.error("the description of the identity provider names another issuer, or addresses that are not safe")
            raise NotLetIn(LogInWhy.MISTRUSTED)

    def _is_safe(self, url: Any) -> bool:
        parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
        is_local = self.provider.issuer.startswith("http:") and parts.scheme == "http" and is_loopback(parts)
        return bool(parts.hostname) and (parts.scheme == "https" or is_local)

    def _fetch(self, url: str) -> dict[str, Any]:
        with BoundedSession() as session:
            session.total_timeout_s = self.total_timeout_s
            _mount(session, self.provider)
            try:
                answer = session.get(url, timeout=TIMEOUT_S)
            except SalesforceError as error:
                raise _away("discovery", error) from None
        found = _object_of(answer)
        if answer.status_code != 200 or not found:
            log.warning("the identity provider answered %s to discovery", answer.status_code)
            raise NotLetIn(LogInWhy.AWAY)
        return found


class _Session(OAuth2Session, BoundedSession):  # type: ignore[misc]
    """Authlib's protocol, each call bounded in time and size."""

    def __init__(self, provider: IdentityProvider, callback_url: str, auth_method: str) -> None:
        OAuth2Session.__init__(
            self,
            provider.client_id,
            provider.client_secret,
            scope=SCOPES,
            redirect_uri=callback_url,
            code_challenge_method="S256",
            token_endpoint_auth_method=auth_method,
        )
        BoundedSession.__init__(self)
        _mount(self, provider)
        self.register_compliance_hook("access_token_response", _refuse_what_is_no_token)


def why_of_callback_error(error: str) -> LogInWhy:
    """Return why there is no log-in, for the `error` that came to the callback."""
    return CALLBACK_ERRORS.get(error, LogInWhy.REFUSED_THERE)


def _mount(session: requests.Session, provider: IdentityProvider) -> None:
    session.mount("https://", LimitedAdapter())
    if provider.issuer.startswith("http:"):
        session.mount("http://", LimitedAdapter())


def _refuse_what_is_no_token(answer: requests.Response) -> requests.Response:
    body = _object_of(answer)
    if answer.status_code == 200 and body.get("access_token") and "error" not in body:
        return answer
    error = body.get("error")
    if error == "invalid_grant":
        raise NotLetIn(LogInWhy.LOST)
    log.error("the identity provider gave no token: status %s", answer.status_code)
    raise NotLetIn(LogInWhy.MISCONFIGURED if error and answer.status_code < 500 else LogInWhy.AWAY)


def _object_of(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _away(what: str, error: SalesforceError) -> NotLetIn:
    log.warning("the identity provider did not answer (%s): %s", what, error.detail)
    return NotLetIn(LogInWhy.AWAY)
