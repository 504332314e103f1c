"""The firm's opt-out fields as Salesforce has them: their spelling, and that they are checkboxes. Queried with an advisor's
token.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from asapp.connections.org_access import OrgAccess
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields
from asapp.models import Connection, ConnectionStatus, Partner
from asapp.salesforce import probe
from asapp.salesforce.errors import SalesforceError


def spelling_of_opt_out_fields(partner: Partner, entered: Sequence[str], access: OrgAccess) -> list[str]:
    """Return the fields as Salesforce spells them, or as entered if that can't be known. No transaction is open during the
    calls.

    Raises InvalidFields if an advisor's token shows that one is no checkbox.
    """
    connection = find_last_used_connection(partner.id)
    if connection is None or tuple(entered) == partner.opt_out_fields:
        return list(entered)
    api_version = partner.api_version
    try:
        with access.open_session(connection) as org:
            found = probe.find_opt_out_fields(org, api_version, entered)
    except SalesforceError:
        return list(entered)
    problems = {
        "more_opt_out_fields" if number else "opt_out_field": f"{field.name} is no checkbox in this org. "
        "Enter the field that is true for people who opted out."
        for number, field in enumerate(found)
        if field.name and not field.is_checkbox
    }
    if problems:
        raise InvalidFields(problems)
    return [field.name or name for field, name in zip(found, entered, strict=True)]


def find_last_used_connection(partner_id: int) -> Connection | None:
    """Return the connection whose tokens were used last."""
    return db.session.scalar(
        select(Connection)
        .where(Connection.partner_id == partner_id, Connection.status == ConnectionStatus.CONNECTED)
        .order_by(Connection.token_used_at.desc(), Connection.id)
        .limit(1)
    )
