"""The live queries of "Why isn't this person here?", over the advisor's own connection."""

from __future__ import annotations

from collections.abc import Sequence

from asapp.connections.org_access import OrgAccess
from asapp.contacts.why import Ask, ContactSighting, Question, sightings_of
from asapp.contacts.why_by_name import AskNames
from asapp.models import Connection
from asapp.salesforce.client import OrgClient
from asapp.salesforce.errors import FieldHidden, TryLater
from asapp.salesforce.records import NamedContact, RecordKind, kind_of


def way_to_ask(connection: Connection, access: OrgAccess) -> Ask:
    """Return a function that makes one query with this connection's tokens.

    Where open Leads come in, an address that no contact of the user's has is looked for among Leads as well, by a second query.
    """
    owner_id, brings_in = connection.salesforce_user_id, connection.partner.brings_in_open_leads

    def ask(question: Question) -> Sequence[ContactSighting]:
        kind = kind_of(question.salesforce_id or "")
        with access.open(connection) as org:
            found = _sightings(org, question, kind)
            if not brings_in or question.email is None or any(each.owner_id == owner_id for each in found):
                return found
            return [*found, *_sightings(org, question, RecordKind.LEAD)]

    return ask


def _sightings(org: OrgClient, question: Question, kind: RecordKind) -> list[ContactSighting]:
    try:
        rows = org.fetch_contact_rows(question.salesforce_id, question.email, kind)
        return sightings_of(rows, org.lead_fields if kind == RecordKind.LEAD else org.contact_fields, kind)
    except (KeyError, TypeError, ValueError) as error:
        raise TryLater("unreadable_answer", "contact") from error


def way_to_ask_names(connection: Connection, access: OrgAccess) -> AskNames:
    """Return a function that searches contacts by name, in one call with this connection's tokens."""

    def ask(words: Sequence[str], limit: int) -> Sequence[NamedContact]:
        with access.open(connection) as org:
            return org.fetch_named_contacts(words, limit)

    return ask


def find_contact_of_account(connection: Connection, access: OrgAccess, account_id: str) -> str | None:
    """Return the Id of a person account's contact; None if the firm has no person accounts, or this is not one.

    One call. Raises SalesforceError.
    """
    with access.open(connection) as org:
        try:
            return org.find_person_contact(account_id)
        except FieldHidden as error:
            if error.detail != "IsPersonAccount":
                raise
            return None  # only firms with person accounts have the field
