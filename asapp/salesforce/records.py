"""Neutral records: what Salesforce answers, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class ContactRecord(NamedTuple):
    """A row of Contact. Empty fields are empty strings, except master_record_id."""

    id: str
    first_name: str
    last_name: str
    email: str
    is_opted_out: bool
    owner_id: str
    system_modstamp: datetime
    is_deleted: bool
    master_record_id: str | None


class ContactPage(NamedTuple):
    records: list[ContactRecord]
    total: int  # rows of the whole query
    next_path: str | None  # None: this was the last page


class Opening(NamedTuple):
    """The answer to a run's first question: a page, and how many contacts the user has."""

    page: ContactPage
    owned: int  # contacts of the user, now
    asked_at: datetime  # by Salesforce's clock; no later than when it began to work on the question
    answered_at: datetime


class Sighting(NamedTuple):
    """What became of one Id: its row, deleted or not, whoever owns it."""

    id: str
    owner_id: str
    is_deleted: bool
    master_record_id: str | None


def contact_of(row: Mapping[str, Any], opt_out_field: str) -> ContactRecord:
    """Return the record for a row of JSON. KeyError or TypeError: the row isn't what was asked for."""
    return ContactRecord(
        row["Id"],
        row["FirstName"] or "",
        row["LastName"] or "",
        row["Email"] or "",
        row[opt_out_field] is not False,  # anything but a plain "no" counts as opted out
        row["OwnerId"],
        datetime.fromisoformat(row["SystemModstamp"]),
        row["IsDeleted"] is True,
        row["MasterRecordId"],
    )


def sighting_of(row: Mapping[str, Any]) -> Sighting:
    return Sighting(row["Id"], row["OwnerId"], row["IsDeleted"] is True, row["MasterRecordId"])
