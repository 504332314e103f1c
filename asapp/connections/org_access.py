"""Access to a firm's org: its app, an advisor's tokens, and a client that counts its calls.

create_app() builds one. Open an org where its errors are handled; it is closed at the end of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from asapp.connections.api_budget import call_counter
from asapp.connections.call_log import Caller, logging_calls, writing_at_once
from asapp.connections.tokens import StoredTokens
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.models import Connection, Partner
from asapp.salesforce.client import Haste, OrgClient
from asapp.salesforce.oauth import App
from asapp.salesforce.session import OrgSession

BeforeCall = Callable[[], None]  # raises to prevent the call


@dataclass(frozen=True)
class OrgAccess:
    vault: Vault
    callback_url: str
    allow_loopback: bool

    def app_of(self, partner: Partner, caller: Caller | None = None) -> App:
        """Return the firm's app; raise CannotOpen if its key or secret can't be opened.

        caller: its calls are logged for this caller, each at once; without one they are not logged here.
        """
        return self.app(
            partner.salesforce_url,
            partner.unseal(self.vault, "consumer_key_sealed"),
            partner.unseal(self.vault, "consumer_secret_sealed"),
            caller,
        )

    def app(self, salesforce_url: str, key: str, secret: str, caller: Caller | None = None) -> App:
        on_call = writing_at_once(caller) if caller else None
        return App(salesforce_url, self.callback_url, key, secret, self.allow_loopback, on_call)

    def tokens(self, connection: Connection) -> StoredTokens:
        """Return the connection's tokens. Raises ReconnectNeeded if there are none, Misconfigured if they can't be opened."""
        return StoredTokens(connection.id, self, just_read=connection)

    @contextmanager
    def open(self, connection: Connection, before_call: BeforeCall | None = None) -> Iterator[OrgClient]:
        """Yield a client with this connection's tokens. Commits, so that no transaction is open during a call; and at the end,
        where the calls are logged.

        before_call: runs before each call and counts it; without one, each call is counted against the firm's share.
        Raises SalesforceError.
        """
        with logging_calls(Caller.of(connection)) as calls:
            before = calls.writing_before(before_call or self._counting(connection))
            client = self.client(connection, before)
            client.report_to(calls)
            db.session.commit()
            with closing(client):
                yield client

    @contextmanager
    def open_session(self, connection: Connection) -> Iterator[OrgSession]:
        """As open(), for the few queries about a firm's set-up that are not part of a sync."""
        with logging_calls(Caller.of(connection)) as calls:
            before = calls.writing_before(self._counting(connection))
            session = OrgSession(self.tokens(connection), self.allow_loopback, before, on_call=calls)
            db.session.commit()
            with session:
                yield session

    def client(self, connection: Connection, before_call: BeforeCall, haste: Haste | None = None) -> OrgClient:
        """Return a client for open(), which closes it; or, with haste, for one call among many."""
        partner = connection.partner
        client = OrgClient(
            self.tokens(connection),
            partner.api_version,
            partner.opt_out_fields,
            allow_loopback=self.allow_loopback,
            before_call=before_call,
            haste=haste,
        )
        return client.read_persons() if partner.has_person_accounts else client

    def _counting(self, connection: Connection) -> BeforeCall:
        return call_counter(db.engine, connection.partner_id)
