"""One page of contacts: which rows are stored, which addresses are remembered, and where the run goes on."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select, text

from asapp import create_app
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.models import BlockedAddress, Contact, LedgerEntry, SyncRun
from asapp.panel.balance import balance
from asapp.salesforce.hosts import to_18
from asapp.salesforce.records import ContactRecord
from asapp.sync import runs, store
from asapp.sync.execute import Execution
from config import Config
from orgsim import Running
from tests.factories import make_advisor, make_contact
from tests.syncing import Died, Office, contacts_here, reasons_here

ROSE, ROBERT = to_18("0035g00000KqT1x"), to_18("0035g00000KqT1y")
SHARED, OTHER = "shared@fjord.example", "other@fjord.example"


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    return Office(org)


def begin(office: Office) -> Execution:
    """Return a run that is claimed and has read nothing yet."""
    claimed = runs.claim_run(office.start().id)
    assert claimed is not None
    return Execution(claimed, office.workplace())


def row(office: Office, **changes: Any) -> ContactRecord:
    stamp = utcnow() - timedelta(days=1)
    plain = ContactRecord(ROSE, "Rose", "Gonzalez", "rose@edge.com", False, office.user, stamp, False, None)
    return plain._replace(**changes)


def addresses_kept(office: Office) -> dict[str, bytes]:
    """Return {Salesforce Id: address hash} of the ledger's rows with one; the blocked addresses must be the same."""
    db.session.rollback()
    ledger, blocked = (
        {found.salesforce_id: found.address_hash for found in db.session.scalars(select(table))}
        for table in (LedgerEntry, BlockedAddress)
    )
    kept = {salesforce_id: hashed for salesforce_id, hashed in ledger.items() if hashed is not None}
    assert blocked == kept
    return kept


# Rows


