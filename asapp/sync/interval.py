"""How often a firm's connections are checked: by its setting, or less often, so that its share of calls lasts for 24 hours.

The share is a number of calls a day. A quarter of it stays free for leads, sends and what people press; each connection also has
a few calls a day for its runs and the daily check. What is left decides how often all of the firm's connections can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from asapp.connections.api_budget import share_of
from asapp.models import Connection, ConnectionStatus, Partner

LEAST_MINUTES = 5
MINUTES_A_DAY = 24 * 60
PART_FOR_CHECKS = 0.75  # of the share
CALLS_BESIDE = 4  # a day and connection: the daily check, and runs for what has changed


@dataclass(frozen=True)
class SyncInterval:
    """minutes: the interval that holds. setting: what the firm, or else the setting of all firms, says."""

    minutes: int
    setting: int

    @property
    def is_stretched(self) -> bool:
        return self.minutes > self.setting


def stretch(setting_minutes: int, connections: int, share: int | None) -> SyncInterval:
    """Return the interval for so many connections. share: the firm's calls a day; None: not known yet, and nothing to save."""
    minutes = max(setting_minutes, LEAST_MINUTES)
    if share is not None and connections:
        checks = share * PART_FOR_CHECKS / connections - CALLS_BESIDE  # a day, of each connection
        needed = ceil(MINUTES_A_DAY / checks) if checks > 1 else MINUTES_A_DAY
        minutes = max(minutes, needed)
    return SyncInterval(minutes, setting_minutes)


def find_interval(session: Session, partner_id: int, default_minutes: int) -> SyncInterval:
    """Return the interval that holds for a firm now."""
    connected = _count_connected().where(Connection.partner_id == partner_id).scalar_subquery()
    row = session.execute(_settings(connected).where(Partner.id == partner_id)).one()
    return _interval(row, row.connections, default_minutes)


def find_intervals(session: Session, default_minutes: int) -> Mapping[str, SyncInterval]:
    """Return the interval of each enabled firm, by slug."""
    counts = session.execute(
        _count_connected().add_columns(Connection.partner_id).group_by(Connection.partner_id)
    ).all()
    connected = {partner_id: number for number, partner_id in counts}
    rows = session.execute(_settings().where(Partner.is_enabled).order_by(Partner.slug))
    return {row.slug: _interval(row, connected.get(row.id, 0), default_minutes) for row in rows}


def _count_connected() -> Any:
    return select(func.count()).select_from(Connection).where(Connection.status == ConnectionStatus.CONNECTED)


def _settings(*more: Any) -> Any:
    columns = (Partner.id, Partner.slug, Partner.sync_interval_minutes)
    return select(
        *columns, Partner.api_share_percent, Partner.org_calls_allowed, *(each.label("connections") for each in more)
    )


def _interval(row: Row[Any], connections: int, default_minutes: int) -> SyncInterval:
    share = share_of(row.org_calls_allowed, row.api_share_percent)
    return stretch(row.sync_interval_minutes or default_minutes, connections, share)
