"""Syncs and suppressions: an unsubscribe here holds, whatever comes from Salesforce."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.accounts import advisors
from asapp.contacts.form_fields import Details
from asapp.contacts.manual import add_contact
from asapp.contacts.status import contact_rows, reason_of
from asapp.contacts.suppressions import Address, Happened
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import decisions
from asapp.models import Contact, Suppression, SuppressionSource, SuppressionStep, User
from asapp.panel.balance import balance
from asapp.writeback import unsubscribing
from orgsim import Running
from tests.domain.test_leads_following import FollowingOffice
from tests.factories import make_contact, make_partner, org_access
from tests.mail_links import record
from tests.syncing import KEY, SECRET, Office, reasons_here

SHARED, OTHER = "shared@fjord.example", "other@fjord.example"


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return Office(org)


def unsubscribe(office: Office, email: str = SHARED, *, whole_firm: bool = False) -> None:
    user = db.session.get_one(User, office.connection.user_id)
    address = Address(user.partner_id or 0, user.id, office.hash(email))
    unsubscribing.unsubscribe(address, SuppressionSource.PAGE, whole_firm=whole_firm, vault=org_access().vault)


def test_a_contact_that_arrives_at_a_suppressed_address_is_inactive_from_its_page_on(office: Office) -> None:
    office.sync()
    unsubscribe(office)
    salesforce_id = office.add(email=SHARED)
    assert office.sync().created == 1
    assert reasons_here(office.connection) == {salesforce_id: "unsubscribed"}


def test_no_sync_ends_a_suppression(office: Office) -> None:
    salesforce_id = office.add(email=SHARED)
    office.sync()
    unsubscribe(office)
    office.org.opt_out(salesforce_id)
    office.sync()
    office.org.opt_in(salesforce_id)
    run = office.sync()
    assert (run.deactivated, run.reactivated) == (0, 0)
    assert reasons_here(office.connection) == {salesforce_id: "unsubscribed"}
    office.let_a_day_pass()
    office.sync()
    assert reasons_here(office.connection) == {salesforce_id: "unsubscribed"}


def test_a_record_that_is_deleted_and_made_again_stays_suppressed(office: Office) -> None:
    first = office.add(email=SHARED)
    office.sync()
    unsubscribe(office)
    office.org.delete(first)
    second = office.add(email=SHARED)
    office.sync()
    assert reasons_here(office.connection) == {first: "deleted", second: "unsubscribed"}


def test_another_address_is_another_address_and_the_receipt_says_so(office: Office) -> None:
    moving = office.add(email=SHARED)
    office.sync()
    unsubscribe(office)
    office.org.update_contact(moving, email=OTHER)
    run = office.sync()
    assert (reasons_here(office.connection), run.also) == ({moving: None}, {"unsuppressed": 1})
    office.org.update_contact(moving, email=SHARED)
    run = office.sync()
    assert (reasons_here(office.connection), run.also) == ({moving: "unsubscribed"}, {"suppressed": 1})


def test_an_opt_out_of_a_person_who_unsubscribed_is_not_counted_as_a_second_change(office: Office) -> None:
    salesforce_id = office.add(email=SHARED)
    office.add(email=OTHER)
    office.sync()
    unsubscribe(office, whole_firm=True)
    office.org.opt_out(salesforce_id)
    run = office.sync()
    assert (run.deactivated, run.updated) == (0, 1)


def test_unsubscribes_at_an_advisors_old_firm_hold_for_contacts_that_come_later(office: Office) -> None:
    user = db.session.get_one(User, office.connection.user_id)
    home = user.partner
    assert home is not None
    office.add(email=SHARED)
    office.sync()
    address = Address(home.id, user.id, office.hash(SHARED))
    advisors.move(user, make_partner(url=office.url, key=KEY, secret=SECRET), True, org_access())
    unsubscribing.unsubscribe(address, SuppressionSource.PAGE, whole_firm=False, vault=org_access().vault)
    office.connection = office.connect()
    office.sync()
    assert set(reasons_here(office.connection).values()) == {"unsubscribed"}


def test_what_an_old_firm_was_told_before_any_contact_had_the_address_holds_for_one_that_a_sync_brings(
    office: Office,
) -> None:
    user = db.session.get_one(User, office.connection.user_id)
    unsubscribe(office)
    advisors.move(user, make_partner(url=office.url, key=KEY, secret=SECRET), True, org_access())
    told, other = office.add(email=SHARED), office.add(email=OTHER)
    office.connection = office.connect()
    office.sync()
    assert reasons_here(office.connection) == {told: "unsubscribed", other: None}


def test_a_contact_made_by_hand_stays_suppressed_when_a_sync_adopts_it(office: Office) -> None:
    by_hand = make_contact(office.advisor, email=SHARED, address_hash=office.hash(SHARED))
    unsubscribe(office)
    salesforce_id = office.add(email=SHARED)
    run = office.sync()
    assert run.adopted == 1
    assert office.reload(by_hand).salesforce_id == salesforce_id
    assert reasons_here(office.connection) == {salesforce_id: "unsubscribed"}


def test_the_survivor_of_a_merge_is_judged_by_its_own_address(office: Office) -> None:
    winner, loser = office.add(email=OTHER), office.add(email=SHARED)
    office.sync()
    unsubscribe(office)
    office.org.merge(winner, [loser])
    office.sync()
    assert reasons_here(office.connection) == {winner: None, loser: "merged"}
    office.org.update_contact(winner, email=SHARED)
    office.sync()
    assert reasons_here(office.connection)[winner] == "unsubscribed"


def test_a_lead_that_is_converted_stays_suppressed(app: Flask, org: Running) -> None:
    office = FollowingOffice(org)
    lead_id = office.send()
    office.sync()
    lead = office.lead()
    unsubscribe(office, lead.email)
    contact_id = office.org.convert_lead(lead_id)
    office.sync()
    assert reasons_here(office.connection)[contact_id] == "unsubscribed"


def test_an_erased_person_who_had_unsubscribed_is_not_written_to_under_a_new_record(office: Office) -> None:
    salesforce_id = office.add(email=SHARED)
    office.sync()
    unsubscribe(office)
    decisions.erase(office.advisor.id, db.session.scalars(select(Contact)).one())
    assert db.session.scalars(select(Suppression.unsubscribed_at)).one() is not None
    office.org.delete(salesforce_id)
    by_hand = add_contact(office.advisor, Details("Ruth", "Rivers", SHARED), org_access().vault)
    reason = db.session.scalar(contact_rows(reason_of(utcnow())).where(Contact.id == by_hand.id))
    assert reason == "unsubscribed"


@pytest.mark.parametrize("step", [SuppressionStep.UNSUBSCRIBED, SuppressionStep.COMPLAINED, SuppressionStep.BOUNCED])
def test_the_balance_counts_suppressed_people(office: Office, step: SuppressionStep) -> None:
    office.add(email=SHARED)
    office.add(email=OTHER)
    out = office.add(email="out@fjord.example")
    office.sync()
    for email in (SHARED, "out@fjord.example"):
        address = Address(office.connection.partner_id, office.advisor.id, office.hash(email))
        record([Happened(address, step, SuppressionSource.SENDER, utcnow(), f"e-{email}")])
    office.org.opt_out(out)
    office.sync()
    books = balance(office.connection)
    assert books
    bounced = int(step == SuppressionStep.BOUNCED)
    assert (books.active, books.unsubscribed, books.bounced, books.opted_out) == (1, 1 - bounced, bounced, 1)
    assert books.is_balanced
