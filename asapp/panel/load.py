"""Reads what the panel shows. While a run is active one small query is enough: many browsers poll every two seconds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, or_, select

from asapp.connections import connect, connections, switching
from asapp.connections.org_access import OrgAccess
from asapp.connections.state import state_of
from asapp.contacts.queries import count_of_connection
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.messages.codes import Code
from asapp.messages.failures import Facts, Failure, Occasion, explain, forward_when_stuck
from asapp.messages.states import AdvisorState
from asapp.models import (
    Connection,
    ConnectionStatus,
    DepartureState,
    OAuthState,
    Partner,
    RunStatus,
    SyncRun,
    User,
)
from asapp.panel.panel import Panel, Progress, waits_for_admin
from asapp.salesforce.fields import find_named
from asapp.sync import departures, runs
from asapp.sync.interval import find_interval

# A run fails with these only if the grant has ended; a connected connection has a newer one.
OF_AN_OLD_PERMISSION = (Code.DISCONNECTED, Code.INACTIVE_USER, Code.PERMISSION_EXPIRED, Code.PERMISSION_WITHDRAWN)


def load_panel(
    user: User,
    connection: Connection | None,
    held: int,
    access: OrgAccess,
    default_interval_minutes: int,
    lost_state: bool = False,
) -> Panel:
    """Return this advisor's panel as it is now.

    connection: of find_latest(). held: of count_held_of(). lost_state: an answer that fits no log-in has just come back.
    """
    now, partner = utcnow(), user.partner
    run = find_run_to_show(connection)
    interval = find_interval(db.session(), partner.id, default_interval_minutes) if partner else None
    panel = Panel(
        AdvisorState.SYNCING,
        partner,
        connection,
        run,
        now,
        interval=interval,
        run_failure=explain_run(partner, connection, run),
    )
    if run is not None and run.is_active and connection is not None and connection.is_connected:
        return replace(panel, state=state_of(partner, connection, now, is_syncing=True))
    state = state_of(
        partner,
        connection,
        now,
        is_syncing=run is not None and run.is_active,
        waits_for_admin=waits_for_admin(run, panel.run_failure),
        held=held,
    )
    contacts, active, kept = _count_contacts(connection, now)
    attempt = connect.find_last_attempt(user)
    return replace(
        panel,
        state=state,
        held=held,
        kept=kept,
        contacts=contacts,
        active=active,
        connect_failure=_connect_failure(user, partner, connection, attempt, access, lost_state, now),
        reconnect_reason=_reconnect_reason(user, partner, connection, access, now),
        pending=switching.find_pending(user, now),
        is_log_in_open=_is_open(attempt, now),
        stuck_text=forward_when_stuck(access.callback_url) if partner else "",
    )


# Built once, and from tables instead of classes: this query runs more often than all others.
_runs, _connections, _partners = SyncRun.__table__.c, Connection.__table__.c, Partner.__table__.c
PROGRESS = (
    select(
        _runs.id,
        _runs.status,
        _runs.phase,
        _runs.queued_at,
        _runs.enqueued_at,
        _runs.started_at,
        _runs.cancel_requested_at,
        _runs.total,
        _runs.read,
        _runs.created,
        _runs.updated,
        _runs.unchanged,
        _runs.adopted,
        _runs.reactivated,
        _runs.deactivated,
        _runs.skipped,
        _runs.also,
    )
    .select_from(
        SyncRun.__table__.join(Connection.__table__, _runs.connection_id == _connections.id).join(
            Partner.__table__, _connections.partner_id == _partners.id
        )
    )
    .where(
        _connections.user_id == bindparam("user_id"),
        _connections.status == ConnectionStatus.CONNECTED,
        Partner.is_ready,
        or_(_runs.status == RunStatus.QUEUED, _runs.status == RunStatus.RUNNING),
    )
)


def find_progress(user: User) -> Progress | None:
    """Return how far this advisor's active run is, by one small query; None if the panel is in another state."""
    row = db.session.connection().execute(PROGRESS, {"user_id": user.id}).first()
    return Progress(row, utcnow()) if row is not None else None


