"""Browsers that poll again as soon as they have their answer: `python -m benchmarks.pollers poll '{…}'` prints JSON.

One thread and plain sockets, so that polling costs little on a machine that it shares with the server.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from statistics import quantiles
from typing import Any


class Asker:
    """A connection that stays open, with one request at a time on it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.socket = self._connect()
        self._answer = bytearray()
        self._missing = -1
        self.asked_at = 0.0

    def _connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self._port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def ask(self, question: bytes, asked_at: float) -> None:
        self._answer.clear()
        self._missing = -1
        self.asked_at = asked_at
        self.socket.sendall(question)

    def take(self) -> bytes | None:
        """Return the answer once it is complete, else None."""
        got = self.socket.recv(65536)
        if not got:
            raise ConnectionError("the server closed a connection that was to stay open")
        self._answer += got
        if self._missing < 0:
            head = self._answer.find(b"\r\n\r\n")
            if head < 0:
                return None
            length = self._answer.lower().find(b"content-length:")
            self._missing = head + 4 + int(self._answer[length + 15 : length + 30].split(b"\r", 1)[0])
        return bytes(self._answer) if len(self._answer) >= self._missing else None


class Poller(Asker):
    def __init__(self, port: int, path: str, cookie: str) -> None:
        super().__init__(port)
        self._question = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: session={cookie}\r\nHX-Request: true\r\n\r\n"
        ).encode()

    def ask_again(self) -> None:
        self.ask(self._question, time.perf_counter())


def poll(port: int, seconds: float, asked: list[dict[str, Any]], must_have: str) -> dict[str, Any]:
    pollers = [Poller(port, one["path"], one["cookie"]) for one in asked]
    waiting = selectors.DefaultSelector()
    times: list[float] = []
    began = time.perf_counter()
    for poller in pollers:
        waiting.register(poller.socket, selectors.EVENT_READ, poller)
        poller.ask_again()
    while time.perf_counter() - began < seconds:
        for key, _ in waiting.select(1):
            answer = key.data.take()
            if answer is None:
                continue
            times.append(time.perf_counter() - key.data.asked_at)
            if not answer.startswith(b"HTTP/1.1 200") or must_have.encode() not in answer:
                raise RuntimeError(answer[:400].decode())
            key.data.ask_again()
    took = time.perf_counter() - began
    return {
        "requests": len(times),
        "a_second": len(times) / took,
        "s": took,
        "p95_ms": quantiles(times, n=20)[-1] * 1000,
    }


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(poll(**json.loads(sys.argv[2])))}\n")
