"""A row for each browser in which a person is logged in, and a quick way to a person's entries in the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


ABOUT_A_PERSON = sa.text("subject_type = 'users'")


def upgrade() -> None:
    op.create_table(
        "login_sessions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=60), nullable=False),
        sa.Column("client_address", sa.String(length=60), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_login_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_sessions")),
        sa.UniqueConstraint("key_sha256", name=op.f("uq_login_sessions_key_sha256")),
        sa.UniqueConstraint("public_id", name=op.f("uq_login_sessions_public_id")),
    )
    op.create_index(op.f("ix_login_sessions_user_id"), "login_sessions", ["user_id"])
    op.create_index(op.f("ix_login_sessions_last_used_at"), "login_sessions", ["last_used_at"])
    op.create_index(
        "ix_audit_entries_person",
        "audit_entries",
        ["subject_id", "id"],
        sqlite_where=ABOUT_A_PERSON,
        postgresql_where=ABOUT_A_PERSON,
    )


def downgrade() -> None:
    op.drop_index("ix_audit_entries_person", table_name="audit_entries")
    op.drop_table("login_sessions")
