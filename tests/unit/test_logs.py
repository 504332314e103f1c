"""A log line is one JSON object without personal data and secrets, in whichever part of the code it is written."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from asapp.core import logs
from asapp.core.database import engine_options
from asapp.core.logs import JsonFormatter, JsonHandler, about
from asapp.salesforce.errors import TryLater

ours = logging.getLogger("asapp.test")
library = logging.getLogger("some.library")


class Lines:
    """The logged lines, parsed."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def raw(self) -> str:
        return self._stream.getvalue()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (json.loads(line) for line in self.raw.splitlines())

    @property
    def last(self) -> dict[str, Any]:
        return list(self)[-1]

    @property
    def message(self) -> str:
        return str(self.last["message"])


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    stream = io.StringIO()
    monkeypatch.setattr(JsonHandler, "stream", stream)
    logs.configure()
    return Lines(stream)


def fail_with(error: BaseException) -> None:
    try:
        raise error
    except type(error):
        ours.exception("it broke")


def test_a_line_says_when_who_and_what(lines: Lines) -> None:
    ours.warning("the tick is %s", "late", extra={"run_id": 7, "ok": True})
    line = lines.last
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["logger"], line["message"]) == ("warning", "asapp.test", "the tick is late")
    assert (line["run_id"], line["ok"]) == (7, True)
    assert isinstance(line["process"], int)


def test_what_is_bound_stands_on_each_line_of_the_block(lines: Lines) -> None:
    with about(run_id=7, connection_id=8):
        with about(partner_id=9):
            ours.warning("inside", extra={"connection_id": 80})
        ours.warning("between")
    ours.warning("outside")
    inside, between, outside = lines
    assert (inside["run_id"], inside["connection_id"], inside["partner_id"]) == (7, 80, 9)
    assert (between["run_id"], "partner_id" in between) == (7, False)
    assert "run_id" not in outside


def test_a_line_stays_one_line(lines: Lines) -> None:
    ours.warning("first\r\nsecond\u2028third\x00", extra={"job": "a\nb"})
    assert lines.raw.count("\n") == 1
    assert (lines.message, lines.last["job"]) == ("first second third ", "a b")


def test_extra_cannot_forge_the_fields_of_a_line(lines: Lines) -> None:
    ours.warning("x", extra={"level": "debug", "logger": "other", "time": "never"})
    assert (lines.last["level"], lines.last["logger"]) == ("warning", "asapp.test")


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("sent to zoe.lindström@fjord.example today", "sent to [address] today"),
        ("GET https://x.my.salesforce.com/q?q=SELECT+Id&a=b done", "GET https://x.my.salesforce.com/q?[query] done"),
        ("asked SELECT Id, Email FROM Contact WHERE LastName = 'Ng'", "asked [query]"),
        ("redis://:pass-word@10.0.0.1:6379/0 refused", "redis://[log-in]@10.0.0.1:6379/0 refused"),
        ("with Authorization: Bearer 00Dxx!abc.def", "with Authorization: Bearer [token]"),
        ("token 00D5g000004XyZaEAK!AQ0AQ.Kx_y is old", "token [token] is old"),
        ("refresh 5Aep861TSESvWeug_xvFHRBTTbf_YrTWgEyjBJrhZQ", "refresh [token]"),
        ("id eyJhbGciOi.eyJzdWIi.c2ln", "id [token]"),
        ("sealed v1.1a2b3c4d.AAAAbbbb", "sealed [token]"),
        ("verifier " + "aB3-" * 16, "verifier [token]"),
        (
            "run 12 of connection 34 failed: no_answer (ReadTimeout)",
            "run 12 of connection 34 failed: no_answer (ReadTimeout)",
        ),
        ("is it there? yes", "is it there? yes"),
        ("x" * 30 + " y" * 1000, "x" * 30 + " y" * 485 + "…"),
        ("SELECT for a while, SELECT Id FROM Lead", "[query]"),
        ("SELECT and no more", "SELECT and no more"),
        ("a-eyJhbGciOi.eyJzdWIi.c2ln", "a-[token]"),
        ("x " * 490 + "zoe.lindström-with-a-long-name@fjord.example", "x " * 489 + "x…"),  # cut, it would be none
        ("malformed header " + "x" * 8000, "malformed header…"),
    ],
)
def test_what_looks_like_a_secret_or_an_address_is_taken_out(lines: Lines, said: str, logged: str) -> None:
    ours.warning("%s", said, extra={"job": said})
    assert lines.message == logged
    assert lines.last["job"] == logged


