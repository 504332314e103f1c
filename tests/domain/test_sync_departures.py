"""Departures: which are held, which reopen a proposal, and which answers may be applied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Departure, DepartureState, Reason
from asapp.salesforce.hosts import to_18
from asapp.salesforce.records import ContactRecord
from asapp.sync import runs
from asapp.sync.execute import Execution
from orgsim import Running
from tests.factories import save
from tests.syncing import Office, reasons_here

SHARED = "shared@fjord.example"
ROSE, RAVI = to_18("0035g00000KqT1x"), to_18("0035g00000KqT1y")


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return Office(org)


def synced(office: Office, number: int = 40) -> list[str]:
    ids = office.fill(number)
    office.sync()
    office.org.clock.advance(3600)
    return ids


def give_away(office: Office, ids: list[str]) -> None:
    for salesforce_id in ids:
        office.org.give(salesforce_id, office.colleague)


# Held departures


@pytest.mark.parametrize(("leaving", "is_held"), [(10, False), (11, True)])
def test_a_large_part_is_held_from_eleven_on(office: Office, leaving: int, is_held: bool) -> None:
    ids = synced(office)
    give_away(office, ids[:leaving])
    assert office.sync().is_held == is_held


def test_a_contact_that_left_before_and_is_merged_now_opens_no_discarded_proposal(office: Office) -> None:
    ids = synced(office)
    office.org.delete(ids[30])
    office.sync()
    give_away(office, ids[:12])
    assert office.sync().is_held
    office.discard()
    office.org.undelete(ids[30])
    office.org.merge(ids[31], [ids[30]])
    assert office.sync().is_complete
    reasons = reasons_here(office.connection)
    assert reasons[ids[30]] == "merged"
    assert {reasons[salesforce_id] for salesforce_id in ids[:12]} == {None}


def test_a_deleted_row_of_a_contact_that_never_came_opens_no_discarded_proposal(office: Office) -> None:
    for salesforce_id in (ROSE, RAVI):
        save(
            Departure(
                connection_id=office.connection.id,
                salesforce_id=salesforce_id,
                reason=Reason.REASSIGNED,
                state=DepartureState.DISCARDED,
                found_in_run_id=0,
                was_read=False,
            )
        )
    claimed = runs.claim_run(office.start().id)
    assert claimed is not None
    deleted = ContactRecord(ROSE, "", "Gonzalez", "", False, office.user, utcnow(), True, None)
    Execution(claimed, office.workplace()).reader.apply([deleted], [], in_order=True)
    states = select(Departure.salesforce_id, Departure.state)
    assert {tuple(found) for found in db.session.execute(states)} == {(ROSE, "discarded"), (RAVI, "discarded")}


# Applied departures


def test_a_departure_that_no_answer_of_the_run_confirms_is_not_applied(office: Office) -> None:
    ids = synced(office)
    give_away(office, ids[:12])
    assert office.sync().is_held
    office.org.update_contact(ids[0], last_name="Gon\0zalez")  # the row can't be read
    office.org.give(ids[0], office.user)
    office.approve()
    reasons = reasons_here(office.connection)
    assert reasons[ids[0]] is None
    assert {reasons[salesforce_id] for salesforce_id in ids[1:12]} == {"reassigned"}


def delete(office: Office, salesforce_id: str) -> None:
    office.org.delete(salesforce_id)


def give_to_colleague(office: Office, salesforce_id: str) -> None:
    office.org.give(salesforce_id, office.colleague)


def purge(office: Office, salesforce_id: str) -> None:
    office.org.delete(salesforce_id)
    office.org.purge(salesforce_id)


@pytest.mark.parametrize("was_here", [False, True], ids=["never imported", "here before"])
@pytest.mark.parametrize("leave", [delete, give_to_colleague, purge])
def test_the_twin_of_an_opted_out_record_that_leaves_is_active_again(
    office: Office, leave: Callable[[Office, str], None], was_here: bool
) -> None:
    quiet = office.add(email=SHARED, opted_out=not was_here)
    twin = office.add(email=SHARED)
    office.sync()
    office.org.opt_out(quiet)
    office.sync()
    assert reasons_here(office.connection)[twin] == "twin_opted_out"
    leave(office, quiet)
    run = office.sync()
    assert reasons_here(office.connection)[twin] is None
    assert run.also["twin_back"] == 1
