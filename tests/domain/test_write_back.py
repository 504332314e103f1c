"""Telling Salesforce of an unsubscribe: on which records, what each refusal means, and that nothing is lost or said twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select, update

from asapp.audit.entries import ITSELF
from asapp.connections.api_budget import allowance_of
from asapp.contacts import suppressions
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
from tests.syncing import Died
from tests.telling import OPT_OUT, ROSE, TellingOffice

WAITING, TOLD, ALREADY, REFUSED, GONE = (state.value for state in WriteBackState)


@pytest.fixture
def office(app: Flask, org: Running) -> TellingOffice:
    return TellingOffice(org)


@pytest.fixture
def rose(office: TellingOffice) -> str:
    """Rose's contact, which a sync has brought here."""
    salesforce_id = office.add(email=ROSE)
    office.sync()
    return salesforce_id


def sender_tells(office: TellingOffice, step: SuppressionStep, email: str = ROSE, minutes: float = 0) -> list[int]:
    """Let the sender tell something; return the connections that were enqueued."""
    enqueued: list[int] = []
    happened = Happened(
        office.address(email), step, SuppressionSource.SENDER, utcnow() - timedelta(minutes=minutes), f"{step}-{email}"
    )
    with writing():
        unsubscribing.record([happened], enqueued.extend)
    return enqueued


# ---- What is told, and to which records


