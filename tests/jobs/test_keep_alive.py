"""A refresh token that is not used for thirty days dies; ours are used before that."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask

from asapp.connections.tokens import find_idle, refresh_idle
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.jobs import tasks
from asapp.models import ConnectionStatus
from orgsim import Running
from tests.factories import make_connection, org_access
from tests.syncing import Office


def test_an_idle_token_is_used_and_then_left_alone(app: Flask, org: Running) -> None:
    office = Office(org)
    office.connection.token_used_at = utcnow() - timedelta(days=21)
    office.save()
    assert find_idle() == [office.connection.id]
    db.session.rollback()
    access = org_access()
    assert refresh_idle(office.connection.id, access)
    assert not refresh_idle(office.connection.id, access)
    db.session.rollback()
    assert find_idle() == []


def test_an_idle_connection_is_enqueued_once_an_hour_at_most(app: Flask, org: Running) -> None:
    office = Office(org)
    queues: Queues = app.extensions["asapp.queues"]
    for _ in range(3):
        queues.enqueue_idle([office.connection.id])
    assert len([each for each in queues.sync.get_job_ids() if each.startswith("keep-alive-")]) == 1


@pytest.mark.parametrize("status", [each for each in ConnectionStatus if each != ConnectionStatus.CONNECTED])
def test_only_a_connection_that_is_connected_is_kept_alive(app: Flask, status: ConnectionStatus) -> None:
    make_connection(status=status, token_used_at=utcnow() - timedelta(days=21))
    assert find_idle() == []


def test_the_tick_enqueues_a_keep_alive_for_an_idle_connection(app: Flask, org: Running) -> None:
    office = Office(org)
    office.connection.token_used_at = utcnow() - timedelta(days=21)
    office.save()
    tasks.tick()
    queues: Queues = app.extensions["asapp.queues"]
    kept_alive = [job.args for job in queues.sync.get_jobs() if job.func_name == "asapp.jobs.tasks.keep_alive"]
    assert kept_alive == [[office.connection.id]]


def test_a_run_is_forgotten_only_if_no_job_waits_for_it(app: Flask, org: Running) -> None:
    queues: Queues = app.extensions["asapp.queues"]
    assert queues.enqueue_runs([7])
    assert queues.enqueue_send_runs([9])
    assert queues.find_lost_runs([7, 8, 9]) == [8]
