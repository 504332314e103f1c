"""Which states people are alerted to, and which connections or partners are in them now.

Every tick runs all of this, so each query finds its rows by an index and reads failures only, not what is well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select

from asapp.connections import opt_out_age
from asapp.connections.app_refusals import IS_RED, SHOWN_BY
from asapp.core.bulk import is_among
from asapp.core.extensions import db
from asapp.leads.queries import is_hidden_here
from asapp.leads.sign_up_page import DAY
from asapp.models import AlertKind, Connection, ConnectionStatus, Lead, OptInPage, Partner, PartnerCheck, Review
from asapp.models.connection import IS_FAILING, IS_WELL
from asapp.models.lead import IS_FOR_REVIEW
from asapp.sync import departures

# A firm's runs fail if this many connections, and at least half of those with news of the last day, failed in their
# latest run. Fewer than three may have trouble of their own; if more than half are well, the firm as such is well. A day,
# since that is the slowest usual interval: older news says nothing about now.
LEAST_FAILING = 3
NEWS = timedelta(days=1)
# These have alerts of their own, which name the cause.
HAVE_THEIR_OWN = ("share_used_up", "org_nearly_full", "request_limit", *SHOWN_BY)
# After a pause, only the next sync of a connection shows whether it is really over; a good sync shows it at once.
PAUSE_LINGERS = timedelta(hours=1)

Ids = frozenset[int]


@dataclass(frozen=True)
class AlertRule:
    """find returns the ids in the state now, find_staying those that have not left it."""

    kind: AlertKind
    find: Callable[[datetime], Ids]
    find_staying: Callable[[datetime], Ids] | None = None  # if that is another query
    is_of_partner: bool = False


def needs_reconnect(_now: datetime) -> Ids:
    query = select(Connection.id).join(Partner)
    return _ids(query.where(Connection.status == ConnectionStatus.NEEDS_RECONNECT, Partner.is_enabled))


def opt_outs_soon(now: datetime) -> Ids:
    return _ids(select(Connection.id).join(Partner).where(opt_out_age.where_unknown_soon(now)))


def opt_outs_unknown(now: datetime) -> Ids:
    return _ids(select(Connection.id).where(opt_out_age.where_unknown(now)))


def is_held(_now: datetime) -> Ids:
    held = _ids(departures.waiting_for_decision().distinct())
    if not held:
        return held
    query = select(Connection.id).join(Partner).where(is_among(Connection.id, held), Partner.is_enabled)
    return _ids(query.where(Connection.status != ConnectionStatus.DISCONNECTED))


def is_flooded(now: datetime) -> Ids:
    """Connections whose sign-up page has taken more people than its limit, in its present day."""
    users = select(Lead.user_id).where(IS_FOR_REVIEW, Lead.why == Review.OVER_LIMIT, ~is_hidden_here())
    query = select(Connection.id).join(OptInPage, OptInPage.user_id == Connection.user_id)
    return _ids(
        query.where(
            Connection.user_id.in_(users),
            Connection.status != ConnectionStatus.DISCONNECTED,
            OptInPage.people_that_day > OptInPage.daily_limit,
            OptInPage.day_began_at > now - DAY,
        )
    )


def is_paused(now: datetime) -> Ids:
    return _ids(select(Partner.id).where(Partner.is_enabled, Partner.paused(now)))


def stays_paused(now: datetime) -> Ids:
    return is_paused(now - PAUSE_LINGERS)


def app_is_refused(_now: datetime) -> Ids:
    """Key, secret or address no longer work, at firms with a connection: what never worked shows on the set-up page."""
    somebody = select(Connection.id).where(
        Connection.partner_id == Partner.id, Connection.status != ConnectionStatus.DISCONNECTED
    )
    red = select(Partner.id).join(PartnerCheck, PartnerCheck.partner_id == Partner.id).where(*IS_RED)
    return _ids(red.where(Partner.is_enabled, somebody.exists()))


def runs_fail(now: datetime) -> Ids:
    many = count_failing().having(func.count() >= LEAST_FAILING)
    failing = {row.partner_id: row.number for row in db.session.execute(many)}
    if not failing:
        return frozenset()
    well_ones = (
        select(Connection.partner_id, func.count().label("number"))
        .where(IS_WELL, Connection.last_good_sync_at > now - NEWS, is_among(Connection.partner_id, failing.keys()))
        .group_by(Connection.partner_id)
    )
    well = {row.partner_id: row.number for row in db.session.execute(well_ones)}
    firms = [partner_id for partner_id, number in failing.items() if number >= well.get(partner_id, 0)]
    return _ids(select(Partner.id).where(Partner.is_enabled, is_among(Partner.id, firms)))


def count_failing() -> Select[*tuple[Any, ...]]:
    """Select (partner_id, number) of connections whose latest run failed for a reason without an alert of its own."""
    is_unnamed = or_(Connection.last_failure.is_(None), Connection.last_failure.not_in(HAVE_THEIR_OWN))
    return (
        select(Connection.partner_id, func.count().label("number"))
        .where(IS_FAILING, is_unnamed)
        .group_by(Connection.partner_id)
    )


def _ids(query: Select[*tuple[Any, ...]]) -> Ids:
    return frozenset(db.session.scalars(query))


RULES = (
    AlertRule(AlertKind.RECONNECT, needs_reconnect),
    AlertRule(AlertKind.OPT_OUTS_SOON, opt_outs_soon),
    AlertRule(AlertKind.OPT_OUTS_UNKNOWN, opt_outs_unknown),
    AlertRule(AlertKind.HELD, is_held),
    AlertRule(AlertKind.FLOOD, is_flooded),
    AlertRule(AlertKind.PAUSED, is_paused, stays_paused, is_of_partner=True),
    AlertRule(AlertKind.APP_REFUSED, app_is_refused, is_of_partner=True),
    AlertRule(AlertKind.RUNS_FAIL, runs_fail, is_of_partner=True),
)
