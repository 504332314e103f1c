"""A firm with several opt-out fields, one of them that of a consent record with sharing of its own."""

from __future__ import annotations

import pytest
from flask import Flask, current_app
from sqlalchemy import select

from asapp.connections.list_questions import look_inside
from asapp.connections.live_questions import way_to_ask
from asapp.contacts import queries, salesforce_lists, why
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.leads.queries import count_by_state
from asapp.messages.changes import ChangeKind
from asapp.messages.contacts import Answer, UnknownWhy
from asapp.messages.runs import SKIPPED
from asapp.messages.salesforce_lists import tell_not_here
from asapp.models import Contact, Reason, RunChange, SalesforceList, SyncRun
from asapp.panel import changes
from asapp.partners import partners
from asapp.partners.checks import run_checks
from asapp.partners.form_fields import PartnerForm
from asapp.salesforce.org_lists import Look
from orgsim import Running
from tests.factories import org_access
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import KEY, reasons_here

OWN, NEWS, SOLICIT = "Do_Not_Email__c", "No_News__c", "Individual.HasOptedOutSolicit"
STANDARD = "HasOptedOutOfEmail"


class ConsentOffice(PostOffice):
    """A firm that names three opt-out fields. Consent records that the advisor doesn't own are hidden."""

    def __init__(self, running: Running) -> None:
        super().__init__(running)
        for sobject in ("Contact", "Lead"):
            for name in (OWN, NEWS):
                self.org.add_field(sobject, name)
        self.org.use_individuals()
        self.org.change_settings(individual_access="Private")
        self.name_fields(OWN, NEWS, SOLICIT)

    def name_fields(self, first: str, *more: str) -> None:
        partner = self.reload(self.connection).partner
        partner.opt_out_field, partner.more_opt_out_fields = first, ", ".join(more)
        self.save()

    def add_consent(self, record_id: str, *, owner: str | None = None, solicit: bool = False) -> str:
        individual_id = self.org.add_individual(owner or self.user, last_name="Gonzalez", HasOptedOutSolicit=solicit)
        self.org.give_individual(record_id, individual_id)
        return individual_id

    def reasons_of_changes(self, run: SyncRun) -> dict[str | None, str | None]:
        """Return {Salesforce Id: reason} of the contacts that a run made inactive."""
        rows = db.session.execute(
            select(Contact.salesforce_id, RunChange.reason)
            .join(Contact, Contact.id == RunChange.contact_id)
            .where(RunChange.run_id == run.id, RunChange.kind == "deactivated")
        )
        return {row[0]: row[1] for row in rows}

    def sync_after_a_day(self) -> SyncRun:
        self.org.clock.advance(3600)
        self.let_a_day_pass()
        return self.sync()

    def ask(self, text: str) -> why.Verdict:
        """Ask "Why isn't this person here?"."""
        connection, question = self.reload(self.connection), why.read_question(text)
        hashed = why.hash_of(question, connection.partner, current_app.extensions["asapp.vault"])
        return why.find_out(self.advisor.id, question, hashed, connection, way_to_ask(connection, org_access()))

    def follow(self, campaign: str) -> SalesforceList:
        look = look_inside(self.reload(self.connection), org_access(), campaign, "Campaign")
        assert isinstance(look, Look)
        made = salesforce_lists.follow(self.connection, look.found, look.filter)
        found = salesforce_lists.find_one(self.advisor.id, made.id)
        assert found is not None
        return found

    def lead_shown(self) -> str:
        """Return the state that the page of leads shows for the only lead."""
        (shown,) = (name for name, number in count_by_state(self.advisor, None).items() if name and number)
        return shown

    def told(self, record_id: str) -> tuple[str | None, str | None, Answer]:
        """Return the reason that counts, the one that pages tell, and the answer to "Why isn't this person here?"."""
        contact_id = db.session.scalars(select(Contact.id).where(Contact.salesforce_id == record_id)).one()
        line = queries.find_contact(self.advisor.id, contact_id, utcnow())
        assert line is not None
        return line.reason, line.reason_told, self.ask(record_id).answer


HERE = (None, None, Answer.HERE)
OUT = (Reason.OPTED_OUT, Reason.OPTED_OUT, Answer.OPTED_OUT)
UNSEEN = (Reason.OPTED_OUT, UnknownWhy.CONSENT_HIDDEN, Answer.CONSENT_HIDDEN)


