"""Which hosts are Salesforce's: tokens are sent only to these."""

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

GOOD_HOSTS = [
    "login.salesforce.com",
    "test.salesforce.com",
    "northgate.my.salesforce.com",
    "n.my.salesforce.com",
    "northgate--uat.sandbox.my.salesforce.com",
    "northgate-dev-ed.develop.my.salesforce.com",
    "orgfarm-8663634d5e-dev-ed.develop.my.salesforce.com",
    "broth-scorpio-4351-dev-ed.scratch.my.salesforce.com",
    "northgate.trailblaze.my.salesforce.com",
    "northgate.demo.my.salesforce.com",
    "northgate.free.my.salesforce.com",
    "northgate.patch.my.salesforce.com",
    "northgate.stmpa.my.salesforce.com",
    "northgate--uat.cs92.my.salesforce.com",
    "na73.salesforce.com",
    "cs420.salesforce.com",
    "eu5.salesforce.com",
    "northgate.my.salesforce.mil",
]
HOSTILE = [
    # other people's hosts that look alike
    "https://evil.example",
    "https://salesforce.com.evil.example",
    "https://northgate.my.salesforce.com.evil.example",
    "https://evilsalesforce.com",
    "https://evil-my.salesforce.com.example",
    "https://northgatemy.salesforce.com",
    "https://my.salesforce.com",
    "https://salesforce.com",
    "https://www.salesforce.com",
    "https://northgate.salesforce.com",
    "https://a.b.c.my.salesforce.com",
    "https://-northgate.my.salesforce.com",
    "https://northgate-.my.salesforce.com",
    "https://" + "a" * 64 + ".my.salesforce.com",
    "https://northgate.my.salesforce.co",
    "https://northgate.my.salesforce.cn",
    "https://evilcrmforce.mil",
    "https://a_b.my.salesforce.com",
    # Salesforce's, but they serve what customers wrote
    "https://northgate.lightning.force.com",
    "https://northgate--c.vf.force.com",
    "https://northgate.file.force.com",
    "https://northgate.my.site.com",
    "https://northgate.my.salesforce-sites.com",
    "https://northgate.my.salesforce-setup.com",
    # user-info, ports, other schemes
    "https://northgate.my.salesforce.com@evil.example",
    "https://northgate.my.salesforce.com:443@evil.example",
    "https://user@northgate.my.salesforce.com",
    "https://user:secret@northgate.my.salesforce.com",
    "https://@northgate.my.salesforce.com",
    "https://northgate.my.salesforce.com:8443",
    "https://northgate.my.salesforce.com:80",
    "https://northgate.my.salesforce.com:",
    "https://northgate.my.salesforce.com:443:443",
    "https://northgate.my.salesforce.com:port",
    "http://northgate.my.salesforce.com",
    "ftp://northgate.my.salesforce.com",
    "javascript://northgate.my.salesforce.com/%0Aalert(1)",
    "//northgate.my.salesforce.com",
    "northgate.my.salesforce.com",
    "https:northgate.my.salesforce.com",
    "https:///northgate.my.salesforce.com",
    "",
    # addresses of machines
    "https://127.0.0.1",
    "https://localhost",
    "https://[::1]",
    "https://[::ffff:169.254.169.254]",
    "https://[northgate.my.salesforce.com]",
    "https://[::1",
    "https://169.254.169.254",
    "http://169.254.169.254/latest/meta-data",
    "https://[fe80::1]",
    "https://2130706433",
    # what parsers disagree about
    "https://northgate.my.salesforce.com\n",
    "https://northgate.my.salesforce.com\r\nHost: evil.example",
    "https://evil.example\n.my.salesforce.com",
    "https://northgate.my.sales\tforce.com",
    " https://northgate.my.salesforce.com",
    "https://northgate .my.salesforce.com",
    "https://evil.example\\.my.salesforce.com",
    "https://northgate.my.salesforce.com\\@evil.example",
    "https://evil.example/.my.salesforce.com",
    "https://evil.example?.my.salesforce.com",
    "https://evil.example#.my.salesforce.com",
    "https://evil.example%2f.my.salesforce.com",
    "https://northgate.my.salesforce.com.",
    "https://northgate..my.salesforce.com",
    "https://.my.salesforce.com",
    "https://northgate.my.salesforce。com",
    "https://northgate.my.ѕalesforce.com",
    "https://nörthgate.my.salesforce.com",
    "https://northgate.my.xn--alesforce-1cb.com",
    "https://northgate.my.salesforce.com\x00",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_hosts_of_salesforce_are_let_through(host: str) -> None:
    for url in (f"https://{host}", f"https://{host}/services/data/v66.0/query?q=a@b", f"https://{host}:443/"):
        assert is_salesforce_url(url)
        assert is_salesforce_url(url, allow_loopback=True)


@pytest.mark.parametrize("url", HOSTILE)
def test_nothing_else_is(url: str) -> None:
    assert not is_salesforce_url(url)
    assert not is_salesforce_url(url, allow_loopback=True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8065", "http://localhost:8065/services", "http://[::1]:8065"])
def test_a_loopback_org_is_let_through_where_configuration_says_so(url: str) -> None:
    assert is_salesforce_url(url, allow_loopback=True)
    assert not is_salesforce_url(url)
    assert normalise_url(f"{url}/lightning/page/home", allow_loopback=True) == url.removesuffix("/services")
    with pytest.raises(NotSalesforce):
        normalise_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8065",
        "http://127.0.0.1@evil.example",
        "http://user@127.0.0.1:8065",
        "http://:secret@127.0.0.1:8065",
        "http://@127.0.0.1:8065",
        "http://127.0.0.2:8065",
        "http://10.0.0.1",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://0.0.0.0:8065",
        "http://2130706433:8065",
        "http://[::ffff:127.0.0.1]:8065",
        "http://127.0.0.1:99999",
        "http://127.0.0.1\\@evil.example",
    ],
)
def test_what_is_near_loopback_is_not_loopback(url: str) -> None:
    assert not is_salesforce_url(url, allow_loopback=True)
    with pytest.raises(NotSalesforce):
        normalise_url(url, allow_loopback=True)


