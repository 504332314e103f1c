"""Behaviour that only a real server shows: streamed answers, and malformed requests.

The test client keeps a request's context until the answer is read, and can't send malformed requests.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from typing import Any, NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp import create_app
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import OrgCall, User
from devtools.guard import ROOT
from devtools.processes import Web
from devtools.servers import RedisServer
from devtools.waiting import PATIENCE_S
from tests.conftest import fresh_database, make_config
from tests.factories import log_in, save, session_of
from tests.pages import CheckingClient
from tests.route_access import For, Route, iter_routes
from tests.two_firms import World, make_world


class Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes


class Gunicorn(Web):
    """gunicorn, with an HTTP client of its own: tests block the library that the app uses."""

    def get(self, path: str, **headers: str) -> Answer:
        """Return the answer; raise OSError or HTTPException, also for one that is cut off."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def send_raw(self, raw: bytes) -> bytes:
        """Send raw bytes; return everything that comes back until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@dataclass
class GunicornHouse:
    """The same application in this process and behind gunicorn, with one filled database."""

    app: Flask
    client: FlaskClient
    web: Gunicorn
    world: World

    def user_for(self, route: Route) -> User | None:
        if route.access is For.EVERYBODY:
            return None
        return self.world.ada if route.access is For.ADMINS else self.world.alice.user

    def query_of(self, route: Route) -> str:
        """Return the query string that a route needs."""
        firm, lead = self.world.northgate.slug, self.world.alice.leads[0].public_id
        return {"board.export": f"?firm={firm}", "leads.person_consent": f"?lead={lead}"}.get(route.endpoint, "")

    def fetch(self, path: str, user: User | None) -> Answer:
        """Fetch from gunicorn as this person."""
        session = session_of(user) if user else {}
        serializer: Any = self.app.session_interface.get_signing_serializer(self.app)  # type: ignore[attr-defined]
        db.session.rollback()
        return self.web.get(path, Cookie=f"{self.app.config['SESSION_COOKIE_NAME']}={serializer.dumps(session)}")


def streaming_endpoints(app: Flask) -> set[str]:
    """Every endpoint whose view makes a file or streams; csv_file() is the only place of ours that sends in pieces."""
    return {
        endpoint
        for endpoint, view in app.view_functions.items()
        if endpoint != "static" and "csv_file(" in inspect.getsource(inspect.unwrap(view))
    }


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[GunicornHouse]:
    folder = tmp_path_factory.mktemp("gunicorn")
    with fresh_database(request) as url:
        config = make_config(url, redis_server.url)
        app = create_app(config)
        app.test_client_class = CheckingClient
        with app.app_context(), Gunicorn(config, folder / "web.log") as web:
            world = make_world()
            save(OrgCall(at=utcnow(), partner_id=world.northgate.id, kind="query", outcome="200"))
            yield GunicornHouse(app, app.test_client(), web, world)
            db.session.remove()
            db.engine.dispose()


# ---- Streamed answers


@pytest.mark.slow
def test_every_page_and_file_comes_whole(house: GunicornHouse) -> None:
    """For every GET of the application, as a user with access: gunicorn sends exactly what this process makes."""
    streamed = set()
    for route in iter_routes(house.app, house.world, house.world.alice):
        if route.method != "GET" or route.endpoint in ("static", "health.metrics", "connect.callback"):
            continue
        user = house.user_for(route)
        with house.client.session_transaction() as session:
            session.clear()
        if user is not None:
            log_in(house.client, user)
        path = route.path + house.query_of(route)
        here = house.client.get(path)
        there = house.fetch(path, user)
        assert there.status == here.status_code, f"{route} answers {there.status}"
        if here.mimetype == "text/csv":
            streamed.add(route.endpoint)
            assert there.body.count(b"\r\n") >= here.text.count("\r\n") > 1, f"{route} is cut off"
    assert streamed == streaming_endpoints(house.app)
    assert {"leads.export", "contacts.export", "audit.export", "runs.receipt_csv"} <= streamed


def test_only_one_place_sends_in_pieces() -> None:
    streaming = [
        path.name for path in (ROOT / "asapp" / "web").glob("*.py") if "stream_with_context" in path.read_text()
    ]
    assert streaming == ["files.py"]


# ---- Malformed requests


def status_line(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


CHUNKED = (
    b"POST /o/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        *(b"+5\r\nemail\r\n0\r\n\r\n", b"0x5\r\nemail\r\n0\r\n\r\n", b"5\nemail\n0\n\n", b"5\r\nemailXX0\r\n\r\n"),
        *(b"5\r\nemail\r\n0\r\nContent-Length: 5\r\n\r\n", b"zz\r\n", b"5\r\nem", b"\r\n\r\n"),
    ],
)
def test_a_body_in_bad_chunks_is_a_bad_request(body: bytes, house: GunicornHouse) -> None:
    slug = house.world.alice.page.slug.encode()
    assert status_line(house.web.send_raw(CHUNKED % slug + body)) == 400


@pytest.mark.parametrize("path", ["/login", "/password/forgot", "/partner-setup/nothing/keys"])
def test_a_part_without_a_name_is_a_bad_request(path: str, house: GunicornHouse) -> None:
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    assert status_line(house.web.send_raw(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)) == 400


@pytest.mark.parametrize(
    "host", ["..", "a" * 300, "evil.example", "evil.example@127.0.0.1", "[::1", "127.0.0.1:x", "127.0.0.1.evil.example"]
)
@pytest.mark.parametrize("path", ["/login", "/contacts", "/nothing"])
def test_a_host_that_is_not_ours_is_a_bad_request(host: str, path: str, house: GunicornHouse) -> None:
    answer = house.web.get(path, Host=host)
    assert answer.status == 400
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Location" not in answer.headers


@pytest.mark.parametrize("host", ["..", "10.0.0.7:8000"])
def test_who_watches_may_ask_by_any_name(host: str, house: GunicornHouse) -> None:
    assert house.web.get("/healthz", Host=host).body == b"ok\n"


@pytest.mark.parametrize("script", ["/x", "//evil.example", "https://evil.example"])
def test_no_header_moves_the_application(script: str, house: GunicornHouse) -> None:
    head = f"GET //evil.example/contacts HTTP/1.1\r\nHost: 127.0.0.1\r\nSCRIPT_NAME: {script}\r\nPATH_INFO: /login\r\n"
    answer = house.web.send_raw(f"{head}Connection: close\r\n\r\n".encode())
    assert status_line(answer) in (302, 308, 400, 404)
    assert b"location: http://evil" not in answer.lower()
    assert b"location: //" not in answer.lower()


@pytest.mark.parametrize("slash", ["", "/"])
def test_what_salesforce_sends_back_goes_to_no_other_host(slash: str, house: GunicornHouse) -> None:
    path = f"/salesforce/salesforce_as/login/callback{slash}?code=one-time&state=secret"
    for headers in ({}, {"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}):
        answer = house.web.get(path, **headers)
        assert answer.status in (302, 400)
        assert answer.headers.get("Location", "/login").startswith("/login")


@pytest.mark.parametrize("path", ["/metrics", "//metrics", "/%6detrics", "/metrics/../metrics"])
def test_figures_do_not_come_through_a_proxy(path: str, house: GunicornHouse) -> None:
    answer = house.web.get(path, **{"X-Forwarded-For": "198.51.100.7"})
    assert answer.status in (308, 403, 404)
    assert b"asapp_" not in answer.body
