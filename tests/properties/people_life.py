"""An advisor's people for property tests: contacts and sign-ups, with deeds in the org and here between any two calls.

A deed is a verb and a few numbers that pick its record, so that Hypothesis can shrink a story. What people and the
advisor have asked for, and what the org has ever shown, is kept in Memory; the oracle (people_oracle.py) reads it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from flask import Flask, current_app
from sqlalchemy import func, select

from asapp.connections import connections
from asapp.contacts import manual, removal
from asapp.contacts.form_fields import Details
from asapp.contacts.status import contact_rows, is_active, is_shown, reason_of
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.leads import decisions
from asapp.models import Connection, Contact, Lead, SyncRun, User
from asapp.salesforce.oauth import Grant, Identity
from asapp.sync.execute import execute_run
from orgsim import Org, start
from tests.domain.test_leads_following import FollowingOffice
from tests.factories import org_access
from tests.signing_up import someone_signs_up
from tests.syncing import KEY, MeetingAccess

POOL = ("rose@pool.example", "ravi@pool.example", "zoe@pool.example")
# Addresses that no other record has until a deed changes one: scenes are about these people.
NEWCOMERS = tuple(f"{name}@new.example" for name in ("noor", "ivo", "ana", "lev", "mei", "tom", "una", "kai"))
NEWCOMER = 12  # a deed with this number or a higher one is about one of them
PAGE = 200
OPT_OUT = "HasOptedOutOfEmail"
MOST_ROUNDS = 8
HOUR = 3600  # much longer than a sync's overlap; only our own clock passes a whole day

IN_THE_ORG = (
    "add", "add", "add_opted_out", "add_to_colleague", "add_lead", "add_opted_out_lead", "opt_out", "opt_out",
    "opt_out_lead", "opt_out_lead", "opt_in", "opt_in_lead", "change_address", "change_address", "take_address_away",
    "change_address_of_lead", "merge", "merge_leads", "convert", "convert", "delete", "delete_lead", "undelete", "undelete_lead",
    "purge", "purge_lead", "give_away", "give_back", "give_lead_away", "give_lead_back", "hide", "hide_lead", "show", "wait",
)  # fmt: skip
HERE = (
    "sign_up", "sign_up", "sign_up", "delete_here", "delete_here", "delete_here", "restore", "erase", "erase", "add_by_hand",
    "hide_field", "hide_field_of_leads", "show_fields", "disconnect", "disconnect_and_remove", "disconnect_and_remove",
    "reconnect",
)  # fmt: skip
# What scenes do to the Lead that the user made with an address; only scenes do this, because they know of such a Lead.
TO_OUR_LEAD = ("delete_ours", "give_ours_away", "convert_ours", "opt_out_ours")
TROUBLES = ("reset_after", "server_unavailable", "reset", "truncated_json", "session_expired")
ORDINARY, AFTER_A_DAY, IN_TROUBLE = "ordinary", "after a day", "in trouble"


class Deed(NamedTuple):
    verb: str
    one: int = 0
    two: int = 0


class DeedAtCall(NamedTuple):
    """A deed before a run's, or a delivery's, n-th call to Salesforce, from 1 on."""

    at_call: int
    deed: Deed


class Sync(NamedTuple):
    kind: str = ORDINARY
    meanwhile: tuple[DeedAtCall, ...] = ()
    trouble: int = 0


class Deliver(NamedTuple):
    is_answer_lost: bool = False
    meanwhile: tuple[DeedAtCall, ...] = ()


class Quiet(NamedTuple):
    """No deeds until nothing changes any more; then everything is compared."""


Step = Deed | Sync | Deliver | Quiet


class OrgPerson(NamedTuple):
    """A Contact or Lead as the org stores it. address: in lower case, empty if there is none."""

    id: str
    is_lead: bool
    address: str
    is_opted_out: bool
    owner_id: str
    is_deleted: bool
    is_restricted: bool
    is_converted: bool
    became: str | None  # the Contact that a converted Lead is now, or the record that this one was merged into
    made_by: str


class PersonRow(NamedTuple):
    """A row of contacts, with asapp's state for it. created_at distinguishes rows that had the same id."""

    id: int
    created_at: datetime
    source: str
    salesforce_id: str | None
    email: str
    is_hidden: bool
    is_erased: bool
    is_shown: bool
    is_active: bool
    reason: str | None

    @property
    def address(self) -> str:
        return self.email.lower()

    @property
    def key(self) -> tuple[int, datetime]:
        return self.id, self.created_at


