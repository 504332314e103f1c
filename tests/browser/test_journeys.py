"""How many clicks it takes, from where the log-in lands, to do what people do most: none may get longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from playwright.sync_api import Locator, Page, expect

from asapp.contacts import lists
from asapp.core.clock import utcnow
from asapp.models import Visit
from tests.browser.conftest import CLIENTS, OpenPage
from tests.browser.house import Firm
from tests.browser.looking import PHONE
from tests.factories import save

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LEAVING = 12
BLINK_MS = 2100  # a form that is filled in faster is asked about once more


@dataclass
class Walk:
    """A person in a browser. clicks, fields: what was pressed and typed so far."""

    firm: Firm
    page: Page
    clicks: int = 0
    fields: int = 0

    def press(self, control: Locator) -> None:
        control.click()
        self.clicks += 1

    def link(self, name: str) -> None:
        self.press(self.page.get_by_role("link", name=name, exact=True))

    def button(self, name: str) -> None:
        self.press(self.page.get_by_role("button", name=name, exact=True))

    def tick(self, number: int) -> None:
        self.press(self.page.locator("#people .tick input").nth(number))

    def write(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)
        self.fields += 1

    def sees(self, words: str) -> None:
        expect(self.page.get_by_role("main")).to_contain_text(words, timeout=20_000)

    @property
    def took(self) -> tuple[int, int]:
        return self.clicks, self.fields


@pytest.fixture
def walk(synced: Firm, open_page: OpenPage) -> Walk:
    page = open_page(synced)
    page.goto(synced.url("/"))
    return Walk(synced, page)


def test_a_sync_is_one_click_from_the_log_in(walk: Walk) -> None:
    walk.button("Sync Account")
    walk.sees("Sync complete")
    assert walk.took == (1, 0)


def test_what_has_changed_since_yesterday_is_seen_without_a_click(synced: Firm, open_page: OpenPage) -> None:
    with synced.house.rows():
        save(Visit(user_id=synced.advisor_id, seen_at=utcnow(), last_ended_at=utcnow() - timedelta(days=1)))
    page = open_page(synced)
    page.goto(synced.url("/"))
    walk = Walk(synced, page)
    walk.sees("Since your last visit")
    walk.sees(f"{CLIENTS} added")
    assert walk.took == (0, 0)


def test_why_someone_is_missing_takes_a_name_and_a_click(walk: Walk) -> None:
    walk.write("Name or email", "Nora Nomail")
    walk.link("Why isn't “Nora Nomail” here?")
    walk.sees("Nora Nomail has no email address in Salesforce")
    assert walk.took == (1, 1)


def test_a_held_sync_finds_the_advisor_and_takes_two_clicks(walk: Walk) -> None:
    for salesforce_id in walk.firm.ids[:LEAVING]:
        walk.firm.org.give(salesforce_id, walk.firm.jonas)
    assert walk.firm.sync().is_held
    walk.page.goto(walk.firm.url("/"))
    walk.link(f"Review {LEAVING}")
    walk.button(f"Approve: switch off {LEAVING}")
    walk.sees(f"{LEAVING} made inactive")
    assert walk.took == (2, 0)


def test_a_new_list_with_two_people_takes_five_clicks(walk: Walk) -> None:
    with walk.firm.house.rows():
        lists.create_list(walk.firm.advisor_id, "Autumn letter")
    walk.link("New list")
    walk.write("Name of the list", "Spring letter")
    walk.button("Make the list")
    walk.tick(0)
    walk.tick(1)
    walk.button("Add to list")
    walk.sees("2 contacts added to “Spring letter”.")
    assert walk.took == (5, 1)


def delete(page: Page) -> None:
    page.get_by_role("link", name="Zoë Lindström 000", exact=True).click()
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete 1 contact here").click()


def test_a_deleted_contact_comes_back_by_one_click_or_later_by_three(walk: Walk) -> None:
    delete(walk.page)
    walk.button("Undo")
    walk.sees("1 contact restored, with all lists.")
    assert walk.took == (1, 0)
    delete(walk.page)
    walk.page.goto(walk.firm.url("/"))
    later = Walk(walk.firm, walk.page)
    later.press(later.page.get_by_role("link", name="Deleted here"))
    later.tick(0)
    later.button("Restore")
    later.sees("1 contact restored.")
    assert later.took == (3, 0)


def test_the_page_is_shared_by_two_clicks_and_embedded_by_four(walk: Walk) -> None:
    walk.link("Leads")
    walk.button("Copy link")
    assert walk.took == (2, 0)
    walk.page.goto(walk.firm.url("/"))
    embed = Walk(walk.firm, walk.page)
    embed.link("Leads")
    embed.press(embed.page.get_by_text("Put it on your own site"))
    embed.write("Sites that may show the form", "www.amara.example")
    embed.button("Save the sites")
    embed.button("Copy snippet")
    assert "<iframe src=" in embed.page.get_by_label("Paste this where the form should appear").input_value()
    assert embed.took == (4, 1)


def test_a_firm_and_its_setup_link_take_an_admin_three_clicks_and_an_invitation_three_more(
    firm: Firm, open_page: OpenPage
) -> None:
    page = open_page(firm.house, firm.house.make_admin())
    page.goto(firm.url("/"))
    walk = Walk(firm, page)
    walk.link("New firm")
    walk.write("Firm name", "Fjord Wealth")
    walk.button("Save")
    walk.write("Name of the firm's Salesforce admin", "Henrik Sørensen")
    walk.write("Their email", "henrik@fjord.example")
    walk.button("Send setup link")
    walk.sees("The setup link is ready")
    assert walk.took == (3, 3)
    walk.link("Done")
    walk.link("Advisors (0)")
    walk.write("Name", "Mei-Ling Chou")
    walk.write("Email", f"mei.{firm.slug}@fjord.example")
    walk.button("Invite")
    walk.sees("The invitation is ready")
    assert walk.took == (6, 5)


def test_an_advisor_is_deactivated_by_two_clicks_on_the_firms_page(firm: Firm, open_page: OpenPage) -> None:
    page = open_page(firm.house, firm.house.make_admin())
    page.goto(firm.url(f"/admin/partners/{firm.slug}/advisors"))
    walk = Walk(firm, page)
    walk.press(page.get_by_role("link", name="Deactivate…"))
    walk.press(page.get_by_role("button", name="Deactivate"))
    walk.sees("is deactivated, logged out everywhere")
    assert walk.took == (2, 0)


def test_a_visitor_signs_up_by_two_clicks_on_a_phone(walk: Walk, open_page: OpenPage) -> None:
    walk.link("Leads")
    visitor = open_page(walk.firm, is_logged_in=False)
    visitor.set_viewport_size(PHONE)  # type: ignore[arg-type]
    visitor.goto(walk.page.get_by_label("Link", exact=True).input_value())
    signing = Walk(walk.firm, visitor)
    for label, text in (("First name", "Mei-Ling"), ("Last name", "Chou"), ("Email", "mei.chou@clients.example")):
        signing.write(label, text)
    signing.press(visitor.get_by_role("checkbox"))
    visitor.wait_for_timeout(BLINK_MS)
    signing.button("Sign up")
    signing.sees("You're signed up for emails from")
    assert signing.took == (2, 3)
