"""What admins do with advisors: invite, deactivate, let back in, move to another firm.

An advisor who is deactivated or moved is disconnected from Salesforce first: nothing is read for an advisor who is gone,
nor from one firm's org for another firm.

People belong to the firm that they came with. An advisor who is moved leaves the contacts of the firm's Salesforce and
all sign-ups behind: hidden at the new firm, and shown again if the advisor comes back. A lead that is not in Salesforce
yet waits for that; no other firm's Salesforce gets it. Contacts entered by hand are taken along.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import aliased, joinedload

from asapp.accounts import links, users
from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections import connections, switching
from asapp.connections.connections import Ended
from asapp.connections.org_access import OrgAccess
from asapp.contacts import suppressions
from asapp.contacts.addresses import address_hash, address_key
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, retry_when_beaten
from asapp.core.extensions import db
from asapp.core.forms import InvalidFields, whole_number
from asapp.leads import sign_up_page
from asapp.messages.states import DEACTIVATED, INVITED, PILLS_FOR_ADMINS, AdvisorState, Tone
from asapp.models import (
    Action,
    Connection,
    ConnectionStatus,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    Partner,
    PasswordLinkKind,
    PendingGrant,
    Role,
    User,
)
from asapp.models.lead import OUTSIDE_SALESFORCE
from asapp.models.user import EMPTIED


@dataclass(frozen=True)
class LeftBehind:
    """signed_up: people who signed up with the firm. outside: those of them who are not in its Salesforce yet."""

    signed_up: int
    outside: int


@dataclass(frozen=True)
class AdvisorRow:
    user: User
    connection: Connection | None  # the one that is not disconnected
    was_connected: bool = False  # to this firm's Salesforce, and is disconnected now

    @property
    def pill(self) -> tuple[Tone, str]:
        """Return the look of the account: whether the advisor is here, and connected. The board tells of syncs."""
        if not self.user.is_active:
            return DEACTIVATED
        if self.user.invited_at:
            return INVITED
        if self.connection is None:
            return PILLS_FOR_ADMINS[AdvisorState.DISCONNECTED if self.was_connected else AdvisorState.READY]
        is_broken = self.connection.needs_reconnect
        return PILLS_FOR_ADMINS[AdvisorState.NEEDS_RECONNECT if is_broken else AdvisorState.CONNECTED]

    @property
    def has_to_reconnect(self) -> bool:
        return self.user.is_active and self.connection is not None and self.connection.needs_reconnect

    @property
    def has_to_connect_again(self) -> bool:
        return self.user.is_active and self.connection is None and self.was_connected


def list_advisors(partner: Partner) -> list[AdvisorRow]:
    """Return the partner's advisors by name, deactivated ones last."""
    earlier = aliased(Connection)
    ended = select(earlier.id).where(
        earlier.user_id == User.id, earlier.partner_id == partner.id, earlier.status == ConnectionStatus.DISCONNECTED
    )
    rows = db.session.execute(
        select(User, Connection, ended.exists())
        .options(joinedload(User.second_factor))
        .outerjoin(Connection, (Connection.user_id == User.id) & (Connection.status != ConnectionStatus.DISCONNECTED))
        .where(User.partner_id == partner.id, User.role == Role.ADVISOR, User.password_hash != EMPTIED)
        .order_by(User.deactivated_at.is_not(None), func.lower(User.name), User.id)
    )
    return [AdvisorRow(user, connection, bool(was_connected)) for user, connection, was_connected in rows]


def find_advisor(partner: Partner, number: str) -> User | None:
    user = db.session.get(User, whole_number(number) or 0)
    is_one = user is not None and user.is_advisor and not user.is_emptied and user.partner_id == partner.id
    return user if is_one else None


def addresses_of(partner: Partner) -> list[str]:
    """Return the mail addresses of a partner's active advisors."""
    return [row.user.email for row in list_advisors(partner) if row.user.is_active]


def invite(email: str, name: str, partner: Partner, by: Actor = ITSELF) -> tuple[User, str]:
    """Add an advisor who sets a password by a link; return the link's token. Raises InvalidFields."""
    nobody_knows = secrets.token_urlsafe(32)
    user = users.create_user(email, name, nobody_knows, Role.ADVISOR, partner, by)
    return user, invite_again(user, by)


def invite_again(user: User, by: Actor = ITSELF) -> str:
    """Return the token of a new link; the earlier one no longer works. Commits."""
    user.invited_at = utcnow()
    entries.record(Action.INVITED, by, user)
    return links.make_link(user, PasswordLinkKind.INVITATION)


def deactivate(user: User, access: OrgAccess, by: Actor = ITSELF) -> None:
    """End this person's sessions and connection. The contacts stay, and are not written to. Commits."""
    user_id = user.id

    def end() -> list[Ended]:
        connections.lock_people(User.id == user_id)
        user = db.session.get_one(User, user_id, populate_existing=True)
        user.deactivated_at = utcnow()
        users.end_sessions_of(user)
        entries.record(Action.DEACTIVATED, by, user)
        return _disconnect(user_id, access, True, by)

    _give_back(user_id, retry_when_beaten(db.session(), end), access)


