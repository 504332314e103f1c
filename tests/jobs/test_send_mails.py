"""Mails with real processes: sent by jobs of their own, with a slow server, an emptied Redis and a kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from rq import Queue

from asapp.accounts import links, mail_outbox
from asapp.accounts.attempts import Origin
from asapp.core import mail
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import MAILS_QUEUE, TICK_QUEUE, Queues
from asapp.jobs.tick_scheduler import TICK_JOB
from asapp.models import AlertMail, Connection
from config import Config
from devtools.processes import Worker
from devtools.servers import RedisServer
from devtools.smtp_sink import MailServer, running_mail_server
from devtools.waiting import wait_for
from tests.conftest import make_config
from tests.factories import make_advisor, make_connection


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with running_mail_server() as server:
        yield server


@pytest.fixture
def config(database_url: str, redis_server: RedisServer, mail_server: MailServer) -> Config:
    redis_server.flush()
    return make_config(database_url, redis_server.url, mail_url=mail_server.url)


@pytest.fixture
def queues(app: Flask) -> Queues:
    found: Queues = app.extensions["asapp.queues"]
    return found


@pytest.fixture
def broken(app: Flask) -> Connection:
    return make_connection(status="needs_reconnect", status_reason="permission_withdrawn")


def enqueue_tick(queues: Queues) -> None:
    queue = Queue(TICK_QUEUE, connection=queues.redis, serializer=queues.sync.serializer)
    queue.enqueue(TICK_JOB)
    wait_for(lambda: not queue.get_job_ids(), "for the tick to begin")


def sent() -> list[AlertMail]:
    db.session.rollback()
    return db.session.query(AlertMail).filter(AlertMail.sent_at.is_not(None)).all()


@pytest.mark.slow
def test_a_tick_has_a_job_send_it_once(
    queues: Queues, broken: Connection, config: Config, mail_server: MailServer, tmp_path: Path
) -> None:
    with Worker(config, tmp_path / "worker.log"):
        enqueue_tick(queues)
        wait_for(sent, "for the mail")
        queues.redis.flushall()
        enqueue_tick(queues)
        wait_for(lambda: not queues.mails.get_job_ids())
    assert len(mail_server.taken) == len(sent()) == 1
    assert f"To: {broken.user.email}" in mail_server.taken[0]
    log = (tmp_path / "worker.log").read_text()
    assert broken.user.email not in log
    assert broken.user.name not in log


@pytest.mark.slow
def test_what_an_emptied_redis_forgot_goes_out_at_a_later_tick(
    queues: Queues, broken: Connection, config: Config, mail_server: MailServer, tmp_path: Path
) -> None:
    queues.enqueue_mails()
    assert len(queues.mails.get_job_ids()) == 1
    queues.redis.flushall()
    with Worker(config, tmp_path / "worker.log"):
        enqueue_tick(queues)
        wait_for(sent, "for the mail")
    assert len(mail_server.taken) == 1


@pytest.mark.slow
def test_a_slow_server_blocks_no_other_work_and_a_kill_9_sends_again(
    queues: Queues, broken: Connection, config: Config, mail_server: MailServer, tmp_path: Path
) -> None:
    mail_server.may_say_good_bye.clear()
    with Worker(config, tmp_path / "first.log") as worker:
        enqueue_tick(queues)
        wait_for(lambda: mail_server.taken, "for the mail to be taken")
        with writing():  # on SQLite this would wait for the process that has the lock
            broken.leads_rung_at = began = utcnow()
            db.session.commit()
        assert utcnow() - began < timedelta(seconds=1)
        worker.kill_with_children()
    assert sent() == []
    mail_server.may_say_good_bye.set()
    db.session.query(AlertMail).update({"lease_until": utcnow()})
    db.session.commit()
    queues.redis.flushall()
    with Worker(config, tmp_path / "second.log"):
        enqueue_tick(queues)
        wait_for(sent, "for the mail to be sent again")
    assert len(mail_server.taken) == 2


def test_only_one_job_is_enqueued_at_a_time(queues: Queues) -> None:
    for _ in range(3):
        queues.enqueue_mails()
    assert len(queues.mails.get_job_ids()) == 1
    depths = queues.depths()
    assert depths is not None
    assert depths[MAILS_QUEUE] == 1


@pytest.mark.slow
def test_what_a_page_asked_for_is_sent_at_once_and_what_redis_lost_by_the_tick(
    app: Flask, queues: Queues, config: Config, mail_server: MailServer, tmp_path: Path
) -> None:
    alice, vault = make_advisor(), app.extensions["asapp.vault"]
    with Worker(config, tmp_path / "worker.log"):
        with writing():
            links.request_reset(alice.email, Origin("203.0.113.1"), vault, queues.enqueue_letters)
        wait_for(lambda: mail_server.taken, "for the mail with the link")
        with writing():
            mail_outbox.post_later([mail.Letter("sam@x.example", "Hush", "the secret token abc")], vault, lambda: False)
        enqueue_tick(queues)
        wait_for(lambda: len(mail_server.taken) == 2, "for the mail that no job was enqueued for")
        wait_for(lambda: not mail_outbox.are_due(), "for the mails to be gone")
    assert "/password/" in mail_server.taken[0]
    log = (tmp_path / "worker.log").read_text()
    assert not any(word in log for word in (alice.email, "/password/", "sam@", "Hush", "token"))
