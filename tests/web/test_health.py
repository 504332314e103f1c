"""Health checks and metrics for monitoring, and the health page for admins."""

from __future__ import annotations

import platform
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, text

from asapp import create_app
from asapp.alerts import alerts
from asapp.contacts.suppressions import Address, Happened
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.core.version import COMMIT, RELEASE, VERSION
from asapp.health import readiness, watch
from asapp.health.heartbeats import FORGOTTEN_AFTER, SCHEDULER, TICK, WORKER, Heart, beat, list_seen
from asapp.health.readiness import NoAnswer, within
from asapp.models import (
    AlertMail,
    ApiUsage,
    Heartbeat,
    Lead,
    LeadState,
    OptOutWrite,
    RunStatus,
    Send,
    SendState,
    SuppressionSource,
    SuppressionStep,
    User,
    WriteBackState,
)
from asapp.writeback import unsubscribing
from config import Config
from devtools.servers import RedisServer
from tests.conftest import make_config
from tests.factories import (
    log_in,
    make_admin,
    make_advisor,
    make_connection,
    make_partner,
    make_run,
    make_synced_connection,
    save,
)
from tests.senders import make_list

METRICS = "http://127.0.0.1:8000/metrics"  # the address that a scraper on this machine uses
WITHOUT_KEY = "asapp_sealed_values_without_key"
OTHER_KEY = bytes(range(7, 39))
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@contextmanager
def server_that_says_nothing() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def metrics_of(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Return {(name, label values …): value}."""
    answer = client.get(METRICS)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


# /healthz and /readyz


def test_alive(client: FlaskClient) -> None:
    assert client.get("/healthz").text == "ok\n"


def test_ready(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {
        "ready": True,
        "checks": {name: {"ok": True} for name in ("database", "writing", "migrations", "keys", "redis")},
    }


def test_not_ready_while_redis_is_away(app: Flask, database_url: str) -> None:
    answer = client_of(make_config(database_url)).get("/readyz")
    assert answer.status_code == 503
    assert answer.json
    assert answer.json["checks"]["redis"] == {"ok": False, "why": "does not answer"}
    assert answer.json["checks"]["database"] == {"ok": True}


def test_a_wrong_password_of_redis_is_no_outage(app: Flask, database_url: str, redis_server: RedisServer) -> None:
    url = redis_server.url.replace(":", ":not-", 2).replace(":not-", ":", 1)
    client = client_of(make_config(database_url, url))
    answer = client.get("/readyz")
    assert answer.json
    assert answer.json["checks"]["redis"] == {"ok": False, "why": "refuses the password of REDIS_URL"}
    assert "not-" not in answer.text
    log_in(client, make_admin())
    page = client.get("/admin/health").text
    assert "Redis refuses the password of <code>REDIS_URL</code>." in page
    assert "Redis does not answer." not in page


def test_keys_of_another_database_are_told_before_a_person_meets_them(
    app: Flask, client: FlaskClient, database_url: str
) -> None:
    assert metrics_of(client)[WITHOUT_KEY,] == 0  # nothing is sealed
    partner, admin = make_partner(), make_admin()
    sealed = partner.consumer_secret_sealed
    assert sealed
    db.session.rollback()
    other = client_of(make_config(database_url, encryption_keys=(OTHER_KEY,)))
    answer = other.get("/readyz")
    assert answer.json
    assert answer.json["checks"]["keys"] == {"ok": False, "why": "ENCRYPTION_KEYS are not those of this database"}
    assert metrics_of(other)[WITHOUT_KEY,] >= 2
    log_in(other, admin)
    assert "A key is missing." in other.get("/admin/health").text

    with writing():
        partner.consumer_secret_sealed = Vault([OTHER_KEY]).seal("secret", "elsewhere")
        db.session.commit()
    answer = client.get("/readyz")  # one value alone stops nothing
    assert answer.json
    assert answer.json["checks"]["keys"] == {"ok": True}
    assert metrics_of(client)[WITHOUT_KEY,] == 1
    log_in(client, admin)
    assert "1 secret or token can't be opened" in client.get("/admin/health").text
    with writing():
        partner.consumer_secret_sealed = sealed
        db.session.commit()
    assert metrics_of(client)[WITHOUT_KEY,] == 0
    assert "A key is missing." not in client.get("/admin/health").text


def test_not_ready_before_the_migrations(app: Flask, client: FlaskClient) -> None:
    db.session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    db.session.commit()
    answer = client.get("/readyz", broken=True)
    assert answer.status_code == 503
    assert answer.json
    heads = ", ".join(readiness.heads_of("migrations"))
    assert answer.json["checks"]["migrations"] == {"ok": False, "why": f"at 0000, this release needs {heads}"}


def test_ready_with_the_tables_of_a_later_release(app: Flask, client: FlaskClient) -> None:
    db.session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    db.session.commit()
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "database_url",
    [
        "postgresql+psycopg://person:secret-word@127.0.0.1:1/nothing",
        "sqlite:////nowhere/at/all.db",
    ],
)
def test_not_ready_without_a_database(database_url: str) -> None:
    client = client_of(make_config(database_url))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json
    assert answer.json["checks"]["database"] == {"ok": False, "why": "can't be reached, or refuses our user"}
    assert answer.json["checks"]["migrations"] == {"ok": False, "why": "unknown"}
    assert "secret-word" not in answer.text
    found = metrics_of(client)
    assert {name: value for name, value in found.items() if not name[0].startswith(("asapp_http_", "asapp_build"))} == {
        ("asapp_database_up",): 0,
        ("asapp_redis_up",): 0,
    }


def test_a_database_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CHECK_S", 0.2)
    with server_that_says_nothing() as port:
        client = client_of(make_config(f"postgresql+psycopg://person:x@127.0.0.1:{port}/nothing"))
        began = time.monotonic()
        answer = client.get("/readyz")
        assert time.monotonic() - began < 2
    assert answer.json
    assert answer.json["checks"]["database"] == {"ok": False, "why": "no answer within 0.2 s"}


def test_what_hangs_does_not_pile_up() -> None:
    go_on = threading.Event()
    before = threading.active_count()
    for _ in range(20):
        with pytest.raises(NoAnswer):
            within(0.01, "hanging", go_on.wait)
    assert threading.active_count() - before <= readiness.MOST_AT_ONCE
    go_on.set()
    while threading.active_count() > before:
        time.sleep(0.01)
    assert within(1, "hanging", lambda: 7) == 7


def test_several_may_ask_at_once() -> None:
    together = threading.Barrier(readiness.MOST_AT_ONCE)
    answers: list[int] = []

    def ask() -> None:
        answers.append(within(5, "together", lambda: together.wait(5)))

    threads = [threading.Thread(target=ask) for _ in range(readiness.MOST_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == readiness.MOST_AT_ONCE


# /metrics


def test_metrics_of_an_empty_system(client: FlaskClient) -> None:
    found = metrics_of(client)
    assert found["asapp_database_up",] == found["asapp_redis_up",] == 1
    assert found["asapp_tick_age_seconds",] == float("inf")
    assert found["asapp_connections_due",] == found["asapp_oldest_due_seconds",] == 0
    assert found["asapp_queue_jobs", "sync"] == found["asapp_queue_jobs", "tick"] == 0
    assert found["asapp_runs_ended", "failed"] == 0
    assert found["asapp_run_duration_seconds_count",] == 0


def test_metrics_of_runs(client: FlaskClient, app: Flask) -> None:
    now = utcnow()
    connection = make_synced_connection()
    for status, seconds in ((RunStatus.COMPLETE, 0.2), (RunStatus.COMPLETE, 20), (RunStatus.FAILED, 90)):
        make_run(connection, status, started_at=now - MINUTE - timedelta(seconds=seconds), finished_at=now - MINUTE)
    make_run(connection, RunStatus.HELD, started_at=now - DAY, finished_at=now - DAY)
    make_run(connection, RunStatus.QUEUED, queued_at=now - 3 * MINUTE)
    make_run(make_synced_connection(), RunStatus.RUNNING)
    found = metrics_of(client)
    ended = {outcome: found["asapp_runs_ended", outcome] for outcome in ("complete", "failed", "held", "cancelled")}
    assert ended == {"complete": 2, "failed": 1, "held": 0, "cancelled": 0}
    assert found["asapp_runs_active", "queued"] == found["asapp_runs_active", "running"] == 1
    assert 180 <= found["asapp_oldest_queued_run_seconds",] < 200
    assert found["asapp_run_duration_seconds_count",] == 3
    assert found["asapp_run_duration_seconds_sum",] == pytest.approx(110.2)
    assert [
        found["asapp_run_duration_seconds_bucket", le] for le in ("0.5", "10.0", "30.0", "60.0", "120.0", "+Inf")
    ] == [
        *(1, 1, 2, 2, 3, 3),
    ]


def test_metrics_of_what_is_due(client: FlaskClient, app: Flask) -> None:
    now = utcnow()
    for late in (2, 5):
        make_connection(next_sync_at=now - late * MINUTE)
    make_connection(next_sync_at=now + MINUTE)
    make_connection(make_advisor(make_partner(is_enabled=False)), next_sync_at=now - 9 * MINUTE)
    found = metrics_of(client)
    assert found["asapp_connections_due",] == 2
    assert 300 <= found["asapp_oldest_due_seconds",] < 320
    assert found["asapp_connections", "connected"] == 4


def test_metrics_of_leads(client: FlaskClient, app: Flask) -> None:
    now = utcnow()
    alice = make_advisor()
    make_connection(alice)
    unconnected = make_advisor()
    make_lead(alice, next_attempt_at=now - 7 * MINUTE)
    make_lead(alice, next_attempt_at=now - MINUTE, lease="mine", lease_until=now + MINUTE)
    make_lead(alice, next_attempt_at=now + MINUTE)
    make_lead(alice, next_attempt_at=now - MINUTE, state=LeadState.SENT)
    make_lead(unconnected, next_attempt_at=now - MINUTE)
    found = metrics_of(client)
    assert found["asapp_leads_due",] == 1
    assert 420 <= found["asapp_oldest_lead_due_seconds",] < 440


def make_lead(advisor: User, **columns: object) -> None:
    number = secrets.token_hex(4)
    person = {"first_name": "Mira", "last_name": "Aalto", "email": f"{number}@fjord.example"}
    defaults = {"user_id": advisor.id, "partner_id": advisor.partner_id, "address_hash": number.encode()}
    save(Lead(**(defaults | person | columns)))


def test_metrics_of_what_senders_ask_and_tell(client: FlaskClient, app: Flask) -> None:
    alice = make_advisor(make_partner())
    connection = make_synced_connection(alice)
    names = ("asapp_suppressions", "asapp_events_told", "asapp_opt_out_writes", "asapp_sends")
    before = metrics_of(client)
    kinds = {name: {key[1] for key in before if key[0] == name} for name in names}
    assert kinds["asapp_suppressions"] == kinds["asapp_events_told"] == {"unsubscribed", "complained", "bounced"}
    assert kinds["asapp_opt_out_writes"] == {state.value for state in WriteBackState}
    assert kinds["asapp_sends"] == {state.value for state in SendState}
    assert not any(value for key, value in before.items() if key[0] in names)

    def tell(step: SuppressionStep, address: bytes, source: SuppressionSource = SuppressionSource.SENDER) -> None:
        whose = Address(alice.partner_id or 0, alice.id, address * 32)
        happened = Happened(whose, step, source, utcnow() - timedelta(days=9))
        with writing():
            unsubscribing.record([happened], lambda ids: None)

    tell(SuppressionStep.BOUNCED, b"a")
    tell(SuppressionStep.UNSUBSCRIBED, b"a")
    tell(SuppressionStep.UNSUBSCRIBED, b"b", SuppressionSource.PAGE)
    tell(SuppressionStep.COMPLAINED, b"c")
    tell(SuppressionStep.OPTED_IN, b"c", SuppressionSource.FORM)
    for number, state in enumerate([WriteBackState.REFUSED, WriteBackState.REFUSED, WriteBackState.TOLD]):
        save(
            OptOutWrite(
                user_id=alice.id, connection_id=connection.id, salesforce_id=str(number), kind="Contact", state=state
            )
        )
    clients = make_list(alice)
    for number, age in enumerate([0, 0, 25]):
        asked_at = utcnow() - timedelta(hours=age)
        save(
            Send(
                send_scope=0,
                sender_send_id=str(number),
                list_id=clients.id,
                max_age_minutes=1,
                state=SendState.STALE,
                created_at=asked_at,
                deadline_at=asked_at,
            )
        )
    found = metrics_of(client)
    assert {key: value for key, value in found.items() if key[0] in names and value} == {
        ("asapp_suppressions", "unsubscribed"): 2,
        ("asapp_suppressions", "bounced"): 1,
        ("asapp_events_told", "unsubscribed"): 1,
        ("asapp_events_told", "complained"): 1,
        ("asapp_events_told", "bounced"): 1,
        ("asapp_opt_out_writes", "refused"): 2,
        ("asapp_opt_out_writes", "told"): 1,
        ("asapp_sends", "stale"): 2,
    }


def test_metrics_of_what_runs_out(client: FlaskClient, app: Flask) -> None:
    now = utcnow()
    make_synced_connection(token_used_at=now - 26 * DAY)
    make_synced_connection(opt_outs_known_until=now + DAY / 2)
    make_synced_connection(opt_outs_known_until=now - DAY)
    found = metrics_of(client)
    assert found["asapp_tokens_near_expiry",] == 1
    assert found["asapp_opt_outs_unknown_soon",] == 1


def test_metrics_of_alerts(client: FlaskClient, app: Flask) -> None:
    connection = make_connection(status="needs_reconnect")
    make_admin()
    make_partner(paused_until=utcnow() + DAY)
    with writing():
        alerts.update_alerts()
    found = metrics_of(client)
    kinds = {labels[1]: value for labels, value in found.items() if labels[0] == "asapp_alerts_open"}
    assert kinds == {"reconnect": 1, "paused": 1} | dict.fromkeys(
        ("opt_outs_soon", "opt_outs_unknown", "held", "flood", "app_refused", "runs_fail"), 0
    )
    assert found["asapp_alert_mails_waiting",] == 0
    db.session.query(AlertMail).filter_by(user_id=connection.user_id).update({"attempts": 1})
    db.session.commit()
    assert metrics_of(client)["asapp_alert_mails_waiting",] == 1


def test_metrics_of_the_allowance(client: FlaskClient, app: Flask) -> None:
    now = utcnow()
    partner = make_partner(
        slug="northgate",
        api_share_percent=10,
        org_calls_used=90_000,
        org_calls_allowed=100_000,
        org_calls_seen_at=now,
        paused_until=now + MINUTE,
    )
    make_partner(slug="new-firm")
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    save(
        *(ApiUsage(partner_id=partner.id, hour=this_hour - hours * timedelta(hours=1), calls=7) for hours in (0, 3, 48))
    )
    found = metrics_of(client)
    assert found["asapp_api_calls", "northgate"] == 14
    assert found["asapp_api_calls_share", "northgate"] == 10_000
    assert found["asapp_org_api_used_ratio", "northgate"] == 0.9
    assert found["asapp_partner_paused", "northgate"] == 1
    assert found["asapp_api_calls", "new-firm"] == found["asapp_partner_paused", "new-firm"] == 0
    assert ("asapp_api_calls_share", "new-firm") not in found  # its org's total is not known yet


def test_metrics_of_the_processes(client: FlaskClient, app: Flask) -> None:
    beat(db.engine, TICK)
    Heart(db.engine, SCHEDULER).beat()
    Heart(db.engine, WORKER).beat()
    save(Heartbeat(name="worker:elsewhere:7", seen_at=utcnow() - 3 * MINUTE))
    found = metrics_of(client)
    assert found["asapp_tick_age_seconds",] < 10
    assert found["asapp_schedulers_alive",] == found["asapp_workers_alive",] == 1


def test_metrics_of_the_build(client: FlaskClient) -> None:
    assert metrics_of(client)["asapp_build_info", COMMIT, platform.python_version(), VERSION] == 1


def test_metrics_of_requests_name_the_view_and_no_address(client: FlaskClient) -> None:
    answered, took = "asapp_http_requests_total", "asapp_http_request_duration_seconds_count"
    keys = [
        (answered, "auth.login", "GET", "200"),
        (answered, "none", "GET", "404"),
        (answered, "none", "other", "405"),
        (took, "auth.login"),
    ]
    before = metrics_of(client)
    client.get("/login?email=zoe@fjord.example")
    client.get("/zoe@fjord.example")
    client.open("/healthz", method="ANYTHING")
    after = metrics_of(client)
    assert [after[key] - before.get(key, 0) for key in keys] == [1, 1, 1, 1]
    assert "zoe" not in str(after)


def test_metrics_without_redis(app: Flask, database_url: str) -> None:
    found = metrics_of(client_of(make_config(database_url)))
    assert found["asapp_redis_up",] == 0
    assert found["asapp_database_up",] == 1
    assert not [key for key in found if key[0] == "asapp_queue_jobs"]


SCRAPER_TOKEN = "a-token-of-the-scraper"


@pytest.mark.parametrize("path", [METRICS, "http://[::1]/%6detrics", "http://localhost/metrics"])
@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("10.0.0.7", {}, 403),
        ("2001:db8::7", {}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "198.51.100.7"}, 403),
        ("127.0.0.1", {"Via": "1.1 proxy"}, 403),
        ("10.0.0.7", {"Authorization": f"Bearer {SCRAPER_TOKEN}"}, 403),
    ],
)
def test_without_a_token_figures_are_for_this_machine(
    path: str, address: str, headers: dict[str, str], status: int, client: FlaskClient
) -> None:
    answer = client.get(path, headers=headers, environ_base={"REMOTE_ADDR": address})
    assert answer.status_code == status
    assert ("asapp_" in answer.text) == (status == 200)


@pytest.mark.parametrize(
    "host", ["my.example.com", "my.example.com:8000", "10.0.0.7", "evil.example", "not a host", ""]
)
def test_without_a_token_no_figures_go_through_a_proxy_without_headers(host: str, client: FlaskClient) -> None:
    """A proxy on this machine has this machine's address; the host is the requested one."""
    answer = client.get("/metrics", headers={"Host": host}, environ_base={"REMOTE_ADDR": "127.0.0.1"})
    assert answer.status_code == 403
    assert "asapp_" not in answer.text


@pytest.mark.parametrize(
    ("header", "status"),
    [(f"Bearer {SCRAPER_TOKEN}", 200), ("Bearer wrong", 401), ("Bearer \xff", 401), (SCRAPER_TOKEN, 401), ("", 401)],
)
def test_with_a_token_figures_need_that_token(header: str, status: int, app: Flask, database_url: str) -> None:
    client = client_of(make_config(database_url, metrics_token=SCRAPER_TOKEN))
    for path in ("/metrics", "/%6detrics"):
        for address in ("127.0.0.1", "10.0.0.7"):
            answer = client.get(path, headers={"Authorization": header}, environ_base={"REMOTE_ADDR": address})
            assert answer.status_code == status
            assert ("asapp_" in answer.text) == (status == 200)
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_nothing_that_needs_no_login_names_a_person(client: FlaskClient, app: Flask) -> None:
    advisor = make_advisor(name="Alice Moreau", email="alice@example.com")
    connection = make_synced_connection(advisor, username="alice@northgate.example", next_sync_at=utcnow() - MINUTE)
    make_run(connection, RunStatus.QUEUED)
    told = "".join(client.get(path).text for path in ("/healthz", "/readyz", METRICS)).lower()
    for personal in ("alice", "moreau", "northgate.example", "@", connection.public_id, connection.org_id.lower()):
        assert personal not in told


# Heartbeats


def test_a_process_that_ends_in_order_is_forgotten(app: Flask) -> None:
    heart = Heart(db.engine, WORKER)
    heart.beat()
    (seen,) = list_seen(db.session(), utcnow())
    assert (seen.kind, seen.is_alive) == (WORKER, True)
    db.session.rollback()
    heart.stop()
    assert list_seen(db.session(), utcnow()) == []


def test_who_died_is_remembered_for_a_week(app: Flask) -> None:
    now = utcnow()
    save(
        Heartbeat(name="worker:a:1", seen_at=now - MINUTE),
        Heartbeat(name="worker:b:2", seen_at=now - DAY),
        Heartbeat(name="worker:c:3", seen_at=now - FORGOTTEN_AFTER - MINUTE),
    )
    beat(db.engine, TICK)
    seen = [(s.kind, s.where, s.is_alive) for s in list_seen(db.session(), now)]
    assert seen == [(TICK, "", True), (WORKER, "a, process 1", True), (WORKER, "b, process 2", False)]


def test_a_heart_goes_on_while_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(make_config("postgresql+psycopg://person:secret-word@127.0.0.1:1/nothing"))
    with app.app_context():
        engine: Engine = db.engine
    Heart(engine, WORKER).beat()
    assert "the heartbeat was not written: OperationalError" in caplog.text
    assert "secret-word" not in caplog.text


# /admin/health


def test_the_page_for_admins(client: FlaskClient, app: Flask) -> None:
    now = utcnow()
    beat(db.engine, TICK)
    log_in(client, make_admin())
    save(
        Heartbeat(name="scheduler:host-1:12", seen_at=now - MINUTE / 2),
        Heartbeat(name="worker:host-2:34", seen_at=now - 9 * MINUTE),
    )
    make_run(make_synced_connection(next_sync_at=now - 4 * MINUTE), RunStatus.FAILED, finished_at=now - MINUTE)
    page = client.get("/admin/health").text
    assert "Scheduler<span" in page
    assert "host-1, process 12" in page
    assert "host-2, process 34" in page
    assert "9 minutes ago" in page
    assert "<dt>sync due, the oldest" in page
    assert "<dt>failed</dt><dd>1</dd>" in page
    assert "stand still" not in page
    assert '<a href="/admin/health" aria-current="page">Health</a>' in page


def test_the_page_says_when_nothing_is_dispatched(app: Flask, database_url: str) -> None:
    client = client_of(make_config(database_url))
    log_in(client, make_admin())
    page = client.get("/admin/health").text
    assert "Redis does not answer." in page
    assert "Scheduled syncs stand still." in page
    assert "There was no dispatch yet." in page
    assert page.count('<span class="pill bad">None seen</span>') == 2  # scheduler and worker
    assert f"Release {RELEASE}." in page
    board = client.get("/admin/board").text
    assert "Scheduled syncs stand still." in board
    assert board.count('<dd class="bad">0</dd>') == 2


@pytest.mark.parametrize(("url", "proxies", "is_wrong"), [("https", 0, True), ("https", 1, False), ("http", 0, False)])
def test_https_without_a_proxy_that_is_trusted_is_told_on_the_page_and_at_the_start(
    url: str, proxies: int, is_wrong: bool, app: Flask, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(make_config(database_url, public_url=f"{url}://127.0.0.1:5000", trusted_proxies=proxies))
    client.application.config["PREFERRED_URL_SCHEME"] = url
    watch.warn_of_settings(client.application)
    assert ("TRUSTED_PROXIES is 0" in caplog.text) is is_wrong
    log_in(client, make_admin())
    page = client.get("/admin/health").text
    assert "Background processes" in page
    assert ("All people seem to have one address." in page) is is_wrong


def test_the_page_is_not_for_advisors(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_advisor())
    assert client.get("/admin/health").status_code == 403


def client_of(config: Config) -> FlaskClient:
    """Return a client of another app with these settings."""
    return create_app(config).test_client()
