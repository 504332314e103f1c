"""Delivery of leads from the outbox to Salesforce: each person once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from asapp.alerts import lead_mails
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.leads import decisions, outbox, queries
from asapp.messages.leads import Shown, meaning_of, refusal_of
from asapp.models import ConsentEvent, Contact, Lead, LeadState, Reason
from orgsim.answers import Answer
from orgsim.org import Org
from orgsim.server import Running
from tests.factories import make_advisor, make_connection
from tests.signing_up import PostOffice, make_page, someone_signs_up


@pytest.fixture
def office(app: Flask, org: Running) -> PostOffice:
    return PostOffice(org)


def test_a_person_who_signs_up_becomes_a_lead_of_the_advisors(office: PostOffice) -> None:
    someone_signs_up(office.advisor)

    office.deliver()

    (lead,) = office.org.leads(office.user)
    assert (lead["FirstName"], lead["LastName"], lead["Email"]) == ("Mei-Ling", "Chou", "mei.chou@harbour.example")
    assert (lead["Company"], lead["LeadSource"]) == ("[not provided]", "AdvisorStream")
    assert office.lead().state == LeadState.SENT
    assert office.lead().salesforce_id == lead["Id"]


# ---- People who are in Salesforce already


def test_a_person_who_is_a_contact_is_linked_and_not_created(office: PostOffice) -> None:
    contact_id = office.add(email="Mei.Chou@harbour.example")
    someone_signs_up(office.advisor, "mei.chou@HARBOUR.example")

    office.deliver()

    assert office.org.leads() == []
    lead = office.lead("mei.chou@HARBOUR.example")
    assert (lead.state, lead.linked_contact_id) == (LeadState.LINKED, contact_id)


def test_a_person_who_is_an_open_lead_is_linked(office: PostOffice) -> None:
    lead_id = office.org.add_lead(office.user, last_name="Chou", email="mei.chou@harbour.example")
    someone_signs_up(office.advisor)

    office.deliver()

    assert len(office.org.leads()) == 1
    assert (office.lead().state, office.lead().salesforce_id) == (LeadState.LINKED, lead_id)


def test_a_colleagues_contact_and_a_converted_lead_are_not_in_the_way(office: PostOffice) -> None:
    office.add(owner=office.colleague, email="mei.chou@harbour.example")
    old = office.org.add_lead(office.user, last_name="Chou", email="mei.chou@harbour.example")
    office.org.convert_lead(old, owner_id=office.colleague)
    someone_signs_up(office.advisor)

    office.deliver()

    assert office.lead().state == LeadState.SENT


def test_a_person_who_opted_out_there_is_linked_inactive_and_the_advisor_sees_it(office: PostOffice) -> None:
    lead_id = office.org.add_lead(office.user, last_name="Chou", email="mei.chou@harbour.example")
    office.org.opt_out(lead_id)
    someone_signs_up(office.advisor)

    office.deliver()

    lead = office.lead()
    assert (lead.state, lead.opted_out) == (LeadState.LINKED, True)
    assert lead.asked_again_at is not None
    assert db.session.get_one(Contact, lead.contact_id).opted_out
    kinds = db.session.scalars(select(ConsentEvent.kind).order_by(ConsentEvent.id)).all()
    assert kinds == ["opted_in", "opted_out"]


def test_the_line_and_the_mail_of_a_lead_say_that_this_person_had_opted_out_there(office: PostOffice) -> None:
    before = utcnow() - timedelta(seconds=1)
    lead_id = office.org.add_lead(office.user, last_name="Chou", email="mei.chou@harbour.example")
    office.org.opt_out(lead_id)
    someone_signs_up(office.advisor)
    office.deliver()
    letter = lead_mails.write(office.advisor.id, before, utcnow(), "https://asapp.example")
    assert letter
    (line,) = queries.find_lines(office.advisor, utcnow())
    told = "Has opted out in Salesforce, and signing up here doesn't change that: nothing is sent."
    assert told in line.meaning
    assert told in " ".join(letter.text.split())


def test_a_person_who_opts_out_after_signing_up_is_not_said_to_have_asked_all_the_same(office: PostOffice) -> None:
    lead = someone_signs_up(office.advisor)
    office.deliver()
    office.org.opt_out(str(office.lead().salesforce_id))
    office.sync()
    (line,) = queries.find_lines(office.advisor, utcnow())
    assert (line.lead.id, line.meaning) == (lead.id, "Opted out in Salesforce. Inactive here.")


def test_a_sign_up_with_an_address_that_opted_out_is_inactive_at_once(office: PostOffice) -> None:
    office.add(email="mei.chou@harbour.example", opted_out=True)
    office.sync()

    lead = someone_signs_up(office.advisor)

    reason = contact_rows(reason_of(utcnow())).where(Contact.id == lead.contact_id)
    assert db.session.scalar(reason) == Reason.TWIN_OPTED_OUT


# ---- Refusals


@pytest.mark.parametrize(
    ("arrange", "why", "words"),
    [
        (
            lambda org: org.change_settings(
                validation_rules=[{"sobject": "Lead", "when": "always", "message": "Téléphone obligatoire", "on": None}]
            ),
            "validation_rule",
            "Téléphone obligatoire",
        ),
        (lambda org: org.change_settings(required_fields={"Lead": ["Phone"]}), "required_field", "requires “Phone”"),
        (lambda org: org.deny_object("Lead", "create"), "insufficient_access", "may not create leads"),
        (lambda org: org.lock_field("Lead", "LeadSource"), "field_not_writable", "may not fill in “LeadSource”"),
        (lambda org: org.hide_field("Lead", "Company"), "field_not_writable", "Company"),
        (lambda org: org.deny_object("Lead", "read"), "object_hidden", "may not see"),
        (lambda org: org.change_settings(restricted_picklists=True), "restricted_picklist", "lead source"),
    ],
    ids=["validation rule", "required field", "no create", "locked field", "hidden field", "no read", "picklist"],
)
def test_a_refusal_has_a_text_and_can_be_retried(
    office: PostOffice, arrange: Callable[[Org], None], why: str, words: str
) -> None:
    arrange(office.org)
    someone_signs_up(office.advisor)

    office.deliver()

    lead = office.lead()
    if lead.why == "field_hidden":  # Salesforce doesn't tell a hidden field from a missing one
        why = "field_hidden"
    assert (lead.state, lead.why) == (LeadState.REFUSED, why)
    assert words in refusal_of(lead).headline
    assert office.org.leads() == []


@pytest.mark.parametrize(
    ("code", "message", "fields", "why", "words"),
    [
        ("CANNOT_EXECUTE_FLOW_TRIGGER", "The “Web lead” process failed.", [], "firms_own_code", "“Web lead” process"),
        ("APEX_ERROR", "System.LimitException", [], "firms_own_code", "System.LimitException"),
        ("FIELD_INTEGRITY_EXCEPTION", "There's a problem with this country", ["Country"], "field_value", "“Country”"),
        ("FIELD_FILTER_VALIDATION_EXCEPTION", "Not in this branch", ["Branch__c"], "lookup_filter", "“Branch__c”"),
        (
            "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
            "no access",
            [],
            "cross_reference_hidden",
            "may not see or change",
        ),
        ("NEVER_HEARD_OF", "Ask \x00 Mrs Levy", ["Region__c"], "unknown_refusal", "(NEVER_HEARD_OF, Region__c)"),
    ],
)
def test_what_the_firms_own_rules_end_a_save_with(
    office: PostOffice, code: str, message: str, fields: list[str], why: str, words: str
) -> None:
    refuse_leads(office, code, message, fields)
    someone_signs_up(office.advisor)

    office.deliver()

    lead = office.lead()
    assert (lead.state, lead.why) == (LeadState.REFUSED, why)
    assert words in refusal_of(lead).happened
    assert refusal_of(lead).forward


def test_a_record_that_is_locked_is_tried_again(office: PostOffice) -> None:
    refuse_leads(office, "ENTITY_IS_LOCKED", "the record is locked")
    someone_signs_up(office.advisor)
    office.deliver()
    assert (office.lead().state, office.lead().why) == (LeadState.WAITING, "record_locked")

    office.org.change_settings(refusals=[])
    office.make_due()
    office.deliver()

    assert office.lead().state == LeadState.SENT


@pytest.mark.parametrize(
    ("error", "description", "why"),
    [
        ("invalid_client", "invalid client credentials", "bad_secret"),
        ("invalid_grant", "ip restricted", "ip_restricted"),
        ("invalid_grant", "inactive organization", "inactive_org"),
    ],
)
def test_leads_wait_for_what_is_wrong_with_the_whole_firm_and_then_go_out(
    office: PostOffice, error: str, description: str, why: str
) -> None:
    office.org.expire_sessions()
    body = {"error": error, "error_description": description}
    fault = office.org.trouble.add(Answer(400, body), kind="token_refresh")
    someone_signs_up(office.advisor)
    office.deliver()
    assert (office.lead().state, office.lead().why) == (LeadState.WAITING, why)

    fault.remove()
    office.make_due()
    office.deliver()

    assert office.lead().state == LeadState.SENT


def refuse_leads(office: PostOffice, code: str, message: str, fields: list[str] | None = None) -> None:
    refusal = {"sobject": "Lead", "code": code, "message": message, "fields": fields or []}
    office.org.change_settings(refusals=[refusal])


@pytest.mark.parametrize("action", ["Alert", "Block"])
@pytest.mark.parametrize("against", ["Contact", "Lead"])
def test_a_duplicate_rule_refuses_and_is_never_overridden(office: PostOffice, action: str, against: str) -> None:
    add = {"Contact": office.org.add_contact, "Lead": office.org.add_lead}[against]
    add(office.colleague, last_name="Chou", email="mei.chou@harbour.example")
    office.org.change_settings(duplicate_rules=[{"sobject": "Lead", "against": against, "action": action}])
    someone_signs_up(office.advisor)

    office.deliver()

    assert (office.lead().state, office.lead().why) == (LeadState.REFUSED, "duplicate")


def test_a_refused_lead_goes_out_on_retry_once_it_is_fixed(office: PostOffice) -> None:
    office.org.change_settings(required_fields={"Lead": ["Phone"]})
    someone_signs_up(office.advisor)
    office.deliver()
    office.org.change_settings(required_fields={})

    decisions.retry(office.lead())
    office.deliver()

    assert office.lead().state == LeadState.SENT


def test_one_refused_lead_stops_no_other(office: PostOffice) -> None:
    rule = {"sobject": "Lead", "field": "LastName", "when": "contains", "value": "Bad", "message": "No"}
    office.org.change_settings(validation_rules=[rule])
    someone_signs_up(office.advisor, "bad@example.com", last_name="Bad")
    someone_signs_up(office.advisor)

    office.deliver()

    assert office.lead("bad@example.com").state == LeadState.REFUSED
    assert office.lead().state == LeadState.SENT


# ---- Waiting


def test_leads_from_before_the_connection_go_out_on_connecting(office: PostOffice) -> None:
    office.connection.status = "needs_reconnect"
    db.session.commit()
    someone_signs_up(office.advisor)
    office.deliver()
    assert office.lead().state == LeadState.RECEIVED
    enqueued: list[int] = []
    outbox.enqueue_for(office.advisor.id, lambda ids: not enqueued.extend(ids))
    assert enqueued == []

    office.connection.status = "connected"
    db.session.commit()
    outbox.enqueue_for(office.advisor.id, lambda ids: not enqueued.extend(ids))
    office.deliver()

    assert enqueued == [office.connection.id]
    assert office.lead().state == LeadState.SENT


def test_a_used_up_allowance_pauses_the_firm_and_leads_wait(office: PostOffice) -> None:
    someone_signs_up(office.advisor)
    office.org.use_up_allowance()

    office.deliver()

    lead, partner = office.lead(), office.reload(office.connection.partner)
    assert (lead.state, lead.why, partner.paused_why) == (LeadState.WAITING, "request_limit", "request_limit")


def test_one_delivery_is_enqueued_at_a_time(office: PostOffice) -> None:
    enqueued: list[int] = []
    for number in range(5):
        someone_signs_up(office.advisor, f"p{number}@example.com")
        outbox.enqueue_for(office.advisor.id, lambda ids: not enqueued.extend(ids))
    assert enqueued == [office.connection.id]

    office.deliver()
    someone_signs_up(office.advisor)
    outbox.enqueue_for(office.advisor.id, lambda ids: not enqueued.extend(ids))

    assert enqueued == [office.connection.id] * 2


def test_a_lead_that_is_not_kept_and_never_answered_is_to_be_checked(office: PostOffice) -> None:
    office.connection.partner.keep_leads_with_advisor = False
    db.session.commit()
    someone_signs_up(office.advisor)
    office.org.trouble.add("reset", method="POST", path="/composite/sobjects", times=1)
    office.deliver()

    for _ in range(14):
        office.let_pass(60)
        office.deliver()

    assert (office.lead().state, office.lead().why) == (LeadState.PLEASE_CHECK, "out_of_sight")


def test_a_lead_that_is_not_kept_is_found_after_a_lost_answer_where_the_user_sees_it(office: PostOffice) -> None:
    queue = office.give_leads_away()
    someone_signs_up(office.advisor)
    office.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)
    office.deliver()

    office.let_pass(15)
    office.deliver()

    (lead,) = office.org.leads()
    assert lead["OwnerId"] == queue
    assert (office.lead().state, office.lead().salesforce_id) == (LeadState.SENT, lead["Id"])


def test_what_was_made_after_salesforces_clock_was_put_back_is_found(office: PostOffice) -> None:
    """The first attempt created nothing, and Salesforce's clock was later then than at the second."""
    someone_signs_up(office.advisor)
    office.org.trouble.add("concurrent_limit", method="POST", path="/composite/sobjects", times=1)
    office.deliver()
    office.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)
    office.let_pass(-600)
    office.deliver()
    assert office.lead().state == LeadState.SENDING

    office.let_pass(60)
    office.deliver()

    (lead,) = office.org.leads()
    assert (office.lead().state, office.lead().salesforce_id) == (LeadState.SENT, lead["Id"])


