"""Security in a browser: devices listed and logged out; a password shown while it is typed."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from asapp.core.extensions import db
from asapp.models import LoginSession
from tests.browser.conftest import OpenPage
from tests.browser.house import BrowserHouse
from tests.browser.looking import Htmx, follow, inspect
from tests.factories import PASSWORD, make_advisor

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("htmx", [Htmx.CDN, Htmx.NO_SCRIPTS])
def test_a_phone_is_logged_out_from_here(house: BrowserHouse, open_page: OpenPage, htmx: Htmx) -> None:
    with house.rows():
        user = make_advisor()
        user_id, email = user.id, user.email
        for device in ("Safari on iPhone", "Firefox on Mac"):
            row = LoginSession(
                user_id=user_id, device=device, key_sha256=f"{device} {user_id}", client_address="192.0.2.1"
            )
            db.session.add(row)
        db.session.commit()
    page = open_page(house, htmx=htmx, is_logged_in=False)
    page.goto(f"{house.url}/login?next=/settings/security")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    follow(page, page.get_by_role("button", name="Log in"))
    rows = page.locator("section[aria-labelledby=devices] tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="This device")).to_contain_text("on Linux")
    follow(page, page.get_by_role("button", name="Log out Safari on iPhone"))
    expect(rows).to_have_count(2)
    if htmx is Htmx.CDN:
        inspect(page, "security-advisor")
    follow(page, page.get_by_role("button", name="Log out everywhere else"))
    expect(rows).to_have_count(1)
    expect(page.get_by_text("You are logged out everywhere else.")).to_be_visible()


def test_a_password_is_shown_while_it_is_typed_and_sent_as_one(house: BrowserHouse, open_page: OpenPage) -> None:
    with house.rows():
        email = make_advisor().email
    page = open_page(house, is_logged_in=False)
    page.goto(f"{house.url}/login")
    inspect(page, "login")
    field, show = page.get_by_label("Password", exact=True), page.get_by_role("button", name="Show password")
    field.fill(PASSWORD)
    expect(field).to_have_attribute("type", "password")
    show.click()
    expect(field).to_have_attribute("type", "text")
    expect(show).to_have_attribute("aria-pressed", "true")
    expect(field).to_be_focused()
    show.click()
    expect(field).to_have_attribute("type", "password")
    page.get_by_label("Email").fill(email)
    follow(page, page.get_by_role("button", name="Log in"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Contacts")


def test_without_scripts_there_is_no_button_that_does_nothing(house: BrowserHouse, open_page: OpenPage) -> None:
    page = open_page(house, htmx=Htmx.NO_SCRIPTS, is_logged_in=False)
    page.goto(f"{house.url}/login")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(page.locator("[data-reveal]")).to_be_hidden()
