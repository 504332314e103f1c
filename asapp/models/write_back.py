"""The outbox of opt-outs that Salesforce is told about, for firms that want that."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.core.leases import Leased
from asapp.models.columns import one_of


class WriteBackState(StrEnum):
    WAITING = "waiting"
    TOLD = "told"
    TRUE_ALREADY = "true_already"  # Salesforce said so; nothing was sent
    REFUSED = "refused"  # `why` says who can help; nothing is sent until a person asks for it
    GONE = "gone"  # no such record, or no longer the user's


class WrittenKind(StrEnum):
    CONTACT = "Contact"
    LEAD = "Lead"
    ACCOUNT = "Account"  # a person account, where the Contact can't be written
    ADDRESS = "Address"  # no record: the user's open leads with a contact's address are still to be looked for


class Untold(StrEnum):
    """Why Salesforce isn't told, or not yet. It is stored in `why`; messages/write_back.py has the messages."""

    # retried by itself
    NO_ANSWER = "no_answer"
    NO_CALLS = "no_calls"
    RECONNECT = "reconnect"
    BUSY = "busy"  # another transaction has the record
    IN_APPROVAL = "in_approval"
    FIRMS_CODE = "firms_code"  # a trigger or flow of the firm's failed; given up after a day
    # needs the firm's Salesforce admin
    FIELD_LOCKED = "field_locked"
    FIELD_HIDDEN = "field_hidden"
    NO_EDIT = "no_edit"
    FIRMS_RULE = "firms_rule"  # `why_words` is its text, or its field
    DUPLICATE_RULE = "duplicate_rule"
    SET_UP = "set_up"
    PERSON = "person"
    UNKNOWN_REFUSAL = "unknown_refusal"
    # no such record of the user's
    DELETED = "deleted"
    MERGED = "merged"
    CONVERTED = "converted"
    REASSIGNED = "reassigned"
    NOT_VISIBLE = "not_visible"
    # our own fault
    OUR_BUG = "our_bug"


IS_WAITING = text("state = 'waiting'")


class OptOutWrite(Leased, Base):
    """A record of a connection on which Email Opt Out must be set. One row a record, for any number of reasons."""

    __tablename__ = "opt_out_writes"
    __table_args__ = (
        one_of("state", WriteBackState),
        one_of("kind", WrittenKind),
        UniqueConstraint("connection_id", "salesforce_id"),
        Index(
            "ix_opt_out_writes_due",
            "connection_id",
            "next_attempt_at",
            sqlite_where=IS_WAITING,
            postgresql_where=IS_WAITING,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"))
    salesforce_id: Mapped[str] = mapped_column(String(18))
    kind: Mapped[str] = mapped_column(String(10))
    state: Mapped[str] = mapped_column(String(12), default=WriteBackState.WAITING)
    why: Mapped[str | None] = mapped_column(String(60))  # an Untold
    why_words: Mapped[str | None] = mapped_column(String(500))  # text of the firm's own rule
    attempts: Mapped[int] = mapped_column(default=0)  # updates that were sent, or may have been
    next_attempt_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
