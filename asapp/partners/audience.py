"""The advisors that a sender writes for, each with the lists and how many people on them may be written to."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from asapp.contacts.queries import ListCount, count_contacts_of
from asapp.contacts.recipients import is_here
from asapp.core.extensions import db
from asapp.messages.states import AdvisorState
from asapp.models import Partner, User
from asapp.panel.standings import find_standings


class AdvisorWithLists(NamedTuple):
    """active: contacts that may be written to. opt_outs_as_of: the last good sync; None if there was none."""

    user: User
    partner: Partner
    state: AdvisorState
    opt_outs_as_of: datetime | None
    active: int
    lists: list[ListCount]


class AdvisorPage(NamedTuple):
    """after: where the next page begins; None at the end."""

    found: list[AdvisorWithLists]
    after: str | None


def find_firm(slug: str, partner_id: int | None) -> Partner | None:
    """Return a firm that a key may access; partner_id: the one that it is bound to."""
    partner = db.session.scalar(select(Partner).where(Partner.slug == slug, Partner.deleted_at.is_(None)))
    return partner if partner is not None and partner_id in (None, partner.id) else None


def find_page(partner_id: int | None, email: str | None, limit: int, after: str, now: datetime) -> AdvisorPage:
    """Return advisors in the order of their public ids: a fixed number of queries, however many there are.

    partner_id, email: of this firm, with this address; None: any.
    after: the last id of the page before; "" for the first.
    """
    query = select(User).options(joinedload(User.partner)).where(is_here(partner_id), User.public_id > after)
    if email is not None:
        query = query.where(User.email == email.strip().lower())
    users = db.session.scalars(query.order_by(User.public_id).limit(limit + 1)).all()
    more, users = len(users) > limit, users[:limit]
    standings, overviews = find_standings(users, now), count_contacts_of([user.id for user in users], now)
    found = []
    for user in users:
        overview, standing = overviews[user.id], standings[user.id]
        latest = standing.latest
        as_of = latest.opt_outs_as_of if latest else None
        partner = user.partner or db.session.get_one(Partner, user.partner_id)
        found.append(AdvisorWithLists(user, partner, standing.state, as_of, overview.everybody.active, overview.lists))
    return AdvisorPage(found, users[-1].public_id if more else None)
