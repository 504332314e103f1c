"""The life of a connection: made, continued, waiting for its advisor, ended.

Among connections that are not disconnected, (org id, user id) and advisor are each unique: the database says so. A
connection is continued wherever the same Salesforce user comes back, so that its contacts, lists and watermark stay.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.orm import Session

from asapp import audit
from asapp.audit import ITSELF, Actor
from asapp.clock import utcnow
from asapp.connections.settings import ConnectSettings
from asapp.contacts import tombstones
from asapp.extensions import db
from asapp.models import (
    Action,
    Connection,
    ConnectionStatus,
    Contact,
    Departure,
    LedgerEntry,
    Partner,
    RunStatus,
    SyncRun,
    User,
)
from asapp.models.columns import new_public_id
from asapp.salesforce import oauth
from asapp.salesforce.oauth import Grant, Identity
from asapp.vault import CannotOpen

REVOKE_FAILED = "revoke_failed"  # status_reason of a disconnected one: Salesforce did not hear it
CONTACTS_REMOVED = "contacts_removed"
REMOVED_AND_REVOKE_FAILED = "removed_revoke_failed"


def find_current(user: User) -> Connection | None:
    """Return the advisor's connection that is not disconnected."""
    return db.session.scalar(
        select(Connection).where(Connection.user_id == user.id, Connection.status != ConnectionStatus.DISCONNECTED)
    )


