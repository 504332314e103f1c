"""Our queries, as SOQL. Values are ours or checked here; text that a person typed is always escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from simple_salesforce.format import format_soql

from asapp.salesforce.fields import ReadFields, reference_of
from asapp.salesforce.hosts import to_18
from asapp.salesforce.records import RecordKind

FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
FIELD_PATH = re.compile(rf"(?:{FIELD_NAME.pattern}\.)?{FIELD_NAME.pattern}")  # also of a related record


Position = tuple[datetime, str]  # of a row in order: SystemModstamp, Id


def contacts(
    owner_id: str,
    fields: ReadFields,
    since: datetime | None = None,
    after: Position | None = None,
    before: tuple[datetime, Position | None] | None = None,
    kind: RecordKind = RecordKind.CONTACT,
) -> str:
    """Contacts or open Leads of one owner in order of (SystemModstamp, Id), from `since` on, after `after`; None: no bound.

    before: a time, and a position; rows stamped before that time and after that position are included as well.
    """
    where = [_open_of(owner_id, kind)]
    if since is not None:
        where.append(f"SystemModstamp >= {moment(since)}")
    if after is not None:
        where.append(f"({' OR '.join([behind(after), *([earlier(*before)] if before else [])])})")
    return f"SELECT {_contact_fields(fields, kind)} FROM {kind} WHERE {' AND '.join(where)} ORDER BY SystemModstamp, Id"


def behind(position: Position) -> str:
    stamp, last_id = moment(position[0]), to_18(position[1])
    return f"(SystemModstamp > {stamp} OR (SystemModstamp = {stamp} AND Id > '{last_id}'))"


def earlier(until: datetime, after: Position | None) -> str:
    return f"(SystemModstamp < {moment(until)}{f' AND {behind(after)}' if after else ''})"


def contacts_by_id(ids: Iterable[str], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> str:
    return f"SELECT {_contact_fields(fields, kind)} FROM {kind} WHERE Id IN ({_listed(ids)})"


def count_contacts(owner_id: str, kind: RecordKind = RecordKind.CONTACT) -> str:
    return f"SELECT COUNT() FROM {kind} WHERE {_open_of(owner_id, kind)}"


def sweep(owner_id: str, fields: ReadFields, after_id: str | None = None, kind: RecordKind = RecordKind.CONTACT) -> str:
    where = _open_of(owner_id, kind) + (f" AND Id > '{to_18(after_id)}'" if after_id else "")
    return f"SELECT {_named('Id', *fields.opt_out_columns)} FROM {kind} WHERE {where} ORDER BY Id"


def sightings(ids: Iterable[str], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> str:
    columns = _named("Id", "OwnerId", "Owner.Name", *fates(kind), *fields.opt_out_columns)
    return f"SELECT {columns} FROM {kind} WHERE Id IN ({_listed(ids)})"


def fates(kind: RecordKind) -> tuple[str, ...]:
    """Return the fields that tell whether a record is still there, and what it went into."""
    converted = ("IsConverted", "ConvertedContactId") if kind == RecordKind.LEAD else ()
    return ("IsDeleted", "MasterRecordId", *converted)


def recipients(ids: Iterable[str], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> str:
    columns = _named(*recipient_fields(fields, kind), "IsDeleted")
    return f"SELECT {columns} FROM {kind} WHERE Id IN ({_listed(ids)})"


def recipient_fields(fields: ReadFields, kind: RecordKind) -> list[str]:
    return ["Id", "OwnerId", "Email", *fields.opt_out_columns, *(["IsConverted"] if kind == RecordKind.LEAD else [])]


def whereabouts(
    salesforce_id: str | None, email: str | None, fields: ReadFields, kind: RecordKind = RecordKind.CONTACT
) -> str:
    """Everything that "Why isn't this person here?" needs about one contact or Lead, by Id or else by address."""
    told = (*fates(kind), *fields.opt_out_columns, *fields.persons)
    columns = _named("Id", "Name", "Email", "OwnerId", "Owner.Name", *told)
    if not salesforce_id and not email:
        raise ValueError("an Id or an address")  # "Email = null" would find everybody without one
    by = f"Id = '{to_18(salesforce_id)}'" if salesforce_id else format_soql("Email = {}", email)
    return f"SELECT {columns} FROM {kind} WHERE {by} ORDER BY IsDeleted, SystemModstamp DESC LIMIT 10"


def named(words: Sequence[str], limit: int) -> str:
    """Contacts of any owner whose name has all of these words; those that were not deleted come first."""
    if not words:
        raise ValueError("a name")
    having = " AND ".join(format_soql("Name LIKE '%{:like}%'", word) for word in words)
    return f"SELECT Id, Name, OwnerId, Owner.Name, IsDeleted FROM Contact WHERE {having} ORDER BY IsDeleted, Name LIMIT {limit}"


def person_contact(account_id: str) -> str:
    """The contact of a person account. Orgs without person accounts don't know the field IsPersonAccount."""
    return f"SELECT Id FROM Contact WHERE AccountId = '{to_18(account_id)}' AND IsPersonAccount = true LIMIT 1"


