"""A grant for another Salesforce user or org than the connected one waits here for the advisor's decision.

At most 15 minutes, sealed, one per advisor. Switch: the old connection is disconnected and the new one starts full. Keep,
or no decision: the new grant is given back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from asapp import audit
from asapp.audit import ITSELF, Actor
from asapp.clock import utcnow
from asapp.connections import connections
from asapp.connections.settings import ConnectSettings
from asapp.extensions import db
from asapp.models import Action, Connection, Partner, PendingGrant, User
from asapp.models.columns import new_public_id
from asapp.salesforce import oauth
from asapp.salesforce.oauth import App, Grant, Identity
from asapp.vault import CannotOpen

WAIT = timedelta(minutes=15)


def find_pending(user: User, now: datetime | None = None) -> PendingGrant | None:
    """Return the grant that waits for this advisor, unless its time is over."""
    return db.session.scalar(
        select(PendingGrant).where(PendingGrant.user_id == user.id, PendingGrant.expires_at > (now or utcnow()))
    )


def put_pending(
    user: User, partner_id: int, grant: Grant, who: Identity, settings: ConnectSettings
) -> tuple[App, str] | None:
    """Keep a grant for a decision. Commits; returns an older one that is to be given back, for oauth.revoke."""
    older = db.session.scalar(select(PendingGrant).where(PendingGrant.user_id == user.id))
    to_revoke = _find_revocable(older, settings) if older else None
    if older is not None:
        db.session.delete(older)
        db.session.flush()
    pending = PendingGrant(
        public_id=new_public_id(),
        user_id=user.id,
        partner_id=partner_id,
        org_id=grant.org_id,
        salesforce_user_id=grant.user_id,
        username=who.username,
        display_name=who.display_name,
        org_name=who.org_name,
        instance_url=grant.instance_url,
        scopes=grant.scopes,
        expires_at=utcnow() + WAIT,
    )
    pending.seal(settings.vault, "access_token_sealed", grant.access_token)
    pending.seal(settings.vault, "refresh_token_sealed", grant.refresh_token)
    db.session.add(pending)
    db.session.commit()
    return to_revoke


def switch(user: User, pending: PendingGrant, settings: ConnectSettings, by: Actor = ITSELF) -> Connection | None:
    """Disconnect the old user, connect the new one. Commits.

    Returns None, and gives the grant back, if somebody else has taken that user or the firm is another one meanwhile.
    """
    if not connections.is_still_at(user, pending.partner_id):
        keep(user, settings)
        return None
    grant = Grant(
        access_token=pending.unseal(settings.vault, "access_token_sealed"),
        refresh_token=pending.unseal(settings.vault, "refresh_token_sealed"),
        instance_url=pending.instance_url,
        org_id=pending.org_id,
        user_id=pending.salesforce_user_id,
        scopes=pending.scopes,
    )
    who = Identity(pending.username, pending.display_name, pending.org_name)
    old = connections.find_current(user)
    to_revoke = connections.find_revocable(old, settings) if old else None
    if old is not None:
        connections.end_connection(old, True, by)
    db.session.delete(pending)
    connection = connections.put_grant(user, pending.partner_id, grant, who, settings)
    try:
        audit.record(Action.SWITCHED, by, connection)
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        keep(user, settings)
        return None
    connection_id = connection.id
    db.session.commit()
    if to_revoke is not None:
        oauth.revoke(*to_revoke)
    return db.session.get(Connection, connection_id)


def keep(user: User, settings: ConnectSettings) -> None:
    """Stay with the connection as it is: the grant that waits is given back. Commits."""
    pending = db.session.scalar(select(PendingGrant).where(PendingGrant.user_id == user.id))
    if pending is not None:
        _drop([pending], settings)


def drop_expired(settings: ConnectSettings, now: datetime | None = None, limit: int = 5) -> int:
    """Give back what nobody decided about in time; for the dispatch tick. Commits; returns how many."""
    expired = db.session.scalars(
        select(PendingGrant).where(PendingGrant.expires_at <= (now or utcnow())).limit(limit)
    ).all()
    _drop(list(expired), settings)
    return len(expired)


def _drop(grants: list[PendingGrant], settings: ConnectSettings) -> None:
    to_revoke = [found for pending in grants if (found := _find_revocable(pending, settings)) is not None]
    for pending in grants:
        db.session.delete(pending)
    db.session.commit()
    for app, token in to_revoke:
        oauth.revoke(app, token)


def _find_revocable(pending: PendingGrant, settings: ConnectSettings) -> tuple[App, str] | None:
    partner = db.session.get_one(Partner, pending.partner_id)
    try:
        return settings.app_of(partner), pending.unseal(settings.vault, "refresh_token_sealed")
    except CannotOpen:
        return None
