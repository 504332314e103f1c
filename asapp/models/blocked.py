"""What outlives the rows of a connection: addresses that opted out, and tombstones of people deleted or erased here."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import one_of


class BlockedBy(StrEnum):
    """The kind of the record that opted out."""

    CONTACT = "contact"
    LEAD = "lead"


class BlockedAddress(Base):
    """The address of one record of an advisor's that has opted out in Salesforce, as a keyed hash.

    The row exists while that record exists, is the connected user's (or was sent from here) and is opted out.
    Only contacts/twins.py writes here; contacts/status.py reads it for every contact.
    """

    __tablename__ = "blocked_addresses"
    __table_args__ = (
        one_of("kind", BlockedBy),
        Index("ix_blocked_addresses_address", "user_id", "address_hash"),
        {"sqlite_with_rowid": False},
    )

    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), primary_key=True)
    salesforce_id: Mapped[str] = mapped_column(String(18), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    address_hash: Mapped[bytes] = mapped_column(LargeBinary(32))  # contacts/addresses.py


class TombstoneKind(StrEnum):
    HIDDEN = "hidden"  # deleted here by the advisor; can be restored
    ERASED = "erased"  # on the person's request; nothing of them is stored again


class Tombstone(Base):
    """A person that a sync must not bring back, although no row of contacts says so any more.

    salesforce_id: of a Contact or Lead. address_hash: of the person's address. One of them may be unknown.
    """

    __tablename__ = "tombstones"
    __table_args__ = (one_of("kind", TombstoneKind), Index("ix_tombstones_user", "user_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str] = mapped_column(String(10))
    salesforce_id: Mapped[str | None] = mapped_column(String(18))
    address_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
