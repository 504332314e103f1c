"""From nothing to a synced advisor, as four people do it in their browsers: admin, Salesforce admin, admin again, advisor.

Prints how many clicks and fields it takes each of them, and how long the whole takes a script.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Page, expect

from orgsim import Org, Running, start
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, follow, inspect, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

KEY, SECRET, WRONG = "3MVG9handed.over", "C0FFEE5ECRET0123456789", "C0FFEE5ECRET0123456788"
PASSWORD = "seven quiet harbours"
PATIENCE_MS = 30_000

SEEDS = itertools.count(4711)


@dataclass
class CountedVisitor:
    """A person at a browser; their clicks and fields are counted."""

    page: Page
    clicks: int = 0
    fields: int = 0

    def click(self, name: str, role: str = "button") -> None:
        self._named(name, role).click()
        self.clicks += 1

    def follow(self, name: str, role: str = "button") -> None:
        """Click a link or button that leads to another page, and wait for it."""
        follow(self.page, self._named(name, role))
        self.clicks += 1

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)
        self.fields += 1

    def _named(self, name: str, role: str) -> Locator:
        return self.page.get_by_role(role, name=name).first  # type: ignore[arg-type]

    @property
    def effort(self) -> str:
        return f"{self.clicks} clicks, {self.fields} fields"


@pytest.fixture
def org(house: BrowserHouse) -> Iterator[Running]:
    # The house is shared by all browser tests: each org has Ids of its own, or its user would be connected already.
    made = Org(name="Handed Over", seed=next(SEEDS))
    made.register_app(KEY, SECRET, [house.config.callback_url])
    amara = made.add_user(name="Amara Okafor", username="amara@handed.example")
    for number in range(30):
        made.add_contact(amara, last_name=f"Lindström {number}", email=f"zoe.{number}@handed.example")
    with start(made) as running:
        yield running


def test_a_firm_is_set_up_and_its_first_advisor_synced(
    house: BrowserHouse, org: Running, open_page: OpenPage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without scripts it is part of the whole story."""
    began, firm = time.monotonic(), "Handed Over"

    ada = CountedVisitor(open_page(house, house.make_admin()))
    ada.page.goto(f"{house.url}/admin/partners")
    ada.follow("New firm", "link")
    ada.fill("Firm name", firm)
    ada.follow("Save")
    ada.fill("Name of the firm's Salesforce admin", "Henrik Sørensen")
    ada.fill("Their email", "henrik@handed.example")
    ada.follow("Send setup link")
    setup_url = ada.page.get_by_label("For henrik").input_value()
    inspect(ada.page, "setup-link")
    ada.follow("Done", "link")

    henrik = CountedVisitor(open_page(house, is_logged_in=False))
    henrik.page.goto(setup_url)
    inspect(henrik.page, "partner-setup")
    henrik.follow("Next: enter key and secret", "link")
    henrik.fill("Salesforce URL", org.url)
    henrik.fill("Consumer Key", KEY)
    henrik.fill("Consumer Secret", WRONG)
    henrik.follow("Check and save")
    expect(henrik.page.get_by_role("heading", name="Salesforce refused the secret")).to_be_visible()
    expect(henrik.page.locator("[data-check=secret]")).to_contain_text("invalid client credentials")
    expect(henrik.page.get_by_label("Consumer Key")).to_have_value(KEY)
    expect(henrik.page.get_by_label("Consumer Secret")).to_have_value("")
    inspect(henrik.page, "partner-setup-keys")
    henrik.fill("Consumer Secret", SECRET)
    henrik.follow("Check and save")
    expect(henrik.page.get_by_role("heading", name="Your org is ready")).to_be_visible()
    inspect(henrik.page, "partner-setup-done")
    henrik.page.goto(setup_url)
    expect(henrik.page.get_by_role("heading", name="This link no longer works")).to_be_visible()

    ada.page.reload()
    expect(ada.page.get_by_role("main")).to_contain_text("Henrik Sørensen used it")
    expect(ada.page.locator("[data-check=secret]")).to_have_class("good")
    inspect(ada.page, "partner-set-up")
    ada.follow("Advisors (0)", "link")
    ada.fill("Name", "Amara Okafor")
    ada.fill("Email", "amara@handed.example")
    ada.follow("Invite")
    invitation_url = ada.page.get_by_label("For amara").input_value()
    ada.follow("Done", "link")
    inspect(ada.page, "advisors")

    amara = CountedVisitor(open_page(house, is_logged_in=False))
    amara.page.goto(invitation_url)
    inspect(amara.page, "set-password")
    amara.fill("Password", PASSWORD)
    amara.follow("Set password and log in")
    amara.click("Connect Account")
    amara.page.locator("button[name=as]").first.click()
    amara.clicks += 1
    amara.page.locator("[name=save]").click()
    amara.clicks += 1
    amara.click("Sync Account")
    expect(amara.page.get_by_role("main")).to_contain_text("Sync complete", timeout=PATIENCE_MS)
    expect(amara.page.get_by_role("main")).to_contain_text("30")

    ada.page.goto(f"{house.url}/admin/partners")
    follow(ada.page, ada.page.get_by_role("link", name=firm))
    for code in ("host", "key", "secret", "callback", "pkce", "scopes", "api", "opt_out", "lead", "allowance"):
        expect(ada.page.locator(f"[data-check={code}]")).to_have_class("good")
    inspect(ada.page, "partner-all-good")
    with capsys.disabled():
        took_s = time.monotonic() - began
        print(  # noqa: T201 - what the test is for
            f"\nadmin {ada.effort}; Salesforce admin {henrik.effort}; advisor {amara.effort}; {took_s:.0f} s"
        )


