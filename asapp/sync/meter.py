"""What happens before each call to Salesforce: the lease is renewed, the call is counted, and the run stops if it has to.

It is a short transaction of its own, so that every call that was made is counted, whatever happens next. It may run in a reading
thread while the run's own session is busy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from asapp.connections.api_budget import add_call, allowance_of, give_back_calls
from asapp.core.clock import utcnow
from asapp.core.database import reading, writing
from asapp.core.leases import LEASE_OF_CALLS, LeaseLost
from asapp.core.stopping import StopRequested
from asapp.models import SyncRun
from asapp.sync.runs import CancelRequested, LeasedRun


class RunMeter:
    def __init__(self, engine: Engine, run: LeasedRun, partner_id: int, should_stop: Callable[[], bool]) -> None:
        self._engine = engine
        self._run = run
        self._partner_id = partner_id
        self._should_stop = should_stop

    def __call__(self) -> None:
        """Raise StopRequested, LeaseLost, CancelRequested or LimitReached if the call must not be made."""
        if self._should_stop():
            raise StopRequested
        now = utcnow()
        with writing(), Session(self._engine) as session:
            row = session.execute(
                update(SyncRun)
                .where(*self._run.is_mine)
                .values(heartbeat_at=now, lease_until=now + LEASE_OF_CALLS, api_calls=SyncRun.api_calls + 1)
                .returning(SyncRun.cancel_requested_at, SyncRun.trigger)
            ).first()
            if row is None:
                raise LeaseLost
            if row.cancel_requested_at is not None:
                raise CancelRequested
            allowance_of(session, self._partner_id, now).check(row.trigger)
            add_call(session, self._partner_id, now)
            session.commit()

    def check(self) -> None:
        """Raise LeaseLost or CancelRequested, as before a call, where the next ones are counted already."""
        with reading(), Session(self._engine) as session:
            row = session.execute(select(SyncRun.cancel_requested_at).where(*self._run.is_mine)).first()
        if row is None:
            raise LeaseLost
        if row.cancel_requested_at is not None:
            raise CancelRequested

    def give_back(self, calls: int) -> None:
        """Take back what was counted for calls that were not made. Where that fails, they stay counted."""
        if not calls:
            return
        now = utcnow()
        with suppress(OperationalError), writing(), Session(self._engine) as session:
            session.execute(update(SyncRun).where(*self._run.is_mine).values(api_calls=SyncRun.api_calls - calls))
            give_back_calls(session, {self._partner_id: calls}, now)
            session.commit()
