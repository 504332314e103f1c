"""The client's queries against the simulated org: their cost, complete answers, and no injection."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import current_thread
from typing import Any

import pytest
import requests_mock
from requests_mock import Mocker
from tenacity import RetryCallState

from asapp.core.clock import utcnow
from asapp.salesforce import soql
from asapp.salesforce.client import OrgClient, batched_lists, wait_with_jitter
from asapp.salesforce.errors import (
    FieldHidden,
    LimitReached,
    LocatorExpired,
    Misconfigured,
    ObjectHidden,
    Rejected,
    SalesforceError,
    SessionExpired,
    TryLater,
)
from asapp.salesforce.fields import ReadFields, all_fields, name_on_person
from asapp.salesforce.records import (
    Bounce,
    ContactPage,
    ContactRecord,
    NewLead,
    OptOutTarget,
    RetrievedContact,
    Sighting,
)
from orgsim import Org, Running
from orgsim.answers import ANSWERS
from tests.fake_tokens import ORIGIN, Tokens

KEY = "desk-key"
OPT_OUT = "HasOptedOutOfEmail"
FIELDS = all_fields("Contact", (OPT_OUT,))
TRIES = 3


class ClientDesk:
    """A client of Amara's with its tokens, and the org that it calls."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.org: Org = running.org
        self.org.register_app(KEY, "desk-secret", ["http://127.0.0.1:5000/callback/"])
        self.user = self.org.add_user(name="Amara Okafor", username="amara@northgate.example")
        self.colleague = self.org.add_user(name="Jonas Lindqvist", username="jonas@northgate.example")
        self.tokens = Tokens(running.url, access_token=self.new_token(), fresh=self.new_token())
        self.client = self.open()

    def open(self, **settings: Any) -> OrgClient:
        return OrgClient(self.tokens, "66.0", (OPT_OUT,), allow_loopback=True, wait=lambda state: 0.0, **settings)

    def new_token(self) -> str:
        return str(self.org.issue_tokens(self.user, KEY)["access_token"])

    def add(self, count: int = 1, **fields: Any) -> list[str]:
        row = {"owner_id": self.user, "last_name": "Gonzalez", "email": "rose@edge.com"}
        return list(self.org.add_contacts([row | fields for _ in range(count)]))

    def read_all(self) -> list[ContactRecord]:
        page = self.client.open_contacts(self.user, None).page
        records = list(page.records)
        while page.next_path:
            page = self.client.next_page(page.next_path)
            records += page.records
        return records


@pytest.fixture
def desk(org: Running) -> ClientDesk:
    return ClientDesk(org)


