"""A mail server for tests and the demo: it keeps every mail that it accepts, and can delay its answer to QUIT."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class MailServer(socketserver.ThreadingTCPServer):
    """Refuses one test recipient. Until `may_say_good_bye` is set, mails are accepted and the answer to QUIT waits."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.taken: list[str] = []
        self.may_say_good_bye = threading.Event()
        self.may_say_good_bye.set()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: tests kill clients in the middle of a conversation."""


class _Talk(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.upper().split(" ")[0].split(":")[0]
            if verb == "DATA":
                self.say("354 go on")
                text = ""
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    text += part
                self.server.taken.append(text)
                self.say("250 taken")
            elif verb == "QUIT":
                self.server.may_say_good_bye.wait(30)
                self.say("221 bye")
                return
            else:
                self.say("550 nobody here" if "nobody@" in line else "250 fine")

    def say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


@contextmanager
def running_mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.may_say_good_bye.set()
        server.shutdown()
        thread.join()
