"""Lists from Salesforce in the browser: looked into, chosen, filled, changed and frozen; with scripts and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.house import Firm
from tests.browser.looking import Htmx, inspect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PARTNERS = {"field": "Title", "operator": "equals", "values": ["'Partner'"]}
DIRECTORS = {"field": "Title", "operator": "equals", "values": ["'Director'"]}


@pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS], ids=["htmx", "no scripts"])
def test_lists_from_salesforce(firm: Firm, open_page: OpenPage, htmx: Htmx) -> None:
    org, looks = firm.org, htmx.loads
    firm.fill(12)
    for number, contact in enumerate(firm.ids):
        org.update_contact(contact, Title="Partner" if number < 7 else "Director")
    org.opt_out(firm.ids[6])
    view = org.add_list_view("Contact", "Partners of the firm", where=PARTNERS)
    org.add_list_view("Contact", "All Contacts")
    org.add_list_view("Contact", "Queue: unassigned", soql_compatible=False)
    seminar = org.add_campaign(firm.amara, "Spring seminar", Status="In Progress")
    org.add_members(seminar, firm.ids[5:9])
    firm.connect()
    assert firm.sync().is_complete
    page = open_page(firm, htmx=htmx)
    page.goto(firm.url("/contacts"))
    page.get_by_role("link", name="Lists from Salesforce").first.click()
    if not htmx.loads:
        page.get_by_role("link", name="Ask Salesforce for your lists").click()
    expect(page.get_by_role("table", name="List views and campaigns")).to_contain_text("Spring seminar")
    page.get_by_role("link", name="Look inside All Contacts").click()
    expect(page.locator("#look")).to_contain_text("has no filter. It holds everybody")
    if looks:
        inspect(page, "salesforce-lists-everybody")
        page.wait_for_timeout(300)
    page.get_by_role("link", name="Look inside Partners of the firm").click()
    expect(page.locator("#look")).to_contain_text("6 people of yours would be on this list.")
    if looks:
        inspect(page, "salesforce-lists-look")
        page.wait_for_timeout(300)
    page.get_by_role("button", name="Use this list").click()
    expect(page.get_by_role("main")).to_contain_text("You use “Partners of the firm” now")
    firm.sync()
    page.reload()
    if not htmx.loads:
        page.get_by_role("link", name="Ask Salesforce for your lists").click()
    row = page.get_by_role("row", name="Partners of the firm").first
    expect(row).to_contain_text("Follows Salesforce")
    expect(row).to_contain_text("1 opted out")
    page.get_by_role("link", name="Look inside Spring seminar").click()
    page.get_by_role("button", name="Use this list").click()
    expect(page.get_by_role("main")).to_contain_text("You use “Spring seminar” now")
    org.change_list_view(view, where=DIRECTORS)
    org.delete_campaign(seminar)
    firm.sync()
    firm.sync()
    page.reload()
    expect(page.get_by_role("main")).to_contain_text("“Partners of the firm” was changed in Salesforce")
    expect(page.get_by_role("main")).to_contain_text("“Spring seminar” can't be found in Salesforce any more")
    if looks:
        expect(page.get_by_role("table", name="List views and campaigns")).to_contain_text("All Contacts")
        inspect(page, "salesforce-lists-changed-and-frozen")
        page.wait_for_timeout(300)
    page.get_by_role("link", name="Look inside Partners of the firm").first.click()
    page.get_by_role("button", name="5 is right").click()
    expect(page.get_by_role("main")).to_contain_text("follows its new filter")
    firm.sync()
    page.reload()
    expect(page.get_by_role("row", name="Partners of the firm").first).to_contain_text("5")
    page.get_by_role("navigation", name="Lists").get_by_role("link", name="Partners of the firm").click()
    expect(page.get_by_role("main")).to_contain_text("It follows a list view of Salesforce and is read-only here.")
    if looks:
        inspect(page, "contacts-on-a-salesforce-list")
