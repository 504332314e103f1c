"""Serving an org: a threaded HTTP/1.1 server with keep-alive whose Date header is the org's clock.

An answer is written at once (no 40 ms stall between head and body). Answers without a length are sent in chunks, as
Salesforce sends them. A connection can be reset.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from orgsim.wsgi import ConnectionResetByOrgError, OrgApp

if TYPE_CHECKING:
    from collections.abc import Callable

    from orgsim.org import Org

_BODILESS = frozenset({204, 304})


class OrgRequestHandler(WSGIRequestHandler):
    """Keeps connections open, logs nothing, and dates answers by the org's clock."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 300

    def setup(self) -> None:
        """Do the TLS handshake in the connection's own thread, so that a silent client doesn't block the others."""
        context = self.server.ssl_context
        if isinstance(context, ssl.SSLContext):
            self.request = context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        super().setup()
        self._app.connections.add(self.connection)

    def handle(self) -> None:
        if isinstance(self.connection, ssl.SSLSocket):
            try:
                self.connection.do_handshake()
            except OSError:
                return
        super().handle()

    @property
    def _app(self) -> OrgApp:
        app = self.server.app
        if not isinstance(app, OrgApp):
            raise TypeError("this handler serves an org")
        return app

    def run_wsgi(self) -> None:
        if self.headers.get("Expect", "").lower().strip() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        environ = self.make_environ()
        started: list[Any] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            started[:] = [status, headers, exc_info]
            return started.append

        try:
            chunks = self.server.app(environ, start_response)
            self._answer(started[0], started[1], self._join(chunks))
        except ConnectionResetByOrgError:
            self._reset()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    @staticmethod
    def _join(chunks: Iterable[bytes]) -> bytes:
        try:
            return b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _answer(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code = int(status.split(" ", 1)[0])
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}", f"Date: {self.date_time_string()}"]
        if "server" not in names:
            lines.append("Server: sfdcedge")
        lines += [f"{name}: {value}" for name, value in headers]
        chunked = "content-length" not in names and code not in _BODILESS and self.request_version != "HTTP/1.0"
        if chunked and self.command != "HEAD":
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        self.close_connection = self._closes(headers)
        if self.close_connection and "connection" not in names:
            lines.append("Connection: close")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body)
        self.wfile.flush()

    def _closes(self, headers: list[tuple[str, str]]) -> bool:
        asked = self.headers.get("Connection", "").lower()
        ours = any(name.lower() == "connection" and value.lower() == "close" for name, value in headers)
        return ours or asked == "close" or (self.request_version == "HTTP/1.0" and asked != "keep-alive")

    def _reset(self) -> None:
        """End the connection with RST: the client sees a reset, not an orderly end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if isinstance(self.connection, ssl.SSLSocket):
            raw = socket.socket(fileno=self.connection.detach())
            raw.close()
        else:
            self.connection.close()

    def finish(self) -> None:
        self._app.connections.discard(self.connection)
        try:
            super().finish()
        except OSError:
            self.close_connection = True
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.close()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(self._app.org.clock.timestamp() if timestamp is None else timestamp, usegmt=True)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: the org keeps its own log."""

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Log nothing: broken connections are expected here."""


@dataclass
class Running:
    """A served org. `url` has no slash at its end."""

    org: Org
    url: str
    port: int
    server: BaseWSGIServer


def build_server(
    org: Org, host: str, port: int, tls: ssl.SSLContext | None, advisorstream_url: str | None
) -> BaseWSGIServer:
    app = OrgApp(org, advisorstream_url=advisorstream_url)
    server = make_server(host, port, app, threaded=True, request_handler=OrgRequestHandler)
    server.ssl_context = tls
    server.daemon_threads = True  # type: ignore[attr-defined]
    server.request_queue_size = 128
    server.socket.listen(128)
    server.log = _log  # type: ignore[method-assign, assignment]
    return server


def _log(kind: str, message: str, *args: Any) -> None:
    """Print errors of our own code only."""
    if kind == "error" and "SSL" not in message:
        sys.stderr.write((message % args if args else message) + "\n")


@contextmanager
def start(
    org: Org,
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    advisorstream_url: str | None = None,
) -> Iterator[Running]:
    """Serve an org from a thread until the block ends; port 0 takes a free one."""
    server = build_server(org, host, port, tls, advisorstream_url)
    scheme = "https" if tls else "http"
    org.served_at = f"{scheme}://{host}:{server.port}"
    running = Running(org, org.served_at, server.port, server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="org", daemon=True)
    thread.start()
    try:
        yield running
    finally:
        stop(server)
        thread.join(5)


def stop(server: BaseWSGIServer) -> None:
    """Stop listening, wake waiting threads, and end the connections that clients keep open."""
    app = server.app
    if isinstance(app, OrgApp):
        app.closing.set()
    server.shutdown()
    server.server_close()
    if isinstance(app, OrgApp):
        for connection in list(app.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
