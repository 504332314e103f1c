"""The org's own page, its control API, the demo's data, and the org as a process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from orgsim import Firm, Org, Running, seed_demo, start
from orgsim.front_page import MOMENTARY, SWITCHES
from orgsim.tests.conftest import CALLBACK, KEY, SECRET


@pytest.fixture
def rose(org: Org, amara: str) -> str:
    return org.add_contact(amara, first_name="Rose <b>", last_name="O'Brien", email="rose@edge.com")


@pytest.fixture
def visit(running: Running) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def do(running: Running, visit: requests.Session, record: str, verb: str) -> requests.Response:
    return visit.post(f"{running.url}/practice/do", data={"id": record, "do": verb, "asked": ""}, timeout=20)


@pytest.mark.parametrize("tab", ["contacts", "leads", "lists", "bin", "users", "api", "app"])
def test_each_tab_is_a_whole_page(running: Running, visit: requests.Session, rose: str, tab: str) -> None:
    page = visit.get(f"{running.url}/?tab={tab}", timeout=20)
    assert page.status_code == 200
    assert page.text.count("<h1>") == 1
    ids = re.findall(r' id="([^"]+)"', page.text)
    assert len(ids) == len(set(ids))
    assert 'aria-current="page"' in page.text


def test_the_app_can_be_copied(running: Running, visit: requests.Session) -> None:
    page = visit.get(f"{running.url}/?tab=app", timeout=20).text
    for shown in (KEY, SECRET, CALLBACK, running.url):
        assert f"<code>{shown}</code>" in page


def test_names_are_shown_as_text(running: Running, visit: requests.Session, rose: str) -> None:
    page = visit.get(running.url, timeout=20).text
    assert "Rose &lt;b&gt; O&#39;Brien" in page
    assert "Rose <b>" not in page


def test_the_buttons_do_what_they_say(running: Running, visit: requests.Session, org: Org, rose: str) -> None:
    def record() -> dict[str, Any]:
        found = org.contact(rose)
        assert found is not None
        return found

    assert "opted out" in do(running, visit, rose, "opt_out").text
    assert record()["HasOptedOutOfEmail"] is True
    do(running, visit, rose, "opt_in")
    assert record()["HasOptedOutOfEmail"] is False
    do(running, visit, rose, "delete")
    assert record()["IsDeleted"] is True
    do(running, visit, rose, "undelete")
    assert record()["IsDeleted"] is False
    assert "Nothing changed" in do(running, visit, rose, "undelete").text


def test_the_forms_of_a_record(
    running: Running, visit: requests.Session, org: Org, amara: str, jonas: str, rose: str
) -> None:
    other = org.add_contact(amara, last_name="Other", email="other@edge.com")
    form = f"{running.url}/practice/record/{rose}"
    assert do(running, visit, rose, "edit").status_code == 200
    visit.post(form, data={"do": "edit", "first_name": "Rosa", "last_name": "X", "email": "Rosa@Edge.com"}, timeout=20)
    empty = visit.post(form, data={"do": "edit", "last_name": ""}, timeout=20)
    assert (empty.status_code, "Last Name is required" in empty.text) == (422, True)
    visit.post(form, data={"do": "merge", "other": "other@edge.com"}, timeout=20)
    nobody = visit.post(form, data={"do": "merge", "other": "nobody@x.example"}, timeout=20)
    assert nobody.status_code == 422
    visit.post(form, data={"do": "give", "owner_id": jonas}, timeout=20)
    record, loser = org.contact(rose), org.contact(other)
    assert record is not None
    assert loser is not None
    assert (record["Email"], record["OwnerId"], loser["MasterRecordId"]) == ("rosa@edge.com", jonas, rose)


def test_searching_and_paging(running: Running, visit: requests.Session, org: Org, amara: str, jonas: str) -> None:
    org.add_contacts({"owner_id": amara if n % 2 else jonas, "last_name": f"Person {n:02}"} for n in range(60))
    assert "Person 07" in visit.get(f"{running.url}/?q=person+07", timeout=20).text
    page = visit.get(f"{running.url}/?owner={jonas}", timeout=20).text
    assert "1 to 25 of 30" in page
    assert "Next 5</a>" in page
    assert "No record matches" in visit.get(f"{running.url}/?q=zzz", timeout=20).text


@pytest.mark.parametrize("name", [s.name for s in SWITCHES])
def test_every_switch_turns_on_and_off(
    running: Running, visit: requests.Session, org: Org, amara: str, name: str
) -> None:
    switch = next(s for s in SWITCHES if s.name == name)
    for _ in range(2):
        before = switch.is_on(org)
        answer = visit.post(f"{running.url}/practice/switch", data={"switch": name}, timeout=20)
        assert answer.status_code == 200
        assert switch.is_on(org) is (False if name in MOMENTARY else not before)


def test_the_log_in_does_not_redirect_to_other_hosts(running: Running, visit: requests.Session, amara: str) -> None:
    form = {"as": amara, "startURL": "//evil.example/"}
    answer = visit.post(f"{running.url}/login", data=form, timeout=20, allow_redirects=False)
    assert answer.headers["Location"] == "/"


# -- control over HTTP


def verb(running: Running, name: str, /, **arguments: Any) -> Any:
    answer = requests.post(f"{running.url}/practice/api/{name}", json=arguments, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def look(running: Running, name: str) -> Any:
    return requests.get(f"{running.url}/practice/api/{name}", timeout=20).json()


def test_another_process_can_do_everything_over_http(running: Running) -> None:
    ewa = verb(running, "add_user", name="Ewa Wiśniewska")
    first = verb(running, "add_contact", owner_id=ewa, last_name="One", email="one@x.example")
    second = verb(running, "add_contact", owner_id=ewa, last_name="Two", stamp="2026-05-06T11:36:42.000+0000")
    verb(running, "opt_out", record_id=first)
    verb(running, "merge", winner_id=first, loser_ids=[second])
    listed = look(running, f"contacts?owner_id={ewa}&deleted=1")
    assert {c["Id"]: c["MasterRecordId"] for c in listed} == {first: None, second: first}
    assert verb(running, "contact", record_id=second)["CreatedDate"] == "2026-05-06T11:36:42.000+0000"
    late = verb(running, "begin_late", verb="add_contact", args=[ewa], last_name="Late")
    assert len(look(running, "contacts")) == 1
    verb(running, "commit_late", handle=late["handle"])
    assert {c["Id"] for c in look(running, "contacts")} == {first, late["id"]}


def test_trouble_clock_and_calls_over_http(running: Running, amara: str) -> None:
    number = verb(running, "add_trouble", answer="server_error", kind="limits", times=1)
    tokens = verb(running, "issue_tokens", user_id=amara, key=KEY)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert tokens["instance_url"] == running.url
    for status in (500, 200):
        assert (
            requests.get(f"{running.url}/services/data/v66.0/limits", headers=headers, timeout=20).status_code == status
        )
    assert look(running, "state")["faults"][0]["number"] == number
    assert [c["status"] for c in look(running, "calls")] == [500, 200]
    verb(running, "freeze_clock")
    verb(running, "set_clock", moment="2026-05-06T11:36:42.000+0000")
    verb(running, "advance_clock", seconds=60)
    assert look(running, "state")["now"] == "2026-05-06T11:37:42.000+0000"


def test_actions_between_pages_over_http(running: Running, amara: str) -> None:
    running.org.add_contacts({"owner_id": amara, "last_name": f"N{n}"} for n in range(2100))
    verb(running, "between_pages", actions=[["add_contact", {"owner_id": amara, "last_name": "Meanwhile"}]])
    tokens = verb(running, "issue_tokens", user_id=amara, key=KEY)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    first = requests.get(
        f"{running.url}/services/data/v66.0/query?q=SELECT+Id+FROM+Contact", headers=headers, timeout=20
    ).json()
    requests.get(running.url + first["nextRecordsUrl"], headers=headers, timeout=20)
    assert running.org.count("Contact") == 2101


def test_a_wrong_verb_or_argument_is_an_error(running: Running) -> None:
    assert requests.post(f"{running.url}/practice/api/nothing", json={}, timeout=20).status_code == 404
    wrong = requests.post(f"{running.url}/practice/api/delete", json={"record_id": "003000000000001AAA"}, timeout=20)
    assert (wrong.status_code, "never here" in wrong.json()["error"]) == (400, True)


# -- the demo firm


@pytest.fixture(scope="module")
def northgate() -> tuple[Org, Firm]:
    org = Org(seed=0)
    return org, seed_demo(org)


def test_amara_owns_2500_of_6000(northgate: tuple[Org, Firm]) -> None:
    org, firm = northgate
    mine = org.contacts(firm.amara)
    assert (org.count("Contact"), len(mine)) == (6000, 2500)
    assert sum(c["HasOptedOutOfEmail"] for c in mine) == 45
    assert sum(c["Email"] is None for c in mine) == 24


def test_addresses_are_shared_and_twins_opted_out(northgate: tuple[Org, Firm]) -> None:
    org, firm = northgate
    by_address: dict[str, list[bool]] = {}
    for contact in org.contacts(firm.amara):
        if contact["Email"]:
            by_address.setdefault(contact["Email"], []).append(contact["HasOptedOutOfEmail"])
    shared = sorted(sorted(flags) for flags in by_address.values() if len(flags) > 1)
    assert shared == [[False, False]] * 7 + [[False, True]] * 4
    assert "b.levy@expressl&t.net" in by_address


def test_many_records_share_a_stamp_and_names_come_from_many_languages(northgate: tuple[Org, Firm]) -> None:
    org, firm = northgate
    mine = org.contacts(firm.amara)
    assert len({c["SystemModstamp"] for c in mine}) < 300
    assert max(sum(c["SystemModstamp"] == s for c in mine) for s in {c["SystemModstamp"] for c in mine}) > 100
    names = "".join(c["Name"] for c in mine)
    assert all(letter in names for letter in "佐Дفלशਸศ'\"<ßŁ")
    assert not any("\n" in c["Name"] for c in mine)


def test_the_same_seed_gives_the_same_firm(northgate: tuple[Org, Firm]) -> None:
    org = Org(seed=0)
    assert seed_demo(org) == northgate[1]
    assert [c["Id"] + c["Name"] for c in org.contacts()] == [c["Id"] + c["Name"] for c in northgate[0].contacts()]


# -- as a process


def test_the_process_prints_when_it_listens_and_ends_on_sigterm() -> None:
    command = [
        sys.executable,
        "-m",
        "orgsim",
        "--port",
        "0",
        "--seed",
        "empty",
        "--contacts",
        "300",
        "--key",
        "k",
        "--secret",
        "s",
        "--callback",
        "http://localhost/a",
        "--callback",
        "http://localhost/b",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        state = requests.get(line.split()[-1] + "/practice/api/state", timeout=20).json()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert line.startswith("listening on http://127.0.0.1:")
    assert state["counts"]["Contact"] == 300
    assert state["apps"][0]["callback_urls"] == ["http://localhost/a", "http://localhost/b"]


def test_two_orgs_share_nothing() -> None:
    with start(Org(seed=1)) as one, start(Org(seed=2)) as two:
        assert one.org.id != two.org.id
        assert one.url != two.url


def test_a_lead_can_be_converted_from_the_page(running: Running, visit: requests.Session, org: Org, amara: str) -> None:
    lead = org.add_lead(amara, last_name="Prospect")
    assert ">Convert<" in visit.get(f"{running.url}/?tab=leads", timeout=20).text
    do(running, visit, lead, "convert")
    assert [c["LastName"] for c in org.contacts(amara)] == ["Prospect"]
    assert ">Convert<" not in visit.get(f"{running.url}/?tab=leads", timeout=20).text


def test_a_port_in_use_is_one_clear_line(running: Running) -> None:
    command = [sys.executable, "-m", "orgsim", "--port", str(running.port), "--seed", "empty"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"port {running.port} on 127.0.0.1 is in use; choose another with --port\n"


def test_list_views_and_campaigns_change_on_their_tab(
    running: Running, visit: requests.Session, org: Org, amara: str, rose: str
) -> None:
    view = org.add_list_view("Contact", "In <Kent>", where={"field": "Title", "operator": "equals", "values": ["'P'"]})
    campaign = org.add_campaign(amara, "Seminar")
    org.add_members(campaign, [rose])
    page = visit.get(f"{running.url}/?tab=lists", timeout=20).text
    assert "In &lt;Kent&gt;" in page
    assert "1 contacts, 0 leads" in page
    for verb in ("view_rename", "view_filter", "view_unshare"):
        do(running, visit, view, verb)
    changed = org.list_views.get(view)
    assert (changed.label, changed.filter, changed.only_for) == ("In <Kent> (new)", "", frozenset())
    assert "one member fewer" in do(running, visit, campaign, "campaign_remove").text
    assert "it has no members" in do(running, visit, campaign, "campaign_remove").text
    assert "In &lt;Kent&gt; (new): deleted" in do(running, visit, view, "view_delete").text
    assert "Nothing changed" in do(running, visit, view, "view_rename").text
