"""Who may be written to: the one place that decides it.

A contact is active when no reason speaks against it. Which reason is given is fixed by precedence, the first that is
true: it left Salesforce (deleted, merged, reassigned, gone), the advisor deleted it here, the person unsubscribed or
complained, mail to its address bounced (as the sender or Salesforce says), it opted out in Salesforce, another record with
its address opted out, its connection was disconnected, or it is not known any more who opted out. Nothing of this is stored:
pages, export, counts and the sync ask the expressions below, which need Connection outer-joined to Contact.

Somebody from the sign-up page has said yes here, and is active on that until Salesforce has the Lead. From then on the
connection that follows the Lead decides, by what is known of leads (leads_known_until). Without the Lead's Id nobody can tell.
Nor can anybody tell of a sign-up that waits for its advisor to look: a robot may have made it up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, literal, null, or_, select

from asapp.contacts.addresses import HashRange
from asapp.contacts.bounces import is_skipped_as_bounced
from asapp.contacts.suppressions import is_suppressed, is_suppressed_as
from asapp.messages.contacts import UnknownWhy
from asapp.models import BlockedAddress, Connection, ConnectionStatus, Contact, ContactSource, Lead, Reason
from asapp.models.lead import IS_FOR_REVIEW

NO_EMAIL = "no_email"  # a shell: it waits for its address, and no page shows it


def contact_rows(*columns: Any) -> Select[Any]:
    """Select columns of contacts with the join that reason_of() and is_active() need."""
    through = func.coalesce(Contact.connection_id, Contact.followed_by_id)
    return select(*columns).select_from(Contact).outerjoin(Connection, through == Connection.id)


def is_shown() -> ColumnElement[bool]:
    """Shells, people who were erased on request, and people of the advisor's earlier firm are shown to nobody."""
    is_no_shell = or_(Contact.departed.is_(None), Contact.departed != NO_EMAIL)
    return and_(is_no_shell, Contact.erased_at.is_(None), Contact.left_firm_id.is_(None))


def reason_of(now: datetime, user_id: int | None = None) -> ColumnElement[str | None]:
    """Why a contact is inactive, as one of Reason; NULL for an active one. (A shell gives `no_email`.)

    user_id: whose contacts the query is about, if they are all one advisor's; then it costs less.
    """
    return case(
        (Contact.departed.is_not(None), Contact.departed),
        (Contact.hidden_at.is_not(None), literal(Reason.HIDDEN_HERE.value)),
        (is_suppressed_as(Reason.UNSUBSCRIBED, user_id), literal(Reason.UNSUBSCRIBED.value)),
        (is_suppressed_as(Reason.COMPLAINED, user_id), literal(Reason.COMPLAINED.value)),
        (or_(is_suppressed_as(Reason.BOUNCED, user_id), is_skipped_as_bounced()), literal(Reason.BOUNCED.value)),
        (Contact.opted_out, literal(Reason.OPTED_OUT.value)),
        (is_address_blocked(user_id), literal(Reason.TWIN_OPTED_OUT.value)),
        (
            or_(Contact.left_firm_id.is_not(None), Connection.status == ConnectionStatus.DISCONNECTED),
            literal(Reason.DISCONNECTED.value),
        ),
        (opt_outs_unknown(now, user_id), literal(Reason.OPT_OUT_UNKNOWN.value)),
        else_=null(),
    )


def reason_told(reason: str | None, is_for_review: bool, is_out_of_sight: bool) -> str | None:
    """Return the reason that people are told: an opt-out that is not known more exactly, where more can be said."""
    if reason != Reason.OPT_OUT_UNKNOWN:
        return reason
    if is_for_review:
        return UnknownWhy.FOR_REVIEW
    return UnknownWhy.OUT_OF_SIGHT if is_out_of_sight else reason


