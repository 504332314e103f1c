"""Firms, and how many calls of their Salesforce API allowance we have used."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ColumnElement, ForeignKey, Index, String, Text, and_, false, func, text, true
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import SealsColumns, new_public_id, one_of

DEFAULT_API_VERSION = "66.0"
DEFAULT_OPT_OUT_FIELD = "HasOptedOutOfEmail"


class Partner(SealsColumns, Base):
    """A firm whose Salesforce org is set up here."""

    __tablename__ = "partners"
    __table_args__ = (
        CheckConstraint("api_share_percent BETWEEN 1 AND 100", name="api_share_percent"),
        CheckConstraint("opt_outs_trusted_days BETWEEN 1 AND 60", name="opt_outs_trusted_days"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    slug: Mapped[str] = mapped_column(String(60), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    is_enabled: Mapped[bool] = mapped_column(default=True)
    stop_began_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # empty once its connections are ended
    salesforce_url: Mapped[str] = mapped_column(String(255))  # origin, without a trailing slash; empty: not known yet
    consumer_key_sealed: Mapped[str | None] = mapped_column(Text)
    consumer_secret_sealed: Mapped[str | None] = mapped_column(Text)
    secret_changed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # A new secret beside the current one: it takes over once Salesforce has accepted it.
    pending_secret_sealed: Mapped[str | None] = mapped_column(Text)
    pending_secret_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # Changes with URL, key and secret: a log-in that was started under other values is refused at its return.
    app_version: Mapped[int] = mapped_column(default=1)
    api_version: Mapped[str] = mapped_column(String(5), default=DEFAULT_API_VERSION)
    opt_out_field: Mapped[str] = mapped_column(String(80), default=DEFAULT_OPT_OUT_FIELD)
    more_opt_out_fields: Mapped[str] = mapped_column(String(120), default="", server_default="")  # listed with commas
    skip_bounced: Mapped[bool] = mapped_column(
        default=True, server_default=true()
    )  # addresses that bounced in Salesforce
    opt_outs_trusted_days: Mapped[int] = mapped_column(default=7)
    # Company of new leads: left out where the org allows that, unless the firm wants its text on every lead.
    is_company_automatic: Mapped[bool] = mapped_column(default=True, server_default=true())
    lead_company: Mapped[str] = mapped_column(String(255), default="[not provided]")
    lead_source: Mapped[str] = mapped_column(String(255), default="AdvisorStream")
    keep_leads_with_advisor: Mapped[bool] = mapped_column(default=True)
    brings_in_open_leads: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Shown on the advisors' sign-up pages: the address of the firm's privacy notice, and its disclosure.
    privacy_url: Mapped[str] = mapped_column(String(255), default="", server_default="")
    disclosure: Mapped[str] = mapped_column(String(2000), default="", server_default="")
    confirms_sign_ups: Mapped[bool] = mapped_column(default=False, server_default=false())  # by a link in an email
    sync_interval_minutes: Mapped[int | None] = mapped_column()  # empty: the setting SYNC_INTERVAL_MINUTES
    api_share_percent: Mapped[int] = mapped_column(default=10)
    # The random key for the hashes of addresses, also of people who were not imported.
    address_key_sealed: Mapped[str | None] = mapped_column(Text)
    # The random key that signs unsubscribe links; it is kept when the firm is deleted, so that its links still work.
    link_key_sealed: Mapped[str | None] = mapped_column(Text)
    # "Tell Salesforce when someone unsubscribes": Email Opt Out is set on the advisor's own records with the address.
    writes_opt_outs_back: Mapped[bool] = mapped_column(default=False, server_default=false())
    # "When Salesforce can't be asked before a send": go on with data up to this many hours old; empty: hold the send.
    sends_on_data_of_hours: Mapped[int | None] = mapped_column()
    # As an advisor's describe showed it: person accounts are on, and a Lead needs no Company.
    has_person_accounts: Mapped[bool] = mapped_column(default=False, server_default=false())
    may_leads_lack_company: Mapped[bool] = mapped_column(default=False, server_default=false())
    # The org's own figures, from the last answer that had them.
    org_calls_used: Mapped[int | None] = mapped_column()
    org_calls_allowed: Mapped[int | None] = mapped_column()
    org_calls_seen_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    api_warned_at: Mapped[datetime | None] = mapped_column(
        UTCDateTime
    )  # when a warning of Salesforce's was last logged
    paused_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    paused_why: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    # A deleted firm keeps an empty row, as the history of consent, which is never deleted, refers to it.
    deleted_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @hybrid_property
    def is_set_up(self) -> bool:
        return bool(self.consumer_key_sealed and self.consumer_secret_sealed)

    @is_set_up.inplace.expression
    @classmethod
    def _is_set_up(cls) -> ColumnElement[bool]:
        return (func.coalesce(cls.consumer_key_sealed, "") != "") & (
            func.coalesce(cls.consumer_secret_sealed, "") != ""
        )

    @hybrid_property
    def is_ready(self) -> bool:
        """May its advisors use the integration?"""
        return self.is_enabled and self.is_set_up

    @is_ready.inplace.expression
    @classmethod
    def _is_ready(cls) -> ColumnElement[bool]:
        return and_(cls.is_enabled, cls.is_set_up)

    @property
    def opt_out_fields(self) -> tuple[str, ...]:
        """Return the opt-out fields that the firm names, up to three."""
        return (self.opt_out_field, *filter(None, self.more_opt_out_fields.split(", ")))

    @property
    def has_consent_records(self) -> bool:
        """Is one of the opt-out fields that of a related record, which an advisor may be unable to see?"""
        return any("." in name for name in self.opt_out_fields)

    @property
    def company_of_leads(self) -> str:
        """Return the Company that new leads are sent with; empty: none."""
        return "" if self.is_company_automatic and self.may_leads_lack_company else self.lead_company

    def is_paused(self, now: datetime) -> bool:
        """Is its Salesforce not called for now, since its calls are used up or it doesn't answer?"""
        return self.paused_until is not None and self.paused_until > now

    @classmethod
    def paused(cls, now: datetime) -> ColumnElement[bool]:
        """As is_paused(), in a query."""
        return and_(cls.paused_until.is_not(None), cls.paused_until > now)

    @property
    def salesforce_host(self) -> str:
        return self.salesforce_url.split("://", 1)[-1]


