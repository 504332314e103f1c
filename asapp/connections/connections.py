"""The life of a connection: created, continued, waiting for its advisor to reconnect, disconnected.

Among connections that are not disconnected, (org id, user id) and advisor are each unique, by unique indexes. If the same
Salesforce user comes back, the connection is continued, so that its contacts, lists and watermark stay.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Select, and_, delete, select, update
from sqlalchemy.orm import Session

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.connections import earlier_accounts, stopped_runs
from asapp.connections.call_log import Caller
from asapp.contacts import tombstones
from asapp.core.clock import utcnow
from asapp.core.database import retry_when_beaten, rows_changed
from asapp.core.extensions import db
from asapp.core.vault import CannotOpen
from asapp.models import (
    Action,
    Connection,
    ConnectionStatus,
    Contact,
    Departure,
    LedgerEntry,
    Partner,
    User,
)
from asapp.models.columns import new_public_id
from asapp.models.connection import DisconnectReason
from asapp.models.run import StopReason
from asapp.salesforce import oauth
from asapp.salesforce.oauth import Grant, Identity

if TYPE_CHECKING:
    from asapp.connections.org_access import OrgAccess

log = logging.getLogger(__name__)

GIVING_BACK_S = 15.0  # after which no further call starts: a person waits for the page


@dataclass(frozen=True)
class Ended:
    """A connection that a transaction has disconnected, with what revoking its grant needs; None if nothing opens."""

    connection_id: int
    had_tokens: bool
    app_and_token: tuple[oauth.App, str] | None = field(repr=False)


def find_current(user: User) -> Connection | None:
    """Return the advisor's connection that is not disconnected."""
    return db.session.scalar(select(Connection).where(is_current_of(user.id)))


def is_current_of(user_id: int) -> ColumnElement[bool]:
    return and_(Connection.user_id == user_id, Connection.status != ConnectionStatus.DISCONNECTED)


def lock_people(which: ColumnElement[bool], *, for_good: bool = False) -> None:
    """Lock these users, first in the lock order, until the caller's transaction ends.

    for_good: they will be erased, so no one may add a row that refers to them either.
    """
    query = select(User.id).where(which).order_by(User.id)
    db.session.execute(query.with_for_update(key_share=not for_good)).all()


