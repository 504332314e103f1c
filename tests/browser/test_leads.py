"""Somebody signs up, becomes a lead within seconds, and the advisor sees what became of them; all with and without scripts."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from asapp.extensions import db
from asapp.models import Lead
from tests.browser.conftest import OpenPage
from tests.browser.house import Firm
from tests.browser.looking import Htmx, follow, inspect

pytestmark = pytest.mark.browser

BLINK_MS = 2100  # what a person needs at least; a form that is faster is asked to look again


def address_of(page: Page, firm: Firm) -> str:
    page.goto(firm.url("/leads"))
    link = page.get_by_role("main").get_by_role("link", name="/o/").get_attribute("href")
    assert link
    return link


def sign_up(page: Page, address: str, first_name: str, last_name: str, email: str) -> None:
    page.goto(address)
    page.get_by_label("First name").fill(first_name)
    page.get_by_label("Last name").fill(last_name)
    page.get_by_label("Email").fill(email)
    page.get_by_role("checkbox").check()
    page.wait_for_timeout(BLINK_MS)
    follow(page, page.get_by_role("button", name="Sign up"))


def leads_of(firm: Firm) -> list[Lead]:
    with firm.house.rows():
        leads = db.session.query(Lead).filter_by(user_id=firm.advisor_id).all()
        db.session.expunge_all()
        return leads


@pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS], ids=["htmx", "no scripts"])
def test_from_the_sign_up_page_to_salesforce(firm: Firm, open_page: OpenPage, htmx: Htmx) -> None:
    firm.connect()
    page, visitor = open_page(firm, htmx=htmx), open_page(firm, htmx=htmx, is_logged_in=False)
    address = address_of(page, firm)

    visitor.goto(address)
    if htmx.loads:
        inspect(visitor, "sign-up")
    visitor.get_by_label("First name").fill("Mei-Ling")
    visitor.get_by_label("Email").fill("mei.chou@")
    visitor.wait_for_timeout(BLINK_MS)
    follow(visitor, visitor.get_by_role("button", name="Sign up"))
    expect(visitor.get_by_role("alert")).to_contain_text("3 things need another look")
    expect(visitor.get_by_label("First name")).to_have_value("Mei-Ling")
    if htmx.loads:
        inspect(visitor, "sign-up-refused")
    sign_up(visitor, address, "Mei-Ling", "Chou", "mei.chou@harbour.example")
    expect(visitor.get_by_role("heading", level=1)).to_have_text("Thank you")
    if htmx.loads:
        inspect(visitor, "sign-up-thanks")
    assert visitor.context.cookies() == []

    for _ in range(40):
        if firm.org.leads():
            break
        page.wait_for_timeout(250)
    assert [lead["Email"] for lead in firm.org.leads(firm.amara)] == ["mei.chou@harbour.example"]
    page.goto(firm.url("/leads"))
    expect(page.locator("#people tbody tr")).to_contain_text("Sent")
    follow(page, page.get_by_role("link", name="Mei-Ling Chou", exact=True))
    expect(page.get_by_role("main")).to_contain_text("Consent history")
    if htmx.loads:
        inspect(page, "contact-with-consent")


def test_what_became_of_the_leads(firm: Firm, open_page: OpenPage) -> None:
    firm.connect()
    page, visitor = open_page(firm), open_page(firm, is_logged_in=False)
    page.goto(firm.url("/leads"))
    inspect(page, "leads-empty")
    address = address_of(page, firm)
    firm.org.change_settings(required_fields={"Lead": ["Phone"]})
    sign_up(visitor, address, "Daniel", "Abubakar", "d.abubakar@savanna.example")
    contact = firm.org.add_contact(firm.amara, first_name="Karim", last_name="Benali", email="karim@poste.example")
    sign_up(visitor, address, "Karim", "B.", "karim@poste.example")
    sign_up(visitor, address, "W" * 40, "X" * 80, f"{'long' * 12}@household.example")
    for _ in range(40):
        if all(not lead.is_undelivered for lead in leads_of(firm)):
            break
        page.wait_for_timeout(250)
    assert contact

    page.goto(firm.url("/leads"))
    expect(page.get_by_role("main")).to_contain_text("Your firm requires “Phone” on every lead")
    page.locator("details", has_text="Put it on your own site").locator("summary").click()
    inspect(page, "leads")
    page.get_by_label("What became of it").select_option("linked")
    expect(page.locator("#people tbody tr")).to_have_count(1)
    expect(page.locator("#people tbody tr")).to_contain_text("Karim")
    firm.org.change_settings(required_fields={})
    page.goto(firm.url("/leads"))
    follow(page, page.get_by_role("button", name="Retry all 2 refused"))
    expect(page.get_by_role("main")).to_contain_text("2 leads on the way again.")
    for _ in range(40):
        if len(firm.org.leads()) == 2:
            break
        page.wait_for_timeout(250)
    assert len(firm.org.leads()) == 2

    follow(page, page.get_by_role("link", name="Change its words"))
    page.get_by_label("Heading").fill("")
    follow(page, page.get_by_role("button", name="Save"))
    inspect(page, "leads-words-refused")
    page.get_by_label("Heading").fill("Money matters, twice a month")
    follow(page, page.get_by_role("button", name="Save"))
    expect(page.get_by_role("main")).to_contain_text("version 2")

    page.goto(firm.url("/leads?q=karim"))
    follow(page, page.locator("#people").get_by_role("link", name="Karim B.", exact=True))
    follow(page, page.get_by_role("link", name="Erase…"))
    inspect(page, "erase")
    follow(page, page.get_by_role("button", name="Erase for good"))
    expect(page.get_by_role("main")).to_contain_text("Erased.")
