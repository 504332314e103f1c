"""A grant for another Salesforce user or org than the connected one waits here for the advisor's decision.

One grant per advisor, sealed, for at most 15 minutes. Switch: the old connection is disconnected, and the new one starts
with a full sync. Keep, or no decision: the new grant is revoked. Its row is deleted once Salesforce has confirmed that;
until then the dispatch tick retries, each minute for an hour, then every quarter of an hour for three days. If the process
dies in the middle, it is retried half a minute later.

Some are revoked side by side, so that stopping a firm of hundreds of advisors is done within a minute. Where none of them is
heard, the rest of the firm waits for its next turn: an org that hangs must not take all the time of the tick.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections import connections
from asapp.connections.call_log import Caller
from asapp.connections.connections import Ended
from asapp.connections.org_access import OrgAccess
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, retry_when_beaten
from asapp.core.extensions import db
from asapp.core.vault import CannotOpen
from asapp.models import Action, Connection, Partner, PendingGrant, User
from asapp.models.columns import new_public_id
from asapp.salesforce import page_turns
from asapp.salesforce.oauth import App, Grant, Identity
from asapp.salesforce.page_turns import AllTurnsTaken

log = logging.getLogger(__name__)

WAIT = timedelta(minutes=15)
SOON = timedelta(minutes=1)  # is an expired grant asked for again at first, for NEWLY
NEWLY = timedelta(hours=1)
ASK_AGAIN_AFTER = timedelta(minutes=15)
GIVE_UP_AFTER = timedelta(days=3)
CLAIM = timedelta(seconds=30)  # longer than GIVING_BACK_S and a call together
SIDE_BY_SIDE = 10  # calls: fewer than the database's pool has connections, since each writes its line of the log
MOST_OF_A_TICK = 1000
GIVING_BACK_S = 10.0  # of a tick, after which no further call starts; each takes oauth.TOTAL_TIMEOUT_S at most


def find_pending(user: User, now: datetime | None = None) -> PendingGrant | None:
    """Return the grant that waits for this advisor, unless it has expired."""
    return db.session.scalar(
        select(PendingGrant).where(PendingGrant.user_id == user.id, PendingGrant.expires_at > (now or utcnow()))
    )


def put_pending(user: User, partner_id: int, grant: Grant, who: Identity, access: OrgAccess) -> tuple[App, str] | None:
    """Store a grant for a decision. Commits; returns an older one to revoke, as arguments of oauth.revoke()."""
    older = db.session.scalar(select(PendingGrant).where(PendingGrant.user_id == user.id))
    to_revoke = find_revocable(older, access) if older else None
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
    pending.seal(access.vault, "access_token_sealed", grant.access_token)
    pending.seal(access.vault, "refresh_token_sealed", grant.refresh_token)
    db.session.add(pending)
    db.session.commit()
    return to_revoke


def switch(user: User, pending: PendingGrant, access: OrgAccess, by: Actor = ITSELF) -> Connection | None:
    """Disconnect the old user and connect the new one; return the advisor's connection. Commits.

    Does nothing if pressed twice, or after the grant has expired. Returns None, and revokes the grant, if another advisor
    has connected that user or this advisor's firm has changed since.
    """
    user_id, grant_id, partner_id = user.id, pending.id, pending.partner_id
    try:
        ended = retry_when_beaten(db.session(), lambda: _switch(user, grant_id, partner_id, access, by))
    except IntegrityError:
        db.session.rollback()
        ended = None
    if ended is None:
        keep_current(user, access)
        return None
    connections.give_back(ended)
    return db.session.scalar(select(Connection).where(connections.is_current_of(user_id)))


def _switch(user: User, grant_id: int, partner_id: int, access: OrgAccess, by: Actor) -> Sequence[Ended] | None:
    """Return the connections to revoke; None if this person may no longer have the grant."""
    if not connections.is_still_at(user, partner_id):  # locks the user
        db.session.rollback()
        return None
    pending = db.session.scalar(
        select(PendingGrant)
        .where(PendingGrant.id == grant_id, PendingGrant.expires_at > utcnow())
        .execution_options(populate_existing=True)
    )
    if pending is None:
        db.session.rollback()
        return ()
    grant = Grant(
        access_token=pending.unseal(access.vault, "access_token_sealed"),
        refresh_token=pending.unseal(access.vault, "refresh_token_sealed"),
        instance_url=pending.instance_url,
        org_id=pending.org_id,
        user_id=pending.salesforce_user_id,
        scopes=pending.scopes,
    )
    who = Identity(pending.username, pending.display_name, pending.org_name)
    ended = connections.end_connections(Connection.user_id == user.id, True, access, by)
    db.session.delete(pending)
    connection = connections.put_grant(user, partner_id, grant, who, access)
    entries.record(Action.SWITCHED, by, connection)
    return ended


def keep_current(user: User, access: OrgAccess) -> None:
    """Stay with the present connection: the waiting grant is revoked. Commits."""
    user_id = user.id
    withdraw(PendingGrant.user_id == user_id)
    db.session.commit()
    give_back(PendingGrant.user_id == user_id, access=access)


def withdraw(*which: ColumnElement[bool]) -> None:
    """Expire these grants, in the caller's transaction: no one can switch to them any more, and the tick revokes them."""
    now = utcnow()
    change_rows(db.session, update(PendingGrant).where(PendingGrant.expires_at > now, *which).values(expires_at=now))


