"""Sign-up pages, the people who signed up on them (the outbox to Salesforce), and the history of their consent.

A lead is one person of one advisor, identified by the address. Only its row says who the person is; what was agreed to,
and when, is append-only beside it and names the lead by its id. Erasing empties the lead's row and keeps the history.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.core.leases import Leased
from asapp.models.columns import append_only, new_public_id, one_of

if TYPE_CHECKING:
    from asapp.models.user import User


DAILY_LIMIT = 500  # people a page takes a day, unless its advisor changes it
ADVISOR = "\ue000"  # one character that is never typed, so that no text grows longer than its column


class OptInPage(Base):
    """An advisor's public sign-up page. Its text is the newest of the advisor's ConsentTexts."""

    __tablename__ = "opt_in_pages"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), unique=True)
    slug: Mapped[str] = mapped_column(String(80), unique=True)
    # Origins, separated by spaces, that may show the page in a frame; empty: none.
    frame_hosts: Mapped[str] = mapped_column(String(1000), default="")
    # New people a day; those beyond it wait for the advisor. A day begins with its first person.
    daily_limit: Mapped[int] = mapped_column(default=DAILY_LIMIT)
    day_began_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    people_that_day: Mapped[int] = mapped_column(default=0)
    paused_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # by the advisor; empty: it takes sign-ups
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    changed_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    user: Mapped[User] = relationship()

    @property
    def may_be_framed(self) -> bool:
        return bool(self.frame_hosts)

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None


@append_only
class ConsentText(Base):
    """The page's heading and consent text from some time on. A change makes a new version."""

    __tablename__ = "consent_texts"
    __table_args__ = (UniqueConstraint("user_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    version: Mapped[int] = mapped_column()
    # With ADVISOR in place of the advisor's name, which is in the user's row alone, as are the names before it.
    heading_stored: Mapped[str] = mapped_column("heading", String(120))
    words_stored: Mapped[str] = mapped_column("words", Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    user: Mapped[User] = relationship()

    @property
    def heading(self) -> str:
        return self._shown(self.heading_stored)

    @property
    def words(self) -> str:
        return self._shown(self.words_stored)

    def _shown(self, stored: str) -> str:
        """Return the text as people read it then: with the name that the advisor had while it was the current version."""
        return stored.replace(ADVISOR, self.user.name_at(self.version))

    @staticmethod
    def stored(text: str, name: str) -> str:
        """Return a text as it is stored: without the advisor's name."""
        return replace_name(text, name, ADVISOR)


def replace_name(text: str, name: str, new: str) -> str:
    """Return the text with the new name wherever the name stands as a word of its own."""
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: new, text) if name else text


class LeadState(StrEnum):
    """How far a lead has come. What Salesforce did to it later is in opted_out and is_deleted, which are shown first."""

    RECEIVED = "received"  # nothing was tried yet
    WAITING = "waiting"  # something prevented it; it is retried by itself
    SENDING = "sending"  # a create may have been sent, and no answer is stored
    SENT = "sent"
    LINKED = "linked"  # Salesforce had a contact or an open lead with the address
    CONVERTED = "converted"
    REFUSED = "refused"
    PLEASE_CHECK = "please_check"  # it may be in Salesforce where the user can't see it
    FOR_REVIEW = "for_review"  # stored; sent once the advisor has looked. Why: Review
    ERASED = "erased"


class Review(StrEnum):
    """Why a lead waits for its advisor's review. It is stored in `why`."""

    OVER_LIMIT = "over_limit"  # more people than the page takes in a day
    NOT_CONFIRMED = "not_confirmed"  # waits for the person, not the advisor: see leads/confirming.py
    PAGE_PAUSED = "page_paused"  # the form was open when the page was paused


class ToCheck(StrEnum):
    """Why the advisor has to look in Salesforce whether a lead is there. It is stored in `why`."""

    OUT_OF_SIGHT = "out_of_sight"  # no answer came, and an assignment rule may have reassigned it
    TRIED_ELSEWHERE = "tried_elsewhere"  # an attempt through the previous connection got no answer


class LinkedKind(StrEnum):
    CONTACT = "Contact"
    LEAD = "Lead"


class Unfollowed(StrEnum):
    """Why a lead in Salesforce isn't followed; nothing is sent to the person. It is stored in `why`."""

    MERGED = "merged"  # into a lead that the sync still has to look up
    DOUBLE = "double"  # merged into the lead of another person who signed up here
    REASSIGNED = "reassigned"  # another user's, and not made by this user: its changes don't come
    GONE = "gone"  # deleted for good, or no longer visible: Salesforce doesn't say which


UNDELIVERED = (LeadState.RECEIVED, LeadState.WAITING, LeadState.SENDING)
IS_UNDELIVERED = text("state IN ('received', 'waiting', 'sending')")
IS_FOR_REVIEW = text("state = 'for_review'")  # queries use the same text: SQLite takes the index only then
OUTSIDE_SALESFORCE = (*UNDELIVERED, LeadState.REFUSED, LeadState.PLEASE_CHECK, LeadState.FOR_REVIEW)
IN_SALESFORCE = (LeadState.SENT, LeadState.LINKED, LeadState.CONVERTED)


class Lead(Leased, Base):
    __tablename__ = "leads"
    __table_args__ = (
        one_of("state", LeadState),
        one_of("linked_kind", LinkedKind),
        CheckConstraint(
            "(state = 'erased') = (address_hash IS NULL)",
            name="erased_has_no_address",
        ),
        UniqueConstraint("user_id", "address_hash"),
        Index(
            "ix_leads_due", "user_id", "next_attempt_at", sqlite_where=IS_UNDELIVERED, postgresql_where=IS_UNDELIVERED
        ),
        Index(
            "ix_leads_for_review",
            "user_id",
            "partner_id",
            "why",
            sqlite_where=IS_FOR_REVIEW,
            postgresql_where=IS_FOR_REVIEW,
        ),
        Index("ix_leads_salesforce_id", "connection_id", "salesforce_id"),
        Index("ix_leads_newest", "user_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True, default=new_public_id)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id", ondelete="SET NULL"), index=True)

    # Who it is; empty once erased. details: {key of a consent event: what was typed then, and from where}.
    first_name: Mapped[str] = mapped_column(String(40))
    last_name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(80))
    search_key: Mapped[str] = mapped_column(String(400), default="")  # models/search.py
    address_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))  # contacts/addresses.py
    details: Mapped[dict[str, dict[str, Any]]] = mapped_column(JSON, default=dict)

    # The outbox. A delivery holds the lease and writes `WHERE lease = mine`.
    state: Mapped[str] = mapped_column(String(12), default=LeadState.RECEIVED)
    why: Mapped[str | None] = mapped_column(
        String(60)
    )  # why it waits, was refused or isn't followed: a Code, ToCheck, Review or Unfollowed
    why_detail: Mapped[str | None] = mapped_column(String(255))  # a field, Salesforce's code
    why_words: Mapped[str | None] = mapped_column(String(500))  # text of the firm's own rule
    next_attempt_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    failures: Mapped[int] = mapped_column(default=0)  # failed rounds in a row
    attempts: Mapped[int] = mapped_column(default=0)  # creates that were sent, or may have been
    # By Salesforce's clock: the first create, and the last one without a known answer.
    first_attempt_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    unanswered_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # How the last create was sent; the firm's settings may have changed since. None: from before this was stored.
    ran_assignment: Mapped[bool | None] = mapped_column()  # with assignment rules: it may be out of sight
    was_checked: Mapped[bool] = mapped_column(
        default=False, server_default=false()
    )  # the advisor has looked since: not there

    # What became of it in Salesforce. connection_id: the connection it was sent or tried through.
    connection_id: Mapped[int | None] = mapped_column(ForeignKey("connections.id"))
    salesforce_id: Mapped[str | None] = mapped_column(String(18))  # of the Lead
    linked_kind: Mapped[str | None] = mapped_column(String(10))
    linked_contact_id: Mapped[str | None] = mapped_column(String(18))  # of the Contact it was linked or converted to
    owner_id: Mapped[str | None] = mapped_column(String(18))
    system_modstamp: Mapped[datetime | None] = mapped_column(UTCDateTime)
    opted_out: Mapped[bool] = mapped_column(default=False)
    consent_hidden: Mapped[bool] = mapped_column(default=False, server_default=false())  # as of Contact
    is_deleted: Mapped[bool] = mapped_column(default=False)
    delivered_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # sent or linked
    converted_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    signed_up_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    confirmed_at: Mapped[datetime | None] = mapped_column(
        UTCDateTime
    )  # by the link in an email, where the firm wants it
    asked_again_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # the last sign-up after the first
    asked_again_seen_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # the advisor has been told
    changed_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()

    @property
    def is_erased(self) -> bool:
        return self.state == LeadState.ERASED

    @property
    def is_followed(self) -> bool:
        return self.why not in set(Unfollowed)

    @property
    def can_retry(self) -> bool:
        return self.state in (LeadState.REFUSED, LeadState.WAITING)

    @property
    def is_refused(self) -> bool:
        return self.state == LeadState.REFUSED

    @property
    def is_in_queue(self) -> bool:
        """Is its owner in Salesforce a queue instead of a user?"""
        return (self.owner_id or "").startswith("00G")

    @property
    def must_be_checked(self) -> bool:
        return self.state == LeadState.PLEASE_CHECK


