"""Every reason that a run stores for a row or a change has a text on the receipt, and no text is unused."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

from asapp.contacts.status import NO_EMAIL
from asapp.messages.contacts import REASONS
from asapp.messages.runs import (
    ALSO,
    BACK_REASONS,
    OFF_REASONS,
    SKIPPED,
    STOPPED,
    TRIGGERS,
    SumLine,
    account_of,
    memberships_moved,
    why_back,
    why_off,
)
from asapp.models import Reason, RunTrigger, SyncRun
from asapp.models.run import SWITCHED_OFF, SWITCHED_ON, Also, Skipped, StopReason, count_off
from asapp.salesforce.records import Bounce, ContactRecord, Sighting
from asapp.sync.departures import judge_sighting
from asapp.sync.row_rules import RowClass, StoredContact, judge

ME, JONAS, ID, OTHER = "0055g000000000Me", "0055g000000000Jo", "0035g00000KqT2bAAI", "0035g00000KqT9zAAI"
STAMP = datetime(2026, 5, 6, tzinfo=UTC)
BOUNCES = (None, Bounce(None, ""), Bounce(STAMP, "550"))
DEPARTED = (None, NO_EMAIL, Reason.DELETED, Reason.MERGED, Reason.REASSIGNED, Reason.GONE)
# Decided by the end of a run, or before a row is judged.
DECIDED_ELSEWHERE = {
    Skipped.HELD,
    Skipped.DISCARDED,
    Skipped.NOT_YOURS,
    Skipped.HIDDEN_HERE,
    Skipped.ERASED_HERE,
    Skipped.SIGNED_UP,
    Skipped.UNREADABLE,
}


def reasons_given() -> dict[RowClass, set[str]]:
    """Classify every kind of row against everything that may be stored; return the reasons by class."""
    given: dict[RowClass, set[str]] = {row_class: set() for row_class in RowClass}
    rows = [
        ContactRecord(ID, "Rose", "Gonzalez", email, is_out, ME, STAMP, is_deleted, master, bounce)
        for email, is_out, (is_deleted, master), bounce in product(
            ("rose@edge.example", ""), (False, True), ((False, None), (True, None), (True, OTHER)), BOUNCES
        )
    ]
    rows += [row._replace(is_consent_hidden=True) for row in rows if row.is_opted_out]
    stored = [None] + [
        StoredContact(
            1,
            "Rose",
            "Gonzalez",
            "rose@edge.example",
            is_out,
            departed,
            None,
            "",
            None,
            is_twin,
            is_hidden,
            None,
            STAMP,
        )._replace(bounced_at=bounced_at)
        for is_out, is_twin, departed, is_hidden, bounced_at in product(
            (False, True), (False, True), DEPARTED, (False, True), (None, STAMP)
        )
    ]
    for row, known in product(rows, stored):
        verdict = judge(row, known)
        if verdict.reason is not None:
            given[verdict.row_class].add(str(verdict.reason))
    return given


def test_every_row_that_is_left_out_has_its_words_and_no_other_word_is_there() -> None:
    assert set(SKIPPED) == set(Skipped)
    assert reasons_given()[RowClass.SKIPPED] | DECIDED_ELSEWHERE == set(Skipped)


def test_every_reason_of_being_switched_off_or_on_has_its_words_and_no_other_word_is_there() -> None:
    given = reasons_given()
    at_the_end = given[RowClass.NOMINATED]  # counted as inactive once the run has ended
    assert given[RowClass.DEACTIVATED] | at_the_end == set(OFF_REASONS)
    assert given[RowClass.REACTIVATED] | SWITCHED_ON == set(BACK_REASONS)
    assert all(why_off(reason) for reason in given[RowClass.DEACTIVATED] | at_the_end | SWITCHED_OFF)
    assert all(why_back(reason) for reason in given[RowClass.REACTIVATED] | SWITCHED_ON)


def test_everything_that_is_changed_without_a_row_has_its_words() -> None:
    assert set(ALSO) == set(Also)
    assert set(Also) == SWITCHED_OFF | SWITCHED_ON | {Also.MEMBERSHIPS_MOVED, Also.CONVERTED, Also.LEFT_INACTIVE}
    assert set(REASONS) >= SWITCHED_OFF - {Also.SUPPRESSED}
    assert all(why_off(reason) for reason in SWITCHED_OFF)


def test_an_account_adds_up_down_and_across() -> None:
    run = SyncRun(
        created=12,
        updated=21,
        unchanged=16,
        adopted=0,
        reactivated=1,
        deactivated=3,
        nominated=0,
        read=56,
        skipped={"opted_out": 2, "no_email": 1},
        also={"reassigned": 1, "deleted": 1, "memberships_moved": 7, "twin_back": 2, "left_inactive": 1},
    )
    reasons = {"deactivated": {"opted_out": 2, "deleted": 1}, "reactivated": {"reassigned": 1}, "updated": {"": 21}}
    lines = account_of(run, reasons)
    assert sum(line.read for line in lines) == run.read
    for line in lines:
        assert not line.parts or sum(part.total for part in line.parts) == line.total, line.label
    back = next(line for line in lines if line.label == "Active again")
    assert [tuple(part[:3]) for part in back.parts] == [
        ("the same address no longer opted out", 0, 2),
        ("yours again in Salesforce", 1, 0),
    ]
    assert SumLine("Inactive already when they left you", 0, 1) in lines
    off = next(line for line in lines if line.label == "Made inactive")
    assert (off.read, off.found, off.total) == (3, 2, count_off(run))
    assert [tuple(part[:3]) for part in off.parts] == [
        ("deleted in Salesforce", 1, 1),
        ("opted out of email", 2, 0),
        ("belonging to someone else now", 0, 1),
    ]
    assert memberships_moved(run) == 7


def test_what_has_no_reason_any_more_is_a_part_too() -> None:
    run = SyncRun(read=3, deactivated=3, created=0, updated=0, unchanged=0, adopted=0, reactivated=0, nominated=0)
    run.skipped, run.also = {}, {"gone": 2}
    (off,) = (line for line in account_of(run, {"deactivated": {"unheard_of": 1}}) if line.label == "Made inactive")
    assert [tuple(part[:3]) for part in off.parts] == [
        ("no longer visible in Salesforce", 0, 2),
        ("for other reasons, or no longer here", 3, 0),
    ]


def test_every_departure_is_among_what_may_be_changed_without_a_row() -> None:
    seen = [None, *(Sighting(ID, owner, is_deleted, master) for owner, is_deleted, master in product(
        (ME, JONAS), (False, True), (None, OTHER)))]  # fmt: skip
    reasons = {reason for each in seen if (reason := judge_sighting(each, ME))}
    assert reasons == {Reason.DELETED, Reason.MERGED, Reason.REASSIGNED, Reason.GONE}
    assert reasons <= {Reason(each) for each in SWITCHED_OFF if each in set(Reason)}


def test_everything_that_starts_or_stops_a_run_has_its_words() -> None:
    assert set(TRIGGERS) == set(RunTrigger)
    assert set(STOPPED) == set(StopReason)
