"""Each run notes how many contacts its advisor could email when it ended, and how many it held for a decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_runs", sa.Column("active_after", sa.Integer(), nullable=True))
    op.add_column("sync_runs", sa.Column("held", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("sync_runs", "held")
    op.drop_column("sync_runs", "active_after")