class SignUp(NamedTuple):
    """A row of leads."""

    id: int
    email: str
    state: str
    why: str | None
    salesforce_id: str | None
    linked_contact_id: str | None
    contact_id: int | None
    opted_out: bool
    is_deleted: bool

    @property
    def address(self) -> str:
        return self.email.lower()


class StoredPeople(NamedTuple):
    rows: dict[int, PersonRow]
    sign_ups: list[SignUp]


@dataclass
class Memory:
    """What people asked for and did, and what the org has ever shown."""

    addresses: dict[str, set[str]] = field(default_factory=dict)  # Id of a record -> every address that it had
    made: dict[str, str] = field(default_factory=dict)  # Id of a Lead that we made -> its address at first
    restricted: set[str] = field(default_factory=set)  # Ids of records that the user couldn't see for a while
    signed_up: set[str] = field(default_factory=set)  # and not erased since
    erased: dict[str, datetime] = field(default_factory=dict)  # address -> when; not those who signed up since
    erasures: dict[str, int] = field(default_factory=dict)  # address -> how often
    erased_beside: set[str] = field(default_factory=set)  # addresses of the erased that others had signed up with
    erased_ids: set[str] = field(default_factory=set)
    hidden_ids: dict[str, str] = field(default_factory=dict)  # Id of a record -> address; deleted here, not restored
    hidden_rows: set[tuple[int, datetime]] = field(default_factory=set)
    first_address: dict[tuple[int, datetime], str] = field(default_factory=dict)  # of each row