def find_latest(user: User) -> Connection | None:
    """Return the current connection, or the one with the firm of now that was disconnected last."""
    return db.session.scalar(
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
    """Return the ids of every connection the advisor has or had with the firm of now, for the history of runs."""
    return list(
        db.session.scalars(
            select(Connection.id).where(Connection.user_id == user.id, Connection.partner_id == user.partner_id)
        )
    )


def is_taken(user: User, identity: tuple[str, str]) -> bool:
    """Is this Salesforce user connected to another account?"""
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
    """Is this an active advisor of the firm, and the firm enabled? Nobody moves them until the caller's transaction ends."""
    row = db.session.execute(
        select(User.partner_id, User.deactivated_at, Partner.is_enabled)
        .join(Partner, Partner.id == User.partner_id)
        .where(User.id == user.id)
        .with_for_update(of=User, key_share=True)
    ).first()
    return row is not None and row.partner_id == partner_id and row.deactivated_at is None and row.is_enabled


def is_odd_one_out(connection: Connection) -> bool:
    """Is the rest of the firm connected to another org? A browser that was logged in elsewhere goes there unasked."""
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


def put_grant(user: User, partner_id: int, grant: Grant, who: Identity, settings: ConnectSettings) -> Connection:
    """Store a grant on the connection of its identity, continued or new, in the caller's transaction.

    The caller has made sure that no other connection of this advisor is current, or that it is this very one.
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
        )
        db.session.add(connection)
    elif connection.is_disconnected:
        connection.connected_at = now
    connection.username, connection.display_name = who.username, who.display_name
    connection.org_name = who.org_name or connection.org_name or ""
    connection.instance_url, connection.scopes = grant.instance_url, grant.scopes
    connection.seal(settings.vault, "access_token_sealed", grant.access_token)
    connection.seal(settings.vault, "refresh_token_sealed", grant.refresh_token)
    connection.token_version = (connection.token_version or 0) + 1
    connection.token_lease, connection.token_lease_until, connection.token_used_at = None, None, now
    connection.unknown_refusals, connection.unknown_refusals_since = 0, None
    if connection.status != ConnectionStatus.CONNECTED:
        connection.status, connection.status_changed_at = ConnectionStatus.CONNECTED, now
    connection.status_reason = None
    connection.failures_in_a_row, connection.last_failure = 0, None
    if connection.first_synced_at is not None:
        connection.next_sync_at = now  # catch up at once; the first sync of all is the advisor's to start
    return connection


def mark_needs_reconnect(session: Session, connection_id: int, reason: str, token_version: int) -> bool:
    """Stop recurring syncs until the advisor connects again, if the tokens are still the ones that were refused.

    Joins the caller's transaction. reason: a key of connections/words.py.
    """
    now = utcnow()
    statement = update(Connection).where(
        Connection.id == connection_id,
        Connection.status == ConnectionStatus.CONNECTED,
        Connection.token_version == token_version,
    )
    result = session.execute(
        statement.values(
            status=ConnectionStatus.NEEDS_RECONNECT,
            status_reason=reason,
            status_changed_at=now,
            next_sync_at=None,
            token_lease=None,
            token_lease_until=None,
        )
    )
    was_marked = cast(CursorResult[Any], result).rowcount == 1
    if was_marked:
        connection = session.get_one(Connection, connection_id)
        audit.record(Action.BROKE, ITSELF, connection, session=session, reason=reason)
    return was_marked


def disconnect(connection: Connection, keep_contacts: bool, settings: ConnectSettings, by: Actor = ITSELF) -> bool:
    """Forget the tokens, then give the permission back; return whether Salesforce heard it. Commits.

    What is here is safe first: where Salesforce is down the tokens are gone all the same, and the panel says that the
    permission is still listed there.
    """
    connection_id, had_tokens = connection.id, connection.refresh_token_sealed is not None
    app_and_token = find_revocable(connection, settings)
    end_connection(connection, keep_contacts, by)
    db.session.commit()
    was_heard = not had_tokens or (app_and_token is not None and oauth.revoke(*app_and_token))
    if not was_heard:
        reason = REVOKE_FAILED if keep_contacts else REMOVED_AND_REVOKE_FAILED
        db.session.execute(
            update(Connection)
            .where(Connection.id == connection_id, Connection.status == ConnectionStatus.DISCONNECTED)
            .values(status_reason=reason)
        )
        db.session.commit()
    return was_heard


def end_connection(connection: Connection, keep_contacts: bool, by: Actor = ITSELF) -> None:
    """Make it disconnected, in the caller's transaction. A run that is under way loses its lease and writes nothing more."""
    now = utcnow()
    db.session.execute(
        update(SyncRun)
        .where(SyncRun.connection_id == connection.id, SyncRun.status.in_((RunStatus.QUEUED, RunStatus.RUNNING)))
        .values(status=RunStatus.CANCELLED, finished_at=now, lease=None, lease_until=None, error_code="disconnected")
    )
    connection.status, connection.status_changed_at = ConnectionStatus.DISCONNECTED, now
    connection.status_reason = None if keep_contacts else CONTACTS_REMOVED
    connection.access_token_sealed, connection.refresh_token_sealed = None, None
    connection.token_version += 1
    connection.token_lease, connection.token_lease_until = None, None
    connection.next_sync_at = None
    if not keep_contacts:
        _remove_contacts(connection)
    audit.record(Action.DISCONNECTED, by, connection, contacts_kept=keep_contacts)
    db.session.flush()


def _remove_contacts(connection: Connection) -> None:
    """Take the people, the ledger and what is remembered of reading them; the advisor's own lists stay.

    Opted-out addresses and the marks of people deleted or erased here stay as well: they hold for what comes later.
    """
    tombstones.keep_hidden_of(connection.id)
    for table in (Contact, LedgerEntry, Departure):
        db.session.execute(delete(table).where(table.connection_id == connection.id))
    connection.watermark = connection.opt_out_field_read = connection.lead_fields_read = None
    connection.first_synced_at, connection.last_good_sync_at, connection.opt_outs_known_until = None, None, None
    connection.swept_at, connection.salesforce_count = None, None
    connection.sweep_wanted = False
    connection.lead_opt_outs_watermark = None


def find_revocable(connection: Connection, settings: ConnectSettings) -> tuple[oauth.App, str] | None:
    """Return what oauth.revoke needs, read before the transaction ends; None where there is nothing that opens."""
    if connection.refresh_token_sealed is None:
        return None
    try:
        return settings.app_of(connection.partner), connection.unseal(settings.vault, "refresh_token_sealed")
    except CannotOpen:
        return None


def _find_former(user: User, partner_id: int, identity: tuple[str, str]) -> Connection | None:
    """Return the connection to be continued. One that another firm's app made is not: what it brought is that firm's."""
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
    )
