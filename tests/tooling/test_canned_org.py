"""The bench's canned answers say what the simulated org says of a user without contacts and leads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from asapp.core.clock import utcnow
from asapp.salesforce.client import OrgClient
from asapp.salesforce.records import LeadWindow
from benchmarks import canned_org
from devtools.waiting import wait_for
from orgsim import Org, Running, start
from tests.fake_tokens import Tokens
from tests.syncing import KEY, SECRET


@pytest.fixture
def canned_url(tmp_path: Path) -> Iterator[str]:
    ports = tmp_path / "ports.json"
    loop = asyncio.new_event_loop()
    serving = loop.create_task(canned_org.main(1, 0.0, ports))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.gather(serving, return_exceptions=True)))
    thread.start()
    wait_for(ports.exists, "for the canned org")
    yield f"http://127.0.0.1:{json.loads(ports.read_text())[0]}"
    loop.call_soon_threadsafe(serving.cancel)
    thread.join(10)
    loop.close()


@pytest.fixture
def simulated() -> Iterator[Running]:
    with start(Org(name="Northgate Wealth", seed=1)) as running:
        running.org.register_app(KEY, SECRET, ["http://127.0.0.1:5000/"])
        yield running


def test_an_opening_is_answered_as_the_simulated_org_answers_it(canned_url: str, simulated: Running) -> None:
    user = simulated.org.add_user(name="Amara Okafor", username="amara@northgate.example")
    token = simulated.org.issue_tokens(user, KEY)["access_token"]
    since = utcnow() - timedelta(hours=1)
    said = []
    for url in (simulated.url, canned_url):
        client = OrgClient(Tokens(url, token), "66.0", ["HasOptedOutOfEmail"], allow_loopback=True)
        opening = client.open_contacts(user, since, leads=LeadWindow(since, since))
        assert abs(opening.answered_at - utcnow()) < timedelta(seconds=10)
        assert client.usage is not None
        page = opening.page
        said.append((page.total, page.records, page.next_path, opening.owned, opening.leads))
        client.close()
    assert said[0] == said[1]
