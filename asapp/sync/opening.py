"""The question that opens every sync, in one call, and whether its answer leaves anything to do.

A run (sync/execute.py) and a scheduled check without one ask the same: `OrgClient.open_contacts`. What a sync reads beyond this
is added there and here: to `leads_to_read` which Leads the call asks for, to `is_quiet` what an answer with nothing to do looks
like, and to `needs_run` and `find_unsettled` the work that waits whatever Salesforce answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from asapp.contacts import salesforce_lists
from asapp.core.bulk import is_among
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, Departure
from asapp.salesforce.client import OrgClient
from asapp.salesforce.errors import SalesforceError
from asapp.salesforce.fields import is_more
from asapp.salesforce.records import LeadsFound, LeadWindow, Opening
from asapp.sync import leads
from asapp.sync.sweep import is_daily_check_due
from asapp.sync.watermark import next_window


def leads_to_read(connection: Connection, client: OrgClient, *, is_full: bool) -> LeadWindow:
    """Return which Leads the call asks for. is_full: all contacts are read."""
    has_more_fields = is_more(client.lead_fields.key, connection.lead_fields_read)
    return leads.window_of(connection, is_full or has_more_fields, is_daily_check_due(connection))


def needs_run(connection: Connection, client: OrgClient) -> bool:
    """Does this connection need a run whatever Salesforce answers: a full reading, or the daily check?

    client: with the fields that its last sync could read.
    """
    is_full = next_window(connection, client.contact_fields.key) is None or connection.salesforce_count is None
    if (
        connection.partner.brings_in_open_leads
        and connection.open_leads_watermark is None
        and not connection.leads_trouble
    ):
        return True
    return is_full or connection.sweep_wanted or is_daily_check_due(connection)


def is_quiet(
    connection: Connection, client: OrgClient, opening: Opening, campaigns: Mapping[str, bytes | None]
) -> bool:
    """Is there nothing to do, by Salesforce's answer: no row, the same fields, the count that the last sync left?

    The ledger changes in runs alone, or asks for a full check (sweep_wanted); so a count that is still the last one agrees
    with it. client: the one that asked. campaigns: those asked about, as they were seen last.
    """
    page = opening.page
    return (
        not (page.total or page.records or page.unreadable or page.next_path)
        and opening.owned == connection.salesforce_count
        and client.contact_fields.key == connection.opt_out_field_read
        and _are_leads_quiet(connection, client, opening)
        and (opening.campaigns or {}) == campaigns
    )


def _are_leads_quiet(connection: Connection, client: OrgClient, opening: Opening) -> bool:
    """Did no Lead change, or can they still not be read, for the same reason?"""
    found = opening.leads
    if isinstance(found, LeadsFound):
        pages = (found.changed, found.opted_out)
        has_rows = any(page.records or page.next_path for page in pages if page)
        had_none = connection.leads_trouble is None and connection.lead_opt_outs_watermark is not None
        is_same = client.lead_fields.key == connection.lead_fields_read and found.owned in (
            None,
            connection.open_leads_count,
        )
        return had_none and is_same and not has_rows
    trouble = leads.trouble_of(found) if found is not None else None
    return trouble is not None and trouble == connection.leads_trouble


def known_by(
    answered_at: datetime, leads_error: SalesforceError | None, now: datetime, trusted: timedelta
) -> dict[str, Any]:
    """Return the columns of a connection after a good sync: up to when Salesforce's answers are stored, and how long they hold.

    answered_at: when the opening question was answered, by Salesforce's clock; now: by ours. trusted: the firm's setting.
    """
    return {
        "watermark": answered_at,
        "last_good_sync_at": now,
        "opt_outs_known_until": now + trusted,
        **leads.known_by(leads_error, answered_at, now, now + trusted),
    }


def find_unsettled(connection_ids: Collection[int]) -> set[int]:
    """Return those of these connections about which our own tables leave something to do for a run.

    Contacts whose departure is recorded are asked about by Id in each run; leads may wait for a look by Id, or for their
    contact; list views are read in runs, since their members change without a stamp.
    """
    recorded = select(Departure.connection_id).where(is_among(Departure.connection_id, connection_ids)).distinct()
    waiting = salesforce_lists.find_waiting(connection_ids, utcnow())
    return set(db.session.scalars(recorded)) | leads.find_unsettled(connection_ids) | waiting
