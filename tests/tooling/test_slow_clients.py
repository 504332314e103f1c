"""Clients that send slowly or not at all hold no thread of web, alone and behind the handbook's nginx."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

from asapp.core.arrival_worker import ARRIVAL_S, LOOKED_AT, Arrival, arrival_of
from devtools.guard import ROOT, guard
from devtools.processes import Process, Web
from devtools.programs import find_nginx, free_port
from devtools.waiting import status_of, wait_for
from tests.conftest import make_config

HOST = "my.example.com"
SLOW_ONES = 40  # with 8 threads in one process
SOON_S = 3.0  # on a busy machine
HALF_REQUESTS = [
    b"",
    b"GET /hea",
    b"GET /healthz HTTP/1.1\r\nHost: my.example.com\r\nX-Endless: a",
    b"POST /login HTTP/1.1\r\nHost: my.example.com\r\nContent-Length: 500\r\n\r\nemail=",
]


@pytest.mark.parametrize(
    ("data", "arrival"),
    [
        (b"GET / HTT", Arrival.A_PART),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", Arrival.A_PART),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Arrival.READY),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Arrival.A_PART),
        (b"POST / HTTP/1.1\r\ncontent-length:3\r\n\r\nabc", Arrival.READY),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", Arrival.READY),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Arrival.READY),
        (b"x" * LOOKED_AT, Arrival.READY),
        (b"POST / HTTP/1.1\r\nContent-Length: 900000\r\n\r\n" + b"a" * LOOKED_AT, Arrival.READY),
    ],
)
def test_what_is_enough_for_a_thread(data: bytes, arrival: Arrival) -> None:
    assert arrival_of(data) is arrival


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("web")
    config = make_config(
        f"sqlite:///{folder}/none.sqlite3",
        public_url=f"https://{HOST}",
        trusted_proxies=1,
        salesforce_allow_loopback=False,
    )
    with Web(config, folder / "web.log") as running:
        yield running


@pytest.fixture
def nginx(web: Web, tmp_path: Path) -> Iterator[int]:
    """nginx with the handbook's configuration; the port it listens on."""
    port = free_port()
    handbook = (ROOT / "docs/operations.md").read_text()
    found = re.search(r"```nginx\n(.*?)```", handbook, re.DOTALL)
    assert found
    server = (
        found[1].replace("listen 80;", f"listen 127.0.0.1:{port};").replace("127.0.0.1:8000", f"127.0.0.1:{web.port}")
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; user root; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {places}\n{server} }}\n"
    )
    command = [str(find_nginx()), "-p", str(tmp_path), "-c", str(config)]
    with Process("nginx", command, tmp_path / "nginx.log", guard().environ()):
        wait_for(lambda: status_of(f"http://127.0.0.1:{port}/healthz") == 200, "for nginx")
        yield port


def slow_clients(port: int, running: ExitStack) -> list[socket.socket]:
    """Connect from another address than the tests' own, and send half a request each."""
    clients = []
    for number in range(SLOW_ONES):
        client = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=("127.0.0.2", 0))
        running.enter_context(client)
        client.sendall(HALF_REQUESTS[number % len(HALF_REQUESTS)])
        clients.append(client)
    return clients


def seconds_of_five_answers(port: int) -> float:
    began_at = time.monotonic()
    for _ in range(5):
        assert status_of(f"http://127.0.0.1:{port}/healthz") == 200
    return time.monotonic() - began_at


def is_cut_off(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.slow
def test_forty_slow_clients_stop_no_one_and_are_cut_off(web: Web) -> None:
    with ExitStack() as running:
        clients = slow_clients(web.port, running)
        assert seconds_of_five_answers(web.port) < SOON_S
        for client in clients:  # a byte now and then doesn't help them
            if client is not clients[0]:
                client.sendall(b"a")
        assert seconds_of_five_answers(web.port) < SOON_S
        began_at = time.monotonic()
        assert all(is_cut_off(client) for client in clients)
        assert time.monotonic() - began_at < ARRIVAL_S + SOON_S


def test_forty_slow_clients_behind_the_handbooks_proxy(web: Web, nginx: int) -> None:
    with ExitStack() as running:
        slow_clients(nginx, running)
        assert seconds_of_five_answers(nginx) < SOON_S
        assert seconds_of_five_answers(web.port) < SOON_S


def test_the_proxy_passes_on_the_host_and_compresses_what_holds_no_secret(nginx: int) -> None:
    answers = {}
    for path in ("/login", "/static/asapp.css", "/metrics"):
        connection = HTTPConnection("127.0.0.1", nginx, timeout=30)
        connection.request("GET", path, headers={"Host": HOST, "Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        answers[path] = (answer.status, answer.headers.get("Content-Encoding"))
        connection.close()
    assert answers["/static/asapp.css"] == (200, "gzip")
    assert answers["/login"][1] is None
    assert answers["/metrics"] == (403, None)


@pytest.mark.slow
def test_a_large_body_in_pieces_and_a_kept_connection(web: Web) -> None:
    body = b"email=zoe&password=" + b"a" * 200_000
    head = f"POST /api/v1/events HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        for piece in (head[:30].encode(), head[30:].encode() + body[:10], body[10:50_000], body[50_000:]):
            client.sendall(piece)
            seconds_of_five_answers(web.port)  # others are answered in between
        assert re.match(rb"HTTP/1.1 4\d\d ", client.recv(65_536))
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        for request in (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",) * 3:
            client.sendall(request[:9])
            client.sendall(request[9:])
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += client.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
