"""People who unsubscribed are no recipients until they opt in again, whatever happens and in whatever order.

The stories are those of people_life.py, with unsubscribes on the page and by one click, for one advisor or the whole firm,
undone or not, with events of the mail engine: now, late, twice, in the future, and with an advisor who moves to another firm
and back. The memory below knows who asked for what and when, and imports no rule. After each step the recipients of every list
are compared with it. `pytest tests/properties -k unsubscribed --hypothesis-profile=long` runs 500 stories on each database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask, current_app
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from asapp.accounts import advisors
from asapp.connections import connections
from asapp.contacts import recipients, sender_events, suppressions
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.sender_events import EventType, Told
from asapp.contacts.suppressions import Address
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, ContactList, Partner, SuppressionSource, SyncRun, User
from asapp.writeback import unsubscribing
from orgsim import Running
from tests.factories import make_partner, org_access
from tests.mail_links import record
from tests.properties.people_life import (
    AFTER_A_DAY,
    HERE,
    IN_THE_ORG,
    IN_TROUBLE,
    NEWCOMERS,
    ORDINARY,
    POOL,
    Deed,
    DeedAtCall,
    Deliver,
    PeopleLife,
    Quiet,
    Step,
    StoredPeople,
    Sync,
)
from tests.syncing import KEY, SECRET

IS_LONG = settings.get_current_profile_name() == "long"
STORIES = 500 if IS_LONG else 8
OF_MAIL = (
    *("unsubscribe", "unsubscribe", "unsubscribe_from_firm", "one_click", "undo"),
    *("event", "event", "late_event", "event_twice", "event_in_the_future", "complaint"),
)
OF_THE_ADVISOR = ("move", "move_back")
AGES_AGO = timedelta(days=30)

numbers = st.integers(0, 11)
people = st.integers(0, 15)
deeds = st.builds(
    Deed, st.sampled_from([*IN_THE_ORG, *HERE]) | st.sampled_from([*OF_MAIL, *OF_THE_ADVISOR]), numbers, people
)
meanwhile = st.lists(st.builds(DeedAtCall, st.integers(1, 6), deeds), max_size=2).map(tuple)
syncs = st.builds(Sync, st.sampled_from([ORDINARY, ORDINARY, AFTER_A_DAY, IN_TROUBLE]), meanwhile, numbers)
steps = deeds | deeds | deeds | syncs | st.builds(Deliver, st.booleans(), meanwhile)
beginnings = st.lists(
    st.builds(Deed, st.sampled_from(["add", "add", "sign_up", "add_by_hand"]), numbers, people), min_size=2
)


@dataclass
class Said:
    """What one person has asked for about this advisor's mails, in the order of their own times."""

    stops: list[tuple[datetime, bool]] = field(default_factory=list)  # and could it be undone on the page?
    opted_in_at: datetime | None = None
    links: set[Address] = field(default_factory=set)  # that unsubscribed; of each firm one

    @property
    def is_stopped(self) -> bool:
        newest = max((at for at, _ in self.stops), default=None)
        return newest is not None and (self.opted_in_at is None or newest >= self.opted_in_at)


