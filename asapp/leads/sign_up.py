"""Store a sign-up from an advisor's page.

Lead, consent and contact are stored in one transaction before anything else happens. The address is the person: signing
up again, also under another name, adds to the history and makes no second lead. A form that arrives twice counts once,
as its key is stored in the history. The history also tells how many people a form has served, across all web processes:
after twenty it has to be loaded again, so that a form left open doesn't collect people for ever.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import insert, select

from asapp.connections import earlier_accounts
from asapp.contacts import suppressions, tombstones
from asapp.contacts.addresses import address_hash, address_key
from asapp.contacts.twins import lock_advisor
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.vault import Vault
from asapp.leads import consent, news, sign_up_page
from asapp.leads.confirming import Ask, may_ask_again
from asapp.leads.form_fields import Typed, check_typed
from asapp.models import (
    ConsentEvent,
    ConsentKind,
    ConsentSource,
    Contact,
    ContactSource,
    Lead,
    LeadState,
    OptInPage,
    Review,
    User,
)
from asapp.models.columns import new_public_id
from asapp.models.search import search_key

DETAILS_KEPT = 100  # sign-ups of one person whose name and client address are kept
FORM_SERVES = 20  # people; on a shared tablet the form is loaded again for each person


class FormUsedUp(Exception):
    """This form has served its number of people: it has to be loaded again."""


class FormSeen(NamedTuple):
    """The form that the person saw, and where they were. key: of this form alone."""

    consent_text_id: int
    key: str
    client_address: str


class FirmChanged(Exception):
    """The advisor has just moved: the text that the person agreed to names the old firm."""


def sign_up(page: OptInPage, typed: Typed, shown: FormSeen, vault: Vault, ask: Ask | None = None) -> int:
    """Store a sign-up and return the lead's id. Raise InvalidFields, FirmChanged or FormUsedUp. Commits.

    ask: stores the mail with the link to confirm, in this transaction; called where the firm wants sign-ups confirmed.

    Lookups that need no lock come first, so that on SQLite only the writes of several sign-ups wait for each other.
    Sign-ups with one advisor go one after the other: the page's limits are exact, a move or an erasure is either done
    or waits, and no person is stored twice.
    """
    clean = check_typed(typed)
    user_id, partner = page.user_id, page.user.partner
    if partner is None:
        raise LookupError("an advisor without a firm has no page")
    partner_id, ask = partner.id, ask if partner.confirms_sign_ups else None
    hashed = address_hash(clean.email, address_key(db.session(), partner, vault))
    db.session.commit()
    with writing():
        lock_advisor(user_id)
        if db.session.scalar(select(User.partner_id).where(User.id == user_id)) != partner_id:
            db.session.rollback()
            raise FirmChanged
        page = sign_up_page.lock(user_id)
        lead = _lock_known(user_id, hashed)
        if _count_served(shown.key, lead) >= FORM_SERVES:
            db.session.rollback()
            raise FormUsedUp
        if lead is None:
            review = sign_up_page.add_to_day(page, utcnow())
            lead_id = _insert(user_id, partner_id, clean, hashed, shown, review, ask)
        else:
            lead_id = lead.id
            _add_to(lead, clean, shown, ask)
        db.session.commit()
    return lead_id


def _lock_known(user_id: int, hashed: bytes) -> Lead | None:
    """Return the lead of the person with this address, locked; None for a new person, or one who was just erased."""
    query = select(Lead).where(Lead.user_id == user_id, Lead.address_hash == hashed).with_for_update()
    return db.session.scalar(query.execution_options(populate_existing=True))


def _count_served(key: str, known: Lead | None) -> int:
    """Return how many other people have signed up with this form, FORM_SERVES at most."""
    served = select(ConsentEvent.lead_id).where(ConsentEvent.key == key)
    if known is not None:
        served = served.where(ConsentEvent.lead_id != known.id)
    return len(db.session.scalars(served.limit(FORM_SERVES)).all())


def _insert(
    user_id: int,
    partner_id: int,
    clean: Typed,
    hashed: bytes,
    shown: FormSeen,
    review: Review | None,
    ask: Ask | None,
) -> int:
    """Store a new lead with its contact and consent; return the lead's id. review: why it waits for the advisor's
    review."""
    now, public_id = utcnow(), new_public_id()
    if ask is not None and review is None:
        review = Review.NOT_CONFIRMED
        ask(public_id, clean.email)
    who: dict[str, Any] = {
        "user_id": user_id,
        "first_name": clean.first_name,
        "last_name": clean.last_name,
        "email": clean.email,
        "search_key": search_key(clean.first_name, clean.last_name, clean.email),
        "address_hash": hashed,
    }
    hidden_at = now if tombstones.is_address_hidden(user_id, hashed) else None  # deleted here: hidden until Restore
    of_contact = insert(Contact).values(who | {"source": ContactSource.LEAD, "hidden_at": hidden_at})
    of_lead = {
        "public_id": public_id,
        "partner_id": partner_id,
        "contact_id": db.session.scalar(of_contact.returning(Contact.id)),
        "details": {shown.key: _details(clean, shown)},
        "state": LeadState.FOR_REVIEW if review else LeadState.RECEIVED,
        "why": review,
        "next_attempt_at": now,
        "signed_up_at": now,
        "asked_again_at": hidden_at,  # so that the advisor is told
        "changed_at": now,
    }
    lead_id = db.session.scalars(insert(Lead).values(who | of_lead).returning(Lead.id)).one()
    _record(lead_id, shown, now)
    tombstones.end_erasure(user_id, hashed)
    if ask is None:
        suppressions.record_opt_in(user_id, partner_id, hashed, now)
    if review is None:
        news.plan_mail(user_id, now)
    return lead_id


def _add_to(lead: Lead, clean: Typed, shown: FormSeen, ask: Ask | None) -> None:
    """Add a sign-up to the history of a known person, who keeps the first name given."""
    now = utcnow()
    may_ask = may_ask_again(lead, now)
    if _record(lead.id, shown, now):
        lead.asked_again_at = lead.changed_at = now
        if len(lead.details) < DETAILS_KEPT:
            lead.details = {**lead.details, shown.key: _details(clean, shown)}
        if ask is not None:
            if may_ask and not (lead.state == LeadState.FOR_REVIEW and lead.why != Review.NOT_CONFIRMED):
                ask(lead.public_id, lead.email)
            return
        earlier_accounts.send_again(lead.user_id, lead.partner_id, [lead.id])
        if lead.address_hash is not None:
            suppressions.record_opt_in(lead.user_id, lead.partner_id, lead.address_hash, now)


def _record(lead_id: int, shown: FormSeen, now: datetime) -> bool:
    """Add to the history; return False if this form was already recorded."""
    return consent.record(
        lead_id, ConsentKind.OPTED_IN, ConsentSource.FORM, now, key=shown.key, consent_text_id=shown.consent_text_id
    )


def _details(clean: Typed, shown: FormSeen) -> dict[str, str]:
    return {"first_name": clean.first_name, "last_name": clean.last_name, "client_address": shown.client_address}
