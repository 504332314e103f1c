"""Neutral records: Salesforce's answers as plain values, checked on arrival.

Values are checked strictly: an Id is an Id, a time has a zone, only false is "no", and a text can be stored. A row with a
wrong value is left out by name, and the others count. A look-up before a create is stricter: a missing row would lead to
a second Lead, so the whole answer has to be readable.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, Self, TypeVar

from asapp.salesforce.errors import SalesforceError, TryLater, sort_record_error
from asapp.salesforce.fields import (
    ACCOUNT_ID,
    BOUNCE_REASON,
    BOUNCED_AT,
    IS_BOUNCED,
    IS_PERSON,
    ReadFields,
    field_to_write,
    reference_of,
)
from asapp.salesforce.hosts import to_18

log = logging.getLogger(__name__)

T = TypeVar("T")
CONTACT_PREFIX, LEAD_PREFIX, ACCOUNT_PREFIX, CAMPAIGN_PREFIX = "003", "00Q", "001", "701"
FIRST_NAME_MAX, LAST_NAME_MAX, EMAIL_MAX = 80, 120, 254  # as stored here; Salesforce's limits are lower
BOUNCE_REASON_MAX = 255


class RecordKind(StrEnum):
    """What holds a person in Salesforce, as the API names it. prefix: how its Ids begin, which tells one from the other."""

    prefix: str

    CONTACT = "Contact", CONTACT_PREFIX
    LEAD = "Lead", LEAD_PREFIX

    def __new__(cls, value: str, prefix: str) -> Self:
        member = str.__new__(cls, value)
        member._value_, member.prefix = value, prefix  # read for every row, where a property would cost
        return member


LEAD = RecordKind.LEAD  # cheaper to find, row by row


def kind_of(salesforce_id: str) -> RecordKind:
    return RecordKind.LEAD if salesforce_id.startswith(LEAD_PREFIX) else RecordKind.CONTACT


class WrongValue(ValueError):
    """A value in a row that its field can't hold."""


class Bounce(NamedTuple):
    """What a row says about bounced mail. at: None if none has bounced."""

    at: datetime | None
    reason: str = ""


NO_BOUNCE = Bounce(None)


class ContactRecord(NamedTuple):
    """A row of Contact, or of Lead. Empty fields are empty strings, except master_record_id. bounce: None if it can't be seen.

    A converted Lead counts as merged into its contact: is_deleted, with the contact as master_record_id.
    is_consent_hidden: it counts as opted out only because its consent record can't be seen. account_id: of a person account,
    which is one with this contact; None for a contact of a business.
    """

    id: str
    first_name: str
    last_name: str
    email: str
    is_opted_out: bool
    owner_id: str
    system_modstamp: datetime
    is_deleted: bool
    master_record_id: str | None
    bounce: Bounce | None = None
    is_consent_hidden: bool = False
    account_id: str | None = None


class SweptRow(NamedTuple):
    """What a full check of Ids reads of a contact or open Lead. is_consent_hidden: as in ContactRecord."""

    id: str
    is_opted_out: bool
    is_consent_hidden: bool = False


class Unreadable(NamedTuple):
    """A row that can't be stored. id: None if it has no valid one. is_opted_out: true also if it can't be read."""

    id: str | None
    is_opted_out: bool
    email: str = ""  # if it can be read


