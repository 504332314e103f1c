"""What becomes of leads in Salesforce after they were sent or linked; part of every sync.

They are followed by stamp, in the sync's one call: what the user created or owns among the leads and what changed since the
leads' own watermark, never by a list of Ids. Rows that aren't ours leave no trace here. Leads are judged by themselves: where
they, or their opt-out field, can't be read, contacts are synced all the same, and the people who came from leads are inactive.

No row comes of a lead that was given away and that the user hasn't made, nor of one that sharing hides, nor of what a lead was
merged into. So there is a look at the Ids of those that a row, its absence, or the daily sweep nominates. Whom that shows to be
somebody else's, or doesn't show, is inactive: nobody would tell us that they opt out.

The user's other Leads matter where they are open and opted out: their addresses are stored as hashes, so that a contact with
such an address is inactive (contacts/twins.py). They are read by stamp as well, in the same call, and compared whole in each
full read and daily sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select

from asapp.contacts.addresses import address_hash
from asapp.contacts.twins import block, blocked_by, blocked_leads, unblock
from asapp.core.bulk import in_chunks, is_among
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.leads import outcomes
from asapp.messages.codes import Code
from asapp.models import (
    BlockedBy,
    Connection,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    LedgerEntry,
    LedgerOutcome,
    Reason,
    SyncRun,
    Unfollowed,
)
from asapp.models.lead import IN_SALESFORCE
from asapp.salesforce import errors
from asapp.salesforce.client import OrgClient
from asapp.salesforce.records import LeadPage, LeadRecord, LeadsFound, LeadWindow, Sighting
from asapp.sync.departures import LONGEST_CHAIN, judge_sighting
from asapp.sync.run_context import RunContext, add_counts
from asapp.sync.twin_changes import TwinWatch
from asapp.sync.watermark import OVERLAP, start_of

ROWS_A_COMMIT = 200  # who signs up meanwhile doesn't wait for long
JUST_BEFORE = timedelta(hours=1)  # for a connection that has no leads yet

Leads = LeadsFound | errors.SalesforceError | None
GetClient = Callable[[], OrgClient]  # the client, with no transaction open
Save = Callable[..., None]  # sets values of the run and commits, under its lease


def window_of(connection: Connection, is_full: bool, wants_sweep: bool) -> LeadWindow:
    """Return which Leads the next run must read. A sweep compares all that are opted out, and gets them for nothing here."""
    opted_out_since = None if is_full or wants_sweep else start_of(connection.lead_opt_outs_watermark)
    return LeadWindow(_changed_since(connection, is_full), opted_out_since)


def _changed_since(connection: Connection, is_full: bool) -> datetime:
    start = None if is_full else start_of(connection.leads_watermark)
    if start is not None:
        return start
    oldest = db.session.scalar(
        select(func.min(Lead.system_modstamp)).where(
            Lead.connection_id == connection.id, Lead.salesforce_id.is_not(None)
        )
    )
    return oldest - OVERLAP if oldest else utcnow() - JUST_BEFORE


@dataclass(frozen=True)
class FollowContext:
    """What following needs of the run.

    lock: takes the advisor's and the run's row; called before leads or contacts are written (the lock order).
    asked_at: when it asked for the leads that changed, by our clock. reads_all: it asked for all that are opted out.
    """

    run: SyncRun
    context: RunContext
    client_for_call: GetClient
    save: Save
    lock: Callable[[], None]
    asked_at: datetime
    wants_sweep: bool
    reads_all: bool
    to_check: Sequence[str] = ()  # Ids of Leads that a send is to be written to

    @property
    def run_id(self) -> int:
        return self.context.run_id

    def commit_with(self, twins: TwinWatch) -> None:
        """Commit what was changed, counting the contacts that became or stopped being twins by it."""
        self.save(also=add_counts(self.run.also, twins.record_changes()))


def has_much_to_follow(found: Leads, following: FollowContext) -> bool:
    """Is there more to it than a look at our own tables?"""
    has_rows = isinstance(found, LeadsFound) and bool(found.changed.records or found.opted_out.records)
    return has_rows or (isinstance(found, LeadsFound) and following.wants_sweep)


def follow(connection: Connection, found: Leads, following: FollowContext) -> errors.SalesforceError | None:
    """Take over what was found, page by page, and tie what became contacts. Return why it couldn't be done, or None."""
    run_id, client_for_call, save = following.run_id, following.client_for_call, following.save
    connection_id, user_id, owner_id = connection.id, connection.user_id, connection.salesforce_user_id
    if isinstance(found, errors.SalesforceError):
        return found
    if found is None:
        return None
    try:
        for page in _pages(found.changed, client_for_call):
            for some in in_chunks(page.records, ROWS_A_COMMIT):
                apply_rows(some, following)
        block_opted_out(found.opted_out, following)
        nominated = find_unseen(connection_id, following.asked_at) | set(following.to_check)
        if following.wants_sweep:
            nominated |= sweep(connection_id, owner_id, client_for_call)
        check_leads_by_id(connection_id, owner_id, nominated, following)
        if tie_imported_contacts(connection_id, following.lock):
            save()
        has_changed = resolve_untied(connection_id, owner_id, following)
        if outcomes.follow_tied(user_id, run_id, following.lock) or has_changed:
            save()
    except (errors.TryLater, errors.Misconfigured, errors.LocatorExpired) as error:
        db.session.rollback()
        return error
    return None


