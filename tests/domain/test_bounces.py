"""Bounces in Salesforce: stored with date and reason; the contact is inactive while it has that address, if the firm wants it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask

from asapp.contacts.status import contact_rows, count_active, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Contact, RunChange
from asapp.panel.balance import balance
from orgsim import Running
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import reasons_here


class BounceOffice(PostOffice):
    def contact(self) -> Contact:
        db.session.rollback()
        return db.session.query(Contact).populate_existing().one()

    def bounced(self, **fields: object) -> str:
        """Sync a contact, let its mail bounce, and sync again."""
        rose = self.add(email="rose@edge.example", **fields)
        self.sync()
        self.org.bounce(rose, "550 mailbox unavailable")
        assert self.sync().deactivated == 1
        return rose


@pytest.fixture
def office(app: Flask, org: Running) -> BounceOffice:
    return BounceOffice(org)


def test_a_bounce_is_marked_with_date_and_reason_and_switches_off(office: BounceOffice) -> None:
    rose = office.bounced()
    assert reasons_here(office.connection) == {rose: "bounced"}
    contact = office.contact()
    assert contact.has_bounced
    assert contact.bounced_at is not None
    assert abs(contact.bounced_at - utcnow()) < timedelta(minutes=5)
    assert contact.bounce_reason == "550 mailbox unavailable"
    assert db.session.query(RunChange.kind, RunChange.reason).all() == [("deactivated", "bounced")]
    assert db.session.execute(contact_rows(count_active(utcnow()))).scalar() == 0


def test_a_contact_that_bounced_already_comes_in_inactive_and_the_balance_counts_it(office: BounceOffice) -> None:
    office.org.bounce(office.add(email="a@fjord.example"))
    office.add(email="b@fjord.example")
    office.org.bounce(office.add(email="c@fjord.example", opted_out=True))
    assert office.sync().created == 2
    books = balance(office.connection)
    assert books
    assert (books.active, books.bounced, books.opted_out, books.rest) == (1, 1, 1, 0)


def test_another_address_ends_it_and_the_first_one_brings_it_back(office: BounceOffice) -> None:
    rose = office.bounced()
    office.org.update_contact(rose, email="new@edge.example")
    assert office.sync().reactivated == 1
    office.org.update_contact(rose, last_name="Meyer")
    assert office.sync().updated == 1
    assert reasons_here(office.connection) == {rose: None}
    office.org.update_contact(rose, email="Rose@Edge.example")
    assert office.sync().deactivated == 1


def test_a_later_bounce_is_of_the_address_of_now(office: BounceOffice) -> None:
    rose = office.bounced()
    office.org.update_contact(rose, email="new@edge.example")
    office.sync()
    office.org.clock.advance(60)
    office.org.bounce(rose)
    assert office.sync().deactivated == 1


def test_salesforce_ends_it(office: BounceOffice) -> None:
    rose = office.bounced()
    office.org.update_contact(rose, EmailBouncedDate=None, EmailBouncedReason=None)
    assert office.sync().reactivated == 1
    assert reasons_here(office.connection) == {rose: None}
    assert not office.contact().has_bounced


def test_the_firms_setting_decides_without_a_sync_and_the_mark_stays(office: BounceOffice) -> None:
    rose = office.bounced()
    office.connection.partner.skip_bounced = False
    office.save()
    assert reasons_here(office.connection) == {rose: None}
    assert office.contact().has_bounced
    office.org.update_contact(rose, EmailBouncedReason="452 mailbox full")
    assert office.sync().updated == 1


def test_a_bounce_comes_before_an_opt_out_and_behind_a_departure(office: BounceOffice) -> None:
    rose = office.bounced()
    office.org.opt_out(rose)
    assert office.sync().updated == 1
    assert reasons_here(office.connection) == {rose: "bounced"}
    office.org.delete(rose)
    office.sync()
    assert reasons_here(office.connection) == {rose: "deleted"}


def test_where_bounces_are_hidden_no_contact_changes(office: BounceOffice) -> None:
    rose = office.bounced()
    office.org.hide_field("Contact", "EmailBouncedReason")
    office.org.update_contact(rose, last_name="Meyer")
    run = office.sync()
    assert (run.is_complete, run.api_calls, run.updated) == (True, 2, 1)
    assert reasons_here(office.connection) == {rose: "bounced"}


def test_a_lead_that_bounced_switches_the_person_off_and_back(office: BounceOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.sync()
    office.org.bounce(lead_id)
    office.sync()
    reason = contact_rows(reason_of(utcnow()))
    assert db.session.execute(reason).scalar() == "bounced"
    office.org.update_lead(lead_id, EmailBouncedDate=None, EmailBouncedReason=None)
    office.sync()
    assert db.session.execute(reason).scalar() is None
