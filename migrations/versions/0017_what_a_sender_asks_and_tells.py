"""Suppressions, API keys, prepared sends, and opt-outs that are written back to Salesforce."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.allowed_values import allow_value, remove_value
from migrations.append_only import allow_changes, forbid_changes

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
STEPS = ("unsubscribed", "complained", "bounced", "opted_in", "tried_again", "undone")
SOURCES = ("page", "one_click", "sender", "form", "advisor", "earlier_firm")
FOR_FIRM, FOR_ADVISOR = sa.text("user_id IS NULL"), sa.text("user_id IS NOT NULL")
HAS_SENDER_ID = sa.text("sender_event_id IS NOT NULL")
IS_PREPARING, IS_WAITING = sa.text("state = 'preparing'"), sa.text("state = 'waiting'")
WITH_PUBLIC_ID = ("users", "lists")
# (column, type, value for existing rows). Not as a batch: SQLite would copy the table and, dropping the old one, cascade.
SETTINGS = (
    ("link_key_sealed", sa.Text(), None),
    ("writes_opt_outs_back", sa.Boolean(), sa.false()),
    ("sends_on_data_of_hours", sa.Integer(), None),
)


def upgrade() -> None:
    for name, kind, value in SETTINGS:
        op.add_column("partners", sa.Column(name, kind, server_default=value, nullable=value is None))
    for table in WITH_PUBLIC_ID:
        _add_public_id(table)
    allow_value("sync_runs", "trigger", "send")
    _create_suppressions()
    _create_api_keys()
    _create_sends()
    _create_opt_out_writes()


def downgrade() -> None:
    op.drop_table("opt_out_writes")
    op.drop_table("sends")
    op.drop_table("api_keys")
    allow_changes("suppression_events")
    op.drop_table("suppression_events")
    op.drop_table("suppressions")
    op.execute("UPDATE sync_runs SET trigger = 'scheduled' WHERE trigger = 'send'")
    remove_value("sync_runs", "trigger", "send")
    for table in reversed(WITH_PUBLIC_ID):
        _drop_public_id(table)
    for name, _kind, _value in reversed(SETTINGS):
        op.execute(f"ALTER TABLE partners DROP COLUMN {name}")


def _add_public_id(table: str) -> None:
    """Add the id; the previous release doesn't know the column, so the database fills it in."""
    if op.get_bind().dialect.name == "sqlite":
        op.add_column(table, sa.Column("public_id", sa.String(36), nullable=True))
        op.execute(f"UPDATE {table} SET public_id = lower(hex(randomblob(16)))")
        op.execute(
            f"CREATE TRIGGER {table}_public_id AFTER INSERT ON {table} WHEN NEW.public_id IS NULL "
            f"BEGIN UPDATE {table} SET public_id = lower(hex(randomblob(16))) WHERE id = NEW.id; END"
        )
    else:
        default = sa.text("gen_random_uuid()::text")
        op.add_column(table, sa.Column("public_id", sa.String(36), nullable=True, server_default=default))
    op.create_index(f"uq_{table}_public_id", table, ["public_id"], unique=True)


def _drop_public_id(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {table}_public_id")
    op.drop_index(f"uq_{table}_public_id", table_name=table)
    op.execute(f"ALTER TABLE {table} DROP COLUMN public_id")


def _one_of(column: str, values: tuple[str, ...], table: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=op.f(f"ck_{table}_{column}"))


def _create_suppressions() -> None:
    op.create_table(
        "suppressions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("partner_id", sa.Integer(), sa.ForeignKey("partners.id"), nullable=False),
        sa.Column("user_id", sa.Integer(), sa.ForeignKey("users.id")),
        sa.Column("address_hash", sa.LargeBinary(32), nullable=False),
        *(
            sa.Column(name, MOMENT)
            for name in ("unsubscribed_at", "complained_at", "bounced_at", "opted_in_at", "tried_again_at")
        ),
        sa.Column("changed_at", MOMENT, nullable=False),
    )
    for name, first, where in (
        ("uq_suppressions_advisor", "user_id", FOR_ADVISOR),
        ("uq_suppressions_firm", "partner_id", FOR_FIRM),
    ):
        op.create_index(
            name, "suppressions", [first, "address_hash"], unique=True, sqlite_where=where, postgresql_where=where
        )
    op.create_table(
        "suppression_events",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("partner_id", sa.Integer(), sa.ForeignKey("partners.id"), nullable=False),
        sa.Column("user_id", sa.Integer(), sa.ForeignKey("users.id")),
        sa.Column("address_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("step", sa.String(12), nullable=False),
        sa.Column("source", sa.String(12), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.Column("sender_event_id", sa.String(100)),
        sa.Column("undoes_id", sa.Integer(), sa.ForeignKey("suppression_events.id")),
        _one_of("step", STEPS, "suppression_events"),
        _one_of("source", SOURCES, "suppression_events"),
    )
    op.create_index("ix_suppression_events_address", "suppression_events", ["partner_id", "address_hash"])
    op.create_index(
        "uq_suppression_events_sender",
        "suppression_events",
        ["user_id", "sender_event_id"],
        unique=True,
        sqlite_where=HAS_SENDER_ID,
        postgresql_where=HAS_SENDER_ID,
    )
    forbid_changes("suppression_events")


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("public_id", sa.String(36), nullable=False, unique=True),
        sa.Column("label", sa.String(80), nullable=False),
        sa.Column("key_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("ends_with", sa.String(4), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("partner_id", sa.Integer(), sa.ForeignKey("partners.id", ondelete="CASCADE"), index=True),
        sa.Column("created_by_id", sa.Integer(), sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("created_at", MOMENT, nullable=False),
        *(sa.Column(name, MOMENT) for name in ("expires_at", "revoked_at", "last_used_at")),
    )


def _create_sends() -> None:
    op.create_table(
        "sends",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("send_scope", sa.Integer(), nullable=False),
        sa.Column("sender_send_id", sa.String(100), nullable=False),
        sa.Column("list_id", sa.Integer(), sa.ForeignKey("lists.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("max_age_minutes", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("as_of", MOMENT),
        sa.Column("expires_at", MOMENT),
        sa.Column("run_id", sa.Integer()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("deadline_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        _one_of("state", ("preparing", "ready", "stale", "refused"), "sends"),
    )
    op.create_index("uq_sends_sender", "sends", ["send_scope", "sender_send_id"], unique=True)
    op.create_index(
        "ix_sends_preparing", "sends", ["deadline_at"], sqlite_where=IS_PREPARING, postgresql_where=IS_PREPARING
    )


def _create_opt_out_writes() -> None:
    op.create_table(
        "opt_out_writes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("user_id", sa.Integer(), sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("connection_id", sa.Integer(), sa.ForeignKey("connections.id", ondelete="CASCADE"), nullable=False),
        sa.Column("salesforce_id", sa.String(18), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("why", sa.String(60)),
        sa.Column("why_words", sa.String(500)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("lease", sa.String(32)),
        sa.Column("lease_until", MOMENT),
        _one_of("kind", ("Contact", "Lead", "Account"), "opt_out_writes"),
        _one_of("state", ("waiting", "told", "true_already", "refused", "gone"), "opt_out_writes"),
        sa.UniqueConstraint("connection_id", "salesforce_id"),
    )
    op.create_index(
        "ix_opt_out_writes_due",
        "opt_out_writes",
        ["connection_id", "next_attempt_at"],
        sqlite_where=IS_WAITING,
        postgresql_where=IS_WAITING,
    )
