"""Person accounts: the account beside the contact's Id, what kind of org a firm has, and when leads carry a Company."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("contacts", sa.Column("account_id", sa.String(length=18), nullable=True))
    for name, default in (
        ("has_person_accounts", sa.false()),
        ("may_leads_lack_company", sa.false()),
        ("is_company_automatic", sa.true()),
    ):
        op.add_column("partners", sa.Column(name, sa.Boolean(), server_default=default, nullable=False))
    # A firm that had chosen a text of its own wants it on every lead.
    partners = sa.table("partners", sa.column("lead_company", sa.String), sa.column("is_company_automatic", sa.Boolean))
    chosen = partners.c.lead_company != "[not provided]"
    op.execute(partners.update().where(chosen).values(is_company_automatic=sa.false()))


def downgrade() -> None:
    for name in ("is_company_automatic", "may_leads_lack_company", "has_person_accounts"):
        op.drop_column("partners", name)
    op.drop_column("contacts", "account_id")
