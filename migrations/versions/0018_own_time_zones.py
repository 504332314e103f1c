"""Each person's time zone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("time_zone", sa.String(64)))


def downgrade() -> None:
    op.execute("ALTER TABLE users DROP COLUMN time_zone")
