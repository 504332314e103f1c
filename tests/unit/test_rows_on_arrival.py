"""Rows from Salesforce: which are accepted, which are left out and named, and which answers are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from asapp.models import Reason
from asapp.salesforce.errors import TryLater
from asapp.salesforce.fields import ReadFields, all_fields, fields_of_key, find_named, is_more
from asapp.salesforce.records import (
    Bounce,
    ContactPage,
    Sighting,
    Unreadable,
    contact_of,
    created_of,
    lead_of,
    moment_of,
    readable,
    sighting_of,
)
from asapp.sync.departures import judge_sighting

OWN, STANDARD = "Do_Not_Email__c", "HasOptedOutOfEmail"
SOLICIT_NAME = "HasOptedOutSolicit"
SOLICIT = f"Individual.{SOLICIT_NAME}"
FIELDS = all_fields("Contact", (STANDARD,))
ROSE, OWNER = "003aj000002oTldAAE", "0055g00000AbCdEAAV"
STAMP = datetime(2026, 5, 6, 11, 36, 42, tzinfo=UTC)
EMAIL = "rose@edge.com"


def row(**changes: Any) -> dict[str, Any]:
    plain = {
        "Id": ROSE,
        "FirstName": "Rose",
        "LastName": "Gonzalez",
        "Email": EMAIL,
        STANDARD: False,
        "OwnerId": OWNER,
        "SystemModstamp": "2026-05-06T11:36:42.000+0000",
        "IsDeleted": False,
        "MasterRecordId": None,
        "EmailBouncedDate": None,
        "EmailBouncedReason": None,
        "IsEmailBounced": False,
    }
    return plain | changes


def lead_row(**changes: Any) -> dict[str, Any]:
    return row(Id="00Qaj000002oTldAAE", IsConverted=False, ConvertedContactId=None) | changes


def page(*rows: Any) -> ContactPage:
    return ContactPage(list(rows), len(rows), None, FIELDS)


WRONG = {
    "an Id of another kind": {"Id": "00Qaj000002oTldAAE"},
    "a cut-off Id": {"Id": "003x"},
    "a number for an Id": {"Id": 5},
    "no Id": {"Id": None},
    "an Id with something in it": {"Id": "003aj000002oTld'--"},
    "an Id in other letters": {"Id": "003aj000002oTldÄAE"},
    "an owner who is none": {"OwnerId": True},
    "deleted as a text": {"IsDeleted": "true"},
    "deleted as a number": {"IsDeleted": 1},
    "deleted or not: nothing": {"IsDeleted": None},
    "merged into something else": {"MasterRecordId": "nobody"},
    "NUL in the name": {"LastName": "Gon\0zalez"},
    "half a character": {"FirstName": "Rose \ud83d"},
    "NUL in the address": {"Email": "rose\0@edge.com"},
    "a name of no known length": {"FirstName": "x" * 81},
    "a last name of no known length": {"LastName": "x" * 121},
    "an address of no known length": {"Email": "x" * 250 + "@x.example"},
    "a number for a name": {"LastName": 7},
    "a stamp without a zone": {"SystemModstamp": "2026-05-06T11:36:42"},
    "a stamp that is none": {"SystemModstamp": "yesterday"},
    "a number for a stamp": {"SystemModstamp": 1778067402},
    "a stamp before all time in UTC": {"SystemModstamp": "0001-01-01T00:00:00+1400"},
    "a stamp after all time in UTC": {"SystemModstamp": "9999-12-31T23:59:59-1200"},
    "a bounce after all time": {"EmailBouncedDate": "9999-12-31T23:59:59-1200"},
    "a bounce at no time": {"EmailBouncedDate": "lately"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_row_with_something_wrong_in_it_is_left_out_and_the_others_count(changes: dict[str, Any]) -> None:
    found = page(row(), row(**changes))
    assert [record.id for record in found.records] == [ROSE]
    salesforce_id, email = ("Id" not in changes and ROSE) or None, "" if {"Id", "Email"} & set(changes) else EMAIL
    assert found.unreadable == [Unreadable(salesforce_id, is_opted_out=False, email=email)]


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_one_such_row_alone_is_no_reason_to_refuse_the_answer(changes: dict[str, Any]) -> None:
    assert page(row(**changes)).records == []


@pytest.mark.parametrize("missing", ["Id", "Email", STANDARD, "IsDeleted", "SystemModstamp"])
def test_an_answer_without_a_field_that_was_asked_for_is_none(missing: str) -> None:
    bad = {name: value for name, value in row().items() if name != missing}
    with pytest.raises(TryLater, match="unreadable_answer"):
        _ = page(bad, bad).records
    assert len(page(row(), bad, None).records) == 1


@pytest.mark.parametrize("value", [True, "false", 0, None, "no"])
def test_of_a_row_that_cannot_be_read_anything_but_no_counts_as_opted_out(value: Any) -> None:
    assert page(row(IsDeleted=1, **{STANDARD: value})).unreadable == [Unreadable(ROSE, is_opted_out=True, email=EMAIL)]


def test_a_moment_of_another_zone_is_that_of_utc() -> None:
    assert moment_of("2026-05-06T13:36:42.000+0200") == STAMP
    assert moment_of("2026-05-06T13:36:42.000+0200").tzinfo is UTC


@pytest.mark.parametrize("salesforce_id", ["x", ROSE, "00Qaj000002oTldAAE0", None, 5])
def test_what_was_created_has_the_id_of_a_lead(salesforce_id: Any) -> None:
    with pytest.raises(ValueError, match="Id"):
        created_of({"success": True, "id": salesforce_id})


def test_an_id_of_15_characters_is_stored_with_18() -> None:
    [record] = page(row(Id=ROSE[:15])).records
    assert record.id == ROSE


def test_leads_and_what_a_look_shows_are_checked_as_well() -> None:
    assert lead_of(lead_row(), FIELDS).id == "00Qaj000002oTldAAE"
    for wrong in ({"Id": ROSE}, {"IsConverted": "true"}, {"IsDeleted": 0}, {"ConvertedContactId": OWNER}):
        assert readable([lead_row(), lead_row(**wrong)], lambda each: lead_of(each, FIELDS))[1] == [lead_row(**wrong)]
    with pytest.raises(ValueError, match="neither true nor false"):
        sighting_of(row(IsDeleted="false"), FIELDS)


def test_a_lookup_with_an_unreadable_row_makes_no_contact_inactive() -> None:
    unknown = Sighting(ROSE, "", is_deleted=False, master_record_id=None, is_readable=False)
    assert judge_sighting(unknown, OWNER) is None
    assert judge_sighting(unknown._replace(is_readable=True), OWNER) == Reason.REASSIGNED


# --- what counts as opted out, and as bounced


@pytest.mark.parametrize(
    ("own", "standard", "opted_out"),
    [(False, False, False), (True, False, True), (False, True, True), (None, False, True)],
)
def test_one_of_several_fields_is_enough(own: Any, standard: Any, opted_out: bool) -> None:
    record = contact_of(row(**{OWN: own, STANDARD: standard}), all_fields("Contact", (OWN,)))
    assert record.is_opted_out is opted_out


@pytest.mark.parametrize(
    ("own", "individual_id", "individual", "opted_out", "is_hidden"),
    [
        (False, None, None, False, False),
        (False, "0PK", {SOLICIT_NAME: False}, False, False),
        (False, "0PK", {SOLICIT_NAME: True}, True, False),
        (False, "0PK", {SOLICIT_NAME: None}, True, False),
        (False, "0PK", None, True, True),
        (True, "0PK", None, True, False),
    ],
)
def test_a_consent_record_counts_and_one_that_cannot_be_seen_counts_as_opted_out(
    own: bool, individual_id: str | None, individual: Any, opted_out: bool, is_hidden: bool
) -> None:
    fields = all_fields("Contact", (OWN, SOLICIT))
    record = contact_of(row(**{OWN: own, "IndividualId": individual_id, "Individual": individual}), fields)
    assert (record.is_opted_out, record.is_consent_hidden) == (opted_out, is_hidden)


@pytest.mark.parametrize(
    ("hidden", "named"),
    [
        ("", OWN),
        (OWN.lower(), OWN),
        ("individualid", SOLICIT),
        ("Individual", SOLICIT),
        (SOLICIT_NAME, SOLICIT),
        ("Title", None),
        (STANDARD, None),
    ],
)
def test_a_hidden_field_is_the_firms_also_as_a_part_of_a_path(hidden: str, named: str | None) -> None:
    assert find_named(hidden, (OWN, SOLICIT)) == named


def test_a_related_field_is_queried_with_the_reference_to_its_record() -> None:
    assert all_fields("Contact", ("Consent__r.No_Mail__c", SOLICIT)).opt_out_columns[-2:] == (
        "Consent__c",
        "IndividualId",
    )


@pytest.mark.parametrize(
    ("changes", "bounce"),
    [
        ({}, Bounce(None)),
        ({"EmailBouncedDate": "2026-05-01T10:00:00.000+0000"}, Bounce(datetime(2026, 5, 1, 10, tzinfo=UTC))),
        ({"IsEmailBounced": True, "EmailBouncedReason": "550 unknown"}, Bounce(STAMP, "550 unknown")),
        ({"IsEmailBounced": True, "EmailBouncedReason": "5\0" + "x" * 300}, Bounce(STAMP, "5" + "x" * 254)),
        ({"IsEmailBounced": True, "EmailBouncedReason": 5}, Bounce(STAMP)),
    ],
)
def test_a_bounce_has_a_moment_and_a_reason_that_can_be_stored(changes: dict[str, Any], bounce: Bounce) -> None:
    assert contact_of(row(**changes), FIELDS).bounce == bounce


def test_where_bounces_are_hidden_they_are_unknown() -> None:
    assert contact_of(row(IsEmailBounced=True), ReadFields((STANDARD,))).bounce is None


def test_only_a_persons_contact_brings_its_account() -> None:
    fields, account = all_fields("Contact", (STANDARD,), has_persons=True), "001aj000002oTldAAE"
    person = contact_of(row(IsPersonAccount=True, AccountId=account), fields)
    business = contact_of(row(IsPersonAccount=False, AccountId=account), fields)
    assert (person.account_id, business.account_id) == (account, None)


# --- which fields are read


def test_the_standard_field_is_named_once() -> None:
    assert all_fields("Contact", ("hasoptedoutofemail",)).opt_outs == ("hasoptedoutofemail",)
    assert all_fields("Lead", (OWN,)).opt_outs == (OWN, STANDARD)
    assert "IsEmailBounced" not in all_fields("Lead", (OWN,)).names


@pytest.mark.parametrize(
    ("hidden", "left"),
    [
        (STANDARD, f"{OWN},EmailBouncedDate"),
        ("emailbouncedreason", f"{OWN},{STANDARD}"),
        ("", OWN),
        (OWN, None),
        ("Title", None),
    ],
)
def test_only_the_firms_own_field_cannot_be_spared(hidden: str, left: str | None) -> None:
    fewer = all_fields("Contact", (OWN,)).without(hidden)
    assert (fewer.key if fewer else None) == left


def test_a_key_tells_what_was_read() -> None:
    for key in (f"{OWN},{STANDARD},EmailBouncedDate", f"{OWN},EmailBouncedDate", f"{OWN},{STANDARD}", OWN):
        assert fields_of_key(key, all_fields("Contact", (OWN,), has_persons=True)).key == key
    several = all_fields("Contact", (OWN, SOLICIT), has_persons=True)
    assert several.key == f"{OWN}+{SOLICIT},{STANDARD},EmailBouncedDate,IsPersonAccount"
    assert fields_of_key(several.key, several) == several
    assert not several.without("accountid").persons
    everything = all_fields("Contact", (OWN,))
    assert fields_of_key(None, everything) == fields_of_key(STANDARD, everything) == everything


@pytest.mark.parametrize(
    ("now", "before", "more"),
    [
        (f"{OWN},{STANDARD}", OWN, True),
        (OWN, f"{OWN},{STANDARD}", False),
        (STANDARD, f"{OWN},{STANDARD}", True),
        (OWN, OWN, False),
        (OWN, None, True),
        (f"{OWN}+{SOLICIT},{STANDARD}", f"{OWN},{STANDARD}", True),
        (f"{OWN},{STANDARD}", f"{OWN}+{SOLICIT},{STANDARD}", True),
    ],
)
def test_more_fields_or_another_field_need_a_full_read(now: str, before: str | None, more: bool) -> None:
    assert is_more(now, before) is more
