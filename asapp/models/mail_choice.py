"""Which mails about their contacts and leads people want, and when the next is due."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import one_of


class Digest(StrEnum):
    DAILY = "daily"  # on weekdays
    WEEKLY = "weekly"
    OFF = "off"


class LeadMails(StrEnum):
    ALL = "all"
    REFUSED = "refused"
    OFF = "off"


WAITS_FOR_LEADS = text("leads_due_at IS NOT NULL")


class MailChoice(Base):
    """Not in users, as a sync locks that row. The tick makes the rows of new advisors."""

    __tablename__ = "mail_choices"
    __table_args__ = (
        one_of("digest", Digest),
        one_of("lead_mails", LeadMails),
        Index("ix_mail_choices_digest", "digest_due_at"),
        Index(
            "ix_mail_choices_leads",
            "leads_due_at",
            sqlite_where=WAITS_FOR_LEADS,
            postgresql_where=WAITS_FOR_LEADS,
        ),
    )

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(8), default=Digest.DAILY)
    digest_due_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # empty: off, or not planned yet
    digest_until: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)  # what happened before was told
    lead_mails: Mapped[str] = mapped_column(String(8), default=LeadMails.ALL)
    leads_due_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # empty: nothing to tell
    leads_until: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)  # as digest_until, of leads
