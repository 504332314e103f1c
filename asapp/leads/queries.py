"""Which leads an advisor has, and the state shown for each. Erased people are never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, case, exists, func, literal, or_, select

from asapp.connections.api_budget import allowance_of
from asapp.connections.connections import find_latest
from asapp.connections.state import state_of
from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.core.paging import PAGE_SIZE, Page
from asapp.messages.leads import LABELS, Hold, Shown, meaning_of
from asapp.messages.states import AdvisorState
from asapp.models import Connection, Contact, Lead, LeadState, Review, Unfollowed, User
from asapp.models.lead import IS_FOR_REVIEW, UNDELIVERED
from asapp.models.search import fold

SEARCH_MAX = 200
WORDS_MAX = 8
NEWS_MAX = 20
ROWS_A_PIECE = 1000
COLUMNS = ("signed_up_at", "first_name", "last_name", "email", "state", "meaning", "salesforce_id")


@dataclass(frozen=True)
class LeadQuery:
    """The filter and page that were asked for. state: one of Shown, or "" for any."""

    search: str = ""
    state: str = ""
    page: int = 1

    @property
    def is_narrowed(self) -> bool:
        return bool(self.search or self.state)


class LeadLine(NamedTuple):
    """A lead with what a page shows of it."""

    lead: Lead
    shown: str
    meaning: str
    instance_url: str | None  # of the org that has it
    account_id: str | None = None  # of the person account that it became

    @property
    def record_id(self) -> str | None:
        """Return the Id to open in Salesforce: the account's or contact's if there is one, else the Lead's."""
        if self.shown == Shown.DELETED:
            return None
        return self.account_id or self.lead.linked_contact_id or self.lead.salesforce_id


HOLD_OF: Mapping[AdvisorState, Hold] = {
    AdvisorState.NOT_SET_UP: Hold.NOT_SET_UP,
    AdvisorState.READY: Hold.NOT_CONNECTED,
    AdvisorState.DISCONNECTED: Hold.DISCONNECTED,
    AdvisorState.NEEDS_RECONNECT: Hold.NEEDS_RECONNECT,
    AdvisorState.PAUSED: Hold.PAUSED,
}


def find_hold(user: User, connection: Connection | None, now: datetime) -> Hold | None:
    """Return why nothing of this advisor's is sent at the moment; None if leads are sent. connection: of find_latest()."""
    state = state_of(connection.partner if connection else user.partner, connection, now)
    if state in HOLD_OF or connection is None:
        return HOLD_OF[state]
    return None if allowance_of(db.session(), connection.partner_id, now).has_room_for_leads() else Hold.NO_CALLS


def shown_state(hold: str | None) -> ColumnElement[str]:
    """Select the state to show: what Salesforce did to the person comes before how far the lead has come."""
    waiting: tuple[LeadState, ...] = (LeadState.WAITING, LeadState.SENDING)
    if hold:
        waiting = UNDELIVERED
    return case(
        (or_(Lead.is_deleted, Lead.why == Unfollowed.GONE), literal(Shown.DELETED.value)),
        (and_(Lead.opted_out, Lead.consent_hidden), literal(Shown.CONSENT_HIDDEN.value)),
        (Lead.opted_out, literal(Shown.OPTED_OUT.value)),
        (Lead.state.in_(waiting), literal(Shown.WAITING.value)),
        (and_(IS_FOR_REVIEW, Lead.why == Review.NOT_CONFIRMED), literal(Shown.NOT_CONFIRMED.value)),
        else_=Lead.state,
    )


