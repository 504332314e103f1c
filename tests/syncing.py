"""Tests of the sync: an org with two users, a connection to it, and runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from flask import current_app
from sqlalchemy import select, update

from asapp.connections.org_access import BeforeCall, OrgAccess
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.status import contact_rows, is_shown, reason_of
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Connection, Contact, ContactList, LedgerEntry, ListMember, RunTrigger, SyncRun
from asapp.salesforce.client import OrgClient
from asapp.salesforce.pages_ahead import PagesAhead
from asapp.sync import departures, runs
from asapp.sync.execute import execute_run
from asapp.sync.run_context import JobContext
from orgsim import Running
from tests.factories import make_advisor, make_connection, make_partner, org_access

T = TypeVar("T")
KEY, SECRET = "office-key", "office-secret"


class Died(BaseException):
    """Stands for the death of the process: no code after it runs, not even the one that ends a run."""


class WatchedClient(OrgClient):
    """Calls a function before it starts to read the next page, which is before the current one is stored."""

    between_pages: Callable[[], None] = staticmethod(lambda: None)

    def pay_ahead(self, pages: PagesAhead, calls: int) -> None:
        self.between_pages()
        db.session.commit()
        super().pay_ahead(pages, calls)


@dataclass(frozen=True)
class WatchedAccess(OrgAccess):
    between_pages: Callable[[], None]

    def client(self, connection: Connection, before_call: BeforeCall) -> OrgClient:
        client = WatchedClient(
            self.tokens(connection),
            connection.partner.api_version,
            connection.partner.opt_out_fields,
            allow_loopback=True,
            before_call=before_call,
            wait=lambda state: 0.0,
        )
        if connection.partner.has_person_accounts:
            client.read_persons()
        client.between_pages = self.between_pages  # type: ignore[method-assign]
        return client


@dataclass(frozen=True)
class MeetingAccess(WatchedAccess):
    meet: Callable[[], None]  # before each call, once it is counted

    def client(self, connection: Connection, before_call: BeforeCall) -> OrgClient:
        def before() -> None:
            before_call()
            self.meet()

        return super().client(connection, before)


class Office:
    def __init__(self, running: Running) -> None:
        self.org = running.org
        self.org.register_app(KEY, SECRET, ["http://127.0.0.1:5000/salesforce/salesforce_as/login/callback/"])
        self.user = self.org.add_user(name="Amara Okafor", username="amara@northgate.example")
        self.colleague = self.org.add_user(name="Jonas Lindqvist", username="jonas@northgate.example")
        partner = make_partner(url=running.url, key=KEY, secret=SECRET)
        self.advisor = make_advisor(partner)
        self.url = running.url
        self.connection = self.connect()
        self.stopping = False
        self.pages_ahead = 1  # so that each page is a group of its own

    def connect(self) -> Connection:
        """Connect the advisor, with the current firm, as the user."""
        tokens = self.org.issue_tokens(self.user, KEY)
        return make_connection(
            self.advisor,
            org_id=self.org.id,
            salesforce_user_id=self.user,
            instance_url=self.url,
            access_token=tokens["access_token"],
            refresh_token=tokens["refresh_token"],
        )

    def add(self, *, owner: str | None = None, last_name: str = "Gonzalez", **fields: Any) -> str:
        """Add a contact in the org, of the connected user if no owner is named; return its Id."""
        return self.org.add_contact(owner or self.user, last_name=last_name, **fields)

    def fill(self, number: int) -> list[str]:
        """Add that many contacts of the connected user, changed one after the other, days ago."""
        stamp = self.org.clock.now() - timedelta(days=3)
        return self.org.add_contacts(
            [
                {
                    "owner_id": self.user,
                    "first_name": "Ravi",
                    "last_name": f"Śliwa {n}",
                    "email": f"c{n}@fjord.example",
                    "stamp": stamp + timedelta(minutes=n // 7),
                }
                for n in range(number)
            ]
        )

    def start(self, trigger: RunTrigger = RunTrigger.MANUAL) -> SyncRun:
        run = runs.start_run(self.connection, trigger, lambda ids: True)
        assert run is not None, "nothing may be read for this connection"
        return run

    def sync(
        self,
        *,
        die_before_page: int | None = None,
        stop_before_page: int | None = None,
        on_page: Callable[[SyncRun], None] | None = None,
    ) -> SyncRun:
        """Start a run and carry it out here; return it as it ended."""
        run = self.start()
        pages = 0

        def between_pages() -> None:
            nonlocal pages
            pages += 1
            if die_before_page == pages + 1:
                raise Died
            self.stopping = stop_before_page == pages + 1
            if on_page:
                on_page(self.reload(run))

        return self.resume(run, between_pages)

    def resume(self, run: SyncRun, between_pages: Callable[[], None] = lambda: None) -> SyncRun:
        if not run.is_queued:
            runs.requeue_expired(run.id)
        run_id = run.id
        db.session.commit()
        try:
            with writing():
                execute_run(run_id, self.workplace(between_pages))
        except Died:
            db.session.rollback()
        self.stopping = False
        db.session.expire_all()
        return db.session.get_one(SyncRun, run_id)

    def approve(self) -> SyncRun:
        run = departures.approve(self.connection, lambda ids: True)
        assert run is not None
        return self.resume(run)

    def discard(self) -> None:
        departures.discard(self.connection)

    def workplace(self, between_pages: Callable[[], None] = lambda: None) -> JobContext:
        return JobContext(
            access=org_access(WatchedAccess, between_pages=between_pages),
            enqueue=lambda ids: True,
            default_interval_minutes=60,
            should_stop=lambda: self.stopping,
            pages_ahead=self.pages_ahead,
        )

    def let_lease_run_out(self, run: SyncRun) -> None:
        run_id = run.id
        db.session.commit()  # the worker that was killed may have committed since this transaction began to read
        with writing():
            over = {"lease_until": utcnow() - timedelta(seconds=1)}
            db.session.execute(update(SyncRun).where(SyncRun.id == run_id).values(over))
            db.session.commit()

    def let_a_day_pass(self) -> None:
        """Let a day pass, so that the next sync sweeps."""
        self.connection.swept_at = utcnow() - timedelta(hours=25)
        self.save()

    def save(self) -> None:
        db.session.commit()

    def reload(self, row: T) -> T:
        db.session.rollback()
        db.session.refresh(row)
        return row

    def hash(self, email: str) -> bytes:
        partner = self.connection.partner
        return address_hash(email, address_key(db.session(), partner, current_app.extensions["asapp.vault"]))

    def put_on_list(self, salesforce_id: str, name: str) -> ContactList:
        made = ContactList(user_id=self.advisor.id, name=name, name_key=name.lower())
        db.session.add(made)
        db.session.flush()
        contact = db.session.scalars(select(Contact).where(Contact.salesforce_id == salesforce_id)).one()
        db.session.add(ListMember(list_id=made.id, contact_id=contact.id))
        db.session.commit()
        return made

    def members(self, contact_list: ContactList) -> Sequence[str | None]:
        db.session.rollback()
        return db.session.scalars(
            select(Contact.salesforce_id)
            .join(ListMember, ListMember.contact_id == Contact.id)
            .where(ListMember.list_id == contact_list.id)
        ).all()

    def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every stored row of contacts and ledger."""
        db.session.rollback()
        tables = (Contact.__table__, LedgerEntry.__table__)
        found = {table.name: sorted(map(tuple, db.session.execute(select(table))), key=repr) for table in tables}  # type: ignore[attr-defined]
        db.session.rollback()
        return found


def contacts_here(connection: Connection) -> list[Contact]:
    """Return the connection's contacts that pages show."""
    db.session.rollback()
    return list(
        db.session.scalars(
            select(Contact).where(Contact.connection_id == connection.id, is_shown()).order_by(Contact.salesforce_id)
        )
    )


def reasons_here(connection: Connection) -> dict[str, str | None]:
    """Return {Salesforce Id: why inactive, or None} of the connection's contacts that pages show."""
    db.session.rollback()
    rows = db.session.execute(
        contact_rows(Contact.salesforce_id, reason_of(utcnow())).where(
            Contact.connection_id == connection.id, is_shown()
        )
    )
    return {row[0]: row[1] for row in rows}
