"""Contacts in the browser: search, pages, adding, lists, delete and restore, "Why isn't this person here?"."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from asapp.contacts import lists
from tests.browser.conftest import OpenPage
from tests.browser.house import Firm
from tests.browser.looking import PHONE, Htmx, follow, inspect, take_picture

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CLIENTS = 60


@pytest.fixture
def synced(firm: Firm) -> Firm:
    """Sync 60 contacts, and some that are inactive, each for a reason."""
    firm.fill(CLIENTS)
    firm.org.add_contact(
        firm.amara, first_name="W" * 40, last_name="X" * 80, email="the.longest.name@household.example"
    )
    for given in ("Ann", "Bert"):
        firm.org.add_contact(firm.amara, first_name=given, last_name="Abernathy", email="the.family@household.example")
    twin = {"first_name": "Cleo", "last_name": "Castellanos", "email": "twins@household.example"}
    firm.org.add_contact(firm.amara, **twin)
    firm.org.add_contact(firm.amara, **twin, opted_out=True)
    firm.connect()
    assert firm.sync().is_complete
    firm.org.opt_out(firm.ids[0])
    firm.org.delete(firm.ids[1])
    firm.org.give(firm.ids[2], firm.jonas)
    assert firm.sync().is_complete
    return firm


def main(page: Page, *words: str) -> None:
    for each in words:
        expect(page.get_by_role("main")).to_contain_text(each)


@pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS], ids=["htmx", "no scripts"])
def test_search_filter_and_pages(synced: Firm, open_page: OpenPage, htmx: Htmx) -> None:
    page = open_page(synced, htmx=htmx)
    page.goto(synced.url("/contacts"))
    main(page, "64 people. You can email 60 of them; 4 are inactive", "1 to 50 of 64")
    if htmx.loads:
        inspect(page, "contacts-with-reasons")
        page.wait_for_timeout(300)
    page.get_by_role("link", name="Next").click()
    main(page, "51 to 64 of 64")
    page.go_back()
    main(page, "1 to 50 of 64")
    page.get_by_label("Name or email").fill("lindström 007")
    if not htmx.loads:
        page.get_by_role("button", name="Search").click()
    expect(page.locator("#people tbody tr")).to_have_count(1)
    expect(page.locator("#people tbody tr")).to_contain_text("zoe.7@fjord.example")
    page.get_by_label("Name or email").fill("")
    page.get_by_text("Filters and tools").click()
    page.get_by_label("Status").select_option(label="Inactive")
    if not htmx.loads:
        page.get_by_role("button", name="Search").click()
    expect(page.locator("#people tbody tr")).to_have_count(4)
    rows = page.locator("#people tbody")
    for reason in (
        "Opted out of email",
        "Deleted in Salesforce",
        "Belongs to someone else",
        "Opted out under another",
    ):
        expect(rows).to_contain_text(reason)
    if htmx.loads:
        inspect(page, "contacts-inactive")
    page.get_by_label("Name or email").fill("nobody at all")
    if not htmx.loads:
        page.get_by_role("button", name="Search").click()
    main(page, "No contact matches that.")


def test_ticked_boxes_stay_ticked_while_pages_are_turned(synced: Firm, open_page: OpenPage) -> None:
    with synced.house.rows():
        lists.create_list(synced.advisor_id, "Autumn letter")
    page = open_page(synced)
    page.goto(synced.url("/contacts"))
    boxes, elsewhere = page.locator("#people .tick input"), page.locator("[data-elsewhere]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    expect(elsewhere).to_be_hidden()
    page.get_by_role("link", name="Next").click()
    main(page, "51 to 64 of 64")
    expect(elsewhere).to_have_text("2 more ticked on other pages. Untick them")
    inspect(page, "contacts-ticked-elsewhere")
    boxes.nth(0).check()
    page.get_by_role("link", name="Previous").click()
    main(page, "1 to 50 of 64")
    expect(boxes.nth(0)).to_be_checked()
    expect(elsewhere).to_contain_text("1 more ticked")
    boxes.nth(0).uncheck()
    page.go_back()  # the page as htmx had kept it
    main(page, "51 to 64 of 64")
    expect(boxes.nth(0)).to_be_checked()
    expect(elsewhere).to_contain_text("1 more ticked")
    page.get_by_label("List", exact=True).last.select_option(label="Autumn letter")
    follow(page, page.get_by_role("button", name="Add to list"))
    main(page, "2 contacts added to “Autumn letter”.")
    boxes.nth(0).check()
    page.get_by_role("link", name="Previous").click()
    main(page, "1 to 50 of 64")
    page.get_by_role("button", name="Untick them").click()
    expect(elsewhere).to_be_hidden()
    expect(page.get_by_role("button", name="Delete…")).to_be_hidden()


def test_a_phone_shows_the_first_contact_on_the_first_screen(synced: Firm, open_page: OpenPage) -> None:
    page = open_page(synced)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(synced.url("/contacts"))
    first = page.get_by_role("rowheader").first.bounding_box()
    assert first
    assert first["y"] + first["height"] <= PHONE["height"]
    expect(page.get_by_role("button", name="Delete…")).to_be_hidden()
    page.get_by_role("checkbox").first.check()
    expect(page.get_by_role("button", name="Delete…")).to_be_in_viewport()
    take_picture(page, "contacts-ticked-390")
    page.get_by_label("List", exact=True).select_option(label="Salesforce Contacts (62)")
    follow(page, page.get_by_role("button", name="Show"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Salesforce Contacts")


def test_by_hand_and_on_a_list(synced: Firm, open_page: OpenPage) -> None:
    page = open_page(synced)
    page.goto(synced.url("/contacts"))
    page.get_by_text("Filters and tools").click()
    follow(page, page.get_by_role("link", name="Add contact"))
    inspect(page, "contact-new")
    page.get_by_label("Last name").fill("Ólafsdóttir")
    page.get_by_label("Email").fill("not an address")
    follow(page, page.get_by_role("button", name="Add contact"))
    expect(page.get_by_label("Email")).to_be_focused()
    expect(page.get_by_label("Last name")).to_have_value("Ólafsdóttir")
    inspect(page, "contact-refused")
    page.get_by_label("Email").fill("olafsdottir@fjord.example")
    follow(page, page.get_by_role("button", name="Add contact"))
    main(page, "Ólafsdóttir")
    inspect(page, "contact-by-hand")
    page.goto(synced.url("/contacts"))
    follow(page, page.get_by_role("link", name="New list"))
    inspect(page, "list-new")
    page.get_by_label("Name").fill("Spring letter")
    follow(page, page.get_by_role("button", name="Make the list"))
    main(page, "The list “Spring letter” was added")
    page.goto(synced.url("/contacts?q=lindström+01"))
    for box in page.get_by_role("checkbox").all():
        box.check()
    follow(page, page.get_by_role("button", name="Add to list"))
    main(page, "11 contacts added to “Spring letter”.")
    follow(page, page.get_by_role("link", name="Spring letter"))
    main(page, "11 people. You can email 10 of them")
    inspect(page, "list-own")
    follow(page, page.get_by_role("link", name="Rename or delete"))
    inspect(page, "list-edit")


def test_delete_and_restore_a_salesforce_contact(synced: Firm, open_page: OpenPage) -> None:
    page = open_page(synced)
    page.goto(synced.url("/contacts?q=lindström+010"))
    follow(page, page.get_by_role("link", name="Zoë Lindström 010", exact=True))
    main(page, "Read-only here")
    inspect(page, "contact-from-salesforce")
    follow(page, page.get_by_role("link", name="Delete…"))
    main(page, "Nothing is deleted in Salesforce")
    inspect(page, "contact-delete")
    follow(page, page.get_by_role("button", name="Delete"))
    assert synced.sync().is_complete
    follow(page, page.get_by_role("link", name="Deleted here"))
    expect(page.locator("#people tbody tr")).to_have_count(1)
    inspect(page, "contacts-deleted-here")
    follow(page, page.get_by_role("link", name="Zoë Lindström 010", exact=True))
    inspect(page, "contact-deleted-here")
    follow(page, page.get_by_role("button", name="Restore"))
    main(page, "You can email")
    assert not synced.org.contact(synced.ids[10])["IsDeleted"]  # type: ignore[index]


def test_why_is_this_person_not_here(synced: Firm, open_page: OpenPage) -> None:
    page = open_page(synced)
    page.goto(synced.url("/contacts/why"))
    for person, verdict in (
        ("zoe.5@fjord.example", "Zoë Lindström 005 is here"),
        ("otto@fjord.example", "has opted out of email"),
        ("carl@fjord.example", "belongs to Jonas Lindqvist"),
        ("twins@household.example", "has opted out under another record"),
        (synced.ids[1], "was deleted in Salesforce"),
        ("nobody@nowhere.example", "Salesforce shows you no such contact"),
    ):
        page.get_by_label("Name, email, or Salesforce Id or link").fill(person)
        page.get_by_role("button", name="Find out").click()
        expect(page.locator("#verdict")).to_contain_text(verdict)
    inspect(page, "why-not-visible")
