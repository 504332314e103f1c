"""Syncs and suppressions: what a person told us here holds, whatever Salesforce brings."""

from __future__ import annotations

import pytest
from flask import Flask

from asapp.accounts import advisors
from asapp.contacts import suppressions
from asapp.contacts.suppressions import Address
from asapp.core.extensions import db
from asapp.models import SuppressionSource, User
from orgsim import Running
from tests.factories import make_partner, org_access
from tests.syncing import KEY, SECRET, Office, reasons_here

SHARED, OTHER = "shared@fjord.example", "other@fjord.example"


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return Office(org)


def unsubscribe(office: Office, email: str = SHARED, *, whole_firm: bool = False) -> None:
    user = db.session.get_one(User, office.connection.user_id)
    address = Address(user.partner_id or 0, user.id, office.hash(email))
    suppressions.unsubscribe(address, SuppressionSource.PAGE, whole_firm=whole_firm, vault=org_access().vault)


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


def test_an_opt_out_of_one_who_unsubscribed_switches_nobody_off_twice(office: Office) -> None:
    salesforce_id = office.add(email=SHARED)
    office.add(email=OTHER)
    office.sync()
    unsubscribe(office, whole_firm=True)
    office.org.opt_out(salesforce_id)
    run = office.sync()
    assert (run.deactivated, run.updated) == (0, 1)


def test_what_people_told_an_advisor_at_the_firm_before_holds_for_those_who_come_along(office: Office) -> None:
    user = db.session.get_one(User, office.connection.user_id)
    home = user.partner
    assert home is not None
    office.add(email=SHARED)
    office.sync()
    address = Address(home.id, user.id, office.hash(SHARED))
    advisors.move(user, make_partner(url=office.url, key=KEY, secret=SECRET), True, org_access())
    suppressions.unsubscribe(address, SuppressionSource.PAGE, whole_firm=False, vault=org_access().vault)
    office.connection = office.connect()
    office.sync()
    assert set(reasons_here(office.connection).values()) == {"unsubscribed"}
