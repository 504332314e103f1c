"""Sign-ups that are confirmed by a link in an email, where the firm wants it.

Until then the lead waits like one for review (why: not_confirmed): it is stored, nothing is sent to the person, and it is
not sent to Salesforce. Nor does the sign-up end an earlier unsubscribe. The link is good for seven days and counts once.
Signing up once more sends another, but not within ten minutes: a robot must not fill a stranger's mailbox.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select

from asapp.connections import earlier_accounts
from asapp.contacts import suppressions
from asapp.contacts.twins import lock_advisor
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.leads import consent, news
from asapp.models import ConsentKind, ConsentSource, Lead, LeadState, Review
from asapp.models.lead import CONFIRMED

LINK_IS_GOOD_FOR = timedelta(days=7)
ASKED_AGAIN_AFTER = timedelta(minutes=10)

Ask = Callable[[str, str], None]  # stores the mail in the caller's transaction: (public id of the lead, address)


def may_ask_again(lead: Lead, now: datetime) -> bool:
    return now - max(lead.signed_up_at, lead.asked_again_at or lead.signed_up_at) > ASKED_AGAIN_AFTER


def confirm(user_id: int, public_id: str, link_key: str) -> bool:
    """Record that the person has confirmed by the link with this key; return False if there is no such person. Commits."""
    now = utcnow()
    with writing():
        lock_advisor(user_id)
        query = select(Lead).where(Lead.user_id == user_id, Lead.public_id == public_id).with_for_update()
        lead = db.session.scalar(query.execution_options(populate_existing=True))
        if lead is None or lead.is_erased:
            db.session.rollback()
            return False
        if consent.record(lead.id, ConsentKind.OPTED_IN, ConsentSource.FORM, now, key=CONFIRMED + link_key):
            _count(lead, now)
        db.session.commit()
    return True


def _count(lead: Lead, now: datetime) -> None:
    lead.confirmed_at = lead.changed_at = now
    if lead.state == LeadState.FOR_REVIEW and lead.why == Review.NOT_CONFIRMED:
        lead.state, lead.why, lead.next_attempt_at = LeadState.RECEIVED, None, now
        news.plan_mail(lead.user_id, now)
    earlier_accounts.send_again(lead.user_id, lead.partner_id, [lead.id])
    if lead.address_hash is not None:
        suppressions.record_opt_in(lead.user_id, lead.partner_id, lead.address_hash, now)
