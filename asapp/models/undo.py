"""What an advisor may take back, shortly after doing it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import one_of


class UndoKind(StrEnum):
    RESTORE = "restore"  # contacts that were deleted here
    PUT_BACK = "put_back"  # contacts that were taken off a list


class Undo(Base):
    """The last such act of an advisor: each new one takes its place."""

    __tablename__ = "undos"
    __table_args__ = (one_of("kind", UndoKind),)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    token: Mapped[str] = mapped_column(String(24))  # which act the button belongs to
    kind: Mapped[str] = mapped_column(String(12))
    list_id: Mapped[int | None] = mapped_column(ForeignKey("lists.id", ondelete="CASCADE"), index=True)
    contact_ids: Mapped[list[int]] = mapped_column(JSON)
    made_at: Mapped[datetime] = mapped_column(UTCDateTime)
