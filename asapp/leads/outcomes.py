"""What happens to a lead and its contact once the person is in Salesforce: sent, linked, tied to a contact, opted out,
deleted.

Everything here joins the caller's transaction. A lead is tied to a Salesforce contact once: its own contact hands its
lists and history to that one and is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, delete, null, or_, select, update

from asapp.contacts import suppressions, tombstones
from asapp.contacts.bounces import Mark, mark_after, mark_of
from asapp.contacts.handing_over import hand_over_history, hand_over_lists
from asapp.contacts.twins import block, blocked_by, unblock
from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.leads import consent
from asapp.models import (
    BlockedBy,
    Connection,
    ConsentKind,
    ConsentSource,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    LedgerEntry,
    LinkedKind,
    ListMember,
    Reason,
    Restoration,
    RunChange,
    Unfollowed,
)
from asapp.models.lead import IN_SALESFORCE
from asapp.salesforce.records import Bounce, ContactMatch, LeadRecord

GONE_FOR_GOOD = (Reason.DELETED, Reason.MERGED, Reason.GONE)


class OptOut(NamedTuple):
    """What Salesforce says of a person. is_consent_hidden: opted out only because the consent record can't be seen."""

    is_opted_out: bool
    is_consent_hidden: bool = False


def record_sent(
    lead: Lead, salesforce_id: str, owner_id: str | None, connection_id: int, stamp: datetime | None
) -> None:
    """Record that Salesforce has created this lead."""
    _deliver(lead, LeadState.SENT, connection_id)
    lead.salesforce_id, lead.owner_id = salesforce_id, owner_id or lead.owner_id
    lead.system_modstamp = stamp or lead.system_modstamp
    _follow(lead)


def record_found(lead: Lead, record: LeadRecord, connection_id: int) -> None:
    """Record that the lead of an unanswered create was found."""
    record_sent(lead, record.id, record.owner_id, connection_id, record.system_modstamp)
    apply_record(lead, record)


def record_unseen(lead: Lead, connection_id: int) -> None:
    """Record the advisor's word that the lead exists. As its opt-out can't be read, nothing is sent to the person."""
    _deliver(lead, LeadState.SENT, connection_id)
    contact = _own_contact(lead)
    if contact is not None:
        contact.is_lead, contact.followed_by_id, contact.changed_at = True, connection_id, utcnow()


def link_to_lead(lead: Lead, record: LeadRecord, connection_id: int) -> None:
    _deliver(lead, LeadState.LINKED, connection_id)
    lead.linked_kind, lead.salesforce_id = LinkedKind.LEAD, record.id
    tombstones.end_erasure_of(lead.user_id, record.id)
    _follow(lead)
    apply_record(lead, record)
    _tell_if_stopped(lead, None)


def link_to_contact(lead: Lead, match: ContactMatch, connection_id: int) -> None:
    """Link the lead to a contact, which may be here, come with the next sync, or be left out as opted out."""
    _deliver(lead, LeadState.LINKED, connection_id)
    lead.linked_kind, lead.linked_contact_id = LinkedKind.CONTACT, match.id
    _follow(lead)
    _set_opted_out(lead, OptOut(match.is_opted_out is True), utcnow())
    target = find_target(lead) or _let_come_back(lead, match.id)
    if target is not None:
        tie(lead, target)
    _tell_if_stopped(lead, target)


def apply_record(lead: Lead, record: LeadRecord, run_id: int | None = None) -> bool:
    """Apply a Lead row from Salesforce; return whether anything about the person changed."""
    update_blocked(lead, record)
    if lead.why == Unfollowed.DOUBLE:
        return False  # the lead that this one was merged into stands for the person
    if record.is_deleted and record.master_record_id and lead.state != LeadState.CONVERTED:
        _go_to_survivor(lead, record.master_record_id, run_id)
        return True
    before = (lead.opted_out, lead.consent_hidden, lead.is_deleted, lead.state, lead.why)
    if not lead.is_followed:
        lead.why = None
    lead.owner_id, lead.system_modstamp = record.owner_id, record.system_modstamp
    if record.is_opted_out is not None and lead.state != LeadState.CONVERTED:
        opt_out = OptOut(record.is_opted_out, record.is_consent_hidden)
        _set_opted_out(lead, opt_out, record.system_modstamp, run_id)
    if record.bounce is not None and lead.state != LeadState.CONVERTED:
        _mark_bounce(lead, record.bounce)
    if record.is_converted and lead.state != LeadState.CONVERTED:
        lead.state, lead.converted_at = LeadState.CONVERTED, record.system_modstamp
        lead.linked_contact_id = record.converted_contact_id or lead.linked_contact_id
        target = find_target(lead)
        if target is not None:
            tie(lead, target)
    if lead.state != LeadState.CONVERTED:
        _set_deleted(lead, record.is_deleted, record.system_modstamp, run_id)
    after = (lead.opted_out, lead.consent_hidden, lead.is_deleted, lead.state, lead.why)
    if before != after:
        lead.changed_at = utcnow()
    return before != after


