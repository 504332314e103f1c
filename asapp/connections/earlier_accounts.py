"""People who were sent through an account that is now disconnected, and signed up again since.

Their old Lead is in an org that is no longer queried, so they would stay inactive. Signing up again is a new sign-up, and
is sent once through the account that is connected now. A person who opted out there stays opted out: the last known state
holds, and the advisor is told that they asked again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select

from asapp.contacts import tombstones
from asapp.contacts.twins import lock_advisor
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, ConnectionStatus, Contact, ContactSource, Lead, LeadState
from asapp.models.lead import IN_SALESFORCE


def send_again(user_id: int, partner_id: int, lead_ids: Collection[int] | None = None) -> int:
    """Put these people of the advisor and firm (None: all) back into the outbox, in the caller's transaction.

    Does nothing unless another account is connected now. Returns for how many.
    """
    statuses = set(
        db.session.scalars(
            select(Connection.status).where(Connection.user_id == user_id, Connection.partner_id == partner_id)
        )
    )
    if ConnectionStatus.DISCONNECTED not in statuses or statuses == {ConnectionStatus.DISCONNECTED}:
        return 0
    lock_advisor(user_id)
    query = (
        select(Lead)
        .join(Connection, Connection.id == Lead.connection_id)
        .where(
            Lead.user_id == user_id,
            Lead.partner_id == partner_id,
            Lead.state.in_(IN_SALESFORCE),
            Lead.asked_again_at >= Connection.status_changed_at,
            Connection.status == ConnectionStatus.DISCONNECTED,
        )
        .order_by(Lead.id)
        .with_for_update(of=Lead)
    )
    if lead_ids is not None:
        query = query.where(Lead.id.in_(lead_ids))
    leads = [lead for lead in db.session.scalars(query) if not _has_opted_out(lead)]
    for lead in leads:
        _start_over(lead)
    db.session.flush()
    return len(leads)


def _has_opted_out(lead: Lead) -> bool:
    """Has the person opted out? The contact that stands for them may know it before the lead does."""
    contact = db.session.get(Contact, lead.contact_id) if lead.contact_id else None
    return lead.opted_out or (contact is not None and contact.opted_out)


def _start_over(lead: Lead) -> None:
    """Reset a lead as if it had just come in; its history stays."""
    lead.contact_id = _contact_of(lead).id
    lead.state, lead.failures = LeadState.RECEIVED, 0
    lead.why = lead.why_detail = lead.why_words = None
    lead.connection_id = lead.salesforce_id = lead.owner_id = None
    lead.linked_kind = lead.linked_contact_id = None
    lead.system_modstamp = lead.first_attempt_at = lead.unanswered_at = None
    lead.ran_assignment, lead.was_checked = None, False
    lead.delivered_at = lead.converted_at = None
    lead.is_deleted = False
    lead.next_attempt_at = lead.changed_at = utcnow()


def _contact_of(lead: Lead) -> Contact:
    """Return the contact that the sign-up made, or a new one if a contact of the old account stood for the person."""
    old = db.session.get(Contact, lead.contact_id) if lead.contact_id else None
    if old is not None and old.source == ContactSource.LEAD:
        old.salesforce_id = old.followed_by_id = old.departed = old.merged_into = None
        old.changed_at = utcnow()
        return old
    new = Contact(
        user_id=lead.user_id,
        source=ContactSource.LEAD,
        first_name=lead.first_name,
        last_name=lead.last_name,
        email=lead.email,
        search_key=lead.search_key,
        address_hash=lead.address_hash,
        hidden_at=old.hidden_at if old is not None else _marked_hidden_at(lead),  # the advisor deleted this person here
    )
    db.session.add(new)
    db.session.flush()
    return new


def _marked_hidden_at(lead: Lead) -> datetime | None:
    """Return when the person was deleted here, from the tombstone: the contact went with its connection."""
    if lead.address_hash is None or not tombstones.is_address_hidden(lead.user_id, lead.address_hash):
        return None
    return utcnow()
