"""Leads: sign-up pages, the outbox, the history of consent; what contacts and connections know of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.append_only import allow_changes, forbid_changes

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NEW_OF_CONNECTIONS = {
    "leads_watermark": sa.DateTime(timezone=True),
    "leads_known_until": sa.DateTime(timezone=True),
    "leads_trouble": sa.String(length=60),
    "leads_rung_at": sa.DateTime(timezone=True),
}


def upgrade() -> None:
    op.create_table(
        "consent_texts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("heading", sa.String(length=120), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_consent_texts_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_texts")),
        sa.UniqueConstraint("user_id", "version", name=op.f("uq_consent_texts_user_id_version")),
    )
    op.create_table(
        "opt_in_pages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("slug", sa.String(length=80), nullable=False),
        sa.Column("frame_hosts", sa.String(length=1000), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_opt_in_pages_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_opt_in_pages")),
        sa.UniqueConstraint("slug", name=op.f("uq_opt_in_pages_slug")),
        sa.UniqueConstraint("user_id", name=op.f("uq_opt_in_pages_user_id")),
    )
    op.create_table(
        "leads",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("partner_id", sa.Integer(), nullable=False),
        sa.Column("contact_id", sa.Integer(), nullable=True),
        sa.Column("first_name", sa.String(length=40), nullable=False),
        sa.Column("last_name", sa.String(length=80), nullable=False),
        sa.Column("email", sa.String(length=80), nullable=False),
        sa.Column("search_key", sa.String(length=400), nullable=False),
        sa.Column("address_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("why", sa.String(length=60), nullable=True),
        sa.Column("why_detail", sa.String(length=255), nullable=True),
        sa.Column("why_words", sa.String(length=500), nullable=True),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unanswered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("connection_id", sa.Integer(), nullable=True),
        sa.Column("salesforce_id", sa.String(length=18), nullable=True),
        sa.Column("linked_kind", sa.String(length=10), nullable=True),
        sa.Column("linked_contact_id", sa.String(length=18), nullable=True),
        sa.Column("owner_id", sa.String(length=18), nullable=True),
        sa.Column("system_modstamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opted_out", sa.Boolean(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("converted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("signed_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_again_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_again_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(state = 'erased') = (address_hash IS NULL)", name=op.f("ck_leads_erased_has_no_address")),
        sa.CheckConstraint("linked_kind IN ('Contact', 'Lead')", name=op.f("ck_leads_linked_kind")),
        sa.CheckConstraint(
            "state IN ('received', 'waiting', 'sending', 'sent', 'linked', 'converted', 'refused', 'please_check', 'erased')",
            name=op.f("ck_leads_state"),
        ),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_leads_connection_id")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_leads_contact_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_leads_partner_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_leads_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leads")),
        sa.UniqueConstraint("public_id", name=op.f("uq_leads_public_id")),
        sa.UniqueConstraint("user_id", "address_hash", name=op.f("uq_leads_user_id_address_hash")),
    )
    with op.batch_alter_table("leads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_leads_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(
            "ix_leads_due",
            ["user_id", "next_attempt_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('received', 'waiting', 'sending')"),
            postgresql_where=sa.text("state IN ('received', 'waiting', 'sending')"),
        )
        batch_op.create_index("ix_leads_newest", ["user_id", "id"], unique=False)
        batch_op.create_index("ix_leads_salesforce_id", ["connection_id", "salesforce_id"], unique=False)

    op.create_table(
        "consent_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("lead_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("consent_text_id", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('opted_in', 'opted_out', 'back_in', 'deleted', 'restored', 'erased')",
            name=op.f("ck_consent_events_kind"),
        ),
        sa.CheckConstraint("source IN ('form', 'salesforce', 'advisor')", name=op.f("ck_consent_events_source")),
        sa.ForeignKeyConstraint(
            ["consent_text_id"], ["consent_texts.id"], name=op.f("fk_consent_events_consent_text_id")
        ),
        sa.ForeignKeyConstraint(["lead_id"], ["leads.id"], name=op.f("fk_consent_events_lead_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_events")),
        sa.UniqueConstraint("lead_id", "key", name=op.f("uq_consent_events_lead_id_key")),
    )
    for table in ("consent_texts", "consent_events"):
        forbid_changes(table)
    for name, kind in NEW_OF_CONNECTIONS.items():
        op.add_column("connections", sa.Column(name, kind, nullable=True))
    # Not as a batch: SQLite would copy the table and, dropping the old one, cascade to lists and receipts.
    op.execute(
        "ALTER TABLE contacts ADD COLUMN followed_by_id INTEGER "
        "CONSTRAINT fk_contacts_followed_by_id REFERENCES connections (id)"
    )
    op.add_column("contacts", sa.Column("is_lead", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("contacts", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in ("erased_at", "is_lead", "followed_by_id"):
        op.execute(f"ALTER TABLE contacts DROP COLUMN {name}")
    for name in NEW_OF_CONNECTIONS:
        op.execute(f"ALTER TABLE connections DROP COLUMN {name}")
    for table in ("consent_texts", "consent_events"):
        allow_changes(table)
    op.drop_table("consent_events")
    with op.batch_alter_table("leads", schema=None) as batch_op:
        batch_op.drop_index("ix_leads_salesforce_id")
        batch_op.drop_index("ix_leads_newest")
        batch_op.drop_index(
            "ix_leads_due",
            sqlite_where=sa.text("state IN ('received', 'waiting', 'sending')"),
            postgresql_where=sa.text("state IN ('received', 'waiting', 'sending')"),
        )
        batch_op.drop_index(batch_op.f("ix_leads_contact_id"))

    op.drop_table("leads")
    op.drop_table("opt_in_pages")
    op.drop_table("consent_texts")
