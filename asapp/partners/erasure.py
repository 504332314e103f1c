"""Erasing one person for good: an account, or a firm's Salesforce admin who came on a setup link.

The audit log and the history of consent keep their entries, which name the person by a number. What says who it was is
erased: the account's name and address, the log's identity rows, and with an advisor all of the advisor's people. The
erasure is itself in the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, select, update

from asapp.accounts import advisors
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections import connections, switching
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, retry_when_beaten
from asapp.core.extensions import db
from asapp.models import Action, AuditIdentity, Lead, Partner, PendingGrant, Role, SetupLink, User
from asapp.partners.offboarding import delete_rows_of, erase_accounts, erase_leads
from asapp.salesforce.oauth import App


class StillNeeded(Exception):
    """This person can't be erased; the message says why."""


@dataclass(frozen=True)
class Guest:
    """A person without an account: a firm's Salesforce admin."""

    partner: Partner
    name: str
    email: str


def erase_account(user: User, access: OrgAccess, by: Actor = ITSELF) -> None:
    """Log the person out, disconnect, and erase who it was. Commits. Raises StillNeeded for the only admin."""
    if user.is_admin and user.is_active and not _other_admins(user):
        raise StillNeeded("This is the only admin. Make another one first.")
    user_id = user.id
    if user.is_active:
        advisors.deactivate(user, access, by)
    grants = retry_when_beaten(db.session(), lambda: _erase(user_id, access, by))
    for app_and_token in grants:
        connections.give_back_token(*app_and_token)


def _erase(user_id: int, access: OrgAccess, by: Actor) -> list[tuple[App, str]]:
    """Return what to revoke afterwards: grants that Salesforce did not confirm when the person was deactivated."""
    connections.lock_people(User.id == user_id, for_good=True)
    erased = db.session.get_one(User, user_id, populate_existing=True)
    entries.record(Action.ERASED, by, erased)
    grants = switching.find_revocables(PendingGrant.user_id == user_id, access=access)
    erase_leads(Lead.user_id == user_id)
    delete_rows_of([user_id])
    erase_accounts([user_id], f"Erased {erased.role}")
    entries.erase_identities([user_id])
    return grants


def find_guest(identity_id: int) -> Guest | None:
    """Return the guest that an audit entry of a setup link names; None once erased."""
    row = db.session.execute(
        select(AuditIdentity, Partner)
        .join(Partner, Partner.id == AuditIdentity.partner_id)
        .where(AuditIdentity.id == identity_id, AuditIdentity.user_id.is_(None), AuditIdentity.erased_at.is_(None))
    ).first()
    return Guest(row[1], row[0].name, row[0].email) if row else None


def find_guests(email: str) -> list[Guest]:
    """Return the guests with this address, at each firm: everyone who was sent a setup link, used or not."""
    rows = db.session.execute(
        select(SetupLink.name, Partner)
        .join(Partner, Partner.id == SetupLink.partner_id)
        .where(func.lower(SetupLink.email) == email.strip().lower())
        .order_by(SetupLink.id)
    )
    found = {partner.id: Guest(partner, name, email.strip()) for name, partner in rows}
    return list(found.values())


def erase_guest(guest: Guest, by: Actor = ITSELF) -> None:
    """Erase who it was, and revoke the link if it is still open. Commits."""
    is_open = SetupLink.used_at.is_(None) & SetupLink.revoked_at.is_(None)
    change_rows(
        db.session,
        update(SetupLink)
        .where(SetupLink.partner_id == guest.partner.id, func.lower(SetupLink.email) == guest.email.lower())
        .values(name="", email="", revoked_at=case((is_open, utcnow()), else_=SetupLink.revoked_at)),
    )
    entries.erase_guest_identity(guest.partner.id, guest.email)
    entries.record(Action.ERASED, by, guest.partner, who="a Salesforce admin of the firm")
    db.session.commit()


def _other_admins(user: User) -> int:
    others = (User.role == Role.ADMIN, User.deactivated_at.is_(None), User.id != user.id)
    return db.session.scalar(select(func.count()).where(*others)) or 0
