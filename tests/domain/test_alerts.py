"""Alerts open once, close by themselves, and open again when it happens again."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from asapp.alerts import alerts
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Alert, AlertKind, AlertMail, CheckVerdict, Connection, Partner, PartnerCheck
from asapp.sync import departures
from tests.factories import make_admin, make_advisor, make_connection, make_partner, make_synced_connection, save

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def look(now: datetime | None = None) -> None:
    with writing():
        alerts.update_alerts(now)
    db.session.expire_all()


def open_now() -> dict[str, int]:
    return {kind: number for kind, number in alerts.count_open(db.session()).items() if number}


def all_alerts() -> list[Alert]:
    return list(db.session.scalars(db.select(Alert).order_by(Alert.id)))


def told() -> set[tuple[int, int]]:
    """Return (alert, user) of each pending notification."""
    mails = db.session.scalars(db.select(AlertMail).where(AlertMail.due_at.is_not(None)))
    return {(each.alert_id, each.user_id) for each in mails}


def test_a_state_opens_one_alert_however_often_one_looks(app: Flask) -> None:
    connection = make_connection(status="needs_reconnect")
    for _ in range(3):
        look()
    (alert,) = all_alerts()
    assert (alert.kind, alert.connection_id, alert.closed_at) == (AlertKind.RECONNECT, connection.id, None)
    assert told() == {(alert.id, connection.user_id)}


def test_the_database_allows_one_open_alert_of_a_kind(app: Flask) -> None:
    connection = make_connection()
    save(Alert(kind=AlertKind.RECONNECT, connection_id=connection.id))
    save(Alert(kind=AlertKind.RECONNECT, connection_id=connection.id, closed_at=utcnow()))
    with pytest.raises(IntegrityError):
        save(Alert(kind=AlertKind.RECONNECT, connection_id=connection.id))


@pytest.mark.parametrize("status", ["connected", "disconnected"])
def test_an_alert_closes_by_itself_without_its_mail_and_opens_again(app: Flask, status: str) -> None:
    connection = make_connection(status="needs_reconnect")
    look()
    connection.status = status
    db.session.commit()
    look()
    assert open_now() == {}
    assert told() == set()
    connection.status = "needs_reconnect"
    db.session.commit()
    look()
    first, second = all_alerts()
    assert first.closed_at is not None
    assert told() == {(second.id, connection.user_id)}


def test_nothing_is_written_where_nothing_changed(app: Flask) -> None:
    make_connection(status="needs_reconnect")
    make_synced_connection()
    look()
    assert alerts.update_alerts().are_none


def test_two_looks_at_once_open_one(app: Flask) -> None:
    """Both have read the state before either has written."""
    make_connection(status="needs_reconnect")
    changes = alerts.find_changes(utcnow())
    for _ in range(2):
        with writing():
            for rule, ids in changes.new.items():
                alerts.begin(rule, ids, utcnow())
            db.session.commit()
    assert len(all_alerts()) == len(told()) == 1


def test_a_disabled_firm_asks_no_one_to_reconnect(app: Flask) -> None:
    partner = make_partner()
    make_connection(make_advisor(partner), status="needs_reconnect")
    look()
    partner.is_enabled = False
    db.session.commit()
    look()
    assert open_now() == {}


@pytest.mark.parametrize("status", ["connected", "needs_reconnect"])
@pytest.mark.parametrize(
    ("known_for", "trusted_days", "expected"),
    [
        (25 * HOUR, 7, None),
        (23 * HOUR, 7, AlertKind.OPT_OUTS_SOON),
        (-HOUR, 7, AlertKind.OPT_OUTS_UNKNOWN),
        (23 * HOUR, 1, None),  # a sync a moment ago: not yet a reason for a mail
        (11 * HOUR, 1, AlertKind.OPT_OUTS_SOON),
        (23 * HOUR, 2, AlertKind.OPT_OUTS_SOON),
    ],
)
def test_opt_outs_that_will_be_unknown(
    app: Flask, known_for: timedelta, trusted_days: int, expected: AlertKind | None, status: str
) -> None:
    partner = make_partner(opt_outs_trusted_days=trusted_days)
    make_synced_connection(make_advisor(partner), opt_outs_known_until=utcnow() + known_for, status=status)
    look()
    found = {kind for kind in open_now() if kind != AlertKind.RECONNECT}
    assert found == ({expected} if expected else set())


def test_soon_becomes_now_and_a_good_sync_ends_it(app: Flask) -> None:
    connection = make_synced_connection(opt_outs_known_until=utcnow() + HOUR)
    look()
    assert open_now() == {"opt_outs_soon": 1}
    look(utcnow() + 2 * HOUR)
    assert open_now() == {"opt_outs_unknown": 1}
    connection.opt_outs_known_until = utcnow() + 7 * DAY
    db.session.commit()
    look()
    assert open_now() == {}


@pytest.mark.parametrize("columns", [{"status": "disconnected"}, {"first_synced_at": None}])
def test_no_alert_is_about_opt_outs_that_were_never_known_or_are_no_longer_followed(
    app: Flask, columns: dict[str, str]
) -> None:
    make_synced_connection(opt_outs_known_until=utcnow() - HOUR, **columns)
    look()
    assert open_now() == {}


def test_a_pause_concerns_every_active_admin_and_no_advisor(app: Flask) -> None:
    ada, bea, gone = make_admin(), make_admin("Bea"), make_admin("Gone", deactivated_at=utcnow())
    partner = make_partner(paused_until=utcnow() + HOUR, paused_why="share_used_up")
    make_synced_connection(make_advisor(partner))
    look()
    (alert,) = all_alerts()
    assert (alert.kind, alert.partner_id) == (AlertKind.PAUSED, partner.id)
    assert told() == {(alert.id, ada.id), (alert.id, bea.id)}
    assert gone.id not in {user for _, user in told()}


def test_a_pause_that_is_renewed_each_hour_is_one_alert(app: Flask) -> None:
    began = utcnow()
    partner = make_partner(paused_until=began + HOUR)
    for hours in range(5):
        look(began + hours * HOUR)
        look(began + hours * HOUR + timedelta(minutes=1))
        partner.paused_until = began + (hours + 1) * HOUR
        db.session.commit()
    (alert,) = all_alerts()
    assert alert.closed_at is None
    partner.paused_until = None  # a good sync
    db.session.commit()
    look(began + 5 * HOUR)
    assert open_now() == {}


def test_an_alert_about_a_pause_ends_with_the_pause(app: Flask) -> None:
    make_partner(paused_until=utcnow() + HOUR)
    look()
    look(utcnow() + 3 * HOUR)
    assert open_now() == {}


@pytest.mark.parametrize(("code", "why"), [("key", "bad_key"), ("secret", "bad_secret")])
def test_a_refused_app_is_an_alert_where_an_advisor_is_connected(app: Flask, code: str, why: str) -> None:
    partner = make_partner()
    save(PartnerCheck(partner_id=partner.id, code=code, verdict=CheckVerdict.BAD, why=why))
    look()
    assert open_now() == {}  # the admin who sets the firm up sees it on the page
    make_synced_connection(make_advisor(partner))
    look()
    assert open_now() == {"app_refused": 1}
    db.session.query(PartnerCheck).update({"verdict": CheckVerdict.GOOD, "why": "known"})
    db.session.commit()
    look()
    assert open_now() == {}


def make_firm(failing: int, well: int, failure: str | None = "server_error", **columns: object) -> Partner:
    partner = make_partner(**columns)
    for number in range(failing + well):
        is_failing = number < failing
        make_synced_connection(
            make_advisor(partner),
            failures_in_a_row=int(is_failing),
            last_failure=failure if is_failing else None,
            **({} if is_failing else {"last_good_sync_at": utcnow() - 2 * HOUR}),
        )
    return partner


@pytest.mark.parametrize(
    ("failing", "well", "is_open"), [(2, 0, False), (3, 0, True), (3, 3, True), (3, 4, False), (5, 4, True)]
)
def test_runs_that_fail_across_a_firm(app: Flask, failing: int, well: int, is_open: bool) -> None:
    make_firm(0, 5)
    make_firm(failing, well)
    look()
    assert open_now() == ({"runs_fail": 1} if is_open else {})


def test_who_has_had_no_news_for_a_day_does_not_count_as_well(app: Flask) -> None:
    partner = make_firm(3, 4)
    db.session.query(Connection).filter_by(partner_id=partner.id, failures_in_a_row=0).update(
        {"last_good_sync_at": utcnow() - 2 * DAY}
    )
    db.session.commit()
    look()
    assert open_now() == {"runs_fail": 1}


@pytest.mark.parametrize("failure", ["share_used_up", "org_nearly_full", "request_limit", "bad_secret", "bad_key"])
def test_a_cause_with_an_alert_of_its_own_is_mailed_once(app: Flask, failure: str) -> None:
    make_firm(5, 0, failure)
    look()
    assert open_now() == {}


def test_a_firm_is_well_again_when_fewer_than_half_fail(app: Flask) -> None:
    partner = make_firm(3, 2)
    look()
    db.session.query(Connection).filter_by(partner_id=partner.id).update(
        {"failures_in_a_row": 0, "last_failure": None, "last_good_sync_at": utcnow()}
    )
    db.session.commit()
    look()
    assert open_now() == {}


def test_a_disabled_firm_concerns_no_admin(app: Flask) -> None:
    partner = make_firm(3, 0, paused_until=utcnow() + HOUR)
    save(PartnerCheck(partner_id=partner.id, code="secret", verdict=CheckVerdict.BAD, why="bad_secret"))
    look()
    assert open_now() == {"paused": 1, "app_refused": 1, "runs_fail": 1}
    partner.is_enabled = False
    db.session.commit()
    look()
    assert open_now() == {}


def test_what_is_long_over_is_forgotten(app: Flask) -> None:
    connection = make_connection(status="needs_reconnect")
    look()
    connection.status = "connected"
    db.session.commit()
    look()
    look(utcnow() + 89 * DAY)
    assert len(all_alerts()) == 1
    look(utcnow() + 91 * DAY)
    assert all_alerts() == []
    assert db.session.query(AlertMail).count() == 0


def test_a_connection_takes_its_alerts_along(app: Flask) -> None:
    connection = make_connection(status="needs_reconnect")
    look()
    db.session.execute(text("DELETE FROM connections WHERE id = :id"), {"id": connection.id})
    db.session.commit()
    assert all_alerts() == []


def test_the_list_for_admins_has_a_line_for_each_firm_and_kind(app: Flask) -> None:
    partner = make_partner(paused_until=utcnow() + HOUR)
    for _ in range(2):
        make_connection(make_advisor(partner), status="needs_reconnect")
    make_connection(status="needs_reconnect")
    look()
    lines = alerts.list_open()
    assert [(line.kind, line.number) for line in lines] == [("paused", 1), ("reconnect", 2), ("reconnect", 1)]
    assert lines[0].partner.id == lines[1].partner.id == partner.id


def test_each_question_finds_its_connections_by_an_index(app: Flask) -> None:
    """The tick asks every 15 seconds: healthy connections must not be read, however many there are."""
    make_firm(3, 2)
    make_connection(status="needs_reconnect")
    asked: list[tuple[str, object]] = []

    def hear(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if statement.startswith("SELECT") and "connections" in statement:
            asked.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", hear)
    alerts.find_changes(utcnow())
    event.remove(db.engine, "before_cursor_execute", hear)
    plans = [plan for statement, parameters in asked for plan in plan_of(statement, parameters)]
    assert len(asked) == 8
    assert [line for line in plans if "Seq Scan on connections" in line or line == "SCAN connections"] == []
    used = {index for index in ("due", "opt_outs", "failing", "well") if f"ix_connections_{index}" in " ".join(plans)}
    if db.engine.dialect.name == "sqlite":  # PostgreSQL chooses among them by its statistics
        assert used == {"due", "opt_outs", "failing", "well"}


def test_held_contacts_are_found_by_an_index(app: Flask) -> None:
    statement = str(
        departures.waiting_for_decision().distinct().compile(db.engine, compile_kwargs={"literal_binds": True})
    )
    assert any("ix_departures_held" in line for line in plan_of(statement, ()))


def plan_of(statement: str, parameters: object) -> list[str]:
    is_sqlite = db.engine.dialect.name == "sqlite"
    with db.engine.connect() as connection:
        if not is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the table is small
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        how = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
        return [str(row[-1]) for row in connection.exec_driver_sql(f"{how} {statement}", parameters)]  # type: ignore[arg-type]
