"""Contacts about which something of its own is known, by an index: all others of a book are counted by their connection."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None

IS_EXCEPTION = text(
    "(connection_id IS NULL OR departed IS NOT NULL OR hidden_at IS NOT NULL OR erased_at IS NOT NULL"
    " OR left_firm_id IS NOT NULL OR opted_out OR bounced_at IS NOT NULL OR opt_out_known_until IS NOT NULL"
    " OR is_lead OR (source = 'salesforce_lead') <> (salesforce_id >= '00Q'))"
)


def upgrade() -> None:
    where = {"sqlite_where": IS_EXCEPTION, "postgresql_where": IS_EXCEPTION}
    op.create_index("ix_contacts_exceptions", "contacts", ["user_id"], **where)


def downgrade() -> None:
    op.drop_index("ix_contacts_exceptions", "contacts")
