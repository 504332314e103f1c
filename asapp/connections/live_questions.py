"""The live questions of "Why isn't this person here?": over the advisor's own connection, each counted as a call of ours."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from asapp.connections.api_budget import count_each_call
from asapp.connections.org_access import ConnectSettings
from asapp.connections.tokens import StoredTokens
from asapp.contacts.why import Ask, ContactSighting, Question, sightings_of
from asapp.core.extensions import db
from asapp.models import Connection
from asapp.salesforce.client import OrgClient
from asapp.salesforce.errors import FieldHidden, TryLater


def open_way(connection: Connection, settings: ConnectSettings) -> Ask:
    """Return a way to ask once. Raises SalesforceError: at once where there are no tokens, else when it is used."""
    client = _open_client(connection, settings)

    def ask(question: Question) -> Sequence[ContactSighting]:
        with closing(client):
            try:
                rows = client.look_for_contact(question.salesforce_id, question.email)
                return sightings_of(rows, client.contact_fields)
            except (KeyError, TypeError, ValueError) as error:
                raise TryLater("unreadable_answer", "contact") from error

    return ask


def find_contact_of_account(connection: Connection, settings: ConnectSettings, account_id: str) -> str | None:
    """Return the Id of the contact that is one with a person account; None: the firm has none, or it is none.

    One call, with no transaction open. Raises SalesforceError.
    """
    client = _open_client(connection, settings)
    db.session.rollback()
    with closing(client):
        try:
            return client.find_person_contact(account_id)
        except FieldHidden as error:
            if error.detail != "IsPersonAccount":
                raise
            return None  # the field is there in firms with person accounts only


def _open_client(connection: Connection, settings: ConnectSettings) -> OrgClient:
    partner = connection.partner
    return OrgClient(
        StoredTokens(connection.id, settings),
        partner.api_version,
        partner.opt_out_field,
        allow_loopback=settings.allow_loopback,
        before_call=count_each_call(db.engine, partner.id),
    )
