"""The firm board: how every advisor of a firm is doing, and all firms at a glance. Figures and states; nobody's contacts.

As many queries for a firm of a thousand advisors as for one of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from asapp.connections import opt_out_age
from asapp.connections.api_budget import Allowance, allowances
from asapp.connections.state import state_of
from asapp.contacts.status import contact_rows, count_active, is_shown
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.extensions import db
from asapp.messages.failures import FixedBy, Occasion, fixed_by
from asapp.messages.states import PILLS_ON_THE_BOARD, AdvisorState, Tone
from asapp.models import (
    Connection,
    ConnectionStatus,
    Contact,
    Departure,
    Lead,
    Partner,
    Role,
    RunStatus,
    SyncRun,
    User,
)
from asapp.models.lead import OUTSIDE_SALESFORCE
from asapp.models.run import ACTIVE
from asapp.models.user import EMPTIED
from asapp.partners.partners import PartnerRow, list_partners
from asapp.sync.departures import waiting_for_decision

TOKEN_LIFE = timedelta(days=30)  # Salesforce may end a token that was not used for so long
COLUMNS = (
    *("advisor", "email", "state", "needs_attention", "last_good_sync", "opt_outs_known_until", "active_contacts"),
    *("leads_waiting", "next_sync", "token_days_left"),
)


@dataclass(frozen=True)
class AdvisorLine:
    user: User
    connection: Connection | None  # the one that is not disconnected
    state: AdvisorState  # as on the advisor's own page
    active: int
    waiting: int  # leads that are not in Salesforce
    held: int  # contacts that wait for a decision
    now: datetime

    @property
    def pill(self) -> tuple[Tone, str]:
        """How the state looks; of those who are connected, also what an admin may have to look at."""
        if not self.user.is_active:
            return Tone.PLAIN, "Deactivated"
        if self.state != AdvisorState.CONNECTED or self.connection is None:
            return PILLS_ON_THE_BOARD[self.state]
        if times := self.connection.failures_in_a_row:
            return Tone.BAD, "Failed once" if times == 1 else f"Failed {times:,} times"
        if self.connection.first_synced_at is None:
            return Tone.PLAIN, "Connected, not synced yet"
        return (Tone.BAD, "Opt-outs not known") if self.are_opt_outs_unknown else PILLS_ON_THE_BOARD[self.state]

    @property
    def needs_attention(self) -> bool:
        is_bad = self.pill[0] in (Tone.WARN, Tone.BAD)
        return self.user.is_active and (is_bad or self.are_opt_outs_unknown or bool(self.held))

    @property
    def are_opt_outs_unknown(self) -> bool:
        return self.connection is not None and opt_out_age.are_unknown(self.connection, self.now)

    @property
    def opt_outs_age(self) -> timedelta | None:
        good = self.connection.last_good_sync_at if self.connection else None
        return max(self.now - good, timedelta(0)) if good else None

    @property
    def token_days_left(self) -> int | None:
        """Days until Salesforce may end the token if nobody uses it."""
        if self.connection is None or not self.connection.is_connected:
            return None
        return max((self.connection.token_used_at + TOKEN_LIFE - self.now).days, 0)


@dataclass(frozen=True)
class Board:
    partner: Partner
    lines: list[AdvisorLine]  # those who need attention first
    allowance: Allowance | None  # None: the firm is disabled

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


@dataclass(frozen=True)
class FirmLine:
    row: PartnerRow
    failing: int
    allowance: Allowance | None


def make_board(partner: Partner, now: datetime) -> Board:
    is_advisor = (User.partner_id == partner.id, User.role == Role.ADVISOR, User.password_hash != EMPTIED)
    is_current = (Connection.user_id == User.id) & (Connection.status != ConnectionStatus.DISCONNECTED)
    people: Sequence[Any] = db.session.execute(
        select(User, Connection)
        .outerjoin(Connection, is_current)
        .where(*is_advisor)
        .order_by(func.lower(User.name), User.id)
    ).all()
    theirs = select(User.id).where(*is_advisor)
    last_of_each = (
        select(func.max(Connection.id))
        .where(Connection.user_id.in_(theirs), Connection.partner_id == partner.id)
        .group_by(Connection.user_id)
    )
    latest = {row.user_id: row for row in db.session.scalars(select(Connection).where(Connection.id.in_(last_of_each)))}
    active = _by_id(
        contact_rows(Contact.user_id, count_active(now))
        .where(Contact.user_id.in_(theirs), is_shown())
        .group_by(Contact.user_id)
    )
    waiting = _by_id(
        select(Lead.user_id, func.count())
        .where(Lead.user_id.in_(theirs), Lead.partner_id == partner.id, Lead.state.in_(OUTSIDE_SALESFORCE))
        .group_by(Lead.user_id)
    )
    connections = select(Connection.id).where(Connection.user_id.in_(theirs))
    held = _by_id(
        waiting_for_decision()
        .add_columns(func.count())
        .where(Departure.connection_id.in_(connections))
        .group_by(Departure.connection_id)
    )
    syncing = set(
        db.session.scalars(
            select(SyncRun.connection_id).where(SyncRun.status.in_(ACTIVE), SyncRun.connection_id.in_(connections))
        )
    )
    waiting_for_admin = _find_waiting_for_admin(partner)

    def line_of(user: User, connection: Connection | None) -> AdvisorLine:
        held_here = held.get(connection.id, 0) if connection else 0
        state = state_of(
            partner,
            connection or latest.get(user.id),
            now,
            is_syncing=connection is not None and connection.id in syncing,
            waits_for_admin=connection is not None and connection.id in waiting_for_admin,
            held=held_here,
        )
        return AdvisorLine(user, connection, state, active.get(user.id, 0), waiting.get(user.id, 0), held_here, now)

    lines = [line_of(row[0], row[1]) for row in people]
    lines.sort(key=lambda line: (not line.needs_attention, not line.user.is_active))
    return Board(partner, lines, allowances(db.session(), now).get(partner.slug))


def _find_waiting_for_admin(partner: Partner) -> set[int]:
    """Return the connections whose last sync failed, since they connected, in a way that the firm's admin has to fix."""
    of_connection = aliased(SyncRun)
    last_run = select(func.max(of_connection.id)).where(of_connection.connection_id == Connection.id).scalar_subquery()
    failed = db.session.execute(
        select(Connection.id, SyncRun.error_code)
        .join(SyncRun, SyncRun.id == last_run)
        .where(
            Connection.partner_id == partner.id,
            Connection.status == ConnectionStatus.CONNECTED,
            SyncRun.status == RunStatus.FAILED,
            SyncRun.finished_at > Connection.status_changed_at,
        )
    )
    return {row.id for row in failed if fixed_by(Occasion.SYNC, row.error_code) == FixedBy.FIRM_ADMIN}


def list_firms(now: datetime) -> list[FirmLine]:
    failing = _by_id(
        select(Connection.partner_id, func.count())
        .where(Connection.status == ConnectionStatus.CONNECTED, Connection.failures_in_a_row > 0)
        .group_by(Connection.partner_id)
    )
    calls = allowances(db.session(), now)
    return [FirmLine(row, failing.get(row.partner.id, 0), calls.get(row.partner.slug)) for row in list_partners()]


def csv_of(lines: Sequence[AdvisorLine]) -> str:
    return csv_header(COLUMNS) + csv_rows(_cells(line) for line in lines)


def _cells(line: AdvisorLine) -> list[str]:
    connection = line.connection
    return [
        line.user.name,
        line.user.email,
        line.pill[1],
        "yes" if line.needs_attention else "no",
        _moment(connection.last_good_sync_at if connection else None),
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