def test_a_row_that_was_given_to_a_colleague_while_pages_were_read_is_not_taken(office: Office) -> None:
    office.fill(250)
    given = office.add(email="moving@fjord.example")  # changed last, so it is on the second page
    office.org.change_settings(page_sizes=200)
    office.org.on_next_page(lambda *_: office.org.give(given, office.colleague), times=1)
    run = office.sync()
    assert run.skipped == {"not_yours": 1}
    assert run.is_balanced
    assert given not in {contact.salesforce_id for contact in contacts_here(office.connection)}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_page_reads_no_whole_book(office: Office) -> None:
    """Or each page of a first sync would take longer than the one before."""
    execution = begin(office)
    make_contact(office.connection.user, email="by.hand@fjord.example")
    statements: list[tuple[str, Any]] = []

    def keep(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            statements.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", keep)
    try:
        execution.reader.apply([row(office)], [], in_order=True)
        execution.reader.apply([row(office, email="by.hand@fjord.example"), row(office, id=ROBERT)], [], in_order=True)
    finally:
        event.remove(db.engine, "before_cursor_execute", keep)
    asked = [each for each in statements if "contacts" in each[0]]
    assert len(asked) >= 6
    with db.engine.connect() as connection:
        for statement, parameters in asked:
            one = parameters[0] if isinstance(parameters, list) else parameters
            steps = [each[-1] for each in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", one)]
            through = [each for each in steps if re.search(r"contacts USING .*\(user_id=\?\)|SCAN contacts", each)]
            assert not through, statement


def test_of_two_rows_of_one_contact_on_a_page_the_last_counts(office: Office) -> None:
    execution = begin(office)
    execution.reader.apply([row(office)], [], in_order=True)
    execution.reader.apply([row(office, first_name="Rosa"), row(office, is_opted_out=True)], [], in_order=True)
    (contact,) = contacts_here(office.connection)
    assert (contact.first_name, contact.opted_out) == ("Rose", True)
    assert execution.run.row.is_balanced


def test_the_oldest_of_two_contacts_made_by_hand_is_adopted(office: Office) -> None:
    hashed = office.hash(SHARED)
    first, second = (make_contact(office.advisor, email=SHARED, address_hash=hashed).id for _ in range(2))
    salesforce_id = office.add(email=SHARED)
    office.sync()
    db.session.rollback()
    assert db.session.get_one(Contact, first).salesforce_id == salesforce_id
    assert db.session.get_one(Contact, second).salesforce_id is None


def test_a_contact_that_a_colleague_made_by_hand_is_not_adopted(office: Office) -> None:
    colleague = make_advisor(office.connection.partner)
    mine, theirs = (
        make_contact(who, email=email, address_hash=office.hash(email)).id
        for who, email in ((office.advisor, OTHER), (colleague, SHARED))
    )
    by_address = {email: office.add(email=email) for email in (SHARED, OTHER)}
    assert office.sync().adopted == 1
    db.session.rollback()
    assert db.session.get_one(Contact, mine).salesforce_id == by_address[OTHER]
    assert db.session.get_one(Contact, theirs).salesforce_id is None


# Addresses that opted out


def test_the_address_of_an_opted_out_contact_alone_is_kept(office: Office) -> None:
    office.add(email="a@fjord.example")
    office.add(email=None)
    quiet = office.add(email="b@fjord.example", opted_out=True)
    office.sync()
    assert addresses_kept(office) == {quiet: office.hash("b@fjord.example")}


def test_the_address_of_a_contact_that_opted_in_again_is_kept_no_longer(office: Office) -> None:
    salesforce_id = office.add(email=SHARED)
    office.sync()
    office.org.opt_out(salesforce_id)
    office.sync()
    assert addresses_kept(office) == {salesforce_id: office.hash(SHARED)}
    office.org.opt_in(salesforce_id)
    office.sync()
    assert addresses_kept(office) == {}


def test_a_new_contact_with_the_address_of_a_record_that_came_opted_out_is_a_twin(office: Office) -> None:
    office.sync()
    office.add(email=SHARED, opted_out=True)
    office.sync()
    twin = office.add(email=SHARED)
    assert office.sync().created == 1
    assert reasons_here(office.connection) == {twin: "twin_opted_out"}
    books = balance(office.connection)
    assert books
    assert (books.active, books.twins) == (0, 1)


def test_a_new_contact_with_the_address_of_a_contact_that_opted_out_later_is_a_twin(office: Office) -> None:
    first = office.add(email=SHARED)
    office.sync()
    office.org.opt_out(first)
    office.sync()
    twin = office.add(email=SHARED)
    office.sync()
    assert reasons_here(office.connection) == {first: "opted_out", twin: "twin_opted_out"}


def test_a_contact_is_a_twin_from_the_page_on_that_brings_it(office: Office) -> None:
    """A run may end or be parked before it has read everything."""
    ids = office.fill(700)  # four pages
    quiet, twin = ids[0], ids[250]
    for salesforce_id in (quiet, twin):
        office.org.change_without_stamp(salesforce_id, Email=SHARED, HasOptedOutOfEmail=salesforce_id == quiet)
    office.org.change_settings(page_sizes=200)
    run = office.sync(die_before_page=4)
    assert run.read == 400
    assert reasons_here(office.connection)[twin] == "twin_opted_out"


def test_an_opted_out_record_that_changes_its_address_frees_the_old_one_and_blocks_the_new(office: Office) -> None:
    at_the_old, at_the_new = office.add(email=SHARED), office.add(email=OTHER)
    office.sync()
    quiet = office.add(email=SHARED, opted_out=True)
    office.sync()
    assert reasons_here(office.connection) == {at_the_old: "twin_opted_out", at_the_new: None}
    office.org.update_contact(quiet, email=OTHER)
    run = office.sync()
    assert reasons_here(office.connection) == {at_the_old: None, at_the_new: "twin_opted_out"}
    assert run.also == {"twin_opted_out": 1, "twin_back": 1}


def test_a_contact_that_changes_to_an_address_that_opted_out_is_a_twin_until_it_changes_again(office: Office) -> None:
    office.add(email=SHARED, opted_out=True)
    moving = office.add(email=OTHER)
    office.sync()
    office.org.update_contact(moving, email=SHARED)
    run = office.sync()
    assert (reasons_here(office.connection), run.also) == ({moving: "twin_opted_out"}, {"twin_opted_out": 1})
    office.org.update_contact(moving, email=OTHER)
    run = office.sync()
    assert (reasons_here(office.connection), run.also) == ({moving: None}, {"twin_back": 1})


# A page is stored whole, and under the lease


def test_a_worker_that_dies_before_the_counters_are_written_leaves_nothing_of_the_page(office: Office) -> None:
    execution = begin(office)
    execution.reader.apply([row(office)], [], in_order=True)

    def die(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE sync_runs"):
            raise Died

    event.listen(db.engine, "before_cursor_execute", die)
    with pytest.raises(Died):
        execution.reader.apply([row(office, first_name="Rosa")], [], in_order=True)
    event.remove(db.engine, "before_cursor_execute", die)
    assert [contact.first_name for contact in contacts_here(office.connection)] == ["Rose"]


def test_a_page_of_a_worker_that_lost_its_run_to_another_leaves_nothing(office: Office) -> None:
    execution = begin(office)
    run_id = execution.run.id
    office.let_lease_run_out(execution.run.row)
    assert runs.requeue_expired(run_id)
    assert runs.claim_run(run_id)
    with pytest.raises(LeaseLost):
        execution.reader.apply([row(office)], [], in_order=True)
    db.session.commit()
    assert office.snapshot() == {"contacts": [], "ledger": []}
    assert db.session.get_one(SyncRun, run_id, populate_existing=True).read == 0


# Where a run goes on


def test_a_row_that_changed_while_it_was_read_moves_no_checkpoint(office: Office) -> None:
    ids = office.fill(700)
    office.sync()
    office.org.clock.advance(3600)
    for number, salesforce_id in enumerate(ids):
        stamp = office.org.clock.now() - timedelta(minutes=14) + timedelta(seconds=number)
        office.org.update_contact(salesforce_id, first_name="New", stamp=stamp)
    office.org.change_settings(page_sizes=200)
    # The last row of the second page.
    office.org.on_next_page(lambda *_: office.org.update_contact(ids[399], first_name="New"), times=1)
    run = office.sync(die_before_page=4)
    assert run.read == 400
    office.let_lease_run_out(run)
    office.resume(run)
    assert {contact.first_name for contact in contacts_here(office.connection)} == {"New"}


def test_an_opt_out_field_that_changes_in_the_middle_of_a_run_is_read_of_every_contact(office: Office) -> None:
    office.org.add_field("Contact", "No_Mail__c")
    ids = office.fill(600)
    office.org.change_without_stamp(ids[0], No_Mail__c=True)
    office.org.change_settings(page_sizes=200)
    run = office.sync(stop_before_page=3)
    assert (run.is_queued, run.read) == (True, 200)
    office.connection.partner.opt_out_field = "No_Mail__c"
    office.save()
    assert office.resume(run).is_complete
    assert reasons_here(office.connection)[ids[0]] == "opted_out"


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_job_has_no_plan_that_was_made_for_any_values(config: Config) -> None:
    """PostgreSQL tries one from the eleventh time on: of a book that it has no statistics of, it takes seconds a page."""
    job = create_app(config, with_pages=False)
    with job.app_context():
        for number in range(12):
            store.find_contacts(1, 1, [f"0035g00000{number * 2000 + each:05}AAA" for each in range(2000)])
        by_statement = text("SELECT statement, generic_plans FROM pg_prepared_statements")
        assert [row for row in db.session.execute(by_statement) if row.generic_plans] == []
        db.session.remove()
        db.engine.dispose()
