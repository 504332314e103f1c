"""Each request has a number, which is in its answer, its log lines and the page of a bug."""

from __future__ import annotations

import json
import logging
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.core.logs import JsonHandler
from tests.factories import PASSWORD, log_in, make_advisor

NUMBER = re.compile(r"[0-9a-f]{4}-[0-9a-f]{4}")


@pytest.fixture
def app(own_app: Flask) -> Flask:
    return own_app


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the logged lines."""
    written: list[str] = []

    class Stream:
        def write(self, text: str) -> None:
            written.extend(text.splitlines())

        def flush(self) -> None: ...

    monkeypatch.setattr(JsonHandler, "stream", Stream())
    return written


def lines_of(stream: list[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream]


def test_each_answer_carries_a_number_of_ours(client: FlaskClient) -> None:
    numbers = [client.get("/healthz", headers={"X-Request-ID": "theirs"}).headers["X-Request-ID"] for _ in range(2)]
    assert all(NUMBER.fullmatch(number) for number in numbers)
    assert numbers[0] != numbers[1]


def test_what_a_request_logs_carries_its_number_and_the_persons_id(
    app: Flask, client: FlaskClient, stream: list[str]
) -> None:
    def view() -> str:
        logging.getLogger("asapp.test").warning("inside")
        return ""

    app.add_url_rule("/view", "view", view)
    alice = make_advisor()
    log_in(client, alice)
    answer = client.get("/view?name=Zoë")
    (line,) = lines_of(stream)
    assert (line["message"], line["request_id"]) == ("inside", answer.headers["X-Request-ID"])
    assert line["user_id"] == str(alice.id)
    logging.getLogger("asapp.test").warning("after")
    assert "request_id" not in lines_of(stream)[-1]


def test_requests_that_change_something_are_logged_and_reading_ones_are_not(
    app: Flask, client: FlaskClient, stream: list[str]
) -> None:
    client.get("/login")
    assert stream == []
    client.post("/login", data={"email": make_advisor().email, "password": PASSWORD})
    (line,) = lines_of(stream)
    told = (line["message"], line["endpoint"], line["method"], line["status"])
    assert told == ("request", "auth.try_login", "POST", 303)
    assert isinstance(line["ms"], float)


def test_a_bug_is_logged_under_the_number_on_the_page_and_without_its_path(
    app: Flask, client: FlaskClient, stream: list[str]
) -> None:
    def fall(token: str) -> str:
        raise ZeroDivisionError(token)

    app.add_url_rule("/fall/<token>", "fall", fall)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    log_in(client, make_advisor())
    answer = client.get("/fall/one-time-secret?q=Zoë", broken=True)
    shown = NUMBER.search(answer.text.partition("number <code>")[2])
    assert shown
    assert shown[0] == answer.headers["X-Request-ID"]
    broke = next(line for line in lines_of(stream) if "error" in line)
    assert broke["request_id"] == shown[0]
    assert broke["endpoint"] == "fall"
    assert broke["error"]["type"] == "ZeroDivisionError"  # type: ignore[index]
    assert "one-time-secret" not in "".join(stream)
    assert "Zo" not in "".join(stream)
