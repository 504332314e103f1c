"""What a sync costs the firm's allowance, by the org's own log."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orgsim import Running
from tests.syncing import Office


@pytest.fixture
def office(app: object, org: Running) -> Office:
    return Office(org)


def calls_of(office: Office, mark: int) -> int:
    return office.org.calls.counted(mark)


def test_a_sync_in_which_nothing_changed_is_one_call_also_after_an_import_with_one_stamp(office: Office) -> None:
    stamp = office.org.clock.now()
    office.org.add_contacts(
        [
            {"owner_id": office.user, "last_name": f"Śliwa {n}", "email": f"c{n}@fjord.example", "stamp": stamp}
            for n in range(5000)
        ]
    )
    office.org.clock.advance(20 * 60)
    assert office.sync().created == 5000
    for _ in range(2):
        before, mark = office.snapshot(), office.org.calls.mark()
        run = office.sync()
        assert (run.status, run.read, run.api_calls, calls_of(office, mark)) == ("complete", 0, 1, 1)
        assert office.snapshot() == before
        office.org.clock.advance(3600)


def test_a_full_sync_of_n_takes_n_by_2000_calls(office: Office) -> None:
    office.fill(6001)
    mark = office.org.calls.mark()
    run = office.sync()
    assert (run.created, run.api_calls, calls_of(office, mark)) == (6001, 4, 4)


def test_a_hundred_changes_among_many_take_one_call(office: Office) -> None:
    ids = office.fill(6000)
    office.sync()
    office.org.clock.advance(3600)
    for salesforce_id in ids[:100]:
        office.org.update_contact(salesforce_id, last_name="Changed")
    mark = office.org.calls.mark()
    run = office.sync()
    assert (run.read, run.updated) == (100, 100)
    assert calls_of(office, mark) == run.api_calls == 1


def test_a_few_departures_take_a_sweep_and_a_look(office: Office) -> None:
    ids = office.fill(3000)
    office.sync()
    office.org.clock.advance(3600)
    office.org.give(ids[0], office.colleague)
    run = office.sync()
    assert run.also == {"reassigned": 1}
    assert run.api_calls == 1 + 1 + 2 + 1  # the opening, the same again, two pages of Ids, one lookup


def test_calls_stay_within_the_partners_share_for_every_kind_of_run(office: Office) -> None:
    office.fill(1000)
    office.org.change_settings(page_sizes=200, api_limit=600)
    partner = office.connection.partner
    partner.api_share_percent = 1  # of 600: six calls, and the first sync makes five
    office.save()
    office.sync()
    office.org.clock.advance(3600)
    assert office.sync().is_complete
    run = office.sync()
    assert (run.is_failed, run.error_code) == (True, "share_used_up")
    assert partner.paused_until is not None
    assert partner.paused_until - run.finished_at < timedelta(hours=26)  # type: ignore[operator]
