"""Contacts by the connection that follows them, and when to retry the revocation of a grant that was not taken."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

IS_FOLLOWED = sa.text("followed_by_id IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_contacts_followed_by_id",
        "contacts",
        ["followed_by_id"],
        sqlite_where=IS_FOLLOWED,
        postgresql_where=IS_FOLLOWED,
    )
    op.add_column("pending_grants", sa.Column("give_back_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE pending_grants DROP COLUMN give_back_at")
    op.drop_index("ix_contacts_followed_by_id", table_name="contacts")
