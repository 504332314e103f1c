"""What has to hold when all is quiet again. Everything is compared with the orgs' own stores.

What sharing hides and shows moves no stamp: only counts tell it, and where one record went as another came, only the sweep of
the day. So the campaign judges more than once: before the sweep without the records that sharing has moved, after it all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import redis
from flask import Flask
from sqlalchemy import func, select

from asapp.contacts.status import contact_rows, is_shown, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.core.queues import LEADS_QUEUE, MAILS_QUEUE, SYNC_QUEUE
from asapp.models import Connection, Contact, Lead, LedgerEntry, OptOutWrite, SyncRun
from asapp.models.lead import IN_SALESFORCE, LeadState
from asapp.panel import balance as books
from devtools.chaos.house import ChaosHouse
from devtools.chaos.mail_memory import MailMemory, key_of
from devtools.chaos.mail_verdict import address_of, opted_out
from devtools.chaos.people import Advisor, SignedUp

SHOWN = 5  # of each kind of trouble


@dataclass(frozen=True)
class Facts:
    """What was checked, in numbers."""

    runs: Counter[str]
    contacts: int
    active: int
    leads: int
    signed_up: int


@dataclass(frozen=True)
class Sharing:
    """The Ids of records that a rule of sharing has hidden, ever and now. Without any the verdict is strict."""

    ever: frozenset[str] = frozenset()
    now: frozenset[str] = frozenset()


def judge(
    app: Flask,
    house: ChaosHouse,
    advisors: Sequence[Advisor],
    signed_up: Sequence[SignedUp],
    memory: MailMemory,
    sharing: Sharing,
) -> tuple[Facts, list[str]]:
    """Return figures, and a line for everything that doesn't hold. sharing: what only a sweep can be sure of."""
    wrong: list[str] = []
    with app.app_context():
        wrong += runs_wrong()
        wrong += leases_wrong()
        for advisor in advisors:
            connection = db.session.scalars(select(Connection).where(Connection.user_id == advisor.user_id)).one()
            lines = [*connection_wrong(connection), *contacts_wrong(connection, advisor, memory, sharing)]
            wrong += [f"{advisor.email}: {line}" for line in lines]
            db.session.commit()
        wrong += leads_wrong(advisors, signed_up)
        facts = Facts(
            runs=Counter(db.session.scalars(select(SyncRun.status))),
            contacts=db.session.scalar(select(func.count()).select_from(Contact).where(is_shown())) or 0,
            active=sum(1 for reason in db.session.execute(contact_rows(reason_of(utcnow()))) if reason[0] is None),
            leads=db.session.scalar(select(func.count()).select_from(Lead)) or 0,
            signed_up=len(signed_up),
        )
        db.session.remove()
        db.engine.dispose()
    wrong += jobs_left(house)
    return facts, wrong


def runs_wrong() -> Iterator[str]:
    for run in db.session.scalars(select(SyncRun)):
        if run.is_active:
            yield f"run {run.id} is still {run.status}"
        if not run.is_balanced:
            yield f"run {run.id} ({run.status}) has read {run.read} rows, and its classes don't add up to them"
        if run.is_failed and not run.error_code:
            yield f"run {run.id} failed without a reason"
        if run.error_code == "our_bug":
            yield f"run {run.id} failed on a bug of ours"
        if not run.is_active and run.finished_at is None:
            yield f"run {run.id} ended at no time"


def leases_wrong() -> Iterator[str]:
    leases = (SyncRun.lease, Lead.lease, Connection.token_lease, OptOutWrite.lease)
    for table, column in zip((SyncRun, Lead, Connection, OptOutWrite), leases, strict=True):
        left = db.session.scalar(select(func.count()).select_from(table).where(column.is_not(None)))
        if left:
            yield f"{left} {table.__tablename__} still have a lease"


def connection_wrong(connection: Connection) -> Iterator[str]:
    if not connection.is_connected:
        yield f"is {connection.status} ({connection.status_reason})"
    balance = books.balance(connection)
    if balance is None:
        yield "was never synced"
    elif not balance.is_balanced:
        yield f"the balance is wrong: {balance}"


