"""Departures: who owns a contact that was given away, and when its advisor decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("departures", sa.Column("owner_id", sa.String(18)))
    op.add_column("departures", sa.Column("owner_name", sa.String(255)))
    op.add_column("departures", sa.Column("decided_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    for name in ("decided_at", "owner_name", "owner_id"):
        op.drop_column("departures", name)
