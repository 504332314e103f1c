"""The people of a campaign: advisors at their browsers, and people who sign up on their pages.

They do what people do when something doesn't work: they try again. Nothing that they see going wrong fails the campaign;
what counts is what is true in the end.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin

import requests

from devtools.chaos.mail_memory import MailMemory
from devtools.chaos.org import ChaosOrg
from devtools.drive import Way, connect, log_in, open_panel
from devtools.visitor import LostError, Page, Visitor

PASSWORD = "harbour-lamp-orchid"
ORG_PASSWORD = "practice1"
LEAST_AGE_S = 2.2  # of a sign-up form
SIGN_UP_PATIENCE_S = 180.0
WAITS_S = (2.0, 7.0)  # between two visits of an advisor


class Flights:
    """The requests that are on their way to the web process right now, and how many were cut off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}
        self._next = 0
        self.cut = 0
        self.done = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._began[number] = time.monotonic()
        try:
            yield
            self.done += 1
        except requests.RequestException:
            with self._lock:
                self.cut += 1
            raise
        finally:
            with self._lock:
                del self._began[number]

    def in_the_air(self, at_least_s: float = 0.004) -> int:
        """How many have been under way for that long: they have reached the process."""
        before = time.monotonic() - at_least_s
        with self._lock:
            return sum(began < before for began in self._began.values())


class VisitorSession(requests.Session):
    def __init__(self, flights: Flights, address: str, web: str) -> None:
        super().__init__()
        self.trust_env = False
        self._flights, self._web = flights, web
        self.headers["X-Forwarded-For"] = address

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if not str(request.url).startswith(self._web):
            return super().send(request, **options)
        with self._flights.one():
            return super().send(request, **options)


@dataclass
class Advisor:
    """One advisor, who is one user of an org."""

    number: int
    user_id: int
    email: str
    slug: str  # of the sign-up page
    org: ChaosOrg
    salesforce_user: str
    org_username: str
    web: str
    flights: Flights
    memory: MailMemory
    reconnects: int = 0
    clicks: int = 0
    tried_again: int = 0
    troubles: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.visitor = Visitor()
        self.visitor.session = VisitorSession(self.flights, f"198.51.100.{self.number + 1}", self.web)
        self.way = Way(self.web, self.org.url, self.email, PASSWORD, self.org_username, ORG_PASSWORD)

    def log_in_and_connect(self) -> None:
        """Log in and connect, again and again until it works."""
        keep_trying(self._log_in, "log in")
        keep_trying(self._connect, "connect")

    def live(self, rng: random.Random) -> None:
        """Visit the panel again and again, sync, and connect again where that is needed."""
        while not self.is_over.wait(rng.uniform(*WAITS_S)):
            self.look_after_it(is_cancelling=rng.random() < 0.01)
            if rng.random() < 0.2 and (bounced := self.memory.stopped_addresses(self.number, "bounced")):
                self.try_again(rng.choice(bounced))

    def look_after_it(self, *, is_cancelling: bool = False) -> None:
        """Visit the panel once and do what it asks for."""
        try:
            page = self._panel()
            if page.has_button("Connect Account"):
                self._reconnect()
            elif page.has_button("Approve"):
                self.visitor.press(page, "Approve")
            elif is_cancelling and page.has_button("Cancel"):
                self.visitor.press(page, "Cancel")
            elif page.has_button("Sync Account"):
                self.visitor.press(page, "Sync Account")
                self.clicks += 1
        except (LostError, requests.RequestException, ValueError):
            self.troubles += 1

    def try_again(self, email: str) -> None:
        """Have mail go again to an address that bounced, where the page offers it."""
        try:
            page = self.visitor.open(f"{self.web}/contacts?{urlencode({'q': email, 'state': 'bounced'})}")
            link = page.find("//th[@scope='row']//a")
            page = self.visitor.open(urljoin(page.url, link.get("href"))) if link is not None else page
            if page.has_button("Try this address again"):
                with self.memory.trying_again(self.number, email):
                    self.visitor.press(page, "Try this address again")
                self.tried_again += 1
        except (LostError, requests.RequestException, ValueError):
            self.troubles += 1

    def retry_leads(self) -> None:
        """Press Retry at every lead that the page offers it for."""
        for _ in range(20):
            page = self.visitor.open(f"{self.web}/leads")
            if not page.has_button("Retry"):
                return
            self.visitor.press(page, "Retry")
            time.sleep(0.5)

    def state(self) -> str:
        """Return data-state of the panel, what it says instead, or nothing while it can't be seen."""
        try:
            page = self._panel()
        except (LostError, requests.RequestException):
            return ""
        if page.has_button("Connect Account"):
            return "needs reconnecting"
        shown = page.find("//*[@data-run and @data-state]")
        return str(shown.get("data-state")) if shown is not None else "nothing"

    def _panel(self) -> Page:
        page = self.visitor.open(f"{self.web}/settings/integrations?open=salesforce")
        if "/login" in page.url:
            self._log_in()
            page = self.visitor.open(f"{self.web}/settings/integrations?open=salesforce")
        return page

    def _log_in(self) -> None:
        log_in(self.visitor, self.way, quietly)

    def _connect(self) -> None:
        if not open_panel(self.visitor, self.way).has_button("Sync Account"):
            connect(self.visitor, self.way, quietly)

    def _reconnect(self) -> None:
        connect(self.visitor, self.way, quietly)
        self.reconnects += 1


