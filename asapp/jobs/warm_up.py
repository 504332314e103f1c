"""An idle sync of nothing, in the worker itself: its work-horses inherit the statements that it has compiled.

A work-horse is a new process for each job. Without this, each compiles all statements again, which takes longer than an idle
sync does otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy.exc import NoResultFound

from asapp.connections.api_budget import allowance_of
from asapp.connections.org_access import BeforeCall, OrgAccess
from asapp.contacts.queries import count_active_contacts
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.models import Connection, Partner, SyncRun, User
from asapp.salesforce.client import OrgClient
from asapp.salesforce.records import ContactPage, LeadPage, LeadsFound, Opening
from asapp.sync import rounds
from asapp.sync.execute import Execution
from asapp.sync.interval import find_interval
from asapp.sync.run_context import JobContext, RunContext
from asapp.sync.runs import LeasedRun, claim_run

log = logging.getLogger(__name__)

NO_ID = 0
A_USER = "005000000000000AAA"
NO_COUNTS = dict.fromkeys(
    ("read", "deactivated", "reactivated", "created", "updated", "adopted", "unchanged", "nominated", "tries"), 0
)


class _RunOfNothing(LeasedRun):
    """A run without a row: its statements are carried out and change nothing."""

    def lock(self) -> None:
        with suppress(LeaseLost):
            super().lock()

    def write(self, **values: Any) -> None:
        with suppress(LeaseLost):
            super().write(**values)
        for name, value in values.items():
            setattr(self.row, name, value)


class _NoTokens:
    instance_url = "https://nothing.my.salesforce.com"

    def access_token(self) -> str:
        return ""

    def refresh(self, stale: str) -> str:
        return stale


class _QuietClient(OrgClient):
    """Answers an opening with nothing, and calls no one."""

    def open_contacts(self, *_arguments: Any, **_keywords: Any) -> Opening:
        with suppress(LeaseLost):
            self._before_call()
        now = utcnow()
        leads = LeadsFound(LeadPage([], None), LeadPage([], None))
        return Opening(ContactPage([], 0, None, self.contact_fields), 0, now, now, leads)


class _NoOrg(OrgAccess):
    @contextmanager
    def open(self, connection: Connection, before_call: BeforeCall | None = None) -> Iterator[OrgClient]:
        yield _QuietClient(_NoTokens(), "66.0", connection.partner.opt_out_fields, before_call=before_call)


def warm_up(access: OrgAccess) -> None:
    """Carry out an idle run of a connection that doesn't exist. Writes nothing; whatever fails is logged."""
    no_org = _NoOrg(access.vault, access.callback_url, access.allow_loopback)
    job = JobContext(no_org, lambda _ids: True, default_interval_minutes=60)
    try:
        with writing():
            claim_run(NO_ID)
            rounds.choose(utcnow(), ())
            rounds.claim([NO_ID], "", utcnow())
            with suppress(LeaseLost):
                _run_nothing(job)
            for find in (
                lambda: LeasedRun.load(NO_ID, ""),
                lambda: db.session.get_one(Partner, NO_ID),
                lambda: db.session.get_one(User, NO_ID),
                lambda: find_interval(db.session(), NO_ID, 60),
                lambda: count_active_contacts(NO_ID, utcnow()),
                lambda: allowance_of(db.session(), NO_ID, utcnow()),
            ):
                with suppress(NoResultFound):
                    find()
    except Exception:
        log.exception("the worker starts without having warmed up")
    finally:
        db.session.rollback()


def _run_nothing(job: JobContext) -> None:
    now = utcnow()
    partner = Partner(id=NO_ID, opt_out_field="HasOptedOutOfEmail", more_opt_out_fields="", opt_outs_trusted_days=7)
    times = dict.fromkeys(("watermark", "swept_at", "leads_watermark", "lead_opt_outs_watermark"), now)
    connection = Connection(
        id=NO_ID,
        user_id=NO_ID,
        partner_id=NO_ID,
        salesforce_user_id=A_USER,
        sweep_wanted=False,
        partner=partner,
        **times,
    )
    client = _QuietClient(_NoTokens(), "66.0", partner.opt_out_fields)
    connection.opt_out_field_read, connection.lead_fields_read = client.contact_fields.key, client.lead_fields.key
    row = SyncRun(id=NO_ID, connection_id=NO_ID, connection=connection, skipped={}, also={}, **NO_COUNTS)
    run = _RunOfNothing(row, "none")
    execution = Execution(run, job)
    execution.reader.context = RunContext(
        run=run,
        connection_id=NO_ID,
        user_id=NO_ID,
        owner_id=A_USER,
        partner_id=NO_ID,
        address_key=b"",
        earlier_firms=(),
        window_start=now,
        asked_at=now,
        sure_until=now,
    )
    execution.go()
