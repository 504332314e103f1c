"""Apps, authorization codes, approvals (refresh tokens) and sessions (access tokens).

An approval is one user's grant to one app. Each refresh token is one approval, and an app keeps at most five for a user: the
sixth revokes the one that was used least recently. With rotation a refresh token lives until its first use; using it
again kills the approval and all its sessions. A session dies after two hours without use, and says so by 401 alone: no
answer ever carries `expires_in`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orgsim.errors import OAuthError

if TYPE_CHECKING:
    from orgsim.org import Org
    from orgsim.people import User

CODE_SECONDS = 15 * 60
APPROVALS_PER_USER = 5
REFRESH_SCOPES = frozenset({"refresh_token", "offline_access"})
_KNOWN_SCOPES = frozenset(
    {
        "api",
        "web",
        "full",
        "id",
        "openid",
        "profile",
        "email",
        "address",
        "phone",
        "chatter_api",
        "custom_permissions",
        "visualforce",
        *REFRESH_SCOPES,
    }
)


@dataclass
class App:
    """An external client app, or a connected app (external=False) as its admin set it up.

    installed False: users cannot authorize it (external: an error on the callback; connected: a hosted page).
    allowance: calls a day that this app alone may make, shown in Sforce-Limit-Info.
    """

    key: str
    secret: str
    callback_urls: list[str]
    scopes: list[str]
    name: str = "AdvisorStream Integration"
    require_pkce: bool = True
    rotate: bool = False
    installed: bool = True
    external: bool = True
    blocked: bool = False
    admin_approved_only: bool = False
    ip_restricted: bool = False
    allowance: int | None = None
    calls: int = 0

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "secret"}


@dataclass
class Code:
    """An authorization code; `challenge` None when the request carried none."""

    value: str
    app: App
    user: User
    redirect_uri: str
    scopes: list[str]
    challenge: str | None
    method: str | None
    issued_at: float
    used: bool = False


@dataclass
class Approval:
    """`refresh_token` is the only one that works; `retired` are those that rotation replaced."""

    app: App
    user: User
    scopes: list[str]
    refresh_token: str
    used_at: float
    revoked: bool = False
    retired: set[str] = field(default_factory=set)


@dataclass
class Session:
    """An access token."""

    token: str
    app: App
    user: User
    scopes: list[str]
    approval: Approval | None
    issued_at: float
    used_at: float
    revoked: bool = False

    @property
    def allows_api(self) -> bool:
        return bool({"api", "full"} & set(self.scopes))

    @property
    def allows_identity(self) -> bool:
        return bool({"id", "openid", "full", "profile"} & set(self.scopes))


class Grants:
    """Everything that was granted in one org."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._lock = threading.RLock()
        self.apps: dict[str, App] = {}
        self._codes: dict[str, Code] = {}
        self._approvals: list[Approval] = []
        self._by_refresh: dict[str, Approval] = {}
        self._sessions: dict[str, Session] = {}
        self.browsers: dict[str, str] = {}

    # -- apps

    def register(self, app: App) -> App:
        unknown = set(app.scopes) - _KNOWN_SCOPES
        if unknown:
            raise ValueError(f"unknown scopes: {', '.join(sorted(unknown))}")
        self.apps[app.key] = app
        return app

    def change_app(self, key: str, **changes: Any) -> App:
        """Change an app. Blocking it ends its sessions as well."""
        app = self.apps[key]
        for name, value in changes.items():
            if name not in App.__dataclass_fields__:
                raise ValueError(f"an app has no {name}")
            setattr(app, name, value)
        if app.key != key:
            self.apps[app.key] = self.apps.pop(key)
        if app.blocked:
            self._end(s for s in self._sessions.values() if s.app is app)
        return app

    def authenticate(self, key: str, secret: str | None) -> App:
        """Return the app with this key and secret; OAuthError if there is none."""
        app = self.apps.get(key)
        if app is None:
            raise OAuthError("invalid_client_id", "client identifier invalid")
        if not hmac.compare_digest((secret or "").encode(), app.secret.encode()):
            raise OAuthError("invalid_client", "invalid client credentials")
        return app

    # -- codes

    def make_code(
        self, app: App, user: User, redirect_uri: str, scopes: list[str], challenge: str | None, method: str | None
    ) -> str:
        value = f"aPrx{self._token(64)}.{self._token(22)}=="
        self._codes[value] = Code(
            value, app, user, redirect_uri, scopes, challenge, method, self._org.clock.timestamp()
        )
        return value

    def exchange(
        self, app: App, value: str, redirect_uri: str | None, verifier: str | None, base_url: str
    ) -> dict[str, Any]:
        """Return the token answer for a code. A failed attempt uses the code up as well."""
        with self._lock:
            code = self._codes.get(value)
            if code is None or code.app is not app:
                raise OAuthError("invalid_grant", "invalid authorization code")
            age = self._org.clock.timestamp() - code.issued_at
            if code.used or age > CODE_SECONDS:
                raise OAuthError("invalid_grant", "expired authorization code")
            if redirect_uri != code.redirect_uri:
                raise OAuthError("redirect_uri_mismatch", "redirect_uri must match configuration")
            code.used = True
            if code.challenge is not None and not _verifies(code, verifier):
                raise OAuthError("invalid_grant", "invalid code verifier")
            return self.grant(app, code.user, code.scopes, base_url)

    # -- tokens

    def grant(self, app: App, user: User, scopes: list[str], base_url: str) -> dict[str, Any]:
        """Make an approval (if the scopes allow refreshing) and a session; return the token answer."""
        with self._lock:
            self._check_user(app, user)
            approval = self._approve(app, user, scopes) if REFRESH_SCOPES & set(scopes) else None
            session = self._open(app, user, scopes, approval)
            answer = self._answer(session, base_url)
            if approval is not None:
                answer["refresh_token"] = approval.refresh_token
            return answer

    def _approve(self, app: App, user: User, scopes: list[str]) -> Approval:
        same = [a for a in self._approvals if a.app is app and a.user is user and not a.revoked]
        for oldest in sorted(same, key=lambda a: a.used_at)[: max(0, len(same) - APPROVALS_PER_USER + 1)]:
            self._revoke(oldest)
        approval = Approval(app, user, scopes, self._refresh_token(), self._org.clock.timestamp())
        self._approvals.append(approval)
        self._by_refresh[approval.refresh_token] = approval
        return approval

    def refresh(self, app: App, token: str, base_url: str) -> dict[str, Any]:
        with self._lock:
            approval = self._by_refresh.get(token)
            if approval is None or approval.app is not app or approval.revoked:
                raise OAuthError("invalid_grant", "expired access/refresh token")
            if token in approval.retired:
                self._revoke(approval)
                raise OAuthError("invalid_grant", "expired access/refresh token")
            self._check_user(app, approval.user)
            approval.used_at = self._org.clock.timestamp()
            session = self._open(app, approval.user, approval.scopes, approval)
            answer = self._answer(session, base_url)
            if app.rotate:
                approval.retired.add(token)
                approval.refresh_token = answer["refresh_token"] = self._refresh_token()
                self._by_refresh[approval.refresh_token] = approval
            return answer

    def _check_user(self, app: App, user: User) -> None:
        if not user.can_log_in:
            raise OAuthError("invalid_grant", "inactive user")
        if app.blocked:
            raise OAuthError("invalid_app_access", "app denied")
        if app.admin_approved_only:
            raise OAuthError("invalid_app_access", "user is not admin approved to access this app")
        if app.ip_restricted:
            raise OAuthError("invalid_grant", "ip restricted or invalid login hours")

    def _open(self, app: App, user: User, scopes: list[str], approval: Approval | None) -> Session:
        now = self._org.clock.timestamp()
        session = Session(self._access_token(), app, user, scopes, approval, now, now)
        self._sessions[session.token] = session
        return session

    def _answer(self, session: Session, base_url: str) -> dict[str, Any]:
        issued_at = str(int(self._org.clock.timestamp() * 1000))
        identity = self.identity_url(session.user)
        scopes = list(session.scopes)
        self._org.rng.shuffle(scopes)
        digest = hmac.new(session.app.secret.encode(), (identity + issued_at).encode(), hashlib.sha256).digest()
        return {
            "access_token": session.token,
            "signature": base64.b64encode(digest).decode(),
            "scope": " ".join(scopes),
            "instance_url": self._org.settings.instance_url or base_url,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": issued_at,
        }

    def identity_url(self, user: User) -> str:
        """Return the address in `id` and `sub`; its host is the log-in host, not the API's."""
        host = "test" if self._org.is_sandbox else "login"
        return f"https://{host}.salesforce.com/id/{self._org.id}/{user.id}"

    def _access_token(self) -> str:
        return f"{self._org.id[:15]}!AQEAQ{self._token(86)}.{self._token(4)}"

    def _refresh_token(self) -> str:
        return f"5Aep861{self._token(72)}"

    @staticmethod
    def _token(length: int) -> str:
        return secrets.token_urlsafe(length)[:length].replace("-", "x")

    # -- sessions

    def find_session(self, token: str) -> Session | None:
        """Return a session that works now, and record its use; None otherwise."""
        session = self._sessions.get(token)
        if session is None or session.revoked or not session.user.can_log_in:
            return None
        now = self._org.clock.timestamp()
        if now - session.used_at > self._org.settings.session_minutes * 60:
            return None
        session.used_at = now
        return session

    def has_approved(self, app: App, user: User, scopes: Iterable[str]) -> bool:
        wanted = set(scopes)
        return any(
            a.app is app and a.user is user and not a.revoked and wanted <= set(a.scopes) for a in self._approvals
        )

    @property
    def approvals(self) -> dict[str, Approval]:
        """Return live approvals by refresh token."""
        with self._lock:
            return {a.refresh_token: a for a in self._approvals if not a.revoked}

    def expire_sessions(self, user_id: str | None = None) -> None:
        with self._lock:
            self._end(s for s in self._sessions.values() if user_id in {None, s.user.id})

    def revoke_approvals(self, user_id: str | None = None, key: str | None = None) -> None:
        with self._lock:
            for approval in self._approvals:
                if user_id in {None, approval.user.id} and key in {None, approval.app.key}:
                    self._revoke(approval)
            self._end(s for s in self._sessions.values() if user_id in {None, s.user.id} and key in {None, s.app.key})

    def revoke_token(self, token: str) -> None:
        """Revoke a refresh token with its sessions, or an access token alone; OAuthError when it is unknown or revoked."""
        with self._lock:
            approval = self._by_refresh.get(token)
            session = self._sessions.get(token)
            if approval is not None and not approval.revoked and token == approval.refresh_token:
                self._revoke(approval)
            elif session is not None and not session.revoked:
                session.revoked = True
            else:
                raise OAuthError("invalid_token", "invalid token: " + token[:8])

    def _revoke(self, approval: Approval) -> None:
        approval.revoked = True
        self._end(s for s in self._sessions.values() if s.approval is approval)

    @staticmethod
    def _end(sessions: Iterable[Session]) -> None:
        for session in sessions:
            session.revoked = True


def _verifies(code: Code, verifier: str | None) -> bool:
    """Return whether the verifier fits. Without code_challenge_method the challenge is plain text, so a hash never fits."""
    if not verifier:
        return False
    if (code.method or "plain").upper() == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return hmac.compare_digest(verifier, code.challenge or "")
