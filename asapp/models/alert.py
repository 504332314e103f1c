"""Alerts: a state that people have to be told of, from when it began until it was over; and the mails about it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, false, text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.core.leases import Leased
from asapp.models.columns import one_of


class AlertKind(StrEnum):
    # of a connection, for its advisor
    RECONNECT = "reconnect"
    OPT_OUTS_SOON = "opt_outs_soon"
    OPT_OUTS_UNKNOWN = "opt_outs_unknown"
    HELD = "held"
    FLOOD = "flood"
    # of a partner, for every admin
    PAUSED = "paused"
    APP_REFUSED = "app_refused"
    RUNS_FAIL = "runs_fail"


IS_OPEN = text("closed_at IS NULL")
IS_WAITING = text("due_at IS NOT NULL")


class Alert(Base):
    """At most one open alert for each kind and subject, by a unique index."""

    __tablename__ = "alerts"
    __table_args__ = (
        one_of("kind", AlertKind),
        CheckConstraint("(connection_id IS NULL) <> (partner_id IS NULL)", name="one_subject"),
        Index(
            "uq_alerts_open_connection",
            "kind",
            "connection_id",
            unique=True,
            sqlite_where=IS_OPEN,
            postgresql_where=IS_OPEN,
        ),
        Index(
            "uq_alerts_open_partner",
            "kind",
            "partner_id",
            unique=True,
            sqlite_where=IS_OPEN,
            postgresql_where=IS_OPEN,
        ),
        Index("ix_alerts_closed_at", "closed_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    connection_id: Mapped[int | None] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), index=True)
    partner_id: Mapped[int | None] = mapped_column(ForeignKey("partners.id", ondelete="CASCADE"), index=True)
    opened_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    closed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class AlertMail(Leased, Base):
    """One alert's mail to one person. due_at: when to try next; empty once it was sent or the alert is over.

    An alert that sends a reminder is due a second time; is_reminder: the first mail was sent. is_over: who was told of the
    alert is due to be told that it is over.
    """

    __tablename__ = "alert_mails"
    __table_args__ = (
        Index("uq_alert_mails_alert_user", "alert_id", "user_id", unique=True),
        Index("ix_alert_mails_waiting", "due_at", "user_id", sqlite_where=IS_WAITING, postgresql_where=IS_WAITING),
        Index("ix_alert_mails_told", "user_id", "sent_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    due_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    attempts: Mapped[int] = mapped_column(default=0)
    is_reminder: Mapped[bool] = mapped_column(default=False, server_default=false())
    is_over: Mapped[bool] = mapped_column(default=False, server_default=false())
    sent_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
