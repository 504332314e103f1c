"""Deliver leads from the outbox to Salesforce, each person once.

A round takes up to 200 leads. It first looks for a Lead that an earlier attempt may have created (where the answer was
lost), then for a Contact and an open Lead of this owner with the address. People who are found are linked; the others
are created in one call. Before a create is sent, the attempt is recorded and committed. A later round that finds a
recorded attempt without an answer looks for the created Lead at growing intervals, and sends again only after
Salesforce's own limit for a call has passed. Creation times are compared by Salesforce's clock, never ours. No
transaction is open during a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Engine, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from asapp.connections import earlier_accounts
from asapp.connections.api_budget import A_ROUND, add_call, allowance_of, pause
from asapp.connections.org_access import OrgAccess
from asapp.contacts.lists import ensure_system_lists
from asapp.contacts.twins import lock_advisor
from asapp.core.clock import utcnow
from asapp.core.database import change_rows, durably
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.core.stopping import StopRequested
from asapp.leads import news, outbox, outcomes
from asapp.messages.codes import Code
from asapp.models import Connection, Contact, Lead, LeadState, LedgerEntry, LedgerOutcome, Partner, ToCheck, Unfollowed
from asapp.salesforce import errors
from asapp.salesforce.client import LEADS_A_CREATE, OrgClient
from asapp.salesforce.fields import find_named
from asapp.salesforce.records import Created, LeadRecord, NewLead

log = logging.getLogger(__name__)

T = TypeVar("T")
LOOK_BACK = timedelta(minutes=5)  # before the first attempt
# Salesforce ends a call after ten minutes. The other three minutes cover what may pass between the recorded time (that
# of the answer before the create) and the create itself: a first try that is answered with 401 (27 + 45 s), the wait
# for another process that refreshes the token (75 s), network time, and Salesforce's clock counting whole seconds.
LOST_AFTER = timedelta(minutes=13)
LEAD_RULES = frozenset(
    {
        Code.INSUFFICIENT_ACCESS,
        Code.CROSS_REFERENCE_HIDDEN,
        Code.OBJECT_HIDDEN,
        Code.FIELD_HIDDEN,
        Code.FIELD_NOT_WRITABLE,
    }
)
EMAIL = "Email"
OPT_OUT_HIDDEN = {"Contact": Code.OPT_OUT_HIDDEN, "Lead": Code.LEAD_OPT_OUT_HIDDEN}


class HasEmail(Protocol):
    @property
    def email(self) -> str: ...


R = TypeVar("R", bound=HasEmail)


@dataclass(frozen=True)
class PendingLead:
    """A lead of a round, as plain values: usable while no transaction is open."""

    lead_id: int
    email: str
    new: NewLead
    first_attempt_at: datetime | None
    unanswered_at: datetime | None
    was_tried_elsewhere: bool
    address_hash: bytes | None
    ran_assignment: bool | None  # whether assignment rules ran on its unanswered create
    was_checked: bool  # the advisor has looked since and did not find it

    @property
    def tried_since(self) -> datetime:
        """Return when the first create may have been carried out; only for a lead with an unanswered create."""
        tried = self.first_attempt_at or self.unanswered_at
        if tried is None:
            raise ValueError("nothing was tried")
        return tried

    @property
    def key(self) -> str:
        """Return the address in lower case, as Salesforce compares addresses without case."""
        return self.email.lower()


def deliver(connection_id: int, access: OrgAccess, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Deliver what is due for this connection's advisor; return how many leads were handled. Two may run at once."""
    outbox.begin_delivery(connection_id)
    connection = db.session.get(Connection, connection_id)
    if connection is None or not outbox.can_deliver(db.session(), connection_id):
        db.session.commit()
        return 0
    earlier_accounts.send_again(connection.user_id, connection.partner_id)
    delivery = LeadDelivery(connection, access, should_stop)
    worked_on, is_full = 0, True
    while is_full:  # a round with fewer took all that was due; leads that come later wait for the next delivery
        count = delivery.carry_round()
        worked_on, is_full = worked_on + count, count == LEADS_A_CREATE
    return worked_on


