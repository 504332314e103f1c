"""Whether the people of a followed campaign have changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("salesforce_lists", sa.Column("seen", sa.LargeBinary(32)))


def downgrade() -> None:
    op.drop_column("salesforce_lists", "seen")
