"""The functions that RQ calls: each opens a context, calls one function of the domain, and returns.

worker.py creates the application and keeps its context open; a job runs in a context of its own within it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, current_app

from asapp.accounts import attempts, links, mail_choices, mail_outbox, passkeys, sessions
from asapp.alerts import alerts, due_mails, mail_delivery
from asapp.alerts.digest import DIGESTS
from asapp.alerts.lead_mails import LEAD_MAILS
from asapp.connections.org_access import OrgAccess
from asapp.connections.switching import revoke_expired
from asapp.connections.tokens import find_idle, refresh_idle
from asapp.core import mail
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.logs import about
from asapp.core.queues import Queues
from asapp.core.stopping import is_stopping
from asapp.health import heartbeats, retention
from asapp.leads.delivery import deliver
from asapp.leads.outbox import enqueue_due
from asapp.models import Partner
from asapp.partners.checks import find_due, run_checks
from asapp.partners.offboarding import finish_stops
from asapp.salesforce.errors import SalesforceError
from asapp.sends import prepare
from asapp.sync import rounds
from asapp.sync.dispatch import dispatch
from asapp.sync.execute import execute_run
from asapp.sync.run_context import JobContext
from asapp.writeback import delivery as writeback_delivery
from asapp.writeback import outbox as writeback_outbox
from asapp.writeback.queries import find_firm_to_check
from config import Config

log = logging.getLogger(__name__)


def _app() -> Flask:
    return current_app._get_current_object()  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001 - not its proxy


class JobFailed(Exception):
    """A job failed on a bug of ours. RQ logs and keeps the message of an exception, so this one says only the type."""


@contextmanager
def job_context(job: str, **ids: int) -> Iterator[None]:
    """Set up a job: application context, write lock, its ids on every log line, and an exception that is safe to log."""
    with _app().app_context(), writing(), about(job=job, **ids):
        try:
            yield
        except Exception as error:
            log.exception("the job failed")
            raise JobFailed(type(error).__name__) from None


def run_sync(run_id: int) -> None:
    """Run a sync. Started by: Sync Account, Approve, the tick. Touches one connection's rows."""
    with job_context("run_sync", run_id=run_id):
        execute_run(run_id, sync_job_context(_app()))
        prepare.advance_sends_of(run_id, _queues().enqueue_send_runs)


def check_due(_round: int = 0) -> None:
    """Check the connections that are due. Started by: the tick. Touches connections, sync_runs and api_usage."""
    with job_context("check_due"):
        rounds.check_due(sync_job_context(_app()))


def prepare_send(send_id: int) -> None:
    """Advance a send: start the sync that it needs. Started by: a sender's call. Touches sends and sync_runs."""
    with job_context("prepare_send", send_id=send_id):
        prepare.advance(send_id, _queues().enqueue_send_runs)


def deliver_leads(connection_id: int) -> None:
    """Deliver an advisor's leads to Salesforce. Started by: a sign-up, connecting, the tick. Touches that advisor's leads."""
    with job_context("deliver_leads", connection_id=connection_id):
        deliver(connection_id, org_access(), is_stopping)


def deliver_opt_outs(connection_id: int) -> None:
    """Tell Salesforce who unsubscribed. Started by: an event, the tick. Touches one connection's rows of opt_out_writes.

    If the user may not set the opt-out, the firm's set-up is checked, so that its admin sees it.
    """
    with job_context("deliver_opt_outs", connection_id=connection_id):
        worked_on = writeback_delivery.deliver(connection_id, org_access(), is_stopping)
        partner_id = find_firm_to_check(connection_id) if worked_on else None
        db.session.commit()
        if partner_id is not None:
            _queues().enqueue_checks([partner_id])


def keep_alive(connection_id: int) -> None:
    """Use a long idle refresh token before Salesforce ends it. Started by: the tick, once an hour at most."""
    with job_context("keep_alive", connection_id=connection_id):
        try:
            refresh_idle(connection_id, org_access())
        except SalesforceError as error:
            log.warning("an idle token was not renewed: %s", error)


def check_partner(partner_id: int) -> None:
    """Check a partner's set-up, and try a new Consumer Secret. Touches the partner's checks.

    Started by: the tick, and a log-in that came back with an error, every ten minutes at most.
    """
    with job_context("check_partner", partner_id=partner_id):
        partner = db.session.get(Partner, partner_id)
        if partner is not None and partner.is_ready:
            run_checks(partner, org_access())


def send_mails(_round: int = 0) -> None:
    """Send the alert mails that are due. Started by: the tick, at most every 50 seconds. Touches alert_mails."""
    with job_context("send_mails"):
        config: Config = _app().extensions["asapp.config"]
        mail_delivery.send_due(mail.post, config.public_url)


def send_letters(_round: int = 0) -> None:
    """Answer requests for a password link, and send the mails that pages asked for. Started by: a request, the tick."""
    with job_context("send_letters"):
        app = _app()
        config: Config = app.extensions["asapp.config"]
        links.answer_resets(app.extensions["asapp.vault"], config.public_url)
        mail_outbox.send_due(mail.post, app.extensions["asapp.vault"])


def write_news(_round: int = 0) -> None:
    """Write the digests and the mails about leads that are due, for send_letters. Started by: the tick.

    Touches mail_choices and waiting_mails.
    """
    with job_context("write_news"):
        app = _app()
        config: Config = app.extensions["asapp.config"]
        written = due_mails.write_due(LEAD_MAILS, app.extensions["asapp.vault"], config.public_url)
        written += due_mails.write_due(DIGESTS, app.extensions["asapp.vault"], config.public_url)
        if written:
            _queues().enqueue_letters()


def tick() -> None:
    """Do everything that is due. Started by: the scheduler, every 15 seconds."""
    with job_context("tick"):
        config: Config = _app().extensions["asapp.config"]
        dispatch(_queues().enqueue_runs, _queues().find_lost_runs, _queues().enqueue_rounds)
        prepare.advance_all(_queues().enqueue_send_runs)
        heartbeats.beat(db.engine, heartbeats.TICK)
        enqueue_due(_queues().enqueue_leads)
        writeback_outbox.enqueue_due(_queues().enqueue_opt_outs)
        _queues().enqueue_idle(find_idle())
        _queues().enqueue_checks(find_due())
        alerts.update_alerts()
        if mail_delivery.are_due():
            _queues().enqueue_mails()
        if mail_outbox.are_due():
            _queues().enqueue_letters_rarely()
        mail_choices.plan()
        if any(due_mails.are_due(kind) for kind in (DIGESTS, LEAD_MAILS)):
            _queues().enqueue_news()
        attempts.purge()
        passkeys.purge()
        sessions.purge(config)
        retention.delete_expired(config)
        finish_stops(org_access())
        revoke_expired(org_access())  # last: it calls Salesforce, which may not answer


def sync_job_context(app: Flask) -> JobContext:
    config: Config = app.extensions["asapp.config"]
    return JobContext(
        access=org_access(),
        enqueue=_queues().enqueue_runs,
        default_interval_minutes=config.sync_interval_minutes,
        should_stop=is_stopping,
    )


def _queues() -> Queues:
    found: Queues = _app().extensions["asapp.queues"]
    return found


def org_access() -> OrgAccess:
    access: OrgAccess = _app().extensions["asapp.org_access"]
    return access


def worker_heart() -> heartbeats.Heart:
    return heartbeats.Heart(db.engine, heartbeats.WORKER)


def leave_parents_connections() -> None:
    """Discard the database connections of the parent process: a forked child must not use or close them."""
    db.engine.dispose(close=False)
