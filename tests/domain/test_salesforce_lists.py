"""Lists from Salesforce: what a sync makes of list views and campaigns, and that no error ever empties a list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from asapp.connections.list_questions import fetch_catalog
from asapp.contacts import lists, salesforce_lists
from asapp.contacts.salesforce_lists import TooManyLists
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.models import Contact, ContactList, ListKind, Partner, RunStatus, RunTrigger, SyncRun
from asapp.salesforce.org_lists import Filter, ListInOrg, ListTrouble
from orgsim import Answer, Running
from tests.checking import Checker, let_it_be_due
from tests.factories import org_access
from tests.listing import IN_HULL, IN_KENT, ListOffice


@pytest.fixture
def office(app: Flask, org: Running) -> ListOffice:
    return ListOffice(org)


def test_a_list_view_becomes_a_list_of_the_people_who_are_here(office: ListOffice) -> None:
    office.live("Out", "Kent", opted_out=True)
    office.live("Mute", "Kent", email=None)
    office.live("Theirs", "Kent", owner=office.colleague)
    made = office.follow(office.view())
    assert (made.kind, made.name, made.is_own) == (ListKind.LIST_VIEW, "In Kent", False)
    assert office.on(made) == {office.rose, office.zoe}
    assert office.state(made).not_here == {"others": 1, "opted_out": 1, "no_email": 1}


def test_a_look_shows_what_a_view_would_bring_and_stores_nothing(office: ListOffice) -> None:
    view = office.view(where={"conditions": [IN_KENT, IN_HULL], "conjunction": "or"})
    office.live("Theirs", "Hull", owner=office.colleague)
    mark = office.org.calls.mark()
    look = office.look(view)
    assert (look.own, look.others, set(look.ids)) == (3, 1, {office.rose, office.zoe, office.hal})
    assert look.filter == Filter("Contact", "", "MailingCity = 'Kent' OR MailingCity = 'Hull'")
    assert office.org.calls.counted(mark) == 2
    assert salesforce_lists.find_followed(office.advisor.id) == []


def test_members_come_and_leave_without_any_stamp(office: ListOffice) -> None:
    """Relative dates do this: no record changes, and another day selects other people."""
    made = office.follow(office.view())
    office.org.change_without_stamp(office.rose, MailingCity="Hull")
    office.org.change_without_stamp(office.hal, MailingCity="Kent")
    office.sync()
    assert office.on(made) == {office.zoe, office.hal}


def test_a_new_contact_is_on_the_list_with_the_sync_that_brings_it(office: ListOffice) -> None:
    made = office.follow(office.view())
    new = office.live("New", "Kent")
    office.sync()
    assert new in office.on(made)


def test_a_scope_of_ones_own_counts_no_one_elses(office: ListOffice) -> None:
    office.live("Theirs", "Kent", owner=office.colleague)
    made = office.follow(office.view(scope="mine"))
    assert (office.on(made), office.state(made).not_here) == ({office.rose, office.zoe}, {})


def test_a_view_without_a_condition_is_everybody(office: ListOffice) -> None:
    look = office.look(office.view("All Contacts", where={"conditions": [], "conjunction": "and"}))
    assert look.filter is not None
    assert look.filter.is_everybody
    assert look.own == 3


def test_a_view_over_a_hidden_field_reads_as_everybody_and_a_chosen_one_keeps_its_members(office: ListOffice) -> None:
    view = office.view()
    made = office.follow(view)
    office.org.hide_field("Contact", "MailingCity")
    office.sync()
    state = office.state(made)
    assert office.on(made) == {office.rose, office.zoe}
    assert state.offered == Filter("Contact")
    assert state.offered.is_everybody
    assert office.look(view).filter == Filter("Contact")


def test_a_changed_view_keeps_its_members_until_the_new_filter_is_accepted(office: ListOffice) -> None:
    view = office.view()
    made = office.follow(view)
    office.org.change_list_view(view, where=IN_HULL)
    office.sync()
    office.sync()
    state = office.state(made)
    assert (office.on(made), state.is_changed) == ({office.rose, office.zoe}, True)
    assert state.offered is not None
    seen = state.offered.digest
    office.org.change_list_view(view, where={"conditions": [], "conjunction": "and"})
    office.sync()  # and changed again: what the advisor saw is no longer what it is
    assert not salesforce_lists.accept_filter(office.advisor.id, made.id, seen)
    office.org.change_list_view(view, where=IN_HULL)
    office.sync()
    offered = office.state(made).offered
    assert offered is not None
    assert salesforce_lists.accept_filter(office.advisor.id, made.id, offered.digest)
    office.sync()
    assert (office.on(made), office.state(made).is_changed) == ({office.hal}, False)


def test_a_view_that_is_changed_back_follows_again_by_itself(office: ListOffice) -> None:
    view = office.view()
    made = office.follow(view)
    office.org.change_list_view(view, where=IN_HULL)
    office.sync()
    office.org.change_list_view(view, where=IN_KENT, columns=["Name", "Email"])
    office.sync()
    assert (office.on(made), office.state(made).is_changed) == ({office.rose, office.zoe}, False)


def test_a_renamed_view_gives_the_list_its_name(office: ListOffice) -> None:
    view = office.view()
    made = office.follow(view)
    office.org.change_list_view(view, label="Kent and around")
    office.sync()
    assert office.reload(made).name == "Kent and around"
    assert office.on(made) == {office.rose, office.zoe}


@pytest.mark.parametrize("how", ["deleted", "unshared", "not_compatible", "no_read", "unreadable", "busy"])
def test_a_view_that_cannot_be_read_keeps_its_members_and_says_since_when(office: ListOffice, how: str) -> None:
    view = office.view()
    made = office.follow(view)
    expected = {
        "not_compatible": ListTrouble.NOT_COMPATIBLE,
        "no_read": ListTrouble.NO_ACCESS,
        "busy": ListTrouble.NO_ANSWER,
    }
    match how:
        case "deleted":
            office.org.delete_list_view(view)
        case "unshared":
            office.org.change_list_view(view, only_for=[office.colleague])
        case "not_compatible":
            office.org.change_list_view(view, soql_compatible=False)
        case "no_read":
            office.org.trouble.add("insufficient_access", kind="list_views")
        case "unreadable":
            office.org.trouble.add("malformed_query", kind="subrequest", soql="Kent")
            expected[how] = ListTrouble.NOT_COMPATIBLE
        case _:
            office.org.trouble.add("query_timeout", kind="subrequest", soql="Kent")
    for _ in range(2):
        run = office.sync()
        assert run.status == RunStatus.COMPLETE
    state = office.state(made)
    assert (state.trouble, office.on(made)) == (expected.get(how, ListTrouble.GONE), {office.rose, office.zoe})
    assert state.trouble_since is not None
    assert state.read_at is not None
    assert state.trouble_since > state.read_at


def test_a_view_that_comes_back_is_followed_again(office: ListOffice) -> None:
    view = office.view()
    made = office.follow(view)
    office.org.change_list_view(view, only_for=[])
    office.sync()
    office.org.change_list_view(view, only_for=None)
    office.org.update_contact(office.hal, MailingCity="Kent")
    office.sync()
    assert office.on(made) == {office.rose, office.zoe, office.hal}
    assert office.state(made).trouble is None


def test_an_answer_that_fails_to_come_does_not_hide_a_known_cause(office: ListOffice) -> None:
    view = office.view()
    made = office.follow(view)
    office.org.delete_list_view(view)
    office.sync()
    since = office.state(made).trouble_since
    office.org.trouble.add("query_timeout", kind="list_views")
    office.sync()
    assert (office.state(made).trouble, office.state(made).trouble_since) == (ListTrouble.GONE, since)


def test_an_answer_with_fewer_people_than_it_counts_changes_no_member(office: ListOffice) -> None:
    made = office.follow(office.view())
    office.live("New", "Kent")
    truncated = {"totalSize": 3, "done": True, "records": [{"attributes": {}, "Id": office.rose}]}
    office.org.trouble.add(Answer(200, truncated), kind="subrequest", soql="SELECT Id FROM Contact WHERE (MailingCity")
    office.sync()
    assert (office.on(made), office.state(made).trouble) == ({office.rose, office.zoe}, ListTrouble.NO_ANSWER)


def test_four_thousand_members_are_read_page_by_page(office: ListOffice) -> None:
    office.org.add_contacts(
        {"owner_id": office.user, "last_name": "K", "email": f"k{n}@a.example", "MailingCity": "Kent"}
        for n in range(4100)
    )
    office.sync()
    view = office.view()
    look = office.look(view)
    assert (look.own, len(look.ids), look.is_whole) == (4102, 2000, False)  # a look reads one page
    made = office.follow(view)
    assert len(office.on(made)) == 4102
    alone = office.calls()
    salesforce_lists.unfollow(office.advisor.id, made.id)
    assert alone - office.calls() == 3  # 2,000 a call


def test_twenty_lists_cost_at_most_one_call_each_and_one_more_is_refused(office: ListOffice) -> None:
    idle = office.calls()
    for number in range(20):
        look = office.look(office.view(f"View {number}"))
        salesforce_lists.follow(office.connection, look.found, look.filter)
    with pytest.raises(TooManyLists):
        salesforce_lists.follow(
            office.connection, ListInOrg("00B5g00000AAAAAEAA", "One more", "Contact"), Filter("Contact")
        )
    assert office.calls() - idle == 10
    assert {len(office.on(each.contact_list)) for each in salesforce_lists.find_followed(office.advisor.id)} == {2}


def test_by_schedule_lists_are_read_every_quarter_of_an_hour(office: ListOffice) -> None:
    made = office.follow(office.view())
    office.org.update_contact(office.hal, MailingCity="Kent")
    office.resume(office.start(RunTrigger.SCHEDULED))
    assert office.on(made) == {office.rose, office.zoe}
    office.state(made).asked_at = utcnow() - timedelta(minutes=15)
    office.save()
    assert salesforce_lists.find_waiting([office.connection.id], utcnow()) == {office.connection.id}
    office.resume(office.start(RunTrigger.SCHEDULED))
    assert office.on(made) == {office.rose, office.zoe, office.hal}


def test_a_check_finds_the_lists_that_are_due_and_makes_a_run_of_it(office: ListOffice) -> None:
    made, checker = office.follow(office.view()), Checker()
    office.org.clock.advance(3600)
    office.sync()
    let_it_be_due(office.connection)
    checker.go()
    assert checker.enqueued == []
    office.state(made).asked_at = utcnow() - timedelta(minutes=15)
    let_it_be_due(office.connection)
    checker.go()
    (run_id,) = checker.enqueued
    office.org.change_without_stamp(office.rose, MailingCity="Hull")
    office.resume(db.session.get_one(SyncRun, run_id))
    assert office.on(made) == {office.zoe}


def due_check(office: ListOffice, made: ContactList) -> tuple[int, list[int]]:
    """Check a quarter of an hour after the list was read; return how many calls that took, and the runs that it made."""
    office.state(made).asked_at = utcnow() - timedelta(minutes=15)
    let_it_be_due(office.connection)
    checker = Checker()
    calls = office.calls(checker.go)
    for run_id in checker.enqueued:
        office.resume(db.session.get_one(SyncRun, run_id))
    return calls, checker.enqueued


@pytest.mark.parametrize("brings_in_open_leads", [False, True])
def test_a_check_with_campaigns_is_one_call_and_makes_a_run_when_their_people_change(
    office: ListOffice, brings_in_open_leads: bool
) -> None:
    office.connection.partner.brings_in_open_leads = brings_in_open_leads
    office.save()
    seminar, other = (office.org.add_campaign(office.user, name) for name in ("Seminar", "Nobody's"))
    office.org.add_members(seminar, [office.rose, office.zoe])
    made, _ = office.follow(seminar, "Campaign"), office.follow(other, "Campaign")
    office.org.clock.advance(3600)
    office.sync()
    assert due_check(office, made) == (1, [])
    for change, people in (
        (lambda: office.org.add_members(seminar, [office.hal]), {office.rose, office.zoe, office.hal}),
        (lambda: office.org.remove_member(seminar, office.rose), {office.zoe, office.hal}),
        (lambda: office.org.remove_member(seminar, office.zoe), {office.hal}),
        (lambda: office.org.remove_member(seminar, office.hal), set()),  # now it looks like the other one
        (lambda: office.org.add_members(seminar, [office.rose]), {office.rose}),
    ):
        change()
        calls, runs = due_check(office, made)
        assert (calls, len(runs)) == (1, 1)
        assert office.on(made) == people
        assert due_check(office, made) == (1, [])


def test_a_campaign_is_read_again_when_people_come_and_once_a_day(office: ListOffice) -> None:
    seminar = office.org.add_campaign(office.user, "Seminar")
    late = office.live("Late", "Kent", email=None)
    office.org.add_members(seminar, [office.rose, late])
    made = office.follow(seminar, "Campaign")
    assert office.on(made) == {office.rose}
    office.org.update_contact(late, email="late@a.example")
    office.resume(office.start(RunTrigger.SCHEDULED))  # too soon to read the campaign
    assert office.on(made) == {office.rose}
    office.org.clock.advance(3600)
    _, runs = due_check(office, made)
    assert (len(runs), office.on(made)) == (1, {office.rose, late})
    assert due_check(office, made) == (1, [])
    office.org.change_campaign(seminar, Name="Spring seminar")
    office.state(made).read_at = utcnow() - timedelta(days=1)
    office.save()
    assert len(due_check(office, made)[1]) == 1
    assert office.state(made).contact_list.name == "Spring seminar"


def test_campaigns_that_can_not_be_read_any_more_make_a_run_which_says_why(office: ListOffice) -> None:
    seminar = office.org.add_campaign(office.user, "Seminar")
    office.org.add_members(seminar, [office.rose])
    made = office.follow(seminar, "Campaign")
    office.org.clock.advance(3600)
    office.sync()
    office.org.deny_object("CampaignMember", "read")
    assert len(due_check(office, made)[1]) == 1
    assert (office.on(made), office.state(made).trouble) == ({office.rose}, ListTrouble.NO_ACCESS)


def test_choosing_a_list_twice_makes_one(office: ListOffice) -> None:
    view = office.view()
    assert office.follow(view).id == office.follow(view).id


def test_a_list_that_is_given_up_leaves_its_people_as_contacts(office: ListOffice) -> None:
    made = office.follow(office.view())
    before = office.snapshot()["contacts"]
    assert not salesforce_lists.unfollow(office.advisor.id + 1, made.id)
    assert salesforce_lists.unfollow(office.advisor.id, made.id)
    assert office.snapshot()["contacts"] == before
    assert salesforce_lists.find_followed(office.advisor.id) == []


def test_a_list_may_be_kept_as_ones_own(office: ListOffice) -> None:
    lists.create_list(office.advisor.id, "In Kent")
    made = office.follow(office.view())
    kept = salesforce_lists.keep_as_own(office.advisor.id, made.id)
    assert kept is not None
    assert (kept.name, kept.is_own, office.on(kept)) == ("In Kent (2)", True, {office.rose, office.zoe})
    office.sync()
    assert office.on(kept) == {office.rose, office.zoe}


def test_no_hand_changes_a_list_from_salesforce(office: ListOffice) -> None:
    made = office.follow(office.view())
    rose = db.session.query(Contact).filter_by(salesforce_id=office.rose).one()
    lists.set_lists_of(rose, [])
    assert office.on(made) == {office.rose, office.zoe}
    for change in (lambda: lists.add_members(made, [rose.id]), lambda: lists.rename_list(made, "x")):
        with pytest.raises(ValueError, match="not changed by hand"):
            change()
    assert lists.create_list(office.advisor.id, "In Kent").is_own  # a name may be taken twice
    with pytest.raises(InvalidFields):
        lists.create_list(office.advisor.id, "in kent")


# ---- Campaigns


def campaign(office: ListOffice, people: Sequence[str], **more: Any) -> str:
    made: str = office.org.add_campaign(office.colleague, "Seminar", **more)
    office.org.add_members(made, list(people))
    return made


def test_a_campaign_gives_its_members_and_opt_outs_count_from_the_contact(office: ListOffice) -> None:
    theirs = office.live("Theirs", "Hull", owner=office.colleague)
    made = office.follow(campaign(office, [office.rose, office.zoe, theirs]), "Campaign")
    assert made.kind == ListKind.CAMPAIGN
    assert office.on(made) == {office.rose, office.zoe}
    assert office.state(made).not_here == {"others": 1}
    office.org.opt_out(office.rose)
    office.sync()
    assert office.on(made) == {office.rose, office.zoe}
    assert db.session.query(Contact).filter_by(salesforce_id=office.rose).one().opted_out


def test_leaving_a_campaign_takes_a_person_off_this_list_and_does_nothing_else(office: ListOffice) -> None:
    seminar = campaign(office, [office.rose, office.zoe])
    made = office.follow(seminar, "Campaign")
    before = office.snapshot()
    office.org.remove_member(seminar, office.rose)
    office.sync()
    assert (office.on(made), office.snapshot()) == ({office.zoe}, before)


def test_a_converted_lead_is_a_member_by_its_contact_and_others_are_counted(office: ListOffice) -> None:
    lead = office.org.add_lead(office.user, last_name="Lead", email="lead@a.example")
    open_lead = office.org.add_lead(office.user, last_name="Open", email="open@a.example")
    household = office.org.add_account(office.user, "Household")
    seminar = campaign(office, [office.rose, lead, open_lead, household])
    contact = office.org.convert_lead(lead)
    made = office.follow(seminar, "Campaign")
    assert office.on(made) == {office.rose, contact}
    assert office.state(made).not_here == {"leads": 1}


def test_a_merge_hands_the_membership_to_the_survivor(office: ListOffice) -> None:
    made = office.follow(campaign(office, [office.rose, office.zoe]), "Campaign")
    office.org.merge(office.zoe, [office.rose])  # who then is a member twice
    office.sync()
    assert office.on(made) == {office.zoe}


@pytest.mark.parametrize("how", ["private", "no_read", "deleted"])
def test_a_campaign_without_access_keeps_its_members(office: ListOffice, how: str) -> None:
    seminar = campaign(office, [office.rose])
    made = office.follow(seminar, "Campaign")
    if how == "private":
        office.org.change_settings(campaign_access="Private")
    elif how == "no_read":
        office.org.deny_object("CampaignMember")
    else:
        office.org.delete_campaign(seminar)
    office.sync()
    expected = ListTrouble.NO_ACCESS if how == "no_read" else ListTrouble.GONE
    assert (office.state(made).trouble, office.on(made)) == (expected, {office.rose})


# ---- Open Leads


def test_list_views_of_leads_may_be_chosen_where_open_leads_come_in(office: ListOffice) -> None:
    view = office.org.add_list_view(
        "Lead", "Warm", where={"field": "Rating", "operator": "equals", "values": ["'Warm'"]}
    )
    assert fetch_catalog(office.connection, org_access()).lists == []
    db.session.get_one(Partner, office.connection.partner_id).brings_in_open_leads = True
    office.save()
    warm, out, converted = (
        office.org.add_lead(
            office.user, last_name=name, email=f"{name}@a.example", Rating="Warm", opted_out=name == "b"
        )
        for name in "abc"
    )
    office.org.convert_lead(converted)
    office.sync()
    assert [one.about for one in fetch_catalog(office.connection, org_access()).lists] == ["Lead"]
    made = office.follow(view, "Lead")
    assert (office.on(made), office.state(made).not_here) == ({warm}, {"opted_out": 1})
    office.org.opt_in(out)
    seminar = office.follow(campaign(office, [warm, out, office.rose]), "Campaign")
    assert office.on(made) == {warm, out}
    assert office.on(seminar) == {warm, out, office.rose}
    contact = office.org.convert_lead(warm)
    office.sync()
    assert office.on(made) == {out}
    assert office.on(seminar) == {contact, out, office.rose}


# ---- Person accounts


def test_a_list_view_of_accounts_holds_the_persons_on_it(office: ListOffice) -> None:
    _, persons_contact = office.org.add_person(office.user, last_name="Ida", email="ida@a.example")
    _, theirs = office.org.add_person(office.colleague, last_name="Jon", email="jon@a.example")
    office.org.add_account(office.user, "I. & Sons")  # a business
    db.session.get_one(Partner, office.connection.partner_id).has_person_accounts = True
    office.save()
    office.sync()
    named = [{"field": "Name", "operator": "like", "values": [f"'{letter}%'"]} for letter in "IJ"]
    view = office.org.add_list_view("Account", "Households", where={"conditions": named, "conjunction": "or"})
    assert [one.about for one in fetch_catalog(office.connection, org_access()).lists] == ["Account"]
    made = office.follow(view, "Account")
    assert (office.on(made), office.state(made).not_here) == ({persons_contact}, {"others": 1})
    assert theirs not in office.on(made)


# ---- Which lists there are


def test_the_catalog_has_views_and_active_campaigns_and_no_recently_viewed(office: ListOffice) -> None:
    office.view("b view")
    office.view("A closed one", soql_compatible=False)
    office.view("Recently Viewed Contacts")
    office.view("Not mine", only_for=[office.colleague])
    office.org.add_list_view("Lead", "My Leads")
    campaign(office, [])
    office.org.add_campaign(office.user, "Over", active=False)
    found = fetch_catalog(office.connection, org_access())
    assert [(one.name, one.is_readable, one.is_campaign) for one in found.lists] == [
        ("A closed one", False, False),
        ("b view", True, False),
        ("Seminar", True, True),
    ]
    assert found.troubles == {}


def test_the_catalog_comes_in_pages_and_without_campaigns_where_they_are_hidden(office: ListOffice) -> None:
    for number in range(5):
        office.view(f"View {number}")
    office.org.change_settings(list_views_a_page=2)
    office.org.deny_object("Campaign")
    found = fetch_catalog(office.connection, org_access())
    assert [one.name for one in found.lists] == [f"View {number}" for number in range(5)]
    assert found.troubles == {"Campaign": ListTrouble.NO_ACCESS}


def test_a_filter_of_two_conditions_counts_as_one_beside_ours(office: ListOffice) -> None:
    """OR in the firm's condition must not let other people's contacts in."""
    office.live("Theirs", "Hull", owner=office.colleague)
    made = office.follow(office.view(where={"conditions": [IN_KENT, IN_HULL], "conjunction": "or"}))
    assert office.on(made) == {office.rose, office.zoe, office.hal}
