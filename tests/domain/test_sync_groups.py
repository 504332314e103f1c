"""Pages are stored in groups: those that have come meanwhile in one transaction, a second of storing at most in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, func, select, update

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.leases import LEASE_OF_CALLS
from asapp.models import ApiUsage, Contact, RunStatus, SyncRun
from asapp.salesforce.pages_ahead import PagesAhead
from asapp.salesforce.records import ContactPage
from asapp.sync import apply_page, reader, runs
from asapp.sync.run_context import PAGES_AHEAD
from devtools.waiting import wait_for
from orgsim import Running
from tests.syncing import Died, Office, contacts_here

PAGE = 200


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    office = Office(org)
    office.pages_ahead = PAGES_AHEAD
    office.org.change_settings(page_sizes=PAGE)
    return office


def let_pages_come(
    office: Office, monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None] = lambda group: None
) -> list[int]:
    """Let as many pages come before each group is stored as were asked for; return a list that gets each group's size.

    then: is called with the group's number, from 1, before it is stored.
    """
    store, take, sizes = reader.apply_pages, PagesAhead.take, []

    def take_all(ahead: PagesAhead) -> list[ContactPage]:
        wait_for(lambda: ahead._come.qsize() == ahead.outstanding, "for the pages that were asked for")
        return take(ahead)

    def store_group(context: Any, pages: Sequence[Any], **how: Any) -> int:
        db.session.commit()
        sizes.append(len(pages))
        then(len(sizes))
        return store(context, pages, **how)

    monkeypatch.setattr(PagesAhead, "take", take_all)
    monkeypatch.setattr(reader, "apply_pages", store_group)
    return sizes


def progress_of(
    run_id: Callable[[], int], then: Callable[[], None] = lambda: None
) -> tuple[list[int], Callable[[], None]]:
    """Return a list that gets the rows read of each commit that moves a run on, and what ends that; then: is called at each."""
    seen: list[int] = []
    reading = [0]

    def on_execute(_conn: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool) -> None:
        if statement.startswith("UPDATE sync_runs") and "read=" in statement.replace('"', ""):
            reading[0] += 1

    def on_commit(connection: Any) -> None:
        if reading[0]:
            reading[0] = 0
            read = connection.scalar(select(SyncRun.read).where(SyncRun.id == run_id()))
            seen.append(read)
            then()

    event.listen(db.engine, "before_cursor_execute", on_execute)
    event.listen(db.engine, "commit", on_commit)

    def end() -> None:
        event.remove(db.engine, "before_cursor_execute", on_execute)
        event.remove(db.engine, "commit", on_commit)

    return seen, end


def test_pages_that_come_while_rows_are_stored_are_stored_in_one_transaction(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.fill(8 * PAGE)
    sizes = let_pages_come(office, monkeypatch)
    run = office.sync()
    assert (run.status, run.read, run.created) == (RunStatus.COMPLETE, 8 * PAGE, 8 * PAGE)
    assert sizes == [1, 3, 3, 1]
    assert run.is_balanced


def test_a_transaction_ends_with_the_page_that_fills_its_second(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.fill(5 * PAGE)
    monkeypatch.setattr(apply_page, "COMMIT_EVERY_S", 0.0)
    let_pages_come(office, monkeypatch)
    run = office.start()
    seen, end = progress_of(lambda: run_id)
    run_id = run.id
    office.resume(run)
    end()
    assert seen == [PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE, 5 * PAGE]


def test_progress_moves_with_each_page_of_a_slow_org(office: Office) -> None:
    office.fill(5 * PAGE)
    # The org has the next page ready when the one before is stored, and not earlier.
    gates = [Event() for _ in range(4)]
    for gate in gates:
        office.org.trouble.add("slow", kind="query_more", seconds=10.0, times=1, gate=gate)
    coming = iter([*gates, Event()])
    run = office.start()
    seen, end = progress_of(lambda: run_id, lambda: next(coming).set())
    run_id = run.id
    office.resume(run)
    end()
    assert seen == [PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE, 5 * PAGE]


def test_a_death_in_the_middle_of_a_group_loses_that_group_alone(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = office.fill(6 * PAGE)
    apply, pages = apply_page.apply_page, 0

    def die(*arguments: Any, **how: Any) -> dict[str, Any]:
        nonlocal pages
        pages += 1
        if pages == 3:  # the second one of the second group
            raise Died
        return apply(*arguments, **how)

    sizes = let_pages_come(office, monkeypatch)
    monkeypatch.setattr(apply_page, "apply_page", die)
    run = office.sync()
    assert (run.status, run.read, sizes) == (RunStatus.RUNNING, PAGE, [1, 3])
    assert len(contacts_here(office.connection)) == PAGE
    office.let_lease_run_out(run)
    run = office.resume(run)
    assert (run.status, run.tries) == (RunStatus.COMPLETE, 1)
    assert run.read == run.created == len(ids)
    assert {contact.salesforce_id for contact in contacts_here(office.connection)} == set(ids)


def test_a_cancel_counts_from_the_next_page_on_though_its_call_was_counted_long_ago(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.fill(4 * PAGE)  # after the first page, all calls are counted at once
    run = office.start()

    def cancel(group: int) -> None:
        if group == 1:
            runs.request_cancel(office.reload(run))

    sizes = let_pages_come(office, monkeypatch, cancel)
    run = office.resume(run)
    assert (run.status, run.read, sizes) == (RunStatus.CANCELLED, PAGE, [1])
    assert len(contacts_here(office.connection)) == PAGE


def test_a_group_of_a_worker_that_lost_its_run_leaves_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.fill(4 * PAGE)
    run = office.start()
    run_id = run.id

    def lose(group: int) -> None:
        if group == 2:
            later = {"lease": "of another worker", "lease_until": utcnow() + LEASE_OF_CALLS}
            db.session.execute(update(SyncRun).where(SyncRun.id == run_id).values(**later))
            db.session.commit()

    let_pages_come(office, monkeypatch, lose)
    run = office.resume(run)
    assert (run.status, run.read) == (RunStatus.RUNNING, PAGE)
    assert db.session.scalar(select(func.count()).select_from(Contact)) == PAGE


@pytest.mark.parametrize("sizes", [[PAGE, 3 * PAGE], [3 * PAGE, PAGE]], ids=["growing", "shrinking"])
def test_as_many_calls_are_counted_as_are_made_though_pages_have_other_sizes_than_the_first(
    office: Office, sizes: list[int]
) -> None:
    office.org.change_settings(page_sizes=sizes)
    office.fill(7 * PAGE)
    assert office.sync().is_complete
    assert_calls_are_counted(office)


def test_calls_that_were_counted_and_not_made_are_taken_back_when_a_run_stops(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.fill(8 * PAGE)
    office.org.trouble.add("slow", kind="query_more", seconds=0.3)
    apply = reader.apply_pages

    def stop(*arguments: Any, **how: Any) -> int:
        office.stopping = True
        return apply(*arguments, **how)

    monkeypatch.setattr(reader, "apply_pages", stop)
    run = office.sync()
    assert (run.status, run.read) == (RunStatus.QUEUED, PAGE)
    assert_calls_are_counted(office)


def assert_calls_are_counted(office: Office) -> None:
    made = office.org.calls.counted()
    db.session.rollback()
    assert db.session.scalars(select(SyncRun.api_calls)).one() == made
    assert db.session.scalar(select(func.sum(ApiUsage.calls))) == made
