"""The lists from Salesforce within a run: read after the contacts, so that everyone who came is here.

A list is read at most every quarter of an hour by schedule, and whenever the advisor asks for a sync. A campaign is read by
schedule only if its members have changed, by the sync's first call, or people came. What fails concerns that list alone and never
the run.
"""

from __future__ import annotations

from asapp.contacts import salesforce_lists
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import RunTrigger
from asapp.salesforce import errors
from asapp.salesforce.hosts import to_18
from asapp.salesforce.org_lists import ListTrouble, read_lists
from asapp.sync.reader import ContactReader


def read(reader: ContactReader, campaigns: salesforce_lists.Campaigns) -> None:
    """Read the lists that are due, and store each; commits. campaigns: as the run's first call saw them."""
    connection, is_asked_for = reader.connection, reader.run.row.trigger == RunTrigger.MANUAL
    now = utcnow()
    if reader.run.row.read:
        salesforce_lists.read_again(connection.id)
    wanted = salesforce_lists.find_to_read(connection.id, None if is_asked_for else now, campaigns)
    if not wanted:
        return
    waiting = {one.key: one for one in wanted}
    lock = reader.context.lock
    try:
        for one, answer in read_lists(reader.client_for_call(), reader.owner_id, wanted):
            reader.stop_if_asked()
            seen = campaigns.get(to_18(one.id))
            salesforce_lists.store_reading(connection.user_id, one, answer, now, lock, seen)
            del waiting[one.key]
    except (errors.TryLater, errors.LimitReached, errors.Misconfigured):
        db.session.rollback()
        for one in waiting.values():
            salesforce_lists.store_reading(connection.user_id, one, ListTrouble.NO_ANSWER, now, lock)
    reader.run.save()
