"""Bounces that Salesforce reports, the firm's setting for them, and the fields that a connection's watermarks were made with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

KEYS = (("connections", "opt_out_field_read"), ("sync_runs", "opt_out_field"))


def upgrade() -> None:
    # Not as a batch: SQLite would copy the table and, dropping the old one, cascade to the rows that refer to it.
    op.add_column("contacts", sa.Column("bounced_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("contacts", sa.Column("bounce_reason", sa.String(length=255), server_default="", nullable=False))
    op.add_column("contacts", sa.Column("bounced_hash", sa.LargeBinary(length=32), nullable=True))
    op.add_column("partners", sa.Column("skip_bounced", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("connections", sa.Column("lead_fields_read", sa.String(length=255), nullable=True))
    for table, column in KEYS:
        lengthen(table, column, 255)


def downgrade() -> None:
    for table, column in KEYS:
        op.execute(f"UPDATE {table} SET {column} = NULL WHERE length({column}) > 80")
        lengthen(table, column, 80)
    for table, column in (
        ("connections", "lead_fields_read"),
        ("partners", "skip_bounced"),
        ("contacts", "bounced_hash"),
        ("contacts", "bounce_reason"),
        ("contacts", "bounced_at"),
    ):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


def lengthen(table: str, column: str, length: int) -> None:
    """Change the longest allowed text, without copying the table."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(table, column, type_=sa.String(length=length))
        return
    op.add_column(table, sa.Column("changed", sa.String(length=length), nullable=True))
    op.execute(f"UPDATE {table} SET changed = {column}")
    op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    op.execute(f"ALTER TABLE {table} RENAME COLUMN changed TO {column}")
