"""Floods of sign-ups: deliveries are batched, their calls stay within a quarter of the share, and syncs go on as before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

import pytest
from flask import Flask, current_app
from sqlalchemy import func, insert, select, update

from asapp.connections.api_budget import Allowance, allowance_of
from asapp.contacts import removal
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.leads import decisions, outbox, queries, sign_up_page
from asapp.leads.delivery import deliver
from asapp.leads.form_fields import Typed
from asapp.leads.sign_up import FormSeen, FormUsedUp, sign_up
from asapp.messages.leads import Hold
from asapp.models import (
    ApiUsage,
    Connection,
    ConsentEvent,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    OptInPage,
    Review,
    User,
)
from orgsim import Running
from tests.factories import make_advisor, make_connection, save
from tests.signing_up import PostOffice, ask_no_one, someone_signs_up
from tests.syncing import KEY

A_DELIVERY = 3  # calls
STEP_S = 15.0  # from tick to tick


class Rush(PostOffice):
    """An office whose deliveries are enqueued by sign-ups and ticks, and run as soon as they are."""

    def __init__(self, running: Running) -> None:
        super().__init__(running)
        self.enqueued: list[int] = []
        self.deliveries = 0
        self.began_at, self.gone_by = utcnow(), timedelta(0)
        self.is_redis_away = False
        self.org.change_settings(api_limit=15_000)
        self.contact_id = self.add(email="somebody@fjord.example")
        assert self.sync().is_complete  # from here on the org's total is known

    def join(self, name: str) -> User:
        """Let another advisor of the firm connect as another user of the org."""
        user = self.org.add_user(name=name, username=f"{name.split()[0].lower()}@northgate.example")
        tokens = self.org.issue_tokens(user, KEY)
        advisor = make_advisor(self.connection.partner, name=name)
        make_connection(
            advisor,
            org_id=self.org.id,
            salesforce_user_id=user,
            instance_url=self.connection.instance_url,
            access_token=tokens["access_token"],
            refresh_token=tokens["refresh_token"],
        )
        return advisor

    def sign_up(self, number: int, advisor: User | None = None) -> None:
        """Sign a person up as the view does: store, then enqueue."""
        page = sign_up_page.ensure_page(advisor or self.advisor)
        user_id = page.user_id
        seen = FormSeen(sign_up_page.current_text(user_id).id, f"form-{user_id}-{number // 20}", "203.0.113.80")
        with writing():
            sign_up(
                page, Typed("Mei", "Chou", f"p{number}@example.com", True), seen, current_app.extensions["asapp.vault"]
            )
            outbox.enqueue_for(user_id, self.enqueue)
        self.work()

    def store_people(self, numbers: range) -> None:
        """Store new people as a sign-up does, all at once, and enqueue nothing."""
        now = utcnow()
        of_firm = {"user_id": self.advisor.id, "first_name": "Mei", "last_name": "Chou"}
        people = [
            {**of_firm, "email": (email := f"p{number}@example.com"), "address_hash": sha256(email.encode()).digest()}
            for number in numbers
        ]
        add_contacts = insert(Contact).returning(Contact.id, sort_by_parameter_order=True)
        contacts = db.session.scalars(add_contacts, [{**who, "source": ContactSource.LEAD} for who in people]).all()
        outbox_columns = {"partner_id": self.connection.partner_id, "state": LeadState.RECEIVED, "next_attempt_at": now}
        leads = [{**who, **outbox_columns, "contact_id": id_} for who, id_ in zip(people, contacts, strict=True)]
        db.session.execute(insert(Lead), leads)
        db.session.commit()

    def enqueue(self, connection_ids: Sequence[int]) -> bool:
        if not self.is_redis_away:
            self.enqueued += connection_ids
        return not self.is_redis_away

    def tick(self) -> int:
        with writing():
            count = outbox.enqueue_due(self.enqueue)
        self.work()
        return count

    def work(self) -> None:
        while self.enqueued:
            self.deliveries += 1
            with writing():
                deliver(self.enqueued.pop(0), self.access())

    def let_go_by(self, seconds: float) -> None:
        """Let time pass: every moment that deliveries go by lies so much further back."""
        db.session.rollback()
        back = timedelta(seconds=seconds)
        self.gone_by += back
        for connection in db.session.scalars(select(Connection)):
            connection.leads_not_before = earlier(connection.leads_not_before, back)
            connection.leads_rung_at = earlier(connection.leads_rung_at, back)
        for lead in db.session.scalars(select(Lead).where(Lead.state == LeadState.WAITING)):
            lead.next_attempt_at -= back
        for page in db.session.scalars(select(OptInPage)):
            page.day_began_at = earlier(page.day_began_at, back)
        db.session.commit()
        self.tick()

    def most_deliveries(self, advisors: int = 1) -> int:
        """Return how many deliveries are allowed by now: five at once, one a minute, and one at the end."""
        minutes = (utcnow() - self.began_at + self.gone_by) / timedelta(minutes=1)
        return advisors * (5 + int(minutes) + 1)

    def allowance(self) -> Allowance:
        db.session.rollback()
        return allowance_of(db.session(), self.connection.partner_id, utcnow())

    def states(self) -> dict[str, int]:
        db.session.rollback()
        rows = db.session.execute(select(Lead.state, func.count()).group_by(Lead.state))
        return {row[0]: row[1] for row in rows}

    def use_lead_calls(self, calls: int, hours_ago: int = 0) -> None:
        hour = utcnow().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours_ago)
        self.connection.partner.org_calls_allowed = 1200  # ours: 120; leads may take 30 of them
        db.session.execute(update(ApiUsage).values(calls=0, lead_calls=0))
        usage = db.session.get(ApiUsage, (self.connection.partner_id, hour))
        usage = usage or ApiUsage(partner_id=self.connection.partner_id, hour=hour)
        usage.calls = usage.lead_calls = calls
        save(usage)


def earlier(moment: datetime | None, by: timedelta) -> datetime | None:
    return moment - by if moment else None


def set_limit(advisor: User, limit: int) -> None:
    sign_up_page.ensure_page(advisor).daily_limit = limit
    db.session.commit()


@pytest.fixture
def office(app: Flask, org: Running) -> Rush:
    return Rush(org)


# ---- Deliveries are batched


@pytest.mark.slow
def test_three_thousand_sign_ups_in_ten_minutes_leave_the_firms_syncs_as_they_were(office: Rush) -> None:
    """On a page whose advisor has lifted the limit, so that all of them go out. One in seventy-five is stored by the form."""
    set_limit(office.advisor, 10_000)
    before = office.sync()
    for step in range(40):
        office.store_people(range(step * 75 + 1, step * 75 + 75))
        office.sign_up(step * 75)
        office.let_go_by(STEP_S)
    office.let_go_by(60)

    assert office.states() == {LeadState.SENT: 3000}
    assert len(set(office.leads_there())) == len(office.leads_there()) == 3000
    assert office.deliveries <= office.most_deliveries()
    allowance = office.allowance()
    assert allowance.leads_share == 375
    assert allowance.lead_calls <= A_DELIVERY * (
        3000 // 200 + office.deliveries
    )  # full rounds, and one of each that isn't
    office.org.update_contact(office.contact_id, last_name="Śliwa")
    run = office.sync()
    assert (before.status, run.status, run.updated) == ("complete", "complete", 1)
    assert office.reload(office.connection.partner).paused_until is None


def test_a_single_sign_up_on_a_quiet_page_goes_at_once(office: Rush) -> None:
    for number in range(5):
        office.sign_up(number)
        assert office.states() == {LeadState.SENT: number + 1}
        office.let_go_by(120)


def test_sign_ups_that_come_one_after_the_other_gather(office: Rush) -> None:
    """One each five seconds, for five minutes: five go at once, and from then on one delivery a minute takes all who came."""
    for number in range(60):
        office.sign_up(number)
        office.let_go_by(5)
    office.let_go_by(60)

    assert office.states() == {LeadState.SENT: 60}
    assert office.deliveries <= office.most_deliveries()
    assert office.allowance().lead_calls == office.deliveries * A_DELIVERY


def test_sign_ups_during_a_delivery_are_left_to_the_next_one(office: Rush) -> None:
    arriving = iter(range(1, 100))
    office.after_create = lambda: someone_signs_up(office.advisor, f"p{next(arriving)}@example.com") and None
    office.sign_up(0)

    assert office.states() == {LeadState.SENT: 1, LeadState.RECEIVED: 1}
    assert office.allowance().lead_calls == A_DELIVERY


@pytest.mark.slow
def test_three_advisors_whose_pages_are_flooded_at_once(office: Rush) -> None:
    advisors = [office.advisor, office.join("Tomas Varga"), office.join("Priya Raman")]
    quiet = office.join("Karim Benali")
    for number in range(40):
        for advisor in advisors:
            office.sign_up(number, advisor)
        office.let_go_by(3)
    office.sign_up(0, quiet)
    (lead,) = db.session.scalars(select(Lead).where(Lead.user_id == quiet.id))
    assert lead.state == LeadState.SENT  # the floods of others don't delay it
    office.let_go_by(60)

    assert office.states() == {LeadState.SENT: 121}
    assert len(office.leads_there()) == 121
    assert office.deliveries <= office.most_deliveries(advisors=4)


@pytest.mark.parametrize(("used", "minutes"), [(0.0, 1), (0.49, 1), (0.5, 5), (0.74, 5), (0.75, 30), (1.0, 30)])
def test_the_gap_widens_as_the_calls_for_leads_are_used_up(used: float, minutes: int) -> None:
    assert outbox.gap_of(used) == timedelta(minutes=minutes)


# ---- The rows are the queue


def test_a_web_process_that_dies_between_commit_and_enqueueing(office: Rush) -> None:
    someone_signs_up(office.advisor)

    office.tick()

    assert office.states() == {LeadState.SENT: 1}


def test_a_job_that_redis_loses_is_enqueued_again_after_a_minute(office: Rush) -> None:
    someone_signs_up(office.advisor)
    with writing():
        outbox.enqueue_for(office.advisor.id, lambda ids: True)  # taken, and lost

    assert office.tick() == 0
    office.let_go_by(61)

    assert office.states() == {LeadState.SENT: 1}


def test_redis_that_is_away_for_the_whole_flood(office: Rush) -> None:
    office.is_redis_away = True
    for number in range(30):
        office.sign_up(number)
    assert office.states() == {LeadState.RECEIVED: 30}

    office.is_redis_away = False
    office.tick()

    assert office.states() == {LeadState.SENT: 30}
    assert office.allowance().lead_calls == A_DELIVERY


def test_who_waits_for_the_distance_is_in_the_rows(office: Rush) -> None:
    for number in range(7):
        office.sign_up(number)
    assert office.states() == {LeadState.SENT: 5, LeadState.RECEIVED: 2}
    assert outbox.count_due(db.session(), utcnow()) == (0, None)

    office.let_go_by(5)
    assert office.states() == {LeadState.SENT: 5, LeadState.RECEIVED: 2}
    office.let_go_by(56)

    assert office.states() == {LeadState.SENT: 7}
    assert office.deliveries == 6


def test_who_could_go_is_late_from_the_moment_on_at_which_they_could(office: Rush) -> None:
    lead = someone_signs_up(office.advisor)
    lead.next_attempt_at = utcnow() - timedelta(hours=1)
    office.connection.leads_not_before = could_go_at = utcnow() - timedelta(minutes=2)
    db.session.commit()

    assert outbox.count_due(db.session(), utcnow()) == (1, could_go_at)


# ---- A quarter of the share


def test_leads_wait_with_words_once_their_quarter_is_used_and_syncs_go_on(office: Rush) -> None:
    office.use_lead_calls(28)  # two left, and a round takes three

    office.sign_up(0)

    lead = office.lead("p0@example.com")
    assert (lead.state, lead.why) == (LeadState.WAITING, "leads_share_used_up")
    assert office.allowance().lead_calls == 28  # none was wasted
    assert queries.find_hold(office.advisor, office.connection, utcnow()) == Hold.NO_CALLS
    assert office.reload(office.connection.partner).paused_until is None
    assert office.sync().is_complete


def test_who_waited_for_calls_goes_out_by_itself_and_together(office: Rush) -> None:
    office.use_lead_calls(30)
    for number in range(20):
        office.sign_up(number)
    deliveries = office.deliveries
    office.let_go_by(10 * 60)
    assert office.deliveries == deliveries  # no delivery begins before a quarter of an hour is over
    office.let_go_by(6 * 60)
    assert office.states()[LeadState.WAITING] >= 1

    office.use_lead_calls(30, hours_ago=26)
    office.let_go_by(16 * 60)

    assert office.states() == {LeadState.SENT: 20}
    assert office.allowance().lead_calls == A_DELIVERY


def test_a_share_that_syncs_have_used_up_is_not_paused_by_a_lead(office: Rush) -> None:
    office.use_lead_calls(0)
    db.session.execute(update(ApiUsage).values(calls=120))
    db.session.commit()

    office.sign_up(0)

    assert office.lead("p0@example.com").why == "share_used_up"
    assert office.reload(office.connection.partner).paused_until is None


def test_leads_go_out_where_the_orgs_total_is_unknown(office: Rush) -> None:
    office.use_lead_calls(1000)
    office.connection.partner.org_calls_allowed = None
    db.session.commit()

    office.sign_up(0)

    assert office.states() == {LeadState.SENT: 1}


def test_calls_of_syncs_are_not_counted_as_calls_for_leads(office: Rush) -> None:
    assert office.allowance().lead_calls == 0
    office.sign_up(0)
    office.sync()

    allowance = office.allowance()
    assert (allowance.lead_calls, allowance.ours) == (A_DELIVERY, A_DELIVERY + 2)


@pytest.mark.parametrize(("share", "quarter"), [(1500, 375), (15, 3), (6, 3), (2, 2), (0, 0), (None, None)])
def test_a_quarter_is_never_less_than_a_round_takes(share: int | None, quarter: int | None) -> None:
    """Otherwise no lead of a firm with a tiny share would ever go out."""
    assert Allowance(0, share, None, None).leads_share == quarter


# ---- The limit of a page per day


def test_who_comes_beyond_the_limit_is_stored_and_waits_for_the_advisor(office: Rush) -> None:
    set_limit(office.advisor, 3)
    for number in range(5):
        office.sign_up(number)

    assert office.states() == {LeadState.SENT: 3, LeadState.FOR_REVIEW: 2}
    lead = office.lead("p3@example.com")
    assert (lead.why, lead.attempts) == (Review.OVER_LIMIT, 0)
    assert db.session.scalar(select(func.count()).select_from(ConsentEvent)) == 5
    office.let_go_by(3600)
    assert office.states() == {LeadState.SENT: 3, LeadState.FOR_REVIEW: 2}


def test_a_person_who_signs_up_again_does_not_count(office: Rush) -> None:
    set_limit(office.advisor, 2)
    for number in (0, 0, 0, 1):
        office.sign_up(number)

    assert office.states() == {LeadState.SENT: 2}


def test_a_new_day_begins_with_its_first_person(office: Rush) -> None:
    set_limit(office.advisor, 1)
    office.sign_up(0)
    office.let_go_by(24 * 3600)

    office.sign_up(1)
    office.sign_up(2)

    assert office.states() == {LeadState.SENT: 2, LeadState.FOR_REVIEW: 1}


def test_who_comes_while_the_page_is_paused_does_not_use_up_its_day(office: Rush) -> None:
    set_limit(office.advisor, 2)
    sign_up_page.pause(sign_up_page.ensure_page(office.advisor))
    for number in range(3):
        office.sign_up(number)
    sign_up_page.resume(sign_up_page.ensure_page(office.advisor))

    for number in range(3, 6):
        office.sign_up(number)

    whys = dict(db.session.execute(select(Lead.why, func.count()).group_by(Lead.why)).all())
    assert whys == {Review.PAGE_PAUSED: 3, Review.OVER_LIMIT: 1, None: 2}


def test_once_the_advisor_has_looked_they_go_out_and_the_page_takes_as_many_again(office: Rush) -> None:
    set_limit(office.advisor, 2)
    for number in range(4):
        office.sign_up(number)

    assert decisions.send_reviewed(office.advisor, ask_no_one) == 2
    outbox.enqueue_for(office.advisor.id, office.enqueue)
    office.work()
    assert office.states() == {LeadState.SENT: 4}

    for number in range(4, 7):
        office.sign_up(number)
    office.let_go_by(60)
    assert office.states() == {LeadState.SENT: 6, LeadState.FOR_REVIEW: 1}
    assert len(office.leads_there()) == 6


def test_a_person_who_waits_can_be_erased(office: Rush) -> None:
    set_limit(office.advisor, 1)
    office.sign_up(0)
    office.sign_up(1)

    decisions.erase_lead(office.lead("p1@example.com"))

    assert office.states() == {LeadState.SENT: 1, LeadState.ERASED: 1}
    assert decisions.send_reviewed(office.advisor, ask_no_one) == 0


def test_people_that_the_advisor_has_deleted_here_are_not_sent(office: Rush) -> None:
    set_limit(office.advisor, 1)
    for number in range(4):
        office.sign_up(number)
    made_up = [office.lead(f"p{number}@example.com").contact_id or 0 for number in (1, 2)]
    removal.remove_contacts(office.advisor.id, made_up)

    assert queries.count_waiting(office.advisor.id) == (1, 1)
    assert decisions.send_reviewed(office.advisor, ask_no_one) == 1

    assert queries.count_waiting(office.advisor.id) == (0, 0)
    removal.restore_contacts(office.advisor.id, made_up[:1])
    assert queries.count_waiting(office.advisor.id) == (1, 1)
    assert decisions.send_reviewed(office.advisor, ask_no_one) == 1


def test_another_advisors_people_are_not_sent(office: Rush) -> None:
    other = office.join("Tomas Varga")
    set_limit(other, 1)
    for number in range(2):
        office.sign_up(number, other)

    assert decisions.send_reviewed(office.advisor, ask_no_one) == 0
    assert office.states()[LeadState.FOR_REVIEW] == 1


def test_a_refused_form_does_not_count(office: Rush) -> None:
    for number in range(20):
        office.sign_up(number)
    page = sign_up_page.ensure_page(office.advisor)
    text_id, key = sign_up_page.current_text(page.user_id).id, f"form-{page.user_id}-0"

    with pytest.raises(FormUsedUp):
        sign_up(
            page,
            Typed("Mei", "Chou", "p99@example.com", True),
            FormSeen(text_id, key, "203.0.113.80"),
            current_app.extensions["asapp.vault"],
        )

    assert sign_up_page.ensure_page(office.advisor).people_that_day == 20
