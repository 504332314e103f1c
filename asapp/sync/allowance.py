"""How much of a firm's Salesforce API allowance we may use.

The org counts the calls of all its users and apps over 24 hours. Our share is a part of that total, set per partner: our own
calls stay within it, whoever asked for them. Scheduled runs stop earlier, as soon as the org as a whole has used 90 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from asapp.models import ApiUsage, Partner, RunTrigger
from asapp.salesforce.errors import LimitReached

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
ORG_FULL = 0.9
ORG_PAUSE = timedelta(hours=1)  # then the org is asked again
FRESH = timedelta(hours=6)  # older figures of the org say nothing about now


@dataclass(frozen=True)
class Allowance:
    ours: int  # our calls of the last 24 hours
    share: int | None  # what we may use of them; None until the org has told its total
    org_used: int | None
    org_allowed: int | None

    @property
    def is_share_used_up(self) -> bool:
        return self.share is not None and self.ours >= self.share

    @property
    def is_org_full(self) -> bool:
        return bool(self.org_used is not None and self.org_allowed and self.org_used >= ORG_FULL * self.org_allowed)

    def check(self, trigger: str) -> None:
        """Raise LimitReached if a run that was started this way must not make another call."""
        if self.is_share_used_up:
            raise LimitReached("share_used_up")
        if self.is_org_full and trigger == RunTrigger.SCHEDULED:
            raise LimitReached("org_nearly_full")


def allowance_of(session: Session, partner_id: int, now: datetime) -> Allowance:
    """Read the figures of a partner; joins the caller's transaction."""
    ours = _our_calls(now).where(ApiUsage.partner_id == partner_id).scalar_subquery()
    row = session.execute(_figures().add_columns(ours.label("ours")).where(Partner.id == partner_id)).one()
    return _allowance(row, row.ours, now)


def allowances(session: Session, now: datetime) -> dict[str, Allowance]:
    """Read the figures of all enabled partners, by slug."""
    by_partner = _our_calls(now).add_columns(ApiUsage.partner_id).group_by(ApiUsage.partner_id)
    ours = {partner_id: calls for calls, partner_id in session.execute(by_partner)}
    rows = session.execute(_figures().where(Partner.is_enabled).order_by(Partner.slug))
    return {row.slug: _allowance(row, ours.get(row.id), now) for row in rows}


def _our_calls(now: datetime) -> Select[int]:
    return select(func.coalesce(func.sum(ApiUsage.calls), 0)).where(ApiUsage.hour > now - DAY - HOUR)


def _figures() -> Select[*tuple[Any, ...]]:
    return select(
        Partner.id,
        Partner.slug,
        Partner.api_share_percent,
        Partner.org_calls_used,
        Partner.org_calls_allowed,
        Partner.org_calls_seen_at,
    )


def _allowance(row: Any, ours: int | None, now: datetime) -> Allowance:
    allowed = row.org_calls_allowed
    is_fresh = row.org_calls_seen_at is not None and now - row.org_calls_seen_at < FRESH
    return Allowance(
        ours=ours or 0,
        share=allowed * row.api_share_percent // 100 if allowed else None,
        org_used=row.org_calls_used if is_fresh else None,
        org_allowed=allowed,
    )


def pause(session: Session, partner: Partner, error: LimitReached, now: datetime) -> None:
    """Let the whole firm wait, in the caller's transaction."""
    partner.paused_why = error.code
    is_ours = error.code == "share_used_up"
    partner.paused_until = free_again_at(session, partner.id, now) if is_ours else now + ORG_PAUSE


def free_again_at(session: Session, partner_id: int, now: datetime) -> datetime:
    """Return when the oldest of our calls leave the 24 hours: the earliest moment at which there is room again."""
    oldest = session.scalar(
        select(func.min(ApiUsage.hour)).where(
            ApiUsage.partner_id == partner_id, ApiUsage.hour > now - DAY - HOUR, ApiUsage.calls > 0
        )
    )
    return max(oldest + DAY + HOUR, now + HOUR / 4) if oldest else now + HOUR
