"""Calls to firms' Salesforce, as a log for people who ask what we did there."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.database import Base, UTCDateTime

IS_COUNTED = text("hour IS NOT NULL")


class OrgCall(Base):
    """One call, or the quiet checks of an advisor within an hour (calls > 1, hour).

    Without foreign keys: writing it locks no other row, and it outlives what it is about. kind: a CallKind. outcome: an HTTP
    status, or a Code. No text of ours or of Salesforce's is here. See docs/decisions/19-the-log-of-calls.md.
    """

    __tablename__ = "org_calls"
    __table_args__ = (
        Index("ix_org_calls_firm", "partner_id", "id"),
        Index("ix_org_calls_advisor", "user_id", "id"),
        Index(
            "uq_org_calls_hour",
            "partner_id",
            "user_id",
            "hour",
            unique=True,
            sqlite_where=IS_COUNTED,
            postgresql_where=IS_COUNTED,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
    partner_id: Mapped[int] = mapped_column()
    user_id: Mapped[int | None] = mapped_column()
    hour: Mapped[datetime | None] = mapped_column(UTCDateTime)  # of counted checks
    kind: Mapped[str] = mapped_column(String(20))
    calls: Mapped[int] = mapped_column(default=1)
    rows: Mapped[int] = mapped_column(default=0)
    outcome: Mapped[str] = mapped_column(String(60))
    took_ms: Mapped[int] = mapped_column(default=0)  # of all these calls
