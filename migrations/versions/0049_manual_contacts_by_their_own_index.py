"""SQLite asks the small index for contacts made by hand again: with one column, it took the index of all of an advisor's contacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None

IS_MANUAL = sa.text("source = 'manual'")


def upgrade() -> None:
    op.drop_index("ix_contacts_manual", "contacts")
    op.create_index(
        "ix_contacts_manual", "contacts", ["user_id", "source"], sqlite_where=IS_MANUAL, postgresql_where=IS_MANUAL
    )


def downgrade() -> None:
    op.drop_index("ix_contacts_manual", "contacts")
    op.create_index("ix_contacts_manual", "contacts", ["user_id"], sqlite_where=IS_MANUAL, postgresql_where=IS_MANUAL)
