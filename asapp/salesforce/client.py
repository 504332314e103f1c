"""One advisor's org, asked through simple-salesforce over our own session.

Answers come as neutral records; what goes wrong as one of salesforce/errors.py. A part of a composite answer that fails is
an error of the whole question, never "nothing".
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode

from simple_salesforce.api import Salesforce
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from asapp.salesforce import errors, soql
from asapp.salesforce.records import (
    ContactMatch,
    ContactPage,
    ContactRecord,
    Created,
    LeadPage,
    LeadRecord,
    NewLead,
    Opening,
    Sighting,
    contact_of,
    converted,
    created_of,
    lead_of,
    match_of,
    sighting_of,
)
from asapp.salesforce.session import OrgSession, TokenSource

T = TypeVar("T")
IDS_A_QUERY = 400  # what a request line of 16,384 bytes takes, with room
QUERIES_A_COMPOSITE = 5  # Salesforce's limit
QUERY_BYTES = 13_000  # of addresses in one query: a request line and its headers may have 16,384
LEADS_A_CREATE = 200  # Salesforce's limit
ATTEMPTS = 3
MAX_REOPENINGS = 20  # of one question, after lost locators
NEXT_PATH = re.compile(r"/services/data/v\d+\.\d/query(?:All)?/[\w.=-]+", re.ASCII)


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
        self._before_call = before_call or (lambda: None)
        self._is_paid = False  # before_call has already run for the next request
        self._reader: ThreadPoolExecutor | None = None
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

    @property
    def answered_at(self) -> datetime:
        """When Salesforce gave its last answer, by its own clock."""
        if self._session is None or self._session.answered_at is None:
            raise errors.TryLater("unreadable_answer", "no Date")
        return self._session.answered_at

    def open_contacts(
        self,
        owner_id: str,
        since: datetime | None,
        after: soql.Position | None,
        with_deleted: bool,
        leads_since: datetime | None = None,
        before: tuple[datetime, soql.Position | None] | None = None,
    ) -> Opening:
        """Ask for the first page of the contacts of a window, and for how many contacts the user has: one call.

        since, after, before: see soql.contacts().
        With leads_since the same call asks for the leads that changed since. If that part fails, the answer says why.
        """
        contacts = soql.contacts(owner_id, self._opt_out_field, since, after, before)
        questions = [
            ("contacts", "queryAll" if with_deleted else "query", contacts),
            ("count", "query", soql.count_contacts(owner_id)),
        ]
        if leads_since is None:
            page, count = self._ask(*questions)
            leads = None
        else:
            asked = ("leads", "queryAll", soql.leads_changed(owner_id, self._opt_out_field, leads_since))
            page, count, found = self._ask_some(*questions, asked, may_fail="leads")
            leads = self._leads_or_why(found)
        session = self._session
        if session is None or session.answered_at is None:
            raise errors.TryLater("unreadable_answer", "no Date")
        return Opening(
            page=self._page(page),
            owned=_total(count),
            asked_at=session.answered_at - timedelta(seconds=int(session.took_s) + 2),
            answered_at=session.answered_at,
            leads=leads,
        )

    def next_page(self, path: str) -> ContactPage:
        """Return the page at a path that an earlier page named; LocatorExpired if it is no longer kept."""
        return self._page(self._more(path))

    def next_leads(self, path: str) -> LeadPage:
        """As next_page(), for the leads of an Opening."""
        return self._lead_page(self._more(path))

    def iter_lead_sweep(self, user_id: str) -> Iterator[list[tuple[str, bool]]]:
        """As iter_sweep(), of every lead that the user made or owns and that isn't converted."""
        for rows in self._iter_pages(self._query(soql.lead_sweep(user_id, self._opt_out_field))):
            yield converted(rows, lambda row: (row["Id"], row[self._opt_out_field] is not False))

    def leads_by_id(self, ids: Sequence[str]) -> dict[str, LeadRecord]:
        """Return what became of these leads, deleted ones too; an Id without a row is gone. Whole, or an error."""
        rows = self._rows_by_id(ids, lambda chunk: soql.leads_by_id(chunk, self._opt_out_field))
        return {record.id: record for record in converted(rows, lambda row: lead_of(row, self._opt_out_field))}

    def find_contacts_with(self, owner_id: str, emails: Sequence[str], sees_opt_out: bool) -> list[ContactMatch]:
        """Return the user's contacts with these addresses. Whole, or an error."""
        field = self._opt_out_field if sees_opt_out else None
        rows = self._rows_by_email(emails, lambda chunk: soql.contacts_with(owner_id, chunk, field))
        return converted(rows, lambda row: match_of(row, field))

    def find_open_leads_with(self, owner_id: str, emails: Sequence[str], sees_opt_out: bool) -> list[LeadRecord]:
        """Return the user's leads with these addresses that aren't converted. Whole, or an error."""
        field = self._opt_out_field if sees_opt_out else None
        rows = self._rows_by_email(emails, lambda chunk: soql.open_leads_with(owner_id, chunk, field))
        return converted(rows, lambda row: lead_of(row, field))

    def find_leads_made_by(
        self, user_id: str, emails: Sequence[str], since: datetime, sees_opt_out: bool
    ) -> list[LeadRecord]:
        """Return leads with these addresses that the user made since, converted and deleted ones too."""
        field = self._opt_out_field if sees_opt_out else None
        rows = self._rows_by_email(
            emails, lambda chunk: soql.leads_made_by(user_id, chunk, since, field), include_deleted=True
        )
        return converted(rows, lambda row: lead_of(row, field))

    def create_leads(self, leads: Sequence[NewLead], *, runs_assignment: bool) -> list[Created]:
        """Create up to 200 leads in one call, each for itself, and return what became of each, in order.

        It is not tried again here: TryLater with is_ambiguous says that they may exist.
        """
        body = {"allOrNone": False, "records": [_lead_body(lead) for lead in leads]}
        headers = {"Sforce-Auto-Assign": "TRUE" if runs_assignment else "FALSE"}
        answer: Any = self._api().restful("composite/sobjects", method="POST", json=body, headers=headers)
        try:
            created = [created_of(row) for row in answer]
        except (KeyError, TypeError, IndexError):
            raise errors.TryLater("unreadable_answer", "collection", is_ambiguous=True) from None
        if len(created) != len(leads):
            raise errors.TryLater("unreadable_answer", "collection", is_ambiguous=True)
        return created

    def next_page_ahead(self, path: str) -> Future[ContactPage]:
        """Begin to read a page while the caller stores the one before; ask for nothing else until it is here.

        before_call runs here, in the caller's thread and before the caller's next transaction begins: on SQLite it would
        have to wait for that one to end.
        """
        self._before_call()
        self._is_paid = True
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="salesforce")
        return self._reader.submit(
            copy_context().run, self.next_page, path
        )  # what is logged there carries the run's ids

    def close(self) -> None:
        """Wait for a page that is still being read, and let the connection go."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)
        if self._session is not None:
            self._session.close()

    def iter_sweep(self, owner_id: str, after_id: str | None = None) -> Iterator[list[tuple[str, bool]]]:
        """Yield pages of (Id, is opted out) of every contact of the user behind an Id. Whole, or an error.

        Where the rest is no longer kept, it is asked for again behind the last Id that came.
        """
        for _ in range(MAX_REOPENINGS):
            try:
                for rows in self._iter_pages(self._query(soql.sweep(owner_id, self._opt_out_field, after_id))):
                    page = converted(rows, lambda row: (row["Id"], row[self._opt_out_field] is not False))
                    yield page
                    after_id = page[-1][0] if page else after_id
            except errors.LocatorExpired:
                continue
            return
        raise errors.TryLater("locator_expired")

    def look_at(self, ids: Sequence[str]) -> dict[str, Sighting]:
        """Return what became of these Ids, deleted ones too; an Id without a row is gone. Whole, or an error."""
        field = self._opt_out_field
        rows = self._rows_by_id(ids, lambda chunk: soql.sightings(chunk, field))
        return {sighting.id: sighting for sighting in converted(rows, lambda row: sighting_of(row, field))}

    def contacts_by_id(self, ids: Sequence[str]) -> list[ContactRecord]:
        """Return the rows of these Ids that there are, deleted ones too. Whole, or an error."""
        rows = self._rows_by_id(ids, lambda chunk: soql.contacts_by_id(chunk, self._opt_out_field))
        return converted(rows, lambda row: contact_of(row, self._opt_out_field))

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

    def find_person_contact(self, account_id: str) -> str | None:
        """Return the Id of the contact that is one with this account, a person's; FieldHidden where the org has none such."""
        rows = _records(self._query(soql.person_contact(account_id), include_deleted=True))
        return converted(rows, lambda row: str(row["Id"]))[0] if rows else None

    def _rows_by_id(self, ids: Sequence[str], build: Callable[[Iterable[str]], str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for group in batched_lists(batched_lists(ids, IDS_A_QUERY), QUERIES_A_COMPOSITE):
            questions = [(f"ids{number}", "queryAll", build(chunk)) for number, chunk in enumerate(group)]
            rows += self._whole(lambda questions=questions: self._ask(*questions))  # type: ignore[misc]
        return rows

    def _rows_by_email(
        self, emails: Sequence[str], build: Callable[[Sequence[str]], str], include_deleted: bool = False
    ) -> list[dict[str, Any]]:
        """Addresses were typed by strangers: plain queries only, never /composite, which expands references."""
        rows: list[dict[str, Any]] = []
        for chunk in _by_length(emails):
            query = build(chunk)
            rows += self._whole(lambda query=query: [self._query(query, include_deleted)])  # type: ignore[misc]
        return rows

    def _whole(self, ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return all rows of some answers; where the rest of one is no longer kept, everything is asked for again."""
        for _ in range(MAX_REOPENINGS):
            with suppress(errors.LocatorExpired):
                return [row for answer in ask() for page in self._iter_pages(answer) for row in page]
        raise errors.TryLater("locator_expired")

    def _iter_pages(self, answer: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of an answer, then those of the pages behind it: as many as were counted, or an error."""
        seen = 0
        while True:
            rows = _records(answer)
            seen += len(rows)
            yield rows
            if answer.get("done") is True:
                break
            answer = self._more(_next_path(answer))
        if seen != _total(answer):
            raise errors.TryLater("short_answer")

    def _ask(self, *questions: tuple[str, str, str]) -> list[dict[str, Any]]:
        """Put (reference, resource, SOQL) questions in one /composite call; return their bodies in order."""
        return [_object(answer) for answer in self._ask_some(*questions)]

    def _ask_some(self, *questions: tuple[str, str, str], may_fail: str = "") -> list[Any]:
        """As _ask(), but the part named by may_fail may come back as the error that it failed with."""
        base = f"/services/data/v{self._api_version}"
        body = {
            "allOrNone": False,
            "compositeRequest": [
                {"method": "GET", "url": f"{base}/{resource}/?{urlencode({'q': query})}", "referenceId": reference}
                for reference, resource, query in questions
            ],
        }
        references = [reference for reference, _, _ in questions]
        return self._try(lambda api: _parts(api.restful("composite", method="POST", json=body), references, may_fail))

    def _query(self, query: str, include_deleted: bool = False) -> dict[str, Any]:
        return self._try(lambda api: _object(api.query(query, include_deleted=include_deleted)))

    def _more(self, path: str) -> dict[str, Any]:
        path = _checked(path)
        return self._try(lambda api: _object(api.query_more(path, identifier_is_url=True)))

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
            self._session = OrgSession(self._tokens, self._allow_loopback, self._pay)
            self._salesforce = Salesforce(
                instance_url=self._session.origin,
                session_id="(the session adds it)",
                version=self._api_version,
                session=self._session,
            )
        return self._salesforce

    def _pay(self) -> None:
        if self._is_paid:
            self._is_paid = False
        else:
            self._before_call()

    def _leads_or_why(self, found: dict[str, Any] | errors.SalesforceError) -> LeadPage | errors.SalesforceError:
        if isinstance(found, errors.SalesforceError):
            return found
        try:
            return self._lead_page(found)
        except errors.TryLater as error:
            return error

    def _lead_page(self, answer: dict[str, Any]) -> LeadPage:
        records = converted(_records(answer), lambda row: lead_of(row, self._opt_out_field))
        return LeadPage(records, None if answer.get("done") is True else _next_path(answer))

    def _page(self, answer: dict[str, Any]) -> ContactPage:
        next_path = None if answer.get("done") is True else _next_path(answer)
        return ContactPage(_records(answer), _total(answer), next_path, self._opt_out_field)


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


def _by_length(emails: Sequence[str]) -> Iterator[list[str]]:
    """Yield the addresses in lists that fit into a request line."""
    chunk: list[str] = []
    length = 0
    for email in emails:
        needs = len(quote_plus(f"'{email}',")) + 8  # what escaping may add
        if chunk and length + needs > QUERY_BYTES:
            yield chunk
            chunk, length = [], 0
        chunk.append(email)
        length += needs
    if chunk:
        yield chunk


def _lead_body(lead: NewLead) -> dict[str, Any]:
    return {
        "attributes": {"type": "Lead"},
        "FirstName": lead.first_name,
        "LastName": lead.last_name,
        "Email": lead.email,
        "Company": lead.company,
        "LeadSource": lead.source,
    }


def _parts(answer: Any, references: Sequence[str], may_fail: str = "") -> list[Any]:
    """Return the bodies of a composite answer by their references; raise what the first failing part says.

    The part that may fail without the others gives its error in the place of its body.
    """
    try:
        parts = {part["referenceId"]: (part["httpStatusCode"], part["body"]) for part in answer["compositeResponse"]}
        answers = [parts[reference] for reference in references]
    except (KeyError, TypeError):
        raise errors.TryLater("unreadable_answer", "composite") from None
    bodies: list[Any] = []
    for reference, (status, body) in zip(references, answers, strict=True):
        if status == HTTPStatus.OK:
            bodies.append(_object(body))
            continue
        error = errors.sort_data_error(status if isinstance(status, int) else 500, body)
        if reference != may_fail:
            raise error
        bodies.append(error)
    return bodies


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise errors.TryLater("unreadable_answer", type(answer).__name__)
    return answer


def _records(answer: dict[str, Any]) -> list[dict[str, Any]]:
    records = answer.get("records")
    if not isinstance(records, list):
        raise errors.TryLater("unreadable_answer", "records")
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
    if not NEXT_PATH.fullmatch(path):
        raise errors.TryLater("foreign_host")
    return path
