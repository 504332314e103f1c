"""Which leads a delivery claims, and what it may still write once another worker has them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import decisions, outbox
from asapp.leads.delivery import deliver
from asapp.messages.codes import Code
from asapp.models import Connection, Contact, Lead, LeadState, Partner
from asapp.salesforce.client import LEADS_A_CREATE
from orgsim.server import Running
from tests.domain.test_leads_following import FollowingOffice
from tests.domain.test_leads_once import at_the_same_time
from tests.factories import make_advisor, make_connection, org_access
from tests.signing_up import someone_signs_up
from tests.syncing import MeetingAccess

LOOK_FOR_CONTACTS, LOOK_FOR_LEADS, CREATE = 1, 2, 3  # the calls of a round
OTHER = "zoe.lindstrom@harbour.example"


@pytest.fixture
def office(app: Flask, org: Running) -> FollowingOffice:
    return FollowingOffice(org)


def claim(office: FollowingOffice) -> str:
    """Claim what is due for the office's advisor; return the lease."""
    lease, _ = outbox.claim(office.advisor.id, office.connection.partner_id, LEADS_A_CREATE)
    db.session.commit()
    return lease


def another_worker_claims(app: Flask, office: FollowingOffice) -> str:
    """Let another process find the leases expired and claim the leads; return its lease."""
    user_id, partner_id = db.session.execute(select(Connection.user_id, Connection.partner_id)).one()
    db.session.commit()
    leases: list[str] = []

    def work() -> None:
        office.make_due()
        lease, leads = outbox.claim(user_id, partner_id, LEADS_A_CREATE)
        assert leads
        db.session.commit()
        leases.append(lease)

    at_the_same_time(app, work)
    return leases[0]


def deliver_and(office: FollowingOffice, number: int, during: Callable[[], None]) -> None:
    """Deliver; during runs while Salesforce is asked for the number-th time, after the lease was renewed for that call."""
    connection_id = office.connection.id
    numbers = itertools.count(1)

    def meet() -> None:
        if next(numbers) == number:
            during()

    db.session.commit()
    deliver(connection_id, org_access(MeetingAccess, between_pages=lambda: None, meet=meet))
    db.session.rollback()
    db.session.expire_all()


# ---- Which leads


def test_a_delivery_takes_no_leads_of_a_colleague_at_the_same_firm(office: FollowingOffice) -> None:
    bob = make_advisor(office.connection.partner, "Bob Ferreira")
    make_connection(bob, org_id=office.org.id, salesforce_user_id=office.colleague)
    someone_signs_up(bob, OTHER)
    someone_signs_up(office.advisor)

    office.deliver()

    assert office.lead().state == LeadState.SENT
    assert [lead["Email"] for lead in office.org.leads()] == ["mei.chou@harbour.example"]
    bobs = office.lead(OTHER)
    assert (bobs.state, bobs.attempts, bobs.lease) == (LeadState.RECEIVED, 0, None)


