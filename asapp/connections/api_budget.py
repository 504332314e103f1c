"""How much of a firm's Salesforce API allowance we may use.

The org counts the calls of all its users and apps over 24 hours. Our share is a part of that total, set per partner: our
own calls stay within it, for whatever purpose. Scheduled runs stop earlier, once the org as a whole has used 90 %.

Deliveries of leads may use a quarter of the share: anyone can sign up, and that must not stop the syncs. When the quarter
is used up, leads wait and the firm's syncs go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Select, func, select, true, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from asapp.core.clock import utcnow
from asapp.core.database import change_rows, upsert, writing
from asapp.messages.codes import Code
from asapp.models import ApiUsage, Partner, RunTrigger
from asapp.salesforce.errors import LimitReached

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
ORG_FULL = 0.9
ORG_PAUSE = timedelta(hours=1)  # then the org is queried again
FRESH = timedelta(hours=6)  # older figures of the org say nothing about now
LEADS_PART = 4  # of the share: one call in four
A_ROUND = 3  # calls: look for contacts, look for leads, create


@dataclass(frozen=True)
class Allowance:
    ours: int  # our calls of the last 24 hours
    share: int | None  # how many we may make; None until the org has reported its total
    org_used: int | None
    org_allowed: int | None
    lead_calls: int = 0  # of ours, for delivering leads

    @property
    def leads_share(self) -> int | None:
        """Return how many of our calls may deliver leads: a quarter of the share, but at least what one round takes."""
        return None if self.share is None else max(self.share // LEADS_PART, min(self.share, A_ROUND))

    @property
    def leads_used(self) -> float:
        """Return the used part of leads_share, from 0 to 1; 0 until the org has reported its total."""
        return min(self.lead_calls / self.leads_share, 1.0) if self.leads_share else 0.0

    def has_room_for_leads(self, calls: int = A_ROUND) -> bool:
        return self.leads_share is None or self.lead_calls + calls <= self.leads_share

    @property
    def is_share_used_up(self) -> bool:
        return self.share is not None and self.ours >= self.share

    @property
    def is_org_full(self) -> bool:
        return bool(self.org_used is not None and self.org_allowed and self.org_used >= ORG_FULL * self.org_allowed)

    def check(self, trigger: str) -> None:
        """Raise LimitReached if a run with this trigger must not make another call."""
        if (why := self.obstacle_to(trigger)) is not None:
            raise why

    def obstacle_to(self, trigger: str) -> LimitReached | None:
        """Return why a run with this trigger must not make another call."""
        if self.is_share_used_up:
            return LimitReached(Code.SHARE_USED_UP)
        if self.is_org_full and trigger == RunTrigger.SCHEDULED:
            return LimitReached(Code.ORG_NEARLY_FULL)
        return None

    def room_for(self, calls: int) -> int:
        """Return how many of these scheduled calls may be made."""
        if self.obstacle_to(RunTrigger.SCHEDULED) is not None:
            return 0
        return calls if self.share is None else min(calls, self.share - self.ours)

    def check_leads(self, calls: int) -> None:
        """Raise LimitReached if a delivery of leads must not make this many more calls."""
        if not self.has_room_for_leads(calls):
            raise LimitReached(Code.LEADS_SHARE_USED_UP)
        self.check(RunTrigger.MANUAL)


def allowance_of(session: Session, partner_id: int, now: datetime) -> Allowance:
    """Read the figures of a partner; joins the caller's transaction."""
    ours = _our_calls(now).where(ApiUsage.partner_id == partner_id).subquery()
    figures = _figures().add_columns(ours.c.calls, ours.c.lead_calls).join(ours, true())
    row = session.execute(figures.where(Partner.id == partner_id)).one()
    return _allowance(row, row.calls, row.lead_calls, now)


def allowances(session: Session, now: datetime) -> dict[str, Allowance]:
    """Read the figures of all enabled partners, by slug."""
    ours = _our_calls(now).add_columns(ApiUsage.partner_id).group_by(ApiUsage.partner_id).subquery()
    figures = _figures().add_columns(ours.c.calls, ours.c.lead_calls).outerjoin(ours, ours.c.partner_id == Partner.id)
    rows = session.execute(figures.where(Partner.is_enabled).order_by(Partner.slug))
    return {row.slug: _allowance(row, row.calls or 0, row.lead_calls or 0, now) for row in rows}


def _our_calls(now: datetime) -> Select[*tuple[Any, ...]]:
    return select(
        func.coalesce(func.sum(ApiUsage.calls), 0).label("calls"),
        func.coalesce(func.sum(ApiUsage.lead_calls), 0).label("lead_calls"),
    ).where(ApiUsage.hour > now - DAY - HOUR)


def _figures() -> Select[*tuple[Any, ...]]:
    return select(
        Partner.id,
        Partner.slug,
        Partner.api_share_percent,
        Partner.org_calls_used,
        Partner.org_calls_allowed,
        Partner.org_calls_seen_at,
    )