@pytest.fixture
def salesforce() -> Iterator[Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


# --- the opening -------------------------------------------------------------------------------------------------------


def test_contacts_and_their_count_come_by_one_call(desk: ClientDesk) -> None:
    desk.add(5)
    desk.org.clock.freeze()
    mark = desk.org.calls.mark()
    opening = desk.client.open_contacts(desk.user, None)
    assert (len(opening.page.records), opening.page.total, opening.owned) == (5, 5, 5)
    assert opening.page.next_path is None
    assert (desk.client.calls, desk.org.calls.counted(mark)) == (1, 1)
    assert opening.answered_at == desk.org.clock.now().replace(microsecond=0)
    assert timedelta(seconds=2) <= opening.answered_at - opening.asked_at <= timedelta(seconds=4)


def test_the_count_is_of_all_contacts_the_page_of_the_window(desk: ClientDesk) -> None:
    long_ago, now = datetime(2026, 1, 5, 9, tzinfo=UTC), desk.org.clock.now()
    desk.add(3, stamp=long_ago)
    [changed] = desk.add(stamp=now)
    opening = desk.client.open_contacts(desk.user, now - timedelta(minutes=15))
    assert [record.id for record in opening.page.records] == [changed]
    assert (opening.page.total, opening.owned) == (1, 4)


def test_a_record_comes_as_plain_values(desk: ClientDesk) -> None:
    stamp = datetime(2026, 5, 6, 11, 36, 42, tzinfo=UTC)
    [bare] = desk.add(first_name=None, email=None, last_name="Ångström", stamp=stamp)
    [full] = desk.add(first_name="Betül", email="b.levy@expressl&t.net", opted_out=True, stamp=stamp)
    assert desk.read_all() == [
        ContactRecord(bare, "", "Ångström", "", False, desk.user, stamp, False, None, Bounce(None)),
        ContactRecord(
            full, "Betül", "Gonzalez", "b.levy@expressl&t.net", True, desk.user, stamp, False, None, Bounce(None)
        ),
    ]


def test_deleted_and_merged_ones_come_where_they_are_asked_for(desk: ClientDesk) -> None:
    kept, deleted, merged = desk.add(3)
    desk.org.delete(deleted)
    desk.org.merge(kept, [merged])
    shown = desk.client.open_contacts(desk.user, None)
    assert [record.id for record in shown.page.records] == [kept]
    opening = desk.client.open_contacts(desk.user, datetime(2026, 1, 1, tzinfo=UTC))
    found = {record.id: (record.is_deleted, record.master_record_id) for record in opening.page.records}
    assert found == {kept: (False, None), deleted: (True, None), merged: (True, kept)}
    assert opening.owned == 1


def test_rows_behind_a_checkpoint_stand_in_order_even_where_stamps_are_equal(desk: ClientDesk) -> None:
    stamp = datetime(2026, 5, 6, 11, 36, 42, tzinfo=UTC)
    ids = sorted(desk.add(6, stamp=stamp))
    later = desk.add(2, stamp=stamp + timedelta(seconds=1))
    opening = desk.client.open_contacts(desk.user, stamp, (stamp, ids[3]))
    assert [record.id for record in opening.page.records] == ids[4:] + sorted(later)


@pytest.mark.parametrize("failing", ["SystemModstamp", "COUNT()"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("invalid_field", FieldHidden),
        ("invalid_type", ObjectHidden),
        ("request_limit", LimitReached),
        ("server_unavailable_html", TryLater),
        ("query_timeout", TryLater),
        ("insufficient_access", Misconfigured),
    ],
)
def test_a_part_that_fails_is_never_read_as_nothing(
    desk: ClientDesk, failing: str, name: str, kind: type[SalesforceError]
) -> None:
    desk.add(3)
    desk.org.trouble.add(name, kind="subrequest", soql=failing)
    with pytest.raises(SalesforceError) as caught:
        desk.client.open_contacts(desk.user, None)
    assert type(caught.value) is kind


def test_a_user_who_cannot_see_the_opt_out_gets_the_fields_name(desk: ClientDesk) -> None:
    desk.add(3)
    desk.org.hide_field("Contact", OPT_OUT)
    with pytest.raises(FieldHidden) as caught:
        desk.client.open_contacts(desk.user, None)
    assert caught.value.detail == OPT_OUT


def test_a_user_who_may_not_read_contacts_gets_that_error(desk: ClientDesk) -> None:
    desk.org.deny_object("Contact", "read")
    with pytest.raises(ObjectHidden, match="Contact"):
        desk.client.open_contacts(desk.user, None)


def composite(*parts: Any) -> dict[str, Any]:
    return {"compositeResponse": list(parts)}


def part(reference: str, body: Any, status: Any = 200) -> dict[str, Any]:
    return {"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference}


NOBODY = {"totalSize": 0, "done": True, "records": []}
FOUR = {"totalSize": 4, "done": True, "records": []}
DATE = {"Date": format_datetime(utcnow(), usegmt=True)}


def ask_for_opening(salesforce: Mocker, body: Any, headers: dict[str, str] | None = None) -> Any:
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite", json=body, headers=DATE if headers is None else headers)
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    return client.open_contacts("0055g00000AbCdEAAV", None)


def test_parts_are_told_apart_by_name_and_not_by_order(salesforce: Mocker) -> None:
    opening = ask_for_opening(salesforce, composite(part("count", FOUR), part("contacts", NOBODY)))
    assert (opening.page.total, opening.owned) == (0, 4)


@pytest.mark.parametrize(
    "body",
    [
        composite(part("contacts", NOBODY)),
        composite(part("contacts", NOBODY), part("contacts", NOBODY)),
        composite(part("contacts", NOBODY), part("count", None)),
        composite(part("contacts", NOBODY), part("count", [])),
        composite(part("contacts", NOBODY), part("count", {"done": True})),
        composite(part("contacts", {"totalSize": 0, "done": True}), part("count", FOUR)),
        composite(part("contacts", {"totalSize": 4, "done": False, "records": []}), part("count", FOUR)),
        composite(part("contacts", {"totalSize": 1, "done": True, "records": [{"Id": "003"}]}), part("count", FOUR)),
        composite(part("contacts", {"totalSize": 1, "done": True, "records": [None]}), part("count", FOUR)),
        composite(part("contacts", NOBODY), part("count", FOUR, "200")),
        composite(part("contacts", NOBODY), part("count", FOUR, None)),
        composite("contacts", "count"),
        {"compositeResponse": None},
        [],
        ["compositeResponse"],
    ],
    ids=str,
)
def test_an_opening_that_cannot_be_read_is_tried_again_and_then_given_up(salesforce: Mocker, body: Any) -> None:
    with pytest.raises(TryLater):
        list(ask_for_opening(salesforce, body).page.records)  # rows are read when they are stored
    assert 1 <= salesforce.call_count <= TRIES


def test_an_answer_that_does_not_say_when_it_was_given_is_no_opening(salesforce: Mocker) -> None:
    with pytest.raises(TryLater):
        ask_for_opening(salesforce, composite(part("contacts", NOBODY), part("count", FOUR)), headers={})


@pytest.mark.parametrize("opted_out", [None, "false", 0, "missing"])
def test_only_a_plain_no_counts_as_not_opted_out(salesforce: Mocker, opted_out: Any) -> None:
    row = {
        "attributes": {"type": "Contact"},
        "Id": "003aj000002oTldAAE",
        "FirstName": None,
        "LastName": "Gonzalez",
        "Email": "rose@edge.com",
        OPT_OUT: opted_out,
        "OwnerId": "0055g00000AbCdEAAV",
        "SystemModstamp": "2026-05-06T11:36:42.000+0000",
        "IsDeleted": False,
        "MasterRecordId": None,
    }
    if opted_out == "missing":
        del row[OPT_OUT]
    body = composite(part("contacts", {"totalSize": 1, "done": True, "records": [row]}), part("count", FOUR))
    if opted_out == "missing":
        with pytest.raises(TryLater):
            list(ask_for_opening(salesforce, body).page.records)
    else:
        [record] = ask_for_opening(salesforce, body).page.records
        assert record.is_opted_out


# --- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page_sizes", "pages"), [(200, 11), (1000, 3), (2000, 2), ([2000, 200], 2)])
def test_pages_are_followed_whatever_their_size(desk: ClientDesk, page_sizes: Any, pages: int) -> None:
    ids = desk.add(2086)
    desk.org.change_settings(page_sizes=page_sizes)
    mark = desk.org.calls.mark()
    records = desk.read_all()
    assert sorted(record.id for record in records) == sorted(ids)
    assert desk.org.calls.counted(mark) == desk.client.calls == pages


def test_a_page_that_is_no_longer_kept_says_so(desk: ClientDesk) -> None:
    desk.add(300)
    desk.org.change_settings(page_sizes=200)
    page = desk.client.open_contacts(desk.user, None).page
    desk.org.expire_locators()
    assert page.next_path
    mark = desk.org.calls.mark()
    with pytest.raises(LocatorExpired):
        desk.client.next_page(page.next_path)
    assert len(desk.org.calls.since(mark)) == 1


def test_a_page_ahead_is_counted_by_the_caller_and_read_by_another_thread(desk: ClientDesk) -> None:
    desk.add(500)
    desk.org.change_settings(page_sizes=200)
    asked_in: list[str] = []
    client = desk.open(before_call=lambda: asked_in.append(current_thread().name))
    page = client.open_contacts(desk.user, None).page
    sizes = [len(page.records)]
    with client.pages_after(page) as ahead:
        while page.next_path:
            client.pay_ahead(ahead, 1)
            (page,) = ahead.take()
            sizes.append(len(page.records))
    client.close()
    assert sizes == [200, 200, 100]
    assert asked_in == [current_thread().name] * 3
    assert client.calls == 3


def test_a_page_ahead_that_fails_says_so_when_it_is_taken(desk: ClientDesk) -> None:
    desk.add(300)
    desk.org.change_settings(page_sizes=200)
    page = desk.client.open_contacts(desk.user, None).page
    desk.org.expire_locators()
    assert page.next_path
    with desk.client.pages_after(page) as ahead:
        desk.client.pay_ahead(ahead, 1)
        with pytest.raises(LocatorExpired):
            ahead.take()
    desk.client.close()


def test_a_page_that_leads_elsewhere_is_refused(desk: ClientDesk) -> None:
    desk.add(300)
    desk.org.change_settings(page_sizes=200)
    desk.org.trouble.add("foreign_next")
    with pytest.raises(TryLater, match="foreign_host"):
        desk.client.open_contacts(desk.user, None)


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/services/data/v66.0/query/0r8xx5R2yF2gs3VASQ-2000",
        "//evil.example/services/data/v66.0/query/0r8xx5R2yF2gs3VASQ-2000",
        "@evil.example/services/data/v66.0/query/0r8",
        ".evil.example/services/data/v66.0/query/0r8",
        ":secret@evil.example/services/data/v66.0/query/0r8",
        "/services/data/v66.0/query/0r8@evil.example",
        "/services/data/v66.0/query/../../../oauth2/revoke",
        "/services/data/v66.0/sobjects/Contact/0035g00000AbCdE",
        "/services/data/v66.0/query/0r8\r\nHost: evil.example",
        "/services/data/v66.0/query/0r8\n",
        "/services/data/v66.0/query/0r8\\..",
        "/services/data/v66.0/query/0r8 x",
        "/services/data/v66.0/query/0r8ü",
        "/services/data/v66.0/query/",
        "/services/data/v66.0/query?q=SELECT+Id+FROM+Contact",
        "",
    ],
)
def test_nothing_but_a_page_of_a_query_at_this_org_is_asked_for(salesforce: Mocker, path: str) -> None:
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    with pytest.raises(TryLater, match="foreign_host"):
        client.next_page(path)
    assert salesforce.call_count == 0


