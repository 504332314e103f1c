"""What the first sync will bring, asked of Salesforce before anything is written: one call of counts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from asapp.connections.org_access import OrgAccess
from asapp.models import Connection
from asapp.salesforce.errors import SalesforceError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    in_salesforce: int
    opted_out: int
    no_email: int | None  # None: Salesforce can't count them, since addresses are encrypted there

    @property
    def importable(self) -> int:
        """Addresses shared with somebody who opted out are found only while syncing; they are among these.

        So are those without an address, where they can't be counted.
        """
        return self.in_salesforce - self.opted_out - (self.no_email or 0)


def fetch_preview(connection: Connection, access: OrgAccess) -> Preview | None:
    """Return the numbers, or None where Salesforce doesn't give them now: the sync itself will say why. Commits."""
    connection_id, owner_id = connection.id, connection.salesforce_user_id
    try:
        with access.open(connection) as org:
            return Preview(*org.count_preview(owner_id))
    except SalesforceError as error:
        log.info("no preview for connection %s: %s", connection_id, error)
        return None