class MailLife(PeopleLife):
    """The same tests, with a mail engine that writes to the advisor's people."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self.said: dict[str, Said] = {address: Said() for address in (*POOL, *NEWCOMERS)}
        self._events = 0
        self._has_moved = False
        self._first_firm = self.office.connection.partner_id

    # The advisor

    def _move(self, deed: Deed) -> None:
        self._move_to(make_partner("Fjord Advisors", self.running.url, key=KEY, secret=SECRET).id, deed)

    def _move_back(self, deed: Deed) -> None:
        if self._has_moved:
            self._move_to(self._first_firm, deed)

    def _move_to(self, partner_id: int, deed: Deed) -> None:
        advisor = db.session.get_one(User, self.user_id)
        if advisor.partner_id != partner_id:
            self._has_moved = self._was_disturbed = True
            advisors.move(advisor, db.session.get_one(Partner, partner_id), deed.one % 2 == 0, org_access())
            self._reconnect(deed)

    def _reconnect(self, deed: Deed) -> None:
        super()._reconnect(deed)
        connection = connections.find_current(db.session.get_one(User, self.user_id))
        assert connection
        self.connection_id = connection.id

    def take(self, step: Step) -> StoredPeople:
        self._find_connection()
        return super().take(step)

    def sync(self, step: Sync) -> SyncRun:
        self._find_connection()
        return super().sync(step)

    def deliver(self, step: Deliver) -> None:
        self._find_connection()
        super().deliver(step)

    def _find_connection(self) -> None:
        db.session.rollback()
        self.office.connection = db.session.get_one(Connection, self.connection_id)

    # What people ask for

    def _sign_up(self, deed: Deed) -> None:
        before = utcnow()
        super()._sign_up(deed)
        self.said[self._address(deed)].opted_in_at = before

    def _unsubscribe(
        self, deed: Deed, source: SuppressionSource = SuppressionSource.PAGE, *, firm: bool = False
    ) -> None:
        address = self._address(deed)
        link = self.address(address)
        unsubscribing.unsubscribe(link, source, whole_firm=firm, vault=self.vault)
        self.said[address].stops.append((utcnow(), True))
        self.said[address].links.add(link)

    def _unsubscribe_from_firm(self, deed: Deed) -> None:
        self._unsubscribe(deed, firm=True)

    def _one_click(self, deed: Deed) -> None:
        self._unsubscribe(deed, SuppressionSource.ONE_CLICK)

    def _undo(self, deed: Deed) -> None:
        """Press Undo on the page of each link that was used."""
        said = self.said[self._address(deed)]
        for link in said.links:
            suppressions.undo_unsubscribe(link, self.vault)
        said.stops = [stop for stop in said.stops if not stop[1]]

    def _event(self, deed: Deed, at: datetime | None = None, times: int = 1, kind: str = "unsubscribed") -> None:
        self._events += 1
        address = self._address(deed)
        advisor = db.session.get_one(User, self.user_id)
        told = Told(f"e-{self._events}", EventType(kind), advisor.public_id, address.upper(), at or utcnow())
        results = [sender_events.record_events([told], None, self.vault, record)[0] for _ in range(times)]
        assert results == ["accepted", *["duplicate"] * (times - 1)]
        self.said[address].stops.append((min(at or utcnow(), utcnow()), False))

    def _late_event(self, deed: Deed) -> None:
        self._event(deed, utcnow() - AGES_AGO)

    def _event_twice(self, deed: Deed) -> None:
        self._event(deed, times=2)

    def _event_in_the_future(self, deed: Deed) -> None:
        self._event(deed, utcnow() + AGES_AGO)

    def _complaint(self, deed: Deed) -> None:
        self._event(deed, kind="complained")

    # What the mail engine gets

    @property
    def vault(self) -> Any:
        return current_app.extensions["asapp.vault"]

    def address(self, email: str) -> Address:
        advisor = db.session.get_one(User, self.user_id)
        key = address_key(db.session(), db.session.get_one(Partner, advisor.partner_id), self.vault)
        return Address(advisor.partner_id or 0, advisor.id, address_hash(email, key))

    def recipients(self) -> Iterator[str]:
        """Yield the addresses of all recipients of any list."""
        db.session.rollback()
        for each in db.session.scalars(select(ContactList).where(ContactList.user_id == self.user_id)).all():
            audience = recipients.prepare(each, utcnow(), self.vault, "http://asapp.example")
            yield from (recipient["email"].lower() for recipient in recipients.iter_recipients(audience))

    def wrong(self) -> Iterator[str]:
        written_to = set(self.recipients())
        advisor = db.session.get_one(User, self.user_id)
        told = recipients.may_send(advisor, list(self.said), utcnow(), self.vault)
        reasons = {verdict.email: verdict.reason for verdict in told}
        db.session.rollback()
        for address, said in self.said.items():
            if said.is_stopped and (address in written_to or reasons[address] is None):
                yield f"{address} said {said} and is written to"
            # At another firm an earlier unsubscribe may count longer than it has to, never shorter.
            if not said.is_stopped and not self._has_moved and reasons[address] in ("unsubscribed", "complained"):
                yield f"{address} said {said} and counts as {reasons[address]}"
            if (address in written_to) and reasons[address] is not None:
                yield f"{address} is a recipient, and may not be written to: {reasons[address]}"


def run_story(app: Flask, story: list[Step]) -> int:
    life = MailLife(app)
    try:
        for step in story:
            life.take(step)
            wrong = list(life.wrong())
            assert not wrong, "\n".join([f"after {step}:", *wrong])
    finally:
        life.close()
    return len(story)


@pytest.mark.slow
@pytest.mark.timeout(0 if IS_LONG else 300)
def test_who_unsubscribed_is_no_recipient(
    app: Flask, org: Running, record_property: Callable[[str, Any], None]
) -> None:
    counted = {"stories": 0, "steps": 0}

    @settings(max_examples=STORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(begins=beginnings, some=st.lists(steps, max_size=10), more=st.lists(steps, max_size=10))
    def live_through(begins: list[Step], some: list[Step], more: list[Step]) -> None:
        counted["stories"] += 1
        counted["steps"] += run_story(app, [*begins, Deliver(), Sync(), *some, Quiet(), *more, Quiet()])

    live_through()
    for name, number in counted.items():
        record_property(name, number)
