"""One advisor's org, asked through simple-salesforce over our own session.

Answers come as neutral records; what goes wrong as one of salesforce/errors.py. A part of a composite answer that fails is
an error of the whole question, never "nothing".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

from simple_salesforce.api import Salesforce
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from asapp.salesforce import errors, soql
from asapp.salesforce.records import ContactPage, ContactRecord, Opening, Sighting, contact_of
from asapp.salesforce.session import OrgSession, TokenSource

T = TypeVar("T")
IDS_A_QUERY = 400  # what a request line of 16,384 bytes takes, with room
QUERIES_A_COMPOSITE = 5  # Salesforce's limit
ATTEMPTS = 3


def wait_with_jitter(state: RetryCallState) -> float:
    """Return the seconds before the next attempt: about 1, about 3."""
    return random.uniform(0.5, 1.5) * float(3 ** (state.attempt_number - 1))


class OrgClient:
    def __init__(
        self,
        tokens: TokenSource,
        api_version: str,
        opt_out_field: str,
        *,
        allow_loopback: bool = False,
        before_call: Callable[[], None] | None = None,
        wait: Callable[[RetryCallState], float] = wait_with_jitter,
    ) -> None:
        """before_call runs before each request, and may raise to stop."""
        self._tokens = tokens
        self._api_version = api_version
        self._opt_out_field = opt_out_field
        self._allow_loopback = allow_loopback
        self._before_call = before_call
        self._wait = wait
        self._session: OrgSession | None = None
        self._earlier_calls = 0

    @property
    def calls(self) -> int:
        """How many requests were sent to the org."""
        return self._earlier_calls + (self._session.calls if self._session else 0)

    @property
    def usage(self) -> tuple[int, int] | None:
        """(used, allowed) calls of the org in the last 24 hours, as it last said."""
        return self._session.usage if self._session else None

    def open_contacts(
        self, owner_id: str, since: datetime | None, after: tuple[datetime, str] | None, with_deleted: bool
    ) -> Opening:
        """Ask for the first page of the contacts of a window, and for how many contacts the user has: one call."""
        contacts = soql.contacts(owner_id, self._opt_out_field, since, after)
        page, count = self._ask(
            ("contacts", "queryAll" if with_deleted else "query", contacts),
            ("count", "query", soql.count_contacts(owner_id)),
        )
        session = self._session
        if session is None or session.answered_at is None:
            raise errors.TryLater("unreadable_answer", "no Date")
        return Opening(
            page=self._page(page, self._contact),
            owned=_total(count),
            asked_at=session.answered_at - timedelta(seconds=int(session.took_s) + 2),
            answered_at=session.answered_at,
        )

    def next_page(self, path: str) -> ContactPage:
        """Return the page at a path that an earlier page named; LocatorExpired if it is no longer kept."""
        return self._page(self._more(path), self._contact)

    def iter_sweep(self, owner_id: str) -> Iterator[list[tuple[str, bool]]]:
        """Yield pages of (Id, is opted out) of every contact of the user, in one reading. Whole, or an error."""
        answer = self._query(soql.sweep(owner_id, self._opt_out_field))
        seen = 0
        while True:
            rows = [(row["Id"], row[self._opt_out_field] is not False) for row in _records(answer)]
            seen += len(rows)
            yield rows
            if answer.get("done") is True:
                break
            answer = self._more(_next_path(answer))
        if seen != _total(answer):
            raise errors.TryLater("short_answer")

    def look_at(self, ids: Sequence[str]) -> dict[str, Sighting]:
        """Return what became of these Ids, deleted ones too; an Id without a row is gone. Whole, or an error."""
        found: dict[str, Sighting] = {}
        for answer in self._ask_by_id(ids, soql.sightings):
            for row in _whole(answer):
                found[row["Id"]] = Sighting(row["Id"], row["OwnerId"], row["IsDeleted"] is True, row["MasterRecordId"])
        return found

    def contacts_by_id(self, ids: Sequence[str]) -> list[ContactRecord]:
        rows: list[ContactRecord] = []
        for answer in self._ask_by_id(ids, lambda chunk: soql.contacts_by_id(chunk, self._opt_out_field)):
            rows.extend(self._contact(row) for row in _whole(answer))
        return rows

    def count_preview(self, owner_id: str) -> tuple[int, int, int]:
        """Return how many contacts the user has, of them opted out, of the rest without an address: one call."""
        mine = soql.owned_by(owner_id)
        opted_out = f"{soql.field(self._opt_out_field)} = true"
        total, out, no_email = self._ask(
            ("total", "query", f"SELECT COUNT() FROM Contact WHERE {mine}"),
            ("out", "query", f"SELECT COUNT() FROM Contact WHERE {mine} AND {opted_out}"),
            ("none", "query", f"SELECT COUNT() FROM Contact WHERE {mine} AND Email = null AND (NOT {opted_out})"),
        )
        return _total(total), _total(out), _total(no_email)

    def look_for_contact(self, salesforce_id: str | None = None, email: str | None = None) -> list[dict[str, Any]]:
        """Return up to ten rows for "Why isn't this person here?", deleted ones too: one call."""
        answer = self._query(soql.whereabouts(salesforce_id, email, self._opt_out_field), include_deleted=True)
        return _records(answer)

    def _ask_by_id(self, ids: Sequence[str], build: Callable[[Iterable[str]], str]) -> Iterator[dict[str, Any]]:
        for group in batched_lists(batched_lists(ids, IDS_A_QUERY), QUERIES_A_COMPOSITE):
            yield from self._ask(*((f"ids{number}", "queryAll", build(chunk)) for number, chunk in enumerate(group)))

    def _ask(self, *questions: tuple[str, str, str]) -> list[dict[str, Any]]:
        """Put (reference, resource, SOQL) questions in one /composite call; return their bodies in order."""
        base = f"/services/data/v{self._api_version}"
        body = {
            "allOrNone": False,
            "compositeRequest": [
                {"method": "GET", "url": f"{base}/{resource}/?{urlencode({'q': query})}", "referenceId": reference}
                for reference, resource, query in questions
            ],
        }
        return self._try(lambda api: _parts(api.restful("composite", method="POST", json=body), len(questions)))

    def _query(self, query: str, include_deleted: bool = False) -> dict[str, Any]:
        return self._try(lambda api: _object(api.query(query, include_deleted=include_deleted)))

    def _more(self, path: str) -> dict[str, Any]:
        return self._try(lambda api: _object(api.query_more(_checked(path), identifier_is_url=True)))

    def _try(self, call: Callable[[Salesforce], T]) -> T:
        """Make a call that only reads; what is transient is tried again here, a few times."""
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._wait,
            retry=retry_if_exception_type(errors.TryLater),
            reraise=True,
        )
        return retrying(lambda: call(self._api()))

    def _api(self) -> Salesforce:
        if self._session is None or self._session.origin != self._tokens.instance_url:
            if self._session is not None:
                self._earlier_calls += self._session.calls
            self._session = OrgSession(self._tokens, self._allow_loopback, self._before_call)
            self._salesforce = Salesforce(
                instance_url=self._session.origin,
                session_id="(the session adds it)",
                version=self._api_version,
                session=self._session,
            )
        return self._salesforce

    def _contact(self, row: dict[str, Any]) -> ContactRecord:
        return contact_of(row, self._opt_out_field)

    def _page(self, answer: dict[str, Any], convert: Callable[[dict[str, Any]], ContactRecord]) -> ContactPage:
        try:
            records = [convert(row) for row in _records(answer)]
        except (KeyError, TypeError, ValueError) as error:
            raise errors.TryLater("unreadable_answer", type(error).__name__) from None
        return ContactPage(records, _total(answer), None if answer.get("done") is True else _next_path(answer))


def batched_lists(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to size items (itertools.batched is younger than our oldest Python)."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _parts(answer: Any, expected: int) -> list[dict[str, Any]]:
    """Return the bodies of a composite answer; raise what its first failing part says."""
    parts = answer.get("compositeResponse") if isinstance(answer, dict) else None
    if not isinstance(parts, list) or len(parts) != expected:
        raise errors.TryLater("unreadable_answer", "composite")
    for part in parts:
        if part.get("httpStatusCode") != 200:
            raise errors.sort_data_error(int(part.get("httpStatusCode") or 500), part.get("body"))
    return [_object(part.get("body")) for part in parts]


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise errors.TryLater("unreadable_answer", type(answer).__name__)
    return answer


def _records(answer: dict[str, Any]) -> list[dict[str, Any]]:
    records = answer.get("records")
    if not isinstance(records, list):
        raise errors.TryLater("unreadable_answer", "records")
    return records


def _whole(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an answer that must fit on one page."""
    records = _records(answer)
    if answer.get("done") is not True or len(records) != _total(answer):
        raise errors.TryLater("short_answer")
    return records


def _total(answer: dict[str, Any]) -> int:
    total = answer.get("totalSize")
    if not isinstance(total, int):
        raise errors.TryLater("unreadable_answer", "totalSize")
    return total


def _next_path(answer: dict[str, Any]) -> str:
    path = answer.get("nextRecordsUrl")
    if not isinstance(path, str):
        raise errors.TryLater("short_answer")
    return _checked(path)


def _checked(path: str) -> str:
    """Return a path on this org; an address that leads elsewhere must not get a token."""
    if not path.startswith("/services/data/") or not path.isascii() or any(c in path for c in "@\\ \r\n"):
        raise errors.TryLater("foreign_host")
    return path
