"""Expired query locators, and a session that ends again: the run goes on by itself and loses nothing."""

from __future__ import annotations

import pytest

from orgsim import Running
from orgsim.trouble import Fault
from tests.syncing import Office, contacts_here, reasons_here


@pytest.fixture
def office(app: object, org: Running) -> Office:
    return Office(org)


def forget_our_place(office: Office, times: int | None = 1, after: int = 0) -> Fault:
    """Let the org refuse the locators of so many pages, after so many that work."""
    return office.org.trouble.add("invalid_locator", kind="query_more", times=times, after=after)


def hide_some(office: Office, ids: list[str]) -> None:
    for salesforce_id in ids:
        office.org.hide_contact(salesforce_id)


def test_a_locator_that_expires_in_the_second_reading_starts_that_reading_again(office: Office) -> None:
    ids = office.fill(600)
    office.org.change_settings(page_sizes=200)
    office.sync()
    for salesforce_id in ids:  # read by the first reading and, because the counts differ, by the second
        office.org.update_contact(salesforce_id, first_name="New")
    hide_some(office, ids[:1])
    fault = forget_our_place(office, after=3)
    run = office.sync()
    assert fault.hits == 1
    assert (run.status, run.error_code) == ("complete", None)
    assert {c.first_name for c in contacts_here(office.connection) if c.salesforce_id != ids[0]} == {"New"}
    assert reasons_here(office.connection)[ids[0]] == "gone"
    assert run.is_balanced


def test_a_sweep_goes_on_after_an_expired_locator_and_makes_no_contact_inactive(office: Office) -> None:
    ids = office.fill(900)
    office.org.change_settings(page_sizes=200)
    office.sync()
    office.org.clock.advance(3600)
    hide_some(office, [ids[100], ids[700]])
    fault = forget_our_place(office, times=2, after=1)
    run = office.sync()
    assert (run.status, run.error_code, fault.hits) == ("complete", None, 2)
    reasons = reasons_here(office.connection)
    assert {salesforce_id for salesforce_id in ids if reasons[salesforce_id]} == {ids[100], ids[700]}


def give_away(office: Office, ids: list[str]) -> None:
    for salesforce_id in ids:
        office.org.give(salesforce_id, office.colleague)


def test_a_locator_that_expires_in_a_lookup_by_id_starts_that_lookup_again(office: Office) -> None:
    ids = office.fill(300)
    office.sync()
    office.org.clock.advance(3600)
    give_away(office, ids[:250])
    office.org.change_settings(page_sizes=200)
    fault = forget_our_place(office)
    run = office.sync()
    assert (run.status, run.error_code, fault.hits) == ("held", None, 1)


def test_a_locator_that_expires_again_and_again_ends_the_run_and_makes_no_contact_inactive(office: Office) -> None:
    ids = office.fill(300)
    office.sync()
    office.org.clock.advance(3600)
    give_away(office, ids[:250])
    office.org.change_settings(page_sizes=200)
    forget_our_place(office, times=None)
    run = office.sync()
    assert (run.status, run.error_code) == ("failed", "locator_expired")
    assert set(reasons_here(office.connection).values()) == {None}
    assert run.api_calls < 100


def test_a_session_that_ends_again_right_after_its_renewal_is_renewed_once_more(office: Office) -> None:
    office.add(email="a@fjord.example")
    fault = office.org.trouble.add("session_expired", kind="data", times=2)
    run = office.sync()
    assert (run.status, run.error_code, fault.hits) == ("complete", None, 2)


def test_sessions_that_are_refused_one_after_the_other_mean_that_the_api_is_closed(office: Office) -> None:
    office.add(email="a@fjord.example")
    fault = office.org.trouble.add("session_expired", kind="data")
    run = office.sync()
    assert (run.status, run.error_code) == ("failed", "api_access_blocked")
    assert fault.hits == 4
    assert office.reload(office.connection).is_connected


def test_a_permission_that_is_withdrawn_right_after_the_renewal_asks_to_connect_again(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.org.trouble.add("session_expired", kind="data", times=3)
    office.org.trouble.add("oauth_expired_token", kind="token_refresh", after=1)
    run = office.sync()
    assert (run.status, run.error_code) == ("failed", "permission_withdrawn")
    assert office.reload(office.connection).needs_reconnect
