"""People who sign up, and the delivery of their leads in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from flask import current_app
from sqlalchemy import select, update

from asapp.connections.org_access import BeforeCall
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.leads import sign_up_page
from asapp.leads.delivery import deliver
from asapp.leads.form_fields import Typed
from asapp.leads.sign_up import FormSeen, sign_up
from asapp.models import Connection, Lead, OptInPage, User
from asapp.salesforce.client import OrgClient
from asapp.salesforce.records import Created, NewLead
from tests.factories import org_access
from tests.syncing import Died, Office, WatchedAccess

_forms = itertools.count(1)


def make_page(advisor: User) -> OptInPage:
    return sign_up_page.ensure_page(advisor)


def someone_signs_up(
    advisor: User,
    email: str = "mei.chou@harbour.example",
    first_name: str = "Mei-Ling",
    last_name: str = "Chou",
    key: str | None = None,
) -> Lead:
    """Sign up as by the form of the advisor's page; with a new key each time, unless one is given."""
    page = make_page(advisor)
    seen = FormSeen(sign_up_page.current_text(advisor.id).id, key or f"form-{next(_forms)}", "203.0.113.80")
    with writing():
        lead_id = sign_up(page, Typed(first_name, last_name, email, True), seen, current_app.extensions["asapp.vault"])
    return db.session.get_one(Lead, lead_id, populate_existing=True)


Create = Callable[..., list[Created]]


@dataclass(frozen=True)
class PostAccess(WatchedAccess):
    tell: Callable[[], None]  # of each call
    hooked: Callable[[Create], Create]

    def client(self, connection: Connection, before_call: BeforeCall) -> OrgClient:
        def told() -> None:
            self.tell()
            before_call()

        client = super().client(connection, told)
        client.create_leads = self.hooked(client.create_leads)  # type: ignore[method-assign]
        return client


def ask_no_one(_public_id: str, _email: str) -> None:
    """The `ask` of firms that don't have sign-ups confirmed."""
    raise AssertionError("a mail with a link to confirm")


class PostOffice(Office):
    """An office whose leads are delivered here; `deliver()` may die or be stopped on the way."""

    after_create: Callable[[], None] | None = None  # runs when Salesforce has answered a create

    def deliver(self, before_call: Callable[[int], None] | None = None) -> int:
        """Deliver what is due. before_call is told the number of each call to Salesforce, from 1."""
        connection_id = self.connection.id
        db.session.commit()
        try:
            with writing():
                return deliver(connection_id, self.access(before_call), lambda: self.stopping)
        except Died:
            db.session.rollback()
            return 0
        finally:
            db.session.rollback()
            db.session.expire_all()

    def access(self, before_call: Callable[[int], None] | None = None) -> PostAccess:
        numbers = itertools.count(1)
        tell = (lambda: before_call(next(numbers))) if before_call else lambda: None
        return org_access(PostAccess, between_pages=lambda: None, tell=tell, hooked=self.hooked)

    def hooked(self, create: Create) -> Create:
        def create_leads(leads: Sequence[NewLead], *, runs_assignment: bool) -> list[Created]:
            made = create(leads, runs_assignment=runs_assignment)
            if self.after_create:
                self.after_create()
            return made

        return create_leads

    def give_leads_away(self) -> str:
        """Let the firm's rules give new leads to a queue; return its Id."""
        queue = self.org.add_queue("Web leads")
        self.org.change_settings(lead_queue=queue)
        self.connection.partner.keep_leads_with_advisor = False
        db.session.commit()
        return queue

    def make_due(self) -> None:
        """End all waiting times and leases without moving a clock."""
        db.session.rollback()
        long_ago = utcnow() - timedelta(hours=1)
        db.session.execute(update(Lead).values(next_attempt_at=long_ago))
        db.session.execute(update(Lead).where(Lead.lease.is_not(None)).values(lease_until=long_ago))
        db.session.commit()

    def let_pass(self, seconds: float) -> None:
        """Let time pass in Salesforce, and make everything here due."""
        self.org.clock.advance(seconds)
        self.make_due()

    def lead(self, email: str = "mei.chou@harbour.example") -> Lead:
        db.session.rollback()
        return db.session.scalars(
            select(Lead).where(Lead.email == email).execution_options(populate_existing=True)
        ).one()

    def leads_there(self) -> list[str]:
        """Return the addresses of all Leads in the org, also of deleted ones."""
        return sorted(lead["Email"] for lead in self.org.leads(deleted=True))
