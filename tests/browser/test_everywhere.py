"""Every size, paper and keyboard: no sideways scrolling, print in both directions, unique ids after swaps, safe focus."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from asapp.contacts import lists
from asapp.core.extensions import db
from asapp.models import Contact
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse, Firm
from tests.browser.looking import follow, take_picture, widest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CLIENTS, LEAVING = 40, 15
NARROWEST, AT_200_PERCENT = {"width": 320, "height": 640}, {"width": 640, "height": 450}
PORTRAIT, LANDSCAPE = {"width": 680, "height": 960}, {"width": 1010, "height": 640}  # paper without its margins


@pytest.fixture
def held(firm: Firm) -> Firm:
    """Sync forty contacts and give fifteen away, so that the next sync is held."""
    firm.fill(CLIENTS)
    firm.connect()
    assert firm.sync().is_complete
    for contact_id in firm.ids[:LEAVING]:
        firm.org.give(contact_id, firm.jonas)
    assert firm.sync().is_held
    return firm


def pages_of(firm: Firm) -> dict[str, str]:
    with firm.house.rows():
        contact_id = db.session.query(Contact.id).filter_by(user_id=firm.advisor_id).limit(1).scalar()
        lists.create_list(firm.advisor_id, "Retirement letter")  # the contact's page offers it
    return {
        "contacts": "/contacts",
        "contact": f"/contacts/{contact_id}",
        "why": "/contacts/why?person=Zoë+Lindström",
        "panel": "/settings/integrations?open=salesforce",
        "receipt": "",
    }


def repeated_ids(page: Page) -> Any:
    return page.evaluate(
        "(ids => ids.filter((id, at) => ids.indexOf(id) !== at))([...document.querySelectorAll('[id]')].map(e => e.id))"
    )


def test_no_page_scrolls_sideways_and_all_print_in_both_directions(held: Firm, open_page: OpenPage) -> None:
    page = open_page(held)
    for name, path in pages_of(held).items():
        if path:
            page.goto(held.url(path))
        else:
            follow(page, page.get_by_role("link", name="See the receipt"))
            expect(page.get_by_role("heading", level=1)).to_have_text("Sync receipt")
        for size in (NARROWEST, AT_200_PERCENT):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{name} is {width} wide at {size['width']}: {widest(page)}"
        page.emulate_media(media="print", forced_colors="none")
        for size in (PORTRAIT, LANDSCAPE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            heading = page.get_by_role("heading", level=1).bounding_box()
            assert heading
            assert heading["x"] < 60, f"{name} leaves room for the hidden menu"
            for hidden in (page.get_by_role("navigation"), page.get_by_role("button")):
                assert not any(each.is_visible() for each in hidden.all()), f"{name} prints what one can't press"
            for hidden in (page.locator("a.button"), page.get_by_role("heading", name="Delete here")):
                assert not any(each.is_visible() for each in hidden.all()), f"{name} prints what one can't press"
            expect(page.get_by_text("AdvisorStream, for Alice Moreau")).to_be_visible()
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{name} is {width} wide on paper"
            take_picture(page, f"print-{name}-{size['width']}")
        page.emulate_media(media="screen", forced_colors="active")
        page.set_viewport_size({"width": 1280, "height": 900})
        take_picture(page, f"forced-colors-{name}")
        page.emulate_media(forced_colors="none")


def test_ids_stay_unique_and_focus_stays_off_what_takes_away(held: Firm, open_page: OpenPage) -> None:
    page = open_page(held)
    page.goto(held.url("/contacts"))
    page.get_by_label("Name or email").fill("lindström 01")
    expect(page.locator("#people tbody tr")).to_have_count(11)
    expect(page.get_by_label("Name or email")).to_be_focused()
    assert repeated_ids(page) == []
    page.goto(held.url())
    assert repeated_ids(page) == []
    for button in ("Discard", "Change this decision", "Disconnect"):
        page.locator("#salesforce").get_by_role("button", name=button).focus()
        page.keyboard.press("Enter")
        expect(
            page.locator("#salesforce").get_by_role("button", name=button).and_(page.locator(":focus"))
        ).to_have_count(0)
        assert not page.evaluate("document.activeElement.matches('.danger')"), button
        assert repeated_ids(page) == [], button
    with held.house.rows():
        assert db.session.query(Contact).filter_by(user_id=held.advisor_id, departed="reassigned").count() == 0


def test_what_is_copied_into_salesforce_is_read_as_a_whole_on_a_phone(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, is_logged_in=False)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{house.url}/help/salesforce-admin")
    cut_off = "fields => fields.filter(it => it.scrollWidth > it.clientWidth).map(it => it.value)"
    assert page.get_by_label("External Client App Name").input_value() == "AdvisorStream Integration"
    assert page.locator(".copy-table input").evaluate_all(cut_off) == []