def test_what_an_address_becomes_is_shown_while_typing(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}/admin/partners/new")
    wait_until(page, "window.htmx")
    page.get_by_label("Salesforce URL").press_sequentially("fjord--uat.sandbox.lightning.force.com")
    expect(page.locator("#becomes")).to_have_text(
        "Will be stored as https://fjord--uat.sandbox.my.salesforce.com, a sandbox."
    )
    page.get_by_label("Salesforce URL").fill("https://example.com")
    expect(page.locator("#becomes")).to_contain_text("That is not a Salesforce address.")


def test_what_an_address_becomes_is_shown_without_scripts(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, house.make_admin(), Htmx.NO_SCRIPTS)
    page.goto(f"{house.url}/admin/partners/new")
    page.get_by_label("Firm name").fill("Fjord")
    page.get_by_label("Salesforce URL").fill("fjord.lightning.force.com")
    follow(page, page.get_by_role("button", name="Show what the URL becomes"))
    expect(page.locator("#becomes")).to_contain_text("https://fjord.my.salesforce.com, a production org")
    expect(page.get_by_label("Firm name")).to_have_value("Fjord")


def test_a_firm_is_deleted_by_its_name(house: BrowserHouse, org: Running, open_page: OpenPage) -> None:
    page = open_page(house, house.make_admin())
    page.goto(f"{house.url}/admin/partners/new")
    page.get_by_label("Firm name").fill("Short Lived")
    follow(page, page.get_by_role("button", name="Save"))
    inspect(page, "partner-waiting")
    follow(page, page.get_by_role("link", name="Delete this firm…"))
    follow(page, page.get_by_role("button", name="Delete Short Lived"))
    expect(page.get_by_label("Type the firm's name")).to_be_focused()
    inspect(page, "partner-delete")
    page.get_by_label("Type the firm's name").fill("Short Lived")
    follow(page, page.get_by_role("button", name="Delete Short Lived"))
    expect(page.get_by_role("main")).to_contain_text("Short Lived is deleted, with all its data.")


def test_a_forgotten_password_is_asked_for(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, is_logged_in=False)
    page.goto(f"{house.url}/login")
    inspect(page, "login")
    follow(page, page.get_by_role("link", name="Forgot your password?"))
    inspect(page, "forgot")
    page.get_by_label("Email").fill("nobody@handed.example")
    follow(page, page.get_by_role("button", name="Send the link"))
    expect(page.get_by_role("main")).to_contain_text("a link is on its way")
    inspect(page, "forgot-sent")
    page.goto(f"{house.url}/password/never-was")
    inspect(page, "password-gone")
