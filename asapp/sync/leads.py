"""What becomes of leads in Salesforce after they were sent or linked; part of every sync.

They are followed by stamp, in the sync's one call: the leads that the user created or owns and that changed since the leads' own
watermark, never a list of Ids. Rows that aren't ours leave no trace here. Leads have their own verdict: if they, or their opt-out
field, can't be read, contacts are synced all the same, and the people who came from leads are inactive.

No row comes for a lead that was given away and that the user hasn't created, for one that sharing hides, or for the survivor of
a merge. So the leads that a row, its absence, or the daily sweep nominates are queried by Id. Those that turn out to be another
user's, or aren't visible, become inactive, because we would not learn that they opt out.

The user's other Leads matter if they are open and opted out: their addresses are stored as hashes, so that a contact with such an
address is inactive (contacts/twins.py). They are read by stamp as well, in the same call, and compared as a whole in each full
read and daily sweep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, func, or_, select, union

from asapp.contacts.addresses import address_hash
from asapp.contacts.twins import block, blocked_by, blocked_leads, opted_out_open_leads, unblock
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
    Unfollowed,
)
from asapp.models.lead import IN_SALESFORCE
from asapp.salesforce import errors
from asapp.salesforce.records import LeadPage, LeadRecord, LeadsFound, LeadWindow, Sighting
from asapp.sync.departures import LONGEST_CHAIN, judge_sighting
from asapp.sync.reader import ContactReader
from asapp.sync.run_context import add_counts
from asapp.sync.twin_changes import TwinChanges
from asapp.sync.watermark import OVERLAP, start_of

ROWS_A_COMMIT = 200  # so that a sign-up never waits for long
JUST_BEFORE = timedelta(hours=1)  # for a connection that has no leads yet

UNREADABLE = (errors.TryLater, errors.Misconfigured, errors.LocatorExpired)  # contacts are synced all the same
Leads = LeadsFound | errors.SalesforceError | None


def window_of(connection: Connection, is_full: bool, wants_sweep: bool) -> LeadWindow:
    """Return which Leads the run must read. A sweep needs all that are opted out, and here they cost no further call."""
    opted_out_since = None if is_full or wants_sweep else start_of(connection.lead_opt_outs_watermark)
    brings_in = connection.partner.brings_in_open_leads
    changed_since = _changed_since(connection, is_full)
    if brings_in and (start := start_of(connection.open_leads_watermark)):
        changed_since = min(start, changed_since)
    return LeadWindow(changed_since, opted_out_since, brings_in)


def _changed_since(connection: Connection, is_full: bool) -> datetime:
    """Return the oldest SystemModstamp of leads that the run must read."""
    start = None if is_full else start_of(connection.leads_watermark)
    if start is not None:
        return start
    oldest = db.session.scalar(
        select(func.min(Lead.system_modstamp)).where(
            Lead.connection_id == connection.id, Lead.salesforce_id.is_not(None)
        )
    )
    return oldest - OVERLAP if oldest else utcnow() - JUST_BEFORE


class LeadFollower:
    """Stores what a run found out about the leads of its connection.

    asked_at: when the run asked for the leads that changed, by our clock. is_whole: all leads are compared, as after a sweep.
    reads_all_opted_out: the run asked for all Leads that are opted out. to_check: Ids of Leads that a send will be written to.
    """

    def __init__(
        self,
        reader: ContactReader,
        *,
        asked_at: datetime,
        is_whole: bool,
        reads_all_opted_out: bool,
        to_check: Sequence[str] = (),
    ) -> None:
        self.reader = reader
        self.run = reader.run
        self.context = reader.context
        self.connection_id = reader.context.connection_id
        self.owner_id = reader.context.owner_id
        self.asked_at = asked_at
        self.is_whole = is_whole
        self.reads_all_opted_out = reads_all_opted_out
        self.to_check = to_check

    def has_much_to_do(self, found: Leads) -> bool:
        """Is there more to do than to compare our own tables?"""
        if not isinstance(found, LeadsFound):
            return False
        opted_out = found.opted_out.records if found.opted_out else []
        return self.is_whole or bool(found.changed.records or opted_out)

    def follow(self, found: Leads) -> errors.SalesforceError | None:
        """Store what was found, page by page, and tie leads to their contacts; return why it couldn't be done, or None."""
        if not isinstance(found, LeadsFound):
            return found
        try:
            for page in self._pages(found.changed):
                for records in in_chunks(page.records, ROWS_A_COMMIT):
                    self.apply_rows(records)
            self.block_opted_out(found.opted_out)
            nominated = self.find_unseen() | set(self.to_check)
            if self.is_whole:
                nominated |= self.sweep()
            self.check_by_id(nominated)
            if self.tie_imported():
                self.run.save()
            has_changed = self.resolve_untied()
            if outcomes.follow_tied(self.context.user_id, self.run.id, self.context.lock) or has_changed:
                self.run.save()
        except UNREADABLE as error:
            db.session.rollback()
            return error
        return None

    def apply_rows(self, records: Sequence[LeadRecord]) -> None:
        """Store the rows of our leads, and unblock the addresses of Leads that aren't opted out any more; commit."""
        by_id = {record.id: record for record in records}
        self.context.lock()
        blocked = blocked_by(self.connection_id, by_id)
        leads = db.session.scalars(
            select(Lead)
            .where(Lead.connection_id == self.connection_id, Lead.salesforce_id.in_(by_id))
            .order_by(Lead.id)
            .with_for_update()
        ).all()
        if not leads and not blocked:
            db.session.commit()
            return
        twins = TwinChanges(self.context, {*blocked.values(), *_hashes_of(leads)})
        with outcomes.contacts_at_hand(leads):
            for lead in leads:
                record = by_id[lead.salesforce_id or ""]
                if lead.is_erased:
                    outcomes.follow_erased(lead, record)
                elif lead.state in IN_SALESFORCE:
                    outcomes.apply_record(lead, record, self.run.id)
            db.session.flush()
        ours = {lead.salesforce_id for lead in leads}
        unblock(self.connection_id, [each for each in blocked if not self._is_blocking(by_id[each], ours)])
        self._save(twins)

    def block_opted_out(self, page: LeadPage | None) -> None:
        """Block the addresses of the user's open Leads that are opted out; if the run asked for all, unblock the others.

        page: None if open Leads come in: then they are in the ledger, and their addresses are blocked with it.
        """
        shown = opted_out_open_leads(self.connection_id) if page is None else set()
        for each in self._pages(page) if page else ():
            shown |= self.store_opted_out([record for record in each.records if record.is_opted_out])
        if self.reads_all_opted_out:
            self.unblock_outdated(set(blocked_leads(self.connection_id)) - shown)

    def store_opted_out(self, records: Sequence[LeadRecord]) -> set[str]:
        """Block the addresses of these; return the Ids of those that have one. Commits."""
        key = self.context.address_key
        addresses = {record.id: address_hash(record.email, key) for record in records if record.email}
        self.context.lock()
        before = blocked_by(self.connection_id, [record.id for record in records])
        new = {each: hashed for each, hashed in addresses.items() if before.get(each) != hashed}
        without_address = before.keys() - addresses.keys()
        if not new and not without_address:
            db.session.commit()
            return set(addresses)
        replaced = {before[each] for each in before if each in new or each in without_address}
        twins = TwinChanges(self.context, {*new.values(), *replaced})
        block(self.connection_id, self.context.user_id, BlockedBy.LEAD, new)
        unblock(self.connection_id, without_address)
        self._save(twins)
        return set(addresses)

    def unblock_outdated(self, ids: set[str]) -> None:
        """Unblock the addresses of those Leads that are not open, opted out, and the user's or sent from here. Commits."""
        if not ids:
            return
        rows = self.reader.client_for_call().leads_by_id(sorted(ids))
        sent = select(Lead.salesforce_id).where(
            Lead.connection_id == self.connection_id, is_among(Lead.salesforce_id, ids)
        )
        ours = set(db.session.scalars(sent))
        outdated = [each for each in sorted(ids) if each not in rows or not self._is_blocking(rows[each], ours)]
        self.context.lock()
        twins = TwinChanges(self.context, blocked_by(self.connection_id, outdated).values())
        unblock(self.connection_id, outdated)
        self._save(twins)

    def find_unseen(self) -> set[str]:
        """Return Ids of leads that were sent before this run asked and that no row came for: the user may not see them."""
        return set(db.session.scalars(_unseen(self._in_salesforce(Lead.salesforce_id), self.asked_at)))

    def sweep(self) -> set[str]:
        """Compare our leads with all that the user created or owns; return the Ids that differ, once the last page has come."""
        query = self._in_salesforce(Lead.salesforce_id).add_columns(
            Lead.opted_out, Lead.consent_hidden, Lead.why, Lead.is_deleted
        )
        rows = db.session.execute(query).all()
        ours = {row.salesforce_id for row in rows}
        alive = [row for row in rows if row.why is None and not row.is_deleted]
        expected = {row.salesforce_id: (row.opted_out, row.consent_hidden) for row in alive}
        nominated = set(expected)
        for page in self.reader.client_for_call().iter_lead_sweep(self.owner_id) if ours else ():
            for salesforce_id, *opt_out in page:
                if expected.get(salesforce_id) == tuple(opt_out):
                    nominated.discard(salesforce_id)
                elif salesforce_id in ours:
                    nominated.add(salesforce_id)
        return nominated

    def check_by_id(self, nominated: set[str]) -> None:
        """Query these Ids and those that leads were merged into, and store what comes. Commits."""
        for _ in range(LONGEST_CHAIN):
            merged = self._in_salesforce(Lead.salesforce_id).where(Lead.why == Unfollowed.MERGED)
            ids = sorted(nominated | set(db.session.scalars(merged)))
            if not ids:
                return
            found = self.reader.client_for_call().leads_by_id(ids)
            self.context.lock()
            leads = db.session.scalars(
                self._in_salesforce(Lead).where(is_among(Lead.salesforce_id, ids)).order_by(Lead.id).with_for_update()
            ).all()
            twins = TwinChanges(self.context, {*_hashes_of(leads), *blocked_by(self.connection_id, ids).values()})
            for lead in leads:
                self._apply_answer(lead, found.get(lead.salesforce_id or ""))
            db.session.flush()
            self._save(twins)
            nominated = set()

    def _apply_answer(self, lead: Lead, record: LeadRecord | None) -> None:
        """Apply the answer to a query by Id; None: no row came."""
        if lead.why == Unfollowed.DOUBLE:
            return
        if record is None:
            outcomes.lose_sight(lead, Unfollowed.GONE)
            return
        outcomes.apply_record(lead, record, self.run.id)
        if _is_open(record) and self.owner_id not in (record.owner_id, record.created_by_id):
            outcomes.lose_sight(lead, Unfollowed.REASSIGNED)

    def tie_imported(self) -> int:
        """Tie leads to the contacts that they were linked to or became, once these are here; return how many."""
        rows = db.session.execute(_to_tie(Lead, Contact).where(Lead.connection_id == self.connection_id)).all()
        if rows:
            self.context.lock()
        for lead, contact in rows:
            outcomes.tie(lead, contact)
        return len(rows)

    def resolve_untied(self) -> bool:
        """Record what became of leads whose contact did not come: it was not imported, belongs to another user, or is gone.

        Returns whether there are any.
        """
        untied = self._find_untied()
        unknown = [row.linked_contact_id for row in untied if row.outcome is None]
        sightings: Mapping[str, Sighting] = self.reader.client_for_call().fetch_sightings(unknown) if unknown else {}
        if untied:
            self.context.lock()
        for row in untied:
            there = outcomes.OptOut(row.outcome == LedgerOutcome.OPTED_OUT, bool(row.is_hidden_there))
            if row.outcome is None:
                self._record_departed(db.session.get_one(Lead, row.id), sightings.get(row.linked_contact_id))
            elif there != (row.opted_out, row.consent_hidden):
                outcomes.record_not_imported(db.session.get_one(Lead, row.id), there, self.run.id)
        return bool(untied)

    def _find_untied(self) -> Sequence[Row[*tuple[Any, ...]]]:
        here = (Lead.id, Lead.opted_out, Lead.consent_hidden, Lead.linked_contact_id)
        untied = _untied(*here, LedgerEntry.outcome, LedgerEntry.consent_hidden.label("is_hidden_there"))
        return db.session.execute(untied.where(Lead.connection_id == self.connection_id)).all()

    def _record_departed(self, lead: Lead, sighting: Sighting | None) -> None:
        reason = judge_sighting(sighting, self.owner_id)
        if reason == Reason.MERGED and sighting is not None:
            lead.linked_contact_id = sighting.master_record_id  # the next sync looks for the survivor
        elif reason is not None:
            outcomes.record_departed(lead, reason, self.run.id)

    def _pages(self, page: LeadPage) -> Iterator[LeadPage]:
        yield page
        while page.next_path:
            page = self.reader.client_for_call().next_leads(page.next_path)
            yield page

    def _save(self, twins: TwinChanges) -> None:
        """End a transaction, counting the contacts that became or stopped being twins by it."""
        self.run.save(also=add_counts(self.run.row.also, twins.record()))

    def _is_blocking(self, record: LeadRecord, ours: Collection[str | None]) -> bool:
        """Is this an open Lead that is opted out, and the user's or one that was sent from here?"""
        is_ours = record.owner_id == self.owner_id or record.id in ours
        return _is_open(record) and record.is_opted_out is True and is_ours

    def _in_salesforce(self, what: Any) -> Select[Any]:
        return _in_salesforce(what).where(Lead.connection_id == self.connection_id)