@dataclass(frozen=True)
class SignedUp:
    """A person who was told that it worked."""

    advisor: Advisor
    email: str


class Public:
    """People who sign up: mostly new ones, some again, some who are contacts already, some who had stopped the mails."""

    def __init__(
        self, advisors: list[Advisor], web: str, flights: Flights, memory: MailMemory, rng: random.Random
    ) -> None:
        self._advisors, self._web, self._flights, self._memory, self._rng = advisors, web, flights, memory, rng
        self._lock = threading.Lock()
        self.done: list[SignedUp] = []
        self.given_up = 0
        self.is_over = threading.Event()
        self._number = 0

    def live(self, pause_s: float) -> None:
        while not self.is_over.wait(self._rng.uniform(0.3, 1.7) * pause_s):
            advisor = self._rng.choice(self._advisors)
            email = self._choose_address(advisor)
            try:
                with self._memory.opting_in(advisor.number, email):
                    self._sign_up(advisor, email)
            except TimeoutError:
                self.given_up += 1
            else:
                with self._lock:
                    self.done.append(SignedUp(advisor, email))

    def _choose_address(self, advisor: Advisor) -> str:
        dice = self._rng.random()
        again = [one.email for one in self.done if one.advisor is advisor]
        if dice < 0.15 and again:
            return self._rng.choice(again).swapcase()
        if dice > 0.85 and (stopped := self._memory.stopped_addresses(advisor.number)):
            return self._rng.choice(stopped)
        if dice < 0.3:
            theirs = advisor.org.get("contacts", owner_id=advisor.salesforce_user)
            emails = [row["Email"] for row in theirs if row["Email"] and row["Email"].isascii()]
            if emails:
                return str(self._rng.choice(emails))
        self._number += 1
        return f"newcomer.{id(self) % 9973}.{self._number}@fjord.example"

    def _sign_up(self, advisor: Advisor, email: str) -> None:
        """Send one form, the same one again and again, until it is thanked for; raise TimeoutError after a long time."""
        visitor = Visitor()
        visitor.session = VisitorSession(self._flights, f"203.0.113.{self._rng.randrange(1, 250)}", self._web)
        typed = {"First name": "Noor", "Last name": "Newcomer", "Email": email}
        give_up_at = time.monotonic() + SIGN_UP_PATIENCE_S
        page: Page | None = None
        while time.monotonic() < give_up_at:
            try:
                if page is None:
                    page = visitor.open(f"{self._web}/o/{advisor.slug}")
                    page.get_field("Yes").checked = True
                    time.sleep(LEAST_AGE_S)
                if visitor.press(page, "Sign up", typed).url.endswith("/thanks"):
                    return
            except (LostError, requests.RequestException):
                time.sleep(self._rng.uniform(0.5, 1.5))
        raise TimeoutError


def keep_trying(deed: Callable[[], None], what: str, patience_s: float = 60.0) -> None:
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            return deed()
        except (LostError, requests.RequestException) as error:
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"no one could {what} within {patience_s:.0f} s: {error}") from None
            time.sleep(1)


def quietly(_text: str) -> None:
    """Ignore what the drive tells of each step."""
