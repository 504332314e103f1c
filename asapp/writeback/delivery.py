"""Deliver opt-outs from the outbox to Salesforce: Email Opt Out is set on the connected user's own records, never
cleared.

A round takes up to 200 records. It first looks them up by Id, which shows their present owner: a record whose field is set
already needs nothing, a merged or converted one is followed, one that is gone or another user's is left. The others are
updated in one call, independently of each other. Before an update is sent, the attempt is recorded and committed; if its
answer is lost, the next look-up shows whether it was carried out. No transaction is open during a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from asapp.connections.api_budget import add_call, allowance_of, pause
from asapp.connections.org_access import OrgAccess
from asapp.core.backoff import with_jitter
from asapp.core.clock import utcnow
from asapp.core.database import durably
from asapp.core.extensions import db
from asapp.core.leases import LeaseLost
from asapp.core.stopping import StopRequested
from asapp.messages.codes import Code
from asapp.models import (
    Connection,
    Contact,
    Lead,
    OptOutWrite,
    Partner,
    RunTrigger,
    Untold,
    WriteBackState,
    WrittenKind,
)
from asapp.salesforce import errors
from asapp.salesforce.client import RECORDS_AN_UPDATE, OrgClient
from asapp.salesforce.records import LeadRecord, OptOutTarget, Sighting
from asapp.writeback import outbox
from asapp.writeback.outbox import ClaimedRound, Found
from asapp.writeback.refusals import rule_for

log = logging.getLogger(__name__)

R = TypeVar("R")
OUR_SHARE = (Code.SHARE_USED_UP, Code.ORG_NEARLY_FULL)
NO_CALLS_WAIT = timedelta(minutes=15)  # then we check whether there are calls again; the check costs no call
# If a whole call fails, a row waits for a part of the time that it has been waiting already.
SHORTEST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
WAITS_FOR_ITS_AGE = 4  # one in so many


class Target(NamedTuple):
    """A record of a round, as plain values."""

    row_id: int
    kind: WrittenKind
    salesforce_id: str
    was_sent: bool  # an update of it was, or may have been, sent

    @property
    def is_new(self) -> bool:
        return not self.was_sent


def deliver(connection_id: int, access: OrgAccess, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Update the due records of this connection; return how many were handled. Two may run at once."""
    connection = db.session.get(Connection, connection_id)
    if connection is None or not outbox.can_deliver(db.session(), connection_id):
        db.session.commit()
        return 0
    delivery = OptOutDelivery(connection, access, should_stop)
    worked_on = 0
    while count := delivery.carry_round():
        worked_on += count
    return worked_on


class OptOutMeter:
    """Called before each call: stops a delivery that has to stop, renews the lease, counts the call against the firm's
    share.

    No person waits for these calls, so they stop where scheduled syncs do.
    """

    def __init__(self, engine: Engine, connection_id: int, partner_id: int, should_stop: Callable[[], bool]) -> None:
        self._engine = engine
        self._connection_id = connection_id
        self._partner_id = partner_id
        self._should_stop = should_stop
        self.round = ClaimedRound(connection_id, "")

    def __call__(self) -> None:
        if self._should_stop():
            raise StopRequested
        with durably(), Session(self._engine) as session:
            if not outbox.renew(session, self.round):
                raise LeaseLost
            if not outbox.can_deliver(session, self._connection_id):
                raise StopRequested
            now = utcnow()
            allowance_of(session, self._partner_id, now).check(RunTrigger.SCHEDULED)
            add_call(session, self._partner_id, now)
            session.commit()


