"""How far a full check of Ids has come, so that a long one continues in the next time slice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"  # as it was released; the file is named by its place in the chain
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_runs", sa.Column("sweep_after_id", sa.String(length=18), nullable=True))
    op.add_column("sync_runs", sa.Column("swept", sa.Integer(), nullable=True))
    op.add_column("ledger", sa.Column("swept_in_run_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("ledger", "swept_in_run_id")
    op.drop_column("sync_runs", "swept")
    op.drop_column("sync_runs", "sweep_after_id")