def lose_sight(lead: Lead, why: Unfollowed, run_id: int | None = None) -> None:
    """Record that this person's opt-out can't be read (yet): nothing is sent to them."""
    lead.why, lead.changed_at = why, utcnow()
    if lead.connection_id and lead.salesforce_id and why in (Unfollowed.GONE, Unfollowed.REASSIGNED):
        unblock(lead.connection_id, [lead.salesforce_id])  # it is no longer a record of the user's
    contact = _own_contact(lead)
    if contact is not None:
        is_merged = why in (Unfollowed.MERGED, Unfollowed.DOUBLE)
        contact.departed, contact.changed_at = Reason.MERGED if is_merged else Reason(why), utcnow()
    if why == Unfollowed.DOUBLE:
        _record_deleted(lead, True, utcnow(), run_id)


def _let_come_back(lead: Lead, contact_id: str) -> Contact | None:
    """Let the Salesforce contact of an erased person in again, who has signed up since as a new person.

    Return the erased row that stood for it, filled with what was typed. Salesforce's own values follow with the next
    sync: the record is no longer in the ledger, so that sync compares all Ids and reads it, or finds that it is gone.
    """
    tombstones.end_erasure_of(lead.user_id, contact_id)
    contact = db.session.scalar(
        select(Contact).where(Contact.connection_id == lead.connection_id, Contact.salesforce_id == contact_id)
    )
    if contact is None:
        return None
    contact.first_name, contact.last_name, contact.email = lead.first_name, lead.last_name, lead.email
    contact.search_key, contact.address_hash = lead.search_key, lead.address_hash
    contact.opted_out, contact.consent_hidden, contact.changed_at = lead.opted_out, lead.consent_hidden, utcnow()
    contact.erased_at = contact.hidden_at = None
    db.session.execute(
        delete(LedgerEntry).where(
            LedgerEntry.connection_id == lead.connection_id, LedgerEntry.salesforce_id == contact_id
        )
    )
    db.session.execute(update(Connection).where(Connection.id == lead.connection_id).values(sweep_wanted=True))
    return contact


def find_target(lead: Lead) -> Contact | None:
    """Return the Salesforce contact here that this lead was linked to or converted to."""
    if lead.linked_contact_id is None:
        return None
    return db.session.scalar(
        select(Contact).where(
            Contact.connection_id == lead.connection_id,
            Contact.salesforce_id == lead.linked_contact_id,
            Contact.erased_at.is_(None),
        )
    )


def tie(lead: Lead, target: Contact) -> None:
    """Let the Salesforce contact stand for this person; the lead's own contact hands over lists and history and is deleted."""
    own = db.session.get(Contact, lead.contact_id) if lead.contact_id else None
    target.is_lead = True
    lead.contact_id = target.id
    if own is not None and own.source == ContactSource.LEAD:
        was_deleted_here = own.hidden_at is not None and (
            lead.state == LeadState.CONVERTED or own.hidden_at != lead.signed_up_at
        )
        if was_deleted_here and target.hidden_at is None:
            target.hidden_at = own.hidden_at  # the advisor had deleted this person here
        hand_over_lists(own, target)
        hand_over_history(own, target)
        db.session.flush()
        db.session.delete(own)
    db.session.flush()


def follow_tied(user_id: int, run_id: int | None = None, lock: Callable[[], None] = lambda: None) -> int:
    """Record in leads and consent what became of the Salesforce contacts they are tied to; return for how many.

    lock: called before the first write.
    """
    rows = db.session.execute(unlike_their_contacts(Lead, Contact).where(Lead.user_id == user_id)).all()
    if rows:
        lock()
    for lead, contact in rows:
        at = contact.system_modstamp or utcnow()
        _record_opted_out(lead, OptOut(contact.opted_out, contact.consent_hidden), at, run_id)
        _record_deleted(lead, contact.departed in GONE_FOR_GOOD, at, run_id)
        lead.changed_at = utcnow()
    return len(rows)


