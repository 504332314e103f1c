"""The session that sends tokens: its limits, what it never sends or follows, and the error for each kind of trouble."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import requests_mock
import trustme
from requests_mock import Mocker
from urllib3.exceptions import MaxRetryError, NewConnectionError

from asapp.salesforce import page_turns
from asapp.salesforce import session as limits
from asapp.salesforce.errors import (
    FieldHidden,
    LimitReached,
    Misconfigured,
    ReconnectNeeded,
    SalesforceError,
    SessionExpired,
    TryLater,
)
from asapp.salesforce.session import LimitedSession, OrgResponse, OrgSession
from tests.fake_tokens import ORIGIN, Tokens
from tests.raw_server import RawServer, SocketAction, answer, open_raw_server, reset, send_and_close

EXPIRED = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
NOT_FOR_REST = [{"message": "This session is not valid for use with the REST API", "errorCode": "INVALID_SESSION_ID"}]
XML_401 = (
    "<response>\n<faultcode>LOGIN_OAUTH_INVALID_TOKEN(db=1703,api=LOGIN_OAUTH_INVALID_TOKEN)</faultcode>\n"
    "<error>Failed: Invalid Token</error>\n</response>"
)
MAINTENANCE = b"<!DOCTYPE html><html><body><h1>Down for maintenance</h1></body></html>"
PATH = "/services/data/v66.0/limits"
URL = ORIGIN + PATH
MOVED = "https://northgate-wealth.my.salesforce.com"


@pytest.fixture
def salesforce() -> Iterator[Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.fixture
def local(raw_server: RawServer) -> Iterator[OrgSession]:
    """Open a session at the misbehaving server."""
    with OrgSession(Tokens(raw_server.url), allow_loopback=True) as session:
        yield session


def trouble_of(session: requests.Session, url: str, method: str = "POST") -> SalesforceError:
    with pytest.raises(SalesforceError) as caught:
        session.request(method, url)
    assert caught.value.__cause__ is None, "the exceptions of requests hold addresses"
    return caught.value


def assert_ambiguous(error: SalesforceError, code: str) -> None:
    assert isinstance(error, TryLater)
    assert (error.code, error.is_ambiguous) == (code, True)


# --- hosts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "instance_url",
    [
        "https://evil.example",
        "http://northgate.my.salesforce.com",
        "https://northgate.my.salesforce.com@evil.example",
        "",
    ],
)
def test_a_session_at_a_host_that_is_not_salesforces_is_refused(instance_url: str) -> None:
    for allow_loopback in (False, True):
        with pytest.raises(Misconfigured, match="foreign_host"):
            OrgSession(Tokens(instance_url), allow_loopback)


def test_plain_http_is_for_a_loopback_org_that_was_allowed(raw_server: RawServer) -> None:
    with pytest.raises(Misconfigured, match="foreign_host"):
        OrgSession(Tokens(raw_server.url))
    raw_server.will(answer())
    with OrgSession(Tokens(raw_server.url), allow_loopback=True) as session:
        assert session.get(raw_server.url + PATH).json() == {}


def test_simple_salesforce_reaches_a_loopback_org_by_its_https_address(
    raw_server: RawServer, local: OrgSession
) -> None:
    raw_server.will(answer())
    local.get(raw_server.url.replace("http://", "https://") + PATH)
    assert raw_server.asked[0].path == PATH


@pytest.mark.parametrize(
    "url",
    [
        "https://other.my.salesforce.com" + PATH,
        "https://northgate.my.salesforce.com.evil.example" + PATH,
        "https://northgate.my.salesforce.com@evil.example" + PATH,
        "https://northgate.my.salesforce.com:8443" + PATH,
        "http://northgate.my.salesforce.com" + PATH,
        "file:///etc/passwd",
    ],
)
def test_a_session_calls_its_own_host_and_no_other(url: str) -> None:
    with OrgSession(Tokens()) as session:
        assert trouble_of(session, url).code == "foreign_host"


def test_a_port_that_says_https_once_more_makes_no_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with encrypted_server(monkeypatch, tmp_path) as (raw_server, authority):
        raw_server.will(answer(), answer())
        with OrgSession(Tokens(ORIGIN + ":443")) as session:
            session.verify = authority
            session.get(URL)
    assert len(raw_server.asked) == 1


# --- redirects, cookies, environment -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 -"]
)
@pytest.mark.parametrize("target", ["{elsewhere}/x", "//{host}/x", "/services/data/again", "http://[::1", ""])
def test_no_redirect_is_followed(
    raw_server: RawServer, local: OrgSession, elsewhere: RawServer, status: str, target: str
) -> None:
    location = target.format(elsewhere=elsewhere.url, host=elsewhere.url.removeprefix("http://"))
    raw_server.will(answer(b"", status, location=location))
    error = trouble_of(local, raw_server.url + PATH)
    assert isinstance(error, TryLater)
    assert (error.code, error.is_ambiguous) == ("redirected", False)
    assert len(raw_server.asked) == 1


def test_no_redirect_is_followed_even_if_it_is_asked_for(raw_server: RawServer, elsewhere: RawServer) -> None:
    raw_server.will(answer(b"", "307 Temporary Redirect", location=elsewhere.url + "/x"))
    with LimitedSession(raw_server.url, allow_loopback=True) as session:
        assert session.post(raw_server.url + "/services/oauth2/token", allow_redirects=True).status_code == 307
    assert len(raw_server.asked) == 1


def test_no_cookie_is_kept_or_sent(raw_server: RawServer, local: OrgSession) -> None:
    cookie = answer(set_cookie="BrowserId=V1rUZ0lEEfGsHWm0BbmixA; path=/; Max-Age=31536000")
    raw_server.will(cookie, cookie, cookie)
    for _ in range(3):
        local.get(raw_server.url + PATH)
    assert [asked.headers.get("cookie") for asked in raw_server.asked] == [None] * 3
    assert not local.cookies


def test_neither_netrc_nor_proxies_of_the_machine_are_used(
    raw_server: RawServer, elsewhere: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login robot password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.url)
        monkeypatch.setenv(name.upper(), elsewhere.url)
    raw_server.will(answer(), answer())
    with LimitedSession(raw_server.url, allow_loopback=True) as session:
        session.get(raw_server.url + PATH)
    with OrgSession(Tokens(raw_server.url), allow_loopback=True) as session:
        session.get(raw_server.url + PATH)
    assert [asked.headers.get("authorization") for asked in raw_server.asked] == [None, "Bearer old-token"]


# --- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_every_call_has_timeouts(salesforce: Mocker, method: str) -> None:
    salesforce.request(method, URL, json={})
    with OrgSession(Tokens()) as session:
        session.request(method, URL)
        session.request(method, URL, timeout=(1, 2))
    assert [call.timeout for call in salesforce.request_history] == [limits.TIMEOUT_S, (1, 2)]


def test_an_answer_that_does_not_come_is_given_up(
    raw_server: RawServer, local: OrgSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TIMEOUT_S", (1.0, 0.2))
    raw_server.will(raw_server.hang)
    began = time.monotonic()
    assert_ambiguous(trouble_of(local, raw_server.url + PATH), "no_answer")
    assert time.monotonic() - began < 5


LENGTHY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (LENGTHY, b" "),
        (CHUNKED, b"1\r\n \r\n"),
        (CHUNKED + b"ffffff\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\n", b"X-Slow: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"1"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["by length", "small chunks", "one large chunk", "until it closes", "headers", "one header", "100 Continue"],
)
def test_an_answer_that_trickles_is_given_up(
    raw_server: RawServer, local: OrgSession, monkeypatch: pytest.MonkeyPatch, head: bytes, drop: bytes
) -> None:
    monkeypatch.setattr(limits, "TOTAL_TIMEOUT_S", 0.3)
    raw_server.will(raw_server.trickle(head, drop))
    began = time.monotonic()
    assert_ambiguous(trouble_of(local, raw_server.url + PATH), "no_answer")
    assert time.monotonic() - began < 5


def test_a_request_that_is_taken_too_slowly_is_given_up(
    raw_server: RawServer, local: OrgSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server reads a few bytes now and then, so that each block that we send is gone before its own timeout."""
    monkeypatch.setattr(limits, "TOTAL_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=sip, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with OrgSession(Tokens(url), allow_loopback=True) as session, pytest.raises(TryLater) as caught:
            session.post(url + PATH, data=b"a" * 30_000_000)
    assert_ambiguous(caught.value, "no_answer")
    assert time.monotonic() - began < 2.5, "a block has 3 s to go"


def sip(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock, suppress(OSError):
        while sock.recv(20_000):
            time.sleep(0.02)


def test_the_time_of_a_call_begins_with_the_call(
    raw_server: RawServer, local: OrgSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over one kept connection: the time of an earlier call does not count."""
    monkeypatch.setattr(limits, "TOTAL_TIMEOUT_S", 0.5)
    raw_server.will(*[answer()] * 4)
    for _ in range(4):
        local.get(raw_server.url + PATH)
        time.sleep(0.2)
    assert len(raw_server.asked) == 4


@pytest.mark.parametrize("is_packed", [False, True])
def test_an_answer_that_is_too_large_is_given_up(
    raw_server: RawServer, local: OrgSession, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 100_000)
    body = b'"' + b"a" * 2_000_000 + b'"'
    raw_server.will(answer(gzip.compress(body), content_encoding="gzip") if is_packed else answer(body))
    assert_ambiguous(trouble_of(local, raw_server.url + PATH), "answer_too_large")


def test_an_answer_just_within_the_limit_is_read_whole(
    raw_server: RawServer, local: OrgSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'"' + "Łódź".encode() * 50_000 + b'"'
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", len(body))
    chunked = CHUNKED + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    raw_server.will(
        answer(body), chunked, answer(gzip.compress(body), content_encoding="gzip"), answer(b"", "204 No Content")
    )
    for _ in range(3):
        response = local.get(raw_server.url + PATH)
        assert response.json() == "Łódź" * 50_000
        assert response.content == body
    assert local.delete(raw_server.url + PATH).content == b""


# --- trouble on the way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "code"),
    [
        (reset, "no_answer"),
        (send_and_close(b""), "no_answer"),
        (send_and_close(b"HTTP/1.1 200 O"), "unreadable_answer"),
        (send_and_close(b"SSH-2.0-OpenSSH_9.6\r\n"), "no_answer"),
        (send_and_close(LENGTHY + b'{"totalSize":'), "no_answer"),
        (send_and_close(CHUNKED + b'd\r\n{"totalSize":\r\n'), "no_answer"),
        (send_and_close(CHUNKED + b'ff\r\n{"totalSize":'), "no_answer"),
        (send_and_close(answer(b"no gzip at all", content_encoding="gzip")), "no_answer"),
        (send_and_close(answer(b'{"totalSize": 20, "records": [{"Id"')), "unreadable_answer"),
        (send_and_close(answer(MAINTENANCE, content_type="text/html;charset=UTF-8")), "unreadable_answer"),
        (send_and_close(answer(MAINTENANCE)), "unreadable_answer"),
        (send_and_close(answer(b'{"totalSize": 0}', content_type="text/html;charset=UTF-8")), "unreadable_answer"),
        (send_and_close(answer(b"")), "unreadable_answer"),
        (send_and_close(answer(b"", "201 Created")), "unreadable_answer"),
        (send_and_close(answer(b'"\xff"')), "unreadable_answer"),
    ],
    ids=[
        "reset",
        "closed before a byte",
        "cut in the first line",
        "not HTTP",
        "cut off",
        "cut off between chunks",
        "cut off within a chunk",
        "not gzip",
        "truncated JSON",
        "HTML",
        "HTML that says it is JSON",
        "JSON that says it is HTML",
        "empty",
        "empty 201",
        "not UTF-8",
    ],
)
def test_a_request_that_left_and_got_no_good_answer_may_have_been_carried_out(
    raw_server: RawServer, local: OrgSession, deed: SocketAction, code: str
) -> None:
    raw_server.will(deed)
    assert_ambiguous(trouble_of(local, raw_server.url + PATH), code)
    assert len(raw_server.asked) == 1, "a session never sends anything twice by itself"


def test_a_connection_that_is_not_accepted_carried_nothing_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with OrgSession(Tokens(url), allow_loopback=True) as session:
        assert_not_sent(trouble_of(session, url + PATH))


@pytest.mark.parametrize(
    "failure", [socket.gaierror(-2, "Name or service not known"), TimeoutError(), OSError(101, "-")]
)
def test_a_host_that_cannot_be_reached_carried_nothing_out(monkeypatch: pytest.MonkeyPatch, failure: OSError) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise failure

    monkeypatch.setattr("urllib3.util.connection.create_connection", fail)
    with OrgSession(Tokens()) as session:
        assert_not_sent(trouble_of(session, URL))


def test_a_host_that_cannot_prove_its_name_gets_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with encrypted_server(monkeypatch, tmp_path) as (raw_server, _), OrgSession(Tokens()) as session:
        assert_not_sent(trouble_of(session, URL))
    assert raw_server.asked == []


def test_an_encrypted_connection_that_breaks_may_have_carried_it_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with encrypted_server(monkeypatch, tmp_path) as (raw_server, authority), OrgSession(Tokens()) as session:
        session.verify = authority
        raw_server.will(send_and_close(b""), send_and_close(LENGTHY + b"{"))
        assert_ambiguous(trouble_of(session, URL), "no_answer")
        assert_ambiguous(trouble_of(session, URL), "no_answer")
    assert len(raw_server.asked) == 2


def assert_not_sent(error: SalesforceError) -> None:
    assert isinstance(error, TryLater)
    assert (error.code, error.is_ambiguous) == ("no_connection", False)


class encrypted_server:  # noqa: N801 - used as a function
    """A TLS server for northgate.my.salesforce.com that every host name resolves to, and the file of its authority."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("northgate.my.salesforce.com").configure_cert(context)
        self.authority = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(self.authority)
        self._opened = open_raw_server(context)
        self._monkeypatch = monkeypatch

    def __enter__(self) -> tuple[RawServer, str]:
        raw_server = self._opened.__enter__()
        self._monkeypatch.setattr(
            "urllib3.util.connection.create_connection",
            lambda address, *args, **kwargs: socket.create_connection(("127.0.0.1", raw_server.port), 5),
        )
        return raw_server, self.authority

    def __exit__(self, *about: Any) -> None:
        self._opened.__exit__(*about)


# --- the token ---------------------------------------------------------------------------------------------------------


def test_the_token_is_sent_with_every_call(salesforce: Mocker) -> None:
    salesforce.get(URL, json={})
    tokens = Tokens(access_token="first")
    with OrgSession(tokens) as session:
        session.get(URL)
        tokens.current = "second"
        session.get(URL, headers={"Authorization": "Bearer (the session adds it)"})
    assert sent_tokens(salesforce) == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("expired", [{"json": EXPIRED}, {"text": XML_401}, {"text": ""}])
def test_an_expired_session_is_refreshed_once_and_the_call_made_again_once(salesforce: Mocker, expired: Any) -> None:
    salesforce.post(URL, [{"status_code": 401, **expired}, {"json": {"done": True}}])
    tokens = Tokens()
    with OrgSession(tokens) as session:
        assert session.post(URL, json={"a": 1}).json() == {"done": True}
        assert session.calls == 2
    assert tokens.stale == ["old-token"]
    assert sent_tokens(salesforce) == ["Bearer old-token", "Bearer new-token"]
    assert [call.json() for call in salesforce.request_history] == [{"a": 1}] * 2


def test_a_session_that_ends_again_right_after_its_renewal_is_a_matter_of_trying_later(salesforce: Mocker) -> None:
    salesforce.get(URL, status_code=401, json=EXPIRED)
    tokens = Tokens()
    with OrgSession(tokens) as session:
        error = trouble_of(session, URL, "GET")
    assert isinstance(error, TryLater)
    assert (error.code, error.is_ambiguous) == ("session_ended_again", False)
    assert tokens.stale == ["old-token"]
    assert salesforce.call_count == 2


def test_fresh_tokens_that_are_refused_one_after_the_other_are_no_matter_of_their_age(salesforce: Mocker) -> None:
    salesforce.get(URL, status_code=401, json=EXPIRED)
    with OrgSession(Tokens()) as session:
        trouble_of(session, URL, "GET")
        error = trouble_of(session, URL, "GET")
    assert (type(error), error.code) == (Misconfigured, "api_access_blocked")
    assert salesforce.call_count == 4


def test_a_fresh_token_that_was_accepted_in_between_clears_the_one_refused_before(salesforce: Mocker) -> None:
    refused, accepted = {"status_code": 401, "json": EXPIRED}, {"json": {}}
    salesforce.get(URL, [refused, refused, accepted, refused, refused])
    with OrgSession(Tokens()) as session:
        trouble_of(session, URL, "GET")
        session.get(URL)
        assert trouble_of(session, URL, "GET").code == "session_ended_again"


def test_a_session_that_is_not_for_rest_is_not_refreshed(salesforce: Mocker) -> None:
    salesforce.get(URL, status_code=401, json=NOT_FOR_REST)
    tokens = Tokens()
    with OrgSession(tokens) as session:
        error = trouble_of(session, URL, "GET")
    assert (type(error), error.code) == (Misconfigured, "api_access_blocked")
    assert tokens.stale == []
    assert salesforce.call_count == 1


def test_a_call_ends_with_the_error_of_its_refresh(salesforce: Mocker) -> None:
    class Refused(Tokens):
        def refresh(self, stale: str) -> str:
            raise Misconfigured("bad_secret")

    salesforce.get(URL, status_code=401, json=EXPIRED)
    with OrgSession(Refused()) as session, pytest.raises(Misconfigured, match="bad_secret"):
        session.get(URL)
    assert salesforce.call_count == 1


def test_a_token_for_an_org_that_moved_is_not_sent_to_the_old_address(salesforce: Mocker) -> None:
    salesforce.get(URL, status_code=401, json=EXPIRED)
    salesforce.get(URL.replace(ORIGIN, MOVED), json={})
    tokens = Tokens()
    tokens.moves_to = MOVED
    with OrgSession(tokens) as session:
        session.get(URL)
        assert session.origin == MOVED
    assert [(call.hostname, call.headers["Authorization"]) for call in salesforce.request_history] == [
        ("northgate.my.salesforce.com", "Bearer old-token"),
        ("northgate-wealth.my.salesforce.com", "Bearer new-token"),
    ]


REFUSED = requests.exceptions.ConnectionError(MaxRetryError(None, URL, NewConnectionError(None, "refused")))  # type: ignore[arg-type]
ELSEWHERE: dict[str, dict[str, Any]] = {
    "refused": {"exc": REFUSED},
    "404": {"status_code": 404, "text": "<html>URL No Longer Exists</html>"},
    "404 as JSON": {"status_code": 404, "json": [{"errorCode": "NOT_FOUND", "message": "does not exist"}]},
    "420": {"status_code": 420, "text": "<html>"},
    "redirect": {"status_code": 301, "headers": {"Location": "https://elsewhere.example/"}},
}


@pytest.mark.parametrize("answer", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_host_that_the_org_has_left_makes_one_refresh_and_the_session_goes_on(
    salesforce: Mocker, answer: dict[str, Any]
) -> None:
    salesforce.get(URL, **answer)
    salesforce.get(URL.replace(ORIGIN, MOVED), json={})
    tokens = Tokens()
    tokens.moves_to = MOVED
    with OrgSession(tokens) as session:
        for _ in range(2):
            session.get(URL)
    assert [call.hostname.split(".")[0] for call in salesforce.request_history] == [
        "northgate",
        "northgate-wealth",
        "northgate-wealth",
    ]
    assert tokens.stale == ["old-token"]


@pytest.mark.parametrize("answer", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_host_that_fails_so_although_the_org_is_still_there_is_asked_about_once(
    salesforce: Mocker, answer: dict[str, Any]
) -> None:
    salesforce.get(URL, **answer)
    tokens = Tokens()
    with OrgSession(tokens) as session:
        first, second = (trouble_of(session, URL, "GET") for _ in range(2))
    assert (type(first), first.code) == (type(second), second.code)
    assert first.code != "instance_moved"
    assert (salesforce.call_count, tokens.stale) == (2, ["old-token"])


def test_a_call_that_the_old_host_may_have_carried_out_is_not_repeated(salesforce: Mocker) -> None:
    salesforce.post(URL, exc=requests.exceptions.ReadTimeout)
    salesforce.post(URL.replace(ORIGIN, MOVED), json={})
    tokens = Tokens()
    tokens.moves_to = MOVED
    with OrgSession(tokens) as session:
        error = trouble_of(session, URL, "POST")
        assert isinstance(error, TryLater)
        assert (error.code, error.is_ambiguous) == ("instance_moved", True)
        assert salesforce.call_count == 1
        session.post(URL)
    assert salesforce.last_request.hostname == "northgate-wealth.my.salesforce.com"


def test_an_org_that_has_moved_out_of_salesforce_is_not_followed(salesforce: Mocker) -> None:
    salesforce.get(URL, status_code=404, text="<html>")
    tokens = Tokens()
    tokens.moves_to = "https://evil.example"
    with OrgSession(tokens) as session, pytest.raises(Misconfigured, match="foreign_host"):
        session.get(URL)
    assert salesforce.call_count == 1


def test_a_refresh_that_fails_leaves_the_hosts_own_failure_and_one_that_ends_the_grant_says_so(
    salesforce: Mocker,
) -> None:
    class Refused(Tokens):
        error: SalesforceError = TryLater("token_endpoint_busy")

        def refresh(self, stale: str) -> str:
            raise self.error

    salesforce.get(URL, status_code=420, text="<html>")
    with OrgSession(Refused()) as session:
        assert trouble_of(session, URL, "GET").code == "edge_busy"
    tokens = Refused()
    tokens.error = ReconnectNeeded("permission_withdrawn")
    with OrgSession(tokens) as session:
        assert trouble_of(session, URL, "GET").code == "permission_withdrawn"


def test_a_record_that_is_not_there_is_no_org_that_has_moved(salesforce: Mocker) -> None:
    url = f"{ORIGIN}/services/data/v66.0/sobjects/Account/001000000000001AAA"
    salesforce.get(url, status_code=404, json=[{"errorCode": "NOT_FOUND", "message": "does not exist"}])
    tokens = Tokens()
    with OrgSession(tokens) as session:
        trouble_of(session, url, "GET")
    assert tokens.stale == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}], LimitReached),
        (400, [{"message": "No such column 'A' on entity 'Contact'", "errorCode": "INVALID_FIELD"}], FieldHidden),
        (503, None, TryLater),
        (420, None, TryLater),
    ],
)
def test_an_answer_that_is_no_success_leaves_as_one_of_our_errors(
    salesforce: Mocker, status: int, body: Any, kind: type[SalesforceError]
) -> None:
    salesforce.get(URL, status_code=status, **({"json": body} if body else {"text": "<html>"}))
    with OrgSession(Tokens()) as session:
        assert type(trouble_of(session, URL, "GET")) is kind
    assert salesforce.call_count == 1


