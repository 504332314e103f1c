"""Pages, cursors, and changes between two pages."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from orgsim import Org
from orgsim.tests.conftest import Api

Login = Callable[..., Api]
Q = "SELECT Id, FirstName, OwnerId FROM Contact ORDER BY SystemModstamp, Id"


@pytest.fixture
def many(org: Org, amara: str) -> list[str]:
    return org.add_contacts({"owner_id": amara, "last_name": f"Person {n}"} for n in range(4100))


def test_a_page_has_2000_and_says_where_the_next_is(api: Api, many: list[str]) -> None:
    first = api.query(Q)
    assert (len(first["records"]), first["totalSize"], first["done"]) == (2000, 4100, False)
    assert first["nextRecordsUrl"].startswith("/services/data/v66.0/query/0r8")
    assert first["nextRecordsUrl"].endswith("-2000")
    second = api.get(first["nextRecordsUrl"]).json()
    last = api.get(second["nextRecordsUrl"]).json()
    assert (len(last["records"]), last["totalSize"], last["done"]) == (100, 4100, True)
    assert "nextRecordsUrl" not in last
    assert api.ids(Q) == many
    assert api.get(first["nextRecordsUrl"]).json() == second  # a page may be read again


def test_the_server_decides_the_page_size(org: Org, api: Api, many: list[str]) -> None:
    assert len(api.query(Q, Sforce_Query_Options="batchSize=300")["records"]) == 300
    assert len(api.query(Q, Sforce_Query_Options="batchSize=5")["records"]) == 200
    assert len(api.query("SELECT Id, Description FROM Contact")["records"]) == 1000
    org.change_settings(page_sizes=[200, 2000, 700])
    assert api.ids(Q) == many


def test_every_page_is_a_call(org: Org, api: Api, many: list[str]) -> None:
    mark = org.calls.mark()
    api.ids(Q)
    assert org.calls.counted(mark) == 3
    assert [c.tags for c in org.calls.since(mark)] == [
        ("data", "query"),
        ("data", "query_more"),
        ("data", "query_more"),
    ]
    assert org.calls.since(mark)[0].soql == (Q,)


def test_a_page_shows_records_as_they_are_when_it_is_read(org: Org, api: Api, jonas: str, many: list[str]) -> None:
    def meanwhile(_locator: str, _offset: int) -> None:
        org.update_contact(many[2000], first_name="Changed")
        org.give(many[2001], jonas)
        org.delete(many[2002])
        org.delete(many[2003])
        org.purge(many[2003])
        org.add_contact(jonas, last_name="New")

    org.on_next_page(meanwhile, times=1)
    first = api.query(Q)
    second = api.get(first["nextRecordsUrl"]).json()
    assert second["totalSize"] == 4100
    assert len(second["records"]) == 1998
    by_id = {r["Id"]: r for r in second["records"]}
    assert by_id[many[2000]]["FirstName"] == "Changed"
    assert by_id[many[2001]]["OwnerId"] == jonas
    assert not {many[2002], many[2003]} & set(by_id)


def test_expired_and_wrong_locators(org: Org, api: Api, log_in: Login, jonas: str, many: list[str]) -> None:
    following = api.query(Q)["nextRecordsUrl"]
    wrong = [{"message": "invalid query locator", "errorCode": "INVALID_QUERY_LOCATOR"}]
    assert log_in(jonas).get(following).json() == wrong
    assert api.get(following.rpartition("-")[0] + "-99999").json() == wrong
    assert api.get("/query/nonsense").json() == wrong
    assert api.get(following).status_code == 200
    org.expire_locators()
    answer = api.get(following)
    assert (answer.status_code, answer.json()) == (400, wrong)


def test_a_locator_lives_two_days_and_outlives_its_session(
    org: Org, api: Api, log_in: Login, amara: str, many: list[str]
) -> None:
    following = api.query(Q)["nextRecordsUrl"]
    org.clock.advance(47 * 3600)
    assert log_in(amara).get(following).status_code == 200
    org.clock.advance(2 * 3600)
    assert log_in(amara).get(following).json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


def test_the_eleventh_cursor_closes_the_first(api: Api, many: list[str]) -> None:
    following = [api.query(Q)["nextRecordsUrl"] for _ in range(11)]
    assert api.get(following[0]).status_code == 400
    assert api.get(following[1]).status_code == 200


def test_short_pages(org: Org, api: Api, many: list[str]) -> None:
    org.trouble.add("short_page", kind="data", by=150)
    assert len(api.query(Q)["records"]) == 1850
    assert api.ids(Q) == many


def test_query_all_pages_keep_deleted_records(org: Org, api: Api, many: list[str]) -> None:
    org.delete(many[3])
    first = api.query(Q, everything=True)
    assert first["totalSize"] == 4100
    assert "/query/" in first["nextRecordsUrl"]
    org.delete(many[2500])
    assert many[2500] in [r["Id"] for r in api.get(first["nextRecordsUrl"]).json()["records"]]


def test_nothing_found(api: Api) -> None:
    assert api.query("SELECT Id FROM Contact") == {"totalSize": 0, "done": True, "records": []}


def test_the_orgs_clock_dates_every_answer(org: Org, api: Api) -> None:
    org.clock.advance(40 * 86400)
    org.clock.freeze()
    fresh = org.issue_tokens(org.users()[0]["id"], "practice-key")
    answer = api.get("/limits", headers={"Authorization": f"Bearer {fresh['access_token']}"})
    assert answer.headers["Date"] == org.clock.now().strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_many_threads_at_once(org: Org, log_in: Login, amara: str, jonas: str, many: list[str]) -> None:
    """Readers page through while writers change, delete and commit late; no reader sees an error or a half-changed record."""
    wrong: list[object] = []

    def read(user_id: str) -> None:
        api = log_in(user_id)
        for _ in range(5):
            found = api.ids(Q)
            if len(found) != len(set(found)) or not set(found) <= set(many):
                wrong.append(len(found))

    def write(first: int) -> None:
        for number in range(first, first + 60):
            org.begin_late("update_contact", many[number], first_name="Late", visible_in=0)
            org.opt_out(many[number])
            org.delete(many[number])
            org.undelete(many[number])

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(read, user) for user in (amara, jonas, amara)]
        jobs += [pool.submit(write, first) for first in (0, 60, 120)]
        for job in jobs:
            job.result(60)
    assert wrong == []
    assert sum(c["FirstName"] == "Late" and c["HasOptedOutOfEmail"] for c in org.contacts()) == 180
