"""When a contact was put on a list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("list_members", sa.Column("added_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("list_members", "added_at")
