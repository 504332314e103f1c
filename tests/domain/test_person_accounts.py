"""Firms with person accounts: known by a describe; links, merges and new leads go by the account."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from asapp.core.extensions import db
from asapp.models import Contact, Partner
from asapp.partners.checks import check_connection, run_checks
from orgsim import Running
from tests.factories import log_in
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import contacts_here, reasons_here

FIELDS = "HasOptedOutOfEmail,EmailBouncedDate,IsPersonAccount"


class PersonOffice(PostOffice):
    def __init__(self, running: Running) -> None:
        super().__init__(running)
        self.org.use_person_accounts()
        self.check()

    @property
    def partner(self) -> Partner:
        return self.reload(self.connection).partner

    def check(self) -> None:
        check_connection(self.reload(self.connection), self.workplace().access)

    def add_person(self, email: str, **fields: object) -> tuple[str, str]:
        """Return the Ids of a new person's account and contact."""
        return self.org.add_person(self.user, last_name="Gonzalez", email=email, **fields)

    def accounts(self) -> dict[str | None, str | None]:
        """Return {Salesforce Id: account} of the contacts here."""
        db.session.rollback()
        return {row[0]: row[1] for row in db.session.execute(select(Contact.salesforce_id, Contact.account_id))}


@pytest.fixture
def office(app: Flask, org: Running) -> PersonOffice:
    return PersonOffice(org)


def test_the_account_is_kept_beside_the_id_of_a_person_only(office: PersonOffice) -> None:
    account, person = office.add_person("a@fjord.example")
    business = office.add(email="b@fjord.example")
    assert office.sync().created == 2
    assert office.accounts() == {person: account, business: None}
    assert office.reload(office.connection).opt_out_field_read == FIELDS
    assert office.sync().api_calls == 1


@pytest.mark.parametrize("survivor_is_named", [False, True])
def test_a_merge_is_followed_through_the_account(office: PersonOffice, survivor_is_named: bool) -> None:
    office.org.name_survivors(survivor_is_named)
    winner, survivor = office.add_person("a@fjord.example")
    loser, lost = office.add_person("b@fjord.example")
    office.sync()
    birthdays = office.put_on_list(lost, "Birthdays")
    office.org.merge(winner, [loser])
    run = office.sync()
    assert reasons_here(office.connection) == {survivor: None, lost: "merged"}
    assert next(each for each in contacts_here(office.connection) if each.salesforce_id == lost).merged_into == survivor
    assert office.members(birthdays) == [survivor]
    assert run.also["memberships_moved"] == 1
    again = office.sync()  # the rows are read again, and change nothing
    assert (again.is_balanced, again.deactivated, again.updated) == (True, 0, 0)
    assert reasons_here(office.connection) == {survivor: None, lost: "merged"}


def test_a_deleted_account_deletes_its_contact_and_a_restored_one_brings_it_back(office: PersonOffice) -> None:
    account, person = office.add_person("a@fjord.example")
    office.sync()
    office.org.delete(account)
    office.sync()
    assert reasons_here(office.connection) == {person: "deleted"}
    office.org.undelete(account)
    office.sync()
    assert reasons_here(office.connection) == {person: None}


def test_where_accounts_can_not_be_read_a_merged_person_counts_as_deleted(office: PersonOffice) -> None:
    winner, survivor = office.add_person("a@fjord.example")
    loser, lost = office.add_person("b@fjord.example")
    office.sync()
    office.org.deny_object("Account", "read")
    office.org.merge(winner, [loser])
    assert office.sync().is_complete
    assert reasons_here(office.connection) == {survivor: None, lost: "deleted"}


def test_a_flip_between_person_and_business_changes_nothing_else(office: PersonOffice) -> None:
    account, rose = office.add_person("a@fjord.example")
    office.sync()
    office.put_on_list(rose, "Birthdays")
    for flip_to, kept in ((office.org.account_id, False), (None, True)):
        office.org.clock.advance(60)
        office.org.flip_person(rose, flip_to)
        run = office.sync()
        assert (run.unchanged, run.deactivated, run.updated, run.created) == (1, 0, 0, 0)
        assert (office.accounts()[rose] is not None) is kept
        assert reasons_here(office.connection) == {rose: None}
    assert office.accounts()[rose] != account


def test_an_org_that_switches_person_accounts_on_is_read_anew_within_a_day(app: Flask, org: Running) -> None:
    office = PostOffice(org)
    rose = office.add(email="a@fjord.example")
    run_checks(office.reload(office.connection).partner, office.workplace().access)
    office.sync()
    office.org.flip_person(rose)
    run_checks(office.reload(office.connection).partner, office.workplace().access)
    office.org.clock.advance(3600)
    office.let_a_day_pass()
    run = office.sync()
    assert (run.is_full, run.unchanged) == (True, 1)
    assert contacts_here(office.connection)[0].account_id == office.org.contact(rose)["AccountId"]


def test_checks_and_panel_say_that_the_org_uses_person_accounts(office: PersonOffice, client: FlaskClient) -> None:
    assert office.partner.has_person_accounts
    found = {check.code: check for check in run_checks(office.partner, office.workplace().access).checks}
    assert found["persons"].says.startswith("This org uses person accounts.")
    log_in(client, office.advisor)
    assert "This org uses person accounts." in client.get("/settings/integrations").text


def test_links_to_a_person_lead_to_the_account(office: PersonOffice, client: FlaskClient) -> None:
    account, person = office.add_person("a@fjord.example")
    business = office.add(email="b@fjord.example")
    _, elsewhere = office.org.add_person(office.colleague, last_name="Barr", email="c@fjord.example")
    office.sync()
    log_in(client, office.advisor)
    page = client.get("/contacts").text
    for shown, record in ((True, account), (False, person), (True, business)):
        assert (f'href="{office.url}/{record}"' in page) is shown
    for asked, answer in ((person, account), (elsewhere, office.org.contact(elsewhere)["AccountId"])):
        assert f'href="{office.url}/{answer}"' in client.get(f"/contacts/why?person={asked}").text


# --- leads


@pytest.mark.parametrize(
    ("is_automatic", "company", "becomes_person"), [(True, None, True), (False, "Private client", False)]
)
def test_company_of_a_lead_and_what_it_becomes(
    office: PersonOffice, is_automatic: bool, company: str | None, becomes_person: bool
) -> None:
    partner = office.partner
    partner.is_company_automatic, partner.lead_company = is_automatic, "Private client"
    office.save()
    someone_signs_up(office.advisor)
    office.deliver()
    lead = office.org.leads()[0]
    assert (office.lead().state, lead["Company"]) == ("sent", company)
    contact_id = office.org.convert_lead(lead["Id"])
    office.sync()
    assert bool(office.accounts()[contact_id]) is becomes_person


def test_where_company_is_required_leads_carry_the_text(app: Flask, org: Running) -> None:
    office = PostOffice(org)
    check_connection(office.reload(office.connection), office.workplace().access)
    someone_signs_up(office.advisor)
    office.deliver()
    partner = office.reload(office.connection).partner
    assert (partner.has_person_accounts, partner.may_leads_lack_company) == (False, False)
    assert [lead["Company"] for lead in office.org.leads()] == ["[not provided]"]
