"""Lists in Salesforce: list views and campaigns, which there are, and who of the user's own people is on one.

A list view is read by its own query: FROM, SCOPE and WHERE are kept, the fields are replaced by the Id, the owner is
added, ORDER BY is left out. Membership comes whole or as an error; what fails for one list concerns that list alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode

from asapp.salesforce import errors
from asapp.salesforce.client import PARTS_A_COMPOSITE, QUERIES_A_COMPOSITE, QUERY_BYTES, OrgClient
from asapp.salesforce.hosts import to_18
from asapp.salesforce.records import CAMPAIGN_PREFIX, CONTACT_PREFIX, LEAD_PREFIX, cleaned, id_of, id_or_none
from asapp.salesforce.soql import field, owned_by

VIEW_PREFIX = "00B"
CAMPAIGN = "Campaign"
NAME_MAX = 80
CAMPAIGNS_SHOWN = 200
PAGES_OF_VIEWS = 20
# "Recently Viewed" shows what its reader opened last: it is no list of people.
RECENTLY_VIEWED = re.compile(r"RecentlyViewed|__Recent|Recent$")
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'")
QUERY = re.compile(
    r"\s*SELECT\s.*?\sFROM\s+(?P<about>\w+)(?:\s+USING\s+SCOPE\s+(?P<scope>\w+))?(?:\s+WHERE\s+(?P<where>.*?))?"
    r"(?:\s+ORDER\s+BY\s.*)?\s*",
    re.IGNORECASE | re.DOTALL,
)
EVERYTHING, MINE = "everything", "mine"
# Words like LAST_N_DAYS:30, which select other people tomorrow.
RELATIVE_DATE = re.compile(r"\b(?:TODAY|TOMORROW|YESTERDAY|(?:THIS|LAST|NEXT)_\w+|N_\w+_AGO)\b")


class ListTrouble(StrEnum):
    """Why a list can't be read."""

    GONE = "gone"  # deleted, or not shared with the user any more
    NO_ACCESS = "no_access"  # the user may not read campaigns, or the object of the view
    FIELD_HIDDEN = "field_hidden"  # the filter uses a field that the user can't see, or that can't be filtered by
    NOT_COMPATIBLE = "not_compatible"  # Salesforce lets no other program read this view
    NO_ANSWER = "no_answer"  # nothing to fix: the next sync tries again


class ListInOrg(NamedTuple):
    """A list view or campaign that the user can see. about: Contact, Account, Lead or Campaign."""

    id: str
    name: str
    about: str
    is_readable: bool = True
    status: str = ""  # of a campaign

    @property
    def is_campaign(self) -> bool:
        return self.about == CAMPAIGN


class Catalog(NamedTuple):
    """lists: by name. troubles: what could not be listed, {Contact or another object: why}."""

    lists: list[ListInOrg]
    troubles: dict[str, ListTrouble]


@dataclass(frozen=True)
class Filter:
    """What a list view selects. scope: empty for all that the user sees; condition: as SOQL, empty if there is none."""

    about: str
    scope: str = ""
    condition: str = ""

    @property
    def is_everybody(self) -> bool:
        return not self.condition

    @property
    def moves_with_dates(self) -> bool:
        return bool(RELATIVE_DATE.search(QUOTED.sub("''", self.condition)))

    @property
    def has_only_own(self) -> bool:
        return self.scope == MINE

    @property
    def digest(self) -> bytes:
        """Return 32 bytes that change when the view selects other records; its columns and order don't matter."""
        return hashlib.sha256(f"{self.about}\n{self.scope}\n{self.condition}".encode()).digest()

    def ids(self, owner_id: str) -> str:
        """Return the query for the Ids of the owner's people."""
        column = "PersonContactId" if self.about == "Account" else "Id"
        return f"SELECT {column} {self._rest(owned_by(owner_id))}"

    def count(self) -> str:
        """Return the query that counts everyone's people."""
        return f"SELECT COUNT() {self._rest()}"

    def _rest(self, *more: str) -> str:
        scope = f" USING SCOPE {field(self.scope)}" if self.scope else ""
        kinds = {"Account": ("IsPersonAccount = true",), "Lead": ("IsConverted = false",)}
        conditions = [*([f"({self.condition})"] if self.condition else []), *kinds.get(self.about, ()), *more]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"FROM {field(self.about)}{scope}{where}"


