"""How often something was tried within the hour."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.database import Base, UTCDateTime


class AttemptCount(Base):
    """One count. key: a hash of what is counted, for which account or address and from which network."""

    __tablename__ = "attempts"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int]
    ends_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)  # then it starts at zero again