class PeopleLife:
    """One story's setting: an org, an advisor who is connected to it, and a memory."""

    def __init__(self, app: Flask, seed: int = 1) -> None:
        self.app = app
        self._open = ExitStack()
        self.running = self._open.enter_context(start(Org(name="Northgate Wealth", seed=seed)))
        self.org = self.running.org
        self.org.clock.freeze()
        self.office = FollowingOffice(self.running)
        self.org.change_settings(page_sizes=PAGE, session_minutes=10**7)
        self.user, self.colleague = self.office.user, self.office.colleague
        self.user_id, self.connection_id = self.office.advisor.id, self.office.connection.id
        self.memory = Memory()
        self.run_ids: list[int] = []
        self.excused: set[int] = set()  # runs that had a reason to fail
        self.is_field_hidden = False
        self._was_disturbed = False
        self._made = 0
        self._main = threading.get_ident()

    def close(self) -> None:
        """Disconnect: the next story's org has the same Id."""
        db.session.rollback()
        self.office.connection.status = "disconnected"
        db.session.commit()
        self._open.close()

    # Present state

    def records(self) -> dict[str, OrgPerson]:
        self.org.settle()
        found = {}
        for name in ("Contact", "Lead"):
            is_lead = name == "Lead"
            for row in self.org.store.records(self.org.schema[name]):
                found[row["Id"]] = OrgPerson(
                    row["Id"],
                    is_lead,
                    (row["Email"] or "").lower(),
                    bool(row[OPT_OUT]),
                    row["OwnerId"],
                    bool(row["IsDeleted"]),
                    bool(row["_restricted"]),
                    is_lead and bool(row["IsConverted"]),
                    (is_lead and row["ConvertedContactId"]) or row["MasterRecordId"],
                    row["CreatedById"],
                )
        return found

    def here(self) -> StoredPeople:
        db.session.rollback()
        now = utcnow()
        c, s = Contact, Lead
        people = contact_rows(
            c.id, c.created_at, c.source, c.salesforce_id, c.email, c.hidden_at.is_not(None), c.erased_at.is_not(None),
            is_shown(), is_active(now), reason_of(now),
        )  # fmt: skip
        rows = [PersonRow(*row) for row in db.session.execute(people.where(c.user_id == self.user_id).order_by(c.id))]
        leads = select(
            s.id, s.email, s.state, s.why, s.salesforce_id, s.linked_contact_id, s.contact_id, s.opted_out, s.is_deleted
        )
        sign_ups = [SignUp(*row) for row in db.session.execute(leads.where(s.user_id == self.user_id).order_by(s.id))]
        db.session.rollback()
        return StoredPeople({row.id: row for row in rows}, sign_ups)

    def observe(self) -> StoredPeople:
        """Record what can be seen now; call it after everything that may have changed something."""
        self.observe_org()
        memory, here = self.memory, self.here()
        for row in here.rows.values():
            memory.first_address.setdefault(row.key, row.address)
        for sign_up in here.sign_ups:
            if sign_up.salesforce_id and sign_up.address:
                memory.addresses.setdefault(sign_up.salesforce_id, set()).add(sign_up.address)
        return here

    @property
    def is_connected(self) -> bool:
        db.session.rollback()
        return not self.office.reload(self.office.connection).is_disconnected

    # Steps

    def take(self, step: Step) -> StoredPeople:
        """Carry out one step, and return the stored people after it."""
        match step:
            case Deed():
                self.carry_out(step)
            case Sync():
                self.carry_out(Deed("reconnect"))
                self.sync(step)
            case Deliver() if self.is_connected:
                self.deliver(step)
            case Quiet():
                self.come_to_rest()
        return self.observe()

    def carry_out(self, deed: Deed) -> None:
        """Carry the deed out as a request would, in a session of its own; a deed that fits no record does nothing."""
        refused = suppress(ValueError)  # by the org: a second conversion, say
        with self.app.app_context(), writing(), refused:
            getattr(self, f"_{deed.verb}")(deed)

    def sync(self, step: Sync) -> SyncRun:
        if step.kind == AFTER_A_DAY:
            self.org.clock.advance(HOUR)
            self.office.let_a_day_pass()
        if step.kind == IN_TROUBLE:
            self.org.trouble.add(TROUBLES[step.trouble % len(TROUBLES)], kind="data", times=1 + step.trouble % 4 * 2)
        self._was_disturbed = self.is_field_hidden or step.kind == IN_TROUBLE
        db.session.rollback()
        run_id = self.office.start().id
        db.session.commit()
        meet = self.meeting(list(step.meanwhile))
        access = org_access(MeetingAccess, between_pages=lambda: None, meet=meet)
        with writing():
            execute_run(run_id, dataclasses.replace(self.office.workplace(), access=access))
        self.org.trouble.clear()
        db.session.rollback()
        db.session.expire_all()
        run = db.session.get_one(SyncRun, run_id)
        if run.is_held:
            self.office.approve()
        self.run_ids.append(run_id)
        if self._was_disturbed:
            self.excused.add(run_id)
        return run

    def deliver(self, step: Deliver) -> None:
        if step.is_answer_lost:
            self.org.trouble.add("reset_after", method="POST", path="/composite/sobjects", times=1)
        self.office.make_due()
        meet = self.meeting(list(step.meanwhile))
        self.office.deliver(lambda number: meet())
        self.org.trouble.clear()

    def meeting(self, waiting: list[DeedAtCall]) -> Callable[[], None]:
        """Return a function that carries out the deeds that are due; it runs before each call of this thread to Salesforce."""
        calls = 0

        def meet() -> None:
            nonlocal calls
            calls += 1
            if threading.get_ident() != self._main:
                return
            for each in [each for each in waiting if each.at_call <= calls]:
                waiting.remove(each)
                self.carry_out(each.deed)
                self.observe_org()

        return meet

    def observe_org(self) -> None:
        for record in self.records().values():
            self.memory.addresses.setdefault(record.id, set()).add(record.address)
            if record.is_restricted:
                self.memory.restricted.add(record.id)
            if record.is_lead and record.made_by == self.user:
                self.memory.made.setdefault(record.id, record.address)

    def come_to_rest(self) -> None:
        """Show all fields, connect the advisor, and let syncs and deliveries go on until nothing changes."""
        self.carry_out(Deed("show_fields"))
        self.carry_out(Deed("reconnect"))
        for number in range(MOST_ROUNDS):
            before = self.here()
            self.office.let_pass(15 * 60)
            self.deliver(Deliver())
            self.sync(Sync(AFTER_A_DAY))
            if self.observe() == before and number:
                return
        raise AssertionError(f"after {MOST_ROUNDS} syncs something still changes")

    # Deeds in the org

    def _some(self, *, leads: bool, alive: bool = True) -> list[OrgPerson]:
        found = [r for r in sorted(self.records().values()) if r.is_lead == leads and r.is_deleted != alive]
        return [r for r in found if not (leads and alive and r.is_converted)]

    def _one(self, among: Sequence[OrgPerson], number: int) -> Sequence[OrgPerson]:
        return [among[number % len(among)]] if among else []

    def _name(self) -> str:
        self._made += 1
        return f"Person {self._made}"

    def _address(self, deed: Deed) -> str:
        if deed.two >= NEWCOMER:
            return NEWCOMERS[deed.two % len(NEWCOMERS)]
        return POOL[deed.two % len(POOL)]

    def _add(self, deed: Deed, owner: str | None = None, *, opted_out: bool = False) -> None:
        email = None if deed.one % 8 == 7 else self._address(deed)
        self.org.add_contact(owner or self.user, last_name=self._name(), email=email, opted_out=opted_out)

    def _add_opted_out(self, deed: Deed) -> None:
        self._add(deed, opted_out=True)

    def _add_to_colleague(self, deed: Deed) -> None:
        self._add(deed, self.colleague)

    def _add_lead(self, deed: Deed, *, opted_out: bool = False) -> None:
        """Add a lead made by the colleague, so that it can't be taken for one of ours."""
        made = self.org.add_lead(self.colleague, last_name=self._name(), email=self._address(deed), opted_out=opted_out)
        self.org.give(made, self.user)

    def _add_opted_out_lead(self, deed: Deed) -> None:
        self._add_lead(deed, opted_out=True)

    def _opt_out(self, deed: Deed) -> None:
        for record in self._one([r for r in self._some(leads=False) if not r.is_opted_out], deed.one):
            self.org.opt_out(record.id)

    def _opt_out_lead(self, deed: Deed) -> None:
        for record in self._one([r for r in self._some(leads=True) if not r.is_opted_out], deed.one):
            self.org.opt_out(record.id)

    def _opt_in(self, deed: Deed) -> None:
        for record in self._one([r for r in self._some(leads=False) if r.is_opted_out], deed.one):
            self.org.opt_in(record.id)

    def _opt_in_lead(self, deed: Deed) -> None:
        for record in self._one([r for r in self._some(leads=True) if r.is_opted_out], deed.one):
            self.org.opt_in(record.id)

    def _change_address(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=False), deed.one):
            self.org.update_contact(record.id, email=self._address(deed))

    def _take_address_away(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=False), deed.one):
            self.org.update_contact(record.id, email=None)

    def _change_address_of_lead(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=True), deed.one):
            self.org.update_lead(record.id, email=self._address(deed))

    def _merge(self, deed: Deed, *, leads: bool = False) -> None:
        among = self._some(leads=leads)
        if len(among) > 1:
            winner = among[deed.one % len(among)]
            losers = [r for r in among if r.id != winner.id]
            self.org.merge(winner.id, [losers[deed.two % len(losers)].id])

    def _merge_leads(self, deed: Deed) -> None:
        self._merge(deed, leads=True)

    def _convert(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=True), deed.one):
            self.org.convert_lead(record.id, owner_id=self.colleague if deed.two % 4 == 3 else self.user)

    def _ours(self, deed: Deed) -> list[OrgPerson]:
        """Return the open Leads with this address that the user made; usually one."""
        made = [r for r in self._some(leads=True) if r.made_by == self.user]
        return [r for r in made if r.address == self._address(deed)]

    def _delete_ours(self, deed: Deed) -> None:
        for record in self._ours(deed):
            self.org.delete(record.id)

    def _give_ours_away(self, deed: Deed) -> None:
        for record in self._ours(deed):
            self.org.give(record.id, self.colleague)

    def _convert_ours(self, deed: Deed) -> None:
        for record in self._ours(deed):
            self.org.convert_lead(record.id, owner_id=self.colleague if deed.one % 2 else self.user)

    def _opt_out_ours(self, deed: Deed) -> None:
        for record in self._ours(deed):
            self.org.opt_out(record.id)

    def _delete(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=False), deed.one):
            self.org.delete(record.id)

    def _delete_lead(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=True), deed.one):
            self.org.delete(record.id)

    def _undelete(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=False, alive=False), deed.one):
            self.org.undelete(record.id)

    def _undelete_lead(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=True, alive=False), deed.one):
            self.org.undelete(record.id)

    def _purge(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=False, alive=deed.two % 2 == 0), deed.one):
            self.org.purge(record.id)

    def _purge_lead(self, deed: Deed) -> None:
        for record in self._one(self._some(leads=True, alive=deed.two % 2 == 0), deed.one):
            self.org.purge(record.id)

    def _give(self, deed: Deed, to: str, *, leads: bool) -> None:
        for record in self._one([r for r in self._some(leads=leads) if r.owner_id != to], deed.one):
            self.org.give(record.id, to)

    def _give_away(self, deed: Deed) -> None:
        self._give(deed, self.colleague, leads=False)

    def _give_back(self, deed: Deed) -> None:
        self._give(deed, self.user, leads=False)

    def _give_lead_away(self, deed: Deed) -> None:
        self._give(deed, self.colleague, leads=True)

    def _give_lead_back(self, deed: Deed) -> None:
        self._give(deed, self.user, leads=True)

    def _hide(self, deed: Deed) -> None:
        for record in self._one([r for r in self._some(leads=False) if not r.is_restricted], deed.one):
            self.org.hide_contact(record.id)

    def _hide_lead(self, deed: Deed) -> None:
        for record in self._one([r for r in self._some(leads=True) if not r.is_restricted], deed.one):
            self.org.hide_contact(record.id)

    def _show(self, deed: Deed) -> None:
        for record in self._one([r for r in sorted(self.records().values()) if r.is_restricted], deed.one):
            self.org.show_contact(record.id)

    def _wait(self, deed: Deed) -> None:
        self.org.clock.advance((60, 14 * 60, HOUR)[deed.one % 3])

    def _hide_field(self, deed: Deed) -> None:
        self.is_field_hidden = self._was_disturbed = True
        self.org.hide_field("Contact", OPT_OUT)

    def _hide_field_of_leads(self, deed: Deed) -> None:
        self.org.hide_field("Lead", OPT_OUT)

    def _show_fields(self, deed: Deed) -> None:
        self.is_field_hidden = False
        for name in ("Contact", "Lead"):
            self.org.show_field(name, OPT_OUT)

    # Deeds here

    def _sign_up(self, deed: Deed) -> None:
        address = self._address(deed)
        email = address.upper() if deed.one % 3 == 2 else address
        was_deleted_here = self._is_deleted_here(address)
        lead = someone_signs_up(db.session.get_one(User, self.user_id), email, "Mei", self._name())
        if was_deleted_here and address not in self.memory.signed_up:
            contact = db.session.get_one(Contact, lead.contact_id)
            self.memory.hidden_rows.add((contact.id, contact.created_at))
        self.memory.signed_up.add(address)
        self.memory.erased.pop(address, None)

    def _is_deleted_here(self, address: str) -> bool:
        """Return whether a person with this address is deleted here, whose row still has it or went with a connection."""
        rows = db.session.scalars(select(Contact).where(Contact.user_id == self.user_id)).all()
        here = {row.salesforce_id for row in rows}
        of_rows = {row.email.lower() for row in rows if (row.id, row.created_at) in self.memory.hidden_rows}
        return address in of_rows | {at for i, at in self.memory.hidden_ids.items() if i not in here}

    def _pick(self, deed: Deed, *conditions: object) -> Contact | None:
        mine = select(Contact).where(Contact.user_id == self.user_id, is_shown(), *conditions).order_by(Contact.id)  # type: ignore[arg-type]
        rows = db.session.scalars(mine).all()
        return rows[deed.one % len(rows)] if rows else None

    def _delete_here(self, deed: Deed) -> None:
        contact = self._pick(deed)
        if contact is None:
            return
        if contact.source != "manual":
            self.memory.hidden_rows.add((contact.id, contact.created_at))
            if contact.salesforce_id:
                self.memory.hidden_ids[contact.salesforce_id] = contact.email.lower()
        removal.remove_contacts(self.user_id, [contact.id])

    def _restore(self, deed: Deed) -> None:
        contact = self._pick(deed, Contact.hidden_at.is_not(None))
        if contact is not None:
            self._forget_hiding(contact)
            removal.restore_contacts(self.user_id, [contact.id])

    def _forget_hiding(self, contact: Contact) -> None:
        """Forget that a restored or erased person was hidden; without a row of a record, the address identifies the person."""
        memory = self.memory
        memory.hidden_rows.discard((contact.id, contact.created_at))
        here = select(Contact.salesforce_id).where(Contact.user_id == self.user_id, Contact.id != contact.id)
        others = set(db.session.scalars(here))
        for i, address in list(memory.hidden_ids.items()):
            if i == contact.salesforce_id or (address == contact.email.lower() and i not in others):
                del memory.hidden_ids[i]

    def _erase(self, deed: Deed) -> None:
        contact = self._pick(deed, Contact.source != "manual")
        if contact is not None:
            self._erase_person(contact)

    def _erase_at(self, deed: Deed) -> None:
        """Erase a person whose row has this address."""
        contact = self._pick(deed, Contact.source != "manual", func.lower(Contact.email) == self._address(deed))
        if contact is not None:
            self._erase_person(contact)

    def _erase_person(self, contact: Contact) -> None:
        leads = db.session.scalars(
            select(Lead).where(Lead.user_id == self.user_id, Lead.contact_id == contact.id)
        ).all()
        self._forget_hiding(contact)
        memory = self.memory
        addresses = {who.email.lower() for who in (contact, *leads)} - {
            ""
        }  # a person who was erased before is still linked to it
        memory.signed_up -= {lead.email.lower() for lead in leads}
        memory.erased_beside |= addresses & memory.signed_up
        memory.erased_ids |= {who.salesforce_id or "" for who in (contact, *leads)}
        memory.erased_ids |= {lead.linked_contact_id or "" for lead in leads}
        decisions.erase(self.user_id, contact)
        for address in addresses:
            memory.erasures[address] = memory.erasures.get(address, 0) + 1
            if address not in memory.signed_up:
                memory.erased[address] = utcnow()

    def _add_by_hand(self, deed: Deed) -> None:
        advisor = db.session.get_one(User, self.user_id)
        vault = current_app.extensions["asapp.vault"]
        details = Details("By", self._name(), self._address(deed))
        manual.add_contact(advisor, details, vault, keep_same_address=True)

    def _end(self, *, keep: bool) -> None:
        connection = db.session.get_one(Connection, self.connection_id)
        if not connection.is_disconnected:
            self._was_disturbed = True
            connections.end_connection(connection, keep_contacts=keep)
            db.session.commit()

    def _disconnect(self, deed: Deed) -> None:
        self._end(keep=True)

    def _disconnect_and_remove(self, deed: Deed) -> None:
        self._end(keep=False)

    def _reconnect(self, deed: Deed) -> None:
        """Connect again as the same Salesforce user."""
        advisor = db.session.get_one(User, self.user_id)
        if connections.find_current(advisor) is not None:
            return
        tokens = self.org.issue_tokens(self.user, KEY)
        grant = Grant(
            tokens["access_token"],
            tokens["refresh_token"],
            self.running.url,
            self.org.id,
            self.user,
            "api id refresh_token",
        )
        who = Identity("amara@northgate.example", "Amara Okafor", "Northgate Wealth")
        connections.put_grant(advisor, advisor.partner_id or 0, grant, who, org_access())
        db.session.commit()
