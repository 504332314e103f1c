"""People stay with their firm when the advisor moves; identities in the audit log can be erased, and not changed otherwise."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.append_only import allow_blanking, only_blanking

revision = "0006"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not as a batch: SQLite would copy the table and, dropping the old one, cascade to the rows that refer to it.
    op.add_column("contacts", sa.Column("left_firm_id", sa.Integer(), nullable=True))
    op.add_column("users", sa.Column("moved_at", sa.DateTime(timezone=True), nullable=True))
    only_blanking("audit_identities", kept=("id", "user_id", "partner_id"), blanked=("name", "email", "client_address"))


def downgrade() -> None:
    allow_blanking("audit_identities")
    op.execute("ALTER TABLE users DROP COLUMN moved_at")
    op.execute("ALTER TABLE contacts DROP COLUMN left_firm_id")