CONFIRMED = "confirmed-"  # begins the key of an opt-in by the link in an email; the key of the link follows


class ConsentKind(StrEnum):
    OPTED_IN = "opted_in"
    OPTED_OUT = "opted_out"
    BACK_IN = "back_in"
    DELETED = "deleted"
    RESTORED = "restored"
    ERASED = "erased"


class ConsentSource(StrEnum):
    FORM = "form"
    SALESFORCE = "salesforce"
    ADVISOR = "advisor"


@append_only
class ConsentEvent(Base):
    """One event in a person's consent. Only the lead's row says who the person is."""

    __tablename__ = "consent_events"
    __table_args__ = (
        one_of("kind", ConsentKind),
        one_of("source", ConsentSource),
        UniqueConstraint("lead_id", "key"),
        Index("ix_consent_events_key", "key"),  # how many people a form has served
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    lead_id: Mapped[int] = mapped_column(ForeignKey("leads.id"))
    key: Mapped[str] = mapped_column(
        String(36), default=new_public_id
    )  # of the form that was sent: stored once, however often it comes
    kind: Mapped[str] = mapped_column(String(10))
    source: Mapped[str] = mapped_column(String(10))
    at: Mapped[datetime] = mapped_column(UTCDateTime)  # when it happened, as far as known
    recorded_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    consent_text_id: Mapped[int | None] = mapped_column(ForeignKey("consent_texts.id"))
    run_id: Mapped[int | None] = mapped_column()  # of the sync that saw it

    consent_text: Mapped[ConsentText | None] = relationship()

    @property
    def is_confirmation(self) -> bool:
        return self.key.startswith(CONFIRMED)