def find_unsettled(connection_ids: Collection[int]) -> set[int]:
    """Return those of these connections whose leads leave something to do, although Salesforce reports no change."""
    mine, id_of = is_among(Lead.connection_id, connection_ids), Lead.connection_id
    found = (
        _unseen(_in_salesforce(id_of), utcnow()).where(mine),
        _in_salesforce(id_of).where(mine, Lead.why == Unfollowed.MERGED),
        _to_tie(id_of).where(mine),
        _untied(id_of).where(
            mine,
            or_(
                LedgerEntry.outcome.is_(None),
                Lead.opted_out != (LedgerEntry.outcome == LedgerOutcome.OPTED_OUT),
                Lead.consent_hidden != LedgerEntry.consent_hidden,
            ),
        ),
        outcomes.unlike_their_contacts(id_of).where(mine),
    )
    return set(db.session.scalars(union(*found)))


def _in_salesforce(what: Any) -> Select[Any]:
    """Select from leads that a row of Lead stands for; a converted one is followed by its contact."""
    return select(what).where(Lead.state.in_((LeadState.SENT, LeadState.LINKED)), Lead.salesforce_id.is_not(None))


def _unseen(query: Select[Any], asked_at: datetime) -> Select[Any]:
    """Restrict _in_salesforce() to leads that were sent before Salesforce was asked and that no row has come for."""
    return query.where(Lead.owner_id.is_(None), Lead.why.is_(None), Lead.delivered_at < asked_at)


