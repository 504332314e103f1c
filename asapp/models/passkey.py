"""Passkeys, with which a person passes the second step, and the challenges that wait for a passkey's answer."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import new_public_id, one_of


class Passkey(Base):
    """A WebAuthn credential of a person, who may have several. No secret is stored: the public key only checks signatures."""

    __tablename__ = "passkeys"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    name: Mapped[str] = mapped_column(String(60))  # given by the person
    credential_id: Mapped[str] = mapped_column(String(1364), unique=True)  # base64url of at most 1023 bytes
    public_key: Mapped[str] = mapped_column(Text)  # COSE, base64url
    sign_count: Mapped[int] = mapped_column(BigInteger)  # of the last use; 0: this kind of passkey doesn't count
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class PasskeyPurpose(StrEnum):
    """What a challenge may be answered for."""

    ADD = "add"
    LOG_IN = "log in"
    CONFIRM = "confirm"


class PasskeyChallenge(Base):
    """Random bytes that a passkey has to sign, deleted with the first answer. Of the browser's token only a hash is stored."""

    __tablename__ = "passkey_challenges"
    __table_args__ = (one_of("purpose", PasskeyPurpose),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    purpose: Mapped[str] = mapped_column(String(10))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    challenge: Mapped[str] = mapped_column(String(86))  # base64url of 64 bytes
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
