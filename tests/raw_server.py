"""A server that sends exactly the given bytes, for behaviour of bad servers: trickle, hang, cut off, reset.

requests-mock replaces the part of requests that these tests are about, so they need real sockets.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

SocketAction = Callable[[socket.socket], None]


class ReceivedRequest(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class RawServer:
    """Answers each request with the next of `answers`: bytes to send, or an action on the socket, after which it closes."""

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[bytes | SocketAction] = []
        self.asked: list[ReceivedRequest] = []
        self.closing = threading.Event()
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._listener = listener
        self._tls = tls

    def will(self, *answers: bytes | SocketAction) -> None:
        self.answers.extend(answers)

    def hang(self, sock: socket.socket) -> None:
        self.closing.wait(20)

    def trickle(self, head: bytes, drop: bytes = b" ") -> SocketAction:
        """Send a head, then a little more for ever, with pauses that are shorter than the timeout between two bytes."""

        def deed(sock: socket.socket) -> None:
            sock.sendall(head)
            while not self.closing.wait(0.02):
                sock.sendall(drop)

        return deed

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(sock,), daemon=True).start()

    def _serve_one(self, sock: socket.socket) -> None:
        with suppress(OSError):
            wrapped = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock
            with wrapped, wrapped.makefile("rb") as stream:
                while asked := _read(stream):
                    self.asked.append(asked)
                    answer = self.answers.pop(0)
                    if not isinstance(answer, bytes):
                        answer(wrapped)
                        return
                    wrapped.sendall(answer)


def answer(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    """Return a well-formed answer. In names of headers, underscores stand for dashes."""
    lines = {"content-type": "application/json;charset=UTF-8", "content-length": str(len(body))}
    lines |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def reset(sock: socket.socket) -> None:
    """Close the connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send_and_close(data: bytes) -> SocketAction:
    return lambda sock: sock.sendall(data)


@contextmanager
def open_raw_server(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw_server = RawServer(listener, tls)
        thread = threading.Thread(target=raw_server.serve, daemon=True)
        thread.start()
        yield raw_server
        raw_server.closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _read(stream: object) -> ReceivedRequest | None:
    first = stream.readline().decode("latin-1").split()  # type: ignore[attr-defined]
    if len(first) < 2:
        return None
    headers = {}
    while line := stream.readline().decode("latin-1").strip():  # type: ignore[attr-defined]
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]
    return ReceivedRequest(first[0], first[1], headers, body)
