"""Contacts that were made here, and those that were deleted here, by time: the page Changes looks at a few days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

IS_MADE_HERE = sa.text("created_in_run_id IS NULL")
IS_HIDDEN = sa.text("hidden_at IS NOT NULL")


def upgrade() -> None:
    for name, column, which in (
        ("ix_contacts_made", "created_at", IS_MADE_HERE),
        ("ix_contacts_hidden", "hidden_at", IS_HIDDEN),
    ):
        op.create_index(name, "contacts", ["user_id", column], sqlite_where=which, postgresql_where=which)


def downgrade() -> None:
    op.drop_index("ix_contacts_hidden", "contacts")
    op.drop_index("ix_contacts_made", "contacts")
