"""People who log in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from flask_login import UserMixin
from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import new_public_id, one_of

if TYPE_CHECKING:
    from asapp.models.partner import Partner
    from asapp.models.second_factor import SecondFactor


class Role(StrEnum):
    ADMIN = "admin"
    ADVISOR = "advisor"


EMPTIED = "!"  # the password hash of an account whose person was deleted with the firm, or erased


class User(UserMixin, Base):  # type: ignore[misc]  # flask-login has no types
    __tablename__ = "users"
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("(role = 'advisor') = (partner_id IS NOT NULL)", name="advisor_has_partner"),
        CheckConstraint("email = lower(email)", name="email_lower"),
        Index("uq_users_public_id", "public_id", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    # The API's id. The database fills it in for a release that doesn't know the column.
    public_id: Mapped[str] = mapped_column(String(36), nullable=True, default=new_public_id)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    # Of an advisor: [the last version of the sign-up page's words that showed it, the name], oldest first.
    earlier_names: Mapped[list[tuple[int, str]]] = mapped_column(JSON, default=list, server_default="[]")
    role: Mapped[str] = mapped_column(String(10))
    partner_id: Mapped[int | None] = mapped_column(ForeignKey("partners.id"), index=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    # Of an admin, by command: where people log in with an identity provider, only these passwords count.
    is_password_allowed: Mapped[bool] = mapped_column(default=False, server_default=false())
    invited_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # empty once the person has set a password
    session_nonce: Mapped[str] = mapped_column(String(32))  # changing it ends every session of this person
    deactivated_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    moved_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # from another firm to the present one
    time_zone: Mapped[str | None] = mapped_column(String(64))  # a name of the tz database; None until it is known
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    partner: Mapped[Partner | None] = relationship()
    second_factor: Mapped[SecondFactor | None] = relationship(passive_deletes=True)

    def get_id(self) -> str:
        """Return what the session cookie carries: it is no longer valid once the nonce changes."""
        return f"{self.id}.{self.session_nonce}"

    def name_at(self, version: int) -> str:
        """Return the name that this version of the sign-up page's words showed."""
        return next((name for last, name in self.earlier_names if version <= last), self.name)

    @property
    def is_active(self) -> bool:
        return self.deactivated_at is None

    @property
    def is_emptied(self) -> bool:
        return self.password_hash == EMPTIED

    @property
    def is_admin(self) -> bool:
        return self.role == Role.ADMIN

    @property
    def is_advisor(self) -> bool:
        return self.role == Role.ADVISOR

    @property
    def has_second_factor(self) -> bool:
        return self.second_factor is not None

    @property
    def has_app(self) -> bool:
        """Does an authenticator app show codes for this person's log-in?"""
        return self.second_factor is not None and self.second_factor.has_app

    @property
    def has_integrations(self) -> bool:
        return self.partner is not None and self.partner.is_ready


class PasswordLinkKind(StrEnum):
    """What a link is for: setting a password, or proving the mailbox before a second step is set up."""

    INVITATION = "invitation"
    RESET = "reset"
    SECOND_STEP = "second_step"


class PasswordLink(Base):
    """A one-time link of a person. The token itself is not stored."""

    __tablename__ = "password_links"
    __table_args__ = (one_of("kind", PasswordLinkKind),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(12))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # used, or replaced by a newer one
