"""The firm board: how every advisor of a firm is doing, and all firms at a glance. Figures and states, no contacts.

The number of queries doesn't grow with the number of advisors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from asapp.connections import opt_out_age
from asapp.connections.api_budget import Allowance, allowance_of, allowances
from asapp.contacts import suppressions
from asapp.contacts.status import contact_rows, count_active, is_shown
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.extensions import db
from asapp.messages.failures import Facts, Occasion, explain
from asapp.messages.states import DEACTIVATED, PILLS_FOR_ADMINS, AdvisorState, Tone
from asapp.models import (
    Connection,
    ConnectionStatus,
    Contact,
    Lead,
    Partner,
    Role,
    User,
)
from asapp.models.lead import OUTSIDE_SALESFORCE
from asapp.models.user import EMPTIED
from asapp.panel.standings import find_standings
from asapp.partners.partners import PartnerRow, list_partners
from asapp.sync.interval import SyncInterval, find_interval
from asapp.writeback import queries

TOKEN_LIFE = timedelta(days=30)  # Salesforce may end a token that was not used for so long
COLUMNS = (
    *("advisor", "email", "state", "needs_attention", "last_good_sync", "opt_outs_known_until", "active_contacts"),
    *("leads_waiting", "next_sync", "token_days_left"),
)


@dataclass(frozen=True)
class AdvisorLine:
    user: User
    connection: Connection | None  # the one that is not disconnected
    last_good_sync_at: datetime | None  # also of a connection that is disconnected
    state: AdvisorState  # as on the advisor's own page
    active: int
    waiting: int  # leads that are not in Salesforce
    held: int  # contacts that wait for a decision
    refused: int  # records that Salesforce doesn't let us opt out
    now: datetime

    @property
    def pill(self) -> tuple[Tone, str]:
        """Return the look of the state; for connected advisors also what an admin may have to look at."""
        if not self.user.is_active:
            return DEACTIVATED
        if self.state != AdvisorState.CONNECTED or self.connection is None:
            return PILLS_FOR_ADMINS[self.state]
        if times := self.connection.failures_in_a_row:
            return Tone.BAD, "Failed once" if times == 1 else f"Failed {times:,} times"
        if self.connection.first_synced_at is None:
            return Tone.PLAIN, "Connected, not synced yet"
        return (Tone.BAD, "Opt-outs not known") if self.are_opt_outs_unknown else PILLS_FOR_ADMINS[self.state]

    @property
    def is_syncing(self) -> bool:
        return self.state == AdvisorState.SYNCING

    @property
    def is_paused(self) -> bool:
        return self.state == AdvisorState.PAUSED

    @property
    def reads(self) -> str:
        """Return what the advisor reads about a trouble of the connection; empty if there is none."""
        connection = self.connection
        if connection is None or not self.user.is_active:
            return ""
        facts = Facts(connection.partner.name, connection.username, opt_out_field=connection.partner.opt_out_field)
        if connection.needs_reconnect:
            return explain(Occasion.RECONNECT, connection.status_reason, facts).headline
        return explain(Occasion.SYNC, connection.last_failure, facts).headline if connection.failures_in_a_row else ""

    @property
    def needs_attention(self) -> bool:
        is_bad = self.pill[0] in (Tone.WARN, Tone.BAD)
        return self.user.is_active and (is_bad or self.are_opt_outs_unknown or bool(self.held or self.refused))

    @property
    def are_opt_outs_unknown(self) -> bool:
        return self.connection is not None and opt_out_age.are_unknown(self.connection, self.now)

    @property
    def opt_outs_age(self) -> timedelta | None:
        good = self.connection.last_good_sync_at if self.connection else None
        return max(self.now - good, timedelta(0)) if good else None

    @property
    def token_days_left(self) -> int | None:
        """Return the days until Salesforce may end the unused token."""
        if self.connection is None or not self.connection.is_connected:
            return None
        return max((self.connection.token_used_at + TOKEN_LIFE - self.now).days, 0)


@dataclass(frozen=True)
class Board:
    partner: Partner
    lines: list[AdvisorLine]  # those who need attention first
    allowance: Allowance | None  # None: the firm is disabled
    suppressed: int  # addresses that its advisors must not write to
    interval: SyncInterval

    @property
    def attention(self) -> list[AdvisorLine]:
        return [line for line in self.lines if line.needs_attention]

    @property
    def people(self) -> int:
        return sum(line.user.is_active for line in self.lines)

    @property
    def connected(self) -> int:
        return sum(line.connection is not None and line.connection.is_connected for line in self.lines)

    @property
    def waiting(self) -> int:
        return sum(line.waiting for line in self.lines)

    @property
    def refused(self) -> int:
        return sum(line.refused for line in self.lines)


@dataclass(frozen=True)
class FirmLine:
    row: PartnerRow
    failing: int
    refused: int  # records that Salesforce doesn't let us opt out
    allowance: Allowance | None


def make_board(partner: Partner, now: datetime, default_interval_minutes: int) -> Board:
    is_advisor = (User.partner_id == partner.id, User.role == Role.ADVISOR, User.password_hash != EMPTIED)
    theirs = select(User.id).where(*is_advisor)
    waiting = (
        select(Lead.user_id, func.count().label("number"))
        .where(Lead.user_id.in_(theirs), Lead.partner_id == partner.id, Lead.state.in_(OUTSIDE_SALESFORCE))
        .group_by(Lead.user_id)
        .subquery()
    )
    refused = queries.refused_of(partner.id).subquery()
    people = db.session.execute(
        select(User, waiting.c.number.label("waiting"), refused.c.number.label("refused"))
        .outerjoin(waiting, waiting.c.user_id == User.id)
        .outerjoin(refused, refused.c.user_id == User.id)
        .where(*is_advisor)
        .order_by(func.lower(User.name), User.id)
    ).all()
    active = _by_id(
        contact_rows(Contact.user_id, count_active(now))
        .where(Contact.user_id.in_(theirs), is_shown())
        .group_by(Contact.user_id)
    )
    standings = find_standings([row.User for row in people], now)

    def line_of(user: User, waiting: int, refused: int) -> AdvisorLine:
        standing = standings[user.id]
        return AdvisorLine(
            user,
            standing.connection,
            standing.latest.last_good_sync_at if standing.latest else None,
            standing.state,
            active=active.get(user.id, 0),
            waiting=waiting,
            held=standing.held,
            refused=refused,
            now=now,
        )

    lines = [line_of(row.User, row.waiting or 0, row.refused or 0) for row in people]
    lines.sort(key=lambda line: (not line.needs_attention, not line.user.is_active))
    allowance = allowance_of(db.session(), partner.id, now) if partner.is_enabled else None
    interval = find_interval(db.session(), partner.id, default_interval_minutes)
    return Board(partner, lines, allowance, suppressions.count_addresses(partner.id), interval)


def list_firms(now: datetime) -> list[FirmLine]:
    failing = _by_id(
        select(Connection.partner_id, func.count())
        .where(Connection.status == ConnectionStatus.CONNECTED, Connection.failures_in_a_row > 0)
        .group_by(Connection.partner_id)
    )
    refused, calls = queries.count_refused_by_firm(), allowances(db.session(), now)
    return [
        FirmLine(row, failing.get(row.partner.id, 0), refused.get(row.partner.id, 0), calls.get(row.partner.slug))
        for row in list_partners()
    ]


def csv_of(lines: Sequence[AdvisorLine]) -> str:
    return csv_header(COLUMNS) + csv_rows(_cells(line) for line in lines)


def _cells(line: AdvisorLine) -> list[str]:
    connection = line.connection
    return [
        line.user.name,
        line.user.email,
        line.pill[1],
        "yes" if line.needs_attention else "no",
        _moment(line.last_good_sync_at),
        _moment(connection.opt_outs_known_until if connection else None),
        str(line.active),
        str(line.waiting),
        _moment(connection.next_sync_at if connection else None),
        "" if line.token_days_left is None else str(line.token_days_left),
    ]


def _moment(when: datetime | None) -> str:
    return when.isoformat(timespec="seconds") if when else ""


def _by_id(query: Any) -> dict[int, int]:
    return {row[0]: row[1] for row in db.session.execute(query)}
