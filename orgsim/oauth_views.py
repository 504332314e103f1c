"""The OAuth endpoints and their pages: log-in, Allow or Deny, and errors that are never sent to the app.

Errors of /token and /revoke are objects with status 400; /userinfo answers a bad token with 403 and one word of plain text.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from orgsim.answers import HTML, JSON
from orgsim.clock import to_salesforce
from orgsim.current_org import base_url, current_org
from orgsim.errors import OAuthError
from orgsim.oauth import App, Session
from orgsim.people import User

bp = Blueprint("oauth", __name__)
SESSION_COOKIE = "sid_Client"
_FORM = "application/x-www-form-urlencoded"
_DENIED = ("access_denied", "end-user denied authorization")
_GENERIC = ("OAUTH_APPROVAL_ERROR_GENERIC", "An unexpected error has occurred during authentication. Please try again.")


@bp.after_request
def refuse_frames(answer: BaseResponse) -> BaseResponse:
    """Forbid frames, as Salesforce's pages do."""
    answer.headers.setdefault("X-Frame-Options", "DENY")
    return answer


@dataclass(frozen=True)
class Authorization:
    """A checked authorize request; `requested` are its scopes, or all of the app's."""

    app: App
    redirect_uri: str
    state: str | None
    requested: tuple[str, ...]
    challenge: str | None
    method: str | None
    prompt: frozenset[str]


# -- authorize


@bp.route("/services/oauth2/authorize", methods=["GET", "POST"])
def authorize() -> BaseResponse:
    checked = _checked()
    if not isinstance(checked, Authorization):
        return checked
    forced = request.environ.get("practice.authorize_error")
    if forced:
        return _error_page(forced[0], forced[1], checked.state) if forced[2] else _back(checked, *forced[:2])
    if checked.app.require_pkce and not checked.challenge:
        return _missing_challenge()
    user = _browser_user()
    if user is None or (checked.prompt & {"login", "select_account"} and not _just_logged_in()):
        if request.values.get("immediate") == "true":
            return _back(checked, "immediate_unsuccessful", None)
        return _to_login()
    return _decide(checked, user)


def _checked() -> Authorization | BaseResponse:
    """Return the checked request, or the error: only a registered redirect_uri is redirected to."""
    values = request.values
    app = current_org().grants.apps.get(values.get("client_id", ""))
    state = values.get("state")
    if app is None:
        return _error_page("invalid_client_id", "client identifier invalid", state)
    redirect_uri = values.get("redirect_uri")
    if not redirect_uri:
        return _error_page("redirect_uri_missing", "redirect_uri must be provided", state)
    if redirect_uri not in app.callback_urls:
        return _error_page("redirect_uri_mismatch", "redirect_uri must match configuration", state)
    if not app.installed and not app.external:
        return _error_page("invalid_client", "app must be installed into org", state)
    scopes = tuple(values.get("scope", "").split()) or tuple(app.scopes)
    checked = Authorization(
        app,
        redirect_uri,
        state,
        scopes,
        values.get("code_challenge"),
        values.get("code_challenge_method"),
        frozenset(values.get("prompt", "").split()),
    )
    if not app.installed:
        return _back(checked, "OAUTH_EC_APP_NOT_FOUND", "External client app is not installed in this org")
    if values.get("response_type") != "code":
        return _back(checked, "unsupported_response_type", "response type not supported")
    return checked


def _decide(checked: Authorization, user: User) -> BaseResponse:
    """Answer an authorize request of a user who is logged in."""
    if checked.app.blocked:
        return _back(checked, "OAUTH_APP_BLOCKED", "this app is blocked by admin")
    if checked.app.admin_approved_only:
        return _back(checked, "invalid_app_access", "user is not admin approved to access this app")
    if not set(checked.requested) <= _with_twins(checked.app.scopes):
        return _error_page(*_GENERIC, checked.state)
    grants = current_org().grants
    if grants.has_approved(checked.app, user, checked.requested) and "consent" not in checked.prompt:
        return _allow(checked, user)
    if request.values.get("immediate") == "true":
        return _back(checked, "immediate_unsuccessful", None)
    return make_response(
        render_template(
            "consent.html",
            org=current_org(),
            app=checked.app,
            user=user,
            scopes=checked.requested,
            asked=request.query_string.decode(),
        )
    )


def _with_twins(scopes: list[str]) -> set[str]:
    """Return the scopes with both names of the refresh scope, refresh_token and offline_access."""
    twins = {"refresh_token", "offline_access"}
    return {*scopes, *(twins if twins & set(scopes) else ())}


@bp.post("/setup/secur/RemoteAccessAuthorizationPage.apexp")
def consent() -> BaseResponse:
    """Allow or Deny; the authorize request is in the query string and is checked again."""
    user = _browser_user()
    checked = _checked()
    if not isinstance(checked, Authorization):
        return checked
    if user is None:
        return _to_login()
    if "save" in request.form:
        return _allow(checked, user)
    return _back(checked, *_DENIED)


