"""Our HTTP sessions to Salesforce: everything is limited, and advisors share nothing.

Each call ends after a fixed time. No redirects (a token must not travel), no cookies (the API sets them for all of
.salesforce.com), no .netrc, a bound on the size of an answer, plain http only to a loopback address that configuration
allows. Failures leave here as errors of salesforce/errors.py, since the exceptions of requests and simple-salesforce hold
addresses and bodies. A failure is ambiguous whenever the request may have been carried out: a lead that was sent may
exist.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import orjson
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError

from asapp.core.clock import utcnow
from asapp.salesforce import errors, page_turns
from asapp.salesforce.calls import Listener, MadeCall, kind_of, rows_in
from asapp.salesforce.hosts import is_salesforce_url

TIMEOUT_S = (3.05, 27.0)  # to connect; between two bytes
# For the whole call, from connecting to the last byte, however slowly headers or body arrive. Every lease that is held
# during a call is longer: see docs/decisions/06-leases.md.
TOTAL_TIMEOUT_S = 45.0
HOSTS_KEPT = 64  # to so many orgs shared connections stay open, idle ones too
CALLS_OF_AN_ORG = 4  # side by side on shared connections
MAX_ANSWER_BYTES = 32 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
NO_CONTENT = 204
HALF_A_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
USAGE = re.compile(r"(?<![-\w])api-usage=(\d+)/(\d+)")

_ends_at: ContextVar[float] = ContextVar(
    "call_ends_at", default=float("inf")
)  # of this thread's call, by time.monotonic()


def _time_left(at_most: float | None) -> float:
    """Return the timeout for the next step of this call; raise TimeoutError if its time is used up."""
    left = _ends_at.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the call took too long")
    return left if at_most is None else min(left, at_most)


class _TimedReader(io.RawIOBase):
    """Reads from a socket while the call has time left: a timeout between two bytes alone never ends a slow trickle."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._sock, self._raw, self._between_two_bytes_s = sock, raw, sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_time_left(self._between_two_bytes_s))
        return cast(int | None, self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """Reads status lines (`100 Continue` too), headers and body within the time of the call."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach()))


class _TimedSending:
    """Mixed into urllib3's connections: sends each block within the time of the call."""

    response_class: Any = _TimedResponse
    sock: Any

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(_time_left(self.sock.gettimeout()))
        super().send(data)  # type: ignore[misc]


class _TimedHTTPConnection(_TimedSending, HTTPConnection):
    pass


class _TimedHTTPSConnection(_TimedSending, HTTPSConnection):
    pass


class _TimedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _TimedHTTPConnection


class _TimedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPSConnection


class OrgResponse(requests.Response):
    """An answer that was read within limits; its JSON is decoded fast, and once."""

    _parsed: Any = None

    def json(self, **_kwargs: Any) -> Any:
        try:
            self._parsed = _parsed(self.content) if self._parsed is None else self._parsed
        except (ValueError, RecursionError) as error:
            raise requests.exceptions.JSONDecodeError("not JSON", "", 0) from error
        return self._parsed

    def read_within_limits(self) -> OrgResponse:
        chunks, size = [], 0
        # read1() returns what has arrived; iter_content() waits for a whole chunk, which may take hours.
        while chunk := self.raw.read1(CHUNK_BYTES, decode_content=True):
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                self.close()
                raise errors.TryLater("answer_too_large", is_ambiguous=True)
            chunks.append(chunk)
        self._content, self._content_consumed = b"".join(chunks), True
        return self


class LimitedAdapter(HTTPAdapter):
    """Reads every answer within limits; sends https addresses of a loopback org over http if told to."""

    def __init__(self, over_http: bool = False, hosts_kept: int = 1) -> None:
        """hosts_kept: to so many hosts, the last ones called, connections are kept open: one for each call of a host at once."""
        self.over_http = over_http
        super().__init__(pool_connections=hosts_kept, pool_maxsize=2 if hosts_kept == 1 else CALLS_OF_AN_ORG)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _TimedHTTPPool, "https": _TimedHTTPSPool}

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        response.__class__ = OrgResponse
        return response

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if self.over_http and request.url and request.url.startswith("https://"):
            request.url = "http://" + request.url.removeprefix("https://")
        kwargs["stream"] = True
        response = super().send(request, *args, **kwargs)
        return cast(OrgResponse, response).read_within_limits()


class SharedConnections:
    """Open connections to many orgs, for sessions that are used side by side. They carry no tokens and no cookies."""

    def __init__(self) -> None:
        self._adapters = {over_http: LimitedAdapter(over_http, HOSTS_KEPT) for over_http in (False, True)}

    def adapter(self, over_http: bool) -> LimitedAdapter:
        return self._adapters[over_http]

    def close(self) -> None:
        for adapter in self._adapters.values():
            adapter.close()


