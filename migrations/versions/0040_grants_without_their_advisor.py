"""Several grants of an advisor may wait to be revoked: all but one are kept without the advisor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("pending_grants") as table:
        table.alter_column("user_id", existing_type=sa.Integer(), nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM pending_grants WHERE user_id IS NULL")
    with op.batch_alter_table("pending_grants") as table:
        table.alter_column("user_id", existing_type=sa.Integer(), nullable=False)
