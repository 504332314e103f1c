"""The class of one row that was read: every class of DESIGN's "Rules: syncing" 9, the first that fits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from asapp.contacts.status import NO_EMAIL
from asapp.models import LedgerOutcome, Reason
from asapp.salesforce.records import ContactRecord
from asapp.sync.row_rules import WITHOUT_EMAIL, Becomes, RowClass, RowVerdict, StoredContact, judge

STAMP = datetime(2026, 5, 6, 11, 36, 42, tzinfo=UTC)
ROSE = Becomes("Rose", "Gonzalez", "rose@edge.com", opted_out=False, departed=None)
OFF = ROSE._replace(opted_out=True)


def row(**changes: Any) -> ContactRecord:
    """Rose's row as Salesforce sends it: she has an address and has not opted out."""
    plain = ContactRecord(
        "003aj000002oTldAAE", "Rose", "Gonzalez", "rose@edge.com", False, "0055g00000AbCdEAAV", STAMP, False, None
    )
    return plain._replace(**changes)


def stored(**changes: Any) -> StoredContact:
    """Rose as she is stored here: active."""
    plain = StoredContact(
        1, "Rose", "Gonzalez", "rose@edge.com", False, None, None, "", None, False, False, None, STAMP
    )
    return plain._replace(**changes)


def stored_shell(**changes: Any) -> StoredContact:
    """Rose had an address here, then lost it: only the fact that she was here is stored."""
    return stored(first_name="", last_name="", email="", departed=NO_EMAIL)._replace(**changes)


OPTED_OUT = row(is_opted_out=True)
WITHOUT_ADDRESS = row(email="")
OPTED_OUT_WITHOUT_ADDRESS = row(is_opted_out=True, email="")
DELETED = row(is_deleted=True)
PERSON_MERGED = {"departed": "merged", "merged_into": "003aj000002oTleAAE", "account_id": "001aj000002oTldAAE"}
MERGED = row(is_deleted=True, master_record_id="003aj000002oTleAAE")

