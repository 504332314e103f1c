"""An advisor's last act that can be taken back for some minutes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "undos",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=24), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("list_id", sa.Integer(), nullable=True),
        sa.Column("contact_ids", sa.JSON(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('restore', 'put_back')", name=op.f("ck_undos_kind")),
        sa.ForeignKeyConstraint(["list_id"], ["lists.id"], name=op.f("fk_undos_list_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_undos_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_undos")),
    )
    op.create_index(op.f("ix_undos_list_id"), "undos", ["list_id"])


def downgrade() -> None:
    op.drop_table("undos")