@pytest.mark.parametrize(
    "path",
    ["/services/data/v59.0/query/0r8xx5R2yF2gs3VASQ-2000", "/services/data/v66.0/queryAll/01gRO0000016PIAYA2-500"],
)
def test_paths_as_salesforce_writes_them_are_followed(salesforce: Mocker, path: str) -> None:
    salesforce.get(ORIGIN + path, json=NOBODY)
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,))
    assert client.next_page(path).next_path is None


# --- sweeps and looks at Ids -------------------------------------------------------------------------------------------


def test_a_sweep_sees_every_id_and_opt_out(desk: ClientDesk) -> None:
    plain, opted_out = desk.add(250), desk.add(200, opted_out=True)
    [deleted] = desk.add()
    desk.org.delete(deleted)
    desk.add(owner_id=desk.colleague)
    desk.org.change_settings(page_sizes=200)
    pages = list(desk.client.iter_sweep(desk.user))
    assert [len(page) for page in pages] == [200, 200, 50]
    assert {row for page in pages for row in page} == {(i, i in opted_out, False) for i in (*plain, *opted_out)}


def test_an_empty_sweep_is_an_answer(desk: ClientDesk) -> None:
    assert list(desk.client.iter_sweep(desk.user)) == [[]]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_page_that_is_shorter_than_others_is_followed(desk: ClientDesk, after: int) -> None:
    desk.add(600)
    desk.org.change_settings(page_sizes=200)
    desk.org.trouble.add("short_page", times=1, after=after)
    assert sum(len(page) for page in desk.client.iter_sweep(desk.user)) == 600


