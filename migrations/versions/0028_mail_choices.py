"""Which mails about contacts and leads people want, and when the next is due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
IS_DUE = sa.text("leads_due_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "mail_choices",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=8), nullable=False),
        sa.Column("digest_due_at", MOMENT),
        sa.Column("digest_until", MOMENT, nullable=False),
        sa.Column("lead_mails", sa.String(length=8), nullable=False),
        sa.Column("leads_due_at", MOMENT),
        sa.Column("leads_until", MOMENT, nullable=False),
        sa.CheckConstraint("digest IN ('daily', 'weekly', 'off')", name=op.f("ck_mail_choices_digest")),
        sa.CheckConstraint("lead_mails IN ('all', 'refused', 'off')", name=op.f("ck_mail_choices_lead_mails")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_mail_choices_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_mail_choices")),
    )
    op.create_index("ix_mail_choices_digest", "mail_choices", ["digest_due_at"])
    op.create_index(
        "ix_mail_choices_leads", "mail_choices", ["leads_due_at"], sqlite_where=IS_DUE, postgresql_where=IS_DUE
    )


def downgrade() -> None:
    op.drop_table("mail_choices")
