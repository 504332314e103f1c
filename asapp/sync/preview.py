"""What the first sync will bring, before anything is written: one call of counts."""

from __future__ import annotations

from dataclasses import dataclass

from asapp.salesforce.client import OrgClient


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


def look_ahead(client: OrgClient, owner_id: str) -> Preview:
    """Ask Salesforce for the numbers; raises one of salesforce/errors.py. No transaction may be open."""
    return Preview(*client.count_preview(owner_id))