def find_run_to_show(connection: Connection | None) -> SyncRun | None:
    """Return the active run, or the latest; None if the advisor connected again since and that one no longer matters.

    A failure is history after each log-in; any other ending is after Disconnect, which made its contacts inactive.
    """
    if connection is None or connection.is_disconnected:
        return None
    run = runs.find_shown_run(connection)
    if run is None or run.is_active or not connection.is_connected:
        return run
    if not run.is_failed:
        return run if run.finished_at is None or run.finished_at >= connection.connected_at else None
    if run.error_code in OF_AN_OLD_PERMISSION:
        return None
    connected_at = connect.find_connected_at(connection.user_id) or connection.status_changed_at
    since = max(connected_at, connection.status_changed_at)
    return run if run.finished_at is None or run.finished_at > since else None


class LatestConnection(NamedTuple):
    """connection: of find_latest(). held: of count_held_of()."""

    connection: Connection | None = None
    held: int = 0


def find_latest_with_held(user: User) -> LatestConnection:
    """Return both from one query: each page of the advisor's shows them."""
    row = db.session.execute(
        connections.latest_of(user).add_columns(departures.held_of_connection().label("held"))
    ).first()
    return (
        LatestConnection(row.Connection, row.held if row.Connection.is_connected else 0) if row else LatestConnection()
    )


def count_held_of(connection: Connection | None) -> int:
    """Return how many contacts wait for the advisor's decision, if it can be made now."""
    return departures.count_held(connection.id) if connection is not None and connection.is_connected else 0


def explain_run(partner: Partner | None, connection: Connection | None, run: SyncRun | None) -> Failure | None:
    """Return why this run failed; None if it did not."""
    if run is None or not run.is_failed or partner is None or connection is None:
        return None
    detail = run.error_detail or ""
    field = find_named(detail, partner.opt_out_fields) or partner.opt_out_field
    facts = Facts(partner.name, connection.username, opt_out_field=field, detail=detail)
    return explain(Occasion.SYNC, run.error_code, facts)


def _count_contacts(connection: Connection | None, now: datetime) -> tuple[int, int, int]:
    """Return how many people came from this connection, how many of them are active, and how many the advisor kept."""
    if connection is None:
        return 0, 0, 0
    kept = departures.deactivations(connection.id, DepartureState.DISCARDED)
    count, number_kept = count_of_connection(connection, kept, now)
    return count.people, count.active, 0 if connection.is_disconnected else number_kept


def _is_open(attempt: OAuthState | None, now: datetime) -> bool:
    return attempt is not None and attempt.used_at is None and attempt.expires_at > now


def _connect_failure(
    user: User,
    partner: Partner | None,
    connection: Connection | None,
    attempt: OAuthState | None,
    access: OrgAccess,
    lost_state: bool,
    now: datetime,
) -> Failure | None:
    if partner is None:
        return None
    facts = _facts(user, partner, connection, access, now)
    if attempt is not None and attempt.outcome and attempt.outcome not in tuple(connect.ConnectOutcome):
        told = replace(
            facts,
            when=attempt.used_at or now,
            detail=attempt.outcome_detail or "",
            words=attempt.outcome_words or "",
            is_fetched=attempt.is_fetched,
        )
        return explain(Occasion.CONNECT, attempt.outcome, told)
    return explain(Occasion.CONNECT, Code.LOST_STATE, facts) if lost_state else None


def _reconnect_reason(
    user: User, partner: Partner | None, connection: Connection | None, access: OrgAccess, now: datetime
) -> Failure | None:
    if connection is None or not connection.needs_reconnect:
        return None
    facts = _facts(user, partner, connection, access, now)
    return explain(Occasion.RECONNECT, connection.status_reason, facts)


def _facts(
    user: User, partner: Partner | None, connection: Connection | None, access: OrgAccess, now: datetime
) -> Facts:
    is_connected = connection is not None and not connection.is_disconnected
    return Facts(
        firm=partner.name if partner else "",
        host=partner.salesforce_host if partner else "",
        callback_url=access.callback_url,
        user=connection.username if connection is not None and is_connected else user.email,
        when=now,
        is_connected=is_connected,
    )
