"""What an advisor has done of the first steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "first_steps",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("page_shared_at", MOMENT),
        sa.Column("signature_made_at", MOMENT),
        sa.Column("hidden_at", MOMENT),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_first_steps_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_first_steps")),
    )


def downgrade() -> None:
    op.drop_table("first_steps")