def is_active(now: datetime, user_id: int | None = None, hashes: HashRange | None = None) -> ColumnElement[bool]:
    """May this contact be written to? The same rule as reason_of(), in a form that counts cheaply.

    hashes: of the addresses that the query is about, if it is not about all of this advisor's; then it costs less.
    """
    return and_(
        Contact.departed.is_(None),
        Contact.hidden_at.is_(None),
        ~is_suppressed(user_id, hashes),
        ~is_skipped_as_bounced(),
        ~Contact.opted_out,
        ~is_address_blocked(user_id, hashes),
        Contact.left_firm_id.is_(None),
        or_(Connection.id.is_(None), Connection.status != ConnectionStatus.DISCONNECTED),
        ~opt_outs_unknown(now, user_id),
    )


def is_address_blocked(user_id: int | None = None, hashes: HashRange | None = None) -> ColumnElement[bool]:
    """Has a record of the advisor's with this address opted out? Its own record counts: then it is opted out itself.

    user_id: as in reason_of(). The advisor's blocked addresses are read once then, instead of a look-up for each contact.
    hashes: as in is_active().
    """
    if user_id is not None:
        blocked = select(BlockedAddress.address_hash).where(BlockedAddress.user_id == user_id)
        if hashes is not None:
            blocked = blocked.where(hashes.holds(BlockedAddress.address_hash))
        return and_(Contact.address_hash.is_not(None), Contact.address_hash.in_(blocked))
    return exists().where(
        BlockedAddress.user_id == Contact.user_id, BlockedAddress.address_hash == Contact.address_hash
    )


def is_person_on(user_id: int | None = None) -> ColumnElement[bool]:
    """May this contact be written to, as far as the person goes? The connection has reasons of its own."""
    return and_(
        Contact.departed.is_(None),
        Contact.hidden_at.is_(None),
        ~is_suppressed(user_id),
        ~is_skipped_as_bounced(),
        ~Contact.opted_out,
        ~is_address_blocked(user_id),
    )


def opt_outs_unknown(now: datetime, user_id: int | None = None) -> ColumnElement[bool]:
    """Unknown never counts as consent: what we learnt of a connection's opt-outs holds until a moment, then no more.

    user_id: as in reason_of().
    """
    of_contact = and_(
        Contact.connection_id.is_not(None),
        or_(Connection.opt_outs_known_until.is_(None), Connection.opt_outs_known_until <= now),
    )
    of_lead = and_(
        Contact.connection_id.is_(None),
        Contact.followed_by_id.is_not(None),
        or_(
            Contact.salesforce_id.is_(None),
            Connection.leads_known_until.is_(None),
            Connection.leads_known_until <= now,
        ),
    )
    return or_(of_contact, of_lead, out_of_sight(now), waits_for_review(user_id))


def waits_for_review(user_id: int | None = None) -> ColumnElement[bool]:
    """Does this sign-up wait until the advisor has looked at it?

    user_id: as in reason_of(). The people who wait are read once then.
    """
    if user_id is not None:
        waiting = select(Lead.contact_id).where(Lead.user_id == user_id, Lead.contact_id.is_not(None), IS_FOR_REVIEW)
        return and_(Contact.source == ContactSource.LEAD, Contact.id.in_(waiting))
    waits = exists().where(Lead.contact_id == Contact.id, IS_FOR_REVIEW).correlate(Contact)
    return and_(Contact.source == ContactSource.LEAD, waits)


def out_of_sight(now: datetime) -> ColumnElement[bool]:
    """A contact that is kept here although Salesforce no longer shows it has a moment of its own, after which it is unknown."""
    return and_(Contact.opt_out_known_until.is_not(None), Contact.opt_out_known_until <= now)


def is_only_out_of_sight(now: datetime) -> ColumnElement[bool]:
    """Is this contact alone unknown, while all others of its connection are known?"""
    return and_(out_of_sight(now), Connection.opt_outs_known_until.is_not(None), Connection.opt_outs_known_until > now)


def count_active(now: datetime, user_id: int | None = None) -> ColumnElement[int]:
    """How many rows of the query are active."""
    return func.count(case((is_active(now, user_id), 1)))