@pytest.fixture
def office(app: Flask, org: Running) -> ConsentOffice:
    return ConsentOffice(org)


def test_true_in_any_field_is_opted_out_and_a_hidden_consent_record_has_a_reason_of_its_own(
    office: ConsentOffice,
) -> None:
    no_consent, agreed, refused, unseen = (office.add(email=f"{n}@fjord.example") for n in range(4))
    for ticked in (OWN, NEWS, STANDARD):
        office.add(email=f"{ticked}@fjord.example", **{ticked: True})
    office.add_consent(agreed)
    office.add_consent(refused, solicit=True)
    office.add_consent(unseen, owner=office.colleague)
    run = office.sync()
    assert (run.created, run.skipped) == (2, {"opted_out": 4, "consent_hidden": 1})
    assert run.is_balanced
    assert SKIPPED["consent_hidden"] == "consent record not visible"
    assert reasons_here(office.connection) == {no_consent: None, agreed: None}
    assert office.sync().api_calls == 1


def test_a_consent_record_that_becomes_hidden_or_refuses_counts_within_a_day(office: ConsentOffice) -> None:
    rose, ravi = office.add(email="a@fjord.example"), office.add(email="b@fjord.example")
    individual_id = office.add_consent(rose)
    office.add_consent(ravi, owner=office.colleague)
    office.org.change_settings(individual_access="ReadWrite")
    office.sync()
    assert reasons_here(office.connection) == {rose: None, ravi: None}
    office.org.update_individual(individual_id, HasOptedOutSolicit=True)
    office.org.change_settings(individual_access="Private")
    office.org.clock.advance(3600)
    office.let_a_day_pass()
    run = office.sync()
    assert reasons_here(office.connection) == {rose: "opted_out", ravi: "opted_out"}
    assert office.reasons_of_changes(run) == {rose: "opted_out", ravi: "consent_hidden"}
    account, wanted = changes.Account.of(office.advisor), changes.Wanted(run.started_at, utcnow())
    assert changes.tally(account, wanted)[ChangeKind.OPTED_OUT] == 2
    details = {entry.details for entry in changes.find_entries(account, wanted)}
    assert "The consent record can't be seen in Salesforce, which counts as opted out." in details


@pytest.mark.parametrize("sobject", ["Contact", "Lead"])
def test_one_who_is_here_says_when_the_consent_record_cannot_be_seen(office: ConsentOffice, sobject: str) -> None:
    office.reload(office.connection).partner.brings_in_open_leads = True
    office.save()
    add = office.org.add_contact if sobject == "Contact" else office.org.add_lead
    ewa = add(office.user, last_name="Nowak", email="ewa@wisla.example")
    individual_id = office.add_consent(ewa, owner=office.colleague)
    office.org.change_settings(individual_access="ReadWrite")
    office.sync()
    assert office.told(ewa) == HERE
    office.org.change_settings(individual_access="Private")
    office.sync_after_a_day()
    assert office.told(ewa) == UNSEEN
    office.org.clock.advance(3600)
    office.org.opt_out(ewa)  # in a box that can be seen
    run = office.sync()
    assert (office.told(ewa), run.unchanged) == (OUT, 1)
    office.org.clock.advance(3600)
    office.org.opt_in(ewa)
    office.sync()
    assert office.told(ewa) == UNSEEN
    # What follows moves no stamp of the person, and whether they count as opted out stays: only the daily check finds it.
    office.org.update_individual(individual_id, HasOptedOutSolicit=True)
    office.org.change_settings(individual_access="ReadWrite")
    office.sync_after_a_day()
    assert office.told(ewa) == OUT
    office.org.change_settings(individual_access="Private")
    office.sync_after_a_day()
    assert office.told(ewa) == UNSEEN
    run = office.sync_after_a_day()
    assert (run.read, run.is_balanced) == (0, True)
    office.org.update_individual(individual_id, HasOptedOutSolicit=False)
    office.org.change_settings(individual_access="ReadWrite")
    office.sync_after_a_day()
    assert office.told(ewa) == HERE


