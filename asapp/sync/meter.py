"""What happens before each call to Salesforce: the lease is renewed, the call is counted, and whoever has to stop, stops.

In a short transaction of its own, so that a call that was made is a call that was counted, whatever happens next. It may run
in a reading thread, while the run's own session is busy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Engine, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from asapp.clock import utcnow
from asapp.database import writing
from asapp.models import ApiUsage, RunStatus, RunTrigger, SyncRun
from asapp.sync.allowance import allowance_of
from asapp.sync.runs import LEASE, CancelRequested, LeaseLost, StopRequested


class Meter:
    def __init__(
        self, engine: Engine, run_id: int, lease: str, partner_id: int, should_stop: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._run_id = run_id
        self._lease = lease
        self._partner_id = partner_id
        self._should_stop = should_stop

    def __call__(self) -> None:
        """Raise StopRequested, LeaseLost, CancelRequested or LimitReached instead of letting the call be made."""
        if self._should_stop():
            raise StopRequested
        now = utcnow()
        with writing(), Session(self._engine) as session:
            held = session.execute(
                update(SyncRun)
                .where(SyncRun.id == self._run_id, SyncRun.lease == self._lease, SyncRun.status == RunStatus.RUNNING)
                .values(heartbeat_at=now, lease_until=now + LEASE, api_calls=SyncRun.api_calls + 1)
                .returning(SyncRun.cancel_requested_at, SyncRun.trigger)
            ).first()
            if held is None:
                raise LeaseLost
            if held.cancel_requested_at is not None:
                raise CancelRequested
            allowance_of(session, self._partner_id, now).check(held.trigger)
            count_call(session, self._partner_id, now)
            session.commit()


def count_each_call(engine: Engine, partner_id: int) -> Callable[[], None]:
    """Return what runs before each call that no run makes: a page's, a check's. It counts the call, within the firm's share.

    The call is counted before it is made, so that one that fails counts as well. Raises LimitReached where the share is used
    up, and no call is made. Where SQLite is busy for too long with a sync, a figure that is one short is better than no answer.
    """

    def count() -> None:
        now = utcnow()
        with suppress(OperationalError), writing(), Session(engine) as session:
            allowance_of(session, partner_id, now).check(RunTrigger.MANUAL)
            count_call(session, partner_id, now)
            session.commit()

    return count


def count_call(session: Session, partner_id: int, now: datetime, *, is_for_leads: bool = False) -> None:
    """Add one to our own calls of this hour; joins the caller's transaction."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    for_leads = int(is_for_leads)
    statement = dialect.insert(ApiUsage).values(
        partner_id=partner_id, hour=now.replace(minute=0, second=0, microsecond=0), calls=1, lead_calls=for_leads
    )
    more = {"calls": ApiUsage.calls + 1, "lead_calls": ApiUsage.lead_calls + for_leads}
    session.execute(statement.on_conflict_do_update(index_elements=["partner_id", "hour"], set_=more))
