"""Every route with every field and any value: each request gets an answer, and none finds a bug of ours.

Short, with the same requests each time; `--hypothesis-profile=long` makes two hundred times as many, and new ones. FUZZ_SEED
repeats what a long one found.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from secrets import token_hex
from urllib.parse import urlsplit

import pytest
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings

from asapp.core.extensions import db
from asapp.models import User
from asapp.web.page_extensions import limiter
from tests.factories import log_in
from tests.hostile import Gunner, Shot, fields_read
from tests.route_access import ACCESS, For
from tests.two_firms import World, make_world

IS_LONG = settings.get_current_profile_name() == "long"
MORE = int(os.environ.get("FUZZ_MORE") or (40_000 if IS_LONG else 150))  # than one of each route
SEED = os.environ.get("FUZZ_SEED") or (token_hex(4) if IS_LONG else "one of each")
OURS = (None, "localhost", "northgate.my.salesforce.com", "harbour.my.salesforce.com")
MARKUP = ("<script>alert(1)", "<img src=x")


@pytest.fixture
def world(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(limiter, "enabled", False)
    with requests_mock.Mocker() as salesforce:
        salesforce.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=503)
        yield make_world()


def fire(client: FlaskClient, gunner: Gunner, shot: Shot) -> int:
    with client.session_transaction() as session:
        session.clear()
    user = gunner.people[shot.who]
    if user is not None:
        let_in(user)
        log_in(client, user)
    answer = client.open(shot.path, broken=True, **shot.how)
    assert answer.status_code < 500
    if answer.mimetype == "text/html":
        assert not any(raw in answer.text for raw in MARKUP)
    for name in ("Location", "HX-Redirect"):
        assert urlsplit(answer.headers.get(name, "")).hostname in OURS, answer.headers[name]
    return answer.status_code


def let_in(user: User) -> None:
    """Bring back every user, whatever the earlier requests did to them."""
    if user.deactivated_at is not None:
        user.deactivated_at = None
        db.session.commit()


@pytest.mark.slow
def test_no_request_finds_a_bug(app: Flask, client: FlaskClient, world: World) -> None:
    with app.test_request_context():
        gunner = Gunner(app, world, SEED)
    targets = [(rule, method, own_person(rule.endpoint)) for rule, method in gunner.every_route()]
    draw = gunner.random.choice
    targets += [(*draw(gunner.every_route()), draw(list(gunner.people))) for _ in range(MORE)]
    statuses, bugs = set(), {}
    for number, (rule, method, who) in enumerate(targets):
        with app.test_request_context():
            shot = gunner.shoot(rule, method, who)
        try:
            statuses.add(fire(client, gunner, shot))
        except Exception as error:  # noqa: BLE001 - what a view raises comes through the client
            db.session.rollback()
            bugs[place_of(error)] = f"request {number} of seed {SEED!r}: {error!r:.300}\n{shot}"
    assert not bugs, "\n\n".join(f"{place}\n{bug}" for place, bug in bugs.items())
    assert {200, 303, 404, 422} <= statuses  # requests reach the views


def place_of(error: BaseException) -> str:
    """Return the last line of ours in the traceback, so that one bug is reported once."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/asapp/" in frame.filename]
    last = (frames or traceback.extract_tb(error.__traceback__))[-1]
    return f"{type(error).__name__} at {last.filename}:{last.lineno}"


def own_person(endpoint: str) -> str:
    return {For.ADVISORS: "alice", For.LOGGED_IN: "alice", For.ADMINS: "ada"}.get(ACCESS[endpoint], "nobody")


def test_the_fields_are_those_that_views_read() -> None:
    assert {"email", "lead", "before", "frame_hosts", "opt_out_field", "q", "to_list", "confirm_name"} <= set(
        fields_read()
    )
