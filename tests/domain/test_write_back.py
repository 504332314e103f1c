"""Writing unsubscribes back to Salesforce: to which records, what each refusal means, and that none is lost or sent twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select, update

from asapp.audit.entries import ITSELF
from asapp.connections.api_budget import allowance_of
from asapp.contacts import suppressions
from asapp.contacts.removal import remove_contacts
from asapp.contacts.suppressions import Happened
from asapp.core.clock import utcnow
from asapp.core.database import Base, writing
from asapp.core.extensions import db
from asapp.models import (
    ApiUsage,
    Connection,
    ConnectionStatus,
    Contact,
    Lead,
    OptOutWrite,
    Partner,
    SuppressionSource,
    SuppressionStep,
    Untold,
    User,
    WriteBackState,
)
from asapp.salesforce.errors import DATA_ERRORS, RECORD_ERRORS, sort_record_error
from asapp.writeback import outbox, unsubscribing
from asapp.writeback.delivery import deliver
from asapp.writeback.refusals import rule_for
from orgsim import Running
from tests.factories import make_advisor, make_connection, make_contact, org_access
from tests.racing import crash_of, race
from tests.signing_up import someone_signs_up
from tests.syncing import Died, reasons_here
from tests.write_back_office import OPT_OUT, ROSE, WriteBackOffice

SOLICIT = "Individual.HasOptedOutSolicit"
WAITING, TOLD, ALREADY, REFUSED, GONE = (state.value for state in WriteBackState)


@pytest.fixture
def office(app: Flask, org: Running) -> WriteBackOffice:
    return WriteBackOffice(org)


@pytest.fixture
def rose(office: WriteBackOffice) -> str:
    """Return the Id of Rose's contact, which a sync has imported."""
    salesforce_id = office.add(email=ROSE)
    office.sync()
    return salesforce_id


def sender_tells(office: WriteBackOffice, step: SuppressionStep, email: str = ROSE, minutes: float = 0) -> list[int]:
    """Let the sender report an event; return the connections that were enqueued."""
    enqueued: list[int] = []
    happened = Happened(
        office.address(email), step, SuppressionSource.SENDER, utcnow() - timedelta(minutes=minutes), f"{step}-{email}"
    )
    with writing():
        unsubscribing.record([happened], enqueued.extend)
    return enqueued


# ---- What is written back, and to which records


