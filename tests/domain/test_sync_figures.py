"""The counts of a run: each row once, and how many contacts were active when it began."""

from __future__ import annotations

import pytest

from asapp.contacts.removal import remove_contacts
from asapp.models import RunTrigger
from asapp.sync import runs
from orgsim import Running
from tests.factories import make_contact
from tests.syncing import Office, contacts_here, reasons_here


@pytest.fixture
def office(app: object, org: Running) -> Office:
    return Office(org)


def synced_an_hour_ago(office: Office, number: int) -> list[str]:
    ids = office.fill(number)
    office.sync()
    office.org.clock.advance(3600)
    return ids


def give_away(office: Office, ids: list[str]) -> None:
    for salesforce_id in ids:
        office.org.give(salesforce_id, office.colleague)


# Rows that are read again within a run


def test_a_row_that_a_held_run_reads_again_is_counted_once(office: Office) -> None:
    ids = synced_an_hour_ago(office, 40)
    for salesforce_id in ids[:12]:
        office.org.delete(salesforce_id)
    office.org.hide_contact(ids[20])  # the counts differ, so the window is read a second time
    run = office.sync()
    assert run.is_held
    assert (run.read, run.skipped, run.unchanged) == (12, {"held": 12}, 0)
    assert run.is_balanced


def test_rows_that_are_read_again_are_counted_once_whatever_became_of_them(office: Office) -> None:
    ids = synced_an_hour_ago(office, 40)
    office.org.update_contact(ids[0], first_name="New")
    office.org.opt_out(ids[1])
    office.org.delete(ids[2])
    office.org.update_contact(ids[3], email=None)
    office.add(email="new@fjord.example")
    office.add(email="quiet@fjord.example", opted_out=True)
    office.add(email=None)
    office.org.hide_contact(ids[20])
    office.org.clock.advance(60)
    run = office.sync()
    assert (run.created, run.updated, run.deactivated, run.skipped_total, run.unchanged) == (1, 1, 3, 2, 0)
    assert run.read == 7
    assert run.also == {"gone": 1}
    assert run.is_balanced


def test_a_row_that_changed_again_before_it_was_read_again_is_counted_again(office: Office) -> None:
    ids = synced_an_hour_ago(office, 600)
    office.org.change_settings(page_sizes=200)
    for salesforce_id in ids[:201]:
        office.org.update_contact(salesforce_id, first_name="New")
    office.org.hide_contact(ids[400])

    def change_again(*_about: object) -> None:
        office.org.clock.advance(5)
        office.org.update_contact(ids[0], first_name="Newest")

    office.org.on_next_page(change_again, times=1)
    run = office.sync()
    assert {c.first_name for c in contacts_here(office.connection) if c.salesforce_id == ids[0]} == {"Newest"}
    assert (run.read, run.updated, run.unchanged) == (202, 202, 0)
    assert run.is_balanced


# The safety brake: a fifth of the contacts that were active when the run began


def test_a_twin_made_by_hand_that_is_adopted_was_not_active_when_the_run_began(office: Office) -> None:
    make_contact(office.advisor, email="rose@edge.example", address_hash=office.hash("rose@edge.example"))
    office.add(email="rose@edge.example", opted_out=True)
    ids = synced_an_hour_ago(office, 55)
    give_away(office, ids[:11])
    office.add(email="rose@edge.example")
    run = office.sync()
    assert run.adopted == 1
    assert run.is_complete, "eleven are no more than a fifth of 55"


def test_a_contact_deleted_here_that_becomes_a_twin_was_not_active_when_the_run_began(office: Office) -> None:
    ids = synced_an_hour_ago(office, 55)
    removed = next(c for c in contacts_here(office.connection) if c.salesforce_id == ids[54])
    remove_contacts(office.advisor.id, [removed.id])
    give_away(office, ids[:11])
    office.add(email="c54@fjord.example", opted_out=True)
    run = office.sync()
    assert run.is_held, "eleven are more than a fifth of 54"
    assert "twin_opted_out" not in run.also
    assert reasons_here(office.connection)[ids[54]] == "hidden_here"


def test_who_came_and_opted_out_within_the_run_was_not_active_when_it_began(office: Office) -> None:
    ids = synced_an_hour_ago(office, 54)
    office.org.change_settings(page_sizes=200)
    office.org.hide_contact(ids[0])
    give_away(office, ids[1:11])
    new = [office.add(email=f"new{n}@fjord.example") for n in range(201)]
    office.org.on_next_page(lambda *_: office.org.opt_out(new[0]), times=1)
    run = office.sync()
    assert run.deactivated == 1
    assert run.is_held, "eleven are more than a fifth of 54"


# Clicks


def test_a_click_on_a_run_that_has_just_died_for_the_last_time_starts_another(office: Office) -> None:
    dead = office.start()
    for _ in range(3):
        claimed = runs.claim_run(dead.id)
        assert claimed
        office.let_lease_run_out(claimed.row)
        clicked = runs.start_run(office.connection, RunTrigger.MANUAL, lambda ids: True)
    assert clicked.id != dead.id
    assert clicked.is_queued
    assert clicked.enqueued_at is not None
    dead = office.reload(dead)
    assert (dead.is_failed, dead.error_code) == (True, "worker_died")
