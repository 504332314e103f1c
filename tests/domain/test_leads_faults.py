"""With every fault: as many leads in the org as people signed up, each once.

Each fault strikes fifty times, each time another person's sign-up, in an order that a seed decides; on PostgreSQL ten times,
for what it does differently. Processes that are killed, and a Redis that is flushed: tests/jobs/test_leads_kill.py.
"""

from __future__ import annotations

import random
import threading

import pytest
from flask import Flask

from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.leads.delivery import deliver
from asapp.models import LeadState
from orgsim.server import Running
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import Died

pytestmark = pytest.mark.slow

TIMES = {"sqlite": 50, "postgresql": 10}
CREATE = 3  # the number of the call: a search for contacts, one for leads, then the create
TOO_OFTEN = 40  # rounds in which a lead must have arrived


@pytest.fixture
def office(app: Flask, org: Running) -> PostOffice:
    return PostOffice(org)


def people() -> list[str]:
    names = [f"person{number}@example.com" for number in range(TIMES[db.engine.dialect.name])]
    random.Random(7).shuffle(names)
    return names


def arrive(office: PostOffice, email: str) -> None:
    """Deliver until this person's lead has arrived, with one to four minutes between rounds, which differ per person."""
    pauses = random.Random(email)
    for _ in range(TOO_OFTEN):
        office.deliver()
        if office.lead(email).state == LeadState.SENT:
            return
        office.let_pass(pauses.randint(60, 240))
    raise AssertionError(f"{email} never arrived: {office.lead(email).state}")


def check(office: PostOffice) -> None:
    assert office.leads_there() == sorted(people())
    ids = {lead["Id"] for lead in office.org.leads()}
    assert {office.lead(email).salesforce_id for email in people()} == ids


def die_before_the_create(call: int) -> None:
    if call == CREATE:
        raise Died


def test_a_worker_that_dies_with_the_create_announced_and_not_sent(office: PostOffice) -> None:
    """After Salesforce's ten minutes it is sent again."""
    for email in people():
        someone_signs_up(office.advisor, email)
        office.deliver(die_before_the_create)
        office.let_pass(60)
        arrive(office, email)

    check(office)


@pytest.mark.parametrize("deed", ["reset", "reset_after", "server_unavailable_html", "truncated"])
def test_an_answer_that_is_lost(office: PostOffice, deed: str) -> None:
    for email in people():
        someone_signs_up(office.advisor, email)
        fault = office.org.trouble.add(deed, method="POST", path="/composite/sobjects", times=1)
        office.deliver()
        assert fault.hits == 1
        office.let_pass(30)
        arrive(office, email)

    check(office)


def test_two_workers_at_once(office: PostOffice, app: Flask) -> None:
    """The second one comes while the first has its leads, and while it is creating them."""
    connection_id = office.connection.id
    for email in people():
        someone_signs_up(office.advisor, email)
        others: list[threading.Thread] = []

        def another(_number: int = 0, started: list[threading.Thread] = others) -> None:
            started.append(threading.Thread(target=work, args=(office, app, connection_id)))
            started[-1].start()
            started[-1].join(20)

        office.after_create = another
        office.deliver(another)
        office.after_create = None
        assert len(others) == 4
        arrive(office, email)

    check(office)


def work(office: PostOffice, app: Flask, connection_id: int) -> None:
    with app.app_context(), writing():
        deliver(connection_id, office.workplace().access)
