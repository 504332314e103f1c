"""A firm's privacy notice and disclosure on its sign-up pages; sign-ups that are confirmed by a link in an email."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("partners", sa.Column("privacy_url", sa.String(255), server_default="", nullable=False))
    op.add_column("partners", sa.Column("disclosure", sa.String(2000), server_default="", nullable=False))
    op.add_column("partners", sa.Column("confirms_sign_ups", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("leads", sa.Column("confirmed_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.execute("ALTER TABLE leads DROP COLUMN confirmed_at")
    for name in ("confirms_sign_ups", "disclosure", "privacy_url"):
        op.execute(f"ALTER TABLE partners DROP COLUMN {name}")
