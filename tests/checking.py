"""Tests of quiet checks: rounds in this process, of connections that are due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import select

from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import ApiUsage, Connection, SyncRun
from asapp.sync import rounds
from asapp.sync.run_context import JobContext
from tests.factories import make_advisor, make_connection, org_access
from tests.syncing import KEY, Office


class Checker:
    """Runs rounds; enqueued: the runs that they made."""

    def __init__(self) -> None:
        self.enqueued: list[int] = []
        self.should_stop: Callable[[], bool] = lambda: False

    def go(self) -> None:
        db.session.rollback()
        with writing():
            rounds.check_due(
                JobContext(
                    access=org_access(),
                    enqueue=self.enqueue,
                    default_interval_minutes=60,
                    should_stop=lambda: self.should_stop(),
                )
            )
        db.session.expire_all()

    def enqueue(self, run_ids: Sequence[int]) -> bool:
        self.enqueued += run_ids
        return True


def let_it_be_due(*connections: Connection) -> None:
    for connection in connections:
        connection.next_sync_at = utcnow() - timedelta(minutes=1)
    db.session.commit()


def synced_office(office: Office, contacts: int = 3) -> Office:
    """Sync the office's connection, so that the next check finds nothing new, and let it be due."""
    office.fill(contacts)
    assert office.sync().is_complete
    office.org.clock.advance(3600)
    let_it_be_due(office.connection)
    return office


def add_colleagues(office: Office, number: int) -> list[Connection]:
    """Connect more advisors of the office's firm, each synced as one without contacts, and due."""
    made = []
    like = office.connection
    for n in range(number):
        user = office.org.add_user(name=f"Advisor {n}", username=f"a{n}@northgate.example")
        tokens = office.org.issue_tokens(user, KEY)
        connection = make_connection(
            make_advisor(like.partner),
            org_id=office.org.id,
            salesforce_user_id=user,
            instance_url=like.partner.salesforce_url,
            access_token=tokens["access_token"],
            refresh_token=tokens["refresh_token"],
        )
        for name in (
            *("watermark", "opt_out_field_read", "first_synced_at", "last_good_sync_at", "opt_outs_known_until"),
            *("swept_at", "leads_watermark", "lead_opt_outs_watermark", "leads_known_until", "lead_fields_read"),
        ):
            setattr(connection, name, getattr(like, name))
        connection.salesforce_count = 0
        made.append(connection)
    let_it_be_due(*made)
    return made


def runs_of(connection: Connection) -> list[SyncRun]:
    db.session.rollback()
    return list(db.session.scalars(select(SyncRun).where(SyncRun.connection_id == connection.id).order_by(SyncRun.id)))


def counted_calls() -> int:
    db.session.rollback()
    return sum(db.session.scalars(select(ApiUsage.calls)))


def data_calls(office: Office, mark: int) -> int:
    """Return how many calls for data the org has had since this mark."""
    return sum("data" in call.tags for call in office.org.calls.since(mark))