def record_known(
    connection: Connection, why_not: errors.SalesforceError | None, opened_at: datetime | None, until: datetime
) -> None:
    """Write down how far leads are known, in the caller's transaction. until: how long a good answer holds."""
    if why_not is None:
        connection.leads_watermark, connection.leads_known_until = opened_at, until
        connection.leads_trouble = None
        connection.lead_opt_outs_watermark = opened_at
    elif isinstance(why_not, errors.Misconfigured):
        connection.leads_known_until = utcnow()  # unknown never counts as "may be written to"
        is_field = isinstance(why_not, errors.FieldHidden)
        connection.leads_trouble = Code.LEAD_OPT_OUT_HIDDEN if is_field else Code.LEADS_HIDDEN


def _pages(page: LeadPage, client_for_call: GetClient) -> Iterator[LeadPage]:
    yield page
    while page.next_path:
        page = client_for_call().next_leads(page.next_path)
        yield page


def apply_rows(records: Sequence[LeadRecord], following: FollowContext) -> None:
    """Take over the rows that are ours, and forget the addresses of Leads that no longer are opted out; commit."""
    connection_id, by_id = following.context.connection_id, {record.id: record for record in records}
    following.lock()
    blocked = blocked_by(connection_id, by_id)
    leads = db.session.scalars(
        select(Lead)
        .where(Lead.connection_id == connection_id, Lead.salesforce_id.in_(by_id))
        .order_by(Lead.id)
        .with_for_update()
    ).all()
    if not leads and not blocked:
        db.session.commit()
        return
    twins = TwinWatch(following.context, {*blocked.values(), *_hashes_of(leads)})
    for lead in leads:
        record = by_id[lead.salesforce_id or ""]
        if lead.is_erased:
            outcomes.follow_erased(lead, record)
        elif lead.state in IN_SALESFORCE:
            outcomes.apply_record(lead, record, following.run_id)
    db.session.flush()
    ours = {lead.salesforce_id for lead in leads}
    unblock(
        connection_id, [each for each in blocked if not _is_blocking(by_id[each], following.context.owner_id, ours)]
    )
    following.commit_with(twins)


def block_opted_out(page: LeadPage, following: FollowContext) -> None:
    """Store the addresses of the user's open Leads that are opted out; where all of them were asked for, forget the rest."""
    shown: set[str] = set()
    for each in _pages(page, following.client_for_call):
        shown |= store_opted_out(each.records, following)
    if following.reads_all:
        _unblock_outdated(set(blocked_leads(following.context.connection_id)) - shown, following)