def contacts_wrong(connection: Connection, advisor: Advisor, memory: MailMemory, sharing: Sharing) -> list[str]:
    """Compare every contact here with the org's own, field by field, and the other way round."""
    records = {row["Id"]: row for row in advisor.org.get("contacts", deleted=1)}
    theirs = {
        salesforce_id: row
        for salesforce_id, row in records.items()
        if row["OwnerId"] == connection.salesforce_user_id and not row["IsDeleted"]
    }
    ledger = set(
        db.session.scalars(select(LedgerEntry.salesforce_id).where(LedgerEntry.connection_id == connection.id))
    )
    unsure = with_their_twins(records, sharing.ever | unnoticed(set(theirs), ledger, sharing))
    sure = {salesforce_id: row for salesforce_id, row in theirs.items() if salesforce_id not in unsure}
    here = {salesforce_id: found for salesforce_id, found in here_of(connection).items() if salesforce_id not in unsure}
    stops = Stops(advisor, memory)
    wrong = [*missing_or_different(sure, here, stops), *too_many(records, sure, here)]
    if not unsure and connection.salesforce_count != len(theirs):
        wrong.append(f"{connection.salesforce_count} contacts in the balance, {len(theirs)} in the org")
    wrong += [f"{each} is missing in the ledger: {theirs[each]}" for each in set(sure) - ledger]
    wrong += [f"{each} should not be in the ledger: {records.get(each)}" for each in ledger - set(sure) - unsure]
    return [*wrong[:SHOWN], *([f"and {len(wrong) - SHOWN} more like that"] if len(wrong) > SHOWN else [])]


def unnoticed(theirs: set[str], ledger: set[str], sharing: Sharing) -> set[str]:
    """Return those that left while as many came back by sharing: the count is the same, and no row says it."""
    visible = theirs - sharing.now
    came_back = visible - ledger
    if len(ledger) != len(visible) or not came_back <= sharing.ever:
        return set()
    return ledger - theirs


def with_their_twins(records: dict[str, Any], unsure: Set[str]) -> Set[str]:
    """Add those who share an address with one of these."""
    addresses = {address_of(records[each]) for each in unsure if each in records} - {""}
    return unsure | {each for each, row in records.items() if address_of(row) in addresses}


def here_of(connection: Connection) -> dict[str, Any]:
    """Return {Salesforce Id: (first name, last name, e-mail, reason or None)} of the contacts that pages show."""
    rows = db.session.execute(
        contact_rows(Contact.salesforce_id, Contact.first_name, Contact.last_name, Contact.email, reason_of(utcnow()))
        .where(Contact.connection_id == connection.id, is_shown())
        .order_by(Contact.id)
    ).all()
    found = {row[0]: tuple(row[1:]) for row in rows}
    if len(found) != len(rows):
        raise AssertionError("a contact is here twice")
    return found


class Stops:
    """What may be told of an advisor's contacts beside their own opt-out: what people said, and leads that have opted out."""

    def __init__(self, advisor: Advisor, memory: MailMemory) -> None:
        leads = advisor.org.get("leads", owner_id=advisor.salesforce_user)
        self.of_leads = {*opted_out(row for row in leads if not row["IsConverted"]).values()}
        self._advisor, self._memory = advisor, memory

    def reasons(self, email: str, otherwise: str | None) -> set[str | None]:
        """Return the reasons that a contact with this address may tell. otherwise: where no stop holds."""
        told = self._memory.reasons(key_of(self._advisor.number, email))
        return {otherwise if reason is None else reason for reason in told}


