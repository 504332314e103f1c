"""What came, left and changed among an advisor's contacts, day by day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from asapp.accounts import visits
from asapp.audit import entries
from asapp.contacts.queries import SEARCH_MAX, count_active_contacts
from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.core.forms import whole_number
from asapp.messages.changes import FILTERS, GAINS, LOSSES, TALLIED
from asapp.models import Action
from asapp.panel import changes, over_time
from asapp.panel.changes import Account, ChangeCount, Day, Entry, Key, Wanted
from asapp.panel.over_time import ActiveCount
from asapp.web.access import actor, advisor_required
from asapp.web.current import config, person
from asapp.web.files import csv_file
from asapp.web.plot import draw

blueprint = Blueprint("changes", __name__, url_prefix="/changes")

PERIODS = {"today": "Today", "7": "Last 7 days", "30": "Last 30 days", "90": "Last 90 days", "all": "All that is kept"}
SINCE_VISIT = "visit"


@dataclass(frozen=True)
class Asked:
    """The filter of the page. day: that day alone. before: the last of the days shown, where nothing is filtered."""

    kind: str = ""
    period: str = ""
    search: str = ""
    day: date | None = None
    before: date | None = None

    @property
    def is_narrowed(self) -> bool:
        return bool(self.kind or self.period or self.search or self.day)


@blueprint.get("")
@advisor_required
def index() -> ResponseReturnValue:
    now = utcnow()
    last_visit_at = visits.find_last(person().id)
    asked, account = asked_by(request.args), Account.of(person())
    names = {
        "asked": asked,
        "kinds": FILTERS,
        "today": formats.day_of(now),
        "periods": PERIODS | ({SINCE_VISIT: "Since your last visit"} if last_visit_at else {}),
        "last_visit_at": last_visit_at,
    }
    if asked.is_narrowed:
        wanted = wanted_by(asked, now, last_visit_at)
        after = Key.read(request.args.get("after", ""))
        found = changes.find_entries(account, wanted, after, changes.A_PAGE + 1)
        shown = found[: changes.A_PAGE]
        following = str(shown[-1].key) if len(found) > len(shown) else None
        return render_template(
            "changes/index.html", days=days_of(shown), following=following, is_first=after is None, **names
        )
    last = asked.before or formats.day_of(now)
    first, span = last - timedelta(days=changes.DAYS_SHOWN - 1), span_of(request.args)
    since = first if asked.before else over_time.first_day(span, now)  # an earlier page has no picture
    counts = over_time.find_counts(account, formats.start_of(since))
    changed = changes.find_counts(account, changes.between(since, last))
    days = changes.find_days(account, first, last, changed)
    earlier = changes.find_last_day(account, formats.start_of(first))
    return render_template(
        "changes/index.html",
        days=days,
        counts=over_time.by_day(counts),
        earlier=earlier,
        nothing_yet=asked.before is None and earlier is None and not any(day.tally for day in days),
        **(picture_of(account, span, counts, changed, now) if asked.before is None else {}),
        **names,
    )


def span_of(values: dict[str, str]) -> int:
    span = whole_number(values.get("span"))
    return span if span in over_time.SPANS else over_time.SPANS[0]


def picture_of(
    account: Account, span: int, counts: Sequence[ActiveCount], changed: Sequence[ChangeCount], now: datetime
) -> dict[str, object]:
    """Return what the picture over time shows; nothing before syncs counted on two days."""
    picture = over_time.make_picture(span, counts, changed, count_active_contacts(account.user_id, now), now)
    if picture is None:
        return {}
    points = picture.points
    plot = draw([point.active for point in points], [(point.opted_out, point.left) for point in points])
    return {"picture": picture, "plot": plot, "span": span, "spans": over_time.SPANS}


@blueprint.get("/export.csv", endpoint="export")
@advisor_required
def export_csv() -> ResponseReturnValue:
    now = utcnow()
    wanted = wanted_by(asked_by(request.args), now, visits.find_last(person().id))
    account = Account.of(person())
    entries.record_export(Action.EXPORTED, actor(), None, file="changes")
    return csv_file(changes.iter_csv(account, wanted), f"changes-{now:%Y-%m-%d}.csv")


def asked_by(values: dict[str, str]) -> Asked:
    """Return the filter; what makes no sense is left out."""
    kind, period = values.get("kind", ""), values.get("since", "")
    return Asked(
        kind=kind if kind in FILTERS else "",
        period=period if period in (*PERIODS, SINCE_VISIT) else "",
        search=" ".join(values.get("q", "").split())[:SEARCH_MAX],
        day=_date(values.get("day", "")),
        before=_date(values.get("before", "")),
    )


def wanted_by(asked: Asked, now: datetime, last_visit_at: datetime | None) -> Wanted:
    """Return what to query. Without a period it is all that is kept."""
    today, since = formats.day_of(now), now - timedelta(days=config().runs_kept_days)
    until = formats.start_of(today + timedelta(days=1))
    if asked.period == SINCE_VISIT and last_visit_at is not None:
        since = last_visit_at
    elif asked.period == "today":
        since = formats.start_of(today)
    elif asked.period.isdigit():
        since = formats.start_of(today - timedelta(days=int(asked.period) - 1))
    wanted = Wanted(since, until, asked.kind, asked.search)
    return changes.of_day(asked.day, wanted) if asked.day else wanted


def days_of(found: list[Entry]) -> list[Day]:
    """Return the days of these entries, each with those entries alone and without a tally."""
    return [Day(day, {}, list(group)) for day, group in groupby(found, key=lambda each: formats.day_of(each.at))]


def _date(text: str) -> date | None:
    """Return the day that a link names; None for one that no time zone could show."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 1970 <= day.year < 9000 else None


@blueprint.app_template_global()
def sign_of(kind: str) -> str:
    """Return the class of a kind of change: as in an account, added is plus and left is minus."""
    return "minus" if kind in LOSSES else "plus" if kind in GAINS else ""


@blueprint.app_template_global()
def tallied(kind: str) -> str:
    """Return the words after a number: `added`, `opted out or unsubscribed`."""
    return TALLIED[kind]


for _words in (formats.date_words, formats.day_name):
    blueprint.add_app_template_global(_words)
