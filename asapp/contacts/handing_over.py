"""One contact takes the place of another that stands for the same person. Everything here joins the caller's transaction."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from asapp.core.database import change_rows
from asapp.core.extensions import db
from asapp.models import Contact, ListMember, Restoration, RunChange, SuppressionWords


def hand_over_lists(own: Contact, target: Contact) -> int:
    """Move the advisor's own list memberships from one contact to the other; return how many there were."""
    there = set(db.session.scalars(select(ListMember.list_id).where(ListMember.contact_id == target.id)))
    mine = set(db.session.scalars(select(ListMember.list_id).where(ListMember.contact_id == own.id)))
    missing = [{"list_id": list_id, "contact_id": target.id} for list_id in sorted(mine - there)]
    if missing:
        db.session.execute(insert(ListMember), missing)
    db.session.execute(delete(ListMember).where(ListMember.contact_id == own.id))
    return len(mine)


def hand_over_history(own: Contact, target: Contact) -> None:
    """Move what syncs changed about the contact, when it was restored, and the sender's words about its address."""
    for history in (RunChange, Restoration):
        change_rows(db.session, update(history).where(history.contact_id == own.id).values(contact_id=target.id))
    known = select(SuppressionWords.event_id).where(SuppressionWords.contact_id == target.id)
    words = (SuppressionWords.contact_id == own.id, SuppressionWords.event_id.not_in(known))
    change_rows(db.session, update(SuppressionWords).where(*words).values(contact_id=target.id))