def test_a_lead_that_is_not_kept_and_hidden_by_sharing_is_to_be_checked(office: PostOffice) -> None:
    """The lead exists, and the user doesn't see it: it must not be created again."""
    office.give_leads_away()
    office.org.change_settings(lead_access="Private")
    someone_signs_up(office.advisor)
    office.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)

    for _ in range(20):
        office.deliver()
        office.let_pass(60)

    assert (office.lead().state, office.lead().why) == (LeadState.PLEASE_CHECK, "out_of_sight")
    assert len(office.org.leads()) == 1


@pytest.mark.parametrize("sees_it_now", [True, False])
def test_sending_it_after_all_looks_once_more(office: PostOffice, sees_it_now: bool) -> None:
    """The advisor may have checked too early, or missed it."""
    office.give_leads_away()
    office.org.change_settings(lead_access="Private")
    someone_signs_up(office.advisor)
    office.org.trouble.add(
        "reset_after" if sees_it_now else "reset", method="POST", path="/composite/sobjects", times=1
    )
    for _ in range(20):
        office.deliver()
        office.let_pass(60)
    assert office.lead().state == LeadState.PLEASE_CHECK
    if sees_it_now:
        office.org.change_settings(lead_access="ReadWrite")

    decisions.send_after_all(office.lead())
    office.deliver()

    assert office.lead().state == LeadState.SENT
    assert len(office.org.leads()) == 1


