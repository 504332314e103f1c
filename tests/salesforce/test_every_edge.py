"""Every request that we make to Salesforce, with every kind of bad answer.

The details are tested beside each request; here no combination is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from asapp.salesforce import oauth, probe
from asapp.salesforce import session as limits
from asapp.salesforce.client import OrgClient
from asapp.salesforce.errors import SalesforceError, TryLater
from asapp.salesforce.oauth import App, Grant
from asapp.salesforce.records import NewLead, OptOutTarget
from asapp.salesforce.session import OrgSession
from tests.fake_tokens import Tokens
from tests.raw_server import RawServer, SocketAction, answer, reset

USER, ORG = "005dM00000awSFJQA2", "00DdM00000vfgTuUAI"
PAGE = b"<!DOCTYPE html><html><body><h1>We are setting things up.</h1></body></html>"
HTML = "text/html;charset=UTF-8"
QUICK_S = (1.0, 0.2)
ANSWERS: dict[str, Callable[[RawServer, RawServer], bytes | SocketAction]] = {
    "hang": lambda raw_server, _: raw_server.hang,
    "reset": lambda *_: reset,
    "truncated JSON": lambda *_: answer(b'{"access_token": "00D'),
    "HTML": lambda *_: answer(PAGE, content_type=HTML),
    "HTML that says it is JSON": lambda *_: answer(PAGE),
    "420": lambda *_: answer(PAGE, "420 Unknown", content_type=HTML),
    "406": lambda *_: answer(b"", "406 Not Acceptable", content_type=HTML),
    "503": lambda *_: answer(PAGE, "503 Service Unavailable", content_type=HTML),
    "wrong content type": lambda *_: answer(b"{}", content_type=HTML),
    "redirect": lambda _, elsewhere: answer(b"", "307 Temporary Redirect", location=f"{elsewhere.url}/x"),
    "too large": lambda *_: answer(b'"' + b"a" * 3_000_000 + b'"'),
}


def app_at(url: str) -> App:
    return App(url, "http://127.0.0.1/callback", "key", "secret", allow_loopback=True)


def client_at(url: str) -> OrgClient:
    return OrgClient(Tokens(url), "66.0", ("HasOptedOutOfEmail",), allow_loopback=True, wait=lambda _: 0.0)


LEAD = NewLead("Rose", "Gonzalez", "rose@edge.example", "[not provided]", "AdvisorStream")
NOW = datetime(2026, 5, 6, tzinfo=UTC)
EDGES: dict[str, Callable[[str], Any]] = {
    "token, for a code": lambda url: oauth.exchange_code(app_at(url), "code", "verifier"),
    "token, refreshed": lambda url: oauth.refresh(app_at(url), "5Aep861"),
    "userinfo": lambda url: oauth.who_is(Grant("a", "r", url, ORG, USER, ""), "66.0", allow_loopback=True),
    "contacts": lambda url: client_at(url).open_contacts(USER, None),
    "next page": lambda url: client_at(url).next_page("/services/data/v66.0/query/0r8xx5R2yF2gs3VASQ-2000"),
    "sweep": lambda url: list(client_at(url).iter_sweep(USER)),
    "look by Id": lambda url: client_at(url).fetch_sightings(["0035g00000KqT1xAAF"]),
    "leads by address": lambda url: client_at(url).find_leads_made_by(USER, ["rose@edge.example"], NOW, False),
    "retrieve": lambda url: client_at(url).retrieve_contacts(["0035g00000KqT1xAAF"]),
    "opt-outs": lambda url: client_at(url).set_opt_outs([OptOutTarget("Contact", "0035g00000KqT1xAAF")]),
    "a person's opt-out": lambda url: client_at(url).set_person_opt_out("0015g00000KqT1xAAF"),
    "create": lambda url: client_at(url).create_leads([LEAD], runs_assignment=False),
    "describe": lambda url: probe.find_opt_out_fields(OrgSession(Tokens(url), allow_loopback=True), "66.0", ["X"]),
}


@pytest.fixture
def badly_answered(
    raw_server: RawServer, elsewhere: RawServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """A server that gives the same bad answer to every request; its address. The other server must not be called."""
    for module in (limits, oauth, probe):
        monkeypatch.setattr(module, "TIMEOUT_S", QUICK_S)
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 1_000_000)

    def arrange(name: str) -> str:
        raw_server.will(*[ANSWERS[name](raw_server, elsewhere)] * 10)
        return raw_server.url

    return arrange


@pytest.mark.parametrize("bad", ANSWERS)
@pytest.mark.parametrize("edge", EDGES)
def test_a_bad_answer_is_a_matter_of_trying_later(badly_answered: Callable[[str], str], edge: str, bad: str) -> None:
    url = badly_answered(bad)
    began = time.monotonic()
    with pytest.raises(SalesforceError) as caught:
        EDGES[edge](url)
    assert isinstance(caught.value, TryLater), caught.value
    assert time.monotonic() - began < 5
    if edge == "create":  # a create that may have worked must not be repeated
        assert caught.value.is_ambiguous is (bad not in ("420", "406", "redirect"))


@pytest.mark.parametrize("bad", ANSWERS)
def test_a_permission_counts_as_given_back_only_where_salesforce_says_so(
    badly_answered: Callable[[str], str], bad: str
) -> None:
    may_be_yes = bad in ("truncated JSON", "wrong content type")  # with status 200, which is enough
    assert oauth.revoke(app_at(badly_answered(bad)), "5Aep861") is may_be_yes


@pytest.mark.parametrize("bad", ANSWERS)
def test_a_check_of_an_app_says_nothing_good_of_it(badly_answered: Callable[[str], str], bad: str) -> None:
    findings = probe.check_app(app_at(badly_answered(bad)))
    assert {finding.code for finding in findings} >= {"host", "key", "secret"}
    assert not [finding for finding in findings if finding.is_good]


@pytest.mark.parametrize("bad", ANSWERS)
def test_a_check_with_a_users_token_knows_nothing_then(badly_answered: Callable[[str], str], bad: str) -> None:
    seen = probe.check_with_session(
        OrgSession(Tokens(badly_answered(bad)), allow_loopback=True), "66.0", ["X"], "AdvisorStream"
    )
    assert {finding.is_good for finding in seen.findings} == {None}


def test_a_check_tells_a_closed_api_from_a_session_that_has_just_ended(raw_server: RawServer) -> None:
    refused = answer(b'[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]', "401 Unauthorized")
    raw_server.will(*[refused] * 4)
    seen = probe.check_with_session(
        OrgSession(Tokens(raw_server.url), allow_loopback=True), "66.0", ["X"], "AdvisorStream"
    )
    assert [(f.is_good, f.why) for f in seen.findings if f.code == "api"] == [(False, "api_access_blocked")]


def test_tokens_that_come_labelled_as_a_page_are_kept_all_the_same(raw_server: RawServer) -> None:
    """With rotation they are the only tokens that are left."""
    raw_server.will(answer(b'{"access_token": "00D!a", "refresh_token": "5Aep862"}', content_type=HTML))
    grant = oauth.refresh(app_at(raw_server.url), "5Aep861")
    assert (grant.access_token, grant.refresh_token) == ("00D!a", "5Aep862")
