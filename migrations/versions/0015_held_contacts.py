"""Held contacts: their opt-outs as last read, until when those count, and the alert about them with its reminder."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

OPEN = sa.text("closed_at IS NULL")
WAITING = sa.text("due_at IS NOT NULL")
HELD = sa.text("state = 'held'")
KINDS_BEFORE = ("reconnect", "opt_outs_soon", "opt_outs_unknown", "paused", "app_refused", "runs_fail")
KINDS = ("reconnect", "opt_outs_soon", "opt_outs_unknown", "held", "paused", "app_refused", "runs_fail")
ALERTS = "id, kind, connection_id, partner_id, opened_at, closed_at"
MAILS = "id, alert_id, user_id, due_at, attempts, lease, lease_until, sent_at"


def upgrade() -> None:
    # Not as a batch: SQLite would copy the table and, dropping the old one, cascade to the rows that refer to it.
    op.add_column("contacts", sa.Column("opt_out_known_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("departures", sa.Column("opted_out", sa.Boolean(), nullable=True))
    op.create_index("ix_departures_held", "departures", ["connection_id"], sqlite_where=HELD, postgresql_where=HELD)
    allow_kinds(KINDS)
    op.add_column("alert_mails", sa.Column("is_reminder", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.execute("ALTER TABLE alert_mails DROP COLUMN is_reminder")
    op.execute("DELETE FROM alerts WHERE kind = 'held'")
    allow_kinds(KINDS_BEFORE)
    op.drop_index("ix_departures_held", table_name="departures")
    op.execute("ALTER TABLE departures DROP COLUMN opted_out")
    op.execute("ALTER TABLE contacts DROP COLUMN opt_out_known_until")


def allow_kinds(kinds: tuple[str, ...]) -> None:
    is_one_of = f"kind IN ({', '.join(repr(kind) for kind in kinds)})"
    if op.get_bind().dialect.name == "sqlite":
        make_tables_again(is_one_of)
        return
    op.drop_constraint(op.f("ck_alerts_kind"), "alerts", type_="check")
    op.create_check_constraint(op.f("ck_alerts_kind"), "alerts", is_one_of)


def make_tables_again(is_one_of: str) -> None:
    """SQLite can't change a check: both tables are created again and their rows copied, mails too since they refer to alerts."""
    for table, columns in (("alert_mails", MAILS), ("alerts", ALERTS)):
        op.execute(f"CREATE TABLE {table}_before AS SELECT {columns} FROM {table}")
        op.drop_table(table)
    create_alerts(is_one_of)
    create_mails()
    for table, columns in (("alerts", ALERTS), ("alert_mails", MAILS)):
        op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_before")
        op.drop_table(f"{table}_before")


def create_alerts(is_one_of: str) -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("connection_id", sa.Integer(), nullable=True),
        sa.Column("partner_id", sa.Integer(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(is_one_of, name=op.f("ck_alerts_kind")),
        sa.CheckConstraint("(connection_id IS NULL) <> (partner_id IS NULL)", name=op.f("ck_alerts_one_subject")),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_alerts_connection_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_alerts_partner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    for subject in ("connection", "partner"):
        op.create_index(
            f"uq_alerts_open_{subject}", "alerts", ["kind", f"{subject}_id"], unique=True, sqlite_where=OPEN
        )
        op.create_index(f"ix_alerts_{subject}_id", "alerts", [f"{subject}_id"])
    op.create_index("ix_alerts_closed_at", "alerts", ["closed_at"])


def create_mails() -> None:
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
    op.create_index("ix_alert_mails_waiting", "alert_mails", ["due_at", "user_id"], sqlite_where=WAITING)
    op.create_index("ix_alert_mails_told", "alert_mails", ["user_id", "sent_at"])
