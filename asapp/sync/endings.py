"""Every way a sync run can end but the good one, and what is written then.

Each ending is written `WHERE lease = mine`, or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from asapp.connections import app_refusals
from asapp.connections.api_budget import pause
from asapp.core.clock import utcnow
from asapp.core.database import retry_when_beaten
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.core.stopping import StopRequested
from asapp.messages.codes import Code
from asapp.models import Connection, Partner, RunStatus, SyncRun
from asapp.salesforce import errors
from asapp.salesforce.fields import find_named
from asapp.sync.interval import find_interval
from asapp.sync.run_context import JobContext
from asapp.sync.runs import CancelRequested, LeasedRun, enqueue_next_parked, enqueue_run
from asapp.sync.schedule import next_sync_at

log = logging.getLogger(__name__)


@contextmanager
def enqueueing_next_parked(partner_id: int, job: JobContext) -> Iterator[None]:
    """However a run ends, let the next parked one of its partner begin."""
    try:
        yield
    finally:
        db.session.rollback()
        enqueue_next_parked(partner_id, job.enqueue)


@contextmanager
def ending(run: LeasedRun, job: JobContext) -> Iterator[None]:
    """Write every ending of a run but the good ones. Bugs and a database that is away are raised again afterwards."""
    try:
        yield
    except LeaseLost:
        db.session.rollback()
        log.warning("lease lost, nothing more is written")
    except StopRequested:
        db.session.rollback()
        if run.hand_back():
            enqueue_run(db.session.get_one(SyncRun, run.id, populate_existing=True), job.enqueue)
            log.info("run handed back")
    except CancelRequested:
        record_ending(run, RunStatus.CANCELLED)
        log.info("run cancelled")
    except errors.ReconnectNeeded as error:  # the code that used the tokens has already marked the connection
        record_ending(run, RunStatus.FAILED, error)
        log.warning("run failed, to be connected again: %s", error)
    except errors.OurBug as error:
        record_failure(run, error, job)
        raise
    except errors.SalesforceError as error:
        record_failure(run, error, job)
        log.warning("run failed: %s", error)
    except (
        OperationalError
    ):  # the database was restarted, for example: the next tick requeues the run, and counts a try
        with suppress(OperationalError):
            db.session.rollback()
            run.expire()
        raise
    except Exception:
        record_failure(run, errors.OurBug(Code.OUR_BUG), job)
        raise


def record_failure(run: LeasedRun, error: errors.SalesforceError, job: JobContext) -> None:
    """End the run as failed, and let its connection wait longer from failure to failure."""
    db.session.rollback()
    retry_when_beaten(db.session(), lambda: _record_failure(run, error, job))


def _record_failure(run: LeasedRun, error: errors.SalesforceError, job: JobContext) -> None:
    now = utcnow()
    connection_id = run.row.connection_id
    # The lock order: the partner before the connection, and that before the run.
    if isinstance(error, errors.LimitReached):
        partner_id = select(Connection.partner_id).where(Connection.id == connection_id).scalar_subquery()
        if partner := db.session.scalar(select(Partner).where(Partner.id == partner_id)):
            pause(db.session(), partner, error, now)
            db.session.flush()
    connection = db.session.get(Connection, connection_id, populate_existing=True, with_for_update={"key_share": True})
    if connection is None:  # deleted with its partner, and the run with it
        db.session.rollback()
        return
    code = error.code
    if isinstance(error, errors.FieldHidden) and find_named(error.detail, connection.partner.opt_out_fields):
        code = Code.OPT_OUT_HIDDEN
        connection.opt_outs_known_until = now  # unknown never counts as "may be written to"
    app_refusals.record_moved(db.session(), connection, error)
    connection.failures_in_a_row += 1
    connection.last_failure = code
    connection.end_lease()
    if connection.first_synced_at is not None:
        interval = find_interval(db.session(), connection.partner_id, job.default_interval_minutes)
        connection.next_sync_at = next_sync_at(now, interval.minutes, connection.failures_in_a_row)
    db.session.flush()
    record_ending(run, RunStatus.FAILED, error, code)


def record_ending(
    run: LeasedRun, status: RunStatus, error: errors.SalesforceError | None = None, code: str | None = None
) -> None:
    """Write an ending and commit what the session holds; nothing is written if the lease is lost."""
    try:
        run.end(
            status,
            error_code=(code or error.code) if error else None,
            error_detail=error.detail if error else None,
        )
    except LeaseLost:
        log.warning("lease lost before the ending was written", extra={"run_id": run.id})
        return
    db.session.commit()
