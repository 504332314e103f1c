"""Indexes by which the tick finds the rows that were kept long enough."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_sends_ended", "sends", "ended_at"),
    ("ix_api_usage_hour", "api_usage", "hour"),
    ("ix_password_links_expires_at", "password_links", "expires_at"),
)


def upgrade() -> None:
    for name, table, column in INDEXES:
        op.create_index(name, table, [column])


def downgrade() -> None:
    for name, table, _column in INDEXES:
        op.drop_index(name, table)
