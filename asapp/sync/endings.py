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
from asapp.sync.run_context import JobContext
from asapp.sync.runs import CancelRequested, end_run, enqueue_next_parked, enqueue_run, expire_lease, hand_back
from asapp.sync.schedule import next_sync_at

log = logging.getLogger(__name__)


@contextmanager
def enqueueing_next_parked(partner_id: int, job: JobContext) -> Iterator[None]:
    """When this run has ended, however it did, the next of its firm may begin."""
    try:
        yield
    finally:
        db.session.rollback()
        enqueue_next_parked(partner_id, job.enqueue)


@contextmanager
def ending(run_id: int, lease: str, connection_id: int, job: JobContext) -> Iterator[None]:
    """Own every ending of a run but the good ones; each is written `WHERE lease = mine`, or not at all."""
    try:
        yield
    except LeaseLost:
        db.session.rollback()
        log.warning("lease lost, nothing more is written")
    except StopRequested:
        db.session.rollback()
        if hand_back(run_id, lease):
            enqueue_run(db.session.get_one(SyncRun, run_id, populate_existing=True), job.enqueue)
            log.info("run handed back")
    except CancelRequested:
        record_ending(run_id, lease, RunStatus.CANCELLED)
        log.info("run cancelled")
    except errors.ReconnectNeeded as error:
        record_ending(run_id, lease, RunStatus.FAILED, error)  # whoever read the tokens has marked the connection
        log.warning("run failed, to be connected again: %s", error)
    except errors.OurBug as error:
        record_failure(run_id, lease, connection_id, error, job)
        raise
    except errors.SalesforceError as error:
        record_failure(run_id, lease, connection_id, error, job)
        log.warning("run failed: %s", error)
    except OperationalError:  # it was restarted, say: the next tick takes the run up again, and counts a try
        with suppress(OperationalError):
            db.session.rollback()
            expire_lease(run_id, lease)
        raise
    except Exception:
        bug = errors.OurBug(Code.OUR_BUG)
        record_failure(run_id, lease, connection_id, bug, job)
        raise


def record_failure(run_id: int, lease: str, connection_id: int, error: errors.SalesforceError, job: JobContext) -> None:
    """End the run as failed, and let the connection wait longer from failure to failure."""
    db.session.rollback()
    retry_when_beaten(db.session(), lambda: _record_failure(run_id, lease, connection_id, error, job))


def _record_failure(
    run_id: int, lease: str, connection_id: int, error: errors.SalesforceError, job: JobContext
) -> None:
    now = utcnow()
    if isinstance(error, errors.LimitReached):
        partner = select(Connection.partner_id).where(Connection.id == connection_id).scalar_subquery()
        if firm := db.session.scalar(select(Partner).where(Partner.id == partner)):
            pause(db.session(), firm, error, now)
            db.session.flush()  # the firm before the connection, and that before the run: the lock order
    connection = db.session.get(Connection, connection_id, populate_existing=True, with_for_update={"key_share": True})
    if connection is None:  # deleted with its firm, and the run with it
        db.session.rollback()
        return
    code = error.code
    if isinstance(error, errors.FieldHidden) and error.detail in ("", connection.partner.opt_out_field):
        code = Code.OPT_OUT_HIDDEN
        connection.opt_outs_known_until = now  # unknown never counts as "may be written to"
    app_refusals.record_moved(db.session(), connection, error)
    connection.failures_in_a_row += 1
    connection.last_failure = code
    minutes = connection.partner.sync_interval_minutes or job.default_interval_minutes
    if connection.first_synced_at is not None:
        connection.next_sync_at = next_sync_at(now, minutes, connection.failures_in_a_row)
    db.session.flush()
    record_ending(run_id, lease, RunStatus.FAILED, error, code)


def record_ending(
    run_id: int,
    lease: str,
    status: RunStatus,
    error: errors.SalesforceError | None = None,
    code: str | None = None,
) -> None:
    run = db.session.get(SyncRun, run_id)
    if run is None:
        return
    try:
        end_run(
            run,
            lease,
            status,
            error_code=(code or error.code) if error else None,
            error_detail=error.detail if error else None,
        )
    except LeaseLost:
        log.warning("lease lost before the ending was written", extra={"run_id": run_id})
        return
    db.session.commit()