def test_lists_from_salesforce_count_those_whose_consent_record_cannot_be_seen(office: ConsentOffice) -> None:
    unseen, refused = (office.add(email=f"{n}@fjord.example") for n in range(2))
    office.add_consent(unseen, owner=office.colleague)
    individual_id = office.add_consent(refused, solicit=True)
    campaign = office.org.add_campaign(office.user, "Spring gala")
    office.org.add_members(campaign, [unseen, refused])
    office.sync()
    followed = office.follow(campaign)
    office.sync()
    assert tell_not_here(followed.not_here) == "1 opted out, 1 whose consent record can't be seen"
    office.org.update_individual(individual_id, OwnerId=office.colleague)
    office.sync_after_a_day()
    assert tell_not_here(office.reload(followed).not_here) == "2 whose consent record can't be seen"


@pytest.mark.parametrize("decision", ["hold", "keep"])
def test_one_whose_departure_is_held_or_kept_says_it_too(office: ConsentOffice, decision: str) -> None:
    people = office.fill(12)
    office.add_consent(people[0], owner=office.colleague)
    office.org.change_settings(individual_access="ReadWrite")
    office.sync()
    for each in people:
        office.org.give(each, office.colleague)
    assert office.sync().is_held
    if decision == "keep":
        office.discard()
    office.org.change_settings(individual_access="Private")
    office.sync()
    assert office.told(people[0])[:2] == UNSEEN[:2]
    office.org.opt_out(people[0])  # in a box that can be seen
    office.sync()
    assert office.told(people[0])[:2] == OUT[:2]


