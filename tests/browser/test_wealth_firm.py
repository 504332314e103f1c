"""A wealth firm as it is: person accounts, open Leads, list views and campaigns, from set-up to lists and through changes.

Every number on the pages is compared with what this test made in the org.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from devtools.waiting import wait_for
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse, Firm
from tests.browser.looking import follow, inspect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PERSONS, OPEN_LEADS = 2000, 500
PARTNERS = {"field": "Title", "operator": "equals", "values": ["'Partner'"]}
DIRECTORS = {"field": "Title", "operator": "equals", "values": ["'Director'"]}


class Book(NamedTuple):
    """What a firm's advisor has in Salesforce. persons: (account, contact) of each."""

    persons: list[tuple[str, str]]
    leads: list[str]
    seminar: str
    dinner: str
    partners: str


def fill(firm: Firm) -> Book:
    """Add 2,000 persons, 100 opted out and 50 without an address, and 500 leads, 20 opted out."""
    org = firm.org
    org.use_person_accounts()
    persons = [
        org.add_person(
            firm.amara,
            first_name="Ann",
            last_name=f"Person {n:04}",
            email=None if n < 50 else f"ann.{n}@fjord.example",
            opted_out=50 <= n < 150,
            Title="Partner" if n % 10 == 0 else "Director",
        )
        for n in range(PERSONS)
    ]
    leads = [
        org.add_lead(
            firm.amara, first_name="Leo", last_name=f"Lead {n:03}", email=f"leo.{n}@fjord.example", opted_out=n < 20
        )
        for n in range(OPEN_LEADS)
    ]
    partners = org.add_list_view("Contact", "Partners", where=PARTNERS)
    org.add_list_view("Contact", "All Contacts")
    org.add_list_view("Contact", "Directors of Kent", where=DIRECTORS)
    org.add_list_view(
        "Lead", "Leo's leads", where={"field": "LastName", "operator": "lessThan", "values": ["'Lead 100'"]}
    )
    seminar, dinner = (org.add_campaign(firm.amara, name) for name in ("Spring seminar", "Client dinner"))
    org.add_members(seminar, [*(contact for _, contact in persons[1000:1300]), *leads[:40]])
    org.add_members(dinner, [contact for _, contact in persons[140:160]])
    return Book(persons, leads, seminar, dinner, partners)


def sync(page: Page, firm: Firm) -> None:
    """Press Sync Account once no run is under way (choosing a list starts one), and wait for the end of the new run."""

    def ended() -> int:
        runs = firm.runs()
        return 0 if any(run.is_active for run in runs) else len(runs) + 1

    before = wait_for(ended, "until no run is under way")
    page.goto(firm.url())
    page.get_by_role("button", name="Sync Account").click()
    wait_for(lambda: ended() > before, "for the end of the run")
    page.goto(firm.url())


def choose(page: Page, firm: Firm, name: str, said: str) -> None:
    """Look inside a list, see what it would bring, and use it."""
    page.goto(firm.url("/contacts/from-salesforce"))
    page.get_by_role("link", name=f"Look inside {name}", exact=True).click()
    expect(page.locator("#look")).to_contain_text(said)
    page.get_by_role("button", name="Use this list").click()
    expect(page.get_by_role("main")).to_contain_text(f"You use “{name}” now")


def open_lists(page: Page, firm: Firm) -> None:
    page.goto(firm.url("/contacts/from-salesforce"))
    expect(page.get_by_role("table", name="List views and campaigns")).to_contain_text("All Contacts")


def row_of(page: Page, table: str, name: str) -> str:
    """Return the texts of a row's cells, with one space between them."""
    found = page.get_by_role("table", name=table).get_by_role("row").filter(has_text=name).first.inner_text()
    return re.sub(r"\s+", " ", found).strip()


def expect_books(page: Page, contacts: str, leads: str) -> None:
    main = page.get_by_role("main")
    expect(main).to_contain_text(re.compile(spaced(contacts)))
    expect(main).to_contain_text(re.compile(spaced(leads)))
    expect(main).to_contain_text(
        "The books balance: every contact and open lead you own in Salesforce is accounted for."
    )


def spaced(text: str) -> str:
    """Return a pattern for a text whose words are in elements of their own."""
    return r"\s+".join(map(re.escape, text.split()))


