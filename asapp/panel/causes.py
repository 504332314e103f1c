"""Why all contacts from Salesforce are inactive, or soon will be: one cause, shown at the top of Contacts.

Why single contacts are inactive is shown beside each of them (messages/contacts.py). This is about the state of the
connection, and is queried only if the connection's row shows a problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import ColumnElement, func

from asapp.connections import opt_out_age
from asapp.contacts.queries import contacts_of
from asapp.contacts.status import contact_rows, reason_of, waits_for_review
from asapp.core.extensions import db
from asapp.messages.codes import Code
from asapp.models import Connection, Contact, Reason, User


class Cause(StrEnum):
    FIRM_IS_OFF = "firm_is_off"
    FIRM_DISABLED = "firm_disabled"  # then contacts made here are inactive as well
    DISCONNECTED = "disconnected"
    NEEDS_RECONNECT = "needs_reconnect"
    FIELD_HIDDEN = "field_hidden"
    TOO_OLD = "too_old"
    ANOTHER_USER = "another_user"  # the one connected now has not been synced
    LEADS_HIDDEN = "leads_hidden"  # people from the sign-up page who are in Salesforce: their opt-outs can't be read
    LEADS_TOO_OLD = "leads_too_old"  # the same people: the last good sync was too long ago
    SOON = "soon"


class ForNow(NamedTuple):
    """number: contacts that the cause concerns. at: since when, or until when they are still active.

    first: what has to be fixed before, whatever the cause; None: a sync can run.
    """

    cause: Cause
    number: int
    at: datetime | None
    first: Cause | None

    @property
    def can_sync(self) -> bool:
        """May pressing Sync Account help at once?"""
        return self.first is None

    @property
    def next_step(self) -> Cause:
        """Return the cause that the advisor is told to act on."""
        return self.first or self.cause


def find_cause(user: User, connection: Connection | None, now: datetime) -> ForNow | None:
    """Return the single cause why this advisor's contacts from Salesforce are inactive; None if there is none.

    connection: the current one, or the one disconnected last.
    """
    if user.partner is not None and not user.partner.is_enabled:
        number = _count(user.id, reason_of(now, user.id) == Reason.DISCONNECTED)
        return ForNow(Cause.FIRM_DISABLED, number, None, Cause.FIRM_IS_OFF) if number else None
    if connection is None:
        return None
    for cause, at, concerns in _possible(user, connection, now):
        if number := _count(user.id, concerns):
            return ForNow(cause, number, at, _find_first(user, connection))
    return None


def _find_first(user: User, connection: Connection) -> Cause | None:
    """Return what keeps a sync from running, or None."""
    if not user.has_integrations:
        return Cause.FIRM_IS_OFF
    if connection.is_disconnected:
        return Cause.DISCONNECTED
    return Cause.NEEDS_RECONNECT if connection.needs_reconnect else None


def _possible(
    user: User, connection: Connection, now: datetime
) -> Iterator[tuple[Cause, datetime | None, ColumnElement[bool]]]:
    """Yield the causes that the connection's row allows: (cause, time, condition on the contacts concerned)."""
    reason, until, leads_until = reason_of(now), connection.opt_outs_known_until, connection.leads_known_until
    if connection.is_disconnected:
        yield Cause.DISCONNECTED, connection.status_changed_at, reason == Reason.DISCONNECTED
        return
    if opt_out_age.are_unknown(connection, now):
        unknown = (reason == Reason.OPT_OUT_UNKNOWN) & ~waits_for_review()
        yield _why_unknown(user, connection), until, unknown
    elif connection.first_synced_at is None:
        yield Cause.ANOTHER_USER, None, reason == Reason.DISCONNECTED
    elif opt_out_age.become_unknown_soon(connection, connection.partner, now):
        yield Cause.SOON, until, (Contact.connection_id == connection.id) & reason.is_(None)
    if leads_until is not None and leads_until <= now:
        of_leads = Contact.connection_id.is_(None) & (Contact.followed_by_id == connection.id)
        cause = Cause.LEADS_HIDDEN if connection.leads_trouble else Cause.LEADS_TOO_OLD
        yield cause, leads_until, of_leads & (reason == Reason.OPT_OUT_UNKNOWN)


def _why_unknown(user: User, connection: Connection) -> Cause:
    if (first := _find_first(user, connection)) is not None:
        return first
    return Cause.FIELD_HIDDEN if connection.last_failure == Code.OPT_OUT_HIDDEN else Cause.TOO_OLD


def _count(user_id: int, concerns: ColumnElement[bool]) -> int:
    query = contact_rows(func.count()).where(contacts_of(user_id), Contact.hidden_at.is_(None), concerns)
    return db.session.scalar(query) or 0
