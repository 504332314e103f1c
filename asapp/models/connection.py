"""An advisor's link to a Salesforce user, and log-ins at Salesforce in progress."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.core.leases import Leased
from asapp.models.columns import SealsColumns, new_public_id, one_of

if TYPE_CHECKING:
    from asapp.models.partner import Partner
    from asapp.models.user import User


class ConnectionStatus(StrEnum):
    CONNECTED = "connected"
    NEEDS_RECONNECT = "needs_reconnect"
    DISCONNECTED = "disconnected"


NOT_DISCONNECTED = text("status <> 'disconnected'")
# Conditions of the indexes that alerts use. Queries use the same text: SQLite takes a partial index only if it can see
# its condition, and given status = '…' it would choose another index.
HAS_BELIEFS = text("status <> 'disconnected' AND first_synced_at IS NOT NULL")
IS_FAILING = text("failures_in_a_row > 0 AND status <> 'disconnected' AND status <> 'needs_reconnect'")
IS_WELL = text("failures_in_a_row = 0 AND status <> 'disconnected' AND status <> 'needs_reconnect'")


class DisconnectReason(StrEnum):
    """In status_reason of a disconnected connection; empty: revoked at Salesforce, contacts kept."""

    REVOKE_FAILED = "revoke_failed"  # Salesforce did not confirm it
    CONTACTS_REMOVED = "contacts_removed"
    REMOVED_AND_REVOKE_FAILED = "removed_revoke_failed"


class Connection(Leased, SealsColumns, Base):
    """One advisor's link to one Salesforce user, identified by (org id, user id). Its lease: of the check that is under way."""

    __tablename__ = "connections"
    __table_args__ = (
        one_of("status", ConnectionStatus),
        Index(
            "uq_connections_org_user_current",
            "org_id",
            "salesforce_user_id",
            unique=True,
            sqlite_where=NOT_DISCONNECTED,
            postgresql_where=NOT_DISCONNECTED,
        ),
        Index(
            "uq_connections_advisor_current",
            "user_id",
            unique=True,
            sqlite_where=NOT_DISCONNECTED,
            postgresql_where=NOT_DISCONNECTED,
        ),
        Index("ix_connections_due", "status", "next_sync_at"),
        Index(
            "ix_connections_opt_outs", "opt_outs_known_until", sqlite_where=HAS_BELIEFS, postgresql_where=HAS_BELIEFS
        ),
        Index(
            "ix_connections_failing", "partner_id", "last_failure", sqlite_where=IS_FAILING, postgresql_where=IS_FAILING
        ),
        Index("ix_connections_well", "partner_id", "last_good_sync_at", sqlite_where=IS_WELL, postgresql_where=IS_WELL),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"), index=True)
    org_id: Mapped[str] = mapped_column(String(18))
    salesforce_user_id: Mapped[str] = mapped_column(String(18))
    username: Mapped[str] = mapped_column(String(255))
    display_name: Mapped[str] = mapped_column(String(255), default="")
    org_name: Mapped[str] = mapped_column(String(255), default="")
    instance_url: Mapped[str] = mapped_column(String(255))
    scopes: Mapped[str] = mapped_column(String(500), default="")
    status: Mapped[str] = mapped_column(String(20), default=ConnectionStatus.CONNECTED)
    status_reason: Mapped[str | None] = mapped_column(
        String(60)
    )  # a Code, why it needs reconnecting; or a DisconnectReason
    connected_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    status_changed_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    # Tokens. token_version changes with every new pair; the process that refreshes holds the lease until then.
    access_token_sealed: Mapped[str | None] = mapped_column(Text)
    refresh_token_sealed: Mapped[str | None] = mapped_column(Text)
    token_version: Mapped[int] = mapped_column(default=1)
    token_lease: Mapped[str | None] = mapped_column(String(32))
    token_lease_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    token_used_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)  # last time the refresh token was used
    # Refusals with an unknown text, in a row; since when; and the last that counted. See connections/tokens.py.
    unknown_refusals: Mapped[int] = mapped_column(default=0)
    unknown_refusals_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    unknown_refused_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    # Syncing. The watermark is by Salesforce's clock; see sync/watermark.py.
    watermark: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # The fields the watermark was made with: the opt-out fields that were readable, and whether bounces were
    # (salesforce/fields.py).
    opt_out_field_read: Mapped[str | None] = mapped_column(String(255))
    first_synced_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_good_sync_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # Until when our opt-out data counts; if in the past, no one of this connection is written to.
    opt_outs_known_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    swept_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    sweep_wanted: Mapped[bool] = mapped_column(default=False)
    salesforce_count: Mapped[int | None] = mapped_column()  # contacts of this user, as last counted
    next_sync_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    failures_in_a_row: Mapped[int] = mapped_column(default=0)
    last_failure: Mapped[str | None] = mapped_column(String(60))  # of the last failure: a Code of messages/codes.py

    # Leads are followed separately: a failure to read them must not stop the contacts (sync/leads.py).
    leads_watermark: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # As leads_watermark, for the user's opted-out Leads, ours or not; None: read all of them.
    lead_opt_outs_watermark: Mapped[datetime | None] = mapped_column(UTCDateTime)
    leads_known_until: Mapped[datetime | None] = mapped_column(UTCDateTime)  # as opt_outs_known_until, for leads
    lead_fields_read: Mapped[str | None] = mapped_column(String(255))  # as opt_out_field_read
    # Open Leads that are brought in like contacts: as watermark, opt_outs_known_until and salesforce_count. Empty: the
    # firm doesn't bring them in, or no run has read all of them since it does.
    open_leads_watermark: Mapped[datetime | None] = mapped_column(UTCDateTime)
    open_leads_known_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    open_leads_count: Mapped[int | None] = mapped_column()
    leads_trouble: Mapped[str | None] = mapped_column(String(60))  # why they can't be followed: a Code
    # the org encrypts addresses: no query finds people by them
    email_encrypted: Mapped[bool] = mapped_column(default=False, server_default=false())
    leads_rung_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # since when a delivery is enqueued
    leads_not_before: Mapped[datetime | None] = mapped_column(UTCDateTime)  # of the next delivery (leads/outbox.py)

    user: Mapped[User] = relationship()
    partner: Mapped[Partner] = relationship()

    @property
    def opt_outs_as_of(self) -> datetime | None:
        """Return when Salesforce was asked for the oldest of what is known of opt-outs; None if nothing is.

        A run's end is later than its questions, and Salesforce's clock may be ahead of ours. Where leads can't be followed
        they are inactive, so what is known of them makes no one older.
        """
        if self.last_good_sync_at is None:
            return None
        asked_at = [self.last_good_sync_at, self.watermark, self.open_leads_watermark]
        if self.leads_trouble is None:
            asked_at.append(self.leads_watermark)
        return min(moment for moment in asked_at if moment is not None)

    @property
    def is_connected(self) -> bool:
        return self.status == ConnectionStatus.CONNECTED

    @property
    def needs_reconnect(self) -> bool:
        return self.status == ConnectionStatus.NEEDS_RECONNECT

    @property
    def is_disconnected(self) -> bool:
        return self.status == ConnectionStatus.DISCONNECTED

    @property
    def is_revoked_at_salesforce(self) -> bool:
        """Did Salesforce confirm the revocation? For a disconnected one."""
        unheard = (DisconnectReason.REVOKE_FAILED, DisconnectReason.REMOVED_AND_REVOKE_FAILED)
        return self.status_reason not in unheard

    @property
    def are_contacts_removed(self) -> bool:
        """Were its contacts deleted here when it was disconnected?"""
        removed = (DisconnectReason.CONTACTS_REMOVED, DisconnectReason.REMOVED_AND_REVOKE_FAILED)
        return self.status_reason in removed

    @property
    def can_sync(self) -> bool:
        """May its Salesforce data be read: is it connected, and are its firm and its advisor active?"""
        return self.is_connected and self.partner.is_enabled and self.user.is_active

    @property
    def identity(self) -> tuple[str, str]:
        return self.org_id, self.salesforce_user_id