def store_opted_out(records: Sequence[LeadRecord], following: FollowContext) -> set[str]:
    """Store the addresses of these; return the Ids of those that have one. Commits."""
    context = following.context
    addresses = {record.id: address_hash(record.email, context.address_key) for record in records if record.email}
    following.lock()
    before = blocked_by(context.connection_id, [record.id for record in records])
    news = {each: hashed for each, hashed in addresses.items() if before.get(each) != hashed}
    lost = before.keys() - addresses.keys()  # opted out, and without an address now
    if not news and not lost:
        db.session.commit()
        return set(addresses)
    twins = TwinWatch(context, {*news.values(), *(before[each] for each in before if each in news or each in lost)})
    block(context.connection_id, context.user_id, BlockedBy.LEAD, news)
    unblock(context.connection_id, lost)
    following.commit_with(twins)
    return set(addresses)


def _unblock_outdated(ids: set[str], following: FollowContext) -> None:
    """Forget the addresses of Leads that a look at them doesn't show as open, opted out, and the user's or sent from here."""
    if not ids:
        return
    context = following.context
    rows = following.client_for_call().leads_by_id(sorted(ids))
    sent = select(Lead.salesforce_id).where(
        Lead.connection_id == context.connection_id, is_among(Lead.salesforce_id, ids)
    )
    ours = set(db.session.scalars(sent))
    over = [each for each in sorted(ids) if each not in rows or not _is_blocking(rows[each], context.owner_id, ours)]
    following.lock()
    twins = TwinWatch(context, blocked_by(context.connection_id, over).values())
    unblock(context.connection_id, over)
    following.commit_with(twins)


def _is_blocking(record: LeadRecord, owner_id: str, ours: Collection[str | None]) -> bool:
    """Is this an open Lead that is opted out, and the user's or one that was sent from here?"""
    is_open = not record.is_deleted and not record.is_converted
    return is_open and record.is_opted_out is True and (record.owner_id == owner_id or record.id in ours)


def _hashes_of(leads: Sequence[Lead]) -> set[bytes]:
    return {lead.address_hash for lead in leads if lead.address_hash is not None}


def find_unseen(connection_id: int, asked_at: datetime) -> set[str]:
    """Return the Ids of leads that were sent before this run asked, and of which no row has come: the user may not see them."""
    return set(
        db.session.scalars(
            _in_salesforce(Lead.salesforce_id, connection_id).where(
                Lead.owner_id.is_(None), Lead.why.is_(None), Lead.delivered_at < asked_at
            )
        )
    )


def sweep(connection_id: int, owner_id: str, client_for_call: GetClient) -> set[str]:
    """Compare our leads with all that the user made or owns; return the Ids of those to be looked at. All or nothing."""
    question = _in_salesforce(Lead.salesforce_id, connection_id)
    rows = db.session.execute(question.add_columns(Lead.opted_out, Lead.why, Lead.is_deleted)).all()
    ours = {row.salesforce_id for row in rows}
    expected = {row.salesforce_id: row.opted_out for row in rows if row.why is None and not row.is_deleted}
    nominated = set(expected)
    for page in client_for_call().iter_lead_sweep(owner_id) if ours else ():
        for salesforce_id, opted_out in page:
            if expected.get(salesforce_id) == opted_out:
                nominated.discard(salesforce_id)
            elif salesforce_id in ours:
                nominated.add(salesforce_id)
    return nominated