def unlike_their_contacts(*what: Any) -> Select[*tuple[Any, ...]]:
    """Select from leads, and the Salesforce contacts they are tied to, that differ in whether they opted out or are gone."""
    is_gone = Contact.departed.in_(GONE_FOR_GOOD)
    differs = or_(
        Lead.opted_out != Contact.opted_out,
        Lead.consent_hidden != Contact.consent_hidden,
        and_(is_gone, ~Lead.is_deleted),
        and_(or_(Contact.departed.is_(None), ~is_gone), Lead.is_deleted),
    )
    is_tied = Contact.id == Lead.contact_id
    return (
        select(*what)
        .select_from(Lead)
        .join(Contact, is_tied)
        .where(Contact.source == ContactSource.SALESFORCE, differs)
    )


def record_not_imported(lead: Lead, opt_out: OptOut, run_id: int) -> None:
    """Record that the user's contact in Salesforce was not imported: it has opted out, or has no address."""
    _set_opted_out(lead, opt_out, utcnow(), run_id)
    lead.changed_at = utcnow()


def record_departed(lead: Lead, reason: Reason, run_id: int) -> None:
    """Record that the contact in Salesforce is another user's, or gone: the person can't be followed any more."""
    contact = _own_contact(lead)
    if contact is not None:
        contact.departed, contact.changed_at = reason, utcnow()
    if reason in GONE_FOR_GOOD:
        _record_deleted(lead, True, utcnow(), run_id)
    lead.changed_at = utcnow()


def follow_erased(lead: Lead, record: LeadRecord) -> None:
    """Erase the contact that a sync has just brought in for a person who was erased here as a lead."""
    update_blocked(lead, record)
    if _is_alive_again(lead, record):
        return
    if record.is_deleted and record.master_record_id:
        lead.salesforce_id = record.master_record_id  # the surviving lead may be converted to a contact
        tombstones.mark_erased(lead.user_id, [record.master_record_id])
    if record.is_converted and record.converted_contact_id and lead.linked_contact_id != record.converted_contact_id:
        lead.linked_contact_id = record.converted_contact_id
        tombstones.mark_erased(lead.user_id, [record.converted_contact_id])
        target = find_target(lead)
        if target is not None:
            erase_contact(target)


def update_blocked(lead: Lead, record: LeadRecord) -> None:
    """Store the address hash of an opted-out Lead, or delete it when the Lead no longer is. The lead here may be
    erased."""
    if lead.connection_id is None:
        return
    if record.is_opted_out is False or record.is_deleted or record.is_converted:
        unblock(lead.connection_id, [record.id])  # if the opt-out can't be seen, what was known stays
    elif record.is_opted_out and lead.address_hash is not None and not blocked_by(lead.connection_id, [record.id]):
        block(lead.connection_id, lead.user_id, BlockedBy.LEAD, {record.id: lead.address_hash})


def _is_alive_again(lead: Lead, record: LeadRecord) -> bool:
    """Has a person signed up since who got this same Lead?"""
    living = select(Lead.id).where(
        Lead.connection_id == lead.connection_id,
        Lead.salesforce_id == record.id,
        Lead.id != lead.id,
        Lead.state.in_(IN_SALESFORCE),
    )
    return db.session.scalar(living.limit(1)) is not None


def erase_contact(contact: Contact) -> None:
    """Delete what identifies a contact. Its Salesforce Id stays, so that syncs store nothing of the record."""
    now = utcnow()
    contact.first_name = contact.last_name = contact.email = contact.search_key = ""
    contact.address_hash = contact.account_id = None
    contact.bounced_at, contact.bounce_reason, contact.bounced_hash = Mark()
    contact.erased_at, contact.changed_at = now, now
    contact.hidden_at = contact.hidden_at or now
    for table in (ListMember, Restoration):
        db.session.execute(delete(table).where(table.contact_id == contact.id))
    suppressions.delete_words(contact)
    change_rows(db.session, update(RunChange).where(RunChange.contact_id == contact.id).values(old=null(), new=null()))


def _go_to_survivor(lead: Lead, survivor_id: str, run_id: int | None) -> None:
    """Follow a merge: the surviving Lead stands for the person, once a query by Id has shown its owner.

    If the survivor belongs to another sign-up, the person is here already, and that lead gets the lists.
    """
    other = db.session.scalars(
        select(Lead)
        .where(
            Lead.connection_id == lead.connection_id,
            Lead.salesforce_id == survivor_id,
            Lead.id != lead.id,
            Lead.state.in_(IN_SALESFORCE),
        )
        .order_by(Lead.id)
        .limit(1)
    ).first()
    if other is None:
        lead.salesforce_id = survivor_id
        own = _own_contact(lead)
        if own is not None:
            own.salesforce_id = survivor_id
            _take_over_open_lead(own, lead)
        lose_sight(lead, Unfollowed.MERGED)
        return
    lose_sight(lead, Unfollowed.DOUBLE, run_id)
    own, target = _own_contact(lead), db.session.get(Contact, other.contact_id) if other.contact_id else None
    if own is not None and target is not None:
        hand_over_lists(own, target)