def find_page(user: User, wanted: LeadQuery, hold: Hold | None, counts: Mapping[str, int]) -> Page[LeadLine]:
    """Return one page, newest first; a number past the end gives the last page. counts: of count_by_state()."""
    conditions = _conditions(user.id, wanted, hold)
    total = counts.get(wanted.state, 0)
    if wanted.search:
        total = db.session.scalar(select(func.count()).select_from(Lead).where(*conditions)) or 0
    number = max(1, min(wanted.page, -(-total // PAGE_SIZE)))
    rows = db.session.execute(
        _rows(hold).where(*conditions).order_by(Lead.id.desc()).limit(PAGE_SIZE).offset((number - 1) * PAGE_SIZE)
    )
    return Page([_line(row, hold) for row in rows], total, number)


def count_by_state(user: User, hold: Hold | None) -> Mapping[str, int]:
    """Return {shown state: number of leads}, with the total under ""."""
    shown = shown_state(hold).label("shown")
    rows = db.session.execute(select(shown, func.count()).where(_of(user.id)).group_by(shown))
    counts = {row[0]: row[1] for row in rows}
    return {"": sum(counts.values()), **counts}


def find_lead(user_id: int, public_id: str) -> Lead | None:
    return db.session.scalar(select(Lead).where(_of(user_id), Lead.public_id == public_id))


class Waiting(NamedTuple):
    """How many people wait for the advisor's review. over_limit: those who came after the page had reached its
    limit."""

    people: int
    over_limit: int


def count_waiting(user_id: int) -> Waiting:
    """Count those who wait, without those that the advisor has deleted here."""
    over = func.count(case((Lead.why == Review.OVER_LIMIT, 1)))
    query = select(func.count(), over).where(
        is_of_present_firm(user_id), IS_FOR_REVIEW, Lead.why != Review.NOT_CONFIRMED, ~is_hidden_here()
    )
    people, over_limit = db.session.execute(query).one()
    return Waiting(people, over_limit)


def find_to_act_on(user: User, hold: Hold | None) -> list[LeadLine]:
    """Return the newest leads that need the advisor: refused, or to be checked."""
    rows = db.session.execute(
        _rows(hold)
        .where(_of(user.id), Lead.state.in_((LeadState.REFUSED, LeadState.PLEASE_CHECK)))
        .order_by(Lead.id.desc())
        .limit(NEWS_MAX)
    )
    return [_line(row, None) for row in rows]


def find_lines(user: User, now: datetime, *which: ColumnElement[bool]) -> list[LeadLine]:
    """Return the leads of the advisor's present firm that these conditions choose, newest first."""
    hold = find_hold(user, find_latest(user), now)
    rows = db.session.execute(_rows(hold).where(is_of_present_firm(user.id), *which).order_by(Lead.id.desc()))
    return [_line(row, hold) for row in rows]


class AskingAgain(NamedTuple):
    """People who asked for mail again. total: all of them; leads: those that the page lists, newest first."""

    total: int
    leads: list[Lead]


class News(NamedTuple):
    """Who asked for mail again, apart from those that the advisor has acknowledged.

    stopped: inactive by what Salesforce says. hidden: deleted here by the advisor.
    """

    stopped: AskingAgain
    hidden: AskingAgain


def find_asking_again(user_id: int) -> News:
    stopped = or_(Lead.opted_out, Lead.is_deleted, Lead.why.in_(tuple(Unfollowed)))
    return News(_asking_again(user_id, stopped & ~is_hidden_here()), _asking_again(user_id, is_hidden_here()))


def _asking_again(user_id: int, which: ColumnElement[bool]) -> AskingAgain:
    untold = (Lead.asked_again_seen_at.is_(None)) | (Lead.asked_again_seen_at < Lead.asked_again_at)
    conditions = (_of(user_id), Lead.asked_again_at.is_not(None), which, untold)
    newest = select(Lead, func.count().over()).where(*conditions).order_by(Lead.asked_again_at.desc(), Lead.id.desc())
    rows = db.session.execute(newest.limit(NEWS_MAX)).all()
    return AskingAgain(rows[0][1] if rows else 0, [row.Lead for row in rows])


def is_hidden_here() -> ColumnElement[bool]:
    """Has the advisor deleted this person here?"""
    return exists().where(Contact.id == Lead.contact_id, Contact.hidden_at.is_not(None), Contact.erased_at.is_(None))


def iter_csv(user_id: int, hold: str | None) -> Iterator[str]:
    """Yield the CSV of all leads in pieces, oldest first; each piece is a short read of its own.

    hold: of find_hold(). The argument is a plain value: the request's session has ended by the time the pieces are
    sent.
    """
    yield csv_header(COLUMNS)
    last_id = 0
    while rows := db.session.execute(
        _rows(hold).where(_of(user_id), Lead.id > last_id).order_by(Lead.id).limit(ROWS_A_PIECE)
    ).all():
        last_id = rows[-1].Lead.id
        cells = [_cells(_line(row, hold)) for row in rows]
        end_read(db.session)
        yield csv_rows(cells)


def _cells(line: LeadLine) -> tuple[str | None, ...]:
    lead = line.lead
    return (
        lead.signed_up_at.isoformat(timespec="seconds"),
        lead.first_name,
        lead.last_name,
        lead.email,
        line.shown,
        line.meaning,
        lead.salesforce_id or lead.linked_contact_id,
    )


def _rows(hold: str | None) -> Any:
    account_id = (
        select(Contact.account_id)
        .where(Contact.connection_id == Lead.connection_id, Contact.salesforce_id == Lead.linked_contact_id)
        .scalar_subquery()
    )
    return select(
        Lead, shown_state(hold).label("shown"), Connection.instance_url, account_id.label("account_id")
    ).outerjoin(Connection, Connection.id == Lead.connection_id)


def _line(row: Any, hold: str | None) -> LeadLine:
    return LeadLine(row.Lead, row.shown, meaning_of(row.Lead, row.shown, hold), row.instance_url, row.account_id)


def is_of_present_firm(user_id: int) -> ColumnElement[bool]:
    """Is the lead of the advisor's present firm? Leads stay with the firm that they signed up with."""
    firm = select(User.partner_id).where(User.id == user_id).scalar_subquery()
    return and_(Lead.user_id == user_id, Lead.partner_id == firm)


def _of(user_id: int) -> ColumnElement[bool]:
    return and_(is_of_present_firm(user_id), Lead.state != LeadState.ERASED)


def _conditions(user_id: int, wanted: LeadQuery, hold: str | None) -> list[ColumnElement[bool]]:
    conditions = [_of(user_id)]
    if wanted.state in LABELS:
        conditions.append(shown_state(hold) == wanted.state)
    words = fold(wanted.search[:SEARCH_MAX]).split()[:WORDS_MAX]
    return conditions + [Lead.search_key.contains(word, autoescape=True) for word in words]
