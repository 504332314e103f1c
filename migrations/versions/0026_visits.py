"""Visits of people, and an index by which the page Changes finds the runs of some days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
INDEX = "ix_sync_runs_connection_finished"


def upgrade() -> None:
    op.create_table(
        "visits",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("last_ended_at", MOMENT),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_visits_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_visits")),
    )
    op.create_index(INDEX, "sync_runs", ["connection_id", "finished_at"])


def downgrade() -> None:
    op.drop_index(INDEX, "sync_runs")
    op.drop_table("visits")
