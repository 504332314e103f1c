"""A firm may name up to three opt-out fields."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "partners", sa.Column("more_opt_out_fields", sa.String(length=120), server_default="", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("partners", "more_opt_out_fields")