class CheckVerdict(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"  # not known yet


class PartnerCheck(Base):
    """The last result of one check of a partner's set-up. code and why are keys of messages/checks.py."""

    __tablename__ = "partner_checks"
    __table_args__ = (one_of("verdict", CheckVerdict),)

    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id", ondelete="CASCADE"), primary_key=True)
    code: Mapped[str] = mapped_column(String(30), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(10))
    why: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(String(400), default="")  # names of fields, figures; never a secret
    checked_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)


class SetupLink(Base):
    """An invitation to a firm's Salesforce admin, who has no account here. The token itself is not stored."""

    __tablename__ = "setup_links"
    __table_args__ = (
        Index(
            "uq_setup_links_open",
            "partner_id",
            unique=True,
            sqlite_where=text("used_at IS NULL AND revoked_at IS NULL"),
            postgresql_where=text("used_at IS NULL AND revoked_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(120))  # of the firm's Salesforce admin
    email: Mapped[str] = mapped_column(String(254))
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    def is_open(self, now: datetime) -> bool:
        return self.used_at is None and self.revoked_at is None and self.expires_at > now


class ApiUsage(Base):
    """Our own calls to a partner's org, by the hour."""

    __tablename__ = "api_usage"

    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(UTCDateTime, primary_key=True, index=True)
    calls: Mapped[int] = mapped_column(default=0)
    lead_calls: Mapped[int] = mapped_column(default=0)  # of these, to deliver leads