NEWCOMERS = {
    "a newcomer": (row(), None, RowVerdict(RowClass.CREATED, None, LedgerOutcome.SYNCED, ROSE)),
    "a newcomer whose address a strict eye would refuse": (
        row(email="b.levy@expressl&t.net"),
        None,
        RowVerdict(RowClass.CREATED, None, LedgerOutcome.SYNCED, ROSE._replace(email="b.levy@expressl&t.net")),
    ),
    "an opted-out newcomer": (OPTED_OUT, None, RowVerdict(RowClass.SKIPPED, Reason.OPTED_OUT, LedgerOutcome.OPTED_OUT)),
    "a newcomer without an address": (
        WITHOUT_ADDRESS,
        None,
        RowVerdict(RowClass.SKIPPED, NO_EMAIL, LedgerOutcome.NO_EMAIL),
    ),
    "a newcomer with neither counts as opted out": (
        OPTED_OUT_WITHOUT_ADDRESS,
        None,
        RowVerdict(RowClass.SKIPPED, Reason.OPTED_OUT, LedgerOutcome.OPTED_OUT),
    ),
    "a newcomer who is already deleted": (DELETED, None, RowVerdict(RowClass.SKIPPED, Reason.DELETED)),
    "a newcomer who is already merged away": (MERGED, None, RowVerdict(RowClass.SKIPPED, Reason.MERGED)),
    "a deleted newcomer who had opted out": (
        DELETED._replace(is_opted_out=True, email=""),
        None,
        RowVerdict(RowClass.SKIPPED, Reason.DELETED),
    ),
}
KNOWN_AND_ACTIVE = {
    "nothing changed": (row(), stored(), RowVerdict(RowClass.UNCHANGED, None, LedgerOutcome.SYNCED)),
    "only the stamp moved": (
        row(system_modstamp=STAMP.replace(year=2027)),
        stored(),
        RowVerdict(RowClass.UNCHANGED, None, LedgerOutcome.SYNCED),
    ),
    "a new first name": (
        row(first_name="Rosa"),
        stored(),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE._replace(first_name="Rosa")),
    ),
    "the first name went": (
        row(first_name=""),
        stored(),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE._replace(first_name="")),
    ),
    "a new last name": (
        row(last_name="Meyer"),
        stored(),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE._replace(last_name="Meyer")),
    ),
    "a new address": (
        row(email="rose@fjord.example"),
        stored(),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE._replace(email="rose@fjord.example")),
    ),
    "opted out": (
        OPTED_OUT,
        stored(),
        RowVerdict(RowClass.DEACTIVATED, Reason.OPTED_OUT, LedgerOutcome.OPTED_OUT, OFF),
    ),
    "opted out, and a new name: the first class that fits": (
        row(is_opted_out=True, last_name="Meyer"),
        stored(),
        RowVerdict(RowClass.DEACTIVATED, Reason.OPTED_OUT, LedgerOutcome.OPTED_OUT, OFF._replace(last_name="Meyer")),
    ),
    "lost the address": (
        WITHOUT_ADDRESS,
        stored(),
        RowVerdict(RowClass.DEACTIVATED, NO_EMAIL, LedgerOutcome.NO_EMAIL, WITHOUT_EMAIL),
    ),
    "lost the address and opted out: the opt-out is remembered": (
        OPTED_OUT_WITHOUT_ADDRESS,
        stored(),
        RowVerdict(RowClass.DEACTIVATED, NO_EMAIL, LedgerOutcome.OPTED_OUT, WITHOUT_EMAIL),
    ),
    "deleted: the end of the run decides": (DELETED, stored(), RowVerdict(RowClass.NOMINATED, Reason.DELETED)),
    "merged: the end of the run decides": (MERGED, stored(), RowVerdict(RowClass.NOMINATED, Reason.MERGED)),
}
KNOWN_AND_INACTIVE = {
    "opted in again": (
        row(),
        stored(opted_out=True),
        RowVerdict(RowClass.REACTIVATED, Reason.OPTED_OUT, LedgerOutcome.SYNCED, ROSE),
    ),
    "opted in again, with a new name": (
        row(last_name="Meyer"),
        stored(opted_out=True),
        RowVerdict(RowClass.REACTIVATED, Reason.OPTED_OUT, LedgerOutcome.SYNCED, ROSE._replace(last_name="Meyer")),
    ),
    "still opted out": (
        OPTED_OUT,
        stored(opted_out=True),
        RowVerdict(RowClass.UNCHANGED, None, LedgerOutcome.OPTED_OUT),
    ),
    "still opted out, with a new name": (
        row(is_opted_out=True, last_name="Meyer"),
        stored(opted_out=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.OPTED_OUT, OFF._replace(last_name="Meyer")),
    ),
    "was opted out, then lost the address": (
        OPTED_OUT_WITHOUT_ADDRESS,
        stored(opted_out=True),
        RowVerdict(RowClass.UPDATED, NO_EMAIL, LedgerOutcome.OPTED_OUT, WITHOUT_EMAIL),
    ),
    "was opted out, then deleted": (DELETED, stored(opted_out=True), RowVerdict(RowClass.NOMINATED, Reason.DELETED)),
    "twin of an opted-out record, nothing changed": (
        row(),
        stored(is_address_blocked=True),
        RowVerdict(RowClass.UNCHANGED, None, LedgerOutcome.SYNCED),
    ),
    "twin of an opted-out record, with a new name": (
        row(last_name="Meyer"),
        stored(is_address_blocked=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE._replace(last_name="Meyer")),
    ),
    "opted in again, but the twin has not": (
        row(),
        stored(opted_out=True, is_address_blocked=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE),
    ),
    "opted out like the twin": (
        OPTED_OUT,
        stored(is_address_blocked=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.OPTED_OUT, OFF),
    ),
    "hidden here, nothing changed": (
        row(),
        stored(is_hidden=True),
        RowVerdict(RowClass.UNCHANGED, None, LedgerOutcome.SYNCED),
    ),
    "hidden here, with a new name: the tombstone stays": (
        row(last_name="Meyer"),
        stored(is_hidden=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE._replace(last_name="Meyer")),
    ),
    "hidden here, then opted out": (
        OPTED_OUT,
        stored(is_hidden=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.OPTED_OUT, OFF),
    ),
    "hidden here, opted in again": (
        row(),
        stored(is_hidden=True, opted_out=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE),
    ),
    "hidden here, then lost the address": (
        WITHOUT_ADDRESS,
        stored(is_hidden=True),
        RowVerdict(RowClass.UPDATED, NO_EMAIL, LedgerOutcome.NO_EMAIL, WITHOUT_EMAIL),
    ),
    "hidden here, then deleted": (DELETED, stored(is_hidden=True), RowVerdict(RowClass.NOMINATED, Reason.DELETED)),
}
DEPARTED = {
    **{
        f"{reason.value}, and back": (
            row(),
            stored(departed=reason.value),
            RowVerdict(RowClass.REACTIVATED, reason.value, LedgerOutcome.SYNCED, ROSE),
        )
        for reason in (Reason.DELETED, Reason.MERGED, Reason.REASSIGNED, Reason.GONE)
    },
    "reassigned, and back with a new address": (
        row(email="rose@fjord.example"),
        stored(departed="reassigned"),
        RowVerdict(RowClass.REACTIVATED, "reassigned", LedgerOutcome.SYNCED, ROSE._replace(email="rose@fjord.example")),
    ),
    "reassigned, and back opted out": (
        OPTED_OUT,
        stored(departed="reassigned"),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.OPTED_OUT, OFF),
    ),
    "reassigned, and back opted in, as it was not before": (
        row(),
        stored(departed="reassigned", opted_out=True),
        RowVerdict(RowClass.REACTIVATED, "reassigned", LedgerOutcome.SYNCED, ROSE),
    ),
    "reassigned, and back without an address": (
        WITHOUT_ADDRESS,
        stored(departed="reassigned"),
        RowVerdict(RowClass.UPDATED, NO_EMAIL, LedgerOutcome.NO_EMAIL, WITHOUT_EMAIL),
    ),
    "reassigned, and back, but hidden here": (
        row(),
        stored(departed="reassigned", is_hidden=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE),
    ),
    "reassigned, and back, but the twin has opted out": (
        row(),
        stored(departed="reassigned", is_address_blocked=True),
        RowVerdict(RowClass.UPDATED, None, LedgerOutcome.SYNCED, ROSE),
    ),
    "a person who was merged, whose contact is only deleted, and read again": (
        DELETED,
        stored(**PERSON_MERGED),
        RowVerdict(RowClass.UNCHANGED),
    ),
    "deleted, and read again": (DELETED, stored(departed="deleted"), RowVerdict(RowClass.UNCHANGED)),
    "merged, and read again": (
        MERGED,
        stored(departed="merged", merged_into=MERGED.master_record_id),
        RowVerdict(RowClass.UNCHANGED),
    ),
    "merged, and now into another": (
        MERGED,
        stored(departed="merged", merged_into="003aj000002oTlfAAE"),
        RowVerdict(RowClass.NOMINATED, Reason.MERGED),
    ),
    "gone, and now its row says deleted": (
        DELETED,
        stored(departed="gone"),
        RowVerdict(RowClass.UPDATED, Reason.DELETED, None, ROSE._replace(departed="deleted")),
    ),
    "deleted, and now its row says merged": (
        MERGED,
        stored(departed="deleted", opted_out=True),
        RowVerdict(RowClass.NOMINATED, Reason.MERGED),
    ),
}
SHELLS = {
    "has an address again": (
        row(),
        stored_shell(),
        RowVerdict(RowClass.REACTIVATED, NO_EMAIL, LedgerOutcome.SYNCED, ROSE),
    ),
    "has an address again, but is hidden here": (
        row(),
        stored_shell(is_hidden=True),
        RowVerdict(RowClass.UPDATED, NO_EMAIL, LedgerOutcome.SYNCED, ROSE),
    ),
    "still has no address": (
        WITHOUT_ADDRESS,
        stored_shell(),
        RowVerdict(RowClass.SKIPPED, NO_EMAIL, LedgerOutcome.NO_EMAIL),
    ),
    "has an address again and has opted out: nothing is stored": (
        OPTED_OUT,
        stored_shell(),
        RowVerdict(RowClass.SKIPPED, Reason.OPTED_OUT, LedgerOutcome.OPTED_OUT),
    ),
    "was deleted without an address": (DELETED, stored_shell(), RowVerdict(RowClass.SKIPPED, Reason.DELETED)),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "newcomer": NEWCOMERS,
        "active": KNOWN_AND_ACTIVE,
        "inactive": KNOWN_AND_INACTIVE,
        "departed": DEPARTED,
        "shell": SHELLS,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize(("record", "known", "verdict"), CASES.values(), ids=CASES)
def test_a_row_falls_in_the_first_class_that_fits(
    record: ContactRecord, known: StoredContact | None, verdict: RowVerdict
) -> None:
    assert judge(record, known) == verdict


def test_every_class_but_adopted_is_reached() -> None:
    """Adopting takes a contact made by hand: sync/apply_page.py turns `created` into it."""
    assert {verdict.row_class for _, _, verdict in CASES.values()} == set(RowClass) - {RowClass.ADOPTED}


@pytest.mark.parametrize(("record", "known"), [case[:2] for case in CASES.values()], ids=CASES)
def test_the_same_row_read_a_second_time_changes_nothing(record: ContactRecord, known: StoredContact | None) -> None:
    first = judge(record, known)
    after = known if first.becomes is None else (known or stored())._replace(**first.becomes._asdict())
    second = judge(record, after)
    assert second.becomes is None
    assert second.row_class in (RowClass.UNCHANGED, RowClass.SKIPPED, RowClass.NOMINATED)
    assert second.outcome == first.outcome


@pytest.mark.parametrize(("record", "known"), [case[:2] for case in CASES.values()], ids=CASES)
def test_no_contact_who_opted_out_is_made_active(record: ContactRecord, known: StoredContact | None) -> None:
    verdict = judge(record, known)
    if record.is_opted_out:
        assert verdict.row_class not in (RowClass.CREATED, RowClass.REACTIVATED)
        assert verdict.becomes is None or verdict.becomes.opted_out or verdict.becomes.departed