def test_an_answer_lost_in_another_org_is_to_be_checked(office: PostOffice) -> None:
    someone_signs_up(office.advisor)
    office.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)
    office.deliver()
    lead = office.lead()
    former = make_connection(make_advisor(office.connection.partner, name="Bob Adeyemi"))
    lead.connection_id = former.id
    db.session.commit()

    office.make_due()
    office.deliver()

    assert (office.lead().state, office.lead().why) == (LeadState.PLEASE_CHECK, "tried_elsewhere")
    assert len(office.org.leads()) == 1


CUT = OperationalError("UPDATE", {}, psycopg.errors.AdminShutdown("terminating connection"))


@pytest.mark.parametrize("when", ["before the create", "after the create"])
def test_a_database_that_was_away_is_no_bug_of_ours(office: PostOffice, when: str) -> None:
    someone_signs_up(office.advisor)

    def be_away(number: int = 3) -> None:
        if number == 3:
            raise CUT

    office.after_create = be_away if when == "after the create" else None
    with pytest.raises(OperationalError):
        office.deliver(be_away if when == "before the create" else None)
    office.after_create = None

    lead = office.lead()
    assert (lead.why, lead.lease) == ("database_away", None)
    assert "database was away" in meaning_of(lead, Shown.WAITING, None)
    for _ in range(14):
        office.let_pass(60)
        office.deliver()
    assert office.lead().state == LeadState.SENT
    assert len(office.org.leads()) == 1