def test_a_function_runs_before_each_call_and_may_stop_it(salesforce: Mocker) -> None:
    class StoppedBeforeCall(Exception):
        pass

    def before_call() -> None:
        asked.append(salesforce.call_count)
        if len(asked) == 3:
            raise StoppedBeforeCall

    asked: list[int] = []
    salesforce.get(URL, [{"status_code": 401, "json": EXPIRED}, {"json": {}}])
    with OrgSession(Tokens(), before_call=before_call) as session:
        session.get(URL)
        with pytest.raises(StoppedBeforeCall):
            session.get(URL)
        assert session.calls == 2
    assert asked == [0, 1, 2]


# --- what the headers say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "usage"),
    [
        ("api-usage=896/15000", (896, 15000)),
        ("api-usage=25/5000; per-app-api-usage=17/250(appName=sample-connected-app)", (25, 5000)),
        ("per-app-api-usage=17/250(appName=sample-connected-app); api-usage=25/5000", (25, 5000)),
        ("per-app-api-usage=17/250(appName=sample-connected-app)", None),
        ("api-usage=many/5000", None),
        ("", None),
        (None, None),
    ],
)
def test_the_orgs_usage_is_read_from_the_answer(
    salesforce: Mocker, header: str | None, usage: tuple[int, int] | None
) -> None:
    salesforce.get(URL, json={}, headers={} if header is None else {"Sforce-Limit-Info": header})
    with OrgSession(Tokens()) as session:
        session.get(URL)
        assert session.usage == usage