class ContactPage:
    """A page of a query. Its rows are parsed when they are first needed, so the next page can be fetched before that.

    total: rows of the whole query; size: of this page. next_path: the next page's; None on the last one. kind: what its rows are.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        total: int,
        next_path: str | None,
        fields: ReadFields,
        kind: RecordKind = RecordKind.CONTACT,
    ) -> None:
        self.total = total
        self.size = len(rows)
        self.next_path = next_path
        self.kind = kind
        self._rows = rows
        self._fields = fields
        self._records: list[ContactRecord] = []
        self._unreadable: list[Unreadable] = []

    @property
    def records(self) -> list[ContactRecord]:
        """Return its rows as records, parsed once. Raises TryLater if no row has the fields that were queried."""
        self.parse()
        return self._records

    @property
    def unreadable(self) -> list[Unreadable]:
        """Return the rows that are not among the records."""
        self.parse()
        return self._unreadable

    def parse(self) -> None:
        """Make records of the rows, which take a third of their memory."""
        if self._rows:
            self._records, left_out = readable(self._rows, lambda row: contact_of(row, self._fields, self.kind))
            self._unreadable = [unreadable_of(row, self._fields, self.kind) for row in left_out]
            self._rows = []


class LeadRecord(NamedTuple):
    """A row of Lead. is_opted_out: None if the user can't see it. email: empty if it wasn't queried."""

    id: str
    email: str
    is_opted_out: bool | None
    owner_id: str
    is_converted: bool
    converted_contact_id: str | None
    is_deleted: bool
    system_modstamp: datetime
    master_record_id: str | None = None  # of the lead that this one was merged into
    created_by_id: str | None = None  # only when leads are queried by Id
    bounce: Bounce | None = None  # None if it can't be seen
    is_field_set: bool = False  # is the opt-out field true that we write?
    is_consent_hidden: bool = False  # as in ContactRecord


class LeadPage(NamedTuple):
    """people: the rows that are the user's own as they are stored; None if they were queried without names."""

    records: list[LeadRecord]
    next_path: str | None
    people: ContactPage | None = None


class LeadWindow(NamedTuple):
    """Since when to query Leads: changed ones, and the user's opted-out ones with their addresses (None: all).

    with_people: the firm brings in open Leads. The changed ones come with names and addresses, so that the opted-out ones need
    no query of their own, and the user's open Leads are counted.
    """

    changed_since: datetime
    opted_out_since: datetime | None
    with_people: bool = False


class LeadsFound(NamedTuple):
    """The Leads of an opening.

    opted_out: the user's own open, opted-out leads, with their addresses. owned: how many open Leads the user has. One of the two
    is None, by LeadWindow.with_people.
    """

    changed: LeadPage
    opted_out: LeadPage | None
    owned: int | None = None


class ContactMatch(NamedTuple):
    """A contact of the user's with one of the addresses searched for."""

    id: str
    email: str
    is_opted_out: bool | None


class RetrievedContact(NamedTuple):
    """A contact as it is now, found by Id, of any owner. email: empty if there is none, or none that can be stored."""

    id: str
    owner_id: str
    email: str
    is_opted_out: bool


class OptOutTarget(NamedTuple):
    """A record on which Email Opt Out is set. kind: Contact or Lead."""

    kind: str
    id: str


class NewLead(NamedTuple):
    """Everything that is ever sent of a lead. company: empty to leave it out."""

    first_name: str
    last_name: str
    email: str
    company: str
    source: str


class Created(NamedTuple):
    """The result for one record of a create: its Id, or why it was refused."""

    id: str | None
    error: SalesforceError | None = None


class Opening(NamedTuple):
    """The answer to a run's first question: a page, and how many contacts the user has.

    leads: the leads of the window, the error, or None if they weren't queried.
    campaigns: {Id of a campaign: digest of the user's people in it} for those asked about; None if that could not be read.
    """

    page: ContactPage
    owned: int  # contacts that the user owns now
    asked_at: datetime  # by Salesforce's clock; no later than when it began to work on the query
    answered_at: datetime
    leads: LeadsFound | SalesforceError | None = None
    campaigns: Mapping[str, bytes] | None = None


class AccountSighting(NamedTuple):
    """What became of a person account. survivor_id: the contact of the account that it was merged into."""

    id: str
    is_deleted: bool
    survivor_id: str | None


class Sighting(NamedTuple):
    """The state of one Id: its row, deleted or not, of any owner. is_readable: False if the answer may hide it."""

    id: str
    owner_id: str
    is_deleted: bool
    master_record_id: str | None
    is_readable: bool = True
    is_opted_out: bool = False
    owner_name: str = ""  # empty if the user can't see the owner
    is_field_set: bool = False  # is the opt-out field true that we write? Another may make is_opted_out true
    is_consent_hidden: bool = False  # as in ContactRecord


class NamedContact(NamedTuple):
    """A contact of any owner, as a search by name shows it."""

    id: str
    name: str
    owner_id: str
    owner_name: str
    is_deleted: bool


