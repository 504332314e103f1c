"""Where a run reads.

The watermark is when the first query of the last complete run was answered, by Salesforce's clock. It is not the newest
stamp that we have seen: an import leaves thousands of rows with one stamp, and we would read them again for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from asapp.models import Connection

OVERLAP = timedelta(minutes=15)  # a slow Salesforce transaction can surface after a newer one


def start_of(watermark: datetime | None) -> datetime | None:
    """Return the oldest SystemModstamp the next run has to read; None reads everything."""
    return watermark - OVERLAP if watermark else None


def next_window(connection: Connection, opt_out_field: str) -> datetime | None:
    """As start_of(); a new opt-out field starts a full read, since nothing that we know was read with it."""
    if connection.opt_out_field_read != opt_out_field:
        return None
    return start_of(connection.watermark)