class OptOutDelivery:
    client: OrgClient  # of the round

    def __init__(self, connection: Connection, access: OrgAccess, should_stop: Callable[[], bool]) -> None:
        self.connection_id = connection.id
        self.user_id = connection.user_id
        self.partner_id = connection.partner_id
        self.salesforce_user_id = connection.salesforce_user_id
        self.meter = OptOutMeter(db.engine, connection.id, connection.partner_id, should_stop)
        self._access = access
        db.session.commit()

    @property
    def round(self) -> ClaimedRound:
        return self.meter.round

    def carry_round(self) -> int:
        """Take a round and deliver it; return how many records it had, or 0 if there is nothing more to do now."""
        self.meter.round, rows = outbox.claim(self.connection_id, RECORDS_AN_UPDATE)
        targets = [Target(row.id, WrittenKind(row.kind), row.salesforce_id, was_sent=row.attempts > 0) for row in rows]
        db.session.commit()
        if not targets:
            return 0
        went_well = False
        with self.ending():
            connection = db.session.get_one(Connection, self.connection_id)
            with self._access.open(connection, self.meter) as self.client:
                self.carry(targets)
            went_well = True
        return len(targets) if went_well else 0

    def carry(self, targets: list[Target]) -> None:
        self.search([target for target in targets if target.kind == WrittenKind.ADDRESS])
        leads = [target for target in targets if target.kind == WrittenKind.LEAD]
        contacts = [target for target in targets if target.kind in (WrittenKind.CONTACT, WrittenKind.ACCOUNT)]
        self.add_more_leads([target for target in (*contacts, *leads) if target.is_new])
        to_tell = self.judge(contacts, self.client.fetch_sightings, self.sort_contact)
        to_tell += self.judge(leads, self.client.leads_by_id, self.sort_lead)
        self.tell(self.mark_attempt(to_tell))

    # ---- Looking

    def judge(
        self,
        targets: list[Target],
        look: Callable[[Sequence[str]], Mapping[str, R]],
        sort: Callable[[OptOutWrite, R | None], bool],
    ) -> list[Target]:
        """Look up these records; settle those that need no update, and return the others.

        If the user can't see these records or their opt-out at all, they wait, and records of the other kind go on.
        """
        if not targets:
            return []
        try:
            seen = look([target.salesforce_id for target in targets])
        except errors.Misconfigured as error:
            for row in self.rows(targets):
                settle_refused(row, error)
            db.session.commit()
            return []
        to_tell = {row.id for row in self.rows(targets) if sort(row, seen.get(row.salesforce_id))}
        db.session.commit()
        return [target for target in targets if target.row_id in to_tell]

    def sort_contact(self, row: OptOutWrite, seen: Sighting | None) -> bool:
        """Settle a contact that needs no update; return whether it needs one."""
        if seen is not None and not seen.is_readable:
            outbox.put_off(row, Untold.NO_ANSWER, with_jitter(LONGEST_WAIT))
            return False
        if seen is None:
            outbox.end(row, WriteBackState.GONE, Untold.NOT_VISIBLE)
            return False
        return self.sort_seen(row, WrittenKind.CONTACT, seen)

    def sort_lead(self, row: OptOutWrite, seen: LeadRecord | None) -> bool:
        """Settle a lead that needs no update; return whether it needs one."""
        if seen is None:
            outbox.end(row, WriteBackState.GONE, Untold.NOT_VISIBLE)
        elif seen.is_converted and seen.converted_contact_id:
            outbox.follow(row, WrittenKind.CONTACT, seen.converted_contact_id, Untold.CONVERTED)
        elif seen.is_converted:
            outbox.end(row, WriteBackState.GONE, Untold.CONVERTED)
        else:
            return self.sort_seen(row, WrittenKind.LEAD, seen)
        return False

    def sort_seen(self, row: OptOutWrite, kind: WrittenKind, seen: Sighting | LeadRecord) -> bool:
        if seen.is_deleted and seen.master_record_id:
            outbox.follow(row, kind, seen.master_record_id, Untold.MERGED)
        elif seen.is_deleted:
            outbox.end(row, WriteBackState.GONE, Untold.DELETED)
        elif seen.owner_id != self.salesforce_user_id:
            outbox.end(row, WriteBackState.GONE, Untold.REASSIGNED)
        elif seen.is_field_set:
            outbox.end(row, WriteBackState.TOLD if row.attempts else WriteBackState.TRUE_ALREADY)
        else:
            return True
        return False

    def search(self, targets: list[Target]) -> None:
        """Look for leads with addresses that no record of the account has. Where leads can't be seen, it waits."""
        if not targets:
            return
        ids = [int(target.salesforce_id) for target in targets]
        query = select(Contact.email).where(Contact.id.in_(ids), Contact.user_id == self.user_id, Contact.email != "")
        emails = sorted({email.lower() for email in db.session.scalars(query)})
        db.session.commit()
        try:
            self.add_leads_with(emails)
        except errors.Misconfigured as error:
            for row in self.rows(targets):
                settle_refused(row, error)
        else:
            for row in self.rows(targets):
                db.session.delete(row)
        db.session.commit()

    def add_more_leads(self, targets: list[Target]) -> None:
        """Add the user's other open leads with these records' addresses to the outbox; they are updated in the next round."""
        with suppress(errors.Misconfigured):  # leads can't be seen; what is known of them says so itself
            self.add_leads_with(self.emails_of(targets))
        db.session.commit()

    def add_leads_with(self, emails: Sequence[str]) -> None:
        """Write down the user's open leads with these addresses, in the caller's transaction."""
        if not emails:
            return
        found = self.client.find_open_leads_with(self.salesforce_user_id, emails, sees_opt_out=True)
        new = {
            Found(self.connection_id, self.user_id, lead.id, WrittenKind.LEAD.value)
            for lead in found
            if not lead.is_field_set and lead.owner_id == self.salesforce_user_id
        }
        outbox.put_in(new - self.known(new))

    def emails_of(self, targets: Collection[Target]) -> list[str]:
        ids = [target.salesforce_id for target in targets]
        of_contacts = select(Contact.email).where(
            Contact.connection_id == self.connection_id, Contact.salesforce_id.in_(ids), Contact.email != ""
        )
        of_leads = select(Lead.email).where(
            Lead.connection_id == self.connection_id, Lead.salesforce_id.in_(ids), Lead.email != ""
        )
        emails = {email.lower() for query in (of_contacts, of_leads) for email in db.session.scalars(query)}
        db.session.commit()
        return sorted(emails)

    def known(self, found: Collection[Found]) -> set[Found]:
        """Return those of these records that have a row."""
        ids = [each.salesforce_id for each in found]
        query = select(OptOutWrite.salesforce_id).where(
            OptOutWrite.connection_id == self.connection_id, OptOutWrite.salesforce_id.in_(ids)
        )
        known = set(db.session.scalars(query))
        return {each for each in found if each.salesforce_id in known}

    # ---- Telling

    def mark_attempt(self, targets: list[Target]) -> list[Target]:
        """Record that an update is about to be sent; return the records that are still ours to update."""
        rows = self.rows(targets)
        for row in rows:
            row.attempts += 1
        marked = {row.id for row in rows}
        db.session.commit()
        return [target for target in targets if target.row_id in marked]

    def tell(self, targets: list[Target]) -> None:
        if not targets:
            return
        kinds = {WrittenKind.LEAD: WrittenKind.LEAD}
        asked = [OptOutTarget(kinds.get(each.kind, WrittenKind.CONTACT).value, each.salesforce_id) for each in targets]
        refusals = dict(zip((target.row_id for target in targets), self.client.set_opt_outs(asked), strict=True))
        through_account = {row_id for row_id, error in refusals.items() if error and error.code == Code.PERSON_ACCOUNT}
        for row in self.rows(targets):
            if row.id not in through_account:
                settle(row, refusals[row.id])
        db.session.commit()
        for target in targets:
            if target.row_id in through_account:
                self.tell_through_account(target)

    def tell_through_account(self, target: Target) -> None:
        """Update a contact that can't be changed itself through its person account."""
        refusal: errors.SalesforceError | None = None
        try:
            account_id = self.client.find_account_of(target.salesforce_id)
            if account_id is None:
                refusal = errors.Rejected(Code.PERSON_ACCOUNT)
            else:
                self.client.set_person_opt_out(account_id)
        except (errors.Rejected, errors.Misconfigured) as error:
            refusal = error
        for row in self.rows([target]):
            row.kind = WrittenKind.ACCOUNT
            settle(row, refusal)
        db.session.commit()

    def rows(self, targets: Sequence[Target]) -> list[OptOutWrite]:
        """Return the rows of these records that are still ours, locked; a transaction is open until the next commit."""
        return outbox.lock(self.round, [target.row_id for target in targets]) if targets else []

    # ---- The end of a round

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Leave no row behind under this round's lease when it ends. If the process dies, the lease runs out."""
        try:
            yield
            outbox.release(self.round)
        except (LeaseLost, StopRequested):
            outbox.release(self.round)
        except errors.LimitReached as error:
            self.put_off_all(error)
            self.pause_firm(error)
        except errors.OurBug as error:
            self.put_off_all(error)
            raise
        except errors.SalesforceError as error:
            self.put_off_all(error)
            log.warning("opt-outs wait: %s", error, extra={"connection_id": self.connection_id})
        except OperationalError:  # the database was restarted, for example; if it stays away, the lease runs out
            with suppress(OperationalError):
                self.put_off_all(errors.TryLater(Code.DATABASE_AWAY))
            raise
        except Exception:
            self.put_off_all(errors.OurBug(Code.OUR_BUG))
            raise

    def put_off_all(self, error: errors.SalesforceError) -> None:
        db.session.rollback()
        rule, now = rule_for(error), utcnow()
        for row in outbox.lock_round(self.round):
            age = (now - row.created_at) / WAITS_FOR_ITS_AGE
            wait = min(max(age, SHORTEST_WAIT), LONGEST_WAIT)
            if isinstance(error, errors.Misconfigured | errors.OurBug):
                wait = rule.waits[-1] if rule.waits else LONGEST_WAIT
            elif error.code in OUR_SHARE:
                wait = NO_CALLS_WAIT
            outbox.put_off(row, rule.why, with_jitter(wait))
        db.session.commit()

    def pause_firm(self, error: errors.LimitReached) -> None:
        """Pause the firm if the org takes no calls; a sync that finds our share used up pauses it itself."""
        if error.code in OUR_SHARE:
            return
        partner = db.session.get_one(Partner, self.partner_id, populate_existing=True)
        pause(db.session(), partner, error, utcnow())
        db.session.commit()


def settle(row: OptOutWrite, refusal: errors.SalesforceError | None) -> None:
    """Store the result of an update, in the caller's transaction."""
    if refusal is None:
        outbox.end(row, WriteBackState.TOLD)
    else:
        settle_refused(row, refusal)


def settle_refused(row: OptOutWrite, error: errors.SalesforceError) -> None:
    """Let a row wait, or end, as the table of refusals says."""
    rule, words = rule_for(error), ""
    if rule.why == Untold.FIRMS_RULE:
        words = error.words or error.detail
    elif rule.why in (Untold.FIRMS_CODE, Untold.UNKNOWN_REFUSAL):
        words = error.words
    wait = rule.wait_after(row.attempts)
    if wait is None:
        outbox.end(row, rule.then, rule.why, words)
    else:
        outbox.put_off(row, rule.why, with_jitter(wait), words)
