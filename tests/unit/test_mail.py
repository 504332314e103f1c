"""Mails: what MAIL_URL means, that a mail that can't be sent breaks nothing, and that nothing of it is logged."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from asapp import create_app, mail
from config import MAIL_SENDER, ConfigError, MailServer
from tests.conftest import make_config
from tests.unit.test_config import read


class OneMailServer(socketserver.StreamRequestHandler):
    """Takes every mail, and refuses who is called nobody."""

    taken: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.upper().split(" ")[0].split(":")[0]
            if verb == "DATA":
                self.say("354 go on")
                text = ""
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    text += part
                self.taken.append(text)
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("550 nobody here" if "nobody@" in line else "250 fine")

    def say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


@pytest.fixture
def mail_server() -> Iterator[tuple[str, list[str]]]:
    OneMailServer.taken.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OneMailServer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"smtp://127.0.0.1:{server.server_address[1]}", OneMailServer.taken
        server.shutdown()
        thread.join()


LETTERS = [
    mail.Letter(f"{name}@example.com", "Hush", "the secret token abc") for name in ("rose", "nobody", "zoë.lindström")
]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", ("mail.example", 25, None, None, False, False, MAIL_SENDER)),
        ("smtps://u:p%40ss@mail.example", ("mail.example", 465, "u", "p@ss", True, False, MAIL_SENDER)),
        (
            "smtp+starttls://mail.example:2525?from=us@x.example",
            ("mail.example", 2525, None, None, False, True, "us@x.example"),
        ),
    ],
)
def test_what_an_address_means(url: str, expected: tuple[object, ...]) -> None:
    assert read(MAIL_URL=url).mail_server == MailServer(*expected)


@pytest.mark.parametrize(
    "url", ["http://mail.example", "smtp:///x", "smtp://mail.example?from=nobody", "smtp://h:port"]
)
def test_a_bad_address_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="MAIL_URL"):
        read(MAIL_URL=url)


def test_mails_are_taken_one_by_one(mail_server: tuple[str, list[str]], caplog: pytest.LogCaptureFixture) -> None:
    url, taken = mail_server
    app = create_app(make_config("sqlite:///:memory:", mail_url=url))
    with app.app_context(), caplog.at_level(logging.DEBUG):
        assert mail.send_all(LETTERS[:2] + LETTERS[:1]) == 2
    assert len(taken) == 2
    assert "the secret token abc" in taken[0]
    assert not any(word in caplog.text for word in ("token", "Hush", "rose", "nobody@"))


def test_a_server_that_is_away_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app = create_app(make_config("sqlite:///:memory:", mail_url=f"smtp://127.0.0.1:{port}"))
    with app.app_context():
        assert mail.send_all(LETTERS) == 0
    assert "the mail server can't be used" in caplog.text
    assert "rose" not in caplog.text


def test_without_a_server_mails_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(make_config("sqlite:///:memory:", testing=False))
    with app.app_context():
        assert mail.send_all(LETTERS[:1]) == 1
    assert "the secret token abc" in capsys.readouterr().out
