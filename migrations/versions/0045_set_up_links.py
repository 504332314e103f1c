"""Links that prove the mailbox before a second step is set up."""

from __future__ import annotations

from alembic import op

from migrations.allowed_values import allow_value, remove_value

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    allow_value("password_links", "kind", "second_step")


def downgrade() -> None:
    op.execute("DELETE FROM password_links WHERE kind = 'second_step'")
    remove_value("password_links", "kind", "second_step")
