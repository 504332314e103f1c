"""Contacts, the lists they are on, and the ledger: what became of every contact in Salesforce.

Why a contact is inactive is never stored: contacts/status.py derives it from what is.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
    or_,
    text,
)
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Mapped, mapped_column

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import new_public_id, one_of
from asapp.models.search import SEARCH_KEY_LENGTH, search_key
from asapp.salesforce.records import CONTACT_PREFIX, LEAD_PREFIX, RecordKind


class Reason(StrEnum):
    """Why the platform may not write to a contact."""

    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    BOUNCED = "bounced"
    OPTED_OUT = "opted_out"
    TWIN_OPTED_OUT = "twin_opted_out"
    DELETED = "deleted"
    MERGED = "merged"
    REASSIGNED = "reassigned"
    GONE = "gone"
    HIDDEN_HERE = "hidden_here"
    DISCONNECTED = "disconnected"
    OPT_OUT_UNKNOWN = "opt_out_unknown"


class State(StrEnum):
    """States to filter by, beside a single Reason."""

    ACTIVE = "active"
    HELD = "held"  # active, but mailings leave the contact out until the advisor has decided
    INACTIVE = "inactive"
    SHARES_ADDRESS = "shares_address"  # with another contact that is in use


class ContactSource(StrEnum):
    SALESFORCE = "salesforce"
    SALESFORCE_LEAD = "salesforce_lead"  # an open Lead that the user owns
    LEAD = "lead"  # from the sign-up page
    MANUAL = "manual"


FROM_SALESFORCE = (ContactSource.SALESFORCE, ContactSource.SALESFORCE_LEAD)


def _search_key_of_new_row(context: DefaultExecutionContext) -> str:
    row = context.get_current_parameters()  # type: ignore[no-untyped-call]
    return search_key(row["first_name"], row["last_name"], row["email"])


IS_FOLLOWED = text("followed_by_id IS NOT NULL")
IS_MANUAL = text("source = 'manual'")
IS_MADE_HERE = text("created_in_run_id IS NULL")
IS_HIDDEN = text("hidden_at IS NOT NULL")
# All others are plain records of a connection, in use, and of the kind that their Id says: they are counted by their connection's
# index. Whatever contacts/status.py asks of a contact itself has to be here (tests/domain/test_counting.py looks).
IS_EXCEPTION = text(
    "(connection_id IS NULL OR departed IS NOT NULL OR hidden_at IS NOT NULL OR erased_at IS NOT NULL"
    " OR left_firm_id IS NOT NULL OR opted_out OR bounced_at IS NOT NULL OR opt_out_known_until IS NOT NULL"
    f" OR is_lead OR (source = 'salesforce_lead') <> (salesforce_id >= '{LEAD_PREFIX}'))"
)
IS_NO_EXCEPTION = text(f"NOT {IS_EXCEPTION.text}")


class Contact(Base):
    """A person that an advisor's mail may go to.

    departed: why the record is no longer a contact of the connected user with an address: deleted, merged, reassigned,
    gone, or no_email. A contact that lost its address is kept as a row without personal data (a "shell"), so that its
    lists are still there if the address returns; contacts/queries.py never shows it.
    """

    __tablename__ = "contacts"
    __table_args__ = (
        one_of("source", ContactSource),
        CheckConstraint(
            "departed IN ('deleted', 'merged', 'reassigned', 'gone', 'no_email')",
            name="departed",
        ),
        CheckConstraint(
            "(source IN ('salesforce', 'salesforce_lead')) = (connection_id IS NOT NULL)",
            name="salesforce_has_connection",
        ),
        CheckConstraint("(connection_id IS NULL) OR (salesforce_id IS NOT NULL)", name="connection_has_id"),
        UniqueConstraint("connection_id", "salesforce_id"),
        Index("ix_contacts_search_key", "user_id", "search_key", "id"),
        Index("ix_contacts_address", "user_id", "address_hash"),
        # In the order of the rows: SQLite counts a book three times as fast by it.
        Index("ix_contacts_user", "user_id"),
        Index("ix_contacts_followed_by_id", "followed_by_id", sqlite_where=IS_FOLLOWED, postgresql_where=IS_FOLLOWED),
        # With source, or SQLite would read the whole book by the index above.
        Index("ix_contacts_manual", "user_id", "source", sqlite_where=IS_MANUAL, postgresql_where=IS_MANUAL),
        # For the page Changes, which looks at a few days of a book.
        Index("ix_contacts_made", "user_id", "created_at", sqlite_where=IS_MADE_HERE, postgresql_where=IS_MADE_HERE),
        Index("ix_contacts_hidden", "user_id", "hidden_at", sqlite_where=IS_HIDDEN, postgresql_where=IS_HIDDEN),
        Index("ix_contacts_exceptions", "user_id", sqlite_where=IS_EXCEPTION, postgresql_where=IS_EXCEPTION),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    connection_id: Mapped[int | None] = mapped_column(ForeignKey("connections.id"))
    salesforce_id: Mapped[str | None] = mapped_column(String(18))
    source: Mapped[str] = mapped_column(String(20))
    # For people from the sign-up page: the connection that follows their Lead, and whether they are on "Salesforce
    # Leads".
    followed_by_id: Mapped[int | None] = mapped_column(ForeignKey("connections.id"))
    is_lead: Mapped[bool] = mapped_column(default=False, server_default=false())
    first_name: Mapped[str] = mapped_column(String(80), default="")
    last_name: Mapped[str] = mapped_column(String(120), default="")
    email: Mapped[str] = mapped_column(String(254), default="")
    # Made from first_name, last_name and email: SQL that changes one of them must set it too (models/search.py).
    search_key: Mapped[str] = mapped_column(String(SEARCH_KEY_LENGTH), default=_search_key_of_new_row)
    address_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))  # see contacts/addresses.py
    opted_out: Mapped[bool] = mapped_column(default=False)
    # opted_out only because the person's consent record can't be seen in Salesforce. It explains opted_out; nothing else asks it.
    consent_hidden: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Only the previous release reads it; the next migration may drop it.
    twin_opted_out: Mapped[bool] = mapped_column(server_default=false(), deferred=True)
    # Mail bounced in Salesforce. This counts while bounced_hash equals address_hash: it is about one address
    # (contacts/bounces.py).
    bounced_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    bounce_reason: Mapped[str] = mapped_column(String(255), default="", server_default="")
    bounced_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    departed: Mapped[str | None] = mapped_column(String(12))
    merged_into: Mapped[str | None] = mapped_column(String(18))
    account_id: Mapped[str | None] = mapped_column(String(18))  # the account that is one with this person's contact
    hidden_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # the tombstone
    erased_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # on request: the row is empty, and stays so
    # The firm that kept this person when the advisor moved: hidden and not written to until the advisor comes back.
    left_firm_id: Mapped[int | None] = mapped_column()
    # For a held or kept contact that Salesforce no longer shows: until when its opt-out data counts. Empty: as long as
    # the connection's (connections.opt_outs_known_until).
    opt_out_known_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    system_modstamp: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_in_run_id: Mapped[int | None] = mapped_column(index=True)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    changed_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    @property
    def is_read_only(self) -> bool:
        """Contacts and Leads of Salesforce change in Salesforce only."""
        return self.source in FROM_SALESFORCE

    @property
    def is_converted(self) -> bool:
        """Did the Lead become a contact in Salesforce?"""
        is_lead = self.source == ContactSource.SALESFORCE_LEAD
        return is_lead and (self.merged_into or "").startswith(CONTACT_PREFIX)

    @property
    def page_id(self) -> str | None:
        """Return the Id of the record whose page in Salesforce shows this person: a person's contact has none of its own."""
        return self.account_id or self.salesforce_id

    @property
    def is_hidden(self) -> bool:
        return self.hidden_at is not None

    @property
    def has_bounced(self) -> bool:
        """Has mail to the present address bounced in Salesforce?"""
        return self.bounced_at is not None and self.bounced_hash == self.address_hash

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


