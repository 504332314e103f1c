"""Which addresses are Salesforce's: what people paste, and what a token may be sent to."""

from __future__ import annotations

import pytest

from asapp.salesforce.hosts import (
    NotSalesforce,
    is_login_host,
    is_salesforce_url,
    is_sandbox,
    normalise_url,
    record_url,
    to_18,
)


@pytest.mark.parametrize(
    ("pasted", "origin"),
    [
        ("https://acme-dev-ed.lightning.force.com/", "https://acme-dev-ed.my.salesforce.com"),
        ("https://acme.lightning.force.com/lightning/r/Contact/0035g00000KqT1x/view", "https://acme.my.salesforce.com"),
        ("https://acme--uat.sandbox.lightning.force.com", "https://acme--uat.sandbox.my.salesforce.com"),
        ("https://acme.develop.lightning.force.com/x", "https://acme.develop.my.salesforce.com"),
        ("https://acme.my.salesforce-setup.com/lightning/setup", "https://acme.my.salesforce.com"),
        ("https://acme.lightning.crmforce.mil", "https://acme.my.salesforce.mil"),
        ("acme.my.salesforce.com", "https://acme.my.salesforce.com"),
        ("  ACME.My.Salesforce.com/  ", "https://acme.my.salesforce.com"),
        ("http://acme.my.salesforce.com/home", "https://acme.my.salesforce.com"),
        ("https://acme.my.salesforce.com:443/?x=1#y", "https://acme.my.salesforce.com"),
        ("https://login.salesforce.com", "https://login.salesforce.com"),
        ("https://na139.salesforce.com", "https://na139.salesforce.com"),
    ],
)
def test_what_people_paste_becomes_the_host_with_the_api(pasted: str, origin: str) -> None:
    assert normalise_url(pasted) == origin
    assert is_salesforce_url(origin)


HOSTILE = [
    "",
    "https://evil.example",
    "https://salesforce.com",
    "https://evilsalesforce.com",
    "https://evil.example/acme.my.salesforce.com",
    "https://acme.my.salesforce.com.evil.example",
    "https://acme.my.salesforce.com@evil.example",
    "https://user@acme.my.salesforce.com",
    "https://acme.my.salesforce.com:8443",
    "https://acme.my.salesforce.com:x",
    "https://evil.example#.my.salesforce.com",
    "https://evil.example?.my.salesforce.com",
    "https://evil.example\\.my.salesforce.com",
    "https://clients.my.site.com",
    "https://acme.force.com",
    "https://127.0.0.1",
    "http://127.0.0.1:5001",
    "http://localhost",
    "http://[::1]",
    "http://169.254.169.254/latest/meta-data",
    "https://2130706433",
    "https://[fe80::1]",
    "ftp://acme.my.salesforce.com",
    "javascript://acme.my.salesforce.com",
    "https://ácme.my.salesforce.com",
    "https://acme.my.salesforce.com.",
    "https://a_b.my.salesforce.com",
    "https://.my.salesforce.com",
    "https://[acme.my.salesforce.com",
]


@pytest.mark.parametrize("pasted", HOSTILE)
def test_anything_else_is_refused_in_words(pasted: str) -> None:
    with pytest.raises(NotSalesforce) as caught:
        normalise_url(pasted)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("url", [*HOSTILE, "https://acme.my.salesforce.com\n", "https://acme.my.salesforce.com\t.evil"])
def test_no_token_is_sent_there(url: str) -> None:
    assert not is_salesforce_url(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5001", "http://localhost:5001", "http://[::1]:5001"])
def test_a_loopback_org_enters_by_the_setting_alone(url: str) -> None:
    assert normalise_url(f"{url}/", allow_loopback=True) == url
    assert is_salesforce_url(url, allow_loopback=True)
    assert not is_salesforce_url(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1.evil.example", "http://user@127.0.0.1:5001", "http://10.0.0.1"])
def test_the_setting_lets_nothing_else_in(url: str) -> None:
    assert not is_salesforce_url(url, allow_loopback=True)
    with pytest.raises(NotSalesforce):
        normalise_url(url, allow_loopback=True)


def test_hosts_that_log_in_and_sandboxes() -> None:
    assert is_login_host("https://login.salesforce.com")
    assert not is_login_host("https://acme.my.salesforce.com")
    assert is_sandbox("https://acme--uat.sandbox.my.salesforce.com")
    assert is_sandbox("https://test.salesforce.com")
    assert not is_sandbox("https://acme.my.salesforce.com")


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("0035g00000KqT1x", "0035g00000KqT1xAAF"),
        ("001A0000006Vm9u", "001A0000006Vm9uIAC"),
        ("0035g00000KqT1xAAF", "0035g00000KqT1xAAF"),
    ],
)
def test_ids_have_eighteen_characters(short: str, full: str) -> None:
    assert to_18(short) == full


@pytest.mark.parametrize(
    "text", ["", "003", "0035g00000KqT1", "0035g00000KqT1xA", "0035g00000KqT1-", "0035g00000KqT1x\n"]
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="not a Salesforce Id"):
        to_18(text)


def test_where_a_person_opens_a_record() -> None:
    assert record_url("https://acme.my.salesforce.com", "0035g00000KqT1xAAF").endswith(".com/0035g00000KqT1xAAF")