def _allow(checked: Authorization, user: User) -> BaseResponse:
    code = current_org().grants.make_code(
        checked.app, user, checked.redirect_uri, list(checked.requested), checked.challenge, checked.method
    )
    # Salesforce encodes the code's = and leaves its dot alone.
    state = {} if checked.state is None else {"state": checked.state}
    return _redirect(checked.redirect_uri, {"code": code, **state})


def _back(checked: Authorization, error: str, description: str | None) -> BaseResponse:
    parameters = {"error": error}
    if description is not None:
        parameters["error_description"] = description
    if checked.state is not None and current_org().settings.state_on_error:
        parameters["state"] = checked.state
    return _redirect(checked.redirect_uri, parameters)


def _redirect(redirect_uri: str, parameters: dict[str, str]) -> BaseResponse:
    mark = "&" if urlsplit(redirect_uri).query else "?"
    return redirect(f"{redirect_uri}{mark}{urlencode(parameters)}", 302)


def _error_page(error: str, description: str, state: str | None) -> BaseResponse:
    """Redirect to Salesforce's own page for errors that the app is never told."""
    parameters = {"error": error, "error_description": description, **({} if state is None else {"state": state})}
    return redirect(f"/setup/secur/RemoteAccessErrorPage.apexp?{urlencode(parameters)}", 302)


@bp.get("/setup/secur/RemoteAccessErrorPage.apexp")
def error_page() -> BaseResponse:
    return make_response(
        render_template(
            "oauth_error.html",
            org=current_org(),
            error=request.args.get("error", ""),
            description=request.args.get("error_description", ""),
        )
    )


def _missing_challenge() -> BaseResponse:
    """Without a content type: browsers save it as a file named "authorize"."""
    answer = make_response("error=invalid_request&error_description=missing%20required%20code%20challenge", 400)
    del answer.headers["Content-Type"]
    return answer


# -- log-in


def _browser_user() -> User | None:
    user_id = current_org().grants.browsers.get(request.cookies.get(SESSION_COOKIE, ""))
    user = current_org().people.users.get(user_id or "")
    return user if user and user.can_log_in else None


def _to_login() -> BaseResponse:
    asked = "/services/oauth2/authorize?" + urlencode(list(request.values.items(multi=True)))
    hint = request.values.get("login_hint", "")
    return redirect(f"/login?startURL={quote(asked, safe='')}&un={quote(hint, safe='')}", 302)


def _just_logged_in() -> bool:
    """Return whether the request carries the log-in page's one-time mark: prompt=login asks for a log-in once."""
    mark = request.values.get("login_done", "")
    return bool(mark) and current_org().grants.browsers.pop(f"done:{mark}", None) is not None


@bp.get("/login")
def login() -> BaseResponse:
    return _login_page(request.args.get("un", ""), None)


def _login_page(username: str, problem: str | None) -> BaseResponse:
    org = current_org()
    page = render_template(
        "login.html",
        org=org,
        users=[u for u in org.people.users.values() if u.can_log_in],
        username=username,
        problem=problem,
        start_url=_start_url(),
    )
    return make_response(page, 200)


def _start_url() -> str:
    """Return the path to go to after the log-in; only a path of this org."""
    wanted = request.values.get("startURL", "/")
    return wanted if wanted.startswith("/") and not wanted.startswith(("//", "/\\")) else "/"


@bp.post("/login")
def log_in() -> BaseResponse:
    org = current_org()
    if "as" in request.form:
        user = org.people.users.get(request.form["as"])
    else:
        user = org.people.find_username(request.form.get("username", ""))
        if user and not secrets.compare_digest(user.password, request.form.get("pw", "")):
            user = None
    if user is None or not user.can_log_in:
        return _login_page(
            request.form.get("username", ""),
            "Please check your username and password. If you still can't log "
            "in, contact your Salesforce administrator.",
        )
    sid, mark = secrets.token_urlsafe(24), secrets.token_urlsafe(8)
    org.grants.browsers.update({sid: user.id, f"done:{mark}": user.id})
    target = _start_url()
    answer = redirect(
        f"{target}{'&' if '?' in target else '?'}login_done={mark}" if "/authorize?" in target else target, 302
    )
    answer.set_cookie(SESSION_COOKIE, sid, httponly=True, samesite="Lax", secure=request.is_secure)
    return answer


@bp.route("/logout", methods=["GET", "POST"])
def log_out() -> BaseResponse:
    current_org().grants.browsers.pop(request.cookies.get(SESSION_COOKIE, ""), None)
    answer = redirect("/login", 302)
    answer.delete_cookie(SESSION_COOKIE)
    return answer


# -- token, revoke


@bp.route("/services/oauth2/token", methods=["GET", "POST"])
def token() -> Response:
    try:
        return _answer(_granted())
    except OAuthError as error:
        return _answer({"error": error.error, "error_description": error.description}, error.status)


def _granted() -> dict[str, Any]:
    grants, form = current_org().grants, request.form
    if request.method != "POST":
        raise OAuthError("invalid_request", "must use HTTP POST")
    grant_type = form.get("grant_type")
    if grant_type not in {"authorization_code", "refresh_token"}:
        raise OAuthError("unsupported_grant_type", "grant type not supported")
    app = grants.authenticate(*_client())
    if grant_type == "refresh_token":
        return grants.refresh(app, form.get("refresh_token", ""), base_url())
    if not form.get("code"):
        raise OAuthError("invalid_request", "missing required parameter: code")
    return grants.exchange(app, form["code"], form.get("redirect_uri"), form.get("code_verifier"), base_url())


