"""Mails that a request asked for and a job sends."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.core.leases import Leased
from asapp.models.columns import SealsColumns, new_public_id, one_of


class WaitingKind(StrEnum):
    LETTER = "letter"  # complete; content: to, subject, text
    RESET = "reset"  # a request for a password link; content: the typed address


class WaitingMail(Leased, SealsColumns, Base):
    """Deleted once the mail server has it, or when it would be too late. It may hold a link, so it is sealed."""

    __tablename__ = "waiting_mails"
    __table_args__ = (one_of("kind", WaitingKind),)

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    kind: Mapped[str] = mapped_column(String(10))
    content_sealed: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    due_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
    give_up_at: Mapped[datetime] = mapped_column(UTCDateTime)
    attempts: Mapped[int] = mapped_column(default=0)
