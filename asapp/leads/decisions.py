"""What an advisor can decide about a lead: retry, mark as found in Salesforce, acknowledge, erase. All commit."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select, update

from asapp.audit import entries
from asapp.audit.entries import ITSELF, Actor
from asapp.contacts import tombstones
from asapp.contacts.twins import lock_advisor
from asapp.core.clock import utcnow
from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.leads import consent, outcomes, sign_up_page
from asapp.leads.confirming import Ask
from asapp.leads.queries import is_hidden_here, is_of_present_firm
from asapp.messages.codes import Code
from asapp.models import (
    Action,
    ConsentKind,
    ConsentSource,
    Contact,
    Lead,
    LeadState,
    Review,
    ToCheck,
    User,
)
from asapp.models.lead import IS_FOR_REVIEW


def retry(lead: Lead) -> bool:
    """Send a refused or waiting lead again; return False if there is nothing to retry.

    If an earlier create was never answered, the delivery looks for its lead first, as always.
    """
    db.session.refresh(lead, with_for_update=True)
    if not lead.can_retry:
        db.session.commit()
        return False
    _let_go(lead)
    db.session.commit()
    return True


def retry_all(user_id: int) -> int:
    """Retry all of the advisor's refused leads; return how many."""
    leads = db.session.scalars(
        select(Lead).where(is_of_present_firm(user_id), Lead.state == LeadState.REFUSED).with_for_update()
    ).all()
    for lead in leads:
        _let_go(lead)
    db.session.commit()
    return len(leads)


def send_reviewed(user: User, ask: Ask) -> int:
    """Send the leads that waited for the advisor's review and start a new day for the page's limit; return how many.

    ask: as in sign_up(). Where the firm wants sign-ups confirmed, these people are asked now.
    Leads that the advisor has deleted here are left out: they were fakes.
    """
    now, page = utcnow(), sign_up_page.ensure_page(user)
    sign_up_page.begin_day(sign_up_page.lock(page.user_id), now)
    waiting = (is_of_present_firm(user.id), IS_FOR_REVIEW, Lead.why != Review.NOT_CONFIRMED, ~is_hidden_here())
    if user.partner is not None and user.partner.confirms_sign_ups:
        people = db.session.scalars(select(Lead).where(*waiting)).all()
        for lead in people:
            lead.why, lead.changed_at = Review.NOT_CONFIRMED, now
            ask(lead.public_id, lead.email)
        db.session.commit()
        return len(people)
    released = update(Lead).where(*waiting)
    count = change_rows(
        db.session, released.values(state=LeadState.RECEIVED, why=None, next_attempt_at=now, changed_at=now)
    )
    db.session.commit()
    return count


def send_after_all(lead: Lead) -> bool:
    """Send a lead that the advisor did not find in Salesforce. The delivery looks for it once more first."""
    db.session.refresh(lead, with_for_update=True)
    if not lead.must_be_checked:
        db.session.commit()
        return False
    is_out_of_sight = lead.why == ToCheck.OUT_OF_SIGHT
    if not is_out_of_sight:
        lead.unanswered_at = None
    _let_go(lead)
    lead.was_checked = is_out_of_sight
    lead.why = Code.CHECKED if is_out_of_sight else None
    db.session.commit()
    return True


def mark_as_present(lead: Lead) -> bool:
    """Record that the advisor found the person in Salesforce, where we can't see what becomes of them."""
    db.session.refresh(lead, with_for_update=True)
    if not lead.must_be_checked or lead.connection_id is None:
        db.session.commit()
        return False
    outcomes.record_unseen(lead, lead.connection_id)
    db.session.commit()
    return True


def acknowledge(user_id: int, public_ids: Collection[str]) -> None:
    """Record that the advisor has seen that these people asked for mail again."""
    change_rows(
        db.session,
        update(Lead)
        .where(is_of_present_firm(user_id), Lead.asked_again_at.is_not(None), Lead.public_id.in_(public_ids))
        .values(asked_again_seen_at=utcnow()),
    )
    db.session.commit()


def erase(user_id: int, contact: Contact, by: Actor = ITSELF) -> None:
    """Erase a person on request: what identifies them is removed, the anonymous history of consent stays.

    Their Salesforce Ids and the keyed hash of the address are kept: a sync that reads such a record stores nothing of
    it.
    """
    lock_advisor(user_id)
    db.session.refresh(contact, with_for_update=True)
    leads = db.session.scalars(
        select(Lead).where(Lead.user_id == user_id, Lead.contact_id == contact.id).order_by(Lead.id).with_for_update()
    ).all()
    ids = _mark_erased(user_id, contact, *leads)
    for lead in leads:
        _erase_lead(lead)
    outcomes.erase_contact(contact)
    db.session.flush()
    _erase_contacts(user_id, ids)
    entries.record(Action.ERASED, by, contact)
    db.session.commit()


def erase_lead(lead: Lead, by: Actor = ITSELF) -> None:
    """Erase a person whose contact was removed with a connection."""
    contact = db.session.get(Contact, lead.contact_id) if lead.contact_id else None
    if contact is not None:
        erase(lead.user_id, contact, by)
        return
    lock_advisor(lead.user_id)
    db.session.refresh(lead, with_for_update=True)
    ids = _mark_erased(lead.user_id, lead)
    _erase_lead(lead)
    _erase_contacts(lead.user_id, ids)
    entries.record(Action.ERASED, by, None, lead=lead.id)
    db.session.commit()


def _let_go(lead: Lead) -> None:
    lead.state = LeadState.SENDING if lead.unanswered_at else LeadState.WAITING
    lead.why = lead.why_detail = lead.why_words = None
    lead.failures = 0
    lead.next_attempt_at = lead.changed_at = utcnow()


def _mark_erased(user_id: int, *rows: Contact | Lead) -> list[str]:
    ids = [row.salesforce_id for row in rows] + [row.linked_contact_id for row in rows if isinstance(row, Lead)]
    hashes = [row.address_hash for row in rows]
    known = [each for each in ids if each]
    tombstones.mark_erased(user_id, known, [each for each in hashes if each])
    return known


def _erase_contacts(user_id: int, salesforce_ids: list[str]) -> None:
    """Erase contacts that a sync has brought in for these records before they were tied to the person's lead."""
    others = select(Contact).where(
        Contact.user_id == user_id, Contact.salesforce_id.in_(salesforce_ids), Contact.erased_at.is_(None)
    )
    for other in db.session.scalars(others.order_by(Contact.id).with_for_update()).all():
        outcomes.erase_contact(other)


def _erase_lead(lead: Lead) -> None:
    consent.record(lead.id, ConsentKind.ERASED, ConsentSource.ADVISOR, utcnow())
    lead.first_name = lead.last_name = lead.email = lead.search_key = ""
    lead.address_hash, lead.details = None, {}
    lead.why_words = lead.why_detail = None
    lead.state, lead.changed_at = LeadState.ERASED, utcnow()
    lead.end_lease()
