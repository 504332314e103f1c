"""A second step without an authenticator app: passkeys alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.allowed_values import edit_schema

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

NEEDED = "secret_sealed TEXT NOT NULL"
MAY_BE_MISSING = "secret_sealed TEXT"
WITHOUT_APP = "SELECT user_id FROM second_factors WHERE secret_sealed IS NULL"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        edit_schema("second_factors", NEEDED, MAY_BE_MISSING)
    else:
        op.alter_column("second_factors", "secret_sealed", existing_type=sa.Text(), nullable=True)


def downgrade() -> None:
    """Who has passkeys alone has no second step then: the release before asks for an app."""
    for table in ("passkeys", "recovery_codes"):
        op.execute(f"DELETE FROM {table} WHERE user_id IN ({WITHOUT_APP})")
    op.execute("DELETE FROM second_factors WHERE secret_sealed IS NULL")
    if op.get_bind().dialect.name == "sqlite":
        edit_schema("second_factors", MAY_BE_MISSING, NEEDED)
    else:
        op.alter_column("second_factors", "secret_sealed", existing_type=sa.Text(), nullable=False)
