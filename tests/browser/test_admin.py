"""Pages of admins, of advisors whose firm isn't set up, and error pages."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from asapp.core.extensions import db
from asapp.models import User
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse, Firm
from tests.browser.looking import follow, inspect
from tests.factories import make_advisor, make_partner

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_an_admin_sets_a_partner_up(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}/admin/partners/new")
    inspect(page, "partner-new")
    page.get_by_label("Firm name").fill("Fjord Advisors")
    page.get_by_label("Salesforce URL").fill("https://fjord.example.com/")
    page.get_by_label("Consumer Key").fill("3MVG9fjord")
    page.get_by_label("Consumer Secret").fill("ABCDEF0123456789")
    follow(page, page.get_by_role("button", name="Save"))
    expect(page.get_by_label("Salesforce URL")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Salesforce URL")).to_be_focused()
    expect(page.get_by_label("Firm name")).to_have_value("Fjord Advisors")
    expect(page.get_by_label("Consumer Secret")).to_have_value("")
    inspect(page, "partner-refused")
    page.get_by_label("Salesforce URL").fill("https://fjord-dev-ed.develop.lightning.force.com/lightning/page/home")
    page.get_by_label("Consumer Secret").fill("ABCDEF0123456789")
    follow(page, page.get_by_role("button", name="Save"))
    expect(page.get_by_role("main")).to_contain_text("https://fjord-dev-ed.develop.my.salesforce.com")
    assert "ABCDEF0123456789" not in page.content()
    inspect(page, "partner")
    page.goto(f"{house.url}/admin/partners")
    expect(page.get_by_role("row", name="Fjord Advisors")).to_be_visible()
    inspect(page, "partners")


def test_an_advisor_of_a_firm_that_is_not_set_up(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        advisor_id = make_advisor(make_partner("Fresh Firm", key="", secret="")).id
    page = open_page(house, advisor_id)
    page.goto(f"{house.url}/settings")
    expect(page.get_by_role("link", name="Integrations")).to_have_count(0)
    inspect(page, "settings-not-set-up")
    page.goto(f"{house.url}/contacts")
    inspect(page, "contacts-not-set-up")


def test_settings_and_security(firm: Firm, open_page: OpenPage) -> None:
    page = open_page(firm)
    page.goto(firm.url("/settings"))
    inspect(page, "settings")
    page.goto(firm.url("/settings/security"))
    follow(page, page.get_by_role("button").last)
    inspect(page, "security-refused")


def test_error_pages(firm: Firm, open_page: OpenPage) -> None:
    page = open_page(firm)
    for path, status, words in (("/admin/partners", 403, "Error 403"), ("/nowhere", 404, "Error 404")):
        answer = page.goto(firm.url(path))
        assert answer
        assert answer.status == status
        expect(page.get_by_role("main")).to_contain_text(words)
        expect(page.get_by_role("link", name="Go to the start page")).to_be_visible()
        inspect(page, f"error-{status}")


def test_history_and_receipts(firm: Firm, open_page: OpenPage) -> None:
    firm.fill(30)
    firm.connect()
    assert firm.sync().is_complete
    firm.org.opt_out(firm.ids[0])
    firm.org.update_contact(firm.ids[1], last_name="Renamed")
    firm.org.delete(firm.ids[2])
    run = firm.sync()
    page = open_page(firm)
    page.goto(firm.url("/settings/integrations/runs"))
    inspect(page, "runs")
    page.goto(firm.url(f"/settings/integrations/runs/{run.id}"))
    expect(page.get_by_role("main")).to_contain_text("Renamed")
    inspect(page, "receipt")
    with firm.house.rows():
        assert db.session.get_one(User, firm.advisor_id).name in page.content()
