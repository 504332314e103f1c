"""Every fault that an answer can have, the allowance, and the headers."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest
import requests

from orgsim import Answer, Org
from orgsim.answers import ANSWERS
from orgsim.tests.conftest import KEY, Api

Login = Callable[..., Api]
LEAD = {"LastName": "Prospect", "Company": "x"}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_answer_can_be_had(org: Org, api: Api, name: str) -> None:
    org.trouble.add(name, kind="limits", times=1)
    answer = api.get("/limits", allow_redirects=False)
    assert answer.status_code == ANSWERS[name].status
    assert answer.content == ANSWERS[name].content
    assert api.get("/limits").status_code == 200


def test_a_fault_can_wait_and_end(org: Org, api: Api) -> None:
    fault = org.trouble.add("server_error", kind="limits", after=1, times=2)
    assert [api.get("/limits").status_code for _ in range(5)] == [200, 500, 500, 200, 200]
    assert fault.hits == 2


def test_a_fault_can_have_a_probability(org: Org, api: Api) -> None:
    org.trouble.add("server_error", kind="limits", probability=0.5, seed=3)
    statuses = [api.get("/limits").status_code for _ in range(30)]
    assert 5 < statuses.count(500) < 25


def test_a_fault_ends_by_the_orgs_clock(org: Org, api: Api) -> None:
    org.trouble.add("server_unavailable_html", kind="data", for_seconds=60)
    assert api.get("/limits").status_code == 503
    org.clock.advance(61)
    assert api.get("/limits").status_code == 200


def test_a_fault_can_be_limited_to_one_user_one_method_or_one_query(
    org: Org, api: Api, log_in: Login, amara: str, jonas: str
) -> None:
    fault = org.trouble.add("server_error", user_id=amara)
    assert (api.get("/limits").status_code, log_in(jonas).get("/limits").status_code) == (500, 200)
    fault.remove()
    org.trouble.add("server_error", soql="FROM Lead", method="GET")
    assert api.query("SELECT Id FROM Contact")["done"] is True
    assert api.get("/query", params={"q": "SELECT Id FROM Lead"}).status_code == 500


def test_a_fault_can_have_an_answer_of_its_own(org: Org, api: Api) -> None:
    org.trouble.add(Answer(418, "short and stout", "text/plain", {"X-Pot": "tea"}), path="/limits")
    answer = api.get("/limits")
    assert (answer.status_code, answer.text, answer.headers["X-Pot"]) == (418, "short and stout", "tea")


def test_an_unknown_name_of_an_answer_is_an_error(org: Org) -> None:
    with pytest.raises(ValueError, match="no answer"):
        org.trouble.add("serverunavailable")


def test_a_reset_before_the_work(org: Org, api: Api) -> None:
    org.trouble.add("reset", kind="create", times=1)
    with pytest.raises(requests.ConnectionError):
        api.post("/sobjects/Lead", LEAD)
    assert org.count("Lead") == 0


def test_a_reset_after_the_work(org: Org, api: Api) -> None:
    org.trouble.add("reset_after", kind="create", times=1)
    with pytest.raises(requests.ConnectionError):
        api.post("/sobjects/Lead", LEAD)
    assert org.count("Lead") == 1
    assert org.calls[-1].status == 0


def test_work_that_is_finished_minutes_after_the_caller_has_gone(org: Org, api: Api) -> None:
    org.trouble.add("late_work", kind="create", times=1, seconds=300)
    with pytest.raises(requests.ConnectionError):
        api.post("/sobjects/Lead", LEAD)
    org.clock.advance(299)
    assert org.leads() == []
    org.clock.advance(2)
    assert [lead["LastName"] for lead in org.leads()] == ["Prospect"]


def test_slow_answers_and_hanging_ones(org: Org, api: Api) -> None:
    org.trouble.add("slow", kind="limits", seconds=0.2, times=1)
    began = time.monotonic()
    assert api.get("/limits").status_code == 200
    assert time.monotonic() - began >= 0.2
    org.trouble.add("hang", kind="limits", times=1)
    with pytest.raises(requests.Timeout):
        api.session.get(f"{api.url}/services/data/v66.0/limits", timeout=0.2)


def test_answers_that_are_cut_off(org: Org, api: Api) -> None:
    org.trouble.add("truncated", kind="limits", times=1)
    with pytest.raises(requests.RequestException):
        api.get("/limits")
    org.trouble.add("truncated_json", kind="limits", times=1)
    with pytest.raises(requests.JSONDecodeError):
        api.get("/limits").json()


def test_wrong_types_redirects_and_huge_answers(org: Org, api: Api) -> None:
    org.trouble.add("wrong_content_type", kind="limits", times=1)
    assert api.get("/limits").headers["Content-Type"].startswith("text/html")
    org.trouble.add("redirect", kind="limits", times=1, location="https://evil.example/", status=307)
    answer = api.get("/limits", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, "https://evil.example/")
    org.trouble.add("huge", kind="limits", times=1, mb=3)
    assert len(api.get("/limits").content) > 3_000_000


def test_a_next_page_on_another_host(org: Org, api: Api, amara: str) -> None:
    org.add_contacts({"owner_id": amara, "last_name": f"N{n}"} for n in range(2001))
    org.trouble.add("foreign_next", kind="query", host="https://evil.example")
    assert api.query("SELECT Id FROM Contact")["nextRecordsUrl"].startswith(
        "https://evil.example/services/data/v66.0/query/"
    )


def test_the_token_endpoint_has_trouble_too(org: Org, api: Api) -> None:
    org.trouble.add("oauth_inactive_user", kind="token_refresh", times=1)
    answer = requests.post(
        f"{api.url}/services/oauth2/token",
        timeout=20,
        data={
            "grant_type": "refresh_token",
            "refresh_token": api.tokens["refresh_token"],
            "client_id": KEY,
            "client_secret": "x",
        },
    )
    assert (answer.status_code, answer.json()["error_description"]) == (400, "inactive user")


# -- allowance and headers


def test_the_allowance_is_the_orgs_and_rolls_over_24_hours(
    org: Org, api: Api, log_in: Login, amara: str, jonas: str
) -> None:
    org.change_settings(api_limit=3)
    assert api.get("/limits").headers["Sforce-Limit-Info"] == "api-usage=1/3"
    assert log_in(jonas).get("/limits").headers["Sforce-Limit-Info"] == "api-usage=2/3"
    api.get("/limits")
    refused = api.get("/limits")
    assert (refused.status_code, refused.json()) == (
        403,
        [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}],
    )
    assert "Retry-After" not in refused.headers
    org.clock.advance(24 * 3600 + 60)
    assert log_in(amara).get("/limits").status_code == 200


def test_other_users_of_the_firm_use_up_the_allowance(org: Org, api: Api) -> None:
    org.use_up_allowance(left=1)
    assert [api.get("/limits").status_code for _ in range(2)] == [200, 403]
    org.restore_allowance()
    assert api.get("/limits").status_code == 200


def test_an_app_with_a_quota_of_its_own(org: Org, api: Api) -> None:
    org.change_app(KEY, allowance=2)
    assert (
        api.get("/limits").headers["Sforce-Limit-Info"]
        == "api-usage=1/100000; per-app-api-usage=1/2(appName=AdvisorStream_Integration)"
    )
    assert [api.get("/limits").status_code for _ in range(2)] == [200, 403]


def test_usage_lags_and_steps_back(org: Org, api: Api) -> None:
    org.change_settings(limit_info="stepping")
    shown = [
        int(api.get("/limits").headers["Sforce-Limit-Info"].partition("=")[2].partition("/")[0]) for _ in range(40)
    ]
    assert any(later < earlier for earlier, later in pairwise(shown))
    org.change_settings(limit_info="absent")
    assert "Sforce-Limit-Info" not in api.get("/limits").headers


def test_versions_need_no_session_and_cost_nothing(org: Org, api: Api) -> None:
    answer = requests.get(f"{api.url}/services/data", timeout=20)
    listed = answer.json()
    assert (listed[0]["version"], listed[-1]) == (
        "31.0",
        {"label": "Spring '26", "url": "/services/data/v66.0", "version": "66.0"},
    )
    assert [v["label"] for v in listed[:3]] == ["Summer '14", "Winter '15", "Spring '15"]
    assert "Sforce-Limit-Info" not in answer.headers
    assert org.api_used() == 0


def test_headers_and_cookies(org: Org, api: Api) -> None:
    first = api.get("/limits")
    assert first.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert first.headers["Server"] == "sfdcedge"
    assert first.headers["Transfer-Encoding"] == "chunked"
    assert "BrowserId" in first.cookies
    api.get("/limits")
    assert "BrowserId" in org.calls[-1].cookies  # a shared cookie jar is visible here


def test_pretty_printing(api: Api) -> None:
    assert "\n" in api.get("/limits", headers={"X-PrettyPrint": "1"}).text
    assert "\n" not in api.get("/limits").text


def test_a_request_with_headers_that_are_too_long_is_refused(api: Api) -> None:
    assert (
        api.get("/query", params={"q": "SELECT Id FROM Contact WHERE Id IN ('" + "x" * 17_000 + "')"}).status_code
        == 414
    )


def test_a_missing_or_wrong_authorization_header_is_refused(api: Api) -> None:
    def ask(**headers: str) -> tuple[int, str]:
        answer = requests.get(f"{api.url}/services/data/v66.0/limits", headers=headers, timeout=20)
        return answer.status_code, answer.json()[0]["errorCode"]

    assert ask() == (401, "INVALID_SESSION_ID")
    assert ask(Authorization="Basic abc") == (401, "INVALID_AUTH_HEADER")


def test_a_user_without_the_api(org: Org, api: Api, amara: str) -> None:
    org.change_user(amara, api_enabled=False)
    answer = api.get("/limits")
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (403, "API_CURRENTLY_DISABLED")


def test_a_collection_that_creates_is_a_create(org: Org, api: Api) -> None:
    org.trouble.add("reset_after", kind="create", times=1)
    with pytest.raises(requests.ConnectionError):
        api.post("/composite/sobjects", {"records": [{"attributes": {"type": "Lead"}, **LEAD}]})
    assert org.count("Lead") == 1