def _client() -> tuple[str, str | None]:
    """Read key and secret from the form, or from HTTP Basic."""
    header = request.headers.get("Authorization", "")
    if header.startswith("Basic ") and "client_id" not in request.form:
        try:
            key, _, secret = base64.b64decode(header[6:]).decode().partition(":")
        except ValueError:
            raise OAuthError("invalid_client", "invalid client credentials") from None
        return key, secret
    return request.form.get("client_id", ""), request.form.get("client_secret")


def _answer(answer: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(answer), status, content_type=JSON, headers={"Cache-Control": "no-cache, no-store"})


@bp.route("/services/oauth2/revoke", methods=["GET", "POST"])
def revoke() -> Response:
    """Answer 200 and an empty body; errors are form-encoded."""
    try:
        current_org().grants.revoke_token(request.values.get("token", ""))
    except OAuthError as error:
        body = urlencode({"error": error.error, "error_description": error.description})
        return Response(body, 400, content_type=_FORM)
    return Response(b"", 200, content_type=HTML)


# -- the user


def _identity_session() -> Session | Response:
    header = request.headers.get("Authorization", "")
    value = header.partition(" ")[2].strip() or request.values.get("oauth_token", "")
    if not value:
        return Response("Missing_OAuth_Token", 403, content_type=HTML)
    session = current_org().grants.find_session(value)
    if session is None or not (session.allows_identity or session.allows_api):
        return Response("Bad_OAuth_Token", 403, content_type=HTML)
    return session


@bp.route("/services/oauth2/userinfo", methods=["GET", "POST"])
def userinfo() -> Response:
    session = _identity_session()
    if isinstance(session, Response):
        return session
    org, user = current_org(), session.user
    host = org.settings.instance_url or base_url()
    return _json(
        {
            "sub": org.grants.identity_url(user),
            "user_id": user.id,
            "organization_id": org.id,
            "preferred_username": user.username,
            "nickname": user.username.partition("@")[0],
            "name": user.name,
            "email": user.email,
            "email_verified": True,
            "given_name": user.first_name,
            "family_name": user.last_name,
            "zoneinfo": "America/Los_Angeles",
            "photos": {"picture": f"{host}/profilephoto/005/F", "thumbnail": f"{host}/profilephoto/005/T"},
            "profile": f"{host}/{user.id}",
            "picture": f"{host}/profilephoto/005/F",
            "address": {},
            "is_salesforce_integration_user": False,
            "urls": _urls(host, user),
            "active": user.active,
            "user_type": "STANDARD",
            "language": "en_US",
            "locale": "en_US",
            "utcOffset": -28800000,
            "updated_at": to_salesforce(org.clock.seconds()).replace(".000+0000", "Z"),
        }
    )


def _urls(host: str, user: User) -> dict[str, str]:
    org_id = current_org().id[:15]
    soap = {
        name: f"{host}/services/Soap/{letter}/{{version}}/{org_id}"
        for name, letter in (("enterprise", "c"), ("metadata", "m"), ("partner", "u"), ("tooling_soap", "T"))
    }
    data = f"{host}/services/data/v{{version}}/"
    rest = {
        name: data + (f"{name}/" if name != "rest" else "")
        for name in ("rest", "sobjects", "search", "query", "recent")
    }
    chatter = {
        name: f"{data}chatter/{name.replace('_', '-')}"
        for name in ("feeds", "groups", "users", "feed_items", "feed_elements")
    }
    return {
        **soap,
        **rest,
        "tooling_rest": f"{data}tooling/",
        "profile": f"{host}/{user.id}",
        **chatter,
        "custom_domain": host,
    }


@bp.get("/.well-known/openid-configuration")
def openid_configuration() -> Response:
    root = base_url()
    oauth = f"{root}/services/oauth2"
    return _json(
        {
            "issuer": root,
            "authorization_endpoint": f"{oauth}/authorize",
            "token_endpoint": f"{oauth}/token",
            "revocation_endpoint": f"{oauth}/revoke",
            "userinfo_endpoint": f"{oauth}/userinfo",
            "jwks_uri": f"{root}/id/keys",
            "registration_endpoint": f"{oauth}/register",
            "introspection_endpoint": f"{oauth}/introspect",
            "end_session_endpoint": f"{root}/services/auth/idp/oidc/logout",
            "frontchannel_logout_supported": True,
            "frontchannel_logout_session_supported": False,
            "scopes_supported": [
                "id",
                "api",
                "web",
                "full",
                "refresh_token",
                "offline_access",
                "openid",
                "profile",
                "email",
                "address",
                "phone",
            ],
            "response_types_supported": ["code", "token", "token id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "display_values_supported": ["page", "popup", "touch"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "private_key_jwt"],
        }
    )


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), 200, content_type=JSON)
