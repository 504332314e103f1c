"""`make chaos`: at least so many faults against real processes, and then nothing may be lost, doubled or stuck.

    make chaos ARGS="--seed 1 --faults 200"

Three lanes of faults (processes and servers; Salesforce; tokens and time) go on at once, beside advisors who sync, people who
sign up, senders that mail, and orgs that change all the time. Then a quiet phase: faults end, leases run out, all advisors sync
once more, and each list of contacts is fetched for a last mailing. The campaign leaves with 0 only if so many faults have hit
something, of a full campaign every kind, and everything holds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import requests
from flask_migrate import upgrade

from asapp import create_app
from asapp.accounts import api_keys, users
from asapp.audit.entries import COMMAND
from asapp.core.extensions import db
from asapp.leads import sign_up_page
from asapp.models import Partner, Role, Scope
from asapp.partners import partners
from asapp.partners.form_fields import PartnerForm
from devtools.chaos import faults, mail_verdict, report, verdict
from devtools.chaos.edits import Editor
from devtools.chaos.faults import LANES, ChaosWorld, Missed
from devtools.chaos.house import ChaosHouse
from devtools.chaos.mail_memory import MailMemory, now
from devtools.chaos.org import ChaosOrg
from devtools.chaos.people import PASSWORD, Advisor, Flights, Public
from devtools.chaos.report import Record
from devtools.chaos.senders import ALL_CONTACTS, Mailing, NoAnswer, Sender
from devtools.chaos.silence import Silence
from devtools.chaos.watch import DatabaseAway, Watch
from devtools.guard import ROOT
from devtools.visitor import LostError
from devtools.waiting import wait_for

PAUSES_S = {"processes": (0.5, 3.5), "Salesforce": (0.3, 2.0), "tokens and time": (1.0, 4.0)}
LOST_CREATES_S = 12 * 60  # by Salesforce's clock: then a create without an answer is known not to have been carried out
QUIET_S = 420.0
FULL = 150  # faults: from here on every kind has to have hit something
SLOW_TO_FIX = ("kill -9", "database", "lead", "opt-out", "beyond")
LEADS_LEFT = "SELECT id, state, why, next_attempt_at FROM leads WHERE state NOT IN ('sent', 'linked', 'converted')"
A_DAY_LATER = "UPDATE connections SET swept_at = now() - interval '25 hours' RETURNING id"
NOT_SWEPT = "SELECT id FROM connections WHERE swept_at IS NULL OR swept_at < now() - interval '24 hours'"
SENDS_LEFT = "SELECT id, state FROM sends WHERE state = 'preparing'"
OPT_OUTS_LEFT = "SELECT id, state, why FROM opt_out_writes WHERE state = 'waiting'"
WAITS_ARE_OVER = """
    UPDATE opt_out_writes SET next_attempt_at = now() WHERE state = 'waiting' AND lease IS NULL AND next_attempt_at > now()
    RETURNING id
