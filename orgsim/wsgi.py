"""The org as a WSGI application: faults, the call log, sessions, the allowance and the headers around every answer.

Addresses under /services imitate Salesforce; the rest is the org's own page and control API.
"""

from __future__ import annotations

import io
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from flask import Flask
from werkzeug.test import run_wsgi_app

from orgsim.answers import ANSWERS, HTML, JSON, Answer
from orgsim.call_log import Call
from orgsim.errors import ApiError, invalid_session, session_not_for_rest
from orgsim.flask_app import make_web_app
from orgsim.limits import Allowance
from orgsim.rest import RestApi, check_version, note_soql, parse_params, tags_of, versions
from orgsim.rest_messages import ApiRequest, Reply
from orgsim.trouble import Fault
from orgsim.trouble import Request as Asked

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from orgsim.oauth import Session
    from orgsim.org import Org

MAX_REQUEST_HEAD = 16_384
_MAX_BODY = 32 * 1024 * 1024
_NO_STORE = "no-cache,must-revalidate,max-age=0,no-store,private"
_OAUTH_KINDS = frozenset({"authorize", "token", "revoke", "userinfo"})
_DATA_ROOT = "/services/data"


class ConnectionResetByOrgError(Exception):
    """Tells the server to reset the connection; the answer, if there was one, is lost."""


