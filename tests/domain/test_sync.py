"""Whole syncs against the simulated org."""

from __future__ import annotations

from datetime import timedelta

import pytest

from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.models import Contact, ContactSource, LedgerEntry, LedgerOutcome, RunStatus, RunTrigger, SyncRun
from asapp.panel.balance import balance
from asapp.sync import runs
from orgsim import Running
from tests.factories import make_contact
from tests.syncing import Office, contacts_here, reasons_here


@pytest.fixture
def office(app: object, org: Running) -> Office:
    return Office(org)


def test_a_first_sync_brings_exactly_the_contacts_of_the_connected_user(office: Office) -> None:
    mine = [office.add(email=f"client{n}@fjord.example", first_name="Ravi", last_name=f"Śliwa {n}") for n in range(5)]
    office.add(owner=office.colleague, email="theirs@fjord.example")
    run = office.sync()
    assert run.is_complete
    assert (run.read, run.created) == (5, 5)
    assert {(c.salesforce_id, c.first_name, c.last_name, c.email) for c in contacts_here(office.connection)} == {
        (i, "Ravi", f"Śliwa {n}", f"client{n}@fjord.example") for n, i in enumerate(mine)
    }


def test_a_second_sync_of_an_unchanged_org_reads_and_writes_nothing(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.org.clock.advance(20 * 60)
    office.sync()
    before = office.snapshot()
    mark = office.org.calls.mark()
    run = office.sync()
    assert (run.read, run.api_calls) == (0, 1)
    assert office.org.calls.counted(mark) == 1
    assert office.snapshot() == before


def test_a_change_within_the_overlap_is_read_again_and_found_unchanged(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.org.clock.advance(10 * 60)
    office.sync()
    before = office.snapshot()
    run = office.sync()
    assert office.snapshot() == before
    assert (run.read, run.unchanged) == (1, 1)


def test_who_opted_out_is_not_imported_and_not_known_by_name(office: Office) -> None:
    opted_out = office.add(email="quiet@fjord.example", opted_out=True)
    run = office.sync()
    assert run.skipped == {"opted_out": 1}
    assert contacts_here(office.connection) == []
    entry = db.session.get_one(LedgerEntry, (office.connection.id, opted_out))
    assert entry.outcome == LedgerOutcome.OPTED_OUT
    assert entry.address_hash is not None


def test_no_email_is_not_imported_and_counted(office: Office) -> None:
    office.add(email=None)
    run = office.sync()
    assert run.skipped == {"no_email": 1}
    assert contacts_here(office.connection) == []


def test_an_address_that_salesforce_accepted_is_taken_as_it_is(office: Office) -> None:
    office.add(email="b.levy@expressl&t.net")
    office.sync()
    assert [c.email for c in contacts_here(office.connection)] == ["b.levy@expressl&t.net"]


def test_opting_out_turns_a_contact_inactive_and_opting_in_again_active(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.sync()
    office.org.opt_out(salesforce_id)
    run = office.sync()
    assert run.deactivated == 1
    assert reasons_here(office.connection) == {salesforce_id: "opted_out"}
    office.org.opt_in(salesforce_id)
    run = office.sync()
    assert run.reactivated == 1
    assert reasons_here(office.connection) == {salesforce_id: None}


def test_a_twin_of_a_record_that_opted_out_is_inactive_too(office: Office) -> None:
    here = office.add(email="shared@fjord.example")
    office.sync()
    twin = office.add(email="Shared@Fjord.example", opted_out=True)
    run = office.sync()
    assert run.also == {"twin_opted_out": 1}
    assert reasons_here(office.connection) == {here: "twin_opted_out"}
    office.org.opt_in(twin)
    run = office.sync()
    assert run.also == {"twin_back": 1}
    assert set(reasons_here(office.connection).values()) == {None}


def test_a_manual_contact_with_the_address_is_adopted_and_keeps_its_row(office: Office) -> None:
    manual = make_contact(office.advisor, email="Rose@Edge.com", address_hash=office.hash("rose@edge.com"))
    salesforce_id = office.add(email="rose@edge.com", first_name="Rose", last_name="Gonzalez")
    run = office.sync()
    assert run.adopted == 1
    (contact,) = contacts_here(office.connection)
    assert contact.id == manual.id
    assert (contact.salesforce_id, contact.source, contact.last_name) == (
        salesforce_id,
        ContactSource.SALESFORCE,
        "Gonzalez",
    )


def test_two_records_with_one_address_are_both_kept(office: Office) -> None:
    office.add(email="one@fjord.example")
    office.add(email="one@fjord.example")
    assert office.sync().created == 2


def test_a_contact_without_an_address_is_hidden_until_it_has_one_again(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.sync()
    office.org.update_contact(salesforce_id, email=None)
    run = office.sync()
    assert run.deactivated == 1
    assert contacts_here(office.connection) == []
    shell = db.session.query(Contact).one()
    assert (shell.first_name, shell.last_name, shell.email) == ("", "", "")
    office.org.update_contact(salesforce_id, email="a@fjord.example")
    assert office.sync().reactivated == 1
    assert reasons_here(office.connection) == {salesforce_id: None}


def test_a_hidden_opt_out_field_fails_the_sync_before_the_first_row(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.org.hide_field("Contact", "HasOptedOutOfEmail")
    run = office.sync()
    assert run.is_failed
    assert run.error_code == "opt_out_hidden"
    assert db.session.query(Contact).count() == 0


def test_a_field_that_becomes_hidden_makes_all_inactive_until_the_next_good_sync(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.sync()
    office.org.hide_field("Contact", "HasOptedOutOfEmail")
    assert office.sync().is_failed
    assert reasons_here(office.connection) == {salesforce_id: "opt_out_unknown"}
    office.org.show_field("Contact", "HasOptedOutOfEmail")
    assert office.sync().is_complete
    assert reasons_here(office.connection) == {salesforce_id: None}


def test_every_row_read_is_in_exactly_one_class(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.add(email=None)
    office.add(email="b@fjord.example", opted_out=True)
    run = office.sync()
    assert run.is_balanced
    assert run.read == 3


def test_a_row_of_another_owner_that_comes_all_the_same_is_not_taken(office: Office) -> None:
    office.add(email="a@fjord.example")
    stranger = office.add(owner=office.colleague, email="theirs@fjord.example")
    given = office.add(email="moving@fjord.example")

    def give_away(*_args: object) -> None:
        office.org.give(given, office.colleague)

    office.fill(400)
    office.org.change_settings(page_sizes=200)
    office.org.on_next_page(give_away, times=1)
    run = office.sync()
    assert run.is_balanced
    assert stranger not in {c.salesforce_id for c in contacts_here(office.connection)}


# Departures


def test_deleted_in_salesforce_is_inactive_with_that_reason(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.sync()
    office.org.delete(salesforce_id)
    run = office.sync()
    assert run.deactivated == 1
    assert reasons_here(office.connection) == {salesforce_id: "deleted"}
    office.org.undelete(salesforce_id)
    assert office.sync().reactivated == 1
    assert reasons_here(office.connection) == {salesforce_id: None}


def test_given_to_another_owner_is_found_by_the_count_and_a_look_at_its_id(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.add(email="b@fjord.example")
    office.sync()
    office.org.clock.advance(3600)
    office.org.give(salesforce_id, office.colleague)
    run = office.sync()
    assert run.is_complete
    assert run.also == {"reassigned": 1}
    assert reasons_here(office.connection)[salesforce_id] == "reassigned"
    office.org.give(salesforce_id, office.user)
    assert office.sync().reactivated == 1
    assert reasons_here(office.connection)[salesforce_id] is None


def test_purged_is_gone(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.sync()
    office.org.delete(salesforce_id)
    office.org.purge(salesforce_id)
    run = office.sync()
    assert run.also == {"gone": 1}
    assert reasons_here(office.connection) == {salesforce_id: "gone"}


def test_merged_away_is_inactive_and_its_lists_go_to_the_survivor(office: Office) -> None:
    loser, winner = office.add(email="a@fjord.example"), office.add(email="b@fjord.example")
    office.sync()
    own_list = office.put_on_list(loser, "Retirement letter")
    office.org.merge(winner, [loser])
    run = office.sync()
    assert run.is_complete
    assert reasons_here(office.connection) == {loser: "merged", winner: None}
    assert office.members(own_list) == [winner]
    assert run.also["memberships_moved"] == 1


def test_a_large_proposal_is_held_and_no_contact_becomes_inactive(office: Office) -> None:
    ids = [office.add(email=f"c{n}@fjord.example") for n in range(40)]
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.give(salesforce_id, office.colleague)
    run = office.sync()
    assert run.is_held
    assert set(reasons_here(office.connection).values()) == {None}


def test_approving_asks_again_and_applies_what_still_holds(office: Office) -> None:
    ids = [office.add(email=f"c{n}@fjord.example") for n in range(40)]
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held
    office.org.give(ids[0], office.user)
    run = office.approve()
    assert run.is_complete
    reasons = reasons_here(office.connection)
    assert [reasons[i] for i in ids[:12]] == [None] + ["reassigned"] * 11


def test_discarding_keeps_them_until_a_different_set_is_found(office: Office) -> None:
    ids = [office.add(email=f"c{n}@fjord.example") for n in range(40)]
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held
    office.discard()
    assert office.sync().is_complete
    assert set(reasons_here(office.connection).values()) == {None}
    office.org.give(ids[12], office.colleague)
    assert office.sync().is_held


def test_deletions_that_are_held_keep_the_sums_right(office: Office) -> None:
    ids = [office.add(email=f"c{n}@fjord.example") for n in range(40)]
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.delete(salesforce_id)
    run = office.sync()
    assert run.is_held
    assert run.skipped["held"] == 12
    assert run.is_balanced
    assert office.approve().is_complete
    assert list(reasons_here(office.connection).values()).count("deleted") == 12


@pytest.mark.parametrize("answer", ["server_unavailable_html", "truncated_json", "empty", "edge_420", "short_page"])
def test_a_failing_answer_makes_no_contact_inactive(office: Office, answer: str) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.sync()
    office.org.trouble.add(answer, kind="data")
    office.sync()
    assert reasons_here(office.connection) == {salesforce_id: None}


# Runs


def test_a_second_click_joins_the_running_run(office: Office) -> None:
    first = runs.start_run(office.connection, RunTrigger.MANUAL, lambda ids: True)
    second = runs.start_run(office.connection, RunTrigger.MANUAL, lambda ids: True)
    assert first.id == second.id


def test_redis_away_leaves_the_run_waiting(office: Office) -> None:
    run = runs.start_run(office.connection, RunTrigger.MANUAL, lambda ids: False)
    assert run.is_queued
    assert run.enqueued_at is None


def test_a_run_that_died_goes_on_from_its_checkpoint(office: Office) -> None:
    office.fill(600)
    office.org.change_settings(page_sizes=200)
    run = office.sync(die_before_page=3)
    assert run.status == RunStatus.RUNNING
    assert run.read == 200
    office.let_lease_run_out(run)
    run = office.resume(run)
    assert run.is_complete
    assert (run.read, run.created, run.tries) == (600, 600, 1)


def test_a_worker_that_comes_back_from_the_dead_changes_nothing(office: Office) -> None:
    office.add(email="a@fjord.example")
    run = office.start()
    claimed = runs.claim_run(run.id)
    assert claimed
    office.let_lease_run_out(claimed.row)
    assert runs.requeue_expired(run.id)
    with pytest.raises(LeaseLost):
        runs.LeasedRun(claimed.row, "an old lease").write(read=99)
    db.session.rollback()
    assert db.session.get_one(SyncRun, run.id, populate_existing=True).read == 0


def test_a_run_that_dies_three_times_fails_with_a_reason(office: Office) -> None:
    run = office.start()
    for _ in range(3):
        claimed = runs.claim_run(run.id)
        assert claimed
        office.let_lease_run_out(claimed.row)
        runs.requeue_expired(run.id)
    run = office.reload(run)
    assert (run.is_failed, run.error_code) == (True, "worker_died")


def test_a_cancelled_run_stops_within_a_page_and_keeps_what_it_read(office: Office) -> None:
    office.fill(600)
    office.org.change_settings(page_sizes=200)
    run = office.sync(on_page=lambda run: runs.request_cancel(run) if run.read else None)
    assert run.is_cancelled
    assert run.read == 200


def test_a_stopping_process_hands_the_run_back(office: Office) -> None:
    office.fill(600)
    office.org.change_settings(page_sizes=200)
    run = office.sync(stop_before_page=2)
    assert run.is_queued
    assert run.enqueued_at is not None  # at once, not by the next tick
    assert office.resume(run).is_complete


def test_a_run_that_goes_on_later_keeps_the_moment_from_which_the_next_one_reads(office: Office) -> None:
    office.fill(600)
    office.org.change_settings(page_sizes=200)
    run = office.sync(stop_before_page=2)
    opened_at = run.opened_at
    office.org.clock.advance(3600)
    assert office.resume(run).is_complete
    assert office.reload(office.connection).watermark == run.opened_at == opened_at


def test_a_first_sync_that_fails_is_not_tried_again_by_itself(office: Office) -> None:
    office.org.trouble.add("server_unavailable_html", kind="data")
    assert office.sync().is_failed
    assert office.reload(office.connection).next_sync_at is None


def test_an_expired_session_is_refreshed_once_and_the_run_goes_on(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.org.expire_sessions()
    run = office.sync()
    assert run.is_complete
    assert office.org.calls.since(0)[-1].status == 200


def test_a_withdrawn_permission_stops_the_connection(office: Office) -> None:
    office.org.revoke_approvals()
    run = office.sync()
    assert run.error_code == "permission_withdrawn"
    assert office.reload(office.connection).needs_reconnect


def test_a_sweep_finds_a_departure_that_only_the_counts_show(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.add(email="b@fjord.example")
    office.sync()
    office.org.hide_contact(salesforce_id)
    run = office.sync()
    assert run.also == {"gone": 1}
    assert reasons_here(office.connection)[salesforce_id] == "gone"
    office.org.show_contact(salesforce_id)
    office.sync()
    assert reasons_here(office.connection)[salesforce_id] is None


def test_the_daily_sweep_finds_that_one_left_as_another_came_back(office: Office) -> None:
    hidden, given = office.add(email="a@fjord.example"), office.add(email="b@fjord.example")
    office.sync()
    office.org.hide_contact(hidden)
    office.sync()
    office.org.clock.advance(1200)  # else the overlap reads the one that comes back
    office.sync()
    office.org.show_contact(hidden)
    office.org.give(given, office.colleague)
    office.sync()
    assert reasons_here(office.connection) == {hidden: "gone", given: None}  # as many as before, and no row of either
    office.let_a_day_pass()
    office.sync()
    assert reasons_here(office.connection) == {hidden: None, given: "reassigned"}


def test_an_expired_locator_starts_the_query_again_from_the_checkpoint(office: Office) -> None:
    office.fill(600)
    office.org.change_settings(page_sizes=200)
    office.org.on_next_page(lambda *_: office.org.expire_locators(), times=1)
    run = office.sync()
    assert run.is_complete
    assert run.created == 600


def test_late_rows_with_an_older_stamp_are_not_missed(office: Office) -> None:
    office.sync()
    late = office.org.begin_late("add_contact", office.user, last_name="Late", email="late@fjord.example")
    office.org.clock.advance(9 * 60)
    office.add(email="newer@fjord.example")
    office.sync()
    office.org.commit_late(late.handle)
    run = office.sync()
    assert run.created == 1
    assert {c.email for c in contacts_here(office.connection)} == {"late@fjord.example", "newer@fjord.example"}


def test_the_balance_adds_up_and_shows_every_contact(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.add(email="b@fjord.example", opted_out=True)
    office.add(email="b@fjord.example")
    office.add(email=None)
    office.sync()
    books = balance(office.connection)
    assert books
    assert (books.in_salesforce, books.active, books.opted_out, books.twins, books.no_email) == (4, 1, 1, 1, 1)
    assert books.is_balanced


def test_a_good_sync_makes_the_next_one_due_within_the_interval(office: Office) -> None:
    office.sync()
    due_in = office.connection.next_sync_at - office.connection.last_good_sync_at  # type: ignore[operator]
    assert timedelta(minutes=50) < due_in < timedelta(minutes=70)


def test_tokens_that_do_not_open_end_the_run_and_not_the_job(office: Office) -> None:
    office.connection.access_token_sealed = "v1:garbage"
    office.save()
    run = office.sync()
    assert (run.status, run.error_code, run.lease) == (RunStatus.FAILED, "key_missing", None)


def test_a_failure_that_passes_is_tried_again_within_the_run(office: Office) -> None:
    office.org.trouble.add("server_unavailable_html", kind="composite", times=1)
    assert office.sync().is_complete
