"""Who may be written to: the only place that decides it.

A contact is active if no reason speaks against it. Of several reasons the first is given: it left Salesforce (deleted,
merged, reassigned, gone), the advisor deleted it here, the person unsubscribed or complained, mail to its address bounced
(as the sender or Salesforce reports), it opted out in Salesforce, another record with its address opted out, its connection
was disconnected or the firm disabled, or its opt-out is not known any more. None of this is stored: pages, export, counts and
the sync use the expressions below, which need Connection outer-joined to Contact.

A person from the sign-up page has given consent here, and is active on that until Salesforce has the Lead. From then on
the connection that follows the Lead decides, by what is known of leads (leads_known_until). Without the Lead's Id the
opt-out is not known. The opt-out of an open Lead that a firm brings in is known while its contacts' opt-outs are, and as long as
such Leads are read. Nor is it for a sign-up that waits for its advisor's review: it may be a robot's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    union,
)

from asapp.contacts.addresses import HashRange
from asapp.contacts.bounces import is_skipped_as_bounced
from asapp.contacts.suppressions import is_suppressed, is_suppressed_as, suppressed_hashes
from asapp.messages.contacts import UnknownWhy
from asapp.models import (
    BlockedAddress,
    Connection,
    ConnectionStatus,
    Contact,
    ContactSource,
    Departure,
    DepartureState,
    Lead,
    Partner,
    Reason,
    User,
)
from asapp.models.contact import IS_HELD
from asapp.models.lead import IS_FOR_REVIEW

NO_EMAIL = "no_email"  # a shell: no page shows it


def contact_rows(*columns: Any) -> Select[Any]:
    """Select columns of contacts with the join that reason_of() and is_active() need."""
    through = func.coalesce(Contact.connection_id, Contact.followed_by_id)
    return select(*columns).select_from(Contact).outerjoin(Connection, through == Connection.id)


def is_shown() -> ColumnElement[bool]:
    """Is the contact shown at all? Shells, erased people, and people of the advisor's earlier firm are not."""
    is_no_shell = or_(Contact.departed.is_(None), Contact.departed != NO_EMAIL)
    return and_(is_no_shell, Contact.erased_at.is_(None), Contact.left_firm_id.is_(None))


def reason_of(now: datetime, user_id: int | None = None) -> ColumnElement[str | None]:
    """Return why a contact is inactive, as one of Reason; NULL for an active one. (A shell gives `no_email`.)

    user_id: the contacts' advisor, if all are one advisor's; the query is then cheaper.
    """
    return case(
        (Contact.departed.is_not(None), Contact.departed),
        (Contact.hidden_at.is_not(None), literal(Reason.HIDDEN_HERE.value)),
        (is_suppressed(user_id), _suppressed_as(user_id)),
        (is_skipped_as_bounced(), literal(Reason.BOUNCED.value)),
        (Contact.opted_out, literal(Reason.OPTED_OUT.value)),
        (is_address_blocked(user_id), literal(Reason.TWIN_OPTED_OUT.value)),
        (
            or_(
                Contact.left_firm_id.is_not(None),
                Connection.status == ConnectionStatus.DISCONNECTED,
                is_firm_disabled(user_id),
            ),
            literal(Reason.DISCONNECTED.value),
        ),
        (opt_outs_unknown(now, user_id), literal(Reason.OPT_OUT_UNKNOWN.value)),
        else_=null(),
    )


def has_reason(reason: str, now: datetime, user_id: int) -> ColumnElement[bool]:
    """Is this the reason_of() a contact of the advisor's? What has to hold for it anyway is asked first: most have another."""
    at_least: dict[str, ColumnElement[bool]] = {
        Reason.HIDDEN_HERE: Contact.hidden_at.is_not(None),
        Reason.UNSUBSCRIBED: _asked_of_each(is_suppressed(user_id)),
        Reason.COMPLAINED: _asked_of_each(is_suppressed(user_id)),
        Reason.BOUNCED: or_(is_suppressed(user_id), is_skipped_as_bounced()),
        Reason.OPTED_OUT: Contact.opted_out.is_(True),
        Reason.TWIN_OPTED_OUT: _asked_of_each(is_address_blocked(user_id)),
        Reason.DISCONNECTED: Contact.departed.is_(None),
        Reason.OPT_OUT_UNKNOWN: Contact.departed.is_(None),
    }
    return and_(at_least.get(reason, Contact.departed == reason), reason_of(now, user_id) == reason)