def lock_current(*which: ColumnElement[bool]) -> list[Connection]:
    """Lock those of these connections that are not disconnected; return them as they are now.

    The caller has locked their users. Another process may have stored a rotated token since the rows were last read.
    """
    return list(
        db.session.scalars(
            select(Connection)
            .where(Connection.status != ConnectionStatus.DISCONNECTED, *which)
            .order_by(Connection.id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    )


def find_latest(user: User) -> Connection | None:
    """Return the current connection, or the one with the present firm that was disconnected last."""
    return db.session.scalar(latest_of(user))


def latest_of(user: User) -> Select[Connection]:
    """Select what find_latest() returns."""
    return (
        select(Connection)
        .where(Connection.user_id == user.id, Connection.partner_id == user.partner_id)
        .order_by(
            (Connection.status == ConnectionStatus.DISCONNECTED).asc(),
            Connection.status_changed_at.desc(),
            Connection.id.desc(),
        )
        .limit(1)
    )


def all_ids_of(user: User) -> list[int]:
    """Return the ids of all the advisor's connections with the present firm, for the history of runs."""
    return list(db.session.scalars(ids_of(user)))


def ids_of(user: User) -> Select[int]:
    """Select what all_ids_of() returns, for a part of another query."""
    return select(Connection.id).where(Connection.user_id == user.id, Connection.partner_id == user.partner_id)


def is_taken(user: User, identity: tuple[str, str]) -> bool:
    """Is this Salesforce user connected to another account here?"""
    org_id, salesforce_user_id = identity
    found = db.session.scalar(
        select(Connection.id).where(
            Connection.org_id == org_id,
            Connection.salesforce_user_id == salesforce_user_id,
            Connection.status != ConnectionStatus.DISCONNECTED,
            Connection.user_id != user.id,
        )
    )
    return found is not None


def is_still_at(user: User, partner_id: int) -> bool:
    """Is this an active advisor of the firm, and the firm enabled? The user is locked until the caller's transaction ends."""
    row = db.session.execute(
        select(User.partner_id, User.deactivated_at, Partner.is_enabled)
        .join(Partner, Partner.id == User.partner_id)
        .where(User.id == user.id)
        .with_for_update(of=User, key_share=True)
    ).first()
    return row is not None and row.partner_id == partner_id and row.deactivated_at is None and row.is_enabled


def is_odd_one_out(connection: Connection) -> bool:
    """Is the rest of the firm connected to another org? A browser that is logged in elsewhere goes there unasked."""
    orgs = set(
        db.session.scalars(
            select(Connection.org_id)
            .where(
                Connection.partner_id == connection.partner_id,
                Connection.status != ConnectionStatus.DISCONNECTED,
                Connection.id != connection.id,
            )
            .distinct()
        )
    )
    return bool(orgs) and connection.org_id not in orgs


def put_grant(user: User, partner_id: int, grant: Grant, who: Identity, access: OrgAccess) -> Connection:
    """Store a grant on the connection of its identity, continued or new, in the caller's transaction.

    The caller has made sure that the advisor has no other current connection.
    """
    connection = _find_former(user, partner_id, grant.identity)
    now = utcnow()
    if connection is None:
        connection = Connection(
            public_id=new_public_id(),
            user_id=user.id,
            partner_id=partner_id,
            org_id=grant.org_id,
            salesforce_user_id=grant.user_id,
            connected_at=now,
            token_version=1,
        )
        db.session.add(connection)
    else:
        connection.token_version = Connection.token_version + 1
        connection.connected_at = now if connection.is_disconnected else connection.connected_at
    connection.username, connection.display_name = who.username, who.display_name
    connection.org_name = who.org_name or connection.org_name or ""
    connection.instance_url, connection.scopes = grant.instance_url, grant.scopes
    connection.seal(access.vault, "access_token_sealed", grant.access_token)
    connection.seal(access.vault, "refresh_token_sealed", grant.refresh_token)
    connection.token_lease, connection.token_lease_until, connection.token_used_at = None, None, now
    connection.end_lease()
    connection.unknown_refusals, connection.unknown_refusals_since = 0, None
    if connection.status != ConnectionStatus.CONNECTED:
        connection.status, connection.status_changed_at = ConnectionStatus.CONNECTED, now
    connection.status_reason = None
    connection.failures_in_a_row, connection.last_failure = 0, None
    if connection.first_synced_at is not None:
        connection.next_sync_at = now  # catch up at once; the very first sync is started by the advisor
    db.session.flush()
    earlier_accounts.send_again(user.id, partner_id)  # people who signed up again while nothing was connected
    return connection


def mark_needs_reconnect(session: Session, connection_id: int, reason: str, token_version: int) -> bool:
    """Stop recurring syncs until the advisor connects again, if the refused tokens are still the stored ones.

    Joins the caller's transaction. reason: a Code.
    """
    now = utcnow()
    statement = update(Connection).where(
        Connection.id == connection_id,
        Connection.status == ConnectionStatus.CONNECTED,
        Connection.token_version == token_version,
    )
    marked = session.execute(
        statement.values(
            status=ConnectionStatus.NEEDS_RECONNECT,
            status_reason=reason,
            status_changed_at=now,
            next_sync_at=None,
            token_lease=None,
            token_lease_until=None,
        )
    )
    was_marked = rows_changed(marked) == 1
    if was_marked:
        connection = session.get_one(Connection, connection_id)
        entries.record(Action.BROKE, ITSELF, connection, session=session, reason=reason)
    return was_marked


def disconnect(connection: Connection, keep_contacts: bool, access: OrgAccess, by: Actor = ITSELF) -> bool:
    """Delete the tokens, then revoke the grant; return whether Salesforce confirmed it. Commits.

    Our side is done first: if Salesforce is down, the tokens are deleted all the same, and the panel says that the grant
    is still listed there.
    """
    connection_id = connection.id

    def end() -> list[Ended]:
        return end_connections(Connection.id == connection_id, keep_contacts, access, by)

    return give_back(retry_when_beaten(db.session(), end)) == 0


def end_connections(
    which: ColumnElement[bool], keep_contacts: bool, access: OrgAccess, by: Actor = ITSELF
) -> list[Ended]:
    """Disconnect those of these that are not, in the caller's transaction. Pass the result to give_back() after it."""
    lock_people(User.id.in_(select(Connection.user_id).where(which)))
    ended = []
    for connection in lock_current(which):
        had_tokens = connection.refresh_token_sealed is not None
        ended.append(Ended(connection.id, had_tokens, find_revocable(connection, access)))
        end_connection(connection, keep_contacts, by)
    return ended


def give_back(ended: Sequence[Ended], at_most_s: float = GIVING_BACK_S) -> int:
    """Revoke the grants of these connections; return how many Salesforce did not confirm, which is recorded. Commits.

    at_most_s: after which no further call starts.
    """
    give_up_at = time.monotonic() + at_most_s
    unheard = []
    for each in ended:
        can_ask = each.app_and_token is not None and time.monotonic() < give_up_at
        is_heard = not each.had_tokens or (can_ask and give_back_token(*each.app_and_token))  # type: ignore[misc]
        if not is_heard:
            unheard.append(each.connection_id)
    for connection_id in unheard:
        _record_unheard(connection_id)
    db.session.commit()
    return len(unheard)


def give_back_token(app: oauth.App, token: str) -> bool:
    """Revoke a token; return whether Salesforce confirmed it. No transaction may be open."""
    is_heard = oauth.revoke(app, token)
    if not is_heard:
        log.warning("Salesforce did not hear that a permission was given back")
    return is_heard


def _record_unheard(connection_id: int) -> None:
    mine = (Connection.id == connection_id, Connection.status == ConnectionStatus.DISCONNECTED)
    unheard = {
        None: DisconnectReason.REVOKE_FAILED,
        DisconnectReason.CONTACTS_REMOVED: DisconnectReason.REMOVED_AND_REVOKE_FAILED,
    }
    for before, reason in unheard.items():
        db.session.execute(
            update(Connection)
            .where(*mine, Connection.status_reason.is_not_distinct_from(before))
            .values(status_reason=reason)
        )


def end_connection(connection: Connection, keep_contacts: bool, by: Actor = ITSELF) -> None:
    """Disconnect it in the caller's transaction, which has locked its user and its row.

    An active run loses its lease and writes nothing more.
    """
    now = utcnow()
    connection.status, connection.status_changed_at = ConnectionStatus.DISCONNECTED, now
    connection.status_reason = None if keep_contacts else DisconnectReason.CONTACTS_REMOVED
    connection.access_token_sealed, connection.refresh_token_sealed = None, None
    connection.token_version = Connection.token_version + 1
    connection.token_lease, connection.token_lease_until = None, None
    connection.next_sync_at = None
    connection.end_lease()
    db.session.flush()
    stopped_runs.stop_run_of(connection.id, StopReason.DISCONNECTED)
    if not keep_contacts:
        _remove_contacts(connection)
    entries.record(Action.DISCONNECTED, by, connection, contacts_kept=keep_contacts)
    db.session.flush()


def _remove_contacts(connection: Connection) -> None:
    """Delete the connection's contacts, ledger and reading positions; the advisor's own lists stay.

    Opted-out addresses and tombstones stay as well: they apply to what comes later.
    """
    tombstones.mark_hidden_of(connection.id)
    for table in (Contact, LedgerEntry, Departure):
        db.session.execute(delete(table).where(table.connection_id == connection.id))
    connection.watermark = connection.opt_out_field_read = connection.lead_fields_read = None
    connection.first_synced_at, connection.last_good_sync_at, connection.opt_outs_known_until = None, None, None
    connection.swept_at, connection.salesforce_count = None, None
    connection.sweep_wanted = False
    connection.lead_opt_outs_watermark = None
    connection.open_leads_watermark = connection.open_leads_known_until = connection.open_leads_count = None


def find_revocable(connection: Connection, access: OrgAccess) -> tuple[oauth.App, str] | None:
    """Return what oauth.revoke() needs, for a row that the caller has locked; None if nothing opens."""
    if connection.refresh_token_sealed is None:
        return None
    try:
        app = access.app_of(connection.partner, Caller.of(connection))
        return app, connection.unseal(access.vault, "refresh_token_sealed")
    except CannotOpen:
        return None


def _find_former(user: User, partner_id: int, identity: tuple[str, str]) -> Connection | None:
    """Return the connection to continue. One made with another firm's app is not continued: its contacts are that firm's."""
    org_id, salesforce_user_id = identity
    return db.session.scalar(
        select(Connection)
        .where(
            Connection.user_id == user.id,
            Connection.partner_id == partner_id,
            Connection.org_id == org_id,
            Connection.salesforce_user_id == salesforce_user_id,
        )
        .order_by((Connection.status == ConnectionStatus.DISCONNECTED).asc(), Connection.id.desc())
        .limit(1)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
