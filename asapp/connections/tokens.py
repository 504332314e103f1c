"""Tokens of a connection: one refresh at a time across all processes, and no token is ever lost.

Refresh tokens rotate: using one twice ends the connection. So the process that refreshes takes a short lease on the row
and commits it before the call; a process that comes too late waits and reads what the first one stored. The answer is
merged (a missing refresh token keeps the old one, instance_url may have changed) and committed WHERE the version is still
the leased one, before the new token is used. No transaction is open during the call. If another process was refused in
the meantime, good tokens undo its mark.

Only the answers that salesforce/errors.py calls ReconnectNeeded end a connection. A refusal with an unknown text does so
after three attempts, well apart, over an hour.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from asapp.connections import app_refusals
from asapp.connections.call_log import Caller, CallLog
from asapp.connections.connections import give_back_token, mark_needs_reconnect
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, durably, reading, writing
from asapp.core.extensions import db
from asapp.core.leases import is_free, new_lease
from asapp.core.vault import CannotOpen
from asapp.messages.codes import Code
from asapp.models import Connection, ConnectionStatus
from asapp.salesforce import oauth, page_turns
from asapp.salesforce.errors import Misconfigured, ReconnectNeeded, SalesforceError, TryLater
from asapp.salesforce.oauth import App, Grant

if TYPE_CHECKING:
    from asapp.connections.org_access import OrgAccess

log = logging.getLogger(__name__)
T = TypeVar("T")

LEASE = timedelta(seconds=30)  # a call (oauth.TOTAL_TIMEOUT_S), and as long again to store its answer
WAIT_S = 32.0  # for the process that is refreshing: longer than its lease; then the call is retried later
POLL_S = 0.1
IDLE = timedelta(days=20)  # Salesforce may end a grant that was not used for 30
UNKNOWN_REFUSALS = 3
UNKNOWN_REFUSALS_OVER = timedelta(hours=1)
UNKNOWN_REFUSALS_APART = timedelta(minutes=20)  # a sooner one counts as the same attempt: a run's or lead's own retry
STORE_TRIES = 5


@dataclass(frozen=True)
class _Lease:
    """The right to refresh once, and what is needed for it."""

    key: str
    token_version: int
    refresh_token: str = field(repr=False)
    app: App
    caller: Caller
    app_version: int
    was_app_refused: bool


class StoredTokens:
    """The TokenSource of a connection (salesforce/session.py), for a job or a request.

    It has its own database sessions, so that it works beside db.session, also in a reading thread; the caller must have
    no write transaction open (SQLite has one writer). Created inside an app context; works outside of one.
    """

    def __init__(self, connection_id: int, access: OrgAccess, just_read: Connection | None = None) -> None:
        """just_read: its row, if the caller has it.

        Raises ReconnectNeeded if there are no tokens, Misconfigured if they can't be opened.
        """
        self.connection_id = connection_id
        self._access = access
        self._engine = db.engine
        self._access_token = ""
        self._instance_url = ""
        if just_read is None:
            self._read()
        else:
            self._adopt(_usable(just_read))

    @property
    def instance_url(self) -> str:
        return self._instance_url

    def access_token(self) -> str:
        return self._access_token

    def refresh(self, stale: str) -> str:
        """Return an access token other than stale.

        Raises ReconnectNeeded (the connection is then marked), TryLater or Misconfigured, which change nothing.
        """
        give_up_at = time.monotonic() + WAIT_S
        while True:
            can_claim = self._read()
            if self._access_token != stale:
                return self._access_token
            lease = self._claim(stale) if can_claim else None
            if lease is not None:
                self._use(lease)
                if self._access_token != stale:
                    return self._access_token
                raise TryLater(Code.TOKEN_ENDPOINT_BUSY, "same token")  # too early: the same token came back
            if time.monotonic() > give_up_at or page_turns.is_time_up():
                raise TryLater(Code.TOKEN_ENDPOINT_BUSY, "another process is refreshing")
            time.sleep(POLL_S)

    def refresh_now(self) -> bool:
        """Use the refresh token even if the access token is still good; return False if another process is refreshing."""
        lease = self._claim(self._access_token)
        if lease is not None:
            self._use(lease)
        return lease is not None

    def _read(self) -> bool:
        """Load the stored tokens; return whether no process is refreshing them."""
        with reading(), Session(self._engine) as session:
            connection = self._find(session)
            self._adopt(connection)
            return connection.token_lease is None or (connection.token_lease_until or utcnow()) <= utcnow()

    def _claim(self, stale: str) -> _Lease | None:
        """Take the lease; None if another process has it, or has just stored another token."""
        with self._writing() as session:
            connection = self._find(session)
            if self._open(connection, "access_token_sealed") != stale:
                return None
            return self._claim_lease(session, connection)

    def _use(self, lease: _Lease) -> None:
        """Use the refresh token, and store what came; then log the call."""
        calls = CallLog(self._engine, lease.caller)
        try:
            self._refresh(lease, replace(lease.app, on_call=calls))
        finally:
            calls.write()

    def _refresh(self, lease: _Lease, app: App) -> None:
        try:
            grant = oauth.refresh(app, lease.refresh_token)
        except SalesforceError as error:
            self._record_refusal(lease, error)
            if error.code in app_refusals.SHOWN_BY:
                with self._writing() as session:
                    app_refusals.record_refused(session, lease.caller.partner_id, lease.app_version, error)
            raise
        was_stored = _persist(lambda: self._store(lease, grant))
        if not was_stored:  # disconnected, or connected again, during the call: the answer is not needed
            if grant.refresh_token and grant.refresh_token != lease.refresh_token:
                give_back_token(app, grant.refresh_token)
            self._read()
        elif lease.was_app_refused:
            with self._writing() as session:
                app_refusals.record_accepted(session, lease.caller.partner_id)

    def _store(self, lease: _Lease, grant: Grant) -> bool:
        """Merge the answer into the row, if its version is still the leased one."""
        with durably(), self._writing() as session:
            connection = session.get(Connection, self.connection_id, with_for_update={"key_share": True})
            if connection is None or connection.token_version != lease.token_version:
                return False
            vault = self._access.vault
            connection.seal(vault, "access_token_sealed", grant.access_token)
            if grant.refresh_token:
                connection.seal(vault, "refresh_token_sealed", grant.refresh_token)
            values: dict[str, Any] = {
                "access_token_sealed": connection.access_token_sealed,
                "refresh_token_sealed": connection.refresh_token_sealed,
                "instance_url": grant.instance_url or connection.instance_url,
                "scopes": grant.scopes or connection.scopes,
                "token_version": lease.token_version + 1,
                "token_lease": None,
                "token_lease_until": None,
                "token_used_at": utcnow(),
                "unknown_refusals": 0,
                "unknown_refusals_since": None,
            }
            if connection.needs_reconnect:  # another process was refused the token that we have just used
                values |= {
                    "status": ConnectionStatus.CONNECTED,
                    "status_reason": None,
                    "status_changed_at": utcnow(),
                    "next_sync_at": utcnow() if connection.first_synced_at is not None else None,
                }
            session.expunge(connection)  # the WHERE below decides, on PostgreSQL too
            mine = (Connection.id == self.connection_id, Connection.token_version == lease.token_version)
            was_stored = change_rows(session, update(Connection).where(*mine).values(**values)) == 1
        if was_stored:
            self._access_token, self._instance_url = grant.access_token, values["instance_url"]
        return was_stored

    def _record_refusal(self, lease: _Lease, error: SalesforceError) -> None:
        """Release the lease, and mark the connection if the answer ends it."""
        with self._writing() as session:
            session.execute(
                update(Connection)
                .where(Connection.id == self.connection_id, Connection.token_lease == lease.key)
                .values(token_lease=None, token_lease_until=None)
            )
            is_over = isinstance(error, ReconnectNeeded)
            if error.code == Code.UNKNOWN_GRANT_ERROR:
                is_over = self._count_unknown(session, lease)
            if is_over and mark_needs_reconnect(session, self.connection_id, error.code, lease.token_version):
                log.warning("connection %s needs reconnecting: %s", self.connection_id, error)
        if is_over and not isinstance(error, ReconnectNeeded):
            raise ReconnectNeeded(error.code, error.detail) from error

    def _count_unknown(self, session: Session, lease: _Lease) -> bool:
        now = utcnow()
        connection = session.get_one(Connection, self.connection_id, populate_existing=True)
        if connection.token_version != lease.token_version:
            return False
        last = connection.unknown_refused_at if connection.unknown_refusals else None
        if last is None:
            connection.unknown_refusals, connection.unknown_refusals_since = 0, now
        elif now - last < UNKNOWN_REFUSALS_APART:
            return False
        connection.unknown_refusals += 1
        connection.unknown_refused_at = now
        session.flush()
        is_over_time = now - (connection.unknown_refusals_since or now) >= UNKNOWN_REFUSALS_OVER
        return is_over_time and connection.unknown_refusals >= UNKNOWN_REFUSALS

    def _claim_lease(self, session: Session, connection: Connection) -> _Lease | None:
        now, key = utcnow(), new_lease()
        lease = _Lease(
            key,
            connection.token_version,
            self._open(connection, "refresh_token_sealed"),
            self._app(connection),
            Caller.of(connection),
            connection.partner.app_version,
            app_refusals.is_refused(session, connection.partner_id),
        )
        claim = (
            update(Connection)
            .where(
                Connection.id == connection.id,
                Connection.token_version == connection.token_version,
                is_free(Connection.token_lease, Connection.token_lease_until, now),
            )
            .values(token_lease=key, token_lease_until=now + LEASE)
        )
        return lease if change_rows(session, claim) == 1 else None

    def _find(self, session: Session) -> Connection:
        return _usable(session.get(Connection, self.connection_id, populate_existing=True))

    def _adopt(self, connection: Connection) -> None:
        self._access_token = self._open(connection, "access_token_sealed")
        self._instance_url = connection.instance_url

    def _open(self, connection: Connection, column: str) -> str:
        try:
            return connection.unseal(self._access.vault, column)
        except CannotOpen as error:
            raise Misconfigured("key_missing") from error

    def _app(self, connection: Connection) -> App:
        try:
            return self._access.app_of(connection.partner)
        except CannotOpen as error:
            raise Misconfigured("key_missing") from error

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with writing(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session


def refresh_idle(connection_id: int, access: OrgAccess) -> bool:
    """Keep a connection alive if its refresh token was not used for IDLE; return whether it was used now.

    For the dispatch tick. Raises as StoredTokens.refresh().
    """
    with reading(), Session(db.engine) as session:
        used_at = session.scalar(select(Connection.token_used_at).where(Connection.id == connection_id))
    if used_at is None or used_at > utcnow() - IDLE:
        return False
    return StoredTokens(connection_id, access).refresh_now()


def find_idle(limit: int = 20) -> list[int]:
    """Return the ids of connected connections whose refresh token was not used for IDLE, the longest idle first."""
    return list(
        db.session.scalars(
            select(Connection.id)
            .where(
                Connection.status == ConnectionStatus.CONNECTED,
                Connection.token_used_at <= utcnow() - IDLE,
                is_free(Connection.token_lease, Connection.token_lease_until, utcnow()),
            )
            .order_by(Connection.token_used_at)
            .limit(limit)
        )
    )


def _usable(connection: Connection | None) -> Connection:
    if connection is None or connection.is_disconnected or not connection.access_token_sealed:
        raise ReconnectNeeded(Code.DISCONNECTED)
    if connection.needs_reconnect:
        raise ReconnectNeeded(connection.status_reason or Code.PERMISSION_WITHDRAWN)
    return connection


def _persist(store: Callable[[], T]) -> T:
    """Store the answer, with retries: under rotation it is the only valid token left."""
    for attempt in range(1, STORE_TRIES + 1):
        try:
            return store()
        except OperationalError:
            if attempt == STORE_TRIES:
                raise
            log.warning("storing refreshed tokens failed, trying again")
            time.sleep(0.2 * 2**attempt)
    raise AssertionError
