"""The real processes for browser tests: web and worker, real Redis, SQLite, and for each test a firm with an org.

The processes live as long as the test session; each test makes its own firm, advisor and org, so tests don't interfere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import select

from asapp import create_app
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.queues import Queues
from asapp.models import Connection, RunTrigger, SyncRun, User
from asapp.sync import runs
from config import Config
from devtools.processes import Web
from devtools.programs import free_port
from devtools.waiting import wait_for
from orgsim import Org, Running
from tests.factories import make_admin, make_advisor, make_connection, make_partner, session_of

KEY, SECRET = "house-key", "house-secret"


class BrowserHouse:
    """One web process; `app` is the same application in this process, to write rows and read them.

    host: what browsers call it; passkeys are made for a name, never for an IP address.
    """

    def __init__(self, config: Config, log: Path, host: str = "127.0.0.1") -> None:
        port = free_port()
        self.url = f"http://{host}:{port}"
        self.config = replace(config, public_url=self.url, testing=False)
        self.app: Flask = create_app(self.config)
        self._web = Web(self.config, log, port=port).start()

    @contextmanager
    def rows(self) -> Iterator[None]:
        """Open an app context, in which the database can be read and written."""
        with self.app.app_context(), writing():
            try:
                yield
            finally:
                db.session.remove()

    def cookie_of(self, user_id: int, minutes_ago: int = 0) -> dict[str, str]:
        """Return the cookie of a session as after logging in so many minutes ago."""
        with self.rows():
            session = session_of(db.session.get_one(User, user_id), minutes_ago)
        serializer: Any = self.app.session_interface.get_signing_serializer(self.app)  # type: ignore[attr-defined]
        return {"name": "session", "value": serializer.dumps(session), "url": self.url}

    def make_admin(self) -> int:
        with self.rows():
            return make_admin().id

    def close(self) -> None:
        self._web.stop()
        with self.app.app_context():
            db.engine.dispose()


@dataclass
class Firm:
    """A firm of its own for one test: its org, and Alice, its advisor, who is Amara Okafor there."""

    house: BrowserHouse
    running: Running
    amara: str
    jonas: str
    slug: str
    advisor_id: int
    email: str
    ids: list[str] = field(default_factory=list)  # of Amara's contacts

    @classmethod
    def found(cls, house: BrowserHouse, running: Running) -> Firm:
        org = running.org
        org.register_app(KEY, SECRET, [house.config.callback_url])
        amara = org.add_user(name="Amara Okafor", username="amara@northgate.example")
        jonas = org.add_user(name="Jonas Lindqvist", username="jonas@northgate.example")
        with house.rows():
            partner = make_partner(url=running.url, key=KEY, secret=SECRET)
            advisor = make_advisor(partner)
            return cls(house, running, amara, jonas, partner.slug, advisor.id, advisor.email)

    @property
    def org(self) -> Org:
        return self.running.org

    def url(self, path: str = "/settings/integrations?open=salesforce") -> str:
        return f"{self.house.url}{path}"

    def fill(self, number: int) -> None:
        """Add contacts of Amara's, and one of each kind that isn't imported: opted out, no address, a colleague's."""
        rows = [
            {
                "owner_id": self.amara,
                "first_name": "Zoë",
                "last_name": f"Lindström {n:03}",
                "email": f"zoe.{n}@fjord.example",
            }
            for n in range(number)
        ]
        self.ids = self.org.add_contacts(rows)
        self.org.add_contact(
            self.amara, first_name="Otto", last_name="Opted", email="otto@fjord.example", opted_out=True
        )
        self.org.add_contact(self.amara, first_name="Nora", last_name="Nomail")
        self.org.add_contact(self.jonas, first_name="Carl", last_name="Colleague", email="carl@fjord.example")

    def connect(self) -> None:
        """Store a connection as after Connect Account and Allow."""
        tokens = self.org.issue_tokens(self.amara, KEY)
        with self.house.rows():
            make_connection(
                db.session.get_one(User, self.advisor_id),
                org_id=self.org.id,
                salesforce_user_id=self.amara,
                username="amara@northgate.example",
                display_name="Amara Okafor",
                org_name=self.org.name,
                instance_url=self.running.url,
                access_token=tokens["access_token"],
                refresh_token=tokens["refresh_token"],
            )

    def start_sync(self) -> int:
        queues: Queues = self.house.app.extensions["asapp.queues"]
        with self.house.rows():
            return runs.start_run(self._connection(), RunTrigger.MANUAL, queues.enqueue_runs).id

    def sync(self) -> SyncRun:
        """Let the worker carry out a run; return it as it ended."""
        run_id = self.start_sync()
        return wait_for(lambda: self.find_ended(run_id), "for the end of the run")

    def find_ended(self, run_id: int) -> SyncRun | None:
        with self.house.rows():
            run = db.session.get_one(SyncRun, run_id)
            return None if run.is_active else run

    def runs(self) -> list[SyncRun]:
        with self.house.rows():
            of_ours = SyncRun.connection.has(Connection.user_id == self.advisor_id)
            return list(db.session.scalars(select(SyncRun).where(of_ours).order_by(SyncRun.id)))

    def _connection(self) -> Connection:
        return db.session.scalars(
            select(Connection).where(Connection.user_id == self.advisor_id, Connection.status != "disconnected")
        ).one()

    @contextmanager
    def held_pages(self, after: int = 1) -> Iterator[threading.Event]:
        """Let the org send pages of 200 and hold back the page after so many, until the event is set."""
        self.org.change_settings(page_sizes=200)
        release = threading.Event()
        given = iter(range(1, 1000))

        def wait(_locator: str, _offset: int) -> None:
            if next(given) >= after:
                release.wait(20)

        remove = self.org.on_next_page(wait)
        try:
            yield release
        finally:
            release.set()
            remove()
