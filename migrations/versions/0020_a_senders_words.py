"""A sender's own words about an event, beside each contact with the address; an index of the events of the last hour; and
addresses among what Salesforce is told about.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.allowed_values import allow_value, remove_value

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

FROM_SENDER = sa.text("source = 'sender'")


def upgrade() -> None:
    op.create_table(
        "suppression_words",
        sa.Column("event_id", sa.Integer(), sa.ForeignKey("suppression_events.id"), primary_key=True),
        sa.Column(
            "contact_id",
            sa.Integer(),
            sa.ForeignKey("contacts.id", ondelete="CASCADE"),
            primary_key=True,
            index=True,
        ),
        sa.Column("words", sa.String(500), nullable=False),
    )
    op.create_index(
        "ix_suppression_events_sent",
        "suppression_events",
        ["recorded_at"],
        sqlite_where=FROM_SENDER,
        postgresql_where=FROM_SENDER,
    )
    allow_value("opt_out_writes", "kind", "Address")


def downgrade() -> None:
    op.execute("DELETE FROM opt_out_writes WHERE kind = 'Address'")
    remove_value("opt_out_writes", "kind", "Address")
    op.drop_index("ix_suppression_events_sent", table_name="suppression_events")
    op.drop_table("suppression_words")