class ListKind(StrEnum):
    SALESFORCE_CONTACTS = "salesforce_contacts"
    SALESFORCE_LEADS = "salesforce_leads"
    OPEN_LEADS = "open_leads"
    OWN = "own"
    LIST_VIEW = "list_view"
    CAMPAIGN = "campaign"


CHOSEN_IN_SALESFORCE = (ListKind.LIST_VIEW, ListKind.CAMPAIGN)  # chosen there by the advisor: models/salesforce_list.py
WITH_MEMBERS = (ListKind.OWN, *CHOSEN_IN_SALESFORCE)  # their members are rows of list_members
IS_SYSTEM_LIST = text("kind NOT IN ('own', 'list_view', 'campaign')")


class ContactList(Base):
    """An advisor's list. Who is on the system lists follows from the contacts (contacts/lists.py)."""

    __tablename__ = "lists"
    __table_args__ = (
        one_of("kind", ListKind),
        UniqueConstraint("user_id", "name_key"),
        Index("uq_lists_public_id", "public_id", unique=True),
        Index(
            "uq_lists_system",
            "user_id",
            "kind",
            unique=True,
            sqlite_where=IS_SYSTEM_LIST,
            postgresql_where=IS_SYSTEM_LIST,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str] = mapped_column(String(20), default=ListKind.OWN)
    name: Mapped[str] = mapped_column(String(80))
    name_key: Mapped[str] = mapped_column(String(80))  # the name in lower case; with its Id if it is from Salesforce
    # The API's id. The database fills it in for a release that doesn't know the column.
    public_id: Mapped[str] = mapped_column(String(36), nullable=True, default=new_public_id)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    @property
    def is_own(self) -> bool:
        """Did the advisor make it? Only such lists are changed by hand."""
        return self.kind == ListKind.OWN

    @property
    def is_from_salesforce(self) -> bool:
        """Is it a list view or campaign of Salesforce?"""
        return self.kind in CHOSEN_IN_SALESFORCE

    @property
    def has_members(self) -> bool:
        """Are its members stored? Who is on the others follows from the contacts."""
        return self.kind in WITH_MEMBERS


class ListMember(Base):
    """A contact on one of the advisor's own lists, or on one from Salesforce."""

    __tablename__ = "list_members"

    list_id: Mapped[int] = mapped_column(ForeignKey("lists.id", ondelete="CASCADE"), primary_key=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, index=True)
    added_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=utcnow)  # empty: before this was stored


