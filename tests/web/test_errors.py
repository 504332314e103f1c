"""Error pages and parts say what happened, what is safe and what to do."""

from __future__ import annotations

import re

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

from asapp import create_app
from asapp.accounts import sessions
from asapp.web import access
from tests.conftest import make_config
from tests.factories import log_in, make_admin, make_advisor

HEADINGS = {
    400: "We can't answer that",
    403: "This page is for AdvisorStream admins",
    404: "We can't find that page",
    405: "That can't be done from here",
    413: "That is too much at once",
    418: "We can't answer that",
    422: "We can't use what was sent",
    429: "Too many tries in a short time",
    500: "Something broke on our side",
    503: "Something broke on our side",
}


@pytest.fixture
def app(own_app: Flask) -> Flask:
    return own_app


@pytest.fixture
def answering(app: Flask, client: FlaskClient) -> FlaskClient:
    """A client of an app that answers /answer/404 with that error, and breaks at /break."""

    def answer(code: int) -> None:
        abort(code)

    def fall() -> None:
        raise ZeroDivisionError("secret detail")

    app.add_url_rule("/answer/<int:code>", "answer", answer, methods=["GET", "POST"])
    app.add_url_rule("/break", "break", fall)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    log_in(client, make_advisor())
    return client


@pytest.mark.parametrize("code", HEADINGS)
def test_each_error_has_a_page(code: int, answering: FlaskClient) -> None:
    response = answering.get(f"/answer/{code}", broken=code >= 500)
    assert response.status_code == code
    heading = HEADINGS[code].replace("'", "&#39;")
    assert f"<h1>{heading}</h1>" in response.text
    assert f"Error {code}" in response.text
    assert 'href="/"' in response.text


@pytest.mark.parametrize("code", HEADINGS)
def test_each_error_has_a_part(code: int, answering: FlaskClient) -> None:
    response = answering.get(f"/answer/{code}", part=True, broken=code >= 500)
    assert response.status_code == code
    assert HEADINGS[code].replace("'", "&#39;") in response.text
    assert "<html" not in response.text


def test_a_bug_gives_a_number_and_no_detail(answering: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    response = answering.get("/break", broken=True)
    assert response.status_code == 500
    assert "secret detail" not in response.text
    number = re.search(r"<code>([0-9a-f]{4}-[0-9a-f]{4})</code>", response.text)
    assert number
    assert number[1] in caplog.text


@pytest.mark.parametrize("part", [False, True], ids=["page", "part"])
def test_without_the_database_there_is_still_a_page(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, part: bool
) -> None:
    """Every page asks the database who is logged in; the error page used to as well."""
    log_in(client, make_advisor())
    app.config["PROPAGATE_EXCEPTIONS"] = False

    def nobody_answers(*_session: object) -> None:
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(sessions, "find", nobody_answers)
    response = client.get("/settings", part=part, broken=True)
    assert response.status_code == 503
    assert HEADINGS[503] in response.text


def test_an_admin_is_told_when_a_page_is_for_advisors(app: Flask, answering: FlaskClient) -> None:
    app.add_url_rule("/for-advisors", "for_advisors", access.advisor_required(lambda: ""))
    log_in(answering, make_admin())
    response = answering.get("/for-advisors")
    assert response.status_code == 403
    assert "This page is for advisors" in response.text


def test_a_page_that_does_not_exist_is_not_found_for_any_user(client: FlaskClient) -> None:
    assert client.get("/nothing/here").status_code == 404


def test_a_form_of_another_session_is_refused(client: FlaskClient) -> None:
    log_in(client, make_advisor())
    response = client.post("/settings", forged=True, data={"name": "Eve", "csrf_token": "made up"})
    assert response.status_code == 400
    assert "This form can&#39;t be sent any more" in response.text


def test_a_login_without_cookies_is_refused_in_words(client: FlaskClient) -> None:
    response = client.post("/login", forged=True, data={"email": "x@x.example", "password": "x"})
    assert response.status_code == 400
    assert "your browser keeps no cookies" in response.text


def test_more_than_we_take(client: FlaskClient) -> None:
    log_in(client, make_advisor())
    assert client.post("/settings", data={"name": "x" * 1_000_001}).status_code == 413


def test_the_method_that_is_allowed_is_named(client: FlaskClient) -> None:
    log_in(client, make_advisor())
    assert "POST" in client.get("/logout").headers["Allow"]


@pytest.mark.parametrize("is_form", [False, True], ids=["an address that leads nowhere", "a form without its token"])
def test_a_refusal_while_the_database_is_away_says_so_too(is_form: bool) -> None:
    """The page about the refusal shows the logged-in user, and asks the database for them."""
    client = create_app(make_config("sqlite:////nowhere/at/all.db")).test_client()
    with client.session_transaction() as session:
        session["_user_id"] = "1"
    answer = client.post("/contacts/new", data={}) if is_form else client.get("/no-such-page")
    assert answer.status_code == 503
    assert ("save anything" if is_form else "Something broke on our side") in answer.text
