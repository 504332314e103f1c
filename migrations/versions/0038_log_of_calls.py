"""A log of the calls to firms' Salesforce."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "org_calls",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("partner_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer()),
        sa.Column("hour", sa.DateTime(timezone=True)),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(60), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
    )
    op.create_index("ix_org_calls_at", "org_calls", ["at"])
    op.create_index("ix_org_calls_firm", "org_calls", ["partner_id", "id"])
    op.create_index("ix_org_calls_advisor", "org_calls", ["user_id", "id"])
    is_counted = sa.text("hour IS NOT NULL")
    op.create_index(
        "uq_org_calls_hour",
        "org_calls",
        ["partner_id", "user_id", "hour"],
        unique=True,
        sqlite_where=is_counted,
        postgresql_where=is_counted,
    )


def downgrade() -> None:
    op.drop_table("org_calls")
