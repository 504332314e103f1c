"""The audit log: who did what, when, about what. Entries are append-only and name people by ids; one row beside them says
who it was.

Erasing a person empties that row (audit/entries.py) and leaves the entries as they are. The database allows no other
change of either.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asapp.core.clock import utcnow
from asapp.core.database import Base, UTCDateTime
from asapp.models.columns import append_only, one_of

ABOUT_A_PERSON = text("subject_type = 'users'")


class ActorKind(StrEnum):
    PERSON = "person"  # a logged-in user
    LINK = "link"  # a firm's Salesforce admin, on a setup link
    COMMAND = "command"  # an operator, by a command
    ITSELF = "itself"  # asapp itself
    NOBODY = "nobody"  # a person who was not logged in


class Action(StrEnum):
    LOGGED_IN = "logged_in"
    LOGIN_REFUSED = "login_refused"
    SESSIONS_ENDED = "sessions_ended"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    PASSWORD_LINK_SENT = "password_link_sent"  # noqa: S105
    SECOND_FACTOR_SET_UP = "second_factor_set_up"
    SECOND_FACTOR_REMOVED = "second_factor_removed"
    SECOND_FACTOR_RESET = "second_factor_reset"
    SECOND_FACTOR_LINK_MADE = "second_factor_link_made"
    SECOND_FACTOR_LINK_USED = "second_factor_link_used"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_RENAMED = "passkey_renamed"
    PASSKEY_REMOVED = "passkey_removed"
    PROVIDER_LINKED = "provider_linked"
    PROVIDER_UNLINKED = "provider_unlinked"
    PASSWORD_ALLOWED = "password_allowed"  # noqa: S105
    PASSWORD_WITHDRAWN = "password_withdrawn"  # noqa: S105
    PERSON_CREATED = "person_created"
    EMAIL_CHANGED = "email_changed"
    NAME_CHANGED = "name_changed"
    INVITED = "invited"
    DEACTIVATED = "deactivated"
    LET_BACK_IN = "let_back_in"
    MOVED = "moved"
    PARTNER_CREATED = "partner_created"
    PARTNER_CHANGED = "partner_changed"
    PARTNER_ENABLED = "partner_enabled"
    PARTNER_DISABLED = "partner_disabled"
    PARTNER_STOPPED = "partner_stopped"
    PARTNER_DELETED = "partner_deleted"
    SECRET_REPLACED = "secret_replaced"  # noqa: S105
    SETUP_LINK_SENT = "setup_link_sent"
    SETUP_LINK_REVOKED = "setup_link_revoked"
    CONNECTED = "connected"
    BROKE = "broke"
    DISCONNECTED = "disconnected"
    SWITCHED = "switched"
    EXPORTED = "exported"
    CONTACTS_DELETED = "contacts_deleted"
    CONTACTS_RESTORED = "contacts_restored"
    APPROVED = "approved"
    DISCARDED = "discarded"
    RECONSIDERED = "reconsidered"
    ERASED = "erased"
    OPT_OUTS_WRITTEN_BACK = "opt_outs_written_back"
    KEYS_ROTATED = "keys_rotated"
    API_KEY_MADE = "api_key_made"
    API_KEY_REVOKED = "api_key_revoked"


class AuditIdentity(Base):
    """Who, and from where: empty once erased. Entries of one person from one place share it."""

    __tablename__ = "audit_identities"
    __table_args__ = (
        Index("ix_audit_identities_user_id", "user_id"),
        Index("ix_audit_identities_partner", "partner_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    partner_id: Mapped[int | None] = mapped_column(ForeignKey("partners.id"))  # of a person without an account here
    name: Mapped[str] = mapped_column(String(120), default="")
    email: Mapped[str] = mapped_column(String(254), default="")
    client_address: Mapped[str] = mapped_column(String(60), default="")
    erased_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


@append_only
class AuditEntry(Base):
    """details: figures, names of fields and settings; never anything personal, never a secret."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        one_of("actor_kind", ActorKind),
        Index("ix_audit_entries_at", "at"),
        Index("ix_audit_entries_partner", "partner_id", "id"),
        Index("ix_audit_entries_identity", "identity_id"),
        Index(
            "ix_audit_entries_person",
            *("subject_id", "id"),
            sqlite_where=ABOUT_A_PERSON,
            postgresql_where=ABOUT_A_PERSON,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    action: Mapped[str] = mapped_column(String(30))
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    identity_id: Mapped[int | None] = mapped_column(ForeignKey("audit_identities.id"))
    partner_id: Mapped[int | None] = mapped_column(ForeignKey("partners.id"))  # the firm concerned
    subject_type: Mapped[str | None] = mapped_column(String(20))
    subject_id: Mapped[int | None] = mapped_column()
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    identity: Mapped[AuditIdentity | None] = relationship()