class LeadMeter:
    """Called before each call to Salesforce: stops a delivery that has to stop, renews the lease, counts the call.

    A round begins only if the share has calls left for all of it. A round keeps its token in memory, and a delivery may
    run for hours; so before each call the database is asked whether the account is still connected, the advisor active,
    and the firm enabled and not paused.
    """

    def __init__(self, engine: Engine, connection_id: int, partner_id: int, should_stop: Callable[[], bool]) -> None:
        self._engine = engine
        self._connection_id = connection_id
        self._partner_id = partner_id
        self._should_stop = should_stop
        self._needs = A_ROUND
        self.lease = ""

    def begin_round(self, lease: str) -> None:
        self.lease, self._needs = lease, A_ROUND

    def __call__(self) -> None:
        if self._should_stop():
            raise StopRequested
        with (
            durably(),
            Session(self._engine) as session,
        ):  # this also commits the recorded attempt
            if not outbox.renew(session, self.lease):
                raise LeaseLost
            if not outbox.can_deliver(session, self._connection_id):
                raise StopRequested
            now = utcnow()
            allowance_of(session, self._partner_id, now).check_leads(self._needs)
            add_call(session, self._partner_id, now, is_for_leads=True)
            session.commit()
        self._needs = 1


class LeadDelivery:
    client: OrgClient  # of the round

    def __init__(self, connection: Connection, access: OrgAccess, should_stop: Callable[[], bool]) -> None:
        partner = connection.partner
        self.connection_id = connection.id
        self.user_id = connection.user_id
        self.partner_id = partner.id
        self.salesforce_user_id = connection.salesforce_user_id
        self.keeps_leads = partner.keep_leads_with_advisor
        self.company, self.lead_source = partner.company_of_leads, partner.lead_source
        self.opt_out_fields = partner.opt_out_fields
        self.trusted = timedelta(days=partner.opt_outs_trusted_days)
        self.sees_opt_out = {"Contact": True, "Lead": True}
        self.encrypted: set[str] = set()  # objects that no query finds by address
        self.was_encrypted = connection.email_encrypted
        self.meter = LeadMeter(db.engine, connection.id, partner.id, should_stop)
        self.has_delayed_next = False
        self._access = access
        db.session.commit()

    @property
    def lease(self) -> str:
        return self.meter.lease

    def carry_round(self) -> int:
        """Take a round and deliver it; return how many leads it had, or 0 if there is nothing more to do now."""
        lease, leads = outbox.claim(self.user_id, self.partner_id, LEADS_A_CREATE)
        self.meter.begin_round(lease)
        pending = [self.pending_lead(lead) for lead in leads]
        db.session.commit()
        if not pending:
            return 0
        with self.ending() as round_:
            self.delay_next_delivery()
            connection = db.session.get_one(Connection, self.connection_id)
            with self._access.open(connection, self.meter) as self.client:
                self.carry(pending)
        return len(pending) if round_.went_well else 0

    def delay_next_delivery(self) -> None:
        """Move the next delivery on, once a delivery: its rounds are full, and cheap for each lead."""
        if not self.has_delayed_next:
            self.has_delayed_next = True
            outbox.delay_next(self.connection_id, allowance_of(db.session(), self.partner_id, utcnow()).leads_used)

    def pending_lead(self, lead: Lead) -> PendingLead:
        return PendingLead(
            lead.id,
            lead.email,
            NewLead(lead.first_name, lead.last_name, lead.email, self.company, self.lead_source),
            lead.first_attempt_at,
            lead.unanswered_at,
            lead.unanswered_at is not None and lead.connection_id != self.connection_id,
            lead.address_hash,
            lead.ran_assignment,
            lead.was_checked,
        )

    # ---- Steps of one round

    def carry(self, pending: list[PendingLead]) -> None:
        pending = self.set_aside_tried_elsewhere(pending)
        pending = self.settle_unanswered(pending)
        pending = self.link_to_contacts(pending)
        pending = self.link_to_leads(pending)
        pending = self.set_aside_out_of_sight(pending)
        self.create(pending)

    def set_aside_tried_elsewhere(self, pending: list[PendingLead]) -> list[PendingLead]:
        """Set aside leads whose lost answer came from another org or user: they can't be looked for from here."""
        return self.set_aside([p for p in pending if p.was_tried_elsewhere], ToCheck.TRIED_ELSEWHERE, pending)

    def settle_unanswered(self, pending: list[PendingLead]) -> list[PendingLead]:
        """Look for the leads that our unanswered creates may have made; return those that may be sent."""
        sought = [one for one in pending if one.unanswered_at]
        if not sought:
            return pending
        found = self.find_made(sought)
        first = first_by_email(sorted(found, key=lambda record: record.is_deleted))
        for lead in self.rows([one for one in sought if one.key in first]):
            outcomes.record_found(lead, first[lead.email.lower()], self.connection_id)
        self.store()
        answered_at = self.client.answered_at
        waiting = {
            one.lead_id: one.unanswered_at + LOST_AFTER - answered_at
            for one in sought
            if one.unanswered_at and one.key not in first and answered_at - one.unanswered_at < LOST_AFTER
        }
        for lead in self.rows([one for one in sought if one.lead_id in waiting]):
            wait = min(outbox.wait_of(lead.failures + 1), waiting[lead.id] + timedelta(seconds=1))
            outbox.put_off(lead, Code.NO_ANSWER, wait=wait)
        self.store()
        return [p for p in pending if p.lead_id not in waiting and not (p.unanswered_at and p.key in first)]

    def find_made(self, sought: Sequence[PendingLead]) -> list[LeadRecord]:
        since = min(one.tried_since for one in sought) - LOOK_BACK
        until = max(one.unanswered_at or one.tried_since for one in sought) + LOST_AFTER
        return self.ask(
            "Lead",
            lambda sees: self.client.find_leads_made_by(self.salesforce_user_id, emails_of(sought), since, sees),
            lambda sees: self.client.leads_made_between(self.salesforce_user_id, since, until, sees),
        )

    def link_to_contacts(self, pending: list[PendingLead]) -> list[PendingLead]:
        if not pending:
            return []
        found = self.ask(
            "Contact",
            lambda sees: self.client.find_contacts_with(self.salesforce_user_id, emails_of(pending), sees),
            lambda sees: self.client.contacts_among(self.salesforce_user_id, self.contacts_here(pending), sees),
        )
        match = first_by_email(
            sorted(found, key=lambda record: record.is_opted_out is False)
        )  # opted out in either query counts
        for lead in self.rows([one for one in pending if one.key in match]):
            outcomes.link_to_contact(lead, match[lead.email.lower()], self.connection_id)
        self.store()
        return [one for one in pending if one.key not in match]

    def link_to_leads(self, pending: list[PendingLead]) -> list[PendingLead]:
        if not pending:
            return []
        found = self.ask(
            "Lead",
            lambda sees: self.client.find_open_leads_with(self.salesforce_user_id, emails_of(pending), sees),
            lambda sees: self.client.newest_open_leads(self.salesforce_user_id, sees),
        )
        self.record_encryption()
        match = first_by_email(sorted(found, key=lambda record: record.is_opted_out is False))
        for lead in self.rows([one for one in pending if one.key in match]):
            outcomes.link_to_lead(lead, match[lead.email.lower()], self.connection_id)
        self.store()
        return [one for one in pending if one.key not in match]

    def set_aside_out_of_sight(self, pending: list[PendingLead]) -> list[PendingLead]:
        """Set aside unanswered leads that assignment rules may have given to a user whose leads we can't see.

        What counts is whether the rules ran on the attempt, not the firm's setting now. A flow of the firm's may also
        give away leads that are kept with the advisor. The create doesn't show that, but what became of earlier leads
        does.
        """
        unsure = [one for one in pending if one.unanswered_at and not one.was_checked]
        if unsure and not self.kept_leads_leave():
            unsure = [one for one in unsure if one.ran_assignment is not False]
        return self.set_aside(unsure, ToCheck.OUT_OF_SIGHT, pending)

    def kept_leads_leave(self) -> bool:
        """Has a lead that was sent with the advisor as owner later belonged to another user, or gone out of sight?"""
        left = select(Lead.id).where(
            Lead.connection_id == self.connection_id,
            Lead.salesforce_id.is_not(None),
            Lead.state == LeadState.SENT,
            Lead.ran_assignment.is_(False),
            or_(Lead.owner_id != self.salesforce_user_id, Lead.why.in_((Unfollowed.REASSIGNED, Unfollowed.GONE))),
        )
        found = db.session.scalar(left.limit(1)) is not None
        db.session.commit()
        return found

    def create(self, pending: list[PendingLead]) -> None:
        pending = self.mark_attempt(pending)
        if not pending:
            return
        try:
            results = self.client.create_leads([p.new for p in pending], runs_assignment=not self.keeps_leads)
        except errors.TryLater as error:
            if not error.is_ambiguous:
                self.unmark_attempt(pending)
            raise
        except (errors.SalesforceError, LeaseLost, StopRequested):
            self.unmark_attempt(pending)  # nothing was sent, or the whole call was refused
            raise
        self.store_results(dict(zip((one.lead_id for one in pending), results, strict=True)))

    def mark_attempt(self, pending: list[PendingLead]) -> list[PendingLead]:
        """Record that a create is about to be sent; return the leads that are still ours to send."""
        if not pending:
            return []
        answered_at = self.client.answered_at
        rows = self.rows(pending)
        for lead in rows:
            lead.state, lead.connection_id = LeadState.SENDING, self.connection_id
            lead.attempts += 1
            # Keep the earliest time by Salesforce's clock, which may have been set back since: the search starts there.
            lead.first_attempt_at = min(lead.first_attempt_at or answered_at, answered_at)
            lead.unanswered_at, lead.changed_at = answered_at, utcnow()
            lead.ran_assignment, lead.was_checked = not self.keeps_leads, False
        marked = {lead.id for lead in rows}
        self.store()
        return [one for one in pending if one.lead_id in marked]

    def unmark_attempt(self, pending: Sequence[PendingLead]) -> None:
        db.session.rollback()
        for lead in self.rows(pending):
            lead.state, lead.unanswered_at = LeadState.WAITING, None
        self.store()

    def store_results(self, results: dict[int, Created]) -> None:
        """Store the result for each lead. An Id counts even if the lease was lost in between: the lead exists."""
        lock_advisor(self.user_id)
        ensure_system_lists(self.user_id)
        leads = outbox.lock_all(results.keys())
        with outcomes.contacts_at_hand(leads):
            for lead in leads:
                self.store_result(lead, results[lead.id])
            db.session.commit()
        self.trust_opt_outs()

    def store_result(self, lead: Lead, made: Created) -> None:
        is_ours = lead.lease == self.lease
        if lead.is_erased:
            lead.salesforce_id = made.id  # the person was erased in between; the Id serves as tombstone
        elif made.id is not None:
            if lead.salesforce_id is None:
                outcomes.record_sent(lead, made.id, None, self.connection_id, lead.unanswered_at)
        elif is_ours and made.error is not None:
            lead.unanswered_at = None
            sort_out_and_tell(lead, made.error)

    def set_aside(self, chosen: list[PendingLead], why: str, pending: list[PendingLead]) -> list[PendingLead]:
        """Mark these for the advisor to check; return the others."""
        for lead in self.rows(chosen):
            lead.state, lead.why, lead.changed_at = LeadState.PLEASE_CHECK, why, utcnow()
            lead.end_lease()
        self.store()
        gone = {one.lead_id for one in chosen}
        return [one for one in pending if one.lead_id not in gone]

    # ---- Shared by the steps

    def ask(self, about: str, by_address: Callable[[bool], list[R]], otherwise: Callable[[bool], list[R]]) -> list[R]:
        """Query by address, or by the second query where addresses are encrypted; that one may return more records."""
        if about not in self.encrypted:
            try:
                return self.ask_for_opt_out(about, by_address)
            except errors.FieldEncrypted as error:
                if error.detail != EMAIL:
                    raise
            self.encrypted.add(about)
        return self.ask_for_opt_out(about, otherwise)

    def contacts_here(self, pending: Sequence[PendingLead]) -> list[str]:
        """Return the Ids of contacts with these addresses that syncs have read, found by the stored hashes."""
        hashes = [one.address_hash for one in pending if one.address_hash]
        here = select(Contact.salesforce_id).where(
            Contact.user_id == self.user_id,
            Contact.address_hash.in_(hashes),
            Contact.connection_id == self.connection_id,
        )
        opted_out = select(LedgerEntry.salesforce_id).where(
            LedgerEntry.connection_id == self.connection_id,
            LedgerEntry.address_hash.in_(hashes),
            LedgerEntry.outcome == LedgerOutcome.OPTED_OUT,
        )
        ids = {salesforce_id for query in (here, opted_out) for salesforce_id in db.session.scalars(query)}
        db.session.commit()
        return sorted(salesforce_id for salesforce_id in ids if salesforce_id)

    def record_encryption(self) -> None:
        """Record which objects are encrypted, so that the page can say what can't be checked."""
        is_encrypted = bool(self.encrypted)
        if is_encrypted != self.was_encrypted:
            self.was_encrypted = is_encrypted
            self.update_connection(email_encrypted=is_encrypted)

    def ask_for_opt_out(self, about: str, question: Callable[[bool], list[T]]) -> list[T]:
        """Query with the opt-out field, or without it if the user can't see it: leads are sent all the same."""
        try:
            return question(self.sees_opt_out[about])
        except errors.FieldHidden as error:
            if not self.sees_opt_out[about] or find_named(error.detail, self.opt_out_fields) is None:
                raise
        self.sees_opt_out[about] = False
        self.distrust_opt_outs(OPT_OUT_HIDDEN[about])
        return question(False)

    def rows(self, pending: Sequence[PendingLead]) -> list[Lead]:
        """Return the rows of these leads that are still ours, locked; a transaction is open from here to store()."""
        if not pending:
            return []
        lock_advisor(self.user_id)  # before leads and contacts, as the lock order has it
        return outbox.lock(self.lease, [one.lead_id for one in pending])

    def store(self) -> None:
        if db.session.dirty or db.session.new or db.session.deleted:
            ensure_system_lists(self.user_id)
        db.session.commit()

    def trust_opt_outs(self) -> None:
        """Treat a lead that was just created as not opted out; from then on syncs say so."""
        if self.sees_opt_out["Lead"]:
            is_first = Connection.leads_known_until.is_(None)
            self.update_connection(is_first, leads_known_until=utcnow() + self.trusted, leads_trouble=None)

    def distrust_opt_outs(self, trouble: str) -> None:
        self.update_connection(leads_known_until=utcnow(), leads_trouble=trouble)

    def update_connection(self, *conditions: ColumnElement[bool], **values: Any) -> None:
        statement = update(Connection).where(Connection.id == self.connection_id, *conditions).values(**values)
        change_rows(db.session, statement)
        db.session.commit()

    @contextmanager
    def ending(self) -> Iterator[RoundEnd]:
        """Leave no lead behind when a round ends in an error: those still under its lease wait, or are refused with a
        reason.

        If the process dies, the lease runs out.
        """
        end = RoundEnd()
        try:
            yield end
            end.went_well = True
            outbox.release(self.lease)
        except (LeaseLost, StopRequested):
            outbox.release(self.lease)
        except errors.LimitReached as error:
            self.end_all(error)
            self.wait_for_calls(error)
        except errors.OurBug as error:
            self.end_all(error)
            raise
        except errors.SalesforceError as error:
            self.end_all(error)
            log.warning("leads wait: %s", error, extra={"connection_id": self.connection_id})
        except OperationalError:  # the database was restarted, for example; if it stays away, the lease runs out
            with suppress(OperationalError):
                self.end_all(errors.TryLater(Code.DATABASE_AWAY))
            raise
        except Exception:
            self.end_all(errors.OurBug("our_bug"))
            raise

    def end_all(self, error: errors.SalesforceError) -> None:
        db.session.rollback()
        for lead in outbox.lock_round(self.lease):
            if is_about_leads(error):
                sort_out_and_tell(lead, error)
            else:
                outbox.put_off(lead, error.code, error.detail, outbox.NO_CALLS_WAIT if is_of_our_share(error) else None)
        db.session.commit()

    def wait_for_calls(self, error: errors.LimitReached) -> None:
        """Let leads wait while their part of the calls is used up; if the org accepts no calls at all, pause the whole
        firm."""
        if is_of_our_share(error):
            outbox.wait_for_calls(self.connection_id)
            return
        now = utcnow()
        partner = db.session.get_one(Partner, self.partner_id, populate_existing=True)
        pause(db.session(), partner, error, now)
        db.session.commit()