PASTED = [
    ("https://northgate.my.salesforce.com", "northgate.my.salesforce.com"),
    ("https://northgate.my.salesforce.com/", "northgate.my.salesforce.com"),
    ("https://northgate.my.salesforce.com:443/home/home.jsp?tsid=1#top", "northgate.my.salesforce.com"),
    ("http://northgate.my.salesforce.com", "northgate.my.salesforce.com"),
    ("northgate.my.salesforce.com", "northgate.my.salesforce.com"),
    ("  NorthGate.My.Salesforce.com\n", "northgate.my.salesforce.com"),
    (
        "https://northgate.lightning.force.com/lightning/r/Contact/003aj000002oTldAAE/view",
        "northgate.my.salesforce.com",
    ),
    ("northgate.lightning.force.com", "northgate.my.salesforce.com"),
    (
        "https://acme-dev-ed.develop.lightning.force.com/lightning/page/home",
        "acme-dev-ed.develop.my.salesforce.com",
    ),
    ("https://northgate--uat.sandbox.lightning.force.com/", "northgate--uat.sandbox.my.salesforce.com"),
    ("https://northgate.lightning.crmforce.mil/lightning/page/home", "northgate.my.salesforce.mil"),
    ("https://northgate.my.salesforce-setup.com/lightning/setup/SetupOneHome/home", "northgate.my.salesforce.com"),
    (
        "https://northgate--uat.sandbox.my.salesforce-setup.com/lightning/setup/",
        "northgate--uat.sandbox.my.salesforce.com",
    ),
    ("https://login.salesforce.com/?locale=eu", "login.salesforce.com"),
    ("https://na73.salesforce.com/003", "na73.salesforce.com"),
]


