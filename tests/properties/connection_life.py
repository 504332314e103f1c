"""A connected advisor for property tests: edits in the org, acts here, and runs that are disturbed or killed.

A run can be disturbed at any of its calls to Salesforce (an edit, an act, the end of the process, a cancel, a stop), and
killed before any commit, also those of its call counter and its token store. A killed run commits nothing more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import NamedTuple, TypeVar

from flask import Flask, current_app
from sqlalchemy import delete, event, func, select
from sqlalchemy.orm import Session

from asapp.connections.org_access import BeforeCall, OrgAccess
from asapp.contacts import lists, manual, removal
from asapp.contacts.form_fields import Details
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.models import (
    Connection,
    Contact,
    ContactList,
    Departure,
    LedgerEntry,
    ListMember,
    RunChange,
    RunStatus,
    SyncRun,
    User,
)
from asapp.panel.balance import balance
from asapp.partners.checks import run_checks
from asapp.salesforce.client import OrgClient
from asapp.sync import departures, runs
from asapp.sync.execute import execute_run
from asapp.sync.run_context import JobContext
from orgsim import Org, start
from tests.factories import log_in, org_access
from tests.properties import stored_state
from tests.properties.contact_oracle import ContactOracle
from tests.properties.org_story import HERE, PAGE, POOL, Edit, Story
from tests.properties.stored_state import StoredState
from tests.syncing import Died, Office

T = TypeVar("T")

ACTS = ("hide", "hide", "restore", "add_manual", "add_manual", "edit_manual", "delete_manual", "make_list", "make_list", "join",
        "join", "leave", "approve", "discard", "expect_sweep", "doubt_opt_outs")  # fmt: skip
FAULTS = (
    "server_unavailable", "server_unavailable_html", "unknown_exception", "html", "empty", "truncated", "truncated_json", "reset",
    "reset_after", "session_expired", "edge_420", "short_page", "wrong_content_type", "foreign_next", "query_timeout",
    "request_limit", "invalid_locator",
)  # fmt: skip
DEEDS = ("die", "cancel", "stop", "expire", "expire_sessions", "wait", "wait_long")
FAULT_KINDS = ("data", "composite", "query", "query_more", "subrequest")
LATEST_COMMIT = timedelta(minutes=11)
TABLES = (RunChange, ListMember, Departure, LedgerEntry, Contact, ContactList, SyncRun)


class Act(NamedTuple):
    """An act of the advisor here, or time that passes. The numbers pick the contact."""

    verb: str
    one: int = 0
    two: int = 0

    @classmethod
    def at_random(cls, rng: Random) -> Act:
        return cls(rng.choice(ACTS), rng.randrange(100), rng.randrange(100))


class Trouble(NamedTuple):
    answer: str
    kind: str
    times: int = 1
    after: int = 0


class Disturbance(NamedTuple):
    """At a run's n-th call, from 1: an edit, an act, or one of DEEDS."""

    at_call: int
    deed: Edit | Act | str