@dataclass
class Outgoing:
    """An answer on its way out. `cut`: how many bytes of the body arrive before the connection ends; None: all."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    cut: int | None = None

    def header(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def set_header(self, name: str, value: str) -> None:
        self.headers = [(k, v) for k, v in self.headers if k.lower() != name.lower()] + [(name, value)]


def base_url_of(environ: WSGIEnvironment) -> str:
    return f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', environ['SERVER_NAME'])}"


class OrgApp:
    """WSGI application of one org. `closing` ends all waiting when the server stops."""

    def __init__(self, org: Org, *, advisorstream_url: str | None = None) -> None:
        self.org = org
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self._rest = RestApi(org)
        self._advisorstream_url = advisorstream_url
        self._meters: dict[str, Allowance] = {}
        self._instance = secrets.token_hex(4)

    @cached_property
    def _web(self) -> Flask:
        """The Flask app, made at the first request for a page: its routes take longer to compile than all the rest."""
        return make_web_app(self.org, self._advisorstream_url)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        self.org.settle()
        if path.startswith(_DATA_ROOT):
            outgoing = self._logged(environ, path, "data")
        elif path.startswith(("/services/oauth2/", "/.well-known/")):
            outgoing = self._logged(environ, path, "oauth")
        else:
            return self._web.wsgi_app(environ, start_response)
        return _send(outgoing, environ, start_response)

    # -- log and faults

    def _logged(self, environ: WSGIEnvironment, path: str, area: str) -> Outgoing:
        started = time.perf_counter()
        body = _read_body(environ)
        cookies = tuple(part.split("=")[0].strip() for part in environ.get("HTTP_COOKIE", "").split(";") if "=" in part)
        session = self._session(environ) if area == "data" else None
        tags = _tags(environ["REQUEST_METHOD"], path, area, body)
        call = self.org.calls.open(
            at=self.org.clock.seconds(),
            method=environ["REQUEST_METHOD"],
            path=path,
            tags=tags,
            user_id=session.user.id if session else None,
            cookies=cookies,
        )
        params = parse_params(environ.get("QUERY_STRING", ""))
        note_soql(call, params)
        fault = self.org.trouble.pick(Asked(call.method, path, tags, _all_soql(call, body), call.user_id))
        call.fault = fault.name if fault else None

        def work(short_by: int = 0) -> Outgoing:
            if area == "oauth":
                return self._oauth(environ, body)
            if self.org.settings.old_host and not self._is_at_home(environ):
                return self._moved(environ, self.org.settings.old_host)
            return self._data(environ, path, params, body, session, call, short_by)

        try:
            outgoing = self._with_fault(fault, work, environ, call) if fault else work()
            call.status = outgoing.status
            return outgoing
        finally:
            call.ms = (time.perf_counter() - started) * 1000

    def _with_fault(
        self, fault: Fault, work: Callable[..., Outgoing], environ: WSGIEnvironment, call: Call
    ) -> Outgoing:
        answer = fault.replacement
        if answer is not None:
            return self._replaced(answer, fault, environ, call)
        seconds = float(fault.details.get("seconds", 3600 if fault.behaviour == "hang" else 1))
        gate: threading.Event = fault.details.get("gate", self.closing)
        match fault.behaviour:
            case "slow":
                gate.wait(seconds)
                return work()
            case "hang":
                self.closing.wait(seconds)
                raise ConnectionResetByOrgError
            case "reset":
                raise ConnectionResetByOrgError
            case "late_work":
                self.org.defer(seconds, work)
                self.closing.wait(float(fault.details.get("wait", 0)))
                raise ConnectionResetByOrgError
            case "redirect":
                location = str(fault.details.get("location", base_url_of(environ) + "/elsewhere"))
                return Outgoing(
                    int(fault.details.get("status", 302)), b"", [("Location", location), ("Content-Type", HTML)]
                )
            case "huge":
                return Outgoing(200, _huge(int(fault.details.get("mb", 64))), [("Content-Type", JSON)])
            case "short_page":
                return work(int(fault.details.get("by", 1)))
            case _:
                return self._changed_answer(fault, work(), seconds, gate)

    def _changed_answer(self, fault: Fault, outgoing: Outgoing, seconds: float, gate: threading.Event) -> Outgoing:
        """Return the answer of work that is done, as the fault changes it."""
        match fault.behaviour:
            case "slow_after":
                gate.wait(seconds)
            case "reset_after":
                raise ConnectionResetByOrgError
            case "truncated":
                outgoing.set_header("Content-Length", str(len(outgoing.body)))
                outgoing.cut = len(outgoing.body) // 2
            case "truncated_json":
                outgoing.body = outgoing.body[: len(outgoing.body) * 2 // 3]
            case "wrong_content_type":
                outgoing.set_header("Content-Type", HTML)
            case "foreign_next":
                host = str(fault.details.get("host", "https://evil.example"))
                outgoing.body = outgoing.body.replace(b"/services/data/v", host.encode() + b"/services/data/v")
            case "no_limit_info":
                outgoing.headers = [(k, v) for k, v in outgoing.headers if k.lower() != "sforce-limit-info"]
            case _:
                raise AssertionError(fault.behaviour)
        return outgoing

    def _replaced(self, answer: Answer, fault: Fault, environ: WSGIEnvironment, call: Call) -> Outgoing:
        """Return a fault's answer. The authorize endpoint redirects to the callback or, with hosted=True, to a hosted page."""
        if "authorize" in call.tags and isinstance(answer.body, dict):
            environ["practice.authorize_error"] = (
                answer.body["error"],
                answer.body["error_description"],
                bool(fault.details.get("hosted")),
            )
            return self._oauth(environ, b"")
        headers = [("Content-Type", answer.content_type), *answer.headers.items()]
        if answer.status == 304 or answer.body is None:
            headers = [h for h in headers if h[0] != "Content-Type"]
        return Outgoing(answer.status, answer.content, headers)

    # -- an org that has moved to another host

    def _is_at_home(self, environ: WSGIEnvironment) -> bool:
        home = self.org.settings.instance_url
        return home is None or urlsplit(home).netloc == environ.get("HTTP_HOST")

    def _moved(self, environ: WSGIEnvironment, how: str) -> Outgoing:
        """Answer at the old host of an org that has moved; log-ins and refreshes go on there."""
        match how:
            case "redirect":
                location = f"{self.org.settings.instance_url}{environ['PATH_INFO']}"
                return Outgoing(301, b"", [("Location", location), ("Content-Type", HTML)])
            case "404":
                return Outgoing(
                    404, b"<html><body><h1>URL No Longer Exists</h1></body></html>", [("Content-Type", HTML)]
                )
            case "420":
                answer = ANSWERS["edge_420"]
                return Outgoing(answer.status, answer.content, [("Content-Type", answer.content_type)])
            case "hang":
                self.closing.wait(3600)
        raise ConnectionResetByOrgError

    # -- OAuth

    def _oauth(self, environ: WSGIEnvironment, body: bytes) -> Outgoing:
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        chunks, status, headers = run_wsgi_app(self._web.wsgi_app, environ, buffered=True)
        content = b"".join(chunks)
        return Outgoing(int(status.split()[0]), content, [(k, v) for k, v in headers if k != "Content-Length"])

    # -- data

    def _session(self, environ: WSGIEnvironment) -> Session | None:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return self.org.grants.find_session(token.strip()) if scheme in {"Bearer", "OAuth"} else None

    def _data(
        self,
        environ: WSGIEnvironment,
        path: str,
        params: dict[str, str],
        body: bytes,
        session: Session | None,
        call: Call,
        short_by: int,
    ) -> Outgoing:
        head = environ.get("REQUEST_URI", path)
        if len(head) > MAX_REQUEST_HEAD:
            return self._replaced(ANSWERS["uri_too_long"], Fault(0, ""), environ, call)
        # Split before decoding: a key may hold an encoded slash.
        parts = tuple(unquote(p) for p in head.partition("?")[0].split("/")[3:] if p)
        if not parts:
            return self._finish(Reply(200, versions()), environ, None, call)
        try:
            version = check_version(parts[0])
            admitted = self._admit(environ, session, call)
        except ApiError as error:
            if error.code == "INVALID_SESSION_ID" and session is None and _wants_xml(environ):
                return self._replaced(ANSWERS["xml_401"], Fault(0, ""), environ, call)
            return self._finish(Reply(error.status, [error.entry()]), environ, session, call)
        request = ApiRequest(
            environ["REQUEST_METHOD"],
            parts[1:],
            params,
            _headers(environ),
            body,
            version,
            admitted,
            self.org.access(admitted.user),
            call,
            short_by,
        )
        call.soql = tuple(params[k] for k in ("q",) if k in params)
        return self._finish(self._rest.handle(request), environ, admitted, call)

    def _admit(self, environ: WSGIEnvironment, session: Session | None, call: Call) -> Session:
        """Return the session if it may call now, and count the call; ApiError otherwise."""
        header = environ.get("HTTP_AUTHORIZATION", "")
        if header and header.partition(" ")[0] not in {"Bearer", "OAuth"}:
            raise ApiError(401, "INVALID_AUTH_HEADER", "INVALID_AUTH_HEADER")
        if session is None:
            raise invalid_session()
        if not session.allows_api:
            raise session_not_for_rest()
        if not session.user.api_enabled:
            raise ApiError(403, "API_CURRENTLY_DISABLED", "API is currently disabled for this user.")
        settings, app = self.org.settings, session.app
        meter = self._meters.setdefault(app.key, Allowance(self.org.clock))
        over = self.org.allowance.used() >= settings.api_limit
        if over or (app.allowance is not None and meter.used() >= app.allowance):
            raise ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self.org.allowance.spend()
        meter.spend()
        call.counted = 1
        return session

    def _finish(self, reply: Reply, environ: WSGIEnvironment, session: Session | None, call: Call) -> Outgoing:
        """Return a reply with the headers and cookies that Salesforce sends. X-PrettyPrint indents the JSON."""
        headers = [
            *reply.headers.items(),
            ("Cache-Control", _NO_STORE),
            ("X-Robots-Tag", "none"),
            ("Vary", "Accept-Encoding"),
            ("X-SFDC-Request-Id", f"{self._instance}{call.number:024x}"),
            *self._cookies(environ),
        ]
        if session is not None and call.counted and reply.status != 204 and self.org.settings.limit_info != "absent":
            headers.append(("Sforce-Limit-Info", self._limit_info(session)))
        if self.org.settings.api_warning:
            headers.append(("Warning", f'299 - "{self.org.settings.api_warning}"'))
        if reply.body is None:
            return Outgoing(reply.status, b"", headers)
        pretty = orjson.OPT_INDENT_2 if environ.get("HTTP_X_PRETTYPRINT") == "1" else 0
        content = orjson.dumps(reply.body, option=pretty)
        headers.append(("Content-Type", JSON))
        return Outgoing(reply.status, content, headers)

    def _limit_info(self, session: Session) -> str:
        used = self.org.allowance.used()
        if self.org.settings.limit_info == "stepping":
            used = max(0, used - self.org.rng.randrange(4))
        info = f"api-usage={used}/{self.org.settings.api_limit}"
        app = session.app
        if app.allowance is not None:
            name = app.name.replace(" ", "_")
            info += f"; per-app-api-usage={self._meters[app.key].used()}/{app.allowance}(appName={name})"
        return info

    @staticmethod
    def _cookies(environ: WSGIEnvironment) -> list[tuple[str, str]]:
        """Return the cookies that the API sets; the log shows clients that share a cookie jar between tenants."""
        secure = "; secure" if environ["wsgi.url_scheme"] == "https" else ""
        cookies = [("Set-Cookie", f"CookieConsentPolicy=0:1; path=/; Max-Age=31536000{secure}")]
        if "BrowserId=" not in environ.get("HTTP_COOKIE", ""):
            host = environ.get("HTTP_HOST", "")
            domain = "domain=.salesforce.com; " if host.endswith(".salesforce.com") else ""
            value = secrets.token_urlsafe(16)
            cookies.append(("Set-Cookie", f"BrowserId={value}; {domain}path=/; Max-Age=31536000{secure}; SameSite=Lax"))
        return cookies


