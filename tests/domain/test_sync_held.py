"""Contacts that wait for the advisor's decision or were kept by it: what later runs do with them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from asapp.contacts.removal import remove_contacts
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Contact, Departure, DepartureState
from asapp.models.run import count_off
from asapp.panel.balance import balance
from asapp.panel.held import find_decision
from asapp.panel.receipts import make_receipt
from asapp.sync import departures
from orgsim import Running
from tests.factories import make_contact
from tests.syncing import Office, contacts_here, reasons_here


@pytest.fixture
def office(app: object, org: Running) -> Office:
    return Office(org)


def held(office: Office, number: int = 12) -> list[str]:
    """Sync forty contacts and give some of them away, so that a sync is held; return the Ids given away."""
    ids = office.fill(40)
    office.sync()
    office.org.clock.advance(3600)
    for salesforce_id in ids[:number]:
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held
    return ids[:number]


def states(office: Office) -> dict[str, str]:
    db.session.rollback()
    query = select(Departure.salesforce_id, Departure.state)
    return {row[0]: row[1] for row in db.session.execute(query.where(Departure.connection_id == office.connection.id))}


def reasons_of(office: Office, ids: list[str]) -> set[str | None]:
    found = reasons_here(office.connection)
    return {found[salesforce_id] for salesforce_id in ids}


# Only Approve applies held departures


def test_a_held_proposal_is_not_applied_however_the_book_grows(office: Office) -> None:
    ids = held(office)
    office.org.add_contacts(
        [{"owner_id": office.user, "last_name": "New", "email": f"new{n}@edge.example"} for n in range(200)]
    )
    for _ in range(3):
        office.org.clock.advance(3600)
        run = office.sync()
        assert run.is_held
    assert reasons_of(office, ids) == {None}
    assert office.approve().is_complete
    assert reasons_of(office, ids) == {"reassigned"}


def test_departures_that_are_found_beside_a_held_proposal_join_it(office: Office) -> None:
    ids = held(office)
    other = next(i for i in reasons_here(office.connection) if i not in ids)
    office.org.delete(other)
    assert office.sync().is_held
    assert reasons_here(office.connection)[other] is None
    assert departures.count_held(office.connection.id) == len(ids) + 1
    office.approve()
    assert reasons_here(office.connection)[other] == "deleted"


def test_a_held_proposal_of_which_all_came_back_is_over(office: Office) -> None:
    for salesforce_id in held(office):
        office.org.give(salesforce_id, office.user)
    assert office.sync().is_complete
    assert states(office) == {}


def test_records_that_never_came_here_are_not_held_with_the_others(office: Office) -> None:
    quiet = office.add(email="quiet@fjord.example", opted_out=True)
    ids = office.fill(40)
    office.sync()
    for salesforce_id in (quiet, *ids[:12]):
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held
    assert set(states(office)) == set(ids[:12])


def test_a_proposal_that_would_make_no_contact_inactive_needs_no_decision(office: Office) -> None:
    ids = held(office)
    here = [contact.id for contact in contacts_here(office.connection) if contact.salesforce_id in ids]
    remove_contacts(office.advisor.id, here)
    assert office.sync().is_complete
    assert states(office) == {}


def test_a_later_sync_that_finds_the_same_contacts_leaves_the_decision_as_it_was_shown(office: Office) -> None:
    ids = held(office)
    shown = find_decision(office.connection.id, DepartureState.HELD, 3).key
    office.org.clock.advance(3600)
    assert office.sync().is_held
    assert find_decision(office.connection.id, DepartureState.HELD, 3).key == shown
    office.org.give(ids[0], office.user)
    office.org.clock.advance(3600)
    assert office.sync().is_held
    with pytest.raises(departures.NotWaiting):
        departures.approve(office.connection, lambda ids: True, proposal=shown)
    assert set(states(office).values()) == {"held"}


def test_one_who_was_inactive_before_is_not_made_inactive_by_the_approval(office: Office) -> None:
    ids = office.fill(40)
    office.sync()
    office.org.clock.advance(3600)
    office.org.opt_out(ids[12])
    office.sync()
    office.org.clock.advance(3600)
    for salesforce_id in ids[:13]:
        office.org.give(salesforce_id, office.colleague)
    run = office.sync()
    assert (run.is_held, run.held) == (True, 12)
    office.discard()
    figures = balance(office.connection)
    assert figures is not None
    assert (figures.leaving, figures.leaving_inactive, figures.rest) == (13, 1, 0)
    departures.reconsider(office.connection)
    run = office.approve()
    assert (count_off(run), run.also) == (12, {"reassigned": 12, "left_inactive": 1})
    receipt = make_receipt(run)
    assert (receipt.switched_total, receipt.updated_total) == (12, 1)
    assert reasons_of(office, ids[:13]) == {"reassigned"}


# The threshold of a first run


def test_on_a_first_run_a_proposal_is_measured_against_those_active_as_it_ends(office: Office) -> None:
    ids = office.fill(2100)
    office.org.change_settings(page_sizes=200)
    pages = 0

    def give_some_away(*_about: object) -> None:
        nonlocal pages
        pages += 1
        if pages == 3:
            for salesforce_id in ids[:12]:
                office.org.give(salesforce_id, office.colleague)

    office.org.on_next_page(give_some_away, times=None)
    office.org.trouble.add("invalid_locator", kind="query_more", times=1, after=4)
    run = office.sync()
    assert (run.status, run.created) == ("complete", 2100)
    reasons = reasons_here(office.connection)
    assert {salesforce_id for salesforce_id in ids if reasons[salesforce_id]} == set(ids[:12])


def test_a_first_run_that_finds_a_large_part_gone_is_held_all_the_same(office: Office) -> None:
    ids = office.fill(450)
    office.org.change_settings(page_sizes=200)

    def hide_half(*_about: object) -> None:
        for salesforce_id in ids[:200]:
            office.org.hide_contact(salesforce_id)

    office.org.on_next_page(hide_half, times=1)
    office.org.trouble.add("invalid_locator", kind="query_more", times=1, after=1)  # the repeated query counts again
    assert office.sync().is_held
    assert reasons_of(office, ids[:200]) == {None}


# Held and kept contacts are looked up by Id


@pytest.mark.parametrize("kept", [False, True])
def test_an_opt_out_of_a_held_or_kept_contact_counts_at_once_and_so_does_an_opt_in(office: Office, kept: bool) -> None:
    ids = held(office)
    if kept:
        office.discard()
    office.org.opt_out(ids[0])
    run = office.sync()
    assert reasons_here(office.connection)[ids[0]] == "opted_out"
    assert reasons_of(office, ids[1:]) == {None}
    assert (run.also, run.is_held, run.is_balanced) == ({"opted_out": 1}, not kept, True)
    books = balance(office.connection)
    assert books
    assert (books.opted_out, books.rest) == (1, 0)
    contact = next(each for each in contacts_here(office.connection) if each.salesforce_id == ids[0])
    contact.consent_hidden = True
    office.save()
    office.org.update_contact(ids[0], HasOptedOutOfEmail=False)
    assert office.sync().also == {"opted_in": 1}
    assert reasons_here(office.connection)[ids[0]] is None
    assert not office.reload(contact).consent_hidden


def test_an_opt_out_that_comes_with_a_held_departure_counts_in_the_same_run(office: Office) -> None:
    ids = office.fill(40)
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.opt_out(salesforce_id) if salesforce_id == ids[0] else None
        office.org.delete(salesforce_id)
    run = office.sync()
    assert (run.is_held, run.skipped, run.also) == (True, {"held": 12}, {"opted_out": 1})
    assert reasons_here(office.connection)[ids[0]] == "opted_out"
    assert departures.count_held(office.connection.id) == 11


def test_the_twin_of_a_held_contact_that_opted_out_is_inactive_too(office: Office) -> None:
    ids = held(office)
    twin = make_contact(office.advisor, email="c0@fjord.example", address_hash=office.hash("c0@fjord.example"))
    office.org.opt_out(ids[0])
    run = office.sync()
    db.session.refresh(twin)
    assert run.also == {"opted_out": 1, "twin_opted_out": 1}


def test_who_is_kept_costs_a_call_for_two_thousand_in_each_run(office: Office) -> None:
    held(office)
    office.discard()
    office.sync()
    office.org.clock.advance(3600)
    run = office.sync()
    assert (run.is_complete, run.api_calls) == (True, 2)


# Out of sight


def out_of_sight(office: Office) -> list[str]:
    """Like held(), with contacts that Salesforce no longer shows."""
    ids = office.fill(40)
    office.sync()
    office.org.clock.advance(3600)
    for salesforce_id in ids[:12]:
        office.org.hide_contact(salesforce_id)
    assert office.sync().is_held
    return ids[:12]


def moments(office: Office, ids: list[str]) -> set[datetime | None]:
    db.session.rollback()
    return set(db.session.scalars(select(Contact.opt_out_known_until).where(Contact.salesforce_id.in_(ids))))


@pytest.mark.parametrize("kept", [False, True])
def test_who_is_out_of_sight_for_as_long_as_opt_outs_are_trusted_is_unknown(office: Office, kept: bool) -> None:
    office.connection.partner.opt_outs_trusted_days = 3
    ids = out_of_sight(office)
    if kept:
        office.discard()
    (until,) = moments(office, ids)
    assert until is not None
    assert abs(until - utcnow() - timedelta(days=3)) < timedelta(minutes=5)
    for contact in contacts_here(office.connection):
        if contact.opt_out_known_until:
            contact.opt_out_known_until = utcnow() - timedelta(seconds=1)  # the days pass
    office.save()
    assert reasons_of(office, ids) == {"opt_out_unknown"}
    office.sync()
    assert reasons_of(office, ids) == {"opt_out_unknown"}, "a good sync tells nothing of them"
    for salesforce_id in ids:
        office.org.show_contact(salesforce_id)
    office.sync()
    assert reasons_of(office, ids) == {None}
    assert moments(office, ids) == {None}


def test_who_is_out_of_sight_is_trusted_from_the_last_good_sync_on(office: Office) -> None:
    ids = office.fill(40)
    office.sync()
    seen_at = utcnow() - timedelta(days=2)
    office.connection.last_good_sync_at = seen_at
    office.save()
    for salesforce_id in ids[:12]:
        office.org.hide_contact(salesforce_id)
    assert office.sync().is_held
    trusted = timedelta(days=office.connection.partner.opt_outs_trusted_days)
    assert moments(office, ids[:12]) == {seen_at + trusted}


def test_who_is_in_sight_is_trusted_for_as_long_as_the_connection(office: Office) -> None:
    ids = held(office)
    office.sync()
    assert moments(office, ids) == {None}


# The advisor decides by who owns them now, and may decide again


def test_the_new_owner_is_kept_with_what_waits_and_a_decision_can_be_taken_back(office: Office) -> None:
    ids = held(office)
    decision = find_decision(office.connection.id, DepartureState.HELD, 2)
    assert [(group.reason, group.owner_name, group.number) for group in decision.groups] == [
        ("reassigned", "Jonas Lindqvist", 12)
    ]
    assert len(decision.groups[0].people) == 2
    departures.discard(office.connection)
    assert not office.sync().is_held
    departures.reconsider(office.connection)
    assert set(states(office).values()) == {"held"}
    assert office.sync().is_held
    assert office.approve().is_complete
    assert reasons_of(office, ids) == {"reassigned"}


def test_once_one_of_those_who_were_kept_is_the_users_again_the_rest_is_decided_about_again(office: Office) -> None:
    back, *others = held(office)
    office.discard()
    assert office.sync().is_complete
    office.org.give(back, office.user)
    assert office.sync().is_held
    assert states(office) == dict.fromkeys(others, "held")
