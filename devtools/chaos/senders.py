"""Senders: programs with an API key that prepare sends, fetch recipients and tell of events, all the time.

They reach asapp by HTTP alone and do what docs/senders.md says: a call without an answer is made again with the same ids. What
they get is judged at once (mail_verdict.py); what they tell is remembered (mail_memory.py).
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import requests

from devtools.chaos import mail_verdict
from devtools.chaos.mail_memory import NEVER, STOPS, MailMemory, Stop, now
from devtools.chaos.mail_verdict import OptedOut, Page, Preparation, ToTick
from devtools.chaos.people import Advisor, Flights, VisitorSession
from devtools.visitor import LostError, Visitor
from devtools.visitor import Page as VisitedPage

TIMEOUT_S = 30.0
POLLS_S = (0.4, 1.5)
PAUSES_S = (0.5, 3.0)  # between two mailings of a sender
TRY_AGAIN_S = (0.4, 1.5)
PATIENCE_S = 420.0  # for a call that gets no answer: longer than a send may take
ALL_CONTACTS = "salesforce_contacts"
ALL_LEADS = "salesforce_leads"
PAGE = 400  # recipients
AGES_OF_LATE_EVENTS = (timedelta(seconds=20), timedelta(minutes=3), timedelta(days=2))
NDJSON = "application/x-ndjson"


class NoAnswer(Exception):
    """Something is down: no answer came, or one that says to try later."""


class Answer(NamedTuple):
    status: int
    body: Any


@dataclass
class Mailing:
    """What all senders of a campaign share: the memory, what they have found wrong, and figures."""

    memory: MailMemory
    advisors: Sequence[Advisor]
    older_data: set[str] = field(default_factory=set)  # addresses of advisors whose firms let sends go on with it
    tells_salesforce: set[str] = field(default_factory=set)  # of advisors whose firms want Salesforce told
    wrong: list[str] = field(default_factory=list)
    to_tick: list[ToTick] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.figures[what] += number

    def complain(self, lines: Sequence[str]) -> None:
        with self.lock:
            self.wrong += lines


class Sender:
    """One program with one key. web: the address of asapp."""

    def __init__(self, name: str, key: str, web: str, flights: Flights, mailing: Mailing, rng: random.Random) -> None:
        self.name, self._api, self._web = name, f"{web}/api/v1", web
        self._key, self._flights, self._mailing, self._rng = key, flights, mailing, rng
        self._number = 0
        self.preparations: list[Preparation] = []
        self.is_over = threading.Event()

    # ---- A life

    def live(self) -> None:
        """One mailing after the other, as long as the campaign goes on."""
        while not self.is_over.wait(self._rng.uniform(*PAUSES_S)):
            try:
                self._mail()
            except (NoAnswer, requests.RequestException):
                self._mailing.count("mailings given up")

    def _mail(self) -> None:
        chosen = self._rng.choice(self.find_advisors())
        kind = ALL_LEADS if self._rng.random() < 0.15 else ALL_CONTACTS
        lists = [each for each in chosen["lists"] if each["kind"] == kind]
        if not lists:
            return  # before the first sync
        preparation = self.prepare(self._advisor(chosen["email"]), lists[0]["id"])
        recipients = self.fetch(preparation)
        if preparation.state == "ready":
            self._let_people_react(chosen["id"], preparation, recipients)

    def finish(self) -> None:
        """When all is quiet, ask for the end of each send that was given up; every send has one by then."""
        for preparation in self.preparations:
            if not preparation.has_ended:
                self._await_end(preparation)
            if not preparation.has_ended:
                self._mailing.complain([f"send {preparation.send_id} did not end"])

    # ---- Sends

    def find_advisors(self) -> list[dict[str, Any]]:
        """Return the advisors that the key reaches, with their lists."""
        found: list[dict[str, Any]] = []
        self._patiently(lambda: found.extend([*self._iter_advisors()]))
        return found

    def _iter_advisors(self) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._ask("advisors", "GET", "/advisors", params={"cursor": cursor} if cursor else None).body
            yield from page["advisors"]
            cursor = page["next"]
            if cursor is None:
                return

    def prepare(self, advisor: Advisor, list_id: str) -> Preparation:
        """Ask for a send and wait until it has ended; now and then ask for the same one again."""
        opted_out = OptedOut.of(advisor.org, advisor.salesforce_user)
        minutes = self._rng.choice((5, 60, 600))
        self._number += 1
        send_id = f"{self.name}.{self._number}"
        older = advisor.email in self._mailing.older_data
        known = (send_id, advisor.number, list_id, timedelta(minutes=minutes), older, opted_out, now())
        preparation = Preparation(*known)
        self.preparations.append(preparation)
        body = {"id": send_id, "list_id": list_id, "max_age_minutes": minutes}
        for _ in range(1 if self._rng.random() < 0.8 else 2):
            self._take(preparation, "prepare", "POST", "/sends", json=body)
        self._mailing.count("sends asked for")
        self._await_end(preparation)
        self._mailing.count(f"sends {preparation.state}")
        if preparation.is_of_older_data and preparation.state == "ready":
            self._mailing.count("sends ready on older data")
        return preparation

    def _await_end(self, preparation: Preparation) -> None:
        """Ask until the send has ended. What is still preparing after its time is complained of by each answer."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not preparation.has_ended and time.monotonic() < give_up_at:
            self._take(preparation, "send", "GET", f"/sends/{preparation.send_id}")
            time.sleep(self._rng.uniform(*POLLS_S))

    def _take(self, preparation: Preparation, call: str, method: str, path: str, **more: Any) -> None:
        def ask() -> None:
            asked_at = now()
            told = self._ask(call, method, path, **more).body
            self._mailing.complain(preparation.take(told, asked_at, now()))

        self._patiently(ask)

    # ---- Recipients

    def fetch(self, preparation: Preparation) -> list[dict[str, Any]]:
        """Return the recipients, read in lines or in pages; of a send that is not ready there are none."""
        path = f"/sends/{preparation.send_id}/recipients"
        in_lines = self._rng.random() < 0.5
        found: list[dict[str, Any]] = []
        self._patiently(lambda: found.extend((self._lines if in_lines else self._pages)(preparation, path)))
        if preparation.state == "ready":
            self._mailing.count("recipients fetched", len(found))
        elif found:
            self._mailing.complain([f"send {preparation.send_id} is {preparation.state} and has recipients"])
        return found

    def _lines(self, preparation: Preparation, path: str) -> list[dict[str, Any]]:
        """Read the answer line by line. What came before it was cut off is judged as well: mails may be on their way."""
        found: list[dict[str, Any]] = []
        began_at = now()
        try:
            with self._send("GET", path, headers={"Accept": NDJSON}, stream=True) as answer:
                self._judge("recipients", answer)
                if answer.status_code == requests.codes.ok:
                    found += (json.loads(line) for line in answer.iter_lines() if line)
        finally:
            self._check(Page(preparation, began_at, now(), found))
        return found

    def _pages(self, preparation: Preparation, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            began_at = now()
            answer = self._ask(
                "recipients", "GET", path, params={"limit": PAGE, **({"cursor": cursor} if cursor else {})}
            )
            if answer.status != requests.codes.ok:
                return found
            page = Page(preparation, began_at, now(), answer.body["recipients"])
            self._check(page)
            found += page.recipients
            cursor = answer.body["next"]
            if cursor is None:
                whole = Page(preparation, began_at, now(), found)
                self._mailing.complain(list(mail_verdict.doubled_ones(whole)))
                return found

    def _check(self, page: Page) -> None:
        org = self._mailing.advisors[page.preparation.advisor].org
        self._mailing.complain(mail_verdict.recipients_wrong(page, self._mailing.memory, org))

    # ---- Events

    def _let_people_react(self, advisor_id: str, send: Preparation, recipients: Sequence[dict[str, Any]]) -> None:
        """A few of the recipients unsubscribe, complain or bounce, by the sender or by the link in their mail."""
        if not recipients:
            return
        advisor = self._mailing.advisors[send.advisor]
        chosen = self._rng.sample(recipients, min(len(recipients), self._rng.randrange(1, 6)))
        told = [self._event_of(advisor, each["email"]) for each in chosen]
        if self._rng.random() < 0.2:
            told.append(self._event_of(advisor, f"stranger.{self.name}.{self._number}@fjord.example"))
        self._tell(advisor_id, told)
        if self._rng.random() < 0.4:
            self._click(advisor, self._rng.choice(recipients), send)
        if self._rng.random() < 0.3:
            self._visit(advisor, self._rng.choice(recipients), send)
        if advisor.email in self._mailing.tells_salesforce:
            records = zip((each["salesforce_id"] for each in chosen), told, strict=False)
            self._remember_to_tick([ToTick(record, send.asked_at, stop) for record, stop in records if record])

    def _event_of(self, advisor: Advisor, email: str) -> Stop:
        """Return an event, mostly of now; some are told late, some with a time in the future, some addresses in capitals."""
        self._number += 1
        at = latest = now()
        dice = self._rng.random()
        if dice < 0.15:
            at = latest = now() - self._rng.choice(AGES_OF_LATE_EVENTS)
        elif dice < 0.2:
            at = now() + timedelta(hours=2)
        email = email.swapcase() if self._rng.random() < 0.2 else email
        reason = self._rng.choices(STOPS, (6, 2, 2))[0]
        return Stop(advisor.number, email, reason, min(at, latest), at, f"{self.name}.e{self._number}")

    def _tell(self, advisor_id: str, stops: list[Stop]) -> None:
        for stop in stops:
            self._mailing.memory.add_stop(stop)
        events = [
            {
                "id": stop.event_id,
                "type": stop.reason,
                "advisor_id": advisor_id,
                "email": stop.email,
                "at": stop.latest.isoformat(),
                "detail": "",
            }
            for stop in stops
        ]
        bad = {"id": f"{stops[0].event_id}.bad", "type": "opened", "advisor_id": advisor_id, "email": "a@b.example"}
        if self._rng.random() < 0.1:
            events.insert(0, bad | {"at": now().isoformat()})

        def tell() -> None:
            self._take_results(stops, events, self._ask("events", "POST", "/events", json={"events": events}).body)

        self._mailing.count("events told", len(stops))
        if self._rng.random() < 0.15:  # twice at once
            with ThreadPoolExecutor(2) as pool:
                for done in [pool.submit(self._patiently, tell) for _ in range(2)]:
                    done.result()
            self._mailing.count("events told twice at once", len(stops))
        else:
            self._patiently(tell)
        if self._rng.random() < 0.15:
            self._patiently(tell)
            self._mailing.count("events repeated after an answer", len(stops))

    def _take_results(self, stops: Sequence[Stop], events: Sequence[dict[str, Any]], body: Any) -> None:
        answered_at = now()
        results = {each["id"]: each for each in body["results"]}
        wrong = []
        if [each["id"] for each in body["results"]] != [each["id"] for each in events]:
            wrong.append(f"events {[each['id'] for each in events]} were answered as {sorted(results)}")
        for stop in stops:
            result = results[stop.event_id]["result"]
            if result not in ("accepted", "duplicate"):
                wrong.append(f"event {stop.event_id} is {result}: {results[stop.event_id]['error']}")
            else:
                stop.latest = min(stop.latest, answered_at)  # a time in the future is taken as now
                self._mailing.memory.answer(stop, result, answered_at)
        wrong += [f"event {key} is {each['result']}" for key, each in results.items() if is_wrongly_taken(key, each)]
        self._mailing.complain(wrong)

    def _click(self, advisor: Advisor, recipient: dict[str, Any], send: Preparation) -> None:
        """The person presses the mail program's own button, again and again until it works."""
        began_at = now()
        stop = Stop(advisor.number, recipient["email"], "unsubscribed", began_at, NEVER)
        self._mailing.memory.add_stop(stop)

        def click() -> None:
            with self._session() as session:
                data = {"List-Unsubscribe": "One-Click"}
                answer = session.post(recipient["unsubscribe_url"], data=data, timeout=TIMEOUT_S)
            self._judge("one-click", answer)
            stop.latest = now()
            self._mailing.memory.answer(stop, "accepted", stop.latest)

        self._patiently(click)
        self._mailing.count("clicks on the link")
        if advisor.email in self._mailing.tells_salesforce and recipient["salesforce_id"]:
            self._remember_to_tick([ToTick(recipient["salesforce_id"], send.asked_at, stop)])

    def _visit(self, advisor: Advisor, recipient: dict[str, Any], send: Preparation) -> None:
        """The person opens the link in the mail, stops this advisor or the whole firm, and may take it back at once."""
        visitor = Visitor()
        visitor.session = self._session()
        page = self._seen(lambda: visitor.open(recipient["unsubscribe_url"]))
        if not page.has_button("Unsubscribe"):
            return  # stopped already
        is_for_firm = self._rng.random() < 0.3
        colleagues = [each.number for each in self._mailing.advisors if each.org is advisor.org]
        page.get_field("Everyone" if is_for_firm else advisor_name(page)).checked = True
        began_at = now()
        concerned = colleagues if is_for_firm else [advisor.number]
        stops = [Stop(each, recipient["email"], "unsubscribed", began_at, NEVER, "", is_for_firm) for each in concerned]
        for stop in stops:
            self._mailing.memory.add_stop(stop)
        page = self._seen(lambda: visitor.press(page, "Unsubscribe"))
        for stop in stops:
            stop.latest = now()
            self._mailing.memory.answer(stop, "accepted", stop.latest)
        self._mailing.count("firms stopped on the page" if is_for_firm else "advisors stopped on the page")
        if page.has_button("Undo") and self._rng.random() < 0.5:
            with self._mailing.memory.undoing(advisor.number, recipient["email"], colleagues):
                page = self._seen(lambda: visitor.press(page, "Undo"))
            if not page.heading.startswith("You're still subscribed"):
                self._mailing.count("undone while another reason holds")
            self._mailing.count("undone on the page")
        elif advisor.email in self._mailing.tells_salesforce and recipient["salesforce_id"]:
            self._remember_to_tick([ToTick(recipient["salesforce_id"], send.asked_at, stops[0])])

    def _seen(self, deed: Callable[[], VisitedPage]) -> VisitedPage:
        """Return the page that comes in the end; people try again."""
        seen: list[VisitedPage] = []

        def look() -> None:
            try:
                seen.append(deed())
            except LostError as error:
                raise NoAnswer(str(error)) from None

        self._patiently(look)
        return seen[-1]

    def _remember_to_tick(self, found: Sequence[ToTick]) -> None:
        with self._mailing.lock:
            self._mailing.to_tick += found
            self._mailing.figures["to write back"] += len(found)

    # ---- Calls

    def _patiently(self, deed: Callable[[], object]) -> None:
        """Do it again until it is answered, as senders do; raise NoAnswer after a long time."""
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                deed()
            except (NoAnswer, requests.RequestException):
                self._mailing.count("calls made again")
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(self._rng.uniform(*TRY_AGAIN_S))
            else:
                return

    def _ask(self, call: str, method: str, path: str, **more: Any) -> Answer:
        with self._send(method, path, **more) as answer:
            self._judge(call, answer)
            return Answer(answer.status_code, answer.json())

    def _judge(self, call: str, answer: requests.Response) -> None:
        """Complain of an answer that is documented nowhere; raise NoAnswer where there is nothing to read in it."""
        self._mailing.count(f"answers {answer.status_code}")
        kind = answer.headers.get("Content-Type", "")
        self._mailing.complain(list(mail_verdict.answer_wrong(call, answer.status_code, kind, answer.headers)))
        if answer.status_code not in mail_verdict.WELL[call]:
            raise NoAnswer(f"{call}: {answer.status_code}")

    def _send(self, method: str, path: str, **more: Any) -> requests.Response:
        session = self._session()
        session.headers["Authorization"] = f"Bearer {self._key}"
        return session.request(method, f"{self._api}{path}", timeout=TIMEOUT_S, **more)

    def _session(self) -> requests.Session:
        return VisitorSession(self._flights, f"192.0.2.{self._rng.randrange(1, 250)}", self._web)

    def _advisor(self, email: str) -> Advisor:
        return next(each for each in self._mailing.advisors if each.email == email)


def is_wrongly_taken(event_id: str, result: dict[str, Any]) -> bool:
    """Was an event accepted that is none?"""
    return event_id.endswith(".bad") and result["result"] != "invalid"


def advisor_name(page: VisitedPage) -> str:
    """Return the label of the first choice on the unsubscribe page: the advisor alone."""
    (first, *_) = page.tree.xpath("//label[@for='advisor']/strong")
    return str(first.text_content())