@dataclass
class RoundEnd:
    went_well: bool = False


def is_of_our_share(error: errors.SalesforceError) -> bool:
    """Is it our own limit that was reached? A sync that finds the share used up pauses the firm itself."""
    return isinstance(error, errors.LimitReached) and error.code in (Code.LEADS_SHARE_USED_UP, Code.SHARE_USED_UP)


def sort_out(lead: Lead, error: errors.SalesforceError) -> None:
    """Store what an error means for this lead: it waits if time or a fix for the whole firm helps, else it is
    refused."""
    is_set_up = isinstance(error, errors.Misconfigured) and not is_about_leads(error)
    if is_set_up or error.again not in (errors.Again.ON_RETRY, errors.Again.NEXT_RUN):
        outbox.put_off(lead, error.code, error.detail)
        return
    lead.state, lead.changed_at = LeadState.REFUSED, utcnow()
    lead.why, lead.why_detail = error.code, error.detail[:255] or None
    lead.why_words = error.words[:500] or None
    lead.end_lease()


def sort_out_and_tell(lead: Lead, error: errors.SalesforceError) -> None:
    """As sort_out(), and let the advisor be told of a refusal, in the caller's transaction."""
    sort_out(lead, error)
    if lead.state == LeadState.REFUSED:
        news.plan_mail(lead.user_id, lead.changed_at)


def is_about_leads(error: errors.SalesforceError) -> bool:
    """Is the cause one of the firm's rules for leads? Only then can the advisor act: ask the admin, then press Retry.

    Any other problem with the firm's set-up, or ours, is fixed without the advisor, and the leads are sent then.
    """
    return isinstance(error, errors.Misconfigured) and error.code in LEAD_RULES


def emails_of(pending: Sequence[PendingLead]) -> list[str]:
    return [one.email for one in pending]


def first_by_email(records: Sequence[R]) -> dict[str, R]:
    """Return {lower-case address: the first record with it}."""
    found: dict[str, R] = {}
    for record in records:
        found.setdefault(record.email.lower(), record)
    return found
