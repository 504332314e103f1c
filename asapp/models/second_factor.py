"""The second step of a person's log-in: an authenticator app, passkeys (passkey.py) or both, and recovery codes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import SealsColumns, new_public_id


class SecondFactor(SealsColumns, Base):
    """A person's second step is on: with an authenticator app that was tried once, or with passkeys alone."""

    __tablename__ = "second_factors"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    secret_sealed: Mapped[str | None] = mapped_column(Text)  # base32, as the app has it; None: there is no app
    recovery_key_sealed: Mapped[str] = mapped_column(Text)  # the hashes of the recovery codes are made with it
    last_step: Mapped[int] = mapped_column()  # of the last code that was accepted: none counts twice
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    @property
    def has_app(self) -> bool:
        return self.secret_sealed is not None


class RecoveryCode(Base):
    """A code that opens the second step once. code_hash: HMAC-SHA256 under the person's recovery key, in hex."""

    __tablename__ = "recovery_codes"
    __table_args__ = (UniqueConstraint("user_id", "code_hash"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    code_hash: Mapped[str] = mapped_column(String(64))
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
