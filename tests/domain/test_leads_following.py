"""Syncs follow leads after they were sent."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from flask import Flask, current_app
from sqlalchemy import select

from asapp.connections import connections
from asapp.contacts.lists import is_on_system_list
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import decisions
from asapp.models import (
    ConsentEvent,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    ListKind,
    Reason,
    RunPhase,
    SyncRun,
    Unfollowed,
)
from asapp.salesforce.records import LeadRecord
from asapp.sync import leads
from orgsim.server import Running
from tests.signing_up import PostOffice, someone_signs_up
from tests.syncing import KEY


class FollowingOffice(PostOffice):
    def send(self) -> str:
        """Sign a person up and deliver; return the Lead's Id."""
        someone_signs_up(self.advisor)
        self.deliver()
        salesforce_id = self.lead().salesforce_id
        assert salesforce_id
        return salesforce_id

    def linked(self) -> str:
        """Sign up a person who is already a lead of the user's, made by the colleague; return its Id."""
        lead_id = self.org.add_lead(self.colleague, last_name="Chou", email="mei.chou@harbour.example")
        self.org.give(lead_id, self.user)
        assert self.send() == lead_id
        return lead_id

    def sync_after_a_day(self) -> SyncRun:
        """A sync that sweeps."""
        self.org.clock.advance(3600)
        self.let_a_day_pass()
        return self.sync()

    def people(self) -> list[tuple[str, str | None, bool]]:
        """(source, why inactive, is on "Salesforce Leads") of every contact here."""
        db.session.rollback()
        on_list = is_on_system_list(ListKind.SALESFORCE_LEADS)
        rows = db.session.execute(contact_rows(Contact.source, reason_of(utcnow()), on_list).order_by(Contact.id))
        return [(row[0], row[1], bool(row[2])) for row in rows]

    def history(self) -> list[str]:
        db.session.rollback()
        return list(db.session.scalars(select(ConsentEvent.kind).order_by(ConsentEvent.id)))


@pytest.fixture
def office(app: Flask, org: Running) -> FollowingOffice:
    return FollowingOffice(org)


def test_a_sent_person_is_active_and_on_the_list(office: FollowingOffice) -> None:
    office.send()
    assert office.people() == [("lead", None, True)]

    office.sync()

    assert office.people() == [("lead", None, True)]