def let_back_in(user: User, by: Actor = ITSELF) -> None:
    """Reactivate the account with its old password; the advisor has to connect Salesforce again."""
    user.deactivated_at = None
    entries.record(Action.LET_BACK_IN, by, user)
    db.session.commit()


def move(user: User, to: Partner | None, keep_contacts: bool, access: OrgAccess, by: Actor = ITSELF) -> None:
    """Make the person an advisor of another firm; raise InvalidFields (partner). Commits.

    keep_contacts: those of the firm's Salesforce stay with it, out of sight; else they are removed here.
    """
    if to is None or to.id == user.partner_id or to.deleted_at is not None:
        raise InvalidFields({"partner": "Choose the firm to move to."})
    user_id, partner_id = user.id, to.id
    key = address_key(db.session(), to, access.vault)
    ended = retry_when_beaten(db.session(), lambda: _move(user_id, partner_id, keep_contacts, access, key, by))
    _give_back(user_id, ended, access)


def _move(user_id: int, partner_id: int, keep_contacts: bool, access: OrgAccess, key: bytes, by: Actor) -> list[Ended]:
    """Move in one transaction; return the connections to revoke after it."""
    connections.lock_people(User.id == user_id)
    moved = db.session.get_one(User, user_id, populate_existing=True)
    old, new = db.session.get_one(Partner, moved.partner_id), db.session.get_one(Partner, partner_id)
    if old.id == new.id or new.deleted_at is not None:  # by another admin, at this very moment
        db.session.rollback()
        raise InvalidFields({"partner": "Choose the firm to move to."})
    ended = _disconnect(user_id, access, keep_contacts, by)
    moved.partner_id, moved.moved_at = new.id, utcnow()
    users.end_sessions_of(moved)
    _leave_people(user_id, old.id)
    _find_people(user_id, new.id)
    _hash_anew(user_id, key)
    earlier = suppressions.earlier_firms(moved, new.id, access.vault, left=old)
    suppressions.carry_over(user_id, suppressions.Firm(new.id, key), earlier, _addresses_by_hand(user_id))
    sign_up_page.change_firm(User.id == user_id, old.name, new.name)
    entries.record(Action.MOVED, by, moved, from_partner=old.id, to_partner=new.id)
    return ended


def count_left_behind(user: User) -> LeftBehind:
    """Return what a move would leave with the present firm."""
    of_firm = select(func.count()).where(Lead.user_id == user.id, Lead.partner_id == user.partner_id)
    people = db.session.scalar(of_firm.where(Lead.state != LeadState.ERASED)) or 0
    return LeftBehind(people, db.session.scalar(of_firm.where(Lead.state.in_(OUTSIDE_SALESFORCE))) or 0)


def _leave_people(user_id: int, partner_id: int) -> None:
    """Hide the people of the old firm, in the caller's transaction."""
    from_its_salesforce = Contact.connection_id.in_(
        select(Connection.id).where(Connection.user_id == user_id, Connection.partner_id == partner_id)
    )
    signed_up = Contact.id.in_(
        select(Lead.contact_id).where(
            Lead.user_id == user_id, Lead.partner_id == partner_id, Lead.contact_id.is_not(None)
        )
    )
    _set_firm(user_id, partner_id, from_its_salesforce | signed_up)


def _find_people(user_id: int, partner_id: int) -> None:
    """Show the people who stayed with this firm again, as the advisor comes back."""
    _set_firm(user_id, None, Contact.left_firm_id == partner_id)


def _set_firm(user_id: int, left_firm_id: int | None, which: ColumnElement[bool]) -> None:
    change_rows(
        db.session,
        update(Contact)
        .where(Contact.user_id == user_id, Contact.source != ContactSource.MANUAL, which)
        .values(left_firm_id=left_firm_id),
    )


def _hash_anew(user_id: int, key: bytes) -> None:
    """Hash again with the new firm's key: otherwise a contact entered by hand would not be matched with an opt-out there."""
    by_hand = select(Contact.id, Contact.email).where(*_is_by_hand(user_id))
    hashes = [{"id": row.id, "address_hash": address_hash(row.email, key)} for row in db.session.execute(by_hand)]
    if hashes:
        db.session.execute(update(Contact), hashes)


def _addresses_by_hand(user_id: int) -> list[str]:
    return list(db.session.scalars(select(Contact.email).where(*_is_by_hand(user_id))))


def _is_by_hand(user_id: int) -> tuple[ColumnElement[bool], ...]:
    return (Contact.user_id == user_id, Contact.source == ContactSource.MANUAL, Contact.erased_at.is_(None))


def _disconnect(user_id: int, access: OrgAccess, keep_contacts: bool, by: Actor) -> list[Ended]:
    """Disconnect in the caller's transaction, so that no one can decide about a waiting grant any more."""
    switching.withdraw(PendingGrant.user_id == user_id)
    return connections.end_connections(Connection.user_id == user_id, keep_contacts, access, by)


def _give_back(user_id: int, ended: list[Ended], access: OrgAccess) -> None:
    connections.give_back(ended)
    switching.give_back(PendingGrant.user_id == user_id, access=access)
