"""Lists that advisors choose in Salesforce: list views and campaigns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.allowed_values import allow_value, remove_value

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

KINDS = ("list_view", "campaign")
TROUBLES = "'gone', 'no_access', 'field_hidden', 'not_compatible', 'no_answer'"
WAS_SYSTEM_LIST = sa.text("kind <> 'own'")
IS_SYSTEM_LIST = sa.text("kind NOT IN ('own', 'list_view', 'campaign')")


def upgrade() -> None:
    op.create_table(
        "salesforce_lists",
        sa.Column("list_id", sa.Integer(), sa.ForeignKey("lists.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("connection_id", sa.Integer(), sa.ForeignKey("connections.id", ondelete="CASCADE"), nullable=False),
        sa.Column("salesforce_id", sa.String(18), nullable=False),
        sa.Column("about", sa.String(20), nullable=False),
        sa.Column("scope", sa.String(40), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("new_scope", sa.String(40)),
        sa.Column("new_condition", sa.Text()),
        sa.Column("changed_at", sa.DateTime(timezone=True)),
        sa.Column("trouble", sa.String(20)),
        sa.Column("trouble_since", sa.DateTime(timezone=True)),
        sa.Column("asked_at", sa.DateTime(timezone=True)),
        sa.Column("read_at", sa.DateTime(timezone=True)),
        sa.Column("not_here", sa.JSON(), nullable=False),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("connection_id", "salesforce_id"),
        sa.CheckConstraint(f"trouble IN ({TROUBLES})", name=op.f("ck_salesforce_lists_trouble")),
        sa.CheckConstraint(
            "(trouble IS NULL) = (trouble_since IS NULL)", name=op.f("ck_salesforce_lists_trouble_has_a_start")
        ),
        sa.CheckConstraint(
            "(new_condition IS NULL) = (changed_at IS NULL)", name=op.f("ck_salesforce_lists_change_has_a_start")
        ),
    )
    for kind in KINDS:
        allow_value("lists", "kind", kind)
    _index(IS_SYSTEM_LIST)


def downgrade() -> None:
    op.drop_table("salesforce_lists")
    for table in ("list_members", "sends"):
        op.execute(
            f"DELETE FROM {table} WHERE list_id IN (SELECT id FROM lists WHERE kind IN ('list_view', 'campaign'))"
        )
    op.execute("DELETE FROM lists WHERE kind IN ('list_view', 'campaign')")
    _index(WAS_SYSTEM_LIST)
    for kind in KINDS:
        remove_value("lists", "kind", kind)


def _index(which: sa.TextClause) -> None:
    """An advisor has each system list once."""
    op.drop_index("uq_lists_system", table_name="lists")
    op.create_index(
        "uq_lists_system", "lists", ["user_id", "kind"], unique=True, sqlite_where=which, postgresql_where=which
    )
