"""What is known of a list that the advisor chose in Salesforce: a list view or a campaign."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.contact import ContactList
from asapp.salesforce.org_lists import CAMPAIGN, Filter, ListTrouble

TROUBLES = ", ".join(f"'{trouble}'" for trouble in ListTrouble)


class SalesforceList(Base):
    """A list view or campaign that a list here follows. Rules: contacts/salesforce_lists.py.

    about: Contact, Account, Lead or Campaign. scope, condition: the filter that the advisor accepted (salesforce/org_lists.py).
    new_scope, new_condition: the filter that Salesforce shows now, if it is another one; seen since changed_at.
    seen: of a campaign, a digest of its members as the last sync that read them saw them in its first call
    (salesforce/records.py, campaign_digests); None if it has to be read again.
    not_here: {why: how many} of the people who are on it in Salesforce and not here, as last read.
    """

    __tablename__ = "salesforce_lists"
    __table_args__ = (
        UniqueConstraint("connection_id", "salesforce_id"),
        CheckConstraint(f"trouble IN ({TROUBLES})", name="trouble"),
        CheckConstraint("(trouble IS NULL) = (trouble_since IS NULL)", name="trouble_has_a_start"),
        CheckConstraint("(new_condition IS NULL) = (changed_at IS NULL)", name="change_has_a_start"),
    )

    list_id: Mapped[int] = mapped_column(ForeignKey("lists.id", ondelete="CASCADE"), primary_key=True)
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"))
    salesforce_id: Mapped[str] = mapped_column(String(18))
    about: Mapped[str] = mapped_column(String(20))
    scope: Mapped[str] = mapped_column(String(40), default="")
    condition: Mapped[str] = mapped_column(Text, default="")
    new_scope: Mapped[str | None] = mapped_column(String(40))
    new_condition: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    trouble: Mapped[str | None] = mapped_column(String(20))
    trouble_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    asked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # last time it was read, or tried to
    read_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # last time its members were read
    seen: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    not_here: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    chosen_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    contact_list: Mapped[ContactList] = relationship()

    @property
    def is_campaign(self) -> bool:
        return self.about == CAMPAIGN

    @property
    def accepted(self) -> Filter | None:
        """Return the filter by which it is read; None for a campaign."""
        return None if self.is_campaign else Filter(self.about, self.scope, self.condition)

    @property
    def offered(self) -> Filter | None:
        """Return the filter that Salesforce shows now and the advisor has not accepted; None if there is none."""
        if self.new_condition is None:
            return None
        return Filter(self.about, self.new_scope or "", self.new_condition)

    @property
    def is_changed(self) -> bool:
        return self.changed_at is not None

    @property
    def is_frozen(self) -> bool:
        """Does it keep its members because it can't be read?"""
        return self.trouble is not None