def check_leads_by_id(connection_id: int, owner_id: str, nominated: set[str], following: FollowContext) -> None:
    """Take over what a look at these Ids shows, and at those that leads were merged into."""
    for _ in range(LONGEST_CHAIN):
        merged = _in_salesforce(Lead.salesforce_id, connection_id).where(Lead.why == Unfollowed.MERGED)
        ids = sorted(nominated | set(db.session.scalars(merged)))
        if not ids:
            return
        found_by_id = following.client_for_call().leads_by_id(ids)
        following.lock()
        leads = db.session.scalars(
            _in_salesforce(Lead, connection_id)
            .where(is_among(Lead.salesforce_id, ids))
            .order_by(Lead.id)
            .with_for_update()
        ).all()
        twins = TwinWatch(following.context, {*_hashes_of(leads), *blocked_by(connection_id, ids).values()})
        for lead in leads:
            apply_lookup(lead, found_by_id.get(lead.salesforce_id or ""), owner_id, following.run_id)
        db.session.flush()
        following.commit_with(twins)
        nominated = set()


def apply_lookup(lead: Lead, record: LeadRecord | None, owner_id: str, run_id: int) -> None:
    if lead.why == Unfollowed.DOUBLE:
        return
    if record is None:
        outcomes.lose_sight(lead, Unfollowed.GONE)
        return
    outcomes.apply_record(lead, record, run_id)
    is_open = not record.is_deleted and not record.is_converted
    if is_open and owner_id not in (record.owner_id, record.created_by_id):
        outcomes.lose_sight(lead, Unfollowed.REASSIGNED)


def _in_salesforce(what: Any, connection_id: int) -> Select[Any]:
    """Select of leads that a row of Lead stands for; what was converted is followed by its contact."""
    return select(what).where(
        Lead.connection_id == connection_id,
        Lead.state.in_((LeadState.SENT, LeadState.LINKED)),
        Lead.salesforce_id.is_not(None),
    )


def tie_imported_contacts(connection_id: int, lock: Callable[[], None]) -> int:
    """Tie leads to the contacts that they were linked to or became, once these are here; return how many."""
    rows = db.session.execute(
        select(Lead, Contact)
        .join(
            Contact, (Contact.connection_id == Lead.connection_id) & (Contact.salesforce_id == Lead.linked_contact_id)
        )
        .where(
            Lead.connection_id == connection_id,
            Lead.state.in_((LeadState.LINKED, LeadState.CONVERTED)),
            or_(Lead.contact_id.is_(None), Lead.contact_id != Contact.id),
            Contact.erased_at.is_(None),
        )
    ).all()
    if rows:
        lock()
    for lead, target in rows:
        outcomes.tie(lead, target)
    return len(rows)


def resolve_untied(connection_id: int, owner_id: str, following: FollowContext) -> bool:
    """Find out about leads whose contact did not come: not imported, somebody else's, or gone. Return whether there are any."""
    run_id = following.run_id
    untied = db.session.execute(
        select(Lead.id, Lead.opted_out, Lead.linked_contact_id, LedgerEntry.outcome)
        .join(Contact, Contact.id == Lead.contact_id)
        .outerjoin(
            LedgerEntry,
            (LedgerEntry.connection_id == Lead.connection_id) & (LedgerEntry.salesforce_id == Lead.linked_contact_id),
        )
        .where(
            Lead.connection_id == connection_id,
            Lead.linked_contact_id.is_not(None),
            Contact.source == ContactSource.LEAD,
            Contact.departed.is_(None),
        )
    ).all()
    unknown = [row.linked_contact_id for row in untied if row.outcome is None]
    sightings: Mapping[str, Sighting] = following.client_for_call().fetch_sightings(unknown) if unknown else {}
    if untied:
        following.lock()
    for row in untied:
        if row.outcome is not None and row.opted_out == (row.outcome == LedgerOutcome.OPTED_OUT):
            continue
        lead = db.session.get_one(Lead, row.id)
        if row.outcome is not None:
            outcomes.record_not_imported(lead, row.outcome == LedgerOutcome.OPTED_OUT, run_id)
            continue
        sighting = sightings.get(row.linked_contact_id)
        reason = judge_sighting(sighting, owner_id)
        if reason == Reason.MERGED and sighting is not None:
            lead.linked_contact_id = sighting.master_record_id  # the next sync looks for the survivor
        elif reason is not None:
            outcomes.record_departed(lead, reason, run_id)
    return bool(untied)
