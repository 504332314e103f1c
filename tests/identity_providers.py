"""An OpenID Connect provider that says what a test wants: true, false, late or nothing. It answers over HTTP."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from werkzeug import Request, Response
from werkzeug.serving import make_server

CLIENT_ID, CLIENT_SECRET = "asapp", "the provider's secret"
Claims = dict[str, Any]


@dataclass
class LyingProvider:
    """told: claims of the next ID tokens beside the honest ones; a value of None leaves the claim out."""

    issuer: str = ""
    told: Claims = field(default_factory=dict)
    description: Claims = field(default_factory=dict)
    userinfo: Claims | None = None
    answers: dict[str, Callable[[], Response]] = field(default_factory=dict)  # path -> what is answered instead
    algorithm: str = "RS256"
    key: Any = field(default_factory=lambda: new_key())
    signs_with: Any = None
    asked: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def become_honest(self) -> None:
        self.told, self.description, self.userinfo, self.answers = {}, {}, None, {}
        self.algorithm, self.signs_with = "RS256", None
        self.asked.clear()

    def log_in(self, url: str, **told: Any) -> dict[str, str]:
        """Log a person in who comes to this address; return the parameters of the callback."""
        query = dict(parse_qsl(urlsplit(url).query))
        assert query["code_challenge_method"] == "S256"
        assert query["response_type"] == "code"
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        self.told = {**self.told, **told}
        return {"code": code, "state": query["state"]}

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.asked.append(request.path)
        special = self.answers.get(request.path)
        return (special() if special else self._answer(request))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.path == "/.well-known/openid-configuration":
            return as_json(self._described())
        if request.path == "/keys":
            return as_json(KeySet([self.key]).as_dict(private=False))
        if request.path == "/userinfo":
            return as_json(self.userinfo or {})
        if request.path == "/token":
            return self._token(request)
        return Response(status=404)

    def _described(self) -> Claims:
        paths = {"authorization_endpoint": "/log-in", "token_endpoint": "/token", "jwks_uri": "/keys"}
        more = {"userinfo_endpoint": "/userinfo", "end_session_endpoint": "/log-out"}
        urls = {name: f"{self.issuer}{path}" for name, path in {**paths, **more}.items()}
        algorithms = {"id_token_signing_alg_values_supported": ["RS256", "HS256", "none"]}
        return {"issuer": self.issuer, **urls, **algorithms, **self.description}

    def _token(self, request: Request) -> Response:
        asked = self._codes.pop(request.form["code"], None)
        challenge = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
        fits = asked and asked["code_challenge"] == urlsafe_b64encode(challenge).decode().rstrip("=")
        given = request.authorization
        if not given or (given.username, given.password) != (CLIENT_ID, CLIENT_SECRET):
            return as_json({"error": "invalid_client"}, 401)
        if not asked or not fits or request.form["redirect_uri"] != asked["redirect_uri"]:
            return as_json({"error": "invalid_grant"}, 400)
        return as_json({"access_token": "access", "token_type": "Bearer", "id_token": self._id_token(asked)})

    def _id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        honest = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        if "max_age" in asked:
            honest["auth_time"] = now
        claims = {name: value for name, value in {**honest, **self.told}.items() if value is not None}
        if self.algorithm == "none":
            return ".".join((_encoded({"alg": "none"}), _encoded(claims), ""))
        key = self.signs_with or self.key
        return jwt.encode({"alg": self.algorithm, "kid": key.kid}, claims, key, algorithms=[self.algorithm])


def new_key(key_id: str | None = None) -> Any:
    named = {"kid": key_id} if key_id else {}
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", **named}, auto_kid=not key_id)


def _encoded(part: Claims) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def as_json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, mimetype="application/json")


@contextmanager
def running_provider() -> Iterator[LyingProvider]:
    provider = LyingProvider()
    server = make_server("127.0.0.1", 0, provider, threaded=True)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


class Slowness:
    """Answers that come when the test is over."""

    def __init__(self) -> None:
        self._is_over = Event()

    def __call__(self) -> Response:
        self._is_over.wait(10)
        return Response(status=500)

    def end(self) -> None:
        self._is_over.set()
