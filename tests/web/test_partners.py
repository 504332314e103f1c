"""The partner pages of admins."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
import requests
import requests_mock
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text

from asapp.core.extensions import db
from asapp.core.forms import Text
from asapp.core.vault import CannotOpen, Vault
from asapp.models import ConnectionStatus, Partner, User
from asapp.partners.form_fields import PartnerForm
from asapp.partners.partners import slug_of
from tests.factories import log_in, make_admin, make_advisor, make_connection, make_partner

ENTERED = {
    "name": "Northgate & Söhne",
    "url": "https://northgate.lightning.force.com/lightning/page/home",
    "key": "3MVG9n_HvETGhr3BqOPX5s9kWlA2mVxqk8f",
    "secret": "C0FFEE.0123456789",
}


@pytest.fixture(autouse=True)
def salesforce_is_away(app: Flask) -> Iterator[requests_mock.Mocker]:
    """Saving asks Salesforce at once; these tests work as well without an answer."""
    with requests_mock.Mocker() as mocker:
        mocker.register_uri(requests_mock.ANY, requests_mock.ANY, exc=requests.exceptions.ReadTimeout)
        yield mocker


@pytest.fixture
def ada(app: Flask, client: FlaskClient) -> User:
    made = make_admin()
    log_in(client, made)
    return made


@pytest.fixture
def vault(app: Flask) -> Vault:
    found: Vault = app.extensions["asapp.vault"]
    return found


def the_partner() -> Partner:
    return db.session.scalars(select(Partner)).one()


def send(client: FlaskClient, path: str = "/admin/partners/new", **changes: str) -> Any:
    return client.post(path, data={**ENTERED, **changes})


def test_a_firm_whose_salesforce_does_not_answer_is_amber_and_says_so(client: FlaskClient, ada: User) -> None:
    send(client)
    page = unescape(" ".join(client.get(f"/admin/partners/{the_partner().slug}").text.split()))
    assert "Saved, but Salesforce couldn't be asked. Salesforce did not answer in time." in page
    assert "Salesforce doesn't answer" in page
    assert "0 good, 0 to fix, 1 waits, 10 not known yet. Salesforce is asked again by itself" in page
    assert "Salesforce doesn't answer" in client.get("/admin/partners").text


def test_a_changed_opt_out_field_that_could_not_be_looked_up_is_not_saved_in_green(
    client: FlaskClient, ada: User
) -> None:
    send(client)
    path = f"/admin/partners/{the_partner().slug}"
    client.get(path)
    send(client, path, opt_out_field="Do_Not_Emial__c", secret="")
    assert "Salesforce couldn't be asked yet whether it has the opt-out field." in unescape(client.get(path).text)


def test_the_page_of_a_firm_counts_advisors_who_need_reconnecting(client: FlaskClient, ada: User) -> None:
    partner = make_connection(status=ConnectionStatus.NEEDS_RECONNECT).partner
    page = client.get(f"/admin/partners/{partner.slug}").text
    board = f'href="/admin/board?firm={partner.slug}&amp;show=attention"'
    assert f"<a {board}>1 advisor needs reconnecting</a>" in page
    assert "disconnected</a>" not in page


def test_who_has_to_connect_again_after_stop_is_counted_when_the_firm_is_enabled(
    client: FlaskClient, ada: User
) -> None:
    partner = make_connection().partner
    path = f"/admin/partners/{partner.slug}"
    assert "disconnected</a>" not in client.get(path).text
    client.post(f"{path}/stop")
    client.post(f"{path}/enable")
    page = unescape(client.get(path).text)
    assert "is enabled. 1 advisor is disconnected, and synced again only after connecting again" in page
    assert f'<a href="{path}/advisors">1 advisor is disconnected</a>' in page
    assert ">Disconnected</span>" in client.get(f"{path}/advisors").text


def test_deleting_a_firm_says_that_suppressions_stay(client: FlaskClient, ada: User) -> None:
    partner = make_partner()
    page = client.get(f"/admin/partners/{partner.slug}/delete").text
    assert "who unsubscribed, complained or bounced, without a name or an address" in page


def test_the_error_of_a_wrong_address_is_printed_once(client: FlaskClient, ada: User) -> None:
    assert send(client, url="https://example.com").text.count("not a Salesforce address") == 1


def test_an_admin_adds_a_firm_and_sees_what_was_stored(client: FlaskClient, ada: User, vault: Vault) -> None:
    assert "No firm yet" in client.get("/admin/partners").text
    response = send(client)
    assert response.status_code == 303
    assert response.location == "/admin/partners/northgate-sohne"
    page = client.get(response.location).text
    assert "https://northgate.my.salesforce.com" in page
    assert ENTERED["key"] in page
    assert ENTERED["secret"] not in page
    partner = the_partner()
    assert partner.is_ready
    assert partner.unseal(vault, "consumer_key_sealed") == ENTERED["key"]
    assert partner.unseal(vault, "consumer_secret_sealed") == ENTERED["secret"]
    assert "Northgate &amp; Söhne" in client.get("/admin/partners").text


def test_the_form_has_the_labels_of_the_contract(client: FlaskClient, ada: User) -> None:
    page = client.get("/admin/partners/new").text
    for name, label in (
        ("name", "Firm name"),
        ("url", "Salesforce URL"),
        ("key", "Consumer Key"),
        ("secret", "Consumer Secret"),
    ):
        assert f'<label for="{name}">{label}</label>' in page
    assert ">Save</button>" in page


def test_key_and_secret_are_sealed_in_the_database(client: FlaskClient, ada: User) -> None:
    send(client)
    row = " ".join(str(value) for value in db.session.execute(text("SELECT * FROM partners")).one())
    assert ENTERED["key"] not in row
    assert ENTERED["secret"] not in row


def test_a_sealed_secret_opens_in_its_own_row_only(client: FlaskClient, ada: User, vault: Vault) -> None:
    one, other = make_partner(secret="one"), make_partner(secret="other")
    other.consumer_secret_sealed = one.consumer_secret_sealed
    with pytest.raises(CannotOpen):
        other.unseal(vault, "consumer_secret_sealed")
    one.consumer_key_sealed = one.consumer_secret_sealed
    with pytest.raises(CannotOpen):
        one.unseal(vault, "consumer_key_sealed")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": "  "}, "name", "Enter the firm&#39;s name."),
        ({"name": "x" * 121}, "name", "Use 120 characters or fewer"),
        ({"url": ""}, "url", "Enter the address of your Salesforce"),
        ({"url": "https://evil.example"}, "url", "That is not a Salesforce address."),
        ({"url": "https://x.my.salesforce.com.evil.example"}, "url", "That is not a Salesforce address."),
        ({"url": "https://user:pw@x.my.salesforce.com"}, "url", "without a user name or a port"),
        ({"url": "https://x.my.salesforce.com:8443"}, "url", "without a user name or a port"),
        ({"url": "https://x.my.salesforce.com:port"}, "url", "That is not an address."),
        ({"url": "https://clients.my.site.com/x"}, "url", "That is a site&#39;s address."),
        ({"url": "http://169.254.169.254/latest"}, "url", "That is not a Salesforce address."),
        ({"url": "https://login.salesforce.com"}, "url", "All firms log in there."),
        ({"url": "https://" + "x" * 3000}, "url", "That is too long"),
        ({"key": ""}, "key", "Enter the Consumer Key"),
        ({"key": "two words"}, "key", "This is not a Consumer Key"),
        ({"key": "schlüssel"}, "key", "This is not a Consumer Key"),
        ({"secret": " "}, "secret", "Enter the Consumer Secret"),
        ({"secret": "x" * 513}, "secret", "This is not a Consumer Secret"),
    ],
)
def test_invalid_partner_input_is_explained_beside_its_field_and_nothing_is_lost(
    changes: dict[str, str], field: str, words: str, client: FlaskClient, ada: User
) -> None:
    response = send(client, **changes)
    assert response.status_code == 422
    page = response.text
    assert f'id="{field}-error"' in page
    assert words in page
    assert page.count('aria-invalid="true"') == 1
    assert ENTERED["secret"] not in page
    if field != "url":
        assert ENTERED["url"] in page
    if field != "key":
        assert ENTERED["key"] in page
    assert db.session.scalars(select(Partner)).all() == []


def test_what_is_shown_again_cannot_break_out_of_the_page(client: FlaskClient, ada: User) -> None:
    nasty = '"><img src=x onerror=alert(1)>'
    page = send(client, name=nasty, url=nasty, key=nasty).text
    assert "<img" not in page
    send(client, name=nasty)
    assert "<img" not in client.get("/admin/partners").text


def test_a_loopback_org_is_taken_where_the_settings_allow_it(client: FlaskClient, ada: User) -> None:
    assert send(client, url="http://127.0.0.1:5001/").status_code == 303
    assert the_partner().salesforce_url == "http://127.0.0.1:5001"


def test_save_pressed_twice_makes_one(client: FlaskClient, ada: User) -> None:
    send(client)
    assert "A firm with this name and address is here already." in send(client).text
    assert the_partner()


def test_firms_of_one_name_have_slugs_of_their_own(client: FlaskClient, ada: User) -> None:
    hosts = ["https://a.my.salesforce.com", "https://b.my.salesforce.com", "https://c.my.salesforce.com"]
    ends = [send(client, url=host).location.rsplit("/", 1)[1] for host in hosts]
    assert ends == ["northgate-sohne", "northgate-sohne-2", "northgate-sohne-3"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Groß & Töchter", "gross-tochter"),
        ("投資顧問", "partner"),
        ("x" * 80, "x" * 50),
        ("--A--", "a"),
        ("Ácme, Inc.", "acme-inc"),
    ],
)
def test_slugs(name: str, slug: str) -> None:
    assert slug_of(name) == slug


def test_a_firm_called_new_does_not_take_the_address_of_the_form(client: FlaskClient, ada: User) -> None:
    assert send(client, name="New").location == "/admin/partners/new-2"


def test_an_empty_secret_keeps_the_one_there_is(client: FlaskClient, ada: User, vault: Vault) -> None:
    path = send(client).location
    assert send(client, path, secret="", name="Northgate").status_code == 303
    partner = the_partner()
    assert partner.name == "Northgate"
    assert partner.slug == "northgate-sohne"
    assert partner.unseal(vault, "consumer_secret_sealed") == ENTERED["secret"]
    assert partner.app_version == 1


@pytest.mark.parametrize(
    "changes",
    [{"key": "another", "secret": ""}, {"key": "another"}, {"url": "https://b.my.salesforce.com", "secret": ""}],
)
def test_a_change_of_the_app_is_a_new_version(changes: dict[str, str], client: FlaskClient, ada: User) -> None:
    path = send(client).location
    assert send(client, path, **changes).status_code == 303
    assert the_partner().app_version == 2


def test_a_refused_change_changes_nothing(client: FlaskClient, ada: User) -> None:
    path = send(client).location
    response = send(client, path, name="Another", url="nonsense")
    assert response.status_code == 422
    assert "<h1>Northgate &amp; Söhne</h1>" in response.text
    assert 'value="Another"' in response.text
    assert the_partner().name == ENTERED["name"]


def test_a_key_that_cannot_be_opened_is_entered_again(client: FlaskClient, ada: User, vault: Vault) -> None:
    path = send(client).location
    partner = the_partner()
    partner.consumer_key_sealed = "v1.00000000.AAAA"
    db.session.commit()
    assert client.get(path).status_code == 200
    assert send(client, path, secret="").status_code == 303
    assert the_partner().unseal(vault, "consumer_key_sealed") == ENTERED["key"]


def test_disabling_and_enabling(client: FlaskClient, ada: User) -> None:
    path = send(client).location
    assert client.post(f"{path}/disable").status_code == 303
    assert not the_partner().is_enabled
    assert "Disabled" in client.get("/admin/partners").text
    assert client.post(f"{path}/enable").status_code == 303
    assert the_partner().is_enabled
    assert client.get(f"{path}/disable").status_code == 405


def test_the_list_counts_advisors_and_the_connected_among_them(client: FlaskClient, ada: User) -> None:
    firm = make_partner()
    make_connection(make_advisor(firm))
    make_advisor(firm, name="Bob")
    make_partner(name="Empty", secret="")
    page = client.get("/admin/partners").text
    assert "1 of 2" in page
    assert "0 of 0" in page
    assert "Waiting for the firm" in page


def test_a_new_secret_waits_beside_the_old_one(client: FlaskClient, ada: User, vault: Vault) -> None:
    path = send(client).location
    assert send(client, path, secret="another.one").status_code == 303
    partner = the_partner()
    assert partner.unseal(vault, "consumer_secret_sealed") == ENTERED["secret"]
    assert partner.unseal(vault, "pending_secret_sealed") == "another.one"
    assert partner.app_version == 1
    page = client.get(path).text
    assert "A new Consumer Secret is not in use yet." in page
    assert "another.one" not in page
    assert client.post(f"{path}/keep-secret").status_code == 303
    assert the_partner().pending_secret_sealed is None


def test_the_same_secret_again_changes_nothing(client: FlaskClient, ada: User) -> None:
    path = send(client).location
    send(client, path)
    assert the_partner().pending_secret_sealed is None
    assert the_partner().app_version == 1


SETTINGS = {
    "has_settings": "1",
    "slug": "northgate",
    "api_version": "67.0",
    "opt_out_field": "NoMail__c",
    "more_opt_out_fields": "Individual.HasOptedOutSolicit, No_News__c",
    "opt_outs_trusted_days": "3",
    "lead_company": "Private client",
    "lead_source": "Newsletter",
    "privacy_url": "https://www.northgate.example/privacy",
    "disclosure": "Investments can fall.\r\nNorthgate is regulated.",
    "sync_interval": "30",
    "api_share": "25",
    "sends_on_data_of_hours": "12",
}


def test_all_settings_are_stored_and_shown(client: FlaskClient, ada: User) -> None:
    path = send(client).location
    assert send(client, path, secret="", **SETTINGS).location == "/admin/partners/northgate"
    partner = the_partner()
    assert (partner.slug, partner.api_version, partner.opt_out_field) == ("northgate", "67.0", "NoMail__c")
    assert (partner.opt_outs_trusted_days, partner.sync_interval_minutes, partner.api_share_percent) == (3, 30, 25)
    assert (partner.lead_company, partner.lead_source) == ("Private client", "Newsletter")
    assert partner.privacy_url == "https://www.northgate.example/privacy"
    assert partner.disclosure == "Investments can fall.\nNorthgate is regulated."
    assert not partner.keep_leads_with_advisor
    assert not partner.skip_bounced
    assert not partner.writes_opt_outs_back
    assert not partner.brings_in_open_leads
    assert partner.sends_on_data_of_hours == 12
    page = client.get("/admin/partners/northgate").text
    for value in (
        "67.0",
        "NoMail__c",
        "Individual.HasOptedOutSolicit, No_News__c",
        "Private client",
        "Newsletter",
        "30",
        "25",
        "12",
    ):
        assert f'value="{value}"' in page
    ticked = {"keep_leads": "1", "skip_bounced": "1", "writes_opt_outs_back": "1", "brings_in_open_leads": "1"}
    emptied = {"sync_interval": "", "sends_on_data_of_hours": ""}
    send(client, "/admin/partners/northgate", secret="", **SETTINGS | emptied | ticked)
    assert the_partner().sync_interval_minutes is None
    assert the_partner().sends_on_data_of_hours is None
    assert the_partner().writes_opt_outs_back
    assert the_partner().brings_in_open_leads
    assert the_partner().skip_bounced
    assert the_partner().keep_leads_with_advisor


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("slug", value) for value in ("new", "preview", "Nörth", "a b", "-a", "x" * 51, "../admin")),
        *(("api_version", value) for value in ("66", "abc", "12.0", "59.0", "66.5", "")),
        *(("opt_out_field", value) for value in ("", "two words", "A.B.C", "x'; DROP", "F" * 81)),
        *(
            ("more_opt_out_fields", value)
            for value in (
                "A, B, C",
                "Individual.A, Account.B",
                "nomail__c",
                "A.B.C",
                "No News!",
                "F" * 80 + ", " + "G" * 40,
            )
        ),
        *(("sync_interval", value) for value in ("4", "10081", "-5", "1e3", "٥٥", "9" * 30)),
        *(("api_share", value) for value in ("0", "101", "", "ten")),
        *(("opt_outs_trusted_days", value) for value in ("0", "61", "")),
        *(("sends_on_data_of_hours", value) for value in ("0", "169", "soon")),
        *(("lead_company", value) for value in (" ", "x" * 256)),
        ("lead_source", ""),
        *(
            ("privacy_url", value)
            for value in ("http://a.example", "javascript:alert(1)", "https://", "https://a b.example")
        ),
        ("privacy_url", "https://" + "a" * 250 + ".example"),
        ("disclosure", "x" * 2001),
    ],
)
def test_an_invalid_setting_is_refused(field: str, value: str, client: FlaskClient, ada: User) -> None:
    path = send(client).location
    response = send(client, path, secret="", **SETTINGS | {field: value})
    assert response.status_code == 422
    assert f'id="{field}-error"' in response.text
    assert response.text.count('aria-invalid="true"') == 1
    assert the_partner().slug == "northgate-sohne"


def test_a_new_firm_leaves_bounced_addresses_out_and_the_page_says_what_counts(client: FlaskClient, ada: User) -> None:
    page = client.get(send(client).location).text
    assert the_partner().skip_bounced
    assert 'name="skip_bounced" value="1" checked' in page
    assert "Email Opt Out (HasOptedOutOfEmail) counts as well" in page


def test_settings_that_are_not_sent_keep_their_values(client: FlaskClient, ada: User) -> None:
    path = send(client).location
    send(client, path, secret="", **SETTINGS)
    send(client, "/admin/partners/northgate", secret="")
    assert the_partner().api_share_percent == 25
    assert not the_partner().keep_leads_with_advisor


def test_nothing_else_can_be_set(client: FlaskClient, ada: User) -> None:
    path = send(client, id="77", app_version="9", is_enabled="", public_id="x", deleted_at="2026-01-01").location
    partner = the_partner()
    assert partner.app_version == 1
    assert partner.is_enabled
    assert partner.id != 77
    assert client.get(path).status_code == 200


def test_a_slug_is_taken_once(client: FlaskClient, ada: User) -> None:
    make_partner(slug="northgate", url="https://b.my.salesforce.com")
    path = send(client).location
    for target in (path, "/admin/partners/new"):
        response = send(client, target, **SETTINGS | {"name": "Another"})
        assert response.status_code == 422
        assert "Another firm has this one already." in response.text


def test_a_firm_may_wait_for_its_own_admin(client: FlaskClient, ada: User) -> None:
    path = send(client, url="", key="", secret="").location
    assert not the_partner().is_set_up
    page = client.get(path).text
    assert "Now send the link" in page
    assert "No Salesforce address yet" in page
    assert "no address yet" in client.get("/admin/partners").text
    assert send(client, path).status_code == 303
    assert the_partner().is_ready


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["Broken", "Fjord", "Northgate Wealth", "Off"]),
        ("q=WEALTH", ["Northgate Wealth"]),
        ("q=FJORD.my", ["Fjord"]),
        ("q=%25", []),
        ("state=enabled", ["Broken", "Northgate Wealth"]),
        ("state=waiting", ["Fjord"]),
        ("state=attention", ["Broken"]),
        ("state=disabled", ["Off"]),
        ("state=nonsense&q=off", ["Off"]),
    ],
)
def test_the_list_is_searched_and_filtered(query: str, names: list[str], client: FlaskClient, ada: User) -> None:
    make_partner()
    make_partner(name="Fjord", url="https://fjord.my.salesforce.com", secret="")
    make_partner(name="Off", is_enabled=False)
    make_connection(make_advisor(make_partner(name="Broken")), status="needs_reconnect")
    page = client.get(f"/admin/partners?{query}").text
    assert [name for name in ("Broken", "Fjord", "Northgate Wealth", "Off") if f">{name}</a>" in page] == names


@pytest.mark.parametrize("path", ["/admin/partners/nobody", "/admin/partners/nobody/disable"])
def test_an_unknown_firm_is_not_found(path: str, client: FlaskClient, ada: User) -> None:
    assert client.open(path, method="POST").status_code == 404


def test_admin_pages_are_closed_to_advisors(app: Flask, client: FlaskClient) -> None:
    alice = make_advisor()
    assert alice.partner
    log_in(client, alice)
    tried = 0
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/admin"):
            path = rule.build({name: alice.partner.slug if name == "slug" else alice.id for name in rule.arguments})
            assert path
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                assert client.open(path[1], method=method).status_code == 403, rule
                tried += 1
    assert tried >= 7
    assert alice.partner.is_enabled
    assert "This page is for AdvisorStream admins" in client.get("/admin/partners").text


def test_a_text_that_may_be_empty_is_emptied(client: FlaskClient, ada: User) -> None:
    path = send(client).location
    send(client, path, secret="", **SETTINGS)
    send(client, "/admin/partners/northgate", secret="", **SETTINGS | {"privacy_url": "", "disclosure": "", "slug": ""})
    partner = the_partner()
    assert (partner.privacy_url, partner.disclosure, partner.slug) == ("", "", "northgate")


def test_no_limit_of_the_form_is_beyond_that_of_its_column() -> None:
    limits = {
        field.column: field.most for field in PartnerForm() if isinstance(field, Text) and field.column and field.most
    }
    assert limits
    for column, most in limits.items():
        assert most <= Partner.__table__.c[column].type.length, column


def test_titles_of_lists_say_the_search(client: FlaskClient, app: Flask) -> None:
    log_in(client, make_admin())
    assert "<title>Firms: “north” · AdvisorStream</title>" in client.get("/admin/partners?q=north").text
    assert "<title>Audit log: “ada” · AdvisorStream</title>" in client.get("/admin/audit?q=ada").text
