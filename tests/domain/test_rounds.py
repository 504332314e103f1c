"""Quiet checks: what is due is asked side by side, what is quiet moves on without a run, and the rest becomes runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from asapp.connections.connections import disconnect
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.codes import Code
from asapp.models import Connection, ConnectionStatus, Departure, DepartureState, RunStatus, RunTrigger
from asapp.partners import partners
from asapp.sync import rounds, runs
from asapp.sync.execute import execute_run
from asapp.sync.interval import SyncInterval, find_intervals
from orgsim import Running
from tests.checking import Checker, add_colleagues, counted_calls, data_calls, let_it_be_due, runs_of, synced_office
from tests.factories import org_access
from tests.racing import crash_of, race
from tests.syncing import Office

MINUTE = timedelta(minutes=1)
# What any sync moves on, and what a check alone touches.
MOMENTS = ("watermark", "last_good_sync_at", "opt_outs_known_until", "next_sync_at", "leads_watermark")
ALL_MOMENTS = (*MOMENTS, "leads_known_until", "lead_opt_outs_watermark")


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return synced_office(Office(org))


@pytest.fixture
def checker() -> Checker:
    return Checker()


def row_of(connection: Connection) -> dict[str, Any]:
    db.session.rollback()
    db.session.refresh(connection)
    return {column.name: getattr(connection, column.name) for column in Connection.__table__.columns}


def is_moved(connection: Connection, before: dict[str, Any]) -> set[str]:
    now = row_of(connection)
    return {name for name, value in now.items() if value != before[name]}


# Quiet


def test_a_quiet_check_costs_one_call_and_leaves_no_run(office: Office, checker: Checker) -> None:
    before, mark, counted = row_of(office.connection), office.org.calls.mark(), counted_calls()
    checker.go()
    assert data_calls(office, mark) == 1
    assert counted_calls() == counted + 1
    assert len(runs_of(office.connection)) == 1  # the first sync
    assert checker.enqueued == []
    assert is_moved(office.connection, before) == set(ALL_MOMENTS)
    due_in = office.connection.next_sync_at - utcnow()
    assert timedelta(minutes=53) < due_in < timedelta(minutes=67)
    assert office.connection.lease is None
    assert counted_calls() == counted + 1


def test_a_quiet_check_leaves_what_an_idle_run_leaves(office: Office, checker: Checker) -> None:
    checker.go()
    checked = row_of(office.connection)
    office.org.clock.advance(60)
    assert office.sync().is_complete
    assert is_moved(office.connection, checked) == set(ALL_MOMENTS)
    office.org.clock.advance(60)
    let_it_be_due(office.connection)
    synced = row_of(office.connection)
    checker.go()
    assert is_moved(office.connection, synced) == set(ALL_MOMENTS)
    assert office.connection.watermark > synced["watermark"]


def test_many_of_a_firm_are_checked_at_most_four_side_by_side(office: Office, checker: Checker) -> None:
    colleagues = add_colleagues(office, 11)
    office.org.trouble.add("slow", kind="data", seconds=0.1)
    mark, began = office.org.calls.mark(), time.monotonic()
    checker.go()
    took_s = time.monotonic() - began
    assert data_calls(office, mark) == 12
    assert 0.3 <= took_s < 1.2  # three turns; one after the other would need twelve
    due = {each.next_sync_at for each in (office.connection, *colleagues)}
    assert min(due) > utcnow()
    assert len(due) == 1  # so that they come side by side again
    assert checker.enqueued == []


def test_leads_that_still_cannot_be_read_are_no_reason_for_a_run(office: Office, checker: Checker) -> None:
    office.org.deny_object("Lead", "read")
    office.sync()
    assert office.connection.leads_trouble == Code.LEADS_HIDDEN
    office.org.clock.advance(3600)
    let_it_be_due(office.connection)
    known_until = office.connection.leads_known_until
    checker.go()
    assert checker.enqueued == []
    assert office.connection.leads_trouble == Code.LEADS_HIDDEN
    assert known_until < office.connection.leads_known_until <= utcnow()


def test_a_quiet_check_extends_what_is_known_of_open_leads(office: Office, checker: Checker) -> None:
    office.connection.partner.brings_in_open_leads = True
    office.org.add_lead(office.user, last_name="Ito", email="ito@fjord.example")
    office.save()
    checker.go()  # which asks for a run: they were never read
    run = runs_of(office.connection)[-1]
    office.org.clock.advance(3600)
    office.resume(run)
    office.org.clock.advance(60)
    let_it_be_due(office.connection)
    before, mark = row_of(office.connection), office.org.calls.mark()
    checker.go()
    assert data_calls(office, mark) == 1
    assert len(runs_of(office.connection)) == 2
    assert is_moved(office.connection, before) == {*ALL_MOMENTS, "open_leads_watermark", "open_leads_known_until"}
    partners.forget_open_leads(office.connection.partner_id)
    office.connection.partner.brings_in_open_leads = False
    let_it_be_due(office.connection)
    checker.go()
    assert row_of(office.connection)["open_leads_known_until"] is None


def test_an_expired_session_is_refreshed_within_the_check(office: Office, checker: Checker) -> None:
    office.org.expire_sessions(office.user)
    version, counted = office.connection.token_version, counted_calls()
    checker.go()
    assert checker.enqueued == []
    assert office.connection.token_version == version + 1
    assert office.connection.next_sync_at > utcnow()
    assert counted_calls() == counted + 2  # the refused one, and the one with the new token


# Runs


def change_a_contact(office: Office) -> None:
    office.org.opt_out(office.org.contacts(office.user)[0]["Id"])


def hide_a_contact(office: Office) -> None:
    office.org.hide_contact(office.org.contacts(office.user)[0]["Id"])


def opt_a_lead_out(office: Office) -> None:
    office.org.add_lead(office.user, last_name="Ito", company="Fjord", email="ito@fjord.example", opted_out=True)


def hide_an_open_lead(office: Office) -> None:
    """Hide it as sharing does, without a stamp, once open Leads have come in."""
    office.connection.partner.brings_in_open_leads = True
    lead = office.org.add_lead(office.user, last_name="Ito", email="ito@fjord.example")
    office.save()
    office.org.clock.advance(3600)
    db.session.delete(office.sync())
    office.org.hide_contact(lead)
    let_it_be_due(office.connection)


def let_a_day_pass(office: Office) -> None:
    office.let_a_day_pass()


def want_a_sweep(office: Office) -> None:
    office.connection.sweep_wanted = True


def name_another_field(office: Office) -> None:
    office.org.add_field("Contact", "No_Mail__c")
    office.connection.partner.opt_out_field = "No_Mail__c"


def hold_a_departure(office: Office) -> None:
    db.session.add(
        Departure(
            connection_id=office.connection.id,
            salesforce_id=office.org.contacts(office.user)[0]["Id"],
            reason="gone",
            state=DepartureState.DISCARDED,
            found_in_run_id=runs_of(office.connection)[0].id,
            was_read=False,
        )
    )


def let_it_have_failed(office: Office) -> None:
    office.connection.failures_in_a_row, office.connection.last_failure = 1, Code.NO_ANSWER


@pytest.mark.parametrize(
    ("deed", "is_asked"),
    [
        (change_a_contact, True),
        (hide_a_contact, True),
        (opt_a_lead_out, True),
        (hide_an_open_lead, True),
        (let_it_have_failed, True),
        (let_a_day_pass, False),
        (want_a_sweep, False),
        (name_another_field, False),
        (hold_a_departure, False),
    ],
)
def test_where_there_is_something_to_do_a_run_does_it(
    office: Office, checker: Checker, deed: Callable[[Office], None], is_asked: bool
) -> None:
    deed(office)
    office.save()
    mark, watermark = office.org.calls.mark(), office.connection.watermark
    checker.go()
    assert data_calls(office, mark) == is_asked
    (_first, run) = runs_of(office.connection)
    assert (run.status, run.trigger) == (RunStatus.QUEUED, RunTrigger.SCHEDULED)
    assert checker.enqueued == [run.id]
    assert run.enqueued_at is not None
    assert office.connection.watermark == watermark
    assert office.connection.next_sync_at > utcnow()
    assert office.connection.lease is None
    office.org.clock.advance(3600)
    assert office.resume(run).status == RunStatus.COMPLETE
    let_it_be_due(office.connection)
    checker.go()
    assert len(runs_of(office.connection)) == 2


def test_a_check_joins_the_run_that_its_advisor_has_started(office: Office, checker: Checker) -> None:
    change_a_contact(office)
    started = office.start()
    checker.go()
    assert [run.id for run in runs_of(office.connection)][1:] == [started.id]
    assert office.connection.next_sync_at > utcnow()


# Errors


def test_a_permission_that_was_withdrawn_ends_as_it_does_in_a_run(office: Office, checker: Checker) -> None:
    office.org.revoke_approvals(office.user)
    checker.go()
    assert office.connection.status == ConnectionStatus.NEEDS_RECONNECT
    assert (office.connection.next_sync_at, office.connection.lease) == (None, None)
    run = runs_of(office.connection)[-1]
    assert (run.status, run.error_code) == (RunStatus.FAILED, office.connection.status_reason)


def test_a_short_trouble_is_asked_about_again(office: Office, checker: Checker) -> None:
    office.org.trouble.add("server_unavailable_html", kind="data", times=1)
    counted = counted_calls()
    checker.go()
    assert len(runs_of(office.connection)) == 1
    assert counted_calls() == counted + 2


def test_an_org_in_trouble_gets_one_run_and_the_rest_of_its_firm_fails_or_waits(
    office: Office, checker: Checker
) -> None:
    """A run has more patience, but its org may hang: one at a time finds that out."""
    colleagues = [office.connection, *add_colleagues(office, 9)]
    office.org.trouble.add("server_unavailable_html", kind="data")
    counted, mark = counted_calls(), office.org.calls.mark()
    checker.go()
    ended = [run for each in colleagues for run in runs_of(each) if run.id > 1]
    assert sorted(run.status for run in ended) == ["failed"] * 3 + ["queued"]  # four were under way
    failed = [each for each in colleagues if each.failures_in_a_row]
    assert {each.last_failure for each in failed} == {Code.SERVER_UNAVAILABLE}
    assert all(each.next_sync_at > utcnow() for each in failed)
    assert sum(each.next_sync_at < utcnow() for each in colleagues) == 6  # left to a later round
    assert all(each.lease is None for each in colleagues)
    assert counted_calls() - counted == data_calls(office, mark) == 8


def test_a_share_that_is_used_up_pauses_the_firm(office: Office, checker: Checker) -> None:
    add_colleagues(office, 3)
    partner = office.connection.partner
    partner.org_calls_allowed, partner.api_share_percent = 100 * (counted_calls() + 1), 1
    office.save()
    checker.go()
    assert partner.paused_why == Code.SHARE_USED_UP
    assert partner.is_paused(utcnow())
    assert counted_calls() == partner.org_calls_allowed // 100
    assert sum(run.is_failed for run in db.session.query(runs.SyncRun)) == 1


def test_an_org_that_takes_no_more_calls_is_asked_no_further(office: Office, checker: Checker) -> None:
    add_colleagues(office, 9)
    office.org.trouble.add("request_limit", kind="data")
    mark = office.org.calls.mark()
    checker.go()
    assert data_calls(office, mark) == 4  # those that were under way
    assert office.connection.partner.paused_why == Code.REQUEST_LIMIT


def test_a_pause_that_is_over_ends_with_a_quiet_check(office: Office, checker: Checker) -> None:
    office.connection.partner.paused_until = utcnow() - MINUTE
    office.connection.partner.paused_why = Code.ORG_NEARLY_FULL
    office.save()
    checker.go()
    assert (office.connection.partner.paused_until, office.connection.partner.paused_why) == (None, None)
    assert len(runs_of(office.connection)) == 1


# What changes in the middle


@pytest.mark.parametrize("deed", ["disconnect", "sync", "connect again", "lease taken"])
def test_a_connection_that_changed_in_the_middle_is_left_as_it_is(
    app: Flask, office: Office, checker: Checker, deed: str
) -> None:
    office.org.trouble.add("slow", kind="data", seconds=0.5, times=1)
    connection_id = office.connection.id
    after: dict[str, Any] = {}

    def meddle() -> None:
        time.sleep(0.2)
        connection = db.session.get_one(Connection, connection_id)
        assert connection.lease is not None, "the check is not under way"
        if deed == "disconnect":
            disconnect(connection, True, org_access())
        elif deed == "sync":
            run = runs.start_run(connection, RunTrigger.MANUAL, checker.enqueue)
            execute_run(run.id, office.workplace())
        else:
            connection.lease = None if deed == "connect again" else "another"
            db.session.commit()
        after.update(row_of(db.session.get_one(Connection, connection_id)))

    assert crash_of(race(app, meddle, checker.go)) == []
    assert row_of(office.connection) == after
    assert len(runs_of(office.connection)) == 1 + (deed == "sync")


def test_two_rounds_at_once_ask_for_each_once(app: Flask, office: Office) -> None:
    add_colleagues(office, 19)
    office.org.trouble.add("slow", kind="data", seconds=0.05)
    mark = office.org.calls.mark()
    assert crash_of(race(app, Checker().go, Checker().go)) == []
    assert data_calls(office, mark) == 20


def test_a_round_that_is_asked_to_stop_lets_go_of_what_it_has_not_asked_about(office: Office, checker: Checker) -> None:
    colleagues = [office.connection, *add_colleagues(office, 9)]
    office.org.trouble.add("slow", kind="data", seconds=0.3)
    mark, counted = office.org.calls.mark(), counted_calls()
    checker.should_stop = lambda: len(office.org.calls.since(mark)) >= 4
    checker.go()
    asked = data_calls(office, mark)
    assert 4 <= asked < 10
    assert counted_calls() - counted == asked
    assert all(each.lease is None for each in colleagues)
    assert sum(each.next_sync_at > utcnow() for each in colleagues) == asked


def test_the_lease_of_a_dead_round_ends(office: Office, checker: Checker) -> None:
    assert rounds.claim([office.connection.id], "dead", utcnow())
    checker.go()
    assert office.connection.next_sync_at < utcnow()
    office.connection.lease_until = utcnow() - MINUTE
    office.save()
    checker.go()
    assert office.connection.next_sync_at > utcnow()


def test_a_share_that_would_not_last_for_a_day_stretches_the_interval_of_the_whole_firm(
    office: Office, checker: Checker
) -> None:
    colleagues = [office.connection, *add_colleagues(office, 3)]
    partner = office.connection.partner
    partner.org_calls_allowed, partner.api_share_percent = 1000, 10  # 100 calls a day, 75 of them for four advisors
    office.save()
    checker.go()
    left = [each.next_sync_at - utcnow() for each in colleagues]
    assert all(timedelta(minutes=85) < each < timedelta(minutes=112) for each in left)  # 98 minutes, with jitter
    assert find_intervals(db.session(), 60)[partner.slug] == SyncInterval(98, 60)