def test_a_sign_up_whose_lead_has_a_hidden_consent_record_says_so(office: ConsentOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id is not None
    office.sync()
    individual_id = office.add_consent(lead_id, owner=office.colleague)
    for expected, shown in ((UNSEEN, "consent_hidden"), (OUT, "opted_out"), (UNSEEN, "consent_hidden")):
        office.sync_after_a_day()
        assert (office.told(lead_id)[:2], office.lead_shown()) == (expected[:2], shown)
        is_hidden = expected == UNSEEN
        office.org.update_individual(individual_id, HasOptedOutSolicit=is_hidden)
        office.org.change_settings(individual_access="ReadWrite" if is_hidden else "Private")
    office.org.change_settings(individual_access="ReadWrite")
    office.org.update_individual(individual_id, HasOptedOutSolicit=False)
    office.sync_after_a_day()
    assert (office.told(lead_id)[:2], office.lead_shown()) == (HERE[:2], "sent")


def test_a_sign_up_linked_to_a_contact_with_a_hidden_consent_record_says_so(office: ConsentOffice) -> None:
    contact = office.add(email="mei.chou@harbour.example")
    office.add_consent(contact, owner=office.colleague)
    office.sync()
    someone_signs_up(office.advisor)
    office.deliver()
    office.sync()
    assert (office.lead().state, office.lead_shown()) == ("linked", "consent_hidden")


def test_of_one_who_never_came_in_salesforce_is_asked_why_they_count_as_opted_out(office: ConsentOffice) -> None:
    unseen, refused = (office.add(email=f"{n}@fjord.example") for n in range(2))
    office.add_consent(unseen, owner=office.colleague)
    office.add_consent(refused, solicit=True)
    office.sync()
    assert [office.ask(each).answer for each in (unseen, "0@fjord.example")] == [Answer.CONSENT_HIDDEN] * 2
    assert [office.ask(each).answer for each in (refused, "1@fjord.example")] == [Answer.OPTED_OUT] * 2
    office.org.trouble.add("server_unavailable_html", times=None)
    verdict = office.ask(unseen)
    assert (verdict.answer, verdict.error is not None) == (Answer.OPTED_OUT, True)


def test_a_retrieval_before_a_send_sees_consent_records_too(office: ConsentOffice) -> None:
    rose, ravi, gone = (office.add(email=f"{n}@fjord.example") for n in range(3))
    office.add_consent(rose)
    office.add_consent(ravi, owner=office.colleague)
    office.org.delete(gone)
    with office.workplace().access.open(office.connection) as client:
        found = client.retrieve_contacts([gone, ravi, rose])
    assert [one and (one.id, one.is_opted_out) for one in found] == [None, (ravi, True), (rose, False)]


def test_the_preview_counts_hidden_consent_records_as_opted_out(office: ConsentOffice) -> None:
    rose, ravi = office.add(email="a@fjord.example"), office.add(email="b@fjord.example")
    office.add_consent(rose)
    office.add_consent(ravi, owner=office.colleague)
    with office.workplace().access.open(office.connection) as client:
        assert client.count_preview(office.user) == (2, 1, 0)


def test_a_lead_whose_consent_record_is_hidden_stops_its_twin(office: ConsentOffice) -> None:
    rose, ravi = office.add(email="a@fjord.example"), office.add(email="b@fjord.example")
    unseen, agreed = (
        office.org.add_lead(office.user, last_name="Chou", email=email)
        for email in ("a@fjord.example", "b@fjord.example")
    )
    office.add_consent(unseen, owner=office.colleague)
    office.add_consent(agreed)
    office.sync()
    assert reasons_here(office.connection) == {rose: "twin_opted_out", ravi: None}


@pytest.mark.parametrize("fewer", [(OWN, NEWS), (OWN, SOLICIT), (NEWS, SOLICIT)])
def test_naming_other_fields_starts_a_full_read(office: ConsentOffice, fewer: tuple[str, ...]) -> None:
    everybody = [office.add(email=f"{n}@fjord.example", **{n: True}) for n in (OWN, NEWS)]
    office.add_consent(unseen := office.add(email="c@fjord.example"), owner=office.colleague)
    office.sync()
    office.org.clock.advance(3600)
    office.name_fields(*fewer)
    run = office.sync()
    assert (run.is_full, run.read) == (True, 3)
    spared = dict(zip((OWN, NEWS, SOLICIT), (*everybody, unseen), strict=True))
    assert reasons_here(office.connection) == {spared[({OWN, NEWS, SOLICIT} - set(fewer)).pop()]: None}


@pytest.mark.parametrize(
    ("sobject", "field", "named"),
    [("Contact", NEWS, NEWS), ("Contact", "IndividualId", SOLICIT), ("Individual", "HasOptedOutSolicit", SOLICIT)],
)
def test_where_one_of_them_is_hidden_nothing_is_read(
    office: ConsentOffice, sobject: str, field: str, named: str
) -> None:
    office.add(email="a@fjord.example")
    office.org.hide_field(sobject, field)
    run = office.sync()
    assert (run.is_failed, run.error_code) == (True, "opt_out_hidden")
    assert run.error_detail in named


def test_leads_go_out_where_one_of_the_fields_is_hidden_on_lead(office: ConsentOffice) -> None:
    office.org.hide_field("Lead", NEWS)
    someone_signs_up(office.advisor)
    office.deliver()
    assert len(office.leads_there()) == 1


def test_the_checks_tell_of_each_field_whether_it_is_a_readable_checkbox(office: ConsentOffice) -> None:
    def found() -> dict[str, tuple[str, str]]:
        access = office.workplace().access
        checks = run_checks(office.reload(office.connection).partner, access).checks
        return {check.code: (str(check.verdict), check.says) for check in checks if check.code.startswith("opt_out")}

    good = found()
    assert {code: verdict for code, (verdict, _) in good.items()} == dict.fromkeys(
        ("opt_out", "opt_out_2", "opt_out_3"), "good"
    )
    assert good["opt_out_3"][1].startswith(f"{SOLICIT}, through Contact and Lead.")
    office.org.hide_field("Contact", NEWS)
    office.org.deny_object("Individual")
    office.name_fields("Phone", NEWS, SOLICIT)
    assert {code: verdict for code, (verdict, _) in found().items()} == dict.fromkeys(good, "bad")
    office.name_fields(OWN)
    assert found().keys() == {"opt_out"}


def test_fields_are_stored_as_salesforce_spells_them_and_one_that_is_no_checkbox_is_refused(
    office: ConsentOffice,
) -> None:
    def enter(more: str) -> None:
        partner, access = office.reload(office.connection).partner, office.workplace().access
        typed = {"name": partner.name, "url": partner.salesforce_url, "key": KEY, "opt_out_field": OWN.lower()}
        partners.change_partner(partner, PartnerForm.entered(**typed, more_opt_out_fields=more), access)

    with writing():
        enter(" individual.hasoptedoutSOLICIT ,no_news__c")
    assert office.reload(office.connection).partner.opt_out_fields == (OWN, SOLICIT, NEWS)
    with writing(), pytest.raises(InvalidFields) as refused:
        enter("Individual.LastName")
    assert refused.value.errors.keys() == {"more_opt_out_fields"}
