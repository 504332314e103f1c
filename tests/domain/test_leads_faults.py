"""Whatever breaks on the way: as many leads in the org as people signed up, each once.

Each fault strikes fifty times, each time somebody else's sign-up, in an order that a seed decides; on PostgreSQL ten times,
for what it does differently.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from sqlalchemy import event

from asapp.database import writing
from asapp.extensions import db
from asapp.leads.delivery import deliver
from asapp.models import LeadState
from asapp.simulator.server import Running
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import Died

TIMES = {"sqlite": 50, "postgresql": 10}
TOO_OFTEN = 40  # rounds after which a lead should have arrived


@pytest.fixture
def office(app: Flask, org: Running) -> PostOffice:
    return PostOffice(org)


def people() -> list[str]:
    names = [f"person{number}@example.com" for number in range(TIMES[db.engine.dialect.name])]
    random.Random(7).shuffle(names)
    return names


def arrive(office: PostOffice, email: str) -> None:
    """Deliver until this person's lead is through; a minute passes between the rounds."""
    for _ in range(TOO_OFTEN):
        office.deliver()
        if office.lead(email).state == LeadState.SENT:
            return
        office.let_pass(60)
    raise AssertionError(f"{email} never arrived: {office.lead(email).state}")


def check(office: PostOffice) -> None:
    assert office.leads_there() == sorted(people())
    ids = {lead["Id"] for lead in office.org.leads()}
    assert {office.lead(email).salesforce_id for email in people()} == ids


def die_at(call: int) -> Callable[[int], None]:
    def before_call(number: int) -> None:
        if number == call:
            raise Died

    return before_call


@pytest.mark.parametrize("call", [1, 2, 3], ids=["before the look-up", "within it", "before the create"])
def test_a_worker_that_dies(office: PostOffice, call: int) -> None:
    for email in people():
        someone_signs_up(office.advisor, email)
        office.deliver(die_at(call))
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


def test_killed_after_the_create(office: PostOffice) -> None:
    for email in people():
        someone_signs_up(office.advisor, email)
        office.after_create = die
        office.deliver()
        office.after_create = None
        assert office.lead(email).state == LeadState.SENDING
        office.let_pass(60)
        arrive(office, email)

    check(office)


def test_killed_between_storing_and_committing(office: PostOffice) -> None:
    for email in people():
        someone_signs_up(office.advisor, email)
        with dying_commit(office):
            office.deliver()
        assert office.lead(email).salesforce_id is None
        office.let_pass(60)
        arrive(office, email)

    check(office)


def test_a_create_that_salesforce_finishes_minutes_later(office: PostOffice) -> None:
    dice = random.Random(11)
    for email in people():
        someone_signs_up(office.advisor, email)
        office.org.trouble.add(
            "late_work", method="POST", path="/composite/sobjects", times=1, seconds=dice.randint(10, 599)
        )
        office.deliver()
        office.let_pass(15)
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
        deliver(connection_id, office.workplace().open_client)


def test_redis_that_forgets(office: PostOffice) -> None:
    """The ring is lost; the tick rings anew, for what is due and not on its way."""
    from asapp.leads import outbox

    rung: list[int] = []
    for email in people():
        someone_signs_up(office.advisor, email)
        outbox.ring_for(office.advisor.id, lambda ids: False)
        with writing():
            outbox.ring_for_due(lambda ids: not rung.extend(ids))
        office.deliver()
        assert office.lead(email).state == LeadState.SENT

    assert rung == [office.connection.id] * len(people())
    check(office)


def die() -> None:
    raise Died


@contextmanager
def dying_commit(office: PostOffice) -> Iterator[None]:
    """The process ends in the moment in which the answer of a create is to be committed."""
    session = db.session()

    def arm() -> None:
        event.listen(session, "before_commit", die_in, once=True)

    def die_in(_session: object) -> None:
        raise Died

    office.after_create = arm
    try:
        yield
    finally:
        office.after_create = None
