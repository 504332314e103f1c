"""An org that answers nothing holds few threads of a web process, each for seconds; pages that need no Salesforce go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from html import unescape
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from asapp.core.extensions import db
from asapp.salesforce import page_turns
from asapp.salesforce.page_turns import AT_ONCE, PageTurn
from devtools.waiting import wait_for
from orgsim.server import Running
from tests.connecting import ConnectingDesk, visit
from tests.factories import log_in
from tests.syncing import Office

CALLBACK = "/salesforce/salesforce_as/login/callback/"
SLOW = "Salesforce is answering slowly"


class Browsers:
    """Sends requests of one advisor, each from a thread with a browser of its own, as a web process answers them."""

    def __init__(self, app: Flask, office: Office, threads: ThreadPoolExecutor) -> None:
        self._app, self._office, self._threads = app, office, threads

    def get(self, path: str) -> Future[TestResponse]:
        browser = FlaskClient(self._app, self._app.response_class)  # the tests' own works in one thread
        log_in(browser, self._office.advisor)
        return self._threads.submit(browser.get, path)


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return Office(org)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return what lets the org answer; it is open at the end, whatever happened."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def browsers(app: Flask, office: Office) -> Iterator[Browsers]:
    with ThreadPoolExecutor(AT_ONCE + 1) as threads:
        yield Browsers(app, office, threads)


@pytest.fixture
def all_turns() -> Iterator[ExitStack]:
    """Take every turn; close() gives them back."""
    with ExitStack() as taken:
        for _ in range(AT_ONCE):
            turn = PageTurn()
            turn.claim()
            taken.callback(turn.release)
        yield taken


def test_few_pages_wait_for_an_org_that_hangs_and_the_others_are_answered(
    office: Office, browsers: Browsers, gate: threading.Event
) -> None:
    first = browsers.get("/contacts/why?person=first@fjord.example").result()  # from here on there is a token
    assert first.status_code == 200
    fault = office.org.trouble.add("slow", seconds=60, gate=gate)
    try:
        waiting = [browsers.get(f"/contacts/why?person=p{n}@fjord.example") for n in range(AT_ONCE)]
        wait_for(lambda: fault.hits == AT_ONCE)
        refused = browsers.get("/contacts/why?person=more@fjord.example").result()
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
        assert SLOW in unescape(refused.text)
        for path in ("/contacts", "/leads", "/settings/integrations"):
            assert browsers.get(path).result().status_code == 200, path
        assert fault.hits == AT_ONCE, "nothing was sent for the page that was refused"
    finally:
        gate.set()
    assert [page.result().status_code for page in waiting] == [200] * AT_ONCE
    assert browsers.get("/contacts/why?person=more@fjord.example").result().status_code == 200


def test_who_comes_back_from_salesforce_meanwhile_connects_by_loading_the_page_again(
    app: Flask, org: Running, client: FlaskClient, all_turns: ExitStack
) -> None:
    desk = ConnectingDesk(org)
    log_in(client, desk.advisor)
    back = f"{CALLBACK}?{urlencode({name: value for name, value in vars(visit(desk.begin(), desk.amara)).items() if value})}"
    refused = client.get(back, broken=True)
    assert refused.status_code == 503
    assert SLOW in unescape(refused.text)
    all_turns.close()
    assert client.get(back).status_code == 303
    assert desk.connection().is_connected


def test_disconnecting_waits_for_no_one(office: Office, client: FlaskClient, all_turns: ExitStack) -> None:
    log_in(client, office.advisor)
    assert client.post("/settings/integrations/salesforce/disconnect").status_code == 303
    db.session.expire_all()
    assert office.connection.is_disconnected
    assert office.connection.refresh_token_sealed is None
    assert office.connection.status_reason == "revoke_failed"


def test_a_turn_is_given_back_with_the_answer(office: Office, client: FlaskClient) -> None:
    log_in(client, office.advisor)
    for n in range(AT_ONCE + 1):
        assert client.get(f"/contacts/why?person=p{n}@fjord.example").status_code == 200
    assert not page_turns.is_time_up()