class OAuthState(SealsColumns, Base):
    """A log-in at Salesforce in progress: what its callback must match, kept here and not in a cookie.

    state_sha256 is the hash of the state parameter. The row is consumed once, by the person who started the log-in. Its
    result stays in the row (outcome: a Code or connect.Outcome) and is shown on the panel until the next attempt.
    """

    __tablename__ = "oauth_states"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    state_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id", ondelete="CASCADE"))
    app_version: Mapped[int] = mapped_column()
    salesforce_url: Mapped[str] = mapped_column(String(255))
    redirect_uri: Mapped[str] = mapped_column(String(255))
    code_verifier_sealed: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    outcome: Mapped[str | None] = mapped_column(String(40))
    outcome_detail: Mapped[str | None] = mapped_column(String(80))  # Salesforce's error code
    outcome_words: Mapped[str | None] = mapped_column(String(200))  # and its description, for quoting
    # True if we fetched these from Salesforce. Otherwise the browser brought them: shown to this person, quoted to no
    # admin.
    is_fetched: Mapped[bool] = mapped_column(default=False, server_default=false())


class PendingGrant(SealsColumns, Base):
    """A grant for another Salesforce user or org than the connected one: it waits a short time for Switch or Keep.

    One that has expired waits until Salesforce has revoked it. user_id: None if that advisor has another row.
    """

    __tablename__ = "pending_grants"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id", ondelete="CASCADE"))
    org_id: Mapped[str] = mapped_column(String(18))
    salesforce_user_id: Mapped[str] = mapped_column(String(18))
    username: Mapped[str] = mapped_column(String(255))
    display_name: Mapped[str] = mapped_column(String(255), default="")
    org_name: Mapped[str] = mapped_column(String(255), default="")
    instance_url: Mapped[str] = mapped_column(String(255))
    scopes: Mapped[str] = mapped_column(String(500), default="")
    access_token_sealed: Mapped[str] = mapped_column(Text)
    refresh_token_sealed: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
    give_back_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when Salesforce is asked again to revoke it
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