class Doom:
    """Ends the process before a commit: nothing is committed after that."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.is_dead = False
        self.is_spared = threading.local()  # commits of other processes go through

    def before_commit(self, session: Session) -> None:
        if getattr(self.is_spared, "now", False):
            return
        if self.left is not None and not self.is_dead:
            self.left -= 1
            self.is_dead = self.left < 0
        if self.is_dead:
            raise Died

    def die(self) -> None:
        self.is_dead = True
        raise Died

    def reset(self) -> None:
        self.left, self.is_dead = None, False


@dataclass(frozen=True)
class DisturbedAccess(OrgAccess):
    disturb: Callable[[], None]

    def client(self, connection: Connection, before_call: BeforeCall) -> OrgClient:
        def disturbed() -> None:
            before_call()
            self.disturb()

        client = OrgClient(
            self.tokens(connection),
            connection.partner.api_version,
            connection.partner.opt_out_fields,
            allow_loopback=True,
            before_call=disturbed,
            wait=lambda state: 0.0,
            most_skew=timedelta(days=3650),  # only Salesforce's clock moves
        )
        return client.read_persons() if connection.partner.has_person_accounts else client


class Life:
    def __init__(self, app: Flask, rows_a_page: int = PAGE) -> None:
        """rows_a_page: few, so that a handful of contacts makes many pages; Salesforce may always send fewer than asked for."""
        self.app = app
        self.rows_a_page = rows_a_page
        self._open = ExitStack()
        forget_everything()
        self.running = self._open.enter_context(start(Org(name="Northgate Wealth", seed=1)))
        self.org = self.running.org
        self.org.clock.freeze()
        self.office = Office(self.running)
        self.org.change_settings(page_sizes=PAGE, session_minutes=10**7)
        self.connection_id, self.user_id = self.office.connection.id, self.office.advisor.id
        self.story = Story(self.org, self.office.user, self.office.colleague)
        self.doom = Doom()
        event.listen(Session, "before_commit", self.doom.before_commit)
        self._open.callback(event.remove, Session, "before_commit", self.doom.before_commit)
        self.client = app.test_client()
        log_in(self.client, self.office.advisor)
        self.put_on: set[tuple[int, int]] = set()  # (list, row), as the advisor put them on it
        self.sure_on: set[str] = set()
        self.sure_off: set[str] = set()
        self.steps = 0
        self._made = 0
        self._calls = 0
        self._main = threading.get_ident()

    def close(self) -> None:
        db.session.rollback()
        self._open.close()

    def use_persons(self, *, survivors_are_named: bool) -> None:
        """Make the org one of person accounts, and let the partner's checks find that out."""
        self.story.use_persons(survivors_are_named=survivors_are_named)
        run_checks(self.office.reload(self.office.connection).partner, self.office.workplace().access)
        db.session.rollback()

    # The advisor's acts

    def act(self, act: Act) -> None:
        """Carry the act out as a request would, in a session of its own."""
        self.doom.is_spared.now = True
        try:
            with self.app.app_context(), writing():
                getattr(self, f"_{act.verb}")(act)
        finally:
            self.doom.is_spared.now = False

    def _pick(self, act: Act, *conditions: object) -> Contact | None:
        mine = select(Contact).where(Contact.user_id == self.user_id, *conditions).order_by(Contact.id)  # type: ignore[arg-type]
        rows = db.session.scalars(mine).all()
        return rows[act.one % len(rows)] if rows else None

    def _touch(self, contact: Contact) -> None:
        self.story.touched |= {contact.salesforce_id or "", contact.email.lower()}

    def _hide(self, act: Act) -> None:
        contact = self._pick(act, Contact.source == "salesforce", func.coalesce(Contact.departed, "") != "no_email")
        if contact:
            self._touch(contact)
            removal.remove_contacts(self.user_id, [contact.id])

    def _restore(self, act: Act) -> None:
        contact = self._pick(act, Contact.hidden_at.is_not(None), func.coalesce(Contact.departed, "") != "no_email")
        if contact:
            self._touch(contact)
            removal.restore_contacts(self.user_id, [contact.id])

    def _details(self, act: Act) -> Details:
        self._made += 1
        return Details("Hand", f"Made {self._made}", POOL[act.two % len(POOL)].swapcase())

    def _add_manual(self, act: Act) -> None:
        advisor = db.session.get_one(User, self.user_id)
        vault = current_app.extensions["asapp.vault"]
        manual.add_contact(advisor, self._details(act), vault, keep_same_address=True)

    def _edit_manual(self, act: Act) -> None:
        contact = self._pick(act, Contact.source == "manual")
        if contact:
            advisor = db.session.get_one(User, self.user_id)
            vault = current_app.extensions["asapp.vault"]
            manual.edit_contact(advisor, contact, self._details(act), vault, keep_same_address=True)

    def _delete_manual(self, act: Act) -> None:
        contact = self._pick(act, Contact.source == "manual")
        if contact:
            row_id = contact.id
            removal.remove_contacts(self.user_id, [row_id])
            self.put_on = {(list_id, on_it) for list_id, on_it in self.put_on if on_it != row_id}

    def _make_list(self, act: Act) -> None:
        self._made += 1
        lists.create_list(self.user_id, f"List {self._made}")
        self._join(Act("join", act.one, self._made))

    def _own_list(self, number: int) -> ContactList | None:
        own = [each for each in lists.lists_of(self.user_id) if each.is_own]
        return own[number % len(own)] if own else None

    def _join(self, act: Act) -> None:
        contact = self._pick(act, func.coalesce(Contact.departed, "") != "no_email")
        own = self._own_list(act.two)
        if contact and own:
            self.put_on.add((own.id, contact.id))
            lists.add_members(own, [contact.id])

    def _leave(self, act: Act) -> None:
        own = self._own_list(act.two)
        if own is None:
            return
        list_id = own.id
        on_it = db.session.scalars(
            select(ListMember.contact_id).where(ListMember.list_id == list_id).order_by(ListMember.contact_id)
        ).all()
        if on_it:
            lists.remove_members(own, [on_it[act.one % len(on_it)]])
            members = {tuple(row) for row in db.session.execute(select(ListMember.list_id, ListMember.contact_id))}
            db.session.rollback()
            by_id = {row.salesforce_id: row.id for row in db.session.scalars(select(Contact))}
            sf_ids = {row_id: salesforce_id for salesforce_id, row_id in by_id.items()}
            for entry in sorted(self.put_on):
                holders = self.holders_of(entry[1], sf_ids, by_id)
                if entry[0] == list_id and not any((list_id, holder) in members for holder in holders):
                    self.put_on.discard(entry)

    def _approve(self, act: Act) -> None:
        connection = db.session.get_one(Connection, self.connection_id)
        if db.session.query(Departure).filter_by(connection_id=self.connection_id, state="held").first():
            departures.approve(connection, lambda ids: True)

    def _discard(self, act: Act) -> None:
        with suppress(departures.NotWaiting):
            departures.discard(db.session.get_one(Connection, self.connection_id))

    def _expect_sweep(self, act: Act) -> None:
        """Let a day pass on our clock."""
        db.session.get_one(Connection, self.connection_id).swept_at = utcnow() - timedelta(days=2)
        db.session.commit()

    def _doubt_opt_outs(self, act: Act) -> None:
        """Let a week without a good sync pass on our clock."""
        db.session.get_one(Connection, self.connection_id).opt_outs_known_until = utcnow() - timedelta(seconds=1)
        db.session.commit()
        self.sure_on.clear()

    # Runs

    def run(
        self,
        disturbances: Sequence[Disturbance] = (),
        faults: Sequence[Trouble] = (),
        die_at_commit: int | None = None,
    ) -> SyncRun:
        """Start a run, or go on with the active one; return it as it is afterwards."""
        db.session.rollback()
        with writing():
            active = runs.find_active_run(self.connection_id)
            if active is not None and not active.is_queued:
                self.office.let_lease_run_out(active)
            run_id = self.office.start().id
            db.session.commit()
        self._calls = 0
        waiting = list(disturbances)
        for fault in faults:
            self.org.trouble.add(fault.answer, kind=fault.kind, times=fault.times, after=fault.after)
        if self.rows_a_page < PAGE:
            self.org.trouble.add("short_page", by=PAGE - self.rows_a_page)
        self.doom.left = die_at_commit
        try:
            with writing():
                execute_run(run_id, self.workplace(waiting))
        except Died:
            pass
        finally:
            self.doom.reset()
            self.office.stopping = False
            self.org.trouble.clear()
            db.session.rollback()
            db.session.expire_all()
        self.story.observe()
        run = db.session.get_one(SyncRun, run_id)
        if run.is_complete and len(waiting) == len(disturbances):
            self.be_sure()
        return run

    def workplace(self, waiting: list[Disturbance]) -> JobContext:
        return JobContext(
            access=org_access(DisturbedAccess, disturb=lambda: self.before_call(waiting)),
            enqueue=lambda ids: True,
            default_interval_minutes=60,
            should_stop=lambda: self.office.stopping,
        )

    def before_call(self, waiting: list[Disturbance]) -> None:
        self._calls += 1
        if threading.get_ident() == self._main:
            assert not db.session().in_transaction(), "a transaction is open while Salesforce is asked"
        due = [each for each in waiting if each.at_call == self._calls]
        for each in due:
            waiting.remove(each)
            self.disturb(each.deed)

    def disturb(self, deed: Edit | Act | str) -> None:
        if isinstance(deed, Edit):
            self.story.carry_out(deed)
        elif isinstance(deed, Act):
            self.act(deed)
        elif deed == "die":
            self.doom.die()
        elif deed == "cancel":
            self.act(Act("cancel"))
        elif deed == "stop":
            self.office.stopping = True
        elif deed == "expire":
            self.org.expire_locators()
        elif deed == "expire_sessions":
            self.org.expire_sessions()
        elif deed == "wait":
            self.story.advance(50)
        elif deed == "wait_long":
            self.story.advance(400)

    def _cancel(self, act: Act) -> None:
        run = runs.find_active_run(self.connection_id)
        if run is not None:
            runs.request_cancel(run)

    def be_sure(self) -> None:
        """After an undisturbed run: until an edit has to do with them, who is active stays, and who opted out stays off."""
        if len(self.org.late):
            return
        held = self.read()
        records = self.story.records()
        self.story.touched.clear()
        self.sure_on.clear()
        self.sure_off.clear()
        for row in held.shown():
            record = records.get(row.salesforce_id or "")
            if record is None or self.story.look(record) != HERE:
                continue
            if record.is_opted_out and not row.is_active:
                self.sure_off.add(record.id)
            if not record.is_opted_out and row.is_active:
                self.sure_on.add(record.id)

    # Invariants

    def read(self) -> StoredState:
        return stored_state.read_state(self.connection_id, self.user_id)

    def check(self) -> None:
        """Check what must be true after every step."""
        held = self.read()
        self.check_people(held)
        self.check_lists(held)
        for run in db.session.scalars(select(SyncRun).where(SyncRun.connection_id == self.connection_id)):
            assert run.is_balanced, f"run {run.id} read {run.read} rows, and its classes don't add up"
            if run.finished_at is not None:
                assert run.status in (RunStatus.COMPLETE, RunStatus.HELD, RunStatus.FAILED, RunStatus.CANCELLED)
            if run.status in (RunStatus.COMPLETE, RunStatus.HELD):
                assert run.nominated == 0
        active = select(func.count()).select_from(SyncRun).where(SyncRun.status.in_(("queued", "running")))
        assert db.session.scalar(active) in (0, 1)
        db.session.rollback()

    def check_people(self, held: StoredState) -> None:
        past = self.story.past
        for i in held.ledger:
            assert past[i].was_mine, f"{i} is in the ledger and never was the user's"
        for i, row in held.by_salesforce_id.items():
            assert past[i].was_importable, f"{i} was stored and never was to be"
            if row.is_shell:
                assert row.fields == ("", "", "")
            else:
                assert row.fields in past[i].names, f"{i} is {row.fields}, which it never was"
        for i in self.sure_on - self.story.touched:
            row = held.by_salesforce_id[i]
            if row.address not in self.story.touched:
                assert row.is_active, f"{i} was switched off ({row.reason}) and nothing had happened to it"
        for i in self.sure_off - self.story.touched:
            assert not held.by_salesforce_id[i].is_active, f"{i} opted out and is active"

    def check_lists(self, held: StoredState) -> None:
        sf_ids = {row.id: row.salesforce_id for row in held.rows.values()}
        by_id: dict[str | None, int] = {i: row.id for i, row in held.by_salesforce_id.items()}
        explained = set()
        for list_id, row_id in self.put_on:
            holders = {(list_id, holder) for holder in self.holders_of(row_id, sf_ids, by_id)}
            assert holders & held.members, f"contact {row_id} was put on list {list_id}, and nobody is there for it"
            explained |= holders
        assert held.members <= explained, f"on a list without having been put there: {held.members - explained}"

    def holders_of(self, row_id: int, sf_ids: dict[int, str | None], by_id: dict[str | None, int]) -> set[int]:
        """Return the contact, and every contact that it was ever merged into."""
        holders = {row_id}
        chain = [sf_ids.get(row_id)]
        seen = set()
        while chain:
            salesforce_id = chain.pop()
            if salesforce_id is None or salesforce_id in seen:
                continue
            seen.add(salesforce_id)
            chain += self.story.past[salesforce_id].masters
            if salesforce_id in by_id:
                holders.add(by_id[salesforce_id])
        return holders

    def settle(self, *, discard: bool = False) -> None:
        """Let everything settle, run once more, and compare with the oracle."""
        self.end_active_run()
        self.story.advance(LATEST_COMMIT.total_seconds())
        if self.story.was_stampless:
            self.act(Act("expect_sweep"))
        before = self.read()
        run = self.run()
        assert run.is_complete or run.is_held, f"a quiet run is {run.status} ({run.error_code})"
        expected = ContactOracle(self.story, before, self.read()).is_hold_expected()
        assert expected is None or expected == run.is_held, f"held: {run.is_held}, expected: {expected}"
        if run.is_held:
            run = self.decide(discard=discard)
        after = stored_state.read_state(self.connection_id, self.user_id, self.export())
        assert set(after.departures.values()) <= {"discarded"}
        differences = ContactOracle(self.story, before, after).differences()
        assert not differences, "\n".join(differences)
        books = balance(self.office.connection)
        db.session.rollback()
        assert books is not None
        living = [r for r in self.story.records().values() if self.story.look(r) == HERE]
        assert books.in_salesforce == len(living)
        assert books.is_balanced, f"the books don't balance: {books}"
        self.story.was_stampless = False
        self.check()

    def decide(self, *, discard: bool) -> SyncRun:
        self.act(Act("discard" if discard else "approve"))
        run = self.run()
        assert run.is_complete, f"a run after the decision is {run.status} ({run.error_code})"
        return run

    def end_active_run(self) -> None:
        while runs.find_active_run(self.connection_id) is not None:
            self.run()

    def rest(self) -> None:
        """Settle, and see that a run after that costs one call, reads nothing and writes nothing."""
        self.settle()
        self.story.advance(16 * 60)
        self.run()  # far enough from the last change for its watermark
        self.story.advance(60)
        before = self.office.snapshot()
        run = self.run()
        if not self.read().departures:
            assert (run.api_calls, run.read) == (1, 0)
        assert self.office.snapshot() == before

    def export(self) -> str:
        return self.client.get("/contacts/export.csv").text


def forget_everything() -> None:
    """Empty the tables that a test fills; firms and users stay, and each test has its own."""
    for table in TABLES:
        db.session.execute(delete(table))
    db.session.execute(delete(Connection))
    db.session.commit()


__all__ = ["ACTS", "FAULTS", "FAULT_KINDS", "Act", "Disturbance", "Life", "Trouble"]
