"""What only a real server shows: answers that are sent after the request is over, and requests that are none.

The test client keeps a request's context until the answer is read, and never sends anything malformed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp import create_app
from asapp.extensions import db
from asapp.models import User
from tests.conftest import fresh_database, make_config
from tests.doors import Door, For, doors
from tests.factories import log_in
from tests.furnished import World, make_world
from tests.pages import CheckingClient
from tests.processes import Answer, WebProcess, web_process
from tests.services import RedisServer


@dataclass
class House:
    """The same application in this process and behind gunicorn, on one furnished database."""

    app: Flask
    client: FlaskClient
    web: WebProcess
    world: World

    def user_for(self, door: Door) -> User | None:
        if door.access is For.EVERYBODY:
            return None
        return self.world.ada if door.access is For.ADMINS else self.world.alice.user

    def query_of(self, door: Door) -> str:
        """What an address has to name beside its path."""
        firm, lead = self.world.northgate.slug, self.world.alice.leads[0].public_id
        return {"board.export": f"?firm={firm}", "leads.person_consent": f"?lead={lead}"}.get(door.endpoint, "")

    def fetch(self, path: str, user: User | None) -> Answer:
        """Fetch from gunicorn as this person."""
        session = {"_user_id": user.get_id(), "_fresh": True} if user else {}
        serializer: Any = self.app.session_interface.get_signing_serializer(self.app)  # type: ignore[attr-defined]
        db.session.rollback()
        return self.web.get(path, Cookie=f"{self.app.config['SESSION_COOKIE_NAME']}={serializer.dumps(session)}")


def streaming_endpoints(app: Flask) -> set[str]:
    """Every endpoint whose view makes a file or streams; csv_file() is the only place of ours that sends in pieces."""
    return {
        endpoint
        for endpoint, view in app.view_functions.items()
        if endpoint != "static" and "csv_file(" in inspect.getsource(inspect.unwrap(view))
    }


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("gunicorn")
    with fresh_database(request, folder) as url:
        config = make_config(url, redis_server.url)
        app = create_app(config)
        app.test_client_class = CheckingClient
        with app.app_context(), web_process(config, folder / "web.log") as web:
            yield House(app, app.test_client(), web, make_world())
            db.session.remove()
            db.engine.dispose()


# ---- Answers that are sent in pieces


def test_every_page_and_file_comes_whole(house: House) -> None:
    """Every GET of the application, as the person it is for: what gunicorn sends is what this process makes."""
    streamed = set()
    for door in doors(house.app, house.world, house.world.alice):
        if door.method != "GET" or door.endpoint in ("static", "health.metrics", "connect.callback"):
            continue
        user = house.user_for(door)
        with house.client.session_transaction() as session:
            session.clear()
        if user is not None:
            log_in(house.client, user)
        path = door.path + house.query_of(door)
        here = house.client.get(path)
        there = house.fetch(path, user)
        assert there.status == here.status_code, f"{door} answers {there.status}"
        if here.mimetype == "text/csv":
            streamed.add(door.endpoint)
            assert there.body.count(b"\r\n") >= here.text.count("\r\n") > 1, f"{door} is cut off"
    assert streamed == streaming_endpoints(house.app)
    assert {"leads.export", "contacts.export", "audit.export", "runs.receipt_csv"} <= streamed


def test_only_one_place_sends_in_pieces() -> None:
    from tests.processes import ROOT

    streaming = [
        path.name for path in (ROOT / "asapp" / "web").glob("*.py") if "stream_with_context" in path.read_text()
    ]
    assert streaming == ["files.py"]
