"""The live queries of "Why isn't this person here?", over the advisor's own connection."""

from __future__ import annotations

from collections.abc import Sequence

from asapp.connections.org_access import OrgAccess
from asapp.contacts.why import Ask, ContactSighting, Question, sightings_of
from asapp.contacts.why_by_name import AskNames
from asapp.models import Connection
from asapp.salesforce.errors import FieldHidden, TryLater
from asapp.salesforce.records import NamedContact


def way_to_ask(connection: Connection, access: OrgAccess) -> Ask:
    """Return a function that makes one query with this connection's tokens."""

    def ask(question: Question) -> Sequence[ContactSighting]:
        with access.open(connection) as org:
            try:
                rows = org.fetch_contact_rows(question.salesforce_id, question.email)
                return sightings_of(rows, org.contact_fields)
            except (KeyError, TypeError, ValueError) as error:
                raise TryLater("unreadable_answer", "contact") from error

    return ask


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
