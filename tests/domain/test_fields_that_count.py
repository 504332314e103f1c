"""Which fields decide whether a person may be written to: the firm's own, and "Email Opt Out" wherever it can be read."""

from __future__ import annotations

import pytest
from flask import Flask

from asapp.core.extensions import db
from asapp.models import LedgerEntry, LedgerOutcome
from orgsim import Running
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import reasons_here

OWN = "Do_Not_Email__c"
STANDARD = "HasOptedOutOfEmail"


class OwnOffice(PostOffice):
    """A firm whose own opt-out field exists on these objects."""

    def __init__(self, running: Running, *objects: str) -> None:
        super().__init__(running)
        for name in objects:
            self.org.add_field(name, OWN)
        self.connection.partner.opt_out_field = OWN
        self.save()

    def sync_after_a_day(self) -> int:
        """Sync with the daily check; return how many calls it took."""
        self.org.clock.advance(3600)
        self.let_a_day_pass()
        return self.sync().api_calls

    def fields_read(self) -> str | None:
        return self.reload(self.connection).opt_out_field_read


@pytest.fixture
def office(app: Flask, org: Running) -> OwnOffice:
    return OwnOffice(org, "Contact", "Lead")


def test_email_opt_out_counts_beside_the_firms_own_field(office: OwnOffice) -> None:
    neither = office.add(email="a@fjord.example")
    office.add(email="b@fjord.example", opted_out=True)
    office.add(email="c@fjord.example", **{OWN: True})
    run = office.sync()
    assert (run.created, run.skipped) == (1, {"opted_out": 2})
    assert reasons_here(office.connection) == {neither: None}
    assert office.fields_read() == f"{OWN},{STANDARD},EmailBouncedDate"


def test_a_contact_is_inactive_while_either_field_is_ticked(office: OwnOffice) -> None:
    rose = office.add(email="a@fjord.example")
    office.sync()
    office.org.opt_out(rose)
    assert office.sync().deactivated == 1
    office.org.update_contact(rose, **{OWN: True, "opted_out": False})
    office.sync()
    assert reasons_here(office.connection) == {rose: "opted_out"}
    office.org.update_contact(rose, **{OWN: False})
    assert office.sync().reactivated == 1


def test_where_email_opt_out_is_hidden_the_firms_own_field_decides(office: OwnOffice) -> None:
    rose = office.add(email="a@fjord.example", opted_out=True)
    office.org.hide_field("Contact", STANDARD)
    first, later = office.sync(), office.sync()
    assert first.is_complete
    assert (first.api_calls, later.api_calls) == (2, 1)
    assert reasons_here(office.connection) == {rose: None}
    assert office.fields_read() == f"{OWN},EmailBouncedDate"


def test_email_opt_out_that_becomes_visible_is_read_for_all_within_a_day(office: OwnOffice) -> None:
    rose, ravi = office.add(email="a@fjord.example", opted_out=True), office.add(email="b@fjord.example")
    office.org.hide_field("Contact", STANDARD)
    office.sync()
    assert office.sync_after_a_day() == 3  # one each for the fields, the changes and the sweep
    office.org.show_field("Contact", STANDARD)
    office.org.clock.advance(3600)
    office.let_a_day_pass()
    run = office.sync()
    assert (run.is_full, run.read, run.api_calls) == (True, 2, 2)
    assert reasons_here(office.connection) == {rose: "opted_out", ravi: None}


def test_email_opt_out_that_becomes_hidden_costs_one_call_and_stops_no_sync(office: OwnOffice) -> None:
    office.add(email="a@fjord.example")
    office.sync()
    office.org.hide_field("Contact", STANDARD)
    assert [office.sync().api_calls for _ in range(2)] == [2, 1]


def test_the_sweep_of_a_day_compares_by_both_fields(office: OwnOffice) -> None:
    rose = office.add(email="a@fjord.example")
    office.sync()
    office.org.change_without_stamp(rose, HasOptedOutOfEmail=True)
    office.sync_after_a_day()
    assert reasons_here(office.connection) == {rose: "opted_out"}
    assert db.session.query(LedgerEntry.outcome).scalar() == LedgerOutcome.OPTED_OUT


def test_the_preview_counts_by_both_fields(office: OwnOffice) -> None:
    office.add(email="a@fjord.example", opted_out=True)
    office.add(email="b@fjord.example", **{OWN: True})
    office.add(email="c@fjord.example")
    with office.workplace().access.open(office.connection) as client:
        assert client.count_preview(office.user) == (3, 2, 0)


def test_a_lead_opts_out_by_either_field(office: OwnOffice) -> None:
    office.org.add_lead(office.user, last_name="Chou", email="mei.chou@harbour.example", opted_out=True)
    someone_signs_up(office.advisor)
    office.deliver()
    assert office.lead().opted_out
    office.sync()
    assert office.reload(office.connection).lead_fields_read == f"{OWN},{STANDARD},EmailBouncedDate"


def test_a_field_that_only_contacts_have_leaves_leads_unfollowed_and_contacts_alone(app: Flask, org: Running) -> None:
    office = OwnOffice(org, "Contact")
    rose = office.add(email="a@fjord.example")
    someone_signs_up(office.advisor)
    office.deliver()
    assert len(office.leads_there()) == 1
    assert office.sync().is_complete
    assert office.reload(office.connection).leads_trouble == "lead_opt_out_hidden"
    assert reasons_here(office.connection) == {rose: None}


def test_email_opt_out_of_leads_that_is_hidden_stops_nothing(office: OwnOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    office.sync()
    office.org.hide_field("Lead", STANDARD)
    assert [office.sync().api_calls for _ in range(2)] == [2, 1]
    connection = office.reload(office.connection)
    assert (connection.leads_trouble, connection.lead_fields_read) == (None, f"{OWN},EmailBouncedDate")