def test_an_opt_out_of_a_lead_switches_its_contact_off_and_back(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.opt_out(lead_id)
    office.sync()
    assert office.people() == [("lead", Reason.OPTED_OUT, True)]

    office.org.opt_in(lead_id)
    office.sync()

    assert office.people() == [("lead", None, True)]
    assert office.history() == ["opted_in", "opted_out", "back_in"]


def test_a_sync_in_which_nothing_changed_costs_one_call_with_leads(office: FollowingOffice) -> None:
    office.send()
    office.sync()
    office.org.clock.advance(20 * 60)
    mark = office.org.calls.mark()

    run = office.sync()

    assert office.org.calls.counted(mark) == 1
    assert run.is_complete


def test_a_deleted_lead_is_inactive_and_an_undeleted_one_returns(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.delete(lead_id)
    office.sync()
    assert office.people() == [("lead", Reason.DELETED, False)]
    assert office.lead().is_deleted

    office.org.undelete(lead_id)
    office.sync()

    assert office.people() == [("lead", None, True)]
    assert office.history() == ["opted_in", "deleted", "restored"]


def test_a_converted_lead_becomes_its_contact_once_and_keeps_its_lists(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    letter = office.put_on_list(lead_id, "Retirement letter")
    contact_id = office.org.convert_lead(lead_id)

    for _ in range(2):
        office.sync()

    assert office.people() == [("salesforce", None, True)]
    assert office.members(letter) == [contact_id]
    assert (office.lead().state, office.lead().linked_contact_id) == (LeadState.CONVERTED, contact_id)


def test_a_converted_person_who_opts_out_later_is_in_the_history(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    contact_id = office.org.convert_lead(lead_id)
    office.sync()
    office.org.opt_out(contact_id)

    office.sync()

    assert office.people() == [("salesforce", Reason.OPTED_OUT, True)]
    assert office.lead().opted_out
    assert office.history() == ["opted_in", "opted_out"]


def test_a_lead_that_became_a_colleagues_contact_is_inactive(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.convert_lead(lead_id, owner_id=office.colleague)

    office.sync()

    assert office.people() == [("lead", Reason.REASSIGNED, False)]
    assert office.lead().state == LeadState.CONVERTED


def test_the_first_sync_ties_a_sign_up_to_the_contact_that_it_was_linked_to(office: FollowingOffice) -> None:
    contact_id = office.add(email="mei.chou@harbour.example")
    someone_signs_up(office.advisor)
    office.deliver()
    assert office.people() == [("lead", Reason.OPT_OUT_UNKNOWN, True)]

    office.sync()

    assert office.people() == [("salesforce", None, True)]
    assert office.lead().linked_contact_id == contact_id


def test_a_link_to_a_contact_that_opted_out_stays_inactive(office: FollowingOffice) -> None:
    office.add(email="mei.chou@harbour.example", opted_out=True)
    office.sync()
    someone_signs_up(office.advisor)
    office.deliver()

    office.sync()

    assert office.people() == [("lead", Reason.OPTED_OUT, True)]
    assert office.lead().asked_again_at is not None


def test_opting_out_as_a_lead_reaches_a_contact_with_the_same_address(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.add(email="mei.chou@harbour.example")
    office.sync()
    office.org.opt_out(lead_id)

    office.sync()

    assert sorted(reason or "" for _, reason, _ in office.people()) == [Reason.OPTED_OUT, Reason.TWIN_OPTED_OUT]


def test_a_hidden_opt_out_of_leads_stops_no_contact(office: FollowingOffice) -> None:
    office.send()
    office.add(email="rose@edge.example")
    office.sync()
    office.org.hide_field("Lead", "HasOptedOutOfEmail")

    run = office.sync()

    assert run.is_complete
    assert office.people() == [("lead", Reason.OPT_OUT_UNKNOWN, True), ("salesforce", None, False)]
    assert office.reload(office.connection).leads_trouble == "lead_opt_out_hidden"


def test_leads_go_out_though_their_opt_out_is_hidden(office: FollowingOffice) -> None:
    office.org.hide_field("Lead", "HasOptedOutOfEmail")

    office.send()

    assert len(office.org.leads()) == 1
    assert office.people() == [("lead", Reason.OPT_OUT_UNKNOWN, True)]


def test_what_happened_while_leads_were_hidden_is_caught_up_with(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.deny_object("Lead", "read")
    office.org.opt_out(lead_id)
    office.org.clock.advance(3600)
    run = office.sync()
    assert run.is_complete
    assert office.people() == [("lead", Reason.OPT_OUT_UNKNOWN, True)]
    assert office.reload(office.connection).leads_trouble == "leads_hidden"
    office.org.clock.advance(3600)
    office.org.allow_object("Lead", "read")

    office.sync()

    assert office.people() == [("lead", Reason.OPTED_OUT, True)]
    assert office.reload(office.connection).leads_trouble is None


def test_no_read_on_contacts_still_fails_the_sync(office: FollowingOffice) -> None:
    office.send()
    office.org.deny_object("Contact", "read")

    assert office.sync().is_failed


def test_a_lead_in_a_queue_is_followed_and_shows_its_owner(office: FollowingOffice) -> None:
    queue = office.give_leads_away()
    lead_id = office.send()
    office.org.opt_out(lead_id)

    office.sync()

    assert office.lead().owner_id == queue
    assert office.people() == [("lead", Reason.OPTED_OUT, True)]


# ---- Changes without a row


def test_a_linked_lead_that_is_given_away_is_inactive_by_the_next_daily_sweep(office: FollowingOffice) -> None:
    """The lead was not made here: changes by its new owner, opt-outs too, would never be reported to us."""
    lead_id = office.linked()
    office.sync()
    office.org.give(lead_id, office.colleague)
    office.org.opt_out(lead_id)

    office.sync_after_a_day()

    assert office.people() == [("lead", Reason.REASSIGNED, False)]
    assert (office.lead().why, office.lead().opted_out) == (Unfollowed.REASSIGNED, True)


def test_a_linked_lead_that_is_given_back_returns(office: FollowingOffice) -> None:
    lead_id = office.linked()
    office.sync()
    office.org.give(lead_id, office.colleague)
    office.sync_after_a_day()
    office.org.give(lead_id, office.user)

    office.sync()

    assert office.people() == [("lead", None, True)]
    assert office.lead().why is None


def test_a_lead_of_ours_that_is_given_away_is_followed_all_the_same(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.give(lead_id, office.colleague)
    office.sync_after_a_day()
    assert office.people() == [("lead", None, True)]
    office.org.opt_out(lead_id)

    office.sync()

    assert office.people() == [("lead", Reason.OPTED_OUT, True)]


def test_a_lead_that_sharing_hides_from_the_first_is_inactive_with_the_next_sync(office: FollowingOffice) -> None:
    office.give_leads_away()
    office.org.change_settings(lead_access="Private")
    office.sync()
    office.send()

    office.sync()

    assert office.people() == [("lead", Reason.GONE, False)]
    assert office.history() == ["opted_in"]  # its deletion can't be seen


def test_a_lead_that_sharing_hides_later_is_inactive_until_it_is_seen_again(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.hide_contact(lead_id)
    office.sync_after_a_day()
    assert office.people() == [("lead", Reason.GONE, False)]
    office.org.show_contact(lead_id)

    office.sync_after_a_day()

    assert office.people() == [("lead", None, True)]


def test_a_formula_that_opts_out_without_a_stamp_is_seen_by_the_daily_sweep(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.clock.advance(3600)
    office.sync()
    office.org.records.change_silently(lead_id, {"HasOptedOutOfEmail": 1})
    office.sync()
    assert office.people() == [("lead", None, True)]

    office.sync_after_a_day()

    assert office.people() == [("lead", Reason.OPTED_OUT, True)]


def test_more_leads_than_a_statement_takes_parameters_can_be_looked_at(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    office.org.opt_out(lead_id)

    class Seen:
        def leads_by_id(self, _ids: Sequence[str]) -> dict[str, LeadRecord]:
            return {}

    nominated = {f"00Q{number:012d}AAA" for number in range(70_000)} | {lead_id}
    context = SimpleNamespace(
        run_id=1,
        connection_id=office.connection.id,
        user_id=office.advisor.id,
        owner_id=office.user,
        lock=lambda: None,
    )
    run = SimpleNamespace(id=1, row=SimpleNamespace(also={}), save=lambda **_: db.session.commit())
    reader = SimpleNamespace(run=run, context=context, client_for_call=Seen)
    follower = leads.LeadFollower(reader, asked_at=utcnow(), is_whole=True, reads_all_opted_out=False)  # type: ignore[arg-type]
    follower.check_by_id(nominated)

    assert office.lead().why == Unfollowed.GONE


@pytest.mark.parametrize("opts_out_later", [False, True])
def test_who_became_a_contact_without_an_address_is_written_to_at_the_one_they_typed(
    office: FollowingOffice, opts_out_later: bool
) -> None:
    """The contact isn't imported, because it has no address. Its opt-out is known all the same."""
    lead_id = office.send()
    office.sync()
    contact_id = office.org.convert_lead(lead_id)
    office.org.update_contact(contact_id, email=None)
    office.sync()
    assert office.people() == [("lead", None, True)]
    if opts_out_later:
        office.org.opt_out(contact_id)

    office.sync()

    assert office.people() == [("lead", Reason.OPTED_OUT if opts_out_later else None, True)]


@pytest.mark.parametrize("opted_out", [False, True])
def test_a_merged_lead_is_followed_as_the_one_it_was_merged_into(office: FollowingOffice, opted_out: bool) -> None:
    lead_id = office.send()
    office.sync()
    winner = office.org.add_lead(office.user, last_name="Chou", email="m.chou@work.example", opted_out=opted_out)
    office.org.merge(winner, [lead_id])

    office.sync()

    assert office.lead().salesforce_id == winner
    assert office.people() == [("lead", Reason.OPTED_OUT if opted_out else None, True)]
    (office.org.opt_in if opted_out else office.org.opt_out)(winner)
    office.sync()
    assert office.people() == [("lead", None if opted_out else Reason.OPTED_OUT, True)]


def test_a_lead_that_was_merged_into_a_colleagues_is_inactive(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    winner = office.org.add_lead(office.colleague, last_name="Chou", email="m.chou@work.example")
    office.org.merge(winner, [lead_id])

    office.sync()

    assert office.people() == [("lead", Reason.REASSIGNED, False)]


def test_a_merged_lead_stays_inactive_while_its_survivor_can_not_be_read(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    winner = office.org.add_lead(office.user, last_name="Chou", email="m.chou@work.example")
    office.org.merge(winner, [lead_id])
    fault = office.org.trouble.add("server_unavailable", soql="CreatedById, Id")

    assert office.sync().is_complete
    assert fault.hits
    assert office.people() == [("lead", Reason.MERGED, False)]

    fault.remove()
    office.sync()
    assert office.people() == [("lead", None, True)]


def test_two_sign_ups_that_were_merged_are_one_person_with_the_lists_of_both(office: FollowingOffice) -> None:
    winner = office.send()
    someone_signs_up(office.advisor, "m.chou@work.example")
    office.deliver()
    loser = office.lead("m.chou@work.example").salesforce_id
    assert loser
    office.sync()
    letter = office.put_on_list(loser, "Retirement letter")
    office.org.merge(winner, [loser])

    for _ in range(2):
        office.sync()

    assert office.people() == [("lead", None, True), ("lead", Reason.MERGED, False)]
    assert set(office.members(letter)) == {winner}
    assert office.lead("m.chou@work.example").is_deleted


def test_an_erased_person_does_not_come_back_by_a_merge_and_a_conversion(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    decisions.erase(office.advisor.id, db.session.scalars(select(Contact)).one())
    winner = office.org.add_lead(office.user, last_name="Chou", email="mei.chou@harbour.example")
    office.org.merge(winner, [lead_id])
    office.sync()
    office.org.convert_lead(winner)

    office.sync()

    db.session.rollback()
    assert {contact.email for contact in db.session.scalars(select(Contact))} == {""}


def test_the_daily_sweep_of_leads_takes_one_call_and_looks_up_no_lead_without_need(office: FollowingOffice) -> None:
    office.org.change_settings(session_minutes=10**6)
    lead_id = office.linked()
    office.sync()
    assert office.sync_after_a_day().api_calls == 3  # the opening, and a sweep each of contacts and leads
    office.org.give(lead_id, office.colleague)
    assert office.sync_after_a_day().api_calls == 4  # a look
    assert office.sync_after_a_day().api_calls == 3  # and no other: a lost lead is not looked up again


def test_a_sweep_that_breaks_off_makes_no_lead_inactive(office: FollowingOffice) -> None:
    office.send()
    office.sync()
    office.org.trouble.add("server_unavailable", soql="FROM Lead WHERE (CreatedById", kind="query")

    run = office.sync_after_a_day()

    assert run.is_complete
    assert office.people() == [("lead", None, True)]


def test_disconnecting_makes_leads_inactive(office: FollowingOffice) -> None:
    office.send()
    office.sync()
    office.connection.status = "disconnected"
    db.session.commit()

    assert office.people() == [("lead", Reason.DISCONNECTED, True)]


def test_leads_of_others_leave_no_trace(office: FollowingOffice) -> None:
    office.org.add_lead(office.user, last_name="Stranger", email="stranger@example.com")

    office.sync()

    assert db.session.scalars(select(Lead)).all() == []
    assert office.people() == []


def test_an_erased_person_does_not_come_back_from_salesforce(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    contact = db.session.scalars(select(Contact)).one()
    decisions.erase(office.advisor.id, contact)
    contact_id = office.org.convert_lead(lead_id)
    office.sync()
    office.org.update_contact(contact_id, email="new@example.com")

    office.sync()

    db.session.rollback()
    people = db.session.scalars(select(Contact)).all()
    assert {(each.first_name, each.last_name, each.email) for each in people} == {("", "", "")}
    assert {each.source for each in people} == {ContactSource.LEAD, ContactSource.SALESFORCE}


def test_running_it_twice_changes_nothing(office: FollowingOffice) -> None:
    office.org.opt_out(office.send())
    office.sync()
    before = office.snapshot(), office.history()

    office.sync()

    assert (office.snapshot(), office.history()) == before


def test_contacts_that_were_removed_on_disconnecting_are_linked_again(office: FollowingOffice) -> None:
    lead_id = office.send()
    office.sync()
    contact_id = office.org.convert_lead(lead_id)
    office.sync()
    connections.end_connection(office.connection, keep_contacts=False)
    tokens = office.org.issue_tokens(office.user, KEY)
    vault = current_app.extensions["asapp.vault"]
    for name in ("access_token", "refresh_token"):
        office.connection.seal(vault, f"{name}_sealed", tokens[name])
    office.connection.status = "connected"
    db.session.commit()
    assert office.people() == []

    office.sync()

    assert office.people() == [("salesforce", None, True)]
    assert office.lead().linked_contact_id == contact_id


def test_the_panel_can_tell_when_leads_are_followed(office: FollowingOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    office.org.opt_out(office.send())
    seen: list[str] = []
    apply_rows = leads.LeadFollower.apply_rows

    def watched(follower: leads.LeadFollower, records: Sequence[LeadRecord]) -> None:
        seen.append(db.session.get_one(SyncRun, follower.run.id).phase)
        apply_rows(follower, records)

    monkeypatch.setattr(leads.LeadFollower, "apply_rows", watched)

    office.sync()

    assert seen == [RunPhase.BALANCING]
