"""Open Leads come in like contacts, where a firm wants them: the same rules, the same run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, current_app
from sqlalchemy import select

from asapp.connections.live_questions import way_to_ask
from asapp.contacts import lists, removal, suppressions, why
from asapp.contacts.status import contact_rows, reason_of
from asapp.contacts.suppressions import Address, Happened
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import consent, decisions
from asapp.messages.contacts import Answer
from asapp.models import (
    BlockedAddress,
    Connection,
    Contact,
    Departure,
    LedgerEntry,
    OptOutWrite,
    Partner,
    Restoration,
    RunChange,
    RunStatus,
    SuppressionSource,
    SuppressionStep,
)
from asapp.panel.balance import balance
from asapp.partners import partners
from asapp.salesforce.records import RecordKind
from asapp.writeback import outbox
from orgsim import Running
from tests.factories import org_access
from tests.mail_links import record
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import Office, contacts_here, reasons_here


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    office = Office(org)
    bring_in(office)
    return office


def bring_in(office: Office, is_on: bool = True) -> None:
    """Set "Bring in open Leads too", as the partner page does."""
    partner = db.session.get_one(Partner, office.connection.partner_id)
    partner.brings_in_open_leads = is_on
    if not is_on:
        partners.forget_open_leads(partner.id)
    office.save()


def add_lead(office: Office, name: str = "ewa", owner: str | None = None, **fields: Any) -> str:
    email = fields.pop("email", f"{name}@lead.example")
    return office.org.add_lead(owner or office.user, first_name=name.title(), last_name="Nowak", email=email, **fields)


def of_leads(office: Office) -> dict[str, str | None]:
    """Return {Id: why inactive, or None} of the open Leads that pages show."""
    return {i: reason for i, reason in reasons_here(office.connection).items() if i.startswith("00Q")}


def own_list(office: Office, salesforce_id: str, name: str = "Newsletter") -> Any:
    return office.put_on_list(salesforce_id, name)


def complain(office: Office, event_id: str, words: str = "") -> None:
    """Let Ewa complain to the sender."""
    address = Address(office.connection.partner_id, office.advisor.id, office.hash("ewa@lead.example"))
    step, source = SuppressionStep.COMPLAINED, SuppressionSource.SENDER
    record([Happened(address, step, source, utcnow(), event_id, words=words)])


def changes_of(contact: Contact) -> list[tuple[int, str, str | None, dict[str, str | None] | None]]:
    """Return (run, kind, reason, new values) of what syncs changed about a contact, oldest first."""
    about = select(RunChange).where(RunChange.contact_id == contact.id).order_by(RunChange.id)
    return [(each.run_id, each.kind, each.reason, each.new or None) for each in db.session.scalars(about)]


def words_about(contact: Contact) -> list[str]:
    return list(suppressions.words_of(contact).values())


def consents_of(contact: Contact) -> list[tuple[str, str]]:
    moments = consent.history_of_contact(contact.user_id, contact.id)
    return [(each.event.kind, each.event.source) for each in moments]


def test_own_open_leads_come_in_with_the_contacts(office: Office) -> None:
    contact = office.add(email="zoe@fjord.example")
    lead = add_lead(office)
    add_lead(office, "out", opted_out=True)
    add_lead(office, "nomail", email=None)
    add_lead(office, "theirs", owner=office.colleague)
    office.org.convert_lead(add_lead(office, "converted"), owner_id=office.colleague)
    run = office.sync()
    assert run.is_complete
    assert run.is_balanced
    assert reasons_here(office.connection) == {contact: None, lead: None}
    (row,) = [each for each in contacts_here(office.connection) if each.salesforce_id == lead]
    assert (row.source, row.first_name, row.email, row.is_read_only) == (
        "salesforce_lead",
        "Ewa",
        "ewa@lead.example",
        True,
    )
    ledger = {row.salesforce_id[:3]: row for row in db.session.scalars(select(LedgerEntry))}
    assert set(ledger) == {"003", "00Q"}
    connection = office.reload(office.connection)
    assert (connection.salesforce_count, connection.open_leads_count) == (1, 3)
    assert "Salesforce Open Leads" in {each.name for each in lists.lists_of(office.advisor.id)}


def test_an_idle_sync_is_one_call_and_reads_nothing(office: Office) -> None:
    office.add(email="zoe@fjord.example")
    lead = add_lead(office)
    office.org.clock.advance(3600)
    office.sync()
    office.org.clock.advance(20 * 60)
    before = office.snapshot()
    run = office.sync()
    assert (run.api_calls, run.read) == (1, 0)
    assert office.snapshot() == before
    office.org.update_lead(lead, last_name="Kowalska")
    run = office.sync()
    assert (run.api_calls, run.read, run.updated) == (1, 1, 1)


def test_an_opt_out_counts_and_stops_the_twin(office: Office) -> None:
    contact, lead = office.add(email="ewa@lead.example"), add_lead(office)
    office.sync()
    office.org.opt_out(lead)
    run = office.sync()
    assert (run.deactivated, run.also) == (1, {"twin_opted_out": 1})
    assert reasons_here(office.connection) == {contact: "twin_opted_out", lead: "opted_out"}
    office.org.opt_in(lead)
    run = office.sync()
    assert run.reactivated == 1
    assert reasons_here(office.connection) == {contact: None, lead: None}
    assert not db.session.scalars(select(BlockedAddress)).all()


def test_an_opt_out_without_a_stamp_is_found_by_the_daily_check(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    office.org.change_without_stamp(lead, HasOptedOutOfEmail=True)
    office.let_a_day_pass()
    office.sync()
    assert of_leads(office) == {lead: "opted_out"}


def test_leads_that_left_are_inactive_with_their_reason(office: Office) -> None:
    deleted, given, hidden, merged, stays = (add_lead(office, name) for name in ("a", "b", "c", "d", "e"))
    office.sync()
    office.org.delete(deleted)
    office.org.give(given, office.colleague)
    office.org.hide_contact(hidden)
    office.org.merge(stays, [merged])
    newsletter = own_list(office, merged)
    run = office.sync()
    assert run.is_complete
    assert of_leads(office) == {
        deleted: "deleted",
        given: "reassigned",
        hidden: "gone",
        merged: "merged",
        stays: None,
    }
    assert office.members(newsletter) == [stays]
    assert office.reload(office.connection).open_leads_count == 1
    office.org.undelete(deleted)
    office.org.give(given, office.user)
    office.sync()
    assert (of_leads(office)[deleted], of_leads(office)[given]) == (None, None)


def test_many_that_leave_are_held_for_the_advisor(office: Office) -> None:
    leads = [add_lead(office, f"l{n}") for n in range(15)]
    office.sync()
    for lead in leads[:12]:
        office.org.give(lead, office.colleague)
    run = office.sync()
    assert run.is_held
    assert set(of_leads(office).values()) == {None}
    office.approve()
    assert sorted(of_leads(office).values(), key=str).count("reassigned") == 12


def test_contacts_that_are_held_beside_leads_are_asked_about_though_leads_cannot_be_read(office: Office) -> None:
    contacts, leads = office.fill(20), [add_lead(office, f"l{n}") for n in range(15)]
    office.sync()
    for salesforce_id in (*contacts[:8], *leads[:8]):
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held
    office.org.deny_object("Lead", "read")
    office.org.opt_out(contacts[0])
    assert office.sync().is_held
    assert reasons_here(office.connection)[contacts[0]] == "opted_out"


def test_a_converted_lead_is_handed_to_its_contact(office: Office) -> None:
    lead, other = add_lead(office), add_lead(office, "ravi")
    office.sync()
    newsletter = own_list(office, lead)
    contact = office.org.convert_lead(lead)
    run = office.sync()
    assert (run.created, run.updated, run.is_balanced) == (1, 1, True)
    assert run.also == {"converted": 1, "memberships_moved": 1}
    assert reasons_here(office.connection) == {contact: None, other: None}
    assert office.members(newsletter) == [contact]
    assert office.reload(office.connection).open_leads_count == 1
    before = office.snapshot()
    office.sync()
    assert office.snapshot() == before


def test_a_lead_whose_contact_comes_later_is_handed_over_then(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    newsletter = own_list(office, lead)
    contact = office.org.convert_lead(lead)
    office.org.opt_out(contact)
    office.sync()
    assert reasons_here(office.connection) == {lead: "merged"}
    assert office.members(newsletter) == [lead]
    office.org.opt_in(contact)
    office.sync()
    assert reasons_here(office.connection) == {contact: None}
    assert office.members(newsletter) == [contact]


def test_a_merged_lead_whose_survivor_was_converted_ends_at_the_contact(office: Office) -> None:
    winner, loser = add_lead(office), add_lead(office, "ravi")
    office.sync()
    newsletter = own_list(office, loser)
    office.org.merge(winner, [loser])
    contact = office.org.convert_lead(winner)
    office.sync()
    assert reasons_here(office.connection) == {contact: None}
    assert office.members(newsletter) == [contact]


def test_a_lead_deleted_here_stays_deleted_also_as_a_contact(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    row = contacts_here(office.connection)[0]
    removal.remove_contacts(office.advisor.id, [row.id])
    office.org.update_lead(lead, last_name="Kowalska")
    office.sync()
    assert of_leads(office) == {lead: "hidden_here"}
    contact = office.org.convert_lead(lead)
    office.sync()
    assert reasons_here(office.connection) == {contact: "hidden_here"}


def test_a_person_erased_as_a_lead_stays_erased_as_a_contact(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    decisions.erase(office.advisor.id, contacts_here(office.connection)[0])
    contact = office.org.convert_lead(lead)
    office.org.update_contact(contact, email="other@lead.example")
    office.sync()
    office.sync()
    assert contacts_here(office.connection) == []
    assert [(row.salesforce_id, row.email, row.last_name) for row in db.session.scalars(select(Contact))] == [
        (contact, "", "")
    ]


def test_an_unsubscribe_of_a_lead_holds_for_the_contact_that_it_became(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    complain(office, "e1")
    assert of_leads(office) == {lead: "complained"}
    contact = office.org.convert_lead(lead)
    office.sync()
    assert reasons_here(office.connection) == {contact: "complained"}


def test_a_contact_knows_when_the_lead_that_it_was_had_been_restored(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    (row,) = contacts_here(office.connection)
    removal.remove_contacts(row.user_id, [row.id])
    removal.restore_contacts(row.user_id, [row.id])
    office.org.convert_lead(lead)
    office.sync()
    (row,) = contacts_here(office.connection)
    assert row.source == "salesforce"
    assert db.session.scalars(select(Restoration.contact_id)).all() == [row.id]


def test_the_history_of_a_lead_is_that_of_the_contact_that_it_became(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    office.org.clock.advance(3600)
    office.org.update_lead(lead, last_name="Kowalska")
    renamed = office.sync()
    complain(office, "e1", "too many")
    contact = office.org.convert_lead(lead)
    converted = office.sync()
    (row,) = contacts_here(office.connection)
    changes = [(renamed.id, "updated", None, {"last_name": "Kowalska"}), (converted.id, "updated", "converted", None)]
    assert (row.salesforce_id, changes_of(row), words_about(row)) == (contact, changes, ["too many"])
    office.sync()
    assert (changes_of(row), words_about(row)) == (changes, ["too many"])


def test_the_history_of_a_sign_up_is_that_of_the_contact_that_its_lead_became(app: Flask, org: Running) -> None:
    office = PostOffice(org)
    bring_in(office)
    someone_signs_up(office.advisor, email="ewa@lead.example")
    office.deliver()
    office.add(email="ewa@lead.example", opted_out=True)
    twinned = office.sync()
    complain(office, "e1", "too many")
    (before,) = db.session.scalars(select(Contact)).all()
    consented = consents_of(before)
    contact = office.org.convert_lead(office.lead("ewa@lead.example").salesforce_id)
    office.sync()
    (row,) = contacts_here(office.connection)
    assert (row.salesforce_id, words_about(row), consents_of(row)) == (contact, ["too many"], consented)
    assert (twinned.id, "also", "twin_opted_out", None) in changes_of(row)


def test_a_manual_contact_is_adopted(office: Office) -> None:
    db.session.add(
        Contact(
            user_id=office.advisor.id,
            source="manual",
            last_name="Nowak",
            email="EWA@lead.example",
            address_hash=office.hash("ewa@lead.example"),
        )
    )
    office.save()
    lead = add_lead(office)
    run = office.sync()
    assert run.adopted == 1
    assert of_leads(office) == {lead: None}


def test_turned_off_they_are_inactive_at_once_and_turned_on_they_come_back(office: Office) -> None:
    stays, leaves = add_lead(office), add_lead(office, "ravi")
    contact = office.add(email="zoe@fjord.example")
    office.sync()
    bring_in(office, is_on=False)
    assert of_leads(office) == {stays: "opt_out_unknown", leaves: "opt_out_unknown"}
    office.sync()
    assert reasons_here(office.connection)[contact] is None
    assert of_leads(office) == {stays: "opt_out_unknown", leaves: "opt_out_unknown"}
    office.org.give(leaves, office.colleague)
    new = add_lead(office, "new")
    bring_in(office)
    assert of_leads(office)[stays] == "opt_out_unknown"
    office.sync()
    assert of_leads(office) == {stays: None, leaves: "reassigned", new: None}


def test_turned_off_a_proposal_about_leads_is_withdrawn(office: Office) -> None:
    leads = [add_lead(office, f"l{n}") for n in range(15)]
    office.sync()
    for lead in leads[:12]:
        office.org.delete(lead)
    assert office.sync().is_held
    bring_in(office, is_on=False)
    run = office.sync()
    assert run.is_complete
    assert not db.session.scalars(select(Departure)).all()


def test_without_read_on_lead_contacts_sync_and_leads_are_unknown(office: Office) -> None:
    contact, lead = office.add(email="zoe@fjord.example"), add_lead(office)
    office.sync()
    office.org.deny_object("Lead", "read")
    new = office.add(email="new@fjord.example")
    run = office.sync()
    assert run.is_complete
    assert reasons_here(office.connection) == {contact: None, new: None, lead: "opt_out_unknown"}
    assert office.reload(office.connection).leads_trouble == "leads_hidden"
    office.org.allow_object("Lead", "read")
    office.sync()
    assert of_leads(office) == {lead: None}


def test_a_failing_part_of_the_answer_is_never_read_as_nothing(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    office.org.trouble.add("query_timeout", kind="subrequest", after=2, times=99)
    office.org.delete(lead)
    run = office.sync()
    assert run.is_complete
    assert of_leads(office) == {lead: None}
    office.org.trouble.clear()
    office.sync()
    assert of_leads(office) == {lead: "deleted"}


def test_a_run_that_dies_between_pages_of_leads_goes_on(office: Office) -> None:
    office.org.change_settings(page_sizes=200)
    for n in range(450):
        add_lead(office, f"l{n}", stamp=office.org.clock.now() - timedelta(days=3, minutes=-n))
    run = office.sync(die_before_page=2)
    assert run.status == RunStatus.RUNNING
    assert len(of_leads(office)) < 450
    office.let_lease_run_out(run)
    run = office.resume(run)
    assert run.is_complete
    assert run.is_balanced
    assert run.created == 450
    assert len(of_leads(office)) == 450
    assert office.reload(office.connection).open_leads_count == 450


def test_the_second_line_of_the_balance(office: Office) -> None:
    office.add(email="zoe@fjord.example")
    add_lead(office)
    add_lead(office, "out", opted_out=True)
    office.sync()
    connection = office.reload(office.connection)
    leads = balance(connection, RecordKind.LEAD)
    contacts = balance(connection)
    assert leads is not None
    assert contacts is not None
    assert (leads.in_salesforce, leads.active, leads.opted_out, leads.is_balanced) == (2, 1, 1, True)
    assert (contacts.in_salesforce, contacts.active, contacts.is_balanced) == (1, 1, True)


# People from the sign-up page


@pytest.fixture
def post(app: Flask, org: Running) -> PostOffice:
    post = PostOffice(org)
    bring_in(post)
    return post


def test_a_lead_that_the_sign_up_page_made_stays_what_it_is(post: PostOffice) -> None:
    someone_signs_up(post.advisor)
    post.deliver()
    run = post.sync()
    assert run.is_complete
    assert run.skipped == {"signed_up": 1}
    (contact,) = db.session.scalars(select(Contact))
    assert (contact.source, contact.is_lead) == ("lead", True)
    leads = balance(post.reload(post.connection), RecordKind.LEAD)
    assert leads is not None
    assert (leads.in_salesforce, leads.signed_up, leads.rest) == (1, 1, 0)


def test_a_sign_up_takes_over_from_its_open_lead_with_the_lists(post: PostOffice) -> None:
    """The sync may bring the Lead in before we know that it was ours, or the person is an open Lead already."""
    lead = post.org.add_lead(post.user, last_name="Chou", email="mei.chou@harbour.example")
    post.sync()
    newsletter = own_list(post, lead)
    someone_signs_up(post.advisor)
    post.deliver()
    (contact,) = db.session.scalars(select(Contact))
    assert (contact.source, contact.salesforce_id) == ("lead", lead)
    assert post.members(newsletter) == [lead]
    assert post.sync().is_complete
    bring_in(post, is_on=False)
    assert reason_of_contact(contact.id) is None


def reason_of_contact(contact_id: int) -> str | None:
    return db.session.execute(contact_rows(reason_of(utcnow())).where(Contact.id == contact_id)).scalar_one()


# Why isn't this person here?


def ask(office: Office, what: str) -> why.Verdict:
    connection = db.session.get_one(Connection, office.connection.id)
    question = why.read_question(what)
    hashed = why.hash_of(question, connection.partner, current_app.extensions["asapp.vault"])
    return why.find_out(office.advisor.id, question, hashed, connection, way_to_ask(connection, org_access()))


def test_why_an_open_lead_is_here_or_not(office: Office) -> None:
    here, out, nomail = add_lead(office), add_lead(office, "out", opted_out=True), add_lead(office, "n", email=None)
    office.sync()
    assert ask(office, here).answer == Answer.HERE
    assert ask(office, out).answer == Answer.OPTED_OUT
    assert ask(office, nomail).answer == Answer.NO_EMAIL
    theirs = add_lead(office, "theirs", owner=office.colleague)
    assert ask(office, theirs).answer == Answer.SOMEBODY_ELSES
    assert ask(office, "theirs@lead.example").owner_name == "Jonas Lindqvist"
    add_lead(office, "new")
    assert ask(office, "new@lead.example").answer == Answer.ON_ITS_WAY
    contact = office.org.convert_lead(here)
    office.sync()
    verdict = ask(office, here)
    assert (verdict.answer, verdict.merged_into) == (Answer.CONVERTED, contact)
    bring_in(office, is_on=False)
    assert ask(office, add_lead(office, "later")).answer == Answer.LEADS_OFF


def test_a_converted_lead_whose_contact_did_not_come_says_so(office: Office) -> None:
    lead = add_lead(office)
    office.sync()
    office.org.opt_out(office.org.convert_lead(lead))
    office.sync()
    assert ask(office, lead).answer == Answer.CONVERTED


def test_an_unsubscribe_is_written_back_to_the_open_lead(office: Office) -> None:
    office.connection.partner.writes_opt_outs_back = True
    lead = add_lead(office)
    office.sync()
    row = contacts_here(office.connection)[0]
    address = Address(office.connection.partner_id, office.advisor.id, row.address_hash or b"")
    outbox.add_for([address])
    waiting = db.session.scalars(select(OptOutWrite)).all()
    assert [(each.salesforce_id, each.kind) for each in waiting] == [(lead, "Lead")]