def test_leads_that_are_leased_are_not_claimed_until_the_lease_is_over(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    first = claim(office)
    assert outbox.lock_round(claim(office)) == []

    office.make_due()
    second = claim(office)

    assert [lead.lease for lead in outbox.lock_round(second)] == [second]
    assert outbox.lock_round(first) == []


def test_a_lead_that_was_put_off_is_neither_claimed_nor_enqueued_before_its_time(office: FollowingOffice) -> None:
    lead = someone_signs_up(office.advisor)
    outbox.put_off(lead, Code.NO_ANSWER, wait=timedelta(minutes=5))
    db.session.commit()
    assert outbox.lock_round(claim(office)) == []
    assert outbox.enqueue_due(lambda ids: True) == 0

    office.make_due()
    assert outbox.enqueue_due(lambda ids: True) == 1
    assert outbox.lock_round(claim(office)) == [lead]


def test_a_later_attempt_keeps_the_moment_of_the_first_from_which_a_lost_lead_is_looked_for(
    office: FollowingOffice,
) -> None:
    lead = someone_signs_up(office.advisor)
    first_at = lead.first_attempt_at = utcnow() - timedelta(hours=2)
    db.session.commit()
    office.deliver()
    lead = office.lead()
    assert (lead.state, lead.attempts, lead.first_attempt_at) == (LeadState.SENT, 1, first_at)


# ---- The lease is lost


def test_rows_of_a_round_are_not_locked_for_a_worker_that_lost_it(app: Flask, office: FollowingOffice) -> None:
    lead_id = someone_signs_up(office.advisor).id
    first = claim(office)
    second = another_worker_claims(app, office)

    assert outbox.lock(first, [lead_id]) == []
    assert [lead.id for lead in outbox.lock(second, [lead_id])] == [lead_id]
    db.session.rollback()


def test_a_delivery_that_lost_its_leads_while_it_searched_links_no_one(app: Flask, office: FollowingOffice) -> None:
    office.add(email="mei.chou@harbour.example")
    someone_signs_up(office.advisor)
    leases: list[str] = []

    deliver_and(office, LOOK_FOR_CONTACTS, lambda: leases.append(another_worker_claims(app, office)))

    lead = office.lead()
    assert (lead.state, lead.linked_contact_id, lead.lease) == (LeadState.RECEIVED, None, leases[0])


def test_a_delivery_that_lost_its_leads_while_it_searched_announces_no_create(
    app: Flask, office: FollowingOffice
) -> None:
    someone_signs_up(office.advisor)
    leases: list[str] = []

    deliver_and(office, LOOK_FOR_LEADS, lambda: leases.append(another_worker_claims(app, office)))

    lead = office.lead()
    assert (lead.state, lead.attempts, lead.unanswered_at) == (LeadState.RECEIVED, 0, None)
    assert lead.lease == leases[0]
    assert office.org.leads() == []


def test_a_delivery_that_lost_its_leads_before_a_call_makes_no_call_more(app: Flask, office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    leases: list[str] = []
    marks: list[int] = []

    def before_call(number: int) -> None:
        if number == CREATE:
            leases.append(another_worker_claims(app, office))
            marks.append(office.org.calls.mark())

    office.deliver(before_call)

    assert office.org.calls.since(marks[0]) == []
    assert office.org.leads() == []
    assert office.lead().lease == leases[0]


def test_an_id_that_comes_after_the_lease_was_lost_is_stored_all_the_same(app: Flask, office: FollowingOffice) -> None:
    """The Lead is there: it must not be made again."""
    someone_signs_up(office.advisor)
    office.after_create = lambda: another_worker_claims(app, office) and None

    office.deliver()

    (made,) = office.org.leads()
    assert (office.lead().state, office.lead().salesforce_id) == (LeadState.SENT, made["Id"])


def test_a_refusal_that_comes_after_the_lease_was_lost_is_not_stored(app: Flask, office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    office.org.change_settings(required_fields={"Lead": ["Phone"]})
    leases: list[str] = []
    office.after_create = lambda: leases.append(another_worker_claims(app, office))

    office.deliver()

    assert (office.lead().state, office.lead().lease) == (LeadState.SENDING, leases[0])


# ---- The person is erased during a create


def test_of_a_person_who_is_erased_during_the_create_the_id_alone_is_kept(app: Flask, office: FollowingOffice) -> None:
    """The Id identifies their record in Salesforce; no other data of the person is stored."""
    someone_signs_up(office.advisor)
    user_id = office.advisor.id
    db.session.commit()

    def erase() -> None:
        at_the_same_time(app, lambda: decisions.erase(user_id, db.session.scalars(select(Contact)).one()))

    office.after_create = erase
    office.deliver()

    (made,) = office.org.leads()
    lead = db.session.scalars(select(Lead)).one()
    assert (lead.state, lead.salesforce_id) == (LeadState.ERASED, made["Id"])
    assert (lead.email, lead.first_name, lead.last_name, lead.address_hash) == ("", "", "", None)
    contact = db.session.scalars(select(Contact)).one()
    assert (contact.email, contact.is_lead, contact.followed_by_id) == ("", False, None)


# ---- When a delivery may begin


def pause(partner: Partner) -> None:
    partner.paused_until = utcnow() + timedelta(hours=1)


def switch_off(partner: Partner) -> None:
    partner.is_enabled = False


def take_key_away(partner: Partner) -> None:
    partner.consumer_key_sealed = None


def take_secret_away(partner: Partner) -> None:
    partner.consumer_secret_sealed = None


OFF = [pause, switch_off, take_key_away, take_secret_away]


@pytest.mark.parametrize("turn_off", OFF, ids=lambda deed: deed.__name__)
def test_a_job_that_was_enqueued_before_its_firm_was_off_does_nothing(
    office: FollowingOffice, turn_off: Callable[[Partner], None]
) -> None:
    someone_signs_up(office.advisor)
    assert outbox.enqueue_due(lambda _: True) == 1
    turn_off(office.connection.partner)
    db.session.commit()
    mark = office.org.calls.mark()

    assert office.deliver() == 0

    assert office.org.calls.since(mark) == []
    assert (office.lead().state, office.lead().lease) == (LeadState.RECEIVED, None)
    assert office.reload(office.connection).leads_not_before is None  # no delivery was made that others keep away from


@pytest.mark.parametrize("turn_off", OFF, ids=lambda deed: deed.__name__)
def test_no_delivery_is_enqueued_while_its_firm_is_off(
    office: FollowingOffice, turn_off: Callable[[Partner], None]
) -> None:
    someone_signs_up(office.advisor)
    turn_off(office.connection.partner)
    db.session.commit()

    assert outbox.enqueue_due(lambda _: True) == 0
    assert db.session.scalar(select(func.count()).select_from(Lead).where(Lead.state == LeadState.RECEIVED)) == 1


@pytest.mark.parametrize(("seconds", "number"), [(45, 0), (61, 1)])
def test_a_delivery_that_did_not_begin_within_a_minute_is_enqueued_again(
    office: FollowingOffice, seconds: int, number: int
) -> None:
    """Redis lost it. Within a minute it may only be waiting for a worker."""
    someone_signs_up(office.advisor)
    office.connection.leads_rung_at = utcnow() - timedelta(seconds=seconds)
    db.session.commit()

    assert outbox.enqueue_due(lambda _: True) == number