def _tags(method: str, path: str, area: str, body: bytes) -> tuple[str, ...]:
    """Return the area and the kind of a request, which faults match and the log shows."""
    if area == "data":
        parts = tuple(p for p in path.split("/") if p)
        return (area, "versions") if len(parts) <= 2 else (area, *tags_of(method, parts[3:]))
    last = path.rstrip("/").rpartition("/")[2]
    kind = last if last in _OAUTH_KINDS else "openid" if path.startswith("/.well-known") else "unknown"
    if kind != "token":
        return (area, kind)
    grant = parse_qs(body.decode("utf-8", "replace")).get("grant_type", [""])[0]
    more = {"authorization_code": ("token_code",), "refresh_token": ("token_refresh",)}.get(grant, ())
    return (area, kind, *more)


def _all_soql(call: Call, body: bytes) -> tuple[str, ...]:
    """Return the queries of this request, those inside a composite included (as they stand in its body)."""
    return (
        (*call.soql, unquote(body.decode("utf-8", "replace").replace("+", " ")))
        if "composite" in call.tags
        else call.soql
    )


def _read_body(environ: WSGIEnvironment) -> bytes:
    if environ.get("wsgi.input_terminated"):
        return bytes(environ["wsgi.input"].read(_MAX_BODY))
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return bytes(environ["wsgi.input"].read(min(length, _MAX_BODY))) if length else b""


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    found = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
    return {**found, "content-type": environ.get("CONTENT_TYPE", "")}


def _wants_xml(environ: WSGIEnvironment) -> bool:
    """Return whether a bad token is answered in XML, labelled HTML: in writes without a JSON content type."""
    return environ["REQUEST_METHOD"] in {"POST", "PATCH", "PUT"} and "json" not in environ.get("CONTENT_TYPE", "")


def _huge(megabytes: int) -> bytes:
    return b'[{"message":"' + b"x" * (megabytes * 1024 * 1024) + b'"}]'


def _send(outgoing: Outgoing, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    body = outgoing.body
    headers = list(outgoing.headers)
    if outgoing.cut is not None:
        body = body[: outgoing.cut]
        headers.append(("Connection", "close"))
    start_response(f"{outgoing.status} {_REASONS.get(outgoing.status, 'Unknown')}", headers)
    return [body] if body and environ["REQUEST_METHOD"] != "HEAD" else []


_REASONS: dict[int, str] = {
    200: "OK",
    201: "Created",
    204: "No Content",
    300: "Multiple Choices",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    414: "Request-URI Too Large",
    415: "Unsupported Media Type",
    420: "Enhance Your Calm",
    428: "Precondition Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