class ListToRead(NamedTuple):
    """A chosen list. key: the caller's. filter: the one that was accepted; None for a campaign, or to look at a view."""

    key: int
    id: str
    about: str
    filter: Filter | None = None


class ListReading(NamedTuple):
    """What a list is now.

    filter: a view's, as it is now. ids: the user's own people on it, Contact and Lead Ids; None if the view's filter isn't
    the accepted one. others: how many people on it are other users'.
    """

    name: str
    filter: Filter | None
    ids: list[str] | None
    others: int


Read = ListReading | ListTrouble


class Look(NamedTuple):
    """What a list would bring, before it is chosen.

    own: how many of the user's people are on it; ids: of the first 2,000 of them at most; others: people of other users.
    """

    found: ListInOrg
    filter: Filter | None
    own: int
    others: int
    ids: list[str]

    @property
    def is_whole(self) -> bool:
        return len(self.ids) == self.own


# ---- Which lists there are


def fetch_catalog(org: OrgClient, objects: Sequence[str]) -> Catalog:
    """Return the list views of these objects and the active campaigns: one call, and one for each further page of views.

    Raises SalesforceError only where the call as a whole fails.
    """
    parts = {about: f"sobjects/{field(about)}/listviews" for about in objects}
    answers = org.fetch_parts(parts | {CAMPAIGN: _query(_campaigns())})
    found: list[ListInOrg] = []
    troubles: dict[str, ListTrouble] = {}
    for about, answer in answers.items():
        if isinstance(answer, errors.SalesforceError):
            troubles[about] = trouble_of(answer)
        elif about == CAMPAIGN:
            found += _converted(org.rows_of(answer), _campaign_of)
        else:
            found += _converted(_all_views(org, answer), lambda row, about=about: _view_of(row, about))
    shown = {one.id: one for one in found if one.name}
    return Catalog(sorted(shown.values(), key=lambda one: (one.name.casefold(), one.id)), troubles)


def _campaigns() -> str:
    return (
        "SELECT Id, Name, Status FROM Campaign WHERE IsActive = true "
        f"ORDER BY LastViewedDate DESC NULLS LAST, Name LIMIT {CAMPAIGNS_SHOWN}"
    )


def _all_views(org: OrgClient, answer: dict[str, Any]) -> Iterator[Any]:
    for _ in range(PAGES_OF_VIEWS):
        views = answer.get("listviews")
        if not isinstance(views, list):
            raise errors.TryLater("unreadable_answer", "listviews")
        yield from (one for one in views if not RECENTLY_VIEWED.search(str(one.get("developerName"))))
        path = answer.get("nextRecordsUrl")
        if not isinstance(path, str):
            return
        answer = org.fetch_list_views(path)


def _view_of(row: Mapping[str, Any], about: str) -> ListInOrg:
    return ListInOrg(id_of(row["id"], VIEW_PREFIX), one_line(row["label"]), about, row.get("soqlCompatible") is True)


def _campaign_of(row: Mapping[str, Any]) -> ListInOrg:
    return ListInOrg(id_of(row["Id"], CAMPAIGN_PREFIX), one_line(row["Name"]), CAMPAIGN, status=one_line(row["Status"]))


def _converted(rows: Iterable[Any], convert: Any) -> list[ListInOrg]:
    """Return the rows that can be read: one odd entry hides no other."""
    found = []
    for row in rows:
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            found.append(convert(row))
    return found


# ---- Who is on them


def read_lists(org: OrgClient, owner_id: str, wanted: Sequence[ListToRead]) -> Iterator[tuple[ListToRead, Read]]:
    """Yield what each list is now: several in a call, and one call more for each further 2,000 people.

    Raises SalesforceError where a call as a whole fails.
    """
    for together in _in_calls(wanted, owner_id):
        answers = org.fetch_parts({name: path for one in together for name, path in _parts_of(one, owner_id).items()})
        for one in together:
            own = {name: answers[name] for name in _parts_of(one, owner_id)}
            try:
                yield one, _read_campaign(org, one, own) if one.about == CAMPAIGN else _read_view(org, one, own)
            except ListUnread as unread:
                yield one, unread.trouble
            except (errors.TryLater, errors.LocatorExpired, errors.Misconfigured, errors.OurBug) as error:
                yield one, trouble_of(error)


