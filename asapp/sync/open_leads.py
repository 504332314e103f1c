"""The user's open Leads, for firms that bring them in: read, judged and checked by the code that does it for contacts.

They come in the run's own call, with the leads that are followed (sync/leads.py); only a full reading has a query of its own, and
it is resumed from its last stored page. A failure here never stops the contacts: it is returned to the run, nothing is read from
it, and how long the opt-outs of open Leads count is not extended (connections.open_leads_known_until).

A Lead that stands for someone from the sign-up page is in the ledger, so that the numbers add up, and has no contact beside the
one that the sign-up made. A converted Lead is handed to its contact (sync/conversions.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from asapp.contacts.lists import ensure_system_lists
from asapp.core.bulk import is_among
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.codes import Code
from asapp.models import Connection, ListKind
from asapp.salesforce import errors
from asapp.salesforce.client import OrgClient
from asapp.salesforce.fields import is_more
from asapp.salesforce.records import LeadsFound, RecordKind
from asapp.sync.conversions import hand_over_converted
from asapp.sync.departure_check import Checked, DepartureCheck
from asapp.sync.reader import ContactReader
from asapp.sync.watermark import position

MAX_REOPENINGS = 20  # of the full reading, after expired locators


def reads_all(connection: Connection, client: OrgClient, *, is_full: bool) -> bool:
    """Must this run read all open Leads? is_full: it reads all contacts."""
    has_more_fields = is_more(client.lead_fields.key, connection.lead_fields_read)
    return is_full or has_more_fields or connection.open_leads_watermark is None


class OpenLeads:
    """is_whole: all of them are read, not only what changed."""

    def __init__(self, reader: ContactReader, found: LeadsFound, *, is_whole: bool) -> None:
        self.reader = reader
        self.found = found
        self.is_whole = reader.reads_all_leads = is_whole

    def bring_in(self) -> Checked:
        """Store what came, nominate who left and hand over who was converted; return the numbers.

        Raises TryLater, Misconfigured or LocatorExpired if Salesforce doesn't say.
        """
        if self.is_whole:
            self._read_all()
        else:
            self.reader.apply_leads(self.found.changed)
        checked = DepartureCheck(self.reader, RecordKind.LEAD, is_full=self.is_whole).nominate(self.found.owned or 0)
        hand_over_converted(self.reader.context_of(RecordKind.LEAD), self.reader.stop_if_asked)
        self.reader.reset_counts()
        return checked

    def _read_all(self) -> None:
        ensure_system_lists(self.reader.connection.user_id, [ListKind.OPEN_LEADS])
        run = self.reader.run
        for _ in range(MAX_REOPENINGS):
            after = position(run.row.leads_stamp, run.row.leads_id)
            page = self.reader.client_for_call().open_leads(self.reader.owner_id, after)
            run.save(total=(run.row.total or 0) + page.total)
            try:
                self.reader.apply_pages(page)
            except errors.LocatorExpired:
                continue
            return
        raise errors.TryLater(Code.LOCATOR_EXPIRED)


def known_by(answered_at: datetime | None, until: datetime | None) -> dict[str, Any]:
    """Return the columns of a connection that say up to when open Leads are known. until: how long a good answer holds."""
    return {"open_leads_watermark": answered_at, "open_leads_known_until": until}


def find_read(connection_ids: Sequence[int]) -> set[int]:
    """Return those of these connections whose open Leads are read: not those of a firm that has just turned it off.

    The caller has locked their rows.
    """
    if not connection_ids:
        return set()
    are_read = (is_among(Connection.id, connection_ids), Connection.open_leads_watermark.is_not(None))
    return set(db.session.scalars(select(Connection.id).where(*are_read)))


def record_known(connection: Connection, error: errors.SalesforceError | None, checked: Checked | None) -> None:
    """Record up to when open Leads are known, in the caller's transaction that has locked the connection's firm.

    checked: of this run; None if they could not be read, or don't come in. error: why leads could not be followed. The
    connection's other times are recorded already.
    """
    db.session.refresh(connection.partner)
    if not connection.partner.brings_in_open_leads:
        return  # turned off while the run went on: what it read is not kept up
    if error is None and checked is not None:
        for name, value in known_by(connection.watermark, connection.opt_outs_known_until).items():
            setattr(connection, name, value)
        connection.open_leads_count = checked.owned
    elif isinstance(error, errors.Misconfigured) and connection.open_leads_known_until is not None:
        connection.open_leads_known_until = utcnow()  # unknown never counts as "may be written to"
