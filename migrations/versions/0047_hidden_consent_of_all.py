"""Also records that are not here, departures and sign-ups' leads tell whether they are opted out only because the consent record
can't be seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

TABLES = ("ledger", "departures", "leads")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("consent_hidden", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "consent_hidden")
