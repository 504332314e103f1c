"""The one live question of "Why isn't this person here?": over the advisor's own connection, counted as a call of ours."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from asapp.clock import utcnow
from asapp.connections.settings import ConnectSettings
from asapp.connections.tokens import StoredTokens
from asapp.contacts.why import Ask, ContactSighting, Question, sightings_of
from asapp.database import writing
from asapp.extensions import db
from asapp.models import Connection
from asapp.salesforce.client import OrgClient
from asapp.salesforce.errors import TryLater
from asapp.sync.meter import count_call


def open_way(connection: Connection, settings: ConnectSettings) -> Ask:
    """Return a way to ask. Raises SalesforceError: at once where there are no tokens, else when it is used."""
    partner = connection.partner
    partner_id, opt_out_field, api_version = partner.id, partner.opt_out_field, partner.api_version
    client = OrgClient(
        StoredTokens(connection.id, settings),
        api_version,
        opt_out_field,
        allow_loopback=settings.allow_loopback,
        before_call=lambda: _count(partner_id),
    )

    def ask(question: Question) -> Sequence[ContactSighting]:
        try:
            rows = client.look_for_contact(question.salesforce_id, question.email)
            return sightings_of(rows, client.contact_fields)
        except (KeyError, TypeError, ValueError) as error:
            raise TryLater("unreadable_answer", "contact") from error

    return ask


def _count(partner_id: int) -> None:
    """In a transaction of its own. A figure that is one short is better than no answer while a sync holds SQLite."""
    with suppress(OperationalError), writing(), Session(db.engine) as session:
        count_call(session, partner_id, utcnow())
        session.commit()