@pytest.mark.parametrize(
    ("counted", "sizes"),
    [(3, [2, 0]), (3, [2]), (3, [2, 2]), (0, [1]), (1, [0])],
    ids=["a row is missing", "a page is missing", "a row too many", "one of none", "none of one"],
)
def test_a_sweep_of_more_or_fewer_rows_than_were_counted_is_an_error(
    salesforce: Mocker, counted: int, sizes: list[int]
) -> None:
    for number, size in enumerate(sizes):
        answer: dict[str, Any] = {"totalSize": counted, "done": number == len(sizes) - 1}
        answer["records"] = [{"Id": f"003{n}", OPT_OUT: False} for n in range(size)]
        if not answer["done"]:
            answer["nextRecordsUrl"] = f"/services/data/v66.0/query/0r8-{number + 1}"
        salesforce.get(f"{ORIGIN}/services/data/v66.0/query/" + (f"0r8-{number}" if number else ""), json=answer)
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    with pytest.raises(TryLater, match="short_answer"):
        list(client.iter_sweep("0055g00000AbCdEAAV"))


@pytest.mark.parametrize("name", ["server_unavailable_html", "reset", "truncated_json", "query_timeout"])
def test_a_sweep_that_breaks_off_is_an_error(desk: ClientDesk, name: str) -> None:
    desk.add(600)
    desk.org.change_settings(page_sizes=200)
    desk.org.trouble.add(name, kind="query_more", after=1)
    with pytest.raises(TryLater):
        list(desk.client.iter_sweep(desk.user))


def test_a_sweep_whose_pages_are_no_longer_kept_goes_on_behind_the_last_id(desk: ClientDesk) -> None:
    ids = sorted(desk.add(600))
    desk.org.change_settings(page_sizes=200)
    pages = desk.client.iter_sweep(desk.user)
    seen = [row.id for row in next(pages)]
    desk.org.expire_locators()
    assert seen + [row.id for page in pages for row in page] == ids


def test_a_lookup_of_ids_finds_what_became_of_each(desk: ClientDesk) -> None:
    mine, given, deleted, merged, purged, hidden = desk.add(6)
    desk.org.give(given, desk.colleague)
    desk.org.delete(deleted)
    desk.org.merge(mine, [merged])
    desk.org.delete(purged)
    desk.org.purge(purged)
    desk.org.hide_contact(hidden)
    me, another = (desk.org.user(user_id).name for user_id in (desk.user, desk.colleague))
    assert desk.client.fetch_sightings([mine, given, deleted, merged, purged, hidden]) == {
        mine: Sighting(mine, desk.user, False, None, owner_name=me),
        given: Sighting(given, desk.colleague, False, None, owner_name=another),
        deleted: Sighting(deleted, desk.user, True, None, owner_name=me),
        merged: Sighting(merged, desk.user, True, mine, owner_name=me),
    }


def test_beside_a_row_that_cannot_be_read_an_id_without_a_row_is_not_gone(salesforce: Mocker) -> None:
    mine, one, another = (f"0035g00000KqT{letters}" for letters in ("1xAAF", "2bAAF", "3cAAF"))
    good = {"Id": mine, "OwnerId": "0055g00000AbCdEAAV", "IsDeleted": False, "MasterRecordId": None, OPT_OUT: False}
    rows = [good, {**good, "Id": one, "IsDeleted": "perhaps"}]
    answer = {"totalSize": 2, "done": True, "records": rows}
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite", json=composite(part("ids0", answer)), headers=DATE)
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    found = client.fetch_sightings([mine, one, another])
    assert {salesforce_id: sighting.is_readable for salesforce_id, sighting in found.items()} == {
        mine: True,
        one: False,
        another: False,
    }


