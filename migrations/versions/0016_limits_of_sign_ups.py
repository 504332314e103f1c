"""Limits of sign-ups: people a page takes a day, people a form serves, calls that deliveries may use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.allowed_values import allow_value, remove_value

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

FOR_REVIEW = sa.text("state = 'for_review'")
MOMENT = sa.DateTime(timezone=True)
# (table, column, type, value for existing rows). Not as a batch: SQLite would copy the tables and, dropping the old ones,
# cascade to the rows that refer to them.
NEW = (
    ("opt_in_pages", "daily_limit", sa.Integer(), "500"),
    ("opt_in_pages", "day_began_at", MOMENT, None),
    ("opt_in_pages", "people_that_day", sa.Integer(), "0"),
    ("opt_in_pages", "paused_at", MOMENT, None),
    ("connections", "leads_not_before", MOMENT, None),
    ("api_usage", "lead_calls", sa.Integer(), "0"),
)


def upgrade() -> None:
    for table, name, kind, value in NEW:
        op.add_column(table, sa.Column(name, kind, server_default=value, nullable=value is None))
    allow_value("leads", "state", "for_review")
    allow_value("alerts", "kind", "flood")
    op.create_index(
        "ix_leads_for_review",
        "leads",
        ["user_id", "partner_id", "why"],
        sqlite_where=FOR_REVIEW,
        postgresql_where=FOR_REVIEW,
    )
    op.create_index("ix_consent_events_key", "consent_events", ["key"])


def downgrade() -> None:
    op.drop_index("ix_consent_events_key", table_name="consent_events")
    op.drop_index("ix_leads_for_review", table_name="leads")
    op.execute("DELETE FROM alerts WHERE kind = 'flood'")
    remove_value("alerts", "kind", "flood")
    op.execute("UPDATE leads SET state = 'waiting', why = NULL WHERE state = 'for_review'")
    remove_value("leads", "state", "for_review")
    for table, name, _kind, _value in reversed(NEW):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