def _to_tie(*what: Any) -> Select[*tuple[Any, ...]]:
    """Select from leads, and the contacts here that they were linked to or became, that aren't tied yet."""
    is_its = (Contact.connection_id == Lead.connection_id) & (Contact.salesforce_id == Lead.linked_contact_id)
    return (
        select(*what)
        .select_from(Lead)
        .join(Contact, is_its)
        .where(
            Lead.state.in_((LeadState.LINKED, LeadState.CONVERTED)),
            or_(Lead.contact_id.is_(None), Lead.contact_id != Contact.id),
            Contact.erased_at.is_(None),
        )
    )


def _untied(*what: Any) -> Select[*tuple[Any, ...]]:
    """Select from leads whose contact did not come, and from the ledger's row of that contact, if there is one."""
    is_its = (LedgerEntry.connection_id == Lead.connection_id) & (LedgerEntry.salesforce_id == Lead.linked_contact_id)
    return (
        select(*what)
        .select_from(Lead)
        .join(Contact, Contact.id == Lead.contact_id)
        .outerjoin(LedgerEntry, is_its)
        .where(Lead.linked_contact_id.is_not(None), Contact.source == ContactSource.LEAD, Contact.departed.is_(None))
    )


def _is_open(record: LeadRecord) -> bool:
    return not record.is_deleted and not record.is_converted


def _hashes_of(leads: Sequence[Lead]) -> set[bytes]:
    return {lead.address_hash for lead in leads if lead.address_hash is not None}


def known_by(
    error: errors.SalesforceError | None, opened_at: datetime, now: datetime, until: datetime
) -> dict[str, Any]:
    """Return the columns of a connection that say up to when leads are known. until: how long a good answer holds."""
    if error is None:
        moments = dict.fromkeys(("leads_watermark", "lead_opt_outs_watermark"), opened_at)
        return {**moments, "leads_known_until": until, "leads_trouble": None}
    if (trouble := trouble_of(error)) is None:
        return {}
    return {"leads_known_until": now, "leads_trouble": trouble}  # unknown never counts as "may be written to"


def trouble_of(error: errors.SalesforceError) -> Code | None:
    """Return why leads can't be followed, as it is stored; None if they may be the next time."""
    if not isinstance(error, errors.Misconfigured):
        return None
    return Code.LEAD_OPT_OUT_HIDDEN if isinstance(error, errors.FieldHidden) else Code.LEADS_HIDDEN
