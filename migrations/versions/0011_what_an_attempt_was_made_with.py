"""How a lead's last create was sent, and whether a firm's Salesforce encrypts addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leads", sa.Column("ran_assignment", sa.Boolean(), nullable=True))
    op.add_column("leads", sa.Column("was_checked", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("connections", sa.Column("email_encrypted", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE leads SET was_checked = true WHERE why = 'checked'")


def downgrade() -> None:
    op.drop_column("connections", "email_encrypted")
    op.drop_column("leads", "was_checked")
    op.drop_column("leads", "ran_assignment")
