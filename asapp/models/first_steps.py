"""What an advisor has done of the first steps, where nothing else tells it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.database import Base, UTCDateTime


class FirstSteps(Base):
    __tablename__ = "first_steps"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    page_shared_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    signature_made_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    hidden_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # "Hide this"