def missing_or_different(theirs: dict[str, Any], here: dict[str, Any], stops: Stops) -> Iterator[str]:
    out = {*opted_out(theirs.values()).values(), *stops.of_leads}
    for salesforce_id, row in theirs.items():
        found = here.get(salesforce_id)
        if row["HasOptedOutOfEmail"]:
            if found is not None and found[3] not in stops.reasons(address_of(row), "opted_out"):
                yield f"{salesforce_id} has opted out and is {found[3] or 'active'} here"
        elif not row["Email"]:
            if found is not None:
                yield f"{salesforce_id} has no address and is shown here"
        elif found is None:
            yield f"{salesforce_id} is missing"
        else:
            expected = (row["FirstName"] or "", row["LastName"] or "", row["Email"])
            if tuple(value or "" for value in found[:3]) != expected:
                yield f"{salesforce_id} has other values here"
            reasons = stops.reasons(address_of(row), "twin_opted_out" if address_of(row) in out else None)
            if found[3] not in reasons:
                told = " or ".join(sorted(reason or "active" for reason in reasons))
                yield f"{salesforce_id} is {found[3] or 'active'} here instead of {told}"


def too_many(records: dict[str, Any], theirs: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    for salesforce_id, found in here.items():
        if salesforce_id not in theirs and found[3] not in reasons_of(records.get(salesforce_id)):
            yield f"{salesforce_id} is not theirs any more and is {found[3] or 'active'} here"


def reasons_of(row: Any) -> set[str]:
    """Return why a contact that isn't the user's any more may be inactive: what happened later may not have been seen."""
    if row is None:  # purged
        return {"gone", "deleted", "merged", "reassigned"}
    reasons = {"reassigned", "gone"}  # gone: it was hidden when it went to another user
    if row["IsDeleted"]:
        reasons |= {"merged", "deleted"} if row["MasterRecordId"] else {"deleted"}
    return reasons


def leads_wrong(advisors: Sequence[Advisor], signed_up: Sequence[SignedUp]) -> list[str]:
    """Every sign-up is one person, and in Salesforce once: as a Lead that we made, or as a record that was there."""
    wrong: list[str] = []
    for advisor in advisors:
        people = {one.email.lower() for one in signed_up if one.advisor is advisor}
        rows = db.session.scalars(select(Lead).where(Lead.user_id == advisor.user_id)).all()
        here = Counter(lead.email.lower() for lead in rows)
        in_org: dict[str, list[str]] = {}
        for row in advisor.org.get("leads", owner_id=advisor.salesforce_user, deleted=1):
            in_org.setdefault(str(row["Email"]).lower(), []).append(f"{row['Id']} of {row['CreatedDate']}")
        made = {lead.email.lower() for lead in rows if lead.state == LeadState.SENT}
        wrong += [f"{advisor.email}: a sign-up is lost" for email in people if not here[email]]
        wrong += [f"{advisor.email}: a sign-up is here {count} times" for count in here.values() if count > 1]
        wrong += [f"{advisor.email}: a lead is {x.state} ({x.why})" for x in rows if x.state not in IN_SALESFORCE]
        wrong += [
            f"{advisor.email}: a lead is {len(each)} times in Salesforce" for each in in_org.values() if len(each) > 1
        ]
        wrong += [f"{advisor.email}: a lead that was sent isn't in Salesforce" for email in made if email not in in_org]
        wrong += [
            f"{advisor.email}: Salesforce has a lead that no one sent ({story_of(email, rows, in_org)})"
            for email in in_org
            if email not in made
        ]
    return wrong


def story_of(email: str, rows: Sequence[Lead], in_org: dict[str, list[str]]) -> str:
    """Return what is known of this person's lead here and in Salesforce."""
    told = ("state", "attempts", "failures", "first_attempt_at", "unanswered_at", "delivered_at", "salesforce_id")
    here = [{name: str(getattr(lead, name)) for name in told} for lead in rows if lead.email.lower() == email]
    return f"here {here}, there {in_org[email]}"


def jobs_left(house: ChaosHouse) -> Iterator[str]:
    """A tick may be on its way, and nothing else."""
    with redis.Redis.from_url(house.redis.url, decode_responses=True) as client:
        for name in (LEADS_QUEUE, MAILS_QUEUE, SYNC_QUEUE):
            if count := client.llen(f"rq:queue:{name}"):
                yield f"{count} jobs are left in the queue {name}"
            if count := client.zcard(f"rq:wip:{name}"):
                yield f"{count} jobs of the queue {name} are said to be worked on"