def keep_for_revoking(ended: Sequence[Ended], access: OrgAccess) -> None:
    """Keep the grants of these connections, sealed, until Salesforce has revoked them: in the caller's transaction.

    An advisor has one row; where a grant waits already, this one is kept without its advisor.
    """
    with_one = set(db.session.scalars(select(PendingGrant.user_id)))
    now = utcnow()
    for each in ended:
        if each.app_and_token is None:
            continue
        connection = db.session.get_one(Connection, each.connection_id)
        kept = PendingGrant(
            public_id=new_public_id(),
            user_id=None if connection.user_id in with_one else connection.user_id,
            partner_id=connection.partner_id,
            org_id=connection.org_id,
            salesforce_user_id="",
            username="",
            instance_url="",
            expires_at=now,
        )
        kept.seal(access.vault, "access_token_sealed", "")
        kept.seal(access.vault, "refresh_token_sealed", each.app_and_token[1])
        db.session.add(kept)
    db.session.flush()


def revoke_expired(access: OrgAccess, now: datetime | None = None, limit: int = MOST_OF_A_TICK) -> int:
    """Revoke the grants that expired without a decision; for the dispatch tick. Commits; returns how many are gone."""
    return give_back(access=access, now=now, limit=limit)


def give_back(
    *which: ColumnElement[bool], access: OrgAccess, now: datetime | None = None, limit: int | None = 5
) -> int:
    """Revoke the expired ones of these grants, some side by side, and delete each that Salesforce confirmed. Commits.

    No one can switch to them any more, so a row stays until its token is revoked. Returns how many rows are gone.
    In any order: none is always behind some that are refused.
    limit: how many at most; None: as many as the time allows. Where no more pages may wait for Salesforce, the tick does it.
    """
    try:
        page_turns.claim()
    except AllTurnsTaken:
        return 0
    now = now or utcnow()
    due = db.session.scalars(
        select(PendingGrant.id).where(*_is_due(now), *which).order_by(func.random()).limit(limit)
    ).all()
    db.session.commit()
    stop_at = time.monotonic() + GIVING_BACK_S
    gone = 0
    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="revoke") as threads:
        for first in range(0, len(due), SIDE_BY_SIDE):
            if time.monotonic() > stop_at:
                break
            claimed = claim(due[first : first + SIDE_BY_SIDE], now)
            gone += revoke_claimed(claimed, access, now, threads)
    return gone


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    is_free = or_(PendingGrant.give_back_at.is_(None), PendingGrant.give_back_at <= now)
    return PendingGrant.expires_at <= now, is_free


def claim(grant_ids: Iterable[int], now: datetime) -> list[int]:
    """Return those that no other process is about to revoke. Commits."""
    claiming = update(PendingGrant).where(*_is_due(now)).values(give_back_at=now + CLAIM)
    ids = sorted(grant_ids)  # in one order, so that two processes never wait for each other
    mine = [grant_id for grant_id in ids if change_rows(db.session, claiming.where(PendingGrant.id == grant_id)) == 1]
    db.session.commit()
    return mine


def revoke_claimed(grant_ids: Sequence[int], access: OrgAccess, now: datetime, threads: ThreadPoolExecutor) -> int:
    """Revoke these side by side; return how many rows are gone. Commits."""
    grants = db.session.scalars(
        select(PendingGrant).where(PendingGrant.id.in_(grant_ids)).execution_options(populate_existing=True)
    ).all()
    hopeless = {grant.id for grant in grants if grant.expires_at < now - GIVE_UP_AFTER}
    partner_ids = {grant.id: grant.partner_id for grant in grants}
    revocables = {grant.id: find_revocable(grant, access) for grant in grants}
    db.session.commit()
    calls = {
        grant_id: threads.submit(connections.give_back_token, *app_and_token)
        for grant_id, app_and_token in revocables.items()
        if app_and_token is not None
    }
    heard = {grant_id for grant_id, call in calls.items() if call.result()}
    waiting = set(calls) - heard - hopeless
    silent = {partner_ids[grant_id] for grant_id in waiting} - {partner_ids[grant_id] for grant_id in heard}
    for _ in revocables.keys() - heard - waiting:
        log.warning("a grant that waited for a decision is deleted without being given back")
    _postpone(now, PendingGrant.id.in_(sorted(waiting)))
    of_silent = select(PendingGrant.id).where(PendingGrant.partner_id.in_(sorted(silent)), *_is_due(now))
    free = db.session.scalars(of_silent.order_by(PendingGrant.id).with_for_update(skip_locked=True)).all()
    _postpone(now, PendingGrant.id.in_(free))
    gone = change_rows(db.session, delete(PendingGrant).where(PendingGrant.id.in_(sorted(revocables.keys() - waiting))))
    db.session.commit()
    return gone


def _postpone(now: datetime, *which: ColumnElement[bool]) -> None:
    """Let these grants wait, in the caller's transaction."""
    is_new = PendingGrant.expires_at > now - NEWLY
    for pause, are_meant in ((SOON, is_new), (ASK_AGAIN_AFTER, ~is_new)):
        change_rows(db.session, update(PendingGrant).where(*which, are_meant).values(give_back_at=now + pause))


def find_revocables(*which: ColumnElement[bool], access: OrgAccess) -> list[tuple[App, str]]:
    """Return what oauth.revoke() needs for these grants, whose rows will be deleted."""
    grants = db.session.scalars(select(PendingGrant).where(*which)).all()
    return [found for grant in grants if (found := find_revocable(grant, access)) is not None]


def find_revocable(pending: PendingGrant, access: OrgAccess) -> tuple[App, str] | None:
    """Return what oauth.revoke() needs; None if nothing opens."""
    partner = db.session.get_one(Partner, pending.partner_id)
    try:
        app = access.app_of(partner, Caller(partner.id, pending.user_id))
        return app, pending.unseal(access.vault, "refresh_token_sealed")
    except CannotOpen:
        return None