"""
PAUSES_OF_OPT_OUTS = "asapp:opt-outs:*"  # in Redis: a connection's next delivery is a minute after the last
EVENTS = "SELECT user_id, sender_event_id, step FROM suppression_events WHERE sender_event_id IS NOT NULL"
TELLS_SALESFORCE, TAKES_OLDER_DATA = 1, 2  # numbers of firms
NEEDED = ("sends ready", "recipients fetched", "events told")  # figures of senders
MAILED_AGAIN = 3  # times, until a last mailing is ready
NAMES = ("Amara Okafor", "Jonas Lindqvist", "Mei Tanaka", "Luis Ferreira", "Priya Nair")


class Campaign:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began = time.monotonic()
        self.house = ChaosHouse(options.folder, options.orgs, options.workers, random.Random(options.seed))
        self.flights = Flights()
        self.watch = Watch(self.house)
        self.orgs = [ChaosOrg(org.url, number) for number, org in enumerate(self.house.orgs)]
        self.world = ChaosWorld(self.house, self.watch, self.orgs, self.flights)
        self.advisors: list[Advisor] = []
        self.editors: list[Editor] = []
        self.mailing = Mailing(MailMemory(), self.advisors)
        self.public = Public(self.advisors, self.house.url, self.flights, self.mailing.memory, self.rng("public"))
        self.senders: list[Sender] = []
        self.silence = Silence(self.watch)
        self.began_at = now()
        self.records: list[Record] = []
        self.crashes: list[str] = []
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        print(f"[{self.now_s:6.1f} s] {text}", flush=True)

    def rng(self, *whose: object) -> random.Random:
        return random.Random(":".join(map(str, (self.options.seed, *whose))))

    # ---- Before

    def set_up(self) -> None:
        self.say("starting PostgreSQL, Redis and the orgs")
        self.house.start_servers()
        self.app = create_app(self.house.config)
        with self.app.app_context():
            upgrade(str(ROOT / "migrations"))
            for org in self.orgs:
                self.make_firm(org)
            self.add_sender("all", None)
            db.session.remove()
            db.engine.dispose()
        self.say(f"starting web, {self.options.workers} workers and the scheduler")
        self.house.start_app()
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(advisor.log_in_and_connect) for advisor in self.advisors]:
                done.result()
        contacts = sum(len(org.get("contacts")) for org in self.orgs)
        self.say(f"{len(self.advisors)} advisors of {len(self.orgs)} firms are connected; {contacts:,} contacts")

    def make_firm(self, org: ChaosOrg) -> None:
        """Make a firm, its org and its advisors, each of them a user there with some hundreds of contacts."""
        rng = self.rng("firm", org.number)
        org.set_pace()
        org.rotates = org.number % 2 == 0
        org.do("change_app", key=self.house.key, rotate=org.rotates)
        app = {"url": org.url, "key": self.house.key, "secret": self.house.secret}
        settings = {"sync_interval": "5", "api_share": "100"}
        if org.number == TELLS_SALESFORCE:
            settings["writes_opt_outs_back"] = "y"
        if org.number == TAKES_OLDER_DATA:
            settings["sends_on_data_of_hours"] = "1"
        form = PartnerForm.entered(name=f"Firm {org.number}", **app, **settings)
        partner = partners.create_partner(form, self.app.extensions["asapp.org_access"])
        self.add_sender(f"firm{org.number}", partner)
        for number in range(self.options.advisors):
            name = NAMES[number % len(NAMES)]
            username = f"user{number}@firm{org.number}.example"
            salesforce_user = org.do("add_user", name=name, username=username)
            org.users.add(salesforce_user)
            email = f"advisor{number}@firm{org.number}.example"
            user = users.create_user(email, name, PASSWORD, Role.ADVISOR, partner)
            page = sign_up_page.ensure_page(user)
            where = (org, salesforce_user, username, self.house.url, self.flights, self.mailing.memory)
            self.advisors.append(Advisor(len(self.advisors), user.id, email, page.slug, *where))
            if org.number == TELLS_SALESFORCE:
                self.mailing.tells_salesforce.add(email)
            if org.number == TAKES_OLDER_DATA:
                self.mailing.older_data.add(email)
        editor = Editor(org, sorted(org.users), rng)
        for salesforce_user in sorted(org.users):
            editor.fill(salesforce_user, rng.randrange(self.options.contacts // 3, self.options.contacts * 5 // 3))
        if org.number != 0:
            org.do("advance_clock", seconds=7200)  # the first syncs aside, the others read only what has changed
        self.editors.append(editor)

    def add_sender(self, name: str, partner: Partner | None) -> None:
        """Give a sender a key for one firm, or for all."""
        key = api_keys.make_key(f"Sender {name}", tuple(Scope), partner, None, COMMAND)
        self.senders.append(Sender(name, key, self.house.url, self.flights, self.mailing, self.rng("sender", name)))

    # ---- During

    def go(self) -> None:
        for advisor in self.advisors:
            self.start(advisor.live, self.rng("advisor", advisor.number))
        for editor in self.editors:
            self.start(editor.live, 0.8)
        self.start(self.public.live, 1.2)
        for sender in self.senders:
            self.start(sender.live)
        self.say(f"{self.options.faults} faults, at most {self.options.minutes} minutes")
        self.start(self.silence.live)
        lanes = [self.start(self.strike_on, lane) for lane in LANES]
        for thread in lanes:
            thread.join()
        self.say(f"{self.counted} faults have hit something, {len(self.records) - self.counted} have missed")

    def strike_on(self, lane: str) -> None:
        """Strike until there were faults enough, round after round; what has missed is tried once more in its round."""
        rng = self.rng("lane", lane)
        give_up_at = time.monotonic() + self.options.minutes * 60
        kinds: list[str] = []
        again: set[str] = set()
        while not self.is_enough(lane) and time.monotonic() < give_up_at:
            if not kinds:
                kinds, again = self.round_of(lane, rng), set()
            kind = kinds.pop()
            if not self.strike(lane, kind, rng) and kind not in again:
                again.add(kind)
                kinds.insert(0, kind)
            time.sleep(rng.uniform(*PAUSES_S[lane]))

    def is_enough(self, lane: str) -> bool:
        return self.counted >= self.options.faults and not self.never_hit(lane)

    def never_hit(self, lane: str) -> list[str]:
        """Return the kinds of a lane that have hit nothing yet, though they have to."""
        if self.options.faults < FULL:
            return []
        hit = {record.kind for record in self.records if record.hit is not None}
        return [kind for kind in LANES[lane] if self.wants(kind) and kind not in hit]

    def round_of(self, lane: str, rng: random.Random) -> list[str]:
        """Return kinds to be taken from the end: each as often as it says, shuffled; those that never hit come first."""
        missing = self.never_hit(lane)
        if self.counted >= self.options.faults:
            return rng.sample(missing, len(missing))
        kinds = [kind for kind, (often, _) in LANES[lane].items() for _ in range(often) if self.wants(kind)]
        rng.shuffle(kinds)
        return sorted(kinds, key=lambda kind: kind in missing)

    def wants(self, kind: str) -> bool:
        return not self.options.gentle or not any(word in kind for word in SLOW_TO_FIX)

    def strike(self, lane: str, kind: str, rng: random.Random) -> bool:
        """Strike once; return whether it has hit something."""
        began = self.now_s
        hit: faults.Hit | None = None
        try:
            hit = LANES[lane][kind][1](self.world, rng)
            note = hit.note
        except Missed as missed:
            note = f"missed: {missed}"
        except DatabaseAway:
            note = "missed: the database was away"
        tries = {run_id: self.watch.run(run_id).tries for run_id in hit.runs} if hit else {}
        with self._lock:
            self.records.append(Record(lane, kind, began, hit, tries, note))
        what = f"run {', '.join(map(str, hit.runs))}" if hit and hit.runs else ""
        self.say(f"{self.counted:>4}  {kind}  {what}  {note}".rstrip())
        return hit is not None

    @property
    def counted(self) -> int:
        return sum(record.hit is not None for record in self.records)

    # ---- After

    def calm(self) -> None:
        """End faults and changes, wait until nothing is left to do, let all advisors sync, show all records, let a day pass."""
        self.say("quiet: no more faults and changes")
        for is_over in (
            x.is_over for group in (self.editors, [self.public], self.advisors, self.senders) for x in group
        ):
            is_over.set()
        for org in self.orgs:
            org.calm()
        self.silence.is_over.set()
        self._is_over.set()
        for thread in self._threads:
            thread.join(240)
            if thread.is_alive():
                self.crashes.append(f"the thread {thread.name} did not end")
        for org in self.orgs:
            org.do("advance_clock", seconds=LOST_CREATES_S)
        self.settle("runs, leads, sends and opt-outs", self.is_settled)
        self.sync_all()
        self.crashes += self.judge(self.sharing)[1]
        for editor in self.editors:
            editor.show_all()
        self.sync_all()
        self.crashes += self.judge(self.sharing)[1]
        self.let_a_day_pass()
        self.sync_all()
        if self.watch.patiently(NOT_SWEPT):
            self.crashes.append("a sync of the day after has swept nothing")
        self.mail_all()
        self.settle("what is left", self.is_settled)
        self.settle("jobs", lambda: not [*verdict.jobs_left(self.house)])

    def let_a_day_pass(self) -> None:
        """Make the daily sweep due, which the strict verdict needs."""
        self.say("a day passes")
        self.watch.patiently(A_DAY_LATER)

    # ---- The mail

    def mail_all(self) -> None:
        """Prepare and fetch a last mailing to all contacts of each advisor, and compare its recipients with the org."""
        self.say("a last mailing of each advisor")
        for sender in self.senders:
            sender.finish()
        by_email = {each["email"]: each for each in self.senders[-1].find_advisors()}
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(self.mail, advisor, by_email[advisor.email]["lists"]) for advisor in self.advisors]
            for each in found:
                self.crashes += each.result()

    def mail(self, advisor: Advisor, lists: list[dict[str, str]]) -> list[str]:
        """Return what is wrong with the recipients of all contacts of an advisor."""
        list_id = next(each["id"] for each in lists if each["kind"] == ALL_CONTACTS)
        for _ in range(MAILED_AGAIN):
            try:
                send = self.senders[-1].prepare(advisor, list_id)
            except (NoAnswer, requests.RequestException) as error:
                return [f"{advisor.email}: no answer in the quiet phase: {error}"]
            if send.state == "ready":
                break
        else:
            return [f"{advisor.email}: no send is ready in the quiet phase: {send.state} ({send.reason})"]
        found = [each["email"] for each in self.senders[-1].fetch(send)]
        contacts = advisor.org.get("contacts", owner_id=advisor.salesforce_user)
        leads = advisor.org.get("leads", owner_id=advisor.salesforce_user)
        wrong = mail_verdict.audience_wrong(advisor.number, found, contacts, leads, self.mailing.memory)
        return [f"{advisor.email}: {line}" for line in wrong]

    def mail_wrong(self) -> Iterator[str]:
        """Yield what senders have found wrong, and what is wrong with what was stored and written back in the end."""
        yield from self.mailing.wrong
        numbers = {advisor.user_id: advisor.number for advisor in self.advisors}
        stored = [(numbers[row.user_id], row.sender_event_id, row.step) for row in self.watch.patiently(EVENTS)]
        yield from mail_verdict.stored_wrong(stored, self.mailing.memory)
        for org in self.orgs:
            yield from (f"org {org.number}: {line}" for line in self.ticks_wrong(org))

    def ticks_wrong(self, org: ChaosOrg) -> list[str]:
        ticked = org.do("opted_out_by_api")
        if org.number != TELLS_SALESFORCE:
            return ["was told of opt-outs, and its firm does not want that"] if ticked else []
        memory, numbers = self.mailing.memory, {each.salesforce_user: each.number for each in self.advisors}
        records = {row["Id"]: row for what in ("contacts", "leads") for row in org.get(what, deleted=1)}
        ids = [each["Id"] for each in ticked]
        whose = [(numbers[each["user_id"]], each["Id"], each["Email"]) for each in ticked]
        self.mailing.figures["opt-outs written back"] += len(ids)
        return [
            *mail_verdict.ticks_wrong(self.mailing.to_tick, ids, records, org, memory),
            *mail_verdict.ticked_for_no_one(whose, org, memory, self.began_at),
        ]

    @property
    def sharing(self) -> verdict.Sharing:
        return verdict.Sharing(
            ever=frozenset().union(*(editor.ever_hidden for editor in self.editors)),
            now=frozenset().union(*(editor.hidden for editor in self.editors)),
        )

    def judge(self, sharing: verdict.Sharing) -> tuple[verdict.Facts, list[str]]:
        people = (self.advisors, self.public.done, self.mailing.memory)
        return verdict.judge(self.app, self.house, *people, sharing)

    def sync_all(self) -> None:
        self.say("all advisors sync once more")
        for round_ in range(3):
            behind = [advisor for advisor in self.advisors if not self.sync_once(advisor)]
            if not behind:
                break
            self.say(f"round {round_ + 1}: {len(behind)} runs did not end well; again")
        else:
            self.crashes += [f"{advisor.email}: no sync ends well in the quiet phase" for advisor in behind]
        self.settle("what is left", self.is_settled)
        self.settle("jobs", lambda: not [*verdict.jobs_left(self.house)])

    def settle(self, what: str, is_so: Callable[[], bool]) -> None:
        began = self.now_s
        with contextlib.suppress(TimeoutError):
            wait_for(is_so, patience_s=QUIET_S, pause_s=0.1)
        if is_so():
            self.say(f"{what}: settled after {self.now_s - began:.0f} s")
        else:
            self.crashes.append(f"{what}: not settled after {QUIET_S:.0f} s")

    def is_settled(self) -> bool:
        """Return whether no run is active, all are connected, and every lead, send and opt-out has come to its end.

        Advisors do what their pages ask for. Opt-outs don't wait for their next attempt, nor for the end of the minutes in which
        an unsubscribe can be undone.
        """
        self.watch.patiently(WAITS_ARE_OVER)
        self.watch.forget(PAUSES_OF_OPT_OUTS)
        broken = self.watch.patiently("SELECT user_id FROM connections WHERE status <> 'connected'")
        paused = self.watch.patiently("SELECT id FROM partners WHERE paused_until > now()")
        left = self.watch.patiently(LEADS_LEFT)
        for advisor in self.advisors:
            if paused or any(row.user_id == advisor.user_id for row in broken):
                advisor.look_after_it()
        if any(row.state in ("refused", "waiting") for row in left):
            for advisor in self.advisors:
                with contextlib.suppress(LostError, requests.RequestException):
                    advisor.retry_leads()
        time.sleep(1)
        mail_left = [*self.watch.patiently(SENDS_LEFT), *self.watch.patiently(OPT_OUTS_LEFT)]
        return not (broken or left or mail_left or self.watch.active_ids())

    def sync_once(self, advisor: Advisor) -> bool:
        """Let an advisor sync once, approving what is held; return whether the run ended well."""
        advisor.look_after_it()
        give_up_at = time.monotonic() + 120
        while (ended := advisor.state()) != "complete" and time.monotonic() < give_up_at:
            if ended == "held":
                advisor.look_after_it()
            elif ended not in ("queued", "running", ""):
                break
            time.sleep(0.5)
        return ended == "complete"

    def finish(self) -> bool:
        """Print the table and the verdict; return whether everything holds."""
        facts, wrong = self.judge(verdict.Sharing())
        wrong += [*self.crashes, *self.mail_wrong(), *self.silence.wrong(), *self.weaknesses()]
        report.print_table(self.records, self.watch)
        self.print_facts(facts)
        return self.ends_well(wrong)

    def ends_well(self, wrong: list[str]) -> bool:
        for line in wrong:
            print(f"WRONG: {line}")
        print("Everything holds." if not wrong else f"{len(wrong)} things do not hold.")
        return not wrong

    def weaknesses(self) -> Iterator[str]:
        """Yield why this campaign proves less than it should."""
        if self.public.given_up:
            yield f"{self.public.given_up} people could not sign up"
        if self.counted < self.options.faults:
            yield f"only {self.counted} of {self.options.faults} faults have hit something"
        for lane in LANES:
            yield from (f"{kind}: has hit nothing" for kind in self.never_hit(lane))
        if self.options.faults:
            yield from (f"{figure}: none" for figure in NEEDED if not self.mailing.figures[figure])
        if self.options.faults >= FULL and not self.mailing.memory.counts["repeated"]:
            yield "no event was told twice"

    def print_facts(self, facts: verdict.Facts) -> None:
        edits = sum(sum(editor.done.values()) for editor in self.editors)
        kinds = len({record.kind for record in self.records if record.hit})
        print(f"\nseed {self.options.seed}: {self.counted} faults of {kinds} kinds in {self.now_s / 60:.1f} minutes")
        print(f"runs: {', '.join(f'{count} {status}' for status, count in facts.runs.most_common())}")
        print(f"reasons of those that failed: {report.reasons(self.watch)}")
        print(f"changes in the orgs: {edits:,}; clicks on Sync Account: {sum(a.clicks for a in self.advisors):,}")
        print(f"times an advisor connected again: {sum(a.reconnects for a in self.advisors)}")
        print(f"longest time that a connection was not heard of: {self.silence.longest_s:.0f} s")
        print(f"requests answered: {self.flights.done:,}; cut off: {self.flights.cut:,}")
        print(f"contacts shown here: {facts.contacts:,}; sign-ups: {facts.signed_up}, people: {facts.leads}")
        report.print_mail(self.mailing.figures, self.mailing.memory.counts)

    def start(self, target: Callable[..., object], *arguments: object) -> threading.Thread:
        def run() -> None:
            try:
                target(*arguments)
            except Exception:  # noqa: BLE001 - whatever it is, the campaign has failed and says so
                self.crashes.append(f"the campaign itself: {traceback.format_exc(limit=-3)}")

        thread = threading.Thread(target=run, daemon=True, name=str(getattr(target, "__qualname__", target)))
        self._threads.append(thread)
        thread.start()
        return thread


@contextlib.contextmanager
def running(campaign: Campaign) -> Iterator[None]:
    try:
        yield
    finally:
        campaign.house.stop()


def read_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="decides which faults strike, when and where")
    parser.add_argument("--faults", type=int, default=200, help="that have hit something")
    parser.add_argument("--minutes", type=float, default=20.0, help="the longest that faults go on")
    parser.add_argument("--orgs", type=int, default=3)
    parser.add_argument("--advisors", type=int, default=4, help="of each firm")
    parser.add_argument("--contacts", type=int, default=900, help="of an advisor, about")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gentle", action="store_true", help="nothing that takes a lease's end to fix")
    parser.add_argument("--folder", type=Path, default=ROOT / "instance" / "chaos", help="emptied, then used for logs")
    return parser.parse_args(given)


def main() -> int:
    options = read_arguments()
    os.chdir(ROOT)
    shutil.rmtree(options.folder, ignore_errors=True)
    campaign = Campaign(options)
    print(f"campaign of {datetime.now().astimezone():%Y-%m-%d %H:%M}, seed {options.seed}, logs in {options.folder}")
    with running(campaign):
        campaign.set_up()
        campaign.go()
        campaign.calm()
        return 0 if campaign.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