def look_inside(org: OrgClient, owner_id: str, list_id: str, about: str) -> Look | ListTrouble:
    """Return what a list would bring: two calls for a list view, one for a campaign, however many people it has.

    Raises SalesforceError where a call as a whole fails.
    """
    one = ListToRead(0, list_id, about)
    try:
        answers = org.fetch_parts(_parts_of(one, owner_id))
        if about == CAMPAIGN:
            return _look(one, answers, None)
        now = _readable_filter(answers, one)
        one = one._replace(filter=now)
        queries = {name: path for name, path in _parts_of(one, owner_id).items() if path.startswith("query")}
        return _look(one, {**answers, **org.fetch_parts(queries)}, now)
    except ListUnread as unread:
        return unread.trouble


def _look(one: ListToRead, answers: Mapping[str, Any], now: Filter | None) -> Look:
    mine, name = (_answered(answers[f"{part}{one.key}"]) for part in ("ids", "name"))
    own = _count_in(mine)
    everyone = own if now and now.has_only_own else _count_in(_answered(answers[f"all{one.key}"]))
    found = ListInOrg(to_18(one.id), _name_in(name, "label" if now else "Name"), one.about)
    rows = mine.get("records")
    if not isinstance(rows, list):
        raise ListUnread(ListTrouble.NO_ANSWER)
    return Look(found, now, own, max(0, everyone - own), _unique(_ids_of(rows, one.about)))


