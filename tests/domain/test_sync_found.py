"""What property tests and a second reader found in the sync, each as small as it goes (tests/properties)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask, current_app
from sqlalchemy import event, select

from asapp.contacts import manual
from asapp.contacts.form_fields import Details
from asapp.contacts.removal import remove_contacts
from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Contact, Reason, User
from asapp.panel.balance import balance
from asapp.sync import departures, runs
from asapp.sync.execute import Execution
from orgsim import Running
from tests.factories import make_contact
from tests.syncing import Office, contacts_here, reasons_here


@pytest.fixture
def office(app: object, org: Running) -> Office:
    return Office(org)


# A merge hands the other list memberships to the survivor


def test_a_chain_of_merges_hands_lists_to_the_last_survivor(office: Office) -> None:
    first, second, last = (office.add(email=f"{name}@fjord.example") for name in ("first", "second", "last"))
    office.sync()
    guests = office.put_on_list(first, "Guests")
    office.org.merge(second, [first])
    office.org.merge(last, [second])
    office.sync()
    assert office.members(guests) == [last]


def test_a_chain_of_merges_that_two_runs_saw_hands_lists_to_the_last_survivor(office: Office) -> None:
    first, second, last = (office.add(email=f"{name}@fjord.example") for name in ("first", "second", "last"))
    office.sync()
    guests = office.put_on_list(first, "Guests")
    office.org.merge(last, [second])
    office.sync()
    office.org.undelete(second)
    office.org.merge(second, [first])
    office.org.merge(last, [second])
    office.sync()
    assert office.members(guests) == [last]


def test_a_deleted_contact_that_was_undeleted_and_merged_meanwhile_hands_its_lists_over(office: Office) -> None:
    loser, winner = office.add(email="loser@fjord.example"), office.add(email="winner@fjord.example")
    office.sync()
    guests = office.put_on_list(loser, "Guests")
    office.org.delete(loser)
    office.sync()
    office.org.undelete(loser)
    office.org.merge(winner, [loser])
    run = office.sync()
    assert office.members(guests) == [winner]
    assert reasons_here(office.connection)[loser] == "merged"
    assert run.is_balanced


def test_a_contact_merged_again_into_another_hands_its_lists_to_that_one(office: Office) -> None:
    loser = office.add(email="loser@fjord.example")
    stranger = office.add(owner=office.colleague, email="stranger@fjord.example")
    winner = office.add(email="winner@fjord.example")
    office.sync()
    guests = office.put_on_list(loser, "Guests")
    office.org.merge(stranger, [loser])
    office.sync()
    assert office.members(guests) == [loser]  # the survivor isn't here
    office.org.undelete(loser)
    office.org.merge(winner, [loser])
    office.sync()
    assert office.members(guests) == [winner]


def test_a_contact_without_an_address_hands_its_lists_over_when_it_is_merged(office: Office) -> None:
    loser, winner = office.add(email="loser@fjord.example"), office.add(email="winner@fjord.example")
    office.sync()
    guests = office.put_on_list(loser, "Guests")
    office.org.update_contact(loser, email=None)
    office.sync()
    office.org.merge(winner, [loser])
    run = office.sync()
    assert office.members(guests) == [winner]
    assert loser not in reasons_here(office.connection)  # still hidden from the advisor
    assert run.is_balanced


# Late commits


def test_a_late_commit_does_not_hide_a_change_from_a_run_that_died(office: Office) -> None:
    ids = office.fill(700)
    office.org.clock.advance(3600)
    office.sync()
    office.org.clock.advance(3600)
    for number, salesforce_id in enumerate(ids):
        stamp = office.org.clock.now() - timedelta(minutes=50) + timedelta(seconds=number)
        office.org.update_contact(salesforce_id, first_name="New", stamp=stamp)
    office.org.change_settings(page_sizes=200)
    late = office.org.begin_late("update_contact", ids[399], first_name="Late")
    office.org.clock.advance(300)
    office.org.on_next_page(lambda _locator, offset: office.org.commit_late(late.handle))
    run = office.sync(die_before_page=4)
    office.let_lease_run_out(run)
    office.resume(run)
    office.sync()
    old = [c for c in contacts_here(office.connection) if c.first_name not in ("New", "Late")]
    assert len(old) == 0


# The safety brake


def test_discarded_departures_are_asked_about_again_before_they_are_applied(office: Office) -> None:
    ids = [office.add(email=f"c{n}@fjord.example") for n in range(40)]
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.hide_contact(salesforce_id)
    assert office.sync().is_held
    office.discard()
    for n in range(40):  # twelve are less than a fifth from here on
        office.add(email=f"more{n}@fjord.example")
    office.sync()
    office.org.clock.advance(3600)
    office.sync()
    office.org.show_contact(ids[0])
    office.org.give(ids[20], office.colleague)  # the count is the same as before
    office.sync()
    office.org.delete(ids[30])
    office.sync()
    assert reasons_here(office.connection)[ids[0]] is None
    assert reasons_here(office.connection)[ids[1]] == "gone"


def test_an_approval_during_a_run_asks_salesforce_again_all_the_same(office: Office) -> None:
    ids = [office.add(email=f"c{n}@fjord.example") for n in range(40)]
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.hide_contact(salesforce_id)
    assert office.sync().is_held
    run = office.start()
    office.org.show_contact(ids[0])
    departures.approve(office.connection, lambda ids: True)  # joins the run that waits
    run = office.resume(run)
    assert run.is_complete
    assert reasons_here(office.connection)[ids[0]] is None
    assert db.session.scalar(select(Contact.departed).where(Contact.salesforce_id == ids[1])) == "gone"


def test_a_contact_that_was_never_here_does_not_reopen_a_discarded_proposal(office: Office) -> None:
    ids = [office.add(email=f"c{n}@fjord.example") for n in range(40)]
    stranger = office.add(email="quiet@fjord.example", opted_out=True)
    office.sync()
    for salesforce_id in ids[:12]:
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held
    office.discard()
    office.org.give(stranger, office.colleague)
    assert office.sync().is_complete
    assert set(reasons_here(office.connection).values()) == {None}


# The books


def test_the_balance_adds_up_with_a_contact_deleted_here_that_then_lost_its_address(office: Office) -> None:
    salesforce_id = office.add(email="a@fjord.example")
    office.sync()
    (contact,) = contacts_here(office.connection)
    remove_contacts(office.advisor.id, [contact.id])
    office.org.update_contact(salesforce_id, email=None)
    office.sync()
    books = balance(office.connection)
    assert books
    assert (books.no_email, books.removed_here, books.rest) == (1, 0, 0)


# At the same moment


def meanwhile(app: Flask, deed: Callable[[], object], before: str) -> Callable[[], None]:
    """Run this in another session just before one of our statements that has these words; return a function that waits for it."""

    def in_a_context_of_its_own() -> None:
        with app.app_context(), writing():
            deed()

    other = threading.Thread(target=in_a_context_of_its_own)

    def before_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if other.ident is None and before in statement:
            other.start()
            other.join(1)  # it may have to wait for our lock

    event.listen(db.engine, "before_cursor_execute", before_statement)

    def wait() -> None:
        db.session.rollback()
        event.remove(db.engine, "before_cursor_execute", before_statement)
        other.join(30)

    return wait


def test_a_contact_made_by_hand_while_its_address_opts_out_is_a_twin(app: Flask, office: Office) -> None:
    office.add(email="rose@fjord.example", opted_out=True)
    advisor_id = office.advisor.id

    def add_by_hand() -> None:
        advisor = db.session.get_one(User, advisor_id)
        vault = current_app.extensions["asapp.vault"]
        manual.add_contact(advisor, Details("Rose", "Gonzalez", "rose@fjord.example"), vault)

    wait = meanwhile(app, add_by_hand, "unchanged=")  # the page's counters: its rows are written, and not committed
    office.sync()
    wait()
    assert db.session.scalars(contact_rows(reason_of(utcnow()))).all() == [Reason.TWIN_OPTED_OUT]


def test_a_contact_made_by_hand_and_deleted_while_it_is_adopted_is_not_lost(app: Flask, office: Office) -> None:
    made = make_contact(office.advisor, email="rose@fjord.example", address_hash=office.hash("rose@fjord.example"))
    salesforce_id = office.add(email="rose@fjord.example")
    advisor_id, contact_id = office.advisor.id, made.id
    wait = meanwhile(app, lambda: remove_contacts(advisor_id, [contact_id]), "UPDATE contacts")
    office.sync()
    wait()
    assert [c.salesforce_id for c in contacts_here(office.connection)] == [salesforce_id]


def test_a_pause_that_begins_while_a_run_goes_on_outlasts_it(office: Office) -> None:
    """Another run of the firm has used the last of its calls."""
    execution = begin(office)
    firm, until = office.connection.partner, utcnow() + timedelta(hours=20)
    firm.paused_until, firm.paused_why = until, "share_used_up"
    office.save()
    go(execution)
    assert (office.reload(firm).paused_until, firm.paused_why) == (until, "share_used_up")


def test_a_pause_that_a_good_run_has_shown_to_be_over_ends(office: Office) -> None:
    firm = office.connection.partner
    firm.paused_until, firm.paused_why = utcnow() + timedelta(hours=1), "org_nearly_full"
    office.save()
    go(begin(office))
    assert (office.reload(firm).paused_until, firm.paused_why) == (None, None)


def begin(office: Office) -> Execution:
    run = office.start()
    assert run is not None
    claimed = runs.claim_run(run.id)
    assert claimed is not None
    return Execution(claimed, office.workplace())


def go(execution: Execution) -> None:
    with writing():
        execution.go()


def test_a_sync_locks_the_advisor_before_the_run(app: Flask, office: Office) -> None:
    """The order of docs/decisions/11-lock-order.md, in every transaction of a run with departures."""
    ids = office.fill(5)
    office.sync()
    office.org.purge(ids[0])
    locked: list[list[str]] = [[]]

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        for table in ("users", "sync_runs"):
            if statement.startswith(f"SELECT {table}.id") and table not in locked[-1]:
                locked[-1].append(table)

    def begin_another(_connection: object) -> None:
        locked.append([])

    event.listen(db.engine, "before_cursor_execute", note)
    for ending in ("commit", "rollback"):
        event.listen(db.engine, ending, begin_another)
    assert office.sync().also == {"gone": 1}
    event.remove(db.engine, "before_cursor_execute", note)
    for ending in ("commit", "rollback"):
        event.remove(db.engine, ending, begin_another)
    assert ["users", "sync_runs"] in locked
    assert ["sync_runs", "users"] not in locked
