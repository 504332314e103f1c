"""What is kept for a stated time goes then, a little at a time; what is kept for good stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from flask import Flask, current_app
from sqlalchemy import func, select, text

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.health import retention
from asapp.health.retention import delete_expired
from asapp.models import (
    Alert,
    AlertKind,
    AlertMail,
    ApiUsage,
    AuditEntry,
    Connection,
    OAuthState,
    OrgCall,
    PasswordLink,
    RunChange,
    RunStatus,
    Send,
    SendState,
    SetupLink,
    SyncRun,
)
from asapp.models.audit import ActorKind
from config import Config
from tests.factories import make_contact, make_run, make_synced_connection, save
from tests.senders import make_list

DAY = timedelta(days=1)


@pytest.fixture
def connection(app: Flask) -> Connection:
    return make_synced_connection()


def run_of(connection: Connection, days_ago: float) -> SyncRun:
    ended = utcnow() - days_ago * DAY
    return make_run(connection, RunStatus.COMPLETE, queued_at=ended, started_at=ended, finished_at=ended)


def settings() -> Config:
    config: Config = current_app.extensions["asapp.config"]
    return config


def count(model: type) -> int:
    return db.session.scalar(select(func.count()).select_from(model)) or 0


def test_runs_go_after_400_days_with_their_receipts(connection: Connection) -> None:
    old, young = run_of(connection, 401), run_of(connection, 399)
    contact = make_contact(connection)
    for run in (old, young):
        save(RunChange(run_id=run.id, contact_id=contact.id, kind="deactivated", reason="opted_out"))
    kept_id = young.id
    delete_expired(settings())
    assert db.session.scalars(select(SyncRun.id)).all() == [kept_id]
    assert db.session.scalars(select(RunChange.run_id)).all() == [kept_id]


def test_the_last_run_of_each_connection_stays(connection: Connection) -> None:
    other = make_synced_connection()
    kept = {run_of(connection, 800).id, run_of(other, 900).id}
    delete_expired(settings())
    assert set(db.session.scalars(select(SyncRun.id))) == kept


def test_a_run_that_has_not_ended_stays(connection: Connection) -> None:
    make_run(connection, RunStatus.RUNNING, queued_at=utcnow() - 500 * DAY)
    delete_expired(settings())
    assert count(SyncRun) == 1


def test_the_time_is_a_setting(connection: Connection) -> None:
    run_of(connection, 40)
    run_of(connection, 1)
    delete_expired(settings())
    assert count(SyncRun) == 2
    delete_expired(replace(settings(), runs_kept_days=30))
    assert count(SyncRun) == 1


def test_a_receipt_of_many_changes_goes_in_several_steps(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHANGES_AT_ONCE", 2)
    old = run_of(connection, 500)
    run_of(connection, 1)
    for _ in range(5):
        save(RunChange(run_id=old.id, contact_id=make_contact(connection).id, kind="deactivated"))
    left = []
    for _ in range(3):
        delete_expired(settings())
        left.append((count(RunChange), count(SyncRun)))
    assert left == [(3, 2), (1, 2), (0, 1)]


def test_a_thousand_rows_at_most_go_in_one_step(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    for hour in range(5):
        usage_at(connection, utcnow() - 200 * DAY - timedelta(hours=hour))
    assert delete_expired(settings()) == 3
    assert delete_expired(settings()) == 2
    assert delete_expired(settings()) == 0


def usage_at(connection: Connection, hour: datetime) -> None:
    save(ApiUsage(partner_id=connection.user.partner_id, hour=hour, calls=1))


def alert_of(connection: Connection, closed_days_ago: float | None) -> None:
    closed_at = None if closed_days_ago is None else utcnow() - closed_days_ago * DAY
    alert = Alert(kind=AlertKind.HELD, connection_id=connection.id, closed_at=closed_at)
    save(alert)
    save(AlertMail(alert_id=alert.id, user_id=connection.user_id, due_at=None))


def test_alerts_that_are_over_go_with_their_mails(connection: Connection) -> None:
    for closed in (91, 89, None):
        alert_of(connection, closed)
    delete_expired(settings())
    assert (count(Alert), count(AlertMail)) == (2, 2)


def log_in_at_salesforce(connection: Connection, days_ago: float, number: int) -> None:
    save(
        OAuthState(
            state_sha256=f"{number:064}",
            user_id=connection.user_id,
            partner_id=connection.user.partner_id,
            app_version=1,
            salesforce_url="https://northgate.my.salesforce.com",
            redirect_uri="https://my.example.com",
            expires_at=utcnow() - days_ago * DAY,
        )
    )


def test_log_ins_at_salesforce_go_but_the_last(connection: Connection) -> None:
    for number, days_ago in enumerate((300, 200, 100)):
        log_in_at_salesforce(connection, days_ago, number)
    delete_expired(settings())
    assert db.session.scalars(select(OAuthState.state_sha256)).all() == [f"{2:064}"]


def setup_link_of(connection: Connection, days_ago: float, number: int) -> None:
    ended = utcnow() - days_ago * DAY
    partner_id = connection.user.partner_id
    save(
        SetupLink(
            partner_id=partner_id,
            token_sha256=f"{number:064}",
            name="Sam Ortiz",
            email="sam@northgate.example",
            expires_at=ended,
            revoked_at=ended,
        )
    )


def test_setup_links_go_but_the_last_of_each_firm(connection: Connection) -> None:
    for number, days_ago in enumerate((300, 200, 100)):
        setup_link_of(connection, days_ago, number)
    delete_expired(settings())
    assert db.session.scalars(select(SetupLink.token_sha256)).all() == [f"{2:064}"]


def test_links_for_a_password_go(connection: Connection) -> None:
    for days_ago in (91, 89):
        ended = utcnow() - days_ago * DAY
        save(PasswordLink(user_id=connection.user_id, kind="reset", token_sha256=f"{days_ago:064}", expires_at=ended))
    delete_expired(settings())
    assert db.session.scalars(select(PasswordLink.token_sha256)).all() == [f"{89:064}"]


def send_of(connection: Connection, number: int, ended_days_ago: float | None) -> None:
    ended_at = None if ended_days_ago is None else utcnow() - ended_days_ago * DAY
    save(
        Send(
            send_scope=0,
            sender_send_id=f"mailing {number}",
            list_id=make_list(connection.user, f"List {number}").id,
            max_age_minutes=60,
            state=SendState.PREPARING if ended_at is None else SendState.READY,
            deadline_at=utcnow() - 100 * DAY,
            ended_at=ended_at,
        )
    )


def test_sends_go_and_one_that_is_being_prepared_stays(connection: Connection) -> None:
    for number, ended in enumerate((91, 89, None)):
        send_of(connection, number, ended)
    delete_expired(settings())
    assert set(db.session.scalars(select(Send.sender_send_id))) == {"mailing 1", "mailing 2"}


def test_the_audit_log_is_kept_for_good(connection: Connection) -> None:
    before = count(AuditEntry)
    save(AuditEntry(action="exported", actor_kind=ActorKind.ITSELF, at=utcnow() - 4000 * DAY))
    delete_expired(settings())
    assert count(AuditEntry) == before + 1


def test_calls_to_a_firm_go_after_90_days(connection: Connection) -> None:
    for days_ago in (91, 89):
        at = utcnow() - days_ago * DAY
        save(OrgCall(partner_id=connection.partner_id, kind="query", outcome="200", at=at, rows=days_ago))
    assert delete_expired(settings()) == 1
    assert db.session.scalars(select(OrgCall.rows)).all() == [89]


def test_three_years_leave_what_the_settings_say(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the tick has caught up, the number of rows depends on the days that are kept and not on the years that passed."""
    monkeypatch.setattr(retention, "AT_ONCE", 50)
    for days_ago in range(1190, -1, -10):
        run_of(connection, days_ago)
        usage_at(connection, utcnow() - days_ago * DAY)
    while delete_expired(settings()):
        pass
    assert (count(SyncRun), count(ApiUsage)) == (40, 9)


def test_a_tick_that_finds_nothing_reads_no_table_through(connection: Connection) -> None:
    """It asks every 15 seconds, and hourly counts and sends are many."""
    explain = "EXPLAIN QUERY PLAN" if db.engine.dialect.name == "sqlite" else "EXPLAIN"
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("SET LOCAL enable_seqscan = off"))  # the tables are too small for it to be worth it
    for table, column, index in (
        ("sends", "ended_at", "ix_sends_ended"),
        ("api_usage", "hour", "ix_api_usage_hour"),
        ("org_calls", "at", "ix_org_calls_at"),
        ("password_links", "expires_at", "ix_password_links_expires_at"),
        ("alerts", "closed_at", "ix_alerts_closed_at"),
        ("oauth_states", "expires_at", "ix_oauth_states_expires_at"),
        ("sync_runs", "finished_at", "ix_sync_runs_finished"),
    ):
        plan = db.session.execute(text(f"{explain} SELECT 1 FROM {table} WHERE {column} < '2020-01-01'")).all()
        assert index in str(plan), (table, plan)
