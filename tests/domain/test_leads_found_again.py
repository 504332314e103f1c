"""What a delivery finds in Salesforce: its own Lead, if the answer was lost, or the person's own record."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads.delivery import deliver
from asapp.models import BlockedAddress, Connection, Contact, ContactSource, Lead, LeadState, Reason
from asapp.salesforce.hosts import to_18
from asapp.salesforce.records import LeadWindow
from asapp.sync import leads
from orgsim.server import Running
from tests.domain.test_leads_following import FollowingOffice
from tests.domain.test_leads_once import at_the_same_time, lose_the_answer
from tests.factories import make_advisor, make_connection, make_contact, make_synced_connection
from tests.signing_up import someone_signs_up
from tests.syncing import KEY

ADDRESS = "mei.chou@harbour.example"
OTHER = "zoe.lindstrom@harbour.example"
CREATE = 3  # the number of the call: a search for contacts, one for leads, then the create


@pytest.fixture
def office(app: Flask, org: Running) -> FollowingOffice:
    return FollowingOffice(org)


def added_by_hand(office: FollowingOffice) -> Contact:
    """Another contact of the advisor's with the address of the person who signs up."""
    return make_contact(office.advisor, email=ADDRESS, address_hash=office.hash(ADDRESS))


def reason_for(contact: Contact) -> str | None:
    db.session.rollback()
    return db.session.scalar(contact_rows(reason_of(utcnow())).where(Contact.id == contact.id))


# ---- After a lost answer


def test_an_unanswered_create_is_sent_again_after_thirteen_minutes_and_not_before(office: FollowingOffice) -> None:
    office.org.clock.freeze()
    someone_signs_up(office.advisor)
    lose_the_answer(office, "reset")

    office.let_pass(13 * 60 - 2)
    office.deliver()
    assert (office.lead().state, office.lead().attempts) == (LeadState.SENDING, 1)

    office.let_pass(2)
    office.deliver()
    assert (office.lead().state, office.lead().attempts) == (LeadState.SENT, 2)


def test_a_create_that_salesforce_carries_out_ten_minutes_later_is_not_made_twice(office: FollowingOffice) -> None:
    someone_signs_up(office.advisor)
    office.org.trouble.add("late_work", method="POST", path="/composite/sobjects", times=1, seconds=600)
    office.deliver()

    for _ in range(20):
        office.let_pass(60)
        office.deliver()

    (made,) = office.org.leads()
    assert (office.lead().state, office.lead().salesforce_id) == (LeadState.SENT, made["Id"])


def test_what_another_of_salesforces_hosts_made_by_a_slower_clock_is_found(office: FollowingOffice) -> None:
    """Its moment of creation lies before the moment of our attempt."""
    someone_signs_up(office.advisor)
    office.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)

    def before_call(number: int) -> None:
        if number == CREATE:
            office.org.clock.advance(-120)

    office.deliver(before_call)
    office.let_pass(180)
    office.deliver()

    (made,) = office.org.leads()
    assert (office.lead().state, office.lead().salesforce_id) == (LeadState.SENT, made["Id"])


@pytest.mark.parametrize("is_first_deleted", [True, False])
def test_a_lead_of_ours_that_is_there_counts_before_one_that_was_deleted(
    office: FollowingOffice, is_first_deleted: bool
) -> None:
    someone_signs_up(office.advisor)
    lose_the_answer(office)
    (first,) = (lead["Id"] for lead in office.org.leads())
    office.org.clock.advance(30)
    second = office.org.add_lead(office.user, last_name="Chou", email=ADDRESS)
    deleted, there = (first, second) if is_first_deleted else (second, first)
    office.org.delete(deleted)

    office.let_pass(30)
    office.deliver()

    lead = office.lead()
    assert (lead.state, lead.salesforce_id, lead.is_deleted) == (LeadState.SENT, there, False)


@pytest.mark.parametrize("end", ["delete", "convert"])
def test_an_opted_out_lead_of_ours_that_is_no_longer_open_blocks_no_address(office: FollowingOffice, end: str) -> None:
    other = added_by_hand(office)
    someone_signs_up(office.advisor)
    lose_the_answer(office)
    (made,) = (lead["Id"] for lead in office.org.leads())
    office.org.opt_out(made)
    if end == "delete":
        office.org.delete(made)
    else:
        office.org.opt_in(office.org.convert_lead(made))

    office.let_pass(30)
    office.deliver()

    assert office.lead().salesforce_id == made
    assert db.session.scalars(select(BlockedAddress.salesforce_id)).all() == []
    assert reason_for(other) is None


def test_a_lead_of_ours_that_opted_out_before_it_was_found_blocks_its_address(office: FollowingOffice) -> None:
    other = added_by_hand(office)
    someone_signs_up(office.advisor)
    lose_the_answer(office)
    (made,) = (lead["Id"] for lead in office.org.leads())
    office.org.opt_out(made)

    office.let_pass(30)
    office.deliver()

    assert office.lead().opted_out
    assert reason_for(other) == Reason.TWIN_OPTED_OUT


# ---- People who are in Salesforce already


@pytest.mark.parametrize("opted_out", [(True, False), (False, True)])
@pytest.mark.parametrize("about", ["Contact", "Lead"])
def test_of_two_records_with_the_address_the_one_that_opted_out_counts(
    office: FollowingOffice, about: str, opted_out: tuple[bool, bool]
) -> None:
    add = office.org.add_contact if about == "Contact" else office.org.add_lead
    ids = [add(office.user, last_name="Chou", email=ADDRESS, opted_out=each) for each in opted_out]
    someone_signs_up(office.advisor)

    office.deliver()

    lead = office.lead()
    assert (lead.state, lead.opted_out) == (LeadState.LINKED, True)
    assert (lead.linked_contact_id or lead.salesforce_id) == ids[opted_out.index(True)]


