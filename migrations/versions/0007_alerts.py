"""Alerts: states that people have to be told of, the mails about them, and the indexes by which the tick finds them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"  # as it was released; the file is named by its place in the chain
down_revision = "0006"
branch_labels = None
depends_on = None

OPEN = sa.text("closed_at IS NULL")
WAITING = sa.text("due_at IS NOT NULL")
CONNECTED = "status <> 'disconnected' AND status <> 'needs_reconnect'"
# name -> (columns, condition)
OF_CONNECTIONS = {
    "ix_connections_opt_outs": (["opt_outs_known_until"], "status <> 'disconnected' AND first_synced_at IS NOT NULL"),
    "ix_connections_failing": (["partner_id", "last_failure"], f"failures_in_a_row > 0 AND {CONNECTED}"),
    "ix_connections_well": (["partner_id", "last_good_sync_at"], f"failures_in_a_row = 0 AND {CONNECTED}"),
}


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("connection_id", sa.Integer(), nullable=True),
        sa.Column("partner_id", sa.Integer(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('reconnect', 'opt_outs_soon', 'opt_outs_unknown', 'paused', 'app_refused', 'runs_fail')",
            name=op.f("ck_alerts_kind"),
        ),
        sa.CheckConstraint("(connection_id IS NULL) <> (partner_id IS NULL)", name=op.f("ck_alerts_one_subject")),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_alerts_connection_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_alerts_partner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    for subject in ("connection", "partner"):
        op.create_index(
            f"uq_alerts_open_{subject}",
            "alerts",
            ["kind", f"{subject}_id"],
            unique=True,
            sqlite_where=OPEN,
            postgresql_where=OPEN,
        )
        op.create_index(f"ix_alerts_{subject}_id", "alerts", [f"{subject}_id"])
    op.create_index("ix_alerts_closed_at", "alerts", ["closed_at"])

    op.create_table(
        "alert_mails",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alert_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_mails_alert_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_alert_mails_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_mails")),
    )
    op.create_index("uq_alert_mails_alert_user", "alert_mails", ["alert_id", "user_id"], unique=True)
    op.create_index(
        "ix_alert_mails_waiting", "alert_mails", ["due_at", "user_id"], sqlite_where=WAITING, postgresql_where=WAITING
    )
    op.create_index("ix_alert_mails_told", "alert_mails", ["user_id", "sent_at"])

    # Not as a batch: SQLite would copy the table and, dropping the old one, cascade to the rows that refer to it.
    op.add_column("connections", sa.Column("last_failure", sa.String(length=60), nullable=True))
    for name, (columns, rows) in OF_CONNECTIONS.items():
        where = sa.text(rows)
        op.create_index(name, "connections", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name in OF_CONNECTIONS:
        op.drop_index(name, table_name="connections")
    op.execute("ALTER TABLE connections DROP COLUMN last_failure")
    op.drop_table("alert_mails")
    op.drop_table("alerts")
