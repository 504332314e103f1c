"""A connection has the lease of the check that is under way for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("connections", sa.Column("lease", sa.String(length=32), nullable=True))
    op.add_column("connections", sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("connections", "lease_until")
    op.drop_column("connections", "lease")
