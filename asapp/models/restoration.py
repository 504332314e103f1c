"""When an advisor restored a contact that they had deleted here."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.database import Base, UTCDateTime


class Restoration(Base):
    """A tombstone of a contact that was removed. The one that holds is on the contact itself (Contact.hidden_at)."""

    __tablename__ = "restorations"
    __table_args__ = (Index("ix_restorations_contact", "contact_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"))
    deleted_at: Mapped[datetime] = mapped_column(UTCDateTime)
    restored_at: Mapped[datetime] = mapped_column(UTCDateTime)