@pytest.mark.parametrize(("pasted", "host"), PASTED)
def test_what_advisors_paste_becomes_the_host_that_has_the_api(pasted: str, host: str) -> None:
    assert normalise_url(pasted) == f"https://{host}"


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ("", "Enter the address"),
        ("   ", "Enter the address"),
        ("northgate", "not a Salesforce address"),
        ("https://crm.northgate.example", "not a Salesforce address"),
        ("amara@northgate.my.salesforce.com", "without a user name or a port"),
        ("https://user:secret@northgate.my.salesforce.com", "without a user name or a port"),
        ("https://northgate.my.salesforce.com:8443", "without a user name or a port"),
        ("ftp://northgate.my.salesforce.com", "without a user name or a port"),
        ("https://northgate.my.site.com/s/", "site's address"),
        ("https://northgate--c.vf.force.com/apex/Home", "site's address"),
        ("https://lightning.force.com", "site's address"),
        ("https://northgate.my.salesforce-sites.com", "site's address"),
        ("https://northgate.my.salesforce.com.", "not a Salesforce address"),
        ("javascript:alert(1)", "not an address"),
        ("https://[::1", "not an address"),
        ("https://northgate.my.salesforce.com:port", "not an address"),
    ],
)
def test_what_leads_nowhere_is_refused_with_words(pasted: str, words: str) -> None:
    with pytest.raises(NotSalesforce, match=words) as caught:
        normalise_url(pasted)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("url", HOSTILE)
def test_whatever_is_pasted_only_salesforces_hosts_come_out(url: str) -> None:
    """Pasted text may be sloppier than an answer's address: only its host is kept, and it is checked."""
    try:
        made = normalise_url(url, allow_loopback=True)
    except NotSalesforce:
        return
    assert is_salesforce_url(made)
    assert made.removeprefix("https://") == made.lower().removeprefix("https://").split("/")[0]


def test_log_in_hosts_and_sandboxes_are_known_by_their_names() -> None:
    assert is_login_host("https://login.salesforce.com")
    assert is_login_host("https://test.salesforce.com/services/oauth2/token")
    assert not is_login_host("https://northgate.my.salesforce.com")
    assert is_sandbox("https://test.salesforce.com")
    assert is_sandbox("https://northgate--uat.sandbox.my.salesforce.com")
    assert is_sandbox("https://northgate--uat.cs92.my.salesforce.com")
    assert not is_sandbox("https://northgate.my.salesforce.com")
    assert not is_sandbox("https://northgate-dev-ed.develop.my.salesforce.com")


# As Salesforce itself has sent them.
KNOWN_IDS = [
    "001A0000006Vm9uIAC",
    "001dM00003jU9GxQAK",
    "001dM00003jU9H1QAK",
    "001dM00003kS2ndQAC",
    "001dM00003kSQJvQAO",
    "003RM0000068xVCYAY",
    "003aj000002oTldAAE",
    "003dM00001vWOXJQA4",
    "003dM00001vWOXbQAO",
    "003dM00001wBdfFQAS",
    "003q000000KvQ2DAAV",
    "003q000000KwJyqAAF",
    "003q000000KwKFhAAN",
    "00558000000yFyDAAU",
    "005ak000005hvjJAAQ",
    "005dM00000awSFJQA2",
    "00D58000000arpqEAA",
]


@pytest.mark.parametrize("known", KNOWN_IDS)
def test_fifteen_characters_become_the_eighteen_that_salesforce_uses(known: str) -> None:
    assert to_18(known[:15]) == known
    assert to_18(known) == known


def test_ids_that_differ_only_in_case_stay_apart_without_it() -> None:
    assert to_18("003aj000002oTld").lower() != to_18("003aj000002otld").lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "003",
        "003aj000002oTl",
        "003aj000002oTldA",
        "003aj000002oTldAAEx",
        "003aj000002oTl'",
        "003aj000002oTl-",
        "003aj000002oTld\n",
        "003aj000002öTld",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a Salesforce Id"):
        to_18(text)


def test_a_record_is_opened_at_the_stored_instance() -> None:
    assert record_url("https://northgate.my.salesforce.com", "003aj000002oTldAAE") == (
        "https://northgate.my.salesforce.com/003aj000002oTldAAE"
    )
