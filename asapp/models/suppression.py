"""Addresses that an advisor must not write to because of something that happened on our side.

Events are append-only (suppression_events); what they amount to now is derived from them and stored beside them
(suppressions), so that contacts/status.py can query it by index. Only contacts/suppressions.py writes both. Addresses are
keyed hashes (contacts/addresses.py), so both outlive the contact, the connection and the person's erasure.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import append_only, one_of


class SuppressionStep(StrEnum):
    """What happened to an address. The first three start a suppression, the others end one."""

    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    BOUNCED = "bounced"
    OPTED_IN = "opted_in"  # again, on the advisor's form: ends unsubscribed and complained
    TRIED_AGAIN = "tried_again"  # the advisor pressed "Try this address again": ends bounced
    UNDONE = "undone"  # taken back within minutes: the event `undoes_id` doesn't count


class SuppressionSource(StrEnum):
    PAGE = "page"  # the unsubscribe page
    ONE_CLICK = "one_click"  # the mail program's own button (RFC 8058)
    SENDER = "sender"  # an event from the mail engine
    FORM = "form"  # the advisor's sign-up page
    ADVISOR = "advisor"
    EARLIER_FIRM = "earlier_firm"  # carried over when the advisor moved to another firm


IS_FOR_FIRM = text("user_id IS NULL")
IS_FOR_ADVISOR = text("user_id IS NOT NULL")
HAS_SENDER_ID = text("sender_event_id IS NOT NULL")
IS_FROM_SENDER = text("source = 'sender'")
WORDS_MAX = 500


class Suppression(Base):
    """What holds for one address of one advisor, or, if user_id is empty, of every advisor of the firm.

    A time is empty if its suppression does not hold. opted_in_at: the last opt-in on this advisor's form, which also ends
    an older suppression for the whole firm, for this advisor only.
    """

    __tablename__ = "suppressions"
    __table_args__ = (
        Index(
            "uq_suppressions_advisor",
            "user_id",
            "address_hash",
            unique=True,
            sqlite_where=IS_FOR_ADVISOR,
            postgresql_where=IS_FOR_ADVISOR,
        ),
        Index(
            "uq_suppressions_firm",
            "partner_id",
            "address_hash",
            unique=True,
            sqlite_where=IS_FOR_FIRM,
            postgresql_where=IS_FOR_FIRM,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))  # the firm whose key made the hash
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    address_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    unsubscribed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    complained_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    bounced_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    opted_in_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    tried_again_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    changed_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)


@append_only
class SuppressionEvent(Base):
    """One event about an address, as reported. `at` decides which events count, not the order in which they came."""

    __tablename__ = "suppression_events"
    __table_args__ = (
        one_of("step", SuppressionStep),
        one_of("source", SuppressionSource),
        Index("ix_suppression_events_address", "partner_id", "address_hash"),
        Index(
            "uq_suppression_events_sender",
            "user_id",
            "sender_event_id",
            unique=True,
            sqlite_where=HAS_SENDER_ID,
            postgresql_where=HAS_SENDER_ID,
        ),
        Index(
            "ix_suppression_events_sent",
            "recorded_at",
            sqlite_where=IS_FROM_SENDER,
            postgresql_where=IS_FROM_SENDER,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))  # empty: every advisor of the firm
    address_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    step: Mapped[str] = mapped_column(String(12))
    source: Mapped[str] = mapped_column(String(12))
    at: Mapped[datetime] = mapped_column(UTCDateTime)  # when it happened; never in the future
    recorded_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    sender_event_id: Mapped[str | None] = mapped_column(String(100))  # the sender's own
    undoes_id: Mapped[int | None] = mapped_column(ForeignKey("suppression_events.id"))


class SuppressionWords(Base):
    """The sender's own words about an event (an SMTP answer, say), beside each contact that had the address then.

    Unlike the event they may name a person. So they belong to the contact: they go with it, and when the person is erased.
    """

    __tablename__ = "suppression_words"

    event_id: Mapped[int] = mapped_column(ForeignKey("suppression_events.id"), primary_key=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, index=True)
    words: Mapped[str] = mapped_column(String(WORDS_MAX))
