"""Neutral records: what Salesforce answers, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from asapp.salesforce.errors import SalesforceError, TryLater, sort_record_error

T = TypeVar("T")


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


class ContactPage:
    """A page of a query. The next one can be asked for before the rows of this one are looked at.

    total: rows of the whole query. next_path: of the next page; None: this was the last one.
    """

    def __init__(self, rows: list[dict[str, Any]], total: int, next_path: str | None, opt_out_field: str) -> None:
        self.total = total
        self.next_path = next_path
        self._rows = rows
        self._opt_out_field = opt_out_field
        self._records: list[ContactRecord] = []

    @property
    def records(self) -> list[ContactRecord]:
        """Its rows, as they were when they were first looked at. Raises TryLater where one isn't what was asked for."""
        if self._rows:
            self._records = converted(self._rows, lambda row: contact_of(row, self._opt_out_field))
            self._rows = []
        return self._records


class LeadRecord(NamedTuple):
    """A row of Lead. is_opted_out: None where the user can't see it. email: empty where it wasn't asked for."""

    id: str
    email: str
    is_opted_out: bool | None
    owner_id: str
    is_converted: bool
    converted_contact_id: str | None
    is_deleted: bool
    system_modstamp: datetime
    master_record_id: str | None = None  # of the lead that this one was merged into
    created_by_id: str | None = None  # only where leads are looked at by Id


class LeadPage(NamedTuple):
    records: list[LeadRecord]
    next_path: str | None


class ContactMatch(NamedTuple):
    """A contact of the user's with an address that was looked for."""

    id: str
    email: str
    is_opted_out: bool | None


class NewLead(NamedTuple):
    """All that is ever sent of a lead."""

    first_name: str
    last_name: str
    email: str
    company: str
    source: str


class Created(NamedTuple):
    """What became of one record of a create: its Id, or why it was refused."""

    id: str | None
    error: SalesforceError | None = None


class Opening(NamedTuple):
    """The answer to a run's first question: a page, and how many contacts the user has.

    leads: the leads of the window, why they couldn't be read, or None where they weren't asked for.
    """

    page: ContactPage
    owned: int  # contacts of the user, now
    asked_at: datetime  # by Salesforce's clock; no later than when it began to work on the question
    answered_at: datetime
    leads: LeadPage | SalesforceError | None = None


class Sighting(NamedTuple):
    """What became of one Id: its row, deleted or not, whoever owns it."""

    id: str
    owner_id: str
    is_deleted: bool
    master_record_id: str | None
    is_opted_out: bool = False


def converted(rows: Iterable[dict[str, Any]], convert: Callable[[dict[str, Any]], T]) -> list[T]:
    """Return what convert makes of each row of an answer, or raise TryLater."""
    try:
        return [convert(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise TryLater("unreadable_answer", type(error).__name__) from None


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


def sighting_of(row: Mapping[str, Any], opt_out_field: str) -> Sighting:
    is_opted_out = row[opt_out_field] is not False  # as in contact_of()
    return Sighting(row["Id"], row["OwnerId"], row["IsDeleted"] is True, row["MasterRecordId"], is_opted_out)


def lead_of(row: Mapping[str, Any], opt_out_field: str | None) -> LeadRecord:
    """Return the record for a row of JSON; opt_out_field None: it wasn't asked for. KeyError, TypeError: see contact_of()."""
    return LeadRecord(
        row["Id"],
        row.get("Email") or "",
        row[opt_out_field] is not False if opt_out_field else None,
        row["OwnerId"],
        row["IsConverted"] is True,
        row["ConvertedContactId"],
        row["IsDeleted"] is True,
        datetime.fromisoformat(row["SystemModstamp"]),
        row["MasterRecordId"],
        row.get("CreatedById"),
    )


def match_of(row: Mapping[str, Any], opt_out_field: str | None) -> ContactMatch:
    return ContactMatch(row["Id"], row["Email"] or "", row[opt_out_field] is not False if opt_out_field else None)


def created_of(row: Mapping[str, Any]) -> Created:
    """Return what one row of a collection's answer says; KeyError or TypeError: it isn't one."""
    if row["success"] is True:
        return Created(str(row["id"]))
    entry = row["errors"][0]
    fields = [field for field in entry.get("fields") or [] if isinstance(field, str)]
    return Created(None, sort_record_error(str(entry["statusCode"]), str(entry.get("message") or ""), fields))