def accounts(ids: Iterable[str]) -> str:
    """Person accounts by Id, and the contact of the one that each was merged into."""
    columns = _named("Id", "IsDeleted", "MasterRecordId", "MasterRecord.PersonContactId")
    return f"SELECT {columns} FROM Account WHERE Id IN ({_listed(ids)})"


def account_of(contact_id: str) -> str:
    return f"SELECT Id, AccountId FROM Contact WHERE Id = '{to_18(contact_id)}'"


def leads_changed(user_id: str, fields: ReadFields, since: datetime, *, with_people: bool = False) -> str:
    """Leads that the user made or owns, changed from `since` on; names and addresses only with_people."""
    columns = _contact_fields(fields, RecordKind.LEAD) if with_people else _lead_fields(fields)
    return (
        f"SELECT {columns} FROM Lead WHERE {_made_or_owned(user_id)} "
        f"AND SystemModstamp >= {moment(since)} ORDER BY SystemModstamp, Id"
    )


def opted_out_leads(owner_id: str, fields: ReadFields, since: datetime | None) -> str:
    """The user's open Leads that may be opted out, with their addresses; changed from `since` on, or all.

    Those with a related record are all among them: no condition finds the ones whose record the user can't see.
    """
    changed = f" AND SystemModstamp >= {moment(since)}" if since else ""
    own = [f"{path(name)} = true" for name in fields.opt_outs if "." not in name]
    may_be = " OR ".join([*own, *(f"{field(reference_of(name))} != null" for name in fields.related)])
    return (
        f"SELECT Email, {_lead_fields(fields)} FROM Lead WHERE {owned_by(owner_id)} "
        f"AND IsConverted = false AND ({may_be}){changed} ORDER BY SystemModstamp, Id"
    )


def lead_sweep(user_id: str, fields: ReadFields) -> str:
    """Every unconverted lead that the user made or owns."""
    columns = _named("Id", *fields.opt_out_columns)
    return f"SELECT {columns} FROM Lead WHERE {_made_or_owned(user_id)} AND IsConverted = false ORDER BY Id"


def leads_by_id(ids: Iterable[str], fields: ReadFields) -> str:
    return f"SELECT CreatedById, {_lead_fields(fields)} FROM Lead WHERE Id IN ({_listed(ids)})"


def contacts_with(owner_id: str, emails: Sequence[str], fields: ReadFields) -> str:
    columns = _named("Id", "Email", *fields.opt_out_columns)
    return f"SELECT {columns} FROM Contact WHERE {owned_by(owner_id)} AND {_email_in(emails)} ORDER BY Id"


def open_leads_with(owner_id: str, emails: Sequence[str], fields: ReadFields) -> str:
    return (
        f"SELECT Email, {_lead_fields(fields)} FROM Lead "
        f"WHERE {owned_by(owner_id)} AND IsConverted = false AND {_email_in(emails)} ORDER BY Id"
    )


def leads_made_by(user_id: str, emails: Sequence[str], since: datetime, fields: ReadFields) -> str:
    """Leads with these addresses that the user created since then, of any owner now."""
    return (
        f"SELECT Email, {_lead_fields(fields)} FROM Lead WHERE CreatedById = '{to_18(user_id)}' "
        f"AND CreatedDate >= {moment(since)} AND {_email_in(emails)} ORDER BY CreatedDate, Id"
    )