def rows_of(found: dict[str, Sighting] | ContactPage) -> Sized:
    return found.records if isinstance(found, ContactPage) else found


@pytest.mark.parametrize("verb", ["fetch_sightings", "contacts_by_id"])
@pytest.mark.parametrize(("count", "calls"), [(0, 0), (1, 1), (400, 1), (401, 1), (2000, 1), (2001, 2)])
def test_two_thousand_ids_go_into_a_call(desk: ClientDesk, verb: str, count: int, calls: int) -> None:
    ids = desk.add(count) if count else []
    mark = desk.org.calls.mark()
    found = getattr(desk.client, verb)(ids)
    assert len(rows_of(found)) == count
    assert desk.org.calls.counted(mark) == desk.client.calls == calls


@pytest.mark.parametrize("verb", ["fetch_sightings", "contacts_by_id"])
def test_ids_are_answered_whole_where_the_server_makes_small_pages(desk: ClientDesk, verb: str) -> None:
    ids = desk.add(900)
    desk.org.change_settings(page_sizes=200)
    assert len(rows_of(getattr(desk.client, verb)(ids))) == 900


@pytest.mark.parametrize("verb", ["fetch_sightings", "contacts_by_id"])
@pytest.mark.parametrize("name", ["query_timeout", "server_error", "uri_too_long"])
def test_an_incomplete_lookup_of_ids_is_an_error(desk: ClientDesk, verb: str, name: str) -> None:
    ids = desk.add(900)
    desk.org.trouble.add(name, kind="subrequest", soql=ids[850])
    with pytest.raises(SalesforceError):
        getattr(desk.client, verb)(ids)


@pytest.mark.parametrize("verb", ["fetch_sightings", "contacts_by_id"])
def test_fewer_rows_than_were_counted_are_no_answer_about_ids(salesforce: Mocker, verb: str) -> None:
    body = composite(part("ids0", {"totalSize": 1, "done": True, "records": []}))
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite", json=body)
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    with pytest.raises(TryLater, match="short_answer"):
        getattr(client, verb)(["003aj000002oTldAAE"])


def test_records_by_id_come_with_any_owner(desk: ClientDesk) -> None:
    [given, deleted, purged] = desk.add(3)
    desk.org.give(given, desk.colleague)
    desk.org.delete(deleted)
    desk.org.delete(purged)
    desk.org.purge(purged)
    found = {
        record.id: (record.owner_id, record.is_deleted)
        for record in desk.client.contacts_by_id([given, deleted, purged]).records
    }
    assert found == {given: (desk.colleague, False), deleted: (desk.user, True)}


def test_a_preview_counts_by_one_call(desk: ClientDesk) -> None:
    desk.add(5)
    desk.add(2, opted_out=True)
    desk.add(1, opted_out=True, email=None)
    desk.add(3, email=None)
    desk.add(owner_id=desk.colleague)
    assert desk.client.count_preview(desk.user) == (11, 3, 3)
    assert desk.client.calls == 1


# --- trying again ------------------------------------------------------------------------------------------------------

PASSING = [
    "server_unavailable_html",
    "edge_420",
    "not_acceptable",
    "reset",
    "truncated_json",
    "html",
    "empty",
    "redirect",
]


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again(desk: ClientDesk, name: str) -> None:
    desk.add(3)
    fault = desk.org.trouble.add(name, times=TRIES - 1)
    assert len(desk.read_all()) == 3
    assert fault.hits == TRIES - 1
    assert desk.client.calls == TRIES


@pytest.mark.parametrize("name", ["server_unavailable_html", "reset", "truncated", "wrong_content_type"])
def test_what_does_not_pass_is_given_up_after_three_attempts(desk: ClientDesk, name: str) -> None:
    fault = desk.org.trouble.add(name)
    with pytest.raises(TryLater):
        desk.read_all()
    assert fault.hits == desk.client.calls == TRIES


@pytest.mark.parametrize("name", ["request_limit", "api_disabled", "session_not_for_rest", "malformed_query", "gone"])
def test_what_trying_again_will_not_fix_is_not_tried_again(desk: ClientDesk, name: str) -> None:
    fault = desk.org.trouble.add(name)
    with pytest.raises(SalesforceError):
        desk.read_all()
    assert fault.hits == 1


@pytest.mark.parametrize("name", sorted(name for name in ANSWERS if not name.startswith("oauth_")))
def test_every_answer_ends_as_one_of_our_errors(desk: ClientDesk, name: str) -> None:
    desk.tokens.fresh = desk.new_token()
    desk.add(3)
    desk.org.trouble.add(name)
    with pytest.raises(SalesforceError) as caught:
        desk.read_all()
    assert not isinstance(caught.value, SessionExpired)


def test_attempts_wait_about_one_and_about_three_seconds() -> None:
    def waits(attempt: int) -> list[float]:
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = attempt
        return [wait_with_jitter(state) for _ in range(200)]

    first, second = waits(1), waits(2)
    assert 0.5 <= min(first) < max(first) <= 1.5
    assert 1.5 <= min(second) < max(second) <= 4.5
    assert len(set(first)) > 100


