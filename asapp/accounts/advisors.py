"""What admins do with advisors: invite, deactivate, let back in, move to another firm.

Whoever is deactivated or moved is disconnected from Salesforce first: nothing is read on behalf of somebody who is gone, and
nothing of one firm's org under the name of another.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import func, select

from asapp import audit
from asapp.accounts import links, users
from asapp.audit import ITSELF, Actor
from asapp.clock import utcnow
from asapp.connections import connections
from asapp.connections.settings import ConnectSettings
from asapp.extensions import db
from asapp.fields import InvalidFields
from asapp.models import Action, Connection, ConnectionStatus, Lead, LeadState, Partner, PasswordLinkKind, Role, User
from asapp.models.lead import UNDELIVERED


@dataclass(frozen=True)
class AdvisorRow:
    user: User
    connection: Connection | None  # the one that is not disconnected


def list_advisors(partner: Partner) -> list[AdvisorRow]:
    """Return the partner's advisors by name, those who are deactivated last."""
    rows = db.session.execute(
        select(User, Connection)
        .outerjoin(Connection, (Connection.user_id == User.id) & (Connection.status != ConnectionStatus.DISCONNECTED))
        .where(User.partner_id == partner.id, User.role == Role.ADVISOR)
        .order_by(User.deactivated_at.is_not(None), func.lower(User.name), User.id)
    )
    return [AdvisorRow(*row) for row in rows]


def find_advisor(partner: Partner, number: str) -> User | None:
    if not number.isdecimal() or len(number) > 9:
        return None
    user = db.session.get(User, int(number))
    return user if user is not None and user.is_advisor and user.partner_id == partner.id else None


def addresses_of(partner: Partner) -> list[str]:
    """Return where the active advisors of a partner get mail."""
    return [row.user.email for row in list_advisors(partner) if row.user.is_active]


def invite(email: str, name: str, partner: Partner, by: Actor = ITSELF) -> tuple[User, str]:
    """Make an advisor who sets a password on a link; return the link's token. Raises InvalidFields."""
    nobody_knows = secrets.token_urlsafe(32)
    user = users.create_user(email, name, nobody_knows, Role.ADVISOR, partner, by)
    return user, invite_again(user, by)


def invite_again(user: User, by: Actor = ITSELF) -> str:
    """Return the token of a new link; the earlier one no longer works. Commits."""
    user.invited_at = utcnow()
    audit.record(Action.INVITED, by, user)
    return links.make_link(user, PasswordLinkKind.INVITATION)


def deactivate(user: User, settings: ConnectSettings, by: Actor = ITSELF) -> None:
    """End this person's sessions and connection. The contacts stay, and are not written to. Commits."""
    user_id = user.id
    user.deactivated_at = utcnow()
    audit.record(Action.DEACTIVATED, by, user)
    users.end_sessions(user)
    _disconnect(user_id, settings, True, by)


def let_back_in(user: User, by: Actor = ITSELF) -> None:
    """The password is the old one; Salesforce is connected again by the advisor."""
    user.deactivated_at = None
    audit.record(Action.LET_BACK_IN, by, user)
    db.session.commit()


def move(user: User, to: Partner | None, keep_contacts: bool, settings: ConnectSettings, by: Actor = ITSELF) -> None:
    """Make the person an advisor of another firm; raise InvalidFields (partner). Commits."""
    if to is None or to.id == user.partner_id:
        raise InvalidFields({"partner": "Choose the firm to move to."})
    user_id, partner_id = user.id, to.id
    _disconnect(user_id, settings, keep_contacts, by)
    moved = db.session.get_one(User, user_id)
    moved_from, moved.partner_id = moved.partner_id, partner_id
    audit.record(Action.MOVED, by, moved, from_partner=moved_from, to_partner=partner_id)
    users.end_sessions(moved)


def count_leads_outside(user: User) -> int:
    """Return how many of the advisor's leads have not reached Salesforce: they will go wherever the advisor connects next."""
    outside = (*UNDELIVERED, LeadState.REFUSED)
    found = select(func.count()).where(Lead.user_id == user.id, Lead.state.in_(outside))
    return db.session.scalar(found) or 0


def _disconnect(user_id: int, settings: ConnectSettings, keep_contacts: bool, by: Actor) -> None:
    connection = connections.find_current(db.session.get_one(User, user_id))
    if connection is not None:
        connections.disconnect(connection, keep_contacts, settings, by)
    db.session.commit()
