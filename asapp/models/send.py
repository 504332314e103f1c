"""Sends that a sender has asked for."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import one_of


class SendState(StrEnum):
    PREPARING = "preparing"
    READY = "ready"  # good until expires_at
    STALE = "stale"  # Salesforce could not be asked now; `reason` says why
    REFUSED = "refused"  # this list can't be sent to; `reason` says why


class SendReason(StrEnum):
    """Why a send is stale or refused."""

    NOT_SET_UP = "not_set_up"  # the firm is inactive here, or not set up
    ADVISOR_INACTIVE = "advisor_inactive"
    DISCONNECTED = "disconnected"  # the list has people from Salesforce, and no account is connected
    NEEDS_RECONNECT = "needs_reconnect"
    API_ALLOWANCE = "api_allowance"  # the firm's share of Salesforce calls is used up
    WAITING_FOR_ADMIN = "waiting_for_admin"  # the firm's Salesforce admin has to fix something
    SALESFORCE_AWAY = "salesforce_away"
    CANCELLED = "cancelled"  # the advisor cancelled the sync
    TOOK_TOO_LONG = "took_too_long"


IS_PREPARING = text("state = 'preparing'")
EVERY_FIRM = 0  # send_scope of a key that reaches every firm


class Send(Base):
    """One mailing to one list, requested under the sender's own id, which is unique within what the key may access.

    as_of: the age of the opt-out data that the send relies on; set once the recipients were looked up. run_id: the sync
    that the preparation joined or started.
    """

    __tablename__ = "sends"
    __table_args__ = (
        one_of("state", SendState),
        Index("uq_sends_sender", "send_scope", "sender_send_id", unique=True),
        Index("ix_sends_ended", "ended_at"),
        Index("ix_sends_preparing", "deadline_at", sqlite_where=IS_PREPARING, postgresql_where=IS_PREPARING),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    send_scope: Mapped[int] = mapped_column()  # id of the partner that the key is bound to, or EVERY_FIRM
    sender_send_id: Mapped[str] = mapped_column(String(100))
    list_id: Mapped[int] = mapped_column(ForeignKey("lists.id", ondelete="CASCADE"), index=True)
    max_age_minutes: Mapped[int] = mapped_column()
    state: Mapped[str] = mapped_column(String(10), default=SendState.PREPARING)
    reason: Mapped[str | None] = mapped_column(String(40))
    as_of: Mapped[datetime | None] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    run_id: Mapped[int | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    deadline_at: Mapped[datetime] = mapped_column(UTCDateTime)  # it ends by then, whatever happens
    ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @property
    def is_preparing(self) -> bool:
        return self.state == SendState.PREPARING

    @property
    def asked_at(self) -> datetime | None:
        """Return when Salesforce was asked about the recipients for this send; None if it relies on older data, or on none."""
        return self.as_of if self.as_of is not None and self.as_of >= self.created_at else None

    def outcome(self, now: datetime) -> tuple[str, str | None]:
        """Return (state, reason) as a sender sees it. Past its deadline it is stale, even if no process has stored that."""
        if self.is_preparing and self.deadline_at <= now:
            return SendState.STALE, SendReason.TOOK_TOO_LONG
        return self.state, self.reason

    @property
    def is_ready(self) -> bool:
        """Was it prepared? It may have expired since."""
        return self.state == SendState.READY