def test_each_attempt_is_counted_and_may_be_stopped(desk: ClientDesk) -> None:
    class Stopped(Exception):
        pass

    def before_call() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Stopped

    asked: list[int] = []
    desk.org.trouble.add("server_unavailable_html")
    client = desk.open(before_call=before_call)
    with pytest.raises(Stopped):
        client.fetch_sightings(desk.add())
    assert client.calls == 1


def test_an_expired_session_is_refreshed_on_the_way(desk: ClientDesk) -> None:
    desk.add(450)
    desk.org.change_settings(page_sizes=200)
    page = desk.client.open_contacts(desk.user, None).page
    desk.org.expire_sessions()
    desk.tokens.fresh = desk.new_token()
    assert page.next_path
    assert len(desk.client.next_page(page.next_path).records) == 200
    assert len(desk.tokens.stale) == 1


def test_an_org_that_moved_at_a_refresh_is_asked_at_its_new_address(salesforce: Mocker) -> None:
    moved = "https://northgate-wealth.my.salesforce.com"
    expired = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    body = composite(part("total", FOUR), part("out", NOBODY), part("none", NOBODY))
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite", status_code=401, json=expired)
    salesforce.post(f"{moved}/services/data/v66.0/composite", json=body)
    tokens = Tokens()
    tokens.moves_to = moved
    client = OrgClient(tokens, "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    assert client.count_preview("0055g00000AbCdEAAV") == (4, 0, 0)
    sent = [(call.hostname, call.headers["Authorization"]) for call in salesforce.request_history]
    assert sent == [
        ("northgate.my.salesforce.com", "Bearer old-token"),
        ("northgate-wealth.my.salesforce.com", "Bearer new-token"),
    ]
    assert client.calls == 2


def test_an_org_that_claims_to_have_moved_out_of_salesforce_gets_no_token(salesforce: Mocker) -> None:
    expired = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite", status_code=401, json=expired)
    tokens = Tokens()
    tokens.moves_to = "https://evil.example"
    with pytest.raises(Misconfigured, match="foreign_host"):
        OrgClient(tokens, "66.0", (OPT_OUT,), wait=lambda state: 0.0).count_preview("0055g00000AbCdEAAV")
    assert salesforce.call_count == 1


def test_the_clients_usage_is_the_orgs(desk: ClientDesk) -> None:
    assert desk.client.usage is None
    desk.org.change_settings(api_limit=15_000)
    desk.read_all()
    assert desk.client.usage == (1, 15_000)
    desk.org.trouble.add("no_limit_info")
    desk.read_all()
    assert desk.client.usage == (1, 15_000)


# --- what gets into a question -----------------------------------------------------------------------------------------

HOSTILE = [
    "rose@edge.com' OR Email != '",
    "' OR Name LIKE '%",
    "rose@edge.com\\' OR Id != null OR Email = \\'",
    "\\",
    "\\'",
    "rose@edge.com\n' OR Id != '",
    "rose@edge.com' LIMIT 200 --",
    "{}",
    "{email}",
    "%",
    "_",
    "rose@edge.com&q=SELECT Id FROM User",
    "rose+news@edge.com#fragment",
    "\u2019 OR Id != \u2019",
]


@pytest.mark.parametrize("typed", HOSTILE)
def test_no_address_finds_more_than_itself(desk: ClientDesk, typed: str) -> None:
    desk.add(3)
    desk.add(3, email=None)
    assert desk.client.fetch_contact_rows(email=typed) == []


def test_an_address_with_odd_signs_finds_itself(desk: ClientDesk) -> None:
    desk.add(2)
    for email in ("o'neil+news&more=100%@edge.com", "b.levy@expressl&t.net"):
        [contact] = desk.add(email=email)
        assert [row["Id"] for row in desk.client.fetch_contact_rows(email=email.upper())] == [contact]


def test_a_lookup_by_id_finds_deleted_records_and_those_of_other_owners(desk: ClientDesk) -> None:
    [mine] = desk.add()
    [theirs] = desk.add(owner_id=desk.colleague)
    desk.org.delete(mine)
    assert desk.client.fetch_contact_rows(salesforce_id=mine[:15])[0]["IsDeleted"] is True
    assert desk.client.fetch_contact_rows(salesforce_id=theirs)[0]["Owner"]["Name"] == "Jonas Lindqvist"


def test_a_search_without_an_address_does_not_find_records_without_one(desk: ClientDesk) -> None:
    desk.add(email=None)
    for nothing in (None, ""):
        with pytest.raises(ValueError, match="an Id or an address"):
            desk.client.fetch_contact_rows(email=nothing)


NOT_AN_ID = [
    "",
    "003aj000002oTl",
    "003aj000002oTldAAE' OR Id != '",
    "003aj000002oTld\n",
    "003aj00000'oTld",
    "003aj000002oTldA",
    "003aj000002öTld",
    "００３aj000002oTld",
]


@pytest.mark.parametrize("hostile", NOT_AN_ID)
def test_nothing_but_an_id_stands_where_an_id_belongs(hostile: str) -> None:
    stamp = datetime(2026, 5, 6, tzinfo=UTC)
    owner = "0055g00000AbCdEAAV"
    for build in (
        lambda: soql.contacts(hostile, FIELDS),
        lambda: soql.contacts(owner, FIELDS, stamp, (stamp, hostile)),
        lambda: soql.contacts_by_id(["003aj000002oTldAAE", hostile], FIELDS),
        lambda: soql.count_contacts(hostile),
        lambda: soql.sweep(hostile, FIELDS),
        lambda: soql.sightings([hostile], FIELDS),
        lambda: soql.whereabouts(hostile, None, FIELDS),
    ):
        with pytest.raises(ValueError, match=r"not a Salesforce Id|an Id or an address"):
            build()


@pytest.mark.parametrize(
    "hostile",
    ["", "A B", "Id, Phone", "Has'Opted", "1Field", "Opt_Out__c FROM User --", "Feld_ä__c", "Opt_Out__c\n", "A" * 81],
)
def test_nothing_but_a_fields_name_stands_where_a_field_belongs(hostile: str) -> None:
    owner = "0055g00000AbCdEAAV"
    for build in (
        lambda: soql.contacts(owner, ReadFields((hostile,))),
        lambda: soql.contacts_by_id([], ReadFields((hostile,))),
        lambda: soql.sweep(owner, ReadFields((hostile,))),
        lambda: soql.sightings([], ReadFields((hostile,))),
        lambda: soql.whereabouts("003aj000002oTldAAE", None, ReadFields((hostile,))),
        lambda: OrgClient(Tokens(), "66.0", (hostile,)).count_preview(owner),
    ):
        with pytest.raises(ValueError, match="not a field's API name"):
            build()


def test_moments_are_written_in_utc_without_a_plus_sign() -> None:
    here = datetime.fromisoformat("2026-05-06T13:36:42.900+02:00")
    assert soql.moment(here) == "2026-05-06T11:36:42Z"


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4])])
def test_batches_are_full_up_to_the_last(count: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in batched_lists(range(count), 4)] == sizes