def share_of(allowed: int | None, percent: int) -> int | None:
    """Return our share of an org's calls a day; None until the org has reported its total."""
    return allowed * percent // 100 if allowed else None


def _allowance(row: Any, calls: int, lead_calls: int, now: datetime) -> Allowance:
    allowed = row.org_calls_allowed
    is_fresh = row.org_calls_seen_at is not None and now - row.org_calls_seen_at < FRESH
    return Allowance(
        ours=calls,
        share=share_of(allowed, row.api_share_percent),
        org_used=row.org_calls_used if is_fresh else None,
        org_allowed=allowed,
        lead_calls=lead_calls,
    )


def pause(session: Session, partner: Partner, error: LimitReached, now: datetime) -> None:
    """Pause the whole firm, in the caller's transaction."""
    partner.paused_why = error.code
    is_ours = error.code == Code.SHARE_USED_UP
    partner.paused_until = free_again_at(session, partner.id, now) if is_ours else now + ORG_PAUSE


def free_again_at(session: Session, partner_id: int, now: datetime) -> datetime:
    """Return when our oldest calls will be 24 hours old: the earliest time at which calls are free again."""
    oldest = session.scalar(
        select(func.min(ApiUsage.hour)).where(
            ApiUsage.partner_id == partner_id, ApiUsage.hour > now - DAY - HOUR, ApiUsage.calls > 0
        )
    )
    return max(oldest + DAY + HOUR, now + HOUR / 4) if oldest else now + HOUR


def call_counter(engine: Engine, partner_id: int, trigger: str = RunTrigger.MANUAL) -> Callable[[], None]:
    """Return a function to run before each call outside a run (a page's, a check's). It counts the call against the
    share.

    The call is counted before it is made, so that a failed one counts as well. Raises LimitReached if the share is used
    up, and no call is made. If SQLite is busy with a sync for too long, the call goes uncounted: better than no answer.
    """

    def count() -> None:
        now = utcnow()
        with suppress(OperationalError), writing(), Session(engine) as session:
            allowance_of(session, partner_id, now).check(trigger)
            add_call(session, partner_id, now)
            session.commit()

    return count


def add_call(session: Session, partner_id: int, now: datetime, *, is_for_leads: bool = False) -> None:
    """Add one to our calls of this hour; joins the caller's transaction."""
    _add_calls(session, partner_id, now, 1, int(is_for_leads))


def _add_calls(session: Session, partner_id: int, now: datetime, calls: int, for_leads: int = 0) -> None:
    more = {"calls": ApiUsage.calls + calls, "lead_calls": ApiUsage.lead_calls + for_leads}
    session.execute(
        upsert(session, ApiUsage, ("partner_id", "hour"), more).values(
            partner_id=partner_id, hour=_hour_of(now), calls=calls, lead_calls=for_leads
        )
    )


def _hour_of(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class Reserved:
    """Calls that are counted before they are made. obstacle: why the others must not be made."""

    calls: int
    obstacle: LimitReached | None = None


def reserve_calls(session: Session, wanted: Mapping[int, int], now: datetime) -> dict[int, Reserved]:
    """Count scheduled calls of some partners that are about to be made, as far as there is room; wanted: {partner: calls}.

    Joins the caller's transaction, in which nothing is locked yet. Give back what is not made.
    """
    reserved = {}
    for partner_id, calls in sorted(wanted.items()):  # one order of locks
        allowance = allowance_of(session, partner_id, now)
        granted = allowance.room_for(calls)
        if granted:
            _add_calls(session, partner_id, now, granted)
        obstacle = allowance.obstacle_to(RunTrigger.SCHEDULED) or LimitReached(Code.SHARE_USED_UP)
        reserved[partner_id] = Reserved(granted, obstacle if granted < calls else None)
    return reserved


def give_back_calls(session: Session, not_made: Mapping[int, int], reserved_at: datetime) -> None:
    """Take back what was reserved at that moment for calls that were not made; joins the caller's transaction."""
    for partner_id, calls in sorted(not_made.items()):
        mine = (ApiUsage.partner_id == partner_id, ApiUsage.hour == _hour_of(reserved_at))
        session.execute(update(ApiUsage).where(*mine).values(calls=ApiUsage.calls - calls))


def record_usage(
    session: Session, partner_id: int, usage: tuple[int, int] | None, paused_until: datetime | None, now: datetime
) -> None:
    """Record the org's own (used, allowed) figures, and end the pause that an answer has shown to be over, but no later one.

    paused_until: as it was before the org was asked. Joins the caller's transaction; locks the partner if it writes.
    """
    partner = update(Partner).where(Partner.id == partner_id)
    if paused_until is not None:
        is_the_same = Partner.paused_until == paused_until
        change_rows(session, partner.where(is_the_same).values(paused_until=None, paused_why=None))
    if usage is not None:
        used, allowed = usage
        change_rows(session, partner.values(org_calls_used=used, org_calls_allowed=allowed, org_calls_seen_at=now))
