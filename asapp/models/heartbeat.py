"""When the scheduler, the workers and the dispatch tick were last seen. In the database, as Redis may be emptied."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.database import Base, UTCDateTime


class Heartbeat(Base):
    __tablename__ = "heartbeats"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)  # `tick`, or `<kind>:<host>:<process id>`
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime)