def _asked_of_each(is_among: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition as one on each contact. PostgreSQL would make a join of it, and compare each contact with each
    address where it has not counted its rows yet.
    """
    return case((is_among, true()), else_=false())


def _suppressed_as(user_id: int | None) -> ColumnElement[str]:
    """Return the reason of a contact whose address is suppressed. (Most are not: so this is asked about few.)"""
    return case(
        (is_suppressed_as(Reason.UNSUBSCRIBED, user_id), literal(Reason.UNSUBSCRIBED.value)),
        (is_suppressed_as(Reason.COMPLAINED, user_id), literal(Reason.COMPLAINED.value)),
        else_=literal(Reason.BOUNCED.value),
    )


def reason_told(
    reason: str | None,
    is_for_review: bool,
    is_out_of_sight: bool,
    is_not_read: bool,
    is_converted: bool,
    is_consent_hidden: bool,
    is_firm_disabled: bool,
) -> str | None:
    """Return the reason to show: a more exact one for some opt-outs that are not known or not seen, and for a converted Lead."""
    if reason == Reason.MERGED and is_converted:
        return UnknownWhy.CONVERTED
    if reason == Reason.OPTED_OUT and is_consent_hidden:
        return UnknownWhy.CONSENT_HIDDEN
    if reason == Reason.DISCONNECTED and is_firm_disabled:
        return UnknownWhy.FIRM_DISABLED
    if reason != Reason.OPT_OUT_UNKNOWN:
        return reason
    if is_for_review:
        return UnknownWhy.FOR_REVIEW
    if is_not_read:
        return UnknownWhy.LEADS_OFF
    return UnknownWhy.OUT_OF_SIGHT if is_out_of_sight else reason


def is_active(now: datetime, user_id: int | None = None, hashes: HashRange | None = None) -> ColumnElement[bool]:
    """May this contact be written to? The same rule as reason_of(), in a form that is cheap to count.

    hashes: of the addresses that the query is about, if it is not about all of this advisor's; then it costs less.
    """
    return and_(is_active_but_for_address(now, user_id), ~is_address_refused(user_id, hashes))


def is_active_but_for_address(now: datetime, user_id: int | None = None) -> ColumnElement[bool]:
    """Would this contact be active if its address were neither suppressed nor another opted-out record's?"""
    return and_(
        Contact.departed.is_(None),
        Contact.hidden_at.is_(None),
        ~is_skipped_as_bounced(),
        ~Contact.opted_out,
        Contact.left_firm_id.is_(None),
        or_(Connection.id.is_(None), Connection.status != ConnectionStatus.DISCONNECTED),
        ~is_firm_disabled(user_id),
        ~opt_outs_unknown(now, user_id),
    )


def is_firm_disabled(user_id: int | None = None) -> ColumnElement[bool]:
    """Is the advisor's firm disabled or stopped? Then no one is written to, contacts made here included.

    user_id: as in reason_of(). The firm is then read once.
    """
    disabled = select(User.id).join(Partner, User.partner_id == Partner.id).where(~Partner.is_enabled).correlate(None)
    return Contact.user_id.in_(disabled) if user_id is None else exists(disabled.where(User.id == user_id))


def refused_ids(user_id: int, *, is_postgresql: bool) -> Select[int]:
    """Select the advisor's contacts with an address that is suppressed, or an opted-out record's: each is found by the index."""
    hashes = _refused_hashes(user_id).subquery()
    found = select(Contact.id).where(Contact.user_id == user_id)
    if not is_postgresql:
        return found.where(Contact.address_hash.in_(select(hashes.c.address_hash)))
    # Before it has counted its rows, PostgreSQL might compare each contact with each address.
    each = found.where(Contact.address_hash == hashes.c.address_hash).offset(0).lateral()
    return select(each.c.id).select_from(hashes).join(each, true())


def _refused_hashes(user_id: int, hashes: HashRange | None = None) -> CompoundSelect[bytes]:
    return union(_blocked_hashes(user_id, hashes), *suppressed_hashes(user_id, hashes))


def _blocked_hashes(user_id: int, hashes: HashRange | None = None) -> Select[bytes]:
    blocked = select(BlockedAddress.address_hash).where(BlockedAddress.user_id == user_id)
    return blocked if hashes is None else blocked.where(hashes.holds(BlockedAddress.address_hash))


def is_address_refused(user_id: int | None = None, hashes: HashRange | None = None) -> ColumnElement[bool]:
    """Is the address of this contact suppressed, or has a record with it opted out?

    user_id: as in reason_of(). All refused addresses are then read once, as one set, so that the address of each contact is
    looked up once. hashes: as in is_active().
    """
    if user_id is None:
        return or_(is_suppressed(), is_address_blocked())
    return and_(Contact.address_hash.is_not(None), Contact.address_hash.in_(_refused_hashes(user_id, hashes)))


def is_address_blocked(user_id: int | None = None) -> ColumnElement[bool]:
    """Has a record of the advisor's with this address opted out? That includes the contact's own.

    user_id: as in reason_of(). The advisor's blocked addresses are then read once, not looked up for each contact.
    """
    if user_id is not None:
        return and_(Contact.address_hash.is_not(None), Contact.address_hash.in_(_blocked_hashes(user_id)))
    return exists().where(
        BlockedAddress.user_id == Contact.user_id, BlockedAddress.address_hash == Contact.address_hash
    )


def is_person_on(user_id: int | None = None) -> ColumnElement[bool]:
    """May this contact be written to, apart from reasons of its connection?"""
    return and_(
        Contact.departed.is_(None),
        Contact.hidden_at.is_(None),
        ~is_skipped_as_bounced(),
        ~Contact.opted_out,
        ~is_address_refused(user_id),
    )


def opt_outs_unknown(now: datetime, user_id: int | None = None) -> ColumnElement[bool]:
    """Is the opt-out unknown, which never counts as consent? What we read of a connection's opt-outs counts until a set
    time.

    user_id: as in reason_of().
    """
    of_contact = and_(Contact.connection_id.is_not(None), _unknown_through(Connection.opt_outs_known_until, now))
    of_lead = and_(
        Contact.connection_id.is_(None),
        Contact.followed_by_id.is_not(None),
        or_(Contact.salesforce_id.is_(None), _unknown_through(Connection.leads_known_until, now)),
    )
    of_open_lead = and_(
        Contact.source == ContactSource.SALESFORCE_LEAD, _unknown_through(Connection.open_leads_known_until, now)
    )
    return or_(of_contact, of_lead, of_open_lead, out_of_sight(now), waits_for_review(user_id))


def _unknown_through(known_until: Any, now: datetime) -> ColumnElement[bool]:
    return or_(known_until.is_(None), known_until <= now)


def is_connection_good(source: ContactSource, now: datetime, user_id: int) -> ColumnElement[bool]:
    """Over Connection: may its contacts, or open Leads, of this advisor be written to about which nothing else is known?

    That is is_active_but_for_address() of all that are no exceptions (models/contact.py: IS_EXCEPTION).
    """
    unknown = _unknown_through(Connection.opt_outs_known_until, now)
    if source == ContactSource.SALESFORCE_LEAD:
        unknown = or_(unknown, _unknown_through(Connection.open_leads_known_until, now))
    return and_(Connection.status != ConnectionStatus.DISCONNECTED, ~is_firm_disabled(user_id), ~unknown)


def is_not_read() -> ColumnElement[bool]:
    """Is this an open Lead, and open Leads are not read: the firm no longer brings them in, or the next sync does again?"""
    return and_(Contact.source == ContactSource.SALESFORCE_LEAD, Connection.open_leads_known_until.is_(None))


def waits_for_review(user_id: int | None = None) -> ColumnElement[bool]:
    """Does this sign-up wait for its advisor's review?

    user_id: as in reason_of(). The people who wait are then read once.
    """
    if user_id is not None:
        # Any firm: SQLite takes the index of those who wait for it, and would read all of the advisor's leads otherwise.
        of_user = (Lead.user_id == user_id, Lead.partner_id > 0, Lead.contact_id.is_not(None))
        waiting = select(Lead.contact_id).where(*of_user, IS_FOR_REVIEW)
        return and_(Contact.source == ContactSource.LEAD, Contact.id.in_(waiting))
    waits = exists().where(Lead.contact_id == Contact.id, IS_FOR_REVIEW).correlate(Contact)
    return and_(Contact.source == ContactSource.LEAD, waits)


def out_of_sight(now: datetime) -> ColumnElement[bool]:
    """A kept contact that Salesforce no longer shows: its opt-out data counts until a time of its own."""
    return and_(Contact.opt_out_known_until.is_not(None), Contact.opt_out_known_until <= now)


def is_only_out_of_sight(now: datetime) -> ColumnElement[bool]:
    """Is this contact's opt-out unknown while that of its connection's other contacts is known?"""
    return and_(out_of_sight(now), Connection.opt_outs_known_until.is_not(None), Connection.opt_outs_known_until > now)


def is_held() -> ColumnElement[bool]:
    """Does the contact wait in a proposal for its advisor's decision?"""
    return exists().where(
        Departure.connection_id == Contact.connection_id,
        Departure.salesforce_id == Contact.salesforce_id,
        Departure.state == DepartureState.HELD,
    )


def is_held_of(user_id: int) -> ColumnElement[bool]:
    """The same of this advisor's contacts. What is held is read once, by its index, not looked up for each contact."""
    own = select(Connection.id).where(Connection.user_id == user_id).correlate(None)
    held = select(Departure.connection_id, Departure.salesforce_id).where(IS_HELD, Departure.connection_id.in_(own))
    return _asked_of_each(tuple_(Contact.connection_id, Contact.salesforce_id).in_(held))


def held_ids(user_id: int) -> Select[int]:
    """Select the contacts of this advisor's that is_held_of() is true of: each is found by the index of Ids."""
    is_about = and_(Contact.connection_id == Departure.connection_id, Contact.salesforce_id == Departure.salesforce_id)
    found = select(Contact.id).select_from(Departure).join(Connection, Connection.id == Departure.connection_id)
    return found.join(Contact, is_about).where(IS_HELD, Connection.user_id == user_id)


def count_active(now: datetime, user_id: int | None = None) -> ColumnElement[int]:
    """Return the count of active rows in the query."""
    return func.count(case((is_active(now, user_id), 1)))
