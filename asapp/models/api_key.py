"""Keys with which a sender, AdvisorStream's mail engine, uses the API."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import new_public_id
from asapp.models.partner import Partner


class Scope(StrEnum):
    """What a key may do."""

    AUDIENCE_READ = "audience:read"
    EVENTS_WRITE = "events:write"


class ApiKey(Base):
    """The key itself is not kept: key_sha256 finds it. Without a partner it reaches every firm."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    label: Mapped[str] = mapped_column(String(80))
    key_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    ends_with: Mapped[str] = mapped_column(String(4))  # so that an admin can tell keys apart
    scopes: Mapped[str] = mapped_column(String(100))  # separated by spaces
    partner_id: Mapped[int | None] = mapped_column(ForeignKey("partners.id", ondelete="CASCADE"), index=True)
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # to the minute

    partner: Mapped[Partner | None] = relationship()

    @property
    def scope_set(self) -> frozenset[Scope]:
        return frozenset(Scope(scope) for scope in self.scopes.split())

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)