def test_the_contact_is_opted_out_with_one_update(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    mark = office.org.calls.mark()
    assert office.write_back() == 1
    assert office.is_out(rose)
    assert office.writes() == {rose: (TOLD, None)}
    assert office.updates(mark) == 1
    assert office.write(rose).ended_at is not None
    assert office.write_back() == 0


def test_nothing_is_written_down_where_the_firm_does_not_want_it(office: WriteBackOffice, rose: str) -> None:
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    office.unsubscribe()
    sender_tells(office, SuppressionStep.COMPLAINED)
    assert office.writes() == {}
    assert suppressions.held_for(office.address()).has_stopped


def test_what_waits_stays_where_the_firm_changes_its_mind(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    assert (outbox.enqueue_due(lambda ids: None), office.write_back()) == (0, 0)
    assert office.writes() == {rose: (WAITING, None)}
    assert not office.is_out(rose)


def test_the_unsubscribe_and_the_row_are_one_transaction(office: WriteBackOffice, rose: str) -> None:
    with pytest.raises(RuntimeError):
        unsubscribe_and_break(office)
    assert office.writes() == {}
    assert not suppressions.held_for(office.address()).has_stopped


def unsubscribe_and_break(office: WriteBackOffice) -> None:
    with writing():
        stopped = suppressions.store_unsubscribe(
            office.address(), SuppressionSource.PAGE, whole_firm=False, vault=org_access().vault
        )
        assert outbox.add_for(stopped) == {office.connection.id}
        db.session.flush()
        db.session.rollback()
        raise RuntimeError


@pytest.mark.parametrize("step", [SuppressionStep.UNSUBSCRIBED, SuppressionStep.COMPLAINED])
def test_an_event_of_the_sender_is_written_back_at_once(
    office: WriteBackOffice, rose: str, step: SuppressionStep
) -> None:
    assert sender_tells(office, step) == [office.connection.id]
    assert office.write_back() == 1
    assert office.is_out(rose)


def test_a_bounce_is_not_written_back(office: WriteBackOffice, rose: str) -> None:
    assert sender_tells(office, SuppressionStep.BOUNCED) == []
    assert office.writes() == {}


def test_an_unsubscribe_is_written_back_when_it_can_no_longer_be_undone(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe(wait_is_over=False)
    wait = office.write(rose).next_attempt_at - utcnow()
    assert timedelta(minutes=9) < wait <= suppressions.UNDO_WITHIN
    assert (office.write_back(), outbox.enqueue_due(lambda ids: None)) == (0, 0)


def test_an_undone_unsubscribe_is_never_written_back(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe(wait_is_over=False)
    suppressions.undo_unsubscribe(office.address(), org_access().vault)
    office.make_all_due()
    assert office.write_back() == 0
    assert office.writes() == {}
    assert not office.is_out(rose)


def test_who_opted_in_again_meanwhile_is_not_opted_out(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    suppressions.record_opt_in(
        office.advisor.id, office.connection.partner_id, office.hash(ROSE), utcnow() + timedelta(seconds=1)
    )
    db.session.commit()
    office.write_back()
    assert not office.is_out(rose)
    assert office.writes() == {}


def test_every_record_with_the_address_that_the_user_owns(office: WriteBackOffice, rose: str) -> None:
    twin = office.add(email="ROSE@edge.example", last_name="Twin")
    theirs = office.add(owner=office.colleague, email=ROSE)
    other = office.add(email="else@edge.example", last_name="Else")
    someone_signs_up(office.advisor, "p@edge.example")
    office.deliver()
    office.sync()
    not_ours = office.org.add_lead(office.user, last_name="Walk-in", email=ROSE)
    of_colleague = office.org.add_lead(office.colleague, last_name="Theirs", email=ROSE)
    office.unsubscribe()
    office.write_back()
    assert {each: office.is_out(each) for each in (rose, twin, not_ours)} == dict.fromkeys((rose, twin, not_ours), True)
    assert not any(office.is_out(each) for each in (theirs, other, of_colleague))
    assert set(office.writes()) == {rose, twin, not_ours}


def test_a_lead_that_was_sent_keeps_its_owner(office: WriteBackOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.org.change_settings(lead_queue=office.org.add_queue("Web leads"))
    office.unsubscribe("mei.chou@harbour.example")
    office.write_back()
    record = office.org.lead(lead_id)
    assert record is not None
    assert (record[OPT_OUT], record["OwnerId"]) == (True, office.user)
    assert office.writes() == {lead_id: (TOLD, None)}


def test_an_unsubscribe_for_the_whole_firm_covers_every_advisor_with_the_address(
    office: WriteBackOffice, rose: str
) -> None:
    bob = make_advisor(office.connection.partner, "Bob Ferreira")
    tokens = office.org.issue_tokens(office.colleague, "office-key")
    bobs = make_connection(
        bob,
        org_id=office.org.id,
        salesforce_user_id=office.colleague,
        instance_url=office.connection.instance_url,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
    )
    theirs = office.add(owner=office.colleague, email=ROSE)
    make_contact(bobs, email=ROSE, address_hash=office.hash(ROSE), salesforce_id=theirs)
    office.unsubscribe(whole_firm=True)
    assert set(office.writes()) == {rose, theirs}
    enqueued: list[int] = []
    assert outbox.enqueue_due(enqueued.extend) == 2
    assert sorted(enqueued) == sorted([office.connection.id, bobs.id])
    office.write_back()
    assert (office.is_out(rose), office.is_out(theirs)) == (True, False)
    deliver(bobs.id, org_access())
    assert office.is_out(theirs)


def test_an_address_that_no_record_has_is_looked_for_once(office: WriteBackOffice) -> None:
    make_contact(office.advisor, email=ROSE, address_hash=office.hash(ROSE))
    office.unsubscribe()
    mark = office.org.calls.mark()
    office.write_back()
    assert office.writes() == {}
    assert len(office.org.calls.since(mark)) == 1
    office.write_back()
    assert len(office.org.calls.since(mark)) == 1


AWKWARD = "o'neil+\\%_@edge.example"  # SOQL has a meaning for some of these


@pytest.mark.parametrize("email", [ROSE, AWKWARD])
def test_open_leads_are_found_that_no_record_here_has_the_address_of(office: WriteBackOffice, email: str) -> None:
    """The person was added by hand; asapp made none of these leads."""
    make_contact(office.advisor, email=email, address_hash=office.hash(email))
    walk_in, twin = (office.org.add_lead(office.user, last_name=name, email=email.upper()) for name in ("One", "Two"))
    theirs = office.org.add_lead(office.colleague, last_name="Theirs", email=email)
    other = office.org.add_lead(office.user, last_name="Other", email="else@edge.example")
    office.unsubscribe(email)
    office.write_back()
    assert office.writes() == {walk_in: (TOLD, None), twin: (TOLD, None)}
    assert [office.is_out(each) for each in (walk_in, twin, theirs, other)] == [True, True, False, False]


def test_leads_are_looked_for_when_the_sender_tells_it_too(office: WriteBackOffice) -> None:
    make_contact(office.advisor, email=ROSE, address_hash=office.hash(ROSE))
    walk_in = office.org.add_lead(office.user, last_name="Walk-in", email=ROSE)
    assert sender_tells(office, SuppressionStep.COMPLAINED) == [office.connection.id]
    office.write_back()
    assert office.is_out(walk_in)


def test_without_read_on_leads_the_address_waits_and_stops_nothing(office: WriteBackOffice, rose: str) -> None:
    by_hand = make_contact(office.advisor, email="h@edge.example", address_hash=office.hash("h@edge.example"))
    walk_in = office.org.add_lead(office.user, last_name="Walk-in", email="h@edge.example")
    office.org.deny_object("Lead", "read")
    office.unsubscribe()
    office.unsubscribe("h@edge.example")
    office.write_back()
    assert office.writes() == {rose: (TOLD, None), str(by_hand.id): (WAITING, Untold.SET_UP)}
    office.org.allow_object("Lead", "read")
    office.make_all_due()
    office.write_back()
    assert office.writes() == {rose: (TOLD, None), walk_in: (TOLD, None)}


def test_what_was_undone_is_not_looked_for(office: WriteBackOffice) -> None:
    make_contact(office.advisor, email=ROSE, address_hash=office.hash(ROSE))
    walk_in = office.org.add_lead(office.user, last_name="Walk-in", email=ROSE)
    office.unsubscribe(wait_is_over=False)
    suppressions.undo_unsubscribe(office.address(), org_access().vault)
    office.make_all_due()
    mark = office.org.calls.mark()
    office.write_back()
    assert not office.is_out(walk_in)
    assert office.org.calls.since(mark) == []
    assert office.writes() == {}


def test_many_addresses_are_looked_for_in_few_calls(office: WriteBackOffice) -> None:
    emails = [f"{'long' * 12}.{number}@edge.example" for number in range(200)]
    for email in emails:
        make_contact(office.advisor, email=email, address_hash=office.hash(email))
    walk_in = office.org.add_lead(office.user, last_name="Walk-in", email=emails[-1])
    for email in emails:
        office.unsubscribe(email)
    mark = office.org.calls.mark()
    office.write_back()
    assert office.is_out(walk_in)
    assert len(office.org.calls.since(mark)) <= 6


def test_a_contact_that_is_deleted_is_not_looked_for(office: WriteBackOffice) -> None:
    contact = make_contact(office.advisor, email=ROSE, address_hash=office.hash(ROSE))
    office.unsubscribe()
    remove_contacts(office.advisor.id, [contact.id])
    mark = office.org.calls.mark()
    office.write_back()
    assert (office.writes(), office.org.calls.since(mark)) == ({}, [])


def test_nothing_is_written_back_to_a_disconnected_account(office: WriteBackOffice, rose: str) -> None:
    office.connection.status = ConnectionStatus.DISCONNECTED
    office.save()
    office.unsubscribe()
    assert office.writes() == {}


@pytest.mark.parametrize("stop", ["needs_reconnect", "deactivated", "disabled", "paused"])
def test_nothing_is_asked_while_nothing_may_be_asked(office: WriteBackOffice, rose: str, stop: str) -> None:
    office.unsubscribe()
    office.reload(office.connection)
    if stop == "needs_reconnect":
        office.connection.status = ConnectionStatus.NEEDS_RECONNECT
    elif stop == "deactivated":
        db.session.get_one(User, office.advisor.id).deactivated_at = utcnow()
    elif stop == "disabled":
        office.connection.partner.is_enabled = False
    else:
        office.connection.partner.paused_until = utcnow() + timedelta(hours=1)
    office.save()
    mark = office.org.calls.mark()
    assert (outbox.enqueue_due(lambda ids: None), office.write_back()) == (0, 0)
    assert office.org.calls.counted(mark) == 0
    assert office.writes() == {rose: (WAITING, None)}


# ---- Records that are opted out already, and writing once


def test_who_is_opted_out_there_already_gets_no_update(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.opt_out(rose)
    mark = office.org.calls.mark()
    office.write_back()
    assert office.updates(mark) == 0
    assert office.writes() == {rose: (ALREADY, None)}


def test_a_contact_that_is_known_to_be_opted_out_gets_no_row(office: WriteBackOffice, rose: str) -> None:
    office.org.opt_out(rose)
    office.sync()
    office.unsubscribe()
    assert rose not in office.writes()
    office.write_back()
    assert office.writes() == {}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(("named", "more"), [(OPT_OUT, SOLICIT), (SOLICIT, ""), ("No_News__c", SOLICIT)])
@pytest.mark.parametrize("consent", ["hidden", "refused", "agreed"])
def test_only_the_field_that_is_written_says_whether_salesforce_knows(
    office: WriteBackOffice, named: str, more: str, consent: str, is_known: bool
) -> None:
    written = named if "." not in named else OPT_OUT
    use_consents(office, named, more)
    rose, done = office.add(email=ROSE), office.add(email=ROSE, last_name="Done")
    walk_in = office.org.add_lead(office.user, last_name="Walk-in", email=ROSE)
    office.sync()
    for record_id in (rose, done, walk_in):
        owner = office.colleague if consent == "hidden" else office.user
        individual = office.org.add_individual(owner, last_name="X", HasOptedOutSolicit=consent == "refused")
        office.org.give_individual(record_id, individual)
    office.org.update_contact(done, **{written: True})
    if is_known:
        office.org.clock.advance(3600)
        office.sync()
    office.unsubscribe()
    office.write_back()
    office.write_back()
    assert office.writes() == {rose: (TOLD, None), done: (ALREADY, None), walk_in: (TOLD, None)}
    assert [is_set(office, each, written) for each in (rose, done, walk_in)] == [True] * 3


def use_consents(office: WriteBackOffice, named: str, more: str) -> None:
    """Let the firm name these opt-out fields; consent records of others are hidden."""
    office.org.use_individuals()
    office.org.change_settings(individual_access="Private")
    for sobject in ("Contact", "Lead"):
        office.org.add_field(sobject, "No_News__c")
    partner = office.reload(office.connection).partner
    partner.opt_out_field, partner.more_opt_out_fields = named, more
    office.save()


def is_set(office: WriteBackOffice, record_id: str, field: str) -> bool:
    record = office.org.contact(record_id) or office.org.lead(record_id)
    assert record is not None
    return record[field] is True


def test_a_lead_beside_an_opted_out_contact_is_found(office: WriteBackOffice, rose: str) -> None:
    walk_in = office.org.add_lead(office.user, last_name="Walk-in", email=ROSE)
    office.org.opt_out(rose)
    office.sync()
    office.unsubscribe()
    office.write_back()
    assert office.writes() == {walk_in: (TOLD, None)}


def test_the_record_of_a_contact_that_has_left_is_not_updated(office: WriteBackOffice, rose: str) -> None:
    """Only other leads with the address are looked for, and there are none."""
    office.org.delete(rose)
    office.sync()
    office.unsubscribe()
    assert rose not in office.writes()
    office.write_back()
    assert office.writes() == {}


def test_a_lead_that_was_given_away_gets_no_row(office: WriteBackOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.org.give(lead_id, office.colleague)
    office.sync()
    office.unsubscribe("mei.chou@harbour.example")
    assert office.writes() == {}


def test_a_lead_whose_person_opted_in_again_is_not_opted_out(office: WriteBackOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.unsubscribe("mei.chou@harbour.example")
    someone_signs_up(office.advisor)
    office.write_back()
    record = office.org.lead(lead_id)
    assert record is not None
    assert (record[OPT_OUT], office.writes()) == (False, {})


def test_telling_twice_is_one_row_and_one_update(office: WriteBackOffice, rose: str) -> None:
    mark = office.org.calls.mark()
    office.unsubscribe()
    office.write_back()
    sender_tells(office, SuppressionStep.COMPLAINED)
    office.make_all_due()
    office.write_back()
    assert office.updates(mark) == 1
    assert office.writes() == {rose: (TOLD, None)}


def test_a_record_that_waits_after_a_refusal_is_not_begun_again_by_being_found_once_more(
    office: WriteBackOffice, rose: str
) -> None:
    office.unsubscribe()
    row = db.session.scalars(select(OptOutWrite)).one()
    row.attempts, row.next_attempt_at = 3, utcnow() + timedelta(hours=1)
    db.session.commit()
    before = (row.attempts, row.next_attempt_at, row.created_at)
    outbox.put_in([outbox.Found(row.connection_id, row.user_id, rose, row.kind)])
    db.session.commit()
    db.session.refresh(row)
    assert (row.attempts, row.next_attempt_at, row.created_at) == before


def test_a_record_that_salesforce_opted_in_since_is_opted_out_by_a_new_unsubscribe_only(
    office: WriteBackOffice, rose: str
) -> None:
    office.unsubscribe()
    office.write_back()
    office.org.clock.advance(3600)
    office.org.opt_in(rose)
    office.sync()
    office.write_back()
    assert not office.is_out(rose)  # nothing is written back again by itself
    sender_tells(office, SuppressionStep.COMPLAINED)
    office.write_back()
    assert office.is_out(rose)


# ---- Records that are gone


def test_a_record_with_another_owner_by_now_is_left_alone(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.give(rose, office.colleague)
    mark = office.org.calls.mark()
    office.write_back()
    assert not office.is_out(rose)
    assert office.updates(mark) == 0
    assert office.writes() == {rose: (GONE, Untold.REASSIGNED)}


def test_a_deleted_record_is_left_alone(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.delete(rose)
    office.write_back()
    assert office.writes() == {rose: (GONE, Untold.DELETED)}


@pytest.mark.parametrize("how", ["purge", "hide_contact"])
def test_a_record_that_can_not_be_seen_is_left_alone(office: WriteBackOffice, rose: str, how: str) -> None:
    office.unsubscribe()
    getattr(office.org, how)(rose)
    office.write_back()
    assert office.writes() == {rose: (GONE, Untold.NOT_VISIBLE)}


def test_a_merged_record_is_followed_to_its_survivor(office: WriteBackOffice, rose: str) -> None:
    survivor = office.add(email="other@edge.example", last_name="Survivor")
    office.unsubscribe()
    office.org.merge(survivor, [rose])
    office.write_back()
    assert office.is_out(survivor)
    assert office.writes() == {rose: (GONE, Untold.MERGED), survivor: (TOLD, None)}


def test_a_converted_lead_is_followed_to_its_contact(office: WriteBackOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.unsubscribe("mei.chou@harbour.example")
    contact_id = office.org.convert_lead(lead_id)
    office.write_back()
    assert office.is_out(contact_id)
    assert office.writes() == {lead_id: (GONE, Untold.CONVERTED), contact_id: (TOLD, None)}


def test_a_lead_that_is_converted_between_look_and_update_is_followed_too(office: WriteBackOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.unsubscribe("mei.chou@harbour.example")
    made: list[str] = []

    def convert(number: int) -> None:
        if number == 3:  # calls: the leads by address, the lead, then the update
            made.append(office.org.convert_lead(lead_id))

    office.write_back(convert)
    assert office.writes() == {lead_id: (WAITING, Untold.CONVERTED)}
    office.make_all_due()
    office.write_back()
    assert office.is_out(made[0])


# ---- Person accounts


def test_a_person_account_is_opted_out_through_the_contact(office: WriteBackOffice) -> None:
    account, contact = office.org.add_person(office.user, last_name="Person", email=ROSE)
    office.sync()
    office.unsubscribe()
    office.write_back()
    assert office.is_out(contact)
    record = office.org.contact(account)
    assert record is not None
    assert record["PersonHasOptedOutOfEmail"] is True
    assert office.writes() == {contact: (TOLD, None)}


def test_a_person_account_whose_contact_can_not_be_changed_is_opted_out_through_the_account(
    office: WriteBackOffice, rose: str
) -> None:
    _account, contact = office.org.add_person(office.user, last_name="Person", email=ROSE)
    office.org.refuse_person_contacts()
    office.sync()
    office.unsubscribe()
    office.write_back()
    assert (office.is_out(contact), office.is_out(rose)) == (True, True)
    assert office.writes() == {rose: (TOLD, None), contact: (TOLD, None)}
    assert office.write(contact).kind == "Account"


def test_a_person_account_that_can_not_be_changed_at_all_is_refused(office: WriteBackOffice) -> None:
    _account, contact = office.org.add_person(office.user, last_name="Person", email=ROSE)
    office.org.refuse_person_contacts()
    office.org.deny_object("Account", "edit")
    office.sync()
    office.unsubscribe()
    office.write_back()
    assert office.writes() == {contact: (REFUSED, Untold.NO_EDIT)}


# ---- Each refusal


def refuse(office: WriteBackOffice, rose: str, how: str) -> None:
    org = office.org
    refusals = {"sobject": "Contact", "message": "FinServ.ContactTrigger: execution of BeforeUpdate caused by: no"}
    actions = {
        "busy": lambda: org.lock_record(rose),
        "in approval": lambda: org.begin_approval(rose),
        "field locked": lambda: org.lock_field("Contact", OPT_OUT),
        "no edit": lambda: org.deny_object("Contact", "edit"),
        "validation rule": lambda: org.change_settings(
            validation_rules=[{"sobject": "Contact", "field": "Phone", "when": "blank", "message": "Bitte Telefon."}]
        ),
        "required field": lambda: (
            org.add_field("Contact", "Region__c", kind="string"),
            org.change_settings(required_fields={"Contact": ["Region__c"]}),
        ),
        "trigger": lambda: org.change_settings(refusals=[{**refusals, "code": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"}]),
        "flow": lambda: org.change_settings(refusals=[{**refusals, "code": "CANNOT_EXECUTE_FLOW_TRIGGER"}]),
        "block": lambda: (
            office.add(owner=office.colleague, email=ROSE),
            org.change_settings(
                duplicate_rules=[{"sobject": "Contact", "against": "Contact", "action": "Block", "every_update": True}]
            ),
        ),
        "unknown": lambda: org.change_settings(
            refusals=[{"sobject": "Contact", "code": "BRAND_NEW_REFUSAL", "message": "Nope."}]
        ),
        "not visible": lambda: org.change_settings(
            refusals=[{"sobject": "Contact", "code": "NOT_FOUND", "message": "The requested resource does not exist"}]
        ),
    }
    actions[how]()  # type: ignore[no-untyped-call]


MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@pytest.mark.parametrize(
    ("how", "why", "waits", "then", "words"),
    [
        ("busy", Untold.BUSY, [10, MINUTE, 5 * MINUTE, 30 * MINUTE], REFUSED, None),
        ("in approval", Untold.IN_APPROVAL, [DAY] * 3, WAITING, None),
        ("field locked", Untold.FIELD_LOCKED, [6 * HOUR] * 8, WAITING, None),
        ("no edit", Untold.NO_EDIT, [], REFUSED, None),
        ("validation rule", Untold.FIRMS_RULE, [], REFUSED, "Bitte Telefon."),
        ("required field", Untold.FIRMS_RULE, [], REFUSED, "Region__c"),
        ("trigger", Untold.FIRMS_CODE, [HOUR, 6 * HOUR, 16 * HOUR], REFUSED, "FinServ.ContactTrigger"),
        ("flow", Untold.FIRMS_CODE, [HOUR, 6 * HOUR, 16 * HOUR], REFUSED, "FinServ.ContactTrigger"),
        ("block", Untold.DUPLICATE_RULE, [], REFUSED, None),
        ("unknown", Untold.UNKNOWN_REFUSAL, [], REFUSED, "Nope."),
        ("not visible", Untold.NOT_VISIBLE, [10, MINUTE, 5 * MINUTE], GONE, None),
    ],
)
def test_a_refusal_is_tried_again_as_the_table_says(
    office: WriteBackOffice, rose: str, how: str, why: Untold, waits: list[float], then: str, words: str | None
) -> None:
    refuse(office, rose, how)
    office.unsubscribe()
    for wait in waits:
        office.write_back()
        row = office.write(rose)
        assert (row.state, row.why, row.lease) == (WAITING, why, None)
        assert (row.next_attempt_at - utcnow()).total_seconds() == pytest.approx(wait, rel=0.15)
        office.make_all_due()
    office.write_back()
    row = office.write(rose)
    assert (row.state, row.why, row.lease) == (then, why, None)
    assert (row.why_words or "").startswith(words or "")
    assert bool(row.why_words) is bool(words)
    assert suppressions.held_for(office.address()).has_stopped
    assert not office.is_out(rose)


def test_an_opt_out_is_written_back_once_the_obstacle_is_gone(office: WriteBackOffice, rose: str) -> None:
    office.org.lock_field("Contact", OPT_OUT)
    office.org.lock_record(rose, times=1)
    office.unsubscribe()
    office.write_back()
    office.org.unlock_field("Contact", OPT_OUT)
    for _ in range(2):
        office.make_all_due()
        office.write_back()
    assert office.is_out(rose)
    assert office.writes() == {rose: (TOLD, None)}


def test_a_duplicate_rule_that_only_warns_swallows_nothing(office: WriteBackOffice, rose: str) -> None:
    office.add(owner=office.colleague, email=ROSE)
    office.org.change_settings(
        duplicate_rules=[{"sobject": "Contact", "against": "Contact", "action": "Alert", "every_update": True}]
    )
    office.unsubscribe()
    office.write_back()
    assert office.is_out(rose)


def test_a_refused_record_stops_no_other(office: WriteBackOffice, rose: str) -> None:
    twin = office.add(email=ROSE, last_name="Twin")
    office.sync()
    office.org.begin_approval(rose)
    office.unsubscribe()
    office.write_back()
    assert office.writes() == {rose: (WAITING, Untold.IN_APPROVAL), twin: (TOLD, None)}


def test_leads_that_can_not_be_seen_stop_no_contact(office: WriteBackOffice, rose: str) -> None:
    someone_signs_up(office.advisor, ROSE)  # linked to the contact
    someone_signs_up(office.advisor, "p@edge.example")
    office.deliver()
    lead_id = office.lead("p@edge.example").salesforce_id
    assert lead_id
    office.org.deny_object("Lead", "read")
    office.unsubscribe()
    office.unsubscribe("p@edge.example")
    office.write_back()
    assert office.writes() == {rose: (TOLD, None), lead_id: (WAITING, Untold.SET_UP)}


def test_a_hidden_field_waits_for_the_firms_admin(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.hide_field("Contact", OPT_OUT)
    mark = office.org.calls.mark()
    office.write_back()
    assert office.writes() == {rose: (WAITING, Untold.FIELD_HIDDEN)}
    assert office.updates(mark) == 0
    office.org.show_field("Contact", OPT_OUT)
    office.make_all_due()
    office.write_back()
    assert office.is_out(rose)


def test_a_refused_record_can_be_tried_again_by_hand(office: WriteBackOffice, rose: str) -> None:
    refuse(office, rose, "validation rule")
    office.unsubscribe()
    office.write_back()
    office.org.change_settings(validation_rules=[])
    assert office.write_back() == 0
    assert outbox.try_again(office.connection.id, rose)
    assert not outbox.try_again(office.connection.id, rose)
    office.write_back()
    assert office.is_out(rose)


def test_every_refusal_that_salesforce_knows_has_a_rule() -> None:
    for code in (*DATA_ERRORS, *RECORD_ERRORS, "SOMETHING_NEW"):
        rule = rule_for(sort_record_error(code, "words"))
        assert rule.then in (WriteBackState.WAITING, WriteBackState.REFUSED, WriteBackState.GONE)
        assert rule.waits or rule.then != WriteBackState.WAITING


# ---- The whole call fails


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("server_unavailable_html", Untold.NO_ANSWER),
        ("reset", Untold.NO_ANSWER),
        ("api_disabled", Untold.SET_UP),
    ],
)
def test_everything_waits_while_salesforce_does_not_answer(
    office: WriteBackOffice, rose: str, trouble: str, why: Untold
) -> None:
    office.unsubscribe()
    office.org.trouble.add(trouble, kind="data")
    office.write_back()
    row = office.write(rose)
    assert (row.state, row.why, row.lease) == (WAITING, why, None)
    assert row.next_attempt_at > utcnow() + timedelta(seconds=50)
    office.org.trouble.clear()
    office.make_all_due()
    office.write_back()
    assert office.is_out(rose)


def test_what_has_waited_long_is_tried_more_rarely(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    db.session.execute(update(OptOutWrite).values(created_at=utcnow() - timedelta(days=1)))
    db.session.commit()
    office.org.trouble.add("server_unavailable", kind="data")
    office.write_back()
    wait = (office.write(rose).next_attempt_at - utcnow()).total_seconds()
    assert wait == pytest.approx(HOUR, rel=0.15)


def test_the_firms_limit_pauses_the_firm(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.use_up_allowance()
    office.write_back()
    assert office.writes() == {rose: (WAITING, Untold.NO_CALLS)}
    assert office.reload(office.connection).partner.is_paused(utcnow())
    assert office.write_back() == 0


def test_no_call_is_made_beyond_our_share(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    partner = db.session.get_one(Partner, office.connection.partner_id)
    partner.org_calls_allowed, partner.org_calls_used, partner.org_calls_seen_at = 1000, 950, utcnow()
    office.save()
    mark = office.org.calls.mark()
    office.write_back()
    assert office.org.calls.counted(mark) == 0
    assert office.writes() == {rose: (WAITING, Untold.NO_CALLS)}
    assert not office.reload(partner).is_paused(utcnow())


def test_calls_are_counted(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    before = allowance_of(db.session(), office.connection.partner_id, utcnow()).ours
    mark = office.org.calls.mark()
    office.write_back()
    used = allowance_of(db.session(), office.connection.partner_id, utcnow()).ours - before
    assert used == office.org.calls.counted(mark) == 3  # leads by address, the contact, the update
    assert db.session.scalars(select(ApiUsage.lead_calls)).one() == 0


def test_two_hundred_go_with_one_update_and_the_rest_with_the_next(office: WriteBackOffice) -> None:
    office.fill(230)
    office.sync()
    with writing():
        found = {
            outbox.Found(office.connection.id, office.advisor.id, salesforce_id, "Contact")
            for salesforce_id in db.session.scalars(select(Contact.salesforce_id))
            if salesforce_id
        }
        for contact in db.session.scalars(select(Contact)):
            assert contact.address_hash
        addresses = [
            office.address(email) for email in db.session.scalars(select(Contact.email).order_by(Contact.id)).all()
        ]
        happened = [
            Happened(each, SuppressionStep.UNSUBSCRIBED, SuppressionSource.SENDER, utcnow()) for each in addresses
        ]
        unsubscribing.record(happened, lambda ids: None)
    assert set(office.writes()) == {each.salesforce_id for each in found}
    mark = office.org.calls.mark()
    assert office.write_back() == 230
    assert office.updates(mark) == 2
    assert {state for state, _ in office.writes().values()} == {TOLD}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_claim_reads_no_table_from_end_to_end(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    asked: list[tuple[str, Any]] = []

    def collect_statement(
        _connection: object, _cursor: object, statement: str, parameters: object, *_rest: object
    ) -> None:
        asked.append((statement, parameters))

    event.listen(db.engine, "after_cursor_execute", collect_statement)
    try:
        outbox.claim(office.connection.id, 200)
    finally:
        event.remove(db.engine, "after_cursor_execute", collect_statement)
    plans = [
        row[-1]
        for statement, parameters in asked
        if statement.startswith(("SELECT", "UPDATE", "DELETE"))
        for row in db.session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]
    db.session.rollback()
    assert plans
    scanned = {plan.removeprefix("SCAN ").partition(" ")[0] for plan in plans if plan.startswith("SCAN ")}
    assert not scanned & set(Base.metadata.tables)


# ---- Crashes, stops and two deliveries at once


def test_a_process_that_dies_between_update_and_storing_the_answer(office: WriteBackOffice, rose: str) -> None:
    def die() -> None:
        raise Died

    office.unsubscribe()
    office.after_update = die  # type: ignore[method-assign]
    mark = office.org.calls.mark()
    office.write_back()
    assert office.is_out(rose)
    row = office.write(rose)
    assert (row.state, row.attempts) == (WAITING, 1)
    assert row.lease is not None
    office.after_update = lambda: None  # type: ignore[method-assign]
    assert office.write_back() == 0  # not before the lease has run out
    office.make_all_due()
    office.write_back()
    assert office.writes() == {rose: (TOLD, None)}  # our own update had worked
    assert office.updates(mark) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_process_that_dies_before_any_call(office: WriteBackOffice, rose: str, number: int) -> None:
    def die(call: int) -> None:
        if call == number:
            raise Died

    office.unsubscribe()
    office.write_back(die)
    assert office.write(rose).state == WAITING
    office.make_all_due()
    office.write_back()
    assert office.is_out(rose)
    assert office.writes() == {rose: (TOLD, None)}


def test_an_answer_that_is_lost_is_looked_for(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.trouble.add("reset_after", method="PATCH", times=1)
    office.write_back()
    assert office.writes() == {rose: (WAITING, Untold.NO_ANSWER)}
    mark = office.org.calls.mark()
    office.make_all_due()
    office.write_back()
    assert office.writes() == {rose: (TOLD, None)}
    assert office.updates(mark) == 0


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_delivery_that_is_asked_to_end_hands_its_rows_back(office: WriteBackOffice, rose: str, number: int) -> None:
    def stop(call: int) -> None:
        office.stopping = call >= number

    office.unsubscribe()
    mark = office.org.calls.mark()
    assert office.write_back(stop) == 0
    row = office.write(rose)
    assert (row.state, row.lease) == (WAITING, None)
    assert office.org.calls.counted(mark) == number - 1
    office.stopping = False
    office.write_back()
    assert office.is_out(rose)


def test_a_lease_that_was_lost_stops_the_delivery(office: WriteBackOffice, rose: str) -> None:
    def lose(call: int) -> None:
        if call == 3:
            db.session.rollback()
            db.session.execute(update(OptOutWrite).values(lease="another's"))
            db.session.commit()

    office.unsubscribe()
    mark = office.org.calls.mark()
    assert office.write_back(lose) == 0
    assert office.updates(mark) == 0
    row = office.write(rose)
    assert (row.state, row.lease) == (WAITING, "another's")


def test_two_deliveries_at_once_tell_once(app: Flask, office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    connection_id = office.connection.id
    mark = office.org.calls.mark()
    access = org_access()
    results = race(app, *(lambda: deliver(connection_id, access) for _ in range(2)))
    assert not crash_of(results)
    assert sorted(results) == [0, 1]
    assert office.updates(mark) == 1


def test_the_same_person_unsubscribes_twice_at_once(app: Flask, office: WriteBackOffice, rose: str) -> None:
    address, vault = office.address(), org_access().vault
    results = race(
        app,
        *(
            lambda: unsubscribing.unsubscribe(address, SuppressionSource.PAGE, whole_firm=False, vault=vault)
            for _ in range(2)
        ),
    )
    assert not crash_of(results)
    assert office.writes() == {rose: (WAITING, None)}


# ---- Write-back that is turned on later


def test_those_of_the_last_thirty_days_are_written_back_on_request(office: WriteBackOffice, rose: str) -> None:
    old = office.add(email="old@edge.example", last_name="Old")
    bounced = office.add(email="bounced@edge.example", last_name="Bounced")
    complained = office.add(email="complained@edge.example", last_name="Complained")
    office.sync()
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    sender_tells(office, SuppressionStep.UNSUBSCRIBED, minutes=29 * 24 * 60)
    sender_tells(office, SuppressionStep.UNSUBSCRIBED, "old@edge.example", minutes=31 * 24 * 60)
    sender_tells(office, SuppressionStep.BOUNCED, "bounced@edge.example")
    sender_tells(office, SuppressionStep.COMPLAINED, "complained@edge.example", minutes=24 * 60)
    office.connection.partner.writes_opt_outs_back = True
    office.save()
    assert office.writes() == {}
    with writing():
        assert outbox.add_recent(office.connection.partner, ITSELF) == 2
    office.write_back()
    assert [office.is_out(each) for each in (rose, old, bounced, complained)] == [True, False, False, True]


def test_those_that_were_refused_are_among_them(office: WriteBackOffice, rose: str) -> None:
    refuse(office, rose, "no edit")
    office.unsubscribe()
    office.write_back()
    office.org.allow_object("Contact", "edit")
    with writing():
        outbox.add_recent(office.connection.partner, ITSELF)
    office.write_back()
    assert office.is_out(rose)


def test_a_contact_that_arrives_later_is_told_of_on_request_only(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    office.write_back()
    later = office.add(email=ROSE, last_name="Again")
    office.sync()
    assert reasons_here(office.connection)[later] == "unsubscribed"
    assert (office.writes(), office.write_back()) == ({rose: (TOLD, None)}, 0)
    with writing():
        outbox.add_recent(office.connection.partner, ITSELF)
    office.write_back()
    assert office.is_out(later)


def test_an_erased_persons_record_is_opted_out_all_the_same(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    contact = db.session.scalars(select(Contact).where(Contact.salesforce_id == rose)).one()
    contact.address_hash, contact.email, contact.erased_at = None, "", utcnow()
    office.save()
    office.write_back()
    assert office.is_out(rose)


def test_rows_name_no_address(office: WriteBackOffice, rose: str) -> None:
    office.unsubscribe()
    row = office.write(rose)
    values = [getattr(row, column.key) for column in OptOutWrite.__table__.columns]
    assert not [value for value in values if isinstance(value, str) and "@" in value]
    assert db.session.get_one(Connection, row.connection_id).user_id == row.user_id
    assert db.session.scalars(select(Lead)).all() == []
