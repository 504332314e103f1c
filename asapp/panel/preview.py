"""What the first sync will bring, asked of Salesforce before anything is written."""

from __future__ import annotations

import logging
from contextlib import closing

from asapp.connections.api_budget import count_each_call
from asapp.connections.org_access import ConnectSettings
from asapp.connections.tokens import StoredTokens
from asapp.core.extensions import db
from asapp.models import Connection
from asapp.salesforce.client import OrgClient
from asapp.salesforce.errors import SalesforceError
from asapp.sync.preview import Preview
from asapp.sync.preview import look_ahead as ask

log = logging.getLogger(__name__)


def look_ahead(connection: Connection, settings: ConnectSettings) -> Preview | None:
    """Return the numbers, or None where Salesforce doesn't give them now: the sync itself will say why. Commits."""
    connection_id, owner_id, partner = connection.id, connection.salesforce_user_id, connection.partner
    partner_id, version, opt_out_field = partner.id, partner.api_version, partner.opt_out_field
    db.session.commit()
    try:
        client = OrgClient(
            StoredTokens(connection_id, settings),
            version,
            opt_out_field,
            allow_loopback=settings.allow_loopback,
            before_call=count_each_call(db.engine, partner_id),
        )
        with closing(client):
            return ask(client, owner_id)
    except SalesforceError as error:
        log.info("no preview for connection %s: %s", connection_id, error)
        return None
