"""A client for one advisor's org: simple-salesforce over our own session.

Answers are neutral records; failures are the errors of salesforce/errors.py. If a part of a composite answer fails, the
whole question fails: a failed part is never read as "nothing". "Complete, or an error" below means that no rows are
missing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote_plus, urlencode

from simple_salesforce.api import Salesforce, SFType
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
)
from tenacity.stop import stop_base

from asapp.core.clock import utcnow
from asapp.salesforce import errors, page_turns, soql
from asapp.salesforce.calls import Listener
from asapp.salesforce.fields import ReadFields, all_fields, field_to_write, fields_of_key, name_on_person
from asapp.salesforce.hosts import to_18
from asapp.salesforce.pages_ahead import PagesAhead
from asapp.salesforce.records import (
    CONTACT_PREFIX,
    LEAD_PREFIX,
    AccountSighting,
    ContactMatch,
    ContactPage,
    Created,
    LeadPage,
    LeadRecord,
    LeadsFound,
    LeadWindow,
    NamedContact,
    NewLead,
    Opening,
    OptOutTarget,
    RecordKind,
    RetrievedContact,
    Sighting,
    SweptRow,
    account_of,
    campaign_digests,
    converted,
    created_of,
    id_of,
    id_or_none,
    lead_of,
    match_of,
    named_contact_of,
    readable,
    refusal_of,
    retrieved_of,
    sighting_of,
    sweep_row_of,
)
from asapp.salesforce.session import OrgSession, SharedConnections, TokenSource

T = TypeVar("T")
IDS_A_QUERY = 400  # fits a request line of 16,384 bytes, with room to spare
QUERIES_A_COMPOSITE = 5  # Salesforce's limit
PARTS_A_COMPOSITE = 25  # Salesforce's limit
QUERY_BYTES = 13_000  # of addresses in one query; a request line with its headers may have 16,384
LEADS_A_CREATE = 200  # Salesforce's limit
RECORDS_AN_UPDATE = 200  # Salesforce's limit
IDS_A_RETRIEVE = 2000  # Salesforce's limit
OPEN_LEADS_COMPARED = 2000  # the newest, one page, in orgs where no query finds them by address
ATTEMPTS = 3
MAX_REOPENINGS = 20  # of one query, after lost locators
# A Date header further from our own clock than this is not used as a starting point. Real ones differ by seconds; what a
# clock that is less far ahead makes us miss, the daily full check finds.
MOST_SKEW = timedelta(days=1)
# Without the first header, the firm's assignment rules reassign a changed lead; without the second, a mere warning of a
# duplicate rule rejects the change.
WRITE_HEADERS = {"Sforce-Auto-Assign": "FALSE", "Sforce-Duplicate-Rule-Header": "allowSave=true"}
LIST_VIEWS_PATH = re.compile(r"/services/data/v\d+\.\d/sobjects/\w+/listviews\?[\w.=&-]+", re.ASCII)
NEXT_PATH = re.compile(r"/services/data/v\d+\.\d/query(?:All)?/[\w.=-]+", re.ASCII)


def wait_with_jitter(state: RetryCallState) -> float:
    """Return the seconds before the next attempt: about 1, about 3."""
    return random.uniform(0.5, 1.5) * float(3 ** (state.attempt_number - 1))


class _WhenPageEnds(stop_base):
    """Stops trying once the page that waits has waited long enough."""

    def __call__(self, _state: RetryCallState) -> bool:
        return page_turns.is_time_up()


@dataclass(frozen=True)
class Haste:
    """How a client calls that is one of many at work side by side: on shared connections, with little patience."""

    shared: SharedConnections
    total_timeout_s: float  # of a call
    retry_within_s: float  # a transient failure that comes sooner than this is retried once

    @property
    def stop(self) -> stop_base:
        return stop_any(stop_after_attempt(2), stop_after_delay(self.retry_within_s))


class OrgClient:
    def __init__(
        self,
        tokens: TokenSource,
        api_version: str,
        opt_out_fields: Sequence[str],
        *,
        allow_loopback: bool = False,
        before_call: Callable[[], None] | None = None,
        wait: Callable[[RetryCallState], float] = wait_with_jitter,
        most_skew: timedelta = MOST_SKEW,
        haste: Haste | None = None,
    ) -> None:
        """opt_out_fields: the firm's. before_call runs before each request and may raise to stop it."""
        self._tokens = tokens
        self._api_version = api_version
        self._opt_out_fields = tuple(opt_out_fields)
        self._all_fields = {about: all_fields(about, self._opt_out_fields) for about in ("Contact", "Lead")}
        self._fields = dict(self._all_fields)
        self._allow_loopback = allow_loopback
        self._before_call = before_call or (lambda: None)
        self._is_paid = False  # before_call has already run for the next request
        self._wait = wait
        self._most_skew = most_skew
        self._haste = haste
        self._on_call: Listener | None = None
        self._stop: stop_base = haste.stop if haste else stop_after_attempt(ATTEMPTS)
        self._session: OrgSession | None = None
        self._earlier_calls = 0

    @property
    def calls(self) -> int:
        """Return how many requests were sent to the org."""
        return self._earlier_calls + (self._session.calls if self._session else 0)

    @property
    def usage(self) -> tuple[int, int] | None:
        """Return the org's (used, allowed) calls of the last 24 hours, as last reported; None before the first report."""
        return self._session.usage if self._session else None

    @property
    def warning(self) -> str:
        """Return Salesforce's last warning about our use of the API; empty if there was none."""
        return self._session.warning if self._session else ""

    @property
    def answered_at(self) -> datetime:
        """Return the time of Salesforce's last answer, by its clock; TryLater if there is none that can be right."""
        answered_at = self._session.answered_at if self._session else None
        if answered_at is None:
            raise errors.TryLater("unreadable_answer", "no Date")
        if abs(answered_at - utcnow()) > self._most_skew:
            raise errors.TryLater("unreadable_answer", "Date far from now")
        return answered_at

    @property
    def contact_fields(self) -> ReadFields:
        """Return the Contact fields to read: all that the user is known to see."""
        return self._fields["Contact"]

    @property
    def lead_fields(self) -> ReadFields:
        return self._fields["Lead"]

    def report_to(self, on_call: Listener) -> None:
        """Tell the listener about each call. To be called before the first one."""
        self._on_call = on_call

    def read_persons(self) -> Self:
        """Read of contacts whether they are person accounts, in an org that has these; return the client."""
        self._all_fields["Contact"] = all_fields("Contact", self._opt_out_fields, has_persons=True)
        self._fields = dict(self._all_fields)
        return self

    def know_fields(self, contact_key: str | None, lead_key: str | None) -> None:
        """Start with the fields that an earlier client could read, given by their stored keys."""
        self._fields = {
            about: fields_of_key(key, self._all_fields[about])
            for about, key in (("Contact", contact_key), ("Lead", lead_key))
        }

    def find_visible_fields(self) -> None:
        """Find out whether hidden fields have become visible: one call, or none if nothing was hidden."""
        groups = [
            (about, group)
            for about, fields in self._fields.items()
            for group in fields.missing(self._all_fields[about])
        ]
        if not groups:
            return
        questions = [
            (f"fields{number}", "query", soql.is_visible(about, group)) for number, (about, group) in enumerate(groups)
        ]
        answers = self._ask_some(*questions, may_fail=[reference for reference, _, _ in questions])
        for (about, group), answer in zip(groups, answers, strict=True):
            if not isinstance(answer, errors.SalesforceError):
                self._fields[about] = self._fields[about].plus(group, about)

    def open_contacts(
        self,
        owner_id: str,
        since: datetime | None,
        after: soql.Position | None = None,
        leads: LeadWindow | None = None,
        before: tuple[datetime, soql.Position | None] | None = None,
        campaigns: Collection[str] = (),
    ) -> Opening:
        """Query the first page of a window of contacts, and how many contacts the user has: one call.

        since, after, before: see soql.contacts(). With since, deleted ones come as well.
        leads: which Leads to query in the same call. If that part fails, the Opening holds the error.
        campaigns: Ids of those whose members are queried, too.
        """
        return self._reading(
            "Contact",
            lambda fields: self._open(
                owner_id,
                fields,
                soql.contacts(owner_id, fields, since, after, before),
                since is not None,
                leads,
                campaigns,
            ),
        )

    def _open(
        self,
        owner_id: str,
        fields: ReadFields,
        contacts: str,
        with_deleted: bool,
        leads: LeadWindow | None,
        campaigns: Collection[str],
    ) -> Opening:
        questions = [
            ("contacts", "queryAll" if with_deleted else "query", contacts),
            ("count", "query", soql.count_contacts(owner_id)),
        ]
        if leads is not None:
            questions += self._questions_about_leads(owner_id, leads, self.lead_fields)
        if campaigns:
            questions.append(("members", "query", soql.campaign_members(owner_id, campaigns)))
        page, count, *found = self._ask_some(*questions, may_fail=[reference for reference, _, _ in questions[2:]])
        members = found.pop() if campaigns else None
        answered_at, took_s = self.answered_at, self._session.took_s if self._session else 0.0
        return Opening(
            page=self._page(page, fields),
            owned=_total(count),
            asked_at=answered_at - timedelta(seconds=int(took_s) + 2),
            answered_at=answered_at,
            leads=None if leads is None else self._leads_or_why(owner_id, leads, found),
            campaigns=campaign_digests(members, campaigns) if isinstance(members, dict) else None,
        )

    def open_leads(self, owner_id: str, after: soql.Position | None) -> ContactPage:
        """Query the first page of the user's open Leads, after a position. Complete, or an error."""
        return self._reading(
            RecordKind.LEAD,
            lambda fields: self._page(
                self._query(soql.contacts(owner_id, fields, after=after, kind=RecordKind.LEAD)), fields, RecordKind.LEAD
            ),
        )

    def reread_leads(self, owner_id: str, since: datetime) -> LeadsFound:
        """Query the Leads that changed since then, with people, and how many open ones the user has: one call."""
        window = LeadWindow(since, None, with_people=True)
        return self._reading(RecordKind.LEAD, partial(self._ask_for_leads, owner_id, window))

    def next_page(self, path: str, kind: RecordKind = RecordKind.CONTACT) -> ContactPage:
        """Return the page at the path that an earlier page gave; LocatorExpired if Salesforce no longer keeps it."""
        return self._page(self._more(path), self._fields[kind], kind)

    def next_leads(self, path: str, owner_id: str | None = None) -> LeadPage:
        """Return a page of an Opening's leads; as next_page(). owner_id: of the people, if they were queried."""
        return self._lead_page(self._more(path), self.lead_fields, owner_id)

    def iter_lead_sweep(self, user_id: str) -> Iterator[list[SweptRow]]:
        """Yield pages of what is read of every unconverted lead that the user made or owns; as iter_sweep()."""
        answer, fields = self._reading("Lead", lambda fields: (self._query(soql.lead_sweep(user_id, fields)), fields))
        for rows in self._iter_pages(answer):
            yield readable(rows, lambda row: sweep_row_of(row, fields, LEAD_PREFIX))[0]

    def leads_by_id(self, ids: Sequence[str]) -> dict[str, LeadRecord]:
        """Return {Id: row} of these leads, deleted ones too; an Id without a row is gone. Complete, or an error."""
        rows, fields = self._reading(
            "Lead",
            lambda fields: (self._rows_by_id(ids, lambda chunk: soql.leads_by_id(chunk, fields)), fields),
        )
        return {record.id: record for record in readable(rows, lambda row: lead_of(row, fields))[0]}

    def find_contacts_with(self, owner_id: str, emails: Sequence[str], sees_opt_out: bool) -> list[ContactMatch]:
        """Return the user's contacts with these addresses. Complete, or an error."""

        def ask(fields: ReadFields) -> list[ContactMatch]:
            rows = self._rows_by_email(emails, lambda chunk: soql.contacts_with(owner_id, chunk, fields))
            return converted(rows, lambda row: match_of(row, fields))

        return self._reading("Contact", ask, sees_opt_out)

    def find_open_leads_with(self, owner_id: str, emails: Sequence[str], sees_opt_out: bool) -> list[LeadRecord]:
        """Return the user's unconverted leads with these addresses. Complete, or an error."""

        def ask(fields: ReadFields) -> list[LeadRecord]:
            rows = self._rows_by_email(emails, lambda chunk: soql.open_leads_with(owner_id, chunk, fields))
            return converted(rows, lambda row: lead_of(row, fields))

        return self._reading("Lead", ask, sees_opt_out)

    def find_leads_made_by(
        self, user_id: str, emails: Sequence[str], since: datetime, sees_opt_out: bool
    ) -> list[LeadRecord]:
        """Return leads with these addresses that the user made since then, converted and deleted ones too."""

        def ask(fields: ReadFields) -> list[LeadRecord]:
            rows = self._rows_by_email(
                emails, lambda chunk: soql.leads_made_by(user_id, chunk, since, fields), include_deleted=True
            )
            return converted(rows, lambda row: lead_of(row, fields))

        return self._reading("Lead", ask, sees_opt_out)

    def contacts_among(self, owner_id: str, ids: Sequence[str], sees_opt_out: bool) -> list[ContactMatch]:
        """Return those of these Ids that are the user's contacts now, with their addresses. Complete, or an error."""

        def ask(fields: ReadFields) -> list[ContactMatch]:
            rows = self._rows_by_id(ids, lambda chunk: soql.contacts_among(owner_id, chunk, fields))
            return converted(rows, lambda row: match_of(row, fields))

        return self._reading("Contact", ask, sees_opt_out)

    def newest_open_leads(self, owner_id: str, sees_opt_out: bool) -> list[LeadRecord]:
        """Return the newest of the user's unconverted leads, with their addresses. Complete, or an error."""

        def ask(fields: ReadFields) -> list[LeadRecord]:
            query = soql.newest_open_leads(owner_id, OPEN_LEADS_COMPARED, fields)
            return converted(self._whole(lambda: [self._query(query)]), lambda row: lead_of(row, fields))

        return self._reading("Lead", ask, sees_opt_out)

    def leads_made_between(
        self, user_id: str, since: datetime, until: datetime, sees_opt_out: bool
    ) -> list[LeadRecord]:
        """Return the leads that the user made in this time, with addresses, converted and deleted ones too."""

        def ask(fields: ReadFields) -> list[LeadRecord]:
            query = soql.leads_made_between(user_id, since, until, fields)
            rows = self._whole(lambda: [self._query(query, include_deleted=True)])
            return converted(rows, lambda row: lead_of(row, fields))

        return self._reading("Lead", ask, sees_opt_out)

    def create_leads(self, leads: Sequence[NewLead], *, runs_assignment: bool) -> list[Created]:
        """Create up to 200 leads in one call, independently of each other; return each one's result, in order.

        It is never repeated here: TryLater with is_ambiguous means that they may exist.
        """
        body = {"allOrNone": False, "records": [_lead_body(lead) for lead in leads]}
        headers = {"Sforce-Auto-Assign": "TRUE" if runs_assignment else "FALSE"}
        answer: Any = self._api().restful("composite/sobjects", method="POST", json=body, headers=headers)
        try:
            created = [created_of(row) for row in answer]
        except (KeyError, TypeError, IndexError, ValueError):
            raise errors.TryLater("unreadable_answer", "collection", is_ambiguous=True) from None
        if len(created) != len(leads):
            raise errors.TryLater("unreadable_answer", "collection", is_ambiguous=True)
        return created

    def set_opt_outs(self, records: Sequence[OptOutTarget]) -> list[errors.SalesforceError | None]:
        """Set the firm's opt-out field on up to 200 records in one call, independently; no Id may come twice.

        Return for each, in order, the error it was refused with, or None if it is set. It is never repeated here:
        TryLater with is_ambiguous means that the call may have been carried out. A lead keeps its owner: assignment rules
        don't run.
        """
        if len({record.id for record in records}) != len(records):
            raise ValueError("an Id comes twice")
        by_kind = sorted(range(len(records)), key=lambda number: records[number].kind)  # it allows ten changes of type
        field = field_to_write(self._opt_out_fields)
        rows = [{"attributes": {"type": records[n].kind}, "id": records[n].id, field: True} for n in by_kind]
        body = {"allOrNone": False, "records": rows}
        answer: Any = self._api().restful("composite/sobjects", method="PATCH", json=body, headers=WRITE_HEADERS)
        try:
            refusals = [refusal_of(row) for row in answer]
        except (KeyError, TypeError, IndexError):
            raise errors.TryLater("unreadable_answer", "collection", is_ambiguous=True) from None
        if len(refusals) != len(records):
            raise errors.TryLater("unreadable_answer", "collection", is_ambiguous=True)
        return [refusal for _, refusal in sorted(zip(by_kind, refusals, strict=True), key=lambda pair: pair[0])]

    def set_person_opt_out(self, account_id: str) -> None:
        """Set the firm's opt-out field on a person account, which is one with its contact. Never repeated here."""
        body = {name_on_person(field_to_write(self._opt_out_fields)): True}
        account = cast(SFType, self._api().Account)
        try:
            status = account.update(to_18(account_id), body, headers=WRITE_HEADERS)
        except errors.OurBug as error:
            if error.detail != "NOT_FOUND":
                raise
            raise errors.Rejected("not_visible", error.detail) from None
        if status != HTTPStatus.NO_CONTENT:
            raise errors.TryLater("unreadable_answer", "update", is_ambiguous=True)

    def find_account_of(self, contact_id: str) -> str | None:
        """Return the Id of a contact's account; None if the contact is not there or not visible."""
        rows = _records(self._query(soql.account_of(contact_id)))
        return converted(rows, lambda row: id_or_none(row["AccountId"]))[0] if rows else None

    def retrieve_contacts(
        self, ids: Sequence[str], kind: RecordKind = RecordKind.CONTACT
    ) -> list[RetrievedContact | None]:
        """Return what each of these contacts or Leads is now, in order; one call for 2,000.

        None: deleted, or not visible, Salesforce doesn't say which; or a converted Lead. Complete, or an error.
        """
        found: list[RetrievedContact | None] = []
        for chunk in batched_lists(ids, IDS_A_RETRIEVE):
            found += self._reading(kind, partial(self._retrieve, chunk, kind))
        return found

    def _retrieve(self, ids: list[str], kind: RecordKind, fields: ReadFields) -> list[RetrievedContact | None]:
        def read(row: Any) -> RetrievedContact | None:
            is_out = row is None or (kind == RecordKind.LEAD and row["IsConverted"] is True)
            return None if is_out else retrieved_of(row, fields, kind)

        if fields.related:  # only a query reads those
            rows = self._rows_by_id(ids, lambda chunk: soql.recipients(chunk, fields, kind))
            alive = converted((row for row in rows if row.get("IsDeleted") is False), read)
            by_id = {one.id: one for one in alive if one is not None}
            return [by_id.get(to_18(each)) for each in ids]
        body = {"ids": ids, "fields": soql.recipient_fields(fields, kind)}
        answer = self._try(lambda api: _rows(api.restful(f"composite/sobjects/{kind}", method="POST", json=body)))
        found = converted(answer, read)
        if len(found) != len(ids):
            raise errors.TryLater("unreadable_answer", "retrieve")
        if any(one is not None and one.id != to_18(asked) for one, asked in zip(found, ids, strict=True)):
            raise errors.TryLater("unreadable_answer", "another record")
        return found

    def pages_after(self, page: ContactPage) -> PagesAhead:
        """Return the pages that follow this one, which a thread fetches. Make no other call before its block has ended.

        Each call has to be allowed by pay_ahead().
        """
        if page.next_path is None:
            raise ValueError("the last page")

        def fetch(path: str) -> ContactPage:
            self._is_paid = True
            return self.next_page(path, page.kind)

        return PagesAhead(fetch, page.next_path)

    def pay_ahead(self, pages: PagesAhead, calls: int) -> None:
        """Allow so many calls. before_call runs for each now, in the caller's thread: no transaction may be open.

        On SQLite it would have to wait for one that writes to end, and so would the call.
        """
        for _ in range(calls):
            self._before_call()
            pages.allow()

    def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            self._session.close()

    def iter_sweep(
        self, owner_id: str, after_id: str | None = None, kind: RecordKind = RecordKind.CONTACT
    ) -> Iterator[list[SweptRow]]:
        """Yield pages of what is read of every contact or open Lead of the user after an Id. Complete, or an error.

        If Salesforce no longer keeps the rest, it is queried again from the last Id that came.
        """
        for _ in range(MAX_REOPENINGS):
            question = partial(self._sweep, owner_id, after_id, kind)
            answer, fields = self._reading(kind, question)
            try:
                for rows in self._iter_pages(answer):
                    page, _ = readable(rows, partial(sweep_row_of, fields=fields, prefix=kind.prefix))
                    yield page
                    after_id = page[-1].id if page else after_id
            except errors.LocatorExpired:
                continue
            return
        raise errors.TryLater("locator_expired")

    def _sweep(
        self, owner_id: str, after_id: str | None, kind: RecordKind, fields: ReadFields
    ) -> tuple[dict[str, Any], ReadFields]:
        return self._query(soql.sweep(owner_id, fields, after_id, kind)), fields

    def fetch_sightings(self, ids: Sequence[str], kind: RecordKind = RecordKind.CONTACT) -> dict[str, Sighting]:
        """Return {Id: Sighting} for these Ids, deleted ones too; an Id without a row is gone. Complete, or an error.

        An unreadable row may belong to any Id without a row; those Ids are returned as not readable.
        """
        rows, fields = self._reading(
            kind, lambda fields: (self._rows_by_id(ids, lambda chunk: soql.sightings(chunk, fields, kind)), fields)
        )
        found, left_out = readable(rows, lambda row: sighting_of(row, fields, kind))
        sightings = {sighting.id: sighting for sighting in found}
        if left_out:
            unknown = [salesforce_id for salesforce_id in ids if salesforce_id not in sightings]
            sightings |= {each: Sighting(each, "", False, None, is_readable=False) for each in unknown}
        return sightings

    def contacts_by_id(self, ids: Sequence[str], kind: RecordKind = RecordKind.CONTACT) -> ContactPage:
        """Return the rows that exist for these Ids, deleted ones too. Complete, or an error."""
        return self._reading(
            kind,
            lambda fields: ContactPage(
                self._rows_by_id(ids, lambda chunk: soql.contacts_by_id(chunk, fields, kind)),
                len(ids),
                None,
                fields,
                kind,
            ),
        )

    def count_preview(self, owner_id: str, kind: RecordKind = RecordKind.CONTACT) -> tuple[int, int, int | None]:
        """Return the user's contacts, or open Leads, in all, those opted out, and those of the rest without an address: one call.

        The last is None if addresses are encrypted: then no query can count missing ones.
        """
        return self._reading(kind, partial(self._count, owner_id, kind))

    def _count(self, owner_id: str, kind: RecordKind, fields: ReadFields) -> tuple[int, int, int | None]:
        mine, opted_out = soql.count_contacts(owner_id, kind), soql.opted_out(fields)
        total, out, no_email = self._ask_some(
            ("total", "query", mine),
            ("out", "query", f"{mine} AND {opted_out}"),
            ("none", "query", f"{mine} AND Email = null AND (NOT {opted_out})"),
            may_fail=("none",),
        )
        if isinstance(no_email, errors.FieldEncrypted):
            return _total(total), _total(out), None
        if isinstance(no_email, errors.SalesforceError):
            raise no_email
        return _total(total), _total(out), _total(no_email)

    def fetch_contact_rows(
        self, salesforce_id: str | None = None, email: str | None = None, kind: RecordKind = RecordKind.CONTACT
    ) -> list[dict[str, Any]]:
        """Return up to ten rows for "Why isn't this person here?", deleted ones too: one call."""
        answer = self._reading(
            kind,
            lambda fields: self._query(soql.whereabouts(salesforce_id, email, fields, kind), include_deleted=True),
        )
        return _records(answer)

    def fetch_named_contacts(self, words: Sequence[str], limit: int) -> list[NamedContact]:
        """Return contacts of any owner whose name has all of these words, deleted ones too: one call.

        FieldEncrypted if the org encrypts names.
        """
        rows = _records(self._query(soql.named(words, limit), include_deleted=True))
        return converted(rows, named_contact_of)

    def find_person_contact(self, account_id: str) -> str | None:
        """Return the Id of a person account's contact; FieldHidden if the org has no person accounts."""
        rows = _records(self._query(soql.person_contact(account_id), include_deleted=True))
        return converted(rows, lambda row: id_of(row["Id"], CONTACT_PREFIX))[0] if rows else None

    def fetch_parts(self, parts: Mapping[str, str]) -> dict[str, dict[str, Any] | errors.SalesforceError]:
        """Send {reference: path below the API version} in one call; a part that fails is returned as its error.

        At most PARTS_A_COMPOSITE, at most QUERIES_A_COMPOSITE of them queries.
        """
        return dict(zip(parts, self._fetch_together(parts, list(parts)), strict=True))

    def rows_of(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        """Return all rows of a query's answer, its further pages included: complete, or an error."""
        return [row for page in self._iter_pages(answer) for row in page]

    def fetch_list_views(self, path: str) -> dict[str, Any]:
        """Return a further page of an object's list views; raise for an address that is none of this org's."""
        path = _checked(path, LIST_VIEWS_PATH)
        return self._try(lambda api: _object(api.query_more(path, identifier_is_url=True)))

    def find_accounts(self, ids: Sequence[str]) -> dict[str, AccountSighting]:
        """Return {Id: what became of it} of these accounts; one without a row is gone, or not visible. Complete, or an error."""
        rows = self._rows_by_id(ids, soql.accounts)
        return {each.id: each for each in readable(rows, account_of)[0]}

    def _reading(self, about: str, ask: Callable[[ReadFields], T], sees_opt_out: bool = True) -> T:
        """Query with the fields that the user can see of an object; a field that proves hidden is left out from then on."""
        while True:
            fields = self._fields[about]
            try:
                return ask(fields if sees_opt_out else fields._replace(opt_outs=()))
            except errors.FieldHidden as error:
                fewer = fields.without(error.detail)
                if fewer is None:
                    raise
                self._fields[about] = fewer

    def _rows_by_id(self, ids: Sequence[str], build: Callable[[Iterable[str]], str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for group in batched_lists(batched_lists(ids, IDS_A_QUERY), QUERIES_A_COMPOSITE):
            questions = [(f"ids{number}", "queryAll", build(chunk)) for number, chunk in enumerate(group)]
            rows += self._whole(lambda questions=questions: self._ask(*questions))  # type: ignore[misc]
        return rows

    def _rows_by_email(
        self, emails: Sequence[str], build: Callable[[Sequence[str]], str], include_deleted: bool = False
    ) -> list[dict[str, Any]]:
        """Query by addresses. Strangers typed them: plain queries only, never /composite, which expands references."""
        rows: list[dict[str, Any]] = []
        for chunk in _by_length(emails):
            query = build(chunk)
            rows += self._whole(lambda query=query: [self._query(query, include_deleted)])  # type: ignore[misc]
        return rows

    def _whole(self, ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return all rows of some answers; if the rest of one has expired, query everything again."""
        for _ in range(MAX_REOPENINGS):
            with suppress(errors.LocatorExpired):
                return [row for answer in ask() for page in self._iter_pages(answer) for row in page]
        raise errors.TryLater("locator_expired")

    def _iter_pages(self, answer: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of an answer and of its further pages: as many as were counted, or an error."""
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
        """Send (reference, resource, SOQL) questions in one /composite call; return their bodies in order."""
        return [_object(answer) for answer in self._ask_some(*questions)]

    def _ask_some(self, *questions: tuple[str, str, str], may_fail: Collection[str] = ()) -> list[Any]:
        """As _ask(), but the parts named in may_fail may come back as errors."""
        parts = {reference: f"{resource}/?{urlencode({'q': query})}" for reference, resource, query in questions}
        return self._fetch_together(parts, may_fail)

    def _fetch_together(self, parts: Mapping[str, str], may_fail: Collection[str]) -> list[Any]:
        """Send {reference: path below the version} as one /composite call; return the bodies as _parts() does."""
        base = f"/services/data/v{self._api_version}"
        body = {
            "allOrNone": False,
            "compositeRequest": [
                {"method": "GET", "url": f"{base}/{path}", "referenceId": reference}
                for reference, path in parts.items()
            ],
        }
        return self._try(lambda api: _parts(api.restful("composite", method="POST", json=body), list(parts), may_fail))

    def _query(self, query: str, include_deleted: bool = False) -> dict[str, Any]:
        return self._try(lambda api: _object(api.query(query, include_deleted=include_deleted)))

    def _more(self, path: str) -> dict[str, Any]:
        path = _checked(path)
        return self._try(lambda api: _object(api.query_more(path, identifier_is_url=True)))

    def _try(self, call: Callable[[Salesforce], T]) -> T:
        """Make a read-only call; a transient failure is retried here a few times."""
        retrying = Retrying(
            stop=stop_any(self._stop, _WhenPageEnds()),
            wait=self._wait,
            retry=retry_if_exception_type(errors.TryLater),
            reraise=True,
        )
        return retrying(lambda: call(self._api()))

    def _api(self) -> Salesforce:
        if self._session is None or self._session.origin != self._tokens.instance_url:
            if self._session is not None:
                self._earlier_calls += self._session.calls
            timeout_s, shared = (self._haste.total_timeout_s, self._haste.shared) if self._haste else (None, None)
            self._session = OrgSession(self._tokens, self._allow_loopback, self._pay, timeout_s, shared, self._on_call)
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

    def _leads_or_why(
        self, owner_id: str, window: LeadWindow, found: Sequence[dict[str, Any] | errors.SalesforceError]
    ) -> LeadsFound | errors.SalesforceError:
        """Return an opening's leads, or the error. Leaving out a hidden field that isn't needed costs one more call."""
        error = next((part for part in found if isinstance(part, errors.SalesforceError)), None)
        try:
            if isinstance(error, errors.FieldHidden) and (fewer := self.lead_fields.without(error.detail)):
                self._fields["Lead"] = fewer
                return self._reading("Lead", partial(self._ask_for_leads, owner_id, window))
            if error is not None:
                return error
            return self._leads_found(owner_id, window, [_object(part) for part in found], self.lead_fields)
        except (errors.TryLater, errors.Misconfigured) as error:
            return error

    def _ask_for_leads(self, owner_id: str, window: LeadWindow, fields: ReadFields) -> LeadsFound:
        answers = self._ask(*self._questions_about_leads(owner_id, window, fields))
        return self._leads_found(owner_id, window, answers, fields)

    @staticmethod
    def _questions_about_leads(owner_id: str, window: LeadWindow, fields: ReadFields) -> list[tuple[str, str, str]]:
        changed = soql.leads_changed(owner_id, fields, window.changed_since, with_people=window.with_people)
        if window.with_people:
            other = ("open_leads", "query", soql.count_contacts(owner_id, RecordKind.LEAD))
        else:
            other = ("opted_out_leads", "query", soql.opted_out_leads(owner_id, fields, window.opted_out_since))
        return [("leads", "queryAll", changed), other]

    def _leads_found(
        self, owner_id: str, window: LeadWindow, answers: Sequence[dict[str, Any]], fields: ReadFields
    ) -> LeadsFound:
        changed, other = answers
        if window.with_people:
            return LeadsFound(self._lead_page(changed, fields, owner_id), None, _total(other))
        return LeadsFound(self._lead_page(changed, fields), self._lead_page(other, fields))

    def _lead_page(self, answer: dict[str, Any], fields: ReadFields, owner_id: str | None = None) -> LeadPage:
        rows, next_path = _records(answer), None if answer.get("done") is True else _next_path(answer)
        records, _ = readable(rows, lambda row: lead_of(row, fields))
        if owner_id is None:
            return LeadPage(records, next_path)
        mine = [row for row in rows if str(row.get("OwnerId"))[:15] == owner_id[:15]]
        return LeadPage(records, next_path, ContactPage(mine, len(mine), None, fields, RecordKind.LEAD))

    def _page(self, answer: dict[str, Any], fields: ReadFields, kind: RecordKind = RecordKind.CONTACT) -> ContactPage:
        next_path = None if answer.get("done") is True else _next_path(answer)
        return ContactPage(_records(answer), _total(answer), next_path, fields, kind)


def batched_lists(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to size items (itertools.batched needs Python 3.12)."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _by_length(emails: Sequence[str]) -> Iterator[list[str]]:
    """Yield the addresses in lists that fit a request line."""
    chunk: list[str] = []
    length = 0
    for email in emails:
        needs = len(quote_plus(f"'{email}',")) + 8  # room for escaping
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
        **({"Company": lead.company} if lead.company else {}),
        "LeadSource": lead.source,
    }


def _parts(answer: Any, references: Sequence[str], may_fail: Collection[str] = ()) -> list[Any]:
    """Return the bodies of a composite answer by their references; raise the first failing part's error.

    Parts named in may_fail return their error in place of a body.
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
        if reference not in may_fail:
            raise error
        bodies.append(error)
    return bodies


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise errors.TryLater("unreadable_answer", type(answer).__name__)
    return answer


def _rows(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
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


def _checked(path: str, pattern: re.Pattern[str] = NEXT_PATH) -> str:
    """Return a path on this org; raise for any other address, which must not get a token."""
    if not pattern.fullmatch(path):
        raise errors.TryLater("foreign_host")
    return path