def contacts_among(owner_id: str, ids: Iterable[str], fields: ReadFields) -> str:
    """Those of these Ids that are the user's contacts now."""
    columns = _named("Id", "Email", *fields.opt_out_columns)
    return f"SELECT {columns} FROM Contact WHERE {owned_by(owner_id)} AND IsDeleted = false AND Id IN ({_listed(ids)})"


def newest_open_leads(owner_id: str, limit: int, fields: ReadFields) -> str:
    """The user's newest open leads with their addresses, for orgs where no query finds them by address."""
    return (
        f"SELECT Email, {_lead_fields(fields)} FROM Lead "
        f"WHERE {owned_by(owner_id)} AND IsConverted = false ORDER BY CreatedDate DESC, Id DESC LIMIT {limit}"
    )


def leads_made_between(user_id: str, since: datetime, until: datetime, fields: ReadFields) -> str:
    """As leads_made_by(), for any address."""
    return (
        f"SELECT Email, {_lead_fields(fields)} FROM Lead WHERE CreatedById = '{to_18(user_id)}' "
        f"AND CreatedDate >= {moment(since)} AND CreatedDate <= {moment(until)} ORDER BY CreatedDate, Id"
    )


def _open_of(owner_id: str, kind: RecordKind) -> str:
    """The owner's records of this kind; a converted Lead is none any more."""
    return owned_by(owner_id) + (" AND IsConverted = false" if kind == RecordKind.LEAD else "")


def owned_by(owner_id: str) -> str:
    return f"OwnerId = '{to_18(owner_id)}'"


def _made_or_owned(user_id: str) -> str:
    return f"(CreatedById = '{to_18(user_id)}' OR {owned_by(user_id)})"


def field(name: str) -> str:
    """Return a field's API name; raise ValueError for any other text."""
    if not FIELD_NAME.fullmatch(name):
        raise ValueError("not a field's API name")
    return name


def path(name: str) -> str:
    """As field(), but the field may be that of a related record."""
    if not FIELD_PATH.fullmatch(name):
        raise ValueError("not a field's API name")
    return name


def moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def opted_out(fields: ReadFields) -> str:
    """The condition that a contact is opted out in one of the fields that are read, or its related record can't be seen."""
    unseen = (
        f"({field(reference_of(name))} != null AND {path(name.partition('.')[0])}.SystemModstamp = null)"
        for name in fields.related
    )
    return f"({' OR '.join([*(f'{path(name)} = true' for name in fields.opt_outs), *unseen])})"


def campaign_members(owner_id: str, campaign_ids: Iterable[str]) -> str:
    """The owner's people in some campaigns, those whose membership changed last first."""
    mine = f"CampaignId IN ({_listed(campaign_ids)}) AND LeadOrContactOwnerId = '{to_18(owner_id)}'"
    return f"SELECT CampaignId, ContactId, LeadId FROM CampaignMember WHERE {mine} ORDER BY SystemModstamp DESC, Id"


def is_visible(about: str, names: Iterable[str]) -> str:
    """A query that fails if the user can't see all of these fields of an object."""
    return f"SELECT {_named(*names)} FROM {field(about)} LIMIT 1"


def _contact_fields(fields: ReadFields, kind: RecordKind) -> str:
    rest = ("OwnerId", "SystemModstamp", *fates(kind))
    return _named("Id", "FirstName", "LastName", "Email", *fields.names, *rest)


def _lead_fields(fields: ReadFields) -> str:
    rest = ("OwnerId", "IsConverted", "ConvertedContactId", "IsDeleted", "MasterRecordId", "SystemModstamp")
    return _named("Id", *fields.names, *rest)


def _named(*names: str) -> str:
    """List fields, each once: Salesforce refuses a field that is selected twice."""
    return ", ".join({name.lower(): path(name) for name in names}.values())


def _email_in(emails: Sequence[str]) -> str:
    """Addresses come from the public form: simple-salesforce escapes them, and they are used in plain queries only."""
    if not emails:
        raise ValueError("no address")
    return str(format_soql("Email IN {}", list(emails)))


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(f"'{to_18(record_id)}'" for record_id in ids)