def readable(
    rows: Iterable[dict[str, Any]], convert: Callable[[dict[str, Any]], T]
) -> tuple[list[T], list[dict[str, Any]]]:
    """Return what convert makes of each row, and the rows that have a wrong value.

    Raises TryLater if no row has the fields that were queried: then the answer is wrong, not a row.
    """
    found: list[T] = []
    left_out: list[dict[str, Any]] = []
    is_wrong_answer = True
    for row in rows:
        try:
            found.append(convert(row))
        except (KeyError, TypeError):
            left_out.append(row)
        except ValueError:
            left_out.append(row)
            is_wrong_answer = False
    if left_out and not found and is_wrong_answer:
        raise TryLater("unreadable_answer", "rows")
    if left_out:
        log.warning("rows of Salesforce left out: they can't be read", extra={"rows": len(left_out)})
    return found, left_out


def converted(rows: Iterable[dict[str, Any]], convert: Callable[[dict[str, Any]], T]) -> list[T]:
    """Return what convert makes of each row of an answer, or raise TryLater if one is wrong."""
    try:
        return [convert(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise TryLater("unreadable_answer", type(error).__name__) from None


def contact_of(row: Mapping[str, Any], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> ContactRecord:
    """Return the record for a row of JSON. KeyError, TypeError: a field is missing; ValueError: a value is wrong."""
    stamp = moment_of(row["SystemModstamp"])
    opted_out = is_opted_out(row, fields) is not False
    is_gone, went_into = fate_of(row, kind)
    return ContactRecord(
        id_of(row["Id"], kind.prefix),
        text_of(row["FirstName"], FIRST_NAME_MAX),
        text_of(row["LastName"], LAST_NAME_MAX),
        text_of(row["Email"], EMAIL_MAX),
        opted_out,
        id_of(row["OwnerId"]),
        stamp,
        is_gone,
        went_into,
        bounce_of(row, fields, stamp),
        opted_out and is_consent_hidden(row, fields),
        person_account_of(row, fields) if fields.persons else None,
    )


def fate_of(row: Mapping[str, Any], kind: RecordKind) -> tuple[bool, str | None]:
    """Return (whether the record is no longer there, the one it was merged into or, a Lead, converted to)."""
    is_deleted, master = flag_of(row["IsDeleted"]), row["MasterRecordId"]
    if kind is LEAD and flag_of(row["IsConverted"]) and not is_deleted:
        return True, id_or_none(row["ConvertedContactId"], CONTACT_PREFIX)
    return is_deleted, None if master is None else id_of(master, kind.prefix)


def unreadable_of(row: Any, fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> Unreadable:
    """Return what can be read of a row that contact_of() refuses."""
    if not isinstance(row, Mapping):
        return Unreadable(None, is_opted_out=True)
    try:
        opted_out = is_opted_out(row, fields) is True
    except (KeyError, TypeError):
        opted_out = True
    try:
        email = text_of(row.get("Email"), EMAIL_MAX)
    except ValueError:
        email = ""
    try:
        return Unreadable(id_of(row.get("Id"), kind.prefix), opted_out, email)
    except ValueError:
        return Unreadable(None, opted_out)


def sighting_of(row: Mapping[str, Any], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> Sighting:
    opted_out = is_opted_out(row, fields) is not False
    return Sighting(
        id_of(row["Id"], kind.prefix),
        id_of(row["OwnerId"]),
        *fate_of(row, kind),
        is_opted_out=opted_out,
        owner_name=owner_name_of(row),
        is_field_set=is_field_set(row, fields),
        is_consent_hidden=opted_out and is_consent_hidden(row, fields),
    )


def named_contact_of(row: Mapping[str, Any]) -> NamedContact:
    return NamedContact(
        id_of(row["Id"], CONTACT_PREFIX),
        cleaned(row["Name"]),
        id_of(row["OwnerId"]),
        owner_name_of(row),
        flag_of(row["IsDeleted"]),
    )


def owner_name_of(row: Mapping[str, Any]) -> str:
    """Return the owner's name; empty if it isn't shown."""
    owner = row.get("Owner")
    return cleaned(owner.get("Name")) if isinstance(owner, Mapping) else ""


def sweep_row_of(row: Mapping[str, Any], fields: ReadFields, prefix: str = CONTACT_PREFIX) -> SweptRow:
    opted_out = is_opted_out(row, fields) is not False
    return SweptRow(id_of(row["Id"], prefix), opted_out, opted_out and is_consent_hidden(row, fields))


def lead_of(row: Mapping[str, Any], fields: ReadFields) -> LeadRecord:
    """Return the record for a row of JSON; errors as in contact_of()."""
    stamp, creator, opted_out = moment_of(row["SystemModstamp"]), row.get("CreatedById"), is_opted_out(row, fields)
    return LeadRecord(
        id_of(row["Id"], LEAD_PREFIX),
        text_of(row.get("Email"), EMAIL_MAX),
        opted_out,
        id_of(row["OwnerId"]),
        flag_of(row["IsConverted"]),
        id_or_none(row["ConvertedContactId"], CONTACT_PREFIX),
        flag_of(row["IsDeleted"]),
        stamp,
        id_or_none(row["MasterRecordId"], LEAD_PREFIX),
        id_or_none(creator),
        bounce_of(row, fields, stamp),
        is_field_set(row, fields),
        opted_out is True and is_consent_hidden(row, fields),
    )


def person_account_of(row: Mapping[str, Any], fields: ReadFields) -> str | None:
    """Return the account that is one with this contact; None if the contact belongs to a business, or that is not read."""
    if not fields.persons or row[IS_PERSON] is not True:
        return None
    return id_or_none(row[ACCOUNT_ID], ACCOUNT_PREFIX)


def account_of(row: Mapping[str, Any]) -> AccountSighting:
    survivor = row["MasterRecord"] or {}
    return AccountSighting(
        id_of(row["Id"], ACCOUNT_PREFIX),
        flag_of(row["IsDeleted"]),
        id_or_none(survivor.get("PersonContactId"), CONTACT_PREFIX),
    )


def campaign_digests(answer: Mapping[str, Any], campaign_ids: Iterable[str]) -> dict[str, bytes] | None:
    """Return {Id of a campaign: 32 bytes that change when the user's people in it do}; None if the answer can't be read.

    answer: to soql.campaign_members. If there are more pages, all digests change with any campaign: one person may leave a
    campaign, beyond the first page, while another joins a second one.
    """
    try:
        of_all = "" if answer["done"] else f"{answer['totalSize']} {[_member_in(row) for row in answer['records']]}"
        hashes = {each: hashlib.sha256(f"{each} {of_all}\n".encode()) for each in campaign_ids}
        for row in answer["records"]:
            campaign_id, contact_id, lead_id = _member_in(row)
            hashes[campaign_id].update(f"{contact_id} {lead_id}\n".encode())
    except (KeyError, TypeError, ValueError):
        return None
    return {each: hashed.digest() for each, hashed in hashes.items()}


def _member_in(row: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    return id_of(row["CampaignId"], CAMPAIGN_PREFIX), row["ContactId"], row["LeadId"]


def match_of(row: Mapping[str, Any], fields: ReadFields) -> ContactMatch:
    return ContactMatch(id_of(row["Id"], CONTACT_PREFIX), text_of(row["Email"], EMAIL_MAX), is_opted_out(row, fields))


def retrieved_of(row: Mapping[str, Any], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> RetrievedContact:
    """Return a row as a contact; errors as in contact_of(), except that an address which can't be stored is left empty."""
    try:
        email = text_of(row["Email"], EMAIL_MAX)
    except WrongValue:
        email = ""
    return RetrievedContact(
        id_of(row["Id"], kind.prefix), id_of(row["OwnerId"]), email, is_opted_out(row, fields) is not False
    )


def is_opted_out(row: Mapping[str, Any], fields: ReadFields) -> bool | None:
    """Return whether any opt-out field is other than false. None: no such field is read."""
    answer = False if fields.opt_outs else None
    for name in fields.opt_outs:  # no early exit: each has to be there
        if row[name] is not False if "." not in name else _opts_out_elsewhere(row, name):
            answer = True
    return answer


def is_field_set(row: Mapping[str, Any], fields: ReadFields) -> bool:
    """Return whether the field that we write says "opted out"; False also if it can't be read."""
    name = field_to_write(fields.opt_outs[: fields.named])
    return name in fields.opt_outs and row[name] is True


def _opts_out_elsewhere(row: Mapping[str, Any], name: str) -> bool:
    """Return whether a related record says "opted out", or exists and can't be seen. name: such as Individual.X."""
    relation, _, field = name.partition(".")
    related = row[relation]
    if related is None:
        return row[reference_of(name)] is not None
    return related[field] is not False


def is_consent_hidden(row: Mapping[str, Any], fields: ReadFields) -> bool:
    """Return whether a row that counts as opted out does so only because its consent record can't be seen."""
    unseen = [name for name in fields.related if row[name.partition(".")[0]] is None]
    if not unseen:
        return False
    others = fields._replace(opt_outs=tuple(name for name in fields.opt_outs if name not in unseen))
    return not is_opted_out(row, others)


def bounce_of(row: Mapping[str, Any], fields: ReadFields, stamp: datetime) -> Bounce | None:
    """Return what the row says about bounced mail. A bounce without a date is as old as the row."""
    if not fields.bounces:
        return None
    at = row.get(BOUNCED_AT)
    if at is None and row.get(IS_BOUNCED) is not True:
        return NO_BOUNCE
    return Bounce(stamp if at is None else moment_of(at), cleaned(row.get(BOUNCE_REASON))[:BOUNCE_REASON_MAX])


def id_of(value: Any, prefix: str = "") -> str:
    """Return an Id in 18 characters; ValueError if it isn't one, or not of this kind."""
    if not isinstance(value, str) or not (value.isalnum() and value.isascii()) or len(value) not in (15, 18):
        raise WrongValue("not an Id")
    if not value.startswith(prefix):
        raise WrongValue("an Id of another kind")
    return value if len(value) == 18 else to_18(value)


def id_or_none(value: Any, prefix: str = "") -> str | None:
    return None if value is None else id_of(value, prefix)


def flag_of(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValue("neither true nor false")
    return value


def moment_of(value: Any) -> datetime:
    """Return a moment in UTC; ValueError for one without a zone, or at the ends of all time, where UTC has none."""
    if not isinstance(value, str):
        raise WrongValue("not a moment")
    return _moment_in(value)


# Rows that were changed together have one stamp; and one object is converted once when it is stored.
@lru_cache(maxsize=512)
def _moment_in(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise WrongValue("a moment without a zone")
    if moment.tzinfo is UTC:  # nearly always, and then it costs nothing
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise WrongValue("a moment beyond all others") from None


def text_of(value: Any, longest: int) -> str:
    """Return a text that both databases can store, "" for null; ValueError for any other."""
    if value is None:
        return ""
    # A printable text holds no NUL and no lone surrogate; few texts need the closer check.
    if isinstance(value, str) and len(value) <= longest and (value.isprintable() or is_storable(value)):
        return value
    raise WrongValue("not a text that can be stored")


def cleaned(value: Any) -> str:
    """Return a text without the characters that can't be stored."""
    text = value if isinstance(value, str) else ""
    return text if is_storable(text) else text.replace("\0", "").encode("utf-8", "ignore").decode()


def is_storable(text: str) -> bool:
    """Return whether the text has no NUL, which PostgreSQL refuses, and no lone surrogate (half of a cut-off emoji)."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def created_of(row: Mapping[str, Any]) -> Created:
    """Return what one row of a collection's answer says.

    KeyError or TypeError if it has another form; ValueError if it says "created" and names no Id of a Lead.
    """
    if row["success"] is True:
        return Created(id_of(row["id"], LEAD_PREFIX))
    return Created(None, refusal_of(row))


def refusal_of(row: Mapping[str, Any]) -> SalesforceError | None:
    """Return why one row of a collection was refused, or None if it was not. Errors as in created_of()."""
    if row["success"] is True:
        return None
    entry = row["errors"][0]
    fields = [field for field in entry.get("fields") or [] if isinstance(field, str)]
    return sort_record_error(str(entry["statusCode"]), str(entry.get("message") or ""), fields)