def _deliver(lead: Lead, state: LeadState, connection_id: int) -> None:
    now = utcnow()
    lead.state, lead.connection_id, lead.delivered_at, lead.changed_at = state, connection_id, now, now
    lead.unanswered_at = None
    lead.end_lease()
    lead.why = lead.why_detail = lead.why_words = None
    lead.failures = 0


def _follow(lead: Lead) -> None:
    """Put the lead's contact on "Salesforce Leads" and record which connection follows it."""
    contact = _own_contact(lead)
    if contact is not None:
        contact.salesforce_id, contact.is_lead = lead.salesforce_id, True
        contact.followed_by_id, contact.changed_at = lead.connection_id, utcnow()
        _take_over_open_lead(contact, lead)


def _take_over_open_lead(contact: Contact, lead: Lead) -> None:
    """Let the sign-up's contact stand for its Lead, if a sync had brought that in as an open Lead like any other."""
    if lead.salesforce_id is None:
        return
    open_lead = db.session.scalar(
        select(Contact).where(Contact.connection_id == lead.connection_id, Contact.salesforce_id == lead.salesforce_id)
    )
    if open_lead is None:
        return
    hand_over_lists(open_lead, contact)
    hand_over_history(open_lead, contact)
    if open_lead.erased_at is None and contact.hidden_at is None:
        contact.hidden_at = open_lead.hidden_at  # the advisor had deleted this person here
    db.session.delete(open_lead)
    db.session.flush()


def _set_opted_out(lead: Lead, opt_out: OptOut, at: datetime, run_id: int | None = None) -> None:
    _record_opted_out(lead, opt_out, at, run_id)
    contact = _own_contact(lead)
    if contact is not None and opt_out != (contact.opted_out, contact.consent_hidden):
        contact.opted_out, contact.consent_hidden = opt_out
        contact.changed_at = utcnow()


def _mark_bounce(lead: Lead, bounce: Bounce) -> None:
    contact = _own_contact(lead)
    if contact is None:
        return
    before, mark = mark_of(contact), mark_after(bounce, mark_of(contact), contact.address_hash)
    if mark != before:
        contact.bounced_at, contact.bounce_reason, contact.bounced_hash = mark
        contact.changed_at = utcnow()


def _set_deleted(lead: Lead, is_deleted: bool, at: datetime, run_id: int | None = None) -> None:
    _record_deleted(lead, is_deleted, at, run_id)
    contact = _own_contact(lead)
    departed = Reason.DELETED if is_deleted else None
    if contact is not None and contact.departed != departed:
        contact.departed, contact.changed_at = departed, utcnow()


def _record_opted_out(lead: Lead, opt_out: OptOut, at: datetime, run_id: int | None) -> None:
    lead.consent_hidden = opt_out.is_consent_hidden
    if lead.opted_out != opt_out.is_opted_out:
        lead.opted_out = opt_out.is_opted_out
        kind = ConsentKind.OPTED_OUT if lead.opted_out else ConsentKind.BACK_IN
        consent.record(lead.id, kind, ConsentSource.SALESFORCE, at, run_id=run_id)


def _record_deleted(lead: Lead, is_deleted: bool, at: datetime, run_id: int | None) -> None:
    if lead.is_deleted != is_deleted:
        lead.is_deleted = is_deleted
        kind = ConsentKind.DELETED if is_deleted else ConsentKind.RESTORED
        consent.record(lead.id, kind, ConsentSource.SALESFORCE, at, run_id=run_id)


def _tell_if_stopped(lead: Lead, target: Contact | None) -> None:
    """Tell the advisor if a person who asked for mail has opted out in Salesforce or was deleted here."""
    is_hidden = target is not None and target.hidden_at is not None
    if (lead.opted_out or is_hidden) and lead.asked_again_at is None:
        lead.asked_again_at = lead.signed_up_at


@contextmanager
def contacts_at_hand(leads: Iterable[Lead]) -> Iterator[None]:
    """Read the contacts of these leads in one query; inside the block each lead finds its own without another."""
    ids = [lead.contact_id for lead in leads if lead.contact_id]
    held = db.session.scalars(select(Contact).where(Contact.id.in_(ids))).all() if ids else []
    yield  # the session forgets what no one holds
    del held


def _own_contact(lead: Lead) -> Contact | None:
    """Return the contact that the sign-up made, or None once the lead is tied to a Salesforce contact."""
    contact = db.session.get(Contact, lead.contact_id) if lead.contact_id else None
    return contact if contact is not None and contact.source == ContactSource.LEAD else None
