"""Malformed input is refused or ignored: it never reaches a bug, on either database."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from asapp.core.extensions import db
from asapp.core.forms import LARGEST_ID, whole_number
from asapp.leads import sign_up_page
from asapp.messages.states import AdvisorState
from asapp.web.incoming import client_address
from devtools.guard import ROOT
from tests.factories import log_in, make_admin, make_advisor, make_synced_connection
from tests.signing_up import make_page, someone_signs_up

RUNS = "/settings/integrations/runs"
NUMBERS = (2**31, 2**63, 2**64, 10**400)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_beyond_any_row_name_none(number: int, client: FlaskClient, app: Flask) -> None:
    connection = make_synced_connection()
    log_in(client, connection.user)
    for path in (f"{RUNS}/{number}", f"{RUNS}/{number}.csv", f"/contacts/{number}", f"/contacts/lists/{number}"):
        assert client.get(path).status_code == 404
    for path in (f"{RUNS}?before={number}", f"/contacts?page={number}", f"/leads?page={number}"):
        assert client.get(path).status_code == 200
    assert client.get(f"/contacts?list={number}").status_code == 404
    assert client.post("/contacts/delete", data={"id": str(number)}).status_code == 404
    log_in(client, make_admin())
    assert client.get(f"/admin/audit?before={number}").status_code == 200
    assert client.get(f"/admin/audit/{number}/erase").status_code == 404


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        (str(LARGEST_ID), LARGEST_ID),
        (str(LARGEST_ID + 1), None),
        ("", None),
        (None, None),
        ("-1", None),
        ("1e3", None),
    ],
)
def test_a_number_is_read_as_far_as_a_row_can_have_it(text: str | None, number: int | None) -> None:
    assert whole_number(text) == number


def test_no_argument_of_an_address_takes_larger_numbers(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        for converter in rule._converters.values():
            assert getattr(converter, "max", LARGEST_ID) == LARGEST_ID, rule


@pytest.mark.parametrize("path", ["/o/%00", "/o/x%00/thanks", "/partner-setup/%00", "/password/%00", "/%00"])
def test_no_address_has_a_nul(path: str, client: FlaskClient, app: Flask) -> None:
    assert client.get(path).status_code == 404


def test_no_address_of_an_admin_has_a_nul(client: FlaskClient, app: Flask) -> None:
    advisor = make_advisor()
    assert advisor.partner
    firm = f"/admin/partners/{advisor.partner.slug}"
    log_in(client, make_admin())
    for path in (
        "/admin/partners/%00",
        "/admin/partners/%00/delete",
        f"{firm}/advisors/%00/move",
        f"{firm}/advisors/1%00/erase",
    ):
        assert client.get(path).status_code == 404
    assert client.post(f"{firm}/advisors/{advisor.id}/move", data={"partner": "\0"}).status_code == 422


@pytest.mark.parametrize("lead", ["\0", "\0" * 36, "0\0"])
def test_no_form_names_a_row_with_a_nul(lead: str, client: FlaskClient, app: Flask) -> None:
    log_in(client, make_advisor())
    for path in ("/leads/person", "/leads/person/consent.csv", "/leads/person/erase"):
        assert client.get(path, query_string={"lead": lead}).status_code == 404
    for path in ("/leads/person/erase", "/leads/retry", "/leads/check"):
        assert client.post(path, data={"lead": lead}).status_code == 404


def test_a_nul_in_what_is_typed_is_a_space(client: FlaskClient, app: Flask) -> None:
    alice = make_advisor()
    lead = someone_signs_up(alice)
    log_in(client, alice)
    assert lead.first_name in client.get("/leads", query_string={"q": f"\0{lead.first_name}\0"}).text
    client.post("/settings", data={"name": "Al\0ice"})
    assert db.session.get_one(type(alice), alice.id).name == "Al ice"


@pytest.mark.parametrize("url", ["http://[", "//[", "http://a:b", "\x80", "", "https://x.example/contacts?q=1"])
def test_any_address_that_a_browser_names_leads_to_the_login(url: str, client: FlaskClient, app: Flask) -> None:
    answer = client.get("/settings", part=True, headers={"HX-Current-URL": url})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"].startswith("/login")


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        (" 198.51.100.7:4711", "198.51.100.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", ""),
        ("unix:", ""),
        ("x" * 300, ""),
        ("1.2.3.4, 5.6.7.8", ""),
        ("[", ""),
        ("", ""),
    ],
)
def test_a_clients_address_is_valid_or_empty(named: str, address: str) -> None:
    assert client_address(named) == address


def test_long_sites_are_refused_and_kept_in_the_form(client: FlaskClient, app: Flask) -> None:
    alice = make_advisor()
    log_in(client, alice)
    before = make_page(alice).frame_hosts
    many = "\n".join(f"https://{('a' * 60 + '.') * 3}x{number}.example" for number in range(10))
    for typed in (f"https://{'a' * 9000}.example", many):
        answer = client.post("/leads/page", data={"heading": "Letters", "words": "Yes.", "frame_hosts": typed})
        assert answer.status_code == 422
        assert typed in answer.text
        assert sign_up_page.ensure_page(alice).frame_hosts == before


BUTTONS = ("sync", "cancel", "approve", "discard")
ASK: dict[str, Callable[[FlaskClient], int]] = {
    **{name: lambda client, name=name: post(client, name) for name in BUTTONS},  # type: ignore[misc]
    "poll": lambda client: client.get("/settings/integrations/salesforce", part=True).status_code,
}


def post(client: FlaskClient, name: str) -> int:
    return client.post(f"/settings/integrations/salesforce/{name}", part=True).status_code


@pytest.mark.parametrize("how", ASK)
def test_a_firm_may_be_switched_off_while_the_panel_is_open(how: str, client: FlaskClient, app: Flask) -> None:
    connection = make_synced_connection()
    log_in(client, connection.user)
    connection.partner.is_enabled = False
    db.session.commit()
    assert ASK[how](client) == 200


def test_each_state_of_the_panel_has_its_part() -> None:
    missing = [
        state for state in AdvisorState if not (ROOT / "templates" / "integrations" / f"_{state}.html").is_file()
    ]
    assert missing == []
