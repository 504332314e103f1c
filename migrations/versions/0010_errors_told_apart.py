"""When an unknown refusal last counted; log-ins whose answer we fetched ourselves; lead refusals that counted as our bugs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("connections", sa.Column("unknown_refused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("oauth_states", sa.Column("is_fetched", sa.Boolean(), server_default=sa.false(), nullable=False))
    # A Salesforce code that was in no table.
    op.execute("UPDATE leads SET why = 'unknown_refusal' WHERE state = 'refused' AND why = 'our_bug'")


def downgrade() -> None:
    op.execute("UPDATE leads SET why = 'our_bug' WHERE state = 'refused' AND why = 'unknown_refusal'")
    op.drop_column("oauth_states", "is_fetched")
    op.drop_column("connections", "unknown_refused_at")