# --- by Id, and opt-outs -----------------------------------------------------------------------------------------------


def test_contacts_are_retrieved_in_order_with_nothing_for_those_that_are_gone(desk: ClientDesk) -> None:
    rose, gone = desk.add(2)
    [silent] = desk.add(email=None, opted_out=True)
    theirs = desk.org.add_contact(desk.colleague, last_name="Barr", email="tim@edge.com")
    desk.org.delete(gone)
    mark = desk.org.calls.mark()
    assert desk.client.retrieve_contacts([theirs, gone, rose, silent[:15]]) == [
        RetrievedContact(theirs, desk.colleague, "tim@edge.com", False),
        None,
        RetrievedContact(rose, desk.user, "rose@edge.com", False),
        RetrievedContact(silent, desk.user, "", True),
    ]
    assert desk.org.calls.counted(mark) == 1
    assert desk.client.retrieve_contacts([]) == []


def test_two_thousand_contacts_are_retrieved_by_a_call(desk: ClientDesk) -> None:
    ids = desk.add(2001)
    mark = desk.org.calls.mark()
    found = desk.client.retrieve_contacts(ids)
    assert [one.id for one in found if one] == ids
    assert desk.org.calls.counted(mark) == 2


def test_a_second_opt_out_field_that_is_hidden_is_left_out_of_a_retrieve(desk: ClientDesk) -> None:
    desk.org.add_field("Contact", "No_Mail__c")
    desk.org.hide_field("Contact", OPT_OUT)
    [rose] = desk.add(No_Mail__c=True)
    client = OrgClient(desk.tokens, "66.0", ("No_Mail__c",), allow_loopback=True, wait=lambda state: 0.0)
    assert client.retrieve_contacts([rose]) == [RetrievedContact(rose, desk.user, "rose@edge.com", True)]


def test_a_hidden_opt_out_field_is_no_answer_to_a_retrieve(desk: ClientDesk) -> None:
    [rose] = desk.add()
    desk.org.hide_field("Contact", OPT_OUT)
    with pytest.raises(FieldHidden):
        desk.client.retrieve_contacts([rose])


@pytest.mark.parametrize("body", [{}, [], [{"Id": None}], [{"Id": "0035g00000KqT2bAAF"}], ["text"], [[]]])
def test_a_retrieve_that_is_answered_wrongly_is_asked_again_later(salesforce: Mocker, body: Any) -> None:
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite/sobjects/Contact", json=body)
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    with pytest.raises(TryLater):
        client.retrieve_contacts(["0035g00000KqT1xAAF"])


