"""The lists from Salesforce within a run: read after the contacts, so that everyone who came is here.

A list is read at most every quarter of an hour by schedule, and whenever the advisor asks for a sync. What fails concerns
that list alone and never the run.
"""

from __future__ import annotations

from asapp.contacts import salesforce_lists
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import RunTrigger
from asapp.salesforce import errors
from asapp.salesforce.org_lists import ListTrouble, read_lists
from asapp.sync.reader import ContactReader


def read(reader: ContactReader) -> None:
    """Read the lists that are due, and store each; commits."""
    connection, is_asked_for = reader.connection, reader.run.row.trigger == RunTrigger.MANUAL
    now = utcnow()
    wanted = salesforce_lists.find_to_read(connection.id, None if is_asked_for else now)
    if not wanted:
        return
    waiting = {one.key: one for one in wanted}
    lock = reader.context.lock
    try:
        for one, answer in read_lists(reader.client_for_call(), reader.owner_id, wanted):
            reader.stop_if_asked()
            salesforce_lists.store_reading(connection.user_id, one, answer, now, lock)
            del waiting[one.key]
    except (errors.TryLater, errors.LimitReached, errors.Misconfigured):
        db.session.rollback()
        for one in waiting.values():
            salesforce_lists.store_reading(connection.user_id, one, ListTrouble.NO_ANSWER, now, lock)
    reader.run.save()
