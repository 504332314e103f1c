"""A sweep or departures that take longer than a time slice go on where they stopped; no departure before a sweep's last page."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from asapp.core.extensions import db
from asapp.models import Departure, SyncRun
from asapp.panel.balance import balance
from asapp.sync import reader, settle, sweep
from orgsim import Running
from tests.syncing import Office, reasons_here


@pytest.fixture
def office(app: object, org: Running, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(sweep, "CHECKPOINT_EVERY_IDS", 400)
    office = Office(org)
    office.org.change_settings(page_sizes=200)
    return office


def sweeps_of(office: Office, mark: int) -> list[str]:
    """Return the queries of sweeps since a mark."""
    return [q for call in office.org.calls.since(mark) for q in call.soql if q.endswith("ORDER BY Id")]


def sync_and_stop_in_sweep(office: Office, page: int) -> SyncRun:
    """Start a run whose time slice ends while its sweep reads that page."""
    pages = 1

    def on_page(*_about: object) -> None:
        nonlocal pages
        pages += 1
        office.stopping = office.stopping or pages == page

    office.org.on_next_page(on_page)
    return office.sync()


def test_a_long_sweep_goes_on_behind_what_an_earlier_slice_has_seen(office: Office) -> None:
    ids = sorted(office.fill(1500))
    office.sync()
    office.org.clock.advance(3600)
    leavers = [ids[50], ids[700], ids[1450]]
    for salesforce_id in leavers:
        office.org.hide_contact(salesforce_id)
    mark = office.org.calls.mark()
    run = sync_and_stop_in_sweep(office, page=5)
    assert run.is_queued
    assert (run.swept, run.sweep_after_id) == (800, ids[801])  # of the first two, two were hidden
    assert db.session.query(Departure).count() == 0
    run = office.resume(run)
    assert run.is_complete
    assert run.also == {"gone": 3}
    assert {each for each, reason in reasons_here(office.connection).items() if reason} == set(leavers)
    first, second = sweeps_of(office, mark)
    assert "Id >" not in first
    assert f"Id > '{ids[801]}'" in second
    books = balance(office.reload(office.connection))
    assert books is not None
    assert (books.in_salesforce, books.rest) == (1497, 0)


def test_what_differs_is_read_before_the_place_is_marked(office: Office) -> None:
    ids = sorted(office.fill(1500))
    office.sync()
    office.org.clock.advance(3600)
    office.org.update_contact(ids[10], opted_out=True, stamp=office.org.clock.now().replace(year=2020))
    office.org.hide_contact(ids[1400])
    run = sync_and_stop_in_sweep(office, page=4)
    assert run.is_queued
    assert reasons_here(office.connection)[ids[10]] == "opted_out"
    office.resume(run)
    assert reasons_here(office.connection)[ids[10]] == "opted_out"
    assert reasons_here(office.connection)[ids[1400]] == "gone"


def test_a_sweep_that_fails_after_a_checkpoint_finds_no_departure(office: Office) -> None:
    ids = office.fill(1500)
    office.sync()
    office.org.clock.advance(3600)
    office.org.hide_contact(ids[0])
    office.org.trouble.add("truncated_json", kind="query_more", after=4)
    run = office.sync()
    assert run.is_failed
    assert run.swept == 800
    assert db.session.query(Departure).count() == 0
    assert set(reasons_here(office.connection).values()) == {None}


def test_the_next_run_sweeps_from_the_beginning(office: Office) -> None:
    ids = sorted(office.fill(1500))
    office.sync()
    office.org.clock.advance(3600)
    office.org.hide_contact(ids[1400])
    assert office.sync().is_complete
    office.org.hide_contact(ids[3])
    mark = office.org.calls.mark()
    run = office.sync()
    assert run.also == {"gone": 1}
    assert "Id >" not in sweeps_of(office, mark)[0]
    assert reasons_here(office.connection)[ids[3]] == "gone"


def test_a_sweep_of_a_few_thousand_writes_no_mark(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CHECKPOINT_EVERY_IDS", 50_000)
    ids = office.fill(1500)
    office.sync()
    office.org.clock.advance(3600)
    office.org.hide_contact(ids[3])
    run = office.sync()
    assert (run.also, run.sweep_after_id) == ({"gone": 1}, None)


def test_many_departures_that_are_applied_stop_within_a_page_and_go_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "CHUNK", 10)
    ids = office.fill(40)
    office.sync()
    for salesforce_id in ids:
        office.org.give(salesforce_id, office.colleague)
    assert office.sync().is_held

    def stop(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        office.stopping = office.stopping or statement.startswith("DELETE FROM departures")

    event.listen(db.engine, "before_cursor_execute", stop)
    run = office.approve()
    event.remove(db.engine, "before_cursor_execute", stop)
    assert run.is_queued
    assert run.also == {"reassigned": 10}
    run = office.resume(run)
    assert run.is_complete
    assert run.also == {"reassigned": 40}
    assert set(reasons_here(office.connection).values()) == {"reassigned"}


def test_a_second_reading_that_is_longer_than_a_slice_comes_to_its_end(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "TIME_SLICE_S", 0.6)
    ids = office.fill(1400)
    office.sync()
    office.org.clock.advance(3600)
    for salesforce_id in ids[1:]:
        office.org.update_contact(salesforce_id, first_name="New")
    office.org.hide_contact(ids[0])  # the counts differ, so all of them are read a second time
    office.org.clock.advance(60)
    office.org.trouble.add("slow", kind="data", seconds=0.1)
    run, slices = office.sync(), 1
    while run.is_queued and slices < 15:
        run, slices = office.resume(run), slices + 1
    assert run.is_complete
    assert 1 < slices < 15
    assert (run.updated, run.also) == (1399, {"gone": 1})
