"""What the first sync will bring, as Salesforce counts it before anything is stored: one call, two where open Leads come in."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from asapp.connections.org_access import OrgAccess
from asapp.models import Connection
from asapp.salesforce.errors import Misconfigured, SalesforceError, TryLater
from asapp.salesforce.records import RecordKind

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    in_salesforce: int
    opted_out: int
    no_email: int | None  # None: Salesforce can't count them, since it encrypts addresses
    leads: Preview | None = None  # open Leads, where they come in and can be read

    @property
    def importable(self) -> int:
        """Contacts that share an address with an opted-out record are among these: only the sync finds them.

        So are those without an address, if they can't be counted.
        """
        return self.in_salesforce - self.opted_out - (self.no_email or 0)


def fetch_preview(connection: Connection, access: OrgAccess) -> Preview | None:
    """Return the numbers, or None if Salesforce doesn't give them now: the sync will say why. Commits."""
    connection_id, owner_id = connection.id, connection.salesforce_user_id
    brings_in = connection.partner.brings_in_open_leads
    try:
        with access.open(connection) as org:
            contacts = Preview(*org.count_preview(owner_id))
            if not brings_in:
                return contacts
            with suppress(TryLater, Misconfigured):  # the contacts come in all the same
                return replace(contacts, leads=Preview(*org.count_preview(owner_id, RecordKind.LEAD)))
            return contacts
    except SalesforceError as error:
        log.info("no preview for connection %s: %s", connection_id, error)
        return None
