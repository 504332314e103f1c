"""Where a run reads.

The watermark is when the first query of the last complete run was answered, by Salesforce's clock. It is not the newest
stamp that we have seen: an import leaves thousands of rows with one stamp, and we would read them again for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from asapp.models import Connection, SyncRun
from asapp.salesforce.fields import is_more

Position = tuple[datetime, str]  # of a row in order: SystemModstamp, Id
OVERLAP = timedelta(minutes=15)  # a slow Salesforce transaction can surface after a newer one


def start_of(watermark: datetime | None) -> datetime | None:
    """Return the oldest SystemModstamp the next run has to read; None reads everything."""
    return watermark - OVERLAP if watermark else None


def sure_until(opened_at: datetime) -> datetime:
    """Return since when rows of a run's queries may stand where they don't belong.

    A page shows its rows as they are when it is read, at the places that they had when the query began. A transaction that
    commits meanwhile moves the stamp of such a row, to a time that may lie before the query. It can't lie before this
    moment, from which on the next run reads everything again anyway.
    """
    return opened_at - OVERLAP


def next_window(connection: Connection, fields_key: str) -> datetime | None:
    """As start_of(); what wasn't read until now (a new opt-out field, one that became visible) starts a full read.

    fields_key: salesforce/fields.py, ReadFields.key.
    """
    if is_more(fields_key, connection.opt_out_field_read):
        return None
    return start_of(connection.watermark)


def resume_point(run: SyncRun) -> tuple[Position | None, tuple[datetime, Position | None] | None]:
    """Return the checkpoint of a run, and, where it isn't sure, what else to ask for (salesforce/soql.py: contacts)."""
    after = position(run.checkpoint_stamp, run.checkpoint_id)
    if after is None or run.opened_at is None or after[0] < sure_until(run.opened_at):
        return after, None
    return after, (sure_until(run.opened_at), position(run.sure_stamp, run.sure_id))


def position(stamp: datetime | None, last_id: str | None) -> Position | None:
    return (stamp, last_id) if stamp and last_id else None