def test_from_set_up_to_lists_and_through_changes(house: BrowserHouse, firm: Firm, open_page: OpenPage) -> None:
    book = fill(firm)
    admin = open_page(house, house.make_admin())
    admin.goto(firm.url(f"/admin/partners/{firm.slug}"))
    admin.get_by_label("Bring in open Leads too").check()
    follow(admin, admin.get_by_role("button", name="Save", exact=True))

    page = open_page(firm)
    page.goto(firm.url())
    page.get_by_role("button", name="Connect Account").click()
    page.get_by_role("button", name="Log in as Amara Okafor").click()
    follow(page, page.get_by_role("button", name="Allow"))
    expect(page.get_by_role("main")).to_contain_text("This org uses person accounts.")
    preview = page.locator("#preview")
    for line in (
        "2,000 in Salesforce and yours = 1,850 ready to be emailed + 100 opted out of email + 50 without an email address",
        "500 open leads, yours = 480 ready to be emailed + 20 opted out of email + 0 without an email address",
    ):
        expect(preview).to_contain_text(re.compile(spaced(line)))
    inspect(page, "wealth-connected")
    admin.reload()
    expect(admin.get_by_role("main")).to_contain_text(
        "This org uses person accounts. Links to a person lead to the account"
    )

    sync(page, firm)
    expect(page.get_by_role("main")).to_contain_text("2,330 added")
    expect_books(
        page,
        "2,000 in Salesforce and yours = 1,850 active here + 100 opted out of email + 50 without an email address",
        "500 open leads, yours = 480 active here + 20 opted out of email",
    )
    inspect(page, "wealth-synced")

    here = "people of yours would be on this list. More match in Salesforce but aren't here:"
    choose(page, firm, "Partners", f"185 {here} 10 opted out, 5 without an email address.")
    choose(page, firm, "Leo's leads", f"80 {here} 20 opted out.")
    choose(page, firm, "Directors of Kent", "1,665 people of yours would be on this list.")
    choose(page, firm, "Spring seminar", f"320 {here} 20 opted out.")
    choose(page, firm, "Client dinner", f"10 {here} 10 opted out.")
    sync(page, firm)
    open_lists(page, firm)
    used = "Lists from Salesforce that you use"
    follows = "Follows Salesforce"
    assert f"Partners List view 185 10 opted out, 5 without an email address {follows}" in row_of(
        page, used, "Partners"
    )
    assert f"Spring seminar Campaign 320 20 opted out {follows}" in row_of(page, used, "Spring seminar")
    inspect(page, "wealth-lists")

    change(firm, book)
    sync(page, firm)
    expect_books(
        page,
        # one merged into another, two leads are contacts now
        "2,001 in Salesforce and yours = 1,850 active here + 100 opted out of email + 1 sharing an opted-out address + 50",
        "498 open leads, yours = 476 active here + 22 opted out of email",
    )
    inspect(page, "wealth-changed")
    follow(page, page.get_by_role("link", name="See the receipt").first)
    main = page.get_by_role("main")
    for said in ("Made inactive, or active again: 4", "Added: 2", "2 open leads were converted in Salesforce."):
        expect(main).to_contain_text(said)
    people = page.get_by_role("table", name="Contacts whose state changed")
    for name, reason in (
        ("Ann Person 0201", "Merged into another record in Salesforce"),
        ("Ann Person 0300", "Opted out under another record"),
        ("Leo Lead 200", "Opted out of email in Salesforce"),
        ("Leo Lead 201", "Opted out of email in Salesforce"),
    ):
        expect(people.get_by_role("row").filter(has_text=name)).to_contain_text(reason)
    inspect(page, "wealth-receipt")

    open_lists(page, firm)
    # of the seminar's 320 one was removed; two leads went on as contacts
    assert f"Spring seminar Campaign 319 20 opted out {follows}" in row_of(page, used, "Spring seminar")
    assert f"Client dinner Campaign 10 10 opted out {follows}" in row_of(page, used, "Client dinner")
    expect(page.get_by_role("main")).to_contain_text("“Partners” was changed in Salesforce")
    inspect(page, "wealth-lists-changed")


def change(firm: Firm, book: Book) -> None:
    """Merge persons, convert leads, edit a list view, take someone off a campaign, and let leads opt out."""
    org = firm.org
    org.merge(book.persons[200][0], [book.persons[201][0]])
    org.convert_lead(book.leads[30])
    org.convert_lead(book.leads[31])
    org.change_list_view(book.partners, where=DIRECTORS)
    org.remove_member(book.seminar, book.persons[1000][1])
    org.opt_out(book.leads[200])
    org.update_lead(book.leads[201], email="ann.300@fjord.example")
    org.opt_out(book.leads[201])