def test_a_linked_lead_that_opted_out_blocks_its_address_at_once(office: FollowingOffice) -> None:
    """The next sync may be an hour away."""
    other = added_by_hand(office)
    office.org.add_lead(office.user, last_name="Chou", email=ADDRESS, opted_out=True)
    someone_signs_up(office.advisor)

    office.deliver()

    assert office.lead().state == LeadState.LINKED
    assert reason_for(other) == Reason.TWIN_OPTED_OUT


@pytest.mark.parametrize(("about", "trouble"), [("Contact", "opt_out_hidden"), ("Lead", "lead_opt_out_hidden")])
def test_where_an_opt_out_is_hidden_from_a_delivery_no_lead_is_active_from_then_on(
    office: FollowingOffice, about: str, trouble: str
) -> None:
    office.send()
    office.sync()
    assert office.people() == [("lead", None, True)]
    office.org.hide_field(about, "HasOptedOutOfEmail")
    someone_signs_up(office.advisor, OTHER)

    office.deliver()

    assert office.lead(OTHER).state == LeadState.SENT
    assert office.reload(office.connection).leads_trouble == trouble
    assert office.people() == [("lead", Reason.OPT_OUT_UNKNOWN, True)] * 2


# ---- Which leads a sync asks for

NOW = utcnow().replace(microsecond=0)
OVERLAP = timedelta(minutes=15)


def connection_with_a_lead(**columns: object) -> Connection:
    """A connection whose only lead in Salesforce changed there a day ago."""
    connection = make_synced_connection(**columns)
    lead = someone_signs_up(connection.user)
    lead.state, lead.connection_id, lead.salesforce_id = LeadState.SENT, connection.id, to_18("00Q5g0000000001")
    lead.system_modstamp = NOW - timedelta(days=1)
    db.session.commit()
    return connection


def test_leads_are_read_from_a_quarter_of_an_hour_before_the_last_good_answer(app: Flask) -> None:
    connection = connection_with_a_lead(
        leads_watermark=NOW - timedelta(hours=1), lead_opt_outs_watermark=NOW - timedelta(hours=2)
    )
    window = leads.window_of(connection, is_full=False, wants_sweep=False)
    assert window == LeadWindow(NOW - timedelta(hours=1) - OVERLAP, NOW - timedelta(hours=2) - OVERLAP)


def test_a_sweep_asks_for_all_leads_that_are_opted_out(app: Flask) -> None:
    connection = connection_with_a_lead(
        leads_watermark=NOW - timedelta(hours=1), lead_opt_outs_watermark=NOW - timedelta(hours=2)
    )
    window = leads.window_of(connection, is_full=False, wants_sweep=True)
    assert window == LeadWindow(NOW - timedelta(hours=1) - OVERLAP, None)


def test_a_full_read_asks_for_every_lead_of_ours_and_for_all_that_are_opted_out(app: Flask) -> None:
    """The firm has named another opt-out field: what was read before was judged by the old one."""
    connection = connection_with_a_lead(
        leads_watermark=NOW - timedelta(hours=1), lead_opt_outs_watermark=NOW - timedelta(hours=2)
    )
    window = leads.window_of(connection, is_full=True, wants_sweep=False)
    assert window == LeadWindow(NOW - timedelta(days=1) - OVERLAP, None)


def test_the_first_answer_about_leads_begins_before_the_oldest_one_of_ours(app: Flask) -> None:
    window = leads.window_of(connection_with_a_lead(), is_full=False, wants_sweep=False)
    assert window == LeadWindow(NOW - timedelta(days=1) - OVERLAP, None)


# ---- Whose leads a sync changes


def test_a_sync_leaves_alone_what_another_advisors_connection_sent(office: FollowingOffice) -> None:
    """Alice's user made the Lead, and Bob's owns it now."""
    lead_id = office.send()
    office.sync()
    office.org.give(lead_id, office.colleague)
    office.org.opt_out(lead_id)
    before = row_of(office.lead())
    alices = office.connection
    tokens = office.org.issue_tokens(office.colleague, KEY)
    office.connection = make_connection(
        make_advisor(alices.partner, "Bob Ferreira"),
        org_id=office.org.id,
        salesforce_user_id=office.colleague,
        instance_url=alices.instance_url,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
    )
    someone_signs_up(office.connection.user, OTHER)  # so that Bob's sync asks for leads
    office.deliver()

    assert office.sync().is_complete

    assert row_of(office.lead()) == before
    assert "opted_out" not in office.history()


def row_of(lead: Lead) -> dict[str, object]:
    return {column.name: getattr(lead, column.name) for column in Lead.__table__.columns}


def test_a_lead_that_is_sent_while_a_sync_reads_is_left_to_the_next_one(app: Flask, office: FollowingOffice) -> None:
    """The query was made before the lead was, so its row can't be in the answer: that costs no lookup."""
    office.fill(250)
    office.org.change_settings(page_sizes=200)
    mark = office.org.calls.mark()

    connection_id = office.connection.id

    def send() -> None:
        someone_signs_up(db.session.get_one(Connection, connection_id).user)
        db.session.commit()
        deliver(connection_id, office.workplace().access)

    def on_page(_run: object) -> None:
        db.session.commit()
        at_the_same_time(app, send)

    assert office.sync(on_page=on_page).is_complete

    assert office.lead().state == LeadState.SENT
    looks = [query for call in office.org.calls.since(mark) for query in call.soql if "FROM Lead" in query]
    assert [query for query in looks if "Id IN" in query] == []
    assert (ContactSource.LEAD, None, True) in office.people()
