"""The log of calls as admins read it: filtered, newest first, page by page or as a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from asapp.core.csv_files import csv_header, csv_rows
from asapp.core.database import end_read
from asapp.core.extensions import db
from asapp.core.formats import start_of
from asapp.messages.calls import CALL_OUTCOMES, CALLS
from asapp.models import OrgCall, Partner, User
from asapp.salesforce.calls import GOOD, CallKind

A_PAGE = 50
ROWS_A_PIECE = 1000
COLUMNS = ("at", "firm", "advisor", "advisor_id", "kind", "calls", "rows", "outcome", "took_ms")

SUCCESSES = (GOOD, "201", "204")
EXPECTED = (GOOD, "302", "303", "400", "401")  # answers to a log-in that is tried in order to be refused


@dataclass(frozen=True)
class CallQuery:
    """The filter. firm: a slug. advisor_id: the user's id. day: in the reader's time zone. outcome: a key of CALL_OUTCOMES."""

    firm: str = ""
    advisor_id: int | None = None
    day: date | None = None
    outcome: str = ""
    before_id: int | None = None


@dataclass(frozen=True)
class CallLine:
    call: OrgCall
    firm: str | None
    advisor: str | None

    @property
    def what(self) -> str:
        return CALLS.get(self.call.kind, self.call.kind)

    @property
    def is_good(self) -> bool:
        return self.call.outcome in SUCCESSES or self.is_expected

    @property
    def is_expected(self) -> bool:
        """Is it the refusal or the redirect that our check asked for?"""
        return self.call.kind == CallKind.PROBE and self.call.outcome in EXPECTED


@dataclass(frozen=True)
class CallPage:
    lines: list[CallLine]
    older_id: int | None  # the cursor for older calls


def find_page(wanted: CallQuery) -> CallPage:
    """Return one page of calls, in one query."""
    rows = db.session.execute(_calls(wanted).limit(A_PAGE + 1)).all()
    lines = [CallLine(*row) for row in rows[:A_PAGE]]
    return CallPage(lines, lines[-1].call.id if len(rows) > A_PAGE else None)


def find_advisors(firm: str) -> list[User]:
    """Return the people of a firm by name, for the filter; none without a firm."""
    return list(db.session.scalars(select(User).join(Partner).where(Partner.slug == firm).order_by(User.name, User.id)))


def iter_csv(wanted: CallQuery) -> Iterator[str]:
    """Yield the file; times in UTC."""
    yield csv_header(COLUMNS)
    with closing(db.session.execute(_calls(wanted), execution_options={"yield_per": ROWS_A_PIECE})) as result:
        for rows in result.partitions():
            yield csv_rows([_cells(CallLine(*row)) for row in rows])
    end_read(db.session)


def _calls(wanted: CallQuery) -> Select[*tuple[Any, ...]]:
    return (
        select(OrgCall, Partner.name, User.name)
        .outerjoin(Partner, Partner.id == OrgCall.partner_id)
        .outerjoin(User, User.id == OrgCall.user_id)
        .where(*_where(wanted))
        .order_by(OrgCall.id.desc())
    )


def _where(wanted: CallQuery) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.firm:
        found.append(OrgCall.partner_id.in_(select(Partner.id).where(Partner.slug == wanted.firm)))
    if wanted.advisor_id is not None:
        found.append(OrgCall.user_id == wanted.advisor_id)
    if wanted.day is not None:
        found += [OrgCall.at >= start_of(wanted.day), OrgCall.at < start_of(wanted.day + timedelta(days=1))]
    if wanted.outcome in CALL_OUTCOMES:
        is_expected = and_(OrgCall.kind == CallKind.PROBE, OrgCall.outcome.in_(EXPECTED))
        is_good = or_(OrgCall.outcome.in_(SUCCESSES), is_expected)
        found.append(is_good if wanted.outcome == "good" else ~is_good)
    if wanted.before_id is not None:
        found.append(OrgCall.id < wanted.before_id)
    return found


def _cells(line: CallLine) -> list[object]:
    call = line.call
    return [
        call.at.isoformat(timespec="seconds"),
        line.firm or "",
        line.advisor or "",
        call.user_id,
        call.kind,
        call.calls,
        call.rows,
        call.outcome,
        call.took_ms,
    ]
