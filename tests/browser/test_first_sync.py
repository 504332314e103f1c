"""The main job, as an advisor does it: log in, connect, sync, see the contacts. With htmx and without."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.house import Firm
from tests.browser.looking import Htmx, follow, inspect, take_picture
from tests.factories import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CONTACTS = 450


@pytest.mark.parametrize("htmx", Htmx, ids=lambda each: each.name.lower())
def test_from_log_in_to_the_contacts(firm: Firm, open_page: OpenPage, htmx: Htmx) -> None:
    firm.fill(CONTACTS)
    page = open_page(firm, htmx=htmx, is_logged_in=False)
    look = inspect if htmx is Htmx.CDN else lambda page, name: None
    started_at = time.monotonic()
    page.goto(firm.url("/contacts"))
    assert time.monotonic() - started_at < 2
    look(page, "log-in")
    log_in(page, firm)
    expect(page.get_by_role("heading", level=1)).to_have_text("Contacts")
    look(page, "contacts-not-connected")
    follow(page, page.get_by_role("link", name="Account Settings"))
    follow(page, page.get_by_role("link", name="Integrations"))
    look(page, "integrations-folded")
    page.locator("#salesforce-toggle").click()
    connect = page.get_by_role("button", name="Connect Account")
    expect(connect).to_be_visible()
    look(page, "panel-ready")
    connect.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in to Northgate Wealth")
    look(page, "org-log-in")
    follow(page, page.get_by_role("button", name="Log in as Amara Okafor"))
    look(page, "org-allow")
    follow(page, page.get_by_role("button", name="Allow"))
    expect(page.get_by_role("status")).to_contain_text("Connected")
    expect(page.get_by_role("main")).to_contain_text("amara@northgate.example")
    expect(page.get_by_role("main")).to_contain_text("Northgate Wealth")
    if htmx.loads:
        expect(page.locator("#preview")).to_contain_text("450 ready to be emailed")
    look(page, "panel-connected")
    sync(page, firm, htmx)
    look(page, "panel-complete")
    follow(page, page.get_by_role("link", name="Contacts", exact=True))
    expect(page.get_by_role("main")).to_contain_text(f"1 to 50 of {CONTACTS}")
    expect(page.get_by_role("row")).to_have_count(51)
    look(page, "contacts")


def log_in(page: Page, firm: Firm) -> None:
    page.get_by_label("Email").fill(firm.email)
    page.get_by_label("Password").fill(PASSWORD)
    follow(page, page.get_by_role("button", name="Log in"))


def sync(page: Page, firm: Firm, htmx: Htmx) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/integrations" in request.url else None)
    with firm.held_pages() as release:
        page.get_by_role("button", name="Sync Account").click()
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "200", timeout=15_000)
        assert page.get_by_role("progressbar").get_attribute("max") == str(CONTACTS + 2)
        expect(page.locator("#salesforce")).to_have_attribute("data-state", "running")
        if htmx is Htmx.CDN:
            inspect(page, "panel-syncing")
        elif htmx is Htmx.NO_SCRIPTS:
            take_picture(page, "panel-syncing-without-scripts")
        release.set()
        expect(page.get_by_role("status")).to_contain_text("Sync complete", timeout=15_000)
    expect(page.get_by_role("status")).to_contain_text("450 added")
    expect(page.locator("#salesforce")).to_have_attribute("data-state", "complete")
    expect(page.get_by_role("progressbar")).to_have_count(0)
    if htmx.loads:
        number = len(asked)
        page.wait_for_timeout(2600)
        assert len(asked) == number, "the page goes on asking"
    else:
        assert "reload-every" not in page.content()