class BoundedSession(requests.Session):
    """Ends each of its calls in time. It returns an answer of any status; failures on the way are TryLater."""

    total_timeout_s: float | None = None  # None: TOTAL_TIMEOUT_S

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.adapters.clear()

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["allow_redirects"] = False
        kwargs.setdefault("timeout", TIMEOUT_S)
        total_s = TOTAL_TIMEOUT_S if self.total_timeout_s is None else self.total_timeout_s
        before = _ends_at.set(time.monotonic() + self._time_for(total_s))
        try:
            return super().request(method, url, *args, **kwargs)
        except requests.exceptions.InvalidSchema:
            raise errors.Misconfigured("foreign_host") from None
        except (requests.exceptions.RequestException, HTTPError, OSError) as error:
            if _was_never_sent(error):
                raise errors.TryLater("no_connection", type(error).__name__) from None
            raise errors.TryLater("no_answer", type(error).__name__, is_ambiguous=True) from None
        finally:
            _ends_at.reset(before)

    def _time_for(self, total_s: float) -> float:
        """Return how many seconds a call may take. total_s: how many at most."""
        return total_s

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Return None, always: requests must not even prepare a redirect, and a 3xx is an answer like any other."""
        return


class LimitedSession(BoundedSession):
    """A session with the limits above, to one host of Salesforce."""

    def __init__(
        self,
        origin: str,
        allow_loopback: bool = False,
        total_timeout_s: float | None = None,
        shared: SharedConnections | None = None,
        on_call: Listener | None = None,
    ) -> None:
        """origin: the only scheme and host that may be called; raises Misconfigured if it isn't Salesforce's.

        total_timeout_s: of each call, to make it shorter than TOTAL_TIMEOUT_S. shared: the connections to use instead of its own.
        on_call: is told about each call that was made.
        """
        BoundedSession.__init__(self)
        self._on_call = on_call
        self.total_timeout_s = total_timeout_s
        self._allow_loopback = allow_loopback
        self._shared = shared
        self._go_to(origin)

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        page_turns.claim()
        at, began = utcnow(), time.monotonic()
        try:
            response = super().request(method, url, *args, **kwargs)
        except errors.SalesforceError as error:
            self._tell(at, began, method, url, error.code, 0)
            raise
        if self._on_call is not None:
            rows = rows_in(_json_or_none(response)) if response.status_code < 300 else 0
            self._tell(at, began, method, url, str(response.status_code), rows)
        return response

    def _time_for(self, total_s: float) -> float:
        return page_turns.time_for_call(total_s)

    def _tell(self, at: datetime, began: float, method: str | bytes, url: str | bytes, outcome: str, rows: int) -> None:
        if self._on_call is not None:
            took_ms = round((time.monotonic() - began) * 1000)
            self._on_call(MadeCall(at, kind_of(str(method), str(url)), rows, outcome, took_ms))

    def _go_to(self, origin: str) -> None:
        """Call this host from now on, and no other."""
        if not is_salesforce_url(origin, self._allow_loopback):
            raise errors.Misconfigured("foreign_host")
        self.origin = origin
        host = urlsplit(origin).netloc.removesuffix(":443")
        self.close()
        self.adapters.clear()
        over_http = origin.startswith("http://")
        shared = self._shared
        self.mount(f"https://{host}/", shared.adapter(over_http) if shared else LimitedAdapter(over_http))
        if over_http:
            self.mount(f"http://{host}/", LimitedAdapter())

    def close(self) -> None:
        if self._shared is None:
            super().close()


class TokenSource(Protocol):
    """Gives a session its access token; connections/tokens.py has the real one."""

    @property
    def instance_url(self) -> str: ...

    def access_token(self) -> str: ...

    def refresh(self, stale: str) -> str:
        """Return a token newer than stale; one refresh at a time, across all processes."""
        ...


class OrgSession(LimitedSession):
    """One advisor's session at the org: adds the token, refreshes it once when it has expired, raises for other failures.

    An org may move to another host, and the old one then refuses, hangs, redirects or answers 404 or 420. So the first such
    failure of a session refreshes the token: if the answer names another host, the session goes on there.

    calls: how many requests were sent. usage: (used, allowed) of the org's last 24 hours, as last reported. answered_at,
    asked_at: by Salesforce's clock, of the last answer (asked_at: no later than when it began to work on it). warning: its
    last one about our use of the API, such as a version that will end; empty if there was none.
    """

    def __init__(
        self,
        tokens: TokenSource,
        allow_loopback: bool = False,
        before_call: Callable[[], None] | None = None,
        total_timeout_s: float | None = None,
        shared: SharedConnections | None = None,
        on_call: Listener | None = None,
    ) -> None:
        super().__init__(tokens.instance_url, allow_loopback, total_timeout_s, shared, on_call)
        self.tokens = tokens
        self.before_call = before_call or (lambda: None)
        self.calls = 0
        self.usage: tuple[int, int] | None = None
        self.answered_at: datetime | None = None
        self.took_s = 0.0
        self.warning = ""
        self._refused_fresh = 0  # brand-new tokens refused in a row
        self._earlier_hosts: set[str] = set()
        self._has_looked_elsewhere = False
        self.status: int | None = None  # of the last answer; None: none came

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        page_turns.claim()
        if page_turns.is_time_up():
            raise errors.TryLater("no_answer", "the page has waited long enough")
        token = self.tokens.access_token()
        try:
            return self._accepted(self._call(token, method, self._at_present_host(url), *args, **kwargs))
        except errors.SessionExpired:
            fresh = self.tokens.refresh(token)
            self._follow_org()
        except errors.SalesforceError as error:
            if not self._may_have_moved(error, url):
                raise
            fresh = self._find_elsewhere(token, error)
        try:
            return self._accepted(self._call(fresh, method, self._at_present_host(url), *args, **kwargs))
        except errors.SessionExpired as error:
            raise self._fresh_token_refused(error) from None

    def _may_have_moved(self, error: errors.SalesforceError, url: str | bytes) -> bool:
        """Is this how the host of an org that has moved fails? A record or object that isn't there is also a 404."""
        if self._has_looked_elsewhere:
            return False
        if self.status is None:
            return error.code in ("no_connection", "no_answer")
        is_about_a_record = error.detail == "NOT_FOUND" and "/sobjects/" in str(url)
        return self.status in (*errors.REDIRECTS, 404, 420) and not is_about_a_record

    def _find_elsewhere(self, token: str, error: errors.SalesforceError) -> str:
        """Return a new token for the host that the org has moved to. If it hasn't, the error is raised.

        TryLater with is_ambiguous: it has moved, but the old host may have carried out the call.
        """
        self._has_looked_elsewhere = True
        try:
            fresh = self.tokens.refresh(token)
        except errors.ReconnectNeeded:
            raise
        except errors.SalesforceError:
            raise error from None
        if not self._follow_org():
            raise error
        if isinstance(error, errors.TryLater) and error.is_ambiguous:
            raise errors.TryLater("instance_moved", error.detail, is_ambiguous=True)
        return fresh

    def _follow_org(self) -> bool:
        """Go on at the host that the last refresh named; return whether it is another one."""
        if self.tokens.instance_url == self.origin:
            return False
        self._earlier_hosts.add(urlsplit(self.origin).netloc)
        self._go_to(self.tokens.instance_url)
        return True

    def _at_present_host(self, url: str | bytes) -> str | bytes:
        """Return the address at the org's present host: the caller may have built it before the org moved."""
        parts, here = urlsplit(str(url)), urlsplit(self.origin)
        if parts.netloc not in self._earlier_hosts:
            return url
        return parts._replace(scheme=here.scheme, netloc=here.netloc).geturl()

    def _accepted(self, response: requests.Response) -> requests.Response:
        self._refused_fresh = 0
        return response

    def _fresh_token_refused(self, error: errors.SessionExpired) -> errors.SalesforceError:
        """Return the error for a refused new token: was the session ended again, or is the API closed to this user?"""
        self._refused_fresh += 1
        if self._refused_fresh > 1:
            return errors.Misconfigured("api_access_blocked", error.detail)
        return errors.TryLater("session_ended_again", error.detail)

    def _call(self, token: str, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        self.before_call()
        kwargs["headers"] = {**(kwargs.get("headers") or {}), "Authorization": f"Bearer {token}", "X-PrettyPrint": "0"}
        self.calls += 1
        self.status = None
        began = time.monotonic()
        response = super().request(method, url, *args, **kwargs)
        self.status, self.took_s = response.status_code, time.monotonic() - began
        self.answered_at = _date_of(response)
        self._record_usage(response)
        self.warning = response.headers.get("Warning", "") or self.warning
        if response.status_code >= 300:
            raise errors.sort_data_error(response.status_code, _json_or_none(response))
        if response.status_code != NO_CONTENT and not _has_json(response):
            raise errors.TryLater("unreadable_answer", f"status {response.status_code}", is_ambiguous=True)
        return response

    def _record_usage(self, response: requests.Response) -> None:
        match = USAGE.search(response.headers.get("Sforce-Limit-Info", ""))
        if match:
            self.usage = int(match.group(1)), int(match.group(2))


def _parsed(content: bytes) -> Any:
    """Decode JSON; raise ValueError or RecursionError. A lone surrogate (half an emoji) spoils one text, not the answer."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        if not HALF_A_CHARACTER.search(content):
            raise
        return json.loads(content, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _was_never_sent(error: Exception) -> bool:
    """Did it fail before the request was sent: connection refused, unknown name, a certificate that isn't Salesforce's?"""
    reason = error.args[0].reason if error.args and isinstance(error.args[0], MaxRetryError) else None
    if isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return True
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in getattr(reason, "args", ()))


def _has_json(response: requests.Response) -> bool:
    """Is the body JSON, and labelled so? An edge server's page, an empty body and a cut-off one are not."""
    if "json" not in response.headers.get("Content-Type", "json"):
        return False
    return _json_or_none(response) is not None


def _json_or_none(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _date_of(response: requests.Response) -> datetime | None:
    try:
        date = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
