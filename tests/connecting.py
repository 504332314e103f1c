"""A person on the simulated org's pages: logs in, allows or denies, and returns with Salesforce's answer."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from asapp.connections import connect
from asapp.connections.connect import CallbackAnswer
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import Connection, ConnectionStatus, User
from orgsim.server import Running
from tests.factories import make_advisor, make_partner, org_access

CALLBACK = "http://127.0.0.1:5000/salesforce/salesforce_as/login/callback/"
KEY, SECRET = "desk-key", "desk-secret"


class ConnectingDesk:
    """A firm whose org is the simulated org, and an advisor of it."""

    def __init__(self, running: Running) -> None:
        self.org = running.org
        self.url = running.url
        self.org.register_app(KEY, SECRET, [CALLBACK])
        self.amara = self.org.add_user(name="Amara Okafor", username="amara@northgate.example")
        self.jonas = self.org.add_user(name="Jonas Lindqvist", username="jonas@northgate.example")
        self.partner = make_partner(url=running.url, key=KEY, secret=SECRET)
        self.advisor = make_advisor(self.partner, name="Alice Moreau")
        self.access = org_access()

    def begin(self, advisor: User | None = None, **options: Any) -> str:
        with writing():
            url = connect.begin(advisor or self.advisor, self.partner, self.access, **options)
        assert url is not None
        return url

    def finish(self, answer: CallbackAnswer, advisor: User | None = None) -> str:
        with writing():
            outcome = connect.finish(advisor or self.advisor, answer, self.access)
        db.session.expire_all()
        return outcome

    def connect(self, salesforce_user: str | None = None, advisor: User | None = None) -> str:
        """Connect from start to end; return the outcome."""
        return self.finish(visit(self.begin(advisor), salesforce_user or self.amara), advisor)

    def connection(self, advisor: User | None = None) -> Connection:
        """Return the advisor's connection that is not disconnected, as it is stored now."""
        db.session.rollback()
        found = db.session.scalars(
            select(Connection)
            .where(
                Connection.user_id == (advisor or self.advisor).id,
                Connection.status != ConnectionStatus.DISCONNECTED,
            )
            .options(joinedload(Connection.partner))
        ).one()
        db.session.refresh(found)
        return found

    def tokens_of(self, connection: Connection) -> tuple[str, str]:
        vault = self.access.vault
        return connection.unseal(vault, "access_token_sealed"), connection.unseal(vault, "refresh_token_sealed")

    def approvals(self) -> list[str]:
        """Return the refresh tokens that the org still accepts."""
        return list(self.org.grants.approvals)


def visit(authorize_url: str, user_id: str, button: str = "save") -> CallbackAnswer:
    """Log in at Salesforce as this user and press Allow ("save") or Deny ("cancel"); return what comes back."""
    with requests.Session() as browser:
        answer = browser.get(authorize_url, allow_redirects=False)
        for _ in range(8):
            if answer.is_redirect:
                target = urljoin(answer.url, answer.headers["Location"])
                if target.startswith(CALLBACK):
                    return CallbackAnswer(**dict(parse_qsl(urlsplit(target).query)))
                answer = browser.get(target, allow_redirects=False)
                continue
            path = urlsplit(answer.url).path
            if path == "/login":
                start = dict(parse_qsl(urlsplit(answer.url).query))["startURL"]
                answer = browser.post(
                    urljoin(answer.url, "/login"), data={"startURL": start, "as": user_id}, allow_redirects=False
                )
            elif path.endswith("/authorize"):
                consent = "/setup/secur/RemoteAccessAuthorizationPage.apexp?" + urlsplit(answer.url).query
                answer = browser.post(urljoin(answer.url, consent), data={button: "1"}, allow_redirects=False)
            else:
                break
    raise AssertionError(f"never came back: {answer.status_code} {answer.url}")
