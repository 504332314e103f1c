"""Open Leads that a firm brings in like contacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.allowed_values import allow_value, edit_schema, remove_value

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
# Not as a batch: SQLite would copy the table and, dropping the old one, cascade to the rows that refer to it.
COLUMNS = (
    ("connections", sa.Column("open_leads_watermark", MOMENT, nullable=True)),
    ("connections", sa.Column("open_leads_known_until", MOMENT, nullable=True)),
    ("connections", sa.Column("open_leads_count", sa.Integer(), nullable=True)),
    ("sync_runs", sa.Column("leads_stamp", MOMENT, nullable=True)),
    ("sync_runs", sa.Column("leads_id", sa.String(18), nullable=True)),
)
ONE_SOURCE = "(source = 'salesforce') = (connection_id IS NOT NULL)"
TWO_SOURCES = "(source IN ('salesforce', 'salesforce_lead')) = (connection_id IS NOT NULL)"
CHECK = "ck_contacts_salesforce_has_connection"


def upgrade() -> None:
    op.add_column(
        "partners", sa.Column("brings_in_open_leads", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    for table, column in COLUMNS:
        op.add_column(table, column)
    _resize_source(10, 20)
    allow_value("contacts", "source", "salesforce_lead")
    _replace_check(ONE_SOURCE, TWO_SOURCES)
    allow_value("lists", "kind", "open_leads")


def downgrade() -> None:
    op.execute("DELETE FROM lists WHERE kind = 'open_leads'")
    remove_value("lists", "kind", "open_leads")
    for table in ("ledger", "departures"):
        op.execute(f"DELETE FROM {table} WHERE salesforce_id LIKE '00Q%'")  # a Lead's Id
    op.execute("DELETE FROM contacts WHERE source = 'salesforce_lead'")
    _replace_check(TWO_SOURCES, ONE_SOURCE)
    remove_value("contacts", "source", "salesforce_lead")
    _resize_source(20, 10)
    for table, column in reversed(COLUMNS):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column.name}")
    op.execute("ALTER TABLE partners DROP COLUMN brings_in_open_leads")


def _resize_source(before: int, after: int) -> None:
    if op.get_bind().dialect.name == "sqlite":
        edit_schema("contacts", f"source VARCHAR({before})", f"source VARCHAR({after})")
    else:
        op.alter_column("contacts", "source", type_=sa.String(after), existing_nullable=False)


def _replace_check(before: str, after: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        edit_schema("contacts", f"CONSTRAINT {CHECK} CHECK ({before})", f"CONSTRAINT {CHECK} CHECK ({after})")
    else:
        op.drop_constraint(op.f(CHECK), "contacts", type_="check")
        op.create_check_constraint(op.f(CHECK), "contacts", after)