class ListUnread(Exception):
    def __init__(self, trouble: ListTrouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


def _in_calls(wanted: Sequence[ListToRead], owner_id: str) -> Iterator[list[ListToRead]]:
    together: list[ListToRead] = []
    parts = queries = 0
    for one in wanted:
        paths = _parts_of(one, owner_id).values()
        own_queries = sum(path.startswith("query") for path in paths)
        if parts + len(paths) > PARTS_A_COMPOSITE or queries + own_queries > QUERIES_A_COMPOSITE:
            yield together
            together, parts, queries = [], 0, 0
        together.append(one)
        parts, queries = parts + len(paths), queries + own_queries
    if together:
        yield together


def _parts_of(one: ListToRead, owner_id: str) -> dict[str, str]:
    """Return {reference: path} of what is asked about a list."""
    key, list_id = one.key, to_18(one.id)
    if one.about == CAMPAIGN:
        members = f"FROM CampaignMember WHERE CampaignId = '{list_id}'"
        mine = f"LeadOrContactOwnerId = '{to_18(owner_id)}'"
        return {
            f"name{key}": f"sobjects/Campaign/{list_id}?fields=Id,Name",
            f"ids{key}": _query(f"SELECT ContactId, LeadId {members} AND {mine}"),
            f"all{key}": _query(f"SELECT COUNT() {members} AND (ContactId != null OR LeadId != null)"),
        }
    root = f"sobjects/{field(one.about)}/listviews/{list_id}"
    parts = {f"name{key}": root, f"view{key}": f"{root}/describe"}
    if one.filter is not None:
        parts[f"ids{key}"] = _query(one.filter.ids(owner_id))
        if not one.filter.has_only_own:
            parts[f"all{key}"] = _query(one.filter.count())
    return parts


def _read_campaign(org: OrgClient, one: ListToRead, answers: Mapping[str, Any]) -> ListReading:
    mine, everyone, name = (_answered(answers[f"{part}{one.key}"]) for part in ("ids", "all", "name"))
    people = _ids_of(org.rows_of(mine), CAMPAIGN)
    return ListReading(_name_in(name, "Name"), None, _unique(people), max(0, _count_in(everyone) - len(people)))


def _read_view(org: OrgClient, one: ListToRead, answers: Mapping[str, Any]) -> ListReading:
    now = _readable_filter(answers, one)
    name = _name_in(answers[f"name{one.key}"], "label")
    if one.filter is None or now.digest != one.filter.digest:
        return ListReading(name, now, None, 0)
    ids = _ids_of(org.rows_of(_answered(answers[f"ids{one.key}"])), one.about)
    total = len(ids) if now.has_only_own else _count_in(_answered(answers[f"all{one.key}"]))
    return ListReading(name, now, _unique(ids), max(0, total - len(ids)))


def _readable_filter(answers: Mapping[str, Any], one: ListToRead) -> Filter:
    """Return what a list view selects now. Raises ListUnread if it is gone, or not for other programs."""
    entry, described = (_answered(answers[f"{part}{one.key}"]) for part in ("name", "view"))
    if entry.get("soqlCompatible") is not True:
        raise ListUnread(ListTrouble.NOT_COMPATIBLE)
    return filter_of(described, one.about)


def filter_of(described: Mapping[str, Any], about: str) -> Filter:
    """Return what a list view's description selects. Raises ListUnread if its query can't be used."""
    query = described.get("query")
    if not isinstance(query, str):
        raise ListUnread(ListTrouble.NOT_COMPATIBLE)
    masked = QUOTED.sub(lambda found: "'" + "x" * (len(found[0]) - 2) + "'", query)
    match = QUERY.fullmatch(masked)
    if match is None or match["about"].lower() != about.lower() or "@{" in query:
        raise ListUnread(ListTrouble.NOT_COMPATIBLE)
    scope = (match["scope"] or "").lower()
    condition = "" if match["where"] is None else query[match.start("where") : match.end("where")].strip()
    found = Filter(about, "" if scope == EVERYTHING else scope, condition)
    if len(quote_plus(found.condition)) > QUERY_BYTES or "\0" in condition:
        raise ListUnread(ListTrouble.NOT_COMPATIBLE)
    return found


def trouble_of(error: errors.SalesforceError) -> ListTrouble:
    """Return why a list can't be read, by the error about it."""
    match error:
        case errors.FieldHidden() | errors.FieldEncrypted():
            return ListTrouble.FIELD_HIDDEN
        case errors.Misconfigured():
            return ListTrouble.NO_ACCESS
        case errors.OurBug(detail="NOT_FOUND") | errors.Rejected():
            return ListTrouble.GONE
        case errors.OurBug():  # a query that Salesforce composed and does not take
            return ListTrouble.NOT_COMPATIBLE
        case _:
            return ListTrouble.NO_ANSWER


def _query(query: str) -> str:
    return f"query/?{urlencode({'q': query})}"


def _answered(answer: dict[str, Any] | errors.SalesforceError) -> dict[str, Any]:
    if isinstance(answer, errors.SalesforceError):
        raise ListUnread(trouble_of(answer))
    return answer


def _name_in(entry: Mapping[str, Any], key: str) -> str:
    """Return the list's name; empty if Salesforce shows none."""
    return one_line(entry.get(key))


def one_line(text: Any) -> str:
    """Return a name as one line that can be stored."""
    return " ".join(cleaned(text).split())[:NAME_MAX]


def _count_in(answer: Mapping[str, Any]) -> int:
    total = answer.get("totalSize")
    if not isinstance(total, int):
        raise ListUnread(ListTrouble.NO_ANSWER)
    return total


def _ids_of(rows: Iterable[Mapping[str, Any]], about: str) -> list[str]:
    """Return the people of a query's rows. Raises ListUnread for a row that can't be read: it may be anyone."""
    try:
        return [person for row in rows if (person := _person_of(row, about))]
    except (KeyError, TypeError, ValueError):
        raise ListUnread(ListTrouble.NO_ANSWER) from None


def _person_of(row: Mapping[str, Any], about: str) -> str | None:
    """Return the Id of a row's person; None for a campaign's member that is an account. A converted lead is its contact."""
    match about:
        case "Campaign":
            return id_or_none(row["ContactId"], CONTACT_PREFIX) or id_or_none(row["LeadId"], LEAD_PREFIX)
        case "Account":
            return id_of(row["PersonContactId"], CONTACT_PREFIX)
        case _:
            return id_of(row["Id"])


def _unique(ids: Iterable[str]) -> list[str]:
    """Return each person once."""
    return list(dict.fromkeys(ids))
