"""An office whose firm writes unsubscribes back to Salesforce; deliveries run in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from asapp.connections.org_access import BeforeCall
from asapp.contacts.suppressions import Address
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Connection, OptOutWrite, SuppressionSource
from asapp.salesforce.client import OrgClient
from asapp.writeback import unsubscribing
from asapp.writeback.delivery import deliver
from orgsim import Running
from tests.factories import org_access
from tests.signing_up import PostOffice
from tests.syncing import Died, WatchedAccess

OPT_OUT = "HasOptedOutOfEmail"
ROSE = "rose@edge.example"


@dataclass(frozen=True)
class WriteBackAccess(WatchedAccess):
    before_each_call: Callable[[], None]
    after_update: Callable[[], None]  # when an update is answered, before its answer is used

    def client(self, connection: Connection, before_call: BeforeCall) -> OrgClient:
        def before() -> None:
            self.before_each_call()
            before_call()

        client = super().client(connection, before)
        ask = client.set_opt_outs

        def set_opt_outs(*arguments: Any) -> Any:
            answer = ask(*arguments)
            self.after_update()
            return answer

        client.set_opt_outs = set_opt_outs  # type: ignore[method-assign]
        return client


class WriteBackOffice(PostOffice):
    """`write_back()` delivers what is due; unsubscribing works as on the page, without the minutes for undoing it."""

    after_update: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, running: Running) -> None:
        super().__init__(running)
        self.connection.partner.writes_opt_outs_back = True
        db.session.commit()

    def address(self, email: str = ROSE) -> Address:
        return Address(self.connection.partner_id, self.advisor.id, self.hash(email))

    def unsubscribe(self, email: str = ROSE, *, whole_firm: bool = False, wait_is_over: bool = True) -> None:
        db.session.rollback()
        with writing():
            unsubscribing.unsubscribe(
                self.address(email), SuppressionSource.PAGE, whole_firm=whole_firm, vault=org_access().vault
            )
        if wait_is_over:
            self.make_all_due()

    def make_all_due(self) -> None:
        """End all waiting times and leases."""
        db.session.rollback()
        long_ago = utcnow() - timedelta(seconds=1)
        db.session.execute(update(OptOutWrite).values(next_attempt_at=long_ago))
        db.session.execute(update(OptOutWrite).where(OptOutWrite.lease.is_not(None)).values(lease_until=long_ago))
        db.session.commit()

    def write_back(self, before_call: Callable[[int], None] = lambda number: None) -> int:
        """Deliver what is due; before_call is told the number of each call to Salesforce, from 1."""
        connection_id = self.connection.id
        numbers = itertools.count(1)
        access = org_access(
            WriteBackAccess,
            between_pages=lambda: None,
            before_each_call=lambda: before_call(next(numbers)),
            after_update=lambda: self.after_update(),
        )
        db.session.commit()
        try:
            with writing():
                return deliver(connection_id, access, lambda: self.stopping)
        except Died:
            return 0
        finally:
            db.session.rollback()
            db.session.expire_all()

    def writes(self) -> dict[str, tuple[str, str | None]]:
        """Return {Salesforce Id: (state, why)} of all rows."""
        db.session.rollback()
        rows = db.session.execute(select(OptOutWrite.salesforce_id, OptOutWrite.state, OptOutWrite.why))
        return {row.salesforce_id: (row.state, row.why) for row in rows}

    def write(self, salesforce_id: str) -> OptOutWrite:
        db.session.rollback()
        query = select(OptOutWrite).where(OptOutWrite.salesforce_id == salesforce_id)
        return db.session.scalars(query.execution_options(populate_existing=True)).one()

    def is_out(self, salesforce_id: str) -> bool:
        record = self.org.contact(salesforce_id)
        assert record is not None
        return bool(record[OPT_OUT])

    def updates(self, mark: int) -> int:
        """Return how many update requests the org has received since the mark."""
        return sum(call.method == "PATCH" for call in self.org.calls.since(mark))
