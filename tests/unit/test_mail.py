"""Mails: the forms of MAIL_URL; a mail that can't be sent breaks nothing, and none of it is logged."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from asapp import create_app
from asapp.core import mail
from asapp.core.mail import Fate
from config import MAIL_SENDER, ConfigError
from config import MailServer as Address
from devtools.smtp_sink import MailServer, running_mail_server
from tests.conftest import make_config
from tests.unit.test_config import read


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with running_mail_server() as server:
        yield server


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
    assert read(MAIL_URL=url).mail_server == Address(*expected)


@pytest.mark.parametrize(
    "url", ["http://mail.example", "smtp:///x", "smtp://mail.example?from=nobody", "smtp://h:port"]
)
def test_a_bad_address_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="MAIL_URL"):
        read(MAIL_URL=url)


def test_mails_are_taken_one_by_one(mail_server: MailServer, caplog: pytest.LogCaptureFixture) -> None:
    taken = mail_server.taken
    app = create_app(make_config("sqlite:///:memory:", mail_url=mail_server.url))
    with app.app_context(), caplog.at_level(logging.DEBUG):
        assert [mail.post(letter) for letter in (*LETTERS[:2], LETTERS[0])] == [Fate.TAKEN, Fate.REFUSED, Fate.TAKEN]
    assert len(taken) == 2
    assert "the secret token abc" in taken[0]
    assert not any(word in caplog.text for word in ("token", "Hush", "rose", "nobody@"))


def test_what_became_of_one_letter(mail_server: MailServer) -> None:
    app = create_app(make_config("sqlite:///:memory:", mail_url=mail_server.url))
    with app.app_context():
        assert [mail.post(letter) for letter in LETTERS[:2]] == [Fate.TAKEN, Fate.REFUSED]


def test_a_letter_that_was_taken_stays_so_where_the_good_bye_fails(
    mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "TIMEOUT_S", 1.0)
    mail_server.may_say_good_bye.clear()
    app = create_app(make_config("sqlite:///:memory:", mail_url=mail_server.url))
    with app.app_context():
        assert mail.post(LETTERS[0]) is Fate.TAKEN


def test_a_server_that_is_away_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app = create_app(make_config("sqlite:///:memory:", mail_url=f"smtp://127.0.0.1:{port}"))
    with app.app_context():
        assert mail.post(LETTERS[0]) is Fate.AWAY
    assert "the mail server can't be used" in caplog.text
    assert "rose" not in caplog.text


def test_without_a_server_mails_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(make_config("sqlite:///:memory:", testing=False))
    with app.app_context():
        assert mail.post(LETTERS[0]) is Fate.TAKEN
    assert "the secret token abc" in capsys.readouterr().out