def test_a_whole_row_of_another_record_is_no_answer_about_the_one_that_was_asked_for(salesforce: Mocker) -> None:
    row = {"Id": "0035g00000KqT2bAAF", "OwnerId": "0055g00000A0001AAA", "Email": "rose@edge.com", OPT_OUT: False}
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite/sobjects/Contact", json=[row])
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,), wait=lambda state: 0.0)
    with pytest.raises(TryLater):
        client.retrieve_contacts(["0035g00000KqT1xAAF"])
    assert client.retrieve_contacts(["0035g00000KqT2bAAF"]) == [
        RetrievedContact("0035g00000KqT2bAAF", "0055g00000A0001AAA", "rose@edge.com", False)
    ]


def test_opt_outs_are_set_in_one_call_each_for_itself(desk: ClientDesk) -> None:
    rose, gone = desk.add(2)
    queue = desk.org.add_queue("Web Leads")
    lead = desk.org.add_lead(desk.user, last_name="Prospect", email="p@edge.com")
    desk.org.change_settings(lead_queue=queue)
    desk.org.delete(gone)
    mark = desk.org.calls.mark()
    refusals = desk.client.set_opt_outs(
        [OptOutTarget("Lead", lead), OptOutTarget("Contact", gone), OptOutTarget("Contact", rose)]
    )
    assert [error.code if error else None for error in refusals] == [None, "deleted", None]
    assert desk.org.calls.counted(mark) == 1
    after = [desk.org.contact(one) for one in (rose, lead)]
    assert [(one[OPT_OUT], one["OwnerId"]) for one in after if one] == [(True, desk.user)] * 2


def test_no_id_is_sent_twice(desk: ClientDesk) -> None:
    [rose] = desk.add()
    mark = desk.org.calls.mark()
    with pytest.raises(ValueError, match="twice"):
        desk.client.set_opt_outs([OptOutTarget("Contact", rose)] * 2)
    assert desk.org.calls.counted(mark) == 0


def test_an_opt_out_goes_to_the_field_that_the_firm_named(desk: ClientDesk) -> None:
    desk.org.add_field("Contact", "No_Mail__c")
    [rose] = desk.add()
    client = OrgClient(desk.tokens, "66.0", ("No_Mail__c",), allow_loopback=True)
    assert client.set_opt_outs([OptOutTarget("Contact", rose)]) == [None]
    after = desk.org.contact(rose)
    assert after is not None
    assert (after["No_Mail__c"], after[OPT_OUT]) == (True, False)


def test_a_person_is_opted_out_through_the_account(desk: ClientDesk) -> None:
    account, contact = desk.org.add_person(desk.user, last_name="Person", email="person@edge.com")
    assert desk.client.find_account_of(contact) == account
    desk.client.set_person_opt_out(account)
    after = desk.org.contact(contact)
    assert after is not None
    assert after[OPT_OUT] is True
    assert desk.client.find_account_of("003000000000001AAA") is None


def test_an_account_that_is_not_visible_is_a_refusal_and_no_bug(salesforce: Mocker) -> None:
    body = [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
    salesforce.patch(f"{ORIGIN}/services/data/v66.0/sobjects/Account/0015g00000KqT1xAAF", json=body, status_code=404)
    client = OrgClient(Tokens(), "66.0", (OPT_OUT,))
    with pytest.raises(Rejected) as caught:
        client.set_person_opt_out("0015g00000KqT1xAAF")
    assert caught.value.code == "not_visible"


@pytest.mark.parametrize(
    ("field", "on_person"),
    [("HasOptedOutOfEmail", "PersonHasOptedOutOfEmail"), ("No_Mail__c", "No_Mail__pc")],
)
def test_a_field_has_another_name_on_the_account_of_a_person(field: str, on_person: str) -> None:
    assert name_on_person(field) == on_person


@pytest.mark.parametrize("salesforce_id", ["x", "003aj000002oTldAAE", None])
def test_a_lead_that_was_created_under_no_id_of_a_lead_has_to_be_looked_for(
    salesforce: Mocker, salesforce_id: str | None
) -> None:
    rows = [{"success": True, "id": "00Qaj000002oTldAAE"}, {"success": True, "id": salesforce_id}]
    salesforce.post(f"{ORIGIN}/services/data/v66.0/composite/sobjects", json=rows)
    client = OrgClient(Tokens(ORIGIN), "66.0", (OPT_OUT,))
    lead = NewLead("Rose", "Gonzalez", "rose@edge.example", "[not provided]", "AdvisorStream")
    with pytest.raises(TryLater, match="unreadable_answer") as caught:
        client.create_leads([lead, lead._replace(email="zoe@edge.example")], runs_assignment=False)
    assert caught.value.is_ambiguous


def test_what_is_no_id_of_a_contact_is_not_taken_for_one(salesforce: Mocker) -> None:
    salesforce.get(
        f"{ORIGIN}/services/data/v66.0/queryAll/", json={"done": True, "totalSize": 1, "records": [{"Id": "x"}]}
    )
    client = OrgClient(Tokens(ORIGIN), "66.0", (OPT_OUT,))
    with pytest.raises(TryLater, match="unreadable_answer"):
        client.find_person_contact("001aj000002oTldAAE")
