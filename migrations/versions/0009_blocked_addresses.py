"""Addresses that opted out, and tombstones of people deleted or erased here, in tables of their own.

Filled from what is known: opted-out contacts of the ledger, opted-out Leads that were sent, and erased people.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blocked_addresses",
        sa.Column("connection_id", sa.Integer(), nullable=False),
        sa.Column("salesforce_id", sa.String(length=18), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("address_hash", sa.LargeBinary(length=32), nullable=False),
        sa.CheckConstraint("kind IN ('contact', 'lead')", name=op.f("ck_blocked_addresses_kind")),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.id"],
            name=op.f("fk_blocked_addresses_connection_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_blocked_addresses_user_id")),
        sa.PrimaryKeyConstraint("connection_id", "salesforce_id", name=op.f("pk_blocked_addresses")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_blocked_addresses_address", "blocked_addresses", ["user_id", "address_hash"])
    op.create_table(
        "tombstones",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("salesforce_id", sa.String(length=18), nullable=True),
        sa.Column("address_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('hidden', 'erased')", name=op.f("ck_tombstones_kind")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tombstones_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstones")),
    )
    op.create_index("ix_tombstones_user", "tombstones", ["user_id"])
    op.add_column("connections", sa.Column("lead_opt_outs_watermark", sa.DateTime(timezone=True), nullable=True))
    give_a_default()
    fill()


def give_a_default() -> None:
    """Allow rows to be inserted without twin_opted_out, which the previous release still reads."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("contacts", "twin_opted_out", server_default=sa.false())
        return
    # Not as a batch: SQLite would copy the table and, dropping the old one, cascade to the rows that refer to it.
    op.add_column("contacts", sa.Column("twin_with_default", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE contacts SET twin_with_default = twin_opted_out WHERE twin_opted_out")
    op.execute("ALTER TABLE contacts DROP COLUMN twin_opted_out")
    op.execute("ALTER TABLE contacts RENAME COLUMN twin_with_default TO twin_opted_out")


def fill() -> None:
    columns = "INSERT INTO blocked_addresses (connection_id, salesforce_id, kind, user_id, address_hash)"
    op.execute(
        f"{columns} SELECT l.connection_id, l.salesforce_id, 'contact', c.user_id, l.address_hash "
        "FROM ledger l JOIN connections c ON c.id = l.connection_id "
        "WHERE l.outcome = 'opted_out' AND l.address_hash IS NOT NULL"
    )
    op.execute(
        f"{columns} SELECT connection_id, salesforce_id, 'lead', user_id, address_hash FROM leads "
        "WHERE id IN (SELECT max(id) FROM leads WHERE opted_out AND NOT is_deleted AND state IN ('sent', 'linked') "
        "AND connection_id IS NOT NULL AND salesforce_id IS NOT NULL GROUP BY connection_id, salesforce_id)"
    )
    marks = "INSERT INTO tombstones (user_id, kind, salesforce_id, created_at)"
    op.execute(
        f"{marks} SELECT user_id, 'erased', salesforce_id, erased_at FROM contacts "
        "WHERE erased_at IS NOT NULL AND salesforce_id IS NOT NULL"
    )
    for column in ("salesforce_id", "linked_contact_id"):
        op.execute(
            f"{marks} SELECT user_id, 'erased', {column}, changed_at FROM leads "
            f"WHERE state = 'erased' AND {column} IS NOT NULL"
        )


def downgrade() -> None:
    op.execute("ALTER TABLE connections DROP COLUMN lead_opt_outs_watermark")
    op.drop_index("ix_tombstones_user", table_name="tombstones")
    op.drop_table("tombstones")
    op.drop_index("ix_blocked_addresses_address", table_name="blocked_addresses")
    op.drop_table("blocked_addresses")
