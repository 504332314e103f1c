"""A served org with two advisors and an admin, and an HTTP client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from orgsim import ADMIN, Org, Running, start

KEY, SECRET, CALLBACK = "practice-key", "practice-secret", "http://localhost:5000/callback/"


class Api:
    """One user's session with the data API. Paths are relative to /services/data/v66.0."""

    def __init__(self, url: str, tokens: dict[str, Any]) -> None:
        self.url = url
        self.tokens = tokens
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {tokens['access_token']}"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        root = "" if path.startswith("/services") else "/services/data/v66.0"
        return self.session.request(method, f"{self.url}{root}{path}", timeout=20, **more)

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> requests.Response:
        return self.call("POST", path, json=body, **more)

    def patch(self, path: str, body: Any, **more: Any) -> requests.Response:
        return self.call("PATCH", path, json=body, **more)

    def query(self, soql: str, *, everything: bool = False, **headers: str) -> dict[str, Any]:
        """Return the answer of /query (or /queryAll); the statement must be right."""
        answer = self.get(
            "/queryAll" if everything else "/query",
            params={"q": soql},
            headers={k.replace("_", "-"): v for k, v in headers.items()},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def error(self, soql: str) -> tuple[str, str]:
        """Return code and message of the refusal of a wrong statement."""
        answer = self.get("/query", params={"q": soql})
        assert answer.status_code == 400, answer.text
        return answer.json()[0]["errorCode"], answer.json()[0]["message"]

    def ids(self, soql: str, *, everything: bool = False) -> list[str]:
        """Return the Ids on all pages."""
        answer = self.query(soql, everything=everything)
        found = [r["Id"] for r in answer["records"]]
        while not answer["done"]:
            answer = self.get(answer["nextRecordsUrl"]).json()
            found += [r["Id"] for r in answer["records"]]
        return found


@pytest.fixture
def running() -> Iterator[Running]:
    org = Org(name="Northgate Wealth", seed=7)
    org.register_app(KEY, SECRET, [CALLBACK])
    with start(org) as served:
        yield served


@pytest.fixture
def org(running: Running) -> Org:
    return running.org


@pytest.fixture
def amara(org: Org) -> str:
    return org.add_user(name="Amara Okafor", username="amara@northgate.example", password="amaras-word")


@pytest.fixture
def jonas(org: Org) -> str:
    return org.add_user(name="Jonas Lindqvist", username="jonas@northgate.example")


@pytest.fixture
def admin(org: Org) -> str:
    return org.add_user(name="Henrik Solberg", username="admin@northgate.example", profile=ADMIN)


@pytest.fixture
def log_in(running: Running) -> Callable[..., Api]:
    """Return a client for a user; scopes are the app's unless given."""

    def make(user_id: str, scopes: list[str] | None = None) -> Api:
        return Api(running.url, running.org.issue_tokens(user_id, KEY, scopes))

    return make


@pytest.fixture
def api(log_in: Callable[..., Api], amara: str) -> Api:
    return log_in(amara)