@pytest.mark.parametrize(
    "word",
    [
        "a",
        "a.",
        "a-",
        "a%'+",
        "a@",
        "a@a.",
        "SELECT ",
        "://",
        "?a",
        "?a=",
        "bearer ",
        "00Dxxxxxxxxxxxx!",
        "eyJ-",
        "v1.",
        " a",
    ],
)
@pytest.mark.parametrize("length", [990, 100_000])
def test_no_line_takes_long_however_it_is_made(length: int, word: str, lines: Lines) -> None:
    """The header may come from an attacker who wants to keep the server busy."""
    text = word * (length // len(word))
    began = time.process_time()
    for _ in range(10):
        ours.warning("%s", text)
    assert (time.process_time() - began) / 10 < 0.03


def test_values_that_are_no_text_are_not_written_out(lines: Lines) -> None:
    ours.warning("x", extra={"row": {"email": "zoe"}, "nothing": None})
    assert (lines.last["row"], lines.last["nothing"]) == ("(dict)", None)


def test_of_libraries_only_ids_and_numbers_are_kept(lines: Lines) -> None:
    library.warning(
        "job %s of %s took %.1f s: %s", "run-12", ["Zoë"], 1.25, "Zoë Lindström is away", extra={"name_": "Zoë"}
    )
    assert lines.message == "job run-12 of (list) took 1.2 s: (str)"
    assert "Zo" not in lines.raw
    library.warning(ValueError("Zoë"))
    assert lines.message == "ValueError"


def test_a_message_whose_arguments_do_not_fit_is_logged_as_it_is() -> None:
    record = logging.LogRecord("some.library", logging.WARNING, "x.py", 1, "took %d s", ("long",), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "took %d s"


def test_an_exception_is_its_type_and_our_places(lines: Lines) -> None:
    try:
        try:
            int("Zoë Lindström")
        except ValueError as error:
            raise KeyError("zoe@fjord.example") from error
    except KeyError:
        ours.exception("it broke")
    error = lines.last["error"]
    assert (error["type"], error["because"]) == ("KeyError", ["ValueError"])
    assert error["at"][-1].startswith("tests/unit/test_logs.py:")
    assert "said" not in error
    assert "Zo" not in lines.raw
    assert "zoe@" not in lines.raw


def test_the_places_are_ours_and_the_last_one(lines: Lines) -> None:
    from asapp.core.vault import Vault

    try:
        Vault([b"short"]).seal(None, "")  # type: ignore[arg-type]
    except AttributeError:
        ours.exception("it broke")
    assert [place.partition(":")[0] for place in lines.last["error"]["at"]] == ["asapp/core/vault.py"]
    fail_with(create_and_break())
    assert lines.last["error"]["at"][-1].startswith("tests/unit/test_logs.py:")


def create_and_break() -> BaseException:
    return ValueError("Zoë")


def test_texts_from_salesforce_are_safe_to_log(lines: Lines) -> None:
    fail_with(TryLater("server_unavailable", "status 503", "words of Zoë"))
    assert lines.last["error"]["said"] == "server_unavailable (status 503)"
    assert "Zo" not in lines.raw


def test_the_database_does_not_quote_its_rows(lines: Lines) -> None:
    engine = create_engine("sqlite://", **engine_options("sqlite:///x", for_jobs=False))
    with engine.connect() as connection, pytest.raises(Exception, match="no such table") as caught:
        connection.execute(text("INSERT INTO nowhere VALUES (:name)"), {"name": "Zoë"})
    assert "Zoë" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["authlib.oauth2", "urllib3.connectionpool", "simple_salesforce.api", "rq.worker", "sqlalchemy"]
)
def test_libraries_tell_no_details_even_if_all_else_does(
    lines: Lines, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger(name).debug("Using code_verifier: Zoë")
    logging.getLogger(name).info("Zoë")
    assert lines.raw == ""


def test_a_process_that_breaks_says_so_like_all_else(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    logs.log_what_ends_us()
    sys.excepthook(ValueError, ValueError("Zoë"), None)
    assert (lines.last["level"], lines.last["error"]["type"]) == ("critical", "ValueError")
    assert "Zo" not in lines.raw


def test_a_thread_that_breaks_says_so_like_all_else(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RQ's thread that listens to Redis ends so where Redis hangs."""
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    logs.log_what_ends_us()
    thread = threading.Thread(target=lambda: int("redis://:harbour-lamp@redis"))
    thread.start()
    thread.join()
    assert (lines.last["level"], lines.last["error"]["type"]) == ("error", "ValueError")
    assert "harbour" not in lines.raw
    assert "Traceback" not in capsys.readouterr().err


def test_configuring_again_changes_nothing(lines: Lines) -> None:
    logs.configure()
    ours.warning("once")
    assert len(list(lines)) == 1
