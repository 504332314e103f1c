"""Log-ins that go on, one for each browser."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import new_public_id


class LoginSession(Base):
    """Deleted when it ends. The key itself is in the browser's cookie alone."""

    __tablename__ = "login_sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    key_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    device: Mapped[str] = mapped_column(String(60), default="")  # "Firefox on Linux"
    client_address: Mapped[str] = mapped_column(String(60), default="")  # of the log-in
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    last_used_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow, index=True)  # to the minute


class Visit(Base):
    """When a person was here, for "since your last visit". Not in users, as a sync locks that row."""

    __tablename__ = "visits"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime)
    last_ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # the end of the visit before this one
