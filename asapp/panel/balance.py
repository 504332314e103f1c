"""The balance: every contact that Salesforce has for the user is accounted for here, and the parts add up. So is every open
Lead, where these come in.

From the ledger alone. A rest other than 0 means that contacts came or went unnoticed; it is shown, and the next run
compares all Ids.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, exists, func, or_, select

from asapp.contacts.status import contact_rows, reason_of
from asapp.core.clock import utcnow
from asapp.core.extensions import db
from asapp.models import Connection, Contact, Departure, DepartureState, Lead, LedgerEntry, LedgerOutcome, Reason
from asapp.models.contact import is_of_kind
from asapp.salesforce.records import RecordKind
from asapp.sync.departures import makes_inactive


@dataclass(frozen=True)
class Balance:
    in_salesforce: int  # as Salesforce last counted
    active: int
    opted_out: int
    twins: int
    unsubscribed: int  # or complained: the person told us, and Salesforce has no opt-out of theirs
    bounced: int
    no_email: int
    removed_here: int
    signed_up: int  # Leads of people from the sign-up page, who are among the contacts by that
    paused: int  # inactive by the connection's state: disconnected, or opt-outs unknown
    leaving: int  # still in the ledger, but no longer counted by Salesforce: held for the advisor, or kept
    leaving_inactive: int  # of these: inactive here already, so that there is nothing to decide about them

    @property
    def rest(self) -> int:
        """Return those in Salesforce that are not accounted for (below 0: too many are)."""
        who_may_not = (self.opted_out, self.twins, self.unsubscribed, self.bounced)
        parts = (self.active, *who_may_not, self.no_email, self.removed_here, self.signed_up, self.paused)
        return self.in_salesforce + self.leaving - sum(parts)

    @property
    def is_balanced(self) -> bool:
        return self.rest == 0


def balance(connection: Connection, kind: RecordKind = RecordKind.CONTACT) -> Balance | None:
    """Return the balance of a connection's contacts or open Leads, or None before they were first read."""
    count = connection.salesforce_count if kind == RecordKind.CONTACT else connection.open_leads_count
    if count is None:
        return None
    leaving, leaving_active = count_leaving(connection.id, kind)
    opted_out, no_email = count_not_synced(connection.id, kind)
    by_reason = count_by_reason(connection, kind)
    return Balance(
        in_salesforce=count,
        active=by_reason.get(None, 0),
        opted_out=opted_out,
        twins=by_reason.get(Reason.TWIN_OPTED_OUT, 0),
        unsubscribed=by_reason.get(Reason.UNSUBSCRIBED, 0) + by_reason.get(Reason.COMPLAINED, 0),
        bounced=by_reason.get(Reason.BOUNCED, 0),
        no_email=no_email,
        removed_here=by_reason.get(Reason.HIDDEN_HERE, 0),
        signed_up=count_signed_up(connection.id) if kind == RecordKind.LEAD else 0,
        paused=by_reason.get(Reason.DISCONNECTED, 0) + by_reason.get(Reason.OPT_OUT_UNKNOWN, 0),
        leaving=leaving,
        leaving_inactive=leaving - leaving_active,
    )


def count_not_synced(connection_id: int, kind: RecordKind) -> tuple[int, int]:
    """Return (opted out, without an address), except those that the advisor deleted here and that pages still show."""
    row = db.session.execute(
        select(
            func.count(case((LedgerEntry.outcome == LedgerOutcome.OPTED_OUT, 1))),
            func.count(case((LedgerEntry.outcome == LedgerOutcome.NO_EMAIL, 1))),
        )
        .select_from(LedgerEntry)
        .outerjoin(
            Contact,
            (Contact.connection_id == LedgerEntry.connection_id)
            & (Contact.salesforce_id == LedgerEntry.salesforce_id)
            & Contact.hidden_at.is_not(None)
            & Contact.departed.is_(None),
        )
        .where(
            LedgerEntry.connection_id == connection_id,
            is_of_kind(kind, LedgerEntry.salesforce_id),
            LedgerEntry.outcome != LedgerOutcome.SYNCED,
            Contact.id.is_(None),
        )
    ).one()
    return row[0], row[1]


def count_by_reason(connection: Connection, kind: RecordKind) -> dict[str | None, int]:
    """Return {reason, or None for active: contacts} of those synced by the ledger, or deleted by the advisor."""
    reason = reason_of(utcnow(), connection.user_id).label("reason")
    rows = db.session.execute(
        contact_rows(reason, func.count())
        .join(
            LedgerEntry,
            (LedgerEntry.connection_id == Contact.connection_id) & (LedgerEntry.salesforce_id == Contact.salesforce_id),
        )
        .where(
            Contact.connection_id == connection.id,
            is_of_kind(kind, Contact.salesforce_id),
            or_(LedgerEntry.outcome == LedgerOutcome.SYNCED, Contact.hidden_at.is_not(None)),
        )
        .group_by(reason)
    )
    return {row[0]: row[1] for row in rows}


def count_signed_up(connection_id: int) -> int:
    """Return how many open Leads stand for people from the sign-up page, and may be written to by the ledger."""
    is_its = (Lead.connection_id == LedgerEntry.connection_id) & (Lead.salesforce_id == LedgerEntry.salesforce_id)
    is_here = (Contact.connection_id == LedgerEntry.connection_id) & (
        Contact.salesforce_id == LedgerEntry.salesforce_id
    )
    entries = select(func.count()).where(
        LedgerEntry.connection_id == connection_id,
        is_of_kind(RecordKind.LEAD, LedgerEntry.salesforce_id),
        LedgerEntry.outcome == LedgerOutcome.SYNCED,
        exists().where(is_its),
        ~exists().where(is_here),
    )
    return db.session.scalar(entries) or 0


def count_leaving(connection_id: int, kind: RecordKind) -> tuple[int, int]:
    """Return (records whose departure is held or kept, those of them that are active here)."""
    row = db.session.execute(
        select(func.count(), func.count(case((makes_inactive(), 1))))
        .select_from(Departure)
        .join(
            LedgerEntry,
            (LedgerEntry.connection_id == Departure.connection_id)
            & (LedgerEntry.salesforce_id == Departure.salesforce_id),
        )
        .where(
            Departure.connection_id == connection_id,
            is_of_kind(kind, Departure.salesforce_id),
            Departure.state != DepartureState.FOUND,
        )
    ).one()
    return row[0], row[1]
