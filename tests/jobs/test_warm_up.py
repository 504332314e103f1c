"""A worker compiles the statements of an idle sync before its first job, so that its work-horses need not."""

from __future__ import annotations

import logging

import pytest
from flask import Flask
from sqlalchemy import select

from asapp.core.extensions import db
from asapp.jobs.warm_up import warm_up
from asapp.models import Connection, Partner, SyncRun
from orgsim import Running
from tests.factories import org_access
from tests.syncing import Office


def compiled() -> int:
    """Return how many statements the engine keeps compiled."""
    return len(db.engine._compiled_cache)


def test_after_it_an_idle_sync_compiles_little(own_app: Flask, org: Running, caplog: pytest.LogCaptureFixture) -> None:
    office = Office(org)
    office.sync()
    office.org.clock.advance(3600)
    run = office.start()
    db.engine.clear_compiled_cache()
    with caplog.at_level(logging.WARNING):
        warm_up(org_access())
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
    warm = compiled()
    assert office.resume(run).is_complete
    assert compiled() - warm <= warm / 2


def test_it_changes_nothing(own_app: Flask) -> None:
    warm_up(org_access())
    assert [db.session.scalar(select(table.id).limit(1)) for table in (Partner, Connection, SyncRun)] == [None] * 3
