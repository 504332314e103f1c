"""Where a run reads: from a quarter of an hour before the last complete run's first answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from asapp.models import Connection, SyncRun
from asapp.sync.watermark import OVERLAP, next_window, resume_point, start_of

WATERMARK = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


def test_without_a_watermark_everything_is_read() -> None:
    assert start_of(None) is None


def test_a_run_reads_a_quarter_of_an_hour_again() -> None:
    assert start_of(WATERMARK) == datetime(2026, 5, 6, 11, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed_before_the_last_run", "is_read_again"),
    [(timedelta(minutes=20), False), (timedelta(minutes=10), True), (OVERLAP, True)],
)
def test_a_change_is_read_again_within_the_overlap_only(
    changed_before_the_last_run: timedelta, is_read_again: bool
) -> None:
    start = start_of(WATERMARK)
    assert start is not None
    assert (WATERMARK - changed_before_the_last_run >= start) is is_read_again


def test_a_connection_goes_on_from_its_watermark() -> None:
    connection = Connection(watermark=WATERMARK, opt_out_field_read="HasOptedOutOfEmail")
    assert next_window(connection, "HasOptedOutOfEmail") == WATERMARK - OVERLAP


@pytest.mark.parametrize("field_read", [None, "HasOptedOutOfEmail"])
def test_a_new_opt_out_field_starts_a_full_read(field_read: str | None) -> None:
    connection = Connection(watermark=WATERMARK, opt_out_field_read=field_read)
    assert next_window(connection, "No_Mail__c") is None


def test_a_connection_that_never_synced_reads_everything() -> None:
    assert next_window(Connection(), "HasOptedOutOfEmail") is None


# Where an interrupted run resumes

EARLY, LATE = WATERMARK - timedelta(hours=1), WATERMARK - timedelta(minutes=5)


def test_a_run_without_a_checkpoint_begins_at_its_start() -> None:
    assert resume_point(SyncRun(opened_at=WATERMARK)) == (None, None)


def test_behind_a_checkpoint_that_no_late_commit_can_reach_nothing_is_read_again() -> None:
    run = SyncRun(opened_at=WATERMARK, checkpoint_stamp=EARLY, checkpoint_id="003a")
    assert resume_point(run) == ((EARLY, "003a"), None)


@pytest.mark.parametrize(
    ("sure", "read_again_from"),
    [({"sure_stamp": EARLY, "sure_id": "003a"}, (EARLY, "003a")), ({}, None)],
    ids=["some are sure", "none is sure"],
)
def test_before_a_checkpoint_that_is_not_sure_rows_are_read_again_behind_the_last_sure_one(
    sure: dict[str, object], read_again_from: tuple[datetime, str] | None
) -> None:
    run = SyncRun(opened_at=WATERMARK, checkpoint_stamp=LATE, checkpoint_id="003b", **sure)
    assert resume_point(run) == ((LATE, "003b"), (WATERMARK - OVERLAP, read_again_from))
