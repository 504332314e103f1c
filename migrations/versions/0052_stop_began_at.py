"""When the stop of a firm began whose connections are not all ended yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("partners", sa.Column("stop_began_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("partners", "stop_began_at")
