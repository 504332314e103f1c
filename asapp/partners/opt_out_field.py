"""The firm's opt-out field as Salesforce has it: its spelling, and that it is a checkbox. Queried with an advisor's token."""

from __future__ import annotations

from sqlalchemy import select

from asapp.connections.org_access import OrgAccess
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.models import Connection, ConnectionStatus, Partner
from asapp.salesforce import probe
from asapp.salesforce.errors import SalesforceError


def spelling_of_opt_out_field(partner: Partner, entered: str, access: OrgAccess) -> str:
    """Return the field as Salesforce spells it, or as entered if that can't be known. No transaction is open during the
    call.

    Raises InvalidFields if an advisor's token shows that it is no checkbox.
    """
    connection = find_last_used_connection(partner.id)
    if connection is None or entered == partner.opt_out_field:
        return entered
    api_version = partner.api_version
    try:
        with access.open_session(connection) as org:
            found = probe.find_opt_out_field(org, api_version, entered)
    except SalesforceError:
        return entered
    if found.name and not found.is_checkbox:
        raise InvalidFields(
            {
                "opt_out_field": f"{found.name} is no checkbox in this org. "
                "Enter the field that is true for people who opted out."
            }
        )
    return found.name or entered


def find_last_used_connection(partner_id: int) -> Connection | None:
    """Return the connection whose tokens were used last."""
    return db.session.scalar(
        select(Connection)
        .where(Connection.partner_id == partner_id, Connection.status == ConnectionStatus.CONNECTED)
        .order_by(Connection.token_used_at.desc(), Connection.id)
        .limit(1)
    )
