"""A database restart during a run costs a retry and nothing else: it is neither a bug nor a failure to show."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import RunStatus
from asapp.sync import reader, runs, store
from asapp.sync.dispatch import requeue_expired_runs
from orgsim import Running
from tests.syncing import Office, contacts_here

CONTACTS = 500
CUT = OperationalError("UPDATE", {}, psycopg.errors.AdminShutdown("terminating connection"))


@pytest.fixture
def office(app: Flask, org: Running) -> Office:
    office = Office(org)
    office.fill(CONTACTS)
    office.org.change_settings(page_sizes=200)
    return office


def break_once(monkeypatch: pytest.MonkeyPatch, error: Exception, after: int) -> None:
    """Let the database fail for one page."""
    apply = reader.apply_pages
    pages = 0

    def apply_pages(*arguments: Any, **keywords: Any) -> int:
        nonlocal pages
        pages += 1
        if pages == after + 1:
            raise error
        return apply(*arguments, **keywords)

    monkeypatch.setattr(reader, "apply_pages", apply_pages)


def test_the_run_goes_on_with_the_next_tick(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    break_once(monkeypatch, CUT, after=1)
    run = office.start()
    with pytest.raises(OperationalError):
        office.resume(run)
    run = office.reload(run)
    assert (run.status, run.error_code, run.read) == (RunStatus.RUNNING, None, 200)
    assert requeue_expired_runs(utcnow()) == 1  # at once, without waiting for the lease to run out

    done = office.resume(office.reload(run))
    assert (done.status, done.tries, done.read) == (RunStatus.COMPLETE, 1, CONTACTS)
    assert len(contacts_here(office.connection)) == CONTACTS
    assert office.reload(office.connection).failures_in_a_row == 0


def test_a_database_that_is_still_away_leaves_the_run_to_its_lease(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_once(monkeypatch, CUT, after=1)

    def away(*_arguments: Any) -> None:
        raise CUT

    monkeypatch.setattr(runs.LeasedRun, "expire", away)
    run = office.start()
    with pytest.raises(OperationalError):
        office.resume(run)
    run = office.reload(run)
    assert (run.status, run.error_code) == (RunStatus.RUNNING, None)
    assert run.lease_until is not None
    assert run.lease_until > utcnow()
    db.session.rollback()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_copy_that_is_cut_off_reads_like_any_other_statement(app: Flask, database_url: str) -> None:
    backend = db.session.scalar(text("SELECT pg_backend_pid()"))
    with psycopg.connect(database_url.replace("+psycopg", "", 1), autocommit=True) as another:
        another.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
    with pytest.raises(OperationalError):
        store.insert_ledger(1, 1, [{"salesforce_id": "003", "outcome": "synced", "address_hash": None}])
    db.session.rollback()
