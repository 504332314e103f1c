"""Each lease outlasts the longest time between two renewals; otherwise a second worker starts while the first still works."""

from __future__ import annotations

from asapp.connections import switching, tokens
from asapp.core.leases import LEASE_OF_CALLS
from asapp.jobs.tick_scheduler import TICK_INTERVAL_S, TICK_TIMEOUT_S
from asapp.salesforce import oauth, session
from asapp.sync import dispatch, rounds

REFRESH_S = tokens.LEASE.total_seconds()
TO_STORE_S = 15  # as long as a statement waits for a lock


def test_a_refresh_has_its_answer_stored_within_its_lease() -> None:
    assert oauth.TOTAL_TIMEOUT_S + TO_STORE_S <= REFRESH_S


def test_waiting_for_a_refresh_outlasts_the_lease_of_one_that_died() -> None:
    assert tokens.WAIT_S > REFRESH_S


def test_a_call_that_needs_a_new_token_ends_within_the_lease_of_its_work() -> None:
    assert LEASE_OF_CALLS.total_seconds() > session.TOTAL_TIMEOUT_S + tokens.WAIT_S + oauth.TOTAL_TIMEOUT_S


def test_a_check_is_stored_within_its_lease_and_a_dead_round_is_taken_up_within_a_minute() -> None:
    lease_s = rounds.LEASE.total_seconds()
    assert lease_s >= rounds.START_WITHIN_S + rounds.CALL_S + TO_STORE_S
    assert lease_s + TICK_INTERVAL_S < 60


def test_a_tick_ends_in_time_although_salesforce_hears_of_no_grant_that_is_given_back() -> None:
    assert dispatch.BUDGET_S + switching.GIVING_BACK_S + oauth.TOTAL_TIMEOUT_S < TICK_TIMEOUT_S
    assert switching.CLAIM.total_seconds() > switching.GIVING_BACK_S + oauth.TOTAL_TIMEOUT_S


def test_a_timeout_between_two_bytes_is_shorter_than_the_whole_call() -> None:
    assert sum(session.TIMEOUT_S) < session.TOTAL_TIMEOUT_S
    assert sum(oauth.TIMEOUT_S) < oauth.TOTAL_TIMEOUT_S