# ---- The create call


@pytest.mark.parametrize(("keeps", "owner"), [(True, "user"), (False, "queue")])
def test_assignment_rules_run_only_where_the_firm_wants_them(office: PostOffice, keeps: bool, owner: str) -> None:
    queue = office.org.add_queue("Web leads")
    office.org.change_settings(lead_queue=queue)
    office.connection.partner.keep_leads_with_advisor = keeps
    db.session.commit()
    someone_signs_up(office.advisor)

    office.deliver()

    (lead,) = office.org.leads()
    assert lead["OwnerId"] == {"user": office.user, "queue": queue}[owner]


@pytest.mark.parametrize(
    "typed", ["o'brien@example.com", "a@{refs.x}.example", "x%40y@example.com", "a\\b@example.com"]
)
def test_hostile_addresses_are_looked_for_as_they_are(office: PostOffice, typed: str) -> None:
    try:
        someone_signs_up(office.advisor, typed, first_name="@{ref.id}", last_name="' OR Name != '")
    except InvalidFields:
        return  # not even stored

    mark = office.org.calls.mark()
    office.deliver()

    assert (office.lead(typed).state, office.lead(typed).why) in (
        (LeadState.SENT, None),
        (LeadState.REFUSED, "invalid_email"),
    )
    assert all(not call.path.endswith("/composite") for call in office.org.calls.since(mark))


@pytest.mark.slow
def test_a_thousand_waiting_leads_take_fifteen_calls(office: PostOffice) -> None:
    make_page(office.advisor).daily_limit = 1000
    db.session.commit()
    for number in range(1000):
        someone_signs_up(office.advisor, f"person.number.{number}@somewhere.example")
    mark = office.org.calls.mark()

    assert office.deliver() == 1000

    assert office.org.calls.counted(mark) <= 15
    assert office.leads_there() == sorted(f"person.number.{number}@somewhere.example" for number in range(1000))
    assert db.session.scalar(select(func.count()).select_from(Lead).where(Lead.state == LeadState.SENT)) == 1000
