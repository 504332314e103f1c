"""Where a run begins to read, and where it resumes.

The watermark is when the first query of the last complete run was answered, by Salesforce's clock. It is not the newest stamp
that we have read: an import leaves thousands of rows with one stamp, and we would read them again for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from asapp.models import Connection, SyncRun
from asapp.salesforce.fields import is_more

Position = tuple[datetime, str]  # (SystemModstamp, Id) of a row in order
OVERLAP = timedelta(minutes=15)  # a slow Salesforce transaction can surface after a newer one


def start_of(watermark: datetime | None) -> datetime | None:
    """Return the oldest SystemModstamp the next run has to read; None reads everything."""
    return watermark - OVERLAP if watermark else None


def sure_until(opened_at: datetime) -> datetime:
    """Return the earliest stamp from which rows of a run's queries may come out of order.

    A page shows its rows as they are when it is read, at the places that they had when the query began. A transaction that
    commits in between moves the stamp of such a row, to a time that may be before the query. It can't be before the moment
    returned here, from which the next run reads everything again anyway.
    """
    return opened_at - OVERLAP


def next_window(connection: Connection, fields_key: str) -> datetime | None:
    """As start_of(), but None as well where a field is new: another opt-out field, or one that became visible.

    fields_key: ReadFields.key (salesforce/fields.py).
    """
    if is_more(fields_key, connection.opt_out_field_read):
        return None
    return start_of(connection.watermark)


def resume_point(run: SyncRun) -> tuple[Position | None, tuple[datetime, Position | None] | None]:
    """Return (checkpoint of a run, what else to query if rows before it may be out of order: salesforce/soql.py, contacts())."""
    after = position(run.checkpoint_stamp, run.checkpoint_id)
    if after is None or run.opened_at is None or after[0] < sure_until(run.opened_at):
        return after, None
    return after, (sure_until(run.opened_at), position(run.sure_stamp, run.sure_id))


def position(stamp: datetime | None, last_id: str | None) -> Position | None:
    return (stamp, last_id) if stamp and last_id else None
