"""gunicorn's threads, given only to requests that have arrived.

gunicorn's own gthread gives a thread to each connection, which a client that sends a byte now and then keeps for as long as
it likes: forty of them stop two processes. Here the loop that accepts connections looks at what has come, without taking
it, and hands a connection over when the headers are complete and so is the body, or its first 16 KiB. What takes longer than
ARRIVAL_S is closed. The rest of a large body has READ_S, and an answer goes on only while the client takes it.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
import time
from contextlib import suppress
from enum import Enum
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

ARRIVAL_S = 10.0
READ_S = 30.0
SEND_S = 30.0  # without any progress
LOOK_AGAIN_S = 0.1
LOOKED_AT = 16_384  # bytes: less than any receive buffer, so that a complete request of this size always fits in
END_OF_HEADERS = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
ASKS_FIRST = re.compile(rb"\r\nexpect:", re.IGNORECASE)  # its body comes only after our answer


class Arrival(Enum):
    NOTHING = "nothing"
    A_PART = "a part"
    READY = "ready"
    GONE = "gone"


def arrival_of(data: bytes) -> Arrival:
    """Return whether these first bytes of a request are enough to give it a thread."""
    head, end, body = data.partition(END_OF_HEADERS)
    if len(data) >= LOOKED_AT:
        return Arrival.READY
    if not end:
        return Arrival.A_PART
    length = LENGTH.search(head + b"\r\n")
    is_whole = length is None or ASKS_FIRST.search(head) or len(body) >= int(length[1])
    return Arrival.READY if is_whole else Arrival.A_PART


class ArrivalWorker(ThreadWorker):  # type: ignore[misc]
    def init_process(self) -> None:
        self.silent: dict[TConn, float] = {}  # sent nothing yet: when to close it. The loop wakes when something comes
        self.partial: dict[TConn, float] = {}  # sent a part; looked at again and again
        self.reading: dict[TConn, float] = {}  # in a thread: until when it may send
        super().init_process()

    def accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(SEND_S), 0))
        self.nr_conns += 1
        self._look(TConn(self.cfg, client, address, listener.getsockname()), time.monotonic() + ARRIVAL_S)

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """The next request on a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._look(conn, time.monotonic() + ARRIVAL_S)

    def handle(self, conn: TConn) -> Any:
        self.reading[conn] = time.monotonic() + READ_S
        try:
            return super().handle(conn)
        finally:
            del self.reading[conn]

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, LOOK_AGAIN_S) if self.partial else timeout)

    def murder_pending(self) -> None:
        """The loop calls it in each round: look again at what came in part, and close what takes too long."""
        super().murder_pending()
        now = time.monotonic()
        for conn, until in list(self.partial.items()):
            del self.partial[conn]
            self._look(conn, until)
        for conn, until in list(self.silent.items()):
            if until <= now or not self.alive:
                self.poller.unregister(conn.sock)
                del self.silent[conn]
                self._close(conn)
        for conn, until in list(self.reading.items()):
            if until <= now:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)  # the thread reads the end

    def _look(self, conn: TConn, until: float) -> None:
        arrival = _look_at(conn.sock)
        if arrival is Arrival.READY:
            conn.data_ready = True
            self.enqueue_req(conn)
        elif arrival is Arrival.GONE or until <= time.monotonic():
            self._close(conn)
        elif arrival is Arrival.A_PART:
            self.partial[conn] = until
        else:
            self.silent[conn] = until
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_first_bytes, conn))

    def _on_first_bytes(self, conn: TConn, client: socket.socket) -> None:
        self.poller.unregister(client)
        self._look(conn, self.silent.pop(conn))

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _look_at(client: socket.socket) -> Arrival:
    try:
        data = client.recv(LOOKED_AT, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return Arrival.NOTHING
    except OSError:
        return Arrival.GONE
    return arrival_of(data) if data else Arrival.GONE