def test_the_contact_is_opted_out_with_one_update(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    mark = office.org.calls.mark()
    assert office.tell() == 1
    assert office.is_out(rose)
    assert office.writes() == {rose: (TOLD, None)}
    assert office.updates(mark) == 1
    assert office.write(rose).ended_at is not None
    assert office.tell() == 0


def test_nothing_is_written_down_where_the_firm_does_not_want_it(office: TellingOffice, rose: str) -> None:
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    office.unsubscribe()
    sender_tells(office, SuppressionStep.COMPLAINED)
    assert office.writes() == {}
    assert suppressions.held_for(office.address()).has_stopped


def test_what_waits_stays_where_the_firm_changes_its_mind(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    office.connection.partner.writes_opt_outs_back = False
    office.save()
    assert (outbox.enqueue_due(lambda ids: None), office.tell()) == (0, 0)
    assert office.writes() == {rose: (WAITING, None)}
    assert not office.is_out(rose)


def test_the_unsubscribe_and_the_row_are_one_transaction(office: TellingOffice, rose: str) -> None:
    with pytest.raises(RuntimeError):
        unsubscribe_and_break(office)
    assert office.writes() == {}
    assert not suppressions.held_for(office.address()).has_stopped


def unsubscribe_and_break(office: TellingOffice) -> None:
    with writing():
        stopped = suppressions.store_unsubscribe(
            office.address(), SuppressionSource.PAGE, whole_firm=False, vault=org_access().vault
        )
        assert outbox.add_for(stopped) == {office.connection.id}
        db.session.flush()
        db.session.rollback()
        raise RuntimeError


@pytest.mark.parametrize("step", [SuppressionStep.UNSUBSCRIBED, SuppressionStep.COMPLAINED])
def test_an_event_is_told_at_once(office: TellingOffice, rose: str, step: SuppressionStep) -> None:
    assert sender_tells(office, step) == [office.connection.id]
    assert office.tell() == 1
    assert office.is_out(rose)


def test_a_bounce_is_no_wish_and_is_not_told(office: TellingOffice, rose: str) -> None:
    assert sender_tells(office, SuppressionStep.BOUNCED) == []
    assert office.writes() == {}


def test_an_unsubscribe_is_told_when_it_can_no_longer_be_undone(office: TellingOffice, rose: str) -> None:
    office.unsubscribe(wait_is_over=False)
    wait = office.write(rose).next_attempt_at - utcnow()
    assert timedelta(minutes=9) < wait <= suppressions.UNDO_WITHIN
    assert (office.tell(), outbox.enqueue_due(lambda ids: None)) == (0, 0)


def test_what_was_undone_is_never_told(office: TellingOffice, rose: str) -> None:
    office.unsubscribe(wait_is_over=False)
    suppressions.undo_unsubscribe(office.address())
    office.make_all_due()
    assert office.tell() == 0
    assert office.writes() == {}
    assert not office.is_out(rose)


def test_who_opted_in_again_meanwhile_is_not_opted_out(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    suppressions.record_opt_in(
        office.advisor.id, office.connection.partner_id, office.hash(ROSE), utcnow() + timedelta(seconds=1)
    )
    db.session.commit()
    office.tell()
    assert not office.is_out(rose)
    assert office.writes() == {}


def test_every_record_with_the_address_that_the_user_owns(office: TellingOffice, rose: str) -> None:
    twin = office.add(email="ROSE@edge.example", last_name="Twin")
    theirs = office.add(owner=office.colleague, email=ROSE)
    other = office.add(email="else@edge.example", last_name="Else")
    someone_signs_up(office.advisor, "p@edge.example")
    office.deliver()
    office.sync()
    not_ours = office.org.add_lead(office.user, last_name="Walk-in", email=ROSE)
    of_colleague = office.org.add_lead(office.colleague, last_name="Theirs", email=ROSE)
    office.unsubscribe()
    office.tell()
    assert {each: office.is_out(each) for each in (rose, twin, not_ours)} == dict.fromkeys((rose, twin, not_ours), True)
    assert not any(office.is_out(each) for each in (theirs, other, of_colleague))
    assert set(office.writes()) == {rose, twin, not_ours}


def test_a_lead_that_was_sent_keeps_its_owner(office: TellingOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.org.change_settings(lead_queue=office.org.add_queue("Web leads"))
    office.unsubscribe("mei.chou@harbour.example")
    office.tell()
    record = office.org.lead(lead_id)
    assert record is not None
    assert (record[OPT_OUT], record["OwnerId"]) == (True, office.user)
    assert office.writes() == {lead_id: (TOLD, None)}


def test_everybody_at_the_firm_is_every_advisor_who_has_the_address(office: TellingOffice, rose: str) -> None:
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
    office.tell()
    assert (office.is_out(rose), office.is_out(theirs)) == (True, False)
    deliver(bobs.id, org_access())
    assert office.is_out(theirs)


def test_an_address_that_no_record_has_needs_nothing(office: TellingOffice) -> None:
    make_contact(office.advisor, email=ROSE, address_hash=office.hash(ROSE))
    office.unsubscribe()
    assert office.writes() == {}


def test_a_disconnected_account_is_told_nothing(office: TellingOffice, rose: str) -> None:
    office.connection.status = ConnectionStatus.DISCONNECTED
    office.save()
    office.unsubscribe()
    assert office.writes() == {}


@pytest.mark.parametrize("stop", ["needs_reconnect", "deactivated", "disabled", "paused"])
def test_nothing_is_asked_while_nothing_may_be_asked(office: TellingOffice, rose: str, stop: str) -> None:
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
    assert (outbox.enqueue_due(lambda ids: None), office.tell()) == (0, 0)
    assert office.org.calls.counted(mark) == 0
    assert office.writes() == {rose: (WAITING, None)}


# ---- What is true already, and what is told once


def test_who_is_opted_out_there_already_gets_no_update(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.opt_out(rose)
    mark = office.org.calls.mark()
    office.tell()
    assert office.updates(mark) == 0
    assert office.writes() == {rose: (ALREADY, None)}


def test_a_contact_that_is_known_to_be_opted_out_gets_no_row(office: TellingOffice, rose: str) -> None:
    office.org.opt_out(rose)
    office.sync()
    office.unsubscribe()
    assert office.writes() == {}


def test_a_contact_that_has_left_gets_no_row(office: TellingOffice, rose: str) -> None:
    office.org.delete(rose)
    office.sync()
    office.unsubscribe()
    assert office.writes() == {}


def test_a_lead_that_was_given_away_gets_no_row(office: TellingOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.org.give(lead_id, office.colleague)
    office.sync()
    office.unsubscribe("mei.chou@harbour.example")
    assert office.writes() == {}


def test_a_lead_whose_person_opted_in_again_is_not_opted_out(office: TellingOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.unsubscribe("mei.chou@harbour.example")
    someone_signs_up(office.advisor)
    office.tell()
    record = office.org.lead(lead_id)
    assert record is not None
    assert (record[OPT_OUT], office.writes()) == (False, {})


def test_telling_twice_is_one_row_and_one_update(office: TellingOffice, rose: str) -> None:
    mark = office.org.calls.mark()
    office.unsubscribe()
    office.tell()
    sender_tells(office, SuppressionStep.COMPLAINED)
    office.make_all_due()
    office.tell()
    assert office.updates(mark) == 1
    assert office.writes() == {rose: (TOLD, None)}


def test_a_record_that_salesforce_opted_in_since_is_told_of_again_by_a_new_word(
    office: TellingOffice, rose: str
) -> None:
    office.unsubscribe()
    office.tell()
    office.org.clock.advance(3600)
    office.org.opt_in(rose)
    office.sync()
    office.tell()
    assert not office.is_out(rose)  # by itself nothing is told again
    sender_tells(office, SuppressionStep.COMPLAINED)
    office.tell()
    assert office.is_out(rose)


# ---- Records that are not there any more


def test_a_record_of_somebody_else_by_now_is_left_alone(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.give(rose, office.colleague)
    mark = office.org.calls.mark()
    office.tell()
    assert not office.is_out(rose)
    assert office.updates(mark) == 0
    assert office.writes() == {rose: (GONE, Untold.REASSIGNED)}


def test_a_deleted_record_is_left_alone(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.delete(rose)
    office.tell()
    assert office.writes() == {rose: (GONE, Untold.DELETED)}


@pytest.mark.parametrize("how", ["purge", "hide_contact"])
def test_a_record_that_nobody_sees_is_left_alone(office: TellingOffice, rose: str, how: str) -> None:
    office.unsubscribe()
    getattr(office.org, how)(rose)
    office.tell()
    assert office.writes() == {rose: (GONE, Untold.NOT_VISIBLE)}


def test_a_merged_record_is_followed_to_its_survivor(office: TellingOffice, rose: str) -> None:
    survivor = office.add(email="other@edge.example", last_name="Survivor")
    office.unsubscribe()
    office.org.merge(survivor, [rose])
    office.tell()
    assert office.is_out(survivor)
    assert office.writes() == {rose: (GONE, Untold.MERGED), survivor: (TOLD, None)}


def test_a_converted_lead_is_followed_to_its_contact(office: TellingOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.unsubscribe("mei.chou@harbour.example")
    contact_id = office.org.convert_lead(lead_id)
    office.tell()
    assert office.is_out(contact_id)
    assert office.writes() == {lead_id: (GONE, Untold.CONVERTED), contact_id: (TOLD, None)}


def test_a_lead_that_is_converted_between_look_and_update_is_followed_too(office: TellingOffice) -> None:
    someone_signs_up(office.advisor)
    office.deliver()
    lead_id = office.lead().salesforce_id
    assert lead_id
    office.unsubscribe("mei.chou@harbour.example")
    made: list[str] = []

    def convert(number: int) -> None:
        if number == 3:  # the leads by address, the lead, then the update
            made.append(office.org.convert_lead(lead_id))

    office.tell(convert)
    assert office.writes() == {lead_id: (WAITING, Untold.CONVERTED)}
    office.make_all_due()
    office.tell()
    assert office.is_out(made[0])


# ---- Person accounts


def test_a_person_is_told_of_through_the_contact(office: TellingOffice) -> None:
    account, contact = office.org.add_person(office.user, last_name="Person", email=ROSE)
    office.sync()
    office.unsubscribe()
    office.tell()
    assert office.is_out(contact)
    record = office.org.contact(account)
    assert record is not None
    assert record["PersonHasOptedOutOfEmail"] is True
    assert office.writes() == {contact: (TOLD, None)}


def test_a_person_whose_contact_can_not_be_changed_is_told_of_through_the_account(
    office: TellingOffice, rose: str
) -> None:
    _account, contact = office.org.add_person(office.user, last_name="Person", email=ROSE)
    office.org.refuse_person_contacts()
    office.sync()
    office.unsubscribe()
    office.tell()
    assert (office.is_out(contact), office.is_out(rose)) == (True, True)
    assert office.writes() == {rose: (TOLD, None), contact: (TOLD, None)}
    assert office.write(contact).kind == "Account"


def test_a_person_whose_account_can_not_be_changed_either(office: TellingOffice) -> None:
    _account, contact = office.org.add_person(office.user, last_name="Person", email=ROSE)
    office.org.refuse_person_contacts()
    office.org.deny_object("Account", "edit")
    office.sync()
    office.unsubscribe()
    office.tell()
    assert office.writes() == {contact: (REFUSED, Untold.NO_EDIT)}


# ---- Each refusal


def refuse(office: TellingOffice, rose: str, how: str) -> None:
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
    office: TellingOffice, rose: str, how: str, why: Untold, waits: list[float], then: str, words: str | None
) -> None:
    refuse(office, rose, how)
    office.unsubscribe()
    for wait in waits:
        office.tell()
        row = office.write(rose)
        assert (row.state, row.why, row.lease) == (WAITING, why, None)
        assert (row.next_attempt_at - utcnow()).total_seconds() == pytest.approx(wait, rel=0.15)
        office.make_all_due()
    office.tell()
    row = office.write(rose)
    assert (row.state, row.why, row.lease) == (then, why, None)
    assert (row.why_words or "").startswith(words or "")
    assert bool(row.why_words) is bool(words)
    assert suppressions.held_for(office.address()).has_stopped
    assert not office.is_out(rose)


def test_what_was_in_the_way_goes_and_it_is_told(office: TellingOffice, rose: str) -> None:
    office.org.lock_field("Contact", OPT_OUT)
    office.org.lock_record(rose, times=1)
    office.unsubscribe()
    office.tell()
    office.org.unlock_field("Contact", OPT_OUT)
    for _ in range(2):
        office.make_all_due()
        office.tell()
    assert office.is_out(rose)
    assert office.writes() == {rose: (TOLD, None)}


def test_a_duplicate_rule_that_only_warns_swallows_nothing(office: TellingOffice, rose: str) -> None:
    office.add(owner=office.colleague, email=ROSE)
    office.org.change_settings(
        duplicate_rules=[{"sobject": "Contact", "against": "Contact", "action": "Alert", "every_update": True}]
    )
    office.unsubscribe()
    office.tell()
    assert office.is_out(rose)


def test_a_refused_record_stops_no_other(office: TellingOffice, rose: str) -> None:
    twin = office.add(email=ROSE, last_name="Twin")
    office.sync()
    office.org.begin_approval(rose)
    office.unsubscribe()
    office.tell()
    assert office.writes() == {rose: (WAITING, Untold.IN_APPROVAL), twin: (TOLD, None)}


def test_leads_that_can_not_be_seen_stop_no_contact(office: TellingOffice, rose: str) -> None:
    someone_signs_up(office.advisor, ROSE)  # linked to the contact
    someone_signs_up(office.advisor, "p@edge.example")
    office.deliver()
    lead_id = office.lead("p@edge.example").salesforce_id
    assert lead_id
    office.org.deny_object("Lead", "read")
    office.unsubscribe()
    office.unsubscribe("p@edge.example")
    office.tell()
    assert office.writes() == {rose: (TOLD, None), lead_id: (WAITING, Untold.SET_UP)}


def test_a_hidden_field_waits_for_the_firms_admin(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.hide_field("Contact", OPT_OUT)
    mark = office.org.calls.mark()
    office.tell()
    assert office.writes() == {rose: (WAITING, Untold.FIELD_HIDDEN)}
    assert office.updates(mark) == 0
    office.org.show_field("Contact", OPT_OUT)
    office.make_all_due()
    office.tell()
    assert office.is_out(rose)


def test_a_refused_record_can_be_tried_again_by_hand(office: TellingOffice, rose: str) -> None:
    refuse(office, rose, "validation rule")
    office.unsubscribe()
    office.tell()
    office.org.change_settings(validation_rules=[])
    assert office.tell() == 0
    assert outbox.try_again(office.connection.id, rose)
    assert not outbox.try_again(office.connection.id, rose)
    office.tell()
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
    office: TellingOffice, rose: str, trouble: str, why: Untold
) -> None:
    office.unsubscribe()
    office.org.trouble.add(trouble, kind="data")
    office.tell()
    row = office.write(rose)
    assert (row.state, row.why, row.lease) == (WAITING, why, None)
    assert row.next_attempt_at > utcnow() + timedelta(seconds=50)
    office.org.trouble.clear()
    office.make_all_due()
    office.tell()
    assert office.is_out(rose)


def test_what_has_waited_long_is_tried_more_rarely(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    db.session.execute(update(OptOutWrite).values(created_at=utcnow() - timedelta(days=1)))
    db.session.commit()
    office.org.trouble.add("server_unavailable", kind="data")
    office.tell()
    wait = (office.write(rose).next_attempt_at - utcnow()).total_seconds()
    assert wait == pytest.approx(HOUR, rel=0.15)


def test_the_firms_limit_pauses_the_firm(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.use_up_allowance()
    office.tell()
    assert office.writes() == {rose: (WAITING, Untold.NO_CALLS)}
    assert office.reload(office.connection).partner.is_paused(utcnow())
    assert office.tell() == 0


def test_no_call_is_made_beyond_our_share(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    partner = db.session.get_one(Partner, office.connection.partner_id)
    partner.org_calls_allowed, partner.org_calls_used, partner.org_calls_seen_at = 1000, 950, utcnow()
    office.save()
    mark = office.org.calls.mark()
    office.tell()
    assert office.org.calls.counted(mark) == 0
    assert office.writes() == {rose: (WAITING, Untold.NO_CALLS)}
    assert not office.reload(partner).is_paused(utcnow())


def test_calls_are_counted(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    before = allowance_of(db.session(), office.connection.partner_id, utcnow()).ours
    mark = office.org.calls.mark()
    office.tell()
    used = allowance_of(db.session(), office.connection.partner_id, utcnow()).ours - before
    assert used == office.org.calls.counted(mark) == 3  # leads by address, the contact, the update
    assert db.session.scalars(select(ApiUsage.lead_calls)).one() == 0


def test_two_hundred_go_with_one_update_and_the_rest_with_the_next(office: TellingOffice) -> None:
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
    assert office.tell() == 230
    assert office.updates(mark) == 2
    assert {state for state, _ in office.writes().values()} == {TOLD}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_claim_reads_no_table_from_end_to_end(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    asked: list[tuple[str, Any]] = []

    def hear(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        asked.append((statement, parameters))

    event.listen(db.engine, "after_cursor_execute", hear)
    try:
        outbox.claim(office.connection.id, 200)
    finally:
        event.remove(db.engine, "after_cursor_execute", hear)
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


# ---- Dying, stopping, twice at once


def test_a_process_that_dies_between_update_and_storing_the_answer(office: TellingOffice, rose: str) -> None:
    def die() -> None:
        raise Died

    office.unsubscribe()
    office.after_update = die  # type: ignore[method-assign]
    mark = office.org.calls.mark()
    office.tell()
    assert office.is_out(rose)
    row = office.write(rose)
    assert (row.state, row.attempts) == (WAITING, 1)
    assert row.lease is not None
    office.after_update = lambda: None  # type: ignore[method-assign]
    assert office.tell() == 0  # until the lease has run out
    office.make_all_due()
    office.tell()
    assert office.writes() == {rose: (TOLD, None)}  # we did it ourselves
    assert office.updates(mark) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_process_that_dies_before_any_call(office: TellingOffice, rose: str, number: int) -> None:
    def die(call: int) -> None:
        if call == number:
            raise Died

    office.unsubscribe()
    office.tell(die)
    assert office.write(rose).state == WAITING
    office.make_all_due()
    office.tell()
    assert office.is_out(rose)
    assert office.writes() == {rose: (TOLD, None)}


def test_an_answer_that_is_lost_is_looked_for(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    office.org.trouble.add("reset_after", method="PATCH", times=1)
    office.tell()
    assert office.writes() == {rose: (WAITING, Untold.NO_ANSWER)}
    mark = office.org.calls.mark()
    office.make_all_due()
    office.tell()
    assert office.writes() == {rose: (TOLD, None)}
    assert office.updates(mark) == 0


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_delivery_that_is_asked_to_end_hands_its_rows_back(office: TellingOffice, rose: str, number: int) -> None:
    def stop(call: int) -> None:
        office.stopping = call >= number

    office.unsubscribe()
    mark = office.org.calls.mark()
    assert office.tell(stop) == 0
    row = office.write(rose)
    assert (row.state, row.lease) == (WAITING, None)
    assert office.org.calls.counted(mark) == number - 1
    office.stopping = False
    office.tell()
    assert office.is_out(rose)


def test_a_lease_that_was_lost_stops_the_delivery(office: TellingOffice, rose: str) -> None:
    def lose(call: int) -> None:
        if call == 3:
            db.session.rollback()
            db.session.execute(update(OptOutWrite).values(lease="another's"))
            db.session.commit()

    office.unsubscribe()
    mark = office.org.calls.mark()
    assert office.tell(lose) == 0
    assert office.updates(mark) == 0
    row = office.write(rose)
    assert (row.state, row.lease) == (WAITING, "another's")


def test_two_deliveries_at_once_tell_once(app: Flask, office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    connection_id = office.connection.id
    mark = office.org.calls.mark()
    access = org_access()
    results = race(app, *(lambda: deliver(connection_id, access) for _ in range(2)))
    assert not crash_of(results)
    assert sorted(results) == [0, 1]
    assert office.updates(mark) == 1


def test_the_same_person_unsubscribes_twice_at_once(app: Flask, office: TellingOffice, rose: str) -> None:
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


# ---- Turned on later


def test_those_of_the_last_thirty_days_are_written_back_on_request(office: TellingOffice, rose: str) -> None:
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
    office.tell()
    assert [office.is_out(each) for each in (rose, old, bounced, complained)] == [True, False, False, True]


def test_those_that_were_refused_are_among_them(office: TellingOffice, rose: str) -> None:
    refuse(office, rose, "no edit")
    office.unsubscribe()
    office.tell()
    office.org.allow_object("Contact", "edit")
    with writing():
        outbox.add_recent(office.connection.partner, ITSELF)
    office.tell()
    assert office.is_out(rose)


def test_an_erased_person_s_record_is_told_of_all_the_same(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    contact = db.session.scalars(select(Contact).where(Contact.salesforce_id == rose)).one()
    contact.address_hash, contact.email, contact.erased_at = None, "", utcnow()
    office.save()
    office.tell()
    assert office.is_out(rose)


def test_rows_name_no_address(office: TellingOffice, rose: str) -> None:
    office.unsubscribe()
    row = office.write(rose)
    values = [getattr(row, column.key) for column in OptOutWrite.__table__.columns]
    assert not [value for value in values if isinstance(value, str) and "@" in value]
    assert db.session.get_one(Connection, row.connection_id).user_id == row.user_id
    assert db.session.scalars(select(Lead)).all() == []