class LedgerOutcome(StrEnum):
    """What became of a Salesforce contact, or open Lead, of the connected user."""

    SYNCED = "synced"
    OPTED_OUT = "opted_out"
    NO_EMAIL = "no_email"


def is_of_kind(kind: RecordKind, salesforce_id: Any) -> ColumnElement[bool]:
    """Is this column the Id of a Contact, or of a Lead? Sorted, the Ids of all contacts come before those of all Leads."""
    condition: ColumnElement[bool] = (
        salesforce_id < LEAD_PREFIX if kind == RecordKind.CONTACT else salesforce_id >= LEAD_PREFIX
    )
    return condition


def is_known_in_salesforce() -> ColumnElement[bool]:
    """Over Contact: is it a record of Salesforce's, or followed there?"""
    return or_(Contact.connection_id.is_not(None), Contact.followed_by_id.is_not(None))


HAS_HASH = text("address_hash IS NOT NULL")


class LedgerEntry(Base):
    """One row for every Salesforce contact, and open Lead if these come in, that the connected user owns, as of the last sync.

    address_hash is kept for opted-out records only; contacts/twins.py keeps blocked_addresses in step with it. consent_hidden: as
    of Contact.
    """

    __tablename__ = "ledger"
    __table_args__ = (
        one_of("outcome", LedgerOutcome),
        Index(
            "ix_ledger_opted_out_address",
            "connection_id",
            "address_hash",
            sqlite_where=HAS_HASH,
            postgresql_where=HAS_HASH,
        ),
        {"sqlite_with_rowid": False},
    )

    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), primary_key=True)
    salesforce_id: Mapped[str] = mapped_column(String(18), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(10))
    address_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    consent_hidden: Mapped[bool] = mapped_column(default=False, server_default=false())
    swept_in_run_id: Mapped[int | None] = mapped_column()  # the last long full check that saw it


class DepartureState(StrEnum):
    FOUND = "found"  # by the current run
    HELD = "held"  # waits for Approve or Discard
    APPROVED = "approved"  # to be looked up once more, then applied
    DISCARDED = "discarded"  # the advisor keeps these until a different set is found


IS_HELD = text("state = 'held'")
OWNER_NAME_MAX = 255


class Departure(Base):
    """A contact or open Lead that is no longer the user's, by an answer of Salesforce; stored first, applied at a run's end."""

    __tablename__ = "departures"
    __table_args__ = (
        one_of("state", DepartureState),
        Index("ix_departures_held", "connection_id", sqlite_where=IS_HELD, postgresql_where=IS_HELD),
    )

    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), primary_key=True)
    salesforce_id: Mapped[str] = mapped_column(String(18), primary_key=True)
    reason: Mapped[str] = mapped_column(String(12))
    merged_into: Mapped[str | None] = mapped_column(String(18))
    state: Mapped[str] = mapped_column(String(10), default=DepartureState.FOUND)
    found_in_run_id: Mapped[int] = mapped_column()
    was_read: Mapped[bool] = mapped_column()  # its row was read in that run, so it counts among the rows read
    opted_out: Mapped[bool | None] = mapped_column()  # as last answered; empty: no such record was shown
    consent_hidden: Mapped[bool] = mapped_column(default=False, server_default=false())  # as of Contact
    # Who has it now, if it was given to another user: the advisor decides by that. owner_name: empty if Salesforce hides it.
    owner_id: Mapped[str | None] = mapped_column(String(18))
    owner_name: Mapped[str | None] = mapped_column(String(OWNER_NAME_MAX))
    decided_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when the advisor last decided
    found_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