def test_usage_that_steps_back_is_believed_and_an_answer_without_it_changes_nothing(salesforce: Mocker) -> None:
    used = [{"json": {}, "headers": {"Sforce-Limit-Info": f"api-usage={n}/15000"}} for n in (909, 906)]
    salesforce.get(URL, [*used, {"json": {}}])
    seen = []
    with OrgSession(Tokens()) as session:
        for _ in range(3):
            session.get(URL)
            seen.append(session.usage)
    assert seen == [(909, 15000), (906, 15000), (906, 15000)]


def test_usage_is_read_from_refusals_too(salesforce: Mocker) -> None:
    body = [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    salesforce.get(URL, status_code=403, json=body, headers={"Sforce-Limit-Info": "api-usage=15000/15000"})
    with OrgSession(Tokens()) as session, pytest.raises(LimitReached):
        session.get(URL)
    assert session.usage == (15000, 15000)


@pytest.mark.parametrize(
    ("header", "moment"),
    [
        ("Wed, 06 May 2026 12:08:49 GMT", datetime(2026, 5, 6, 12, 8, 49, tzinfo=UTC)),
        ("Wed, 06 May 2026 14:08:49 +0200", datetime(2026, 5, 6, 12, 8, 49, tzinfo=UTC)),
        ("Wed, 06 May 2026 12:08:49 -0000", datetime(2026, 5, 6, 12, 8, 49, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_the_moment_of_an_answer_is_salesforces_own(
    salesforce: Mocker, header: str | None, moment: datetime | None
) -> None:
    salesforce.get(URL, json={}, headers={} if header is None else {"Date": header})
    with OrgSession(Tokens()) as session:
        session.get(URL)
        assert session.answered_at == moment


def test_an_expired_session_is_no_error_for_callers(salesforce: Mocker) -> None:
    salesforce.get(URL, status_code=401, json=EXPIRED)
    with OrgSession(Tokens()) as session:
        assert not isinstance(trouble_of(session, URL, "GET"), SessionExpired)


def sent_tokens(salesforce: Mocker) -> list[str]:
    return [call.headers["Authorization"] for call in salesforce.request_history]


def answer_of(body: str) -> OrgResponse:
    response = OrgResponse()
    response._content = body.encode()
    return response


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00"])
def test_half_a_character_spoils_one_text_and_not_the_answer(half: str) -> None:
    assert answer_of(f'{{"name": "Rose {half}"}}').json()["name"][:5] == "Rose "


@pytest.mark.parametrize(
    "body",
    ['{"name": "\\ud83d", "number": NaN}', '{"name": "\\ud83d"', "[" * 100_000 + '"\\ud83d'],
    ids=["NaN", "cut off", "deep"],
)
def test_what_is_no_json_stays_none_with_half_a_character_in_it(body: str) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        answer_of(body).json()


# --- Calls that a page waits for


@pytest.fixture
def page_turn() -> Iterator[None]:
    page_turns.begin()
    yield
    page_turns.end()


def test_a_call_that_a_page_waits_for_is_shorter_and_others_are_not(page_turn: None) -> None:
    assert page_turns.time_for_call(limits.TOTAL_TIMEOUT_S) == limits.TOTAL_TIMEOUT_S, "no call has been made"
    page_turns.claim()
    assert page_turns.time_for_call(limits.TOTAL_TIMEOUT_S) == page_turns.CALL_S
    assert page_turns.time_for_call(2.0) == 2.0
    page_turns.end()
    assert page_turns.time_for_call(limits.TOTAL_TIMEOUT_S) == limits.TOTAL_TIMEOUT_S


def test_a_page_that_has_waited_long_enough_asks_no_more(salesforce: Mocker) -> None:
    salesforce.get(URL, json={})
    page_turns.begin(page_s=0)
    try:
        with OrgSession(Tokens()) as session:
            error = trouble_of(session, URL, "GET")
        assert (error.code, salesforce.call_count) == ("no_answer", 0)
        assert page_turns.time_for_call(15.0) == page_turns.LEAST_S, "a grant is given back however late it is"
    finally:
        page_turns.end()


# --- what is told about calls ------------------------------------------------------------------------------------------


def test_a_call_without_an_answer_is_told_like_any_other(salesforce: Mocker) -> None:
    salesforce.get(URL, [{"exc": requests.exceptions.ReadTimeout}, {"json": {}}])
    told: list[tuple[str, str]] = []
    session = OrgSession(Tokens(), on_call=lambda call: told.append((call.kind, call.outcome)))
    with pytest.raises(TryLater):
        session.get(URL)
    session.get(URL)
    assert told[0] == ("limits", "no_answer")
    assert told[-1] == ("limits", "200")
